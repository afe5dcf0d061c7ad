import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { Certificates } from '../../src/backends/backend-type.js';
import { bytesSource, patternSource } from '../../src/backends/conformance/check.js';
import type { Backend, Precondition } from '../../src/backends/contract.js';
import { open } from '../../src/backends/webdav/open.js';
import { webdavOptions } from '../../src/backends/webdav/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { until } from '../mounted/process.js';
import { startApacheDav } from '../servers/apache-dav.js';
import { startNextcloud } from '../servers/nextcloud.js';
import { quietLog } from '../servers/quiet.js';

const { signal } = new AbortController();
const context = { signal };
const ends: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function opened(options: Record<string, unknown>, writable = false, certificates?: Certificates) {
  const one = await open(webdavOptions.parse(options), {
    ...(certificates && { certificates }),
    log: quietLog,
    clock: systemClock,
    writable,
    signal,
  });
  ends.push(async () => one.backend.close?.());
  return one;
}

async function read(backend: Backend, key: string, match?: string, length = 1000): Promise<string> {
  const chunks: Uint8Array[] = [];
  const sink = { write: (chunk: Uint8Array) => void chunks.push(chunk) };
  await backend.read(key, { offset: 2, length }, sink, context, match);
  return Buffer.concat(chunks).toString();
}

describe('a server that answers wrongly', () => {
  const ROOT = `<D:multistatus xmlns:D="DAV:"><D:response><D:href>/</D:href><D:propstat><D:prop><D:resourcetype>
    <D:collection/></D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>`;

  /** Says that it is a WebDAV folder, and answers GET as `get` does. */
  async function server(get: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
    const http = createServer((request, response) => {
      if (request.method === 'PROPFIND' && request.url === '/') response.writeHead(207).end(ROOT);
      else get(request, response);
    });
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    ends.push(
      () =>
        new Promise((resolve) => {
          http.closeAllConnections();
          http.close(resolve);
        }),
    );
    return `http://127.0.0.1:${(http.address() as AddressInfo).port}/`;
  }
  const connected = async (get: Parameters<typeof server>[0]) =>
    (await opened({ url: await server(get) })).backend;
  const etag = { etag: '"1"' };

  test('the whole file for a range is passed over up to the range', async () => {
    const backend = await connected((_request, response) => response.writeHead(200, etag).end('0123456789'));
    expect(await read(backend, 'f', '1', 3)).toBe('234');
  });

  test('a compressed file is unpacked, although nobody asked for it', async () => {
    const backend = await connected((_request, response) =>
      response.writeHead(200, { etag: '"1-gzip"', 'content-encoding': 'gzip' }).end(gzipSync('0123456789')),
    );
    expect(await read(backend, 'f', '1')).toBe('23456789');
  });

  test('another range than the one asked for is refused', async () => {
    const backend = await connected((_request, response) =>
      response.writeHead(206, { ...etag, 'content-range': 'bytes 0-3/10' }).end('0123'),
    );
    await expect(read(backend, 'f', '1')).rejects.toMatchObject({ errno: 'EIO' });
  });

  test('fewer bytes than announced are no short file', async () => {
    const backend = await connected((_request, response) => {
      response
        .writeHead(206, { ...etag, 'content-range': 'bytes 2-9/10', 'content-length': '8' })
        .write('234');
      setImmediate(() => response.destroy());
    });
    await expect(read(backend, 'f', '1')).rejects.toMatchObject({ errno: 'EIO', retryable: true });
  });

  test('a page in place of the file is told from it', async () => {
    const backend = await connected((_request, response) =>
      response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Sign in</html>'),
    );
    await expect(read(backend, 'f', '1')).rejects.toMatchObject({ errno: 'EIO', message: /text\/html/ });
  });

  test('another version is ESTALE before a byte of it arrives', async () => {
    const backend = await connected((_request, response) =>
      response.writeHead(200, { etag: 'W/"2"' }).end('0123'),
    );
    await expect(read(backend, 'f', '1')).rejects.toMatchObject({ errno: 'ESTALE' });
  });

  test('redirects end after a few, and never lead to another server', async () => {
    let asked = 0;
    const loop = await connected((_request, response) => {
      asked++;
      response.writeHead(302, { location: '/again' }).end();
    });
    await expect(read(loop, 'f')).rejects.toMatchObject({ errno: 'ELOOP' });
    expect(asked).toBeLessThan(10);
    let leaked = false;
    const other = await server((_request, response) => {
      leaked = true;
      response.end();
    });
    const away = await connected((_request, response) =>
      response.writeHead(302, { location: `${other}elsewhere` }).end(),
    );
    await expect(read(away, 'f')).rejects.toMatchObject({ errno: 'EIO', hint: /another server/ });
    expect(leaked).toBe(false);
  });

  test('Retry-After is waited for', async () => {
    let asked = 0;
    const backend = await connected((_request, response) => {
      if (asked++ === 0) response.writeHead(503, { 'retry-after': '1' }).end();
      else response.writeHead(200, etag).end('0123456789');
    });
    expect(await read(backend, 'f', '1')).toBe('23456789');
    expect(asked).toBe(2);
  });

  test.each([
    [401, 'EACCES'],
    [403, 'EACCES'],
    [404, 'ENOENT'],
    [423, 'EBUSY'],
    [429, 'EBUSY'],
    [507, 'ENOSPC'],
    [500, 'EIO'],
  ])('%i is %s', async (status, errno) => {
    const backend = await connected((_request, response) =>
      response.writeHead(status).end('<title>no</title>'),
    );
    await expect(read(backend, 'f')).rejects.toMatchObject({ errno });
  });
});

test('a server that is no WebDAV folder, or is not there, fails the mount with a reason', async () => {
  const http = createServer((_request, response) => response.writeHead(200).end('<html></html>'));
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/`;
  await expect(opened({ url })).rejects.toMatchObject({ errno: 'EIO', hint: /WebDAV/ });
  await new Promise((resolve) => http.close(resolve));
  await expect(opened({ url })).rejects.toMatchObject({ errno: 'EHOSTDOWN' });
});

test('files are made in the root of the server, also when somebody has tidied up what is not listed', async () => {
  const server = await startApacheDav();
  ends.push(() => server.stop());
  const { backend } = await opened({ url: server.url }, true);
  // A symlink without its attributes would be a file: it is made elsewhere, and moved in when it is whole.
  const make = (key: string) =>
    backend.write(
      key,
      bytesSource(key),
      { precondition: { kind: 'absent' }, attributes: { writer: key, mode: 0o120777 } },
      context,
    );
  await Promise.all(['a', 'b', 'c'].map(make));
  rmSync(join(server.folder, '.mirage-uploads'), { recursive: true });
  await Promise.all(['d', 'e'].map(make));
  const { entries } = await backend.list('', undefined, context);
  expect(entries.map(({ key }) => key).sort()).toEqual(['a', 'b', 'c', 'd', 'e']);
  expect(entries.map(({ attributes }) => attributes?.writer).sort()).toEqual(['a', 'b', 'c', 'd', 'e']);
}, 9_000);

test('what a killed daemon has left on the server, the next mount removes', async () => {
  const server = await startApacheDav();
  ends.push(() => server.stop());
  const remembered = new Map<string, unknown>();
  const certificates: Certificates = {
    read: (store) => remembered.get(store),
    write: (store, value) => void remembered.set(store, value),
  };
  const first = await opened({ url: server.url }, true, certificates);
  const { validator } = await first.backend.write(
    'file',
    bytesSource('before'),
    { precondition: { kind: 'absent' }, attributes: { writer: 'first' } },
    context,
  );
  await first.backend.close?.();
  const owner = [...remembered.values()].find((value) => typeof value === 'string');
  const body = `<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner>${owner}</D:owner></D:lockinfo>`;
  const locked = await fetch(`${server.url}/file`, {
    method: 'LOCK',
    headers: { timeout: 'Second-60' },
    body,
  });
  expect(locked.status).toBe(200);
  await fetch(`${server.url}/.mirage-uploads/`, { method: 'MKCOL' });
  for (const name of [`${owner}-half`, 'mirage-another-host-half']) {
    await fetch(`${server.url}/.mirage-uploads/${name}`, { method: 'PUT', body: 'half' });
  }
  const second = await opened({ url: server.url }, true, certificates);
  expect(second.probed).toMatchObject({ remembered: true, locks: true });
  expect(readdirSync(join(server.folder, '.mirage-uploads')).filter((name) => !name.startsWith('.'))).toEqual(
    ['mirage-another-host-half'],
  );
  const precondition = { kind: 'match', validator: validator ?? '' } as const;
  await second.backend.write('file', bytesSource('after'), { precondition }, context);
  expect(readFileSync(join(server.folder, 'file'), 'utf8')).toBe('after');
}, 9_000);

test('a write that was carried out without its attributes is known again, another one is not', async () => {
  const server = await startApacheDav();
  ends.push(() => server.stop());
  const { backend } = await opened({ url: server.url }, true);
  const write = (key: string, precondition: Precondition) =>
    backend.write(key, bytesSource('mine'), { precondition, attributes: { writer: 'me' } }, context);
  // Another client, which waits while a lock on the folder is still ours: Apache says so with 207 or 423.
  const put = (key: string, body: string) =>
    until(async () => {
      const { status } = await fetch(`${server.url}/${key}`, { method: 'PUT', body });
      return status === 201 || status === 204;
    }, `${key} is written`);
  await put('new', 'mine');
  expect(await write('new', { kind: 'absent' })).toMatchObject({ attributes: { writer: 'me' } });
  await expect(write('new', { kind: 'absent' })).rejects.toMatchObject({ errno: 'ESTALE' });
  await put('foreign', 'other');
  await expect(write('foreign', { kind: 'absent' })).rejects.toMatchObject({ errno: 'ESTALE' });
  await put('old', 'base');
  const base = (await backend.stat('old', context))?.validator ?? '';
  await put('old', 'mine');
  expect(await write('old', { kind: 'match', validator: base })).toMatchObject({
    attributes: { writer: 'me' },
  });
  await expect(write('old', { kind: 'match', validator: base })).rejects.toMatchObject({ errno: 'ESTALE' });
  expect((await backend.stat('old', context))?.attributes?.writer).toBe('me');
}, 9_000);

describe('Nextcloud', () => {
  async function cloud() {
    const server = await startNextcloud();
    ends.push(() => server.stop());
    const { backend, probed } = await opened(
      { url: server.url, username: 'user', password: 'app-password' },
      true,
    );
    return { server, backend, probed };
  }
  const write = (
    backend: Backend,
    key: string,
    size: number,
    precondition: Parameters<Backend['write']>[2]['precondition'],
  ) => backend.write(key, patternSource(size), { precondition, attributes: { writer: key } }, context);

  test('is found out, and written under conditions', async () => {
    const { server, backend, probed } = await cloud();
    expect(probed).toMatchObject({
      server: 'Nextcloud 31.0.0',
      locks: false,
      writeAbsent: true,
      writeMatch: 'if',
    });
    const first = await backend.write('f', bytesSource('one'), { precondition: { kind: 'absent' } }, context);
    await expect(write(backend, 'f', 3, { kind: 'absent' })).rejects.toMatchObject({ errno: 'ESTALE' });
    await write(backend, 'f', 4, { kind: 'match', validator: first.validator ?? '' });
    await expect(
      write(backend, 'f', 5, { kind: 'match', validator: first.validator ?? '' }),
    ).rejects.toMatchObject({
      errno: 'ESTALE',
    });
    expect([...server.resources.keys()].filter((key) => key.includes('probe'))).toEqual([]);
  });

  test('takes a large file in chunks, under the same conditions, and keeps its time', async () => {
    const { server, backend } = await cloud();
    const size = 70 * 2 ** 20 + 5;
    const attributes = { modified: { seconds: 1_000_000_000, nanoseconds: 5 }, writer: 'w' };
    const made = await backend.write(
      'large',
      patternSource(size),
      { precondition: { kind: 'absent' }, attributes },
      context,
    );
    const info = await backend.stat('large', context);
    expect(info).toMatchObject({
      size,
      validator: made.validator,
      attributes,
      modified: { seconds: 1_000_000_000 },
    });
    const chunks = server.requests.filter((line) =>
      /^PUT .*\/uploads\/user\/mirage-[^/]+\/0000\d$/.test(line),
    );
    expect(chunks).toHaveLength(3);
    await expect(write(backend, 'large', size, { kind: 'absent' })).rejects.toMatchObject({
      errno: 'ESTALE',
    });
    await expect(write(backend, 'large', size, { kind: 'match', validator: 'old' })).rejects.toMatchObject({
      errno: 'ESTALE',
    });
    // Nothing is left of what was refused.
    expect([...server.resources.keys()].filter((key) => key.includes('/uploads/user/'))).toEqual([]);
  });
});
