/** Writing open files: all handles of a node share its one staged file, which close and fsync bring to the store. */
import { randomUUID } from 'node:crypto';
import type { StagedFile } from '../../content/contract.js';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { localFiles } from '../../native/local-files.js';
import { setSize, timestamp, touchModified } from '../inodes/attributes-of.js';
import type { Answer, Call, Handle, WriteSource } from '../operations.js';
import type { Commits } from './commit.js';
import { type Copies, otherVersion } from './copies.js';
import type { Inode } from './inode.js';
import type { Nodes } from './nodes.js';
import type { OpenHandles } from './open-handles.js';
import { sizeOf } from './reading.js';

/** Bytes copied in one go: a system call on the thread that answers everybody. */
const COPY_AT_ONCE = 8 * 1024 * 1024;
/** Objects from this size on, bytes, are copied by the store when copied as a whole. */
const COPY_AT_STORE = 1024 * 1024;
/** The most that one copy_file_range can say it copied, bytes. */
const COUNTABLE = 2 ** 31;

export class Writing {
  readonly #nodes: Nodes;
  readonly #commits: Commits;
  readonly #copies: Copies;
  readonly #handles: OpenHandles;

  constructor(nodes: Nodes, commits: Commits, copies: Copies, handles: OpenHandles) {
    this.#nodes = nodes;
    this.#commits = commits;
    this.#copies = copies;
    this.#handles = handles;
  }

  write(call: Call, handle: Handle, offset: number, source: WriteSource): Answer<number> {
    const file = this.#handles.get(handle);
    const { inode } = file;
    if (inode.superseded || inode.lost) throw otherVersion();
    const staged = inode.staged ?? this.#stage(inode);
    // O_APPEND: the end is where it is now, whatever the kernel believed.
    const position = file.append ? staged.size : offset;
    const waiting = staged.prepareWrite(position, source.length, NEVER);
    if (waiting !== undefined) {
      const kept = source.retain();
      return waiting.then(() => this.write(call, handle, offset, kept));
    }
    const written = source.writeTo(staged.fd, position);
    if (written < 0) throw MirageError.system('write', -written);
    staged.wrote(position, written);
    if (source.killPrivileges === true) clearPrivileges(inode);
    this.#changed(inode, staged);
    return written;
  }

  #stage(inode: Inode): StagedFile {
    const { content } = this.#nodes;
    const { size } = inode.attributes;
    inode.staged = size === 0 ? content.stage() : content.stage({ file: this.#copies.clean(inode), size });
    return inode.staged;
  }

  #changed(inode: Inode, staged: StagedFile): void {
    setSize(inode.attributes, staged.size);
    touchModified(inode.attributes, timestamp(this.#nodes.now()));
  }

  truncate(inode: Inode, size: number, signal: AbortSignal): undefined | Promise<void> {
    if (inode.superseded || inode.lost) throw otherVersion();
    if (inode.staged === undefined && size === 0) inode.staged = this.#nodes.content.stage();
    const staged = inode.staged ?? this.#stage(inode);
    inode.mustCommit = true;
    const waiting = staged.truncate(size, signal);
    if (waiting !== undefined) return waiting.then(() => this.#changed(inode, staged));
    this.#changed(inode, staged);
    return undefined;
  }

  flush(handle: Handle): Answer<void> {
    const { inode, writable } = this.#handles.get(handle);
    if (!writable) return undefined;
    // Whoever wrote hears of the loss, not only the one whose call met it.
    if (inode.lost) throw otherVersion();
    return inode.needsCommit ? this.#commit(inode) : undefined;
  }

  async #commit(inode: Inode): Promise<void> {
    await this.#commits.commit(inode);
    if (inode.lost) throw otherVersion();
  }

  async fsync(handle: Handle): Promise<void> {
    const { inode } = this.#handles.get(handle);
    if (inode.lost) throw otherVersion();
    if (inode.needsCommit || inode.needsAttributes) await this.#commit(inode);
    const { failure } = inode;
    inode.failure = undefined;
    if (failure !== undefined) throw failure;
  }

  async allocate(call: Call, handle: Handle, mode: number, offset: number, length: number): Promise<void> {
    const { inode, writable } = this.#handles.get(handle);
    if (!writable) throw MirageError.system('fallocate', errno.EBADF);
    if (inode.superseded || inode.lost) throw otherVersion();
    const staged = inode.staged ?? this.#stage(inode);
    await staged.allocate(mode, offset, length, call.signal);
    inode.mustCommit = true;
    this.#changed(inode, staged);
  }

  async copyRange(
    call: Call,
    from: { handle: Handle; offset: number },
    to: { handle: Handle; offset: number },
    length: number,
  ): Promise<number> {
    const source = this.#handles.get(from.handle);
    const target = this.#handles.get(to.handle);
    if (!target.writable || target.append) throw MirageError.system('copy_file_range', errno.EBADF);
    if (source.inode.lost || target.inode.superseded || target.inode.lost) throw otherVersion();
    if (from.offset === 0 && to.offset === 0 && (await this.#copyWhole(source.inode, target.inode, length))) {
      return source.inode.attributes.size;
    }
    for (;;) {
      const file = source.inode.staged ?? this.#copies.clean(source.inode);
      const bytes = Math.min(length, COPY_AT_ONCE, sizeOf(source.inode) - from.offset);
      if (bytes <= 0) return 0;
      const staged = target.inode.staged ?? this.#stage(target.inode);
      const waiting =
        file.ensure(from.offset, bytes, source.cursor, call.signal) ??
        staged.prepareWrite(to.offset, bytes, call.signal);
      if (waiting !== undefined) {
        await waiting;
        continue;
      }
      const copied = localFiles().copyFileRange(
        file.fd,
        file.start + from.offset,
        staged.fd,
        to.offset,
        bytes,
      );
      if (copied < 0) throw MirageError.system('copy_file_range', -copied);
      staged.wrote(to.offset, copied);
      this.#changed(target.inode, staged);
      return copied;
    }
  }

  /** A large object into an empty file: the store copies it, no byte comes here. False: it is not such a case. */
  #copyWhole(source: Inode, target: Inode, length: number): Promise<boolean> {
    const nodes = this.#nodes;
    const { size } = source.attributes;
    const [from] = nodes.table.names(source.slot);
    const [to] = nodes.table.names(target.slot);
    const suits = (): boolean =>
      source.staged === undefined &&
      source.clean?.complete !== true &&
      !source.superseded &&
      !target.superseded &&
      target.staged?.size === 0 &&
      !nodes.table.hasFurtherNames(target.slot);
    if (from === undefined || to === undefined || size < COPY_AT_STORE || size > COUNTABLE) {
      return Promise.resolve(false);
    }
    if (length < size || !suits()) {
      return Promise.resolve(false);
    }
    return target.turn.run(() =>
      this.#commits.gate.together(async () => {
        await target.revalidation;
        if (!suits()) return false;
        setSize(target.attributes, size);
        touchModified(target.attributes, timestamp(nodes.now()));
        const base = target.base(to.parent, to.name);
        const attributes = nodes.stored(target, randomUUID());
        const info = await this.#copies.copy(source, from, to, base, attributes).catch((error: unknown) => {
          setSize(target.attributes, 0);
          throw error;
        });
        target.staged?.discard();
        target.staged = undefined;
        target.mustCommit = false;
        target.clean?.release();
        target.clean = undefined;
        target.setBase(to.parent, to.name, info);
        nodes.publish(target, true);
        return true;
      }),
    );
  }
}

/** What a write by somebody without privilege takes from a file. */
export function clearPrivileges(inode: Inode): void {
  const { attributes } = inode;
  attributes.mode &= ~0o4000;
  if ((attributes.mode & 0o010) !== 0) attributes.mode &= ~0o2000;
  delete inode.xattrs['security.capability'];
}

/** For waits that other programs depend on as well. */
const NEVER = new AbortController().signal;
