import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import type { Backend } from '../../src/backends/contract.js';
import { open } from '../../src/backends/gcs/open.js';
import { type GcsOptions, gcsOptions } from '../../src/backends/gcs/options.js';
import { type Call, chaos, type Fault } from '../../src/backends/layers/chaos.js';
import { limit } from '../../src/backends/layers/limit.js';
import { readBack } from '../../src/backends/layers/read-back.js';
import { defaultRetry, retry } from '../../src/backends/layers/retry.js';
import { layered } from '../../src/backends/layers/stack.js';
import { timeout } from '../../src/backends/layers/timeout.js';
import { systemClock } from '../../src/clock/clock.js';
import { systemTimers } from '../../src/clock/timers.js';
import { type FakeGcs, startFakeGcs } from '../servers/gcs.js';
import { quietLog } from '../servers/quiet.js';
import { conformanceSuite } from './suite.js';

const context = {
  log: quietLog,
  clock: systemClock,
  writable: true,
  signal: new AbortController().signal,
};

/** https://cloud.google.com/storage/docs/objects#naming. The other names are tested in test/backends/gcs.test.ts. */
const limits = {
  'odd names are names like others': 'Google allows no line break in a name',
  'odd names are directories like others': 'Google allows no line break in a name',
};

/** One call in so many goes wrong, but never more than so many times in a row for the same reason: layers give up, too. */
const ONE_IN = 6;
const IN_A_ROW = 2;

/** A bad line to the store, with the layers that make it good again. */
function mended(store: Backend, counted: { faults: number }): Backend {
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
    if (before === IN_A_ROW || random() * ONE_IN >= 1) {
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

describe('gcs keeps the contract, against a fake', () => {
  let server: FakeGcs;
  let bare: OpenedBackend;
  let whole: OpenedBackend;
  let mendedBackend: Backend;
  const counted = { faults: 0 };
  const optionsOf = async (more: Partial<GcsOptions> = {}) =>
    gcsOptions.parse({ endpoint: server.endpoint, bucket: await server.createBucket(), ...more });

  beforeAll(async () => {
    server = await startFakeGcs();
    bare = await open(await optionsOf(), context);
    whole = await layered({ open: (o) => open(o as GcsOptions, context) }).open(
      await optionsOf({ prefix: 'some/prefix/' }),
      context,
    );
    mendedBackend = mended((await open(await optionsOf(), context)).backend, counted);
  });
  afterAll(async () => {
    await bare?.backend.close?.();
    await whole?.backend.close?.();
    await mendedBackend?.close?.();
    await server?.stop();
  });

  test('every precondition is honoured', () => {
    expect(bare.probed).toEqual({
      writeAbsent: true,
      writeMatch: true,
      multipartAbsent: true,
      multipartMatch: true,
      copyAbsent: true,
      removeMatch: true,
    });
  });

  describe('the backend alone', () => conformanceSuite(() => bare.backend, limits));
  describe('in its layers, below a prefix', () => conformanceSuite(() => whole.backend, limits));
  describe('over a bad line', () => {
    conformanceSuite(() => mendedBackend, limits);
    test('and much went wrong', () => expect(counted.faults).toBeGreaterThan(100));
  });
});
