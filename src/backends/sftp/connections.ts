import { type Clock, systemClock } from '../../clock/clock.js';
import { sleep, systemTimers, type Timers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type { Context } from '../contract.js';
import { abortReason, Call } from './call.js';
import type { Channel } from './channel.js';
import { Requests } from './requests.js';
import { Session } from './session.js';

/** Pause after the first failed attempt to connect, milliseconds; it doubles with every further one. */
const FIRST_DELAY = 100;
const MAXIMUM_DELAY = 5_000;
/** A connection that breaks each time it is used is not the network's fault. */
const ATTEMPTS = 3;

export interface ConnectionsOptions {
  connect(signal: AbortSignal): Promise<Channel>;
  /** Ends what else was connected. */
  onClose?(): void;
  /** Sessions at most. */
  readonly limit: number;
  /** Milliseconds: of silence, of an attempt to connect, and how long a call waits for an unreachable server. */
  readonly timeout: number;
  readonly log: Log;
  readonly timers?: Timers;
  readonly clock?: Clock;
}

/** One of the sessions, and what is known of it while it is away. */
interface Slot {
  session: Session | undefined;
  attempt: Promise<Session> | undefined;
  failure: MirageError | undefined;
  failures: number;
  /** When it may be tried again, on the monotonic clock. */
  retryAt: number;
  /** Since when there is no session although one is wanted. */
  downSince: number | undefined;
}

/**
 * The sessions of one mount. The first carries what asks for names and attributes, the others open files, so that a `stat` does not stand in line
 * behind megabytes. One that broke is made again when it is needed: calls wait for that while the outage is young, and fail at once
 * when it is not.
 */
export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #timers: Timers;
  readonly #clock: Clock;
  readonly #slots: Slot[];
  readonly #closing = new AbortController();

  constructor(options: ConnectionsOptions) {
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
    this.#clock = options.clock ?? systemClock;
    this.#slots = Array.from({ length: options.limit }, () => ({
      session: undefined,
      attempt: undefined,
      failure: undefined,
      failures: 0,
      retryAt: 0,
      downSince: undefined,
    }));
  }

  /** The first session, tried once. */
  async first(signal: AbortSignal): Promise<Session> {
    return await abortable(this.#attempt(this.#slots[0]!), signal);
  }

  /**
   * Runs `work` on the session for names. When the connection breaks, it runs again on a new one, unless something was sent that changes
   * something: then nobody knows, and the error says so (`outcomeUnknown`). `repeatable`: a change that may be made twice.
   */
  async run<T>(
    context: Context,
    repeatable: boolean,
    work: (ask: Requests) => Promise<T>,
    kind: 'names' | 'content' = 'names',
  ): Promise<T> {
    using call = new Call(context.signal);
    for (let attempts = 1; ; attempts++) {
      const session = await this.#acquire(kind === 'names' ? this.#slots[0]! : this.#forContent(), call);
      try {
        return await work(new Requests(session, call));
      } catch (error) {
        if (session.lost === undefined || attempts === ATTEMPTS || context.signal.aborted) throw error;
        if (!MirageError.is(error) || !error.retryable) throw error;
        // The time for an answer is over.
        if (session.lost.errno === 'ETIMEDOUT') throw error;
        if (error.outcomeUnknown && !repeatable) throw error;
      }
    }
  }

  async close(): Promise<void> {
    const ended = new MirageError('the mount is closed', { errno: 'EHOSTDOWN' });
    this.#closing.abort(ended);
    this.#options.onClose?.();
    for (const slot of this.#slots) {
      await slot.attempt?.catch(() => undefined);
      slot.session?.end(ended);
    }
  }

  /** The session with the least to do; while there are too few, the next one is made beside the work. */
  #forContent(): Slot {
    const [names, ...others] = this.#slots as [Slot, ...Slot[]];
    let best: Slot | undefined;
    for (const slot of others) {
      const alive = slot.session !== undefined && slot.session.lost === undefined;
      if (alive && (best === undefined || slot.session!.waiting < best.session!.waiting)) best = slot;
    }
    if (best === undefined || best.session!.waiting > 0) {
      const next = others.find((slot) => slot.session === undefined || slot.session.lost !== undefined);
      if (next !== undefined && next.attempt === undefined && next.retryAt <= this.#clock.monotonic()) {
        this.#attempt(next).catch(() => undefined);
      }
    }
    return best ?? names;
  }

  async #acquire(slot: Slot, call: Call): Promise<Session> {
    const { timeout } = this.#options;
    for (;;) {
      if (slot.session !== undefined && slot.session.lost === undefined) return slot.session;
      this.#closing.signal.throwIfAborted();
      const now = this.#clock.monotonic();
      slot.downSince ??= now;
      const patience = slot.downSince + timeout - now;
      if (slot.attempt === undefined && slot.retryAt > now) {
        if (slot.failure !== undefined && (patience <= 0 || !slot.failure.retryable)) throw slot.failure;
        await pause(this.#timers, Math.min(slot.retryAt - now, patience), call.signal);
        continue;
      }
      slot.attempt ??= this.#attempt(slot);
      try {
        return await abortable(slot.attempt, call.signal);
      } catch (error) {
        call.throwIfAborted();
        if (!MirageError.is(error) || !error.retryable) throw error;
        if (this.#clock.monotonic() - slot.downSince! >= timeout) throw error;
      }
    }
  }

  #attempt(slot: Slot): Promise<Session> {
    const attempt = this.#connect(slot).finally(() => {
      slot.attempt = undefined;
    });
    attempt.catch(() => undefined);
    slot.attempt = attempt;
    return attempt;
  }

  async #connect(slot: Slot): Promise<Session> {
    const { connect, timeout, log } = this.#options;
    const expired = new AbortController();
    const timer = this.#timers.after(timeout, () =>
      expired.abort(
        new MirageError(`no connection within ${Math.round(timeout / 1000)} s`, {
          errno: 'ETIMEDOUT',
          retryable: true,
          hint: 'check host and port of the mount, and the network',
        }),
      ),
    );
    const signal = AbortSignal.any([expired.signal, this.#closing.signal]);
    try {
      const channel = await connect(signal);
      using call = new Call(signal);
      const session = await Session.start(channel, this.#options, call);
      if (slot.failures > 0) log.info('the server can be reached again');
      slot.session = session;
      slot.failures = 0;
      slot.failure = undefined;
      slot.downSince = undefined;
      return session;
    } catch (error) {
      const failure = MirageError.is(error)
        ? error
        : new MirageError('the connection failed', { errno: 'EHOSTDOWN', retryable: true, cause: error });
      if (slot.failures++ === 0 && !this.#closing.signal.aborted) {
        log.warn('no connection to the server', { why: failure.message, do: failure.hint });
      }
      slot.failure = failure;
      const delay = Math.min(MAXIMUM_DELAY, FIRST_DELAY * 2 ** Math.min(slot.failures - 1, 10));
      slot.retryAt = this.#clock.monotonic() + delay;
      throw failure;
    } finally {
      timer.cancel();
    }
  }
}

/** `promise`, unless the caller gives up first; what it stands for goes on. */
function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(abortReason(signal));
    const aborted = (): void => reject(abortReason(signal));
    signal.addEventListener('abort', aborted, { once: true });
    promise.finally(() => signal.removeEventListener('abort', aborted)).then(resolve, reject);
  });
}

async function pause(timers: Timers, milliseconds: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(timers, Math.max(1, milliseconds), signal);
  } catch {
    throw abortReason(signal);
  }
}
