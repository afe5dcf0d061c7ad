import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { componentOf, nameOf } from '../../src/vfs/object/names.js';
import { Bucket } from './bucket.js';
import { errorOf, Tree } from './tree.js';

const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const O_RDWR = 2;

let bucket: Bucket;
let tree: Tree;
beforeEach(() => {
  bucket = new Bucket();
  tree = new Tree(bucket);
});
afterEach(() => tree.close());

describe('spelling', () => {
  test('every key has a name that stands for it, and no other key has the same', () => {
    const piece = fc.constantFrom(
      '.',
      '%mirage-',
      'key-',
      'bytes-',
      'long-',
      'file',
      'ff',
      '2e',
      '\0',
      'é',
      'x',
    );
    const component = fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join(''));
    fc.assert(
      fc.property(component, component, (one, two) => {
        const name = nameOf(one);
        expect(name.length).toBeLessThanOrEqual(255);
        expect(name).not.toMatch(/[/\0]/);
        expect(['', '.', '..']).not.toContain(name);
        expect(componentOf(name)).toBe(one);
        if (one !== two) expect(nameOf(two)).not.toBe(name);
      }),
    );
  });

  test('every name of bytes has a key that stands for it', () => {
    const name = fc
      .uint8Array({ minLength: 1, maxLength: 255 })
      .map((bytes) => Buffer.from(bytes).toString('latin1').replaceAll(/[/\0]/g, '_'))
      .filter((text) => text !== '.' && text !== '..');
    fc.assert(
      fc.property(name, (bytes) => {
        const component = componentOf(bytes) as string;
        expect(Buffer.from(component).toString()).toBe(component);
        expect(nameOf(component)).toBe(bytes);
      }),
    );
  });

  test('keys that are no file names are shown and can be read, moved and removed', async () => {
    const long = 'n'.repeat(300);
    for (const key of ['d//b', 'd/.', 'd/..', `d/${long}`, 'd/a%mirage-b']) bucket.put(key, key);
    const names = await tree.list('d');
    expect(names.length).toBe(5);
    const texts = await Promise.all(
      names.map(async (name) => {
        if (name === '%mirage-key-') return tree.readFile(`d/${name}/b`);
        return tree.readFile(`d/${name}`);
      }),
    );
    expect(texts.sort()).toEqual(['d//b', 'd/.', 'd/..', `d/${long}`, 'd/a%mirage-b'].sort());
    const shown = names.find((name) => name.includes('%mirage-long-')) as string;
    await tree.rename(`d/${shown}`, 'short');
    expect(bucket.text('short')).toBe(`d/${long}`);
    await tree.unlink('d/%mirage-key-2e');
    expect(bucket.keys()).not.toContain('d/.');
    expect(await errorOf(tree.create('d/new%mirage-long-name'))).toBe('EINVAL');
  });

  test('a file and a directory of one name are both there', async () => {
    bucket.put('x', 'file');
    bucket.put('x/y', 'below');
    expect(await tree.list('')).toEqual(['x', 'x%mirage-file']);
    expect(await tree.readFile('x/y')).toBe('below');
    expect(await tree.readFile('x%mirage-file')).toBe('file');
  });

  test('a name that is not UTF-8 comes back as it was', async () => {
    const { entry, open } = await tree.volume.create(tree.call, 1, 'caf\xe9', 0o644, { flags: O_RDWR });
    await tree.close2({ node: entry.nodeId, handle: open.handle, keepCache: false });
    expect(bucket.keys()).toEqual(['%mirage-bytes-636166e9']);
    const reply = await tree.volume.lookup(
      tree.call,
      1,
      'caf\xe9',
      new (await import('../../src/vfs/operations.js')).EntryReply(),
    );
    expect(reply).toBeUndefined();
  });
});

describe('directories', () => {
  test('a directory is there when mkdir returns, with its attributes', async () => {
    await tree.mkdir('d', 0o750);
    expect(bucket.objects.get('d/')?.attributes).toMatchObject({ mode: 0o40750 });
    expect(await tree.list('d')).toEqual([]);
    expect(await errorOf(tree.mkdir('d'))).toBe('EEXIST');
    await tree.rmdir('d');
    expect(bucket.keys()).toEqual([]);
    expect(await errorOf(tree.stat('d'))).toBe('ENOENT');
  });

  test('rmdir refuses what is not empty: here, not committed yet, or on another host', async () => {
    await tree.mkdir('d');
    const open = await tree.create('d/f');
    expect(await errorOf(tree.rmdir('d'))).toBe('ENOTEMPTY');
    await tree.close2(open);
    expect(await errorOf(tree.rmdir('d'))).toBe('ENOTEMPTY');
    await tree.unlink('d/f');
    bucket.put('d/theirs', 'x');
    expect(await errorOf(tree.rmdir('d'))).toBe('ENOTEMPTY');
  });

  test('an implicit directory outlives its last file', async () => {
    bucket.put('d/f', 'x');
    await tree.unlink('d/f');
    expect(await tree.list('d')).toEqual([]);
    expect(bucket.keys()).toEqual(['d/']);
  });

  test('times of a directory follow its names', async () => {
    await tree.mkdir('d');
    const before = await tree.stat('d');
    tree.later += 5000;
    await tree.writeFile('d/f', 'x');
    expect((await tree.stat('d')).modifiedSeconds).toBeGreaterThan(before.modifiedSeconds);
  });

  test('a mkdir of two hosts: the second hears EEXIST, and sees it', async () => {
    expect(await tree.exists('d')).toBe(false);
    bucket.put('d/', '', { mode: 0o40700 });
    expect(await errorOf(tree.mkdir('d'))).toBe('EEXIST');
    expect((await tree.stat('d')).mode).toBe(0o40700);
  });

  test('names made while a listing is under way stay', async () => {
    for (let index = 0; index < 50; index++) bucket.put(`d/f${index}`, 'x');
    bucket.pageSize = 10;
    let pages = 0;
    let made: Promise<unknown> | undefined;
    bucket.before = async (operation) => {
      if (operation !== 'list' || ++pages !== 3) return;
      made = tree.create('d/mine');
      await made;
    };
    expect(await tree.list('d')).toHaveLength(51);
    await made;
  });
});

describe('rename', () => {
  for (const honours of [{}, { copyAbsent: false, removeMatch: false }]) {
    describe(honours.copyAbsent === false ? 'without conditional copies' : 'with conditional copies', () => {
      beforeEach(async () => {
        await tree.close();
        bucket = new Bucket(honours);
        tree = new Tree(bucket);
      });

      test('a file gets another name, the same inode and the same attributes', async () => {
        await tree.writeFile('a', 'content');
        await tree.change('a', { mode: 0o604 });
        const before = await tree.stat('a');
        await tree.mkdir('d');
        await tree.rename('a', 'd/b');
        expect(await tree.exists('a')).toBe(false);
        expect(await tree.readFile('d/b')).toBe('content');
        expect(await tree.stat('d/b')).toMatchObject({ ino: before.ino, mode: 0o100604 });
        expect(bucket.keys()).toEqual(['d/', 'd/b']);
        expect(bucket.objects.get('d/b')?.attributes.mode).toBe(0o100604);
      });

      test('over a file that is open: its handle keeps the old bytes', async () => {
        await tree.writeFile('new', 'new');
        bucket.put('old', 'the old ones');
        tree.later += 61_000;
        const open = await tree.open('old');
        await tree.rename('new', 'old');
        expect(await tree.readFile('old')).toBe('new');
        expect(await tree.read(open)).toBe('the old ones');
        await tree.release(open);
        expect(bucket.keys()).toEqual(['old']);
      });

      test('a file that is being written goes where it is called', async () => {
        const open = await tree.create('tmp');
        await tree.write(open, 0, 'part');
        await tree.rename('tmp', 'final');
        await tree.write(open, 4, ' two');
        await tree.close2(open);
        expect(bucket.keys()).toEqual(['final']);
        expect(await tree.readFile('final')).toBe('part two');
      });

      test('a directory moves with all that is below, open files too', async () => {
        await tree.mkdir('a');
        await tree.mkdir('a/empty', 0o700);
        await tree.writeFile('a/f', 'one');
        bucket.put('a/deep/er/g', 'two');
        tree.later += 61_000;
        const reader = await tree.open('a/deep/er/g');
        const writer = await tree.open('a/f', O_RDWR);
        await tree.write(writer, 0, 'ONE');
        const { ino } = await tree.stat('a/f');
        await tree.rename('a', 'b');
        expect(await tree.list('')).toEqual(['b']);
        expect(await tree.list('b')).toEqual(['deep', 'empty', 'f']);
        expect((await tree.stat('b/f')).ino).toBe(ino);
        expect((await tree.stat('b/empty')).mode).toBe(0o40700);
        expect(await tree.read(reader)).toBe('two');
        await tree.write(writer, 3, '!');
        await tree.close2(writer);
        await tree.release(reader);
        expect(bucket.keys()).toEqual(['b/', 'b/deep/er/g', 'b/empty/', 'b/f']);
        expect(bucket.text('b/f')).toBe('ONE!');
      });

      test('a directory replaces an empty one only', async () => {
        await tree.mkdir('a');
        await tree.writeFile('a/f', 'x');
        await tree.mkdir('b');
        await tree.writeFile('b/g', 'y');
        expect(await errorOf(tree.rename('a', 'b'))).toBe('ENOTEMPTY');
        await tree.unlink('b/g');
        await tree.rename('a', 'b');
        expect(await tree.list('b')).toEqual(['f']);
      });

      test('RENAME_EXCHANGE swaps two files', async () => {
        await tree.writeFile('a', 'one');
        await tree.writeFile('b', 'two!');
        const [a, b] = [await tree.stat('a'), await tree.stat('b')];
        await tree.rename('a', 'b', RENAME_EXCHANGE);
        expect(await tree.readFile('a')).toBe('two!');
        expect(await tree.readFile('b')).toBe('one');
        expect((await tree.stat('a')).ino).toBe(b.ino);
        expect((await tree.stat('b')).ino).toBe(a.ino);
      });
    });
  }

  test('RENAME_NOREPLACE refuses', async () => {
    await tree.writeFile('a', 'one');
    await tree.writeFile('b', 'two');
    expect(await errorOf(tree.rename('a', 'b', RENAME_NOREPLACE))).toBe('EEXIST');
    expect(await errorOf(tree.rename('no', 'b'))).toBe('ENOENT');
  });

  test('a target that another host has made meanwhile is not overwritten', async () => {
    await tree.writeFile('a', 'mine');
    expect(await tree.exists('b')).toBe(false);
    bucket.put('b', 'theirs');
    expect(await errorOf(tree.rename('a', 'b'))).toBe('EBUSY');
    expect(bucket.text('b')).toBe('theirs');
    expect(bucket.text('a')).toBe('mine');
    expect(await tree.readFile('b')).toBe('theirs');
  });

  test('a new file in the place of a renamed one has another inode number', async () => {
    await tree.writeFile('a', 'one');
    await tree.rename('a', 'b');
    await tree.writeFile('a', 'two');
    expect((await tree.stat('a')).ino).not.toBe((await tree.stat('b')).ino);
  });
});

describe('hard links', () => {
  test('names of one inode share content and attributes; any of them may go', async () => {
    await tree.writeFile('a', 'one');
    await tree.link('a', 'b');
    expect((await tree.stat('a')).nlink).toBe(2);
    expect((await tree.stat('a')).ino).toBe((await tree.stat('b')).ino);
    const open = await tree.open('b', O_RDWR);
    await tree.write(open, 0, 'TWO');
    await tree.close2(open);
    expect(bucket.text('a')).toBe('TWO');
    expect(bucket.text('b')).toBe('TWO');
    await tree.change('a', { mode: 0o600 });
    expect((await tree.stat('b')).mode & 0o777).toBe(0o600);
    await tree.unlink('a');
    expect((await tree.stat('b')).nlink).toBe(1);
    expect(await tree.readFile('b')).toBe('TWO');
    expect(bucket.keys()).toEqual(['b']);
  });

  test('they survive a restart', async () => {
    await tree.writeFile('a', 'one');
    await tree.link('a', 'b');
    const { ino } = await tree.stat('a');
    await tree.close(true);
    tree = new Tree(bucket, { folder: tree.folder });
    expect(await tree.stat('b')).toMatchObject({ ino, nlink: 2 });
    expect(await tree.stat('a')).toMatchObject({ ino, nlink: 2 });
  });

  test('they stay one file after a restart, however far apart the store wrote their objects', async () => {
    await tree.writeFile('a', 'one');
    await tree.link('a', 'b');
    await tree.link('a', 'c');
    await tree.writeFile('a', 'two');
    await tree.close(true);
    tree = new Tree(bucket, { folder: tree.folder });
    tree.later += 61_000;
    // The objects were written ten seconds one after another, as large ones are; a listing tells their times and no attributes.
    await tree.list('');
    await tree.writeFile('b', 'three');
    expect(['a', 'b', 'c'].map((key) => bucket.text(key))).toEqual(['three', 'three', 'three']);
    expect((await tree.stat('c')).nlink).toBe(3);
  });

  test('what is written goes to the names that are left when something else has taken one', async () => {
    await tree.writeFile('a', 'one');
    for (const name of ['b', 'c', 'd']) await tree.link('a', name);
    const open = await tree.open('b', O_RDWR);
    bucket.objects.delete('a');
    bucket.put('c', 'of another host');
    tree.later += 61_000;
    await tree.mkdir('a');
    await tree.write(open, 0, 'TWO');
    await tree.close2(open);
    expect(['b', 'c', 'd'].map((key) => bucket.text(key))).toEqual(['TWO', 'of another host', 'TWO']);
    expect(await tree.readFile('c')).toBe('of another host');
    expect((await tree.stat('d')).nlink).toBe(2);
  });

  test('another host sees one inode too, once it has seen both names', async () => {
    await tree.writeFile('a', 'one');
    await tree.link('a', 'b');
    await tree.volume.drain();
    const { ino } = await tree.stat('a');
    const other = new Tree(bucket);
    expect((await other.stat('a')).ino).toBe(ino);
    expect((await other.stat('b')).ino).toBe(ino);
    expect((await other.stat('a')).nlink).toBe(2);
    await other.close();
  });
});

describe('attributes', () => {
  test('survive a restart and a lost cache', async () => {
    await tree.writeFile('f', 'x');
    await tree.change('f', {
      mode: 0o4751,
      uid: 5,
      gid: 6,
      modified: { seconds: 12, nanoseconds: 345_678_901 },
    });
    await tree.setxattr('f', 'user.color', 'blue');
    const before = await tree.stat('f');
    await tree.volume.drain();
    const other = new Tree(bucket);
    expect(await other.stat('f')).toMatchObject({ ...before, ino: expect.any(Number) });
    expect(await other.getxattr('f', 'user.color')).toBe('blue');
    await other.close();
  });

  test('several changes are one write', async () => {
    await tree.writeFile('f', 'x');
    for (let mode = 0o600; mode < 0o620; mode++) await tree.change('f', { mode });
    await tree.volume.drain();
    expect(bucket.requests.filter((request) => request === 'setAttributes f').length).toBe(1);
    expect(bucket.objects.get('f')?.attributes.mode).toBe(0o100617);
  });

  test('symlinks, fifos and devices', async () => {
    await tree.symlink('../somewhere', 'link');
    await tree.mknod('fifo', 0o010644);
    await tree.mknod('device', 0o020600, 0x105);
    expect(await tree.readlink('link')).toBe('../somewhere');
    expect(bucket.text('link')).toBe('../somewhere');
    const other = new Tree(bucket);
    expect((await other.stat('link')).mode).toBe(0o120777);
    expect((await other.stat('fifo')).mode).toBe(0o010644);
    expect(await other.stat('device')).toMatchObject({ mode: 0o020600, rdev: 0x105 });
    expect(await other.readlink('link')).toBe('../somewhere');
    await other.close();
  });

  test('an object that turns out to be a symlink gets a new node', async () => {
    bucket.put('d/link', 'target', { mode: 0o120777 });
    expect(await tree.list('d')).toEqual(['link']);
    expect((await tree.stat('d/link')).mode).toBe(0o120777);
  });

  test('a mount that is not exec shows and keeps no x bit on files', async () => {
    const other = new Tree(bucket, { mode: 'write' });
    bucket.put('tool', '#!/bin/sh', { mode: 0o100755 });
    expect((await other.stat('tool')).mode).toBe(0o100644);
    await other.writeFile('f', 'x');
    await other.change('f', { mode: 0o755 });
    expect((await other.stat('f')).mode).toBe(0o100644);
    await other.close();
  });

  test('user.mirage.* tells what the mount knows', async () => {
    await tree.writeFile('f', 'x');
    expect(await tree.getxattr('f', 'user.mirage.key')).toBe('f');
    expect(await tree.getxattr('f', 'user.mirage.etag')).toMatch(/^[0-9a-f]{32}$/);
    expect(await errorOf(tree.getxattr('f', 'user.other'))).toBe('ENODATA');
    expect(await errorOf(tree.setxattr('f', 'user.mirage.key', 'x'))).toBe('EPERM');
  });
});
