/** With `writeBack: async`, a change of attributes that the store has made and nobody here has heard of yet: the version is still our own. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { MirageError } from '../../src/errors/mirage-error.js';
import { Bucket } from './bucket.js';
import { errorOf, Tree } from './tree.js';

let bucket: Bucket;
let tree: Tree;
beforeEach(async () => {
  bucket = new Bucket({ namesAnew: true });
  tree = new Tree(bucket, { writeBack: 'async' });
  await tree.writeFile('f', 'text');
  await tree.volume.drain();
});
afterEach(() => tree.close());

/** Makes the change, and lets its answer be lost. */
async function unheard(change: () => Promise<unknown>): Promise<void> {
  let acted = 0;
  bucket.after = (operation) => {
    if (operation !== 'setAttributes') return;
    acted++;
    throw new MirageError('the connection broke', { errno: 'EIO', outcomeUnknown: true });
  };
  await change();
  expect(await errorOf(tree.volume.drain())).toBe('EIO');
  expect(acted).toBeGreaterThan(0);
  bucket.after = undefined;
}

test('it can be written to', async () => {
  await unheard(() => tree.change('f', { mode: 0o600 }));
  await tree.change('f', { size: 2 });
  await tree.volume.drain();
  expect(bucket.text('f')).toBe('te');
  expect((bucket.objects.get('f')?.attributes.mode ?? 0) & 0o777).toBe(0o600);
});

test('the first name of a new hard link stays one', async () => {
  await unheard(() => tree.link('f', 'g'));
  tree.later += 61_000;
  expect(await tree.list('')).toEqual(['f', 'g']);
  await tree.writeFile('g', 'another text');
  expect(await tree.readFile('f')).toBe('another text');
  expect((await tree.stat('f')).nlink).toBe(2);
  await tree.volume.drain();
  expect([bucket.text('f'), bucket.text('g')]).toEqual(['another text', 'another text']);
});
