/** Leases as locks of a WebDAV server: two hosts, one lock. A server without locks has lock objects. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { hasLocks } from '../../src/backends/contract.js';
import { layered } from '../../src/backends/layers/stack.js';
import { open } from '../../src/backends/webdav/open.js';
import { webdavOptions } from '../../src/backends/webdav/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { systemTimers } from '../../src/clock/timers.js';
import { locksOf } from '../../src/leases/choose.js';
import { Leases } from '../../src/leases/leases.js';
import { lockKey } from '../../src/leases/lock-record.js';
import { NativeLocks } from '../../src/leases/native-locks.js';
import { startApacheDav } from '../servers/apache-dav.js';
import { startNextcloud } from '../servers/nextcloud.js';
import { startNginxDav } from '../servers/nginx-dav.js';
import { quietLog } from '../servers/quiet.js';
import { errorOf } from '../vfs-object/tree.js';

const context = {
  log: quietLog,
  clock: systemClock,
  writable: true,
  signal: new AbortController().signal,
};

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function opened(given: Record<string, unknown>) {
  const options = webdavOptions.parse(given);
  const { backend } = await layered({ open: () => open(options, context) }).open(options, context);
  ends.push(() => backend.close?.());
  return backend;
}

/** A host with a connection of its own, or the same one after its daemon was killed. */
async function host(folder: string, given: Record<string, unknown>, term = 30_000) {
  const backend = await opened(given);
  const leases = new Leases({ timers: systemTimers, log: quietLog, random: Math.random });
  const method = locksOf(backend, { folder, mount: '/dav', term, clock: systemClock });
  leases.add(0, { method, wait: 30_000 });
  ends.push(() => leases.close());
  return { backend, leases, method };
}

function folders(): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), 'mirage-leases-'));
  ends.push(() => rmSync(folder, { recursive: true, force: true }));
  return (name) => join(folder, name);
}

test.each([
  ['Apache', () => startApacheDav()],
  ['nginx', () => startNginxDav()],
])(
  'a lock of %s is shared, refused and handed on',
  async (_name, start) => {
    const server = await start();
    ends.push(() => server.stop());
    const folder = folders();
    const given = { url: server.url };
    const { leases: a, method } = await host(folder('a'), given);
    expect(method).toBeInstanceOf(NativeLocks);
    const { leases: b } = await host(folder('b'), given);
    await a.acquireLease(0, 'f', 1, true);
    await a.acquireLease(0, 'f', 2, true);
    expect(a.status(0)).toMatchObject([{ name: 'f', holders: 2 }]);
    // The server itself keeps whoever has not the token from it.
    const put = await fetch(`${server.url}/${lockKey('f')}`, { method: 'PUT', body: 'mine' });
    expect(put.status).toBe(423);
    expect(await errorOf(b.acquireLease(0, 'f', 3, false))).toBe('EAGAIN');
    const waiting = b.acquireLease(0, 'f', 4, true);
    await a.releaseLease(1);
    await a.releaseLease(2);
    await waiting;
    expect(await errorOf(a.acquireLease(0, 'f', 5, false))).toBe('EAGAIN');
  },
  60_000,
);

test('a lock is taken over by the successor of its killed holder, whom the server names', async () => {
  const server = await startApacheDav();
  ends.push(() => server.stop());
  const folder = folders();
  const given = { url: server.url };
  const { leases: killed } = await host(folder('a'), given);
  const { leases: other } = await host(folder('b'), given);
  await killed.acquireLease(0, 'f', 1, true);
  const { leases: successor } = await host(folder('a'), given);
  expect(await errorOf(other.acquireLease(0, 'f', 2, false))).toBe('EAGAIN');
  await successor.acquireLease(0, 'f', 3, false);
  expect(await errorOf(other.acquireLease(0, 'f', 4, false))).toBe('EAGAIN');
  await successor.close();
  await other.acquireLease(0, 'f', 5, false);
}, 60_000);

test('a lock that is not renewed ends by the clock of the server', async () => {
  const server = await startApacheDav();
  ends.push(() => server.stop());
  const folder = folders();
  const given = { url: server.url };
  const killed = await opened(given);
  if (!hasLocks(killed)) throw new Error('the server has locks');
  const { locks } = killed;
  expect(await locks.acquire(lockKey('f'), 'an-id-of-nobody', 2_000, context)).toBe(true);
  const { leases } = await host(folder('b'), given);
  expect(await errorOf(leases.acquireLease(0, 'f', 1, false))).toBe('EAGAIN');
  await leases.acquireLease(0, 'f', 2, true);
  expect(await locks.renew(lockKey('f'), 'an-id-of-nobody', context)).toBe(false);
}, 60_000);

test('a server without locks has lock objects in a folder that is made for them', async () => {
  const server = await startNextcloud();
  ends.push(() => server.stop());
  const folder = folders();
  const given = { url: server.url, username: 'user', password: 'app-password' };
  const { leases: a, method } = await host(folder('a'), given);
  expect(method).not.toBeInstanceOf(NativeLocks);
  const { leases: b } = await host(folder('b'), given);
  await a.acquireLease(0, 'f', 1, true);
  expect(await errorOf(b.acquireLease(0, 'f', 2, false))).toBe('EAGAIN');
  await a.releaseLease(1);
  await b.acquireLease(0, 'f', 3, true);
}, 60_000);
