import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Attributes } from '../attributes.js';
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
import { Owners } from './owners.js';
import type { RemoteVolumeParts } from './parts.js';
import { RemoteDirectories } from './remote-directories.js';
import { RemoteFiles } from './remote-files.js';
import { RemoteIo } from './remote-io.js';
import { RemoteMetadata } from './remote-metadata.js';
import { RemoteNames } from './remote-names.js';
import { RemoteTree } from './remote-tree.js';
import { Storing } from './storing.js';

/** Figures of a server that tells none. */
const BOUNDLESS = { blockSize: 4096, blocks: 2 ** 40, blocksFree: 2 ** 40, blocksAvailable: 2 ** 40 };
const BOUNDLESS_FILES = { files: 2 ** 32, filesFree: 2 ** 32, nameLength: 255 };

/**
 * The tree of a file server. Operations pass through to it; names, attributes and listings are cached in the metadata database, content in
 * nameless files of the cache directory, and what programs write goes to the server behind them, done when close or fsync is answered.
 */
export class RemoteVolume implements Volume {
  readonly #tree: RemoteTree;
  readonly #directories: RemoteDirectories;
  readonly #storing: Storing;
  readonly #files: RemoteFiles;
  readonly #io: RemoteIo;
  readonly #names: RemoteNames;
  readonly #metadata: RemoteMetadata;

  constructor(parts: RemoteVolumeParts) {
    const tree = new RemoteTree(parts);
    const owners = new Owners(tree);
    this.#tree = tree;
    this.#directories = new RemoteDirectories(tree);
    this.#storing = new Storing(tree);
    this.#files = new RemoteFiles(tree, owners, this.#storing);
    this.#io = new RemoteIo(tree, this.#files, this.#storing);
    this.#names = new RemoteNames(tree, this.#directories, this.#files, owners);
    this.#metadata = new RemoteMetadata(tree, this.#directories, this.#files, this.#storing);
  }

  lookup(_call: Call, parent: NodeId, name: ByteString, reply: EntryReply): Answer<void> {
    return this.#directories.lookup(this.#tree.slotOf(parent), name, reply);
  }
  getattr(_call: Call, node: NodeId, _handle: Handle | undefined, reply: AttributesReply): Answer<void> {
    return this.#directories.getattr(this.#tree.slotOf(node), reply);
  }
  forget(node: NodeId, count: number): void {
    this.#tree.table.forget(node, count);
  }

  open(_call: Call, node: NodeId, mode: OpenMode, reply: OpenReply): Answer<void> {
    return this.#files.open(this.#tree.slotOf(node), mode, reply);
  }
  read(
    call: Call,
    _node: NodeId,
    handle: Handle,
    offset: number,
    size: number,
    reply: ReadReply,
  ): Answer<void> {
    return this.#io.read(call, handle, offset, size, reply);
  }
  write(_call: Call, _node: NodeId, handle: Handle, offset: number, source: WriteSource): Answer<number> {
    return this.#io.write(handle, offset, source);
  }
  flush(_call: Call, _node: NodeId, handle: Handle, _reply: Reply): Answer<void> {
    return this.#io.flush(handle);
  }
  fsync(_call: Call, _node: NodeId, handle: Handle, _dataOnly: boolean): Promise<void> {
    return this.#io.fsync(handle);
  }
  release(_call: Call, _node: NodeId, handle: Handle): void {
    this.#files.release(handle);
  }
  create(call: Call, parent: NodeId, name: ByteString, mode: number, open: OpenMode): Promise<CreateAnswer> {
    return this.#files.create(call, this.#tree.slotOf(parent), name, mode, open);
  }
  /** Programs that want a nameless file make a named one where they hear this. */
  temporary(): CreateAnswer {
    throw MirageError.system('O_TMPFILE', errno.EOPNOTSUPP);
  }
  lseek(_call: Call, _node: NodeId, handle: Handle, offset: number, whence: number): number {
    return this.#io.lseek(handle, offset, whence);
  }
  fallocate(
    _call: Call,
    _node: NodeId,
    handle: Handle,
    mode: number,
    offset: number,
    length: number,
  ): Promise<void> {
    return this.#io.fallocate(handle, mode, offset, length);
  }
  copyFileRange(
    _call: Call,
    from: { node: NodeId; handle: Handle; offset: number },
    to: { node: NodeId; handle: Handle; offset: number },
    length: number,
  ): Promise<number> {
    return this.#io.copyRange(from, to, length);
  }

  opendir(_call: Call, _node: NodeId, reply: OpenReply): void {
    reply.handle = this.#directories.opendir();
  }
  readdir(_call: Call, node: NodeId, handle: Handle, cookie: number, sink: DirectorySink): Answer<void> {
    return this.#directories.readdir(this.#tree.slotOf(node), handle, cookie, sink);
  }
  releasedir(_call: Call, _node: NodeId, handle: Handle): void {
    this.#directories.releasedir(handle);
  }
  /** Names are on the server when the call that made them is answered. */
  fsyncdir(): void {}

  async setattr(
    _call: Call,
    node: NodeId,
    change: AttributeChange,
  ): Promise<{ attributes: Attributes; attributesValid: number }> {
    const slot = this.#tree.slotOf(node);
    const attributes = await this.#metadata.setattr(slot, change);
    return { attributes, attributesValid: this.#tree.attributesValid(slot, this.#tree.fullyValid) };
  }
  getxattr(_call: Call, node: NodeId, name: ByteString, reply: ExtendedAttributeReply): void {
    this.#metadata.getxattr(this.#tree.slotOf(node), name, reply);
  }
  listxattr(_call: Call, node: NodeId): ByteString[] {
    return this.#metadata.listxattr(this.#tree.slotOf(node));
  }
  setxattr(_call: Call, node: NodeId, name: ByteString, value: Uint8Array, flags: number): void {
    this.#metadata.setxattr(this.#tree.slotOf(node), name, value, flags);
  }
  removexattr(_call: Call, node: NodeId, name: ByteString): void {
    this.#metadata.removexattr(this.#tree.slotOf(node), name);
  }

  readlink(_call: Call, node: NodeId): Promise<ByteString> {
    return this.#tree.server.readlink(this.#tree.path(this.#tree.slotOf(node)), UNINTERRUPTED);
  }
  mknod(call: Call, parent: NodeId, name: ByteString, mode: number, rdev: number): Promise<EntryAnswer> {
    return this.#names.mknod(call, this.#tree.slotOf(parent), name, mode, rdev);
  }
  mkdir(call: Call, parent: NodeId, name: ByteString, mode: number): Promise<EntryAnswer> {
    return this.#names.mkdir(call, this.#tree.slotOf(parent), name, mode);
  }
  symlink(call: Call, parent: NodeId, name: ByteString, target: ByteString): Promise<EntryAnswer> {
    return this.#names.symlink(call, this.#tree.slotOf(parent), name, target);
  }
  link(_call: Call, node: NodeId, parent: NodeId, name: ByteString): Promise<EntryAnswer> {
    return this.#names.link(this.#tree.slotOf(node), this.#tree.slotOf(parent), name);
  }
  unlink(_call: Call, parent: NodeId, name: ByteString): Promise<void> {
    return this.#names.unlink(this.#tree.slotOf(parent), name);
  }
  rmdir(_call: Call, parent: NodeId, name: ByteString): Promise<void> {
    return this.#names.rmdir(this.#tree.slotOf(parent), name);
  }
  rename(
    _call: Call,
    parent: NodeId,
    name: ByteString,
    newParent: NodeId,
    newName: ByteString,
    flags: number,
  ): Promise<void> {
    const to = { parent: this.#tree.slotOf(newParent), name: newName };
    return this.#names.rename({ parent: this.#tree.slotOf(parent), name }, to, flags);
  }

  async statfs(_call: Call, node: NodeId): Promise<FileSystemUsage> {
    const { server } = this.#tree;
    if (!server.features.statfs) return { ...BOUNDLESS, ...BOUNDLESS_FILES };
    return server.statfs(this.#tree.pathIfAny(this.#tree.slotOf(node)) ?? '', UNINTERRUPTED);
  }

  async drain(): Promise<void> {
    await this.#storing.drain();
    await this.#tree.metadata.settled();
  }
  pending(): readonly string[] {
    return this.#storing.pending();
  }
  async close(): Promise<void> {
    this.#storing.close();
    this.#directories.close();
    this.#tree.close();
  }
}
