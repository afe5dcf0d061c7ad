import { INIT_OUT_SIZE, Init, Init2, InitIn, InitOut, MAJOR, MINOR, OLDEST_MINOR } from './protocol.js';
import type { RequestArena } from './request-arena.js';

/** What the kernel and we agreed on in INIT. */
export interface Negotiated {
  readonly minor: number;
  readonly flags: number;
  readonly flags2: number;
  /** Bytes of one READ or WRITE at most. */
  readonly maxTransfer: number;
}

const PAGE = 4096;
const MAX_PAGES = 256;
/** Kernels without MAX_PAGES transfer 32 pages at once. */
const OLD_MAX_PAGES = 32;
/** Bytes of one READ or WRITE with MAX_PAGES. */
export const MAX_TRANSFER = MAX_PAGES * PAGE;
/** Bytes of one WRITE: with its header they fit into a pipe of 1 MiB, the largest that takes no privilege. */
export const MAX_WRITE = MAX_TRANSFER / 2;

/** One limit for the whole connection: a store that hangs must not hold the reads of the others back. */
const MAX_BACKGROUND = 4096;
const CONGESTION_THRESHOLD = 3072;

/**
 * What we ask for, where it is offered.
 * - DO_READDIRPLUS without the AUTO flag: that one stops it after the first buffer of `ls -l`.
 * - DONT_MASK: the kernel hands the umask over, as a default ACL of the host takes its place.
 * - AUTO_INVAL_DATA rather than EXPLICIT_INVAL_DATA: pages follow the modification time, so that a change made outside of the mount shows.
 * - no POSIX_LOCKS, FLOCK_LOCKS: the kernel keeps locks by itself. No EXPORT_SUPPORT: `.` and `..` are not looked up.
 */
const WANTED =
  Init.ASYNC_READ |
  Init.ATOMIC_O_TRUNC |
  Init.BIG_WRITES |
  Init.DONT_MASK |
  Init.AUTO_INVAL_DATA |
  Init.DO_READDIRPLUS |
  Init.ASYNC_DIO |
  Init.PARALLEL_DIROPS |
  Init.MAX_PAGES |
  Init.CACHE_SYMLINKS |
  Init.HANDLE_KILLPRIV_V2 |
  Init.SETXATTR_EXT |
  Init.INIT_EXT;
const WANTED2 = Init2.HAS_EXPIRE_ONLY | Init2.DIRECT_IO_ALLOW_MMAP | Init2.PASSTHROUGH | Init2.HAS_RESEND;

/**
 * What an INIT request leads to: undefined when its kernel is too old or of another kind. `acl`: the kernel is to enforce POSIX ACLs, for
 * which it asks for those of every file that is entered by more than its owner.
 */
export function negotiate(request: RequestArena, acl: boolean): Negotiated | undefined {
  const minor = Math.min(MINOR, request.u32(InitIn.minor));
  if (request.u32(InitIn.major) !== MAJOR || minor < OLDEST_MINOR) return undefined;
  const offered = request.u32(InitIn.flags);
  const extended = (offered & Init.INIT_EXT) !== 0 && request.argumentBytes >= 20;
  const flags = ((WANTED | (acl ? Init.POSIX_ACL : 0)) & offered) >>> 0;
  const flags2 = extended ? (WANTED2 & request.u32(InitIn.flags2)) >>> 0 : 0;
  return { minor, flags, flags2, maxTransfer: (flags & Init.MAX_PAGES ? MAX_PAGES : OLD_MAX_PAGES) * PAGE };
}

/** fuse_init_out, at a word of the reply. `maxReadahead` is what the kernel offered. */
export function putInitOut(words: Uint32Array, at: number, agreed: Negotiated, maxReadahead: number): void {
  words.fill(0, at, at + INIT_OUT_SIZE / 4);
  const halves = new Uint16Array(words.buffer, words.byteOffset + at * 4, INIT_OUT_SIZE / 2);
  words[at + InitOut.major] = MAJOR;
  words[at + InitOut.minor] = agreed.minor;
  words[at + InitOut.maxReadahead] = maxReadahead;
  words[at + InitOut.flags] = agreed.flags;
  halves[InitOut.background * 2] = MAX_BACKGROUND;
  halves[InitOut.background * 2 + 1] = CONGESTION_THRESHOLD;
  words[at + InitOut.maxWrite] = Math.min(agreed.maxTransfer, MAX_WRITE);
  words[at + InitOut.timeGranularity] = 1;
  halves[InitOut.maxPages * 2] = agreed.maxTransfer / PAGE;
  words[at + InitOut.flags2] = agreed.flags2;
  // The backing file is on no stacked file system itself.
  if (agreed.flags2 & Init2.PASSTHROUGH) words[at + InitOut.maxStackDepth] = 1;
}
