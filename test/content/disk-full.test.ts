import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import type { StagedFile } from '../../src/content/contract.js';
import { ContentBench, MIB, never, readFrom } from './bench.js';
import { info, patterned } from './memory-store.js';

async function append(file: StagedFile, bytes: Buffer): Promise<void> {
  const at = file.size;
  await file.prepareWrite(at, bytes.length, never);
  writeSync(file.fd, bytes, 0, bytes.length, at);
  file.wrote(at, bytes.length);
}

/** Appends until there is no room; returns what is in the file then. */
async function fill(file: StagedFile): Promise<Buffer> {
  const chunk = patterned(MIB);
  for (let count = 0; count < 100; count++) {
    try {
      await append(file, chunk);
    } catch (error) {
      expect(error).toMatchObject({ errno: 'ENOSPC', hint: expect.stringContaining('cache.size') });
      return Buffer.concat(Array<Buffer>(count).fill(chunk));
    }
  }
  throw new Error('there was always room');
}

describe('when the limit of the cache is reached', () => {
  test('cached content gives way to staged bytes, and then staging answers ENOSPC with nothing lost', async () => {
    await using bench = new ContentBench(10 * MIB);
    const cached = bench.store.put('cached', patterned(5 * MIB));
    const clean = bench.content.acquire(cached);
    await clean.ensureAll(never);
    clean.release();
    const file = bench.content.stage();
    const bytes = await fill(file);
    expect(bytes.length).toBe(10 * MIB);
    expect(bench.content.used).toBe(10 * MIB);

    await file.prepareWrite(MIB, 4096, never);
    await expect(async () => file.prepareWrite(bytes.length, 1, never)).rejects.toMatchObject({
      errno: 'ENOSPC',
    });
    await expect(async () => file.allocate(0, 20 * MIB, MIB, never)).rejects.toMatchObject({
      errno: 'ENOSPC',
    });
    const { size, validator } = await file.commit(async (fd, length) => {
      expect(readFrom(fd, 0, length).equals(bytes)).toBe(true);
      return info('new', length, bench.store.put('new', bytes).validator);
    });
    file.settle({ mount: 0, key: 'new', validator: validator!, size: size! }).release();

    const again = bench.content.acquire(cached);
    await again.ensureAll(never);
    expect(bench.content.used).toBe(5 * MIB);
    again.release();
  });

  test('cached files in use are not taken away for a write', async () => {
    await using bench = new ContentBench(4 * MIB);
    const bytes = patterned(3 * MIB);
    const clean = bench.content.acquire(bench.store.put('cached', bytes));
    await clean.ensureAll(never);
    const file = bench.content.stage();
    expect((await fill(file)).length).toBe(MIB);
    expect(readFrom(clean.fd, 0, bytes.length).equals(bytes)).toBe(true);
    clean.release();
    await append(file, patterned(MIB));
    file.discard();
    expect(bench.content.used).toBe(0);
  });

  test('holes and freed ranges cost nothing', async () => {
    await using bench = new ContentBench(4 * MIB);
    const file = bench.content.stage();
    await file.truncate(1024 * MIB, never);
    await file.prepareWrite(512 * MIB, 3 * MIB, never);
    writeSync(file.fd, patterned(3 * MIB), 0, 3 * MIB, 512 * MIB);
    file.wrote(512 * MIB, 3 * MIB);
    await file.allocate(3, 512 * MIB, 2 * MIB, never);
    expect(bench.content.used).toBe(MIB);
    await file.prepareWrite(0, 3 * MIB, never);
    await file.truncate(0, never);
    expect(bench.content.used).toBe(0);
    file.discard();
  });
});

const isRoot = process.getuid?.() === 0;

(isRoot ? describe : describe.skip)('when the disk of the cache is full', () => {
  async function onSmallDisk(
    work: (bench: ContentBench, free: () => number) => Promise<void>,
  ): Promise<void> {
    const disk = mkdtempSync(join(tmpdir(), 'mirage-content-disk-'));
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32m', 'tmpfs', disk]);
    try {
      await using bench = new ContentBench(1024 * MIB, join(disk, 'cache'));
      await work(bench, () => {
        const { bavail, bsize } = statfsSync(disk);
        return bavail * bsize;
      });
    } finally {
      execFileSync('umount', [disk]);
      rmSync(disk, { recursive: true });
    }
  }

  test('some of it stays free for others', () =>
    onSmallDisk(async (bench, free) => {
      const file = bench.content.stage();
      const bytes = await fill(file);
      expect(bytes.length).toBeGreaterThan(20 * MIB);
      expect(free()).toBeGreaterThan(0.05 * 32 * MIB - 1);
      expect(readFrom(file.fd, 0, bytes.length).equals(bytes)).toBe(true);
      const read = bench.content.acquire(bench.store.put('key', patterned(4 * MIB)));
      await expect(read.ensureAll(never)).rejects.toMatchObject({ errno: 'ENOSPC' });
      file.discard();
      await read.ensureAll(never);
      read.release();
    }));

  test('cached content gives way to what is read next', () =>
    onSmallDisk(async (bench, free) => {
      for (let i = 0; i < 12; i++) {
        const bytes = patterned(6 * MIB, i);
        const file = bench.content.acquire(bench.store.put(`key-${i}`, bytes));
        await file.ensureAll(never);
        expect(readFrom(file.fd, 0, bytes.length).equals(bytes)).toBe(true);
        file.release();
        expect(free()).toBeGreaterThan(0.05 * 32 * MIB - MIB);
      }
      expect(bench.content.used).toBeGreaterThan(12 * MIB);
    }));
});
