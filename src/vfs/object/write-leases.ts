/**
 * `locking: lease`: who opens a file for writing waits until no other host has it open so, and keeps others waiting until the last writer here
 * is done and the store has what was written. So does who takes a name away from a file or gives it one. The names of a hard link are one file.
 */
import { constants } from 'node:fs';
import { MirageError } from '../../errors/mirage-error.js';
import type { LeasePort, LeaseTicket } from '../../ports/lease-port.js';
import { S_IFREG } from '../attributes.js';
import { type Name, NONE, type Slot } from '../inodes/inode-table.js';
import type { ByteString, Call, Handle } from '../operations.js';
import type { Inode } from './inode.js';
import type { Nodes } from './nodes.js';

const { O_RDONLY, O_TRUNC, O_NONBLOCK } = constants;
const O_ACCMODE = 3;
/** Milliseconds between two looks at what is still to be stored while the store does not take it. */
const AGAIN = 5000;
/** Milliseconds that a lease is kept when the kernel is about to ask once more. */
const LINGER = 1000;

let lastTicket: LeaseTicket = 0;

export class WriteLeases {
  readonly #nodes: Nodes;
  readonly #port: LeasePort;
  readonly #held = new Map<Handle, LeaseTicket>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #closed = false;

  constructor(nodes: Nodes, port: LeasePort) {
    this.#nodes = nodes;
    this.#port = port;
  }

  wanted(flags: number): boolean {
    return (flags & O_ACCMODE) !== O_RDONLY || (flags & O_TRUNC) !== 0;
  }

  /** Opens a file with its lease, which the handle that `open` resolves with keeps. */
  async open<T>(
    call: Call,
    slot: Slot,
    flags: number,
    open: () => Promise<T>,
    handleOf: (opened: T) => Handle,
  ): Promise<T> {
    const ticket = await this.#take(call, () => this.#nameOf(slot), (flags & O_NONBLOCK) === 0);
    return this.#opened(ticket, open, handleOf);
  }

  /** The same for a file that is to be made: nobody else makes it meanwhile. */
  async create<T>(
    call: Call,
    parent: Slot,
    name: ByteString,
    flags: number,
    create: () => Promise<T>,
    handleOf: (made: T) => Handle,
  ): Promise<T> {
    const key = () => this.#nodes.keyOf(parent, name);
    const ticket = await this.#take(call, key, (flags & O_NONBLOCK) === 0);
    return this.#opened(ticket, create, handleOf);
  }

  /** A change of content by path. */
  async during<T>(call: Call, slot: Slot, change: () => Promise<T>): Promise<T> {
    const ticket = await this.#take(call, () => this.#nameOf(slot), true);
    const inode = this.#nodes.inUse(slot);
    try {
      return await change();
    } finally {
      this.#giveBack(ticket, this.#nodes.inUse(slot) ?? inode);
    }
  }

  /** A change of the names of files: nobody else writes those meanwhile. EBUSY: another host did not let go of one in time. */
  async renaming<T>(call: Call, names: readonly Name[], change: () => Promise<T>): Promise<T> {
    const keys = names.map(({ parent, name }) => this.#nodes.keyOf(parent, name));
    const tickets: LeaseTicket[] = [];
    // One order for all hosts, so that two of them do not wait for each other.
    const ordered = [...names].sort((left, right) =>
      (this.#nameAt(left) ?? '') < (this.#nameAt(right) ?? '') ? -1 : 1,
    );
    try {
      for (const name of ordered) {
        const ticket = await this.#take(call, () => this.#nameAt(name), true).catch((error: unknown) => {
          if (!MirageError.is(error, 'ETIMEDOUT')) throw error;
          throw new MirageError(`${name.name} is open for writing at another host`, {
            errno: 'EBUSY',
            cause: error,
            hint: 'try again later, or raise leaseWait of the mount',
          });
        });
        if (ticket !== undefined) tickets.push(ticket);
      }
      return await change();
    } finally {
      for (const ticket of tickets) this.#giveBackNames(ticket, keys);
    }
  }

  /** After a handle was closed; what it had written may be on its way. */
  released(handle: Handle, inode: Inode): void {
    const ticket = this.#held.get(handle);
    this.#held.delete(handle);
    if (ticket !== undefined) this.#giveBack(ticket, inode);
  }

  /** What is held is given back by who keeps the leases. */
  close(): void {
    this.#closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#held.clear();
  }

  async #opened<T>(
    ticket: LeaseTicket | undefined,
    open: () => Promise<T>,
    handleOf: (opened: T) => Handle,
  ): Promise<T> {
    let handle: Handle | undefined;
    try {
      const opened = await open();
      handle = handleOf(opened);
      return opened;
    } catch (error) {
      // The kernel looks the name up and comes again.
      if (ticket !== undefined)
        this.#later(MirageError.is(error, 'ESTALE') ? LINGER : 0, () => this.#release(ticket));
      throw error;
    } finally {
      if (ticket !== undefined && handle !== undefined) this.#held.set(handle, ticket);
    }
  }

  /** undefined: the file has no name that another host could open. */
  async #take(call: Call, nameOf: () => string | undefined, wait: boolean): Promise<LeaseTicket | undefined> {
    for (;;) {
      const name = nameOf();
      if (name === undefined) return undefined;
      const ticket = ++lastTicket;
      const cancel = (): void => this.#release(ticket);
      const { signal } = call;
      if (signal.aborted) throw interrupted();
      signal.addEventListener('abort', cancel, { once: true });
      try {
        await this.#port.acquireLease(this.#nodes.mount, name, ticket, wait);
      } catch (error) {
        throw signal.aborted ? interrupted() : error;
      } finally {
        signal.removeEventListener('abort', cancel);
      }
      if (signal.aborted) {
        this.#release(ticket);
        throw interrupted();
      }
      if (nameOf() === name) return ticket;
      // It was renamed while we waited.
      this.#release(ticket);
    }
  }

  #nameOf(slot: Slot): string | undefined {
    const { table } = this.#nodes;
    if (table.parent(slot) === NONE) return undefined;
    const inode = this.#nodes.inUse(slot);
    const group = inode === undefined ? this.#nodes.record(slot)?.attributes?.linkGroup : inode.linkGroup;
    return group === undefined ? this.#nodes.keyOf(table.parent(slot), table.name(slot)) : `link ${group}`;
  }

  /** Of a name, whether it leads to a file or may do so soon; undefined: it leads to something else. */
  #nameAt({ parent, name }: Name): string | undefined {
    const { table } = this.#nodes;
    const slot = table.child(parent, name);
    if (slot !== NONE) return table.type(slot) === S_IFREG ? this.#nameOf(slot) : undefined;
    const record = this.#nodes.entry(parent, name);
    if (record?.kind === 'directory') return undefined;
    const group = record?.attributes?.linkGroup;
    return group === undefined ? this.#nodes.keyOf(parent, name) : `link ${group}`;
  }

  #giveBackNames(ticket: LeaseTicket, keys: readonly string[]): void {
    const { writeBehind } = this.#nodes;
    const stored = writeBehind?.async === true ? keys.map((key) => writeBehind.settle(key)) : [];
    Promise.all(stored).then(
      () => this.#release(ticket),
      () => this.#later(AGAIN, () => this.#giveBackNames(ticket, keys)),
    );
  }

  #giveBack(ticket: LeaseTicket | undefined, inode: Inode | undefined): void {
    if (ticket === undefined) return;
    this.#whenStored(inode).then(
      () => this.#release(ticket),
      // The store does not take it now. Whoever holds a lease for that loses it if it stays so.
      () => this.#later(AGAIN, () => this.#giveBack(ticket, inode)),
    );
  }

  /** Nothing of this host is on its way to the file any more. Rejects where that cannot be said now. */
  async #whenStored(inode: Inode | undefined): Promise<void> {
    if (inode === undefined) return;
    await inode.turn.run(async () => undefined);
    // Who still writes has a ticket of his own.
    if (inode.writers > 0 || inode.superseded || inode.lost) return;
    if (inode.needsCommit) throw new MirageError('not stored yet', { errno: 'EAGAIN' });
    const nodes = this.#nodes;
    if (nodes.writeBehind?.async !== true) return;
    for (const { parent, name } of nodes.table.names(inode.slot)) {
      await nodes.writeBehind.settle(nodes.keyOf(parent, name));
    }
  }

  #later(milliseconds: number, work: () => void): void {
    if (this.#closed) return;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      work();
    }, milliseconds);
    this.#timers.add(timer);
  }

  #release(ticket: LeaseTicket): void {
    if (this.#closed) return;
    this.#port.releaseLease(ticket).catch((error: unknown) => {
      this.#nodes.context.log.debug('a lease could not be given back', { why: String(error) });
    });
  }
}

const interrupted = (): MirageError => new MirageError('interrupted', { errno: 'EINTR' });
