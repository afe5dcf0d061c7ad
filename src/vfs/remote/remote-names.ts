/** Names that come, go and move. The server has it done when the call is answered. */
import { randomUUID } from 'node:crypto';
import type { ServerAttributes } from '../../backends/file-server.js';
import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { isRegular, S_IFDIR, S_IFLNK, S_IFMT } from '../attributes.js';
import { allowedMode, timestamp } from '../inodes/attributes-of.js';
import { NONE, type Slot } from '../inodes/inode-table.js';
import { newLinkGroup } from '../inodes/records.js';
import { type ByteString, type Call, type EntryAnswer, RENAME_NOREPLACE } from '../operations.js';
import type { Owners } from './owners.js';
import type { RemoteDirectories } from './remote-directories.js';
import type { RemoteFiles } from './remote-files.js';
import type { RemoteNode } from './remote-node.js';
import type { RemoteTree } from './remote-tree.js';

/** What a file is called on the server that lost its last name while it was open, where handles do not keep it alive. */
const HIDDEN = '.mirage-hidden-';

interface Place {
  readonly parent: Slot;
  readonly name: ByteString;
}

export class RemoteNames {
  readonly #tree: RemoteTree;
  readonly #directories: RemoteDirectories;
  readonly #files: RemoteFiles;
  readonly #owners: Owners;

  constructor(tree: RemoteTree, directories: RemoteDirectories, files: RemoteFiles, owners: Owners) {
    this.#tree = tree;
    this.#directories = directories;
    this.#files = files;
    this.#owners = owners;
  }

  // Making.

  async mkdir(call: Call, parent: Slot, name: ByteString, mode: number): Promise<EntryAnswer> {
    const path = this.#tree.pathOf(parent, name);
    const made = await this.#make({ parent, name }, () =>
      this.#tree.server.mkdir(path, mode & 0o7777, UNINTERRUPTED),
    );
    const said = await this.#owners.give(path, call, parent, S_IFDIR | mode, made);
    const slot = this.#owners.enter(parent, name, said);
    this.#directories.madeEmpty(this.#tree.pathOf(parent, name));
    this.#tree.touchDirectory(parent);
    return this.#tree.made(slot);
  }

  async symlink(call: Call, parent: Slot, name: ByteString, target: ByteString): Promise<EntryAnswer> {
    if (!this.#tree.server.features.symlinks) throw MirageError.system('symlink', errno.EOPNOTSUPP);
    const path = this.#tree.pathOf(parent, name);
    const made = await this.#make({ parent, name }, () =>
      this.#tree.server.symlink(target, path, UNINTERRUPTED),
    );
    const said = await this.#owners.give(path, call, parent, S_IFLNK | 0o777, made);
    const slot = this.#owners.enter(parent, name, said);
    this.#tree.touchDirectory(parent);
    return this.#tree.made(slot);
  }

  /** The server knows files only: an empty one stands for a fifo, socket or device, and what it is lies in the metadata database. */
  async mknod(call: Call, parent: Slot, name: ByteString, mode: number, rdev: number): Promise<EntryAnswer> {
    const { server } = this.#tree;
    const path = this.#tree.pathOf(parent, name);
    const wanted = allowedMode(mode, this.#tree.context);
    const made = await this.#make({ parent, name }, async () => {
      const how = { read: false, write: true, create: true, exclusive: true, mode: wanted & 0o7777 };
      const { handle, attributes } = await server.open(path, how, UNINTERRUPTED);
      void server.close(handle, UNINTERRUPTED).catch(() => undefined);
      return attributes;
    });
    const said = await this.#owners.give(path, call, parent, wanted, made);
    const special = isRegular(wanted) ? {} : { type: wanted & S_IFMT, rdev };
    const slot = this.#owners.enter(parent, name, said, special);
    this.#tree.touchDirectory(parent);
    return this.#tree.made(slot);
  }

  /** Protocols that say no more than "failure" leave it to us to find out that the name exists. */
  async #make({ parent, name }: Place, make: () => Promise<ServerAttributes>): Promise<ServerAttributes> {
    const tree = this.#tree;
    const askedAt = tree.now();
    try {
      return await make();
    } catch (error) {
      if (MirageError.is(error) && ANSWERS.includes(error.errno)) throw error;
      const said = await tree.server.lstat(tree.pathOf(parent, name), UNINTERRUPTED).catch(() => undefined);
      if (said === undefined) throw error;
      tree.heard(parent, name, said, askedAt);
      throw MirageError.system('create', errno.EEXIST, error);
    }
  }

  /** Names that were linked here are one node; the server itself does not tell which names belong together. */
  async link(slot: Slot, parent: Slot, name: ByteString): Promise<EntryAnswer> {
    const tree = this.#tree;
    const { server, table } = tree;
    if (!server.features.hardLinks) throw MirageError.system('link', errno.EOPNOTSUPP);
    const existing = tree.path(slot);
    await this.#make({ parent, name }, () => server.link(existing, tree.pathOf(parent, name), UNINTERRUPTED));
    const before = table.child(parent, name);
    if (before !== NONE) tree.supersede(before, parent, name, false);
    const changed = timestamp(tree.now());
    const record = tree.record(slot);
    if (record === undefined || record.kind === 'absent') throw MirageError.system('link', errno.ESTALE);
    const group = record.attributes?.linkGroup ?? newLinkGroup(table.ino(slot));
    table.addName(slot, parent, name);
    tree.joinGroup(slot, group);
    const { position: _, ...row } = record;
    const linked = {
      ...row,
      attributes: { ...row.attributes, linkGroup: group, changed },
      ino: table.ino(slot),
      seenAt: tree.now(),
    };
    for (const each of tree.names(slot)) tree.put(each.parent, { ...linked, name: each.name });
    const node = tree.inUse(slot);
    if (node !== undefined) {
      node.linkGroup = group;
      this.#countLinks(node);
    }
    tree.touchDirectory(parent);
    return tree.made(slot);
  }

  #countLinks(node: RemoteNode): void {
    const record = this.#tree.record(node.slot);
    const changed = timestamp(this.#tree.now());
    node.attributes.nlink = record === undefined ? 0 : this.#tree.linkCount(record);
    node.attributes.changedSeconds = changed.seconds;
    node.attributes.changedNanoseconds = changed.nanoseconds;
  }

  // Removing.

  async unlink(parent: Slot, name: ByteString): Promise<void> {
    const tree = this.#tree;
    const path = tree.pathOf(parent, name);
    const slot = tree.table.child(parent, name);
    const hidden = await this.#prepareRemoval(slot, path);
    try {
      if (hidden === undefined) await tree.server.unlink(path, UNINTERRUPTED);
    } catch (error) {
      await this.#wasRemoved({ parent, name }, path, error);
    }
    this.#nameGone({ parent, name }, slot, hidden);
    tree.touchDirectory(parent);
  }

  async rmdir(parent: Slot, name: ByteString): Promise<void> {
    const tree = this.#tree;
    const path = tree.pathOf(parent, name);
    const slot = tree.table.child(parent, name);
    try {
      await tree.server.rmdir(path, UNINTERRUPTED);
    } catch (error) {
      if (isVague(error)) await this.#refuseNotEmpty(path, error);
      await this.#wasRemoved({ parent, name }, path, error);
    }
    this.#directoryGone(path);
    this.#nameGone({ parent, name }, slot, undefined);
    tree.touchDirectory(parent);
  }

  #directoryGone(path: string): void {
    this.#tree.metadata.forgetTree(this.#tree.location, path);
    this.#tree.recount(path);
  }

  async #refuseNotEmpty(path: string, cause: unknown): Promise<void> {
    let entries = 0;
    await this.#tree.server
      .list(
        path,
        (page) => {
          entries += page.length;
        },
        UNINTERRUPTED,
      )
      .catch(() => undefined);
    if (entries > 0) throw MirageError.system('rmdir', errno.ENOTEMPTY, cause);
  }

  /** A removal whose answer was lost with the connection has happened when the name is gone. Else the failure is thrown. */
  async #wasRemoved({ parent, name }: Place, path: string, error: unknown): Promise<void> {
    const tree = this.#tree;
    const lost = MirageError.is(error) && error.outcomeUnknown;
    const askedAt = tree.now();
    if (lost && (await tree.server.lstat(path, UNINTERRUPTED)) === undefined) return;
    if (MirageError.is(error, 'ENOENT')) tree.heard(parent, name, undefined, askedAt);
    throw error;
  }

  /** A file that is open keeps its bytes: by its handle, or by another name where the server's handles do not last. Resolves with that name. */
  async #prepareRemoval(slot: Slot, path: string): Promise<string | undefined> {
    const tree = this.#tree;
    const node = slot === NONE ? undefined : tree.inUse(slot);
    if (node === undefined || node.handles === 0 || tree.names(slot).length > 1) return undefined;
    if (tree.server.features.handlesOutliveNames) {
      await this.#files.detach(node);
      return undefined;
    }
    const slash = path.lastIndexOf('/');
    const hidden = `${path.slice(0, slash + 1)}${HIDDEN}${randomUUID()}`;
    await tree.server.rename(path, hidden, { replace: false }, UNINTERRUPTED);
    return hidden;
  }

  /** The name is gone from the server: so it is here. Its node may have other names, or handles. */
  #nameGone({ parent, name }: Place, slot: Slot, hidden: string | undefined): void {
    const tree = this.#tree;
    tree.putAbsent(parent, name);
    if (slot === NONE) return;
    const node = tree.inUse(slot);
    tree.table.pin(slot);
    if (node !== undefined && hidden !== undefined) node.hidden = hidden;
    tree.supersede(slot, parent, name, false);
    this.#lessLinks(slot, node);
    tree.table.unpin(slot);
    if (node !== undefined && tree.table.parent(slot) === NONE && node.handles === 0) {
      node.content?.abandon();
      node.timesPending = false;
      tree.unuse(node);
    }
  }

  /** After a name of it went: link count and change time of what is left. */
  #lessLinks(slot: Slot, node: RemoteNode | undefined): void {
    const tree = this.#tree;
    const changed = timestamp(tree.now());
    for (const { parent, name } of tree.names(slot)) {
      const record = tree.entry(parent, name);
      if (record === undefined || record.kind === 'absent') continue;
      const { position: _, ...row } = record;
      tree.put(parent, { ...row, attributes: { ...row.attributes, changed } });
    }
    if (node === undefined) return;
    if (tree.names(slot).length > 0) this.#countLinks(node);
    else {
      node.attributes.nlink = 0;
      node.attributes.changedSeconds = changed.seconds;
      node.attributes.changedNanoseconds = changed.nanoseconds;
    }
  }

  // Moving.

  async rename(from: Place, to: Place, flags: number): Promise<void> {
    const tree = this.#tree;
    const { table } = tree;
    if ((flags & ~RENAME_NOREPLACE) !== 0) throw MirageError.system('rename', errno.EINVAL);
    const moved = table.child(from.parent, from.name);
    const replaced = table.child(to.parent, to.name);
    // Two names of one file: rename(2) leaves both.
    if (moved !== NONE && moved === replaced) return;
    const source = tree.pathOf(from.parent, from.name);
    const target = tree.pathOf(to.parent, to.name);
    if (moved === NONE) await this.#directories.ask(from.parent, from.name);
    const hidden = replaced === NONE ? undefined : await this.#prepareRemoval(replaced, target);
    try {
      await this.#move(source, target, (flags & RENAME_NOREPLACE) === 0);
    } catch (error) {
      await this.#wasMoved(source, target, error);
    }
    this.#moved(from, to, { source, target, moved, replaced, hidden });
  }

  async #move(source: string, target: string, replace: boolean): Promise<void> {
    const { server } = this.#tree;
    if (!replace && !server.features.renameExclusive) {
      if ((await server.lstat(target, UNINTERRUPTED)) !== undefined) {
        throw MirageError.system('rename', errno.EEXIST);
      }
      return server.rename(source, target, { replace: true }, UNINTERRUPTED);
    }
    if (replace && !server.features.renameReplace) {
      // In two steps, as this server knows no other way: for a moment the name is gone.
      const there = await server.lstat(target, UNINTERRUPTED);
      if (there !== undefined) {
        if ((there.mode & S_IFMT) === S_IFDIR) await server.rmdir(target, UNINTERRUPTED);
        else await server.unlink(target, UNINTERRUPTED);
      }
      return server.rename(source, target, { replace: false }, UNINTERRUPTED);
    }
    return server.rename(source, target, { replace }, UNINTERRUPTED);
  }

  /** Throws unless the answer was lost and the move has happened. */
  async #wasMoved(source: string, target: string, error: unknown): Promise<void> {
    const { server } = this.#tree;
    if (MirageError.is(error) && error.outcomeUnknown) {
      const [left, there] = await Promise.all([
        server.lstat(source, UNINTERRUPTED),
        server.lstat(target, UNINTERRUPTED),
      ]);
      if (left === undefined && there !== undefined) return;
    }
    if (isVague(error)) {
      const there = await server.lstat(target, UNINTERRUPTED).catch(() => undefined);
      if (there !== undefined && (there.mode & S_IFMT) === S_IFDIR) await this.#refuseNotEmpty(target, error);
    }
    throw error;
  }

  #moved(
    from: Place,
    to: Place,
    how: { source: string; target: string; moved: Slot; replaced: Slot; hidden: string | undefined },
  ): void {
    const tree = this.#tree;
    const { table, metadata, location } = tree;
    const record = tree.entry(from.parent, from.name);
    const slot = table.child(from.parent, from.name);
    if (slot !== NONE) table.pin(slot);
    if (how.replaced !== NONE) this.#nameGone(to, how.replaced, how.hidden);
    const changed = timestamp(tree.now());
    if (record?.kind === 'directory') {
      metadata.moveDirectory(location, how.source, how.target);
      tree.recount(how.source);
      tree.recount(how.target);
    }
    tree.putAbsent(from.parent, from.name);
    if (record === undefined || record.kind === 'absent') {
      metadata.forget(location, tree.directoryPath(to.parent), to.name);
    } else {
      const { position: _, ...row } = record;
      const ino =
        slot === NONE
          ? (row.ino ?? tree.derivedInodeNumber(from.parent, from.name, row.attributes?.linkGroup))
          : table.ino(slot);
      tree.put(to.parent, {
        ...row,
        name: to.name,
        attributes: { ...row.attributes, changed },
        ino,
        seenAt: tree.now(),
      });
    }
    if (slot !== NONE) {
      table.addName(slot, to.parent, to.name);
      table.removeName(slot, from.parent, from.name);
      const node = tree.inUse(slot);
      if (node !== undefined) {
        node.attributes.changedSeconds = changed.seconds;
        node.attributes.changedNanoseconds = changed.nanoseconds;
      }
      table.unpin(slot);
    }
    tree.directoryMoved();
    tree.touchDirectory(from.parent);
    if (to.parent !== from.parent) tree.touchDirectory(to.parent);
  }
}

/** Answers that say by themselves what is wrong. */
const ANSWERS: readonly string[] = [
  ...['EEXIST', 'ENOENT', 'EACCES', 'EPERM', 'ENOSPC', 'EDQUOT', 'EROFS', 'ENAMETOOLONG', 'ENOTDIR', 'ELOOP'],
  ...['ENOTSUP', 'EOPNOTSUPP', 'EMLINK', 'EHOSTDOWN', 'ETIMEDOUT', 'EINTR', 'ECANCELED'],
];

/** The protocol has one number for many failures. */
const isVague = (error: unknown): boolean => MirageError.is(error, 'EIO');
