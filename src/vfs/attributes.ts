/** File type bits of `st_mode` (POSIX, `sys/stat.h`). */
export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;

/**
 * What `stat` shows. A reused, flat record: the session encodes it without allocating.
 * `size` is bytes, `blocks` are 512 bytes each; times are seconds since 1970 plus nanoseconds.
 */
export class Attributes {
  /** Below 2^53. */
  ino = 0;
  size = 0;
  blocks = 0;
  mode = 0;
  nlink = 1;
  uid = 0;
  gid = 0;
  /** The kernel's 32-bit `new_encode_dev` form. */
  rdev = 0;
  blockSize = 4096;
  accessedSeconds = 0;
  accessedNanoseconds = 0;
  modifiedSeconds = 0;
  modifiedNanoseconds = 0;
  changedSeconds = 0;
  changedNanoseconds = 0;
}

export const isDirectory = (mode: number): boolean => (mode & S_IFMT) === S_IFDIR;
export const isRegular = (mode: number): boolean => (mode & S_IFMT) === S_IFREG;
export const isSymlink = (mode: number): boolean => (mode & S_IFMT) === S_IFLNK;
