/** Files of a web server in the tree: an nginx that logs what it is asked, and one that behaves badly. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type FaultyHttp, serves, startFaultyHttp } from '../servers/faulty-http.js';
import { type Nginx, startNginx } from '../servers/nginx.js';
import { Mirage } from './mount.js';
import { must, python, run } from './process.js';

const DEADLINE = 120_000;
const ENTRIES = 10_000;
const LARGE = 60_000_007;
let server: Nginx;
let faulty: FaultyHttp;
let mirage: Mirage;
let large: Buffer;

beforeAll(async () => {
  server = await startNginx();
  faulty = await startFaultyHttp();
  large = randomBytes(LARGE);
  writeFileSync(join(server.data, 'large'), large);
  writeFileSync(join(server.data, 'hello.txt'), 'hello\n');
  writeFileSync(join(server.data, 'zipped.gz'), gzipSync('decoded'.repeat(1000)));
  mkdirSync(join(server.data, 'many', 'deeper'), { recursive: true });
  for (let i = 0; i < ENTRIES; i++) writeFileSync(join(server.data, 'many', `file-${i}`), `${i}`);
  writeFileSync(join(server.data, 'many', 'deeper', 'a b%41'), 'odd');
  faulty.on('/stalls', () => undefined);
  faulty.on('/circle', (_request, response) => void response.writeHead(302, { location: '/circle' }).end());
  faulty.on('/page', (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/html', etag: '"1"' }).end('<h1>Log in</h1>');
  });
  faulty.on('/secret-file', (_request, response) => void response.writeHead(403).end());
  faulty.on('/lies', (request, response) => {
    response.writeHead(200, { 'content-length': '1000', etag: '"1"' });
    if (request.method === 'HEAD') response.end();
    else response.write('too little', () => response.destroy());
  });
  faulty.on('/demand', (_request, response) => {
    response.writeHead(200);
    response.write('made on ');
    response.end('demand');
  });
  const { origin } = server;
  mirage = await Mirage.start({
    mounts: {
      '/json': { type: 'http', url: `${origin}/` },
      '/html': { type: 'http', url: `${origin}/html/` },
      '/rounded': { type: 'http', url: `${origin}/rounded/` },
      '/whole': { type: 'http', url: `${origin}/no-ranges/` },
      '/files': {
        type: 'http',
        timeout: '2s',
        files: {
          'hello.txt': `${origin}/hello.txt`,
          zipped: `${origin}/encoded/zipped`,
          ...Object.fromEntries(
            ['stalls', 'circle', 'page', 'lies', 'demand', 'changing', 'busy', 'secret-file'].map((name) => [
              `faulty/${name}.bin`,
              `${faulty.origin}/${name}`,
            ]),
          ),
        },
      },
    },
  });
}, DEADLINE);
afterAll(async () => {
  await mirage?.dispose();
  await faulty?.stop();
  await server?.stop();
}, DEADLINE);
beforeEach(async () => void (await server.requests()));

const output = (command: string, ...args: string[]) => must(command, args, { deadline: DEADLINE });
const errorOf = async (...names: string[]): Promise<string> =>
  (await run('cat', [mirage.path(...names)], { deadline: DEADLINE })).stderr.trim();

describe('a tree with an index', () => {
  test(
    'a tree of a web server is walked with one request for each directory',
    async () => {
      for (const [name, path] of [
        ['json', '/'],
        ['html', '/html/'],
        ['rounded', '/rounded/'],
      ] as const) {
        const found = await output('find', mirage.path(name), '-type', 'f');
        expect(found.trim().split('\n').length).toBe(ENTRIES + 4);
        const asked = (await server.requests()).filter((line) => line.startsWith('GET'));
        expect(asked).toEqual(['', 'many/', 'many/deeper/'].map((folder) => `GET ${path}${folder} 200`));
      }
    },
    DEADLINE,
  );

  test.each(['json', 'html'])(
    '%s: sizes that the index tells truly cost no further request',
    async (name) => {
      await output('find', mirage.path(name, 'many'));
      await server.requests();
      const listing = await output('find', mirage.path(name, 'many'), '-type', 'f', '-printf', '%s %f\\n');
      expect(listing).toContain('4 file-1234\n');
      expect(await server.requests()).toEqual([]);
    },
    DEADLINE,
  );

  test('a size that the index of a web server rounds is never shown', async () => {
    const path = mirage.path('rounded', 'large');
    expect((await output('stat', '-c', '%s', path)).trim()).toBe(String(LARGE));
    expect((await server.requests()).filter((line) => line === 'HEAD /rounded/large 200')).toHaveLength(1);
  });

  test.each(['json', 'html', 'rounded', 'whole'])(
    '%s: content is right, in order and at random',
    async (name) => {
      const path = mirage.path(name, 'large');
      execFileSync('cmp', [join(server.data, 'large'), path], { timeout: DEADLINE });
      expect(await output('cat', mirage.path(name, 'many', 'deeper', 'a b%41'))).toBe('odd');
      const script = `
import os
fd = os.open(${JSON.stringify(path)}, os.O_RDONLY)
for at in (${LARGE - 5}, 17, 30000000, 4096):
    print(os.pread(fd, 20, at).hex())
`;
      const read = (await output(python, '-c', script)).trim().split('\n');
      const wanted = [LARGE - 5, 17, 30_000_000, 4096].map((at) =>
        large.subarray(at, at + 20).toString('hex'),
      );
      expect(read).toEqual(wanted);
    },
    DEADLINE,
  );

  test(
    'files of a web server can only be read',
    async () => {
      const ended = await run('touch', [mirage.path('json', 'new')]);
      expect(ended.stderr).toContain('Read-only file system');
      await expect(
        Mirage.start({ mounts: { '/w': { type: 'http', mode: 'write', url: `${server.origin}/` } } }),
      ).rejects.toThrow(/can only be read/);
    },
    DEADLINE,
  );
});

describe('a server without ranges', () => {
  test(
    'a web server without ranges sends a file once',
    async () => {
      const fresh = await Mirage.start({
        mounts: { '/w': { type: 'http', url: `${server.origin}/no-ranges/` } },
      });
      try {
        await server.requests();
        execFileSync('cmp', [join(server.data, 'large'), fresh.path('w', 'large')], { timeout: DEADLINE });
        // To begin with nobody knows it: what was asked for ahead is given up when the first answer comes.
        expect((await server.requests()).filter((line) => line.startsWith('GET')).length).toBeLessThan(8);
        await output(python, '-c', `open(${JSON.stringify(fresh.path('w', 'large'))}, 'rb').read(100)`);
        expect(await server.requests()).toEqual([]);
      } finally {
        await fresh.dispose();
      }
    },
    DEADLINE,
  );
});

describe('single files', () => {
  test('a web file whose size nobody tells is fetched before its size is shown', async () => {
    expect((await output('stat', '-c', '%s', mirage.path('files', 'faulty', 'demand.bin'))).trim()).toBe(
      '14',
    );
    expect(await output('cat', mirage.path('files', 'faulty', 'demand.bin'))).toBe('made on demand');
    expect((await output('stat', '-c', '%s', mirage.path('files', 'zipped'))).trim()).toBe('7000');
    expect(await output('cat', mirage.path('files', 'zipped'))).toBe('decoded'.repeat(1000));
  });

  test(
    'a reader of a web file sees one version of it or ESTALE',
    async () => {
      let version = 'a';
      const good = serves(
        () => version.repeat(40_000_000),
        () => ({ etag: `"${version}"` }),
      );
      faulty.on('/changing', (request, response) => {
        // Once its end is asked for, it is another one.
        if (/bytes=3\d{7}-/.test(request.headers.range ?? '')) version = 'b';
        good(request, response);
      });
      const script = `
import os
fd = os.open(${JSON.stringify(mirage.path('files', 'faulty', 'changing.bin'))}, os.O_RDONLY)
print(os.pread(fd, 3, 0))
try:
    print(os.pread(fd, 3, 39000000))
except OSError as error:
    print(error.strerror)
`;
      expect(await output(python, '-c', script)).toBe("b'aaa'\nStale file handle\n");
    },
    DEADLINE,
  );
});

describe('credentials', () => {
  test(
    'credentials go to the web server of the mount and to no other',
    async () => {
      const other = await startFaultyHttp();
      const heard: [server: string, authorization: string | undefined][] = [];
      const good = serves(
        () => 'moved',
        () => ({ etag: '"1"' }),
      );
      faulty.on('/secret', (request, response) => {
        heard.push(['ours', request.headers.authorization]);
        response.writeHead(307, { location: `${other.origin}/elsewhere` }).end();
      });
      other.on('/elsewhere', (request, response) => {
        heard.push(['other', request.headers.authorization]);
        good(request, response);
      });
      const fresh = await Mirage.start({
        mounts: { '/w': { type: 'http', token: 'a-token', files: { f: `${faulty.origin}/secret` } } },
      });
      try {
        expect(await output('cat', fresh.path('w', 'f'))).toBe('moved');
      } finally {
        await fresh.dispose();
        await other.stop();
      }
      expect(new Set(heard.map(([server, authorization]) => `${server} ${authorization}`))).toEqual(
        new Set(['ours Bearer a-token', 'other undefined']),
      );
    },
    DEADLINE,
  );
});

describe('each fault is an error of its own, and harms nobody else', () => {
  test(
    'a fault of a web server is an error of its own, and harms no other mount',
    async () => {
      for (const [name, message] of [
        ['circle', 'Too many levels of symbolic links'],
        ['page', 'Input/output error'],
        ['lies', 'Input/output error'],
        ['secret-file', 'Permission denied'],
        ['stalls', 'Connection timed out'],
      ] as const) {
        const failing = errorOf('files', 'faulty', `${name}.bin`);
        const others = await Promise.all([
          output('cat', mirage.path('files', 'hello.txt')),
          output('cat', mirage.path('json', 'hello.txt')),
        ]);
        expect(others).toEqual(['hello\n', 'hello\n']);
        expect(await failing).toContain(message);
      }
    },
    DEADLINE,
  );

  test(
    'a web server that says when to come back is asked again then',
    async () => {
      const asked: number[] = [];
      const good = serves(
        () => 'patience',
        () => ({ etag: '"1"' }),
      );
      faulty.on('/busy', (request, response) => {
        asked.push(performance.now());
        if (asked.length > 1) good(request, response);
        else response.writeHead(429, { 'retry-after': '1' }).end();
      });
      expect(await output('cat', mirage.path('files', 'faulty', 'busy.bin'))).toBe('patience');
      // The server's second and ours need not begin at once.
      expect(asked[1]! - asked[0]!).toBeGreaterThan(990);
    },
    DEADLINE,
  );

  test('the last error is explained', async () => {
    await errorOf('files', 'faulty', 'page.bin');
    expect(await output('cat', mirage.path('.mirage', 'last-error'))).toContain('webPages');
  });
});
