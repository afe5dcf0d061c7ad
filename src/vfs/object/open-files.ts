/** Files in use: opening, reading and writing. All handles of a node share its one clean or staged file. */
import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import type { ObjectInfo } from '../../backends/contract.js';
import type { ReadCursor, StagedFile } from '../../content/contract.js';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { localFiles } from '../../native/local-files.js';
import { type Attributes, S_IFREG } from '../attributes.js';
import {
  type Answer,
  type ByteString,
  type Call,
  type CreateAnswer,
  type Handle,
  type OpenMode,
  OpenReply,
  type ReadReply,
  type WriteSource,
} from '../operations.js';
import { allowedMode, setSize, timestamp, touchModified } from './attributes-of.js';
import type { Commits } from './commit.js';
import { type Copies, otherVersion } from './copies.js';
import type { Directories } from './directory.js';
import type { Inode } from './inode.js';
import { NONE, type Slot } from './inode-table.js';
import type { Nodes } from './nodes.js';

const { O_RDONLY, O_WRONLY, O_TRUNC, O_APPEND, O_DIRECT } = constants;
const O_ACCMODE = 3;
const SEEK_DATA = 3;
/** Bytes copied in one go: a system call on the thread that answers everybody. */
const COPY_AT_ONCE = 8 * 1024 * 1024;
/** Objects from this size on, bytes, are copied by the store when copied as a whole. */
const COPY_AT_STORE = 1024 * 1024;
/** The most that one copy_file_range can say it copied, bytes. */
const COUNTABLE = 2 ** 31;
/** An unlinked file of up to so many bytes is fetched wholly for the handles that still read it. */
const HYDRATE_LIMIT = 1024 * 1024 * 1024;
const NO_BYTES = new Uint8Array(0);

interface OpenFile {
  readonly inode: Inode;
  readonly writable: boolean;
  readonly append: boolean;
  readonly cursor: ReadCursor;
}

export class OpenFiles {
  readonly #nodes: Nodes;
  readonly #directories: Directories;
  readonly #commits: Commits;
  readonly #copies: Copies;
  readonly #open = new Map<Handle, OpenFile>();
  #nextHandle: Handle = 1;

  constructor(nodes: Nodes, directories: Directories, commits: Commits, copies: Copies) {
    this.#nodes = nodes;
    this.#directories = directories;
    this.#commits = commits;
    this.#copies = copies;
  }

  get(handle: Handle): OpenFile {
    const file = this.#open.get(handle);
    if (file === undefined) throw new MirageError(`no open file ${handle}`, { errno: 'EBADF' });
    return file;
  }

  // Opening.

  open(slot: Slot, mode: OpenMode, reply: OpenReply): Answer<void> {
    const nodes = this.#nodes;
    const inode = nodes.inUse(slot);
    const revalidates =
      (mode.flags & (O_TRUNC | O_DIRECT)) !== 0 ||
      (mode.flags & O_ACCMODE) !== O_RDONLY ||
      nodes.options.freshness === 'open';
    if (inode?.failure !== undefined) {
      const { failure } = inode;
      inode.failure = undefined;
      throw failure;
    }
    if (inode?.leaving === true) return this.#openAfterwards(inode, mode, reply);
    const nameless = nodes.table.parent(slot) === NONE;
    // Attributes that are still to be saved say nothing of the content, which is revalidated all the same.
    if (nameless || (inode?.holdsTruth === true && (inode.staged !== undefined || !revalidates))) {
      if (inode === undefined || inode.superseded) throw otherVersion();
      return this.#truncateAndOpen(inode, mode, reply);
    }
    if (!revalidates) {
      const record = nodes.record(slot);
      const fresh =
        record !== undefined && nodes.validFor(record.seenAt) > 0 && record.attributes !== undefined;
      if (fresh) return this.#openKnown(slot, mode, reply);
    }
    return this.#openSlowly(slot, mode, reply);
  }

  #openKnown(slot: Slot, mode: OpenMode, reply: OpenReply): Answer<void> {
    const nodes = this.#nodes;
    const record = nodes.record(slot);
    const parent = nodes.table.parent(slot);
    // ESTALE makes the kernel look the name up again, and it finds what is there now.
    if (
      record === undefined ||
      record.kind === 'absent' ||
      nodes.enter(parent, record.name, record) !== slot
    ) {
      throw new MirageError('another version of the file has come', { errno: 'ESTALE' });
    }
    const known = nodes.inUse(slot);
    if (known !== undefined && known.handles === 0 && !known.holdsTruth) nodes.unuse(known);
    return this.#truncateAndOpen(nodes.use(slot), mode, reply);
  }

  async #openSlowly(slot: Slot, mode: OpenMode, reply: OpenReply): Promise<void> {
    const { table, options } = this.#nodes;
    table.pin(slot);
    try {
      const changed = this.#nodes.inUse(slot);
      if (changed?.needsAttributes === true) {
        await this.#commits.commit(changed).catch((error: unknown) => {
          if (options.freshness !== 'offline') throw error;
        });
        this.#commits.rest(changed);
      }
      for (;;) {
        if (table.parent(slot) === NONE) throw otherVersion();
        const parent = table.parent(slot);
        const name = table.name(slot);
        const asked = this.#directories.askStore(parent, name);
        if ((mode.flags & O_TRUNC) !== 0 && this.#takesNewest(slot, parent, name, asked)) break;
        await asked.catch((error: unknown) => {
          if (options.freshness !== 'offline') throw error;
        });
        // Another name of a hard link may be left.
        if (!table.hasFurtherNames(slot)) break;
        this.#nodes.dropGoneNames(slot);
        if (table.parent(slot) === parent && table.name(slot) === name) break;
      }
      const inode = this.#nodes.inUse(slot);
      if (inode?.leaving === true) await this.#openAfterwards(inode, mode, reply);
      else if (inode?.revalidation !== undefined) await this.#truncateAndOpen(inode, mode, reply);
      else await this.#openKnown(slot, mode, reply);
    } finally {
      table.unpin(slot);
    }
  }

  /** ESTALE for what is gone then: the kernel looks the name up again. */
  async #openAfterwards(inode: Inode, mode: OpenMode, reply: OpenReply): Promise<void> {
    await inode.turn.run(async () => undefined);
    if (this.#nodes.table.parent(inode.slot) !== NONE) return this.open(inode.slot, mode, reply);
    this.#commits.rest(inode);
    throw otherVersion();
  }

  /** Whatever is there now is what O_TRUNC replaces: its version is needed for the commit, not before. */
  #takesNewest(slot: Slot, parent: Slot, name: ByteString, asked: Promise<ObjectInfo | undefined>): boolean {
    const record = this.#nodes.record(slot);
    if (record?.kind !== 'file' || record.attributes === undefined) return false;
    if (this.#nodes.table.hasFurtherNames(slot)) return false;
    const inode = this.#nodes.use(slot);
    if (inode.superseded || inode.handles > 0) return false;
    inode.revalidation = asked.then(
      (info) => {
        inode.setBase(parent, name, info?.validator);
        inode.revalidation = undefined;
      },
      // The version known so far is what the commit asks for then.
      () => {
        inode.revalidation = undefined;
      },
    );
    return true;
  }

  #truncateAndOpen(inode: Inode, mode: OpenMode, reply: OpenReply): Answer<void> {
    if ((mode.flags & O_TRUNC) === 0) {
      this.#opened(inode, mode, reply);
      return undefined;
    }
    this.#opened(inode, mode, reply);
    if (mode.killPrivileges === true) clearPrivileges(inode);
    const truncated = this.#truncate(inode, 0, NEVER);
    return truncated?.catch((error: unknown) => {
      this.#close(reply.handle);
      throw error;
    });
  }

  #opened(inode: Inode, mode: OpenMode, reply: OpenReply): void {
    const writable = (mode.flags & O_ACCMODE) !== O_RDONLY;
    if (inode.handles === 0) inode.passesThrough = this.#mayPassThrough(inode);
    inode.handles++;
    if (writable) inode.writers++;
    reply.handle = this.#nextHandle++;
    this.#open.set(reply.handle, {
      inode,
      writable,
      append: (mode.flags & O_APPEND) !== 0,
      cursor: this.#nodes.content.newCursor(),
    });
    const [name] = this.#nodes.table.names(inode.slot);
    reply.keepCache =
      name !== undefined && this.#nodes.sameVersion(inode.slot, inode.base(name.parent, name.name));
    reply.noFlush = !writable;
    if (inode.passesThrough && inode.clean !== undefined) {
      reply.passthroughFd = inode.clean.fd;
      reply.keepCache = false;
    }
  }

  /**
   * The kernel may read the cache file itself while all who have the file open do: where nobody can write, so that no writer ever
   * comes in between (a writer needs a file of its own, and the kernel allows one for all handles of a node).
   */
  #mayPassThrough(inode: Inode): boolean {
    const { context, table } = this.#nodes;
    if (context.mode !== 'read' || table.parent(inode.slot) === NONE || inode.attributes.size === 0)
      return false;
    return this.#copies.clean(inode).complete;
  }

  create(call: Call, parent: Slot, name: ByteString, mode: number, open: OpenMode): CreateAnswer {
    const nodes = this.#nodes;
    // Refuses a name that is no key before anything is made.
    nodes.keyOf(parent, name);
    const inode = this.#make(call, parent, mode, (fill) => nodes.make(parent, name, fill));
    nodes.publish(inode, true);
    nodes.touchDirectory(parent);
    return this.#made(inode, open);
  }

  temporary(call: Call, parent: Slot, mode: number, open: OpenMode): CreateAnswer {
    const inode = this.#make(call, parent, mode, (fill) => this.#nodes.make(NONE, '', fill));
    inode.attributes.nlink = 0;
    return this.#made(inode, open);
  }

  #make(
    call: Call,
    parent: Slot,
    mode: number,
    make: (fill: (attributes: Attributes) => void) => Inode,
  ): Inode {
    const nodes = this.#nodes;
    const inode = make((attributes) => {
      attributes.mode = allowedMode(S_IFREG | (mode & 0o7777), nodes.context);
      nodes.own(attributes, call, parent);
    });
    inode.staged = nodes.content.stage();
    inode.mustCommit = true;
    return inode;
  }

  #made(inode: Inode, mode: OpenMode): CreateAnswer {
    const open = new OpenReply();
    this.#opened(inode, mode, open);
    return { entry: this.#nodes.made(inode.slot), open };
  }

  // Reading.

  read(call: Call, handle: Handle, offset: number, size: number, reply: ReadReply): Answer<void> {
    const { inode, cursor } = this.get(handle);
    if (inode.lost) throw otherVersion();
    const file = inode.staged ?? this.#copies.clean(inode);
    const length = Math.min(size, this.#size(inode) - offset);
    if (length <= 0) {
      reply.length = 0;
      reply.bytes = NO_BYTES;
      return undefined;
    }
    const complete = 'complete' in file && file.complete;
    const waiting = complete ? undefined : file.ensure(offset, length, cursor, call.signal);
    if (waiting !== undefined) {
      // What was there may have been truncated or committed meanwhile: look again.
      const again = () => this.read(call, handle, offset, size, reply);
      return waiting.then(again, async (error: unknown) => {
        // Or have moved, and is to be had under its new name.
        if (inode.turn.busy) await inode.turn.run(async () => undefined);
        if ((inode.staged ?? inode.clean) === file) throw error;
        return again();
      });
    }
    reply.fd = file.fd;
    reply.position = offset;
    reply.length = length;
    return undefined;
  }

  #size(inode: Inode): number {
    return inode.staged?.size ?? inode.clean?.version.size ?? inode.attributes.size;
  }

  /** Runs `work`, which takes the (last) name away, with the inode's turn: handles that are open are independent of the store by then. */
  async detached(inode: Inode, work: () => Promise<void>): Promise<void> {
    inode.leaving = true;
    try {
      await this.#hydrate(inode);
      await work();
    } finally {
      inode.leaving = false;
    }
  }

  async #hydrate(inode: Inode): Promise<void> {
    if (inode.kind !== 'file' || inode.handles === 0 || inode.attributes.size > HYDRATE_LIMIT) return;
    const file = inode.staged ?? this.#copies.clean(inode);
    await file.ensureAll(NEVER);
  }

  // Writing.

  write(call: Call, handle: Handle, offset: number, source: WriteSource): Answer<number> {
    const file = this.get(handle);
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

  #truncate(inode: Inode, size: number, signal: AbortSignal): undefined | Promise<void> {
    if (inode.superseded || inode.lost) throw otherVersion();
    if (inode.staged === undefined && size === 0) inode.staged = this.#nodes.content.stage();
    const staged = inode.staged ?? this.#stage(inode);
    inode.mustCommit = true;
    const waiting = staged.truncate(size, signal);
    if (waiting !== undefined) return waiting.then(() => this.#changed(inode, staged));
    this.#changed(inode, staged);
    return undefined;
  }

  /** A size by setattr: with a handle like a write, without one in the store before the answer. */
  async resize(call: Call, slot: Slot, size: number, handle: Handle | undefined): Promise<Inode> {
    if (handle !== undefined && this.#open.has(handle)) {
      const { inode } = this.get(handle);
      await this.#truncate(inode, size, call.signal);
      return inode;
    }
    const { table } = this.#nodes;
    const reply = new OpenReply();
    await this.open(slot, { flags: O_WRONLY | (size === 0 ? O_TRUNC : 0) }, reply);
    const { inode } = this.get(reply.handle);
    try {
      if (size !== 0) await this.#truncate(inode, size, call.signal);
      await this.#commits.commit(inode);
    } catch (error) {
      if (!MirageError.is(error, 'ESTALE')) throw error;
      throw new MirageError(`${table.name(slot)} was changed by another host`, {
        errno: 'EBUSY',
        cause: error,
      });
    } finally {
      this.#close(reply.handle);
    }
    return inode;
  }

  flush(handle: Handle): Answer<void> {
    const { inode, writable } = this.get(handle);
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
    const { inode } = this.get(handle);
    if (inode.lost) throw otherVersion();
    if (inode.needsCommit || inode.needsAttributes) await this.#commit(inode);
    const { failure } = inode;
    inode.failure = undefined;
    if (failure !== undefined) throw failure;
  }

  release(handle: Handle): void {
    this.#close(handle);
  }

  #close(handle: Handle): void {
    const { inode, writable } = this.get(handle);
    this.#open.delete(handle);
    inode.handles--;
    if (writable) inode.writers--;
    if (inode.handles > 0) return;
    // What a mapping wrote after the last flush.
    if (inode.needsCommit && this.#nodes.table.parent(inode.slot) !== NONE) {
      this.#commits.inBackground(
        inode,
        this.#commits.commit(inode).then(() => this.#commits.rest(inode)),
      );
    } else this.#commits.rest(inode);
  }

  // Ranges.

  lseek(handle: Handle, offset: number, whence: number): number {
    const { inode } = this.get(handle);
    const size = this.#size(inode);
    if (offset >= size || offset < 0) throw MirageError.system('lseek', errno.ENXIO);
    if (inode.staged !== undefined) return inode.staged.seek(offset, whence);
    return whence === SEEK_DATA ? offset : size;
  }

  async allocate(call: Call, handle: Handle, mode: number, offset: number, length: number): Promise<void> {
    const { inode, writable } = this.get(handle);
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
    const source = this.get(from.handle);
    const target = this.get(to.handle);
    if (!target.writable || target.append) throw MirageError.system('copy_file_range', errno.EBADF);
    if (source.inode.lost || target.inode.superseded || target.inode.lost) throw otherVersion();
    if (from.offset === 0 && to.offset === 0 && (await this.#copyWhole(source.inode, target.inode, length))) {
      return source.inode.attributes.size;
    }
    for (;;) {
      const file = source.inode.staged ?? this.#copies.clean(source.inode);
      const bytes = Math.min(length, COPY_AT_ONCE, this.#size(source.inode) - from.offset);
      if (bytes <= 0) return 0;
      const staged = target.inode.staged ?? this.#stage(target.inode);
      const waiting =
        file.ensure(from.offset, bytes, source.cursor, call.signal) ??
        staged.prepareWrite(to.offset, bytes, call.signal);
      if (waiting !== undefined) {
        await waiting;
        continue;
      }
      const copied = localFiles().copyFileRange(file.fd, from.offset, staged.fd, to.offset, bytes);
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
        target.setBase(to.parent, to.name, info.validator);
        target.storeModified = info.modified;
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
