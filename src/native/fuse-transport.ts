/**
 * The kernel channel (native-helpers/fuse-transport): moves request and reply records between /dev/fuse and two arenas.
 * It knows the framing (`fuse_in_header.len`, `fuse_out_header`), and of the operations how a GETATTR and a WRITE are answered. Calls answer with a result or
 * the negated error number. 64-bit values cross as numbers below 2^53; a request's `unique` as two halves.
 */
import { loadNative } from './load.js';

export interface Mounted {
  /** Descriptor of /dev/fuse, or a negated error number. */
  readonly fd: number;
  /** What fusermount3 said on its error output; empty with mount(2). */
  readonly message: string;
}

export interface Unmounted {
  /** 0 or a negated error number (-EPERM for whatever the helper refused: its message says why). */
  readonly result: number;
  readonly message: string;
}

export interface FuseTransportModule {
  /**
   * mount(2), nosuid and nodev, with the options of mount.fuse(8) (`fd=`, `rootmode=`, `user_id=`, `group_id=` are added);
   * needs privilege. `type` is `fuse` or `fuse.<subtype>`.
   */
  mount(mountpoint: string, source: string, type: string, options: string): Mounted;
  /** fusermount3 with posix_spawn; the descriptor comes back over a socket. Blocks until it ends. */
  mountByHelper(helper: string, mountpoint: string, options: string): Mounted;
  /** umount2(2) on a pool thread, as it may wait for requests; `flags`: MNT_FORCE 1, MNT_DETACH 2. */
  unmount(mountpoint: string, flags: number): Promise<Unmounted>;
  /** `fusermount3 -u`, on a pool thread; lazy: `-z`. */
  unmountByHelper(helper: string, mountpoint: string, lazy: boolean): Promise<Unmounted>;
  /** Sends one descriptor to a unix socket that is named by a path ('@' = abstract), or receives one (SCM_RIGHTS). */
  sendDescriptor(path: string, fd: number): number;
  receiveDescriptor(path: string): number;
  /** sd_notify(3) to the socket in `path` (`$NOTIFY_SOCKET`). */
  serviceNotify(path: string, state: string): number;
  /** A channel on a mounted descriptor, bound to this thread's event loop; owns the descriptor from then on. */
  open(fd: number, options: ChannelOptions): FuseChannel;
}

export interface ChannelOptions {
  /** Requests drained in one batch at most (1024 at most). */
  slots: number;
  /** Bytes of a slot: max_write + 4096 at least, a multiple of 8. */
  slotBytes: number;
  /** Bytes of the reply arena, and of one READ from a file at most. */
  replyBytes: number;
  /** How long to look for more requests before sleeping; adapts downwards when nothing comes. 0 = never. */
  spinMicroseconds: number;
  /** Bound of the notification queue; a record that waits already is not queued twice, beyond the bound the oldest goes. */
  notifications: number;
}

/** Any call but `counters` and `close` throws (`EBADF`) once the channel is closed. */
export interface FuseChannel {
  /** `slots * slotBytes`: requests, one per slot, the first slots of a batch in order. */
  readonly requests: ArrayBuffer;
  /** Replies are written here and sent by offset and length. */
  readonly replies: ArrayBuffer;
  /** `Int32Array` with the length of the request in each slot of the current batch. */
  readonly lengths: ArrayBuffer;
  /**
   * Polls the descriptor in the event loop; calls back once per batch with the number of requests in it, which are in the
   * slots from 0 on and stay there until the callback returns. Queued replies are sent when it returns. It answers true when
   * it left promises behind, so that their continuations run before the next batch is looked for.
   * A negative count is the end: -ENODEV = unmounted, and the channel has stopped by then.
   */
  start(onBatch: (count: number) => boolean): void;
  stop(): void;
  /** Queues a reply for the end of the batch; sends at once outside of one. */
  reply(offset: number, length: number): void;
  /** Sends what is queued now, so that the reply arena may be used anew within a batch. */
  flush(): void;
  /** Sends `length` bytes of a buffer that is not in the arena, at once. */
  replyBuffer(buffer: Uint8Array, length: number): void;
  /**
   * Answers a READ from a file: header, then up to `length` bytes from `position` (fewer at its end of file). Bytes that are
   * not in the page cache are read on a thread, which then sends the reply itself (the descriptor may be closed meanwhile).
   * Failure is answered with its errno, a bad descriptor with EIO.
   */
  replyFromFile(uniqueLow: number, uniqueHigh: number, fd: number, position: number, length: number): void;
  /**
   * Lets the channel answer GETATTRs of a node by itself for `milliseconds`, without a call of `onBatch`, with the `fuse_attr_out` at `offset`
   * of the replies. It may forget that at any time.
   */
  keepAttributes(nodeLow: number, nodeHigh: number, offset: number, milliseconds: number): void;
  /** Ends that for one node, or for all of them with node 0. */
  dropAttributes(nodeLow: number, nodeHigh: number): void;
  /** pwrite(2) (or, with `position` -1, an append) of payload bytes of a slot, once: the bytes written or a negated errno. */
  writeFromSlot(slot: number, skip: number, length: number, fd: number, position: number): number;
  /**
   * Leaves the WRITE in a slot to the channel, where that is the better way (a large payload, and others wait): a thread writes the payload to
   * the file at that position and sends the reply itself (the descriptor may be closed meanwhile). False: nothing was done.
   */
  handOver(slot: number, fd: number, position: number): boolean;
  /** Brings the payload of the WRITE in a slot there: that of a large one comes when it is asked for. False when it is lost. */
  fetchPayload(slot: number): boolean;
  /** FUSE_DEV_IOC_BACKING_OPEN / CLOSE: a passthrough backing id (> 0), or a negated errno. */
  backingOpen(fd: number): number;
  backingClose(id: number): number;
  /** Queues a whole notification record (header with unique 0 included) for the notification thread. Never blocks. */
  notify(record: Uint8Array): void;
  counters(): ChannelCounters;
  /** Stops and closes the descriptor. Waits for no thread: one that is inside the kernel ends by itself. */
  close(): void;
}

/** What went through a channel; they stay readable after `close`. */
export interface ChannelCounters {
  requests: number;
  replies: number;
  batches: number;
  /** WRITEs that a thread carried out and answered. */
  handedOver: number;
  notified: number;
  /** Notifications that the queue had no room for, or that the kernel refused. */
  dropped: number;
  /** Replies to requests that the kernel no longer waited for. */
  gone: number;
  /** Replies that the kernel refused: a fault of ours. */
  rejected: number;
}

export const fuseTransport = (): FuseTransportModule => loadNative<FuseTransportModule>('fuse-transport');
