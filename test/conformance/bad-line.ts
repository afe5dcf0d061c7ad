import type { Backend } from '../../src/backends/contract.js';
import { type Call, chaos, type Fault } from '../../src/backends/layers/chaos.js';
import { limit } from '../../src/backends/layers/limit.js';
import { readBack } from '../../src/backends/layers/read-back.js';
import { defaultRetry, retry } from '../../src/backends/layers/retry.js';
import { timeout } from '../../src/backends/layers/timeout.js';
import { systemTimers } from '../../src/clock/timers.js';

/** One call in so many goes wrong, but never more than so many times in a row for the same reason: layers give up, too. */
const ONE_IN = 6;
const IN_A_ROW = 2;

/** A bad line to the store, with the layers that make it good again. `spared`: operations that never go wrong. */
export function overBadLine(
  store: Backend,
  counted: { faults: number },
  spared: readonly string[] = [],
): Backend {
  let seed = 42;
  const random = () => {
    // The linear congruential generator of Numerical Recipes.
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return seed / 2 ** 32;
  };
  const inARow = new Map<string, number>();
  const next = ({ operation, key, match }: Call): Fault => {
    const call = `${operation} ${key}`;
    const before = inARow.get(call) ?? 0;
    if (spared.includes(operation) || before === IN_A_ROW || random() * ONE_IN >= 1) {
      inARow.delete(call);
      return { kind: 'none' };
    }
    inARow.set(call, before + 1);
    counted.faults++;
    const kind = Math.floor(random() * 3);
    if (kind === 0) return { kind: 'latency', milliseconds: 5 };
    if (kind === 1) return { kind: 'unavailable' };
    // What is broken off in the middle can only go on if it is known of which version it was.
    return { kind: 'reset', bytes: match === undefined ? 0 : Math.floor(random() * 100_000) };
  };
  const bad = chaos(store, { next, timers: systemTimers });
  return readBack(retry(limit(timeout(bad), 64), { ...defaultRetry, firstDelay: 1 }));
}
