import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Bucket } from './bucket.js';
import { errorOf, Tree } from './tree.js';

const O_WRONLY = 1;
const O_RDWR = 2;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;

let bucket: Bucket;
let tree: Tree;
beforeEach(() => {
  bucket = new Bucket();
  tree = new Tree(bucket);
});
afterEach(() => tree.close());

describe('reading', () => {
  test('an object is a file, a prefix is a directory', async () => {
    bucket.put('a/b/c.txt', 'hello');
    expect(await tree.list('')).toEqual(['a']);
    expect(await tree.list('a/b')).toEqual(['c.txt']);
    expect(await tree.readFile('a/b/c.txt')).toBe('hello');
    expect((await tree.stat('a/b/c.txt')).size).toBe(5);
  });

  test('a listing is asked once, and carries what stat wants', async () => {
    for (let index = 0; index < 200; index++) bucket.put(`d/f${index}`, 'x');
    expect((await tree.list('d')).length).toBe(200);
    expect((await tree.list('d')).length).toBe(200);
    expect(bucket.requests.filter((request) => request === 'list d').length).toBe(1);
    expect(bucket.requests.filter((request) => request.startsWith('stat d/')).length).toBe(0);
  });

  test('a large directory comes page by page', async () => {
    bucket.pageSize = 30;
    for (let index = 0; index < 100; index++) bucket.put(`d/f${index}`, 'x');
    expect((await tree.list('d')).length).toBe(100);
  });

  test('looking up many names of a foreign directory asks the store for a few of them only', async () => {
    for (let index = 0; index < 100; index++) bucket.put(`d/f${index}`, 'x');
    for (let index = 0; index < 100; index++) await tree.stat(`d/f${index}`);
    expect(bucket.requests.length).toBeLessThan(20);
  });

  test('a negative answer is kept', async () => {
    expect(await tree.exists('no')).toBe(false);
    const { length } = bucket.requests;
    expect(await tree.exists('no')).toBe(false);
    expect(bucket.requests.length).toBe(length);
  });

  test('a change elsewhere shows after the ttl', async () => {
    bucket.put('f', 'one');
    expect(await tree.readFile('f')).toBe('one');
    bucket.put('f', 'second');
    bucket.put('g', 'new');
    expect(await tree.readFile('f')).toBe('one');
    tree.later += 61_000;
    expect(await tree.readFile('f')).toBe('second');
    expect(await tree.readFile('g')).toBe('new');
  });

  test('freshness open asks at every open', async () => {
    const fresh = new Tree(bucket, { freshness: 'open' });
    bucket.put('f', 'one');
    expect(await fresh.readFile('f')).toBe('one');
    bucket.put('f', 'second');
    expect(await fresh.readFile('f')).toBe('second');
    await fresh.close();
  });

  test('pages of two versions never mix: a handle keeps its version, the next open gets a new node', async () => {
    bucket.put('f', 'one');
    const old = await tree.open('f');
    expect(await tree.read(old)).toBe('one');
    const { ino } = await tree.stat('f');
    bucket.put('f', 'second');
    tree.later += 61_000;
    const young = await tree.open('f');
    expect(young.node).not.toBe(old.node);
    expect((await tree.stat('f')).ino).toBe(ino);
    expect(await tree.read(young)).toBe('second');
    expect(await tree.read(old)).toBe('one');
    await tree.release(old);
    await tree.release(young);
  });

  test('a read that finds the version gone makes the next look ask the store, within the time to live', async () => {
    bucket.put('f', 'old '.repeat(2 ** 19));
    const old = await tree.open('f');
    bucket.put('f', 'newer');
    expect(await errorOf(tree.read(old))).toBe('ESTALE');
    await tree.release(old);
    expect((await tree.stat('f')).size).toBe(5);
    expect(await tree.readFile('f')).toBe('newer');
  });

  test('the kernel keeps its pages while the version is the same, whatever the version is called', async () => {
    const names = Array.from({ length: 16 }, (_, index) => `other${index}`);
    for (const name of ['f', ...names]) bucket.put(name, name);
    for (const name of names) {
      await tree.release(await tree.open(name));
      const again = await tree.open(name);
      expect(again.keepCache).toBe(true);
      await tree.release(again);
    }
    const first = await tree.open('f');
    await tree.release(first);
    const second = await tree.open('f');
    expect(second.keepCache).toBe(true);
    await tree.release(second);
    bucket.put('f', 'two');
    tree.later += 61_000;
    const third = await tree.open('f');
    expect(third.keepCache).toBe(false);
    await tree.release(third);
  });
});

describe('writing', () => {
  test('a new file is in the store when close returns', async () => {
    const open = await tree.create('f', 0o640);
    expect(await tree.list('')).toEqual(['f']);
    await tree.write(open, 0, 'hello');
    expect(bucket.keys()).toEqual([]);
    await tree.flush(open);
    expect(bucket.text('f')).toBe('hello');
    expect(bucket.objects.get('f')?.attributes).toMatchObject({ mode: 0o100640, uid: 1000, gid: 1000 });
    await tree.release(open);
    expect(await tree.readFile('f')).toBe('hello');
    expect(bucket.requests.filter((request) => request.startsWith('read')).length).toBe(0);
  });

  test('an empty file is made by close', async () => {
    await tree.writeFile('empty', '');
    expect(bucket.text('empty')).toBe('');
  });

  test('every handle sees a write at once', async () => {
    await tree.writeFile('f', 'aaaa');
    const reader = await tree.open('f');
    const writer = await tree.open('f', O_RDWR);
    await tree.write(writer, 1, 'bb');
    expect(await tree.read(reader)).toBe('abba');
    expect((await tree.stat('f')).size).toBe(4);
    await tree.close2(writer);
    expect(bucket.text('f')).toBe('abba');
    await tree.release(reader);
  });

  test('a partial write keeps the rest of the object', async () => {
    bucket.put('f', 'x'.repeat(300_000));
    const open = await tree.open('f', O_WRONLY);
    await tree.write(open, 150_000, 'Y');
    await tree.close2(open);
    expect(bucket.text('f')).toBe(`${'x'.repeat(150_000)}Y${'x'.repeat(149_999)}`);
  });

  test('close without a change writes nothing', async () => {
    await tree.writeFile('f', 'x');
    const writes = () => bucket.requests.filter((request) => request.startsWith('write')).length;
    const before = writes();
    await tree.close2(await tree.open('f', O_RDWR));
    expect(writes()).toBe(before);
  });

  test('O_TRUNC empties, O_APPEND decides the offset itself', async () => {
    await tree.writeFile('f', 'long content');
    const open = await tree.open('f', O_WRONLY | O_TRUNC);
    expect((await tree.stat('f')).size).toBe(0);
    await tree.close2(open);
    expect(bucket.text('f')).toBe('');
    const [one, two] = [await tree.open('f', O_WRONLY | O_APPEND), await tree.open('f', O_WRONLY | O_APPEND)];
    await Promise.all([tree.write(one, 0, 'a'), tree.write(two, 0, 'b'), tree.write(one, 0, 'c')]);
    await tree.close2(one);
    await tree.close2(two);
    expect(bucket.text('f')?.split('').sort().join('')).toBe('abc');
  });

  test('truncate without a handle is in the store when answered', async () => {
    await tree.writeFile('f', 'hello');
    await tree.change('f', { size: 2 });
    expect(bucket.text('f')).toBe('he');
    await tree.change('f', { size: 4 });
    expect(bucket.text('f')).toBe('he\0\0');
    expect((await tree.stat('f')).size).toBe(4);
  });

  test('bytes that arrive after the last flush are committed all the same', async () => {
    const open = await tree.create('f');
    await tree.flush(open);
    await tree.write(open, 0, 'late');
    await tree.release(open);
    await tree.volume.drain();
    expect(bucket.text('f')).toBe('late');
    expect(tree.volume.pending()).toEqual([]);
  });

  test('a commit does not change what stat has shown', async () => {
    const open = await tree.create('f');
    await tree.write(open, 0, 'x');
    const before = await tree.stat('f');
    tree.later += 5000;
    await tree.close2(open);
    expect(await tree.stat('f')).toEqual(before);
  });

  test('unlink while open: the handle reads and writes on', async () => {
    await tree.writeFile('f', 'hello');
    const open = await tree.open('f', O_RDWR);
    await tree.unlink('f');
    expect(bucket.keys()).toEqual([]);
    expect(await tree.exists('f')).toBe(false);
    expect(await tree.read(open)).toBe('hello');
    await tree.write(open, 0, 'J');
    expect(await tree.read(open)).toBe('Jello');
    expect((await tree.fstat(open.node)).nlink).toBe(0);
    await tree.close2(open);
    expect(bucket.keys()).toEqual([]);
  });

  test('a foreign object that is unlinked while open was fetched first', async () => {
    bucket.put('f', 'theirs');
    const open = await tree.open('f');
    await tree.unlink('f');
    expect(await tree.read(open)).toBe('theirs');
    await tree.release(open);
  });

  test('O_TMPFILE: no name until link', async () => {
    const { entry, open } = tree.volume.temporary(tree.call, 1, 0o600, { flags: O_RDWR });
    const file = { node: entry.nodeId, handle: open.handle, keepCache: false };
    await tree.write(file, 0, 'secret');
    expect(bucket.keys()).toEqual([]);
    await tree.volume.link(tree.call, entry.nodeId, 1, 'named');
    expect(bucket.text('named')).toBe('secret');
    await tree.close2(file);
  });
});

describe('copy_file_range', () => {
  const copy = async (from: string, to: string, length: number): Promise<number> => {
    const source = await tree.open(from);
    const target = await tree.create(to);
    try {
      return await tree.volume.copyFileRange(
        tree.call,
        { node: source.node, handle: source.handle, offset: 0 },
        { node: target.node, handle: target.handle, offset: 0 },
        length,
      );
    } finally {
      await tree.close2(target);
      await tree.release(source);
    }
  };

  test('a large object is copied by the store, no byte comes here', async () => {
    const text = 'x'.repeat(2 * 1024 * 1024);
    bucket.put('big', text);
    expect(await copy('big', 'copy', 2 ** 30)).toBe(text.length);
    expect(bucket.text('copy')).toBe(text);
    expect(bucket.requests.filter((request) => /^(read|write)/.test(request))).toEqual([]);
    expect((await tree.stat('copy')).size).toBe(text.length);
    expect(await tree.readFile('copy')).toBe(text.slice(0, 1 << 20));
  });

  test('a part goes through the files', async () => {
    bucket.put('f', 'hello world');
    expect(await copy('f', 'part', 5)).toBe(5);
    expect(bucket.text('part')).toBe('hello');
  });
});

describe('passthrough', () => {
  test('the kernel reads the cache file itself where nobody can write, all handles alike', async () => {
    // A small one would share its cache file with others.
    const content = 'hello'.repeat(20_000);
    bucket.put('f', content);
    const { OpenReply } = await import('../../src/vfs/operations.js');
    const reader = new Tree(bucket, { mode: 'read' });
    const open = async () => {
      const node = await reader.node('f');
      const reply = new OpenReply();
      await reader.volume.open(reader.call, node, { flags: 0 }, reply);
      return { node, handle: reply.handle, keepCache: reply.keepCache, fd: reply.passthroughFd };
    };
    const cold = await open();
    expect(cold.fd).toBe(-1);
    expect(await reader.read(cold)).toBe(content);
    const beside = await open();
    expect(beside.fd).toBe(-1);
    await reader.release(cold);
    await reader.release(beside);
    const [one, two] = [await open(), await open()];
    expect(one.fd).toBeGreaterThan(0);
    expect(two.fd).toBe(one.fd);
    await reader.release(one);
    await reader.release(two);
    await reader.close();
  });
});

describe('many hosts', () => {
  test('the loser of a race hears ESTALE from close, its bytes are kept', async () => {
    bucket.put('f', 'base');
    const open = await tree.open('f', O_RDWR);
    await tree.write(open, 0, 'MINE');
    bucket.put('f', 'their');
    expect(await errorOf(tree.flush(open))).toBe('ESTALE');
    expect(bucket.text('f')).toBe('their');
    const files = readdirSync(tree.conflicts);
    const record = files.find((file) => file.endsWith('.json')) as string;
    const written = JSON.parse(readFileSync(join(tree.conflicts, record), 'utf8'));
    expect(written).toMatchObject({ key: 'f', size: 4 });
    expect(readFileSync(join(tree.conflicts, written.bytes), 'utf8')).toBe('MINE');
    expect(await errorOf(tree.write(open, 0, 'again'))).toBe('ESTALE');
    await tree.release(open);
    expect(await tree.readFile('f')).toBe('their');
  });

  test('two creators of one name: the second loses', async () => {
    const open = await tree.create('f');
    await tree.write(open, 0, 'mine');
    bucket.put('f', 'theirs');
    expect(await errorOf(tree.flush(open))).toBe('ESTALE');
    await tree.release(open);
    expect(bucket.text('f')).toBe('theirs');
  });

  test('reject keeps a record without the bytes, lastWriterWins overwrites', async () => {
    for (const conflicts of ['reject', 'lastWriterWins'] as const) {
      const other = new Tree(bucket, { conflicts });
      bucket.put('f', 'base');
      const open = await other.open('f', O_WRONLY | O_TRUNC);
      await other.write(open, 0, 'mine');
      bucket.put('f', 'theirs');
      expect(await errorOf(other.flush(open))).toBe(conflicts === 'reject' ? 'ESTALE' : 'success');
      expect(bucket.text('f')).toBe(conflicts === 'reject' ? 'theirs' : 'mine');
      await other.release(open);
      if (conflicts === 'reject') expect(readdirSync(other.conflicts).length).toBe(1);
      await other.close();
    }
  });

  test('O_TRUNC replaces the newest version, whatever was cached', async () => {
    bucket.put('f', 'old');
    expect(await tree.readFile('f')).toBe('old');
    bucket.put('f', 'newer');
    await tree.writeFile('f', 'mine');
    expect(bucket.text('f')).toBe('mine');
  });

  test('opening for writing asks for the newest version', async () => {
    bucket.put('f', 'old');
    expect(await tree.readFile('f')).toBe('old');
    bucket.put('f', 'newer');
    const open = await tree.open('f', O_RDWR);
    expect(await tree.read(open)).toBe('newer');
    await tree.close2(open);
  });

  test('a lost answer is read back, not repeated', async () => {
    const { MirageError } = await import('../../src/errors/mirage-error.js');
    let broken = true;
    bucket.after = (operation) => {
      if (operation !== 'write' || !broken) return;
      broken = false;
      throw new MirageError('connection reset', { errno: 'EIO', outcomeUnknown: true });
    };
    await tree.writeFile('f', 'once');
    expect(bucket.text('f')).toBe('once');
    expect(bucket.requests.filter((request) => request === 'write f').length).toBe(1);
  });

  test('a store that is away: close says so, a later fsync brings the bytes', async () => {
    const { MirageError } = await import('../../src/errors/mirage-error.js');
    const open = await tree.create('f');
    await tree.write(open, 0, 'patient');
    bucket.before = () => {
      throw new MirageError('away', { errno: 'EHOSTDOWN' });
    };
    expect(await errorOf(tree.flush(open))).toBe('EHOSTDOWN');
    expect(tree.volume.pending().length).toBe(1);
    bucket.before = undefined;
    await tree.fsync(open);
    expect(bucket.text('f')).toBe('patient');
    await tree.release(open);
  });
});
