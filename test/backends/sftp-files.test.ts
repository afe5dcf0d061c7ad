import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import type { FileServer, ServerEntry } from '../../src/backends/file-server.js';
import { type Sshd, startSshd } from '../servers/sshd.js';
import { calm, fileServerOf, LocalFile, openSftp, refusal } from './sftp-harness.js';

let server: Sshd;
beforeAll(async () => {
  server = await startSshd();
});
afterAll(() => server?.stop());

const utf8 = (name: string): string => Buffer.from(name).toString('latin1');

describe.each(['ssh', 'ssh2'])('transport %s', (transport) => {
  let opened: OpenedBackend;
  let files: FileServer;
  /** A folder of each test, as a path of the mount, and where it is on this host. */
  let folder: string;
  let there: string;
  let tests = 0;
  beforeAll(async () => {
    opened = await openSftp(server, { transport });
    files = fileServerOf(opened);
  });
  afterAll(() => opened?.backend.close?.());
  beforeEach(() => {
    folder = `${transport}-${tests++}`;
    there = join(server.data, folder);
    mkdirSync(there);
  });

  const list = async (path: string): Promise<ServerEntry[]> => {
    const found: ServerEntry[] = [];
    await files.list(path, (entries) => void found.push(...entries), calm());
    return found;
  };
  const open = async (path: string, how: Partial<Parameters<FileServer['open']>[1]> = {}) =>
    (await files.open(path, { read: true, write: false, ...how }, calm())).handle;

  test('what OpenSSH offers is found out', () => {
    expect(files.features).toMatchObject({
      renameReplace: true,
      renameExclusive: true,
      hardLinks: true,
      symlinks: true,
      fsync: true,
      statfs: true,
      copyRange: true,
      linkAttributes: true,
      nanoseconds: false,
      handlesOutliveNames: true,
      maximumRead: 261_120,
      maximumWrite: 261_120,
    });
  });

  test('attributes are those of the file, symlinks are not followed', async () => {
    writeFileSync(join(there, 'file'), 'content', { mode: 0o640 });
    symlinkSync('file', join(there, 'link'));
    const { uid, gid, mtimeMs } = lstatSync(join(there, 'file'));
    expect(await files.lstat(`${folder}/file`, calm())).toMatchObject({
      mode: 0o100640,
      size: 7,
      uid,
      gid,
      modifiedSeconds: Math.floor(mtimeMs / 1000),
    });
    expect(await files.lstat(`${folder}/link`, calm())).toMatchObject({ mode: 0o120777 });
    expect(await files.readlink(`${folder}/link`, calm())).toBe('file');
    expect(await files.lstat(`${folder}/missing`, calm())).toBeUndefined();
    expect(await files.lstat(`${folder}/file/below`, calm())).toBeUndefined();
    expect((await refusal(files.readlink(`${folder}/file`, calm()))).errno).toBe('EINVAL');
    expect((await refusal(files.readlink(`${folder}/missing`, calm()))).errno).toBe('ENOENT');
  });

  test('a listing has every name once, with attributes and the number of names', async () => {
    for (let i = 0; i < 1000; i++) writeFileSync(join(there, `file ${i}`), '');
    execFileSync('ln', [join(there, 'file 0'), join(there, 'another name')]);
    const found = await list(folder);
    expect(found.map(({ name }) => name).sort()).toEqual(
      ['another name', ...Array.from({ length: 1000 }, (_, i) => `file ${i}`)].sort(),
    );
    const linksOf = (name: string) => found.find((entry) => entry.name === name)?.links;
    expect([linksOf('another name'), linksOf('file 0'), linksOf('file 1')]).toEqual([2, 2, 1]);
    expect((await refusal(list(`${folder}/missing`))).errno).toBe('ENOENT');
    expect((await refusal(list(`${folder}/file 1`))).errno).toBe('ENOTDIR');
  });

  test('a listing waits for whoever takes it, and ends when that fails', async () => {
    for (let i = 0; i < 500; i++) writeFileSync(join(there, `${i}`), '');
    let busy = false;
    let count = 0;
    await files.list(
      folder,
      async (entries) => {
        expect(busy).toBe(false);
        busy = true;
        await new Promise((resolve) => setImmediate(resolve));
        count += entries.length;
        busy = false;
      },
      calm(),
    );
    expect(count).toBe(500);
    const full = new Error('no more');
    const refused = files.list(folder, () => Promise.reject(full), calm());
    await expect(refused).rejects.toBe(full);
  });

  test('names are bytes', async () => {
    const names = [utf8('ümläut 😀'), '\xff\xfe no UTF-8', ' spaces ', '-rf', 'new\nline', 'q"\'\\'];
    for (const name of names) {
      const handle = await open(`${folder}/${name}`, { write: true, create: true });
      await files.close(handle, calm());
    }
    expect((await list(folder)).map(({ name }) => name).sort()).toEqual([...names].sort());
    const listed = execFileSync('find', [there, '-type', 'f', '-print0'], { encoding: 'latin1' });
    expect(listed.split('\0').filter(Boolean).sort()).toEqual(names.map((name) => `${there}/${name}`).sort());
    expect((await refusal(files.lstat(`${folder}/a\0b`, calm()))).errno).toBe('EINVAL');
  });

  test('bytes go from a descriptor to any place of a file, and back', async () => {
    using here = new LocalFile();
    using back = new LocalFile();
    const content = randomBytes(3_000_000);
    writeSync(here.fd, content, 0, content.length, 100);
    const handle = await open(`${folder}/file`, { write: true, create: true, mode: 0o600 });
    const range = { offset: 5000, length: content.length, fd: here.fd, position: 100 };
    await files.write(handle, range, calm());
    const written = readFileSync(join(there, 'file'));
    expect(written.length).toBe(5000 + content.length);
    expect(written.subarray(5000).equals(content)).toBe(true);
    expect(lstatSync(join(there, 'file')).mode & 0o777).toBe(0o600);

    const read = { offset: 5000, length: content.length, fd: back.fd, position: 7 };
    expect(await files.read(handle, read, calm())).toBe(content.length);
    expect(readFileSync(back.path).subarray(7).equals(content)).toBe(true);
    // Past the end it is cut short.
    const far = { ...read, offset: 5000 + content.length - 10 };
    expect(await files.read(handle, far, calm())).toBe(10);
    expect(await files.read(handle, { ...read, offset: 2 ** 33 }, calm())).toBe(0);
    await files.fsync(handle, calm());
    expect(await files.fstat(handle, calm())).toMatchObject({ size: written.length });
    await files.close(handle, calm());
    expect((await refusal(files.read(handle, read, calm()))).errno).toBe('EBADF');
    await files.close(handle, calm());
  });

  test('many ranges at once', async () => {
    using here = new LocalFile();
    const content = randomBytes(4 * 2 ** 20);
    writeFileSync(join(there, 'file'), content);
    const handle = await open(`${folder}/file`);
    const piece = 4096;
    await Promise.all(
      Array.from({ length: content.length / piece }, (_, i) =>
        files.read(handle, { offset: i * piece, length: piece, fd: here.fd, position: i * piece }, calm()),
      ),
    );
    expect(readFileSync(here.path).equals(content)).toBe(true);
    await files.close(handle, calm());
  });

  test('opening: exclusive, truncating, missing, a directory, a file without its name', async () => {
    const path = `${folder}/file`;
    const created = await files.open(path, { read: true, write: true, exclusive: true }, calm());
    expect(created.attributes).toMatchObject({ size: 0 });
    const exclusive = refusal(files.open(path, { read: false, write: true, exclusive: true }, calm()));
    expect((await exclusive).errno).toBe('EEXIST');
    writeFileSync(join(there, 'file'), 'content');
    const again = await files.open(path, { read: false, write: true, truncate: true }, calm());
    expect(again.attributes).toMatchObject({ size: 0 });
    expect((await refusal(open(`${folder}/missing`))).errno).toBe('ENOENT');
    expect((await refusal(open(`${folder}/file/below`))).errno).toBe('ENOTDIR');
    expect((await refusal(open(folder))).errno).toBe('EISDIR');
    expect((await refusal(open(folder, { write: true }))).errno).toBe('EISDIR');
    expect((await refusal(open(`${folder}/${'x'.repeat(256)}`))).errno).toBe('ENAMETOOLONG');
    await files.unlink(path, calm());
    expect(await files.fstat(created.handle, calm())).toMatchObject({ size: 0 });
  });

  test('attributes change one by one, by path and by handle', async () => {
    const path = `${folder}/file`;
    writeFileSync(join(there, 'file'), 'content', { mode: 0o644 });
    const time = (seconds: number) => ({ seconds, nanoseconds: 0 });
    const handle = await open(path, { write: true });
    for (const target of [path, handle]) {
      expect(await files.setAttributes(target, { mode: 0o4755 }, calm())).toMatchObject({ mode: 0o104755 });
      const both = { accessed: time(1_000_000_000), modified: time(1_100_000_000) };
      expect(await files.setAttributes(target, both, calm())).toMatchObject({
        accessedSeconds: 1_000_000_000,
        modifiedSeconds: 1_100_000_000,
      });
      // One half of a pair leaves the other as it is.
      const one = { modified: time(1_200_000_000) };
      expect(await files.setAttributes(target, one, calm())).toMatchObject({
        accessedSeconds: 1_000_000_000,
        modifiedSeconds: 1_200_000_000,
      });
      expect(await files.setAttributes(target, { size: 3 }, calm())).toMatchObject({ size: 3 });
      if (server.guest !== undefined) {
        expect(await files.setAttributes(target, { gid: 54_321 }, calm())).toMatchObject({ gid: 54_321 });
        const owned = { uid: 54_321, mode: 0o4755 };
        expect(await files.setAttributes(target, owned, calm())).toMatchObject({
          uid: 54_321,
          gid: 54_321,
          mode: 0o104755,
        });
        await files.setAttributes(target, { uid: 0, gid: 0 }, calm());
      }
    }
    expect((await refusal(files.setAttributes(`${folder}/no`, { mode: 0o600 }, calm()))).errno).toBe(
      'ENOENT',
    );
  });

  test('attributes of a symlink are its own', async () => {
    writeFileSync(join(there, 'file'), 'content', { mode: 0o644 });
    symlinkSync('file', join(there, 'link'));
    const past = { seconds: 1_000_000_000, nanoseconds: 0 };
    const path = `${folder}/link`;
    await files.setAttributes(path, { accessed: past, modified: past }, calm());
    expect(lstatSync(join(there, 'link')).mtimeMs).toBe(1e12);
    expect(lstatSync(join(there, 'file')).mtimeMs).toBeGreaterThan(1e12);
    expect((await refusal(files.setAttributes(path, { mode: 0o600 }, calm()))).errno).toBe('ENOTSUP');
    expect((await refusal(files.setAttributes(path, { size: 1 }, calm()))).errno).toBe('EINVAL');
    expect(lstatSync(join(there, 'file')).mode & 0o777).toBe(0o644);
  });

  test('directories', async () => {
    const path = `${folder}/directory`;
    expect(await files.mkdir(path, 0o750, calm())).toMatchObject({ mode: 0o40750 });
    expect((await refusal(files.mkdir(path, 0o750, calm()))).errno).toBe('EEXIST');
    expect((await refusal(files.mkdir(`${folder}/no/such`, 0o750, calm()))).errno).toBe('ENOENT');
    writeFileSync(join(there, 'directory', 'file'), '');
    expect((await refusal(files.rmdir(path, calm()))).errno).toBe('ENOTEMPTY');
    expect((await refusal(files.unlink(path, calm()))).errno).toBe('EISDIR');
    expect((await refusal(files.rmdir(`${path}/file`, calm()))).errno).toBe('ENOTDIR');
    await files.unlink(`${path}/file`, calm());
    await files.rmdir(path, calm());
    expect((await refusal(files.rmdir(path, calm()))).errno).toBe('ENOENT');
    expect((await refusal(files.unlink(path, calm()))).errno).toBe('ENOENT');
  });

  test('symlinks and hard links', async () => {
    const link = await files.symlink(utf8('../zürück'), `${folder}/link`, calm());
    expect(link.mode).toBe(0o120777);
    expect(readlinkSync(join(there, 'link'))).toBe('../zürück');
    expect((await refusal(files.symlink('x', `${folder}/link`, calm()))).errno).toBe('EEXIST');
    writeFileSync(join(there, 'file'), 'content');
    expect(await files.link(`${folder}/file`, `${folder}/second`, calm())).toMatchObject({ size: 7 });
    expect(lstatSync(join(there, 'file')).nlink).toBe(2);
    expect((await refusal(files.link(`${folder}/file`, `${folder}/second`, calm()))).errno).toBe('EEXIST');
    expect((await refusal(files.link(`${folder}/no`, `${folder}/third`, calm()))).errno).toBe('ENOENT');
    expect((await refusal(files.link(folder, `${folder}/third`, calm()))).errno).toBe('EPERM');
  });

  test('renames, replacing and not', async () => {
    const at = (name: string): string => `${folder}/${name}`;
    const rename = (from: string, to: string, replace: boolean) =>
      files.rename(at(from), at(to), { replace }, calm());
    writeFileSync(join(there, 'a'), 'a');
    writeFileSync(join(there, 'b'), 'b');
    mkdirSync(join(there, 'empty'));
    mkdirSync(join(there, 'full'));
    writeFileSync(join(there, 'full', 'file'), '');
    expect((await refusal(rename('a', 'b', false))).errno).toBe('EEXIST');
    expect((await refusal(rename('a', 'empty', true))).errno).toBe('EISDIR');
    expect((await refusal(rename('empty', 'a', true))).errno).toBe('ENOTDIR');
    expect((await refusal(rename('empty', 'full', true))).errno).toBe('ENOTEMPTY');
    expect((await refusal(rename('full', 'full/below', true))).errno).toBe('EINVAL');
    expect((await refusal(rename('missing', 'c', true))).errno).toBe('ENOENT');
    await rename('a', 'b', true);
    expect(readFileSync(join(there, 'b'), 'utf8')).toBe('a');
    await rename('b', 'c', false);
    await rename('full', 'empty', true);
    expect([existsSync(join(there, 'c')), existsSync(join(there, 'empty', 'file'))]).toEqual([true, true]);
  });

  test('a copy stays on the server', async () => {
    const content = randomBytes(1_000_000);
    writeFileSync(join(there, 'from'), content);
    const from = await open(`${folder}/from`);
    const to = await open(`${folder}/to`, { write: true, create: true });
    expect(await files.copyRange(from, 10, to, 5, 2 ** 30, calm())).toBe(content.length - 10);
    expect(readFileSync(join(there, 'to')).subarray(5).equals(content.subarray(10))).toBe(true);
    expect(await files.copyRange(from, 2 ** 30, to, 5, 10, calm())).toBe(0);
    expect((await refusal(files.copyRange(from, 0, from, 5, 10, calm()))).errno).toBe('ENOTSUP');
  });

  test('figures of the disk', async () => {
    const { blockSize, blocks, blocksFree, nameLength } = await files.statfs(folder, calm());
    expect(blockSize).toBeGreaterThan(0);
    expect(blocksFree).toBeLessThanOrEqual(blocks);
    expect(nameLength).toBe(255);
  });

  test('an abort ends a transfer, and nothing is written any more', async () => {
    using here = new LocalFile();
    writeFileSync(join(there, 'file'), Buffer.alloc(50_000_000, 1));
    const handle = await open(`${folder}/file`);
    const controller = new AbortController();
    const range = { offset: 0, length: 50_000_000, fd: here.fd, position: 0 };
    const reading = refusal(files.read(handle, range, { signal: controller.signal }));
    const first = files.read(handle, { ...range, length: 10 }, calm());
    await first;
    controller.abort();
    expect((await reading).errno).toBe('EINTR');
    const { size } = lstatSync(here.path);
    await files.fstat(handle, calm());
    expect(lstatSync(here.path).size).toBe(size);
    const aborted = AbortSignal.abort();
    expect((await refusal(files.fstat(handle, { signal: aborted }))).errno).toBe('EINTR');
    await files.close(handle, calm());
  });

  test("permissions of single files are the server's", async () => {
    if (server.guest === undefined) return;
    const { user, password, uid } = server.guest;
    writeFileSync(join(there, 'secret'), 'x', { mode: 0o600 });
    writeFileSync(join(there, 'open'), 'x', { mode: 0o644 });
    chmodSync(there, 0o755);
    const guest = await openSftp(server, { user, password, identity: undefined, idmap: 'user' });
    try {
      const theirs = fileServerOf(guest);
      const how = { read: true, write: false };
      expect((await refusal(theirs.open(`${folder}/secret`, how, calm()))).errno).toBe('EACCES');
      const { handle } = await theirs.open(`${folder}/open`, how, calm());
      await theirs.close(handle, calm());
      const writing = theirs.open(`${folder}/open`, { read: false, write: true }, calm());
      expect((await refusal(writing)).errno).toBe('EACCES');
      expect((await refusal(theirs.mkdir(`${folder}/new`, 0o755, calm()))).errno).toBe('EACCES');
      expect((await refusal(theirs.setAttributes(`${folder}/open`, { mode: 0o600 }, calm()))).errno).toBe(
        'EPERM',
      );
      // The home of the guest is the folder of all tests, whose owner is another: nothing to map.
      expect(uid).not.toBe(0);
    } finally {
      await guest.backend.close?.();
    }
  });
});

test('a full disk is ENOSPC, and what was acknowledged is there', async () => {
  if (server.guest === undefined) return;
  const disk = join(server.folder, 'disk');
  mkdirSync(disk);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk]);
  try {
    // A server that is started now sees the disk: the other one has mounts of its own.
    const late = await startSshd();
    const opened = await openSftp(late, { path: disk });
    try {
      const files = fileServerOf(opened);
      using here = new LocalFile();
      writeSync(here.fd, randomBytes(2_000_000));
      const { handle } = await files.open('file', { read: true, write: true, create: true }, calm());
      const range = { offset: 0, length: 500_000, fd: here.fd, position: 0 };
      await files.write(handle, range, calm());
      const error = await refusal(
        files.write(handle, { ...range, offset: 500_000, length: 1_500_000 }, calm()),
      );
      expect([error.errno, error.hint]).toEqual(['ENOSPC', expect.stringContaining('server')]);
      const written = readFileSync(join(disk, 'file')).subarray(0, 500_000);
      expect(written.equals(readFileSync(here.path).subarray(0, 500_000))).toBe(true);
      expect((await files.statfs('', calm())).blocksAvailable).toBe(0);
      await files.close(handle, calm());
    } finally {
      await opened.backend.close?.();
      await late.stop();
    }
  } finally {
    execFileSync('umount', ['-l', disk]);
  }
});
