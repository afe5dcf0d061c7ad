import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { getPriority, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { errno } from '../../src/errors/errno.js';
import { packageRoot } from '../../src/native/load.js';
import { ENTRY_FIELDS, Entry, localFiles, Stat } from '../../src/native/local-files.js';

const native = localFiles();
const { O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_RDWR } = constants;
const O_PATH = 0o10000000;
const O_TMPFILE = 0o20000000 | O_DIRECTORY;
const asRoot = process.getuid!() === 0 ? test : test.skip;

describe('calls on a folder', () => {
  let path: string;
  let root: number;
  const opened: number[] = [];
  const keep = (fd: number): number => {
    expect(fd).toBeGreaterThanOrEqual(0);
    opened.push(fd);
    return fd;
  };

  beforeEach(() => {
    path = mkdtempSync(join(tmpdir(), 'mirage-host-'));
    root = keep(native.openPath(path, O_PATH | O_DIRECTORY));
  });
  afterEach(() => {
    for (const fd of opened.splice(0)) native.close(fd);
    rmSync(path, { recursive: true });
  });
  const create = (name: string): number => keep(native.openAt(root, name, O_CREAT | O_EXCL | O_RDWR, 0o600));

  test.each(['..', '.', 'a/b', '/etc', 'a\0b'])('%j is no name', (name) => {
    expect(native.lookupAt(root, name)).toBe(-errno.EINVAL);
    expect(native.statAt(root, name)).toBe(-errno.EINVAL);
    expect(native.openAt(root, name, O_RDONLY, 0)).toBe(-errno.EINVAL);
    expect(native.mkdirAt(root, name, 0o755)).toBe(-errno.EINVAL);
    expect(native.unlinkAt(root, name, 0)).toBe(-errno.EINVAL);
    expect(native.renameAt(root, 'x', root, name, 0)).toBe(-errno.EINVAL);
    expect(native.symlinkAt('t', root, name)).toBe(-errno.EINVAL);
  });

  test('names are bounded', () => {
    expect(native.statAt(root, 'n'.repeat(256))).toBe(-errno.ENAMETOOLONG);
    expect(native.statAt(root, 'n'.repeat(100_000))).toBe(-errno.ENAMETOOLONG);
    expect(native.statAt(root, '')).toBe(-errno.ENOENT);
  });

  test('names are bytes', () => {
    create('\xff\x01');
    expect(native.statAt(root, '\xff\x01')).toBe(0);
    const listing = execFileSync('ls', ['-b', path], { encoding: 'latin1' });
    expect(listing).toContain('\\377\\001');
  });

  test('no last symlink is followed', () => {
    writeFileSync(join(path, 'target'), 'x');
    symlinkSync('target', join(path, 'link'));
    expect(native.openAt(root, 'link', O_RDONLY, 0)).toBe(-errno.ELOOP);
    const link = keep(native.lookupAt(root, 'link'));
    expect(native.stat[Stat.mode]! & 0o170000).toBe(0o120000);
    expect(native.readlink(link)).toBe('target');
    expect(native.reopen(link, O_RDONLY)).toBe(-errno.ELOOP);
    expect(native.chownFd(link, -1, -1)).toBe(0);
  });

  test('the stat record says what stat(2) says', () => {
    const fd = create('file');
    native.pwrite(fd, Buffer.from('hello'), 0);
    native.utimesFd(fd, -5, 7, 1_700_000_000, 999_999_999);
    native.statAt(root, 'file');
    const expected = statSync(join(path, 'file'), { bigint: true });
    const { stat } = native;
    expect(stat[Stat.ino]).toBe(Number(expected.ino));
    expect(stat[Stat.size]).toBe(5);
    expect(stat[Stat.mode]).toBe(Number(expected.mode));
    expect(stat[Stat.nlink]).toBe(1);
    expect(stat[Stat.accessedSeconds]).toBe(-5);
    expect(stat[Stat.accessedNanoseconds]).toBe(7);
    expect(stat[Stat.modifiedSeconds]).toBe(1_700_000_000);
    expect(stat[Stat.modifiedNanoseconds]).toBe(999_999_999);
    expect(BigInt(stat[Stat.changedSeconds]!) * 10n ** 9n + BigInt(stat[Stat.changedNanoseconds]!)).toBe(
      expected.ctimeNs,
    );
    expect(stat[Stat.blocks]).toBe(Number(expected.blocks));
  });

  test('attributes change through an O_PATH descriptor', () => {
    create('file');
    const node = keep(native.lookupAt(root, 'file'));
    expect(native.chmodFd(node, 0o640)).toBe(0);
    expect(native.truncateFd(node, 10_000)).toBe(0);
    expect(native.utimesFd(node, 1, 2, 3, 4)).toBe(0);
    native.statFd(node);
    expect(native.stat[Stat.mode]! & 0o7777).toBe(0o640);
    expect(native.stat[Stat.size]).toBe(10_000);
    expect(native.stat[Stat.modifiedNanoseconds]).toBe(4);
  });

  test('extended attributes, through an O_PATH descriptor too', () => {
    create('file');
    const node = keep(native.lookupAt(root, 'file'));
    const value = new Uint8Array(100);
    expect(native.getxattr(node, 'user.a', value)).toBe(-errno.ENODATA);
    expect(native.setxattr(node, 'user.a', Buffer.from('value'), 1)).toBe(0);
    expect(native.setxattr(node, 'user.a', Buffer.from('value'), 1)).toBe(-errno.EEXIST);
    expect(native.getxattr(node, 'user.a', value)).toBe(5);
    expect(native.getxattr(node, 'user.a', new Uint8Array())).toBe(5);
    expect(native.getxattr(node, 'user.a', new Uint8Array(2))).toBe(-errno.ERANGE);
    expect(Buffer.from(value.subarray(0, native.listxattr(node, value))).toString()).toContain('user.a\0');
    expect(native.removexattr(node, 'user.a')).toBe(0);
  });

  test('a file without a name gets one', () => {
    const fd = keep(native.openAt(root, '', O_TMPFILE | O_RDWR, 0o600));
    native.statFd(fd);
    expect(native.stat[Stat.nlink]).toBe(0);
    expect(native.linkAt(fd, root, 'named')).toBe(0);
    native.statAt(root, 'named');
    expect(native.stat[Stat.nlink]).toBe(1);
  });

  test('rename flags', () => {
    create('a');
    create('b');
    expect(native.renameAt(root, 'a', root, 'b', 1)).toBe(-errno.EEXIST);
    expect(native.renameAt(root, 'a', root, 'b', 2)).toBe(0);
    expect(native.renameAt(root, 'a', root, 'b', 0)).toBe(0);
    expect(native.statAt(root, 'a')).toBe(-errno.ENOENT);
  });

  test('holes are found, made and copied', () => {
    const fd = create('sparse');
    native.truncateFd(fd, 1 << 20);
    native.pwrite(fd, Buffer.alloc(4096, 1), 512 * 1024);
    expect(native.lseek(fd, 0, 3)).toBe(512 * 1024);
    expect(native.lseek(fd, 512 * 1024, 4)).toBe(516 * 1024);
    expect(native.fallocate(fd, 3, 512 * 1024, 4096)).toBe(0);
    expect(native.lseek(fd, 0, 3)).toBe(-errno.ENXIO);
    native.pwrite(fd, Buffer.from('copy me'), 100);
    const other = create('other');
    expect(native.copyFileRange(fd, 100, other, 5_000_000_000, 7)).toBe(7);
    const copied = Buffer.alloc(7);
    expect(native.pread(other, copied, 5_000_000_000)).toBe(7);
    expect(copied.toString()).toBe('copy me');
    expect(native.fsync(other, true)).toBe(0);
    expect(native.flush(other)).toBe(0);
  });

  test('a directory is read from any of its positions', () => {
    const wanted = Array.from({ length: 800 }, (_, i) => `name${i}`);
    for (const name of wanted) closeSync(openSync(join(path, name), 'w'));
    const fd = keep(native.openAt(root, '', O_RDONLY | O_DIRECTORY, 0));
    const buffer = Buffer.alloc(4096);
    const walk = (): { name: string; cookie: number }[] => {
      const entries: { name: string; cookie: number }[] = [];
      for (let used = native.readDirectory(fd, buffer); used > 0; used = native.readDirectory(fd, buffer)) {
        for (let at = 0; at < used; at += buffer.readUInt16LE(at + 16)) {
          const cookie = buffer.readUInt32LE(at + 8) + buffer.readUInt32LE(at + 12) * 2 ** 32;
          entries.push({ name: buffer.toString('latin1', at + 19, buffer.indexOf(0, at + 19)), cookie });
        }
      }
      return entries;
    };
    const all = walk();
    expect(all.map(({ name }) => name).sort()).toEqual(['.', '..', ...wanted].sort());
    expect(all.every(({ cookie }) => Number.isSafeInteger(cookie) && cookie > 0)).toBe(true);
    for (const at of [0, 1, 400, 798]) {
      expect(native.seekDirectory(fd, all[at]!.cookie)).toBe(0);
      expect(walk()).toEqual(all.slice(at + 1));
    }
  });

  test('an entry of a directory comes with its attributes, as long as it is there', () => {
    const fields = new Float64Array(ENTRY_FIELDS);
    const buffer = Buffer.alloc(4096);
    writeFileSync(join(path, 'kept'), 'four');
    writeFileSync(join(path, 'removed'), '');
    const fd = keep(native.openAt(root, '', O_RDONLY | O_DIRECTORY, 0));
    const used = native.readDirectory(fd, buffer);
    rmSync(join(path, 'removed'));
    const seen: Record<string, number> = {};
    for (let at = 0; at < used; at += fields[Entry.length]!) {
      const name = native.readEntry(fd, buffer, at, true, fields) as string;
      seen[name] = fields[Entry.status]!;
      if (name !== 'kept') continue;
      expect([native.stat[Stat.size], native.stat[Stat.ino]]).toEqual([4, fields[Entry.ino]]);
      expect(fields[Entry.type]).toBe(0o100000);
      expect([native.readEntry(fd, buffer, at, false, fields), fields[Entry.status]]).toEqual(['kept', 1]);
    }
    expect(seen).toEqual({ '.': 1, '..': 1, kept: 0, removed: -errno.ENOENT });
    for (const at of [-8, 3, 4096, 4088])
      expect(native.readEntry(fd, buffer, at, true, fields)).toBe(-errno.EINVAL);
    expect(native.readEntry(fd, buffer, 0, true, new Float64Array(1))).toBe(-errno.EINVAL);
  });

  test('a lock of another descriptor is respected', () => {
    const first = create('lock');
    const second = keep(native.openAt(root, 'lock', O_RDWR, 0));
    expect(native.lockFile(first, true)).toBe(0);
    expect(native.lockFile(second, true)).toBe(-errno.EAGAIN);
  });

  test('inotify events arrive on the event loop, and stop', async () => {
    const watch = keep(native.watchCreate());
    expect(native.watchAdd(watch, root, 0x100)).toBeGreaterThan(0);
    const buffer = Buffer.alloc(4096);
    const reader: { stop(): void } = await new Promise((resolve) => {
      const readable = native.onReadable(watch, () => {
        expect(native.read(watch, buffer)).toBeGreaterThan(0);
        resolve(readable);
      });
      writeFileSync(join(path, 'new'), '');
    });
    reader.stop();
    reader.stop();
    expect(buffer.toString('latin1', 16, 19)).toBe('new');
  });

  test('a descriptor is closed behind the caller', async () => {
    const fd = native.openAt(root, 'closing', O_CREAT | O_RDWR, 0o600);
    expect(native.closeLater(fd)).toBe(0);
    while (native.statFd(fd) !== -errno.EBADF) await new Promise((resolve) => setImmediate(resolve));
  });

  test('a thread may ask for a short slice without privilege, and keeps its nice value', () => {
    const slice = () =>
      Number(/^se\.slice\s*:\s*(\d+)/m.exec(readFileSync('/proc/thread-self/sched', 'utf8'))?.[1]);
    const [before, nice] = [slice(), getPriority()];
    expect(native.threadSlice(200_000)).toBe(0);
    const [major, minor] = release().split('.').map(Number) as [number, number];
    if (major * 100 + minor >= 612) expect(slice()).toBe(200_000);
    expect(getPriority()).toBe(nice);
    // 0: what the kernel gives to everyone.
    expect(native.threadSlice(0)).toBe(0);
    expect(slice()).toBe(before);
  });

  test('a paused reader is not called back until it goes on', async () => {
    const watch = keep(native.watchCreate());
    expect(native.watchAdd(watch, root, 0x100)).toBeGreaterThan(0);
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    let calls = 0;
    const reader = native.onReadable(watch, () => {
      calls++;
      reader.pause();
    });
    writeFileSync(join(path, 'new'), '');
    while (calls === 0) await turn();
    // The event was not taken, so that the descriptor stays readable.
    for (let i = 0; i < 10; i++) await turn();
    expect(calls).toBe(1);
    reader.resume();
    while (calls === 1) await turn();
    reader.stop();
    reader.resume();
    for (let i = 0; i < 10; i++) await turn();
    expect(calls).toBe(2);
  });

  asRoot('ids and umask are those of one thread', async () => {
    const code = `
      const { parentPort, workerData } = require('node:worker_threads');
      const native = require(workerData.module).create(new Float64Array(17));
      const root = native.openPath(workerData.path, ${O_PATH});
      native.threadUmask(0);
      native.setFileIds(1234, 1235);
      native.openAt(root, 'theirs', ${O_CREAT | O_RDWR}, 0o666);
      native.setFileIds(0, 0);
      parentPort.postMessage('done');`;
    const module = join(packageRoot(), 'native-helpers/local-files/build/Release/local_files.node');
    native.chmodFd(root, 0o777);
    const before = process.umask(0o027);
    try {
      const worker = new Worker(code, { eval: true, workerData: { module, path } });
      await new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject));
      create('ours');
      writeFileSync(join(path, 'masked'), '', { mode: 0o666 });
    } finally {
      process.umask(before);
    }
    const theirs = statSync(join(path, 'theirs'));
    expect([theirs.uid, theirs.gid, theirs.mode & 0o777]).toEqual([1234, 1235, 0o666]);
    expect(statSync(join(path, 'ours')).uid).toBe(0);
    expect(statSync(join(path, 'masked')).mode & 0o777).toBe(0o640);
  });
});

asRoot('a memory tree is private and of its size', () => {
  const root = native.createMemoryTree(1 << 20);
  expect(root).toBeGreaterThanOrEqual(0);
  try {
    const fd = native.openAt(root, 'file', O_CREAT | O_RDWR, 0o600);
    const figures = new Float64Array(8);
    expect(native.statfs(root, figures)).toBe(0);
    expect(figures[0]! * figures[1]!).toBe(1 << 20);
    expect(native.pwrite(fd, Buffer.alloc(2 << 20), 0)).toBe(1 << 20);
    expect(native.pwrite(fd, Buffer.alloc(1), 1 << 20)).toBe(-errno.ENOSPC);
    native.close(fd);
  } finally {
    native.close(root);
  }
});
