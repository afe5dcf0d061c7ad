/** Reading, writing and copying through open handles. */

import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { localFiles } from '../../native/local-files.js';
import { setSize, timestamp, touchModified } from '../inodes/attributes-of.js';
import { NONE } from '../inodes/inode-table.js';
import type { Answer, Call, Handle, ReadReply, WriteSource } from '../operations.js';
import type { OpenFile, RemoteFiles } from './remote-files.js';
import type { RemoteNode } from './remote-node.js';
import type { RemoteTree } from './remote-tree.js';
import { clearPrivileges, type Storing } from './storing.js';

const NO_BYTES = new Uint8Array(0);
const SEEK_DATA = 3;
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const FALLOC_FL_ZERO_RANGE = 16;
/** Bytes that one copy_file_range can say it copied at most. */
const COUNTABLE = 2 ** 30;
/** Bytes that are made zero in one go. */
const ZEROS = 8 * 1024 * 1024;

export class RemoteIo {
  readonly #tree: RemoteTree;
  readonly #files: RemoteFiles;
  readonly #storing: Storing;

  constructor(tree: RemoteTree, files: RemoteFiles, storing: Storing) {
    this.#tree = tree;
    this.#files = files;
    this.#storing = storing;
  }

  read(call: Call, handle: Handle, offset: number, size: number, reply: ReadReply): Answer<void> {
    const { node, cursor } = this.#files.file(handle);
    const { attributes } = node;
    const end = Math.min(offset + size, attributes.size);
    const content = node.content ?? this.#storing.content(node);
    const glance = end > offset ? content.glance(offset, end, attributes.size, cursor) : undefined;
    if (glance === undefined) return this.#readKept(call, handle, offset, size, reply);
    return glance.then((bytes) => {
      // The file may have another size by then, or bytes that the server does not have.
      const changed = end > attributes.size || node.content?.present.touches(offset, end) === true;
      if (bytes?.length !== end - offset || changed) {
        return this.#readKept(call, handle, offset, size, reply);
      }
      reply.bytes = bytes;
      reply.length = bytes.length;
      return undefined;
    });
  }

  /** By way of the file in the cache. */
  #readKept(call: Call, handle: Handle, offset: number, size: number, reply: ReadReply): Answer<void> {
    const { node, cursor } = this.#files.file(handle);
    const end = Math.min(offset + size, node.attributes.size);
    if (end <= offset) {
      reply.length = 0;
      reply.bytes = NO_BYTES;
      return undefined;
    }
    const content = node.content ?? this.#storing.content(node);
    const waiting = content.ensure(offset, end, node.attributes.size, cursor, call.signal);
    // The file may have another size by then.
    if (waiting !== undefined) return waiting.then(() => this.#readKept(call, handle, offset, size, reply));
    reply.fd = content.fd;
    reply.position = offset;
    reply.length = end - offset;
    return undefined;
  }

  write(handle: Handle, offset: number, source: WriteSource): Answer<number> {
    const file = this.#writable(handle);
    const { node } = file;
    const content = node.content ?? this.#storing.content(node);
    const { size } = node.attributes;
    // O_APPEND: the end is where it is now, whatever the kernel believed.
    const position = file.append ? size : offset;
    const waiting = content.prepareWrite(position, source.length);
    if (waiting !== undefined) {
      const kept = source.retain();
      return waiting.then(() => this.write(handle, offset, kept));
    }
    const written = source.writeTo(content.fd, position);
    if (written < 0) throw MirageError.system('write', -written);
    this.#wrote(node, position, written);
    if (source.killPrivileges === true) clearPrivileges(node);
    const room = content.room();
    return room === undefined ? written : room.then(() => written);
  }

  #writable(handle: Handle): OpenFile {
    const file = this.#files.file(handle);
    if (!file.writable) throw MirageError.system('write', errno.EBADF);
    return file;
  }

  #wrote(node: RemoteNode, position: number, length: number): void {
    const { attributes, content } = node;
    content?.wrote(position, length, attributes.size);
    setSize(attributes, Math.max(attributes.size, position + length));
    touchModified(attributes, timestamp(this.#tree.now()));
    node.timesPending = true;
  }

  flush(handle: Handle): Answer<void> {
    const { node, writable } = this.#files.file(handle);
    if (!writable || (!node.holdsTruth && node.failure === undefined && !node.turn.busy)) return undefined;
    return this.#storing.flush(node);
  }

  fsync(handle: Handle): Promise<void> {
    const { node } = this.#files.file(handle);
    return this.#storing.flush(node, node.onServer.hasWriter || node.holdsTruth);
  }

  lseek(handle: Handle, offset: number, whence: number): number {
    const { node } = this.#files.file(handle);
    const { size } = node.attributes;
    if (offset < 0 || offset >= size) throw MirageError.system('lseek', errno.ENXIO);
    if (node.content !== undefined) return node.content.seek(offset, whence, size);
    return whence === SEEK_DATA ? offset : size;
  }

  async fallocate(handle: Handle, mode: number, offset: number, length: number): Promise<void> {
    const { node } = this.#writable(handle);
    const { size } = node.attributes;
    const end = offset + length;
    const kept = mode & ~FALLOC_FL_KEEP_SIZE;
    const grows = (mode & FALLOC_FL_KEEP_SIZE) === 0 && end > size;
    if (kept === FALLOC_FL_PUNCH_HOLE || kept === FALLOC_FL_ZERO_RANGE) {
      await this.#zero(node, offset, Math.min(end, size));
    } else if (kept !== 0) {
      throw MirageError.system('fallocate', errno.EOPNOTSUPP);
    }
    // Room cannot be reserved on the server; that the size grows is what programs see.
    if (grows) await this.#storing.resize(node, end);
  }

  async #zero(node: RemoteNode, start: number, end: number): Promise<void> {
    for (let at = start; at < end; ) {
      const length = Math.min(ZEROS, end - at);
      const content = this.#storing.content(node);
      const waiting = content.prepareWrite(at, length);
      if (waiting !== undefined) {
        await waiting;
        continue;
      }
      const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
      const result = localFiles().fallocate(content.fd, mode, at, length);
      if (result < 0) throw MirageError.system('fallocate', -result);
      this.#wrote(node, at, length);
      await content.room();
      at += length;
    }
  }

  /** The server copies; where it cannot, ENOTSUP makes the kernel read and write instead. */
  async copyRange(
    from: { handle: Handle; offset: number },
    to: { handle: Handle; offset: number },
    length: number,
  ): Promise<number> {
    const { server } = this.#tree;
    const source = this.#files.file(from.handle).node;
    const { node: target, append } = this.#writable(to.handle);
    if (append) throw MirageError.system('copy_file_range', errno.EBADF);
    const bytes = Math.min(length, COUNTABLE, source.attributes.size - from.offset);
    if (bytes <= 0) return 0;
    if (!server.features.copyRange || source === target || this.#isNameless(source, target)) {
      throw MirageError.system('copy_file_range', errno.EOPNOTSUPP);
    }
    await this.#storing.flush(source);
    await this.#storing.flush(target);
    const copied = await source.onServer.run(false, (reading) =>
      target.onServer.run(true, (writing) =>
        server.copyRange(reading, from.offset, writing, to.offset, bytes, UNINTERRUPTED),
      ),
    );
    await this.#storing.changedOnServer(target);
    return copied;
  }

  #isNameless(...nodes: readonly RemoteNode[]): boolean {
    return nodes.some(({ slot }) => this.#tree.table.parent(slot) === NONE);
  }
}
