import { type Clock, systemClock } from '../../clock/clock.js';
import { systemTimers, type Timers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Call, Waiting } from './call.js';
import type { Channel } from './channel.js';
import { statusError } from './errors.js';
import { PacketType, type ReplyPacket, RequestPacket, Status } from './packet.js';
import { type PacketReceiver, PacketStream } from './packet-stream.js';

const VERSION = 3;
/** What any server must take (draft section 3), less than its packet for the fields around the data. */
const LEAST_DATA_BYTES = 32 * 1024;
/** More than that brings nothing, and takes longer to give up. */
const MOST_DATA_BYTES = 256 * 1024;
const DEFAULT_HANDLES = 100;

export interface SessionOptions {
  /** Milliseconds without a byte from the server, while requests wait, before the connection counts as dead. */
  readonly timeout: number;
  readonly timers?: Timers;
  readonly clock?: Clock;
}

/** What a server said of itself. */
export interface ServerTraits {
  /** Name of an extension → its data, mostly a version number. */
  readonly extensions: ReadonlyMap<string, string>;
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly handles: number;
}

export interface RequestOptions {
  /** For messages: `open "a/b"`. */
  readonly what: string;
  /** It changes something: without an answer nobody knows whether it has happened. */
  readonly change?: boolean;
  /** The server may think about it for long (it writes a disk out, it copies a file). */
  readonly slow?: boolean;
  /** Sees an answer that came after the caller gave up. */
  readonly onLate?: (reply: ReplyPacket) => void;
}

/** The server may take so many times the timeout for what takes it long. */
const SLOW_FACTOR = 4;

interface Pending extends Waiting {
  readonly options: RequestOptions;
  /** Where the bytes of a READ go. */
  readonly into: Buffer | undefined;
  /** Undefined once its caller has given up. */
  settle: ((reply: ReplyPacket | number) => void) | undefined;
  reject(error: MirageError): void;
}

/**
 * SFTP over one channel: numbered requests, as many at a time as the caller likes, answered by the server one after the other. It is over when the
 * channel is, when the server stays silent for too long, or speaks nonsense; then every waiting request fails.
 */
export class Session implements PacketReceiver {
  readonly #channel: Channel;
  readonly #options: SessionOptions;
  readonly #timers: Timers;
  readonly #clock: Clock;
  readonly #pending = new Map<number, Pending>();
  readonly #greeting: Promise<ReadonlyMap<string, string>>;
  #onGreeting: (extensions: ReadonlyMap<string, string>) => void = () => undefined;
  #onSilence: (why: MirageError) => void = () => undefined;
  #nextId = 0;
  #greeted = false;
  #slow = 0;
  #lastHeard: number;
  #watch: { cancel(): void } | undefined;
  #lost: MirageError | undefined;
  #onEnd: (() => void) | undefined;
  traits: ServerTraits = {
    extensions: new Map(),
    readBytes: LEAST_DATA_BYTES,
    writeBytes: LEAST_DATA_BYTES,
    handles: DEFAULT_HANDLES,
  };

  private constructor(channel: Channel, options: SessionOptions) {
    this.#channel = channel;
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
    this.#clock = options.clock ?? systemClock;
    this.#lastHeard = this.#clock.monotonic();
    this.#greeting = new Promise((resolve, reject) => {
      this.#onGreeting = resolve;
      this.#onSilence = reject;
    });
    this.#greeting.catch(() => undefined);
    const packets = new PacketStream(this);
    channel.listen((chunk) => {
      this.#lastHeard = this.#clock.monotonic();
      try {
        packets.push(chunk);
      } catch (error) {
        this.end(
          MirageError.is(error) ? error : new MirageError('SFTP failed', { errno: 'EIO', cause: error }),
        );
      }
    });
    void channel.ended.then((why) => this.end(why));
  }

  /** Greets the server and asks for its limits. */
  static async start(channel: Channel, options: SessionOptions, call: Call): Promise<Session> {
    const session = new Session(channel, options);
    const stopped = { giveUp: (reason: MirageError) => session.end(reason) };
    call.add(stopped);
    try {
      const hello = Buffer.from([0, 0, 0, 5, PacketType.init, 0, 0, 0, VERSION]);
      channel.send(hello);
      session.#arm();
      const extensions = await session.#greeting;
      session.traits = { ...session.traits, extensions };
      if (extensions.has('limits@openssh.com')) session.traits = await session.#limits(call);
      return session;
    } catch (error) {
      session.end(new MirageError('the session did not begin', { errno: 'EHOSTDOWN', cause: error }));
      throw error;
    } finally {
      call.delete(stopped);
    }
  }

  /** Why it is over; undefined while it is alive. */
  get lost(): MirageError | undefined {
    return this.#lost;
  }

  /** Requests without an answer. */
  get waiting(): number {
    return this.#pending.size;
  }

  onEnd(listener: () => void): void {
    this.#onEnd = listener;
  }

  offers(extension: string): boolean {
    return this.traits.extensions.has(extension);
  }

  /** Sends a request that is answered with a packet of one type; `read` gets it. Every STATUS is an error. */
  request<T>(
    packet: RequestPacket,
    call: Call,
    options: RequestOptions,
    wanted: PacketType,
    read: (reply: ReplyPacket) => T,
  ): Promise<T> {
    return this.#send(packet, undefined, call, options, (answer) => {
      if (typeof answer === 'number') throw unexpected(options.what);
      if (answer.type === PacketType.status) throw statusError(answer, options.what);
      if (answer.type !== wanted) throw unexpected(options.what);
      return read(answer);
    });
  }

  /** READDIR: as `request`, with nothing at the end of the directory. */
  list<T>(
    packet: RequestPacket,
    call: Call,
    what: string,
    read: (reply: ReplyPacket) => readonly T[],
  ): Promise<readonly T[]> {
    return this.#send(packet, undefined, call, { what }, (answer) => {
      if (typeof answer === 'number') throw unexpected(what);
      if (answer.type === PacketType.name) return read(answer);
      if (answer.type !== PacketType.status) throw unexpected(what);
      const code = answer.u32();
      if (code === Status.endOfFile) return [];
      throw statusError(answer, what, code);
    });
  }

  /** For requests that are answered with a STATUS. `body`: bytes that end the packet; they must not change until this settles. */
  change(packet: RequestPacket, call: Call, options: RequestOptions, body?: Buffer): Promise<void> {
    return this.#send(packet, body, call, { change: true, ...options }, (answer) => {
      if (typeof answer === 'number' || answer.type !== PacketType.status) throw unexpected(options.what);
      checkStatus(answer, options.what);
    });
  }

  /**
   * READ: resolves with the number of bytes that are in `into`; 0 at the end of the file. After a failure, an abort too, bytes may still arrive
   * there: it must not be used for anything else.
   */
  read(packet: RequestPacket, into: Buffer, call: Call, what: string): Promise<number> {
    return this.#send(
      packet,
      undefined,
      call,
      { what },
      (answer) => {
        if (typeof answer === 'number') return answer;
        if (answer.type !== PacketType.status) throw unexpected(what);
        const code = answer.u32();
        if (code === Status.endOfFile) return 0;
        throw statusError(answer, what, code);
      },
      into,
    );
  }

  onReply(id: number, reply: ReplyPacket): void {
    if (reply.type === PacketType.version) {
      const extensions = new Map<string, string>();
      while (reply.left > 0) extensions.set(reply.text(), reply.text());
      this.#greeted = true;
      this.#onGreeting(extensions);
      return;
    }
    const pending = this.#taken(id);
    if (pending === undefined) return;
    if (pending.settle !== undefined) pending.settle(reply);
    else if (reply.type !== PacketType.status) pending.options.onLate?.(reply);
  }

  spaceFor(id: number): Buffer | undefined {
    const pending = this.#pending.get(id);
    return pending?.settle === undefined ? undefined : pending.into;
  }

  onData(id: number, length: number): void {
    this.#taken(id)?.settle?.(length);
  }

  /** Ends the session: what waits fails because of `why`. */
  end(why: MirageError): void {
    if (this.#lost !== undefined) return;
    this.#lost = why;
    this.#watch?.cancel();
    this.#channel.destroy();
    this.#onSilence(why);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { options, reject } of pending) {
      reject(
        new MirageError(`${options.what}: ${why.message}`, {
          errno: why.errno,
          cause: why,
          retryable: true,
          outcomeUnknown: options.change ?? false,
          ...(why.hint !== undefined && { hint: why.hint }),
        }),
      );
    }
    this.#onEnd?.();
  }

  #send<T>(
    packet: RequestPacket,
    body: Buffer | undefined,
    call: Call,
    options: RequestOptions,
    read: (answer: ReplyPacket | number) => T,
    into?: Buffer,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#lost !== undefined) {
        // Nothing was sent: it may surely be tried again.
        reject(
          new MirageError(`${options.what}: ${this.#lost.message}`, {
            errno: this.#lost.errno,
            retryable: true,
            cause: this.#lost,
          }),
        );
        return;
      }
      const id = this.#nextId;
      this.#nextId = (this.#nextId + 1) >>> 0;
      const pending: Pending = {
        options,
        into,
        settle: (answer) => {
          call.delete(pending);
          try {
            resolve(read(answer));
          } catch (error) {
            reject(error);
          }
        },
        reject: (error) => {
          call.delete(pending);
          reject(error);
        },
        giveUp: (reason) => {
          pending.settle = undefined;
          pending.reject = () => undefined;
          reject(options.change ? withUnknownOutcome(reason) : reason);
        },
      };
      call.add(pending);
      if (this.#pending.size === 0) this.#lastHeard = this.#clock.monotonic();
      this.#pending.set(id, pending);
      if (options.slow) this.#slow++;
      this.#channel.send(packet.encode(id, body?.length), body);
      this.#arm();
    });
  }

  #taken(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    if (pending === undefined) return undefined;
    this.#pending.delete(id);
    if (pending.options.slow) this.#slow--;
    return pending;
  }

  /** One timer for all requests: a server answers in order, so silence is what tells that it is gone. */
  #arm(): void {
    if (this.#watch !== undefined || this.#lost !== undefined) return;
    const patience = this.#options.timeout * (this.#slow > 0 ? SLOW_FACTOR : 1);
    const silent = this.#clock.monotonic() - this.#lastHeard;
    this.#watch = this.#timers.after(Math.max(1, patience - silent), () => {
      this.#watch = undefined;
      if (this.#pending.size === 0 && this.#greeted) return;
      const limit = this.#options.timeout * (this.#slow > 0 ? SLOW_FACTOR : 1);
      if (this.#clock.monotonic() - this.#lastHeard < limit) {
        this.#arm();
        return;
      }
      this.end(
        new MirageError(`the server was silent for ${Math.round(limit / 1000)} s`, {
          errno: 'ETIMEDOUT',
          retryable: true,
          hint: 'check the network to the server, or raise `timeout` of the mount',
        }),
      );
    });
  }

  #limits(call: Call): Promise<ServerTraits> {
    const packet = new RequestPacket(PacketType.extended).text('limits@openssh.com');
    return this.request(packet, call, { what: 'limits' }, PacketType.extendedReply, (reply) => {
      const packetBytes = reply.u64() || LEAST_DATA_BYTES;
      const within = (limit: number): number =>
        Math.min(MOST_DATA_BYTES, limit || packetBytes - 1024 || LEAST_DATA_BYTES);
      const readBytes = within(reply.u64());
      const writeBytes = within(reply.u64());
      const handles = reply.u64() || Number.MAX_SAFE_INTEGER;
      return { extensions: this.traits.extensions, readBytes, writeBytes, handles };
    });
  }
}

function checkStatus(reply: ReplyPacket, what: string): void {
  const code = reply.u32();
  if (code !== Status.ok) throw statusError(reply, what, code);
}

const unexpected = (what: string): MirageError =>
  new MirageError(`${what}: an answer of another kind`, { errno: 'EIO' });

const withUnknownOutcome = ({ message, errno, cause, hint }: MirageError): MirageError =>
  new MirageError(message, { errno, cause, outcomeUnknown: true, ...(hint !== undefined && { hint }) });
