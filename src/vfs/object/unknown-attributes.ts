/**
 * What is shown of names whose attributes nobody has told yet. A listing of a bucket carries size, time and version, not the mode, the owner
 * or the type that a tool keeps in the metadata of an object, and to ask for each name would make a walk as slow as its requests. So:
 * - A walk shows defaults (a file, 0644, the daemon's owner), and the kernel may keep them for two seconds only. Whoever looks at a single name
 *   later is answered by the store, and so is whoever opens it.
 * - Where object after object turned out to have no attributes, the directory is taken for one of a tool that keeps none, and defaults count
 *   as known. The first object that has some ends that. Opening tells the truth in any case, and the kernel hears of it.
 * - What this host has made or asked for keeps its attributes as long as the store has the same version.
 */
import type { ObjectInfo } from '../../backends/contract.js';
import type { Clock } from '../../clock/clock.js';
import type { EntryRecord } from '../../metadata/contract.js';
import { Remembered } from '../inodes/remembered.js';

/** Names in a row without attributes, after which a directory counts as one of a tool that keeps none. */
const FOREIGN_AFTER = 8;
/** How long the kernel may keep defaults, nanoseconds. */
const GUESS_VALID = 2e9;
/** A walk goes on while its questions follow each other this closely, milliseconds, */
const WALK_PAUSE = 1_000;
/** and not longer than this after names were read. */
const WALK = 10_000;

interface Walk {
  /** Monotonic times, milliseconds. */
  readAt: number;
  askedAt: number;
}

export class UnknownAttributes {
  readonly #clock: Clock;
  readonly #without = new Remembered<number>();
  readonly #walks = new Remembered<Walk>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The store has told of one name in full. */
  heard(directory: string, info: ObjectInfo): void {
    const has = info.attributes !== undefined && Object.keys(info.attributes).length > 0;
    if (has) this.#without.delete(directory);
    else this.#without.set(directory, (this.#without.get(directory) ?? 0) + 1);
  }

  /** Names of the directory were read. */
  read(directory: string): void {
    const now = this.#clock.monotonic();
    const walk = this.#walks.get(directory);
    if (walk === undefined) this.#walks.set(directory, { readAt: now, askedAt: now });
    else walk.readAt = walk.askedAt = now;
  }

  /** The store is to be asked about this one name before anybody hears of it. */
  mustAsk(directory: string, record: EntryRecord): boolean {
    return record.attributes === undefined && !this.#isForeign(directory);
  }

  /** The same for a question that a walk may have raised, name by name. */
  mustAskUnlessWalked(directory: string, record: EntryRecord): boolean {
    return this.mustAsk(directory, record) && !this.#isWalked(directory);
  }

  /** How long the kernel may keep what it is shown, nanoseconds, of what is valid for `valid`. */
  validFor(directory: string, record: EntryRecord, valid: number): number {
    return record.attributes !== undefined || this.#isForeign(directory)
      ? valid
      : Math.min(valid, GUESS_VALID);
  }

  #isForeign(directory: string): boolean {
    return (this.#without.get(directory) ?? 0) >= FOREIGN_AFTER;
  }

  #isWalked(directory: string): boolean {
    const walk = this.#walks.get(directory);
    if (walk === undefined) return false;
    const now = this.#clock.monotonic();
    if (now - walk.readAt > WALK || now - walk.askedAt > WALK_PAUSE) return false;
    walk.askedAt = now;
    return true;
  }
}
