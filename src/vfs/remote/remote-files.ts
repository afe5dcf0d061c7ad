/** Open files: opening, making and closing them, and what their handles share. */
import { constants } from 'node:fs';
import type { OpenedFile, ServerAttributes } from '../../backends/file-server.js';
import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import type { ReadCursor } from '../../content/contract.js';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { isRegular, S_IFREG } from '../attributes.js';
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
import type { Owners } from './owners.js';
import type { RemoteNode } from './remote-node.js';
import { versionOf } from './remote-rows.js';
import type { RemoteTree } from './remote-tree.js';
import type { Storing } from './storing.js';

const { O_RDONLY, O_WRONLY, O_TRUNC, O_APPEND, O_DIRECT, O_EXCL } = constants;
const O_ACCMODE = 3;
/** Attributes that the server told less than this ago, milliseconds, need no second look when a file is opened for reading. */
const BELIEVED = 1000;

export interface OpenFile {
  readonly node: RemoteNode;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly append: boolean;
  readonly cursor: ReadCursor;
}

export class RemoteFiles {
  readonly #tree: RemoteTree;
  readonly #owners: Owners;
  readonly #storing: Storing;
  readonly #open = new Map<Handle, OpenFile>();
  #next: Handle = 1;
  /** The node whose opening was told to look again, and until when it is not told so once more (wall time, milliseconds). */
  #lookedAgain: { slot: Slot; until: number } = { slot: NONE, until: 0 };

  constructor(tree: RemoteTree, owners: Owners, storing: Storing) {
    this.#tree = tree;
    this.#owners = owners;
    this.#storing = storing;
  }

  /** Throws EBADF for a handle that is not open. */
  file(handle: Handle): OpenFile {
    const file = this.#open.get(handle);
    if (file === undefined) throw MirageError.system('handle', errno.EBADF);
    return file;
  }

  has(handle: Handle | undefined): handle is Handle {
    return handle !== undefined && this.#open.has(handle);
  }

  // Opening.

  open(slot: Slot, mode: OpenMode, reply: OpenReply): Answer<void> {
    const tree = this.#tree;
    const node = tree.use(slot);
    const { failure } = node;
    if (failure !== undefined) {
      node.failure = undefined;
      tree.unuse(node);
      throw failure;
    }
    if (this.#mayBelieve(node, mode)) {
      this.#admit(node, mode, reply);
      // What is not here will be wanted in a moment. Who reads hears of a failure.
      if (node.content?.present.bytes !== node.attributes.size)
        node.onServer.open(false).catch(() => undefined);
      return undefined;
    }
    node.handles++;
    return this.#openSlowly(node, mode, reply).finally(() => {
      node.handles--;
      tree.unuse(node);
    });
  }

  #mayBelieve(node: RemoteNode, { flags }: OpenMode): boolean {
    const tree = this.#tree;
    if ((flags & O_ACCMODE) !== O_RDONLY || (flags & (O_TRUNC | O_DIRECT)) !== 0) return false;
    if (tree.table.parent(node.slot) === NONE || node.holdsTruth) return true;
    switch (tree.options.freshness) {
      case 'offline':
        return true;
      case 'open':
        return false;
      case 'ttl':
        return node.seenAt <= tree.now() && tree.now() - node.seenAt < Math.min(BELIEVED, tree.options.ttl);
    }
  }

  async #openSlowly(node: RemoteNode, mode: OpenMode, reply: OpenReply): Promise<void> {
    const tree = this.#tree;
    const { flags } = mode;
    const writing = (flags & O_ACCMODE) !== O_RDONLY;
    const truncating = (flags & O_TRUNC) !== 0;
    const parent = tree.table.parent(node.slot);
    if (parent === NONE || node.holdsTruth || node.hidden !== undefined) {
      // The node says more than its name: what is there need only be opened for what is wanted.
      await node.onServer.open(writing || truncating);
      if (truncating) await this.#storing.resize(node, 0);
    } else {
      const name = tree.table.name(node.slot);
      const how = {
        read: (flags & O_ACCMODE) !== O_WRONLY,
        write: writing || truncating,
        ...(truncating && { truncate: true }),
      };
      const askedAt = tree.now();
      const opened = await this.#openNamed(node, parent, name, how, askedAt);
      node.onServer.adopt(opened.handle, how);
      const before = tree.version(node);
      if (truncating) await this.#storing.truncated(node, opened.attributes);
      else {
        tree.heard(parent, name, opened.attributes, askedAt);
        if (tree.version(node) !== before) this.#lookAgain(node);
      }
    }
    if (mode.killPrivileges === true && truncating) await this.#storing.clearPrivileges(node);
    this.#admit(node, mode, reply);
  }

  /** The kernel goes by the old size until it has looked the name up again, which ESTALE makes it do: once, for a file may change all the time. */
  #lookAgain(node: RemoteNode): void {
    const now = this.#tree.now();
    const { slot, until } = this.#lookedAgain;
    if (slot === node.slot && now < until) return;
    this.#lookedAgain = { slot: node.slot, until: now + BELIEVED };
    throw new MirageError('the file has changed on the server', { errno: 'ESTALE' });
  }

  /** Opens the file of a name, and makes sure that it is the one that handles of the node are open on. */
  async #openNamed(
    node: RemoteNode,
    parent: Slot,
    name: ByteString,
    how: { read: boolean; write: boolean; truncate?: boolean },
    askedAt: number,
  ): Promise<OpenedFile> {
    const tree = this.#tree;
    const { server } = tree;
    const path = tree.pathOf(parent, name);
    const existing = node.onServer.any;
    const [opening, known] = await Promise.allSettled([
      server.open(path, how, UNINTERRUPTED),
      existing === undefined || how.truncate === true ? undefined : server.fstat(existing, UNINTERRUPTED),
    ]);
    if (opening.status === 'rejected') {
      if (!MirageError.is(opening.reason, 'ENOENT')) throw opening.reason;
      if (tree.table.parent(node.slot) === parent) tree.heard(parent, name, undefined, askedAt);
      throw new MirageError('the name is gone', { errno: 'ESTALE', cause: opening.reason });
    }
    const opened = opening.value;
    const same = known.status === 'fulfilled' && known.value !== undefined && !node.holdsTruth;
    const replaced = same && !isSame(known.value as ServerAttributes, opened.attributes);
    if (replaced || !isRegular(opened.attributes.mode)) {
      void server.close(opened.handle, UNINTERRUPTED).catch(() => undefined);
      tree.supersede(node.slot, parent, name);
      tree.heard(parent, name, opened.attributes, askedAt);
      throw new MirageError('another file has the name', { errno: 'ESTALE' });
    }
    return opened;
  }

  #admit(node: RemoteNode, mode: OpenMode, reply: OpenReply): void {
    const access = mode.flags & O_ACCMODE;
    const writable = access !== O_RDONLY;
    const content = this.#storing.content(node);
    node.handles++;
    if (writable) node.writers++;
    const handle = this.#next++;
    this.#open.set(handle, {
      node,
      readable: access !== O_WRONLY,
      writable,
      append: (mode.flags & O_APPEND) !== 0,
      cursor: { next: 0, window: 0 },
    });
    reply.handle = handle;
    const same = this.#tree.sameVersion(node);
    reply.keepCache = same && (content.trusted || this.#tree.isSettled(node));
    reply.noFlush = !writable;
  }

  // Making.

  async create(
    call: Call,
    parent: Slot,
    name: ByteString,
    mode: number,
    open: OpenMode,
  ): Promise<CreateAnswer> {
    const tree = this.#tree;
    const path = tree.pathOf(parent, name);
    const how = { read: true, write: true, create: true, exclusive: true, mode: mode & 0o7777 };
    const askedAt = tree.now();
    let opened: OpenedFile;
    try {
      opened = await tree.server.open(path, how, UNINTERRUPTED);
    } catch (error) {
      const said = await tree.server.lstat(path, UNINTERRUPTED).catch(() => undefined);
      if (said === undefined) throw error;
      tree.heard(parent, name, said, askedAt);
      if ((open.flags & O_EXCL) !== 0) throw MirageError.system('create', errno.EEXIST, error);
      return this.#createOpens(parent, name, open);
    }
    const give = () => this.#owners.give(opened.handle, call, parent, S_IFREG | mode, opened.attributes);
    const said = await give().catch(async (error: unknown) => {
      // The connection broke behind the answer: the file is there, its handle is not.
      if (!MirageError.is(error, 'EBADF')) throw error;
      opened = await tree.server.open(path, { read: true, write: true }, UNINTERRUPTED);
      return give();
    });
    const slot = this.#owners.enter(parent, name, said);
    const node = tree.use(slot);
    node.onServer.adopt(opened.handle, how);
    const reply = new OpenReply();
    this.#admit(node, open, reply);
    tree.touchDirectory(parent);
    return { entry: tree.made(slot), open: reply };
  }

  /** Somebody else has created the name first: open(2) with O_CREAT then opens it. */
  async #createOpens(parent: Slot, name: ByteString, mode: OpenMode): Promise<CreateAnswer> {
    const tree = this.#tree;
    const record = tree.entry(parent, name);
    // Not for us to open: the kernel finds it by a new lookup.
    if (record?.kind !== 'file' || !isRegular(record.attributes?.mode ?? 0)) {
      throw MirageError.system('create', errno.ESTALE);
    }
    const slot = tree.enter(parent, name, record);
    const reply = new OpenReply();
    await this.open(slot, mode, reply);
    return { entry: tree.made(slot), open: reply };
  }

  // Closing.

  release(handle: Handle): void {
    const { node, writable } = this.file(handle);
    this.#open.delete(handle);
    node.handles--;
    if (writable) node.writers--;
    if (node.handles > 0) return;
    if (this.#tree.table.parent(node.slot) === NONE) this.#end(node);
    // What a mapping wrote after the last flush, or what could not be sent then.
    else if (node.holdsTruth) this.#storing.flushBehind(node);
    this.#tree.unuse(node);
  }

  /** The last program has closed a file without a name. */
  #end(node: RemoteNode): void {
    node.content?.abandon();
    node.timesPending = false;
    const { hidden } = node;
    if (hidden === undefined) return;
    node.hidden = undefined;
    void node.onServer
      .close()
      .then(() => this.#tree.server.unlink(hidden, UNINTERRUPTED))
      .catch((error: unknown) => {
        this.#tree.context.log.warn('a removed file that was open could not be taken from the server', {
          path: hidden,
          why: String(error),
        });
      });
  }

  /** A name of the node is about to go: handles that are open must not need it any more. */
  async detach(node: RemoteNode): Promise<void> {
    if (node.handles === 0) return;
    const complete = node.content !== undefined && node.content.present.bytes === node.attributes.size;
    if (node.onServer.any === undefined && !complete) await node.onServer.open(false);
  }
}

/** Two answers that can be of one file at one moment. */
const isSame = (a: ServerAttributes, b: ServerAttributes): boolean =>
  versionOf(a) === versionOf(b) &&
  a.mode === b.mode &&
  a.uid === b.uid &&
  a.gid === b.gid &&
  a.fileId === b.fileId;
