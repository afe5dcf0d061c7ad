import type { EntryRecord, ListingWriter, NewEntryRecord } from './contract.js';
import type { Directory, OpenListing } from './directory.js';

/** What a listing needs of the store that it fills. */
export interface ListingTarget {
  isEmpty(directory: Directory): boolean;
  row(directory: Directory, name: string): EntryRecord | undefined;
  write(directory: Directory, record: NewEntryRecord, known: EntryRecord | undefined): void;
  /** `first`: there was nothing before it. */
  finishListing(directory: Directory, floor: number, startedAt: number, first: boolean): void;
}

/** Rows that were there at `floor`, when the listing started, and that no page brought again are gone at its end. */
export class Listing implements ListingWriter, OpenListing {
  readonly touched = new Set<string>();
  readonly #target: ListingTarget;
  readonly #directory: Directory;
  readonly #floor: number;
  readonly #startedAt: number;
  /** There was nothing when it started. */
  readonly #first: boolean;
  /** The last name that it brought, in the order of their bytes. */
  #last = '';
  #over = false;

  constructor(target: ListingTarget, directory: Directory, floor: number, startedAt: number) {
    this.#target = target;
    this.#directory = directory;
    this.#floor = floor;
    this.#startedAt = startedAt;
    this.#first = target.isEmpty(directory);
    directory.listings.add(this);
  }

  known(name: string): EntryRecord | undefined {
    // Stores list in order: very many names that are new need not be looked for one by one.
    if (this.#first && name > this.#last && !this.touched.has(name)) return undefined;
    return this.#target.row(this.#directory, name);
  }

  page(records: readonly NewEntryRecord[]): void {
    if (this.#over) return;
    for (const record of records) {
      if (this.touched.has(record.name)) continue;
      const known = this.known(record.name);
      if (record.name > this.#last) this.#last = record.name;
      this.#target.write(this.#directory, known ? merge(record, known) : record, known);
    }
  }

  complete(): void {
    if (this.#over) return;
    this.abandon();
    this.#target.finishListing(this.#directory, this.#floor, this.#startedAt, this.#first);
  }

  abandon(): void {
    this.#over = true;
    this.#directory.listings.delete(this);
  }

  void(): void {
    this.#over = true;
  }
}

/** A listing says less than a HEAD: what it cannot say stays, as long as it speaks of the same version. */
function merge(listed: NewEntryRecord, known: EntryRecord): NewEntryRecord {
  if (listed.kind !== known.kind) return listed;
  const same =
    listed.validator === known.validator &&
    listed.size === known.size &&
    listed.modifiedSeconds === known.modifiedSeconds &&
    listed.modifiedNanoseconds === known.modifiedNanoseconds;
  return {
    ...listed,
    ino: listed.ino ?? known.ino,
    attributes: listed.attributes ?? (same ? known.attributes : undefined),
  };
}
