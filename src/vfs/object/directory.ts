/**
 * Looking up and listing. What is asked of the store, cheapest first:
 * - A name that a fresh row or a fresh complete listing answers costs nothing.
 * - A stale listing is asked again as a whole, once for all who wait, not name by name. A directory that was never listed is
 *   listed behind the first look-up of a name in it, one page; one that does not fit a page is asked name by name until it is walked.
 * - A listing does not carry the attributes that the store keeps for us: see unknown-attributes.ts.
 */
import type { ObjectInfo } from '../../backends/contract.js';
import { errno } from '../../errors/errno.js';
import type { EntryRecord } from '../../metadata/contract.js';
import { Attributes } from '../attributes.js';
import { NONE, ROOT_SLOT, type Slot } from '../inodes/inode-table.js';
import { isNameOnly, isUnknown, recordOf } from '../inodes/records.js';
import type {
  Answer,
  AttributesReply,
  ByteString,
  DirectorySink,
  EntryReply,
  Handle,
  OpenReply,
} from '../operations.js';
import { ContentFirst } from './content-first.js';
import { DirectoryReading } from './directory-reading.js';
import { hydrated, needsHydration } from './hydration.js';
import { KernelListings } from './kernel-listings.js';
import { Listings } from './listings.js';
import { isSpelled, NAME_BYTES } from './names.js';
import type { Nodes } from './nodes.js';
import { UnknownAttributes } from './unknown-attributes.js';

export class Directories {
  readonly #nodes: Nodes;
  readonly #listings: Listings;
  readonly #reading: DirectoryReading;
  readonly #lookups = new Map<string, Promise<void>>();
  readonly #unknown: UnknownAttributes;
  readonly #kernel: KernelListings;
  readonly contentFirst: ContentFirst;
  readonly #scratch = new Attributes();

  constructor(nodes: Nodes) {
    this.#nodes = nodes;
    this.#listings = new Listings(nodes);
    this.#unknown = new UnknownAttributes(nodes.context.clock);
    this.contentFirst = new ContentFirst(nodes, (...told) => this.heard(...told));
    this.#kernel = new KernelListings(nodes.context.notifier, nodes.context.clock);
    this.#reading = new DirectoryReading(nodes, this.#listings, this.#unknown, this.#kernel);
  }

  close(): void {
    this.#kernel.close();
  }

  // Listing.

  isComplete(directory: string): boolean {
    return this.#listings.isComplete(directory);
  }
  opendir(slot: Slot, reply: OpenReply): void {
    this.#reading.opendir(slot, reply);
  }
  releasedir(handle: Handle): void {
    this.#reading.releasedir(handle);
  }
  /**
   * What is known of a file or directory, and of what is in it, is not so any more; resolves when the store has said what is. Everything
   * further below is asked again when somebody looks.
   */
  async revalidate(slot: Slot): Promise<void> {
    const nodes = this.#nodes;
    for (const { parent, name } of slot === ROOT_SLOT ? [] : nodes.table.names(slot)) {
      await this.askStore(parent, name);
      if (nodes.table.parent(parent) !== NONE)
        nodes.context.notifier.invalidateEntry(nodes.table.id(parent), name);
    }
    const directory = nodes.table.isDirectory(slot) ? nodes.directoryKeyIfAny(slot) : undefined;
    if (directory === undefined) return;
    this.#listings.forgetInKernel(slot, directory);
    this.#kernel.forget(nodes.table.id(slot));
    nodes.settled.changed();
    nodes.metadata.expire(nodes.location, directory);
    await this.#listings.refresh(slot);
  }
  readdir(slot: Slot, handle: Handle, cookie: number, sink: DirectorySink): Answer<void> {
    return this.#reading.readdir(slot, handle, cookie, sink);
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
    const directory = nodes.directoryKey(parent);
    if (slot !== NONE && nodes.inUse(slot)?.holdsTruth === true) {
      nodes.answer(slot, nodes.fullyValidIn(directory), reply, scratch);
      return true;
    }
    const record = nodes.metadata.entry(nodes.location, directory, name);
    if (record === undefined) {
      const completeAt = nodes.metadata.listing(nodes.location, directory).completeAt;
      const valid = completeAt === undefined ? 0 : nodes.validFor(completeAt, directory);
      if (valid === 0) return false;
      reply.nodeId = 0;
      reply.entryValid = valid;
      return true;
    }
    const valid = nodes.validFor(record.seenAt, directory);
    if (valid === 0) return false;
    if (record.kind === 'absent') {
      reply.nodeId = 0;
      reply.entryValid = valid;
      return true;
    }
    if (this.#tellsTooLittle(directory, record)) return false;
    nodes.answer(nodes.enter(parent, name, record), valid, reply, scratch, record);
    reply.attributesValid = this.#unknown.validFor(directory, record, valid);
    return true;
  }

  #tellsTooLittle(directory: string, record: EntryRecord): boolean {
    if (isUnknown(record) || isNameOnly(record)) return true;
    // Of a directory with very many nodes a walk shows names only, and the kernel asks for each.
    const walks = this.#nodes.table.size >= this.#nodes.options.listedNodes;
    return walks
      ? this.#unknown.mustAskUnlessWalked(directory, record)
      : this.#unknown.mustAsk(directory, record);
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
      await this.#listings.refresh(parent);
      if (metadata.entry(location, directory, name) === undefined) this.#nodes.putAbsent(parent, name);
      return;
    }
    if (
      completeAt !== undefined &&
      this.#nodes.validFor(completeAt, directory) === 0 &&
      !this.#listings.isLarge(directory)
    ) {
      await this.#listings.refresh(parent);
      const record = metadata.entry(location, directory, name);
      if (record === undefined) {
        this.#nodes.putAbsent(parent, name);
        return;
      }
      if (!this.#tellsTooLittle(directory, record)) return;
    } else if (completeAt === undefined && !this.#listings.isLarge(directory)) {
      this.#listings.preload(parent);
    }
    if (await this.#fetches(parent, directory, name)) return;
    await this.askStore(parent, name);
  }

  /** A small file that a listing has told of brings its attributes along with its content. */
  async #fetches(parent: Slot, directory: string, name: ByteString): Promise<boolean> {
    const record = this.#nodes.metadata.entry(this.#nodes.location, directory, name);
    if (record === undefined || record.kind !== 'file' || record.attributes !== undefined) return false;
    if (this.#nodes.validFor(record.seenAt, directory) === 0) return false;
    return this.contentFirst.look(parent, record);
  }

  /** The store's own word on one name, attributes included; the row follows it unless something here is newer. */
  async askStore(parent: Slot, name: ByteString): Promise<ObjectInfo | undefined> {
    const nodes = this.#nodes;
    const asked = nodes.now();
    const key = nodes.keyOf(parent, name);
    let info = await nodes.port.stat(nodes.mount, key);
    if (needsHydration(info)) info = await hydrated(nodes, info, nodes.entry(parent, name));
    // A directory that was moved or removed meanwhile: the answer is of another name.
    const stillThere = nodes.directoryKeyIfAny(parent) !== undefined && nodes.keyOf(parent, name) === key;
    if (stillThere) this.heard(parent, name, info, asked);
    return info;
  }

  /** What the store said of a name, or that there is none, to a question asked at `asked`, milliseconds. */
  heard(parent: Slot, name: ByteString, info: ObjectInfo | undefined, asked: number): void {
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
    if (
      info.kind === 'file' &&
      previous?.kind === 'directory' &&
      nodes.validFor(previous.seenAt, directory) > 0
    ) {
      // The store has both, and answers a question for the name with the file.
      const { position: _, ...folder } = previous;
      nodes.put(parent, { ...folder, attributes: folder.attributes ?? {} });
      return;
    }
    this.#unknown.heard(directory, info);
    const record = recordOf(info, name, previous, asked);
    // A store that keeps no attributes will not have them the next time either.
    nodes.put(parent, record.attributes === undefined ? { ...record, attributes: {} } : record);
    const guessed = previous !== undefined && previous.attributes === undefined;
    const tells = record.attributes !== undefined && Object.keys(record.attributes).length > 0;
    const changed = previous?.kind === 'file' && previous.size !== record.size;
    if (slot !== NONE && ((guessed && tells) || changed))
      nodes.context.notifier.invalidateNode(nodes.table.id(slot), -1, 0);
  }

  getattr(slot: Slot, reply: AttributesReply): Answer<void> {
    const nodes = this.#nodes;
    const parent = nodes.table.parent(slot);
    const directory = parent === NONE ? undefined : nodes.directoryKeyIfAny(parent);
    const fromRow = slot !== ROOT_SLOT && directory !== undefined && nodes.inUse(slot) === undefined;
    const record = fromRow ? nodes.record(slot) : undefined;
    let valid = directory === undefined ? nodes.fullyValid : nodes.fullyValidIn(directory);
    if (record !== undefined && directory !== undefined) {
      const left = nodes.validFor(record.seenAt, directory);
      valid = this.#unknown.validFor(directory, record, left);
      const asks = left === 0 || isNameOnly(record) || this.#unknown.mustAskUnlessWalked(directory, record);
      if (asks) return this.#getattrSlowly(slot, reply);
    }
    if (!nodes.fill(slot, this.#scratch, record)) return this.#getattrSlowly(slot, reply);
    reply.attributesValid = valid;
    reply.attributes = this.#scratch;
    if (record !== undefined && directory !== undefined && !this.#unknown.mustAsk(directory, record))
      nodes.settled.settle(reply);
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
      reply.attributesValid = this.#nodes.validFor(record.seenAt, this.#nodes.directoryKey(parent));
      reply.attributes = attributes;
    } finally {
      table.unpin(slot);
    }
  }
}
