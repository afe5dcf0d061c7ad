import type { StoreLocks } from '../backends/contract.js';
import { Deadline, type LeaseClock } from './deadline.js';
import type { Ledger } from './ledger.js';
import type { Attempt, Grant, LockMethod } from './lock-method.js';
import { lockKey } from './lock-record.js';

export interface NativeLocksOptions {
  readonly locks: StoreLocks;
  /** Milliseconds; brought within what the store grants. */
  readonly term: number;
  readonly clock: LeaseClock;
  readonly ledger: Ledger;
  /** UUIDs. */
  readonly nonce: () => string;
}

/** Locks by the leases of the store itself, which ends them by its own clock. The nonce is the id of the lease: repeating it harms nobody. */
export class NativeLocks implements LockMethod {
  readonly term: number;
  readonly #options: NativeLocksOptions;

  constructor(options: NativeLocksOptions) {
    this.#options = options;
    const { shortestTerm, longestTerm } = options.locks;
    this.term = Math.min(Math.max(options.term, shortestTerm), longestTerm);
  }

  async attempt(name: string, _ask: boolean, signal: AbortSignal): Promise<Attempt> {
    const { locks, clock, ledger } = this.#options;
    // A lease of an earlier life, or one whose grant was never heard of, is prolonged under its old id.
    const nonce = ledger.entry(name)?.nonce ?? this.#options.nonce();
    ledger.note(name, { nonce });
    const deadline = Deadline.of(clock, this.term);
    if (await locks.acquire(lockKey(name), nonce, this.term, { signal })) {
      return { granted: { epoch: undefined, nonce, deadline, wanted: false } };
    }
    ledger.forget(name);
    return { holder: 'another host' };
  }

  async renew(name: string, grant: Grant, signal: AbortSignal): Promise<Grant | undefined> {
    const { locks, clock, ledger } = this.#options;
    const deadline = Deadline.of(clock, this.term);
    if (await locks.renew(lockKey(name), grant.nonce, { signal })) return { ...grant, deadline };
    ledger.forget(name);
    return undefined;
  }

  async release(name: string, { nonce }: Grant, signal: AbortSignal): Promise<void> {
    await this.#options.locks.release(lockKey(name), nonce, { signal });
    this.#options.ledger.forget(name);
  }
}
