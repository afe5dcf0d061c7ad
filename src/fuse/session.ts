import { errno } from '../errors/errno.js';
import { errnoOf, MirageError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';
import type { Answer, FileSystem, NodeId } from '../vfs/operations.js';
import { attributeOperations } from './attribute-operations.js';
import { BackingTable } from './backing-table.js';
import { contentOperations } from './content-operations.js';
import { directoryOperations } from './directory-operations.js';
import { hotOperations } from './hot-operations.js';
import { Interrupts } from './interrupts.js';
import { KeptAttributes } from './kept-attributes.js';
import { type Negotiated, negotiate, putInitOut } from './negotiation.js';
import type { ChannelNotifier } from './notifier.js';
import type { Operation, OperationContext, Operations, SessionChannel } from './operation.js';
import { otherOperations } from './other-operations.js';
import { argumentSize, INIT_OUT_SIZE, InHeader, Init2, InitIn, Opcode, opcodeName } from './protocol.js';
import { ReplyWriter } from './reply-writer.js';
import { Request } from './request.js';
import { RequestArena } from './request-arena.js';
import { ownsTask } from './tasks.js';

export interface SessionOptions {
  /** The kernel may read and write host files by itself, where it can. */
  readonly passthrough: boolean;
  /** The kernel enforces POSIX ACLs. */
  readonly acl: boolean;
}

const HIGH = 0x1_0000_0000;

/**
 * Decodes requests, asks the file system and answers. An operation that is answered at once costs no allocation but its name; one
 * that returns a promise is detached with everything that belongs to it, and answered when that settles. Only this thread
 * answers, and each request is claimed once, so that an answer, an interrupt and the end of the mount cannot race.
 */
export class Session implements OperationContext {
  readonly fileSystem: FileSystem;
  readonly arena: RequestArena;
  readonly writer: ReplyWriter;
  readonly backing: BackingTable;
  readonly kept: KeptAttributes;
  readonly channel: SessionChannel;
  readonly slotBytes: number;
  /** Undefined until INIT. */
  negotiated: Negotiated | undefined;
  readonly #log: Log;
  readonly #options: SessionOptions;
  readonly #notifier: ChannelNotifier;
  readonly #lengths: Int32Array;
  readonly #operations: (Operation | undefined)[] = [];
  readonly #pending = new Map<number, Request>();
  readonly #interrupts = new Interrupts((request) => this.#interrupt(request));
  #request = new Request();
  #promises = false;
  #warnedOfItself = false;

  constructor(
    fileSystem: FileSystem,
    channel: SessionChannel,
    slotBytes: number,
    notifier: ChannelNotifier,
    log: Log,
    options: SessionOptions,
  ) {
    this.fileSystem = fileSystem;
    this.channel = channel;
    this.slotBytes = slotBytes;
    this.#notifier = notifier;
    this.#log = log;
    this.#options = options;
    this.arena = new RequestArena(channel.requests, slotBytes);
    this.writer = new ReplyWriter(channel);
    this.backing = new BackingTable(channel, log);
    this.kept = new KeptAttributes(channel);
    this.#lengths = new Int32Array(channel.lengths);
    this.#register(hotOperations(this));
    this.#register(contentOperations(this));
    this.#register(directoryOperations(this));
    this.#register(attributeOperations(this));
    this.#register(otherOperations(this));
    this.#register({
      [Opcode.INIT]: (request) => this.#init(request),
      [Opcode.FORGET]: () =>
        this.fileSystem.forget(this.arena.u64(InHeader.nodeid), this.arena.argument64(0)),
      [Opcode.BATCH_FORGET]: () => this.#batchForget(),
      [Opcode.INTERRUPT]: () => this.#signalled(),
      [Opcode.NOTIFY_REPLY]: () => undefined,
      [Opcode.IOCTL]: (request) => this.writer.error(request, errno.ENOTTY),
      [Opcode.DESTROY]: (request) => this.writer.empty(request),
    });
  }

  /** Requests that wait for a promise. */
  get pending(): number {
    return this.#pending.size;
  }

  /** Answers the requests in the first `count` slots; true when it left promises behind. */
  readonly batch = (count: number): boolean => {
    this.#promises = false;
    this.writer.beginBatch();
    for (let slot = 0; slot < count; slot++) this.#dispatch(slot, this.#lengths[slot]!);
    this.writer.endBatch();
    return this.#promises;
  };

  /**
   * Nothing is answered from here on, and whoever works on an answer is told. While the connection still stands, what waits gets
   * EIO: the notification thread may hang in the kernel behind a READ.
   */
  end(connected: boolean): void {
    for (const request of this.#pending.values()) {
      if (!request.claim()) continue;
      if (connected) this.writer.error(request, errno.EIO);
      request.abort();
    }
    this.#pending.clear();
    this.#interrupts.close();
  }

  later<T>(
    request: Request,
    promise: Promise<T>,
    answer: (value: T) => void,
    undo?: (value: T) => Answer<void>,
  ): void {
    this.#promises = true;
    if (request === this.#request) this.#request = new Request();
    this.#pending.set(request.key, request);
    const ended = this.kept.during(request.opcode);
    promise.then(
      (value) => {
        ended?.();
        if (request.claim()) this.#settle(request, () => answer(value));
        else if (undo) void this.#takeBack(request, value, undo);
      },
      (error: unknown) => {
        ended?.();
        if (request.claim()) this.#settle(request, () => this.fail(request, error));
      },
    );
    // A thread of ours that waits in the kernel may be the one that is to bring the answer.
    if (ownsTask(request.pid) && request.claim()) {
      this.#settle(request, () => this.writer.error(request, errno.EDEADLK));
      request.abort();
      this.#warnOfItself(request);
    }
  }

  answered<T>(
    request: Request,
    answer: Answer<T>,
    encode: (value: T) => void,
    undo?: (value: T) => Answer<void>,
  ): void {
    if (answer instanceof Promise) this.later(request, answer, encode, undo);
    else encode(answer);
  }

  /** Answers with the error number of whatever was thrown. */
  fail(request: Request, error: unknown): void {
    if (!MirageError.is(error) && !(error instanceof Error && error.name === 'AbortError')) {
      const cause = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#log.error('an operation failed unexpectedly', { operation: opcodeName(request.opcode), cause });
    }
    this.writer.error(request, errnoOf(error));
  }

  #register(operations: Operations): void {
    for (const [opcode, operation] of Object.entries(operations))
      this.#operations[Number(opcode)] = operation;
  }

  #dispatch(slot: number, length: number): void {
    const { arena } = this;
    const request = this.#request;
    if (!arena.select(slot, length)) {
      this.#log.error('the kernel sent a record that is no request', { length });
      return;
    }
    const { words, at } = arena;
    const opcode = words[at + InHeader.opcode]!;
    request.opcode = opcode;
    request.uniqueLow = words[at + InHeader.unique]!;
    request.uniqueHigh = words[at + InHeader.unique + 1]!;
    request.node = words[at + InHeader.nodeid]! + words[at + InHeader.nodeid + 1]! * HIGH;
    request.uid = words[at + InHeader.uid]!;
    request.gid = words[at + InHeader.gid]!;
    request.pid = words[at + InHeader.pid]!;
    request.requestedMode = undefined;
    request.interruptible = false;
    const operation = this.#operations[opcode];
    if (operation === undefined) {
      this.writer.error(request, errno.ENOSYS);
      return;
    }
    if (arena.argumentBytes < (argumentSize[opcode] ?? 0)) {
      this.writer.error(request, errno.EINVAL);
      return;
    }
    this.kept.before(opcode, request.node);
    try {
      operation(request);
    } catch (error) {
      this.fail(request, error);
    }
  }

  #settle(request: Request, answer: () => void): void {
    this.#pending.delete(request.key);
    this.#interrupts.settled(request);
    try {
      answer();
    } catch (error) {
      this.fail(request, error);
    }
  }

  async #takeBack<T>(request: Request, value: T, undo: (value: T) => Answer<void>): Promise<void> {
    try {
      await undo(value);
    } catch (error) {
      this.#log.warn('what an interrupted operation left could not be taken back', {
        operation: opcodeName(request.opcode),
        cause: String(error),
      });
    }
  }

  #init(request: Request): void {
    const agreed = negotiate(this.arena, this.#options.acl);
    if (agreed === undefined) {
      const version = `${this.arena.u32(InitIn.major)}.${this.arena.u32(InitIn.minor)}`;
      this.#log.error('the kernel speaks a version of FUSE that we do not know', { version });
      this.writer.error(request, errno.EPROTO);
      return;
    }
    this.negotiated = agreed;
    this.#notifier.expireOnly = (agreed.flags2 & Init2.HAS_EXPIRE_ONLY) !== 0;
    if (this.#options.passthrough && agreed.flags2 & Init2.PASSTHROUGH) this.backing.enable();
    const at = this.writer.begin(request, INIT_OUT_SIZE);
    putInitOut(this.writer.words, at, agreed, this.arena.u32(InitIn.maxReadahead));
    this.writer.send();
    this.#log.debug('agreed with the kernel', {
      minor: agreed.minor,
      flags: agreed.flags,
      flags2: agreed.flags2,
    });
  }

  #batchForget(): void {
    const { arena } = this;
    const count = Math.min(arena.argument32(0), Math.floor((arena.argumentBytes - 8) / 16));
    for (let i = 0; i < count; i++) {
      const node: NodeId = arena.argument64(2 + i * 4);
      this.fileSystem.forget(node, arena.argument64(4 + i * 4));
    }
  }

  /** fuse_interrupt_in: the number of the request that a signal came for. */
  #signalled(): void {
    const { arena } = this;
    const request = this.#pending.get((arena.argument32(1) & 0x1f_ffff) * HIGH + arena.argument32(0));
    if (request) this.#interrupts.signalled(request);
  }

  /**
   * The program is about to end. What has changed nothing is answered EINTR at once; what may have is only told, and answers
   * with what became of it.
   */
  #interrupt(request: Request): void {
    if (request.interruptible && request.claim()) {
      this.#settle(request, () => this.writer.error(request, errno.EINTR));
    }
    request.abort();
  }

  #warnOfItself(request: Request): void {
    if (this.#warnedOfItself) return;
    this.#warnedOfItself = true;
    this.#log.warn('this process uses its own mount, which would hang: the call was answered EDEADLK', {
      operation: opcodeName(request.opcode),
      hint: 'keep state, cache and working directory of the daemon outside of the mount',
    });
  }
}
