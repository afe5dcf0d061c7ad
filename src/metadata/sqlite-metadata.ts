import type { Log } from '../log/log.js';
import type {
  EntryRecord,
  ListingState,
  ListingWriter,
  LocationId,
  MetadataStore,
  NewEntryRecord,
} from './contract.js';
import { Directory, looksAlike, type Row } from './directory.js';
import { DirectoryTable } from './directory-table.js';
import { KeptPages } from './kept-pages.js';
import { KeptRows } from './kept-rows.js';
import { Listing } from './listing.js';
import { Reader, rowOf } from './reader.js';
import { type Change, kindCodes, moveAside, openDatabase } from './schema.js';
import { type QueuedChange, WriteBehind } from './write-behind.js';
import { openWriter } from './writer-channel.js';

/** Sequences left out at each start: a crash may have lost the last ones, and a position is never given twice. */
const RESTART_GAP = 1_000_000;

/** Changes kept in memory while the database cannot be written; beyond it the cache starts anew. */
const QUEUE_LIMIT = 500_000;

/** Changes on their way beyond which listings wait. */
const BACKLOG = 8_000;

const NEVER_LISTED: ListingState = { completeAt: undefined, names: 0, order: 0 };

export class SqliteMetadata implements MetadataStore {
  readonly #file: string;
  readonly #log: Log;
  readonly #inThread: boolean;
  readonly #directories = new DirectoryTable();
  readonly #locations = new Map<string, LocationId>();
  /** Rows on their way that carry a link group. */
  readonly #linked = new Map<string, Set<Row>>();
  readonly #kept = new KeptRows();
  readonly #pages = new KeptPages();
  #reader: Reader;
  #writer: WriteBehind;
  /** The last change; see schema.ts. */
  #sequence: number;
  /** The last change that the database has. */
  #applied: number;
  #retired: Promise<void> = Promise.resolve();

  constructor(file: string, log: Log, inThread: boolean) {
    this.#file = file;
    this.#log = log;
    this.#inThread = inThread;
    openDatabase(file, log).close();
    this.#reader = this.#openReader();
    this.#writer = this.#openWriter();
    this.#applied = this.#reader.advance();
    this.#sequence = this.#applied + RESTART_GAP;
    for (const { id, identity } of this.#reader.locations()) this.#locations.set(identity, id);
  }

  location(identity: string): LocationId {
    let id = this.#locations.get(identity);
    if (id === undefined) {
      id = ++this.#sequence;
      this.#locations.set(identity, id);
      this.#push(id, ['location', id, identity]);
    }
    return id;
  }

  entry(location: LocationId, key: string, name: string): EntryRecord | undefined {
    const directory = this.#directories.find(this.#reader, location, key);
    return directory && this.row(directory, name);
  }

  put(location: LocationId, key: string, record: NewEntryRecord): void {
    const directory = this.#obtain(location, key);
    const row = directory.pending(record.name) ?? this.#kept.get(directory, record.name);
    if (row !== undefined || directory.id > this.#applied) {
      this.write(directory, record, row && directory.visible(row));
    } else {
      const position = this.#reader.position(directory.id, record.name, directory.floor);
      if (position === undefined) this.write(directory, record, undefined);
      else {
        directory.reordered();
        this.#place(directory, record, position);
      }
    }
    for (const listing of directory.listings) listing.touched.add(record.name);
  }

  forget(location: LocationId, key: string, name: string): void {
    const directory = this.#directories.find(this.#reader, location, key);
    if (!directory) return;
    const sequence = ++this.#sequence;
    directory.reordered();
    this.#setPending({ directory, name, sequence, record: undefined }, ['forget', directory.id, name]);
    for (const listing of directory.listings) listing.touched.add(name);
  }

  listing(location: LocationId, key: string): ListingState {
    return this.#directories.find(this.#reader, location, key) ?? NEVER_LISTED;
  }

  startListing(location: LocationId, key: string, now: number): ListingWriter {
    return new Listing(this, this.#obtain(location, key), this.#sequence, now);
  }

  entries(location: LocationId, key: string, after: number, limit: number): readonly EntryRecord[] {
    const directory = this.#directories.find(this.#reader, location, key);
    if (!directory) return [];
    const known = this.#pages.get(directory, after, limit);
    if (known !== undefined) return known;
    const found: EntryRecord[] = [];
    let from = after;
    while (directory.id <= this.#applied && found.length < limit) {
      const wanted = limit - found.length;
      // Negative rows and rows that are gone too: memory may know better of one.
      const rows = this.#reader.entries(directory.id, from, 0, wanted);
      for (const values of rows) {
        const [name, position, sequence] = values;
        from = position;
        let row = directory.pending(name);
        if (row === undefined) {
          if (sequence <= directory.floor) continue;
          row = this.#kept.get(directory, name);
          if (row?.sequence !== sequence) row = rowOf(directory, values);
        }
        const record = directory.visible(row);
        if (record && record.position === position && record.kind !== 'absent') found.push(record);
      }
      if (rows.length < wanted) break;
    }
    directory.collectFirst(after, limit, found);
    // While it is being listed it changes with every page.
    if (directory.listings.size === 0) this.#pages.set(directory, after, limit, found);
    return found;
  }

  markComplete(location: LocationId, key: string, now: number): void {
    const directory = this.#obtain(location, key);
    directory.completeAt = now;
    this.saveDirectory(directory);
  }

  expire(location: LocationId, key: string): void {
    const directory = this.#directories.find(this.#reader, location, key);
    if (!directory) return;
    directory.voidListings();
    directory.completeAt = undefined;
    directory.expired = ++this.#sequence;
    this.saveDirectory(directory);
  }

  moveDirectory(location: LocationId, from: string, to: string): void {
    this.forgetTree(location, to);
    const sequence = ++this.#sequence;
    this.#directories.move(sequence, location, from, to);
    this.#push(sequence, ['moveDirectories', to, from, location, from, from, from, from]);
  }

  forgetTree(location: LocationId, key: string): void {
    const sequence = ++this.#sequence;
    this.#directories.remove(sequence, location, key);
    const below = [location, key, key, key, key] as const;
    this.#push(sequence, ['forgetEntriesBelow', ...below]);
    this.#push(sequence, ['forgetDirectoriesBelow', ...below]);
  }

  linkNames(location: LocationId, group: string): { directory: string; name: string }[] {
    const names: { directory: string; name: string }[] = [];
    for (const row of this.#reader.links(location, group)) {
      const key = this.#directories.presentKey(location, row.key);
      const directory = key === undefined ? undefined : this.#directories.find(this.#reader, location, key);
      if (!directory || directory.id !== row.id || row.sequence <= directory.floor) continue;
      if (!directory.pending(row.name)) names.push({ directory: directory.key, name: row.name });
    }
    for (const row of this.#linked.get(group) ?? []) {
      const { directory, name } = row;
      if (directory.gone || directory.location !== location || directory.pending(name) !== row) continue;
      const record = directory.visible(row);
      if (record && record.kind !== 'absent') names.push({ directory: directory.key, name });
    }
    return names;
  }

  backlog(): Promise<void> | undefined {
    return this.#writer.shorter(BACKLOG);
  }

  settled(): Promise<void> {
    return this.#writer.settled();
  }

  async close(): Promise<void> {
    await this.#writer.settled().catch((error: Error) => {
      this.#log.error('metadata cache closed with changes that could not be written', {
        error: error.message,
      });
    });
    this.#reader.close();
    await this.#writer.close();
    await this.#retired;
  }

  /** What is known of a name in a directory. */
  row(directory: Directory, name: string): EntryRecord | undefined {
    const known = directory.pending(name) ?? this.#kept.get(directory, name);
    if (known !== undefined) return directory.visible(known);
    if (directory.id > this.#applied) return undefined;
    const values = this.#reader.entry(directory.id, name, directory.floor);
    if (values === undefined) return undefined;
    const row = rowOf(directory, values);
    this.#kept.set(row);
    return directory.visible(row);
  }

  isEmpty(directory: Directory): boolean {
    if (directory.hasPending) return false;
    return directory.id > this.#applied || this.#reader.entries(directory.id, 0, 0, 1).length === 0;
  }

  /** Puts a record in the place of another one, or behind all others. */
  write(directory: Directory, record: NewEntryRecord, known: EntryRecord | undefined): void {
    if (known === undefined) {
      if (record.kind !== 'absent') directory.appended();
    } else if (!looksAlike(known, record)) directory.reordered();
    this.#place(directory, record, known?.position);
  }

  #place(directory: Directory, record: NewEntryRecord, position: number | undefined): void {
    const sequence = ++this.#sequence;
    const { name, kind, size, validator, modifiedSeconds, modifiedNanoseconds, attributes, ino, seenAt } =
      record;
    const placed: EntryRecord = { ...record, position: position ?? sequence };
    this.#setPending({ directory, name, sequence, record: placed }, [
      'put',
      directory.id,
      name,
      placed.position,
      sequence,
      kindCodes[kind],
      size,
      validator ?? null,
      modifiedSeconds,
      modifiedNanoseconds,
      attributes ? JSON.stringify(attributes) : null,
      attributes?.linkGroup ?? null,
      ino ?? null,
      seenAt,
    ]);
  }

  /** The listing that was started at `floor` has come to its end. */
  finishListing(directory: Directory, floor: number, startedAt: number, first: boolean): void {
    // Names that the store does not have any more are gone with it, and nobody has counted them.
    if (!first) directory.reordered();
    directory.floor = Math.max(directory.floor, floor);
    directory.completeAt = startedAt;
    this.saveDirectory(directory);
    this.#push(++this.#sequence, ['sweep', directory.id, directory.floor]);
  }

  saveDirectory(directory: Directory): void {
    const { id, location, key, completeAt, floor, expired } = directory;
    directory.changed = ++this.#sequence;
    directory.version++;
    this.#push(directory.changed, ['directory', id, location, key, completeAt ?? null, floor, expired]);
  }

  #obtain(location: LocationId, key: string): Directory {
    const known = this.#directories.find(this.#reader, location, key);
    if (known) return known;
    const id = ++this.#sequence;
    const directory = new Directory(id, location, key, id);
    this.#directories.add(directory);
    this.#push(id, ['directory', id, location, key, null, 0, 0]);
    return directory;
  }

  #setPending(row: Row, change: Change): void {
    const replaced = row.directory.setPending(row);
    if (replaced) this.#unlink(replaced);
    const group = row.record?.attributes?.linkGroup;
    if (group !== undefined) {
      const rows = this.#linked.get(group);
      if (rows) rows.add(row);
      else this.#linked.set(group, new Set([row]));
    }
    this.#push(row.sequence, change, row);
  }

  #unlink(row: Row): void {
    const group = row.record?.attributes?.linkGroup;
    const rows = group === undefined ? undefined : this.#linked.get(group);
    if (!rows) return;
    rows.delete(row);
    if (rows.size === 0) this.#linked.delete(group!);
  }

  #push(sequence: number, change: Change, row?: Row): void {
    if (this.#writer.length >= QUEUE_LIMIT) this.#rebuild(new Error('too many changes could not be written'));
    else this.#writer.push({ sequence, change, row });
  }

  #settle(batch: readonly QueuedChange[]): void {
    this.#applied = this.#reader.advance();
    for (const { row } of batch) {
      if (!row) continue;
      if (row.directory.settle(row)) {
        if (row.record === undefined) this.#kept.delete(row.directory, row.name);
        else this.#kept.set(row);
      }
      row.directory.dropFirst(this.#applied);
      this.#unlink(row);
    }
    this.#directories.settle(this.#applied);
  }

  /** The file is of no use any more: starts with an empty one. Sequences go on, so that no position comes twice. */
  #rebuild(error: unknown): void {
    this.#reader.close();
    const retired = this.#writer;
    this.#retired = this.#retired.then(() => retired.close());
    moveAside(this.#file, this.#log, error);
    openDatabase(this.#file, this.#log).close();
    this.#directories.clear();
    this.#linked.clear();
    this.#kept.clear();
    this.#pages.clear();
    this.#reader = this.#openReader();
    this.#writer = this.#openWriter();
    this.#applied = this.#reader.advance();
    for (const [identity, id] of this.#locations) this.#push(id, ['location', id, identity]);
  }

  #openReader(): Reader {
    return new Reader(this.#file, (error) => this.#rebuild(error));
  }

  #openWriter(): WriteBehind {
    const owner = {
      applied: (batch: readonly QueuedChange[]) => this.#settle(batch),
      corrupt: (error: Error) => this.#rebuild(error),
    };
    return new WriteBehind(openWriter(this.#file, this.#inThread, this.#log), owner, this.#log);
  }
}
