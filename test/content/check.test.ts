/** `mirage fsck` of cached content. */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { checkContent } from '../../src/content/check.js';
import type { Finding } from '../../src/errors/finding.js';
import { ContentBench, MIB, never, readFrom } from './bench.js';
import { patterned } from './memory-store.js';

const LARGE = patterned(MIB);
const SMALL = patterned(1000);

let bench: ContentBench;
let recovered: string;

/** A cache with a file of its own and a packed object, at rest. */
beforeEach(async () => {
  bench = new ContentBench();
  for (const [key, bytes] of [
    ['large', LARGE],
    ['small', SMALL],
  ] as const) {
    const file = bench.content.acquire(bench.store.put(key, bytes));
    await file.ensureAll(never);
    file.release();
  }
  await bench.close();
  recovered = join(bench.directory, 'recovered');
});
afterEach(() => rmSync(bench.directory, { recursive: true, force: true }));

const check = (repair = false): Promise<Finding[]> => checkContent(bench.directory, { repair, recovered });

function files(size: (bytes: number) => boolean): string[] {
  return readdirSync(join(bench.directory, 'files'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => size(statSync(path).size));
}
const largeFile = (): string => files((bytes) => bytes === LARGE.length)[0] as string;
const packFile = (): string => files((bytes) => bytes !== LARGE.length)[0] as string;

/** Changes a byte as a bad disk would: nothing about the file tells. */
function rot(path: string, offset: number): void {
  const fd = openSync(path, 'r+');
  const byte = readFrom(fd, offset, 1);
  byte[0]! ^= 1;
  writeSync(fd, byte, 0, 1, offset);
  closeSync(fd);
  if (path === packFile()) return;
  const { ctimeNs } = statSync(path, { bigint: true });
  const database = new Database(join(bench.directory, 'index.db'));
  database
    .prepare('UPDATE file SET changed_seconds = ?, changed_nanoseconds = ? WHERE size > 0')
    .run(Number(ctimeNs / 1_000_000_000n), Number(ctimeNs % 1_000_000_000n));
  database.close();
}

/** Everything reads back as it is; resolves with the bytes that were asked of the store. */
async function readAll(): Promise<number> {
  bench.open();
  bench.store.asked.length = 0;
  for (const [key, bytes] of [
    ['large', LARGE],
    ['small', SMALL],
  ] as const) {
    const { validator } = bench.store.objects.get(key) as { validator: string };
    const file = bench.content.acquire({ mount: 0, key, validator, size: bytes.length });
    await file.ensureAll(never);
    expect(readFrom(file.fd, file.start, bytes.length).equals(bytes)).toBe(true);
    file.release();
  }
  await bench.close();
  return bench.store.asked.reduce((sum, [, length]) => sum + length, 0);
}

test('a cache at rest is in order', async () => {
  expect(await check()).toEqual([]);
  expect(await readAll()).toBe(0);
});

test('blocks that rot are forgotten, and they alone are fetched again', async () => {
  rot(largeFile(), 100_000);
  expect(await check()).toEqual([
    expect.objectContaining({ what: 'large', problem: '16384 of its 1048576 cached bytes are damaged' }),
  ]);
  expect((await check(true))[0]?.mended).toContain('fetched again');
  expect(await check()).toEqual([]);
  expect(await readAll()).toBe(16_384);
});

test('so is an object in a pack', async () => {
  rot(packFile(), 10);
  expect(await check()).toEqual([expect.objectContaining({ what: 'small' })]);
  await check(true);
  expect(await check()).toEqual([]);
  expect(await readAll()).toBe(SMALL.length);
});

test('files that are gone or were changed from outside are forgotten', async () => {
  rmSync(packFile());
  writeFileSync(largeFile(), 'somebody else');
  expect((await check()).map(({ problem }) => problem).sort()).toEqual([
    'a pack with 1 objects is gone',
    'its cache file has 13 bytes, and not 1048576',
  ]);
  await check(true);
  expect(await check()).toEqual([]);
  expect(await readAll()).toBe(LARGE.length + SMALL.length);
});

test('a cache file without a row is removed, and what is none of ours is kept', async () => {
  writeFileSync(join(bench.directory, 'files', '09', '9'), 'stray');
  writeFileSync(join(bench.directory, 'files', '09', 'letter'), 'to somebody');
  expect(await check()).toHaveLength(2);
  await check(true);
  expect(await check()).toEqual([]);
  expect(readdirSync(recovered).map((name) => readFileSync(join(recovered, name), 'utf8'))).toEqual([
    'to somebody',
  ]);
});

test('what a program was writing is kept', async () => {
  writeFileSync(join(bench.directory, 'staging', '5'), 'the only copy');
  mkdirSync(recovered, { recursive: true });
  expect(await check()).toHaveLength(1);
  await check(true);
  expect(await check()).toEqual([]);
  expect(readFileSync(join(recovered, readdirSync(recovered)[0] as string), 'utf8')).toBe('the only copy');
});

test('with a damaged index everything is fetched again', async () => {
  writeFileSync(join(bench.directory, 'index.db'), 'no database');
  expect(await check()).toEqual([expect.objectContaining({ problem: expect.stringContaining('damaged') })]);
  await check(true);
  expect(await check()).toEqual([]);
  expect(await readAll()).toBe(LARGE.length + SMALL.length);
});

test('there is nothing to check where nothing was cached', async () => {
  const nowhere = join(bench.directory, 'nowhere');
  expect(await checkContent(nowhere, { repair: true, recovered })).toEqual([]);
  expect(existsSync(nowhere)).toBe(false);
});
