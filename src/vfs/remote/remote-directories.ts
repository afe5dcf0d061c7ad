/**
 * Looking up and listing. A fresh row or a fresh complete listing answers without the server. Else a name is asked for by itself; a
 * directory in which several names were asked for is listed behind them. Listings carry attributes.
 */
import type { ServerEntry } from '../../backends/file-server.js';
import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { EntryRecord, NewEntryRecord } from '../../metadata/contract.js';
import { Attributes, S_IFDIR, S_IFMT } from '../attributes.js';
import { copyAttributes, modeOf } from '../inodes/attributes-of.js';
import { NONE, ROOT_SLOT, type Slot } from '../inodes/inode-table.js';
import { Remembered } from '../inodes/remembered.js';
import {
  type Answer,
  type AttributesReply,
  type ByteString,
  type DirectorySink,
  EntryReply,
  type Handle,
} from '../operations.js';
import { ListAhead } from './list-ahead.js';
import type { RemoteNode } from './remote-node.js';
import { rowOf } from './remote-rows.js';
import { NAME_BYTES, type RemoteTree } from './remote-tree.js';

/** Names of a directory that are asked for one by one before it is listed. */
const SINGLE_QUESTIONS = 3;
/** A directory with more entries is not listed for lookups. */
const LARGE = 5000;
/** Subdirectories listed ahead of a program that has read their parent, and of one that is reading them one after the other. */
const FIRST_AHEAD = 16;
const NEXT_AHEAD = 48;
/** Nodes beyond which listings stop adding more: the kernel looks up what it needs. */
const NODES_FROM_LISTINGS = 200_000;
const ROWS_AT_ONCE = 256;
/** Attributes of an open file that are older, milliseconds, are asked for again. */
const OPEN_FRESH = 2000;
/** Nodes whose attributes are kept as they were answered. */
const ANSWERS = 50_000;
/** Cookies 1 and 2 are `.` and `..`; a row's is its position + 2. */
const DOTS = 2;

/** What was answered for a node that is not in use, right while nothing that is known changes. */
interface Answered {
  readonly attributes: Attributes;
  readonly generation: number;
  /** Wall time, milliseconds. */
  readonly until: number;
}

export class RemoteDirectories {
  readonly #tree: RemoteTree;
  readonly #listings = new Map<string, Promise<void>>();
  readonly #lookups = new Map<string, Promise<void>>();
  /** Questions for single names of a directory since it was listed. */
  readonly #asked = new Remembered<number>();
  readonly #large = new Remembered<true>();
  readonly #ahead = new ListAhead((path) => this.refresh(path));
  readonly #handles = new Map<Handle, { ready: boolean }>();
  #nextHandle: Handle = 1;
  /** By slot. */
  readonly #answered: (Answered | undefined)[] = [];
  readonly #scratch = new Attributes();
  readonly #entry = new EntryReply();

  constructor(tree: RemoteTree) {
    this.#tree = tree;
  }

  close(): void {
    this.#ahead.close();
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
    const tree = this.#tree;
    tree.table.pin(parent);
    try {
      await this.ask(parent, name);
      const attributes = new Attributes();
      if (this.#answerKnown(parent, name, reply, attributes)) return;
      // The answer is younger than the question, even where a ttl of 0 says that it may not be kept.
      const record = tree.entry(parent, name);
      if (record === undefined || record.kind === 'absent') {
        reply.nodeId = 0;
        reply.entryValid = 0;
        return;
      }
      tree.answer(tree.enter(parent, name, record), 0, reply, attributes);
    } finally {
      tree.table.unpin(parent);
    }
  }

  #answerKnown(parent: Slot, name: ByteString, reply: EntryReply, scratch: Attributes): boolean {
    const tree = this.#tree;
    const slot = tree.table.child(parent, name);
    if (slot !== NONE && tree.inUse(slot)?.holdsTruth === true) {
      tree.answer(slot, tree.fullyValid, reply, scratch);
      return true;
    }
    const directory = tree.directoryPath(parent);
    const record = tree.metadata.entry(tree.location, directory, name);
    const seenAt = record?.seenAt ?? tree.metadata.listing(tree.location, directory).completeAt;
    const valid = seenAt === undefined ? 0 : tree.validFor(seenAt);
    if (valid === 0) return false;
    if (record === undefined || record.kind === 'absent') {
      reply.nodeId = 0;
      reply.entryValid = valid;
      return true;
    }
    tree.answer(tree.enter(parent, name, record), valid, reply, scratch);
    return true;
  }

  /** Brings the row of a name up to date. */
  ask(parent: Slot, name: ByteString): Promise<void> {
    const path = this.#tree.pathOf(parent, name);
    const running = this.#lookups.get(path);
    if (running !== undefined) return running;
    const asked = this.#ask(parent, name, path).finally(() => this.#lookups.delete(path));
    this.#lookups.set(path, asked);
    return asked;
  }

  async #ask(parent: Slot, name: ByteString, path: string): Promise<void> {
    const tree = this.#tree;
    const askedAt = tree.now();
    this.#listBehind(tree.directoryPath(parent));
    const said = await tree.server.lstat(path, UNINTERRUPTED);
    // A directory that was moved or removed meanwhile: the answer is of another name.
    if (tree.pathIfAny(parent) !== undefined && tree.pathOf(parent, name) === path) {
      tree.heard(parent, name, said, askedAt);
    }
  }

  /** Somebody asks for one name after the other: the listing is cheaper than the rest of them. */
  #listBehind(directory: string): void {
    if (this.#large.get(directory) === true) return;
    const count = (this.#asked.get(directory) ?? 0) + 1;
    this.#asked.set(directory, count);
    if (count % SINGLE_QUESTIONS === 0) this.#inBackground(this.refresh(directory));
  }

  #inBackground(work: Promise<void>): void {
    work.catch((error: unknown) => {
      this.#tree.context.log.debug('listing ahead failed', { reason: String(error) });
    });
  }

  // Attributes.

  getattr(slot: Slot, reply: AttributesReply): Answer<void> {
    const tree = this.#tree;
    const node = tree.inUse(slot);
    if (node === undefined && this.#answerAgain(slot, reply)) return undefined;
    let valid = tree.fullyValid;
    if (node !== undefined) {
      const own = node.holdsTruth || tree.table.parent(slot) === NONE;
      if (!own) valid = tree.validFor(node.seenAt);
      if (!own && node.seenAt + OPEN_FRESH < tree.now() && tree.options.freshness !== 'offline') valid = 0;
    } else {
      valid = tree.validFor(tree.record(slot)?.seenAt ?? 0);
    }
    if (valid === 0 || !tree.fill(slot, this.#scratch)) return this.#getattrSlowly(slot, node, reply);
    reply.attributesValid = tree.attributesValid(slot, valid);
    reply.attributes = this.#scratch;
    if (node === undefined) tree.settled.settle(reply);
    if (node === undefined && slot < ANSWERS) {
      const attributes = new Attributes();
      copyAttributes(attributes, this.#scratch);
      this.#answered[slot] = { attributes, generation: tree.generation, until: tree.now() + valid / 1e6 };
    }
    return undefined;
  }

  #answerAgain(slot: Slot, reply: AttributesReply): boolean {
    const answered = this.#answered[slot];
    if (answered === undefined || answered.generation !== this.#tree.generation) return false;
    const left = answered.until - this.#tree.now();
    if (left <= 0 || left * 1e6 > this.#tree.fullyValid) return false;
    reply.attributesValid = Math.floor(left * 1e6);
    reply.attributes = answered.attributes;
    this.#tree.settled.settle(reply);
    return true;
  }

  async #getattrSlowly(slot: Slot, node: RemoteNode | undefined, reply: AttributesReply): Promise<void> {
    const tree = this.#tree;
    tree.table.pin(slot);
    try {
      await this.revalidate(slot, node);
      const attributes = new Attributes();
      if (!tree.fill(slot, attributes)) {
        reply.fail(errno.ESTALE);
        return;
      }
      reply.attributesValid = tree.attributesValid(slot, tree.fullyValid);
      reply.attributes = attributes;
    } finally {
      tree.table.unpin(slot);
    }
  }

  /** Asks the server for the attributes of a node. ESTALE: its name leads to another file, or to none. */
  async revalidate(slot: Slot, node = this.#tree.inUse(slot)): Promise<void> {
    const tree = this.#tree;
    if (slot === ROOT_SLOT) {
      const askedAt = tree.now();
      const said = await tree.server.lstat('', UNINTERRUPTED);
      if (said === undefined) throw MirageError.system('getattr', errno.ENOENT);
      tree.heardOfRoot(said, askedAt);
      return;
    }
    const parent = tree.table.parent(slot);
    if (parent === NONE) {
      if (node !== undefined) return;
      throw MirageError.system('getattr', errno.ESTALE);
    }
    const name = tree.table.name(slot);
    const handle = node?.onServer.any;
    if (node !== undefined && handle !== undefined) {
      const askedAt = tree.now();
      try {
        const said = await tree.server.fstat(handle, UNINTERRUPTED);
        if (tree.table.parent(slot) === parent && tree.table.name(slot) === name) {
          tree.heard(parent, name, said, askedAt);
        }
        return;
      } catch (error) {
        // The handle was lost with its connection: the name tells.
        if (!MirageError.is(error, 'EBADF')) throw error;
      }
    }
    await this.ask(parent, name);
    const record = tree.entry(parent, name);
    const found = record !== undefined && record.kind !== 'absent' ? tree.enter(parent, name, record) : NONE;
    if (found !== slot && tree.inUse(slot) === undefined) throw MirageError.system('getattr', errno.ESTALE);
  }

  // Listing.

  isComplete(directory: string): boolean {
    const { completeAt } = this.#tree.metadata.listing(this.#tree.location, directory);
    return completeAt !== undefined && this.#tree.validFor(completeAt) > 0;
  }

  /** Lists a directory unless that is known, once for all who want it. */
  refresh(directory: string): Promise<void> {
    const running = this.#listings.get(directory);
    if (running !== undefined) return running;
    if (this.isComplete(directory)) return Promise.resolve();
    const listing = this.#list(directory).finally(() => this.#listings.delete(directory));
    this.#listings.set(directory, listing);
    return listing;
  }

  async #list(directory: string): Promise<void> {
    const tree = this.#tree;
    const { metadata, location } = tree;
    const started = tree.now();
    const writer = metadata.startListing(location, directory, started);
    let count = 0;
    try {
      await tree.server.list(
        directory,
        (entries) => {
          count += entries.length;
          tree.changed();
          writer.page(this.#rows(directory, entries, started));
        },
        UNINTERRUPTED,
      );
    } catch (error) {
      writer.abandon();
      throw error;
    }
    this.#keepOwn(directory);
    writer.complete();
    this.#asked.delete(directory);
    if (count > LARGE) this.#large.set(directory, true);
    else this.#large.delete(directory);
    tree.recount(directory);
    for (const node of tree.allInUse()) if (this.#isIn(node, directory)) tree.refresh(node);
  }

  #rows(directory: string, entries: readonly ServerEntry[], started: number): NewEntryRecord[] {
    const { metadata, location } = this.#tree;
    const rows: NewEntryRecord[] = [];
    for (const entry of entries) {
      const { name } = entry;
      // What no directory of a real server holds.
      if (name === '' || name === '.' || name === '..' || name.length > NAME_BYTES) continue;
      if (name.includes('/') || name.includes('\0')) continue;
      const previous = metadata.entry(location, directory, name);
      rows.push(rowOf(name, entry, previous, started));
    }
    return rows;
  }

  /** What is changed here and not on the server yet must outlive a listing that does not know it. */
  #keepOwn(directory: string): void {
    const tree = this.#tree;
    for (const node of tree.allInUse())
      if (node.holdsTruth && this.#isIn(node, directory)) tree.publish(node);
  }

  #isIn(node: RemoteNode, directory: string): boolean {
    return this.#tree.names(node.slot).some(({ parent }) => this.#tree.pathIfAny(parent) === directory);
  }

  /** What was just made is known complete: it has no entries. */
  madeEmpty(path: string): void {
    const { metadata, location } = this.#tree;
    metadata.markComplete(location, path, this.#tree.now());
    this.#tree.recount(path);
  }

  // Reading.

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
    const directory = this.#tree.pathIfAny(slot);
    if (directory === undefined) return undefined;
    const first = cookie === 0 || open?.ready !== true;
    if (first) {
      this.#ahead.arrived(directory);
      this.#wantNext(slot);
      if (!this.isComplete(directory)) return this.#readAfterListing(slot, directory, open, cookie, sink);
      this.#wantChildren(directory);
    }
    if (open !== undefined) open.ready = true;
    this.#emit(slot, directory, cookie, sink);
    return undefined;
  }

  async #readAfterListing(
    slot: Slot,
    directory: string,
    open: { ready: boolean } | undefined,
    cookie: number,
    sink: DirectorySink,
  ): Promise<void> {
    const tree = this.#tree;
    tree.table.pin(slot);
    try {
      await this.refresh(directory);
      const now = tree.pathIfAny(slot);
      if (now === undefined) return;
      if (now !== directory) await this.refresh(now);
      if (open !== undefined) open.ready = true;
      this.#wantChildren(now);
      this.#emit(slot, now, cookie, sink);
    } finally {
      tree.table.unpin(slot);
    }
  }

  /** A program that has read a directory may go down. */
  #wantChildren(directory: string): void {
    this.#ahead.want(this.#directoriesIn(directory, 0, FIRST_AHEAD));
  }

  /** A program that reads a directory may come to its neighbours next. */
  #wantNext(slot: Slot): void {
    const { table } = this.#tree;
    if (slot === ROOT_SLOT || table.parent(slot) === NONE) return;
    const parent = this.#tree.pathIfAny(table.parent(slot));
    const record = this.#tree.record(slot);
    if (parent === undefined || record === undefined) return;
    this.#ahead.want(this.#directoriesIn(parent, record.position, NEXT_AHEAD));
  }

  /** Subdirectories behind a position that are not listed. */
  #directoriesIn(directory: string, after: number, limit: number): string[] {
    const { metadata, location } = this.#tree;
    const found: string[] = [];
    for (const { kind, name } of metadata.entries(location, directory, after, ROWS_AT_ONCE)) {
      if (kind !== 'directory') continue;
      const path = directory === '' ? name : `${directory}/${name}`;
      if (!this.isComplete(path)) found.push(path);
      if (found.length === limit) break;
    }
    return found;
  }

  #emit(slot: Slot, directory: string, cookie: number, sink: DirectorySink): void {
    const { table, metadata, location } = this.#tree;
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
    const tree = this.#tree;
    if (!sink.fits(row.name.length)) return false;
    const cookie = row.position + DOTS;
    const mode = modeOf(row.kind === 'directory' ? 'directory' : 'file', row.attributes, tree.context);
    if (!sink.wantsAttributes) {
      sink.addName(row.name, cookie, tree.inodeNumber(parent, row), mode & S_IFMT);
      return true;
    }
    const entry = this.#entry;
    const known = tree.table.child(parent, row.name);
    if (known === NONE && tree.table.size >= NODES_FROM_LISTINGS) {
      entry.nodeId = 0;
      this.#scratch.ino = tree.inodeNumber(parent, row);
      this.#scratch.mode = mode;
      entry.attributes = this.#scratch;
    } else {
      const slot = tree.enter(parent, row.name, row);
      const own = tree.inUse(slot)?.holdsTruth === true;
      tree.answer(slot, own ? tree.fullyValid : tree.validFor(row.seenAt), entry, this.#scratch);
    }
    sink.add(row.name, cookie, entry);
    return true;
  }
}
