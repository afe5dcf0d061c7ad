import { errno } from '../errors/errno.js';
import type { Log } from '../log/log.js';
import type { FuseChannel } from '../native/fuse-transport.js';
import type { Handle, NodeId } from '../vfs/operations.js';

/** Nobody lends us passthrough: no privilege, an older kernel, a kernel without it. */
const REFUSED_FOR_EVER: readonly number[] = [errno.EPERM, errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS];

/**
 * Which nodes the kernel reads and writes by itself (FUSE passthrough, Linux 6.9), and with which backing file. While one handle of a
 * node is open this way, every other open of it must be so too, with the same backing id; anything else is EIO.
 */
export class BackingTable {
  readonly #channel: Pick<FuseChannel, 'backingOpen' | 'backingClose'>;
  readonly #log: Log;
  readonly #nodes = new Map<NodeId, { id: number; handles: Set<Handle> }>();
  #lent = false;

  constructor(channel: Pick<FuseChannel, 'backingOpen' | 'backingClose'>, log: Log) {
    this.#channel = channel;
    this.#log = log;
  }

  /** Passthrough was negotiated. */
  enable(): void {
    this.#lent = true;
  }

  /** The backing id for a handle that is being opened, or 0: open it the ordinary way. `fd` -1 asks for nothing by itself. */
  acquire(node: NodeId, handle: Handle, fd: number): number {
    const known = this.#nodes.get(node);
    if (known) {
      known.handles.add(handle);
      return known.id;
    }
    if (fd < 0 || !this.#lent) return 0;
    const id = this.#channel.backingOpen(fd);
    if (id <= 0) {
      if (REFUSED_FOR_EVER.includes(-id)) {
        this.#lent = false;
        this.#log.info('the kernel lends no passthrough: reads and writes go through the daemon', {
          errno: -id,
        });
      }
    }
    // A node that was refused stays ordinary until its last handle is closed: the kernel does not mix the two.
    const entry = { id: Math.max(0, id), handles: new Set([handle]) };
    this.#nodes.set(node, entry);
    return entry.id;
  }

  release(node: NodeId, handle: Handle): void {
    const known = this.#nodes.get(node);
    if (!known?.handles.delete(handle) || known.handles.size > 0) return;
    this.#nodes.delete(node);
    if (known.id > 0) this.#channel.backingClose(known.id);
  }

  get size(): number {
    let lent = 0;
    for (const { id } of this.#nodes.values()) if (id > 0) lent++;
    return lent;
  }
}
