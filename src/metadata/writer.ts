import type Database from 'better-sqlite3';
import { type PlainError, toPlainError } from '../errors/mirage-error.js';
import { type Change, type ChangeName, changes, connect, isCorruption } from './schema.js';

/** Changes after which the writer asks for a checkpoint: some 10 MB of write-ahead log. */
const CHECKPOINT_AFTER = 20_000;

/** What the file-system side sends, one at a time: the next only after the answer. */
export type WriterRequest =
  /** Carries out changes in one transaction; afterwards everything up to `sequence` is in the database. */
  | { readonly kind: 'apply'; readonly changes: readonly Change[]; readonly sequence: number }
  /** Sent while the reader stands on the newest state, so that the whole log can go into the database. */
  | { readonly kind: 'checkpoint' }
  | { readonly kind: 'close' };

export interface WriterAnswer {
  readonly error?: PlainError;
  readonly corrupt?: boolean;
  readonly wantsCheckpoint?: boolean;
}

/** Owner of the one write connection. Runs on its own thread, or on the caller's where there is no other. */
export class Writer {
  readonly #database: Database.Database;
  readonly #statements = new Map<ChangeName, Database.Statement>();
  readonly #applied: Database.Statement;
  readonly #apply: (batch: readonly Change[], sequence: number) => void;
  #sinceCheckpoint = 0;

  constructor(file: string) {
    this.#database = connect(file);
    for (const [name, text] of Object.entries(changes)) {
      this.#statements.set(name as ChangeName, this.#database.prepare(text));
    }
    this.#applied = this.#database.prepare('UPDATE state SET applied = ?');
    this.#apply = this.#database.transaction((batch: readonly Change[], sequence: number) => {
      for (const [name, ...values] of batch) this.#statements.get(name)!.run(values);
      this.#applied.run(sequence);
    });
  }

  handle(request: WriterRequest): WriterAnswer {
    try {
      if (request.kind === 'close') {
        this.#database.close();
        return {};
      }
      if (request.kind === 'checkpoint') {
        this.#database.pragma('wal_checkpoint(PASSIVE)');
        this.#sinceCheckpoint = 0;
        return {};
      }
      this.#apply(request.changes, request.sequence);
      this.#sinceCheckpoint += request.changes.length;
      return { wantsCheckpoint: this.#sinceCheckpoint >= CHECKPOINT_AFTER };
    } catch (error) {
      return { error: toPlainError(error), corrupt: isCorruption(error) };
    }
  }
}
