import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import type { Backend } from '../../src/backends/contract.js';
import { open } from '../../src/backends/gcs/open.js';
import { type GcsOptions, gcsOptions } from '../../src/backends/gcs/options.js';
import { layered } from '../../src/backends/layers/stack.js';
import { systemClock } from '../../src/clock/clock.js';
import { type FakeGcs, startFakeGcs } from '../servers/gcs.js';
import { quietLog } from '../servers/quiet.js';
import { overBadLine } from './bad-line.js';
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
    mendedBackend = overBadLine((await open(await optionsOf(), context)).backend, counted);
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
