import { type Clock, systemClock } from '../../clock/clock.js';
import { sleep, systemTimers, type Timers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Backend, ByteSink } from '../contract.js';
import { intercept } from './intercept.js';

export interface RetryOptions {
  /** Tries in all, the first one included. */
  readonly attempts: number;
  /** Longest pause before the second try, milliseconds; doubles with every further one. */
  readonly firstDelay: number;
  readonly maximumDelay: number;
  /** No further try once so many milliseconds have passed since the first. */
  readonly budget: number;
  readonly timers: Timers;
  readonly clock: Clock;
  /** Uniform in [0, 1): pauses are a random part of their longest, so that many callers do not come back at once. */
  readonly random: () => number;
}

export const defaultRetry: RetryOptions = {
  attempts: 4,
  firstDelay: 100,
  maximumDelay: 3_000,
  budget: 20_000,
  timers: systemTimers,
  clock: systemClock,
  random: Math.random,
};

/** Only what is worth trying again and surely had no effect. */
const repeatable = (error: unknown): boolean =>
  MirageError.is(error) && error.retryable && !error.outcomeUnknown;

/** Calls `attempt` until it succeeds, fails for good, or the tries or the time are used up. */
export async function retrying<T>(
  attempt: () => Promise<T>,
  options: RetryOptions,
  signal: AbortSignal,
): Promise<T> {
  const started = options.clock.monotonic();
  for (let tries = 1; ; tries++) {
    try {
      return await attempt();
    } catch (error) {
      if (!repeatable(error) || tries >= options.attempts || signal.aborted) throw error;
      if (options.clock.monotonic() - started >= options.budget) throw error;
    }
    const longest = Math.min(options.maximumDelay, options.firstDelay * 2 ** (tries - 1));
    await sleep(options.timers, longest * options.random(), signal);
  }
}

/** Repeats what failed for a passing reason and had no effect. A read goes on where it stopped, if it names its version. */
export function retry(inner: Backend, options: RetryOptions = defaultRetry): Backend {
  return {
    ...intercept(inner, (_operation, _key, context, proceed) =>
      retrying(() => proceed(context), options, context.signal),
    ),
    read(key, range, sink, context, match) {
      let arrived = 0;
      const counting: ByteSink = {
        begin: (info) => sink.begin?.(info),
        write(chunk) {
          arrived += chunk.length;
          return sink.write(chunk);
        },
        ...(sink.writeNow && {
          writeNow(chunk) {
            arrived += chunk.length;
            sink.writeNow?.(chunk);
          },
        }),
      };
      const attempt = async () => {
        const rest = { offset: range.offset + arrived, length: range.length - arrived };
        try {
          return await inner.read(key, rest, counting, context, match);
        } catch (error) {
          // Without a version the rest could come from another one.
          if (arrived > 0 && match === undefined && repeatable(error)) throw final(error as MirageError);
          throw error;
        }
      };
      return retrying(attempt, options, context.signal);
    },
  };
}

function final({ message, errno, hint, cause }: MirageError): MirageError {
  return new MirageError(message, { errno, cause, ...(hint !== undefined && { hint }) });
}
