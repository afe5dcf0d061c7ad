/**
 * Renaming a directory: every object below is copied, many at a time; then the tree here moves in one step; then the old
 * objects go. While that runs no file of the mount is committed, so no commit meets a key on the move.
 */
import type { ObjectInfo, Validator } from '../../backends/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import { timestamp } from '../inodes/attributes-of.js';
import { type Name, NONE, ROOT_SLOT, type Slot } from '../inodes/inode-table.js';
import type { Commits } from './commit.js';
import type { Entries } from './entries.js';
import type { Inode } from './inode.js';
import { type Copied, type Moved, TreeMover } from './journal/tree-mover.js';
import type { WriteBehind } from './journal/write-behind.js';
import type { Nodes } from './nodes.js';

interface Move {
  readonly directory: Inode;
  readonly from: Name;
  readonly target: Slot;
  readonly to: Name;
  readonly oldKey: string;
  readonly newKey: string;
}

export class TreeMoves {
  readonly #nodes: Nodes;
  readonly #commits: Commits;
  readonly #entries: Entries;

  constructor(nodes: Nodes, commits: Commits, entries: Entries) {
    this.#nodes = nodes;
    this.#commits = commits;
    this.#entries = entries;
  }

  /** A directory cannot move below itself, whatever is there: said before anything about the target. */
  refuseIntoItself(source: Slot, to: Name): void {
    const { table } = this.#nodes;
    for (let slot = to.parent; slot !== ROOT_SLOT; slot = table.parent(slot)) {
      if (slot === source) throw new MirageError('a directory into itself', { errno: 'EINVAL' });
      if (slot === NONE) throw new MirageError('the directory was removed', { errno: 'ENOENT' });
    }
  }

  async rename(source: Slot, from: Name, target: Slot, to: Name): Promise<void> {
    const nodes = this.#nodes;
    const { port, mount } = nodes;
    const features = port.features(mount);
    if (!features.rename && (!features.copy || !features.directories)) {
      throw new MirageError('the store cannot copy', { errno: 'EXDEV' });
    }
    for (const inode of this.#below(source)) await this.#commits.commit(inode);
    await this.#commits.gate.alone(async () => {
      // Keys are known here: another directory on the move changes them.
      const oldKey = nodes.keyOf(from.parent, from.name);
      const newKey = nodes.keyOf(to.parent, to.name);
      if (target !== NONE) await this.#entries.refuseNotEmpty(target, newKey);
      for (const inode of this.#below(source)) await this.#commits.commitNow(inode);
      const directory = nodes.use(source);
      nodes.touchChanged(directory);
      const move = { directory, from, target, to, oldKey, newKey };
      try {
        if (nodes.writeBehind?.async === true) await this.#journaled(nodes.writeBehind, move);
        else if (features.rename) await this.#renamedInStore(move);
        else await this.#carriedOut(move);
      } finally {
        this.#commits.rest(directory);
      }
    });
  }

  /** The journal answers for all that is below. */
  async #journaled(writeBehind: WriteBehind, move: Move): Promise<void> {
    const attributes = this.#nodes.stored(move.directory);
    const made = await writeBehind.moveTree(move.oldKey, move.newKey, attributes);
    this.#switch(move, made, []);
    await this.#carryContent(move.directory.slot);
  }

  /** One step of the store: what is below keeps its versions. */
  async #renamedInStore(move: Move): Promise<void> {
    const { port, mount } = this.#nodes;
    const { directory, from, oldKey, newKey } = move;
    await port.rename(mount, oldKey, newKey);
    const validator = directory.base(from.parent, from.name);
    const modified = directory.storeModified(from.parent, from.name);
    this.#switch(
      move,
      {
        key: newKey,
        kind: 'directory',
        size: 0,
        modified,
        validator,
        attributes: this.#nodes.stored(directory),
      },
      [],
    );
    await this.#carryContent(directory.slot);
  }

  async #carriedOut(move: Move): Promise<void> {
    const { port, mount, context, options, writeBehind } = this.#nodes;
    const { directory, target, oldKey, newKey } = move;
    const attributes = this.#nodes.stored(directory);
    const mover = new TreeMover(port, mount, context.log, options.conflicts !== 'lastWriterWins');
    const copied: Copied = { objects: [], folders: [] };
    const begun = await writeBehind?.beginMoveTree(oldKey, newKey, attributes);
    let made: ObjectInfo;
    try {
      made = await mover.makeMarker(newKey, attributes);
      await mover.copy(oldKey, newKey, copied);
    } catch (error) {
      await mover
        .remove(
          copied.objects.map(({ to: key, validator }) => ({ key, validator })),
          copied.folders.map(({ to: key }) => key),
        )
        .catch(() => undefined);
      if (target === NONE) await port.removeDirectory(mount, newKey).catch(() => undefined);
      begun?.end();
      throw error;
    }
    this.#switch(move, made, copied.objects);
    await this.#carryContent(directory.slot);
    // Where this fails the journal still has it, and the next start goes on.
    await mover.remove(
      copied.objects.map(({ from: key, source: validator }) => ({ key, validator })),
      [...copied.folders.map(({ from: key }) => key), oldKey],
    );
    begun?.end();
  }

  /** Inodes in use below a directory whose state the store does not have. */
  #below(directory: Slot): Inode[] {
    return [...this.#nodes.allInUse()].filter(
      (inode) => (inode.needsCommit || inode.needsAttributes) && this.#isBelow(inode.slot, directory),
    );
  }

  /** Files that are open below the directory read on under the new keys. */
  async #carryContent(directory: Slot): Promise<void> {
    for (const inode of [...this.#nodes.allInUse()]) {
      const [name] = this.#nodes.table.names(inode.slot);
      if (name !== undefined && inode.clean !== undefined && this.#isBelow(inode.slot, directory)) {
        await this.#nodes.relabel(inode, name);
      }
    }
  }

  #isBelow(slot: Slot, directory: Slot): boolean {
    const { table } = this.#nodes;
    for (let at = table.parent(slot); at !== NONE && at !== ROOT_SLOT; at = table.parent(at)) {
      if (at === directory) return true;
    }
    return false;
  }

  /** Here the tree moves in one step. */
  #switch(
    { directory, from, target, to, oldKey, newKey }: Move,
    made: ObjectInfo,
    copied: readonly Moved[],
  ): void {
    const nodes = this.#nodes;
    const { table, metadata, location } = nodes;
    const replaced = target === NONE ? undefined : nodes.inUse(target);
    if (target !== NONE) {
      table.removeName(target, to.parent, to.name);
      if (replaced !== undefined) {
        replaced.attributes.nlink = 0;
        this.#commits.forget(replaced);
        this.#commits.rest(replaced);
      }
      metadata.forgetTree(location, newKey);
    }
    directory.setBase(from.parent, from.name, undefined);
    table.removeName(directory.slot, from.parent, from.name);
    table.addName(directory.slot, to.parent, to.name);
    directory.setBase(to.parent, to.name, { validator: made.validator, modified: timestamp(nodes.now()) });
    nodes.directoryMoved();
    metadata.moveDirectory(location, oldKey, newKey);
    nodes.putAbsent(from.parent, from.name);
    nodes.publish(directory, true);
    this.#commits.forget(directory);
    nodes.touchDirectory(from.parent);
    if (to.parent !== from.parent) nodes.touchDirectory(to.parent);
    const validators = new Map<string, Validator | undefined>();
    for (const { from: key, to: now, validator } of copied) {
      validators.set(now, validator);
      nodes.moved(now, validator);
      nodes.content.drop(nodes.mount, key);
    }
    for (const inode of nodes.allInUse()) {
      for (const { parent, name } of inode.kind === 'file' ? table.names(inode.slot) : []) {
        const key = nodes.keyOf(parent, name);
        if (!validators.has(key)) continue;
        const modified = inode.storeModified(parent, name);
        inode.setBase(parent, name, { validator: validators.get(key), modified });
      }
    }
  }
}
