/** The tree as this mount knows it: nodes, their names and keys, and what is known of them. */
import type { ObjectInfo, StoredAttributes, Validator } from '../../backends/contract.js';
import type { CleanFile, ContentStore } from '../../content/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { EntryRecord, LocationId, MetadataStore, NewEntryRecord } from '../../metadata/contract.js';
import type { MountIndex, StorePort } from '../../ports/store-port.js';
import { Attributes, S_IFDIR, S_IFMT, S_ISGID } from '../attributes.js';
import type { ByteString, Call, EntryAnswer, EntryReply, NodeId } from '../operations.js';
import { rootOf, type VolumeContext } from '../volume.js';
import {
  copyAttributes,
  fillFrom,
  inodeNumberOf,
  modeOf,
  newInodeNumber,
  storedOf,
  timestamp,
  touchChanged,
  touchModified,
  versionHash,
} from './attributes-of.js';
import { Inode } from './inode.js';
import { InodeTable, type Name, NONE, ROOT_SLOT, type Slot } from './inode-table.js';
import { componentOf, LongNames, NAME_BYTES, nameOf, nameOfFileBesideDirectory } from './names.js';
import type { ObjectVolumeOptions, ObjectVolumeParts } from './parts.js';
import { absentRecord, inodeNumberOfGroup, recordOf } from './records.js';

/** Where the root's own row is: no key has this directory. */
const ABOVE_ROOT = '/';
const ROOT_NAME = '.';
const NANOSECONDS = 1e6;
/** Directories whose link count is remembered, and entries above which it is not counted. */
const COUNTED_DIRECTORIES = 10_000;
const COUNTED_ROWS = 4096;
/** Cached content up to this size, bytes, is copied when its object gets another key; a larger one is fetched again. */
const RELABEL_LIMIT = 64 * 1024 * 1024;
const NEVER = new AbortController().signal;

export class Nodes {
  readonly table: InodeTable;
  readonly port: StorePort;
  readonly mount: MountIndex;
  readonly metadata: MetadataStore;
  readonly content: ContentStore;
  readonly context: VolumeContext;
  readonly options: ObjectVolumeOptions;
  readonly location: LocationId;
  readonly longNames = new LongNames();

  readonly #identity: string;
  readonly #inUse = new Map<Slot, Inode>();
  readonly #directoryKeys = new Map<Slot, string>();
  /** Link counts of directories that were asked for, by key. */
  readonly #links = new Map<string, number>();
  readonly #groupSlots = new Map<string, Slot>();
  readonly #slotGroups = new Map<Slot, string>();

  constructor(parts: ObjectVolumeParts) {
    this.port = parts.port;
    this.mount = parts.mount;
    this.metadata = parts.metadata;
    this.content = parts.content;
    this.context = parts.context;
    this.options = parts.options;
    this.#identity = parts.identity;
    this.location = parts.metadata.location(parts.identity);
    parts.content.identify(parts.mount, parts.identity);
    const root = rootOf(parts.context.index);
    this.table = new InodeTable(root, inodeNumberOf(`${parts.identity}\0`), (slot) => this.#freed(slot));
    this.#directoryKeys.set(ROOT_SLOT, '');
    if (this.metadata.entry(this.location, ABOVE_ROOT, ROOT_NAME) === undefined) this.#makeRoot();
  }

  // Node ids and names.

  /** ESTALE: the kernel holds a node that is gone here. */
  slotOf(node: NodeId): Slot {
    const slot = this.table.find(node);
    if (slot === NONE) throw new MirageError(`no node ${node}`, { errno: 'ESTALE' });
    return slot;
  }

  /** Key of a directory; ENOENT for one that was removed. */
  directoryKey(slot: Slot): string {
    const known = this.#directoryKeys.get(slot);
    if (known !== undefined) return known;
    const parent = this.table.parent(slot);
    if (parent === NONE) throw new MirageError('the directory was removed', { errno: 'ENOENT' });
    const key = this.keyOf(parent, this.table.name(slot));
    this.#directoryKeys.set(slot, key);
    return key;
  }

  /** The same, undefined for one that was removed. */
  directoryKeyIfAny(slot: Slot): string | undefined {
    return this.table.parent(slot) === NONE ? undefined : this.directoryKey(slot);
  }

  /** Key of a name in a directory. EINVAL: a spelling of ours that stands for nothing here. */
  keyOf(parent: Slot, name: ByteString): string {
    const directory = this.directoryKey(parent);
    if (name.length > NAME_BYTES) throw new MirageError('the name is too long', { errno: 'ENAMETOOLONG' });
    const component = componentOf(name) ?? this.longNames.component(directory, name);
    if (component === undefined) {
      throw new MirageError(`${name}: a name with %mirage- stands for a key that a listing has shown`, {
        errno: 'EINVAL',
        hint: 'list the directory first; such names cannot be made here',
      });
    }
    return directory === '' ? component : `${directory}/${component}`;
  }

  /** Directory and name of the row that describes a node (its first name). */
  record(slot: Slot): EntryRecord | undefined {
    if (slot === ROOT_SLOT) return this.metadata.entry(this.location, ABOVE_ROOT, ROOT_NAME);
    const parent = this.table.parent(slot);
    return parent === NONE ? undefined : this.entry(parent, this.table.name(slot));
  }

  entry(parent: Slot, name: ByteString): EntryRecord | undefined {
    return this.metadata.entry(this.location, this.directoryKey(parent), name);
  }

  put(parent: Slot, record: NewEntryRecord): void {
    if (record.kind === 'directory') this.recount(this.directoryKey(parent));
    this.metadata.put(this.location, this.directoryKey(parent), record);
  }

  /** The store has no such name, as of now. */
  putAbsent(parent: Slot, name: ByteString): void {
    if (this.entry(parent, name)?.kind === 'directory') this.recount(this.directoryKey(parent));
    this.put(parent, absentRecord(name, this.now()));
  }

  /** What is known of a name is not so any more: the store is asked before anybody hears of it. */
  expire(parent: Slot, name: ByteString): void {
    const record = this.entry(parent, name);
    if (record === undefined) return;
    const { position: _, ...rest } = record;
    this.put(parent, { ...rest, seenAt: 0 });
    this.context.notifier.invalidateEntry(this.table.id(parent), name);
  }

  now(): number {
    return this.context.clock.wall();
  }

  /** Nanoseconds that something seen at `seenAt` may still be believed; 0: ask again. */
  validFor(seenAt: number): number {
    const { ttl, freshness } = this.options;
    if (freshness === 'offline') return ttl * NANOSECONDS;
    const now = this.now();
    // Seen in the future: the clock was set back, and nobody knows how long ago it was.
    const left = seenAt > now ? 0 : seenAt + ttl - now;
    return left > 0 ? Math.floor(left * NANOSECONDS) : 0;
  }
  get fullyValid(): number {
    return this.options.ttl * NANOSECONDS;
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
      const same =
        this.table.type(known) === (mode & S_IFMT) && !this.#holdsAnother(known, parent, name, record);
      if (same && this.#sameGroup(known, record)) {
        if (this.table.hasFurtherNames(known)) this.dropGoneNames(known);
        return known;
      }
      if (same && this.table.names(known).length > 1) {
        // Another host has put a file of its own in the place of a hard link.
        this.#inUse.get(known)?.setBase(parent, name, undefined);
        this.table.removeName(known, parent, name);
      } else {
        ino ??= this.table.ino(known);
        this.supersede(known);
      }
    }
    const group = record.attributes?.linkGroup;
    const linked = group === undefined ? undefined : this.#groupSlots.get(group);
    if (linked !== undefined && this.table.type(linked) === (mode & S_IFMT)) {
      this.table.addName(linked, parent, name);
      this.#inUse.get(linked)?.setBase(parent, name, record.validator);
      return linked;
    }
    const slot = this.table.add(parent, name, ino ?? this.#inodeNumber(parent, name, group), mode);
    if (group !== undefined) this.joinGroup(slot, group);
    return slot;
  }

  /** The row belongs to the same hard links as the node; a node alone may become one of them. */
  #sameGroup(slot: Slot, record: EntryRecord | NewEntryRecord): boolean {
    if (record.attributes === undefined) return true;
    const group = record.attributes.linkGroup;
    const own = this.#slotGroups.get(slot);
    if (group === own) return true;
    if (own !== undefined || group === undefined || this.#groupSlots.has(group)) return false;
    this.joinGroup(slot, group);
    return true;
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
      inode.base(parent, name) !== record.validator
    );
  }

  /** The node loses its names to another version; its handles keep what they have. */
  supersede(slot: Slot): void {
    const inode = this.#inUse.get(slot);
    if (inode !== undefined) inode.superseded = true;
    this.table.pin(slot);
    for (const { parent, name } of this.table.names(slot)) this.table.removeName(slot, parent, name);
    this.#leaveGroup(slot);
    this.table.unpin(slot);
  }

  /** The inode number of a name that is shown without becoming a node. */
  inodeNumber(parent: Slot, record: EntryRecord): number {
    const slot = this.table.child(parent, record.name);
    if (slot !== NONE) return this.table.ino(slot);
    return record.ino ?? this.#inodeNumber(parent, record.name, record.attributes?.linkGroup);
  }

  #inodeNumber(parent: Slot, name: ByteString, group: string | undefined): number {
    const own = group === undefined ? undefined : inodeNumberOfGroup(group);
    return own ?? inodeNumberOf(`${this.#identity}\0${this.keyOf(parent, name)}`);
  }

  joinGroup(slot: Slot, group: string): void {
    this.#groupSlots.set(group, slot);
    this.#slotGroups.set(slot, group);
  }
  #leaveGroup(slot: Slot): void {
    const group = this.#slotGroups.get(slot);
    if (group === undefined) return;
    this.#slotGroups.delete(slot);
    if (this.#groupSlots.get(group) === slot) this.#groupSlots.delete(group);
  }

  /** Fills what `stat` shows of a node. False: nothing is known (any more). */
  fill(slot: Slot, attributes: Attributes): boolean {
    const inode = this.#inUse.get(slot);
    if (inode !== undefined) {
      copyAttributes(attributes, inode.attributes);
      if (inode.kind === 'directory' && attributes.nlink > 0) attributes.nlink = this.#directoryLinks(slot);
      return true;
    }
    const record = this.record(slot);
    if (record === undefined || record.kind === 'absent') return false;
    const links = record.kind === 'directory' ? this.#directoryLinks(slot) : this.linkCount(record);
    fillFrom(attributes, record, this.table.ino(slot), links, this.context);
    return true;
  }

  /** 2 and one for each directory in it; 1, which means unknown, where it was not listed or holds very much. */
  #directoryLinks(slot: Slot): number {
    if (this.table.parent(slot) === NONE) return 0;
    const directory = this.directoryKey(slot);
    const known = this.#links.get(directory);
    if (known !== undefined) return known;
    if (this.metadata.listing(this.location, directory).completeAt === undefined) return 1;
    const rows = this.metadata.entries(this.location, directory, 0, COUNTED_ROWS);
    const links =
      rows.length === COUNTED_ROWS ? 1 : 2 + rows.filter(({ kind }) => kind === 'directory').length;
    if (this.#links.size >= COUNTED_DIRECTORIES) this.#links.clear();
    this.#links.set(directory, links);
    return links;
  }

  /** A directory came, went, or was listed: what stat shows of it as a link count is to be counted again. */
  recount(directory: string): void {
    this.#links.delete(directory);
  }

  linkCount(record: EntryRecord | NewEntryRecord): number {
    if (record.kind === 'directory') return 2;
    const group = record.attributes?.linkGroup;
    if (group === undefined) return 1;
    const names = new Set<string>();
    for (const { directory, name } of this.metadata.linkNames(this.location, group)) {
      const row = this.metadata.entry(this.location, directory, name);
      if (row?.kind === 'file' && row.attributes?.linkGroup === group) names.add(`${directory}/${name}`);
    }
    return Math.max(1, names.size);
  }

  /** Fills an entry and counts the lookup. */
  answer(slot: Slot, valid: number, reply: EntryReply, scratch: Attributes): void {
    this.fill(slot, scratch);
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
    const valid = this.fullyValid;
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
    inode.storeModified = { seconds: record.modifiedSeconds, nanoseconds: record.modifiedNanoseconds };
    this.#adopt(inode);
    if (inode.linkGroup !== undefined) this.#gatherNames(slot, inode.linkGroup);
    for (const { parent, name } of this.table.names(slot)) {
      inode.setBase(parent, name, slot === ROOT_SLOT ? undefined : this.entry(parent, name)?.validator);
    }
    return inode;
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
    const group = this.#slotGroups.get(slot);
    for (const { parent, name } of this.table.names(slot)) {
      const row = this.entry(parent, name);
      const gone =
        row === undefined ||
        row.kind !== 'file' ||
        (row.attributes !== undefined && row.attributes.linkGroup !== group);
      if (!gone || !this.table.hasFurtherNames(slot)) continue;
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
    const before = parent === NONE ? NONE : this.table.child(parent, name);
    if (before !== NONE) this.supersede(before);
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
      this.metadata.put(this.location, ABOVE_ROOT, this.#recordOf(inode, ROOT_NAME, undefined, this.now()));
      return;
    }
    for (const { parent, name } of this.table.names(inode.slot)) {
      const seenAt = seen ? this.now() : (this.entry(parent, name)?.seenAt ?? this.now());
      this.put(parent, this.#recordOf(inode, name, inode.base(parent, name), seenAt));
    }
  }

  #recordOf(
    inode: Inode,
    name: ByteString,
    validator: Validator | undefined,
    seenAt: number,
  ): NewEntryRecord {
    return {
      name,
      kind: inode.kind,
      size: inode.kind === 'directory' ? 0 : inode.attributes.size,
      validator,
      modifiedSeconds: inode.storeModified.seconds,
      modifiedNanoseconds: inode.storeModified.nanoseconds,
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
      this.metadata.put(this.location, directory, { ...rest, validator });
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
    if (slot === ROOT_SLOT) this.metadata.put(this.location, ABOVE_ROOT, touched);
    else this.put(this.table.parent(slot), touched);
  }

  touchChanged(inode: Inode): void {
    touchChanged(inode.attributes, timestamp(this.now()));
  }

  /** A directory got another key: every key below is computed anew. */
  directoryMoved(): void {
    this.#directoryKeys.clear();
    this.#links.clear();
    this.#directoryKeys.set(ROOT_SLOT, '');
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

  #freed(slot: Slot): void {
    this.#directoryKeys.delete(slot);
    this.#leaveGroup(slot);
  }

  #makeRoot(): void {
    const at = timestamp(this.now());
    const { uid, gid } = this.context;
    this.metadata.put(this.location, ABOVE_ROOT, {
      name: ROOT_NAME,
      kind: 'directory',
      size: 0,
      validator: undefined,
      modifiedSeconds: at.seconds,
      modifiedNanoseconds: at.nanoseconds,
      attributes: { mode: S_IFDIR | 0o755, uid, gid, modified: at, changed: at, accessed: at },
      ino: this.table.ino(ROOT_SLOT),
      seenAt: this.now(),
    });
  }
}
