/**
 * Looking up and listing. What is asked of the store, cheapest first:
 * - A name that a fresh row or a fresh complete listing answers costs nothing.
 * - A stale listing is asked again as a whole, once for all who wait, not name by name. A directory that was never listed is
 *   listed behind the first look-up of a name in it, one page; one that does not fit a page is asked name by name until it is walked.
 * - A listing carries size, time and version, but not the attributes that the store keeps for us. They come with the HEAD of the first
 *   look-up or open of that single name, never for a whole directory; until then a file shows 0644, the daemon's owner and the
 *   time of the store. Where several objects in a row turned out to have none, the rest of the directory is taken for foreign too.
 */
import type { ListPage, ObjectInfo } from '../../backends/contract.js';
import { errno } from '../../errors/errno.js';
import type { EntryRecord, NewEntryRecord } from '../../metadata/contract.js';
import { Attributes, S_IFDIR, S_IFMT } from '../attributes.js';
import {
  type Answer,
  type AttributesReply,
  type ByteString,
  type DirectorySink,
  EntryReply,
  type Handle,
} from '../operations.js';
import { modeOf } from './attributes-of.js';
import { NONE, ROOT_SLOT, type Slot } from './inode-table.js';
import { isSpelled, NAME_BYTES, nameOf, nameOfFileBesideDirectory } from './names.js';
import type { Nodes } from './nodes.js';
import { recordOf } from './records.js';

/** Objects in a row without attributes of ours, after which a directory counts as foreign. */
const FOREIGN_AFTER = 8;
/** Nodes beyond which listings stop adding more: the kernel looks up what it needs. */
const NODES_FROM_LISTINGS = 200_000;
const ROWS_AT_ONCE = 256;
/** Directories of which something is remembered beside their rows; of the oldest it is found out again. */
const REMEMBERED = 10_000;
/** Cookies 1 and 2 are `.` and `..`; a row's is its position + 2. */
const DOTS = 2;

export class Directories {
  readonly #nodes: Nodes;
  readonly #handles = new Map<Handle, { ready: boolean }>();
  #nextHandle: Handle = 1;
  readonly #listings = new Map<string, Promise<void>>();
  readonly #lookups = new Map<string, Promise<void>>();
  /** Directories of more than a page: not listed for a look-up. */
  readonly #large = new Set<string>();
  /** How many objects in a row had no attributes of ours. */
  readonly #withoutAttributes = new Map<string, number>();
  readonly #scratch = new Attributes();
  readonly #entry = new EntryReply();

  constructor(nodes: Nodes) {
    this.#nodes = nodes;
  }

  // Look-up.

  lookup(parent: Slot, name: ByteString, reply: EntryReply): Answer<void> {
    if (name.length > NAME_BYTES) {
      reply.fail(errno.ENAMETOOLONG);
      return undefined;
    }
    if (this.#answerKnown(parent, name, reply, this.#scratch)) return undefined;
    return this.#lookupSlowly(parent, name, reply);
  }

  async #lookupSlowly(parent: Slot, name: ByteString, reply: EntryReply): Promise<void> {
    this.#nodes.table.pin(parent);
    try {
      await this.ask(parent, name);
      const attributes = new Attributes();
      if (this.#answerKnown(parent, name, reply, attributes)) return;
      // The answer is younger than the question, even where a ttl of 0 says that it may not be kept.
      const record = this.#nodes.entry(parent, name);
      if (record === undefined || record.kind === 'absent') {
        reply.nodeId = 0;
        reply.entryValid = 0;
        return;
      }
      this.#nodes.answer(this.#nodes.enter(parent, name, record), 0, reply, attributes);
    } finally {
      this.#nodes.table.unpin(parent);
    }
  }

  #answerKnown(parent: Slot, name: ByteString, reply: EntryReply, scratch: Attributes): boolean {
    const nodes = this.#nodes;
    const slot = nodes.table.child(parent, name);
    if (slot !== NONE && nodes.inUse(slot)?.holdsTruth === true) {
      nodes.answer(slot, nodes.fullyValid, reply, scratch);
      return true;
    }
    const directory = nodes.directoryKey(parent);
    const record = nodes.metadata.entry(nodes.location, directory, name);
    if (record === undefined) {
      const completeAt = nodes.metadata.listing(nodes.location, directory).completeAt;
      const valid = completeAt === undefined ? 0 : nodes.validFor(completeAt);
      if (valid === 0) return false;
      reply.nodeId = 0;
      reply.entryValid = valid;
      return true;
    }
    const valid = nodes.validFor(record.seenAt);
    if (valid === 0) return false;
    if (record.kind === 'absent') {
      reply.nodeId = 0;
      reply.entryValid = valid;
      return true;
    }
    if (isUnknown(record) || this.#lacksAttributes(directory, record)) return false;
    nodes.answer(nodes.enter(parent, name, record), valid, reply, scratch);
    return true;
  }

  #lacksAttributes(directory: string, record: EntryRecord): boolean {
    return record.attributes === undefined && (this.#withoutAttributes.get(directory) ?? 0) < FOREIGN_AFTER;
  }

  /** Brings the row of a name up to date: by its directory's listing where that is the cheaper way, else by itself. */
  ask(parent: Slot, name: ByteString): Promise<void> {
    const directory = this.#nodes.directoryKey(parent);
    const key = `${directory}/${name}`;
    const running = this.#lookups.get(key);
    if (running !== undefined) return running;
    const asked = this.#ask(parent, directory, name).finally(() => this.#lookups.delete(key));
    this.#lookups.set(key, asked);
    return asked;
  }

  async #ask(parent: Slot, directory: string, name: ByteString): Promise<void> {
    const { metadata, location } = this.#nodes;
    const completeAt = metadata.listing(location, directory).completeAt;
    if (isSpelled(name)) {
      await this.refresh(parent);
      if (metadata.entry(location, directory, name) === undefined) this.#nodes.putAbsent(parent, name);
      return;
    }
    if (completeAt !== undefined && this.#nodes.validFor(completeAt) === 0 && !this.#large.has(directory)) {
      await this.refresh(parent);
      const record = metadata.entry(location, directory, name);
      if (record === undefined) {
        this.#nodes.putAbsent(parent, name);
        return;
      }
      if (!isUnknown(record) && !this.#lacksAttributes(directory, record)) return;
    } else if (completeAt === undefined && !this.#large.has(directory)) {
      this.#preload(parent);
    }
    await this.askStore(parent, name);
  }

  /** The store's own word on one name, attributes included; the row follows it unless something here is newer. */
  async askStore(parent: Slot, name: ByteString): Promise<ObjectInfo | undefined> {
    const nodes = this.#nodes;
    const asked = nodes.now();
    const key = nodes.keyOf(parent, name);
    const info = await nodes.port.stat(nodes.mount, key);
    // A directory that was moved or removed meanwhile: the answer is of another name.
    const stillThere = nodes.directoryKeyIfAny(parent) !== undefined && nodes.keyOf(parent, name) === key;
    if (stillThere) this.#heard(parent, name, info, asked);
    return info;
  }

  #heard(parent: Slot, name: ByteString, info: ObjectInfo | undefined, asked: number): void {
    const nodes = this.#nodes;
    const directory = nodes.directoryKey(parent);
    const previous = nodes.metadata.entry(nodes.location, directory, name);
    const slot = nodes.table.child(parent, name);
    if (slot !== NONE && nodes.inUse(slot)?.holdsTruth === true) return;
    // Something was made or removed here while the store was answering.
    if (previous !== undefined && previous.seenAt > asked && previous.seenAt <= nodes.now()) return;
    if (info === undefined) {
      nodes.putAbsent(parent, name);
      return;
    }
    if (info.kind === 'file' && previous?.kind === 'directory' && nodes.validFor(previous.seenAt) > 0) {
      // The store has both, and answers a question for the name with the file.
      const { position: _, ...folder } = previous;
      nodes.put(parent, { ...folder, attributes: folder.attributes ?? {} });
      return;
    }
    const without = info.attributes === undefined || Object.keys(info.attributes).length === 0;
    if (!without) this.#withoutAttributes.delete(directory);
    else if (info.kind === 'file') {
      this.#withoutAttributes.set(directory, (this.#withoutAttributes.get(directory) ?? 0) + 1);
      forgetOldest(this.#withoutAttributes);
    }
    const record = recordOf(info, name, previous, asked);
    // A store that keeps no attributes will not have them the next time either.
    nodes.put(parent, record.attributes === undefined ? { ...record, attributes: {} } : record);
  }

  getattr(slot: Slot, reply: AttributesReply): Answer<void> {
    const nodes = this.#nodes;
    const inode = nodes.inUse(slot);
    const record = slot === ROOT_SLOT || inode !== undefined ? undefined : nodes.record(slot);
    const valid = record === undefined ? nodes.fullyValid : nodes.validFor(record.seenAt);
    const parent = nodes.table.parent(slot);
    if (record !== undefined && valid === 0 && parent !== NONE) return this.#getattrSlowly(slot, reply);
    if (!nodes.fill(slot, this.#scratch)) return this.#getattrSlowly(slot, reply);
    reply.attributesValid = valid;
    reply.attributes = this.#scratch;
    return undefined;
  }

  async #getattrSlowly(slot: Slot, reply: AttributesReply): Promise<void> {
    const { table } = this.#nodes;
    const parent = table.parent(slot);
    if (parent === NONE) {
      reply.fail(errno.ESTALE);
      return;
    }
    const name = table.name(slot);
    table.pin(slot);
    try {
      await this.ask(parent, name);
      const record = this.#nodes.entry(parent, name);
      const attributes = new Attributes();
      if (
        record === undefined ||
        record.kind === 'absent' ||
        this.#nodes.enter(parent, name, record) !== slot ||
        !this.#nodes.fill(slot, attributes)
      ) {
        reply.fail(errno.ESTALE);
        return;
      }
      reply.attributesValid = this.#nodes.validFor(record.seenAt);
      reply.attributes = attributes;
    } finally {
      table.unpin(slot);
    }
  }

  // Listings.

  isComplete(directory: string): boolean {
    const { completeAt } = this.#nodes.metadata.listing(this.#nodes.location, directory);
    return completeAt !== undefined && this.#nodes.validFor(completeAt) > 0;
  }

  /** Asks the store for the whole directory, once for all who want it. */
  refresh(slot: Slot): Promise<void> {
    return this.#list(slot, true);
  }

  /** The first page only; complete if that is all. Nobody waits for it, so nobody hears of its failure. */
  #preload(slot: Slot): void {
    this.#list(slot, false).catch((error: unknown) => {
      this.#nodes.context.log.debug('listing ahead failed', { reason: String(error) });
    });
  }

  async #list(slot: Slot, whole: boolean): Promise<void> {
    const directory = this.#nodes.directoryKey(slot);
    const running = this.#listings.get(directory);
    if (running !== undefined) {
      await running;
      // It was for a page only, or began too long ago.
      if (whole && !this.isComplete(directory)) await this.#list(slot, whole);
      return;
    }
    this.#nodes.table.pin(slot);
    const listing = this.#pages(slot, directory, whole).finally(() => {
      this.#listings.delete(directory);
      this.#nodes.table.unpin(slot);
    });
    this.#listings.set(directory, listing);
    await listing;
    const key = this.#nodes.directoryKeyIfAny(slot);
    // It was moved meanwhile: what came is of its old key.
    if (whole && key !== undefined && key !== directory) await this.#list(slot, whole);
  }

  async #pages(slot: Slot, directory: string, whole: boolean): Promise<void> {
    const { metadata, location, port, mount } = this.#nodes;
    const started = this.#nodes.now();
    const writer = metadata.startListing(location, directory, started);
    try {
      const moved = () => this.#nodes.directoryKeyIfAny(slot) !== directory;
      let page = await port.list(mount, directory, undefined);
      if (moved()) return writer.abandon();
      writer.page(this.#rows(page, directory, started));
      if (page.cursor !== undefined) this.#large.add(directory);
      else this.#large.delete(directory);
      forgetOldest(this.#large);
      while (page.cursor !== undefined) {
        if (!whole) {
          writer.abandon();
          return;
        }
        page = await port.list(mount, directory, page.cursor);
        if (moved()) return writer.abandon();
        writer.page(this.#rows(page, directory, started));
      }
      this.#keepOwn(slot);
      writer.complete();
      this.#nodes.recount(directory);
    } catch (error) {
      writer.abandon();
      throw error;
    }
  }

  /** What is made here and not in the store yet must outlive a listing that does not have it. */
  #keepOwn(slot: Slot): void {
    for (const inode of this.#nodes.allInUse()) {
      if (!inode.holdsTruth) continue;
      if (this.#nodes.table.names(inode.slot).some(({ parent }) => parent === slot))
        this.#nodes.publish(inode);
    }
  }

  #rows(page: ListPage, directory: string, started: number): NewEntryRecord[] {
    const { metadata, location, longNames } = this.#nodes;
    const rows = new Map<ByteString, NewEntryRecord>();
    for (const info of page.entries) {
      if (info.key === directory) continue;
      const component = info.key.slice(info.key.lastIndexOf('/') + 1);
      const name = nameOf(component);
      const previous = metadata.entry(location, directory, name);
      const record = recordOf(info, name, previous, started);
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

  // Reading a directory.

  opendir(): Handle {
    const handle = this.#nextHandle++;
    this.#handles.set(handle, { ready: false });
    return handle;
  }

  releasedir(handle: Handle): void {
    this.#handles.delete(handle);
  }

  readdir(slot: Slot, handle: Handle, cookie: number, sink: DirectorySink): Answer<void> {
    const open = this.#handles.get(handle);
    const directory = this.#nodes.directoryKeyIfAny(slot);
    if (directory === undefined) return undefined;
    if ((cookie === 0 || open?.ready !== true) && !this.isComplete(directory)) {
      return this.refresh(slot).then(() => {
        if (open !== undefined) open.ready = true;
        this.#emit(slot, this.#nodes.directoryKeyIfAny(slot) ?? directory, cookie, sink);
      });
    }
    if (open !== undefined) open.ready = true;
    this.#emit(slot, directory, cookie, sink);
    return undefined;
  }

  #emit(slot: Slot, directory: string, cookie: number, sink: DirectorySink): void {
    const nodes = this.#nodes;
    const { table, metadata, location } = nodes;
    if (cookie < 1) {
      if (!sink.fits(1)) return;
      sink.addName('.', 1, table.ino(slot), S_IFDIR);
    }
    if (cookie < DOTS) {
      if (!sink.fits(2)) return;
      const parent = table.parent(slot);
      sink.addName('..', DOTS, table.ino(parent === NONE ? slot : parent), S_IFDIR);
    }
    let after = Math.max(0, cookie - DOTS);
    for (;;) {
      const rows = metadata.entries(location, directory, after, ROWS_AT_ONCE);
      for (const row of rows) {
        if (!this.#emitRow(slot, row, sink)) return;
        after = row.position;
      }
      if (rows.length < ROWS_AT_ONCE) return;
    }
  }

  /** False: the reply is full. */
  #emitRow(parent: Slot, row: EntryRecord, sink: DirectorySink): boolean {
    const nodes = this.#nodes;
    const known = nodes.table.child(parent, row.name);
    const own = known !== NONE && nodes.inUse(known)?.holdsTruth === true;
    if (isUnknown(row) && !own) return true;
    if (!sink.fits(row.name.length)) return false;
    const cookie = row.position + DOTS;
    const kind = row.kind === 'directory' ? 'directory' : 'file';
    if (!sink.wantsAttributes) {
      const mode = modeOf(kind, row.attributes, nodes.context) & S_IFMT;
      sink.addName(row.name, cookie, nodes.inodeNumber(parent, row), mode);
      return true;
    }
    const entry = this.#entry;
    if (known === NONE && nodes.table.size >= NODES_FROM_LISTINGS) {
      entry.nodeId = 0;
      this.#scratch.ino = nodes.inodeNumber(parent, row);
      this.#scratch.mode = modeOf(kind, row.attributes, nodes.context);
      entry.attributes = this.#scratch;
    } else {
      const slot = own ? known : nodes.enter(parent, row.name, row);
      nodes.answer(slot, own ? nodes.fullyValid : nodes.validFor(row.seenAt), entry, this.#scratch);
    }
    sink.add(row.name, cookie, entry);
    return true;
  }
}

/** A row of something made here that never reached the store, left over from a daemon that ended without warning. */
const isUnknown = (record: EntryRecord): boolean => record.kind === 'file' && record.validator === undefined;

function forgetOldest(remembered: Set<string> | Map<string, number>): void {
  if (remembered.size <= REMEMBERED) return;
  for (const oldest of remembered.keys()) {
    remembered.delete(oldest);
    return;
  }
}
