import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errno } from '../../src/errors/errno.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import {
  Attributes,
  isDirectory,
  isRegular,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../../src/vfs/attributes.js';
import {
  type AttributeChange,
  type AttributesReply,
  type Call,
  type CreateAnswer,
  type DirectorySink,
  type EntryAnswer,
  EntryReply,
  type ExtendedAttributeReply,
  type FileSystem,
  type FileSystemUsage,
  type Handle,
  type NodeId,
  type OpenMode,
  OpenReply,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  type ReadReply,
  type Reply,
  ROOT,
  type WriteSource,
} from '../../src/vfs/operations.js';

interface Node {
  readonly id: NodeId;
  readonly attributes: Attributes;
  /** Directories: in the order of creation; a cookie is the number of an entry, never used again. */
  readonly children: Map<string, { id: NodeId; cookie: number }>;
  readonly extended: Map<string, Uint8Array>;
  /** Regular files: where the content is. */
  fd: number;
  target: string;
  lookups: number;
  handles: number;
}

export interface MemoryOptions {
  /** How long the kernel may keep what it learns, nanoseconds. */
  readonly ttl?: number;
  /** Lend the content's descriptor for passthrough. */
  readonly passthrough?: boolean;
  /** Attributes are settled while a file is not open. */
  readonly settled?: boolean;
  /** Nothing can be written: the contents are on a full device. */
  readonly full?: boolean;
  /** Files are answered from memory rather than by descriptor. */
  readonly bytes?: boolean;
}

/** Its clock stands still, so that replies can be compared byte by byte. */
const NOW = 1_700_000_000;

/** A small tree in memory whose operations are all answered at once; contents are unlinked files. */
export class MemoryFileSystem implements FileSystem {
  readonly #nodes = new Map<NodeId, Node>();
  readonly #ttl: number;
  readonly #options: MemoryOptions;
  readonly #folder = mkdtempSync(join(tmpdir(), 'mirage-fuse-memory-'));
  #lastNode = ROOT;
  #lastCookie = 0;
  #lastHandle = 0;
  #files = 0;

  constructor(options: MemoryOptions = {}) {
    this.#options = options;
    this.#ttl = options.ttl ?? 1e9;
    const root = this.#create(S_IFDIR | 0o755, process.getuid?.() ?? 0, process.getgid?.() ?? 0, ROOT);
    root.lookups = 1;
    root.attributes.nlink = 2;
  }

  close(): void {
    for (const node of this.#nodes.values()) if (node.fd >= 0) closeSync(node.fd);
    rmSync(this.#folder, { recursive: true });
  }

  /** The node of a path like `a/b`, for the outside of the mount. */
  find(path: string): Node {
    let node = this.#node(ROOT);
    for (const name of path.split('/').filter(Boolean)) node = this.#child(node.id, name);
    return node;
  }

  /** Exchanges what two names of the root mean. */
  swap(one: string, other: string): void {
    const { children } = this.#node(ROOT);
    const first = children.get(one);
    const second = children.get(other);
    if (first && second) children.set(one, second).set(other, first);
  }

  /** Nodes that are alive. */
  get nodes(): number {
    return this.#nodes.size;
  }

  lookup(_call: Call, parent: NodeId, name: string, reply: EntryReply): void {
    const child = this.#nodes.get(parent)?.children.get(name);
    if (child === undefined) {
      reply.fail(errno.ENOENT);
      return;
    }
    this.#fill(reply, this.#node(child.id));
  }

  getattr(_call: Call, id: NodeId, _handle: Handle | undefined, reply: AttributesReply): void {
    const node = this.#nodes.get(id);
    if (node === undefined) {
      reply.fail(errno.ESTALE);
      return;
    }
    this.#refresh(node);
    reply.attributes = node.attributes;
    reply.attributesValid = this.#ttl;
    reply.settled = this.#options.settled === true && node.handles === 0;
  }

  open(_call: Call, id: NodeId, mode: OpenMode, reply: OpenReply): void {
    const node = this.#node(id);
    if (mode.flags & constants.O_TRUNC) ftruncateSync(node.fd, 0);
    node.handles++;
    reply.handle = ++this.#lastHandle;
    reply.keepCache = true;
    reply.directIo = (mode.flags & constants.O_DIRECT) !== 0;
    if (this.#options.passthrough) reply.passthroughFd = node.fd;
  }

  read(_call: Call, id: NodeId, _handle: Handle, offset: number, size: number, reply: ReadReply): void {
    const { fd } = this.#node(id);
    reply.length = Math.max(0, Math.min(size, fstatSync(fd).size - offset));
    if (this.#options.bytes) {
      reply.bytes = new Uint8Array(reply.length);
      readSync(fd, reply.bytes, 0, reply.length, offset);
    } else {
      reply.fd = fd;
      reply.position = offset;
    }
  }

  write(_call: Call, id: NodeId, _handle: Handle, offset: number, source: WriteSource): number {
    const node = this.#node(id);
    if (source.killPrivileges) node.attributes.mode &= ~0o6000;
    if (source.handOver?.(node.fd, offset) === true) return source.length;
    const written = source.writeTo(node.fd, offset);
    if (written < 0) throw MirageError.system('write', -written);
    return written;
  }

  flush(_call: Call, _node: NodeId, _handle: Handle, _reply: Reply): void {}

  release(_call: Call, id: NodeId, _handle: Handle): void {
    const node = this.#node(id);
    node.handles--;
    this.#drop(node);
  }

  opendir(_call: Call, _node: NodeId, reply: OpenReply): void {
    reply.handle = ++this.#lastHandle;
  }

  readdir(_call: Call, id: NodeId, _handle: Handle, cookie: number, sink: DirectorySink): void {
    const entry = new EntryReply();
    for (const [name, child] of this.#node(id).children) {
      if (child.cookie <= cookie) continue;
      if (!sink.fits(name.length)) return;
      const node = this.#node(child.id);
      if (sink.wantsAttributes) {
        this.#fill(entry, node);
        sink.add(name, child.cookie, entry);
      } else sink.addName(name, child.cookie, node.attributes.ino, node.attributes.mode);
    }
  }

  releasedir(): void {}

  getxattr(_call: Call, id: NodeId, name: string, reply: ExtendedAttributeReply): void {
    if (name.startsWith('system.')) {
      reply.fail(errno.EOPNOTSUPP);
      return;
    }
    const value = this.#node(id).extended.get(name);
    if (value === undefined) reply.fail(errno.ENODATA);
    else reply.value = value;
  }

  forget(id: NodeId, count: number): void {
    const node = this.#nodes.get(id);
    if (node === undefined) return;
    node.lookups = Math.max(0, node.lookups - count);
    this.#drop(node);
  }

  setattr(
    _call: Call,
    id: NodeId,
    change: AttributeChange,
  ): { attributes: Attributes; attributesValid: number } {
    const { attributes, fd } = this.#node(id);
    if (change.mode !== undefined) attributes.mode = (attributes.mode & S_IFMT) | (change.mode & 0o7777);
    if (change.uid !== undefined) attributes.uid = change.uid;
    if (change.gid !== undefined) attributes.gid = change.gid;
    if (change.size !== undefined) ftruncateSync(fd, change.size);
    const now = { seconds: NOW, nanoseconds: 0 };
    const accessed = change.accessed === 'now' ? now : change.accessed;
    const modified = change.modified === 'now' ? now : change.modified;
    if (accessed) {
      attributes.accessedSeconds = accessed.seconds;
      attributes.accessedNanoseconds = accessed.nanoseconds;
    }
    if (modified) {
      attributes.modifiedSeconds = modified.seconds;
      attributes.modifiedNanoseconds = modified.nanoseconds;
    }
    this.#refresh(this.#node(id));
    return { attributes, attributesValid: this.#ttl };
  }

  readlink(_call: Call, id: NodeId): string {
    return this.#node(id).target;
  }

  mknod(call: Call, parent: NodeId, name: string, mode: number, rdev: number): EntryAnswer {
    const node = this.#insert(call, parent, name, mode);
    node.attributes.rdev = rdev;
    return this.#answer(node);
  }

  mkdir(call: Call, parent: NodeId, name: string, mode: number): EntryAnswer {
    const node = this.#insert(call, parent, name, S_IFDIR | mode);
    node.attributes.nlink = 2;
    return this.#answer(node);
  }

  symlink(call: Call, parent: NodeId, name: string, target: string): EntryAnswer {
    const node = this.#insert(call, parent, name, S_IFLNK | 0o777);
    node.target = target;
    node.attributes.size = target.length;
    return this.#answer(node);
  }

  link(_call: Call, id: NodeId, parent: NodeId, name: string): EntryAnswer {
    const node = this.#node(id);
    this.#attach(parent, name, id);
    node.attributes.nlink++;
    return this.#answer(node);
  }

  create(call: Call, parent: NodeId, name: string, mode: number, open: OpenMode): CreateAnswer {
    return this.#open(call, this.#insert(call, parent, name, S_IFREG | (mode & 0o7777)), open);
  }

  temporary(call: Call, _parent: NodeId, mode: number, open: OpenMode): CreateAnswer {
    const node = this.#create(S_IFREG | (mode & 0o7777), call.uid, call.gid);
    node.attributes.nlink = 0;
    return this.#open(call, node, open);
  }

  unlink(_call: Call, parent: NodeId, name: string): void {
    const node = this.#child(parent, name);
    this.#node(parent).children.delete(name);
    node.attributes.nlink--;
    this.#drop(node);
  }

  rmdir(_call: Call, parent: NodeId, name: string): void {
    const node = this.#child(parent, name);
    if (node.children.size > 0) throw new MirageError('not empty', { errno: 'ENOTEMPTY' });
    this.#node(parent).children.delete(name);
    node.attributes.nlink = 0;
    this.#drop(node);
  }

  rename(_call: Call, parent: NodeId, name: string, newParent: NodeId, newName: string, flags: number): void {
    const node = this.#child(parent, name);
    const target = this.#node(newParent).children.get(newName);
    if (flags & RENAME_NOREPLACE && target) throw new MirageError('exists', { errno: 'EEXIST' });
    this.#node(parent).children.delete(name);
    if (target) this.#node(newParent).children.delete(newName);
    this.#attach(newParent, newName, node.id);
    if (!target) return;
    if (flags & RENAME_EXCHANGE) this.#attach(parent, name, target.id);
    else {
      const replaced = this.#node(target.id);
      replaced.attributes.nlink -= isDirectory(replaced.attributes.mode) ? 2 : 1;
      this.#drop(replaced);
    }
  }

  fsync(): void {}
  fsyncdir(): void {}

  setxattr(_call: Call, id: NodeId, name: string, value: Uint8Array, flags: number): void {
    const { extended } = this.#node(id);
    if (flags === 1 && extended.has(name)) throw new MirageError('exists', { errno: 'EEXIST' });
    if (flags === 2 && !extended.has(name)) throw new MirageError('no such attribute', { errno: 'ENODATA' });
    extended.set(name, value);
  }

  listxattr(_call: Call, id: NodeId): string[] {
    return [...this.#node(id).extended.keys()];
  }

  removexattr(_call: Call, id: NodeId, name: string): void {
    if (!this.#node(id).extended.delete(name))
      throw new MirageError('no such attribute', { errno: 'ENODATA' });
  }

  statfs(): FileSystemUsage {
    return {
      blockSize: 4096,
      blocks: 1000,
      blocksFree: 600,
      blocksAvailable: 500,
      files: 100,
      filesFree: 50,
      nameLength: 255,
    };
  }

  /** Nothing is sparse here. */
  lseek(_call: Call, id: NodeId, _handle: Handle, offset: number, whence: number): number {
    const { size } = fstatSync(this.#node(id).fd);
    if (offset >= size) throw new MirageError('beyond the end', { errno: 'ENXIO' });
    return whence === 4 ? size : offset;
  }

  fallocate(_call: Call, id: NodeId, _handle: Handle, mode: number, offset: number, length: number): void {
    if (mode !== 0) throw new MirageError('mode', { errno: 'EOPNOTSUPP' });
    const { fd } = this.#node(id);
    ftruncateSync(fd, Math.max(fstatSync(fd).size, offset + length));
  }

  copyFileRange(
    _call: Call,
    from: { node: NodeId; offset: number },
    to: { node: NodeId; offset: number },
    length: number,
  ): number {
    const bytes = Buffer.alloc(Math.min(length, 1 << 20));
    const count = readSync(this.#node(from.node).fd, bytes, 0, bytes.length, from.offset);
    return writeSync(this.#node(to.node).fd, bytes, 0, count, to.offset);
  }

  #node(id: NodeId): Node {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new MirageError(`no node ${id}`, { errno: 'ESTALE' });
    return node;
  }

  #child(parent: NodeId, name: string): Node {
    const child = this.#node(parent).children.get(name);
    if (child === undefined) throw new MirageError('no such name', { errno: 'ENOENT' });
    return this.#node(child.id);
  }

  #temporary(): number {
    const path = join(this.#folder, String(this.#files++));
    const fd = openSync(path, 'w+');
    rmSync(path);
    return fd;
  }

  #create(mode: number, uid: number, gid: number, id: NodeId = ++this.#lastNode): Node {
    const attributes = new Attributes();
    Object.assign(attributes, { ino: id, mode, uid, gid });
    let fd = -1;
    if (isRegular(mode)) {
      fd = this.#options.full === true ? openSync('/dev/full', 'r+') : this.#temporary();
    }
    const node = {
      id,
      attributes,
      children: new Map(),
      extended: new Map(),
      fd,
      target: '',
      lookups: 0,
      handles: 0,
    };
    this.#nodes.set(id, node);
    return node;
  }

  #insert(call: Call, parent: NodeId, name: string, mode: number): Node {
    if (this.#node(parent).children.has(name)) throw new MirageError('exists', { errno: 'EEXIST' });
    const node = this.#create(mode, call.uid, call.gid);
    this.#attach(parent, name, node.id);
    return node;
  }

  #attach(parent: NodeId, name: string, id: NodeId): void {
    this.#node(parent).children.set(name, { id, cookie: ++this.#lastCookie });
  }

  #open(call: Call, node: Node, mode: OpenMode): CreateAnswer {
    const open = new OpenReply();
    this.open(call, node.id, mode, open);
    return { entry: this.#answer(node), open };
  }

  #answer(node: Node): EntryAnswer {
    const entry = new EntryReply();
    this.#fill(entry, node);
    return { ...entry, attributes: node.attributes };
  }

  #fill(reply: EntryReply, node: Node): void {
    this.#refresh(node);
    node.lookups++;
    reply.nodeId = node.id;
    reply.attributes = node.attributes;
    reply.entryValid = this.#ttl;
    reply.attributesValid = this.#ttl;
  }

  #refresh(node: Node): void {
    if (node.fd < 0) return;
    const { size } = fstatSync(node.fd);
    node.attributes.size = size;
    node.attributes.blocks = Math.ceil(size / 512);
  }

  #drop(node: Node): void {
    if (node.lookups > 0 || node.handles > 0 || node.attributes.nlink > 0) return;
    if (node.fd >= 0) closeSync(node.fd);
    this.#nodes.delete(node.id);
  }
}
