/** Web servers that do what no good one does, and nginx in its tempers. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import type { Backend, ByteRange, ObjectInfo } from '../../src/backends/contract.js';
import { open } from '../../src/backends/http/open.js';
import { httpOptions } from '../../src/backends/http/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { startApacheDav } from '../servers/apache-dav.js';
import type { DavServer } from '../servers/dav-server.js';
import { type FaultyHttp, serves, startFaultyHttp } from '../servers/faulty-http.js';
import { type Nginx, startNginx } from '../servers/nginx.js';
import { quietLog } from '../servers/quiet.js';

const { signal } = new AbortController();
const openContext = { log: quietLog, clock: systemClock, writable: false, signal };
const context = { signal };
const WHOLE: ByteRange = { offset: 0, length: 2 ** 40 };
const opened: OpenedBackend[] = [];

async function mount(given: object): Promise<Backend> {
  const found = await open(httpOptions.parse(given), openContext);
  opened.push(found);
  return found.backend;
}
afterEach(async () => {
  for (const { backend } of opened.splice(0)) await backend.close?.();
});

async function read(
  backend: Backend,
  key: string,
  range = WHOLE,
  match?: string,
): Promise<ObjectInfo & { text: string }> {
  const chunks: Uint8Array[] = [];
  const sink = { write: (chunk: Uint8Array) => void chunks.push(chunk) };
  const info = await backend.read(key, range, sink, context, match);
  return { ...info, text: Buffer.concat(chunks).toString() };
}

describe('a server that is not as it should be', () => {
  let server: FaultyHttp;
  beforeEach(async () => {
    server = await startFaultyHttp();
  });
  afterEach(() => server.stop());

  const file = (path = '/f', more: object = {}) =>
    mount({ files: { 'f.bin': `${server.origin}${path}` }, ...more });

  test('that answers a range with everything: only the range comes, and it is said', async () => {
    server.on('/f', (request, response) => {
      response.writeHead(200, { 'content-length': '10', etag: '"1"' });
      response.end(request.method === 'HEAD' ? undefined : '0123456789');
    });
    const backend = await file();
    const info = await read(backend, 'f.bin', { offset: 3, length: 4 }, '"1"');
    expect(info).toMatchObject({ text: '3456', size: 10, validator: '"1"', sequential: true });
  });

  test('that announces more bytes than it sends: EIO, never a short read', async () => {
    server.on('/f', (request, response) => {
      response.writeHead(200, { 'content-length': '100', etag: '"1"' });
      if (request.method === 'HEAD') response.end();
      else response.write('too little', () => response.destroy());
    });
    const failure = read(await file(), 'f.bin');
    await expect(failure).rejects.toMatchObject({ errno: 'EIO', retryable: true });
  });

  test('that tells two sizes of one version: EIO', async () => {
    server.on('/f', (request, response) => {
      const size = request.method === 'HEAD' ? '1000' : '10';
      response.writeHead(200, { 'content-length': size, etag: '"1"' });
      response.end(request.method === 'HEAD' ? undefined : '0123456789');
    });
    const backend = await file();
    expect(await backend.stat('f.bin', context)).toMatchObject({ size: 1000 });
    await expect(read(backend, 'f.bin', WHOLE, '"1"')).rejects.toMatchObject({
      errno: 'EIO',
      message: expect.stringContaining('1000 bytes, then 10'),
    });
  });

  test('that sends another range than was asked for: EIO', async () => {
    server.on('/f', (_request, response) => {
      response
        .writeHead(206, { 'content-range': 'bytes 5-8/10', 'content-length': '4', etag: '"1"' })
        .end('5678');
    });
    await expect(read(await file(), 'f.bin', { offset: 1, length: 4 })).rejects.toMatchObject({
      errno: 'EIO',
    });
  });

  test('that sends a page instead of the file: EIO with a hint, unless it is meant', async () => {
    server.on('/f', (_request, response) => {
      response
        .writeHead(200, { 'content-type': 'text/html; charset=utf-8', etag: '"1"' })
        .end('<h1>Log in</h1>');
    });
    const failure = { errno: 'EIO', hint: expect.stringContaining('login') };
    await expect((await file()).stat('f.bin', context)).rejects.toMatchObject(failure);
    await expect(read(await file(), 'f.bin')).rejects.toMatchObject(failure);
    expect(await read(await file('/f', { webPages: true }), 'f.bin')).toMatchObject({
      text: '<h1>Log in</h1>',
    });
    const page = await mount({ files: { 'page.html': `${server.origin}/f`, README: `${server.origin}/f` } });
    expect(await read(page, 'page.html')).toMatchObject({ text: '<h1>Log in</h1>' });
    expect(await read(page, 'README')).toMatchObject({ text: '<h1>Log in</h1>' });
  });

  test('that redirects in a circle, or for ever: ELOOP', async () => {
    let step = 0;
    server.on('/circle', (_request, response) => void response.writeHead(302, { location: '/circle' }).end());
    server.on('/f', (_request, response) => void response.writeHead(302, { location: `/f?${++step}` }).end());
    for (const path of ['/circle', '/f']) {
      await expect((await file(path)).stat('f.bin', context)).rejects.toMatchObject({ errno: 'ELOOP' });
    }
    expect(server.requests().length).toBeLessThan(20);
  });

  test('that redirects elsewhere: credentials stay at home', async () => {
    const other = await startFaultyHttp();
    try {
      const headers: (string | undefined)[] = [];
      server.on('/f', (request, response) => {
        headers.push(request.headers.authorization, request.headers['x-key'] as string);
        response.writeHead(307, { location: `${other.origin}/g?signature=abc` }).end();
      });
      other.on('/g', (request, response) => {
        headers.push(request.headers.authorization, request.headers['x-key'] as string);
        serves(
          () => 'elsewhere',
          () => ({ etag: '"1"' }),
        )(request, response);
      });
      const backend = await file('/f', { token: 'a-token', headers: { 'X-Key': 'a-key' } });
      expect(await read(backend, 'f.bin')).toMatchObject({ text: 'elsewhere' });
      expect(headers).toEqual(['Bearer a-token', 'a-key', undefined, undefined]);
    } finally {
      await other.stop();
    }
  });

  test('that redirects to what is no web address: EIO', async () => {
    server.on(
      '/f',
      (_request, response) => void response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
    );
    await expect((await file()).stat('f.bin', context)).rejects.toMatchObject({ errno: 'EIO' });
  });

  test('that changes the file between two reads: ESTALE', async () => {
    let version = 1;
    server.on(
      '/f',
      serves(
        () => `version ${version}`,
        () => ({ etag: `"${version}"` }),
      ),
    );
    const backend = await file();
    const first = await backend.stat('f.bin', context);
    version = 2;
    for (const range of [WHOLE, { offset: 0, length: 3 }, { offset: 100, length: 3 }]) {
      await expect(read(backend, 'f.bin', range, first?.validator)).rejects.toMatchObject({
        errno: 'ESTALE',
      });
    }
  });

  test('that knows no conditions is found out by what it sends', async () => {
    let version = 1;
    const ignoring = serves(
      () => `version ${version}`,
      () => ({ etag: `"${version}"` }),
    );
    server.on('/f', (request, response) => {
      delete request.headers['if-match'];
      ignoring(request, response);
    });
    const backend = await file();
    expect(await read(backend, 'f.bin', { offset: 8, length: 1 }, '"1"')).toMatchObject({ text: '1' });
    version = 2;
    await expect(read(backend, 'f.bin', { offset: 8, length: 1 }, '"1"')).rejects.toMatchObject({
      errno: 'ESTALE',
    });
  });

  test('that refuses an If-Match that holds is asked without', async () => {
    server.on('/f', (request, response) => {
      if (request.headers['if-match'] !== undefined) response.writeHead(412).end();
      else
        serves(
          () => '0123456789',
          () => ({ etag: '"1"' }),
        )(request, response);
    });
    const backend = await file();
    expect(await read(backend, 'f.bin', { offset: 2, length: 3 }, '"1"')).toMatchObject({ text: '234' });
    await expect(read(backend, 'f.bin', { offset: 2, length: 3 }, '"0"')).rejects.toMatchObject({
      errno: 'ESTALE',
    });
  });

  test('with weak ETags: good for freshness, never for the condition of a range', async () => {
    let conditions: unknown[] = [];
    let seconds = 7;
    server.on('/f', (request, response) => {
      conditions.push(request.headers['if-match'], request.headers['if-range']);
      const modified = new Date(Date.UTC(2026, 10, 21, 14, 0, seconds)).toUTCString();
      serves(
        () => '0123456789',
        () => ({ etag: 'W/"1"', 'last-modified': modified }),
      )(request, response);
    });
    const backend = await file();
    const info = await backend.stat('f.bin', context);
    expect(info?.validator).toMatch(/^W\/"1"@\d+\+10$/);
    expect(await read(backend, 'f.bin', { offset: 5, length: 2 }, info?.validator)).toMatchObject({
      text: '56',
    });
    expect(conditions.every((condition) => condition === undefined)).toBe(true);
    seconds = 8;
    await expect(read(backend, 'f.bin', { offset: 5, length: 2 }, info?.validator)).rejects.toMatchObject({
      errno: 'ESTALE',
    });
    conditions = [];
  });

  test('without size, time and version: the content tells them', async () => {
    let text = 'made on demand';
    server.on('/f', (_request, response) => {
      response.writeHead(200);
      response.write(text.slice(0, 4));
      response.end(text.slice(4));
    });
    const backend = await file();
    expect(await backend.stat('f.bin', context)).toMatchObject({ size: undefined, validator: undefined });
    const whole = await read(backend, 'f.bin');
    expect(whole).toMatchObject({ text, size: text.length, validator: expect.stringMatching(/^sha256-/) });
    const part = await read(backend, 'f.bin', { offset: 5, length: 2 }, whole.validator);
    expect(part.text).toBe('on');
    text = 'MADE ON DEMAND';
    await expect(read(backend, 'f.bin', { offset: 5, length: 2 }, whole.validator)).rejects.toMatchObject({
      errno: 'ESTALE',
    });
  });

  test('that knows no HEAD, or keeps the size back from it, is asked for one byte', async () => {
    const good = serves(
      () => '0123456789',
      () => ({ etag: '"1"' }),
    );
    for (const status of [405, 403, 501]) {
      server.on('/f', (request, response) => {
        if (request.method === 'HEAD') response.writeHead(status).end();
        else good(request, response);
      });
      expect(await (await file()).stat('f.bin', context)).toMatchObject({ size: 10, validator: '"1"' });
    }
    server.on('/f', (request, response) => {
      if (request.method === 'HEAD') response.writeHead(200, { etag: '"1"' }).end();
      else good(request, response);
    });
    expect(await (await file()).stat('f.bin', context)).toMatchObject({ size: 10 });
  });

  test('that stands still: ETIMEDOUT within its deadline, before and in the middle of an answer', async () => {
    server.on('/f', () => undefined);
    server.on('/half', (_request, response) => {
      response.writeHead(200, { 'content-length': '100', etag: '"1"' }).write('half');
    });
    await expect((await file('/f', { timeout: '1s' })).stat('f.bin', context)).rejects.toMatchObject({
      errno: 'ETIMEDOUT',
      retryable: true,
    });
    await expect(read(await file('/half', { timeout: '1s' }), 'f.bin')).rejects.toMatchObject({
      errno: 'ETIMEDOUT',
    });
  });

  test('that is not there: EHOSTDOWN', async () => {
    const backend = await file();
    await server.stop();
    await expect(backend.stat('f.bin', context)).rejects.toMatchObject({
      errno: 'EHOSTDOWN',
      retryable: true,
    });
    server = await startFaultyHttp();
  });

  test('that says when to come back is asked again then, and not before', async () => {
    const times: number[] = [];
    const good = serves(
      () => 'at last',
      () => ({ etag: '"1"' }),
    );
    server.on('/f', (request, response) => {
      times.push(performance.now());
      if (times.length === 1) response.writeHead(429, { 'retry-after': '1' }).end('slow down');
      else if (times.length === 2) {
        response.writeHead(503, { 'retry-after': new Date(Date.now() + 1000).toUTCString() }).end();
      } else good(request, response);
    });
    expect(await read(await file(), 'f.bin')).toMatchObject({ text: 'at last' });
    expect((times[1] as number) - (times[0] as number)).toBeGreaterThan(950);
  });

  test('that wants an hour of peace gets it: EBUSY at once, without another request', async () => {
    server.on('/f', (_request, response) => void response.writeHead(429, { 'retry-after': '3600' }).end());
    const backend = await file();
    await expect(backend.stat('f.bin', context)).rejects.toMatchObject({ errno: 'EBUSY', retryable: true });
    await expect(backend.stat('f.bin', context)).rejects.toMatchObject({ errno: 'EBUSY' });
    expect(server.requests()).toEqual(['HEAD /f']);
  });

  test.each([
    [401, 'EACCES'],
    [403, 'EACCES'],
    [429, 'EBUSY'],
    [500, 'EIO'],
    [502, 'EHOSTDOWN'],
    [503, 'EHOSTDOWN'],
    [418, 'EIO'],
  ])('a status of %d is %s', async (status, errno) => {
    server.on('/f', (_request, response) => void response.writeHead(status).end('why'));
    const backend = await file();
    await expect(backend.stat('f.bin', context)).rejects.toMatchObject({ errno });
    await expect(read(backend, 'f.bin')).rejects.toMatchObject({ errno });
  });

  test('that encodes its answer unasked: decoded, its size unknown until it is read', async () => {
    const body = gzipSync('0123456789');
    server.on('/f', (request, response) => {
      response.writeHead(200, {
        'content-encoding': 'gzip',
        'content-length': String(body.length),
        etag: '"1"',
      });
      response.end(request.method === 'HEAD' ? undefined : body);
    });
    server.on(
      '/odd',
      (_request, response) => void response.writeHead(200, { 'content-encoding': 'lzma' }).end('?'),
    );
    const backend = await file();
    expect(await backend.stat('f.bin', context)).toMatchObject({ size: undefined, validator: '"1"' });
    expect(await read(backend, 'f.bin', WHOLE, '"1"')).toMatchObject({ text: '0123456789', size: 10 });
    expect(await read(backend, 'f.bin', { offset: 4, length: 3 }, '"1"')).toMatchObject({ text: '456' });
    await expect(read(await file('/odd'), 'f.bin')).rejects.toMatchObject({ errno: 'EIO' });
  });

  test('an index with hostile names shows the good ones only, and asks for nothing else', async () => {
    server.on('/', (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end(
        '<a href="../x">x</a><a href="http://h/y">y</a><script><a href="z">z</a></script><a href="good.txt">',
      );
    });
    const backend = await mount({ url: `${server.origin}/` });
    expect((await backend.list('', undefined, context)).entries.map(({ key }) => key)).toEqual(['good.txt']);
  });

  test('what is mounted never carries a signature into the cache or the status', async () => {
    server.on(
      '/f.bin',
      serves(
        () => 'x',
        () => ({ etag: '"1"' }),
      ),
    );
    const found = await open(
      httpOptions.parse({ url: `${server.origin}/f.bin?X-Signature=topsecret` }),
      openContext,
    );
    opened.push(found);
    expect(await read(found.backend, 'f.bin')).toMatchObject({ text: 'x' });
    expect(JSON.stringify([found.identity, found.probed])).not.toContain('topsecret');
    server.on('/f.bin', (_request, response) => void response.writeHead(403).end());
    const failure = await read(found.backend, 'f.bin').catch((error: Error) => error.message);
    expect(failure).not.toContain('topsecret');
  });
});

describe('nginx', () => {
  let server: Nginx;
  beforeAll(async () => {
    server = await startNginx();
    mkdirSync(join(server.data, 'sub'));
    writeFileSync(join(server.data, 'file'), '0123456789');
    writeFileSync(join(server.data, 'sub', 'file.txt'), 'below');
    writeFileSync(join(server.data, 'zipped.gz'), gzipSync('decoded'));
  });
  afterAll(() => server?.stop());
  beforeEach(async () => void (await server.requests()));

  test('asks for credentials: wrong ones fail the mount, right ones open it', async () => {
    const url = `${server.origin}/auth/`;
    await expect(mount({ url })).rejects.toMatchObject({ errno: 'EACCES' });
    const wrong = { url, username: 'reader', password: 'wrong' };
    await expect(mount(wrong)).rejects.toMatchObject({ errno: 'EACCES' });
    const backend = await mount({ ...wrong, password: 'secret-word' });
    expect(await read(backend, 'sub/file.txt')).toMatchObject({ text: 'below' });
  });

  test('serves one file, a folder without its slash, and says when there is neither', async () => {
    expect(await read(await mount({ url: `${server.origin}/sub/file.txt` }), 'file.txt')).toMatchObject({
      text: 'below',
    });
    expect(await read(await mount({ url: `${server.origin}/sub` }), 'file.txt')).toMatchObject({
      text: 'below',
    });
    await expect(mount({ url: `${server.origin}/missing/` })).rejects.toMatchObject({ errno: 'ENOENT' });
    await expect(mount({ url: `${server.origin}/missing` })).rejects.toMatchObject({ errno: 'ENOENT' });
    await expect(mount({ url: `${server.origin}/forbidden/` })).rejects.toMatchObject({ errno: 'EACCES' });
  });

  test('refuses to be written', async () => {
    const opening = open(httpOptions.parse({ url: `${server.origin}/` }), { ...openContext, writable: true });
    await expect(opening).rejects.toMatchObject({
      errno: 'EROFS',
      hint: expect.stringContaining('mode: read'),
    });
  });

  test('redirects, encodes, sends no ranges', async () => {
    const files = { moved: `${server.origin}/moved/file`, zipped: `${server.origin}/encoded/zipped` };
    const backend = await mount({ files: { ...files, whole: `${server.origin}/no-ranges/file` } });
    expect(await read(backend, 'moved', { offset: 2, length: 3 })).toMatchObject({ text: '234' });
    expect(await backend.stat('zipped', context)).toMatchObject({ size: undefined });
    expect(await read(backend, 'zipped')).toMatchObject({ text: 'decoded', size: 7 });
    expect(await read(backend, 'whole', { offset: 2, length: 3 })).toMatchObject({
      text: '234',
      sequential: true,
    });
  });

  test('tells the version of every file in its JSON index: one request for a folder, and one HEAD in all', async () => {
    const backend = await mount({ url: `${server.origin}/` });
    const { entries } = await backend.list('sub', undefined, context);
    expect(entries).toEqual([await backend.stat('sub/file.txt', context)]);
    const asked = await server.requests();
    expect(asked.filter((line) => line.startsWith('HEAD'))).toHaveLength(2);
    expect(asked.filter((line) => line.startsWith('GET'))).toEqual(['GET / 200', 'GET /sub/ 200']);
  });
});

describe.each(['', 'IndexOptions FancyIndexing NameWidth=*', 'IndexOptions FancyIndexing HTMLTable'])(
  'Apache and its index: %s',
  (index) => {
    let server: DavServer;
    beforeAll(async () => {
      const directives = ['Dav Off', 'Options +Indexes', ...(index === '' ? [] : [index])];
      server = await startApacheDav({ directives });
      mkdirSync(join(server.folder, 'sub folder'));
      writeFileSync(join(server.folder, 'file'), '0123456789');
      writeFileSync(join(server.folder, 'a & b %41;<i>'), 'odd');
      writeFileSync(join(server.folder, 'sub folder', 'below'), 'below');
    });
    afterAll(() => server?.stop());

    test('names are right, sizes are never rounded, what is below is found', async () => {
      const backend = await mount({ url: `${server.url}/` });
      const { entries } = await backend.list('', undefined, context);
      expect(entries.map(({ key, kind }) => `${kind} ${key}`).sort()).toEqual([
        'directory sub folder',
        'file a & b %41;<i>',
        'file file',
      ]);
      expect(
        entries.every(
          ({ kind, size }) => kind === 'directory' || size === undefined || size === 10 || size === 3,
        ),
      ).toBe(true);
      expect(await backend.stat('file', context)).toMatchObject({ size: 10 });
      expect(await read(backend, 'file', { offset: 3, length: 4 })).toMatchObject({ text: '3456' });
      expect(await read(backend, 'a & b %41;<i>')).toMatchObject({ text: 'odd' });
      const below = await backend.list('sub folder', undefined, context);
      expect(below.entries.map(({ key }) => key)).toEqual(['sub folder/below']);
      expect(await read(backend, 'sub folder/below')).toMatchObject({ text: 'below' });
    });
  },
);
