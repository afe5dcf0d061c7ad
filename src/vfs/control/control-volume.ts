import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  rmdirSync,
  type Stats,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { errno } from '../../errors/errno.js';
import { errnoOf, MirageError } from '../../errors/mirage-error.js';
import { Attributes, isDirectory, S_IFDIR, S_IFREG } from '../attributes.js';
import type {
  AttributesReply,
  ByteString,
  Call,
  DirectorySink,
  EntryReply,
  ExtendedAttributeReply,
  FileSystemUsage,
  Handle,
  NodeId,
  OpenMode,
  OpenReply,
  ReadReply,
  Reply,
} from '../operations.js';
import { EntryReply as Entry } from '../operations.js';
import { rootOf, type Volume, type VolumeContext } from '../volume.js';

export interface ControlSources {
  /** What `.mirage/status` says: the same as `mirage status --json`. */
  status(): Promise<string>;
  /** What `.mirage/last-error` says. */
  lastError(): Promise<string>;
  /** Host directory behind `.mirage/conflicts`: the bytes of writers that lost, with a record each. */
  readonly conflicts: string;
}

/** Numbers of the fixed nodes within the volume; those of the records follow. */
enum Fixed {
  root = 0,
  status = 1,
  lastError = 2,
  conflicts = 3,
  firstRecord = 4,
}

const fixedNames: readonly ByteString[] = ['', 'status', 'last-error', 'conflicts'];

interface OpenControlFile {
  readonly fd: number;
  readonly text: Uint8Array | undefined;
}

/** What stat shows as the size of a generated file: like in sysfs a bound, reading it says how long it is. */
const GENERATED_SIZE = 65_536;

/**
 * `.mirage/` at the root of the mount: what the daemon has to say, as files, generated when they are opened. Nothing changes here but that records of conflicts, once dealt with, may be removed.
 */
export class ControlVolume implements Volume {
  readonly #context: VolumeContext;
  readonly #sources: ControlSources;
  readonly #base: NodeId;
  /** Below `conflicts`: node number - firstRecord → path, and back. */
  readonly #records: string[] = [];
  readonly #recordNumbers = new Map<string, number>();
  readonly #files = new Map<Handle, OpenControlFile>();
  readonly #listings = new Map<Handle, readonly { name: ByteString; node: NodeId }[]>();
  #lastHandle = 0;

  constructor(context: VolumeContext, sources: ControlSources) {
    this.#context = context;
    this.#sources = sources;
    this.#base = rootOf(context.index);
  }

  lookup(_call: Call, parent: NodeId, name: ByteString, reply: EntryReply): void {
    const node = this.#child(parent, name);
    const attributes = node === undefined ? undefined : this.#attributes(node);
    if (node === undefined || attributes === undefined) {
      reply.fail(errno.ENOENT);
      return;
    }
    reply.nodeId = node;
    reply.attributes = attributes;
    reply.entryValid = 0;
    reply.attributesValid = 0;
  }

  getattr(_call: Call, node: NodeId, _handle: Handle | undefined, reply: AttributesReply): void {
    const attributes = this.#attributes(node);
    if (attributes === undefined) {
      reply.fail(errno.ENOENT);
      return;
    }
    reply.attributes = attributes;
    reply.attributesValid = 0;
  }

  async open(_call: Call, node: NodeId, mode: OpenMode, reply: OpenReply): Promise<void> {
    if ((mode.flags & (constants.O_WRONLY | constants.O_RDWR)) !== 0) return reply.fail(errno.EROFS);
    const number = node - this.#base;
    if (number === Fixed.status || number === Fixed.lastError) {
      const text = await (number === Fixed.status ? this.#sources.status() : this.#sources.lastError());
      this.#give(reply, { fd: -1, text: Buffer.from(text) });
      // Its size is not known to the kernel.
      reply.directIo = true;
      return;
    }
    try {
      const fd = openSync(this.#hostPath(node), constants.O_RDONLY | constants.O_NOFOLLOW);
      this.#give(reply, { fd, text: undefined });
    } catch (error) {
      reply.fail(errnoOf(error));
    }
  }

  #give(reply: OpenReply, file: OpenControlFile): void {
    reply.handle = ++this.#lastHandle;
    reply.noFlush = true;
    this.#files.set(reply.handle, file);
  }

  read(_call: Call, _node: NodeId, handle: Handle, offset: number, size: number, reply: ReadReply): void {
    const file = this.#files.get(handle);
    if (file === undefined) {
      reply.fail(errno.EBADF);
      return;
    }
    if (file.text !== undefined) {
      reply.bytes = file.text.subarray(offset, offset + size);
      reply.length = reply.bytes.length;
      return;
    }
    reply.fd = file.fd;
    reply.position = offset;
    reply.length = Math.max(0, Math.min(size, fstatSync(file.fd).size - offset));
  }

  release(_call: Call, _node: NodeId, handle: Handle): void {
    const file = this.#files.get(handle);
    this.#files.delete(handle);
    if (file !== undefined && file.fd >= 0) closeSync(file.fd);
  }

  flush(_call: Call, _node: NodeId, _handle: Handle, _reply: Reply): void {}

  opendir(_call: Call, node: NodeId, reply: OpenReply): void {
    reply.handle = ++this.#lastHandle;
    const number = node - this.#base;
    const names =
      number === Fixed.root
        ? fixedNames.slice(1)
        : readdirSync(this.#hostPath(node), { encoding: 'latin1' as BufferEncoding });
    this.#listings.set(
      reply.handle,
      names.flatMap((name) => {
        const child = this.#child(node, name);
        return child === undefined ? [] : [{ name, node: child }];
      }),
    );
  }

  readdir(_call: Call, node: NodeId, handle: Handle, cookie: number, sink: DirectorySink): void {
    const entries = [
      { name: '.', node },
      { name: '..', node: this.#base },
      ...(this.#listings.get(handle) ?? []),
    ];
    for (let position = cookie; position < entries.length; position++) {
      const { name, node: child } = entries[position]!;
      const attributes = this.#attributes(child);
      if (attributes === undefined) continue; // removed since
      if (!sink.fits(name.length)) return;
      if (!sink.wantsAttributes) {
        sink.addName(name, position + 1, attributes.ino, attributes.mode);
        continue;
      }
      const entry = new Entry();
      // The kernel counts no lookup of the dots.
      entry.nodeId = name === '.' || name === '..' ? 0 : child;
      entry.attributes = attributes;
      sink.add(name, position + 1, entry);
    }
  }

  releasedir(_call: Call, _node: NodeId, handle: Handle): void {
    this.#listings.delete(handle);
  }

  unlink(_call: Call, parent: NodeId, name: ByteString): void {
    this.#removeRecord(parent, name, unlinkSync);
  }

  rmdir(_call: Call, parent: NodeId, name: ByteString): void {
    this.#removeRecord(parent, name, rmdirSync);
  }

  #removeRecord(parent: NodeId, name: ByteString, remove: (path: string) => void): void {
    if (parent === this.#base) refuse();
    try {
      remove(join(this.#hostPath(parent), fromByteString(name)));
    } catch (error) {
      throw MirageError.system('remove a record', errnoOf(error), error);
    }
  }

  statfs(): FileSystemUsage {
    return {
      blockSize: 4096,
      blocks: 0,
      blocksFree: 0,
      blocksAvailable: 0,
      files: 0,
      filesFree: 0,
      nameLength: 255,
    };
  }

  getxattr(_call: Call, _node: NodeId, _name: ByteString, reply: ExtendedAttributeReply): void {
    reply.fail(errno.ENODATA);
  }
  listxattr(): ByteString[] {
    return [];
  }
  lseek(): number {
    throw new MirageError('lseek: no holes here', { errno: 'EINVAL' });
  }
  readlink(): ByteString {
    throw new MirageError('readlink: no symlinks here', { errno: 'EINVAL' });
  }
  /** Numbers are few and stay for the life of the mount. */
  forget(): void {}
  fsync(): void {}
  fsyncdir(): void {}

  write = refuse;
  setattr = refuse;
  mknod = refuse;
  mkdir = refuse;
  symlink = refuse;
  link = refuse;
  create = refuse;
  temporary = refuse;
  rename = refuse;
  setxattr = refuse;
  removexattr = refuse;
  fallocate = refuse;
  copyFileRange = refuse;

  async drain(): Promise<void> {}
  pending(): readonly string[] {
    return [];
  }
  async close(): Promise<void> {
    for (const { fd } of this.#files.values()) if (fd >= 0) closeSync(fd);
    this.#files.clear();
  }

  #child(parent: NodeId, name: ByteString): NodeId | undefined {
    if (parent === this.#base) {
      const number = fixedNames.indexOf(name, 1);
      return number < 0 ? undefined : this.#base + number;
    }
    const number = parent - this.#base;
    if (number === Fixed.status || number === Fixed.lastError) return undefined;
    const path = join(this.#recordPath(number), fromByteString(name));
    let record = this.#recordNumbers.get(path);
    if (record === undefined) {
      if (lstatOf(join(this.#sources.conflicts, path)) === undefined) return undefined;
      record = this.#records.push(path) - 1;
      this.#recordNumbers.set(path, record);
    }
    return this.#base + Fixed.firstRecord + record;
  }

  /** Below `conflicts`. */
  #recordPath(number: number): string {
    return number === Fixed.conflicts ? '' : (this.#records[number - Fixed.firstRecord] ?? '');
  }

  #hostPath(node: NodeId): string {
    return join(this.#sources.conflicts, this.#recordPath(node - this.#base));
  }

  #attributes(node: NodeId): Attributes | undefined {
    const number = node - this.#base;
    const attributes = new Attributes();
    attributes.ino = node;
    attributes.uid = this.#context.uid;
    attributes.gid = this.#context.gid;
    if (number < Fixed.conflicts) {
      attributes.mode = number === Fixed.root ? S_IFDIR | 0o555 : S_IFREG | 0o444;
      attributes.nlink = number === Fixed.root ? 3 : 1;
      attributes.size = number === Fixed.root ? 0 : GENERATED_SIZE;
      const now = this.#context.clock.wall();
      setTimes(attributes, now, now, now);
      return attributes;
    }
    const stats = lstatOf(this.#hostPath(node));
    if (stats === undefined || !(stats.isFile() || stats.isDirectory())) return undefined;
    // They are the bytes of somebody's files: for the owner of the daemon only.
    attributes.mode = (stats.mode & S_IFDIR) === S_IFDIR ? S_IFDIR | 0o700 : S_IFREG | 0o400;
    attributes.nlink = isDirectory(attributes.mode) ? 2 : 1;
    attributes.size = stats.size;
    attributes.blocks = stats.blocks;
    setTimes(attributes, stats.atimeMs, stats.mtimeMs, stats.ctimeMs);
    return attributes;
  }
}

function refuse(): never {
  throw new MirageError('.mirage is kept by the daemon', { errno: 'EROFS' });
}

const fromByteString = (name: ByteString): string => Buffer.from(name, 'latin1').toString();

function lstatOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** Milliseconds since 1970. */
function setTimes(attributes: Attributes, accessed: number, modified: number, changed: number): void {
  attributes.accessedSeconds = Math.floor(accessed / 1000);
  attributes.modifiedSeconds = Math.floor(modified / 1000);
  attributes.changedSeconds = Math.floor(changed / 1000);
}
