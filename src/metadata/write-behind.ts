import { setImmediate as nextTurn } from 'node:timers/promises';
import { fromPlainError, type MirageError, toPlainError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';
import type { Row } from './directory.js';
import type { Change } from './schema.js';
import type { WriterChannel } from './writer-channel.js';

/** Changes of one transaction at most, so that neither the message nor its answer takes long on the file-system thread. */
const BATCH = 4000;

/** A change on its way to the database, and the row in memory that stands in for it until then. */
export interface QueuedChange {
  readonly sequence: number;
  readonly change: Change;
  readonly row: Row | undefined;
}

export interface WriteBehindOwner {
  /** These changes are in the database now. */
  applied(batch: readonly QueuedChange[]): void;
  /** The database is damaged: what is queued is worth nothing. */
  corrupt(error: MirageError): void;
}

/** Brings changes to the writer in order, one batch under way at a time: whatever has come in since the last one. */
export class WriteBehind {
  readonly #channel: WriterChannel;
  readonly #owner: WriteBehindOwner;
  readonly #log: Log;
  #queue: QueuedChange[] = [];
  #running: Promise<void> | undefined;
  #failure: MirageError | undefined;
  #stopped = false;
  #waiting: (() => void)[] = [];

  constructor(channel: WriterChannel, owner: WriteBehindOwner, log: Log) {
    this.#channel = channel;
    this.#owner = owner;
    this.#log = log;
  }

  get length(): number {
    return this.#queue.length;
  }

  push(queued: QueuedChange): void {
    this.#queue.push(queued);
    this.#running ??= this.#run();
  }

  /** undefined while fewer than `limit` changes are queued; else resolves when some were written, or none can be now. */
  shorter(limit: number): Promise<void> | undefined {
    if (this.#queue.length < limit || this.#running === undefined) return undefined;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Resolves when the queue is empty; rejects when the database cannot be written now (the queue is kept and tried again). */
  async settled(): Promise<void> {
    if (this.#queue.length > 0) this.#running ??= this.#run();
    while (this.#running !== undefined) await this.#running;
    if (this.#queue.length > 0 && this.#failure) throw this.#failure;
  }

  /** Ends the writer; drops what is still queued. */
  async close(): Promise<void> {
    this.#stopped = true;
    while (this.#running !== undefined) await this.#running;
    await this.#channel.send({ kind: 'close' });
  }

  async #run(): Promise<void> {
    try {
      await nextTurn();
      while (this.#queue.length > 0 && !this.#stopped && (await this.#writeBatch()));
    } catch (error) {
      this.#failed(fromPlainError(toPlainError(error)));
    } finally {
      this.#running = undefined;
      this.#wake();
    }
  }

  /** False: not written, nothing further can be either for now. */
  async #writeBatch(): Promise<boolean> {
    const batch = this.#queue.slice(0, BATCH);
    const answer = await this.#channel.send({
      kind: 'apply',
      changes: batch.map((queued) => queued.change),
      sequence: batch[batch.length - 1]!.sequence,
    });
    if (this.#stopped) return false;
    if (answer.error) {
      const error = fromPlainError(answer.error);
      if (answer.corrupt) this.#owner.corrupt(error);
      else this.#failed(error);
      return false;
    }
    this.#failure = undefined;
    this.#queue = this.#queue.slice(batch.length);
    this.#owner.applied(batch);
    this.#wake();
    if (answer.wantsCheckpoint) {
      await this.#channel.send({ kind: 'checkpoint' });
      // The reader steps off the log, so that the next write may start it anew.
      if (!this.#stopped) this.#owner.applied([]);
    }
    return true;
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  #failed(error: MirageError): void {
    if (!this.#failure) {
      this.#log.warn('metadata cache cannot be written; changes stay in memory', { error: error.message });
    }
    this.#failure = error;
  }
}
