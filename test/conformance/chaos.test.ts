import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { open as openAzure } from '../../src/backends/azure/open.js';
import { azureOptions } from '../../src/backends/azure/options.js';
import type { Backend } from '../../src/backends/contract.js';
import { open } from '../../src/backends/s3/open.js';
import { open as openWebdav } from '../../src/backends/webdav/open.js';
import { webdavOptions } from '../../src/backends/webdav/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { MemoryBackend } from '../backends/memory-backend.js';
import { startApacheDav } from '../servers/apache-dav.js';
import { type Azurite, startAzurite } from '../servers/azurite.js';
import type { DavServer } from '../servers/dav-server.js';
import { quietLog } from '../servers/quiet.js';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { azuriteLimits } from './azurite-limits.js';
import { overBadLine } from './bad-line.js';
import { conformanceSuite } from './suite.js';

describe('over a bad line', () => {
  describe('a perfect store keeps the contract', () => {
    const counted = { faults: 0 };
    const backend = overBadLine(new MemoryBackend(), counted);
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
      backend = overBadLine(opened.backend, counted);
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
      backend = overBadLine(opened.backend, counted);
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
      backend = overBadLine(opened.backend, counted);
    }, 90_000);
    afterAll(async () => {
      await backend?.close?.();
      await server?.stop();
    });
    conformanceSuite(() => backend, azuriteLimits);
    test('and much went wrong', () => expect(counted.faults).toBeGreaterThan(100));
  });
});
