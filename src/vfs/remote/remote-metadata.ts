/** chmod, chown, utimensat, truncate and extended attributes. */
import type { StoredAttributes } from '../../backends/contract.js';
import type { ServerAttributes } from '../../backends/file-server.js';
import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { NewEntryRecord } from '../../metadata/contract.js';
import { Attributes, isDirectory, S_IFLNK, S_IFMT, S_IFREG } from '../attributes.js';
import { absentErrno } from '../extended-attributes.js';
import { allowedMode, timestamp } from '../inodes/attributes-of.js';
import { ROOT_SLOT, type Slot } from '../inodes/inode-table.js';
import type { AttributeChange, ByteString, ExtendedAttributeReply } from '../operations.js';
import type { RemoteDirectories } from './remote-directories.js';
import type { RemoteFiles } from './remote-files.js';
import type { RemoteNode } from './remote-node.js';
import { rowOf } from './remote-rows.js';
import type { RemoteTree } from './remote-tree.js';
import type { Storing } from './storing.js';

const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
/** What is shown of our own, never stored. */
const OWN = 'user.mirage.';
/** Bytes of the names and values of one file, in base64: they lie in the metadata database. */
const XATTRS_LIMIT = 64 * 1024;

interface Wanted {
  mode?: number;
  uid?: number;
  gid?: number;
  accessed?: { seconds: number; nanoseconds: number };
  modified?: { seconds: number; nanoseconds: number };
}

export class RemoteMetadata {
  readonly #tree: RemoteTree;
  readonly #directories: RemoteDirectories;
  readonly #files: RemoteFiles;
  readonly #storing: Storing;

  constructor(tree: RemoteTree, directories: RemoteDirectories, files: RemoteFiles, storing: Storing) {
    this.#tree = tree;
    this.#directories = directories;
    this.#files = files;
    this.#storing = storing;
  }

  async setattr(slot: Slot, change: AttributeChange): Promise<Attributes> {
    const tree = this.#tree;
    tree.table.pin(slot);
    try {
      if (change.size !== undefined) await this.#resize(slot, change.size, change.handle);
      const node = tree.inUse(slot);
      if (node?.turn.busy === true) await node.turn.run(async () => undefined);
      if (tree.record(slot) === undefined && node === undefined) await this.#directories.revalidate(slot);
      await this.#change(slot, change);
      const attributes = new Attributes();
      if (!tree.fill(slot, attributes)) throw MirageError.system('setattr', errno.ESTALE);
      return attributes;
    } finally {
      tree.table.unpin(slot);
    }
  }

  async #resize(slot: Slot, size: number, handle: number | undefined): Promise<void> {
    const node = this.#files.has(handle) ? this.#files.file(handle).node : this.#tree.use(slot);
    try {
      await this.#storing.resize(node, size);
    } finally {
      this.#tree.unuse(node);
    }
  }

  async #change(slot: Slot, change: AttributeChange): Promise<void> {
    const tree = this.#tree;
    const now = new Attributes();
    if (!tree.fill(slot, now)) throw MirageError.system('setattr', errno.ESTALE);
    const wanted = this.#wanted(now, change);
    if (Object.keys(wanted).length === 0) return;
    const node = tree.inUse(slot);
    const onlyTimes = wanted.mode === undefined && wanted.uid === undefined && wanted.gid === undefined;
    // Bytes that are still to be sent would change the time again: it goes with them.
    const later = node?.holdsTruth === true && onlyTimes;
    const said = later ? undefined : await this.#tell(slot, node, now, wanted);
    if (node !== undefined) this.#keepInUse(node, wanted, said);
    else if (said !== undefined) this.#keep(slot, wanted, said);
  }

  #wanted(now: Attributes, change: AttributeChange): Wanted {
    const { uid, gid, accessed, modified } = change;
    const at = timestamp(this.#tree.now());
    const wanted: Wanted = {};
    if (uid !== undefined) wanted.uid = uid;
    if (gid !== undefined) wanted.gid = gid;
    if (accessed !== undefined) wanted.accessed = accessed === 'now' ? at : accessed;
    if (modified !== undefined) wanted.modified = modified === 'now' ? at : modified;
    let mode = change.mode === undefined ? now.mode : (now.mode & S_IFMT) | (change.mode & 0o7777);
    const newOwner = (uid !== undefined || gid !== undefined) && !isDirectory(now.mode);
    if (change.killPrivileges === true || (newOwner && change.mode === undefined)) {
      mode &= ~0o4000 & ~((mode & 0o010) !== 0 ? 0o2000 : 0);
    }
    mode = allowedMode(mode, this.#tree.context);
    if (change.mode !== undefined || mode !== now.mode) wanted.mode = mode;
    return wanted;
  }

  async #tell(
    slot: Slot,
    node: RemoteNode | undefined,
    now: Attributes,
    { mode, uid, gid, accessed, modified }: Wanted,
  ): Promise<ServerAttributes> {
    const { server } = this.#tree;
    const symlink = (now.mode & S_IFMT) === S_IFLNK;
    const bits = symlink || mode === undefined ? undefined : mode & 0o7777;
    const owner = (uid !== undefined && uid !== now.uid) || (gid !== undefined && gid !== now.gid);
    const times = accessed !== undefined || modified !== undefined;
    const change = {
      ...(bits !== undefined && { mode: bits }),
      ...(owner && { uid: uid ?? now.uid, gid: gid ?? now.gid }),
      // A server may know both only together.
      ...(times && {
        accessed: accessed ?? { seconds: now.accessedSeconds, nanoseconds: now.accessedNanoseconds },
        modified: modified ?? { seconds: now.modifiedSeconds, nanoseconds: now.modifiedNanoseconds },
      }),
    };
    const path = node?.hidden ?? this.#tree.pathIfAny(slot);
    const set = (what: typeof change): Promise<ServerAttributes> => {
      if (path !== undefined) return server.setAttributes(path, what, UNINTERRUPTED);
      if (node === undefined) throw MirageError.system('setattr', errno.ESTALE);
      return node.onServer.run(node.onServer.hasWriter, (handle) =>
        server.setAttributes(handle, what, UNINTERRUPTED),
      );
    };
    const said = await set(change);
    // Giving a file away clears bits that were to stay, or that it shall have.
    const lost = bits !== undefined && owner && (said.mode & 0o7777) !== bits;
    return lost ? set({ mode: bits }) : said;
  }

  #keepInUse(node: RemoteNode, wanted: Wanted, said: ServerAttributes | undefined): void {
    const { attributes } = node;
    const now = timestamp(this.#tree.now());
    if (said !== undefined) {
      attributes.mode = (attributes.mode & S_IFMT) | (said.mode & 0o7777);
      attributes.uid = said.uid;
      attributes.gid = said.gid;
    }
    const { accessed, modified } = wanted;
    if (accessed !== undefined) {
      attributes.accessedSeconds = accessed.seconds;
      attributes.accessedNanoseconds = accessed.nanoseconds;
    }
    if (modified !== undefined) {
      attributes.modifiedSeconds = modified.seconds;
      attributes.modifiedNanoseconds = modified.nanoseconds;
    }
    attributes.changedSeconds = now.seconds;
    attributes.changedNanoseconds = now.nanoseconds;
    if (said === undefined) node.timesPending = true;
    else if (!node.holdsTruth) this.#storing.stored(node, said);
    this.#tree.publish(node);
  }

  /** A node that is not in use: its rows take what the server says, and what the server cannot keep. */
  #keep(slot: Slot, wanted: Wanted, said: ServerAttributes): void {
    const changed = timestamp(this.#tree.now());
    this.#rewrite(slot, (row) => {
      const fresh = rowOf(row.name, said, row, this.#tree.now());
      const type = (row.attributes?.mode ?? S_IFREG) & S_IFMT;
      return {
        ...fresh,
        attributes: {
          ...fresh.attributes,
          // An empty file stands for what it is not; the server has just told that it is the same one.
          mode: type | (said.mode & 0o7777),
          ...(row.attributes?.rdev !== undefined && { rdev: row.attributes.rdev }),
          modified: wanted.modified ?? row.attributes?.modified ?? fresh.attributes?.modified ?? changed,
          accessed: wanted.accessed ?? row.attributes?.accessed ?? fresh.attributes?.accessed ?? changed,
          changed,
        },
      };
    });
  }

  /** Changes the rows of all names of a node. */
  #rewrite(slot: Slot, change: (row: NewEntryRecord) => NewEntryRecord): void {
    const tree = this.#tree;
    if (slot === ROOT_SLOT) {
      const record = tree.record(slot);
      if (record !== undefined) tree.putOwn(slot, change(withoutPosition(record)));
      return;
    }
    for (const { parent, name } of tree.names(slot)) {
      const record = tree.entry(parent, name);
      if (record !== undefined && record.kind !== 'absent') tree.put(parent, change(withoutPosition(record)));
    }
  }

  // Extended attributes: the protocol has none, so they lie here and survive a remount.

  getxattr(slot: Slot, name: ByteString, reply: ExtendedAttributeReply): void {
    const value = name.startsWith(OWN) ? this.#own(slot, name.slice(OWN.length)) : this.#xattrs(slot)?.[name];
    if (value === undefined) {
      reply.fail(absentErrno(name));
      return;
    }
    reply.value = typeof value === 'string' ? Buffer.from(value, 'base64') : value;
  }

  #xattrs(slot: Slot): StoredAttributes['xattrs'] {
    const node = this.#tree.inUse(slot);
    return node === undefined ? this.#tree.record(slot)?.attributes?.xattrs : node.xattrs;
  }

  listxattr(slot: Slot): ByteString[] {
    return Object.keys(this.#xattrs(slot) ?? {});
  }

  setxattr(slot: Slot, name: ByteString, value: Uint8Array, flags: number): void {
    refuseForeign(name);
    const before = this.#xattrs(slot) ?? {};
    const exists = name in before;
    if ((flags & XATTR_CREATE) !== 0 && exists) throw MirageError.system('setxattr', errno.EEXIST);
    if ((flags & XATTR_REPLACE) !== 0 && !exists) throw MirageError.system('setxattr', errno.ENODATA);
    const xattrs = { ...before, [name]: Buffer.from(value).toString('base64') };
    if (Buffer.byteLength(JSON.stringify(xattrs)) > XATTRS_LIMIT) {
      throw new MirageError('the extended attributes of a file have 64 KiB in all', { errno: 'ENOSPC' });
    }
    this.#setAll(slot, xattrs);
  }

  removexattr(slot: Slot, name: ByteString): void {
    refuseForeign(name);
    const { [name]: removed, ...rest } = this.#xattrs(slot) ?? {};
    if (removed === undefined) throw MirageError.system('removexattr', errno.ENODATA);
    this.#setAll(slot, rest);
  }

  #setAll(slot: Slot, xattrs: Readonly<Record<string, string>>): void {
    const changed = timestamp(this.#tree.now());
    const node = this.#tree.inUse(slot);
    if (node !== undefined) {
      node.xattrs = xattrs;
      node.attributes.changedSeconds = changed.seconds;
      node.attributes.changedNanoseconds = changed.nanoseconds;
      this.#tree.publish(node);
      return;
    }
    this.#rewrite(slot, (row) => ({ ...row, attributes: { ...row.attributes, xattrs, changed } }));
  }

  /** `user.mirage.*`: what the mount knows of a file; not listed, so that no copying tool takes it along. */
  #own(slot: Slot, name: string): Uint8Array | undefined {
    const path = this.#tree.pathIfAny(slot);
    if (path === undefined) return undefined;
    if (name === 'key') return Buffer.from(path, 'latin1');
    if (name === 'backend') return Buffer.from(this.#tree.context.path);
    return undefined;
  }
}

function refuseForeign(name: ByteString): void {
  if (name.startsWith(OWN)) throw new MirageError(`${name} is read only`, { errno: 'EPERM' });
  if (name.startsWith('system.')) throw new MirageError(`${name}: no ACLs here`, { errno: 'ENOTSUP' });
}

function withoutPosition<T extends { position: number }>(record: T): Omit<T, 'position'> {
  const { position: _, ...row } = record;
  return row;
}
