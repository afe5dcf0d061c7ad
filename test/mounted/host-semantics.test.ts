/** What docs/semantics.md promises of every mount, of memory and of local folders, beyond the POSIX cases. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { isMounted, Mirage } from './mount.js';
import { must, python, run, shell, until } from './process.js';

const DEADLINE = 60_000;
const asRoot = process.getuid?.() === 0 ? test : test.skip;
let outside: string;
let mirage: Mirage;

const local = (name: string, keys: Record<string, unknown>): Record<string, unknown> => {
  mkdirSync(join(outside, name), { recursive: true });
  return { type: 'local', path: join(outside, name), ...keys };
};

beforeAll(async () => {
  outside = mkdtempSync(join(tmpdir(), 'mirage-outside-'));
  chmodSync(outside, 0o755);
  const readable = local('readable', { mode: 'read' });
  writeFileSync(join(outside, 'readable', 'f'), 'read me');
  const script = '#!/bin/sh\necho ran\n';
  const writable = local('writable', { mode: 'write' });
  writeFileSync(join(outside, 'writable', 'script'), script, { mode: 0o755 });
  mirage = await Mirage.start({
    mounts: {
      '/ram': { type: 'ram', mode: 'exec' },
      '/readable': readable,
      '/writable': writable,
      '/now': local('now', { mode: 'write', freshness: 'now' }),
      '/plain': local('plain', { mode: 'write', acl: false }),
      '/inotify': local('inotify', { mode: 'write' }),
      '/deep/er/mount': { type: 'ram', mode: 'write' },
    },
  });
}, DEADLINE);

afterAll(async () => {
  await mirage?.dispose();
  rmSync(outside, { recursive: true, force: true });
}, DEADLINE);

/** Runs Python with the mount as its working directory. */
const py = (code: string, ...args: string[]): Promise<string> =>
  must(python, ['-c', `import os, errno\n${code}`, ...args], { cwd: mirage.mountpoint });

/** The error name of one expression, or `none`. */
const errorOf = async (expression: string): Promise<string> =>
  (
    await py(`try:\n  ${expression}\n  print('none')\nexcept OSError as e: print(errno.errorcode[e.errno])`)
  ).trim();

describe('every mount', () => {
  test('the root shows the mounts and nothing else', async () => {
    expect(await shell('ls -A', mirage.mountpoint)).toBe(
      'deep\ninotify\nnow\nplain\nram\nreadable\nwritable\n',
    );
    expect(await shell('find deep -type d', mirage.mountpoint)).toBe('deep\ndeep/er\ndeep/er/mount\n');
    expect(await errorOf("os.mkdir('new')")).toBe('EROFS');
    expect(await errorOf("os.rmdir('ram')")).toMatch(/EROFS|EBUSY/);
    expect(await errorOf("os.rename('ram', 'mar')")).toMatch(/EROFS|EBUSY|EXDEV/);
  });

  test('rename and link across mounts answer EXDEV', async () => {
    await shell('echo 1 > ram/f', mirage.mountpoint);
    expect(await errorOf("os.rename('ram/f', 'writable/f')")).toBe('EXDEV');
    expect(await errorOf("os.link('ram/f', 'writable/f')")).toBe('EXDEV');
    expect(await shell('mv ram/f writable/moved && cat writable/moved', mirage.mountpoint)).toBe('1\n');
  });

  test('a mount in read mode refuses every change with EROFS', async () => {
    const changes = [
      "open('readable/f', 'a')",
      "open('readable/new', 'w')",
      "os.unlink('readable/f')",
      "os.rename('readable/f', 'readable/g')",
      "os.mkdir('readable/d')",
      "os.symlink('x', 'readable/l')",
      "os.link('readable/f', 'readable/l')",
      "os.chmod('readable/f', 0o600)",
      "os.chown('readable/f', 1, 1)",
      "os.utime('readable/f')",
      "os.truncate('readable/f', 0)",
      "os.setxattr('readable/f', 'user.x', b'1')",
      "os.mkfifo('readable/p')",
    ];
    for (const change of changes) expect([change, await errorOf(change)]).toEqual([change, 'EROFS']);
    expect(await shell('cat readable/f', mirage.mountpoint)).toBe('read me');
  });

  test('a file runs in an exec mount and is refused with EACCES in a write mount', async () => {
    const script = "printf '#!/bin/sh\\necho ran\\n'";
    expect(await shell(`${script} > ram/run && chmod 755 ram/run && ram/run`, mirage.mountpoint)).toBe(
      'ran\n',
    );
    expect(await errorOf("os.execv('writable/script', ['script'])")).toBe('EACCES');
    await run('bash', ['-c', `${script} > writable/run; chmod 755 writable/run`], { cwd: mirage.mountpoint });
    expect(await errorOf("os.execv('writable/run', ['run'])")).toBe('EACCES');
    expect(await shell('find writable -type f -perm /111', mirage.mountpoint)).toBe('');
    // Reading it is another matter.
    expect(await shell('sh writable/script', mirage.mountpoint)).toBe('ran\n');
  });

  test('.mirage is found by name and not listed', async () => {
    expect(await shell('ls -A | grep -c mirage || true', mirage.mountpoint)).toBe('0\n');
    const status = JSON.parse(await shell('cat .mirage/status', mirage.mountpoint)) as object;
    expect(JSON.stringify(status)).toContain(mirage.mountpoint);
    expect(await errorOf("open('.mirage/new', 'w')")).toBe('EROFS');
  });

  test('a mount that is in use is not unmounted', async () => {
    const busy = run('sleep', ['3'], { cwd: mirage.path('ram') });
    const attempt = await mirage.mirage('unmount', mirage.mountpoint);
    expect(attempt.code).not.toBe(0);
    expect(attempt.stderr + attempt.stdout).toMatch(/use|busy/i);
    expect(isMounted(mirage.mountpoint)).toBe(true);
    await busy;
  });
});

describe('local folders', () => {
  test('a change made outside shows at once', async () => {
    const host = join(outside, 'now');
    const seen = (path: string): Promise<string> => shell(path, mirage.path('now'));
    writeFileSync(join(host, 'f'), 'one');
    expect(await seen('cat f; ls')).toBe('onef\n');
    writeFileSync(join(host, 'f'), 'longer than before');
    expect(await seen('cat f; stat -c %s f')).toBe('longer than before18\n');
    rmSync(join(host, 'f'));
    expect(await seen('ls; test ! -e f')).toBe('');
    mkdirSync(join(host, 'f'));
    writeFileSync(join(host, 'f', 'g'), '2');
    expect(await seen('cat f/g')).toBe('2');
  });

  test('a write is in the local folder when it returns', async () => {
    await shell('mkdir d && printf written > d/f && chmod 600 d/f', mirage.path('now'));
    expect(readFileSync(join(outside, 'now', 'd', 'f'), 'utf8')).toBe('written');
    expect(statSync(join(outside, 'now', 'd', 'f')).mode & 0o777).toBe(0o600);
  });

  test('with inotify a change made outside shows soon', async () => {
    const host = join(outside, 'inotify');
    const text = async (): Promise<string> => (await run('cat', [mirage.path('inotify', 'f')])).stdout;
    expect(await text()).toBe('');
    for (const content of ['first', 'and then a second']) {
      writeFileSync(join(host, 'f'), content);
      await until(async () => (await text()) === content, 'the mount shows it', 5000);
    }
    rmSync(join(host, 'f'));
    await until(async () => (await text()) === '', 'it is gone', 5000);
  });

  asRoot('ACLs bind other users', async () => {
    // Other users may enter this mount, so that `acl` is on.
    const folder = mirage.path('writable');
    await shell('echo secret > f && chmod 600 f && setfacl -m u:1234:r f', folder);
    expect(execFileSync('getfacl', ['-cn', join(outside, 'writable', 'f')], { encoding: 'utf8' })).toContain(
      'user:1234:r--',
    );
    const as = (uid: number) =>
      run('setpriv', [`--reuid=${uid}`, '--clear-groups', 'cat', join(folder, 'f')]);
    expect((await as(1234)).stdout).toBe('secret\n');
    expect((await as(1235)).code).not.toBe(0);
  });

  asRoot('without ACLs a file has none, and copies are made all the same', async () => {
    const folder = mirage.path('plain');
    expect((await run('setfacl', ['-m', 'u:1234:r', '.'], { cwd: folder })).stderr).toContain(
      'not supported',
    );
    await shell(
      `mkdir from && echo 1 > from/f && setfattr -n user.a -v b from/f &&
       cp -a from copied && rsync -aX from/ synced/ && mkdir tarred && tar --xattrs -cf - -C from . | tar --xattrs -xf - -C tarred`,
      folder,
    );
    for (const made of ['copied', 'synced', 'tarred']) {
      expect(await shell(`getfattr --only-values -n user.a ${made}/f`, folder)).toBe('b');
    }
    expect(await shell('getfacl -cn from/f', folder)).not.toContain('user:1234');
  });

  test('a symlink that leads out of the folder is only a name to the daemon', async () => {
    // The program follows it by itself, with its own rights: what it sees is the host's file, not one of the mount.
    await shell('ln -s ../../../../../../etc/hostname up; ln -s /etc/hostname out', mirage.path('now'));
    expect(await shell('readlink out', mirage.path('now'))).toBe('/etc/hostname\n');
    expect(await errorOf("os.open('now/out', os.O_RDONLY | os.O_NOFOLLOW)")).toBe('ELOOP');
  });
});

describe('after a restart', () => {
  let other: Mirage;
  beforeAll(async () => {
    other = await Mirage.start({
      mounts: { '/local': local('kept', { mode: 'write' }), '/ram': { type: 'ram', mode: 'write' } },
    });
  }, DEADLINE);
  afterAll(() => other?.dispose(), DEADLINE);

  const inodes = (): Promise<string> =>
    shell(`find . -printf '%i %n %p\\n' | sort`, other.path('local'), { deadline: DEADLINE });

  test(
    'inode numbers of a local mount survive a restart, memory does not',
    async () => {
      await shell('mkdir d; echo 1 > a; ln a d/b; ln -s a l', other.path('local'));
      await shell('echo 1 > f', other.path('ram'));
      const before = await inodes();
      expect(await other.stop()).toBe(0);
      expect(isMounted(other.mountpoint)).toBe(false);
      await other.restart();
      expect(await inodes()).toBe(before);
      expect(await shell('ls -A', other.path('ram'))).toBe('');
    },
    DEADLINE,
  );

  test(
    'an unmount from outside ends the daemon with 0',
    async () => {
      await must('umount', [other.mountpoint]);
      expect(await other.ended()).toBe(0);
      await other.restart();
    },
    DEADLINE,
  );

  test(
    'mirage unmount cleans up after a daemon that was killed',
    async () => {
      await shell('echo kept > after', other.path('local'));
      await other.crash();
      expect(isMounted(other.mountpoint)).toBe(true);
      expect(await other.mirage('unmount', other.mountpoint)).toMatchObject({ code: 0 });
      expect(isMounted(other.mountpoint)).toBe(false);
      await other.restart();
      expect(await shell('cat after', other.path('local'))).toBe('kept\n');
    },
    DEADLINE,
  );

  test(
    'the next mount takes the place of one whose daemon was killed',
    async () => {
      await shell('echo once > again', other.path('local'));
      await other.crash();
      expect(isMounted(other.mountpoint)).toBe(true);
      await other.restart();
      expect(await shell('cat again', other.path('local'))).toBe('once\n');
    },
    DEADLINE,
  );
});
