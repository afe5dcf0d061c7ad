/** Keeps the journal, the staged bytes and their count as the queue is: what was taken in, taken back, and done. */
import type { Log } from '../../../log/log.js';
import type { Journal, NewRecord } from '../../../metadata/journal.js';
import type { Admission } from './admission.js';
import type { PutIntent } from './intent.js';
import type { LentBytes } from './lent-bytes.js';
import type { Change, Queue, Work } from './queue.js';
import type { StagedBytes } from './staged-bytes.js';
import type { Versions } from './versions.js';

/** Up to this size, bytes, the journal itself has the bytes of a file, too: one sync instead of three. */
export const INLINE = 64 * 1024;

export interface BookkeepingParts {
  readonly journal: Journal;
  readonly identity: string;
  readonly queue: Queue;
  readonly versions: Versions;
  readonly bytes: StagedBytes;
  readonly lent: LentBytes;
  readonly admission: Admission;
  readonly log: Log;
}

export class Bookkeeping {
  readonly #parts: BookkeepingParts;

  constructor(parts: BookkeepingParts) {
    this.#parts = parts;
  }

  /** `bytes`: those of the put that is taken in, where it is small. Throws where the journal cannot be written. */
  note({ drop, add }: Change, bytes: Uint8Array | undefined): void {
    const { journal, lent } = this.#parts;
    journal.change(
      drop.map(({ sequence }) => sequence),
      add.map((work) =>
        this.#record(work, ({ file, size }) => bytes ?? this.#inlineAgain({ file, size }, drop)),
      ),
    );
    const kept = new Set<string>();
    for (const { sequence, intent } of add) {
      if (intent.kind !== 'put') continue;
      kept.add(intent.file);
      lent.sends(sequence, intent.file);
    }
    for (const { intent } of drop) {
      if (intent.kind === 'put' && !kept.has(intent.file)) this.#gone(intent);
    }
  }

  done(work: Work): void {
    const { journal, queue, versions, log } = this.#parts;
    // What waits for a version speaks of it as the store does from now on: the next start would not know.
    const renamed = queue.reword(work.sequence, (intent) => versions.named(intent));
    try {
      journal.change(
        [work.sequence],
        renamed.map((each) => this.#record(each, (intent) => this.#inline(intent))),
      );
    } catch (error) {
      log.error(
        'the journal could not be told that a change is done; it is looked at again at the next start',
        { why: String(error) },
      );
    }
    if (work.intent.kind === 'put') this.#gone(work.intent);
  }

  #record({ sequence, intent }: Work, bytesOf: (intent: PutIntent) => Uint8Array | undefined): NewRecord {
    const bytes = intent.kind === 'put' ? bytesOf(intent) : undefined;
    return { sequence, identity: this.#parts.identity, intent, bytes };
  }

  /** A put that takes the place of another one and sends the same bytes has them in the journal as that one had. */
  #inlineAgain(put: Pick<PutIntent, 'file' | 'size'>, drop: readonly Work[]): Uint8Array | undefined {
    const same = drop.some(({ intent }) => intent.kind === 'put' && intent.file === put.file);
    return same ? this.#inline(put) : undefined;
  }

  #inline({ file, size }: Pick<PutIntent, 'file' | 'size'>): Uint8Array | undefined {
    return size <= INLINE ? this.#parts.bytes.content(file) : undefined;
  }

  /** Nobody will send these bytes (any more). */
  #gone({ file, size }: PutIntent): void {
    const { lent, bytes, admission } = this.#parts;
    lent.forget(file);
    bytes.remove(file);
    admission.release(size);
  }
}
