import { errno } from '../errors/errno.js';
import { MirageError } from '../errors/mirage-error.js';
import { Attributes, S_IFDIR } from './attributes.js';
import {
  type Answer,
  AttributesReply,
  type ByteString,
  type Call,
  type DirectorySink,
  type EntryReply,
  type ExtendedAttributeReply,
  type FileSystemUsage,
  type Handle,
  type NodeId,
  type OpenReply,
  ROOT,
} from './operations.js';
import { rootOf, type Volume } from './volume.js';

/** The mount table does not change while it is mounted, nanoseconds. */
const FOREVER = 3_600_000 * 1e6;

interface MountPoint {
  readonly index: number;
  readonly volume: Volume;
}

class VirtualDirectory {
  readonly attributes = new Attributes();
  readonly children = new Map<ByteString, VirtualDirectory | MountPoint>();

  constructor(
    readonly node: NodeId,
    readonly parent: VirtualDirectory | undefined,
    now: number,
  ) {
    const { attributes } = this;
    attributes.ino = node;
    attributes.mode = S_IFDIR | 0o755;
    attributes.nlink = 2;
    attributes.uid = process.getuid?.() ?? 0;
    attributes.gid = process.getgid?.() ?? 0;
    attributes.accessedSeconds =
      attributes.modifiedSeconds =
      attributes.changedSeconds =
        Math.floor(now / 1000);
  }
}

const refuse = (): never => {
  throw MirageError.system('virtual directory', errno.EROFS);
};
const isNoFile = (): never => {
  throw MirageError.system('virtual directory', errno.EISDIR);
};

/**
 * The directories above the mounts: `/a/b` and `/a/c` make `/` and `/a`. They hold nothing but what leads to a mount, and refuse every
 * change with EROFS. Names are those of the configuration; node ids lie in the range of index 0.
 */
export class VirtualVolume implements Volume {
  /** Node id - 1. */
  private readonly directories: VirtualDirectory[] = [];

  /** `mounts`: path below the mount point (`/a/b`), as bytes. EINVAL for a path that another one already holds. */
  constructor(mounts: readonly (MountPoint & { readonly path: ByteString })[]) {
    this.add(undefined);
    for (const { path, index, volume } of mounts) {
      const names = path.split('/').filter((name) => name !== '');
      const last = names.pop();
      let directory: VirtualDirectory | MountPoint = this.directories[0]!;
      for (const name of names) {
        const parent: VirtualDirectory = directory;
        const child: VirtualDirectory | MountPoint = parent.children.get(name) ?? this.add(parent);
        if (!(child instanceof VirtualDirectory)) throw nested(path);
        this.attach(parent, name, child);
        directory = child;
      }
      if (last === undefined || directory.children.has(last)) throw nested(path);
      this.attach(directory, last, { index, volume });
    }
  }

  lookup(call: Call, parent: NodeId, name: ByteString, reply: EntryReply): Answer<void> {
    const child = this.directories[parent - 1]?.children.get(name);
    if (child === undefined) {
      reply.nodeId = 0;
      reply.entryValid = FOREVER;
      return;
    }
    reply.entryValid = FOREVER;
    if (child instanceof VirtualDirectory) {
      reply.nodeId = child.node;
      reply.attributesValid = FOREVER;
      reply.attributes = child.attributes;
      return;
    }
    return lookupRoot(child, call, reply);
  }

  getattr(_call: Call, node: NodeId, _handle: Handle | undefined, reply: AttributesReply): void {
    const directory = this.directories[node - 1];
    if (directory === undefined) {
      reply.fail(errno.ESTALE);
      return;
    }
    reply.attributesValid = FOREVER;
    reply.attributes = directory.attributes;
  }

  opendir(_call: Call, node: NodeId, reply: OpenReply): void {
    // A listing has no state of its own: the node says all.
    reply.handle = node;
    reply.keepCache = true;
    reply.cacheDirectory = true;
  }

  /** Cookies count the entries: `.`, `..`, then the children in the order of the mounts. */
  readdir(_call: Call, node: NodeId, _handle: Handle, cookie: number, sink: DirectorySink): void {
    const directory = this.directories[node - 1];
    if (directory === undefined) throw MirageError.system('readdir', errno.ESTALE);
    const above = directory.parent ?? directory;
    let position = 0;
    const list = (name: ByteString, ino: number): boolean => {
      if (++position <= cookie) return true;
      if (!sink.fits(name.length)) return false;
      sink.addName(name, position, ino, S_IFDIR);
      return true;
    };
    if (!list('.', directory.node) || !list('..', above.node)) return;
    for (const [name, child] of directory.children) {
      if (!list(name, child instanceof VirtualDirectory ? child.node : rootOf(child.index))) return;
    }
  }

  releasedir(): void {}

  getxattr(_call: Call, _node: NodeId, _name: ByteString, reply: ExtendedAttributeReply): void {
    reply.fail(errno.ENODATA);
  }

  listxattr(): ByteString[] {
    return [];
  }

  statfs(): FileSystemUsage {
    const none = { blocks: 0, blocksFree: 0, blocksAvailable: 0, files: 0, filesFree: 0 };
    return { blockSize: 4096, nameLength: 255, ...none };
  }

  fsyncdir(): void {}
  forget(): void {}
  async drain(): Promise<void> {}
  pending(): readonly string[] {
    return [];
  }
  async close(): Promise<void> {}

  readonly setattr = refuse;
  readonly mknod = refuse;
  readonly mkdir = refuse;
  readonly symlink = refuse;
  readonly link = refuse;
  readonly create = refuse;
  readonly temporary = refuse;
  readonly unlink = refuse;
  readonly rmdir = refuse;
  readonly rename = refuse;
  readonly setxattr = refuse;
  readonly removexattr = refuse;

  readonly open = isNoFile;
  readonly read = isNoFile;
  readonly write = isNoFile;
  readonly flush = isNoFile;
  readonly release = isNoFile;
  readonly readlink = isNoFile;
  readonly fsync = isNoFile;
  readonly lseek = isNoFile;
  readonly fallocate = isNoFile;
  readonly copyFileRange = isNoFile;

  private add(parent: VirtualDirectory | undefined): VirtualDirectory {
    const directory = new VirtualDirectory(ROOT + this.directories.length, parent, Date.now());
    this.directories.push(directory);
    return directory;
  }

  private attach(parent: VirtualDirectory, name: ByteString, child: VirtualDirectory | MountPoint): void {
    if (!parent.children.has(name)) parent.attributes.nlink++;
    parent.children.set(name, child);
  }
}

const nested = (path: ByteString): MirageError =>
  new MirageError(`the mount ${path} lies in, or on, another mount`, {
    errno: 'EINVAL',
    hint: 'give every mount a folder of its own',
  });

/** Answers a lookup with the root of a volume. */
export function lookupRoot(mount: MountPoint, call: Call, reply: EntryReply): Answer<void> {
  const root = rootOf(mount.index);
  // Asked for once in an hour at most: a record of its own costs nothing.
  const attributes = new AttributesReply();
  const answer = mount.volume.getattr(call, root, undefined, attributes);
  if (answer === undefined) return enterRoot(root, attributes, reply);
  return answer.then(() => enterRoot(root, attributes, reply));
}

function enterRoot(root: NodeId, attributes: AttributesReply, reply: EntryReply): void {
  if (attributes.errno !== 0) {
    reply.fail(attributes.errno);
    return;
  }
  reply.nodeId = root;
  reply.entryValid = FOREVER;
  reply.attributesValid = attributes.attributesValid;
  reply.attributes = attributes.attributes;
}
