import type { Timers } from '../clock/timers.js';
import { MirageError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';
import type { LeasePort, LeaseTicket } from '../ports/lease-port.js';
import type { MountIndex } from '../ports/store-port.js';
import { Lease } from './lease.js';
import type { Grant, LockMethod } from './lock-method.js';

export interface LeasedMount {
  readonly method: LockMethod;
  /** How long an open waits for another host, milliseconds. */
  readonly wait: number;
}

/** What `mirage status` says of a lease. */
export interface LeaseStatus {
  readonly name: string;
  /** undefined where the store keeps no count. */
  readonly epoch: number | undefined;
  /** Opens that share it. */
  readonly holders: number;
  /** Opens that wait for it. */
  readonly waiting: number;
  /** Milliseconds that it lasts without another renewal; undefined: not ours. */
  readonly left: number | undefined;
}

export interface LeasesOptions {
  readonly timers: Timers;
  readonly log: Log;
  readonly random: () => number;
}

/** The leases of all mounts of a daemon. */
export class Leases implements LeasePort {
  readonly #options: LeasesOptions;
  readonly #mounts = new Map<MountIndex, LeasedMount>();
  readonly #leases = new Map<MountIndex, Map<string, Lease>>();
  readonly #tickets = new Map<LeaseTicket, Lease>();

  constructor(options: LeasesOptions) {
    this.#options = options;
  }

  /** A mount with `locking: lease` whose store was reached. */
  add(mount: MountIndex, leased: LeasedMount): void {
    this.#mounts.set(mount, leased);
    if (!this.#leases.has(mount)) this.#leases.set(mount, new Map());
  }

  async acquireLease(mount: MountIndex, name: string, ticket: LeaseTicket, wait: boolean): Promise<void> {
    const leased = this.#mounts.get(mount);
    if (leased === undefined) throw new MirageError(`mount ${mount} keeps no leases`, { errno: 'EIO' });
    const lease = this.#lease(mount, name, leased.method);
    this.#tickets.set(ticket, lease);
    try {
      await lease.acquire(ticket, wait ? leased.wait : 0);
    } catch (error) {
      this.#tickets.delete(ticket);
      throw error;
    }
  }

  async releaseLease(ticket: LeaseTicket): Promise<void> {
    const lease = this.#tickets.get(ticket);
    this.#tickets.delete(ticket);
    await lease?.release(ticket);
  }

  status(mount: MountIndex): readonly LeaseStatus[] {
    return [...(this.#leases.get(mount) ?? [])]
      .map(([name, lease]) => ({
        name,
        epoch: lease.epoch,
        holders: lease.tickets,
        waiting: lease.waiting,
        left: lease.left === undefined ? undefined : Math.round(lease.left),
      }))
      .filter(({ holders, waiting, left }) => left !== undefined || holders > 0 || waiting > 0);
  }

  /** Gives everything back; what cannot be in time ends by itself. */
  async close(): Promise<void> {
    const all = [...this.#leases.values()].flatMap((leases) => [...leases.values()]);
    await Promise.all(all.map((lease) => lease.close()));
  }

  #lease(mount: MountIndex, name: string, method: LockMethod): Lease {
    const leases = this.#leases.get(mount) as Map<string, Lease>;
    const known = leases.get(name);
    if (known !== undefined) return known;
    const { timers, log, random } = this.#options;
    const lease: Lease = new Lease<Grant>({
      name,
      method,
      timers,
      log,
      random,
      onIdle: () => {
        if (leases.get(name) === lease) leases.delete(name);
      },
    });
    leases.set(name, lease);
    return lease;
  }
}
