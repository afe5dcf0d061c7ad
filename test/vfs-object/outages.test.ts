/** Stores that are away for a while: what was written here comes there in the end, and is nobody else's. */
import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { MirageError } from '../../src/errors/mirage-error.js';
import { Bucket } from './bucket.js';
import { errorOf, Tree } from './tree.js';

const O_RDWR = 2;

let bucket: Bucket;
let tree: Tree;
beforeEach(() => {
  bucket = new Bucket();
  tree = new Tree(bucket);
});
afterEach(() => tree.close());

const away = (): MirageError =>
  new MirageError('away', { errno: 'EHOSTDOWN', retryable: true, outcomeUnknown: true });

/** The store takes the next write and is gone before it has answered. */
function takeOneAndGo(): void {
  bucket.after = (operation) => {
    if (operation !== 'write') return;
    bucket.before = () => {
      throw away();
    };
    throw away();
  };
}

function comeBack(): void {
  bucket.before = undefined;
  bucket.after = undefined;
}

test('a write that nobody knows the outcome of is no other host that came first', async () => {
  bucket.put('old', 'before');
  const created = await tree.create('new');
  const opened = await tree.open('old', O_RDWR);
  for (const [open, name] of [
    [created, 'new'],
    [opened, 'old'],
  ] as const) {
    await tree.write(open, 0, 'first');
    takeOneAndGo();
    expect(await errorOf(tree.flush(open))).toBe('EHOSTDOWN');
    comeBack();
    await tree.write(open, 0, 'second');
    await tree.close2(open);
    expect(bucket.text(name)).toBe('second');
  }
});

test('another host that came after it is', async () => {
  const open = await tree.create('f');
  await tree.write(open, 0, 'first');
  takeOneAndGo();
  expect(await errorOf(tree.flush(open))).toBe('EHOSTDOWN');
  comeBack();
  bucket.put('f', 'theirs', { writer: 'another' });
  expect(await errorOf(tree.close2(open))).toBe('ESTALE');
  expect(bucket.text('f')).toBe('theirs');
  expect(readdirSync(tree.conflicts).length).toBe(2);
});
