import type { Backend } from '../contract.js';
import { intercept } from './intercept.js';

/** At most `concurrency` calls at a time; the others wait in the order they came, and may be aborted while they wait. */
export function limit(inner: Backend, concurrency: number): Backend {
  let running = 0;
  const waiting = new Set<() => void>();

  function enter(signal: AbortSignal): undefined | Promise<void> {
    if (running < concurrency) {
      running++;
      return undefined;
    }
    return new Promise((resolve, reject) => {
      const admit = () => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      const leave = () => {
        waiting.delete(admit);
        reject(signal.reason);
      };
      waiting.add(admit);
      signal.addEventListener('abort', leave, { once: true });
    });
  }

  function exit(): void {
    // A Set keeps the order of insertion: its first member has waited longest. It takes over the place.
    const [next] = waiting;
    if (next === undefined) {
      running--;
    } else {
      waiting.delete(next);
      next();
    }
  }

  return intercept(inner, async (_operation, _key, context, proceed) => {
    context.signal.throwIfAborted();
    await enter(context.signal);
    try {
      return await proceed(context);
    } finally {
      exit();
    }
  });
}
