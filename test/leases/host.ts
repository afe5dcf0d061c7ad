import type { Timers } from '../../src/clock/timers.js';
import type { LeaseClock } from '../../src/leases/deadline.js';
import { Lease } from '../../src/leases/lease.js';
import type { Ledger, LedgerEntry } from '../../src/leases/ledger.js';
import { ObjectLocks } from '../../src/leases/object-locks.js';
import type { VirtualTime } from '../backends/virtual-time.js';
import { quietLog } from '../servers/quiet.js';
import type { FakeStore, Fate } from './fake-store.js';

export const NAME = 'a/file';

/** A host with clocks of its own, which knows what it took also after it was killed. */
export class Host {
  readonly #store: FakeStore;
  readonly #time: VirtualTime;
  readonly #term: number;
  readonly #fate: (() => Fate) | undefined;
  readonly #noted = new Map<string, LedgerEntry>();
  readonly #rate: number;
  #life = 0;
  #nonces = 0;
  /** While it is stopped no timer of it runs, and its monotonic clock may stand still, as when the host sleeps. */
  #stopped = false;
  #slept = 0;
  #sleptSince: number | undefined;
  #late: (() => void)[] = [];
  lease: Lease;

  constructor(
    readonly name: string,
    store: FakeStore,
    options: { term?: number; fate?: () => Fate; rate?: number } = {},
  ) {
    this.#store = store;
    this.#time = store.time;
    this.#term = options.term ?? 9000;
    this.#fate = options.fate;
    this.#rate = options.rate ?? 1;
    this.lease = this.#begin();
  }

  #begin(): Lease {
    const life = ++this.#life;
    const time = this.#time;
    const clock: LeaseClock = {
      monotonic: () => (time.monotonic() - this.#asleep) * this.#rate + 5_000_000,
      boot: () => time.monotonic() * this.#rate + 77,
    };
    // A process that was killed does nothing more; one that was stopped does it later.
    const alive = (callback: () => void) => () => {
      if (life !== this.#life) return;
      if (this.#stopped) this.#late.push(callback);
      else callback();
    };
    const timers: Timers = {
      after: (milliseconds, callback) => time.after(milliseconds / this.#rate, alive(callback)),
    };
    const ledger: Ledger = {
      has: (name, entry) => {
        const noted = this.#noted.get(name);
        return noted?.nonce === entry.nonce && noted.epoch === entry.epoch;
      },
      entry: (name) => this.#noted.get(name),
      note: (name, { epoch, nonce }) => void this.#noted.set(name, { epoch, nonce }),
      forget: (name) => void (life === this.#life && this.#noted.delete(name)),
    };
    const method = new ObjectLocks({
      objects: this.#store.reach(this.#fate),
      owner: this.name,
      term: this.#term,
      clock,
      ledger,
      nonce: () => `${this.name}-${++this.#nonces}`,
    });
    return new Lease({
      name: NAME,
      method,
      timers,
      log: quietLog,
      random: () => 0.5,
      onIdle() {},
    }) as Lease;
  }

  get #asleep(): number {
    const now = this.#sleptSince === undefined ? 0 : this.#time.monotonic() - this.#sleptSince;
    return this.#slept + now;
  }

  /** Programs of this host may believe that they write alone. */
  get believes(): boolean {
    return !this.#stopped && this.lease.believed;
  }

  /** kill -9, and a successor on the same state directory. */
  crash(): void {
    this.lease = this.#begin();
  }

  stop(asleep: boolean): void {
    if (this.#stopped) return;
    this.#stopped = true;
    if (asleep) this.#sleptSince = this.#time.monotonic();
  }

  resume(): void {
    if (!this.#stopped) return;
    this.#slept = this.#asleep;
    this.#sleptSince = undefined;
    this.#stopped = false;
    for (const callback of this.#late.splice(0)) callback();
  }
}
