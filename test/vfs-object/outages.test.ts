/** Stores that are away for a while: what was written here comes there in the end, and is nobody else's. */
import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { MirageError } from '../../src/errors/mirage-error.js';
import { Bucket } from './bucket.js';
import { errorOf, Tree } from './tree.js';

const O_RDWR = 2;

let bucket: Bucket;
let tree: Tree;
beforeEach(() => {
  jest.useFakeTimers({
    doNotFake: [
      'Date',
      'hrtime',
      'nextTick',
      'performance',
      'queueMicrotask',
      'setImmediate',
      'clearImmediate',
    ],
  });
  bucket = new Bucket();
  tree = new Tree(bucket);
});
afterEach(async () => {
  comeBack();
  await tree.close();
  jest.useRealTimers();
});

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

/** Lets what goes on come to its end, until `condition` holds. */
async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('it did not come about');
    await new Promise((resolve) => setImmediate(resolve));
  }
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

test('what could not be brought to the store behind a program is brought when the store is back', async () => {
  bucket.put('attributes', 'text');
  await tree.change('attributes', { mode: 0o600 });
  const open = await tree.create('content');
  await tree.write(open, 0, 'text');
  let asked = 0;
  bucket.before = () => {
    asked++;
    throw away();
  };
  jest.advanceTimersByTime(2000);
  await until(() => asked > 0);
  expect(await errorOf(tree.close2(open))).toBe('EHOSTDOWN');
  await until(() => jest.getTimerCount() > 0);
  const before = asked;
  jest.advanceTimersByTime(5000);
  await until(() => asked > before && jest.getTimerCount() > 0);
  expect(tree.volume.pending().length).toBe(2);
  bucket.before = undefined;
  jest.advanceTimersByTime(10_000);
  await until(() => tree.volume.pending().length === 0);
  expect(bucket.text('content')).toBe('text');
  expect((bucket.objects.get('attributes')?.attributes.mode ?? 0) & 0o777).toBe(0o600);
  expect(await tree.readFile('content')).toBe('text');
  // The index of the cache is written when nobody waits for it.
  jest.advanceTimersByTime(1000);
  expect(jest.getTimerCount()).toBe(0);
});
