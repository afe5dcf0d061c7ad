import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { type LocalFiles, localFiles, Stat } from '../../native/local-files.js';
import { Attributes, S_IFMT } from '../attributes.js';
import type { AttributesReply, ByteString, Call, EntryAnswer, EntryReply, NodeId } from '../operations.js';
import { rootOf, type VolumeContext } from '../volume.js';
import { Descriptors, identify } from './descriptors.js';
import { supplementaryGroups } from './groups.js';
import { HostAttributes } from './host-attributes.js';
import { type Identity, NodeTable } from './node-table.js';

/** Linux, all architectures that Node runs on. */
const O_PATH = 0o10000000;

/** How long the kernel may remember what it was told, nanoseconds. */
export interface Freshness {
  /** Whether changes that are not made through this mount are told of, or there are none. */
  readonly told: boolean;
  /** The directory's entries are about to be looked at. */
  observe(directory: number): void;
  /** What a name in the directory leads to, or that there is no such name. */
  entry(directory: number): number;
  /** The attributes that the stat record shows. */
  attributes(slot: number): number;
  /** The node has gone. */
  forget(slot: number): void;
}

/** Throws what a native call answered with a negated error number. */
export function check(call: string, result: number): number {
  if (result < 0) throw MirageError.system(call, -result);
  return result;
}

/** The nodes of a host tree: from node ids to descriptors and back, and what the kernel is told of them. */
export class HostNodes {
  readonly native: LocalFiles = localFiles();
  readonly stat = this.native.stat;
  readonly table: NodeTable;
  readonly descriptors: Descriptors;
  readonly view: HostAttributes;
  /** Set before the first request. */
  freshness: Freshness = {
    told: false,
    observe() {},
    entry: () => 0,
    attributes: () => 0,
    forget() {},
  };

  private readonly base: NodeId;
  private readonly seen: Identity = { device: 0, ino: 0, birth: 0, kind: 0 };
  /** Lent to the replies of the hot operations. */
  private readonly shared = new Attributes();
  private readonly uid = process.geteuid?.() ?? 0;
  private readonly gid = process.getegid?.() ?? 0;
  private readonly groups = Uint32Array.from(process.getgroups?.() ?? []);

  constructor(root: number, context: VolumeContext, descriptors: number) {
    const { native } = this;
    this.base = rootOf(context.index) - 1;
    this.table = new NodeTable((slot) => this.release(slot));
    this.descriptors = new Descriptors(native, this.table, descriptors);
    check('statx', native.statFd(root));
    this.view = new HostAttributes(context.index, native.stat[Stat.device]!, context.mode === 'exec');
    this.table.add(identify(native.stat, this.seen), -1, '');
    this.table.fds[0] = root;
    this.table.hold(0);
  }

  /** -1 for a node that is not known (any more). */
  slotOf(node: NodeId): number {
    return this.table.slotOf(node - this.base);
  }

  nodeOf(slot: number): NodeId {
    return this.base + this.table.numbers[slot]!;
  }

  /** The slot of a node; throws ESTALE. */
  slot(node: NodeId): number {
    const slot = this.slotOf(node);
    if (slot < 0) throw MirageError.system('node', errno.ESTALE);
    return slot;
  }

  /** The descriptor of a node; throws. */
  descriptor(slot: number): number {
    return check('open', this.descriptors.of(slot));
  }

  /** The stat record of a node; a negated error number. */
  refresh(slot: number): number {
    this.freshness.observe(slot);
    const fd = this.table.fds[slot]!;
    if (fd >= 0) {
      this.table.recent[slot] = 1;
      return this.native.statFd(fd);
    }
    return Math.min(0, this.descriptors.open(slot));
  }

  /** The node of the file in the stat record, which was found under this name. */
  enter(parent: number, name: ByteString): number {
    const { table, seen } = this;
    identify(this.stat, seen);
    const slot = table.find(seen);
    if (slot < 0) return table.add(seen, parent, name);
    if (slot !== 0) table.rename(slot, parent, name);
    return slot;
  }

  /** The node of a file that has no name (O_TMPFILE), by its descriptor. */
  enterNameless(fd: number): number {
    const slot = this.table.add(identify(this.stat, this.seen), -1, '');
    this.descriptors.adopt(slot, check('open', this.native.reopen(fd, O_PATH)));
    return slot;
  }

  /** The stat record is that of this node. */
  isSame(slot: number): boolean {
    return this.table.isSame(slot, identify(this.stat, this.seen));
  }

  /** The node that a name leads to, if the kernel knows it; leaves the stat record of the name. */
  known(directory: number, name: ByteString): number {
    if (this.native.statAt(directory, name) < 0) return -1;
    return this.table.find(identify(this.stat, this.seen));
  }

  /** A name is about to go: a node that we would find by it alone must keep its descriptor. Returns the node or -1. */
  beforeRemoval(parent: number, directory: number, name: ByteString): number {
    const slot = this.known(directory, name);
    if (slot <= 0 || !this.table.isNamed(slot, parent, name)) return -1;
    return this.descriptors.of(slot) < 0 ? -1 : slot;
  }

  /** The name has gone. */
  afterRemoval(slot: number): void {
    if (slot > 0) this.table.orphan(slot);
  }

  /** Counts a lookup and answers with the node in the stat record. */
  fillEntry(reply: EntryReply, parent: number, name: ByteString): void {
    const slot = this.enter(parent, name);
    this.table.lookups[slot]!++;
    reply.nodeId = this.nodeOf(slot);
    reply.entryValid = this.freshness.entry(parent);
    reply.attributesValid = this.freshness.attributes(slot);
    reply.attributes = this.view.fill(this.shared, this.stat);
  }

  /** `open`: reads through an open file change its times without a request. */
  fillAttributes(reply: AttributesReply, slot: number, open: boolean): void {
    reply.attributesValid = this.freshness.attributes(slot);
    reply.settled = !open && this.freshness.told;
    reply.attributes = this.view.fill(this.shared, this.stat);
  }

  /** As `fillEntry`, with a record of its own. */
  entry(parent: number, name: ByteString): EntryAnswer {
    const slot = this.enter(parent, name);
    return this.entryOf(slot, this.freshness.entry(parent));
  }

  entryOf(slot: number, entryValid: number): EntryAnswer {
    this.table.lookups[slot]!++;
    return {
      nodeId: this.nodeOf(slot),
      entryValid,
      attributesValid: this.freshness.attributes(slot),
      attributes: this.view.fill(new Attributes(), this.stat),
    };
  }

  /**
   * Runs a creating system call with the caller's ids, so that the new file is the caller's from its first moment, and never somebody else's that was
   * moved to its name meanwhile. The caller's other groups count only where access depends on them: they have to be read from /proc. The host takes
   * the umask from the mode itself, unless the directory has a default ACL. `action` makes system calls and does not throw.
   */
  creating(caller: Call, mode: number, action: (mode: number) => number): number {
    const { native, view } = this;
    const requested = view.mode(((caller.requestedMode ?? mode) & 0o7777) | (mode & S_IFMT));
    const umask = requested & ~mode & 0o777;
    if (umask !== 0) native.threadUmask(umask);
    const result = this.as(caller, () => action(requested));
    if (umask !== 0) native.threadUmask(0);
    return result;
  }

  private as(caller: Call, action: () => number): number {
    const { native } = this;
    if (this.uid !== 0 || (caller.uid === this.uid && caller.gid === this.gid)) return action();
    native.setFileIds(caller.uid, caller.gid);
    let result = action();
    if (result === -errno.EACCES) {
      const groups = supplementaryGroups(caller.pid);
      if (groups.length > 0 && native.setGroups(groups) === 0) {
        result = action();
        native.setGroups(this.groups);
      }
    }
    native.setFileIds(this.uid, this.gid);
    return result;
  }

  /** A new file has to be given to the caller. */
  handsOver(caller: Call): boolean {
    return this.uid !== 0 && (caller.uid !== this.uid || caller.gid !== this.gid);
  }

  /** Without privilege a new file belongs to us: gives it to the caller, or fails as chown(2) does. A negated error number. */
  hand(caller: Call, fd: number, directory: number): number {
    const { native, stat } = this;
    if (!this.handsOver(caller)) return 0;
    const error = native.statFd(directory);
    if (error < 0) return error;
    const inherits = (stat[Stat.mode]! & 0o2000) !== 0;
    if (caller.uid === this.uid && inherits) return 0;
    return native.chownFd(fd, caller.uid === this.uid ? -1 : caller.uid, inherits ? -1 : caller.gid);
  }

  private release(slot: number): void {
    this.descriptors.close(slot);
    this.freshness.forget(slot);
  }

  close(): void {
    for (let slot = 1; slot < this.table.length; slot++) this.descriptors.close(slot);
  }
}
