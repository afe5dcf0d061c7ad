/** With `writeBack: async`, a store that is faster than the disk of the journal: what was written here keeps what is known of it. */
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { Journal } from '../../src/metadata/journal.js';
import { Bucket } from './bucket.js';
import { Tree } from './tree.js';

let bucket: Bucket;
let tree: Tree;
beforeEach(() => {
  const { durable } = Journal.prototype;
  jest.spyOn(Journal.prototype, 'durable').mockImplementation(async function (this: Journal) {
    await durable.call(this);
    await new Promise((resolve) => setTimeout(resolve, 50));
  });
  bucket = new Bucket();
  tree = new Tree(bucket, { writeBack: 'async', ttl: 1000 });
});
afterEach(async () => {
  await tree.close();
  jest.restoreAllMocks();
});

test('a renamed file keeps its attributes when a listing has come', async () => {
  await tree.writeFile('f', 'text');
  await tree.change('f', { mode: 0o755 });
  await tree.volume.drain();
  await tree.rename('f', 'g');
  await tree.volume.drain();
  tree.later += 2000;
  expect(await tree.list('')).toEqual(['g']);
  const asked = bucket.requests.length;
  expect((await tree.stat('g')).mode & 0o777).toBe(0o755);
  expect(bucket.requests.slice(asked)).toEqual([]);
});
