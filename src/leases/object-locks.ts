import { MirageError } from '../errors/mirage-error.js';
import { Deadline, type LeaseClock, patience } from './deadline.js';
import type { Ledger } from './ledger.js';
import type { Attempt, Grant, LockMethod } from './lock-method.js';
import type { FoundLock, LockObjects } from './lock-objects.js';
import type { LockRecord } from './lock-record.js';

export interface ObjectLocksOptions {
  readonly objects: LockObjects;
  /** Who takes locks here: no other process takes any under this name. */
  readonly owner: string;
  /** Milliseconds. */
  readonly term: number;
  readonly clock: LeaseClock;
  readonly ledger: Ledger;
  readonly nonce: () => string;
}

export interface ObjectGrant extends Grant {
  readonly epoch: number;
  readonly found: FoundLock;
  /** When the next renewal was sent first; no answer to it came, and it may have been carried out. */
  renewing: Deadline | undefined;
}

/** A version that was seen, and since when, on our own clock: it was there at that moment. */
interface Watch {
  readonly version: string;
  readonly since: number;
}

/** Names that are remembered: what stood in the lock object, or how long it has shown no sign of life. */
const REMEMBERED = 1000;
/** How often a change whose answer was lost, or that came upon another version of ourselves, is tried in one go. */
const TRIES = 4;

/**
 * Locks as objects, by conditional writes alone: taken with create-if-absent or over the last holder's mark, renewed over the version that is
 * known, given back by marking. An object is never removed: its epoch would begin anew. A lock of somebody who shows no
 * sign of life is taken when its term has passed on the clock of who waits; no time is ever read out of it.
 */
export class ObjectLocks implements LockMethod<ObjectGrant> {
  readonly #options: ObjectLocksOptions;
  readonly #watches = new Map<string, Watch>();
  readonly #released = new Map<string, FoundLock>();

  constructor(options: ObjectLocksOptions) {
    this.#options = options;
  }

  get term(): number {
    return this.#options.term;
  }

  async attempt(name: string, ask: boolean, signal: AbortSignal): Promise<Attempt<ObjectGrant>> {
    const { objects } = this.#options;
    const remembered = this.#released.get(name);
    this.#released.delete(name);
    let found = remembered ?? (await objects.read(name, signal));
    for (let tries = 1; ; tries++) {
      if (found !== undefined && !this.#mayBeTaken(name, found)) {
        if (ask && !found.record.wanted) await this.#ask(name, found, signal);
        return { holder: found.record.owner };
      }
      const taken = await this.#take(name, found, signal);
      if ('granted' in taken) {
        this.#watches.delete(name);
        return taken;
      }
      // Somebody was faster, or what was remembered has passed.
      if (tries === TRIES) return { holder: taken.found?.record.owner ?? 'another host' };
      found = taken.found;
    }
  }

  #mayBeTaken(name: string, { record }: FoundLock): boolean {
    const { owner, ledger, clock } = this.#options;
    if (record.released) return true;
    // An earlier life of ours, or an attempt of ours whose answer never came: nobody believes in it.
    if (record.owner === owner && ledger.has(name, record)) return true;
    const version = `${record.nonce} ${record.renewals}`;
    const watch = this.#watches.get(name);
    // The question was answered after the version was written: from here on its term has begun for sure.
    if (watch?.version !== version) {
      remember(this.#watches, name, { version, since: clock.monotonic() });
      return false;
    }
    return clock.monotonic() - watch.since >= patience(record.term);
  }

  /** Over `found`, or where there is nothing. What is there instead, where that is not so any more. */
  async #take(
    name: string,
    found: FoundLock | undefined,
    signal: AbortSignal,
  ): Promise<{ granted: ObjectGrant } | { found: FoundLock | undefined }> {
    const { objects, owner, term, clock, ledger, nonce } = this.#options;
    const record: LockRecord = {
      of: name,
      epoch: (found?.record.epoch ?? 0) + 1,
      owner,
      nonce: nonce(),
      renewals: 0,
      term,
      released: false,
      wanted: false,
    };
    const deadline = Deadline.of(clock, term);
    // First: who is killed in between finds out that it was himself.
    ledger.note(name, record);
    let failure: unknown;
    for (let tries = 1; tries <= TRIES; tries++) {
      try {
        const written = await objects.write(name, record, preconditionOf(found), signal);
        return { granted: grantOf(written, deadline) };
      } catch (error) {
        if (!isRefused(error) && !isUnknown(error)) throw error;
        failure = error;
      }
      const now = await objects.read(name, signal);
      if (now?.record.nonce === record.nonce) return { granted: grantOf(now, deadline) };
      if (now?.validator !== found?.validator) return { found: now };
      // What was sent may still arrive; the same once more does no harm then.
    }
    throw failure;
  }

  /** Marks the lock as wanted. Whether that succeeds or not: its holder only yields the sooner. */
  async #ask(name: string, { record, validator }: FoundLock, signal: AbortSignal): Promise<void> {
    const mark = { ...record, wanted: true };
    await this.#options.objects
      .write(name, mark, { kind: 'match', validator }, signal)
      .catch(() => undefined);
  }

  async renew(name: string, grant: ObjectGrant, signal: AbortSignal): Promise<ObjectGrant | undefined> {
    const { objects, clock, term } = this.#options;
    let { found } = grant;
    const renewals = found.record.renewals + 1;
    for (let tries = 1; ; tries++) {
      grant.renewing ??= Deadline.of(clock, term);
      const deadline = grant.renewing;
      try {
        const record = { ...found.record, renewals };
        const written = await objects.write(name, record, preconditionOf(found), signal);
        // What an earlier one might still do is over: it names a version that is no more.
        return grantOf(written, deadline);
      } catch (error) {
        if (!isRefused(error)) throw error;
        const now = await objects.read(name, signal);
        if (now?.record.nonce !== found.record.nonce || now.record.released) {
          this.#options.ledger.forget(name);
          return undefined;
        }
        if (now.record.renewals === renewals) return grantOf(now, deadline);
        if (tries === TRIES) throw error;
        // Somebody has asked for it.
        found = now;
      }
    }
  }

  async release(name: string, grant: ObjectGrant, signal: AbortSignal): Promise<void> {
    const { objects, ledger } = this.#options;
    let { found } = grant;
    for (let tries = 1; ; tries++) {
      try {
        const record = { ...found.record, released: true };
        const written = await objects.write(name, record, preconditionOf(found), signal);
        if (!record.wanted) remember(this.#released, name, written);
        break;
      } catch (error) {
        if ((!isRefused(error) && !isUnknown(error)) || tries === TRIES) throw error;
        const now = await objects.read(name, signal);
        if (now?.record.nonce !== found.record.nonce || now.record.released) break;
        found = now;
      }
    }
    ledger.forget(name);
  }
}

function grantOf(found: FoundLock, deadline: Deadline): ObjectGrant {
  const { epoch, nonce, wanted } = found.record;
  return { epoch, nonce, wanted, deadline, found, renewing: undefined };
}

const preconditionOf = (found: FoundLock | undefined) =>
  found === undefined
    ? ({ kind: 'absent' } as const)
    : ({ kind: 'match', validator: found.validator } as const);

const isRefused = (error: unknown): boolean => MirageError.is(error, 'ESTALE');
const isUnknown = (error: unknown): boolean => MirageError.is(error) && error.outcomeUnknown;

/** The newest of a bounded number. */
function remember<T>(map: Map<string, T>, name: string, value: T): void {
  map.delete(name);
  map.set(name, value);
  if (map.size > REMEMBERED) map.delete(map.keys().next().value as string);
}
