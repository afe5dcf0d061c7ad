/** Two things at once on one file or directory, and stores that fail half-way: nothing is lost, and nobody hears of a success that was none. */
import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { MirageError } from '../../src/errors/mirage-error.js';
import { Bucket } from './bucket.js';
import { errorOf, Tree } from './tree.js';

const O_RDWR = 2;
const RENAME_EXCHANGE = 2;

let bucket: Bucket;
let tree: Tree;
beforeEach(() => {
  bucket = new Bucket();
  tree = new Tree(bucket);
});
afterEach(() => tree.close());

/** Holds the first operation that matches until `open` is called; `reached` resolves when it is there. */
function hold(matches: (operation: string, key: string) => boolean) {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const reached = new Promise<void>((resolve) => {
    bucket.before = (operation, key) => {
      if (!matches(operation, key)) return undefined;
      bucket.before = undefined;
      resolve();
      return opened;
    };
  });
  return { reached, open };
}

const down = (): MirageError => new MirageError('down', { errno: 'EHOSTDOWN' });

test('what is made or removed below a directory on the move happens in its new place', async () => {
  bucket.put('d/f', 'text');
  await tree.mkdir('d/gone');
  const parent = await tree.node('d');
  const copying = hold((operation) => operation === 'copy');
  const moving = tree.rename('d', 'e');
  await copying.reached;
  const making = tree.volume.mkdir(tree.call, parent, 'made', 0o755);
  const removing = tree.volume.rmdir(tree.call, parent, 'gone');
  copying.open();
  await Promise.all([moving, making, removing]);
  expect(bucket.keys()).toEqual(['e/', 'e/f', 'e/made/']);
  expect(await tree.list('e')).toEqual(['f', 'made']);
});

test('what another host writes below a directory on the move stays', async () => {
  bucket.put('d/f', 'old');
  bucket.put('d/g', 'other');
  const removing = hold((operation) => operation === 'remove');
  const moving = tree.rename('d', 'e');
  await removing.reached;
  bucket.put('d/f', 'new');
  bucket.put('d/g', 'newer');
  removing.open();
  await moving;
  expect(bucket.text('d/f')).toBe('new');
  expect(bucket.text('d/g')).toBe('newer');
  expect(bucket.text('e/f')).toBe('old');
});

test('an exchange that fails half-way loses neither content', async () => {
  bucket.put('a', 'first');
  bucket.put('b', 'second');
  bucket.before = (operation, key) => {
    if (operation === 'write' && key === 'a') throw down();
  };
  expect(await errorOf(() => tree.rename('a', 'b', RENAME_EXCHANGE))).toBe('EHOSTDOWN');
  expect([bucket.text('a'), bucket.text('b')]).toEqual(['first', 'second']);
  expect([await tree.readFile('a'), await tree.readFile('b')]).toEqual(['first', 'second']);
  bucket.before = undefined;
  await tree.rename('a', 'b', RENAME_EXCHANGE);
  expect([bucket.text('a'), bucket.text('b')]).toEqual(['second', 'first']);
});

test('a rename that cannot remove the old name leaves a file that close still stores', async () => {
  bucket.put('a', 'old');
  const open = await tree.open('a', O_RDWR);
  await tree.write(open, 0, 'new');
  bucket.before = (operation) => {
    if (operation === 'remove') throw down();
  };
  expect(await errorOf(() => tree.rename('a', 'b'))).toBe('EHOSTDOWN');
  bucket.before = undefined;
  await tree.close2(open);
  expect(bucket.text('a')).toBe('new');
  expect(await tree.readFile('a')).toBe('new');
  expect(await tree.readFile('b')).toBe('new');
});

test('all who wrote to a file hear that it lost a race', async () => {
  bucket.put('f', 'base');
  const one = await tree.open('f', O_RDWR);
  const two = await tree.openNode(one.node, O_RDWR);
  await tree.write(one, 0, '1');
  await tree.write(two, 1, '2');
  bucket.put('f', 'theirs');
  const closings = [errorOf(() => tree.flush(one)), errorOf(() => tree.flush(two))];
  expect(await Promise.all(closings)).toEqual(['ESTALE', 'ESTALE']);
  expect(await errorOf(() => tree.write(two, 0, 'late'))).toBe('ESTALE');
  expect(await errorOf(() => tree.flush(two))).toBe('ESTALE');
  await tree.release(one);
  await tree.release(two);
  expect(bucket.text('f')).toBe('theirs');
});

test('a second close of an empty file waits for the first', async () => {
  const open = await tree.create('f');
  const writing = hold((operation) => operation === 'write');
  const first = tree.flush(open);
  await writing.reached;
  let answered = false;
  const second = tree.flush(open).then(() => {
    answered = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(answered).toBe(false);
  writing.open();
  await Promise.all([first, second]);
  await tree.release(open);
  expect(bucket.text('f')).toBe('');
});

test('opening a node that another version has replaced makes the kernel look again', async () => {
  bucket.put('f', 'old');
  const open = await tree.open('f');
  expect(await tree.read(open)).toBe('old');
  bucket.put('f', 'new!');
  tree.later += 120_000;
  expect(await tree.readFile('f')).toBe('new!');
  expect(await errorOf(() => tree.openNode(open.node))).toBe('ESTALE');
  expect(await errorOf(() => tree.openNode(open.node, O_RDWR))).toBe('ESTALE');
  expect(await tree.read(open)).toBe('old');
  await tree.release(open);
});

test('attributes of what another host has removed or replaced keep nothing alive', async () => {
  bucket.put('gone', 'text');
  bucket.put('replaced', 'text');
  for (const name of ['gone', 'replaced']) await tree.change(name, { mode: 0o600 });
  bucket.objects.delete('gone');
  bucket.put('replaced', 'another text');
  await tree.volume.drain();
  expect(await tree.exists('gone')).toBe(false);
  expect(await tree.readFile('replaced')).toBe('another text');
  expect((await tree.stat('replaced')).mode & 0o777).toBe(0o600);
});

test('a clock that is set back makes nothing fresh', async () => {
  bucket.put('d/f', 'old');
  tree.later = 3_600_000;
  expect(await tree.list('d')).toEqual(['f']);
  expect((await tree.stat('d/f')).size).toBe(3);
  tree.later = 0;
  bucket.put('d/f', 'longer');
  bucket.put('d/g', 'text');
  expect((await tree.stat('d/f')).size).toBe(6);
  expect(await tree.list('d')).toEqual(['f', 'g']);
  const before = bucket.requests.length;
  expect(await tree.list('d')).toEqual(['f', 'g']);
  expect(bucket.requests.length).toBe(before);
});

test('whoever opens a file while its name goes hears that it is gone, or can read it', async () => {
  bucket.put('f', 'text');
  bucket.put('g', 'text');
  for (const [name, fails] of [
    ['f', false],
    ['g', true],
  ] as const) {
    const node = await tree.node(name);
    const removing = hold((operation) => operation === 'remove');
    const unlinked = errorOf(() => tree.unlink(name));
    await removing.reached;
    const opening = tree.openNode(node);
    if (fails) bucket.put(name, 'newer');
    removing.open();
    expect(await unlinked).toBe(fails ? 'EBUSY' : 'success');
    if (fails) {
      const open = await opening.catch(() => tree.open(name));
      expect(await tree.read(open)).toBe('newer');
      await tree.release(open);
    } else expect(await errorOf(opening)).toBe('ESTALE');
  }
});

test('what has happened is a success, also where the directory it was in cannot be kept', async () => {
  bucket.put('d/f', 'text');
  bucket.before = (operation) => {
    if (operation === 'createDirectory') throw down();
  };
  await tree.unlink('d/f');
  expect(bucket.keys()).toEqual([]);
});

test('the loser of a race hears of it also where its bytes cannot be set aside', async () => {
  bucket.put('f', 'base');
  writeFileSync(tree.conflicts, 'in the way');
  const open = await tree.open('f', O_RDWR);
  await tree.write(open, 0, 'ours');
  bucket.put('f', 'theirs');
  expect(await errorOf(tree.flush(open))).toBe('ESTALE');
  await tree.release(open);
  expect(await tree.readFile('f')).toBe('theirs');
});

test('a listing that is under way while its directory moves shows what is in it', async () => {
  bucket.put('d/f', 'text');
  const node = await tree.node('d');
  const listing = hold((operation, key) => operation === 'list' && key === 'd');
  const names = tree.list('d');
  await listing.reached;
  const moving = tree.rename('d', 'e');
  await moving;
  listing.open();
  expect(await names).toEqual(['f']);
  expect(await tree.exists('d')).toBe(false);
  expect(await tree.list('e')).toEqual(['f']);
  expect((await tree.fstat(node)).ino).toBe((await tree.stat('e')).ino);
});

test('a link that fails leaves nothing behind: a change elsewhere shows', async () => {
  bucket.put('f', 'old');
  await tree.stat('f');
  bucket.before = (operation) => {
    if (operation === 'copy') throw down();
  };
  expect(await errorOf(() => tree.link('f', 'g'))).toBe('EHOSTDOWN');
  bucket.before = undefined;
  bucket.put('f', 'longer');
  tree.later += 120_000;
  expect((await tree.stat('f')).size).toBe(6);
});

test('a file whose first name is removed is still fetched under the other', async () => {
  bucket.put('f', 'text');
  await tree.link('f', 'g');
  await tree.close(true);
  const fresh = new Tree(bucket);
  tree = fresh;
  await tree.list('');
  await tree.stat('f');
  const open = await tree.open('g');
  await tree.stat('f');
  await tree.unlink((await tree.exists('f')) ? 'f' : 'g');
  expect(await tree.read(open)).toBe('text');
  await tree.release(open);
});

test('a read that waits while its file or the directory above is renamed gets its bytes', async () => {
  // Too large to come along with what is asked about it.
  const content = 'text'.repeat(2 ** 19);
  bucket.put('d/f', content);
  bucket.put('d/h', content);
  for (const [file, from, to] of [
    ['d/f', 'd/f', 'd/g'],
    ['d/h', 'd', 'e'],
  ] as const) {
    const open = await tree.open(file);
    const reading = hold((operation) => operation === 'read');
    const text = tree.read(open);
    await reading.reached;
    await tree.rename(from, to);
    reading.open();
    expect(await text).toBe(content.slice(0, 2 ** 20));
    await tree.release(open);
  }
});

test('opening for writing begins with the newest version, also while attributes wait to be saved', async () => {
  bucket.put('f', 'old');
  await tree.change('f', { mode: 0o600 });
  bucket.put('f', 'newer');
  const open = await tree.open('f', O_RDWR);
  expect(await tree.read(open)).toBe('newer');
  await tree.write(open, 5, '!');
  await tree.close2(open);
  expect(bucket.text('f')).toBe('newer!');
  expect((await tree.stat('f')).mode & 0o777).toBe(0o600);
});
