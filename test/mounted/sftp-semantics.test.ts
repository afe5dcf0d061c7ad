/** What docs/semantics.md promises of SFTP mounts: against the folder of the server itself, as other hosts see it. */
import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type DelayProxy, startDelayProxy } from '../servers/proxy.js';
import { type Sshd, startSshd } from '../servers/sshd.js';
import { isRoot, Mirage } from './mount.js';
import { must, python, run, shell, until } from './process.js';
import { sftpMount } from './sftp-mount.js';

const DEADLINE = 120_000;
const MEGABYTE = 1024 * 1024;
let server: Sshd;
let proxy: DelayProxy;
let mirage: Mirage;
let made = 0;

beforeAll(async () => {
  server = await startSshd();
  proxy = await startDelayProxy(server.port);
  mkdirSync(join(server.data, 'root'));
  const far = { port: proxy.port, knownHosts: server.knownHostsFor(proxy.port), timeout: '3s' };
  mirage = await Mirage.start({
    mounts: {
      '/sftp': sftpMount(server, 'root'),
      '/brief': sftpMount(server, 'root', { ttl: '2s' }),
      '/far': sftpMount(server, 'root', far),
      '/ram': { type: 'ram', mode: 'write' },
    },
  });
}, DEADLINE);
afterAll(async () => {
  await mirage?.dispose();
  await proxy?.stop();
  await server?.stop();
}, DEADLINE);

/** A folder of its own for a test: on the server, and its path below the mounts. */
function newFolder(): { folder: string; there: (...names: string[]) => string } {
  const folder = `test-${++made}`;
  mkdirSync(join(server.data, 'root', folder));
  return { folder, there: (...names) => join(server.data, 'root', folder, ...names) };
}
const at = (mount: string, folder: string) => mirage.path(mount, folder);

describe('an SFTP mount and its server', () => {
  test('what close or fsync has accepted is on the SSH server', async () => {
    const { folder, there } = newFolder();
    await shell('printf closed > f', at('sftp', folder));
    expect(readFileSync(there('f'), 'utf8')).toBe('closed');
    await must(
      python,
      [
        '-c',
        `
import os
fd = os.open('g', os.O_CREAT | os.O_WRONLY)
os.write(fd, b'synced')
os.fsync(fd)
assert open(${JSON.stringify(there('g'))}).read() == 'synced'
os.close(fd)
`,
      ],
      { cwd: at('sftp', folder), deadline: DEADLINE },
    );
  });

  test('a write in the middle of a remote file sends what was written and no more', async () => {
    const { folder, there } = newFolder();
    const content = randomBytes(20 * MEGABYTE);
    writeFileSync(there('f'), content);
    const bytesUp = async () => (JSON.parse(await proxy.command('stats')) as { bytesUp: number }).bytesUp;
    const before = await bytesUp();
    await must(
      'dd',
      ['if=/dev/zero', 'of=f', 'bs=4096', 'count=1', 'seek=1000', 'conv=notrunc', 'status=none'],
      { cwd: at('far', folder), deadline: DEADLINE },
    );
    expect((await bytesUp()) - before).toBeLessThan(100_000);
    content.fill(0, 4096 * 1000, 4096 * 1001);
    expect(readFileSync(there('f')).equals(content)).toBe(true);
  });

  test('an open sees what another host has written before', async () => {
    const { folder, there } = newFolder();
    writeFileSync(there('f'), 'first');
    expect(await shell('cat f', at('sftp', folder))).toBe('first');
    appendFileSync(there('f'), ' and more');
    // Within a second of the last look at it, an open may still believe that.
    await until(
      async () => (await shell('cat f', at('sftp', folder))) === 'first and more',
      'the change shows',
    );
    // A writer looks at once.
    appendFileSync(there('f'), ', again');
    await shell('printf . >> f', at('sftp', folder));
    expect(readFileSync(there('f'), 'utf8')).toBe('first and more, again.');
  });

  test('who asks past the cache of the kernel sees what another host has changed when the ttl has passed', async () => {
    const { folder, there } = newFolder();
    writeFileSync(there('f'), 'first');
    // AT_STATX_FORCE_SYNC
    const size = async () => (await shell("stat --cached=never -c '%s %a' f", at('brief', folder))).trim();
    expect(await size()).toMatch(/^5 /);
    writeFileSync(there('f'), 'longer now');
    chmodSync(there('f'), 0o600);
    await until(async () => (await size()) === '10 600', 'the change shows');
    // What was made through the mount shows at once.
    await shell('printf "and more" >> f', at('brief', folder));
    expect(await size()).toBe('18 600');
    await shell('chmod 640 f', at('brief', folder));
    expect(await size()).toBe('18 640');
  });

  test(
    'what SFTP has no words for survives a remount',
    async () => {
      const { folder, there } = newFolder();
      const inside = (script: string) => shell(script, at('sftp', folder), { deadline: DEADLINE });
      await inside(`
echo content > f; ln f g; mkfifo p; touch -d '2001-02-03 04:05:06.123456789 UTC' f
`);
      await must('setfattr', ['-n', 'user.colour', '-v', 'green', 'f'], { cwd: at('sftp', folder) });
      if (isRoot) await inside('mknod c c 1 3');
      const look = () =>
        inside("TZ=UTC stat -c '%n %i %h %F %t:%T %y' *; getfattr --only-values -n user.colour g");
      const before = await look();
      expect(before).toContain('04:05:06.123456789');
      expect(before).toContain(' 2 regular file');
      expect(before).toContain('fifo');
      await mirage.stop();
      await mirage.restart();
      expect(await look()).toBe(before);
      expect(statSync(there('p')).isFile()).toBe(true);
    },
    DEADLINE,
  );

  test(
    'a connection that breaks while files are read and written costs nothing but time',
    async () => {
      const { folder, there } = newFolder();
      const content = randomBytes(24 * MEGABYTE);
      writeFileSync(there('source'), content);
      const script = `
import os
source = os.open('source', os.O_RDONLY)
target = os.open('target', os.O_CREAT | os.O_WRONLY)
for at in range(0, ${content.length}, 65536):
    os.pwrite(target, os.pread(source, 65536, at), at)
    if at == 8 << 20: open('half', 'w').close()
os.fsync(target)
os.close(target)
`;
      const copying = must(python, ['-c', script], { cwd: at('far', folder), deadline: DEADLINE });
      await until(() => existsSync(there('half')), 'half of it is copied');
      await proxy.command('drop');
      await copying;
      expect(readFileSync(there('target')).equals(content)).toBe(true);
    },
    DEADLINE,
  );

  test(
    'a handle that lost its connection is not opened on another file',
    async () => {
      const { folder, there } = newFolder();
      writeFileSync(there('f'), randomBytes(4 * MEGABYTE));
      const script = `
import os, sys
fd = os.open('f', os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
os.pread(fd, 10, 0)
print('open', flush=True)
sys.stdin.readline()
try:
    os.pread(fd, 10, 3 << 20)
    print('read')
except OSError as error:
    print(error.strerror)
`;
      const fifo = join(mirage.folder, 'go');
      await must('mkfifo', [fifo]);
      const out = join(mirage.folder, 'said');
      const reading = shell(
        `${python} -c '${script.replaceAll("'", `'"'"'`)}' < ${fifo} > ${out}`,
        at('far', folder),
        {
          deadline: DEADLINE,
        },
      );
      const go = shell(
        `exec 3> ${fifo}; while [ ! -e ${fifo}.now ]; do sleep 0.05; done; echo >&3`,
        mirage.folder,
        {
          deadline: DEADLINE,
        },
      );
      await until(() => existsSync(out) && readFileSync(out, 'utf8').includes('open'), 'the file is open');
      rmSync(there('f'));
      writeFileSync(there('f'), randomBytes(5 * MEGABYTE));
      await proxy.command('drop');
      writeFileSync(`${fifo}.now`, '');
      await go;
      await reading;
      expect(readFileSync(out, 'utf8')).toBe('open\nStale file handle\n');
    },
    DEADLINE,
  );

  test(
    'an SSH server out of reach fails its own mount in time, and no other',
    async () => {
      const { folder } = newFolder();
      await shell('echo content > f', at('far', folder));
      await proxy.command('refuse');
      await proxy.command('drop');
      try {
        const asked = await run('touch', [join(at('far', folder), 'new')], { deadline: 30_000 });
        expect(asked.hung).toBe(false);
        expect(asked.stderr).toMatch(/Host is down|Connection timed out/);
        await shell('echo 1 > a; cat a', mirage.path('ram'));
        expect(await must('cat', [mirage.path('.mirage', 'last-error')])).toContain('mount: /far');
      } finally {
        await proxy.command('accept');
      }
      await until(
        async () => (await run('touch', [join(at('far', folder), 'new')], { deadline: 30_000 })).code === 0,
        'the mount works again',
        30_000,
      );
      expect(await shell('cat f', at('far', folder))).toBe('content\n');
    },
    DEADLINE,
  );

  test(
    'an SSH server with another host key than the known one is refused',
    async () => {
      const fingerprint = async (file: string): Promise<string> =>
        (await must('ssh-keygen', ['-lf', file])).split(' ')[1] ?? '';
      const file = join(server.data, 'another-known-hosts');
      const key = join(server.data, 'another-key');
      await must('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
      const [type, blob] = readFileSync(`${key}.pub`, 'utf8').split(' ');
      writeFileSync(file, `[127.0.0.1]:${server.port} ${type} ${blob}\n`);
      const failure = await Mirage.start({
        mounts: { '/sftp': sftpMount(server, 'root', { knownHosts: file }) },
      }).then(
        async (mounted) => {
          await mounted.dispose();
          return 'mounted';
        },
        (error: Error) => error.message,
      );
      for (const known of [file, server.knownHosts]) expect(failure).toContain(await fingerprint(known));
    },
    DEADLINE,
  );
});
