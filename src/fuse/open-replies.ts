import type { Handle, OpenReply } from '../vfs/operations.js';
import { OpenFlag } from './protocol.js';
import { put64 } from './records.js';

/**
 * The flags of an open. With a backing file the kernel allows DIRECT_IO beside PASSTHROUGH, and refuses KEEP_CACHE.
 * Writes that bypass the page cache may run beside each other: every one is carried out as a whole.
 */
export function openFlags(reply: OpenReply, backing: number): number {
  return (
    (reply.directIo ? OpenFlag.DIRECT_IO : 0) |
    (reply.directIo && backing === 0 ? OpenFlag.PARALLEL_DIRECT_WRITES : 0) |
    (reply.keepCache && backing === 0 ? OpenFlag.KEEP_CACHE : 0) |
    (reply.cacheDirectory ? OpenFlag.CACHE_DIR : 0) |
    (reply.noFlush ? OpenFlag.NOFLUSH : 0) |
    (backing === 0 ? 0 : OpenFlag.PASSTHROUGH)
  );
}

/** fuse_open_out: 4 words */
export function putOpenOut(
  words: Uint32Array,
  at: number,
  handle: Handle,
  flags: number,
  backing: number,
): void {
  put64(words, at, handle);
  words[at + 2] = flags;
  words[at + 3] = backing;
}

/** A reply object, as new. */
export function clearOpen(reply: OpenReply): OpenReply {
  reply.errno = 0;
  reply.handle = 0;
  reply.keepCache = false;
  reply.directIo = false;
  reply.noFlush = false;
  reply.cacheDirectory = false;
  reply.passthroughFd = -1;
  return reply;
}
