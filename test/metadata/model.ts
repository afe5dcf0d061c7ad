import type { EntryRecord, NewEntryRecord } from '../../src/metadata/contract.js';

interface Row {
  record: EntryRecord;
  /** Step of the change that wrote it. */
  step: number;
}

interface DirectoryModel {
  completeAt: number | undefined;
  rows: Map<string, Row>;
}

export interface ListingModel {
  directory: DirectoryModel;
  startedAt: number;
  step: number;
  touched: Set<string>;
  over: boolean;
}

const within = (key: string, directory: string) =>
  directory === '' || key === directory || key.startsWith(`${directory}/`);

/** What the metadata cache promises, with plain maps and no time in between. Positions are taken from the real store. */
export class MetadataModel {
  readonly directories = new Map<string, DirectoryModel>();
  readonly listings: ListingModel[] = [];
  #step = 0;

  entry(key: string, name: string): EntryRecord | undefined {
    return this.directories.get(key)?.rows.get(name)?.record;
  }

  put(key: string, record: NewEntryRecord): void {
    const directory = this.#obtain(key);
    this.#write(directory, record);
    this.#touch(directory, record.name);
  }

  forget(key: string, name: string): void {
    const directory = this.directories.get(key);
    if (!directory) return;
    this.#step++;
    directory.rows.delete(name);
    this.#touch(directory, name);
  }

  startListing(key: string, now: number): void {
    const directory = this.#obtain(key);
    this.listings.push({ directory, startedAt: now, step: this.#step, touched: new Set(), over: false });
  }

  page(listing: ListingModel, records: readonly NewEntryRecord[]): void {
    if (listing.over) return;
    for (const record of records) {
      if (listing.touched.has(record.name)) continue;
      const known = listing.directory.rows.get(record.name)?.record;
      const sameKind = known !== undefined && known.kind === record.kind;
      const same = sameKind && known.validator === record.validator && known.size === record.size;
      this.#write(listing.directory, {
        ...record,
        ino: record.ino ?? (sameKind ? known.ino : undefined),
        attributes: record.attributes ?? (same ? known.attributes : undefined),
      });
    }
  }

  complete(listing: ListingModel): void {
    if (listing.over) return;
    listing.over = true;
    const { directory } = listing;
    // Also when that is earlier: a clock may have been set back.
    directory.completeAt = listing.startedAt;
    for (const [name, row] of directory.rows) {
      if (row.step <= listing.step) directory.rows.delete(name);
    }
  }

  markComplete(key: string, now: number): void {
    this.#obtain(key).completeAt = now;
  }

  expire(key: string): void {
    const directory = this.directories.get(key);
    if (!directory) return;
    this.#end(directory);
    directory.completeAt = undefined;
    for (const row of directory.rows.values()) row.record = { ...row.record, seenAt: 0 };
  }

  forgetTree(key: string): void {
    for (const [each, directory] of [...this.directories]) {
      if (!within(each, key)) continue;
      this.directories.delete(each);
      this.#end(directory);
    }
  }

  moveDirectory(from: string, to: string): void {
    this.forgetTree(to);
    for (const [each, directory] of [...this.directories]) {
      if (!within(each, from)) continue;
      this.directories.delete(each);
      this.directories.set(to + each.slice(from.length), directory);
      this.#end(directory);
    }
  }

  entries(key: string): EntryRecord[] {
    return [...(this.directories.get(key)?.rows.values() ?? [])]
      .map((row) => row.record)
      .filter((record) => record.kind !== 'absent')
      .sort((a, b) => a.position - b.position);
  }

  linkNames(group: string): string[] {
    const names: string[] = [];
    for (const [key, directory] of this.directories) {
      for (const { record } of directory.rows.values()) {
        if (record.kind !== 'absent' && record.attributes?.linkGroup === group)
          names.push(`${key}|${record.name}`);
      }
    }
    return names.sort();
  }

  /** A restart of the program: listings do not survive it. */
  restart(): void {
    for (const listing of this.listings) listing.over = true;
    this.listings.length = 0;
  }

  #write(directory: DirectoryModel, record: NewEntryRecord): void {
    const position = directory.rows.get(record.name)?.record.position ?? Number.NaN;
    directory.rows.set(record.name, { record: { ...record, position }, step: ++this.#step });
  }

  #touch(directory: DirectoryModel, name: string): void {
    for (const listing of this.listings) {
      if (listing.directory === directory && !listing.over) listing.touched.add(name);
    }
  }

  #end(directory: DirectoryModel): void {
    for (const listing of this.listings) {
      if (listing.directory === directory) listing.over = true;
    }
  }

  #obtain(key: string): DirectoryModel {
    let directory = this.directories.get(key);
    if (!directory) {
      directory = { completeAt: undefined, rows: new Map() };
      this.directories.set(key, directory);
    }
    return directory;
  }
}
