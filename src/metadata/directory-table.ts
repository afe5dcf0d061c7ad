import type { LocationId } from './contract.js';
import { Directory, isWithin } from './directory.js';
import type { Reader } from './reader.js';

/** Directories in memory beyond which those at rest are dropped. */
const KEPT = 8192;

/** A move or removal of a subtree that the database has not carried out yet. */
interface SubtreeChange {
  readonly sequence: number;
  readonly location: LocationId;
  readonly from: string;
  /** undefined: removed. */
  readonly to: string | undefined;
}

/** Directories by key: those in use in memory, the others from the database as pending subtree changes will leave it. */
export class DirectoryTable {
  readonly #locations = new Map<LocationId, Map<string, Directory>>();
  #changes: SubtreeChange[] = [];
  #count = 0;
  #sweepAt = KEPT;

  find(reader: Reader, location: LocationId, key: string): Directory | undefined {
    const known = this.#locations.get(location)?.get(key);
    if (known) {
      known.recent = true;
      return known;
    }
    const storedKey = this.#changes.length === 0 ? key : this.#storedKey(location, key);
    const row = storedKey === undefined ? undefined : reader.directory(location, storedKey);
    if (!row) return undefined;
    const directory = new Directory(row.id, location, key, 0);
    directory.completeAt = row.complete_at ?? undefined;
    directory.floor = row.floor;
    directory.expired = row.expired;
    this.add(directory);
    return directory;
  }

  add(directory: Directory): void {
    let keys = this.#locations.get(directory.location);
    if (!keys) {
      keys = new Map();
      this.#locations.set(directory.location, keys);
    }
    keys.set(directory.key, directory);
    this.#count++;
  }

  /** Forgets a directory and all below it. */
  remove(sequence: number, location: LocationId, key: string): void {
    for (const directory of this.#within(location, key)) this.#take(directory).gone = true;
    this.#changes.push({ sequence, location, from: key, to: undefined });
  }

  /** Gives a directory and all below it another key; nothing may be left below `to`. */
  move(sequence: number, location: LocationId, from: string, to: string): void {
    for (const directory of this.#within(location, from)) {
      this.#take(directory);
      directory.key = to + directory.key.slice(from.length);
      // Inode numbers may derive from keys.
      directory.reordered();
      this.add(directory);
    }
    this.#changes.push({ sequence, location, from, to });
  }

  /** The present key of a row of the database; undefined when its directory is forgotten. */
  presentKey(location: LocationId, storedKey: string): string | undefined {
    let key = storedKey;
    for (const change of this.#changes) {
      if (change.location !== location || !isWithin(key, change.from)) continue;
      if (change.to === undefined) return undefined;
      key = change.to + key.slice(change.from.length);
    }
    return key;
  }

  /** The database has come up to `applied`. */
  settle(applied: number): void {
    if (this.#changes.length > 0) {
      this.#changes = this.#changes.filter((change) => change.sequence > applied);
    }
    if (this.#count > this.#sweepAt) this.#sweep(applied);
  }

  clear(): void {
    for (const keys of this.#locations.values()) {
      for (const directory of keys.values()) {
        directory.gone = true;
        directory.voidListings();
      }
    }
    this.#locations.clear();
    this.#changes = [];
    this.#count = 0;
  }

  #within(location: LocationId, key: string): Directory[] {
    const keys = this.#locations.get(location)?.values() ?? [];
    return [...keys].filter((directory) => isWithin(directory.key, key));
  }

  #take(directory: Directory): Directory {
    this.#locations.get(directory.location)?.delete(directory.key);
    this.#count--;
    directory.voidListings();
    return directory;
  }

  /** Where the database still has what is at `key` now; undefined when nothing of it is there. */
  #storedKey(location: LocationId, key: string): string | undefined {
    let stored = key;
    for (let i = this.#changes.length - 1; i >= 0; i--) {
      const change = this.#changes[i]!;
      if (change.location !== location) continue;
      if (change.to !== undefined && isWithin(stored, change.to)) {
        stored = change.from + stored.slice(change.to.length);
      } else if (isWithin(stored, change.from)) {
        return undefined;
      }
    }
    return stored;
  }

  #sweep(applied: number): void {
    for (const keys of this.#locations.values()) {
      for (const directory of keys.values()) {
        const busy = directory.hasPending || directory.listings.size > 0 || directory.changed > applied;
        if (!busy && !directory.recent) {
          keys.delete(directory.key);
          this.#count--;
        }
        directory.recent = false;
      }
    }
    this.#sweepAt = Math.max(KEPT, this.#count * 2);
  }
}
