/** The records that fuse-native exchanges: plain objects, times in milliseconds. */
import type { Attributes } from '../../vfs/attributes.js';
import type { FileSystemUsage } from '../../vfs/operations.js';

export interface StatRecord {
  mode: number;
  uid: number;
  gid: number;
  size: number;
  nlink: number;
  ino: number;
  rdev: number;
  blksize: number;
  blocks: number;
  atime: number;
  mtime: number;
  ctime: number;
}

export interface StatfsRecord {
  bsize: number;
  frsize: number;
  blocks: number;
  bfree: number;
  bavail: number;
  files: number;
  ffree: number;
  favail: number;
  namemax: number;
}

const LIMIT = 2 ** 32;

/** Its C side divides an unsigned number, so a time before 1970 would show as one in the far future. */
const milliseconds = (seconds: number, nanoseconds: number): number =>
  Math.max(0, seconds * 1000 + Math.floor(nanoseconds / 1e6));

/** The inode number is cut to 32 bits by fuse-native; 0 would mean "unknown". */
export const inodeNumber = (ino: number): number => ino % LIMIT || 1;

export function toStat(attributes: Attributes): StatRecord {
  const a = attributes;
  return {
    mode: a.mode,
    uid: a.uid,
    gid: a.gid,
    size: a.size,
    nlink: a.nlink,
    ino: inodeNumber(a.ino),
    rdev: a.rdev,
    blksize: a.blockSize,
    blocks: a.blocks,
    atime: milliseconds(a.accessedSeconds, a.accessedNanoseconds),
    mtime: milliseconds(a.modifiedSeconds, a.modifiedNanoseconds),
    ctime: milliseconds(a.changedSeconds, a.changedNanoseconds),
  };
}

/** What a directory entry shows without attributes: type and inode number. */
export const toNameOnly = (ino: number, mode: number): StatRecord => ({
  mode,
  ino: inodeNumber(ino),
  uid: 0,
  gid: 0,
  size: 0,
  nlink: 1,
  rdev: 0,
  blksize: 0,
  blocks: 0,
  atime: 0,
  mtime: 0,
  ctime: 0,
});

/** Counts are 32 bits wide there: a large store is counted in larger blocks. */
export function toStatfs(usage: FileSystemUsage): StatfsRecord {
  let scale = 1;
  while (usage.blocks / scale >= LIMIT && usage.blockSize * scale < LIMIT / 2) scale *= 2;
  const count = (value: number): number => Math.min(LIMIT - 1, Math.floor(value));
  return {
    bsize: usage.blockSize * scale,
    frsize: usage.blockSize * scale,
    blocks: count(usage.blocks / scale),
    bfree: count(usage.blocksFree / scale),
    bavail: count(usage.blocksAvailable / scale),
    files: count(usage.files),
    ffree: count(usage.filesFree),
    favail: count(usage.filesFree),
    namemax: usage.nameLength,
  };
}

export function fromMilliseconds(value: number): { seconds: number; nanoseconds: number } {
  const seconds = Math.floor(value / 1000);
  return { seconds, nanoseconds: (value - seconds * 1000) * 1e6 };
}
