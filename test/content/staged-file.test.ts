import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import type { StagedFile } from '../../src/content/contract.js';
import { ContentBench, isPending, MIB, never, readFrom } from './bench.js';
import { info, patterned } from './memory-store.js';

async function write(file: StagedFile, offset: number, bytes: Buffer): Promise<void> {
  await file.prepareWrite(offset, bytes.length, never);
  writeSync(file.fd, bytes, 0, bytes.length, offset);
  file.wrote(offset, bytes.length);
}

/** Uploads to the bench's store. */
const uploadTo = (bench: ContentBench, key: string) => async (fd: number, size: number) => {
  const version = bench.store.put(key, readFrom(fd, 0, size));
  return info(key, size, version.validator);
};

describe('a staged file', () => {
  test('becomes the clean file of its version, without a copy, and survives a restart', async () => {
    await using bench = new ContentBench();
    const file = bench.content.stage();
    const bytes = patterned(100_000);
    await write(file, 0, bytes);
    expect([file.dirty, file.size]).toEqual([true, bytes.length]);
    const { fd } = file;
    const { validator } = await file.commit(uploadTo(bench, 'new'));
    expect(file.dirty).toBe(false);
    const version = { mount: 0, key: 'new', validator: validator!, size: bytes.length };
    const clean = file.settle(version);
    expect([clean.fd, clean.complete]).toEqual([fd, true]);
    clean.release();
    const content = await bench.reopen();
    const again = content.acquire(version);
    await again.ensureAll(never);
    expect(again.complete).toBe(true);
    expect(readFrom(again.fd, 0, bytes.length).equals(bytes)).toBe(true);
    again.release();
    expect(bench.store.asked).toEqual([]);
    expect(readdirSync(join(bench.directory, 'staging'))).toEqual([]);
  });

  test('fetches of its base what is read, and the rest before a commit', async () => {
    await using bench = new ContentBench();
    const bytes = patterned(20 * MIB);
    const base = bench.content.acquire(bench.store.put('key', bytes));
    const file = bench.content.stage({ file: base, size: bytes.length });
    base.release();
    await write(file, 10 * MIB + 1, Buffer.from('written'));
    expect(bench.store.asked).toEqual([]);
    await file.ensure(10 * MIB, 100, { next: 0, window: 0 }, never);
    expect(bench.store.asked[0]).toEqual([10 * MIB, 16 * 1024]);
    bytes.write('written', 10 * MIB + 1);
    expect(readFrom(file.fd, 10 * MIB, 100).equals(bytes.subarray(10 * MIB, 10 * MIB + 100))).toBe(true);
    let uploaded: Buffer = Buffer.alloc(0);
    await file.commit(async (fd, size) => {
      uploaded = readFrom(fd, 0, size);
      return info('key', size, '"new"');
    });
    expect(uploaded.equals(bytes)).toBe(true);
    file.discard();
  });

  test('a base that is another version by now fails the commit, not the bytes that were written', async () => {
    await using bench = new ContentBench();
    const base = bench.content.acquire(bench.store.put('key', patterned(5000)));
    const file = bench.content.stage({ file: base, size: 5000 });
    base.release();
    await write(file, 0, Buffer.from('mine'));
    bench.store.put('key', patterned(5000, 2));
    await expect(file.commit(uploadTo(bench, 'key'))).rejects.toMatchObject({ errno: 'ESTALE' });
    expect(file.dirty).toBe(true);
    const kept = join(bench.directory, 'kept');
    await file.keep(kept);
    expect(readFileSync(kept).subarray(0, 4).toString()).toBe('mine');
    expect(bench.content.used).toBe(0);
  });

  test('writers wait while an upload reads the file, and the next upload lets them go first', async () => {
    await using bench = new ContentBench();
    const file = bench.content.stage();
    await write(file, 0, Buffer.from('old'));
    const seen: string[] = [];
    let finish = () => {};
    const upload = async (fd: number, size: number) => {
      const before = readFrom(fd, 0, size).toString();
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      expect(readFrom(fd, 0, size).toString()).toBe(before);
      seen.push(before);
      return info('key', size, `"${seen.length}"`);
    };
    const first = file.commit(upload);
    await isPending(first);
    const writer = (async () => {
      let admitted = Promise.resolve(file.prepareWrite(0, 3, never));
      for (let i = 0; i < 20; i++) admitted = admitted.then(() => {});
      await admitted;
      writeSync(file.fd, 'new', 0);
      file.wrote(0, 3);
    })();
    const shrink = file.truncate(3, never);
    const second = file.commit(upload);
    expect(await isPending(writer)).toBe(true);
    finish();
    await first;
    await writer;
    await shrink;
    await isPending(second);
    finish();
    await second;
    expect(seen).toEqual(['old', 'new']);
    expect(file.dirty).toBe(false);
    file.discard();
  });

  test('a writer that is interrupted while it waits writes nothing', async () => {
    await using bench = new ContentBench();
    const file = bench.content.stage();
    await write(file, 0, Buffer.from('old'));
    let finish = () => {};
    const commit = file.commit(async (_fd, size) => {
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      return info('key', size, '"v"');
    });
    await isPending(commit);
    const interrupted = new AbortController();
    const waiting = file.prepareWrite(0, 3, interrupted.signal);
    interrupted.abort();
    await expect(waiting).rejects.toMatchObject({ errno: 'EINTR' });
    finish();
    await commit;
    file.discard();
  });

  test('discarded during an upload it keeps its descriptor until the upload has ended', async () => {
    await using bench = new ContentBench();
    const file = bench.content.stage();
    await write(file, 0, Buffer.from('bytes'));
    let seen = '';
    const commit = file.commit(async (fd, size) => {
      file.discard();
      await isPending(Promise.resolve());
      seen = readFrom(fd, 0, size).toString();
      return info('key', size, '"v"');
    });
    await commit;
    expect(seen).toBe('bytes');
    await isPending(Promise.resolve());
    expect(bench.content.used).toBe(0);
    await expect(file.commit(uploadTo(bench, 'key'))).rejects.toMatchObject({ errno: 'EBADF' });
  });

  test('a failed upload leaves the file dirty', async () => {
    await using bench = new ContentBench();
    const file = bench.content.stage();
    await write(file, 0, Buffer.from('x'));
    await expect(file.commit(() => Promise.reject(new Error('refused')))).rejects.toThrow('refused');
    expect(file.dirty).toBe(true);
    await file.commit(uploadTo(bench, 'key'));
    expect(file.dirty).toBe(false);
    file.discard();
  });

  test('kept on another file system it is copied', async () => {
    await using bench = new ContentBench();
    const elsewhere = mkdtempSync(
      existsSync('/dev/shm') ? '/dev/shm/mirage-kept-' : join(tmpdir(), 'mirage-kept-'),
    );
    try {
      const file = bench.content.stage();
      const bytes = patterned(2 * MIB);
      await write(file, 0, bytes);
      await file.keep(join(elsewhere, 'kept'));
      expect(readFileSync(join(elsewhere, 'kept')).equals(bytes)).toBe(true);
      expect(readdirSync(join(bench.directory, 'staging'))).toEqual([]);
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });

  test('seek tells data from holes; bytes of the base that are not here yet are data', async () => {
    await using bench = new ContentBench();
    const base = bench.content.acquire(bench.store.put('key', patterned(MIB)));
    const file = bench.content.stage({ file: base, size: MIB });
    base.release();
    const SEEK_DATA = 3;
    const SEEK_HOLE = 4;
    expect(file.seek(0, SEEK_DATA)).toBe(0);
    expect(file.seek(0, SEEK_HOLE)).toBe(MIB);
    await file.allocate(3, 64 * 1024, 64 * 1024, never);
    await file.truncate(2 * MIB, never);
    await write(file, MIB + 512 * 1024, patterned(4096));
    expect(file.seek(0, SEEK_HOLE)).toBe(64 * 1024);
    expect(file.seek(64 * 1024, SEEK_DATA)).toBe(128 * 1024);
    expect(file.seek(128 * 1024, SEEK_HOLE)).toBe(MIB);
    expect(file.seek(MIB, SEEK_DATA)).toBe(MIB + 512 * 1024);
    expect(file.seek(MIB + 512 * 1024, SEEK_HOLE)).toBe(MIB + 512 * 1024 + 4096);
    expect(() => file.seek(MIB + 600 * 1024, SEEK_DATA)).toThrow(expect.objectContaining({ errno: 'ENXIO' }));
    expect(() => file.seek(2 * MIB, SEEK_HOLE)).toThrow(expect.objectContaining({ errno: 'ENXIO' }));
    file.discard();
  });

  test('what a dead program had written is kept aside; a file without a byte is not', async () => {
    await using bench = new ContentBench();
    const file = bench.content.stage();
    await write(file, 0, Buffer.from('unsaved work'));
    bench.content.stage();
    await bench.reopen();
    const recovered = readdirSync(join(bench.directory, 'recovered'));
    expect(recovered).toEqual(['2026-01-02T030405.000Z-1']);
    expect(readFileSync(join(bench.directory, 'recovered', recovered[0]!), 'utf8')).toBe('unsaved work');
    expect(bench.lines.some((line) => line.includes('is kept'))).toBe(true);
    expect(readdirSync(join(bench.directory, 'staging'))).toEqual([]);
  });
});
