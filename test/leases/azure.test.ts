/** The leases that Azure itself keeps, against Azurite: two hosts, one lock. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { open } from '../../src/backends/azure/open.js';
import { azureOptions } from '../../src/backends/azure/options.js';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import { layered } from '../../src/backends/layers/stack.js';
import { systemClock } from '../../src/clock/clock.js';
import { systemTimers } from '../../src/clock/timers.js';
import { locksOf } from '../../src/leases/choose.js';
import { Leases } from '../../src/leases/leases.js';
import { NativeLocks } from '../../src/leases/native-locks.js';
import { type Azurite, startAzurite } from '../servers/azurite.js';
import { quietLog } from '../servers/quiet.js';
import { errorOf } from '../vfs-object/tree.js';

const context = {
  log: quietLog,
  clock: systemClock,
  writable: true,
  signal: new AbortController().signal,
};

let server: Azurite;
let opened: OpenedBackend;
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mirage-leases-'));
  server = await startAzurite();
  const { containerName: container } = await server.createContainer();
  const options = azureOptions.parse({ ...server.credentials, endpoint: server.endpoint, container });
  opened = await layered({ open: () => open(options, context) }).open(options, context);
}, 90_000);
afterAll(async () => {
  await opened?.backend.close?.();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A host, or the same one after its daemon was killed. */
function host(name: string): Leases {
  const leases = new Leases({ timers: systemTimers, log: quietLog, random: Math.random });
  const place = { folder: join(folder, name), mount: '/azure', term: 1000, clock: systemClock };
  const method = locksOf(opened.backend, place);
  expect(method).toBeInstanceOf(NativeLocks);
  // No less than the service grants.
  expect(method.term).toBe(15_000);
  leases.add(0, { method, wait: 30_000 });
  return leases;
}

test('a lease of the service is shared, refused, handed on and taken over by its own successor', async () => {
  const a = host('a');
  const b = host('b');
  await a.acquireLease(0, 'f', 1, true);
  await a.acquireLease(0, 'f', 2, true);
  expect(a.status(0)).toMatchObject([{ name: 'f', holders: 2 }]);
  expect(await errorOf(b.acquireLease(0, 'f', 3, false))).toBe('EAGAIN');
  const waiting = b.acquireLease(0, 'f', 4, true);
  await a.releaseLease(1);
  await a.releaseLease(2);
  await waiting;
  expect(await errorOf(a.acquireLease(0, 'f', 5, false))).toBe('EAGAIN');
  const successor = host('b');
  await successor.acquireLease(0, 'f', 6, false);
  expect(await errorOf(a.acquireLease(0, 'f', 7, false))).toBe('EAGAIN');
  await successor.close();
  await a.acquireLease(0, 'f', 8, false);
  for (const leases of [a, b]) await leases.close();
}, 60_000);
