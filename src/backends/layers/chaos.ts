import { sleep, type Timers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Backend, ListPage, Validator } from '../contract.js';
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
  /** A listing answers what it did the first time it was asked. */
  | { readonly kind: 'stale' };

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
}

/** Makes a good store behave like a bad one, for tests of everything above it. */
export function chaos(inner: Backend, options: ChaosOptions): Backend {
  const firstPages = new Map<string, ListPage>();
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
    const answer = await proceed(context);
    if (fault.kind === 'reset') throw unsettled(operation, 'connection reset');
    return answer;
  });
  return {
    ...faulty,
    async list(prefix, cursor, context) {
      const asked = `${prefix}\0${cursor ?? ''}`;
      const fault = options.next({ operation: 'list', key: asked });
      const page = await inner.list(prefix, cursor, context);
      const first = firstPages.get(asked);
      if (first === undefined) firstPages.set(asked, page);
      if (fault.kind === 'unavailable' || fault.kind === 'reset') throw unsettled('list', 'connection reset');
      return fault.kind === 'stale' ? (first ?? page) : page;
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
