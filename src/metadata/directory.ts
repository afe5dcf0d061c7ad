import { constants } from 'node:fs';
import type { EntryRecord, LocationId, NewEntryRecord } from './contract.js';

const { S_IFMT, S_IFREG } = constants;

/** The last number that a state of names was given, of whatever directory. */
let lastState = 0;

/** A row as memory holds it: on its way to the database, or as the database has it. */
export interface Row {
  readonly directory: Directory;
  readonly name: string;
  /** The change that wrote it. */
  readonly sequence: number;
  /** undefined: the row is to be deleted. */
  readonly record: EntryRecord | undefined;
}

/** A listing under way, as its directory sees it. */
export interface OpenListing {
  /** Names that others changed since it started. */
  readonly touched: Set<string>;
  /** The directory is not what was listed any more. */
  void(): void;
}

/** What memory holds of one directory: its row, and the rows of its entries that are still on their way to the database. */
export class Directory {
  /** The sequence of the change that made it: above the database's, there are no rows of it yet. */
  readonly id: number;
  readonly location: LocationId;
  key: string;
  completeAt: number | undefined;
  /** Rows up to this sequence are gone. */
  floor: number;
  /** Rows up to this sequence are to be asked again. */
  expired: number;
  /** Sequence of the last change of these fields. */
  changed: number;
  /** Goes up with every change of what a reader sees of it. */
  version = 0;
  /** See ListingState. */
  names = ++lastState;
  order = this.names;
  /** Moved away or forgotten. */
  gone = false;
  /** Used since the last sweep. */
  recent = true;
  readonly listings = new Set<OpenListing>();

  readonly #pending = new Map<string, Row>();
  /** Rows that the database has never had, by position: each one lies behind all rows of the database. */
  #first: { readonly position: number; readonly name: string }[] = [];

  constructor(id: number, location: LocationId, key: string, changed: number) {
    this.id = id;
    this.location = location;
    this.key = key;
    this.completeAt = undefined;
    this.floor = 0;
    this.expired = 0;
    this.changed = changed;
  }

  get hasPending(): boolean {
    return this.#pending.size > 0;
  }

  pending(name: string): Row | undefined {
    return this.#pending.get(name);
  }

  /** Returns the row that it replaces. */
  setPending(row: Row): Row | undefined {
    const replaced = this.#pending.get(row.name);
    this.version++;
    this.#pending.set(row.name, row);
    if (row.record?.position === row.sequence) this.#first.push({ position: row.sequence, name: row.name });
    return replaced;
  }

  /** A name came behind all others. */
  appended(): void {
    this.names = ++lastState;
  }

  /** Something else than that changed about its names. */
  reordered(): void {
    this.names = this.order = ++lastState;
  }

  /** The row is in the database now. False: a later one has taken its place. */
  settle(row: Row): boolean {
    return this.#pending.get(row.name) === row && this.#pending.delete(row.name);
  }

  /** Every position up to `applied` is in the database now. */
  dropFirst(applied: number): void {
    let count = 0;
    while (count < this.#first.length && this.#first[count]!.position <= applied) count++;
    if (count > 0) this.#first = this.#first.slice(count);
  }

  /** The record as a reader sees it; undefined when the row is deleted or gone with a listing. */
  visible(row: Row): EntryRecord | undefined {
    if (row.record === undefined || row.sequence <= this.floor) return undefined;
    return row.sequence <= this.expired ? { ...row.record, seenAt: 0 } : row.record;
  }

  /** Appends up to `limit` entries that the database has never had, with a position above `after`. */
  collectFirst(after: number, limit: number, into: EntryRecord[]): void {
    const first = this.#first;
    let low = 0;
    let high = first.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (first[middle]!.position > after) high = middle;
      else low = middle + 1;
    }
    for (let i = low; i < first.length && into.length < limit; i++) {
      const { position, name } = first[i]!;
      const row = this.#pending.get(name);
      const record = row && this.visible(row);
      if (record && record.position === position && record.kind !== 'absent') into.push(record);
    }
  }

  voidListings(): void {
    for (const listing of this.listings) listing.void();
    this.listings.clear();
  }
}

/** What a reader of the directory sees of a name is the same in both records. */
export function looksAlike(one: NewEntryRecord, other: NewEntryRecord): boolean {
  if (one.kind === 'absent' || other.kind === 'absent') return one.kind === other.kind;
  const stored = (one.validator === undefined) === (other.validator === undefined);
  return stored && one.kind === other.kind && one.ino === other.ino && typeOf(one) === typeOf(other);
}

const typeOf = ({ attributes }: NewEntryRecord): number => (attributes?.mode ?? S_IFREG) & S_IFMT;

/** Is `key` the directory `directory` or below it? */
export function isWithin(key: string, directory: string): boolean {
  if (directory === '' || key === directory) return true;
  return key.length > directory.length && key.startsWith(directory) && key[directory.length] === '/';
}
