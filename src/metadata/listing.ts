import type { EntryRecord, ListingWriter, NewEntryRecord } from './contract.js';
import type { Directory, OpenListing } from './directory.js';

/** What a listing needs of the store that it fills. */
export interface ListingTarget {
  row(directory: Directory, name: string): EntryRecord | undefined;
  write(directory: Directory, record: NewEntryRecord, position: number | undefined): void;
  finishListing(directory: Directory, floor: number, startedAt: number): void;
}

/** Rows that were there at `floor`, when the listing started, and that no page brought again are gone at its end. */
export class Listing implements ListingWriter, OpenListing {
  readonly touched = new Set<string>();
  readonly #target: ListingTarget;
  readonly #directory: Directory;
  readonly #floor: number;
  readonly #startedAt: number;
  #over = false;

  constructor(target: ListingTarget, directory: Directory, floor: number, startedAt: number) {
    this.#target = target;
    this.#directory = directory;
    this.#floor = floor;
    this.#startedAt = startedAt;
    directory.listings.add(this);
  }

  page(records: readonly NewEntryRecord[]): void {
    if (this.#over) return;
    for (const record of records) {
      if (this.touched.has(record.name)) continue;
      const known = this.#target.row(this.#directory, record.name);
      this.#target.write(this.#directory, known ? merge(record, known) : record, known?.position);
    }
  }

  complete(): void {
    if (this.#over) return;
    this.abandon();
    this.#target.finishListing(this.#directory, this.#floor, this.#startedAt);
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
