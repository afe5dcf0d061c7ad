import { errno } from '../errors/errno.js';
import { MirageError } from '../errors/mirage-error.js';
import type { Attributes } from './attributes.js';
import {
  type Answer,
  type AttributeChange,
  type AttributesReply,
  type ByteString,
  type Call,
  type CreateAnswer,
  type DirectorySink,
  type EntryAnswer,
  type EntryReply,
  type ExtendedAttributeReply,
  type FileSystem,
  type FileSystemUsage,
  type Handle,
  type NodeId,
  type OpenMode,
  type OpenReply,
  type ReadReply,
  type Reply,
  ROOT,
  type WriteSource,
} from './operations.js';
import { lookupRoot, VirtualVolume } from './virtual-volume.js';
import { type AccessMode, NODE_SPAN, type Volume } from './volume.js';

/** One row of the mount table. `path` is below the mount point: `/`, `/s3`, `/a/b`. */
export interface Mount {
  readonly path: string;
  readonly volume: Volume;
  readonly mode: AccessMode;
  /** The range of node ids; 0 for a mount at `/`, and for nothing else. */
  readonly index: number;
}

const CONTROL_NAME = '.mirage';
const CONTROL_INDEX = 4095;
/** What programs say to the file system itself is no change of the mount. */
const OWN_ATTRIBUTES = 'user.mirage.';

/** O_WRONLY, O_RDWR and O_TRUNC of Linux. */
const CHANGING_FLAGS = 0o1003;

/**
 * All mounts as one file system: a request goes to the volume in whose range its node id lies. Refuses changes of `read` mounts with EROFS, and
 * names that would span two volumes with EXDEV.
 */
export class MountTree implements FileSystem {
  /** By index. */
  private readonly volumes: (Volume | undefined)[] = [];
  private readonly fixed: boolean[] = [];
  private readonly control: { index: number; volume: Volume } | undefined;

  /** `control` is found as `.mirage` at the root, and listed nowhere. EINVAL for mounts that overlap. */
  constructor(mounts: readonly Mount[], control: Volume | undefined) {
    for (const { index, volume, mode } of mounts) {
      if (this.volumes[index] !== undefined) throw overlap(`two mounts have the index ${index}`);
      this.volumes[index] = volume;
      this.fixed[index] = mode === 'read';
    }
    const whole = mounts.find(({ path }) => path === '/');
    if (whole === undefined) {
      if (this.volumes[0] !== undefined) throw overlap('index 0 is for a mount at /');
      const bytes = mounts.map((mount) => ({
        ...mount,
        path: Buffer.from(mount.path, 'utf8').toString('latin1'),
      }));
      this.volumes[0] = new VirtualVolume(bytes);
    } else if (mounts.length > 1 || whole.index !== 0) {
      throw overlap('a mount at / is the only one, and has index 0');
    }
    if (control !== undefined) {
      this.control = { index: CONTROL_INDEX, volume: control };
      this.volumes[CONTROL_INDEX] = control;
    }
  }

  lookup(call: Call, parent: NodeId, name: ByteString, reply: EntryReply): Answer<void> {
    if (parent === ROOT && name === CONTROL_NAME && this.control !== undefined) {
      return lookupRoot(this.control, call, reply);
    }
    return this.at(parent).lookup(call, parent, name, reply);
  }

  getattr(call: Call, node: NodeId, handle: Handle | undefined, reply: AttributesReply): Answer<void> {
    return this.at(node).getattr(call, node, handle, reply);
  }

  open(call: Call, node: NodeId, mode: OpenMode, reply: OpenReply): Answer<void> {
    if ((mode.flags & CHANGING_FLAGS) !== 0 && this.isFixed(node)) {
      reply.fail(errno.EROFS);
      return;
    }
    return this.at(node).open(call, node, mode, reply);
  }

  read(
    call: Call,
    node: NodeId,
    handle: Handle,
    offset: number,
    size: number,
    reply: ReadReply,
  ): Answer<void> {
    return this.at(node).read(call, node, handle, offset, size, reply);
  }

  write(call: Call, node: NodeId, handle: Handle, offset: number, source: WriteSource): Answer<number> {
    return this.at(node).write(call, node, handle, offset, source);
  }

  flush(call: Call, node: NodeId, handle: Handle, reply: Reply): Answer<void> {
    return this.at(node).flush(call, node, handle, reply);
  }

  release(call: Call, node: NodeId, handle: Handle): Answer<void> {
    return this.at(node).release(call, node, handle);
  }

  opendir(call: Call, node: NodeId, reply: OpenReply): Answer<void> {
    return this.at(node).opendir(call, node, reply);
  }

  readdir(call: Call, node: NodeId, handle: Handle, cookie: number, sink: DirectorySink): Answer<void> {
    return this.at(node).readdir(call, node, handle, cookie, sink);
  }

  releasedir(call: Call, node: NodeId, handle: Handle): Answer<void> {
    return this.at(node).releasedir(call, node, handle);
  }

  getxattr(call: Call, node: NodeId, name: ByteString, reply: ExtendedAttributeReply): Answer<void> {
    return this.at(node).getxattr(call, node, name, reply);
  }

  forget(node: NodeId, count: number): void {
    this.volumes[Math.floor(node / NODE_SPAN)]?.forget(node, count);
  }

  setattr(
    call: Call,
    node: NodeId,
    change: AttributeChange,
  ): Answer<{ attributes: Attributes; attributesValid: number }> {
    return this.changing(node).setattr(call, node, change);
  }

  readlink(call: Call, node: NodeId): Answer<ByteString> {
    return this.at(node).readlink(call, node);
  }

  mknod(call: Call, parent: NodeId, name: ByteString, mode: number, rdev: number): Answer<EntryAnswer> {
    return this.naming(parent, name).mknod(call, parent, name, mode, rdev);
  }

  mkdir(call: Call, parent: NodeId, name: ByteString, mode: number): Answer<EntryAnswer> {
    return this.naming(parent, name).mkdir(call, parent, name, mode);
  }

  symlink(call: Call, parent: NodeId, name: ByteString, target: ByteString): Answer<EntryAnswer> {
    return this.naming(parent, name).symlink(call, parent, name, target);
  }

  link(call: Call, node: NodeId, parent: NodeId, name: ByteString): Answer<EntryAnswer> {
    this.together(node, parent);
    return this.naming(parent, name).link(call, node, parent, name);
  }

  create(call: Call, parent: NodeId, name: ByteString, mode: number, open: OpenMode): Answer<CreateAnswer> {
    return this.naming(parent, name).create(call, parent, name, mode, open);
  }

  temporary(call: Call, parent: NodeId, mode: number, open: OpenMode): Answer<CreateAnswer> {
    return this.changing(parent).temporary(call, parent, mode, open);
  }

  unlink(call: Call, parent: NodeId, name: ByteString): Answer<void> {
    return this.naming(parent, name).unlink(call, parent, name);
  }

  rmdir(call: Call, parent: NodeId, name: ByteString): Answer<void> {
    return this.naming(parent, name).rmdir(call, parent, name);
  }

  rename(
    call: Call,
    parent: NodeId,
    name: ByteString,
    newParent: NodeId,
    newName: ByteString,
    flags: number,
  ): Answer<void> {
    this.together(parent, newParent);
    this.naming(newParent, newName);
    return this.naming(parent, name).rename(call, parent, name, newParent, newName, flags);
  }

  fsync(call: Call, node: NodeId, handle: Handle, dataOnly: boolean): Answer<void> {
    return this.at(node).fsync(call, node, handle, dataOnly);
  }

  fsyncdir(call: Call, node: NodeId, handle: Handle, dataOnly: boolean): Answer<void> {
    return this.at(node).fsyncdir(call, node, handle, dataOnly);
  }

  setxattr(call: Call, node: NodeId, name: ByteString, value: Uint8Array, flags: number): Answer<void> {
    const volume = name.startsWith(OWN_ATTRIBUTES) ? this.at(node) : this.changing(node);
    return volume.setxattr(call, node, name, value, flags);
  }

  listxattr(call: Call, node: NodeId): Answer<ByteString[]> {
    return this.at(node).listxattr(call, node);
  }

  removexattr(call: Call, node: NodeId, name: ByteString): Answer<void> {
    return this.changing(node).removexattr(call, node, name);
  }

  statfs(call: Call, node: NodeId): Answer<FileSystemUsage> {
    return this.at(node).statfs(call, node);
  }

  lseek(call: Call, node: NodeId, handle: Handle, offset: number, whence: number): Answer<number> {
    return this.at(node).lseek(call, node, handle, offset, whence);
  }

  fallocate(
    call: Call,
    node: NodeId,
    handle: Handle,
    mode: number,
    offset: number,
    length: number,
  ): Answer<void> {
    return this.changing(node).fallocate(call, node, handle, mode, offset, length);
  }

  copyFileRange(
    call: Call,
    from: { node: NodeId; handle: Handle; offset: number },
    to: { node: NodeId; handle: Handle; offset: number },
    length: number,
  ): Answer<number> {
    this.together(from.node, to.node);
    return this.at(to.node).copyFileRange(call, from, to, length);
  }

  private at(node: NodeId): Volume {
    const volume = this.volumes[Math.floor(node / NODE_SPAN)];
    if (volume === undefined) throw MirageError.system('node', errno.ESTALE);
    return volume;
  }

  private isFixed(node: NodeId): boolean {
    return this.fixed[Math.floor(node / NODE_SPAN)] === true;
  }

  /** The volume of a node that is to change. */
  private changing(node: NodeId): Volume {
    if (this.isFixed(node)) throw MirageError.system('read-only mount', errno.EROFS);
    return this.at(node);
  }

  /** The volume of a directory whose name `name` is to change. */
  private naming(parent: NodeId, name: ByteString): Volume {
    if (parent === ROOT && name === CONTROL_NAME && this.control !== undefined) {
      throw MirageError.system(CONTROL_NAME, errno.EBUSY);
    }
    return this.changing(parent);
  }

  private together(node: NodeId, other: NodeId): void {
    if (Math.floor(node / NODE_SPAN) !== Math.floor(other / NODE_SPAN)) {
      throw MirageError.system('another mount', errno.EXDEV);
    }
  }
}

const overlap = (message: string): MirageError =>
  new MirageError(message, { errno: 'EINVAL', hint: 'give every mount a folder of its own' });
