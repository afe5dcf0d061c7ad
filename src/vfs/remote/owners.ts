/** What is made here becomes the caller's, as far as the server lets us give things away. */
import type { ServerAttributeChange, ServerAttributes, ServerHandle } from '../../backends/file-server.js';
import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import { MirageError } from '../../errors/mirage-error.js';
import { isDirectory, S_IFLNK, S_IFMT, S_ISGID } from '../attributes.js';
import { newInodeNumber, timestamp } from '../inodes/attributes-of.js';
import { NONE, type Slot } from '../inodes/inode-table.js';
import type { ByteString, Call } from '../operations.js';
import { rowOf } from './remote-rows.js';
import type { RemoteTree } from './remote-tree.js';

/** Bits that giving a file away clears. */
const PRIVILEGES = 0o6000;

export class Owners {
  readonly #tree: RemoteTree;
  /** The server has refused to give a file to somebody else: everything stays the login's. */
  #mayGive = true;

  constructor(tree: RemoteTree) {
    this.#tree = tree;
  }

  /** Owner and mode of something new. `said` is what the server made of it; resolves with what it is then. */
  async give(
    target: string | ServerHandle,
    call: Call,
    parent: Slot,
    mode: number,
    said: ServerAttributes,
  ): Promise<ServerAttributes> {
    const symlink = (mode & S_IFMT) === S_IFLNK;
    if (symlink && !this.#tree.server.features.linkAttributes) return said;
    const inherited = this.#tree.inherits(parent);
    const gid = inherited ? said.gid : call.gid;
    const wanted = (mode & 0o7777) | (isDirectory(mode) && inherited ? S_ISGID : 0);
    const owner = said.uid === call.uid && said.gid === gid ? undefined : { uid: call.uid, gid };
    const bits = symlink || (said.mode & 0o7777) === wanted ? undefined : { mode: wanted };
    let now = said;
    if (owner !== undefined && this.#mayGive) {
      const separate = bits !== undefined && (wanted & PRIVILEGES) !== 0;
      const given = await this.#tryGive(target, separate ? owner : { ...owner, ...bits });
      if (given !== undefined) now = given;
    }
    if (bits !== undefined && (now.mode & 0o7777) !== wanted) {
      now = await this.#tree.server.setAttributes(target, bits, UNINTERRUPTED);
    }
    return now;
  }

  async #tryGive(
    target: string | ServerHandle,
    change: ServerAttributeChange,
  ): Promise<ServerAttributes | undefined> {
    try {
      return await this.#tree.server.setAttributes(target, change, UNINTERRUPTED);
    } catch (error) {
      if (!MirageError.is(error, 'EPERM') && !MirageError.is(error, 'EACCES')) throw error;
      this.#mayGive = false;
      return undefined;
    }
  }

  /** The node of something that was just made, of type and device as `made` says where the server has an empty file for it. */
  enter(
    parent: Slot,
    name: ByteString,
    said: ServerAttributes,
    made: { type?: number; rdev?: number; linkGroup?: string; ino?: number } = {},
  ): Slot {
    const tree = this.#tree;
    const before = tree.table.child(parent, name);
    if (before !== NONE) tree.supersede(before, parent, name, false);
    const row = rowOf(name, said, undefined, tree.now());
    const now = timestamp(tree.now());
    // The server keeps seconds: within this one it was now.
    const at = said.modifiedSeconds === now.seconds && said.modifiedNanoseconds === 0 ? now : undefined;
    tree.put(parent, {
      ...row,
      attributes: {
        ...row.attributes,
        ...(at && { modified: at, changed: at, accessed: at }),
        ...(made.type !== undefined && { mode: made.type | (said.mode & 0o7777) }),
        ...(made.rdev !== undefined && { rdev: made.rdev }),
      },
      ino: newInodeNumber(),
    });
    const record = tree.entry(parent, name);
    if (record === undefined) throw MirageError.system('create', 5);
    return tree.enter(parent, name, record);
  }
}
