/** A folder of a WebDAV server (Apache mod_dav): the same suite as for a disk, and what goes wrong on a server. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { startApacheDav } from '../servers/apache-dav.js';
import type { DavServer } from '../servers/dav-server.js';
import { startNginxDav } from '../servers/nginx-dav.js';
import { type DelayProxy, startDelayProxy } from '../servers/proxy.js';
import type { Limits } from './expectations.js';
import { isRoot, Mirage } from './mount.js';
import { describePosix } from './posix.js';
import { must, run, shell, until } from './process.js';
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
  afterEach(async () => {
    for (const mount of mounts.splice(0)) await mount.dispose();
    for (const proxy of proxies.splice(0)) await proxy.stop();
    for (const server of servers.splice(0)) await server.stop();
  }, 90_000);

  test('a connection that breaks in the middle of a read or a write harms neither', async () => {
    const server = await started(servers, startApacheDav());
    const proxy = await started(proxies, startDelayProxy(server.port));
    const mirage = await started(
      mounts,
      Mirage.start({ mounts: { '/dav': webdav(`http://127.0.0.1:${proxy.port}`) } }),
    );
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
      const mirage = await started(mounts, Mirage.start({ mounts: { '/dav': webdav(server.url) } }));
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
    const server = await started(
      servers,
      startApacheDav({ directives: ['<Files "secret">', 'Require all denied', '</Files>'] }),
    );
    writeFileSync(join(server.folder, 'secret'), 'nobody reads this');
    writeFileSync(join(server.folder, 'open'), 'everybody reads this');
    const mirage = await started(mounts, Mirage.start({ mounts: { '/dav': webdav(server.url) } }));
    expect(await must('cat', [mirage.path('dav', 'open')])).toBe('everybody reads this');
    const refused = await run('cat', [mirage.path('dav', 'secret')]);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/Permission denied|No such file/);
  }, 60_000);

  test('ten seconds of silence are waited for, and other mounts answer meanwhile', async () => {
    const server = await started(servers, startApacheDav());
    const proxy = await started(proxies, startDelayProxy(server.port));
    const mirage = await started(
      mounts,
      Mirage.start({
        mounts: {
          '/slow': webdav(`http://127.0.0.1:${proxy.port}`),
          '/ram': { type: 'ram', mode: 'write' },
        },
      }),
    );
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
    const mirage = await started(
      mounts,
      Mirage.start({
        mounts: {
          '/kept': webdav(server.url),
          '/last': webdav(server.url, { conflicts: 'lastWriterWins' }),
        },
      }),
    );
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
