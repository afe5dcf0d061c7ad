import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { open as openAzure } from '../../src/backends/azure/open.js';
import { azureOptions } from '../../src/backends/azure/options.js';
import type { Backend } from '../../src/backends/contract.js';
import { type Call, chaos, type Fault } from '../../src/backends/layers/chaos.js';
import { limit } from '../../src/backends/layers/limit.js';
import { readBack } from '../../src/backends/layers/read-back.js';
import { defaultRetry, retry } from '../../src/backends/layers/retry.js';
import { timeout } from '../../src/backends/layers/timeout.js';
import { open } from '../../src/backends/s3/open.js';
import { open as openWebdav } from '../../src/backends/webdav/open.js';
import { webdavOptions } from '../../src/backends/webdav/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { systemTimers } from '../../src/clock/timers.js';
import { MemoryBackend } from '../backends/memory-backend.js';
import { startApacheDav } from '../servers/apache-dav.js';
import { type Azurite, startAzurite } from '../servers/azurite.js';
import type { DavServer } from '../servers/dav-server.js';
import { quietLog } from '../servers/quiet.js';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { azuriteLimits } from './azurite-limits.js';
import { conformanceSuite } from './suite.js';

/** One call in so many goes wrong, but never more than so many times in a row for the same reason: layers give up, too. */
const ONE_IN = 6;
const IN_A_ROW = 2;

/** A bad store with the layers that make it good again. */
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

describe('over a bad line', () => {
  describe('a perfect store keeps the contract', () => {
    const counted = { faults: 0 };
    const backend = mended(new MemoryBackend(), counted);
    conformanceSuite(() => backend);
    test('and much went wrong', () => expect(counted.faults).toBeGreaterThan(100));
  });

  describe('S3 keeps the contract', () => {
    const counted = { faults: 0 };
    let server: Radosgw;
    let backend: Backend;
    beforeAll(async () => {
      server = await startRadosgw();
      const options = {
        ...server.credentials,
        endpoint: server.endpoint,
        bucket: await server.createBucket(),
      };
      const signal = new AbortController().signal;
      const opened = await open(options, { log: quietLog, clock: systemClock, writable: true, signal });
      backend = mended(opened.backend, counted);
    });
    afterAll(async () => {
      await backend?.close?.();
      await server?.stop();
    });
    conformanceSuite(() => backend);
    test('and much went wrong', () => expect(counted.faults).toBeGreaterThan(100));
  });

  describe('WebDAV keeps the contract', () => {
    const counted = { faults: 0 };
    let server: DavServer;
    let backend: Backend;
    beforeAll(async () => {
      server = await startApacheDav();
      const options = webdavOptions.parse({ url: server.url });
      const signal = new AbortController().signal;
      const opened = await openWebdav(options, { log: quietLog, clock: systemClock, writable: true, signal });
      backend = mended(opened.backend, counted);
    });
    afterAll(async () => {
      await backend?.close?.();
      await server?.stop();
    });
    conformanceSuite(() => backend);
    test('and much went wrong', () => expect(counted.faults).toBeGreaterThan(100));
  });

  describe('Azure keeps the contract', () => {
    const counted = { faults: 0 };
    let server: Azurite;
    let backend: Backend;
    beforeAll(async () => {
      server = await startAzurite();
      const { containerName: container } = await server.createContainer();
      const options = azureOptions.parse({ ...server.credentials, endpoint: server.endpoint, container });
      const signal = new AbortController().signal;
      const opened = await openAzure(options, { log: quietLog, clock: systemClock, writable: true, signal });
      backend = mended(opened.backend, counted);
    }, 90_000);
    afterAll(async () => {
      await backend?.close?.();
      await server?.stop();
    });
    conformanceSuite(() => backend, azuriteLimits);
    test('and much went wrong', () => expect(counted.faults).toBeGreaterThan(100));
  });
});
