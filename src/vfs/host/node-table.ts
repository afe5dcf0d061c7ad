import { hashNumber, SlotIndex } from './slot-index.js';

/** What tells one file of the host from another: the birth tells a reused inode number from the old one (0: not known). */
export interface Identity {
  device: number;
  ino: number;
  birth: number;
  /** Type bits of `st_mode`, shifted down by 12. */
  kind: number;
}

class NumberIndex extends SlotIndex {
  constructor(private readonly table: NodeTable) {
    super();
  }
  protected hashOf(slot: number): number {
    return hashNumber(this.table.numbers[slot]!, 0);
  }
  find(number: number): number {
    const { buckets, mask } = this;
    const { numbers } = this.table;
    for (let at = hashNumber(number, 0) & mask; ; at = (at + 1) & mask) {
      const slot = buckets[at]! - 1;
      if (slot < 0 || numbers[slot] === number) return slot;
    }
  }
}

class FileIndex extends SlotIndex {
  constructor(private readonly table: NodeTable) {
    super();
  }
  protected hashOf(slot: number): number {
    return hashNumber(this.table.inos[slot]!, this.table.devices[slot]!);
  }
  find(device: number, ino: number): number {
    const { buckets, mask } = this;
    const { inos, devices } = this.table;
    for (let at = hashNumber(ino, device) & mask; ; at = (at + 1) & mask) {
      const slot = buckets[at]! - 1;
      if (slot < 0 || (inos[slot] === ino && devices[slot] === device)) return slot;
    }
  }
}

/**
 * The nodes that the kernel knows, as columns (48 bytes a node, and about 14 in the two indexes). A *slot* is a row; rows are
 * reused, node numbers are not. Hard links of one file are one node. The root is slot 0 and never goes.
 *
 * A node lives while the kernel counts lookups of it or something holds it: an open handle, or a child whose name is reached through it.
 */
export class NodeTable {
  /** Node id minus the base of the volume; 0 is a free slot. */
  numbers = new Float64Array(256);
  inos = new Float64Array(256);
  /** Index into `deviceNumbers`. */
  devices = new Uint16Array(256);
  births = new Uint32Array(256);
  kinds = new Uint8Array(256);
  lookups = new Uint32Array(256);
  /** Open handles, and children by last known name. */
  holds = new Uint32Array(256);
  /** Slot of the directory that holds the last known name; -1: the node has no name that we know. */
  parents = new Int32Array(256);
  /** O_PATH descriptor, or -1. */
  fds = new Int32Array(256);
  /** The descriptor was used since the sweep passed it. */
  recent = new Uint8Array(256);
  /** Hash of the content's size and times when a cached open last looked; 0: none. */
  versions = new Float64Array(256);
  readonly names: string[] = [];

  private readonly byNumber = new NumberIndex(this);
  private readonly byFile = new FileIndex(this);
  private readonly deviceNumbers: number[] = [];
  private readonly free: number[] = [];
  private end = 0;
  private lastNumber = 0;

  /** `closeDescriptor` is told of the descriptor of a node that goes. */
  constructor(private readonly closeDescriptor: (slot: number) => void) {}

  /** Slots up to here are or were in use. */
  get length(): number {
    return this.end;
  }

  get size(): number {
    return this.end - this.free.length;
  }

  /** -1: no such node (any more). */
  slotOf(number: number): number {
    return this.byNumber.find(number);
  }

  /** The node of a file, or -1. A node whose inode number was given to another file since is not found again. */
  find(file: Identity): number {
    const device = this.deviceIndex(file.device);
    for (;;) {
      const slot = this.byFile.find(device, file.ino);
      if (slot < 0 || this.isSame(slot, file)) return slot;
      this.byFile.remove(slot);
      this.inos[slot] = -1;
    }
  }

  isSame(slot: number, file: Identity): boolean {
    return (
      this.inos[slot] === file.ino &&
      this.births[slot] === file.birth &&
      this.kinds[slot] === file.kind &&
      this.deviceNumbers[this.devices[slot]!] === file.device
    );
  }

  add(file: Identity, parent: number, name: string): number {
    const slot = this.free.pop() ?? this.end++;
    if (slot >= this.numbers.length) this.grow();
    this.numbers[slot] = ++this.lastNumber;
    this.inos[slot] = file.ino;
    this.devices[slot] = this.deviceIndex(file.device);
    this.births[slot] = file.birth;
    this.kinds[slot] = file.kind;
    this.lookups[slot] = 0;
    this.holds[slot] = 0;
    this.fds[slot] = -1;
    this.recent[slot] = 0;
    this.versions[slot] = 0;
    this.parents[slot] = parent;
    this.names[slot] = name;
    if (parent >= 0) this.holds[parent]!++;
    this.byNumber.add(slot);
    this.byFile.add(slot);
    return slot;
  }

  /** The node was seen under this name. */
  rename(slot: number, parent: number, name: string): void {
    const before = this.parents[slot]!;
    if (before === parent && this.names[slot] === name) return;
    this.holds[parent]!++;
    this.parents[slot] = parent;
    this.names[slot] = name;
    if (before >= 0) this.unhold(before);
  }

  /** The last known name is gone: from now on only its descriptor leads to the node. */
  orphan(slot: number): void {
    const parent = this.parents[slot]!;
    this.parents[slot] = -1;
    this.names[slot] = '';
    if (parent >= 0) this.unhold(parent);
  }

  isNamed(slot: number, parent: number, name: string): boolean {
    return this.parents[slot] === parent && this.names[slot] === name;
  }

  hold(slot: number): void {
    this.holds[slot]!++;
  }

  unhold(slot: number): void {
    this.holds[slot]!--;
    this.drop(slot);
  }

  forget(slot: number, count: number): void {
    this.lookups[slot] = Math.max(0, this.lookups[slot]! - count);
    this.drop(slot);
  }

  /** Frees the node, and the directories that only it kept, when nothing needs it. */
  drop(slot: number): void {
    while (slot > 0 && this.lookups[slot] === 0 && this.holds[slot] === 0) {
      const parent = this.parents[slot]!;
      this.closeDescriptor(slot);
      this.byNumber.remove(slot);
      if (this.inos[slot]! >= 0) this.byFile.remove(slot);
      this.numbers[slot] = 0;
      this.names[slot] = '';
      this.free.push(slot);
      if (parent < 0) return;
      this.holds[parent]!--;
      slot = parent;
    }
  }

  private deviceIndex(device: number): number {
    if (this.deviceNumbers[0] === device) return 0;
    const index = this.deviceNumbers.indexOf(device);
    return index >= 0 ? index : this.deviceNumbers.push(device) - 1;
  }

  private grow(): void {
    const rows = this.numbers.length * 2;
    const wider = <T extends Float64Array | Int32Array | Uint32Array | Uint16Array | Uint8Array>(
      old: T,
      column: T,
    ): T => {
      column.set(old);
      return column;
    };
    this.numbers = wider(this.numbers, new Float64Array(rows));
    this.inos = wider(this.inos, new Float64Array(rows));
    this.devices = wider(this.devices, new Uint16Array(rows));
    this.births = wider(this.births, new Uint32Array(rows));
    this.kinds = wider(this.kinds, new Uint8Array(rows));
    this.lookups = wider(this.lookups, new Uint32Array(rows));
    this.holds = wider(this.holds, new Uint32Array(rows));
    this.parents = wider(this.parents, new Int32Array(rows));
    this.fds = wider(this.fds, new Int32Array(rows));
    this.recent = wider(this.recent, new Uint8Array(rows));
    this.versions = wider(this.versions, new Float64Array(rows));
  }
}
