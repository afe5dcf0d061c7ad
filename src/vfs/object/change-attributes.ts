/** chmod, chown, utimensat and extended attributes: visible at once, in the store within two seconds or with the next commit. */
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { type Attributes, isDirectory, S_IFMT } from '../attributes.js';
import { absentErrno } from '../extended-attributes.js';
import { allowedMode, timestamp, touchChanged } from '../inodes/attributes-of.js';
import type { Slot } from '../inodes/inode-table.js';
import type { Answer, AttributeChange, ByteString, Call, ExtendedAttributeReply } from '../operations.js';
import type { Commits } from './commit.js';
import type { Inode } from './inode.js';
import type { Nodes } from './nodes.js';
import type { OpenFiles } from './open-files.js';
import { OWN_PREFIX, type OwnAttributes } from './own-attributes.js';
import { clearPrivileges } from './writing.js';

const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
/** Set: whatever the value, everything of the file goes to the store now. */
const COMMIT = `${OWN_PREFIX}commit`;
/** Bytes of names and base64 values of one object: stores give metadata 2 KB, and ours needs some. */
const XATTRS_LIMIT = 1400;

export class AttributeChanges {
  readonly #nodes: Nodes;
  readonly #commits: Commits;
  readonly #files: OpenFiles;
  readonly #own: OwnAttributes;

  constructor(nodes: Nodes, commits: Commits, files: OpenFiles, own: OwnAttributes) {
    this.#nodes = nodes;
    this.#commits = commits;
    this.#files = files;
    this.#own = own;
  }

  async setattr(call: Call, slot: Slot, change: AttributeChange): Promise<Attributes> {
    const inode =
      change.size === undefined
        ? this.#nodes.use(slot)
        : await this.#files.resize(call, slot, change.size, change.handle);
    await this.#change(inode, change);
    const { attributes } = inode;
    this.#commits.rest(inode);
    return attributes;
  }

  #change(inode: Inode, change: AttributeChange): undefined | Promise<void> {
    const { attributes } = inode;
    const now = timestamp(this.#nodes.now());
    const { mode, uid, gid, accessed, modified, changed } = change;
    if (mode !== undefined) {
      attributes.mode = allowedMode((attributes.mode & S_IFMT) | (mode & 0o7777), this.#nodes.context);
    }
    if (uid !== undefined) attributes.uid = uid;
    if (gid !== undefined) attributes.gid = gid;
    const newOwner = (uid !== undefined || gid !== undefined) && !isDirectory(attributes.mode);
    if (change.killPrivileges === true || newOwner) clearPrivileges(inode);
    if (accessed !== undefined) {
      const at = accessed === 'now' ? now : accessed;
      attributes.accessedSeconds = at.seconds;
      attributes.accessedNanoseconds = at.nanoseconds;
    }
    if (modified !== undefined) {
      const at = modified === 'now' ? now : modified;
      attributes.modifiedSeconds = at.seconds;
      attributes.modifiedNanoseconds = at.nanoseconds;
    }
    const onlySize =
      mode === undefined &&
      uid === undefined &&
      gid === undefined &&
      accessed === undefined &&
      modified === undefined &&
      change.killPrivileges !== true;
    touchChanged(attributes, changed ?? now);
    return change.size === undefined || !onlySize ? this.#commits.attributesChanged(inode) : undefined;
  }

  // Extended attributes.

  getxattr(slot: Slot, name: ByteString, reply: ExtendedAttributeReply): Answer<void> {
    if (name.startsWith(OWN_PREFIX)) {
      const own = this.#own.get(slot, name.slice(OWN_PREFIX.length));
      if (own instanceof Promise) return own.then((value) => answerText(value, reply));
      answerText(own, reply);
      return undefined;
    }
    const value = this.#xattrs(slot)?.[name];
    if (value === undefined) reply.fail(absentErrno(name));
    else reply.value = Buffer.from(value, 'base64');
    return undefined;
  }

  #xattrs(slot: Slot): Readonly<Record<string, string>> | undefined {
    const inode = this.#nodes.inUse(slot);
    return inode === undefined ? this.#nodes.record(slot)?.attributes?.xattrs : inode.xattrs;
  }

  listxattr(slot: Slot): ByteString[] {
    return Object.keys(this.#xattrs(slot) ?? {});
  }

  setxattr(slot: Slot, name: ByteString, value: Uint8Array, flags: number): Answer<void> {
    if (name === COMMIT) return this.#commitNow(slot);
    if (name.startsWith(OWN_PREFIX)) {
      return this.#own.set(slot, name.slice(OWN_PREFIX.length), Buffer.from(value).toString());
    }
    refuseForeign(name);
    const inode = this.#nodes.use(slot);
    const exists = name in inode.xattrs;
    if ((flags & XATTR_CREATE) !== 0 && exists) throw new MirageError(`${name} is set`, { errno: 'EEXIST' });
    if ((flags & XATTR_REPLACE) !== 0 && !exists)
      throw new MirageError(`${name} is not set`, { errno: 'ENODATA' });
    const xattrs = { ...inode.xattrs, [name]: Buffer.from(value).toString('base64') };
    if (Buffer.byteLength(JSON.stringify(xattrs)) > XATTRS_LIMIT) {
      this.#commits.rest(inode);
      throw new MirageError('the extended attributes of an object have 1,400 bytes in all', {
        errno: 'ENOSPC',
      });
    }
    return this.#setAll(inode, xattrs);
  }

  removexattr(slot: Slot, name: ByteString): Answer<void> {
    refuseForeign(name);
    const inode = this.#nodes.use(slot);
    const { [name]: removed, ...rest } = inode.xattrs;
    if (removed === undefined) {
      this.#commits.rest(inode);
      throw new MirageError(`${name} is not set`, { errno: 'ENODATA' });
    }
    return this.#setAll(inode, rest);
  }

  #setAll(inode: Inode, xattrs: Record<string, string>): Answer<void> {
    inode.xattrs = xattrs;
    touchChanged(inode.attributes, timestamp(this.#nodes.now()));
    const journaled = this.#commits.attributesChanged(inode);
    this.#commits.rest(inode);
    return journaled;
  }

  /** The barrier of one file or directory: what it holds is on its store when the call returns. */
  async #commitNow(slot: Slot): Promise<void> {
    const nodes = this.#nodes;
    const inode = nodes.inUse(slot);
    if (inode !== undefined) {
      await this.#commits.commit(inode);
      this.#commits.rest(inode);
    }
    for (const { parent, name } of nodes.table.names(slot)) {
      await nodes.writeBehind?.settle(parent === slot ? '' : nodes.keyOf(parent, name));
    }
  }
}

function refuseForeign(name: ByteString): void {
  if (name.startsWith(OWN_PREFIX)) throw new MirageError(`${name} is read only`, { errno: 'EPERM' });
  if (name.startsWith('system.')) throw new MirageError(`${name}: no ACLs here`, { errno: 'ENOTSUP' });
}

function answerText(value: string | undefined, reply: ExtendedAttributeReply): void {
  if (value === undefined) reply.fail(errno.ENODATA);
  else reply.value = Buffer.from(value);
}
