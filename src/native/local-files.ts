/**
 * The thin file calls that Node lacks (native-helpers/local-files). Each is one system call or two, runs at once on the
 * calling thread, and answers with a number: a result, or the negated error number. Names are byte strings (one UTF-16 unit
 * per byte), relative to a descriptor; none follows a symlink in the last component. A name is one component: '/', '.', '..'
 * and a NUL byte answer EINVAL, so no call leads out of its directory.
 */
import { loadNative } from './load.js';

/** Fields of the shared stat record, as indexes into `LocalFiles.stat`. */
export enum Stat {
  ino = 0,
  size = 1,
  blocks = 2,
  mode = 3,
  nlink = 4,
  uid = 5,
  gid = 6,
  /** `new_encode_dev` form. */
  rdev = 7,
  blockSize = 8,
  accessedSeconds = 9,
  accessedNanoseconds = 10,
  modifiedSeconds = 11,
  modifiedNanoseconds = 12,
  changedSeconds = 13,
  changedNanoseconds = 14,
  /** `major * 2^32 + minor` of the device that holds the file. */
  device = 15,
  /** A number made of the time of birth, 0 where the file system keeps none: tells a reused inode number from the old one. */
  birth = 16,
}
export const STAT_FIELDS = 17;

/** Fields of one directory entry, as `LocalFiles.readEntry` fills them. */
export enum Entry {
  ino = 0,
  cookie = 1,
  /** Type bits of `st_mode`. */
  type = 2,
  /** Bytes of its record: the next one begins behind it. */
  length = 3,
  /** 0: the stat record is that of the entry; 1: it was not asked for, or the entry is `.` or `..`; else a negated error number. */
  status = 4,
}
export const ENTRY_FIELDS = 5;

export interface Readable {
  /** No call back until `resume`. */
  pause(): void;
  resume(): void;
  /** The end; may be called again. */
  stop(): void;
}

export interface LocalFiles {
  /** Filled by every call below that says "fills stat"; one per thread. */
  readonly stat: Float64Array;

  /** openat(2) of one component with O_CLOEXEC | O_NOFOLLOW added; with O_DIRECTORY (part of O_TMPFILE) '' is the directory itself. */
  openAt(directory: number, name: string, flags: number, mode: number): number;
  /** open(2) of a path, which may follow symlinks: for the root of a tree, never for what lies below it. */
  openPath(path: string, flags: number): number;
  /** O_PATH | O_NOFOLLOW descriptor of one component; fills stat. */
  lookupAt(directory: number, name: string): number;
  /** Opens what an O_PATH descriptor refers to, by /proc/self/fd; never a symlink. */
  reopen(fd: number, flags: number): number;
  close(fd: number): number;
  /** The same on a thread of the pool, without waiting; nobody learns of an error. */
  closeLater(fd: number): number;
  /** The errors that close(2) would report, without closing: closes a duplicate. */
  flush(fd: number): number;
  /** fills stat */
  statFd(fd: number): number;
  /** fills stat, does not follow */
  statAt(directory: number, name: string): number;
  mkdirAt(directory: number, name: string, mode: number): number;
  mknodAt(directory: number, name: string, mode: number, rdev: number): number;
  symlinkAt(target: string, directory: number, name: string): number;
  /** Gives the file behind `fd` (O_PATH or O_TMPFILE too) another name. */
  linkAt(fd: number, directory: number, name: string): number;
  unlinkAt(directory: number, name: string, flags: number): number;
  /** renameat2(2) */
  renameAt(directory: number, name: string, newDirectory: number, newName: string, flags: number): number;
  /** The target as a byte string, or a negative errno. */
  readlink(fd: number): string | number;
  /** On O_PATH descriptors too. */
  chmodFd(fd: number, mode: number): number;
  /** -1 leaves an id as it is. Does not follow. */
  chownFd(fd: number, uid: number, gid: number): number;
  truncateFd(fd: number, size: number): number;
  /** Nanoseconds: UTIME_NOW (1073741823) and UTIME_OMIT (1073741822) mean what they mean to utimensat(2). */
  utimesFd(
    fd: number,
    accessedSeconds: number,
    accessedNanoseconds: number,
    modifiedSeconds: number,
    modifiedNanoseconds: number,
  ): number;
  /** Value size or negative errno; copies into `value` as far as it fits (length 0: asks the size). */
  getxattr(fd: number, name: string, value: Uint8Array): number;
  setxattr(fd: number, name: string, value: Uint8Array, flags: number): number;
  listxattr(fd: number, value: Uint8Array): number;
  removexattr(fd: number, name: string): number;
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  lseek(fd: number, offset: number, whence: number): number;
  copyFileRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): number;
  pread(fd: number, buffer: Uint8Array, position: number): number;
  pwrite(fd: number, buffer: Uint8Array, position: number): number;
  fsync(fd: number, dataOnly: boolean): number;
  /**
   * Reads directory entries from where the descriptor stands (getdents64) into `buffer` as the kernel packs them:
   * u64 ino, u64 cookie, u16 record length, u8 type, name, NUL. Returns the bytes used, 0 at the end.
   * Inode numbers are those of `Stat.ino`; cookies are below 2^53, made from the kernel's 63-bit positions.
   */
  readDirectory(fd: number, buffer: Uint8Array): number;
  /**
   * The name of the entry at a byte of a buffer that `readDirectory` filled, and its fields into `entry`; -EINVAL where there is none. Fills stat when
   * asked to.
   */
  readEntry(fd: number, buffer: Uint8Array, at: number, stat: boolean, entry: Float64Array): string | number;
  /** Positions a directory descriptor at a cookie. */
  seekDirectory(fd: number, cookie: number): number;
  /** Fills [blockSize, blocks, blocksFree, blocksAvailable, files, filesFree, nameLength, type (statfs(2) magic)]. */
  statfs(fd: number, result: Float64Array): number;
  /** socketpair(2) of stream sockets into `ends`: ours, which does not block, and that for a child process. */
  socketPair(ends: Int32Array): number;
  /** OFD lock (F_OFD_SETLK): 0 taken, -EAGAIN held by another process. */
  lockFile(fd: number, exclusive: boolean): number;
  /**
   * A private tmpfs that is attached nowhere (fsopen, fsmount): its root descriptor. `size` in bytes; 0 = the kernel's default,
   * half of the memory. EPERM without CAP_SYS_ADMIN.
   */
  createMemoryTree(size: number): number;
  /** Raises the limit of open descriptors to the hard limit (beyond it where privileged); returns the limit. */
  raiseDescriptorLimit(wanted: number): number;
  /** Linux inotify: a descriptor, non-blocking. */
  watchCreate(): number;
  /** Watches what an O_PATH descriptor refers to; returns a watch number. */
  watchAdd(watch: number, fd: number, mask: number): number;
  watchRemove(watch: number, number: number): number;
  /** read(2) */
  read(fd: number, buffer: Uint8Array): number;
  /** Calls back on the event loop of this thread whenever the descriptor is readable. */
  onReadable(fd: number, callback: () => void): Readable;
  /** umask(2) of this thread alone (unshare(CLONE_FS)); of the process where the kernel refuses that. Returns the old mask. */
  threadUmask(mask: number): number;
  /**
   * The slice of this thread, nanoseconds (Linux 6.12; 100,000 to 100,000,000, 0 for the kernel's own): the shorter, the sooner it runs when it wakes, before threads with longer
   * ones; its share stays. Needs no privilege; older kernels answer 0 and change nothing.
   */
  threadSlice(nanoseconds: number): number;
  /** setfsuid(2), setfsgid(2): as whom this thread creates files and is checked. EPERM without privilege. */
  setFileIds(uid: number, gid: number): number;
  /** setgroups(2) of this thread alone. */
  setGroups(groups: Uint32Array): number;
}

let loaded: LocalFiles | undefined;

/** The calls of this thread. */
export function localFiles(): LocalFiles {
  loaded ??= loadNative<{ create(stat: Float64Array): LocalFiles }>('local-files').create(
    new Float64Array(STAT_FIELDS),
  );
  return loaded;
}
