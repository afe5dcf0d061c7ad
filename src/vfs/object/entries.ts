/** Names that come and go: directories, symlinks, special files; unlink and rmdir. All of it is in the store when answered. */
import { randomUUID } from 'node:crypto';
import { writeSync } from 'node:fs';
import type { Validator } from '../../backends/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import { S_IFDIR, S_IFLNK } from '../attributes.js';
import { allowedMode, setSize, timestamp, touchChanged } from '../inodes/attributes-of.js';
import { NONE, type Slot } from '../inodes/inode-table.js';
import type { ByteString, Call, EntryAnswer } from '../operations.js';
import type { Commits } from './commit.js';
import type { Directories } from './directory.js';
import type { Inode, StoredVersion } from './inode.js';
import type { Nodes } from './nodes.js';
import type { OpenFiles } from './open-files.js';

export class Entries {
  readonly #nodes: Nodes;
  readonly #directories: Directories;
  readonly #commits: Commits;
  readonly #files: OpenFiles;

  constructor(nodes: Nodes, directories: Directories, commits: Commits, files: OpenFiles) {
    this.#nodes = nodes;
    this.#directories = directories;
    this.#commits = commits;
    this.#files = files;
  }

  // Making.

  mknod(call: Call, parent: Slot, name: ByteString, mode: number, rdev: number): Promise<EntryAnswer> {
    return this.#makeObject(call, parent, name, allowedMode(mode, this.#nodes.context), rdev, undefined);
  }

  symlink(call: Call, parent: Slot, name: ByteString, target: ByteString): Promise<EntryAnswer> {
    return this.#makeObject(call, parent, name, S_IFLNK | 0o777, 0, target);
  }

  async #makeObject(
    call: Call,
    parent: Slot,
    name: ByteString,
    mode: number,
    rdev: number,
    target: ByteString | undefined,
  ): Promise<EntryAnswer> {
    const nodes = this.#nodes;
    nodes.keyOf(parent, name);
    await this.#refuseExisting(parent, name);
    const inode = nodes.make(NONE, name, (attributes) => {
      attributes.mode = mode;
      attributes.rdev = rdev;
      nodes.own(attributes, call, parent);
      setSize(attributes, target?.length ?? 0);
    });
    const staged = nodes.content.stage();
    inode.staged = staged;
    try {
      if (target !== undefined) {
        await staged.prepareWrite(0, target.length, NEVER);
        writeSync(staged.fd, Buffer.from(target, 'latin1'), 0, target.length, 0);
        staged.wrote(0, target.length);
      }
      const attributes = nodes.stored(inode, randomUUID());
      const info = await this.#commits.gate.together(() =>
        staged.commit((fd, size) =>
          this.#commits.putContent(inode, { parent, name }, undefined, { fd, size, attributes }),
        ),
      );
      this.#named(inode, parent, name, info);
      nodes.publish(inode, true);
    } catch (error) {
      this.#commits.rest(inode);
      if (!MirageError.is(error, 'ESTALE')) throw error;
      await this.#directories.askStore(parent, name);
      throw exists(name, error);
    }
    const answer = nodes.made(inode.slot);
    this.#commits.rest(inode);
    return answer;
  }

  /** Gives a node that was made without a name its name. */
  #named(inode: Inode, parent: Slot, name: ByteString, version: StoredVersion): void {
    this.#nodes.displace(parent, name);
    this.#nodes.table.addName(inode.slot, parent, name);
    inode.setBase(parent, name, version);
    this.#nodes.touchDirectory(parent);
  }

  async #refuseExisting(parent: Slot, name: ByteString): Promise<void> {
    const known = this.#nodes.entry(parent, name);
    if (known !== undefined && known.kind !== 'absent' && this.#nodes.validFor(known.seenAt) === 0) {
      await this.#directories.ask(parent, name);
    }
    const record = this.#nodes.entry(parent, name);
    if (record !== undefined && record.kind !== 'absent') throw exists(name);
  }

  async mkdir(call: Call, parent: Slot, name: ByteString, mode: number): Promise<EntryAnswer> {
    const nodes = this.#nodes;
    const { port, mount } = nodes;
    nodes.keyOf(parent, name);
    if (!port.features(mount).directories) {
      throw new MirageError('the store has no directories', { errno: 'ENOTSUP' });
    }
    await this.#refuseExisting(parent, name);
    const inode = nodes.make(NONE, name, (attributes) => {
      attributes.mode = S_IFDIR | (mode & 0o7777);
      attributes.nlink = 2;
      setSize(attributes, 4096);
      nodes.own(attributes, call, parent);
    });
    try {
      // The key is known behind the gate: while a directory above moved, it was another one.
      const info = await this.#commits.gate
        .together(() =>
          port.createDirectory(mount, nodes.keyOf(parent, name), nodes.stored(inode, randomUUID())),
        )
        .catch(async (error: unknown) => {
          if (MirageError.is(error, 'EEXIST')) await this.#directories.askStore(parent, name);
          throw error;
        });
      this.#named(inode, parent, name, info);
      nodes.publish(inode, true);
      const key = nodes.keyOf(parent, name);
      nodes.metadata.markComplete(nodes.location, key, nodes.now());
      nodes.recount(key);
      return nodes.made(inode.slot);
    } finally {
      this.#commits.rest(inode);
    }
  }

  // Removing.

  async unlink(parent: Slot, name: ByteString): Promise<void> {
    const nodes = this.#nodes;
    const slot = nodes.table.child(parent, name);
    const record = nodes.entry(parent, name);
    if (slot === NONE && (record === undefined || record.kind === 'absent')) {
      throw new MirageError(`${name}: no such file`, { errno: 'ENOENT' });
    }
    // A hard link that nobody uses needs no bytes of its own: others keep them.
    const known =
      record !== undefined && record.kind !== 'absent' && record.attributes?.linkGroup === undefined;
    const inode = slot === NONE ? undefined : known ? nodes.use(slot) : nodes.inUse(slot);
    const work = () =>
      this.#commits.gate.together(async () => {
        const base = inode === undefined ? record?.validator : inode.base(parent, name);
        const last = nodes.table.names(slot).length === 1;
        const remove = async () => {
          if (base !== undefined) await this.removeObject(parent, name, base);
          this.nameGone(parent, name, slot);
        };
        if (inode !== undefined && (last || inode.staged !== undefined)) {
          await this.#files.detached(inode, remove);
        } else await remove();
        // What is still to be fetched is under a name that is left.
        const [left] = inode === undefined ? [] : nodes.table.names(slot);
        if (inode !== undefined && left !== undefined) await nodes.relabel(inode, left);
      });
    try {
      await (inode === undefined ? work() : inode.turn.run(work));
    } finally {
      if (inode !== undefined) this.#commits.rest(inode);
    }
    await this.keepDirectory(parent);
  }

  /** Removes one object. A lost race is EBUSY: ESTALE would make the kernel try once more by itself. */
  async removeObject(parent: Slot, name: ByteString, base: Validator): Promise<void> {
    const nodes = this.#nodes;
    const { port, mount } = nodes;
    const key = nodes.keyOf(parent, name);
    const conditional =
      port.capabilities(mount).preconditions.removeMatch && nodes.options.conflicts !== 'lastWriterWins';
    try {
      await port.remove(mount, key, conditional ? { kind: 'match', validator: base } : { kind: 'any' });
    } catch (error) {
      if (MirageError.is(error, 'ENOENT')) return;
      if (!MirageError.is(error, 'ESTALE')) throw error;
      await this.#directories.askStore(parent, name);
      throw new MirageError(`${key} was changed by another host`, { errno: 'EBUSY', cause: error });
    }
  }

  /** The name is gone from the store: so it is here. Its node may have other names, or handles. */
  nameGone(parent: Slot, name: ByteString, slot: Slot): void {
    const nodes = this.#nodes;
    const { table } = nodes;
    nodes.putAbsent(parent, name);
    nodes.touchDirectory(parent);
    if (slot === NONE) return;
    table.pin(slot);
    const inode = nodes.inUse(slot);
    inode?.setBase(parent, name, undefined);
    table.removeName(slot, parent, name);
    this.lessLinks(slot);
    table.unpin(slot);
  }

  /** After a name of it went: link count and change time of what is left. */
  lessLinks(slot: Slot): void {
    const nodes = this.#nodes;
    const names = nodes.table.names(slot).length;
    const known = nodes.inUse(slot);
    if (names === 0) {
      if (known === undefined) return;
      known.attributes.nlink = 0;
      nodes.touchChanged(known);
      this.#commits.forget(known);
      return;
    }
    const record = nodes.record(slot);
    if (record === undefined || record.kind === 'absent') return;
    const inode = nodes.use(slot);
    inode.attributes.nlink = nodes.linkCount(record);
    touchChanged(inode.attributes, timestamp(nodes.now()));
    // Not worth a write to the store: the object left over did not change.
    nodes.publish(inode);
    this.#commits.rest(inode);
  }

  async rmdir(parent: Slot, name: ByteString): Promise<void> {
    const nodes = this.#nodes;
    const { port, mount, table } = nodes;
    const record = nodes.entry(parent, name);
    const slot = table.child(parent, name);
    if (slot === NONE && (record === undefined || record.kind === 'absent')) {
      throw new MirageError(`${name}: no such directory`, { errno: 'ENOENT' });
    }
    if ((slot === NONE ? record?.kind === 'directory' : table.type(slot) === S_IFDIR) === false) {
      throw new MirageError(`${name}: not a directory`, { errno: 'ENOTDIR' });
    }
    await this.#commits.gate.together(async () => {
      const key = nodes.keyOf(parent, name);
      // A store that is told later cannot say it now.
      if (nodes.writeBehind?.async === true) await this.#refuseNotEmptyHere(slot, key);
      else this.#refuseUncommitted(slot, key);
      await port.removeDirectory(mount, key);
      nodes.metadata.forgetTree(nodes.location, key);
      nodes.recount(key);
      this.nameGone(parent, name, slot);
    });
    await this.keepDirectory(parent);
  }

  /** ENOTEMPTY by the store's own word, and by what is not committed yet. */
  async refuseNotEmpty(slot: Slot, key: string): Promise<void> {
    const { port, mount } = this.#nodes;
    this.#refuseUncommitted(slot, key);
    let cursor: string | undefined;
    do {
      const page = await port.list(mount, key, cursor);
      if (page.entries.some((entry) => entry.key !== key)) throw notEmpty(key);
      cursor = page.cursor;
    } while (cursor !== undefined);
  }

  /** ENOTEMPTY by a fresh listing where there is one, else by the store's word. */
  async #refuseNotEmptyHere(slot: Slot, key: string): Promise<void> {
    const { metadata, location } = this.#nodes;
    if (!this.#directories.isComplete(key)) return this.refuseNotEmpty(slot, key);
    if (metadata.entries(location, key, 0, 1).length > 0) throw notEmpty(key);
  }

  /** What is in a directory and not in the store. */
  #refuseUncommitted(slot: Slot, key: string): void {
    const { table } = this.#nodes;
    for (const inode of this.#nodes.allInUse()) {
      if (inode.needsCommit && table.names(inode.slot).some(({ parent }) => parent === slot))
        throw notEmpty(key);
    }
  }

  /**
   * A directory that exists only by what is in it would go with its last entry: it gets a marker of its own. What made it empty has
   * happened, so that a failure is for the log.
   */
  async keepDirectory(slot: Slot): Promise<void> {
    const nodes = this.#nodes;
    const { port, mount, table, metadata, location } = nodes;
    if (table.parent(slot) === slot || table.parent(slot) === NONE) return;
    const record = nodes.record(slot);
    if (record === undefined || record.kind !== 'directory' || record.validator !== undefined) return;
    if (!port.features(mount).directories) return;
    const key = nodes.directoryKey(slot);
    if (metadata.entries(location, key, 0, 1).length > 0) return;
    const inode = nodes.use(slot);
    try {
      const info = await this.#commits.makeMarker(key, nodes.stored(inode));
      inode.setBase(table.parent(slot), table.name(slot), info);
      nodes.publish(inode, true);
    } catch (error) {
      nodes.context.log.error('an empty directory could not be kept in the store', {
        key,
        reason: String(error),
      });
    } finally {
      this.#commits.rest(inode);
    }
  }
}

const NEVER = new AbortController().signal;

const notEmpty = (key: string): MirageError => new MirageError(`${key} is not empty`, { errno: 'ENOTEMPTY' });

const exists = (name: ByteString, cause?: unknown): MirageError =>
  new MirageError(`${name} exists`, { errno: 'EEXIST', cause });
