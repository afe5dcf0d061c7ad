import { fdatasync, fsync } from 'node:fs';
import { promisify } from 'node:util';
import type { HostTree } from '../../backends/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import { localFiles } from '../../native/local-files.js';
import type { Attributes } from '../attributes.js';
import type {
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
import type { Volume, VolumeContext } from '../volume.js';
import { DirectoryWatch } from './directory-watch.js';
import { HostDirectories } from './host-directories.js';
import { HostFiles } from './host-files.js';
import { exclusiveFreshness, timedFreshness, watchedFreshness } from './host-freshness.js';
import { HostMetadata } from './host-metadata.js';
import { HostNames } from './host-names.js';
import { check, HostNodes } from './host-nodes.js';
import { isNetworked } from './network-file-systems.js';

export interface HostVolumeOptions {
  /**
   * How changes made outside of the mount show: `inotify` (the kernel remembers, and is told; where that cannot be, as `now`), `now` (it remembers
   * nothing), `ttl` (it remembers for so long). An exclusive tree has none, and is remembered for long whatever is said here.
   */
  readonly freshness: 'now' | 'inotify' | 'ttl';
  /** POSIX ACLs of the files are shown and can be set; else there are none. */
  readonly acl: boolean;
  /** Milliseconds, for `ttl`. */
  readonly ttl: number;
  /** O_PATH descriptors to keep; by default a share of what the process may open. */
  readonly descriptors?: number;
}

const NANOSECONDS = 1e6;
const WANTED_DESCRIPTORS = 1_048_576;
const MOST_DESCRIPTORS = 32_768;
/** One request copies so much at most: the thread serves others too. */
const COPY_BYTES = 16 * 1024 * 1024;

const fsyncLater = promisify(fsync);
const fdatasyncLater = promisify(fdatasync);

/**
 * A tree of the host kernel, served node by node below its root descriptor. No path is ever walked: each step is one component, opened without
 * following symlinks, so nothing that happens to the tree leads out of it. File systems mounted below the root belong to the tree.
 */
export class HostVolume implements Volume {
  private readonly nodes: HostNodes;
  private readonly files: HostFiles;
  private readonly names: HostNames;
  private readonly metadata: HostMetadata;
  private readonly directories: HostDirectories;
  private readonly watch: DirectoryWatch | undefined;

  constructor(
    private readonly tree: HostTree,
    context: VolumeContext,
    options: HostVolumeOptions,
  ) {
    const native = localFiles();
    // The kernel has applied the caller's umask to the modes that arrive here.
    native.threadUmask(0);
    const descriptors =
      options.descriptors ?? Math.min(MOST_DESCRIPTORS, native.raiseDescriptorLimit(WANTED_DESCRIPTORS) >> 2);
    const nodes = new HostNodes(tree.root, context, descriptors);
    const figures = new Float64Array(8);
    check('statfs', native.statfs(tree.root, figures));
    const wallClock = () => context.clock.wall();
    const files = new HostFiles(nodes, wallClock, isNetworked(figures[7]!));
    const exclusive = tree.exclusive === true;
    if (exclusive) {
      nodes.freshness = exclusiveFreshness(files);
    } else if (options.freshness === 'inotify') {
      this.watch = new DirectoryWatch(nodes, files, context.notifier, context.log);
      nodes.freshness = watchedFreshness(this.watch, nodes, files);
    } else {
      nodes.freshness = timedFreshness(options.freshness === 'ttl' ? options.ttl * NANOSECONDS : 0, files);
    }
    this.nodes = nodes;
    this.files = files;
    this.names = new HostNames(nodes, files);
    this.metadata = new HostMetadata(nodes, files, options.acl);
    this.directories = new HostDirectories(nodes, exclusive, wallClock);
  }

  lookup(_call: Call, parent: NodeId, name: ByteString, reply: EntryReply): void {
    this.names.lookup(parent, name, reply);
  }

  getattr(_call: Call, node: NodeId, _handle: Handle | undefined, reply: AttributesReply): void {
    this.metadata.getattr(node, reply);
  }

  open(call: Call, node: NodeId, mode: OpenMode, reply: OpenReply): void {
    this.files.open(call, node, mode, reply);
  }

  read(_call: Call, _node: NodeId, handle: Handle, offset: number, size: number, reply: ReadReply): void {
    this.files.read(handle, offset, size, reply);
  }

  write(_call: Call, _node: NodeId, handle: Handle, offset: number, source: WriteSource): number {
    return this.files.write(handle, offset, source);
  }

  flush(_call: Call, _node: NodeId, handle: Handle, reply: Reply): void {
    this.files.flush(handle, reply);
  }

  release(_call: Call, _node: NodeId, handle: Handle): void {
    this.files.release(handle);
  }

  opendir(_call: Call, node: NodeId, reply: OpenReply): void {
    this.directories.open(node, reply);
  }

  readdir(_call: Call, _node: NodeId, handle: Handle, cookie: number, sink: DirectorySink): void {
    this.directories.read(handle, cookie, sink);
  }

  releasedir(_call: Call, _node: NodeId, handle: Handle): void {
    this.directories.release(handle);
  }

  getxattr(_call: Call, node: NodeId, name: ByteString, reply: ExtendedAttributeReply): void {
    this.metadata.getxattr(node, name, reply);
  }

  forget(node: NodeId, count: number): void {
    const slot = this.nodes.slotOf(node);
    if (slot > 0) this.nodes.table.forget(slot, count);
  }

  setattr(
    _call: Call,
    node: NodeId,
    change: AttributeChange,
  ): { attributes: Attributes; attributesValid: number } {
    return this.metadata.setattr(node, change);
  }

  readlink(_call: Call, node: NodeId): ByteString {
    return this.metadata.readlink(node);
  }

  mknod(call: Call, parent: NodeId, name: ByteString, mode: number, rdev: number): EntryAnswer {
    return this.names.mknod(call, parent, name, mode, rdev);
  }

  mkdir(call: Call, parent: NodeId, name: ByteString, mode: number): EntryAnswer {
    return this.names.mkdir(call, parent, name, mode);
  }

  symlink(call: Call, parent: NodeId, name: ByteString, target: ByteString): EntryAnswer {
    return this.names.symlink(call, parent, name, target);
  }

  link(_call: Call, node: NodeId, parent: NodeId, name: ByteString): EntryAnswer {
    return this.names.link(node, parent, name);
  }

  create(call: Call, parent: NodeId, name: ByteString, mode: number, open: OpenMode): CreateAnswer {
    return this.names.create(call, parent, name, mode, open);
  }

  temporary(call: Call, parent: NodeId, mode: number, open: OpenMode): CreateAnswer {
    return this.names.temporary(call, parent, mode, open);
  }

  unlink(_call: Call, parent: NodeId, name: ByteString): void {
    this.names.unlink(parent, name);
  }

  rmdir(_call: Call, parent: NodeId, name: ByteString): void {
    this.names.rmdir(parent, name);
  }

  rename(
    _call: Call,
    parent: NodeId,
    name: ByteString,
    newParent: NodeId,
    newName: ByteString,
    flags: number,
  ): void {
    this.names.rename(parent, name, newParent, newName, flags);
  }

  /** On a thread of the pool: a disk may take its time, and others are served meanwhile. */
  fsync(_call: Call, _node: NodeId, handle: Handle, dataOnly: boolean): Promise<void> {
    return synchronize(this.files.anyDescriptor(handle), dataOnly);
  }

  fsyncdir(_call: Call, _node: NodeId, handle: Handle, dataOnly: boolean): Promise<void> {
    return synchronize(this.directories.descriptor(handle), dataOnly);
  }

  setxattr(_call: Call, node: NodeId, name: ByteString, value: Uint8Array, flags: number): void {
    this.metadata.setxattr(node, name, value, flags);
  }

  listxattr(_call: Call, node: NodeId): ByteString[] {
    return this.metadata.listxattr(node);
  }

  removexattr(_call: Call, node: NodeId, name: ByteString): void {
    this.metadata.removexattr(node, name);
  }

  statfs(_call: Call, node: NodeId): FileSystemUsage {
    return this.metadata.statfs(node);
  }

  lseek(_call: Call, _node: NodeId, handle: Handle, offset: number, whence: number): number {
    return check('lseek', this.nodes.native.lseek(this.files.anyDescriptor(handle), offset, whence));
  }

  fallocate(_call: Call, _node: NodeId, handle: Handle, mode: number, offset: number, length: number): void {
    check(
      'fallocate',
      this.nodes.native.fallocate(this.files.descriptor(handle, true), mode, offset, length),
    );
  }

  copyFileRange(
    _call: Call,
    from: { node: NodeId; handle: Handle; offset: number },
    to: { node: NodeId; handle: Handle; offset: number },
    length: number,
  ): number {
    const source = this.files.descriptor(from.handle, false);
    const target = this.files.descriptor(to.handle, true);
    return check(
      'copy_file_range',
      this.nodes.native.copyFileRange(source, from.offset, target, to.offset, Math.min(length, COPY_BYTES)),
    );
  }

  /** Every change is the host's as soon as it is answered: nothing is ever pending. */
  async drain(): Promise<void> {}

  pending(): readonly string[] {
    return [];
  }

  async close(): Promise<void> {
    this.files.closeAll();
    this.directories.closeAll();
    this.watch?.close();
    this.nodes.close();
    this.tree.close();
  }
}

async function synchronize(fd: number, dataOnly: boolean): Promise<void> {
  try {
    await (dataOnly ? fdatasyncLater(fd) : fsyncLater(fd));
  } catch (cause) {
    const code = cause instanceof Error && 'errno' in cause ? Math.abs(Number(cause.errno)) : 5;
    throw MirageError.system('fsync', code, cause);
  }
}
