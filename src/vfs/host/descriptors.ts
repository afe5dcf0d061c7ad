import { errno } from '../../errors/errno.js';
import { type LocalFiles, Stat } from '../../native/local-files.js';
import type { Identity, NodeTable } from './node-table.js';

/** Reads who a file is out of the stat record. */
export function identify(stat: Float64Array, into: Identity): Identity {
  into.device = stat[Stat.device]!;
  into.ino = stat[Stat.ino]!;
  into.birth = stat[Stat.birth]!;
  into.kind = stat[Stat.mode]! >> 12;
  return into;
}

/**
 * O_PATH descriptors of nodes: opened when first needed, the least recently used closed above `limit` (a second-chance sweep), opened again
 * through the last known name. A node whose name leads to another file by then answers ESTALE, which makes the kernel look the path up again;
 * a node that has lost its name keeps its descriptor.
 */
export class Descriptors {
  private readonly seen: Identity = { device: 0, ino: 0, birth: 0, kind: 0 };
  private count = 0;
  private hand = 1;
  private sweeping = false;

  constructor(
    private readonly native: LocalFiles,
    private readonly table: NodeTable,
    private readonly limit: number,
  ) {}

  /** The descriptor of a node, or a negated error number. It stays open until the caller's turn ends. */
  of(slot: number): number {
    const fd = this.table.fds[slot]!;
    if (fd < 0) return this.open(slot);
    this.table.recent[slot] = 1;
    return fd;
  }

  /** Opens a node that has no descriptor; fills stat. */
  open(slot: number): number {
    const { table, native } = this;
    const parent = table.parents[slot]!;
    if (parent < 0) return -errno.ESTALE;
    const directory = this.of(parent);
    if (directory < 0) return directory;
    const fd = native.lookupAt(directory, table.names[slot]!);
    if (fd < 0) return fd === -errno.ENOENT || fd === -errno.ENOTDIR ? -errno.ESTALE : fd;
    if (!table.isSame(slot, identify(native.stat, this.seen))) {
      native.close(fd);
      return -errno.ESTALE;
    }
    this.adopt(slot, fd);
    return fd;
  }

  adopt(slot: number, fd: number): void {
    this.table.fds[slot] = fd;
    this.table.recent[slot] = 1;
    if (++this.count > this.limit && !this.sweeping) {
      // After the turn: an operation may hold the numbers of several descriptors.
      this.sweeping = true;
      queueMicrotask(() => this.sweep());
    }
  }

  close(slot: number): void {
    const fd = this.table.fds[slot]!;
    if (fd < 0) return;
    this.native.close(fd);
    this.table.fds[slot] = -1;
    this.count--;
  }

  private sweep(): void {
    const { table } = this;
    this.sweeping = false;
    // Two rounds give every descriptor its second chance; what is left then cannot be closed.
    for (let left = table.length * 2; left > 0 && this.count > this.limit; left--) {
      if (++this.hand >= table.length) this.hand = 1;
      const slot = this.hand;
      if (slot >= table.length || table.fds[slot]! < 0 || table.parents[slot]! < 0) continue;
      if (table.recent[slot] === 1) table.recent[slot] = 0;
      else this.close(slot);
    }
  }
}
