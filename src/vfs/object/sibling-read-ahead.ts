/**
 * Reading ahead across files: whoever opens the files of a directory one after the other finds the next ones in the cache. Only while some of
 * them are not there already: a second pass looks at nothing but the files that it opens.
 */
import { setMaxListeners } from 'node:events';
import type { EntryRecord } from '../../metadata/contract.js';
import { NONE, type Slot } from '../inodes/inode-table.js';
import { Remembered } from '../inodes/remembered.js';
import type { ContentFirst } from './content-first.js';
import type { Inode } from './inode.js';
import type { Nodes } from './nodes.js';

/** Files opened in a row after which the next ones are fetched. */
const RUN = 2;
/** Several readers of one directory, or one that leaves files out, are not quite in order: places. */
const SLACK = 16;
/** Files fetched at a time at most. */
const UNDER_WAY = 48;
/** Files fetched ahead of the reader at most. */
const LEAD = 256;
/** Bytes fetched at a time at most, and of one file. */
const BYTES = 32 * 1024 * 1024;
const LARGEST = 1024 * 1024;
const ROWS_AT_ONCE = 128;
/** Files in a row that are cached already, after which no more are looked at until one is missing. */
const CACHED_IN_A_ROW = 64;

interface Run {
  readonly directory: string;
  readonly parent: Slot;
  /** Position of the file that was opened last. */
  last: number;
  /** Files opened in order. */
  length: number;
  /** Position up to which files were looked at. */
  frontier: number;
  /** Rows after the frontier that were read already, the next one last. */
  rows: EntryRecord[];
  /** Positions of files that were fetched and not opened since. */
  ahead: number[];
  underWay: number;
  bytes: number;
  abort: AbortController;
  /** A file of the run was not in the cache: the next ones may not be either. */
  missing: boolean;
  /** Files that were looked at last and are cached. */
  cached: number;
}

export class SiblingReadAhead {
  readonly #nodes: Nodes;
  readonly #contentFirst: ContentFirst;
  /** By key of the directory. */
  readonly #runs = new Remembered<Run>();

  constructor(nodes: Nodes, contentFirst: ContentFirst) {
    this.#nodes = nodes;
    this.#contentFirst = contentFirst;
  }

  /** A file is being opened for reading. `missing`: its content is not here, as far as its row tells. */
  opened(parent: Slot, record: EntryRecord, missing: boolean): void {
    const directory = this.#nodes.directoryKey(parent);
    const { position } = record;
    const run = this.#runs.get(directory);
    if (run === undefined || Math.abs(position - run.last) > SLACK || run.parent !== parent) {
      // What was under way for the pattern that has ended.
      run?.abort.abort();
      this.#runs.set(directory, newRun(directory, parent, position, missing));
      return;
    }
    if (missing) run.missing = true;
    if (position <= run.last) return;
    run.last = position;
    run.length++;
    this.#fetchNext(run);
  }

  /** A read of an open file has to wait for the store. */
  missed({ slot }: Inode): void {
    const parent = this.#nodes.table.parent(slot);
    const directory = parent === NONE ? undefined : this.#nodes.directoryKeyIfAny(parent);
    const run = directory === undefined ? undefined : this.#runs.get(directory);
    if (run === undefined || run.missing) return;
    run.missing = true;
    this.#fetchNext(run);
  }

  #fetchNext(run: Run): void {
    if (!run.missing || run.length < RUN) return;
    const atOnce = Math.min(UNDER_WAY, 2 ** run.length);
    const opened = run.ahead.findIndex((position) => position > run.last);
    run.ahead.splice(0, opened < 0 ? run.ahead.length : opened);
    while (run.underWay < atOnce && run.ahead.length < LEAD && run.bytes < BYTES && run.missing) {
      const row = this.#nextRow(run);
      if (row === undefined) run.missing = false;
      else this.#fetch(run, row);
    }
  }

  #nextRow(run: Run): EntryRecord | undefined {
    for (;;) {
      if (run.rows.length === 0) {
        const { metadata, location } = this.#nodes;
        const { directory } = run;
        if (this.#nodes.directoryKeyIfAny(run.parent) !== directory) return undefined;
        const after = Math.max(run.frontier, run.last);
        run.rows = metadata.entries(location, directory, after, ROWS_AT_ONCE).toReversed();
      }
      const row = run.rows.pop();
      if (row === undefined) return undefined;
      run.frontier = row.position;
      const near = row.kind === 'file' && row.size <= LARGEST && row.position > run.last;
      if (near && this.#nodes.validFor(row.seenAt) > 0) return row;
    }
  }

  #fetch(run: Run, row: EntryRecord): void {
    const file = this.#contentFirst.acquire(run.parent, row);
    if (file === undefined) return;
    if (file.complete) {
      file.release();
      if (++run.cached >= CACHED_IN_A_ROW) run.missing = false;
      return;
    }
    run.cached = 0;
    const { signal } = run.abort;
    run.underWay++;
    run.bytes += row.size;
    run.ahead.push(row.position);
    void this.#fetched(run, row, file, signal).then((goesOn) => {
      file.release();
      run.underWay--;
      run.bytes -= row.size;
      if (goesOn && !signal.aborted) this.#fetchNext(run);
    });
  }

  /** False: the store fails, and whoever opens the next file hears why. */
  async #fetched(
    run: Run,
    row: EntryRecord,
    file: NonNullable<ReturnType<ContentFirst['acquire']>>,
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      const heard = await this.#contentFirst.hear(run.parent, row, file, signal);
      if (heard) await file.ensureAll(signal);
      return true;
    } catch {
      return false;
    }
  }
}

function newRun(directory: string, parent: Slot, last: number, missing: boolean): Run {
  const abort = new AbortController();
  // One for each file under way: no leak, as Node takes more than ten for.
  setMaxListeners(UNDER_WAY, abort.signal);
  return {
    directory,
    parent,
    last,
    length: 0,
    frontier: last,
    rows: [],
    ahead: [],
    underWay: 0,
    bytes: 0,
    abort,
    missing,
    cached: 0,
  };
}
