/** A name of a hard link that another host has put a file of its own under is no name of it any more. */
import { afterEach, expect, test } from '@jest/globals';
import { Bucket } from './bucket.js';
import { errorOf, Tree } from './tree.js';

let tree: Tree;
afterEach(() => tree.close());

for (const writeBack of ['close', 'async'] as const) {
  test(`with writeBack ${writeBack} a file that another host put in its place is left alone`, async () => {
    const bucket = new Bucket({ namesAnew: true });
    tree = new Tree(bucket, { writeBack });
    await tree.writeFile('mine', 'text');
    await tree.link('mine', 'other');
    await tree.volume.drain();
    bucket.put('other', 'of another host', { mode: 0o100_600 });
    await tree.change('mine', { mode: 0o755 });
    await tree.volume.drain();
    tree.later += 61_000;
    expect(bucket.objects.get('other')?.attributes).toEqual({ mode: 0o100_600 });
    expect(await errorOf(tree.writeFile('mine', 'new'))).toBe('success');
    await tree.volume.drain();
    expect(bucket.text('mine')).toBe('new');
    expect(bucket.text('other')).toBe('of another host');
    expect((await tree.stat('mine')).mode & 0o777).toBe(0o755);
    expect(await tree.readFile('other')).toBe('of another host');
  });

  test(`with writeBack ${writeBack} it is not written to either, also where only a listing has told of it`, async () => {
    const bucket = new Bucket();
    tree = new Tree(bucket, { writeBack });
    await tree.writeFile('mine', 'text');
    await tree.link('mine', 'other');
    await tree.volume.drain();
    bucket.put('other', 'of another host');
    tree.later += 61_000;
    await tree.list('');
    await tree.writeFile('mine', 'new');
    await tree.volume.drain();
    expect(bucket.text('mine')).toBe('new');
    expect(bucket.text('other')).toBe('of another host');
    expect(await tree.readFile('other')).toBe('of another host');
  });
}
