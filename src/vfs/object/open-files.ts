/** Files in use: opening, making and closing them. All handles of a node share its one clean or staged file. */
import { constants } from 'node:fs';
import type { ObjectInfo } from '../../backends/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { EntryRecord } from '../../metadata/contract.js';
import { type Attributes, S_IFREG } from '../attributes.js';
import { allowedMode, versionHash } from '../inodes/attributes-of.js';
import { NONE, type Slot } from '../inodes/inode-table.js';
import {
  type Answer,
  type ByteString,
  type Call,
  type CreateAnswer,
  type Handle,
  type OpenMode,
  OpenReply,
} from '../operations.js';
import type { Commits } from './commit.js';
import type { ContentFirst } from './content-first.js';
import { type Copies, otherVersion } from './copies.js';
import type { Directories } from './directory.js';
import type { Inode } from './inode.js';
import type { Nodes } from './nodes.js';
import type { OpenHandles } from './open-handles.js';
import type { Reading } from './reading.js';
import type { SiblingReadAhead } from './sibling-read-ahead.js';
import { clearPrivileges, type Writing } from './writing.js';

const { O_RDONLY, O_WRONLY, O_TRUNC, O_APPEND, O_DIRECT, O_EXCL } = constants;
const O_ACCMODE = 3;
/** Milliseconds within which the kernel opens again what it was sent back for. */
const COMES_AGAIN = 2000;

export class OpenFiles {
  readonly #nodes: Nodes;
  readonly #directories: Directories;
  readonly #commits: Commits;
  readonly #copies: Copies;
  readonly #handles: OpenHandles;
  readonly #reading: Reading;
  readonly #writing: Writing;
  readonly #contentFirst: ContentFirst;
  readonly #siblings: SiblingReadAhead;
  /** Nodes whose open was sent back for the kernel to look at them again, and when. */
  readonly #sentBack = new Map<Slot, number>();

  constructor(
    nodes: Nodes,
    directories: Directories,
    commits: Commits,
    copies: Copies,
    handles: OpenHandles,
    reading: Reading,
    writing: Writing,
    siblings: SiblingReadAhead,
  ) {
    this.#nodes = nodes;
    this.#directories = directories;
    this.#commits = commits;
    this.#copies = copies;
    this.#handles = handles;
    this.#reading = reading;
    this.#writing = writing;
    this.#contentFirst = directories.contentFirst;
    this.#siblings = siblings;
  }

  open(slot: Slot, mode: OpenMode, reply: OpenReply, call?: Call): Answer<void> {
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
      if (record !== undefined && nodes.validFor(record.seenAt) > 0 && record.validator !== undefined) {
        this.#contentFirst.opened();
        const told = record.attributes !== undefined;
        const parent = nodes.table.parent(slot);
        const answer = told
          ? this.#openKnown(slot, mode, reply)
          : this.#openWithContent(slot, record, mode, reply, call?.signal ?? NEVER);
        // Its own content comes first.
        this.#siblings.opened(parent, record, !told);
        return answer;
      }
    }
    return this.#openSlowly(slot, mode, reply);
  }

  /** A listing has told of the file: its content is fetched, and what comes with it says the rest. */
  async #openWithContent(
    slot: Slot,
    record: EntryRecord,
    mode: OpenMode,
    reply: OpenReply,
    signal: AbortSignal,
  ): Promise<void> {
    const { table } = this.#nodes;
    const parent = table.parent(slot);
    const file = this.#contentFirst.acquire(parent, record);
    table.pin(slot);
    try {
      const heard = file !== undefined && (await this.#contentFirst.hear(parent, record, file, signal));
      if (!heard || table.parent(slot) !== parent) {
        await this.#openSlowly(slot, mode, reply);
        return;
      }
      const inode = this.#nodes.inUse(slot);
      if (inode?.leaving === true) await this.#openAfterwards(inode, mode, reply);
      else await this.#openKnown(slot, mode, reply);
      // From here on the handle keeps the request going.
      const opened = this.#nodes.inUse(slot);
      if (opened !== undefined && opened.staged === undefined) this.#copies.clean(opened);
    } finally {
      file?.release();
      table.unpin(slot);
    }
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
        const told = this.#nodes.record(slot);
        const asked = this.#directories.askStore(parent, name);
        if ((mode.flags & O_TRUNC) !== 0 && this.#takesNewest(slot, parent, name, asked)) break;
        await asked.catch((error: unknown) => {
          if (options.freshness !== 'offline') throw error;
        });
        if ((mode.flags & O_TRUNC) === 0 && told !== undefined) this.#tellSize(slot, told, reply);
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

  /**
   * The kernel reads no further than the size that it was told, and an open tells none. Where another host has changed it, the kernel is sent
   * back to look the name up; if it changes once more meanwhile, past its cache.
   */
  #tellSize(slot: Slot, told: EntryRecord, reply: OpenReply): void {
    const now = this.#nodes.record(slot);
    const changed = told.kind === 'file' && now?.kind === 'file' && told.size !== now.size;
    // What was written here meanwhile the kernel knows.
    if (!changed || this.#nodes.table.version(slot) === versionHash(now.validator)) {
      this.#sentBack.delete(slot);
      return;
    }
    const at = this.#nodes.context.clock.monotonic();
    const before = this.#sentBack.get(slot);
    this.#sentBack.delete(slot);
    if (before !== undefined && at - before < COMES_AGAIN) {
      reply.directIo = true;
      return;
    }
    for (const [other, since] of this.#sentBack) if (at - since >= COMES_AGAIN) this.#sentBack.delete(other);
    this.#sentBack.set(slot, at);
    throw otherVersion();
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
        // The attributes known here are those of the version before.
        const modified = inode.storeModified(parent, name);
        inode.setBase(parent, name, info && { validator: info.validator, modified });
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
    const truncated = this.#writing.truncate(inode, 0, NEVER);
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
    reply.handle = this.#handles.add({
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
    const { complete, shared } = this.#copies.clean(inode);
    return complete && !shared;
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

  /** What the kernel takes for absent another host may have made meanwhile: ESTALE makes it look again. */
  async refuseMade(parent: Slot, name: ByteString, { flags }: OpenMode): Promise<void> {
    await this.#directories.askStore(parent, name);
    const record = this.#nodes.entry(parent, name);
    if (record === undefined || record.kind === 'absent') return;
    throw new MirageError(`${name} was made by another host`, {
      errno: (flags & O_EXCL) !== 0 ? 'EEXIST' : 'ESTALE',
    });
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

  /** A size by setattr: with a handle like a write, without one in the store before the answer. */
  async resize(call: Call, slot: Slot, size: number, handle: Handle | undefined): Promise<Inode> {
    if (handle !== undefined && this.#handles.has(handle)) {
      const { inode } = this.#handles.get(handle);
      await this.#writing.truncate(inode, size, call.signal);
      return inode;
    }
    const { table } = this.#nodes;
    const reply = new OpenReply();
    await this.open(slot, { flags: O_WRONLY | (size === 0 ? O_TRUNC : 0) }, reply);
    const { inode } = this.#handles.get(reply.handle);
    try {
      if (size !== 0) await this.#writing.truncate(inode, size, call.signal);
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

  /** Runs `work`, which takes the (last) name away, with the inode's turn: handles that are open are independent of the store by then. */
  async detached(inode: Inode, work: () => Promise<void>): Promise<void> {
    inode.leaving = true;
    try {
      await this.#reading.hydrate(inode);
      await work();
    } finally {
      inode.leaving = false;
    }
  }

  release(handle: Handle): void {
    this.#close(handle);
  }

  #close(handle: Handle): void {
    const { inode, writable } = this.#handles.get(handle);
    this.#handles.remove(handle);
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
}

/** For waits that other programs depend on as well. */
const NEVER = new AbortController().signal;
