import { readSync } from 'node:fs';
import { MirageError } from '../../errors/mirage-error.js';
import type { Attributes } from '../attributes.js';
import { type Name, NONE, type Slot } from '../inodes/inode-table.js';
import type {
  Answer,
  AttributeChange,
  AttributesReply,
  ByteString,
  Call,
  CreateAnswer,
  DirectorySink,
  EntryAnswer,
  EntryReply,
  ExtendedAttributeReply,
  FileSystemUsage,
  Handle,
  NodeId,
  OpenMode,
  OpenReply,
  ReadReply,
  Reply,
  WriteSource,
} from '../operations.js';
import type { Volume } from '../volume.js';
import { AttributeChanges } from './change-attributes.js';
import { Commits } from './commit.js';
import { Copies } from './copies.js';
import { Directories } from './directory.js';
import { Entries } from './entries.js';
import { Settling } from './journal/settling.js';
import { Links } from './links.js';
import { Nodes } from './nodes.js';
import { OpenFiles } from './open-files.js';
import { OpenHandles } from './open-handles.js';
import { OwnAttributes } from './own-attributes.js';
import type { ObjectVolumeParts } from './parts.js';
import { Reading } from './reading.js';
import { Moves } from './rename.js';
import { TreeMoves } from './rename-tree.js';
import { SiblingReadAhead } from './sibling-read-ahead.js';
import { WriteLeases } from './write-leases.js';
import { Writing } from './writing.js';

const BLOCK = 4096;
/** What a store without a limit shows, bytes: 1 PiB. */
const BOUNDLESS = 2 ** 50;
const BOUNDLESS_FILES = 2 ** 40;

/** POSIX files over an object store: the names of one mount, each operation in the module that knows it. */
export class ObjectVolume implements Volume {
  readonly #nodes: Nodes;
  readonly #directories: Directories;
  readonly #commits: Commits;
  readonly #copies: Copies;
  readonly #handles = new OpenHandles();
  readonly #leases: WriteLeases | undefined;
  readonly #files: OpenFiles;
  readonly #reading: Reading;
  readonly #writing: Writing;
  readonly #entries: Entries;
  readonly #moves: Moves;
  readonly #links: Links;
  readonly #attributes: AttributeChanges;

  constructor(parts: ObjectVolumeParts) {
    const nodes = new Nodes(parts);
    this.#nodes = nodes;
    this.#directories = new Directories(nodes);
    this.#commits = new Commits(nodes);
    this.#copies = new Copies(nodes, this.#commits);
    const handles = this.#handles;
    this.#leases = parts.leases && new WriteLeases(nodes, parts.leases);
    const siblings = new SiblingReadAhead(nodes, this.#directories.contentFirst);
    this.#reading = new Reading(this.#copies, handles, siblings);
    this.#writing = new Writing(nodes, this.#commits, this.#copies, handles);
    this.#files = new OpenFiles(
      nodes,
      this.#directories,
      this.#commits,
      this.#copies,
      handles,
      this.#reading,
      this.#writing,
      siblings,
    );
    this.#entries = new Entries(nodes, this.#directories, this.#commits, this.#files);
    const trees = new TreeMoves(nodes, this.#commits, this.#entries);
    this.#moves = new Moves(
      nodes,
      this.#directories,
      this.#commits,
      this.#copies,
      this.#files,
      this.#entries,
      trees,
    );
    this.#links = new Links(nodes, this.#commits, this.#copies);
    const own = new OwnAttributes(nodes, this.#directories, this.#commits, this.#copies);
    this.#attributes = new AttributeChanges(nodes, this.#commits, this.#files, own);
    new Settling(nodes, this.#commits).begin();
  }

  lookup(_call: Call, parent: NodeId, name: ByteString, reply: EntryReply): Answer<void> {
    return this.#directories.lookup(this.#slot(parent), name, reply);
  }
  getattr(_call: Call, node: NodeId, _handle: Handle | undefined, reply: AttributesReply): Answer<void> {
    return this.#directories.getattr(this.#slot(node), reply);
  }
  forget(node: NodeId, count: number): void {
    this.#nodes.table.forget(node, count);
  }

  open(call: Call, node: NodeId, mode: OpenMode, reply: OpenReply): Answer<void> {
    const slot = this.#slot(node);
    if (this.#leases?.wanted(mode.flags)) return this.#openAlone(this.#leases, call, node, mode, reply);
    return this.#files.open(slot, mode, reply, call);
  }
  read(
    call: Call,
    _node: NodeId,
    handle: Handle,
    offset: number,
    size: number,
    reply: ReadReply,
  ): Answer<void> {
    return this.#reading.read(call, handle, offset, size, reply);
  }
  write(call: Call, _node: NodeId, handle: Handle, offset: number, source: WriteSource): Answer<number> {
    return this.#writing.write(call, handle, offset, source);
  }
  flush(_call: Call, _node: NodeId, handle: Handle, _reply: Reply): Answer<void> {
    return this.#writing.flush(handle);
  }
  fsync(_call: Call, _node: NodeId, handle: Handle, _dataOnly: boolean): Promise<void> {
    return this.#writing.fsync(handle);
  }
  release(_call: Call, _node: NodeId, handle: Handle): void {
    const { inode } = this.#handles.get(handle);
    this.#files.release(handle);
    this.#leases?.released(handle, inode);
  }
  create(call: Call, parent: NodeId, name: ByteString, mode: number, open: OpenMode): Answer<CreateAnswer> {
    if (this.#leases !== undefined) return this.#createAlone(this.#leases, call, parent, name, mode, open);
    return this.#files.create(call, this.#slot(parent), name, mode, open);
  }
  temporary(call: Call, parent: NodeId, mode: number, open: OpenMode): CreateAnswer {
    return this.#files.temporary(call, this.#slot(parent), mode, open);
  }
  lseek(_call: Call, _node: NodeId, handle: Handle, offset: number, whence: number): number {
    return this.#reading.lseek(handle, offset, whence);
  }
  fallocate(
    call: Call,
    _node: NodeId,
    handle: Handle,
    mode: number,
    offset: number,
    length: number,
  ): Promise<void> {
    return this.#writing.allocate(call, handle, mode, offset, length);
  }
  copyFileRange(
    call: Call,
    from: { node: NodeId; handle: Handle; offset: number },
    to: { node: NodeId; handle: Handle; offset: number },
    length: number,
  ): Promise<number> {
    return this.#writing.copyRange(call, from, to, length);
  }

  opendir(_call: Call, node: NodeId, reply: OpenReply): void {
    this.#directories.opendir(this.#slot(node), reply);
  }
  readdir(_call: Call, node: NodeId, handle: Handle, cookie: number, sink: DirectorySink): Answer<void> {
    return this.#directories.readdir(this.#slot(node), handle, cookie, sink);
  }
  releasedir(_call: Call, _node: NodeId, handle: Handle): void {
    this.#directories.releasedir(handle);
  }
  /** Names are on the store when the call that made them is answered. */
  fsyncdir(): void {}

  async setattr(
    call: Call,
    node: NodeId,
    change: AttributeChange,
  ): Promise<{ attributes: Attributes; attributesValid: number }> {
    const set = () => this.#attributes.setattr(call, this.#slot(node), change);
    const byPath = change.size !== undefined && change.handle === undefined;
    const attributes = await (byPath && this.#leases !== undefined
      ? this.#leases.during(call, this.#slot(node), set)
      : set());
    return { attributes, attributesValid: this.#nodes.fullyValid };
  }
  getxattr(_call: Call, node: NodeId, name: ByteString, reply: ExtendedAttributeReply): Answer<void> {
    return this.#attributes.getxattr(this.#slot(node), name, reply);
  }
  listxattr(_call: Call, node: NodeId): ByteString[] {
    return this.#attributes.listxattr(this.#slot(node));
  }
  setxattr(_call: Call, node: NodeId, name: ByteString, value: Uint8Array, flags: number): Answer<void> {
    return this.#attributes.setxattr(this.#slot(node), name, value, flags);
  }
  removexattr(_call: Call, node: NodeId, name: ByteString): Answer<void> {
    return this.#attributes.removexattr(this.#slot(node), name);
  }

  async readlink(_call: Call, node: NodeId): Promise<ByteString> {
    const inode = this.#nodes.use(this.#slot(node));
    try {
      const { fd, size } = await this.#copies.wholeFile(inode);
      const target = Buffer.alloc(size);
      readSync(fd, target, 0, size, 0);
      return target.toString('latin1');
    } finally {
      this.#commits.rest(inode);
    }
  }
  mknod(call: Call, parent: NodeId, name: ByteString, mode: number, rdev: number): Promise<EntryAnswer> {
    return this.#entries.mknod(call, this.#slot(parent), name, mode, rdev);
  }
  mkdir(call: Call, parent: NodeId, name: ByteString, mode: number): Promise<EntryAnswer> {
    return this.#entries.mkdir(call, this.#slot(parent), name, mode);
  }
  symlink(call: Call, parent: NodeId, name: ByteString, target: ByteString): Promise<EntryAnswer> {
    return this.#entries.symlink(call, this.#slot(parent), name, target);
  }
  link(_call: Call, node: NodeId, parent: NodeId, name: ByteString): Promise<EntryAnswer> {
    return this.#links.link(this.#slot(node), this.#slot(parent), name);
  }
  unlink(call: Call, parent: NodeId, name: ByteString): Promise<void> {
    const from = { parent: this.#slot(parent), name };
    return this.#alone(call, [from], () => this.#entries.unlink(from.parent, name));
  }
  rmdir(_call: Call, parent: NodeId, name: ByteString): Promise<void> {
    return this.#entries.rmdir(this.#slot(parent), name);
  }
  rename(
    call: Call,
    parent: NodeId,
    name: ByteString,
    newParent: NodeId,
    newName: ByteString,
    flags: number,
  ): Promise<void> {
    const from = { parent: this.#slot(parent), name };
    const to = { parent: this.#slot(newParent), name: newName };
    // What is below a directory other hosts may have open: its objects are moved as the versions that they are.
    const isDirectory = this.#nodes.entry(from.parent, name)?.kind === 'directory';
    return this.#alone(call, isDirectory ? [] : [from, to], () => this.#moves.rename(from, to, flags));
  }

  async statfs(): Promise<FileSystemUsage> {
    const { port, mount } = this.#nodes;
    const usage = port.features(mount).usage ? await port.usage(mount) : {};
    const total = usage.total ?? BOUNDLESS;
    const free = usage.free ?? total;
    const files = usage.entries ?? BOUNDLESS_FILES;
    return {
      blockSize: BLOCK,
      blocks: Math.floor(total / BLOCK),
      blocksFree: Math.floor(free / BLOCK),
      blocksAvailable: Math.floor(free / BLOCK),
      files,
      filesFree: usage.freeEntries ?? files,
      nameLength: 255,
    };
  }

  async drain(): Promise<void> {
    try {
      await this.#commits.drain();
    } finally {
      await this.#nodes.writeBehind?.drain();
      await this.#nodes.metadata.settled();
    }
  }
  pending(): readonly string[] {
    const { writeBehind, context } = this.#nodes;
    const behind = writeBehind?.pending().map((change) => `${context.path}/${change}`) ?? [];
    return [...this.#commits.pending(), ...behind];
  }
  async close(): Promise<void> {
    this.#leases?.close();
    this.#directories.close();
    this.#commits.stop();
    await this.#nodes.writeBehind?.close();
    this.#nodes.close();
  }

  /** No other host has the file open for writing from here on, and what the last one wrote is what is opened. */
  async #openAlone(
    leases: WriteLeases,
    call: Call,
    node: NodeId,
    mode: OpenMode,
    reply: OpenReply,
  ): Promise<void> {
    const { table } = this.#nodes;
    const slot = this.#slot(node);
    table.pin(slot);
    try {
      const open = async () => this.#files.open(slot, mode, reply, call);
      await leases.open(call, slot, mode.flags, open, () => reply.handle);
    } finally {
      table.unpin(slot);
    }
  }

  async #createAlone(
    leases: WriteLeases,
    call: Call,
    parent: NodeId,
    name: ByteString,
    mode: number,
    open: OpenMode,
  ): Promise<CreateAnswer> {
    const slot = this.#slot(parent);
    const { table } = this.#nodes;
    table.pin(slot);
    try {
      const create = async () => {
        await this.#files.refuseMade(slot, name, open);
        return this.#files.create(call, slot, name, mode, open);
      };
      return await leases.create(call, slot, name, open.flags, create, (made) => made.open.handle);
    } finally {
      table.unpin(slot);
    }
  }

  /** No other host writes the files that have these names. */
  async #alone(call: Call, names: readonly Name[], change: () => Promise<void>): Promise<void> {
    const leases = this.#leases;
    if (leases === undefined || names.length === 0) return change();
    const { table } = this.#nodes;
    for (const { parent } of names) table.pin(parent);
    try {
      await leases.renaming(call, names, change);
    } finally {
      for (const { parent } of names) table.unpin(parent);
    }
  }

  #slot(node: NodeId): Slot {
    const slot = this.#nodes.table.find(node);
    if (slot === NONE) throw new MirageError(`no node ${node}`, { errno: 'ESTALE' });
    return slot;
  }
}
