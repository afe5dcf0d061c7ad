/** Small objects share files. */
import { closeSync, openSync, readdirSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import type { CleanFile, Version } from '../../src/content/contract.js';
import { ContentBench, MIB, never, readFrom } from './bench.js';
import { patterned } from './memory-store.js';

const KIB = 1024;

const contentOf = (file: CleanFile): Buffer => readFrom(file.fd, file.start, file.version.size);

/** Cache files with bytes in them. */
const filesOf = (bench: ContentBench): string[] =>
  readdirSync(join(bench.directory, 'files'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0);

async function read(bench: ContentBench, version: Version): Promise<Buffer> {
  const file = bench.content.acquire(version);
  await file.ensureAll(never);
  const bytes = contentOf(file);
  file.release();
  return bytes;
}

describe('small objects', () => {
  test('share a file, and each is what the store has', async () => {
    await using bench = new ContentBench();
    const objects = Array.from({ length: 200 }, (_, index) => patterned(1 + index * 37, index));
    const versions = objects.map((bytes, index) => bench.store.put(`small-${index}`, bytes));
    const files = versions.map((version) => bench.content.acquire(version));
    await Promise.all(files.map((file) => file.ensureAll(never)));
    for (const [index, file] of files.entries()) {
      expect(contentOf(file).equals(objects[index] as Buffer)).toBe(true);
      expect([file.complete, file.shared]).toEqual([true, true]);
      file.release();
    }
    expect(filesOf(bench).length).toBe(1);
    expect(bench.store.asked.length).toBe(200);
    expect(bench.content.used).toBe(objects.reduce((sum, { length }) => sum + length, 0));
  });

  test('are there after a restart, without a request', async () => {
    await using bench = new ContentBench();
    const versions = [10, 4096, 65_536].map((size) => bench.store.put(`small-${size}`, patterned(size)));
    for (const version of versions) await read(bench, version);
    await bench.reopen();
    bench.store.asked.length = 0;
    for (const version of versions) {
      expect((await read(bench, version)).equals(patterned(version.size))).toBe(true);
    }
    expect(bench.store.asked).toEqual([]);
  });

  test('that were damaged on the disk are fetched again', async () => {
    await using bench = new ContentBench();
    const versions = ['a', 'b'].map((key) => bench.store.put(key, patterned(4096)));
    for (const version of versions) await read(bench, version);
    await bench.close();
    const fd = openSync(filesOf(bench)[0] as string, 'r+');
    writeSync(fd, 'x', 100);
    closeSync(fd);
    bench.open();
    bench.store.asked.length = 0;
    for (const version of versions) expect((await read(bench, version)).equals(patterned(4096))).toBe(true);
    expect(bench.store.asked.length).toBe(1);
    expect(bench.lines.filter((line) => line.includes('damaged')).length).toBe(1);
  });

  test('are fetched once for all who want them at a time', async () => {
    await using bench = new ContentBench();
    bench.store.hold = true;
    const version = bench.store.put('key', patterned(5000));
    const [one, two] = [bench.content.acquire(version), bench.content.acquire(version)];
    const both = Promise.all([one.ensureAll(never), two.ensure(0, 1, bench.content.newCursor(), never)]);
    expect(bench.store.asked.length).toBe(1);
    bench.store.held[0]!.pass();
    await both;
    one.release();
    two.release();
  });

  test('whose last reader gives up are not fetched on, and the next reader gets them', async () => {
    await using bench = new ContentBench();
    bench.store.hold = true;
    const version = bench.store.put('key', patterned(5000));
    const file = bench.content.acquire(version);
    const controller = new AbortController();
    const waiting = file.ensureAll(controller.signal)!;
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ errno: 'EINTR' });
    expect(bench.store.held[0]!.aborted).toBe(true);
    bench.store.hold = false;
    await file.ensureAll(never);
    expect(contentOf(file).equals(patterned(5000))).toBe(true);
    file.release();
    expect(bench.content.used).toBe(5000);
  });

  test('of which the store has another version by now answer ESTALE and leave nothing behind', async () => {
    await using bench = new ContentBench();
    const version = bench.store.put('key', patterned(5000));
    bench.store.put('key', patterned(4000));
    const file = bench.content.acquire(version);
    await expect(file.ensureAll(never)).rejects.toMatchObject({ errno: 'ESTALE' });
    file.release();
    expect(bench.content.used).toBe(0);
  });

  test('that are dropped free their bytes, once nobody reads them any more', async () => {
    await using bench = new ContentBench();
    const versions = ['a', 'b'].map((key) => bench.store.put(key, patterned(20_000)));
    for (const version of versions) await read(bench, version);
    const file = bench.content.acquire(versions[0] as Version);
    bench.content.drop(0, 'a');
    expect(contentOf(file).equals(patterned(20_000))).toBe(true);
    expect(bench.content.cached(versions[0] as Version)).toBe(0);
    file.release();
    expect(bench.content.used).toBe(20_000);
    bench.content.drop(0, 'b');
    expect(bench.content.used).toBe(0);
  });

  test('go in bulk, those that were used longest ago first', async () => {
    await using bench = new ContentBench(2 * MIB);
    const versions = Array.from({ length: 100 }, (_, index) =>
      bench.store.put(`small-${index}`, patterned(32 * KIB, index)),
    );
    for (const version of versions) {
      await read(bench, version);
      expect(bench.content.used).toBeLessThanOrEqual(2 * MIB);
    }
    const left = versions.map((version) => bench.content.cached(version) > 0);
    expect(left.slice(0, 20)).toEqual(Array(20).fill(false));
    expect(left.slice(-40)).toEqual(Array(40).fill(true));
  });

  test('can have a file of their own', async () => {
    await using bench = new ContentBench();
    const version = bench.store.put('key', patterned(5000));
    await read(bench, version);
    const alone = bench.content.acquire(version, true);
    expect([alone.shared, alone.start, alone.complete]).toEqual([false, 0, true]);
    expect(contentOf(alone).equals(patterned(5000))).toBe(true);
    alone.release();
    expect(bench.store.asked.length).toBe(1);
  });

  test('serve as the base of a write', async () => {
    await using bench = new ContentBench();
    await read(bench, bench.store.put('other', patterned(777)));
    const base = bench.content.acquire(bench.store.put('key', patterned(5000, 2)));
    const staged = bench.content.stage({ file: base, size: 5000 });
    base.release();
    await staged.ensureAll(never);
    expect(readFrom(staged.fd, 0, 5000).equals(patterned(5000, 2))).toBe(true);
    staged.discard();
  });
});

describe('a pinned object', () => {
  test('stays when others go, after a restart too', async () => {
    await using bench = new ContentBench(4 * MIB);
    const pinned = ['large', 'small'].map((key, index) =>
      bench.store.put(key, patterned(index === 0 ? MIB : 1000)),
    );
    for (const version of pinned) {
      bench.content.pin(0, version.key, true);
      await read(bench, version);
    }
    await bench.reopen();
    for (let index = 0; index < 12; index++) {
      await read(bench, bench.store.put(`other-${index}`, patterned(MIB, index)));
    }
    expect(pinned.map((version) => bench.content.cached(version))).toEqual([MIB, 1000]);
    expect(bench.content.isPinned(0, 'large')).toBe(true);
    bench.content.pin(0, 'large', false);
    for (let index = 0; index < 12; index++) {
      await read(bench, bench.store.put(`another-${index}`, patterned(MIB, index)));
    }
    expect(bench.content.cached(pinned[0] as Version)).toBe(0);
  });
});
