/** Small reads over a connection of the volume's own: what they show, and that nothing depends on it. */
import { appendFileSync, closeSync, openSync, readSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, expect, test } from '@jest/globals';
import type { LentConnection, NearFiles, ServerHandle } from '../../src/backends/file-server.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { until } from '../mounted/process.js';
import { RemoteMount } from './tree.js';

const KILOBYTE = 1024;
const MEGABYTE = 1024 * KILOBYTE;
const SIZE = 16 * MEGABYTE;

/** The same files, read directly. */
class Near implements NearFiles {
  lost = false;
  ended = false;
  /** Handle → descriptor. */
  readonly descriptors = new Map<ServerHandle, number>();
  opened = 0;
  reads = 0;
  before: () => void | Promise<void> = () => undefined;
  #last = 0;

  constructor(private readonly root: string) {}

  async open(path: string) {
    const handle = ++this.#last;
    this.descriptors.set(handle, openSync(join(this.root, path), 'r'));
    const attributes = (await mount.server.lstat(path))!;
    this.opened++;
    return { handle, attributes };
  }
  async read(handle: ServerHandle, offset: number, length: number): Promise<Uint8Array> {
    this.reads++;
    await this.before();
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, readSync(this.descriptors.get(handle)!, bytes, 0, length, offset));
  }
  close(handle: ServerHandle): void {
    const descriptor = this.descriptors.get(handle);
    if (descriptor !== undefined) closeSync(descriptor);
    this.descriptors.delete(handle);
  }
  end(): void {
    for (const handle of [...this.descriptors.keys()]) this.close(handle);
    this.lost = true;
    this.ended = true;
  }
}

let mount: RemoteMount;
let near: Near | undefined;
let lent = 0;
function start(): void {
  lent = 0;
  near = undefined;
  mount = new RemoteMount({
    features: { lends: true },
    around: (server) =>
      Object.assign(server, {
        lend: async (): Promise<LentConnection> => {
          lent++;
          return { protocol: 'sftp', fd: -1, root: '', timeout: 1000 };
        },
      }),
    connectNear: async () => {
      near = new Near(mount.there);
      return near;
    },
  });
}
afterEach(() => mount.close());

const there = (name: string): string => join(mount.there, name);
const reads = (): number => mount.server.asked.filter((line) => line.startsWith('read ')).length;
/** 4 KiB that say where they are. */
const blockAt = (offset: number): string => offset.toString().padStart(16).repeat(256);
const CONTENT = Buffer.alloc(SIZE);
for (let at = 0; at < SIZE; at += 4096) CONTENT.write(blockAt(at), at, 'latin1');

/** Opens a file, and reads here and there until that goes the near way. */
async function openNear(name: string, flags = 0) {
  const open = await mount.open(name, flags);
  await mount.read(open, 12 * MEGABYTE, 4096);
  await until(() => near !== undefined, 'the connection stands');
  for (let block = 1; near!.reads === 0 && block < 200; block++) {
    await mount.read(open, ((block * 37) % 200) * 64 * KILOBYTE + 8192, 4096);
    await setImmediate();
  }
  // What follows is no read in a row, wherever the search has ended.
  await mount.read(open, SIZE - 4096, 4096);
  expect(near!.reads).toBe(2);
  near!.reads = 0;
  return open;
}

test('random reads go the near way, and are not kept', async () => {
  start();
  writeFileSync(there('f'), CONTENT);
  const open = await openNear('f');
  const before = { reads: reads(), cached: mount.cached };
  for (const at of [9 * MEGABYTE, 3 * MEGABYTE, 14 * MEGABYTE, 9 * MEGABYTE]) {
    expect(await mount.read(open, at, 4096)).toBe(blockAt(at));
  }
  expect({ reads: reads(), cached: mount.cached }).toEqual(before);
  mount.release(open);
  await until(() => near!.descriptors.size === 0, 'the handle is closed');
});

test('reads in a row and small files do not', async () => {
  start();
  writeFileSync(there('f'), CONTENT);
  writeFileSync(there('small'), 'small');
  expect(await mount.readFile('small')).toBe('small');
  expect(lent).toBe(0);
  const open = await mount.open('f');
  for (let at = 0; at < MEGABYTE; at += 16 * KILOBYTE) await mount.read(open, at, 16 * KILOBYTE);
  expect(near?.reads ?? 0).toBe(0);
  mount.release(open);
});

test('what a program has written and the server does not have yet is read', async () => {
  start();
  writeFileSync(there('f'), CONTENT);
  const open = await openNear('f', 2);
  const at = 7 * MEGABYTE;
  mount.server.before = (operation) => (operation === 'write' ? setImmediate() : undefined);
  await mount.write(open, at + 100, 'written here');
  expect(await mount.read(open, at, 4096)).toContain('written here');
  await mount.closeFile(open);
});

test('bytes that a program writes while they are on their way win', async () => {
  start();
  writeFileSync(there('f'), CONTENT);
  const open = await openNear('f', 2);
  const at = 7 * MEGABYTE;
  let written: Promise<unknown> | undefined;
  near!.before = () => {
    written ??= mount.write(open, at, 'written meanwhile');
  };
  const read = await mount.read(open, at, 4096);
  await written;
  expect(read.startsWith('written meanwhile')).toBe(true);
  await mount.closeFile(open);
});

test('a file that is shorter than it was ends where it ends', async () => {
  start();
  writeFileSync(there('f'), CONTENT);
  const open = await openNear('f');
  truncateSync(there('f'), 7 * MEGABYTE + 10);
  expect(await mount.read(open, 7 * MEGABYTE, 4096)).toBe(blockAt(7 * MEGABYTE).slice(0, 10));
  mount.release(open);
});

test('a connection that breaks costs nothing but the way', async () => {
  start();
  writeFileSync(there('f'), CONTENT);
  const open = await openNear('f');
  near!.before = () => {
    near!.lost = true;
    throw new MirageError('the connection has ended', { errno: 'EHOSTDOWN', retryable: true });
  };
  for (const at of [9 * MEGABYTE, 3 * MEGABYTE]) expect(await mount.read(open, at, 4096)).toBe(blockAt(at));
  expect(near!.reads).toBe(1);
  expect(lent).toBe(1);
  mount.later = 60_000;
  await mount.read(open, 14 * MEGABYTE, 4096);
  await until(() => lent === 2, 'after a while another one is made');
  mount.release(open);
});

test('silence of the server is not waited for twice', async () => {
  start();
  writeFileSync(there('f'), CONTENT);
  const open = await openNear('f');
  const before = reads();
  near!.before = () => {
    throw new MirageError('the server was silent', { errno: 'ETIMEDOUT' });
  };
  await expect(mount.read(open, 9 * MEGABYTE, 4096)).rejects.toMatchObject({ errno: 'ETIMEDOUT' });
  expect(reads()).toBe(before);
  mount.release(open);
});

test('another file under the name is not taken for this one', async () => {
  start();
  writeFileSync(there('f'), CONTENT);
  const open = await mount.open('f');
  await mount.read(open, 5 * MEGABYTE, 4096);
  appendFileSync(there('f'), 'longer');
  await mount.read(open, 12 * MEGABYTE, 4096);
  await until(() => near !== undefined, 'the connection stands');
  await mount.read(open, 9 * MEGABYTE, 4096);
  await until(() => near!.opened === 1 && near!.descriptors.size === 0, 'it was opened there and closed');
  await mount.read(open, 3 * MEGABYTE, 4096);
  expect(near!.reads).toBe(0);
  mount.release(open);
});

test('a server that is far is read through the cache', async () => {
  start();
  writeFileSync(there('f'), CONTENT);
  const open = await openNear('f');
  near!.before = () => new Promise((resolve) => setTimeout(resolve, 5));
  for (let block = 0; near!.reads < 40 && block < 80; block++) {
    await mount.read(open, ((block * 37) % 256) * 64 * KILOBYTE, 4096);
  }
  expect(near!.reads).toBeLessThan(40);
  const { cached } = mount;
  await mount.read(open, 15 * MEGABYTE + 512 * KILOBYTE + 8192, 4096);
  expect(mount.cached).toBeGreaterThan(cached);
  mount.release(open);
});

test('the connection ends with the volume', async () => {
  start();
  writeFileSync(there('f'), CONTENT);
  mount.release(await openNear('f'));
  const first = near;
  await mount.remount();
  expect(first?.ended).toBe(true);
});
