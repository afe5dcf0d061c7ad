/**
 * The FUSE protocol, version 7.45, as Linux' `include/uapi/linux/fuse.h` has it: numbers, and where the fields of the records
 * are, on hosts with little-endian numbers. Field offsets count 32-bit words, sizes are bytes.
 */
export const MAJOR = 7;
export const MINOR = 45;
/** Linux 4.18: fuse_init_out has its present size, MAX_PAGES follows with 7.28. */
export const OLDEST_MINOR = 26;

/** `enum fuse_opcode`: the requests that we answer. */
export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  CREATE: 35,
  INTERRUPT: 36,
  DESTROY: 38,
  IOCTL: 39,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

/** `enum fuse_notify_code`: travels in the error field of a reply header with unique 0. */
export const Notification = { INVAL_INODE: 2, INVAL_ENTRY: 3 } as const;
/** fuse_notify_inval_entry_out.flags: let the name expire, do not unhash it (7.38). */
export const EXPIRE_ONLY = 1;

/** fuse_in_header */
export const IN_HEADER_SIZE = 40;
export const InHeader = { len: 0, opcode: 1, unique: 2, nodeid: 4, uid: 6, gid: 7, pid: 8 } as const;
/** First word and first byte of the arguments. */
export const ARGUMENT = 10;

/** fuse_out_header: len, error (negated), unique */
export const OUT_HEADER_SIZE = 16;
export const OUT_HEADER_WORDS = 4;

/** fuse_attr */
export const ATTR_SIZE = 88;
export const ENTRY_OUT_SIZE = 40 + ATTR_SIZE;
export const ATTR_OUT_SIZE = 16 + ATTR_SIZE;
export const OPEN_OUT_SIZE = 16;
export const STATX_OUT_SIZE = 288;
/** fuse_dirent without its name, which is padded to 8 bytes. */
export const DIRENT_SIZE = 24;

/** fuse_init_in (up to flags2), fuse_init_out */
export const INIT_OUT_SIZE = 64;
export const InitIn = { major: 10, minor: 11, maxReadahead: 12, flags: 13, flags2: 14 } as const;
export const InitOut = {
  major: 0,
  minor: 1,
  maxReadahead: 2,
  flags: 3,
  /** u16 max_background, u16 congestion_threshold */
  background: 4,
  maxWrite: 5,
  timeGranularity: 6,
  /** u16 max_pages, u16 map_alignment */
  maxPages: 7,
  flags2: 8,
  maxStackDepth: 9,
} as const;

/** INIT flags, bits 0 to 31. */
export const Init = {
  ASYNC_READ: 1 << 0,
  ATOMIC_O_TRUNC: 1 << 3,
  BIG_WRITES: 1 << 5,
  DONT_MASK: 1 << 6,
  AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13,
  ASYNC_DIO: 1 << 15,
  PARALLEL_DIROPS: 1 << 18,
  POSIX_ACL: 1 << 20,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  HANDLE_KILLPRIV_V2: 1 << 28,
  SETXATTR_EXT: 1 << 29,
  INIT_EXT: 1 << 30,
} as const;

/** INIT flags, bits 32 to 63. */
export const Init2 = {
  HAS_EXPIRE_ONLY: 1 << 3,
  DIRECT_IO_ALLOW_MMAP: 1 << 4,
  PASSTHROUGH: 1 << 5,
  HAS_RESEND: 1 << 7,
} as const;

/** fuse_open_out.open_flags */
export const OpenFlag = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  CACHE_DIR: 1 << 3,
  NOFLUSH: 1 << 5,
  PARALLEL_DIRECT_WRITES: 1 << 6,
  PASSTHROUGH: 1 << 7,
} as const;

/** fuse_setattr_in.valid */
export const SetAttr = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const;

/** fuse_getattr_in.getattr_flags, fuse_statx_in.getattr_flags */
export const GETATTR_FH = 1;
/** fuse_open_in.open_flags, fuse_create_in.open_flags */
export const OPEN_KILL_SUIDGID = 1;
/** fuse_write_in.write_flags */
export const WRITE_KILL_SUIDGID = 4;
/** fuse_fsync_in.fsync_flags */
export const FSYNC_FDATASYNC = 1;
/** fuse_setxattr_in.setxattr_flags: clear S_ISGID with system.posix_acl_access */
export const SETXATTR_ACL_KILL_SGID = 1;
/** STATX_BASIC_STATS of statx(2) */
export const STATX_BASIC = 0x7ff;

/** Bytes of the fixed arguments that a request must have at least; a name or payload may follow. */
export const argumentSize: Readonly<Record<number, number>> = {
  [Opcode.LOOKUP]: 1,
  [Opcode.FORGET]: 8,
  [Opcode.GETATTR]: 16,
  [Opcode.SETATTR]: 88,
  [Opcode.SYMLINK]: 2,
  [Opcode.MKNOD]: 17,
  [Opcode.MKDIR]: 9,
  [Opcode.UNLINK]: 1,
  [Opcode.RMDIR]: 1,
  [Opcode.RENAME]: 10,
  [Opcode.LINK]: 9,
  [Opcode.OPEN]: 8,
  [Opcode.READ]: 40,
  [Opcode.WRITE]: 40,
  [Opcode.RELEASE]: 24,
  [Opcode.FSYNC]: 16,
  [Opcode.SETXATTR]: 9,
  [Opcode.GETXATTR]: 9,
  [Opcode.LISTXATTR]: 8,
  [Opcode.REMOVEXATTR]: 1,
  [Opcode.FLUSH]: 24,
  [Opcode.INIT]: 16,
  [Opcode.OPENDIR]: 8,
  [Opcode.READDIR]: 40,
  [Opcode.RELEASEDIR]: 24,
  [Opcode.FSYNCDIR]: 16,
  [Opcode.CREATE]: 17,
  [Opcode.INTERRUPT]: 8,
  [Opcode.BATCH_FORGET]: 8,
  [Opcode.FALLOCATE]: 32,
  [Opcode.READDIRPLUS]: 40,
  [Opcode.RENAME2]: 18,
  [Opcode.LSEEK]: 24,
  [Opcode.COPY_FILE_RANGE]: 56,
  [Opcode.TMPFILE]: 16,
  [Opcode.STATX]: 24,
  [Opcode.COPY_FILE_RANGE_64]: 56,
};

/** The name of an opcode, for people. */
export function opcodeName(opcode: number): string {
  for (const [name, value] of Object.entries(Opcode)) if (value === opcode) return name;
  return `opcode ${opcode}`;
}
