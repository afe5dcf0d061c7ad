/** The tree as this mount knows it: nodes, the rows that say what is known of names, and the files in use. */
import type { FileServer, ServerAttributes } from '../../backends/file-server.js';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { EntryRecord, LocationId, MetadataStore, NewEntryRecord } from '../../metadata/contract.js';
import { Attributes, isRegular, S_IFDIR, S_IFMT, S_ISGID } from '../attributes.js';
import {
  allowedMode,
  copyAttributes,
  fillFrom,
  inodeNumberOf,
  storedOf,
  timestamp,
  versionHash,
} from '../inodes/attributes-of.js';
import { InodeTable, type Name, NONE, ROOT_SLOT, type Slot } from '../inodes/inode-table.js';
import { LinkCounts } from '../inodes/link-counts.js';
import { LinkGroups } from '../inodes/link-groups.js';
import { absentRecord, inodeNumberOfGroup } from '../inodes/records.js';
import { Settled } from '../inodes/settled.js';
import type { ByteString, EntryAnswer, EntryReply, NodeId } from '../operations.js';
import { rootOf, type VolumeContext } from '../volume.js';
import type { BlockCache } from './block-cache.js';
import { NearConnection } from './near-connection.js';
import { type HandleOwner, NodeHandles } from './node-handles.js';
import type { RemoteVolumeOptions, RemoteVolumeParts } from './parts.js';
import { RemoteNode } from './remote-node.js';
import { rowOf, versionOf, versionOfRow } from './remote-rows.js';
import { shareChanges } from './same-server.js';

export const NAME_BYTES = 255;
/** Where the root's own row is: no path has this directory. */
const ABOVE_ROOT = '/';
const ROOT_NAME = '.';
const NANOSECONDS = 1e6;
/** How long the kernel may keep the attributes of an open file, nanoseconds: others may be adding to it (`tail -f`). */
const OPEN_VALID = 2e9;
/** A file that changed less than this ago, milliseconds, may change again within the same second of the server. */
const SETTLED = 2000;

export class RemoteTree {
  readonly table: InodeTable;
  readonly server: FileServer;
  readonly metadata: MetadataStore;
  readonly blocks: BlockCache;
  readonly context: VolumeContext;
  readonly options: RemoteVolumeOptions;
  readonly location: LocationId;
  /** Grows with every change of what is known: what was derived before may be otherwise now. */
  generation = 0;
  readonly settled: Settled;
  readonly #identity: string;
  readonly #paths = new Map<Slot, string>();
  readonly #inUse = new Map<Slot, RemoteNode>();
  readonly #groups = new LinkGroups();
  readonly #links: LinkCounts;
  readonly #near: NearConnection | undefined;
  readonly #shared: { changed(): void; leave(): void };

  constructor(parts: RemoteVolumeParts) {
    this.server = parts.server;
    this.metadata = parts.metadata;
    this.blocks = parts.blocks;
    this.context = parts.context;
    this.settled = new Settled(parts.context.notifier);
    this.options = parts.options;
    this.#identity = parts.identity;
    this.location = parts.metadata.location(parts.identity);
    this.#links = new LinkCounts(this.metadata, this.location);
    this.#shared = shareChanges(this.metadata, this.location, () => {
      this.generation++;
      this.settled.changed();
    });
    this.table = new InodeTable(rootOf(parts.context.index), inodeNumberOf(`${parts.identity}\0`), (slot) => {
      this.changed();
      this.#paths.delete(slot);
      this.#groups.leave(slot);
    });
    this.#paths.set(ROOT_SLOT, '');
    const { server, connectNear, context } = parts;
    this.#near =
      connectNear && server.features.lends ? new NearConnection(server, connectNear, context) : undefined;
  }

  /** What is known is about to change, for every volume of this server. */
  changed(): void {
    this.#shared.changed();
  }

  // Paths.

  /** ESTALE: the kernel holds a node that is gone here. */
  slotOf(node: NodeId): Slot {
    const slot = this.table.find(node);
    if (slot === NONE) throw MirageError.system('node', errno.ESTALE);
    return slot;
  }

  /** Path of a directory; ENOENT for one that was removed. */
  directoryPath(slot: Slot): string {
    const known = this.#paths.get(slot);
    if (known !== undefined) return known;
    const parent = this.table.parent(slot);
    if (parent === NONE) throw MirageError.system('directory', errno.ENOENT);
    const path = this.pathOf(parent, this.table.name(slot));
    this.#paths.set(slot, path);
    return path;
  }

  pathOf(parent: Slot, name: ByteString): string {
    if (name.length > NAME_BYTES) throw MirageError.system('name', errno.ENAMETOOLONG);
    const directory = this.directoryPath(parent);
    return directory === '' ? name : `${directory}/${name}`;
  }

  /** Where a node is (under its first name); undefined: nowhere any more. */
  pathIfAny(slot: Slot): string | undefined {
    if (slot === ROOT_SLOT) return '';
    const parent = this.table.parent(slot);
    if (parent === NONE || this.#isOff(parent)) return undefined;
    return this.pathOf(parent, this.table.name(slot));
  }

  #isOff(slot: Slot): boolean {
    for (let at = slot; at !== ROOT_SLOT; at = this.table.parent(at)) if (at === NONE) return true;
    return false;
  }

  /** The path of a node; ESTALE where it has none. */
  path(slot: Slot): string {
    const path = this.pathIfAny(slot);
    if (path === undefined) throw MirageError.system('path', errno.ESTALE);
    return path;
  }

  /** A directory got another path: all below are made anew. */
  directoryMoved(): void {
    this.changed();
    this.#paths.clear();
    this.#paths.set(ROOT_SLOT, '');
  }

  // Rows.

  /** The row that describes a node (that of its first name). */
  record(slot: Slot): EntryRecord | undefined {
    if (slot === ROOT_SLOT) return this.metadata.entry(this.location, ABOVE_ROOT, ROOT_NAME);
    const parent = this.table.parent(slot);
    return parent === NONE ? undefined : this.entry(parent, this.table.name(slot));
  }

  entry(parent: Slot, name: ByteString): EntryRecord | undefined {
    return this.metadata.entry(this.location, this.directoryPath(parent), name);
  }

  put(parent: Slot, row: NewEntryRecord): void {
    this.changed();
    const directory = this.directoryPath(parent);
    if (row.kind === 'directory') this.recount(directory);
    this.metadata.put(this.location, directory, row);
  }

  putAbsent(parent: Slot, name: ByteString): void {
    this.changed();
    const directory = this.directoryPath(parent);
    if (this.metadata.entry(this.location, directory, name)?.kind === 'directory') this.recount(directory);
    this.metadata.put(this.location, directory, absentRecord(name, this.now()));
  }

  putOwn(slot: Slot, row: NewEntryRecord): void {
    this.changed();
    if (slot === ROOT_SLOT) this.metadata.put(this.location, ABOVE_ROOT, { ...row, name: ROOT_NAME });
    else this.put(this.table.parent(slot), row);
  }

  /** What is known of a directory's times and links is not so any more. */
  expire(slot: Slot): void {
    const record = this.record(slot);
    if (record === undefined || record.kind === 'absent') return;
    const { position: _, ...row } = record;
    this.putOwn(slot, { ...row, seenAt: 0 });
  }

  // Freshness.

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

  /** The node of a name as its row describes it: a new one when the file is of another type, or has left its hard links. */
  enter(parent: Slot, name: ByteString, row: EntryRecord | NewEntryRecord): Slot {
    const mode = row.attributes?.mode ?? S_IFDIR;
    const group = row.attributes?.linkGroup;
    const known = this.table.child(parent, name);
    if (known !== NONE) {
      if (this.table.type(known) === (mode & S_IFMT) && this.#groups.admits(known, group)) return known;
      this.supersede(known, parent, name);
    }
    const linked = group === undefined ? undefined : this.#groups.slotOf(group);
    if (linked !== undefined && this.table.type(linked) === (mode & S_IFMT)) {
      this.table.addName(linked, parent, name);
      return linked;
    }
    const slot = this.table.add(parent, name, row.ino ?? this.derivedInodeNumber(parent, name, group), mode);
    if (group !== undefined) this.#groups.join(slot, group);
    return slot;
  }

  /** The node loses a name to another file; its handles keep what they have. `outside`: the kernel does not know. */
  supersede(slot: Slot, parent: Slot, name: ByteString, outside = true): void {
    const node = this.#inUse.get(slot);
    this.changed();
    this.table.pin(slot);
    this.table.removeName(slot, parent, name);
    if (this.table.parent(slot) === NONE) {
      if (node !== undefined) node.superseded = true;
      this.#groups.leave(slot);
    }
    this.table.unpin(slot);
    if (outside) this.context.notifier.invalidateEntry(this.table.id(parent), name);
  }

  joinGroup(slot: Slot, group: string): void {
    this.#groups.join(slot, group);
  }

  /** Fills what `stat` shows of a node. False: nothing is known (any more). */
  fill(slot: Slot, attributes: Attributes): boolean {
    const node = this.#inUse.get(slot);
    if (node !== undefined) {
      copyAttributes(attributes, node.attributes);
      attributes.mode = allowedMode(attributes.mode, this.context);
      return true;
    }
    const record = this.record(slot);
    if (record === undefined || record.kind === 'absent') return false;
    const links = record.kind === 'directory' ? this.directoryLinks(slot) : this.linkCount(record);
    fillFrom(attributes, record, this.table.ino(slot), links, this.context);
    return true;
  }

  /** Fills an entry and counts the lookup. */
  answer(slot: Slot, valid: number, reply: EntryReply, scratch: Attributes): void {
    this.fill(slot, scratch);
    reply.nodeId = this.table.id(slot);
    reply.entryValid = valid;
    reply.attributesValid = this.attributesValid(slot, valid);
    reply.attributes = scratch;
    this.table.remember(slot);
  }

  /** The same for something that was made here. */
  made(slot: Slot): EntryAnswer {
    const attributes = new Attributes();
    this.fill(slot, attributes);
    this.table.remember(slot);
    const valid = this.fullyValid;
    return {
      nodeId: this.table.id(slot),
      entryValid: valid,
      attributesValid: this.attributesValid(slot, valid),
      attributes,
    };
  }

  attributesValid(slot: Slot, valid: number): number {
    return this.#inUse.has(slot) ? Math.min(valid, OPEN_VALID) : valid;
  }

  /** What the server says of a name, if nothing was made or changed here since it was asked. Returns the row that holds now. */
  heard(
    parent: Slot,
    name: ByteString,
    said: ServerAttributes | undefined,
    askedAt: number,
  ): EntryRecord | undefined {
    const previous = this.entry(parent, name);
    const slot = this.table.child(parent, name);
    const node = slot === NONE ? undefined : this.#inUse.get(slot);
    if (node?.holdsTruth === true) return previous;
    if (previous !== undefined && previous.seenAt >= askedAt && previous.seenAt <= this.now())
      return previous;
    if (said === undefined) {
      this.putAbsent(parent, name);
      if (slot !== NONE) this.supersede(slot, parent, name);
      return undefined;
    }
    this.put(parent, this.#withoutLostLink(rowOf(name, said, previous, askedAt), previous));
    if (node !== undefined) this.refresh(node);
    return this.entry(parent, name);
  }

  /** The server's word on the root of the mount. */
  heardOfRoot(said: ServerAttributes, askedAt: number): void {
    this.putOwn(ROOT_SLOT, { ...rowOf(ROOT_NAME, said, this.record(ROOT_SLOT), askedAt), ino: undefined });
  }

  /** A hard link of ours whose content is not that of the others: another file has taken the name. */
  #withoutLostLink(row: NewEntryRecord, previous: EntryRecord | undefined): NewEntryRecord {
    const group = row.attributes?.linkGroup;
    if (group === undefined || previous === undefined || versionOfRow(row) === versionOfRow(previous)) {
      return row;
    }
    const { linkGroup: _, ...attributes } = row.attributes ?? {};
    return { ...row, attributes, ino: undefined };
  }

  // Files in use.

  inUse(slot: Slot): RemoteNode | undefined {
    return this.#inUse.get(slot);
  }
  allInUse(): IterableIterator<RemoteNode> {
    return this.#inUse.values();
  }

  /** The file of a node, from its row where it is not in use yet. */
  use(slot: Slot): RemoteNode {
    const known = this.#inUse.get(slot);
    if (known !== undefined) return known;
    const record = this.record(slot);
    if (record === undefined || record.kind === 'absent') throw MirageError.system('node', errno.ESTALE);
    const owner: HandleOwner = {
      path: () => node.hidden ?? this.pathIfAny(slot),
      check: (said, again) => this.#checkOpened(node, said, again),
    };
    const handles = new NodeHandles(this.server, owner, this.#near);
    const node: RemoteNode = new RemoteNode(slot, handles);
    this.#inUse.set(slot, node);
    this.settled.used(this.table.id(slot));
    this.table.pin(slot);
    this.#fillNode(node, record);
    if (node.linkGroup !== undefined) this.#gatherNames(node.linkGroup);
    return node;
  }

  /** All names of a hard link become names of its node, also those that nobody has looked up: what is written through one shows under all. */
  #gatherNames(group: string): void {
    for (const { directory, name } of this.metadata.linkNames(this.location, group)) {
      const row = this.metadata.entry(this.location, directory, name);
      const parent = this.#slotOfDirectory(directory);
      if (row?.kind === 'file' && row.attributes?.linkGroup === group && parent !== NONE) {
        this.enter(parent, name, row);
      }
    }
  }

  /** The node of a directory by its path, as far as rows lead there. */
  #slotOfDirectory(path: string): Slot {
    let slot = ROOT_SLOT;
    for (const name of path === '' ? [] : path.split('/')) {
      const row = this.entry(slot, name);
      if (row?.kind !== 'directory') return NONE;
      slot = this.enter(slot, name, row);
    }
    return slot;
  }

  #fillNode(node: RemoteNode, record: EntryRecord): void {
    const { attributes } = record;
    fillFrom(node.attributes, record, this.table.ino(node.slot), this.linkCount(record), {
      ...this.context,
      mode: 'exec',
    });
    node.xattrs = attributes?.xattrs ?? {};
    node.linkGroup = attributes?.linkGroup;
    const { size, modifiedSeconds, modifiedNanoseconds } = record;
    node.said = { size, modifiedSeconds, modifiedNanoseconds };
    node.seenAt = record.seenAt;
  }

  /** Takes over what the row says; content of another version goes, the kernel's too. */
  refresh(node: RemoteNode): void {
    const record = this.record(node.slot);
    if (record === undefined || record.kind === 'absent' || node.holdsTruth) return;
    const before = this.version(node);
    this.#fillNode(node, record);
    const now = this.version(node);
    if (before === now) return;
    node.content?.replaced(now, node.attributes.size);
    this.context.notifier.invalidateNode(this.table.id(node.slot), 0, 0);
  }

  version(node: RemoteNode): string {
    const { size, modifiedSeconds, modifiedNanoseconds } = node.said;
    return `${size}:${modifiedSeconds}.${modifiedNanoseconds}`;
  }

  /** A change that keeps size and time of the version is not to be feared any more. */
  isSettled(node: RemoteNode): boolean {
    return Math.abs(this.now() - node.said.modifiedSeconds * 1000) > SETTLED;
  }

  /** Whether the kernel's pages are of the version that the node has now; remembers that version. */
  sameVersion(node: RemoteNode): boolean {
    const version = versionHash(this.version(node));
    const same = this.table.version(node.slot) === version;
    this.table.setVersion(node.slot, version);
    return same;
  }

  #checkOpened(node: RemoteNode, said: ServerAttributes, again: boolean): void {
    if (!isRegular(said.mode)) throw MirageError.system('open', errno.ESTALE);
    if (node.holdsTruth || versionOf(said) === this.version(node)) return;
    if (again) {
      throw new MirageError('another file has the name since the connection was lost', { errno: 'ESTALE' });
    }
    const parent = this.table.parent(node.slot);
    if (parent !== NONE) this.heard(parent, this.table.name(node.slot), said, this.now() + 1);
  }

  /** Ends the use of a file that nothing needs any more. */
  unuse(node: RemoteNode): void {
    if (!node.idle || this.#inUse.get(node.slot) !== node) return;
    this.#inUse.delete(node.slot);
    const { content } = node;
    node.content = undefined;
    if (content !== undefined) {
      content.serve(undefined);
      const named = this.table.parent(node.slot) !== NONE && !content.busy;
      content.trusted ||= this.isSettled(node);
      if (named) this.blocks.rest(node.attributes.ino, content);
      else this.blocks.drop(content);
    }
    void node.onServer.close();
    this.table.unpin(node.slot);
  }

  /** Writes what is known of a file to its rows; `said` is what the server just told of it. */
  publish(node: RemoteNode, said?: ServerAttributes): void {
    if (said !== undefined) {
      const { size, modifiedSeconds, modifiedNanoseconds } = said;
      node.said = { size, modifiedSeconds, modifiedNanoseconds };
      node.seenAt = this.now();
    }
    for (const { parent, name } of this.names(node.slot)) this.put(parent, this.#rowOfNode(node, name));
  }

  /** The names of a node that are in the tree. */
  names(slot: Slot): readonly Name[] {
    return this.table.names(slot).filter(({ parent }) => !this.#isOff(parent));
  }

  #rowOfNode(node: RemoteNode, name: ByteString): NewEntryRecord {
    return {
      name,
      kind: 'file',
      size: node.said.size,
      validator: undefined,
      modifiedSeconds: node.said.modifiedSeconds,
      modifiedNanoseconds: node.said.modifiedNanoseconds,
      attributes: storedOf(node.attributes, {
        xattrs: node.xattrs,
        linkGroup: node.linkGroup,
        writer: undefined,
      }),
      ino: this.table.ino(node.slot),
      seenAt: node.seenAt,
    };
  }

  // What stat derives from rows.

  /** 2 and one for each directory in it; 1, which means unknown, where it was not listed or holds very much. */
  directoryLinks(slot: Slot): number {
    const directory = slot === ROOT_SLOT ? '' : this.pathIfAny(slot);
    if (directory === undefined) return 0;
    return this.#links.ofDirectory(directory);
  }

  /** A directory came, went, or was listed: its link count is to be counted again. */
  recount(directory: string): void {
    this.changed();
    this.#links.recount(directory);
  }

  /** Names that were linked on this mount: the server tells neither their number nor which belong together. */
  linkCount(record: EntryRecord | NewEntryRecord): number {
    return this.#links.ofFile(record);
  }

  /** The inode number of a name that is shown without becoming a node. */
  inodeNumber(parent: Slot, row: EntryRecord): number {
    const slot = this.table.child(parent, row.name);
    if (slot !== NONE) return this.table.ino(slot);
    return row.ino ?? this.derivedInodeNumber(parent, row.name, row.attributes?.linkGroup);
  }

  /** The inode number of what has none of its own: that of its hard links, else one of its path. */
  derivedInodeNumber(parent: Slot, name: ByteString, group: string | undefined): number {
    const own = group === undefined ? undefined : inodeNumberOfGroup(group);
    return own ?? inodeNumberOf(`${this.#identity}\0${this.pathOf(parent, name)}`);
  }

  /** The group that something new in a directory gets, and whether a directory takes sgid along. */
  inherits(parent: Slot): boolean {
    const mode = this.record(parent)?.attributes?.mode ?? 0;
    return (mode & S_ISGID) !== 0;
  }

  /** A name in the directory was made or removed here: its times say so, the server's too. */
  touchDirectory(slot: Slot): void {
    const record = this.record(slot);
    if (record === undefined || record.kind !== 'directory') return;
    const at = timestamp(this.now());
    const { position: _, ...row } = record;
    this.putOwn(slot, {
      ...row,
      // The server sets the time by its own clock: a second apart is the same change.
      modifiedSeconds: at.seconds,
      modifiedNanoseconds: 0,
      attributes: { ...row.attributes, modified: at, changed: at },
    });
  }

  close(): void {
    for (const node of this.#inUse.values()) {
      if (node.content !== undefined) this.blocks.drop(node.content);
      void node.onServer.close();
    }
    this.#inUse.clear();
    this.#near?.close();
    this.#shared.leave();
  }
}
