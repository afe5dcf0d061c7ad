/**
 * Renaming a directory: every object below is copied, many at a time; then the tree here moves in one step; then the old
 * objects go. While that runs no file of the mount is committed, so no commit meets a key on the move.
 */
import type { ObjectInfo, Precondition, StoredAttributes, Validator } from '../../backends/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import { timestamp } from './attributes-of.js';
import type { Commits } from './commit.js';
import type { Entries } from './entries.js';
import type { Inode } from './inode.js';
import { type Name, NONE, ROOT_SLOT, type Slot } from './inode-table.js';
import type { Nodes } from './nodes.js';

/** Objects copied or removed at the same time. */
const AT_ONCE = 16;

const ANY: Precondition = { kind: 'any' };

interface Moved {
  readonly from: string;
  readonly to: string;
  /** What was copied. */
  readonly source?: Validator | undefined;
  /** Of the copy. */
  readonly validator?: Validator | undefined;
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
    if (!port.features(mount).copy || !port.features(mount).directories) {
      throw new MirageError('the store cannot copy', { errno: 'EXDEV' });
    }
    for (const inode of this.#below(source)) await this.#commits.commit(inode);
    await this.#commits.gate.alone(async () => {
      // Keys are known here: another directory on the move changes them.
      const oldKey = nodes.keyOf(from.parent, from.name);
      const newKey = nodes.keyOf(to.parent, to.name);
      if (target !== NONE) await this.#entries.refuseNotEmpty(target, newKey);
      for (const inode of this.#below(source)) await this.#commits.commitNow(inode);
      const copied: Moved[] = [];
      const folders: Moved[] = [];
      const directory = nodes.use(source);
      nodes.touchChanged(directory);
      let made: ObjectInfo;
      try {
        made = await this.#commits.makeMarker(newKey, nodes.stored(directory));
        await this.#copyBelow(oldKey, newKey, copied, folders);
      } catch (error) {
        await this.#remove(
          copied.map(({ to: key, validator }) => ({ key, validator })),
          folders.map(({ to: key }) => key),
        ).catch(() => undefined);
        if (target === NONE) await port.removeDirectory(mount, newKey).catch(() => undefined);
        this.#commits.rest(directory);
        throw error;
      }
      this.#switch(directory, from, target, to, oldKey, newKey, made, copied);
      try {
        await this.#carryContent(source);
        await this.#remove(
          copied.map(({ from: key, source: validator }) => ({ key, validator })),
          [...folders.map(({ from: key }) => key), oldKey],
        );
      } finally {
        this.#commits.rest(directory);
      }
    });
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

  async #copyBelow(from: string, to: string, copied: Moved[], folders: Moved[]): Promise<void> {
    const { port, mount } = this.#nodes;
    let cursor: string | undefined;
    do {
      const page = await port.list(mount, from, cursor);
      const below: Moved[] = [];
      await eachOf(
        page.entries.filter((info) => info.key !== from),
        async (info) => {
          const moved = { from: info.key, to: to + info.key.slice(from.length) };
          if (info.kind === 'directory') {
            folders.push(moved);
            below.push(moved);
            await this.#copyMarker(info.key, moved.to);
            return;
          }
          const { validator } = await this.#copyObject(info, moved.to);
          copied.push({ ...moved, source: info.validator, validator });
        },
      );
      for (const folder of below) await this.#copyBelow(folder.from, folder.to, copied, folders);
      cursor = page.cursor;
    } while (cursor !== undefined);
  }

  #copyObject(info: ObjectInfo, to: string): Promise<ObjectInfo> {
    const { port, mount } = this.#nodes;
    const absent = port.capabilities(mount).preconditions.copyAbsent;
    return port.copy(mount, {
      from: info.key,
      to,
      ...(info.validator === undefined ? {} : { match: info.validator }),
      precondition: absent ? { kind: 'absent' } : { kind: 'any' },
    });
  }

  async #copyMarker(from: string, to: string): Promise<void> {
    const { port, mount } = this.#nodes;
    const attributes = await this.#markerAttributes(from);
    if (attributes !== undefined) await port.createDirectory(mount, to, attributes);
  }

  async #markerAttributes(key: string): Promise<StoredAttributes | undefined> {
    const { port, mount } = this.#nodes;
    const info = await port.stat(mount, key);
    return info?.kind === 'directory' && info.validator !== undefined ? (info.attributes ?? {}) : undefined;
  }

  /** Here the tree moves in one step. */
  #switch(
    directory: Inode,
    from: Name,
    target: Slot,
    to: Name,
    oldKey: string,
    newKey: string,
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
    directory.setBase(to.parent, to.name, made.validator);
    nodes.directoryMoved();
    metadata.moveDirectory(location, oldKey, newKey);
    nodes.putAbsent(from.parent, from.name);
    directory.storeModified = timestamp(nodes.now());
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
        if (validators.has(key)) inode.setBase(parent, name, validators.get(key));
      }
    }
  }

  /** What another host has written meanwhile stays where it is, with the directories that hold it. */
  async #remove(
    objects: readonly { readonly key: string; readonly validator: Validator | undefined }[],
    folders: readonly string[],
  ): Promise<void> {
    const { port, mount, context } = this.#nodes;
    await eachOf(objects, async ({ key, validator }) => {
      const condition = validator === undefined ? ANY : this.#commits.precondition(validator);
      await port.remove(mount, key, condition).catch((error: unknown) => {
        if (!MirageError.is(error, 'ESTALE') && !MirageError.is(error, 'ENOENT')) throw error;
        context.log.warn('another host wrote below a directory while it was renamed; its object stays', {
          key,
        });
      });
    });
    // The deepest first: a store with real directories removes empty ones only.
    for (const key of [...folders].sort((left, right) => right.length - left.length)) {
      await port.removeDirectory(mount, key).catch((error: unknown) => {
        if (!MirageError.is(error, 'ENOTEMPTY')) throw error;
      });
    }
  }
}

async function eachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) await work(items[next++] as T);
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
}
