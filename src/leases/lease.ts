import type { Timers } from '../clock/timers.js';
import { MirageError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';
import type { LeaseTicket } from '../ports/lease-port.js';
import type { Grant, LockMethod } from './lock-method.js';

export interface LeaseOptions<G extends Grant> {
  readonly name: string;
  readonly method: LockMethod<G>;
  readonly timers: Timers;
  readonly log: Log;
  /** Uniform in [0, 1): waiters of many hosts do not ask all at once. */
  readonly random: () => number;
  /** Nobody has or wants it any more. */
  readonly onIdle: () => void;
}

interface Waiter {
  readonly ticket: LeaseTicket;
  readonly wait: boolean;
  readonly timer: { cancel(): void };
  resolve(): void;
  reject(error: unknown): void;
}

/** Milliseconds between two questions of who waits: from, to. */
const FIRST_PAUSE = 40;
const LONGEST_PAUSE = 500;
/** Milliseconds for which another host that waits comes first, and for which a newcomer here lets it. */
const YIELD = 1000;
/** Parts of the term: of the wait for the next renewal, of that after one that failed, and of the time that one may take. */
const RENEWAL = 1 / 3;
const REPETITION = 1 / 12;
const PATIENCE = 1 / 4;

/**
 * The lease of one name, as one mount has it: shared by all tickets, kept by renewing it, given back with the last one. Its tickets hear nothing
 * when it is lost: whoever writes then meets the precondition of the commit.
 */
export class Lease<G extends Grant = Grant> {
  readonly #options: LeaseOptions<G>;
  readonly #tickets = new Set<LeaseTicket>();
  readonly #waiters = new Map<LeaseTicket, Waiter>();
  /** What is asked of the store now: one thing after the other. */
  #work: Promise<void> | undefined;
  #abort = new AbortController();
  #grant: G | undefined;
  #renewal: { cancel(): void } | undefined;
  #told = false;
  #closed = false;
  /** Another host was asking when we let go: it comes first while this runs. */
  #yields: { cancel(): void } | undefined;
  #pause = FIRST_PAUSE;
  #wake: (() => void) | undefined;

  constructor(options: LeaseOptions<G>) {
    this.#options = options;
  }

  /** While this holds, no other host has the lease. */
  get believed(): boolean {
    return this.#grant !== undefined && this.#grant.deadline.left > 0;
  }
  get epoch(): number | undefined {
    return this.#grant?.epoch;
  }
  /** Milliseconds that it lasts without another renewal; undefined: not ours. */
  get left(): number | undefined {
    return this.#grant?.deadline.left;
  }
  get tickets(): number {
    return this.#tickets.size;
  }
  get waiting(): number {
    return this.#waiters.size;
  }
  get idle(): boolean {
    const { size } = this.#waiters;
    return this.#grant === undefined && size === 0 && this.#work === undefined && this.#yields === undefined;
  }
  /** Another host waits, and who has the lease here may be done soon. */
  get #othersFirst(): boolean {
    return this.believed && this.#grant?.wanted === true && this.#tickets.size > 0;
  }

  /** `limit`: milliseconds; 0 answers at once. EAGAIN or ETIMEDOUT: another host has it; else what the store says. */
  acquire(ticket: LeaseTicket, limit: number): Promise<void> {
    if (this.#closed) return Promise.reject(ended());
    const others = this.#grant?.wanted === true && limit > 0;
    if (this.believed && !others) {
      this.#tickets.add(ticket);
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const { timers } = this.#options;
      const expire = () => this.#fail(ticket, this.#timedOut(limit));
      const timer = limit > 0 ? timers.after(limit, expire) : { cancel() {} };
      const waiter = { ticket, wait: limit > 0, timer, resolve, reject };
      this.#waiters.set(ticket, waiter);
      // The programs that have tickets may wait for this one.
      if (this.#othersFirst) timers.after(YIELD, () => this.#waiters.has(ticket) && this.#join());
      else this.#begin();
      // Somebody who does not wait has to be told now.
      if (limit === 0) this.#wake?.();
    });
  }

  /** Gives a ticket back, also one that waits. Resolves when the store has been told, where it was the last one. */
  async release(ticket: LeaseTicket): Promise<void> {
    this.#fail(ticket, new MirageError('nobody waits for the lease any more', { errno: 'ECANCELED' }));
    if (!this.#tickets.delete(ticket) || this.#tickets.size > 0) return;
    this.#begin();
    await this.#work;
  }

  /** Gives back what is held, whoever has tickets; for the end of the mount. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const ticket of [...this.#waiters.keys()]) this.#fail(ticket, ended());
    this.#tickets.clear();
    this.#yields?.cancel();
    this.#yields = undefined;
    this.#begin();
    await this.#work;
  }

  #begin(): void {
    this.#work ??= this.#run().finally(() => {
      this.#work = undefined;
      if (this.#needsWork) this.#begin();
      else if (this.idle) this.#options.onIdle();
    });
  }

  get #needsWork(): boolean {
    const unused = this.#grant !== undefined && this.#tickets.size === 0;
    return unused || (this.#waiters.size > 0 && !this.#othersFirst);
  }

  #join(): void {
    if (this.believed) this.#admit();
    else this.#begin();
  }

  async #run(): Promise<void> {
    await undefined;
    const grant = this.#grant;
    if (grant !== undefined && this.#tickets.size === 0 && (this.#waiters.size === 0 || grant.wanted)) {
      await this.#giveBack(grant);
    }
    if (this.#waiters.size === 0 || this.#othersFirst) return;
    try {
      if (this.#grant !== undefined) await this.#renew();
      if (this.#grant === undefined) await this.#take();
    } catch (error) {
      for (const ticket of [...this.#waiters.keys()]) this.#fail(ticket, error);
    }
    if (this.believed) this.#admit();
  }

  #admit(): void {
    for (const { ticket, timer, resolve } of this.#waiters.values()) {
      timer.cancel();
      this.#tickets.add(ticket);
      resolve();
    }
    this.#waiters.clear();
  }

  #fail(ticket: LeaseTicket, error: unknown): void {
    const waiter = this.#waiters.get(ticket);
    if (waiter === undefined) return;
    this.#waiters.delete(ticket);
    waiter.timer.cancel();
    waiter.reject(error);
    if (this.#waiters.size === 0) this.#wake?.();
  }

  /** Until it is ours, or nobody waits any more. What was granted then is given back by the next run. */
  async #take(): Promise<void> {
    const { name, method } = this.#options;
    while (this.#yields !== undefined && this.#waiters.size > 0) await this.#rest(FIRST_PAUSE);
    this.#pause = FIRST_PAUSE;
    while (this.#waiters.size > 0) {
      const ask = [...this.#waiters.values()].some(({ wait }) => wait);
      const answer = await this.#limited((signal) => method.attempt(name, ask, signal), method.term);
      if ('granted' in answer) {
        this.#granted(answer.granted);
        if (this.believed) return;
        // So late an answer is worth nothing by itself.
        await this.#renew();
        if (this.#grant !== undefined) return;
        continue;
      }
      for (const { ticket, wait } of [...this.#waiters.values()]) {
        if (!wait) this.#fail(ticket, busy(name, answer.holder));
      }
      if (this.#waiters.size === 0) return;
      await this.#rest(this.#pause * (0.5 + this.#options.random()));
      this.#pause = Math.min(this.#pause * 1.5, LONGEST_PAUSE);
    }
  }

  /** Milliseconds; ends at once when nobody waits any more, or somebody came who does not. */
  #rest(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        timer.cancel();
        this.#wake = undefined;
        resolve();
      };
      const timer = this.#options.timers.after(milliseconds, done);
      this.#wake = done;
    });
  }

  #granted(grant: G): void {
    this.#grant = grant;
    this.#told = false;
    this.#renewLater();
  }

  // Keeping it.

  #renewLater(afterFailure = false): void {
    const { method, timers } = this.#options;
    const left = this.#grant?.deadline.left ?? 0;
    const due = left - method.term * (1 - RENEWAL);
    this.#renewal?.cancel();
    this.#renewal = timers.after(afterFailure ? method.term * REPETITION : Math.max(due, 1), () => {
      if (this.#work !== undefined) return this.#renewLater(true);
      this.#work = this.#renew()
        .catch((error: unknown) => this.#notRenewed(error))
        .finally(() => {
          this.#work = undefined;
          if (this.#needsWork) this.#begin();
          else if (this.idle) this.#options.onIdle();
        });
      return undefined;
    });
  }

  async #renew(): Promise<void> {
    const { name, method, log } = this.#options;
    const grant = this.#grant;
    if (grant === undefined) return;
    const renewed = await this.#limited(
      (signal) => method.renew(name, grant, signal),
      method.term * PATIENCE,
    );
    if (this.#grant !== grant) return;
    if (renewed !== undefined) {
      if (this.#told) log.info('the lease of a file is kept again', { file: name });
      this.#granted(renewed);
      return;
    }
    log.warn('another host has taken the lease of a file that is open for writing here', {
      file: name,
      why: 'it was not renewed in time',
      do: 'nothing: what is written here is stored unless that host has written first',
    });
    this.#forget();
  }

  /** Tried again as long as somebody has a ticket: nobody may have taken it meanwhile. */
  #notRenewed(error: unknown): void {
    const { name, log } = this.#options;
    if (!this.believed && !this.#told) {
      this.#told = true;
      log.warn('the lease of a file that is open for writing here has run out', {
        file: name,
        why: String(error),
        do: 'see whether the store can be reached',
      });
    }
    this.#renewLater(true);
  }

  async #giveBack(grant: G): Promise<void> {
    const { name, method, log } = this.#options;
    this.#forget();
    if (grant.wanted) this.#yield();
    try {
      await this.#limited((signal) => method.release(name, grant, signal), method.term * PATIENCE);
    } catch (error) {
      log.debug('a lease could not be given back; it ends by itself', { file: name, why: String(error) });
    }
  }

  #yield(): void {
    this.#yields?.cancel();
    this.#yields = this.#options.timers.after(YIELD, () => {
      this.#yields = undefined;
      if (this.idle) this.#options.onIdle();
    });
  }

  #forget(): void {
    this.#grant = undefined;
    this.#tickets.clear();
    this.#renewal?.cancel();
    this.#renewal = undefined;
  }

  async #limited<T>(work: (signal: AbortSignal) => Promise<T>, limit: number): Promise<T> {
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const late = new MirageError('the store did not answer in time', {
      errno: 'ETIMEDOUT',
      retryable: true,
      outcomeUnknown: true,
    });
    const timer = this.#options.timers.after(limit, () => this.#abort.abort(late));
    try {
      return await work(signal);
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      timer.cancel();
    }
  }

  #timedOut(limit: number): MirageError {
    return new MirageError(
      `${this.#options.name}: another host had it open for writing for ${Math.round(limit / 1000)} s`,
      { errno: 'ETIMEDOUT', retryable: true, hint: 'try again later, or raise leaseWait of the mount' },
    );
  }
}

const busy = (name: string, holder: string): MirageError =>
  new MirageError(`${name} is open for writing at ${holder}`, {
    errno: 'EAGAIN',
    retryable: true,
    hint: 'try again later, or open it without O_NONBLOCK to wait',
  });

const ended = (): MirageError => new MirageError('the mount ends', { errno: 'ECANCELED' });
