import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { ContentBench, isPending, MIB, never, readFrom } from './bench.js';
import { patterned } from './memory-store.js';

const KIB = 1024;

/** Paths of clean files, the newest last. */
function cacheFiles(directory: string): string[] {
  return readdirSync(join(directory, 'files'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .sort((a, b) => Number(a.name) - Number(b.name))
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Changes a byte as a bad disk would: nothing about the file tells. */
function rot(path: string, offset: number): void {
  const index = join(path, '..', '..', '..', 'index.db');
  const fd = openSync(path, 'r+');
  const byte = readFrom(fd, offset, 1);
  byte[0]! ^= 1;
  writeSync(fd, byte, 0, 1, offset);
  closeSync(fd);
  // The time of change tells of us, which a disk would not have touched.
  const { ctimeNs } = statSync(path, { bigint: true });
  const database = new Database(index);
  database
    .prepare('UPDATE file SET changed_seconds = ?, changed_nanoseconds = ? WHERE size > 0')
    .run(Number(ctimeNs / 1_000_000_000n), Number(ctimeNs % 1_000_000_000n));
  database.close();
}

describe('reading through the cache', () => {
  test('a small object comes whole with one request, however it is read', async () => {
    await using bench = new ContentBench();
    const bytes = patterned(3 * MIB + 5);
    const file = bench.content.acquire(bench.store.put('small', bytes));
    await file.ensure(2 * MIB, 10, bench.content.newCursor(), never);
    await file.ensureAll(never);
    expect(bench.store.asked).toEqual([[0, bytes.length]]);
    expect(file.complete).toBe(true);
    expect(readFrom(file.fd, 0, bytes.length + 1).equals(bytes)).toBe(true);
    file.release();
  });

  test('an empty object needs no request', async () => {
    await using bench = new ContentBench();
    const file = bench.content.acquire(bench.store.put('empty', Buffer.alloc(0)));
    expect(file.complete).toBe(true);
    expect(file.ensure(0, 4096, bench.content.newCursor(), never)).toBeUndefined();
    expect(bench.store.asked).toEqual([]);
    file.release();
  });

  test('a sequential reader of a large object starts small, and has four times as much under way each time that gets short', async () => {
    await using bench = new ContentBench();
    const bytes = patterned(40 * MIB);
    const file = bench.content.acquire(bench.store.put('large', bytes));
    const cursor = bench.content.newCursor();
    await file.ensure(0, 128 * KIB, cursor, never);
    expect(bench.store.asked).toEqual([[0, MIB + 128 * KIB]]);
    let ahead = 0;
    for (let offset = 128 * KIB; offset < bytes.length; offset += 128 * KIB) {
      await file.ensure(offset, 128 * KIB, cursor, never);
      expect(readFrom(file.fd, offset, 128 * KIB).equals(bytes.subarray(offset, offset + 128 * KIB))).toBe(
        true,
      );
      const [start, length] = bench.store.asked.at(-1) ?? [0, 0];
      ahead = Math.max(ahead, start + length - offset);
    }
    expect(bench.store.asked[1]).toEqual([MIB + 128 * KIB, expect.any(Number)]);
    expect(bench.store.asked[1]?.[1]).toBeLessThan(4 * MIB);
    expect(ahead).toBeGreaterThan(16 * MIB);
    expect(Math.max(...bench.store.asked.map(([, length]) => length))).toBe(8 * MIB);
    // A few small ones to begin with, and what is left over in between and at the end.
    expect(bench.store.asked.length).toBeLessThanOrEqual(9);
    expect(bench.store.asked.reduce((sum, [, length]) => sum + length, 0)).toBe(bytes.length);
    expect(file.complete).toBe(true);
    file.release();
  });

  test('reads of what is under way ask for nothing more', async () => {
    await using bench = new ContentBench();
    bench.store.hold = true;
    const file = bench.content.acquire(bench.store.put('large', patterned(40 * MIB)));
    const cursor = bench.content.newCursor();
    const reads = [0, 128, 256, 0, 128, 256].map((kib) => file.ensure(kib * KIB, 128 * KIB, cursor, never));
    expect(bench.store.asked).toEqual([
      [0, MIB + 128 * KIB],
      [MIB + 128 * KIB, expect.any(Number)],
    ]);
    for (const request of bench.store.held) request.pass();
    await Promise.all(reads);
    file.release();
  });

  test('a reader that takes a little of the beginning has a little more fetched', async () => {
    await using bench = new ContentBench();
    const file = bench.content.acquire(bench.store.put('large', patterned(40 * MIB)));
    const cursor = bench.content.newCursor();
    for (const kib of [0, 128]) await file.ensure(kib * KIB, 128 * KIB, cursor, never);
    expect(bench.store.asked).toEqual([[0, MIB + 128 * KIB]]);
    file.release();
  });

  test('a random reader fetches the blocks it reads and nothing else', async () => {
    await using bench = new ContentBench();
    const bytes = patterned(30 * MIB);
    const file = bench.content.acquire(bench.store.put('large', bytes));
    const cursor = bench.content.newCursor();
    for (const offset of [20 * MIB + 5, 9 * MIB + 127 * KIB, 27 * MIB]) {
      await file.ensure(offset, 4 * KIB, cursor, never);
      expect(readFrom(file.fd, offset, 4096).equals(bytes.subarray(offset, offset + 4096))).toBe(true);
    }
    expect(bench.store.asked).toEqual([
      [20 * MIB, 16 * KIB],
      [9 * MIB + 112 * KIB, 32 * KIB],
      [27 * MIB, 16 * KIB],
    ]);
    file.release();
  });

  test('a reader that jumps about fetches no more than eight times what it reads', async () => {
    await using bench = new ContentBench();
    const size = 100 * MIB;
    const file = bench.content.acquire(bench.store.put('large', patterned(size)));
    const cursor = bench.content.newCursor();
    let seed = 7;
    const reads = 400;
    for (let read = 0; read < reads; read++) {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      await file.ensure((seed % (size / 4096)) * 4096, 4096, cursor, never);
    }
    const fetched = bench.store.asked.reduce((sum, [, length]) => sum + length, 0);
    expect(fetched).toBeLessThan(8 * reads * 4096);
    file.release();
  });

  test('a block that is asked for again when it has come is not a reader going on', async () => {
    await using bench = new ContentBench();
    const file = bench.content.acquire(bench.store.put('large', patterned(64 * MIB)));
    const cursor = bench.content.newCursor();
    for (const at of [40, 3, 51, 17].map((mib) => mib * MIB + 4096)) {
      await file.ensure(at, 4096, cursor, never);
      expect(file.ensure(at, 4096, cursor, never)).toBe(undefined);
    }
    expect(bench.store.asked.map(([, length]) => length)).toEqual([16, 16, 16, 16].map((kib) => kib * KIB));
    file.release();
  });

  test('a step within what is under way waits for it, a longer one is a jump that gives it up', async () => {
    await using bench = new ContentBench();
    bench.store.hold = true;
    const file = bench.content.acquire(bench.store.put('large', patterned(100 * MIB)));
    const cursor = { next: 10 * MIB, window: 16 * MIB };
    void file.ensure(10 * MIB, 4096, cursor, never);
    const asked = bench.store.asked.length;
    const step = file.ensure(20 * MIB, 4096, cursor, never)!;
    for (const request of bench.store.held) request.pass();
    await step;
    expect(bench.store.held.slice(0, asked).some((request) => request.aborted)).toBe(false);
    expect(cursor.window).toBeGreaterThan(0);

    const before = bench.store.held.filter((request) => request.aborted).length;
    const jump = file.ensure(90 * MIB, 4096, cursor, never)!;
    expect(cursor.window).toBe(0);
    expect(bench.store.asked.at(-1)).toEqual([90 * MIB, 16 * KIB]);
    bench.store.held.at(-1)!.pass();
    await jump;
    expect(bench.store.held.filter((request) => request.aborted).length).toBeGreaterThanOrEqual(before);
    file.release();
  });

  test('what is fetched ahead of all readers together has a limit', async () => {
    await using bench = new ContentBench();
    bench.store.hold = true;
    const files = Array.from({ length: 12 }, (_, index) =>
      bench.content.acquire(bench.store.put(`large-${index}`, patterned(64 * MIB))),
    );
    for (const file of files) {
      const read = file.ensure(MIB, 4096, { next: MIB, window: 32 * MIB }, never)!;
      read.catch(() => undefined);
    }
    const asked = bench.store.asked.reduce((sum, [, length]) => sum + length, 0);
    expect(asked).toBeLessThanOrEqual(128 * MIB + files.length * 8 * MIB);
    for (const file of files) file.release();
  });

  test('the version of an object is heard before its bytes have come', async () => {
    await using bench = new ContentBench();
    bench.store.hold = true;
    const version = bench.store.put('key', patterned(4 * MIB));
    const file = bench.content.acquire(version);
    const begun = file.begin(never)!;
    bench.store.held[0]!.pass(1);
    expect(await begun).toMatchObject({ validator: version.validator, size: 4 * MIB });
    expect(file.complete).toBe(false);
    expect(bench.store.asked).toEqual([[0, 4 * MIB]]);
    bench.store.held[0]!.pass();
    await file.ensureAll(never);
    expect(file.begin(never)).toBeUndefined();
    expect(bench.store.asked.length).toBe(1);
    file.release();
  });

  test('hearing of a large object fetches what its first reader needs, and no more', async () => {
    await using bench = new ContentBench();
    const file = bench.content.acquire(bench.store.put('key', patterned(20 * MIB)));
    expect((await file.begin(never))?.size).toBe(20 * MIB);
    await file.ensure(0, 128 * KIB, bench.content.newCursor(), never);
    expect(bench.store.asked).toEqual([[0, MIB + 128 * KIB]]);
    file.release();
  });

  test('two readers of one range share a request, and each waits for its own bytes only', async () => {
    await using bench = new ContentBench();
    bench.store.hold = true;
    const file = bench.content.acquire(bench.store.put('key', patterned(4 * MIB)));
    const early = file.ensure(0, 4096, bench.content.newCursor(), never)!;
    const late = file.ensure(3 * MIB, 4096, bench.content.newCursor(), never)!;
    expect(bench.store.asked.length).toBe(1);
    bench.store.held[0]!.pass(MIB);
    await early;
    expect(await isPending(late)).toBe(true);
    bench.store.held[0]!.pass();
    await late;
    file.release();
  });

  test('the last waiter that is interrupted takes the request along; the bytes that came stay', async () => {
    await using bench = new ContentBench();
    bench.store.hold = true;
    const bytes = patterned(4 * MIB);
    const file = bench.content.acquire(bench.store.put('key', bytes));
    const [first, second] = [new AbortController(), new AbortController()];
    const one = file.ensure(2 * MIB, 10, bench.content.newCursor(), first.signal)!;
    const two = file.ensure(3 * MIB, 10, bench.content.newCursor(), second.signal)!;
    const request = bench.store.held[0]!;
    request.pass(MIB);
    first.abort();
    await expect(one).rejects.toMatchObject({ errno: 'EINTR' });
    expect(request.aborted).toBe(false);
    second.abort();
    await expect(two).rejects.toMatchObject({ errno: 'EINTR' });
    expect(request.aborted).toBe(true);

    bench.store.hold = false;
    await file.ensure(0, bytes.length, bench.content.newCursor(), never);
    expect(bench.store.asked.slice(1)).toEqual([[MIB, 3 * MIB]]);
    expect(readFrom(file.fd, 0, bytes.length).equals(bytes)).toBe(true);
    file.release();
  });

  test('a version that changes while it is read answers ESTALE, and the new one is read from the start', async () => {
    await using bench = new ContentBench();
    bench.store.hold = true;
    const file = bench.content.acquire(bench.store.put('key', patterned(4 * MIB, 1)));
    const head = file.ensure(0, 4096, bench.content.newCursor(), never)!;
    const tail = file.ensure(3 * MIB, 4096, bench.content.newCursor(), never)!;
    bench.store.held[0]!.pass(MIB);
    await head;
    const bytes = patterned(2 * MIB, 2);
    const next = bench.store.put('key', bytes);
    bench.store.held[0]!.pass();
    await expect(tail).rejects.toMatchObject({ errno: 'ESTALE' });
    expect(file.ensure(0, 4096, bench.content.newCursor(), never)).toBeUndefined();
    await expect(file.ensure(2 * MIB, 1, bench.content.newCursor(), never)).rejects.toMatchObject({
      errno: 'ESTALE',
    });
    file.release();

    bench.store.hold = false;
    const newer = bench.content.acquire(next);
    await newer.ensureAll(never);
    expect(readFrom(newer.fd, 0, bytes.length).equals(bytes)).toBe(true);
    newer.release();
  });

  test('a version that changes after its file was given back, while somebody still waits, ends once', async () => {
    await using bench = new ContentBench();
    bench.store.hold = true;
    const version = bench.store.put('key', patterned(4096));
    const file = bench.content.acquire(version);
    const waiting = file.ensure(0, 4096, bench.content.newCursor(), never)!;
    file.release();
    bench.store.put('key', patterned(4096, 2));
    bench.store.held[0]!.pass();
    await expect(waiting).rejects.toMatchObject({ errno: 'ESTALE' });
    expect(bench.content.used).toBe(0);
    const next = bench.content.acquire(version);
    expect(next.complete).toBe(false);
    next.release();
  });

  test('a version that gets another name while it is fetched is still the version that was asked for', async () => {
    await using bench = new ContentBench();
    const bytes = patterned(300 * KIB);
    const version = bench.store.put('named', bytes);
    bench.store.hold = true;
    const file = bench.content.acquire(version);
    const read = Promise.resolve(file.ensureAll(never));
    bench.content.relabel({ ...version }, '"its-name"', () => {});
    for (const fetch of bench.store.held) fetch.pass();
    await read;
    expect(file.version.validator).toBe('"its-name"');
    expect(readFrom(file.fd, 0, bytes.length).equals(bytes)).toBe(true);
    file.release();
  });

  test('an object that proves shorter than its version said is no success', async () => {
    await using bench = new ContentBench();
    const version = bench.store.put('key', patterned(1000));
    const file = bench.content.acquire({ ...version, size: 2000 });
    await expect(file.ensureAll(never)).rejects.toMatchObject({ errno: 'ESTALE' });
    file.release();
  });

  test('closing the last handle stops what nobody waits for', async () => {
    await using bench = new ContentBench();
    bench.store.hold = true;
    const file = bench.content.acquire(bench.store.put('key', patterned(30 * MIB)));
    const cursor = { next: MIB, window: 16 * MIB };
    const read = file.ensure(MIB, 4096, cursor, never)!;
    bench.store.held[0]!.pass(4096);
    await read;
    file.release();
    expect(bench.store.held.length).toBeGreaterThan(2);
    expect(bench.store.held.every((request) => request.aborted)).toBe(true);
  });
});

describe('the cache directory', () => {
  test('what is cached is served after a restart, without a request, whatever the mount index is then', async () => {
    await using bench = new ContentBench();
    const bytes = patterned(20 * MIB);
    const version = bench.store.put('dir/key', bytes);
    const before = bench.content.acquire(version);
    await before.ensure(10 * MIB, 4096, bench.content.newCursor(), never);
    const small = bench.store.put('small', patterned(100));
    const whole = bench.content.acquire(small);
    await whole.ensureAll(never);
    before.release();
    whole.release();
    const used = bench.content.used;
    expect(used).toBe(16 * KIB + 100);

    const content = await bench.reopen();
    content.identify(0, 'file:///elsewhere');
    content.identify(3, 's3://bucket/');
    expect(content.used).toBe(used);
    bench.store.asked.length = 0;
    const after = content.acquire({ ...version, mount: 3 });
    // Once it was held against its checksum.
    await after.ensure(10 * MIB, 4096, content.newCursor(), never);
    expect(after.ensure(10 * MIB, 4096, content.newCursor(), never)).toBeUndefined();
    expect(readFrom(after.fd, 10 * MIB, 4096).equals(bytes.subarray(10 * MIB, 10 * MIB + 4096))).toBe(true);
    const again = content.acquire({ ...small, mount: 3 });
    expect(again.complete).toBe(true);
    const stranger = content.acquire(small);
    expect(stranger.complete).toBe(false);
    expect(bench.store.asked).toEqual([]);
    for (const file of [after, again, stranger]) file.release();
  });

  test.each(['while it rests open', 'between two runs'])(
    'a cache file that was damaged %s is fetched again',
    async (when) => {
      await using bench = new ContentBench();
      for (const damage of [
        (path: string) => truncateSync(path, 10),
        (path: string) => writeFileSync(path, Buffer.alloc(100_000)),
        (path: string) => {
          truncateSync(path, 0);
          truncateSync(path, 100_000);
        },
      ]) {
        const bytes = patterned(100_000);
        const version = bench.store.put('key', bytes);
        const file = bench.content.acquire(version);
        await file.ensureAll(never);
        file.release();
        if (when === 'between two runs') await bench.close();
        damage(
          cacheFiles(bench.directory).find(
            (path) => (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0,
          )!,
        );
        if (when === 'between two runs') bench.open();
        const again = bench.content.acquire(version);
        expect(again.complete).toBe(false);
        await again.ensureAll(never);
        expect(readFrom(again.fd, 0, bytes.length).equals(bytes)).toBe(true);
        again.release();
        bench.content.drop(0, 'key');
      }
      expect(bench.lines.filter((line) => line.includes('changed from outside')).length).toBe(3);
    },
  );

  test('a damaged index empties the cache and nothing more', async () => {
    await using bench = new ContentBench();
    const version = bench.store.put('key', patterned(5000));
    const file = bench.content.acquire(version);
    await file.ensureAll(never);
    file.release();
    await bench.close();
    writeFileSync(
      join(bench.directory, 'index.db'),
      'this is no database at all, and long enough to tell'.repeat(100),
    );
    const content = bench.open();
    expect(content.used).toBe(0);
    expect(cacheFiles(bench.directory)).toEqual([]);
    const again = content.acquire(version);
    await again.ensureAll(never);
    again.release();
  });

  test('an index that fails while it is used is said once, and the next start begins anew', async () => {
    await using bench = new ContentBench();
    const versions = Array.from({ length: 100 }, (_, i) =>
      bench.store.put(`key-${'x'.repeat(500)}-${i}`, Buffer.alloc(i + 1, i)),
    );
    for (const version of versions) {
      const file = bench.content.acquire(version);
      await file.ensureAll(never);
      file.release();
    }
    await bench.close();
    const index = join(bench.directory, 'index.db');
    const bytes = readFileSync(index);
    // Leaves of the index by key: the start does not read them.
    const damaged = Buffer.from(bytes);
    let found = 0;
    for (let page = 4096; page < bytes.length; page += 4096) {
      if (bytes[page] !== 10 || !bytes.subarray(page, page + 4096).includes('key-')) continue;
      damaged.fill(0xff, page, page + 4096);
      found++;
    }
    expect(found).toBeGreaterThan(1);
    writeFileSync(index, damaged);
    bench.open();
    for (const version of versions) {
      const file = bench.content.acquire(version);
      await file.ensureAll(never);
      expect(
        readFrom(file.fd, file.start, version.size).equals(bench.store.objects.get(version.key)!.bytes),
      ).toBe(true);
      file.release();
    }
    await bench.reopen();
    expect(bench.content.used).toBe(0);
    expect(bench.lines.filter((line) => line.includes('index of cached content fails')).length).toBe(1);
  });

  test('a second program is turned away', async () => {
    await using bench = new ContentBench();
    const { content } = bench;
    expect(() => bench.open()).toThrow(expect.objectContaining({ errno: 'EBUSY' }));
    bench.content = content;
  });

  test('the least recently used files make room; a file in use stays', async () => {
    await using bench = new ContentBench(10 * MIB);
    const versions = ['a', 'b', 'c', 'd'].map((key) => bench.store.put(key, patterned(3 * MIB)));
    const [a, b, c, d] = versions as [never, never, never, never];
    const inUse = bench.content.acquire(a);
    await inUse.ensureAll(never);
    for (const version of [b, c, b]) {
      const file = bench.content.acquire(version);
      await file.ensureAll(never);
      file.release();
    }
    const last = bench.content.acquire(d);
    await last.ensureAll(never);
    expect(bench.content.used).toBe(9 * MIB);
    const remembered = versions.map((version) => {
      const file = bench.content.acquire(version);
      const { complete } = file;
      file.release();
      return complete;
    });
    expect(remembered).toEqual([true, true, false, true]);
    inUse.release();
    last.release();
    await bench.reopen();
    expect(bench.content.used).toBe(9 * MIB);
  });

  test('an object larger than the cache can be read; its bytes go when its reader does', async () => {
    await using bench = new ContentBench(10 * MIB);
    const bytes = patterned(48 * MIB);
    const file = bench.content.acquire(bench.store.put('large', bytes));
    expect(file.transient).toBe(true);
    const cursor = bench.content.newCursor();
    for (let offset = 0; offset < bytes.length; offset += 256 * KIB) {
      await file.ensure(offset, 256 * KIB, cursor, never);
      expect(readFrom(file.fd, offset, 256 * KIB).equals(bytes.subarray(offset, offset + 256 * KIB))).toBe(
        true,
      );
      expect(bench.content.used).toBeLessThanOrEqual(10 * MIB);
    }
    const onDisk = cacheFiles(bench.directory).reduce((sum, path) => sum + statSync(path).blocks * 512, 0);
    expect(onDisk).toBeLessThanOrEqual(10 * MIB);
    await expect(file.ensureAll(never)).rejects.toMatchObject({ errno: 'ENOSPC' });
    file.release();
    const other = bench.content.acquire(bench.store.put('other', patterned(9 * MIB)));
    await other.ensureAll(never);
    expect(bench.content.used).toBe(9 * MIB);
    other.release();
  });

  test('blocks that rot on the disk are fetched again, the others are not', async () => {
    await using bench = new ContentBench();
    const bytes = patterned(4 * MIB);
    const version = bench.store.put('key', bytes);
    const file = bench.content.acquire(version);
    await file.ensureAll(never);
    file.release();
    await bench.close();
    rot(
      cacheFiles(bench.directory).find((path) => (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0)!,
      MIB + 5,
    );
    bench.open();
    bench.store.asked.length = 0;
    const again = bench.content.acquire(version);
    await again.ensure(MIB, 4096, bench.content.newCursor(), never);
    expect(readFrom(again.fd, 0, bytes.length).equals(bytes)).toBe(true);
    expect(bench.store.asked).toEqual([[MIB, 16 * KIB]]);
    await again.ensureAll(never);
    expect(bench.store.asked.length).toBe(1);
    again.release();
    expect(bench.lines.filter((line) => line.includes('damaged')).length).toBe(1);
  });

  test('a dropped object is forgotten, and stays readable where it is open', async () => {
    await using bench = new ContentBench();
    const bytes = patterned(100_000);
    const version = bench.store.put('key', bytes);
    const file = bench.content.acquire(version);
    await file.ensureAll(never);
    bench.content.drop(0, 'key');
    expect(readFrom(file.fd, 0, bytes.length).equals(bytes)).toBe(true);
    const again = bench.content.acquire(version);
    expect(again.complete).toBe(false);
    again.release();
    file.release();
    expect(bench.content.used).toBe(0);
  });
});
