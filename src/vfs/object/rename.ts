/**
 * rename(2) over a store that has none: conditional copy, then conditional remove. On this mount the tree shows the old name or the
 * new one, never both; other hosts may see both for a moment, never neither.
 */
import { randomUUID } from 'node:crypto';
import type { ObjectInfo, Validator } from '../../backends/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { CopyRequest } from '../../ports/store-port.js';
import { S_IFDIR } from '../attributes.js';
import { type Name, NONE, type Slot } from '../inodes/inode-table.js';
import { type ByteString, RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } from '../operations.js';
import type { Commits } from './commit.js';
import type { Copies } from './copies.js';
import type { Directories } from './directory.js';
import type { Entries } from './entries.js';
import type { Inode } from './inode.js';
import type { Nodes } from './nodes.js';
import type { OpenFiles } from './open-files.js';
import type { TreeMoves } from './rename-tree.js';

export class Moves {
  readonly #nodes: Nodes;
  readonly #directories: Directories;
  readonly #commits: Commits;
  readonly #copies: Copies;
  readonly #files: OpenFiles;
  readonly #entries: Entries;
  readonly #trees: TreeMoves;

  constructor(
    nodes: Nodes,
    directories: Directories,
    commits: Commits,
    copies: Copies,
    files: OpenFiles,
    entries: Entries,
    trees: TreeMoves,
  ) {
    this.#nodes = nodes;
    this.#directories = directories;
    this.#commits = commits;
    this.#copies = copies;
    this.#files = files;
    this.#entries = entries;
    this.#trees = trees;
  }

  async rename(from: Name, to: Name, flags: number): Promise<void> {
    if ((flags & RENAME_WHITEOUT) !== 0 || flags === (RENAME_NOREPLACE | RENAME_EXCHANGE)) {
      throw new MirageError('rename flags', { errno: 'EINVAL' });
    }
    const nodes = this.#nodes;
    nodes.keyOf(to.parent, to.name);
    const source = await this.#find(from);
    if (source === NONE) throw new MirageError(`${from.name}: no such file`, { errno: 'ENOENT' });
    const target = await this.#find(to);
    if (target !== NONE && (flags & RENAME_NOREPLACE) !== 0) throw refused(to.name, 'EEXIST');
    if ((flags & RENAME_EXCHANGE) !== 0) return this.#exchange(from, source, to, target);
    if (source === target) return;
    const moves = nodes.table.type(source) === S_IFDIR;
    if (moves) this.#trees.refuseIntoItself(source, to);
    if (target !== NONE) {
      const replaces = nodes.table.type(target) === S_IFDIR;
      if (moves && !replaces) throw refused(to.name, 'ENOTDIR');
      if (!moves && replaces) throw refused(to.name, 'EISDIR');
    }
    nodes.table.pin(source);
    if (target !== NONE) nodes.table.pin(target);
    try {
      if (moves) await this.#trees.rename(source, from, target, to);
      else await this.#renameFile(source, from, target, to);
    } finally {
      nodes.table.unpin(source);
      if (target !== NONE) nodes.table.unpin(target);
    }
    await this.#entries.keepDirectory(from.parent);
  }

  /** The node of a name, by what is known or by asking. */
  async #find({ parent, name }: Name): Promise<Slot> {
    const nodes = this.#nodes;
    const slot = nodes.table.child(parent, name);
    if (slot !== NONE && nodes.inUse(slot)?.holdsTruth === true) return slot;
    let record = nodes.entry(parent, name);
    const fresh =
      record === undefined
        ? this.#directories.isComplete(nodes.directoryKey(parent))
        : nodes.validFor(record.seenAt) > 0;
    if (!fresh) {
      await this.#directories.ask(parent, name);
      record = nodes.entry(parent, name);
    }
    return record === undefined || record.kind === 'absent' ? NONE : nodes.enter(parent, name, record);
  }

  async #renameFile(source: Slot, from: Name, target: Slot, to: Name): Promise<void> {
    const nodes = this.#nodes;
    const inode = nodes.use(source);
    const replaced = target === NONE ? undefined : nodes.use(target);
    try {
      const move = async () => {
        nodes.touchChanged(inode);
        const changes = inode.attributesChanged;
        const info = await this.#moveObject(inode, from, to, replaced?.base(to.parent, to.name));
        // The other names of a hard link have what they had.
        if (nodes.table.names(source).length === 1) {
          inode.attributesSaved = Math.max(inode.attributesSaved, changes);
        }
        const oldKey = nodes.keyOf(from.parent, from.name);
        this.#renamed(inode, from, replaced, to, info);
        const [first] = nodes.table.names(source);
        if (first !== undefined) await nodes.relabel(inode, first);
        nodes.content.drop(nodes.mount, oldKey);
      };
      await this.#inTurns([inode, replaced], () =>
        replaced !== undefined && nodes.table.names(target).length === 1
          ? this.#files.detached(replaced, move)
          : move(),
      );
    } finally {
      if (replaced !== undefined) this.#commits.rest(replaced);
      this.#commits.rest(inode);
    }
  }

  /** The object goes from one key to the other, by one change where there is a journal that answers for it. */
  async #moveObject(inode: Inode, from: Name, to: Name, target: Validator | undefined): Promise<ObjectInfo> {
    const nodes = this.#nodes;
    const { writeBehind } = nodes;
    const base = inode.base(from.parent, from.name);
    const native = nodes.port.features(nodes.mount).rename && !inode.needsCommit && base !== undefined;
    if (native && writeBehind?.async !== true) return this.#renameInStore(inode, from, to, target, base);
    if (writeBehind === undefined) return this.#copyAndRemove(inode, from, to, target, randomUUID());
    const single = nodes.table.names(inode.slot).length === 1;
    if (writeBehind.async) {
      if (inode.needsCommit && single) await this.#commits.commitNow(inode);
      const match = inode.base(from.parent, from.name);
      if (match === undefined) return this.#copyAndRemove(inode, from, to, target, randomUUID());
      return writeBehind.move(this.#request(inode, from, to, target, randomUUID()));
    }
    const writer = randomUUID();
    const begun = inode.needsCommit
      ? undefined
      : writeBehind.beginMove(this.#request(inode, from, to, target, writer));
    try {
      return await this.#copyAndRemove(inode, from, to, target, writer);
    } finally {
      begun?.end();
    }
  }

  /** One step of the store, after which the object is the version that it was. What it replaces is what was seen here. */
  async #renameInStore(
    inode: Inode,
    from: Name,
    to: Name,
    target: Validator | undefined,
    validator: Validator,
  ): Promise<ObjectInfo> {
    const nodes = this.#nodes;
    const { port, mount } = nodes;
    const key = nodes.keyOf(to.parent, to.name);
    if (this.#commits.precondition(target).kind !== 'any') {
      const found = await this.#directories.askStore(to.parent, to.name);
      if (found?.validator !== target) {
        throw new MirageError(`${to.name} was changed by another host`, { errno: 'EBUSY' });
      }
    }
    await port.rename(mount, nodes.keyOf(from.parent, from.name), key);
    return {
      key,
      kind: 'file',
      size: inode.attributes.size,
      modified: inode.storeModified(from.parent, from.name),
      validator,
      attributes: nodes.stored(inode),
    };
  }

  #request(inode: Inode, from: Name, to: Name, target: Validator | undefined, writer: string): CopyRequest {
    const nodes = this.#nodes;
    const match = inode.base(from.parent, from.name);
    return {
      from: nodes.keyOf(from.parent, from.name),
      to: nodes.keyOf(to.parent, to.name),
      ...(match !== undefined && { match }),
      precondition: this.#commits.precondition(target),
      attributes: nodes.stored(inode, writer),
      size: inode.attributes.size,
    };
  }

  async #copyAndRemove(
    inode: Inode,
    from: Name,
    to: Name,
    target: Validator | undefined,
    writer: string,
  ): Promise<ObjectInfo> {
    const info = await this.#bring(inode, from, to, target, writer);
    const base = inode.base(from.parent, from.name);
    try {
      if (base !== undefined) await this.#entries.removeObject(from.parent, from.name, base);
    } catch (error) {
      // The name stays, and what was written may be under the other one only.
      if (inode.staged !== undefined) inode.mustCommit = true;
      await this.#directories.askStore(to.parent, to.name).catch(() => undefined);
      throw error;
    }
    return info;
  }

  #inTurns(inodes: readonly (Inode | undefined)[], work: () => Promise<void>): Promise<void> {
    // One order for all, so that two renames cannot wait for each other.
    const [first, second] = inodes
      .filter((inode) => inode !== undefined)
      .sort((left, right) => left.slot - right.slot);
    const inside = () => this.#commits.gate.together(work);
    const nested = second === undefined ? inside : () => second.turn.run(inside);
    return first === undefined ? nested() : first.turn.run(nested);
  }

  /** The content under the new name: what is being written goes there at once, what is at rest is copied. */
  async #bring(
    inode: Inode,
    from: Name,
    to: Name,
    target: Validator | undefined,
    writer: string,
  ): Promise<ObjectInfo> {
    const single = this.#nodes.table.names(inode.slot).length === 1;
    if (inode.needsCommit && !single) await this.#commits.commitNow(inode);
    const attributes = this.#nodes.stored(inode, writer);
    try {
      const { staged } = inode;
      if (staged === undefined || !inode.needsCommit) {
        return await this.#copies.copy(inode, from, to, target, attributes);
      }
      await inode.revalidation;
      const info = await staged.commit((fd, size) =>
        this.#commits.putContent(inode, to, target, { fd, size, attributes }),
      );
      inode.mustCommit = false;
      return info;
    } catch (error) {
      if (!MirageError.is(error, 'ESTALE')) throw error;
      await this.#directories.askStore(to.parent, to.name);
      throw new MirageError(`${to.name} was changed by another host`, { errno: 'EBUSY', cause: error });
    }
  }

  /** The store is done: here the name moves in one step. */
  #renamed(inode: Inode, from: Name, replaced: Inode | undefined, to: Name, info: ObjectInfo): void {
    const nodes = this.#nodes;
    const { table } = nodes;
    if (replaced !== undefined) {
      replaced.setBase(to.parent, to.name, undefined);
      table.removeName(replaced.slot, to.parent, to.name);
    }
    inode.setBase(from.parent, from.name, undefined);
    table.removeName(inode.slot, from.parent, from.name);
    table.addName(inode.slot, to.parent, to.name);
    inode.setBase(to.parent, to.name, info);
    nodes.putAbsent(from.parent, from.name);
    nodes.publish(inode, true);
    if (replaced !== undefined) this.#entries.lessLinks(replaced.slot);
    nodes.touchDirectory(from.parent);
    if (to.parent !== from.parent) nodes.touchDirectory(to.parent);
  }

  /** RENAME_EXCHANGE of two files with one name each: both contents are written across, each on its condition. */
  async #exchange(from: Name, source: Slot, to: Name, target: Slot): Promise<void> {
    const nodes = this.#nodes;
    if (target === NONE) throw refused(to.name, 'ENOENT');
    if (source === target) return;
    const left = nodes.use(source);
    const right = nodes.use(target);
    const single = (slot: Slot) => nodes.table.names(slot).length === 1;
    if (left.kind !== 'file' || right.kind !== 'file' || !single(source) || !single(target)) {
      throw refused(to.name, 'EINVAL');
    }
    try {
      await this.#inTurns([left, right], () => this.#exchanged(left, from, right, to));
    } finally {
      this.#commits.rest(left);
      this.#commits.rest(right);
    }
  }

  async #exchanged(left: Inode, from: Name, right: Inode, to: Name): Promise<void> {
    const nodes = this.#nodes;
    await this.#commits.commitNow(left);
    await this.#commits.commitNow(right);
    // All of both is here before the first of them is overwritten.
    for (const inode of [left, right]) {
      await (inode.staged ?? this.#copies.clean(inode)).ensureAll(new AbortController().signal);
      nodes.touchChanged(inode);
    }
    const leftBase = left.base(from.parent, from.name);
    const there = await this.#put(left, to, right.base(to.parent, to.name));
    const here = await this.#put(right, from, leftBase).catch(async (error: unknown) => {
      // What was under the other name is nowhere but here now: back with it, sooner or later.
      right.staged ??= nodes.content.stage({ file: this.#copies.clean(right), size: right.attributes.size });
      right.mustCommit = true;
      right.setBase(to.parent, to.name, there);
      if (left.staged !== undefined) left.mustCommit = true;
      await this.#commits.commitNow(right);
      throw error;
    });
    const { table } = nodes;
    for (const [inode, old, now, info] of [
      [left, from, to, there],
      [right, to, from, here],
    ] as const) {
      inode.setBase(old.parent, old.name, undefined);
      table.removeName(inode.slot, old.parent, old.name);
      inode.setBase(now.parent, now.name, info);
    }
    table.addName(left.slot, to.parent, to.name);
    table.addName(right.slot, from.parent, from.name);
    for (const [inode, now] of [
      [left, to],
      [right, from],
    ] as const) {
      nodes.publish(inode, true);
      nodes.touchDirectory(now.parent);
      await nodes.relabel(inode, now);
    }
  }

  /** An inode's content under another name; what is staged does not change while it is sent. */
  async #put(inode: Inode, name: Name, base: Validator | undefined): Promise<ObjectInfo> {
    const attributes = this.#nodes.stored(inode, randomUUID());
    if (inode.staged !== undefined) {
      return inode.staged.commit((fd, size) =>
        this.#commits.putContent(inode, name, base, { fd, size, attributes }),
      );
    }
    return this.#commits.putContent(inode, name, base, {
      ...(await this.#copies.wholeFile(inode)),
      attributes,
    });
  }
}

export const refused = (
  name: ByteString,
  errno: 'EEXIST' | 'ENOTDIR' | 'EISDIR' | 'ENOENT' | 'EINVAL' | 'ENOTEMPTY',
): MirageError => new MirageError(`rename to ${name}`, { errno });
