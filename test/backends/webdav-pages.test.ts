/** A listing of a WebDAV server in pages, as it arrives. */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from '@jest/globals';
import type { ListPage } from '../../src/backends/contract.js';
import { open } from '../../src/backends/webdav/open.js';
import { webdavOptions } from '../../src/backends/webdav/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { until } from '../mounted/process.js';
import { quietLog } from '../servers/quiet.js';

const { signal } = new AbortController();
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const entry = (href: string, property: string) =>
  `<D:response><D:href>${href}</D:href><D:propstat><D:prop>${property}</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>`;
const folder = (href: string) => entry(href, '<D:resourcetype><D:collection/></D:resourcetype>');
const HEAD = '<D:multistatus xmlns:D="DAV:">';
const TAIL = '</D:multistatus>';
const files = (from: number, to: number) => {
  let text = '';
  for (let index = from; index < to; index++)
    text += entry(`/d/f-${index}`, '<D:getcontentlength>1</D:getcontentlength><D:getetag>"1"</D:getetag>');
  return text;
};

/** A server whose folder `d` is listed by `list`; what it was asked for, and its folder behind a backend. */
async function served(list: (response: ServerResponse, asked: number) => void) {
  let asked = 0;
  const http = createServer((request, response) => {
    response.writeHead(207);
    if (request.url === '/d/') list(response, ++asked);
    else response.end(HEAD + folder('/') + TAIL);
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  ends.push(
    () =>
      new Promise((resolve) => {
        http.closeAllConnections();
        http.close(resolve);
      }),
  );
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/`;
  const { backend } = await open(webdavOptions.parse({ url }), {
    log: quietLog,
    clock: systemClock,
    writable: false,
    signal,
  });
  ends.push(() => backend.close?.());
  const page = (cursor?: string, context = { signal }) => backend.list('d', cursor, context);
  return { page, asked: () => asked };
}

const names = ({ entries }: ListPage) => entries.map(({ key }) => key);
const all = (count: number) => Array.from({ length: count }, (_, index) => `d/f-${index}`);

test('a long folder comes in pages of one answer, the first before the last entry has been sent', async () => {
  let rest: (() => void) | undefined;
  const { page, asked } = await served((response) => {
    response.write(HEAD + folder('/d/') + files(0, 300));
    rest = () => response.end(files(300, 600) + TAIL);
  });
  const first = await page();
  expect(first).toMatchObject({ coming: true, cursor: expect.any(String) });
  expect(rest).toBeDefined();
  rest?.();
  const second = await page(first.cursor);
  const third = await page(second.cursor);
  expect([...names(first), ...names(second), ...names(third)]).toEqual(all(600));
  expect(third.cursor).toBeUndefined();
  expect(asked()).toBe(1);
});

test.each([0, 1, 255, 256, 257])('a folder of %d entries is complete', async (count) => {
  const { page, asked } = await served((response) => {
    response.end(HEAD + folder('/d/') + files(0, count) + TAIL);
  });
  const found: string[] = [];
  for (let cursor: string | undefined, more = true; more; more = cursor !== undefined) {
    const next = await page(cursor);
    found.push(...names(next));
    cursor = next.cursor;
  }
  expect(found).toEqual(all(count));
  expect(asked()).toBe(1);
});

test('an answer that breaks off in a later page is an error worth another try, which brings everything', async () => {
  const { page, asked } = await served((response, times) => {
    if (times > 1) response.end(HEAD + folder('/d/') + files(0, 600) + TAIL);
    else {
      response.write(HEAD + folder('/d/') + files(0, 300));
      setImmediate(() => response.destroy());
    }
  });
  const first = await page();
  await expect(page(first.cursor)).rejects.toMatchObject({ errno: 'EIO', retryable: true });
  const again = await page(first.cursor);
  expect(names(again)).toEqual(all(600));
  expect(again.cursor).toBeUndefined();
  expect(asked()).toBe(2);
});

test('a cursor is of one folder and good once', async () => {
  const { page, asked } = await served((response) => {
    response.end(HEAD + folder('/d/') + files(0, 300) + TAIL);
  });
  const first = await page();
  expect(names(await page(first.cursor))).toEqual(all(300).slice(256));
  expect(names(await page(first.cursor))).toEqual(all(300));
  expect(asked()).toBe(2);
});

test('a reader that goes away ends the answer', async () => {
  let closed = false;
  const { page } = await served((response) => {
    response.on('close', () => {
      closed = true;
    });
    response.write(HEAD + folder('/d/') + files(0, 300));
  });
  const first = await page();
  const gone = new AbortController();
  const next = page(first.cursor, { signal: gone.signal });
  gone.abort();
  await expect(next).rejects.toMatchObject({ errno: 'EINTR' });
  await until(() => closed, 'the connection is closed');
});
