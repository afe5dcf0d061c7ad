/** A folder of a WebDAV server (Apache mod_dav): the same suite as for a disk, and what goes wrong on a server. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { startApacheDav } from '../servers/apache-dav.js';
import type { DavServer } from '../servers/dav-server.js';
import { startFaultyHttp } from '../servers/faulty-http.js';
import { startNextcloud } from '../servers/nextcloud.js';
import { startNginxDav } from '../servers/nginx-dav.js';
import { type DelayProxy, startDelayProxy } from '../servers/proxy.js';
import type { Limits } from './expectations.js';
import { isRoot, Mirage } from './mount.js';
import { describePosix } from './posix.js';
import { must, python, run, shell, until } from './process.js';
import { describePrograms } from './programs.js';

const webdav = (url: string, keys: Record<string, unknown> = {}) => ({
  type: 'webdav',
  mode: 'exec',
  url,
  ...keys,
});

const limits: Limits = {
  'rename with RENAME_EXCHANGE swaps a file and a directory': 'WebDAV has no exchange',
};

describe('a WebDAV mount', () => {
  let server: DavServer;
  let mirage: Mirage;
  const there = (name: string) => join(server.folder, name);
  beforeAll(async () => {
    server = await startApacheDav();
    mirage = await Mirage.start({ mounts: { '/dav': webdav(server.url) } });
  }, 90_000);
  afterAll(async () => {
    await mirage?.dispose();
    await server?.stop();
  }, 90_000);

  describePosix(() => mirage.path('dav'), { limits, entries: 300 });
  describePrograms(() => mirage.path('dav'), { limits });

  test('what close or fsync has accepted is on the WebDAV server', async () => {
    await shell('printf closed > f', mirage.path('dav'));
    expect(readFileSync(there('f'), 'utf8')).toBe('closed');
    await must(
      python,
      [
        '-c',
        "import os; f = os.open('f', os.O_RDWR); os.pwrite(f, b'synced', 0); os.fsync(f); print(open('f').read())",
      ],
      { cwd: mirage.path('dav') },
    );
    expect(readFileSync(there('f'), 'utf8')).toBe('synced');
    await shell('mkdir d && mv f d/g', mirage.path('dav'));
    expect(readFileSync(there('d/g'), 'utf8')).toBe('synced');
    expect(existsSync(there('f'))).toBe(false);
  }, 60_000);

  test('what another WebDAV client wrote meanwhile is not overwritten', async () => {
    await shell('printf base > shared', mirage.path('dav'));
    const writer = run(
      python,
      [
        '-c',
        `
import errno, os, time
fd = os.open('shared', os.O_RDWR)
os.pwrite(fd, b'mine', 0)
open('opened', 'w').close()
deadline = time.monotonic() + 60
while not os.path.exists('go'):
    assert time.monotonic() < deadline
    time.sleep(0.05)
try:
    os.fsync(fd)
    print('none')
except OSError as e:
    print(errno.errorcode[e.errno])
`,
      ],
      { cwd: mirage.path('dav') },
    );
    await until(() => existsSync(there('opened')), 'the writer has opened the file');
    const put = await fetch(`${server.url}/shared`, { method: 'PUT', body: 'the other client' });
    expect(put.status).toBe(204);
    await shell('touch go', mirage.path('dav'));
    expect((await writer).stdout.trim()).toBe('ESTALE');
    expect(readFileSync(there('shared'), 'utf8')).toBe('the other client');
  }, 90_000);

  test('attributes and symlinks are kept by a WebDAV server that keeps properties', async () => {
    const own = await Mirage.start({ mounts: { '/dav': webdav(server.url) } });
    try {
      const look =
        "stat -c '%A %y %s' kept link && readlink link && getfattr --only-values -n user.note kept && cat kept";
      await shell(
        "printf text > kept && chmod 751 kept && setfattr -n user.note -v value kept && touch -d '2001-02-03 04:05:06.789012345' kept && ln -s kept link",
        own.path('dav'),
      );
      const before = await shell(look, own.path('dav'));
      expect(before).toContain('04:05:06.789012345');
      expect(await own.stop()).toBe(0);
      for (const name of ['state', 'cache']) rmSync(join(own.folder, name), { recursive: true });
      await own.restart();
      expect(await shell(look, own.path('dav'))).toBe(before);
    } finally {
      await own.dispose();
    }
  }, 90_000);

  test('what was acknowledged reaches a WebDAV server after a kill of the daemon', async () => {
    const own = await Mirage.start({ mounts: { '/dav': webdav(server.url, { writeBack: 'async' }) } });
    try {
      await shell(
        'mkdir k && for i in $(seq 20); do echo $i > k/$i; done && mv k/1 k/one && echo more >> k/2',
        own.path('dav'),
      );
      await own.crash();
      own.kill();
      await own.restart();
      await shell('echo alive > k/after', own.path('dav'));
      expect((await own.mirage('drain', own.mountpoint)).code).toBe(0);
      const names = readdirSync(there('k')).filter((name) => !name.startsWith('.'));
      expect(names).toHaveLength(21);
      expect(readFileSync(there('k/one'), 'utf8')).toBe('1\n');
      expect(readFileSync(there('k/2'), 'utf8')).toBe('2\nmore\n');
      expect(readFileSync(there('k/after'), 'utf8')).toBe('alive\n');
    } finally {
      await own.dispose();
    }
  }, 120_000);

  test('a WebDAV server that lies is believed nothing', async () => {
    const entry = (href: string, properties: string) =>
      `<D:response><D:href>${href}</D:href><D:propstat><D:prop>${properties}</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>`;
    const file = (href: string, etag = '"1"') =>
      entry(
        href,
        `<D:resourcetype/><D:getcontentlength>10</D:getcontentlength><D:getetag>${etag}</D:getetag>`,
      );
    const folder = entry('/', '<D:resourcetype><D:collection/></D:resourcetype>');
    const names = [
      '/whole',
      '/short',
      '/loop',
      '/page',
      '/../up',
      '/a%2Fb',
      'https://evil.example/x',
      '/d/e',
    ];
    const listing = (responses: string) => `<D:multistatus xmlns:D="DAV:">${responses}</D:multistatus>`;
    const faulty = await startFaultyHttp();
    const etag = { etag: '"1"' };
    faulty.on('/', (request, response) => {
      const all = folder + names.map((name) => file(name)).join('') + file('/weak', 'W/"1"');
      response.writeHead(207).end(listing(request.headers.depth === '1' ? all : folder));
    });
    faulty.on('/whole', (_request, response) => void response.writeHead(200, etag).end('0123456789'));
    faulty.on('/weak', (_request, response) => {
      response.writeHead(200, { etag: 'W/"1"' }).end('0123456789');
    });
    faulty.on('/short', (_request, response) => {
      response.writeHead(200, { ...etag, 'content-length': '10' }).write('01234');
      setImmediate(() => response.destroy());
    });
    faulty.on('/loop', (_request, response) => void response.writeHead(302, { location: '/loop' }).end());
    faulty.on('/page', (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Sign in</html>');
    });
    const own = await Mirage.start({ mounts: { '/dav': webdav(faulty.origin, { mode: 'read' }) } });
    try {
      expect((await shell('ls', own.path('dav'))).split('\n').filter(Boolean)).toEqual([
        'loop',
        'page',
        'short',
        'weak',
        'whole',
      ]);
      expect(await shell('cat whole weak', own.path('dav'))).toBe('01234567890123456789');
      for (const [name, reason] of [
        ['short', 'Input/output error'],
        ['loop', 'Too many levels of symbolic links'],
        ['page', 'Input/output error'],
      ] as const) {
        const ended = await run('cat', [name], { cwd: own.path('dav') });
        expect(ended).toMatchObject({ code: 1, stdout: '' });
        expect(ended.stderr).toContain(reason);
      }
    } finally {
      await own.dispose();
      await faulty.stop();
    }
  }, 120_000);
});

describe('a WebDAV server that fails', () => {
  const servers: DavServer[] = [];
  const proxies: DelayProxy[] = [];
  const mounts: Mirage[] = [];
  const started = async <T>(list: T[], starting: Promise<T>): Promise<T> => {
    const one = await starting;
    list.push(one);
    return one;
  };
  const mounted = (table: Parameters<typeof Mirage.start>[0]['mounts']) =>
    started(mounts, Mirage.start({ mounts: table }));
  afterEach(async () => {
    for (const mount of mounts.splice(0)) await mount.dispose();
    for (const proxy of proxies.splice(0)) await proxy.stop();
    for (const server of servers.splice(0)) await server.stop();
  }, 90_000);

  test('a connection that breaks in the middle of a read or a write harms neither', async () => {
    const server = await started(servers, startApacheDav());
    const proxy = await started(proxies, startDelayProxy(server.port));
    const mirage = await mounted({ '/dav': webdav(`http://127.0.0.1:${proxy.port}`) });
    const bytes = Buffer.alloc(12_000_000, 'the quick brown fox; ');
    writeFileSync(join(server.folder, 'large'), bytes);
    const reading = run('cmp', [join(server.folder, 'large'), mirage.path('dav', 'large')]);
    for (let cut = 0; cut < 3; cut++) await proxy.command('drop');
    expect(await reading).toMatchObject({ code: 0, stderr: '' });
    const writing = run('cp', [join(server.folder, 'large'), mirage.path('dav', 'copy')]);
    for (let cut = 0; cut < 3; cut++) await proxy.command('drop');
    expect(await writing).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(join(server.folder, 'copy')).equals(bytes)).toBe(true);
  }, 120_000);

  (isRoot ? test : test.skip)(
    'a full disk on the server is ENOSPC for the writer, and the file there stays whole',
    async () => {
      const server = await started(servers, startApacheDav({ disk: '6m' }));
      const mirage = await mounted({ '/dav': webdav(server.url) });
      await shell('echo whole > dav/file', mirage.mountpoint);
      for (const name of ['file', 'other']) {
        const write = ['if=/dev/zero', `of=dav/${name}`, 'bs=1M', 'count=20', 'conv=notrunc,fsync'];
        const ended = await run('dd', write, { cwd: mirage.mountpoint });
        expect(ended.stderr).toContain('No space left on device');
      }
      expect(readFileSync(join(server.folder, 'file'), 'utf8')).toBe('whole\n');
      await shell('rm dav/other dav/file; echo again > dav/small && cat dav/small', mirage.mountpoint);
    },
    120_000,
  );

  test('a file that the server does not hand out is EACCES, its neighbours are read', async () => {
    const refused = ['<Files "secret">', '<Limit GET>', 'Require all denied', '</Limit>', '</Files>'];
    const server = await started(servers, startApacheDav({ directives: refused }));
    writeFileSync(join(server.folder, 'secret'), 'nobody reads this');
    writeFileSync(join(server.folder, 'open'), 'everybody reads this');
    const mirage = await mounted({ '/dav': webdav(server.url) });
    expect(await must('ls', [mirage.path('dav')])).toBe('open\nsecret\n');
    expect(await must('cat', [mirage.path('dav', 'open')])).toBe('everybody reads this');
    const ended = await run('cat', [mirage.path('dav', 'secret')]);
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(ended.stderr).toContain('Permission denied');
  }, 60_000);

  test('the quota of a WebDAV server is the size of its mount', async () => {
    const cloud = await startNextcloud({ quota: { available: 3 * 2 ** 20, used: 2 ** 20 } });
    const mirage = await mounted({
      '/cloud': webdav(cloud.url, { username: 'user', password: 'app-password' }),
    });
    try {
      const size = await must('stat', ['-f', '-c', '%S %b %a', mirage.path('cloud')]);
      const [block = 0, blocks = 0, available = 0] = size.trim().split(' ').map(Number);
      expect([block * blocks, block * available]).toEqual([4 * 2 ** 20, 3 * 2 ** 20]);
    } finally {
      await mirage.dispose();
      await cloud.stop();
    }
  }, 60_000);

  test('ten seconds of silence are waited for, and other mounts answer meanwhile', async () => {
    const server = await started(servers, startApacheDav());
    const proxy = await started(proxies, startDelayProxy(server.port));
    const mirage = await mounted({
      '/slow': webdav(`http://127.0.0.1:${proxy.port}`),
      '/ram': { type: 'ram', mode: 'write' },
    });
    writeFileSync(join(server.folder, 'file'), 'late');
    await proxy.command('stall');
    let answered = false;
    const late = run('cat', [mirage.path('slow', 'file')]).finally(() => {
      answered = true;
    });
    await shell('echo quick > ram/file && cat ram/file', mirage.mountpoint, { deadline: 5_000 });
    const end = performance.now() + 10_000;
    await until(() => performance.now() > end, 'ten seconds pass');
    expect(answered).toBe(false);
    await proxy.command('resume');
    expect(await late).toMatchObject({ code: 0, stdout: 'late' });
  }, 90_000);

  test('a server without locks and conditions can be read, and written only by the last writer', async () => {
    const server = await started(servers, startNginxDav({ locks: false }));
    writeFileSync(join(server.folder, 'file'), 'theirs');
    const mirage = await mounted({
      '/kept': webdav(server.url),
      '/last': webdav(server.url, { conflicts: 'lastWriterWins' }),
    });
    expect(await must('cat', [mirage.path('kept', 'file')])).toBe('theirs');
    const refused = await run('dd', ['if=/dev/zero', 'of=kept/new', 'count=1', 'conv=fsync'], {
      cwd: mirage.mountpoint,
    });
    expect(refused.stderr).toContain('Read-only file system');
    expect(existsSync(join(server.folder, 'new'))).toBe(false);
    await shell('echo mine > last/new', mirage.mountpoint);
    expect(readFileSync(join(server.folder, 'new'), 'utf8')).toBe('mine\n');
  }, 60_000);
});
