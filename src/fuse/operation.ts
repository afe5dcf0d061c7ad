import type { FuseChannel } from '../native/fuse-transport.js';
import type { Answer, FileSystem } from '../vfs/operations.js';
import type { BackingTable } from './backing-table.js';
import type { KeptAttributes } from './kept-attributes.js';
import type { Negotiated } from './negotiation.js';
import type { ReplyWriter } from './reply-writer.js';
import type { Request } from './request.js';
import type { RequestArena } from './request-arena.js';

/** Answers the request that the arena stands at. */
export type Operation = (request: Request) => void;
/** By opcode. */
export type Operations = Readonly<Record<number, Operation>>;

/** What a session needs of a channel; tests give it one without a kernel. */
export type SessionChannel = Omit<FuseChannel, 'start' | 'stop' | 'close' | 'counters' | 'notify'>;

/** What the operations of a session share. */
export interface OperationContext {
  readonly fileSystem: FileSystem;
  readonly arena: RequestArena;
  readonly writer: ReplyWriter;
  readonly backing: BackingTable;
  readonly kept: KeptAttributes;
  readonly channel: SessionChannel;
  readonly slotBytes: number;
  /** Undefined until INIT. */
  readonly negotiated: Negotiated | undefined;
  /**
   * Answers when the promise settles. `answer` is called in a turn of its own; `undo` instead of it, when the kernel has been answered
   * meanwhile, so that what the operation has given out is taken back.
   */
  later<T>(
    request: Request,
    promise: Promise<T>,
    answer: (value: T) => void,
    undo?: (value: T) => Answer<void>,
  ): void;
  /** Answers now or when the promise settles. */
  answered<T>(
    request: Request,
    answer: Answer<T>,
    encode: (value: T) => void,
    undo?: (value: T) => Answer<void>,
  ): void;
}
