/** Bytes that the journal shares with the file that a program still writes: it is asked before they change. */
import type { Queue } from './queue.js';
import type { StagedBytes } from './staged-bytes.js';

export class LentBytes {
  readonly #queue: Queue;
  readonly #bytes: StagedBytes;
  /** Works by the name of the bytes that they send. */
  readonly #sequences = new Map<string, number>();

  constructor(queue: Queue, bytes: StagedBytes) {
    this.#queue = queue;
    this.#bytes = bytes;
  }

  /** A work is to send these bytes. */
  sends(sequence: number, file: string): void {
    this.#sequences.set(file, sequence);
  }

  /** None is, any more. */
  forget(file: string): void {
    this.#sequences.delete(file);
  }

  /**
   * A writer goes on with a file whose bytes were journaled. Undefined: nobody reads them, and nobody will before it commits again or
   * gives the file back; else a promise of that.
   */
  recall(files: readonly string[]): undefined | Promise<void> {
    const sequences = files.flatMap((file) => this.#sequences.get(file) ?? []);
    const running = sequences.filter((sequence) => this.#queue.stateOf(sequence) === 'running');
    if (running.length > 0)
      return Promise.all(running.map((each) => this.#queue.gone(each))).then(() => undefined);
    const begun = files.filter((file) => {
      const sequence = this.#sequences.get(file);
      return sequence !== undefined && this.#queue.stateOf(sequence) === 'begun';
    });
    // The store may have these bytes or not: what is sent once more must be the same.
    if (begun.length > 0) return this.#part(begun);
    for (const sequence of sequences) this.#queue.hold(sequence);
    return undefined;
  }

  async #part(files: readonly string[]): Promise<void> {
    for (const file of files) {
      await this.#bytes.part(file);
      this.#sequences.delete(file);
    }
  }

  /** The writer is gone, whatever it has done. */
  giveBack(files: readonly string[]): void {
    for (const file of files) {
      const sequence = this.#sequences.get(file);
      if (sequence !== undefined) this.#queue.release(sequence);
    }
  }
}
