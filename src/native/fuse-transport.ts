/**
 * The kernel channel (native-helpers/fuse-transport): moves request and reply records between /dev/fuse and two arenas.
 * It knows the framing (`fuse_in_header.len`, `fuse_out_header`) and nothing of the operations. Calls answer with a result or
 * the negated error number. 64-bit values cross as numbers below 2^53; a request's `unique` as two halves.
 */
import { loadNative } from './load.js';

export interface Mounted {
  /** Descriptor of /dev/fuse, or a negated error number. */
  readonly fd: number;
  /** What fusermount3 said on its error output; empty with mount(2). */
  readonly message: string;
}

export interface FuseTransportModule {
  /** mount(2) with the options of fuse(8) (`fd=`, `rootmode=`, `user_id=`, `group_id=` are added); needs privilege. */
  mount(mountpoint: string, source: string, options: string): Mounted;
  /** fusermount3 with posix_spawn; the descriptor comes back over a socket. Blocks until it ends. */
  mountByHelper(helper: string, mountpoint: string, options: string): Mounted;
  /** umount2(2); `flags`: MNT_FORCE 1, MNT_DETACH 2. */
  unmount(mountpoint: string, flags: number): number;
  /** Sends or receives one descriptor over a unix socket that is named by a path (SCM_RIGHTS). */
  sendDescriptor(path: string, fd: number): number;
  receiveDescriptor(path: string): number;
  /** sd_notify(3) to the socket in `path` (`$NOTIFY_SOCKET`, '@' = abstract). */
  serviceNotify(path: string, state: string): number;
  /** A channel on a mounted descriptor, bound to this thread's event loop. */
  open(fd: number, options: ChannelOptions): FuseChannel;
}

export interface ChannelOptions {
  /** Requests drained in one batch at most. */
  slots: number;
  /** Bytes of a slot: max_write + 4096 at least. */
  slotBytes: number;
  /** Bytes of the reply arena. */
  replyBytes: number;
  /** How long to look for more requests before sleeping; adapts downwards when nothing comes. 0 = never. */
  spinMicroseconds: number;
  /** Bound of the notification queue; beyond it notifications coalesce or the oldest go. */
  notifications: number;
}

export interface FuseChannel {
  /** `slots * slotBytes`: requests, one per slot. */
  readonly requests: ArrayBuffer;
  /** Replies are written here and sent by offset and length. */
  readonly replies: ArrayBuffer;
  /** `Int32Array` of [slot, length] pairs of the current batch. */
  readonly batch: ArrayBuffer;
  /**
   * Polls the descriptor in the event loop; calls back once per batch with the number of requests in it.
   * A slot is reused as soon as the callback returns. Queued replies are sent when it returns.
   * A negative count is the end: -ENODEV = unmounted, and the channel has stopped by then.
   */
  start(onBatch: (count: number) => void): void;
  stop(): void;
  /** Queues a reply for the end of the batch; sends at once outside of one. -ENOENT (request gone) is not an error. */
  reply(offset: number, length: number): number;
  /** Sends `length` bytes of a buffer that is not in the arena. */
  replyBuffer(buffer: Uint8Array, length: number): number;
  /**
   * Answers a READ from a file: header, then up to `length` bytes from `position` (fewer at its end of file). Bytes that are
   * not in the page cache are read on a pool thread, which then sends the reply itself; -1 from `fd` problems becomes EIO.
   */
  replyFromFile(
    uniqueLow: number,
    uniqueHigh: number,
    fd: number,
    position: number,
    length: number,
  ): number;
  /** pwrite(2) (or, with `position` -1, an append) of payload bytes from a slot. */
  writeFromSlot(slot: number, skip: number, length: number, fd: number, position: number): number;
  /** FUSE_DEV_IOC_BACKING_OPEN / CLOSE: a passthrough backing id. */
  backingOpen(fd: number): number;
  backingClose(id: number): number;
  /** Queues a whole notification record (header with unique 0 included) for the notification thread. Never blocks. */
  notify(record: Uint8Array): void;
  /** Requests read, replies sent, batches, notifications sent and dropped, replies the kernel no longer wanted. */
  counters(): {
    requests: number;
    replies: number;
    batches: number;
    notified: number;
    dropped: number;
    gone: number;
  };
  /** Stops, joins the notification thread, closes the descriptor. */
  close(): void;
}

export const fuseTransport = (): FuseTransportModule => loadNative<FuseTransportModule>('fuse-transport');
