/** With `locking: lease`: a file that another host has open for writing keeps its name until that host is done. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { MirageError } from '../../src/errors/mirage-error.js';
import type { LeasePort } from '../../src/ports/lease-port.js';
import { Bucket } from './bucket.js';
import { errorOf, Tree } from './tree.js';

let bucket: Bucket;
let tree: Tree;
let held: Map<number, string>;
let taken: string[];
/** What another host has open. */
let elsewhere: Set<string>;

const leases: LeasePort = {
  async acquireLease(_mount, name, ticket) {
    if (elsewhere.has(name)) throw new MirageError('another host has it', { errno: 'ETIMEDOUT' });
    held.set(ticket, name);
    taken.push(name);
  },
  async releaseLease(ticket) {
    held.delete(ticket);
  },
};

beforeEach(() => {
  held = new Map();
  taken = [];
  elsewhere = new Set();
  bucket = new Bucket();
});
afterEach(() => tree.close());

for (const writeBack of ['close', 'async'] as const) {
  test(`with writeBack ${writeBack} unlink and rename wait for it, and answer EBUSY`, async () => {
    tree = new Tree(bucket, { writeBack, leases });
    for (const name of ['a', 'b', 'd/c']) bucket.put(name, name);
    elsewhere.add('a');
    expect(await errorOf(tree.unlink('a'))).toBe('EBUSY');
    expect(await errorOf(tree.rename('a', 'e'))).toBe('EBUSY');
    expect(await errorOf(tree.rename('b', 'a'))).toBe('EBUSY');
    await tree.volume.drain();
    expect(bucket.keys()).toEqual(['a', 'b', 'd/c']);
    elsewhere.clear();
    taken = [];
    let during: string[] = [];
    bucket.before = (operation) => {
      if (operation === 'remove') during = [...held.values()];
    };
    await tree.rename('b', 'a');
    await tree.volume.drain();
    expect(during.sort()).toEqual(['a', 'b']);
    expect(taken).toEqual(['a', 'b']);
    await tree.unlink('a');
    await tree.volume.drain();
    expect(during).toEqual(['a']);
    expect(bucket.keys()).toEqual(['d/c']);
    taken = [];
    await tree.rename('d', 'e');
    expect(taken).toEqual([]);
    const deadline = Date.now() + 5000;
    while (held.size > 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(held.size).toBe(0);
  });
}
