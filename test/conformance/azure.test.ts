import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { open } from '../../src/backends/azure/open.js';
import { azureOptions } from '../../src/backends/azure/options.js';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import { layered } from '../../src/backends/layers/stack.js';
import { systemClock } from '../../src/clock/clock.js';
import { type Azurite, startAzurite } from '../servers/azurite.js';
import { quietLog } from '../servers/quiet.js';
import { azuriteLimits } from './azurite-limits.js';
import { conformanceSuite } from './suite.js';

const context = {
  log: quietLog,
  clock: systemClock,
  writable: true,
  signal: new AbortController().signal,
};

describe('azure keeps the contract, against Azurite', () => {
  let server: Azurite;
  let bare: OpenedBackend;
  let whole: OpenedBackend;

  beforeAll(async () => {
    server = await startAzurite();
    const { containerName: container } = await server.createContainer();
    const options = azureOptions.parse({ ...server.credentials, endpoint: server.endpoint, container });
    bare = await open(options, context);
    whole = await layered({ open: () => open({ ...options, prefix: 'some/prefix/' }, context) }).open(
      options,
      context,
    );
  }, 90_000);
  afterAll(async () => {
    await bare?.backend.close?.();
    await whole?.backend.close?.();
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
      hierarchicalNamespace: false,
    });
  });

  describe('the backend alone', () => conformanceSuite(() => bare.backend, azuriteLimits));
  describe('in its layers, below a prefix', () => conformanceSuite(() => whole.backend, azuriteLimits));
});
