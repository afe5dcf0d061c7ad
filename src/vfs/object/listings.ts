/** Listings of directories: asked of the store page by page, once for all who want them, into rows. */
import type { ListPage } from '../../backends/contract.js';
import type { EntryRecord, ListingWriter, NewEntryRecord } from '../../metadata/contract.js';
import { NONE, ROOT_SLOT, type Slot } from '../inodes/inode-table.js';
import { recordOf } from '../inodes/records.js';
import { Remembered } from '../inodes/remembered.js';
import type { ByteString } from '../operations.js';
import { nameOf, nameOfFileBesideDirectory } from './names.js';
import type { Nodes } from './nodes.js';

const ROWS_AT_ONCE = 256;
/** Pages that a listing brings although its readers have gone meanwhile: the directory is complete then, for most. */
const UNWANTED_PAGES = 8;
/** The same of pages that the store sends by itself. */
const UNASKED_PAGES = 64;

/** A listing under way: readers follow it from page to page. */
export class RunningListing {
  /** Wall time, milliseconds, when the store was asked: what its rows are marked with. */
  readonly startedAt: number;
  /** Every page, not only the first. */
  whole: boolean;
  /** Readers that follow it, and whoever waits for its end. */
  wanted = 0;
  over = false;
  /** Over, and the directory is what was listed. */
  complete = false;
  /** What broke it off; undefined after the last page, and where it was given up. */
  failure: unknown;
  #waiting: (() => void)[] = [];

  constructor(startedAt: number, whole: boolean) {
    this.startedAt = startedAt;
    this.whole = whole;
  }

  /** Resolves when a page has arrived, or nothing more comes. */
  next(): Promise<void> {
    return this.over ? Promise.resolve() : new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Resolves at the end; rejects with what broke it off. */
  async end(): Promise<void> {
    while (!this.over) await this.next();
    if (this.failure !== undefined) throw this.failure;
  }

  /** The row is what the store said in answer to this listing. */
  has(row: EntryRecord): boolean {
    return row.seenAt === this.startedAt;
  }

  arrived(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  /** `unasked`: the store sends every page by itself. */
  goesOn(pages: number, unasked: boolean): boolean {
    if (unasked && pages < UNASKED_PAGES) return true;
    return this.whole && (this.wanted > 0 || pages < UNWANTED_PAGES);
  }
}

export class Listings {
  readonly #nodes: Nodes;
  readonly #running = new Map<string, RunningListing>();
  /** Directories of more than a page: not listed for a look-up. */
  readonly #large = new Remembered<true>();

  constructor(nodes: Nodes) {
    this.#nodes = nodes;
  }

  /** The directory is known to have more than a page. */
  isLarge(directory: string): boolean {
    return this.#large.get(directory) === true;
  }

  isComplete(directory: string): boolean {
    const { completeAt } = this.#nodes.metadata.listing(this.#nodes.location, directory);
    return completeAt !== undefined && this.#nodes.validFor(completeAt, directory) > 0;
  }

  /** Asks the store for the whole directory, and waits for the last page. */
  async refresh(slot: Slot): Promise<void> {
    const directory = this.#nodes.directoryKey(slot);
    const running = this.#running.get(directory);
    const listing = this.follow(slot);
    const joined = listing === running;
    try {
      await listing.end();
    } finally {
      this.leave(listing);
    }
    const key = this.#nodes.directoryKeyIfAny(slot);
    // It was moved meanwhile: what came is of its old key. Or others had begun it too long ago.
    if (key !== undefined && (key !== directory || (joined && !this.isComplete(key)))) {
      await this.refresh(slot);
    }
  }

  /** The listing that is under way, or a new one where that one began too long ago to be believed. Whoever follows it leaves it, too. */
  follow(slot: Slot): RunningListing {
    const directory = this.#nodes.directoryKey(slot);
    const running = this.#running.get(directory);
    const fresh = running !== undefined && this.#nodes.validFor(running.startedAt, directory) > 0;
    const listing = fresh ? running : this.#start(slot, directory, true);
    listing.whole = true;
    listing.wanted++;
    return listing;
  }

  leave(listing: RunningListing): void {
    listing.wanted--;
  }

  /** The first page only; complete if that is all. Nobody waits for it, so nobody hears of its failure. */
  preload(slot: Slot): void {
    const directory = this.#nodes.directoryKey(slot);
    if (!this.#running.has(directory)) this.#start(slot, directory, false);
  }

  #start(slot: Slot, directory: string, whole: boolean): RunningListing {
    const listing = new RunningListing(this.#nodes.now(), whole);
    this.#running.set(directory, listing);
    this.#nodes.table.pin(slot);
    const ended = (): void => {
      if (this.#running.get(directory) === listing) this.#running.delete(directory);
      this.#nodes.table.unpin(slot);
      listing.over = true;
      listing.arrived();
    };
    this.#pages(slot, directory, listing).then(ended, (error: unknown) => {
      this.#nodes.context.log.debug('a listing broke off', { directory, reason: String(error) });
      listing.failure = error;
      ended();
    });
    return listing;
  }

  /** The kernel asks again for every name in a directory that it may know. */
  forgetInKernel(slot: Slot, directory: string): void {
    const { metadata, location, table, context } = this.#nodes;
    for (let after = 0; ; ) {
      const rows = metadata.entries(location, directory, after, ROWS_AT_ONCE);
      for (const { name, position } of rows) {
        if (table.child(slot, name) !== NONE) context.notifier.invalidateEntry(table.id(slot), name);
        after = position;
      }
      if (rows.length < ROWS_AT_ONCE) break;
    }
  }

  async #pages(slot: Slot, directory: string, listing: RunningListing): Promise<void> {
    const { metadata, location, port, mount } = this.#nodes;
    const stopped = new AbortController();
    const ask = (cursor?: string): Promise<ListPage> => {
      const page = port.list(mount, directory, cursor, stopped.signal);
      page.catch(() => undefined);
      return page;
    };
    const writer = metadata.startListing(location, directory, listing.startedAt);
    try {
      let coming = ask();
      let marker: boolean | undefined = false;
      let unasked = true;
      for (let pages = 1; ; pages++) {
        const page = await coming;
        if (this.#nodes.directoryKeyIfAny(slot) !== directory) break;
        const { cursor } = page;
        marker = marker === false ? page.marker : marker;
        if (cursor !== undefined) unasked &&= page.coming === true;
        // The next one is on its way while this one is taken in.
        const next = cursor !== undefined && listing.goesOn(pages, unasked) ? ask(cursor) : undefined;
        this.#nodes.settled.changed();
        writer.page(this.#rows(writer, page, slot, directory, listing.startedAt));
        if (cursor !== undefined && !unasked) this.#large.set(directory, true);
        if (cursor === undefined) {
          if (pages === 1 || unasked) this.#large.delete(directory);
          this.#keepOwn(slot);
          writer.complete();
          listing.complete = metadata.listing(location, directory).completeAt === listing.startedAt;
          this.#nodes.recount(directory);
          if (marker !== undefined) this.#tellOwnAttributes(slot, marker);
          return;
        }
        listing.arrived();
        for (let full = metadata.backlog(); full !== undefined; full = metadata.backlog()) await full;
        if (!listing.goesOn(pages, unasked)) {
          this.#large.set(directory, true);
          break;
        }
        coming = next ?? ask(cursor);
      }
      writer.abandon();
    } catch (error) {
      writer.abandon();
      throw error;
    } finally {
      stopped.abort();
    }
  }

  /** A directory without a marker has no attributes, and nobody need ask for them; one that has got a marker may have some. */
  #tellOwnAttributes(slot: Slot, marker: boolean): void {
    const { table } = this.#nodes;
    const record = slot === ROOT_SLOT || this.#nodes.inUse(slot) ? undefined : this.#nodes.record(slot);
    if (record?.kind !== 'directory' || record.validator !== undefined) return;
    const { position: _, ...rest } = record;
    const { attributes } = record;
    if (!marker && attributes === undefined) this.#nodes.put(table.parent(slot), { ...rest, attributes: {} });
    const none = attributes !== undefined && Object.keys(attributes).length === 0;
    if (marker && none) this.#nodes.put(table.parent(slot), { ...rest, attributes: undefined });
  }

  /** What is made here and not in the store yet must outlive a listing that does not have it. */
  #keepOwn(slot: Slot): void {
    for (const inode of this.#nodes.allInUse()) {
      if (!inode.holdsTruth) continue;
      if (this.#nodes.table.names(inode.slot).some(({ parent }) => parent === slot))
        this.#nodes.publish(inode);
    }
  }

  /** Another host has made or changed the file: the kernel need not wait until what it knows has grown old. */
  #tellKernel(slot: Slot, before: EntryRecord, now: NewEntryRecord): void {
    const { table, context } = this.#nodes;
    if (now.kind !== 'file' || (before.kind === 'file' && before.validator === now.validator)) return;
    const known = table.child(slot, now.name);
    if (before.kind === 'absent' || (known !== NONE && this.#nodes.inUse(known)?.holdsTruth !== true)) {
      context.notifier.invalidateEntry(table.id(slot), now.name);
    }
  }

  #rows(
    writer: ListingWriter,
    page: ListPage,
    slot: Slot,
    directory: string,
    started: number,
  ): NewEntryRecord[] {
    const { longNames } = this.#nodes;
    const rows = new Map<ByteString, NewEntryRecord>();
    for (const info of page.entries) {
      if (info.key === directory) continue;
      const component = info.key.slice(info.key.lastIndexOf('/') + 1);
      const name = nameOf(component);
      const previous = writer.known(name);
      const record = recordOf(info, name, previous, started);
      if (previous !== undefined) this.#tellKernel(slot, previous, record);
      longNames.remember(directory, name, component);
      const twin = rows.get(name) ?? (previous?.seenAt === started ? previous : undefined);
      if (twin === undefined || twin.kind === 'absent' || twin.kind === record.kind) {
        rows.set(name, record);
        continue;
      }
      // A file and a directory of one name: the directory keeps it.
      const [file, folder] = record.kind === 'file' ? [record, twin] : [twin, record];
      const other = nameOfFileBesideDirectory(component);
      longNames.remember(directory, other, component);
      rows.set(other, { ...file, name: other });
      rows.set(name, { ...folder, name });
    }
    return [...rows.values()];
  }
}
