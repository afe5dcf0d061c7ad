/**
 * Hard links: one object per name, all with the same content and the same link group in their attributes. This mount shows them as one
 * inode; a commit goes to every name, and removing any of them leaves the others. A group begins with the inode number, so that
 * every host shows the same.
 */
import { randomUUID } from 'node:crypto';
import { MirageError } from '../../errors/mirage-error.js';
import type { Slot } from '../inodes/inode-table.js';
import { newLinkGroup } from '../inodes/records.js';
import type { ByteString, EntryAnswer } from '../operations.js';
import type { Commits } from './commit.js';
import type { Copies } from './copies.js';
import type { Inode } from './inode.js';
import type { Nodes } from './nodes.js';

export class Links {
  readonly #nodes: Nodes;
  readonly #commits: Commits;
  readonly #copies: Copies;

  constructor(nodes: Nodes, commits: Commits, copies: Copies) {
    this.#nodes = nodes;
    this.#commits = commits;
    this.#copies = copies;
  }

  async link(slot: Slot, parent: Slot, name: ByteString): Promise<EntryAnswer> {
    const nodes = this.#nodes;
    nodes.keyOf(parent, name);
    const there = nodes.entry(parent, name);
    if (there !== undefined && there.kind !== 'absent' && nodes.validFor(there.seenAt) > 0)
      throw exists(name);
    const inode = nodes.use(slot);
    if (inode.kind === 'directory') throw new MirageError('a directory has one name', { errno: 'EPERM' });
    if (inode.superseded) throw new MirageError('another version has come', { errno: 'ESTALE' });
    try {
      await this.#linked(inode, parent, name);
      nodes.publish(inode, true);
      return nodes.made(slot);
    } finally {
      this.#commits.rest(inode);
    }
  }

  #linked(inode: Inode, parent: Slot, name: ByteString): Promise<void> {
    const nodes = this.#nodes;
    const { slot } = inode;
    return inode.turn.run(() =>
      this.#commits.gate.together(async () => {
        const [first] = nodes.table.names(slot);
        if (first === undefined) {
          // O_TMPFILE: the first name. What an unlinked file left over has none to give.
          if (inode.staged === undefined) throw new MirageError('the file was removed', { errno: 'ENOENT' });
          this.#add(slot, parent, name);
          inode.mustCommit = true;
          inode.attributes.nlink = 1;
          nodes.touchChanged(inode);
          try {
            await this.#commits.commitNow(inode);
          } catch (error) {
            throw MirageError.is(error, 'ESTALE') ? exists(name, error) : error;
          }
          return;
        }
        if (inode.needsCommit) await this.#commits.commitNow(inode);
        const before = inode.linkGroup;
        inode.linkGroup ??= newLinkGroup(inode.attributes.ino);
        nodes.touchChanged(inode);
        try {
          const attributes = nodes.stored(inode, randomUUID());
          const info = await this.#copies.copy(inode, first, { parent, name }, undefined, attributes);
          if (before === undefined) {
            nodes.joinGroup(slot, inode.linkGroup);
            inode.attributesChanged++;
          }
          this.#add(slot, parent, name);
          inode.setBase(parent, name, info);
          nodes.publish(inode, true);
          if (before === undefined) await this.#commits.commitNow(inode);
        } catch (error) {
          if (nodes.table.child(parent, name) !== slot) inode.linkGroup = before;
          throw MirageError.is(error, 'ESTALE') ? exists(name, error) : error;
        }
        const record = nodes.record(slot);
        if (record !== undefined) inode.attributes.nlink = nodes.linkCount(record);
      }),
    );
  }

  #add(slot: Slot, parent: Slot, name: ByteString): void {
    this.#nodes.displace(parent, name);
    this.#nodes.table.addName(slot, parent, name);
    this.#nodes.touchDirectory(parent);
  }
}

const exists = (name: ByteString, cause?: unknown): MirageError =>
  new MirageError(`${name} exists`, { errno: 'EEXIST', cause });
