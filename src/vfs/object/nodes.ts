/** The tree as this mount knows it: nodes, what is in use of them, and the way from rows to nodes and back. */
import type { ObjectInfo, StoredAttributes, Validator } from '../../backends/contract.js';
import type { CleanFile } from '../../content/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { EntryRecord, NewEntryRecord } from '../../metadata/contract.js';
import { Attributes, S_IFDIR, S_IFMT, S_ISGID } from '../attributes.js';
import {
  copyAttributes,
  fillFrom,
  modeOf,
  newInodeNumber,
  storedOf,
  timestamp,
  touchChanged,
  touchModified,
  versionHash,
} from '../inodes/attributes-of.js';
import { type Name, NONE, ROOT_SLOT, type Slot } from '../inodes/inode-table.js';
import { LinkGroups } from '../inodes/link-groups.js';
import { recordOf, versionOf } from '../inodes/records.js';
import type { ByteString, Call, EntryAnswer, EntryReply } from '../operations.js';
import { Inode } from './inode.js';
import { nameOf, nameOfFileBesideDirectory } from './names.js';
import type { ObjectVolumeParts } from './parts.js';
import { Rows } from './rows.js';

/** Cached content up to this size, bytes, is copied when its object gets another key; a larger one is fetched again. */
const RELABEL_LIMIT = 64 * 1024 * 1024;
const NEVER = new AbortController().signal;

export class Nodes extends Rows {
  readonly #inUse = new Map<Slot, Inode>();
  /** Names of hard links that were not looked at since a listing told of another version. */
  readonly #unsure = new WeakMap<Inode, readonly Name[]>();
  readonly #groups: LinkGroups;

  constructor(parts: ObjectVolumeParts) {
    const groups = new LinkGroups();
    super(parts, (slot) => groups.leave(slot));
    this.#groups = groups;
    parts.content.identify(parts.mount, parts.identity);
  }

  // From what is known to nodes.

  /**
   * The node of a name as `record` describes it. A new node id when the kind of file is another, or when handles hold another
   * version: pages of two versions never mix.
   */
  enter(parent: Slot, name: ByteString, record: EntryRecord | NewEntryRecord): Slot {
    const mode = modeOf(record.kind === 'directory' ? 'directory' : 'file', record.attributes, this.context);
    const known = this.table.child(parent, name);
    let ino = record.ino;
    if (known !== NONE) {
      const same = this.table.type(known) === (mode & S_IFMT) && this.#sameGroup(known, record);
      if (same && !this.#holdsAnother(known, parent, name, record)) {
        if (this.table.hasFurtherNames(known)) this.dropGoneNames(known);
        return known;
      }
      if (same || !this.table.hasFurtherNames(known)) {
        ino ??= this.table.ino(known);
        this.supersede(known);
      } else this.displace(parent, name);
    }
    const group = record.attributes?.linkGroup;
    const linked = group === undefined ? undefined : this.#groups.slotOf(group);
    if (linked !== undefined && this.table.type(linked) === (mode & S_IFMT)) {
      this.table.addName(linked, parent, name);
      this.#inUse.get(linked)?.setBase(parent, name, versionOf(record));
      return linked;
    }
    const slot = this.table.add(parent, name, ino ?? this.derivedInodeNumber(parent, name, group), mode);
    if (group !== undefined) this.joinGroup(slot, group);
    return slot;
  }

  /** The row belongs to the same hard links as the node. */
  #sameGroup(slot: Slot, { attributes }: EntryRecord | NewEntryRecord): boolean {
    return attributes === undefined || this.#groups.admits(slot, attributes.linkGroup);
  }

  /** Handles of another version are open on the node of this name. */
  #holdsAnother(slot: Slot, parent: Slot, name: ByteString, record: EntryRecord | NewEntryRecord): boolean {
    const inode = this.#inUse.get(slot);
    return (
      inode !== undefined &&
      inode.kind === 'file' &&
      inode.handles > 0 &&
      !inode.holdsTruth &&
      !inode.turn.busy &&
      // A listing that tells no version tells of no other one either.
      record.validator !== undefined &&
      inode.base(parent, name) !== record.validator
    );
  }

  /** The node loses its names to another version; its handles keep what they have. */
  supersede(slot: Slot): void {
    const inode = this.#inUse.get(slot);
    if (inode !== undefined) inode.superseded = true;
    this.settled.changed();
    this.table.pin(slot);
    for (const { parent, name } of this.table.names(slot)) this.table.removeName(slot, parent, name);
    this.#groups.leave(slot);
    this.table.unpin(slot);
  }

  /** Something else gets the name. What had it keeps the other names of a hard link, and is superseded where there are none. */
  displace(parent: Slot, name: ByteString): void {
    const slot = this.table.child(parent, name);
    if (slot === NONE) return;
    if (!this.table.hasFurtherNames(slot)) {
      this.supersede(slot);
      return;
    }
    this.settled.changed();
    this.#inUse.get(slot)?.setBase(parent, name, undefined);
    this.table.removeName(slot, parent, name);
  }

  joinGroup(slot: Slot, group: string): void {
    this.#groups.join(slot, group);
  }

  /** Fills what `stat` shows of a node, from its row where that is at hand. False: nothing is known (any more). */
  fill(slot: Slot, attributes: Attributes, known?: EntryRecord): boolean {
    const inode = this.#inUse.get(slot);
    if (inode !== undefined) {
      copyAttributes(attributes, inode.attributes);
      if (inode.kind === 'directory' && attributes.nlink > 0) attributes.nlink = this.directoryLinks(slot);
      return true;
    }
    const record = known ?? this.record(slot);
    if (record === undefined || record.kind === 'absent') return false;
    const links = record.kind === 'directory' ? this.directoryLinks(slot) : this.linkCount(record);
    fillFrom(attributes, record, this.table.ino(slot), links, this.context);
    return true;
  }

  /** Fills an entry and counts the lookup. */
  answer(slot: Slot, valid: number, reply: EntryReply, scratch: Attributes, known?: EntryRecord): void {
    this.fill(slot, scratch, known);
    reply.nodeId = this.table.id(slot);
    reply.entryValid = valid;
    reply.attributesValid = valid;
    reply.attributes = scratch;
    this.table.remember(slot);
  }

  /** The same for something that was just made here. */
  made(slot: Slot): EntryAnswer {
    const attributes = new Attributes();
    this.fill(slot, attributes);
    this.table.remember(slot);
    const parent = this.table.parent(slot);
    const valid = this.fullyValidIn(parent === NONE ? '' : this.directoryKey(parent));
    return { nodeId: this.table.id(slot), entryValid: valid, attributesValid: valid, attributes };
  }

  // Nodes in use.

  inUse(slot: Slot): Inode | undefined {
    return this.#inUse.get(slot);
  }
  allInUse(): IterableIterator<Inode> {
    return this.#inUse.values();
  }

  /** The inode of a node, from its row where it is not in use yet. */
  use(slot: Slot): Inode {
    const known = this.#inUse.get(slot);
    if (known !== undefined) return known;
    const record = this.record(slot);
    if (record === undefined || record.kind === 'absent') {
      throw new MirageError('the name is gone', { errno: 'ESTALE' });
    }
    const inode = new Inode(slot, record.kind);
    fillFrom(inode.attributes, record, this.table.ino(slot), this.linkCount(record), this.context);
    inode.xattrs = { ...record.attributes?.xattrs };
    inode.linkGroup = record.attributes?.linkGroup;
    this.#adopt(inode);
    if (inode.linkGroup !== undefined) this.#gatherNames(slot, inode.linkGroup);
    const names = this.table.names(slot);
    for (const { parent, name } of names) {
      const row = slot === ROOT_SLOT ? record : this.entry(parent, name);
      inode.setBase(parent, name, row && versionOf(row));
    }
    const unsure = names.length === 1 ? [] : names.filter((each) => this.#isUnsure(each));
    if (unsure.length > 0) this.#unsure.set(inode, unsure);
    return inode;
  }

  /** A listing has told of another version under the name, and not whether it belongs to the hard link. */
  #isUnsure({ parent, name }: Name): boolean {
    const row = this.entry(parent, name);
    return row?.kind === 'file' && row.attributes === undefined;
  }

  /** Asks about names of a hard link of which only a listing has told: another host's file in the place of one is none of them. */
  async confirmNames(inode: Inode): Promise<void> {
    const unsure = this.#unsure.get(inode);
    if (unsure === undefined) return;
    const group = inode.linkGroup ?? this.#groups.groupOf(inode.slot);
    for (const name of unsure) {
      if (this.table.child(name.parent, name.name) !== inode.slot) continue;
      // What is under the only name that is left the precondition says.
      if (!this.table.hasFurtherNames(inode.slot)) break;
      const found = await this.port.stat(this.mount, this.keyOf(name.parent, name.name));
      if (found?.attributes?.linkGroup !== group) this.loseName(inode, name, found);
    }
    this.#unsure.delete(inode);
  }

  /** The names of a hard link as the rows have them: those that were not looked up yet, without those that went elsewhere. */
  #gatherNames(slot: Slot, group: string): void {
    this.dropGoneNames(slot);
    for (const { directory, name } of this.metadata.linkNames(this.location, group)) {
      const row = this.metadata.entry(this.location, directory, name);
      const parent = this.#slotOfDirectory(directory);
      if (row?.kind === 'file' && parent !== NONE) this.enter(parent, name, row);
    }
  }

  /** Names of a hard link that another host has removed or put something else under; the last one stays. */
  dropGoneNames(slot: Slot): void {
    const group = this.#groups.groupOf(slot);
    for (const { parent, name } of this.table.names(slot)) {
      const row = this.entry(parent, name);
      const gone =
        row === undefined ||
        row.kind !== 'file' ||
        (row.attributes !== undefined && row.attributes.linkGroup !== group);
      if (!gone || !this.table.hasFurtherNames(slot)) continue;
      this.settled.changed();
      this.#inUse.get(slot)?.setBase(parent, name, undefined);
      this.table.removeName(slot, parent, name);
    }
  }

  /** The node of a directory by its key, as far as rows lead there. */
  #slotOfDirectory(key: string): Slot {
    let slot = ROOT_SLOT;
    for (const component of key === '' ? [] : key.split('/')) {
      const name = nameOf(component);
      const row = this.entry(slot, name);
      if (row?.kind !== 'directory') return NONE;
      slot = this.enter(slot, name, row);
    }
    return slot;
  }

  /** Another host has taken one of the names of a hard link, or all of them. */
  loseName(inode: Inode, { parent, name }: Name, found: ObjectInfo | undefined): void {
    const previous = this.entry(parent, name);
    this.context.notifier.invalidateEntry(this.table.id(parent), name);
    if (found === undefined) this.putAbsent(parent, name);
    else this.put(parent, recordOf(found, name, previous, this.now()));
    inode.setBase(parent, name, undefined);
    this.table.removeName(inode.slot, parent, name);
  }

  /** A node that was not there before, as `attributes` say; without a name where `parent` is NONE. */
  make(parent: Slot, name: ByteString, fill: (attributes: Attributes) => void): Inode {
    const attributes = new Attributes();
    fill(attributes);
    attributes.ino = newInodeNumber();
    if (parent !== NONE) this.displace(parent, name);
    const slot = this.table.add(parent, name, attributes.ino, attributes.mode);
    const inode = new Inode(slot, (attributes.mode & S_IFMT) === S_IFDIR ? 'directory' : 'file');
    copyAttributes(inode.attributes, attributes);
    this.#adopt(inode);
    return inode;
  }

  /** Owner and times of something new; a directory with sgid hands its group down. */
  own(attributes: Attributes, call: Call, parent: Slot): void {
    const at = timestamp(this.now());
    const above = new Attributes();
    const inherits = parent !== NONE && this.fill(parent, above) && (above.mode & S_ISGID) !== 0;
    attributes.uid = call.uid;
    attributes.gid = inherits ? above.gid : call.gid;
    if (inherits && (attributes.mode & S_IFMT) === S_IFDIR) attributes.mode |= S_ISGID;
    touchModified(attributes, at);
    attributes.accessedSeconds = at.seconds;
    attributes.accessedNanoseconds = at.nanoseconds;
  }

  #adopt(inode: Inode): void {
    this.#inUse.set(inode.slot, inode);
    this.settled.used(this.table.id(inode.slot));
    this.table.pin(inode.slot);
    if (inode.linkGroup !== undefined) this.joinGroup(inode.slot, inode.linkGroup);
  }

  /** Ends the use of an inode that nothing needs any more. */
  unuse(inode: Inode): void {
    if (!inode.idle || this.#inUse.get(inode.slot) !== inode) return;
    inode.clean?.release();
    inode.clean = undefined;
    this.#inUse.delete(inode.slot);
    this.table.unpin(inode.slot);
  }

  /** Writes what is known of an inode to its rows; `seen`: the store has confirmed it now. */
  publish(inode: Inode, seen = false): void {
    if (inode.superseded) return;
    if (inode.slot === ROOT_SLOT) {
      this.putRoot(this.#recordOf(inode, ROOT_SLOT, '', this.now()));
      return;
    }
    for (const { parent, name } of this.table.names(inode.slot)) {
      const seenAt = seen ? this.now() : (this.entry(parent, name)?.seenAt ?? this.now());
      this.put(parent, this.#recordOf(inode, parent, name, seenAt));
    }
  }

  #recordOf(inode: Inode, parent: Slot, name: ByteString, seenAt: number): NewEntryRecord {
    const modified = inode.storeModified(parent, name);
    return {
      name,
      kind: inode.kind,
      size: inode.kind === 'directory' ? 0 : inode.attributes.size,
      validator: inode.base(parent, name),
      modifiedSeconds: modified.seconds,
      modifiedNanoseconds: modified.nanoseconds,
      attributes: this.stored(inode),
      ino: inode.attributes.ino,
      seenAt,
    };
  }

  stored(inode: Inode, writer?: string): StoredAttributes {
    return storedOf(inode.attributes, { xattrs: inode.xattrs, linkGroup: inode.linkGroup, writer });
  }

  /** The same bytes have another version or key now: what is cached of them goes on under it. */
  async relabel(inode: Inode, { parent, name }: Name): Promise<void> {
    const validator = inode.base(parent, name);
    const from = inode.clean;
    if (validator === undefined || from === undefined || inode.staged !== undefined) return;
    const version = { mount: this.mount, key: this.keyOf(parent, name), validator, size: from.version.size };
    if (version.key === from.version.key && validator === from.version.validator) return;
    let file: CleanFile;
    if (from.complete && version.size <= RELABEL_LIMIT) {
      const copy = this.content.stage({ file: from, size: version.size });
      await copy.ensureAll(NEVER);
      file = copy.settle(version);
    } else file = this.content.acquire(version);
    if (inode.clean !== from) {
      file.release();
      return;
    }
    inode.clean = file;
    from.release();
    this.table.setVersion(inode.slot, versionHash(validator));
  }

  /** A directory on the move has taken an object along, which may be another version by that. */
  moved(key: string, validator: Validator | undefined): void {
    const slash = key.lastIndexOf('/');
    const directory = key.slice(0, Math.max(0, slash));
    for (const name of [nameOf(key.slice(slash + 1)), nameOfFileBesideDirectory(key.slice(slash + 1))]) {
      const record = this.metadata.entry(this.location, directory, name);
      if (record?.kind !== 'file' || record.validator === validator) continue;
      const { position: _, ...rest } = record;
      this.putIn(directory, { ...rest, validator });
    }
  }

  /** A name in the directory was made or removed here: its times say so (in the metadata store; not worth a write to the store). */
  touchDirectory(slot: Slot): void {
    const at = timestamp(this.now());
    const inode = this.#inUse.get(slot);
    if (inode !== undefined) {
      touchModified(inode.attributes, at);
      this.publish(inode);
      return;
    }
    const record = this.record(slot);
    if (record === undefined || record.kind !== 'directory') return;
    const { position: _, ...rest } = record;
    const touched: NewEntryRecord = {
      ...rest,
      modifiedSeconds: at.seconds,
      modifiedNanoseconds: at.nanoseconds,
      attributes: record.attributes && { ...record.attributes, modified: at, changed: at },
    };
    if (slot === ROOT_SLOT) this.putRoot(touched);
    else this.put(this.table.parent(slot), touched);
  }

  touchChanged(inode: Inode): void {
    touchChanged(inode.attributes, timestamp(this.now()));
  }

  /** Whether the kernel's pages are of the version that the node has now; remembers that version. */
  sameVersion(slot: Slot, validator: Validator | undefined): boolean {
    const version = versionHash(validator);
    const same = this.table.version(slot) === version;
    this.table.setVersion(slot, version);
    return same;
  }

  /** Lets go of the cache files of what is still in use. */
  close(): void {
    for (const inode of this.#inUse.values()) inode.clean?.release();
    this.#inUse.clear();
  }
}
