import type { Clock } from '../../clock/clock.js';
import { sleep, type Timers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import {
  type Backend,
  type Context,
  hasRemoveMany,
  type ObjectInfo,
  type Removal,
  type Validator,
} from '../contract.js';
import { CHANGES, intercept, type OperationName } from './intercept.js';

/** What goes wrong with one call. */
export type Fault =
  | { readonly kind: 'none' }
  /** The answer takes so long, in milliseconds. */
  | { readonly kind: 'latency'; readonly milliseconds: number }
  /** The store answers 503 and does nothing; a client cannot know the latter of a change. */
  | { readonly kind: 'unavailable' }
  /** The connection breaks: of a change after the store has carried it out, of a read after `bytes` of it have arrived. */
  | { readonly kind: 'reset'; readonly bytes: number }
  /** A listing answers, all at once, what it would have answered up to so many milliseconds ago; any other call goes well. */
  | { readonly kind: 'stale'; readonly milliseconds: number };

/** What is known of a call before it goes wrong. `match` is the version that a read names, if any. */
export interface Call {
  readonly operation: OperationName;
  readonly key: string;
  readonly match?: Validator | undefined;
}

export interface ChaosOptions {
  /** Called once per call, in the order they come. */
  readonly next: (call: Call) => Fault;
  readonly timers: Timers;
  /** By it listings may come late (`stale`): every directory is listed before it changes then. Without one none does. */
  readonly clock?: Clock;
}

/** Milliseconds for which it is known what a directory held. */
const LONGEST_LAG = 60_000;

/** What directories of a store held before they were changed. */
class Past {
  readonly #store: Backend;
  readonly #clock: Clock;
  readonly #listings = new Map<
    string,
    { readonly until: number; readonly entries: readonly ObjectInfo[] }[]
  >();

  constructor(store: Backend, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
  }

  /** To be told before a key changes, which may change every directory above it. */
  async keep(key: string, context: Context): Promise<void> {
    let directory = key;
    do {
      directory = directory.slice(0, Math.max(directory.lastIndexOf('/'), 0));
      await this.#keep(directory, context);
    } while (directory !== '');
  }

  async #keep(directory: string, context: Context): Promise<void> {
    const entries: ObjectInfo[] = [];
    let cursor: string | undefined;
    do {
      const page = await this.#store.list(directory, cursor, context);
      entries.push(...page.entries);
      cursor = page.cursor;
    } while (cursor !== undefined);
    const until = this.#clock.monotonic();
    const known = (this.#listings.get(directory) ?? []).filter((each) => each.until >= until - LONGEST_LAG);
    this.#listings.set(directory, [...known, { until, entries }]);
  }

  /** The oldest that was still so at most so many milliseconds ago; undefined: nothing has changed since. */
  at(directory: string, milliseconds: number): readonly ObjectInfo[] | undefined {
    const since = this.#clock.monotonic() - Math.min(milliseconds, LONGEST_LAG);
    return this.#listings.get(directory)?.find(({ until }) => until >= since)?.entries;
  }
}

/** Makes a good store behave like a bad one, for tests of everything above it. */
export function chaos(inner: Backend, options: ChaosOptions): Backend {
  const past = options.clock && new Past(inner, options.clock);
  const unsettled = (operation: OperationName, message: string) =>
    new MirageError(`${operation}: ${message}`, {
      errno: 'EIO',
      retryable: true,
      outcomeUnknown: CHANGES.has(operation),
    });

  const faulty = intercept(inner, async (operation, key, context, proceed) => {
    const fault = options.next({ operation, key });
    if (fault.kind === 'latency') await sleep(options.timers, fault.milliseconds, context.signal);
    if (fault.kind === 'unavailable') throw unsettled(operation, '503');
    if (CHANGES.has(operation)) await past?.keep(key, context);
    const answer = await proceed(context);
    if (fault.kind === 'reset') throw unsettled(operation, 'connection reset');
    return answer;
  });
  return {
    ...faulty,
    ...(hasRemoveMany(faulty) && {
      async removeMany(removals: readonly Removal[], context: Context) {
        for (const { key } of removals) await past?.keep(key, context);
        return faulty.removeMany(removals, context);
      },
    }),
    async list(prefix, cursor, context) {
      const fault = options.next({ operation: 'list', key: `${prefix}\0${cursor ?? ''}` });
      if (fault.kind === 'latency') await sleep(options.timers, fault.milliseconds, context.signal);
      if (fault.kind === 'unavailable' || fault.kind === 'reset') throw unsettled('list', 'connection reset');
      const late =
        fault.kind === 'stale' && cursor === undefined ? past?.at(prefix, fault.milliseconds) : undefined;
      return late === undefined ? inner.list(prefix, cursor, context) : { entries: late, cursor: undefined };
    },
    async read(key, range, sink, context, match) {
      const fault = options.next({ operation: 'read', key, match });
      if (fault.kind === 'latency') await sleep(options.timers, fault.milliseconds, context.signal);
      if (fault.kind === 'unavailable') throw unsettled('read', '503');
      if (fault.kind !== 'reset') return inner.read(key, range, sink, context, match);
      const cut = { offset: range.offset, length: Math.min(range.length, fault.bytes) };
      await inner.read(key, cut, sink, context, match);
      throw unsettled('read', 'connection reset');
    },
  };
}
