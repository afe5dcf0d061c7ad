import { errnoName } from '../errors/errno.js';
import type { Log } from '../log/log.js';
import { type FuseChannel, fuseTransport } from '../native/fuse-transport.js';
import type { FileSystem, KernelNotifier } from '../vfs/operations.js';
import type { Binding } from './binding.js';
import { type KernelMountOptions, mountKernel, unmountKernel } from './kernel-mount.js';
import { MAX_WRITE } from './negotiation.js';
import { ChannelNotifier } from './notifier.js';
import { Session } from './session.js';

export interface RawMountOptions extends KernelMountOptions {
  /** How long to look for the next request before sleeping; 0 never. */
  readonly spinMicroseconds: number;
  /** Whether the kernel may read and write host files by itself, where it can; true unless said otherwise. */
  readonly passthrough?: boolean;
  /** Whether the kernel enforces POSIX ACLs; false unless said otherwise: no file has any then. */
  readonly acl?: boolean;
  readonly log: Log;
}

/** A mount that answers nothing yet: programs that enter it wait until it is served. */
export interface RawMount {
  /** May be used from the start. */
  readonly notifier: KernelNotifier;
  /** Begins to answer, on this thread's event loop. */
  serve(fileSystem: FileSystem): Binding;
  /** Gives the mount up instead of serving it. */
  abandon(): Promise<void>;
}

const SLOTS = 16;
const SLOT_BYTES = MAX_WRITE + 4096;
const REPLY_BYTES = 4 * 1024 * 1024;
const NOTIFICATIONS = 4096;
/** How long programs may keep a detached mount in use before the connection is cut, milliseconds. */
const DETACHED_GRACE = 5000;

/** Mounts over the project's own transport of /dev/fuse (Linux). Throws MirageError with what to do. */
export function mountRaw(options: RawMountOptions): RawMount {
  const transport = fuseTransport();
  const { mountpoint } = options;
  const channel = transport.open(mountKernel(transport, options), {
    slots: SLOTS,
    slotBytes: SLOT_BYTES,
    replyBytes: REPLY_BYTES,
    spinMicroseconds: options.spinMicroseconds,
    notifications: NOTIFICATIONS,
  });
  const notifier = new ChannelNotifier(channel);
  return {
    notifier,
    serve: (fileSystem) => new RawBinding(channel, notifier, fileSystem, options),
    async abandon() {
      notifier.close();
      channel.close();
      await unmountKernel(transport, mountpoint);
    },
  };
}

class RawBinding implements Binding {
  readonly name = 'raw';
  readonly ended: Promise<void>;
  readonly #channel: FuseChannel;
  readonly #notifier: ChannelNotifier;
  readonly #session: Session;
  readonly #mountpoint: string;
  readonly #log: Log;
  #resolveEnded = (): void => undefined;
  #closed = false;

  constructor(
    channel: FuseChannel,
    notifier: ChannelNotifier,
    fileSystem: FileSystem,
    { mountpoint, passthrough = true, acl = false, log }: RawMountOptions,
  ) {
    this.#channel = channel;
    this.#notifier = notifier;
    this.#mountpoint = mountpoint;
    this.#log = log;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.#session = new Session(fileSystem, channel, SLOT_BYTES, notifier, log, { passthrough, acl });
    channel.start((count) => {
      if (count > 0) return this.#session.batch(count);
      this.#end(-count);
      return true;
    });
  }

  async unmount(): Promise<void> {
    if (this.#closed) return;
    await unmountKernel(fuseTransport(), this.#mountpoint);
    const timer = setTimeout(() => {
      this.#log.warn('programs still use the mount: their files end now', { mountpoint: this.#mountpoint });
      this.#end(0);
    }, DETACHED_GRACE);
    await this.ended;
    clearTimeout(timer);
  }

  counters(): Record<string, number> {
    return {
      ...this.#channel.counters(),
      pending: this.#session.pending,
      passthrough: this.#session.backing.size,
    };
  }

  /** `errno` is what the kernel ended the connection with; 0: it is we who end it. */
  #end(errno: number): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#log.debug('the mount has ended', { mountpoint: this.#mountpoint, errno: errnoName(errno) });
    this.#notifier.close();
    this.#session.end(errno === 0);
    this.#channel.close();
    this.#resolveEnded();
  }
}
