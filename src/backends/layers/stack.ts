import type { BackendModule } from '../backend-type.js';
import type { Backend } from '../contract.js';
import { limit } from './limit.js';
import { Metrics, metrics } from './metrics.js';
import { ownChanges } from './own-changes.js';
import { readBack } from './read-back.js';
import { readonly } from './readonly.js';
import { retry } from './retry.js';
import { timeout } from './timeout.js';

/** Requests to one store at a time; more would wait in its connection pool all the same. */
const CONCURRENCY = 64;

/**
 * The layers of a remote store in their one order. From the outside in: what is refused costs nothing; figures show what the
 * callers see; an unknown outcome is settled above the retries that settle it; a call that pauses between tries holds no place in the
 * queue; and time in the queue is not the store's delay. What a listing is held against is what the callers were told.
 */
export function layered(module: BackendModule): BackendModule {
  return {
    async open(options, context) {
      const opened = await module.open(options, context);
      const counters = new Metrics();
      let backend: Backend = limit(timeout(opened.backend), CONCURRENCY);
      backend = metrics(readBack(retry(backend)), counters, context.clock);
      backend = context.writable ? ownChanges(backend, context.clock) : readonly(backend);
      return { ...opened, backend, counters: () => counters.snapshot() };
    },
  };
}
