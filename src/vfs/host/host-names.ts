import { constants } from 'node:fs';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { isDirectory, S_IFDIR, S_IFLNK, S_IFREG } from '../attributes.js';
import {
  type ByteString,
  type Call,
  type CreateAnswer,
  type EntryAnswer,
  type EntryReply,
  type NodeId,
  type OpenMode,
  OpenReply,
  RENAME_EXCHANGE,
} from '../operations.js';
import type { HostFiles } from './host-files.js';
import { check, type HostNodes } from './host-nodes.js';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_RDWR, O_TRUNC } = constants;
/** Linux, all architectures that Node runs on: `__O_TMPFILE | O_DIRECTORY`. */
const O_TMPFILE = 0o20000000 | O_DIRECTORY;
const AT_REMOVEDIR = 0x200;

/** Operations on names: what a directory holds. */
export class HostNames {
  constructor(
    private readonly nodes: HostNodes,
    private readonly files: HostFiles,
  ) {}

  lookup(parent: NodeId, name: ByteString, reply: EntryReply): void {
    const { nodes } = this;
    const slot = nodes.slotOf(parent);
    const directory = slot < 0 ? -errno.ESTALE : nodes.descriptors.of(slot);
    if (directory >= 0) nodes.freshness.observe(slot);
    const result = directory < 0 ? directory : nodes.native.statAt(directory, name);
    if (result === 0) {
      nodes.fillEntry(reply, slot, name);
      return;
    }
    const entryValid = result === -errno.ENOENT ? nodes.freshness.entry(slot) : 0;
    if (entryValid === 0) {
      reply.fail(-result);
      return;
    }
    reply.nodeId = 0;
    reply.entryValid = entryValid;
  }

  create(call: Call, parent: NodeId, name: ByteString, mode: number, open: OpenMode): CreateAnswer {
    const { nodes } = this;
    const slot = nodes.slot(parent);
    const directory = nodes.descriptor(slot);
    const flags = O_CREAT | O_EXCL | O_RDWR;
    const fd = nodes.creating(call, mode | S_IFREG, (kept) =>
      nodes.native.openAt(directory, name, flags, kept & 0o7777),
    );
    if (fd === -errno.EEXIST && (open.flags & O_EXCL) === 0) return this.openExisting(call, slot, name, open);
    check('create', fd);
    try {
      this.own(call, fd, directory, name, 0);
    } catch (error) {
      nodes.native.close(fd);
      throw error;
    }
    const node = nodes.enter(slot, name);
    const reply = this.files.adopt(call, node, fd, open.flags);
    return { entry: nodes.entryOf(node, nodes.freshness.entry(slot)), open: reply };
  }

  temporary(call: Call, parent: NodeId, mode: number, open: OpenMode): CreateAnswer {
    const { nodes } = this;
    const directory = nodes.descriptor(nodes.slot(parent));
    const flags = O_TMPFILE | O_RDWR | (open.flags & O_EXCL);
    const fd = check(
      'open',
      nodes.creating(call, mode | S_IFREG, (kept) =>
        nodes.native.openAt(directory, '', flags, kept & 0o7777),
      ),
    );
    const handed = nodes.hand(call, fd, directory);
    if (handed < 0) nodes.native.close(fd);
    check('chown', handed);
    check('statx', nodes.native.statFd(fd));
    const node = nodes.enterNameless(fd);
    const reply = this.files.adopt(call, node, fd, open.flags);
    return { entry: nodes.entryOf(node, 0), open: reply };
  }

  mkdir(call: Call, parent: NodeId, name: ByteString, mode: number): EntryAnswer {
    const { native } = this.nodes;
    return this.make(call, parent, name, mode | S_IFDIR, (directory, kept) =>
      native.mkdirAt(directory, name, kept & 0o7777),
    );
  }

  mknod(call: Call, parent: NodeId, name: ByteString, mode: number, rdev: number): EntryAnswer {
    const { native } = this.nodes;
    return this.make(call, parent, name, mode, (directory, kept) =>
      native.mknodAt(directory, name, kept, rdev),
    );
  }

  symlink(call: Call, parent: NodeId, name: ByteString, target: ByteString): EntryAnswer {
    const { native } = this.nodes;
    return this.make(call, parent, name, S_IFLNK | 0o777, (directory) =>
      native.symlinkAt(target, directory, name),
    );
  }

  link(node: NodeId, parent: NodeId, name: ByteString): EntryAnswer {
    const { nodes } = this;
    const linked = nodes.slot(node);
    const slot = nodes.slot(parent);
    const directory = nodes.descriptor(slot);
    const fd = nodes.descriptor(linked);
    check('link', nodes.native.linkAt(fd, directory, name));
    check('statx', nodes.native.statFd(fd));
    nodes.table.rename(linked, slot, name);
    return nodes.entryOf(linked, nodes.freshness.entry(slot));
  }

  unlink(parent: NodeId, name: ByteString): void {
    this.remove('unlink', parent, name, 0);
  }

  rmdir(parent: NodeId, name: ByteString): void {
    this.remove('rmdir', parent, name, AT_REMOVEDIR);
  }

  rename(parent: NodeId, name: ByteString, newParent: NodeId, newName: ByteString, flags: number): void {
    const { nodes } = this;
    const { table } = nodes;
    const fromSlot = nodes.slot(parent);
    const toSlot = nodes.slot(newParent);
    const from = nodes.descriptor(fromSlot);
    const to = nodes.descriptor(toSlot);
    const moved = nodes.known(from, name);
    const exchange = (flags & RENAME_EXCHANGE) !== 0;
    const other = exchange ? nodes.known(to, newName) : -1;
    // Two names of one file: rename(2) then leaves both.
    const same = moved >= 0 && nodes.known(to, newName) === moved;
    const replaced = exchange || same ? -1 : nodes.beforeRemoval(toSlot, to, newName);
    check('rename', nodes.native.renameAt(from, name, to, newName, flags));
    if (same) return;
    nodes.afterRemoval(replaced);
    if (moved > 0) table.rename(moved, toSlot, newName);
    if (other > 0) table.rename(other, fromSlot, name);
  }

  private remove(call: string, parent: NodeId, name: ByteString, flags: number): void {
    const { nodes } = this;
    const slot = nodes.slot(parent);
    const directory = nodes.descriptor(slot);
    const removed = nodes.beforeRemoval(slot, directory, name);
    check(call, nodes.native.unlinkAt(directory, name, flags));
    nodes.afterRemoval(removed);
  }

  private make(
    call: Call,
    parent: NodeId,
    name: ByteString,
    mode: number,
    action: (directory: number, mode: number) => number,
  ): EntryAnswer {
    const { nodes } = this;
    const slot = nodes.slot(parent);
    const directory = nodes.descriptor(slot);
    check(
      'create',
      nodes.creating(call, mode, (kept) => action(directory, kept)),
    );
    if (nodes.handsOver(call)) {
      const fd = check('lookup', nodes.native.lookupAt(directory, name));
      try {
        this.own(call, fd, directory, name, isDirectory(mode) ? AT_REMOVEDIR : 0);
      } finally {
        nodes.native.close(fd);
      }
    }
    check('statx', nodes.native.statAt(directory, name));
    return nodes.entry(slot, name);
  }

  /** Makes a new file the caller's, or takes it away again. Leaves its stat record. */
  private own(call: Call, fd: number, directory: number, name: ByteString, removal: number): void {
    const { nodes } = this;
    const error = nodes.hand(call, fd, directory);
    if (error < 0) {
      nodes.native.unlinkAt(directory, name, removal);
      throw MirageError.system('chown', -error);
    }
    check('statx', nodes.native.statFd(fd));
  }

  /** Somebody else created the name first: open(2) with O_CREAT then opens it. */
  private openExisting(call: Call, slot: number, name: ByteString, open: OpenMode): CreateAnswer {
    const { nodes, files } = this;
    check('statx', nodes.native.statAt(nodes.descriptor(slot), name));
    const node = nodes.enter(slot, name);
    // Not for us to open: the kernel finds it by a new lookup.
    if (nodes.table.kinds[node] !== 0o10) throw MirageError.system('create', errno.ESTALE);
    const entry = nodes.entryOf(node, nodes.freshness.entry(slot));
    const reply = new OpenReply();
    files.open(
      call,
      entry.nodeId,
      { flags: open.flags & ~(O_CREAT | O_EXCL), killPrivileges: open.killPrivileges === true },
      reply,
    );
    if (reply.errno !== 0) {
      nodes.table.forget(node, 1);
      throw MirageError.system('open', reply.errno);
    }
    if ((open.flags & O_TRUNC) !== 0) nodes.view.fill(entry.attributes, nodes.stat);
    return { entry, open: reply };
  }
}
