/** What is known of names: the rows of the metadata store, reached by node and name, and the keys that names stand for. */
import type { ContentStore } from '../../content/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { EntryRecord, LocationId, MetadataStore, NewEntryRecord } from '../../metadata/contract.js';
import type { MountIndex, StorePort } from '../../ports/store-port.js';
import { S_IFDIR } from '../attributes.js';
import { inodeNumberOf, timestamp } from '../inodes/attributes-of.js';
import { InodeTable, NONE, ROOT_SLOT, type Slot } from '../inodes/inode-table.js';
import { LinkCounts } from '../inodes/link-counts.js';
import { absentRecord, inodeNumberOfGroup } from '../inodes/records.js';
import { Settled } from '../inodes/settled.js';
import type { ByteString, NodeId } from '../operations.js';
import { rootOf, type VolumeContext } from '../volume.js';
import type { WriteBehind } from './journal/write-behind.js';
import { Lifetimes } from './lifetimes.js';
import { componentOf, LongNames, NAME_BYTES } from './names.js';
import type { ObjectVolumeOptions, ObjectVolumeParts } from './parts.js';

/** Where the root's own row is: no key has this directory. */
const ABOVE_ROOT = '/';
const ROOT_NAME = '.';
const NANOSECONDS = 1e6;

export class Rows {
  readonly table: InodeTable;
  readonly port: StorePort;
  readonly writeBehind: WriteBehind | undefined;
  readonly mount: MountIndex;
  readonly metadata: MetadataStore;
  readonly content: ContentStore;
  readonly context: VolumeContext;
  readonly options: ObjectVolumeOptions;
  readonly location: LocationId;
  readonly longNames = new LongNames();

  /** What is mounted: endpoint, bucket, prefix. */
  readonly identity: string;
  readonly #lifetimes: Lifetimes;
  readonly #directoryKeys = new Map<Slot, string>();
  readonly #links: LinkCounts;
  readonly settled: Settled;

  /** `onFree`: a node is gone, whatever is kept by its slot must go. */
  constructor(parts: ObjectVolumeParts, onFree: (slot: Slot) => void) {
    this.port = parts.port;
    this.writeBehind = parts.writeBehind;
    this.mount = parts.mount;
    this.metadata = parts.metadata;
    this.content = parts.content;
    this.context = parts.context;
    this.settled = new Settled(parts.context.notifier);
    this.options = parts.options;
    this.#lifetimes = new Lifetimes(parts.options);
    this.identity = parts.identity;
    // Of this mount alone: what it has made and not stored yet is nothing that another mount of the same bucket may list away.
    this.location = parts.metadata.location(`${parts.identity} at ${parts.context.path}`);
    this.#links = new LinkCounts(this.metadata, this.location);
    const root = rootOf(parts.context.index);
    this.table = new InodeTable(root, inodeNumberOf(`${parts.identity}\0`), (slot) => {
      this.settled.changed();
      this.#directoryKeys.delete(slot);
      onFree(slot);
    });
    this.#directoryKeys.set(ROOT_SLOT, '');
    if (this.metadata.entry(this.location, ABOVE_ROOT, ROOT_NAME) === undefined) this.#makeRoot();
  }

  #makeRoot(): void {
    const at = timestamp(this.now());
    const { uid, gid } = this.context;
    this.putRoot({
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

  // Keys.

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

  /** A directory got another key: every key below is computed anew. */
  directoryMoved(): void {
    this.settled.changed();
    this.#directoryKeys.clear();
    this.#links.clear();
    this.#directoryKeys.set(ROOT_SLOT, '');
  }

  // Rows.

  /** The row that describes a node (that of its first name). */
  record(slot: Slot): EntryRecord | undefined {
    if (slot === ROOT_SLOT) return this.metadata.entry(this.location, ABOVE_ROOT, ROOT_NAME);
    const parent = this.table.parent(slot);
    return parent === NONE ? undefined : this.entry(parent, this.table.name(slot));
  }

  entry(parent: Slot, name: ByteString): EntryRecord | undefined {
    return this.metadata.entry(this.location, this.directoryKey(parent), name);
  }

  put(parent: Slot, record: NewEntryRecord): void {
    const directory = this.directoryKey(parent);
    if (record.kind === 'directory') this.recount(directory);
    this.putIn(directory, record);
  }

  /** `directory`: its key. */
  putIn(directory: string, record: NewEntryRecord): void {
    this.settled.changed();
    this.metadata.put(this.location, directory, record);
  }

  /** What is known of the root of the mount, which has no name. */
  putRoot(record: NewEntryRecord): void {
    this.putIn(ABOVE_ROOT, { ...record, name: ROOT_NAME });
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

  // Freshness.

  now(): number {
    return this.context.clock.wall();
  }

  /** Nanoseconds that something seen at `seenAt` in a directory may still be believed; 0: ask again. */
  validFor(seenAt: number, directory?: string): number {
    const ttl = this.#lifetimes.of(directory);
    if (this.options.freshness === 'offline') return ttl * NANOSECONDS;
    const now = this.now();
    // Seen in the future: the clock was set back, and nobody knows how long ago it was.
    const left = seenAt > now ? 0 : seenAt + ttl - now;
    return left > 0 ? Math.floor(left * NANOSECONDS) : 0;
  }
  /** The same for what is known now. */
  fullyValidIn(directory: string): number {
    return this.#lifetimes.of(directory) * NANOSECONDS;
  }
  /** As much in any directory. */
  get fullyValid(): number {
    return this.#lifetimes.of(undefined) * NANOSECONDS;
  }

  // What stat derives from rows.

  /** 2 and one for each directory in it; 1, which means unknown, where it was not listed or holds very much; 0 when it was removed. */
  directoryLinks(slot: Slot): number {
    const directory = this.directoryKeyIfAny(slot);
    return directory === undefined ? 0 : this.#links.ofDirectory(directory);
  }

  /** A directory came, went, or was listed: what stat shows of it as a link count is to be counted again. */
  recount(directory: string): void {
    this.settled.changed();
    this.#links.recount(directory);
  }

  linkCount(record: EntryRecord | NewEntryRecord): number {
    return record.kind === 'directory' ? 2 : this.#links.ofFile(record);
  }

  /** The inode number of a name that is shown without becoming a node. */
  inodeNumber(parent: Slot, record: EntryRecord): number {
    const slot = this.table.child(parent, record.name);
    if (slot !== NONE) return this.table.ino(slot);
    return record.ino ?? this.derivedInodeNumber(parent, record.name, record.attributes?.linkGroup);
  }

  /** The inode number of what has none of its own: that of its hard links, else one of its key. */
  derivedInodeNumber(parent: Slot, name: ByteString, group: string | undefined): number {
    const own = group === undefined ? undefined : inodeNumberOfGroup(group);
    return own ?? inodeNumberOf(`${this.identity}\0${this.keyOf(parent, name)}`);
  }
}
