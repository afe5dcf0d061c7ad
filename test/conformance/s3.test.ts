import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import { layered } from '../../src/backends/layers/stack.js';
import { open } from '../../src/backends/s3/open.js';
import { systemClock } from '../../src/clock/clock.js';
import { quietLog } from '../servers/quiet.js';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { conformanceSuite } from './suite.js';

const context = {
  log: quietLog,
  clock: systemClock,
  writable: true,
  signal: new AbortController().signal,
};

describe('s3 keeps the contract, against Ceph', () => {
  let server: Radosgw;
  let bare: OpenedBackend;
  let whole: OpenedBackend;

  beforeAll(async () => {
    server = await startRadosgw();
    const options = { ...server.credentials, endpoint: server.endpoint, bucket: await server.createBucket() };
    bare = await open(options, context);
    whole = await layered({ open: (o) => open(o as typeof options, context) }).open(
      { ...options, prefix: 'some/prefix/' },
      context,
    );
  });
  afterAll(async () => {
    await bare?.backend.close?.();
    await whole?.backend.close?.();
    await server?.stop();
  });

  test('what Ceph 16 honours is found out', () => {
    expect(bare.probed).toMatchObject({
      quotedETags: false,
      writeAbsent: true,
      writeMatch: true,
      multipartAbsent: false,
      multipartMatch: false,
      copyAbsent: false,
      removeMatch: false,
    });
  });

  describe('the backend alone', () => conformanceSuite(() => bare.backend));
  describe('in its layers, below a prefix', () => conformanceSuite(() => whole.backend));
});
