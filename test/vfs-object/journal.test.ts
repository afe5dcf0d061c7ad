/** `writeBack: async`: what is answered before the store has it, and what becomes of it. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { MirageError } from '../../src/errors/mirage-error.js';
import { Bucket } from './bucket.js';
import { errorOf, Tree } from './tree.js';

let bucket: Bucket;
let trees: Tree[];

beforeEach(() => {
  bucket = new Bucket();
  trees = [];
});
afterEach(async () => {
  bucket.before = undefined;
  for (const tree of trees) await tree.close().catch(() => undefined);
});

function mount(folder?: string, writeBack: 'async' | 'close' = 'async'): Tree {
  const tree = new Tree(bucket, { writeBack, ...(folder !== undefined && { folder }) });
  trees.push(tree);
  return tree;
}

/** The same host after its daemon was killed. */
async function restarted(tree: Tree, writeBack: 'async' | 'close' = 'async'): Promise<Tree> {
  trees.splice(trees.indexOf(tree), 1);
  await tree.crash();
  return mount(tree.folder, writeBack);
}

/** Nothing that changes the store is answered. */
function down(): void {
  bucket.before = (operation) => {
    if (operation === 'stat' || operation === 'list' || operation === 'read') return;
    throw new MirageError('out of reach', { errno: 'EHOSTDOWN', retryable: true });
  };
}

const changes = (): string[] => bucket.requests.filter((request) => !/^(stat|list|read) /.test(request));

describe('while the store is out of reach', () => {
  test('files can be written, read, listed, renamed and removed', async () => {
    bucket.put('old', 'old');
    const tree = mount();
    await tree.list('');
    down();
    await tree.mkdir('d');
    await tree.writeFile('d/f', 'content');
    await tree.writeFile('d/g', 'removed');
    await tree.unlink('d/g');
    await tree.rename('d/f', 'd/h');
    await tree.symlink('h', 'd/link');
    await tree.unlink('old');
    expect(await tree.readFile('d/h')).toBe('content');
    expect(await tree.readlink('d/link')).toBe('h');
    tree.later += 120_000;
    expect(await tree.list('')).toEqual(['d']);
    expect(await tree.list('d')).toEqual(['h', 'link']);
    expect(await tree.readFile('d/h')).toBe('content');
    expect((await tree.stat('d/h')).size).toBe(7);
    expect(bucket.keys()).toEqual(['old']);
    bucket.before = undefined;
    await tree.volume.drain();
    expect(bucket.keys()).toEqual(['d/', 'd/h', 'd/link']);
    expect(bucket.text('d/h')).toBe('content');
    expect(tree.volume.pending()).toEqual([]);
  });

  test('a daemon that was killed carries out what it had promised', async () => {
    bucket.put('gone', 'x');
    bucket.put('kept', 'before');
    const tree = mount();
    await tree.list('');
    down();
    await tree.mkdir('d');
    await tree.writeFile('d/f', 'content');
    await tree.writeFile('kept', 'after');
    await tree.unlink('gone');
    await tree.change('d/f', { mode: 0o640 });
    const again = await restarted(tree);
    expect(await again.list('')).toEqual(['d', 'kept']);
    expect(await again.readFile('d/f')).toBe('content');
    expect((await again.stat('d/f')).mode & 0o7777).toBe(0o640);
    expect(await again.readFile('kept')).toBe('after');
    bucket.before = undefined;
    await again.volume.drain();
    expect(bucket.keys()).toEqual(['d/', 'd/f', 'kept']);
    expect(bucket.text('kept')).toBe('after');
    expect(readdirSync(join(again.folder, 'cache', 'journal'))).toEqual([]);
    const other = mount(undefined, 'close');
    expect((await other.stat('d/f')).mode & 0o7777).toBe(0o640);
  });

  test('what is written again after a restart takes the place of what was left', async () => {
    const tree = mount();
    await tree.list('');
    down();
    await tree.writeFile('f', 'one');
    const again = await restarted(tree);
    await again.writeFile('f', 'two');
    bucket.before = undefined;
    await again.volume.drain();
    expect(bucket.text('f')).toBe('two');
    expect(existsSync(again.conflicts)).toBe(false);
  });

  test('a directory is renamed with what is in it', async () => {
    bucket.put('a/', '');
    bucket.put('a/stored', '1');
    bucket.put('a/deep/stored', '2');
    const tree = mount();
    await tree.list('a');
    await tree.list('a/deep');
    down();
    await tree.writeFile('a/new', '3');
    await tree.rename('a', 'b');
    await tree.writeFile('b/later', '4');
    const seen = async (on: Tree): Promise<void> => {
      on.later += 120_000;
      expect(await on.list('')).toEqual(['b']);
      expect(await on.list('b')).toEqual(['deep', 'later', 'new', 'stored']);
      expect(await on.list('b/deep')).toEqual(['stored']);
      expect(await on.readFile('b/stored')).toBe('1');
      expect(await on.readFile('b/deep/stored')).toBe('2');
      expect(await on.readFile('b/new')).toBe('3');
      expect(await on.readFile('b/later')).toBe('4');
      expect(await on.exists('a')).toBe(false);
    };
    await seen(tree);
    const again = await restarted(tree);
    await seen(again);
    bucket.before = undefined;
    await again.volume.drain();
    expect(bucket.keys()).toEqual(['b/', 'b/deep/stored', 'b/later', 'b/new', 'b/stored']);
    await seen(again);
  });

  test('directories are removed when nothing is in them any more, and not before', async () => {
    bucket.put('d/f', 'x');
    const tree = mount();
    await tree.list('d');
    down();
    expect(await errorOf(() => tree.rmdir('d'))).toBe('ENOTEMPTY');
    await tree.unlink('d/f');
    await tree.rmdir('d');
    expect(await tree.list('')).toEqual([]);
    bucket.before = undefined;
    await tree.volume.drain();
    expect(bucket.keys()).toEqual([]);
  });

  test('drain says what is left, and user.mirage.commit why', async () => {
    const tree = mount();
    await tree.list('');
    down();
    await tree.writeFile('f', 'x');
    expect(await errorOf(tree.volume.drain())).toBe('EHOSTDOWN');
    expect(tree.volume.pending()).toEqual([expect.stringContaining('/s3/f: to be stored')]);
    expect(await errorOf(tree.setxattr('f', 'user.mirage.commit', '1'))).toBe('EHOSTDOWN');
    bucket.before = undefined;
    await tree.setxattr('f', 'user.mirage.commit', '1');
    expect(bucket.text('f')).toBe('x');
  });

  test('more bytes than the cache has room for are refused', async () => {
    const tree = new Tree(bucket, { writeBack: 'async', limit: 200_000 });
    trees.push(tree);
    await tree.list('');
    down();
    await tree.writeFile('one', 'x'.repeat(120_000));
    expect(await errorOf(() => tree.writeFile('two', 'x'.repeat(120_000)))).toBe('ENOSPC');
    bucket.before = undefined;
    await tree.volume.drain();
    expect(bucket.keys()).toContain('one');
  });
});

test('a file that is open is written on after fsync, and the store never has a part of it', async () => {
  const tree = mount();
  const open = await tree.create('f');
  for (let round = 1; round <= 5; round++) {
    await tree.write(open, 0, `round ${round}`);
    await tree.fsync(open);
  }
  await tree.write(open, 0, 'ROUND');
  expect(changes()).toEqual([]);
  await tree.close2(open);
  await tree.volume.drain();
  expect(bucket.text('f')).toBe('ROUND 5');
  expect(changes()).toEqual(['write f']);
});

test('a lost race is found out later: the bytes lie in conflicts, and the name shows what the store has', async () => {
  bucket.put('f', 'base');
  const tree = mount();
  expect(await tree.readFile('f')).toBe('base');
  let theirs = true;
  bucket.before = (operation) => {
    if (operation !== 'write' || !theirs) return;
    theirs = false;
    bucket.put('f', 'theirs');
  };
  const open = await tree.open('f', 2);
  await tree.write(open, 0, 'ours');
  await tree.close2(open);
  await tree.volume.drain();
  expect(bucket.text('f')).toBe('theirs');
  expect(await tree.readFile('f')).toBe('theirs');
  const kept = readdirSync(tree.conflicts).sort();
  expect(kept).toEqual([expect.stringMatching(/\.bytes$/), expect.stringMatching(/\.json$/)]);
  expect(readFileSync(join(tree.conflicts, kept[0] as string), 'utf8')).toBe('ours');
});

test('a listing that was asked before a change does not undo it', async () => {
  bucket.put('d/a', '1');
  bucket.put('d/b', '2');
  const tree = mount();
  await tree.node('d');
  let listed: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    listed = resolve;
  });
  bucket.before = (operation, key) => (operation === 'list' && key === 'd' ? held : undefined);
  const listing = tree.list('d');
  const removed = tree.unlink('d/a').then(() => tree.writeFile('d/c', '3'));
  bucket.before = undefined;
  listed();
  await removed;
  await listing;
  await tree.volume.drain();
  expect(await tree.list('d')).toEqual(['b', 'c']);
});

describe('with writeBack: close', () => {
  test('a write that was under way when the daemon was killed is finished', async () => {
    const tree = mount(undefined, 'close');
    await tree.list('');
    let begun: () => void = () => undefined;
    const started = new Promise<void>((resolve) => {
      begun = resolve;
    });
    bucket.before = (operation) => {
      if (operation !== 'write') return;
      begun();
      return new Promise(() => undefined);
    };
    const written = tree.writeFile('f', 'content');
    written.catch(() => undefined);
    await started;
    const again = await restarted(tree, 'close');
    bucket.before = undefined;
    await again.volume.drain();
    expect(bucket.text('f')).toBe('content');
  });

  test('a directory that was half renamed when the daemon was killed is renamed wholly', async () => {
    for (let i = 0; i < 100; i++) bucket.put(`a/${i}`, `${i}`);
    bucket.put('a/', '');
    const tree = mount(undefined, 'close');
    await tree.list('a');
    let removals = 0;
    let halfway: () => void = () => undefined;
    const reached = new Promise<void>((resolve) => {
      halfway = resolve;
    });
    bucket.before = (operation) => {
      if (operation !== 'remove' || ++removals < 50) return;
      halfway();
      return new Promise(() => undefined);
    };
    tree.rename('a', 'b').catch(() => undefined);
    await reached;
    const again = await restarted(tree, 'close');
    bucket.before = undefined;
    await again.volume.drain();
    expect(bucket.keys().filter((key) => key.startsWith('a/'))).toEqual([]);
    expect(bucket.keys().filter((key) => key.startsWith('b/'))).toHaveLength(101);
    expect(bucket.text('b/7')).toBe('7');
  });
});
