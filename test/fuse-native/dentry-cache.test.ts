import { beforeEach, describe, expect, test } from '@jest/globals';
import { DentryCache } from '../../src/fuse/fuse-native/dentry-cache.js';
import { HandleTable } from '../../src/fuse/fuse-native/handle-table.js';
import { HiddenFiles } from '../../src/fuse/fuse-native/hidden-files.js';
import type { Call, EntryReply, FileSystem } from '../../src/vfs/operations.js';

const call: Call = { uid: 0, gid: 0, pid: 0, signal: new AbortController().signal };
const SECOND = 1e9;

/** A tree of names that counts lookups as a file system must. */
class CountingTree {
  readonly names = new Map<string, number>();
  readonly counts = new Map<number, number>();
  valid = SECOND;
  asked = 0;

  readonly fileSystem = {
    lookup: async (_call: Call, parent: number, name: string, reply: EntryReply): Promise<void> => {
      this.asked++;
      await Promise.resolve();
      const node = this.names.get(`${parent}/${name}`);
      if (node === undefined) return reply.fail(2);
      this.counts.set(node, (this.counts.get(node) ?? 0) + 1);
      reply.nodeId = node;
      reply.entryValid = this.valid;
    },
    forget: (node: number, count: number): void => {
      this.counts.set(node, (this.counts.get(node) ?? 0) - count);
    },
  } as unknown as FileSystem;

  total(): number {
    return [...this.counts.values()].reduce((sum, count) => sum + count, 0);
  }
}

describe('the dentry cache', () => {
  let tree: CountingTree;
  let now: number;
  let cache: DentryCache;
  beforeEach(() => {
    tree = new CountingTree();
    tree.names.set('1/a', 2).set('2/b', 3).set('2/c', 4);
    now = 0;
    cache = new DentryCache(tree.fileSystem, 100, () => now);
  });

  test('asks once while a name is valid and again afterwards, with one count for each dentry', async () => {
    for (let i = 0; i < 3; i++) cache.release(await cache.resolve(call, ['a', 'b'], false));
    expect(tree.asked).toBe(2);
    now = 1001;
    const held = await cache.resolve(call, ['a', 'b'], false);
    expect(tree.asked).toBe(4);
    expect(held.node).toBe(3);
    cache.release(held);
    expect([tree.counts.get(2), tree.counts.get(3)]).toEqual([1, 1]);
    cache.clear();
    expect(tree.total()).toBe(0);
  });

  test('names that were looked up at the same time share a dentry', async () => {
    const held = await Promise.all([1, 2, 3].map(() => cache.resolve(call, ['a', 'b'], false)));
    expect(tree.counts.get(3)).toBe(1);
    for (const one of held) cache.release(one);
    cache.clear();
    expect(tree.total()).toBe(0);
  });

  test('a held node outlives its name and its place in the cache', async () => {
    const held = await cache.resolve(call, ['a', 'b'], false);
    cache.drop(2, 'b');
    cache.clear();
    expect(tree.counts.get(3)).toBe(1);
    cache.release(held);
    expect(tree.total()).toBe(0);
  });

  test('the same name may lead to another node', async () => {
    cache.release(await cache.resolve(call, ['a', 'b'], false));
    tree.names.set('2/b', 9);
    const held = await cache.resolve(call, ['a', 'b'], true);
    expect(held.node).toBe(9);
    expect(tree.counts.get(3)).toBe(0);
    cache.release(held);
  });

  test('a missing name holds nothing', async () => {
    await expect(cache.resolve(call, ['a', 'x'], false)).rejects.toMatchObject({ errno: 'ENOENT' });
    cache.clear();
    expect(tree.total()).toBe(0);
  });

  test('stays within its limit and gives every count back', async () => {
    const small = new DentryCache(tree.fileSystem, 4, () => now);
    for (let i = 0; i < 50; i++) {
      tree.names.set(`1/f${i}`, 100 + i);
      small.release(await small.resolve(call, [`f${i}`], false));
      expect(small.size).toBeLessThanOrEqual(4);
    }
    expect(tree.total()).toBe(4);
  });

  test('a file that libfuse hides stays reachable by its alias alone', async () => {
    const hidden = new HiddenFiles(cache);
    const path = '/a/.fuse_hidden0000000200000001';
    expect(hidden.expects(path)).toBe(true);
    expect(hidden.expects('/a/.fuse_hidden00000002ffffffff')).toBe(false);
    expect(hidden.expects('/a/.fuse_hidden')).toBe(false);
    hidden.add(path, await cache.resolve(call, ['a', 'b'], false));
    cache.drop(2, 'b');
    expect(hidden.get(path)?.node).toBe(3);
    expect(hidden.remove(path)).toBe(true);
    expect(hidden.remove(path)).toBe(false);
    cache.clear();
    expect(tree.total()).toBe(0);
  });

  test('open files have numbers from 1 and are known by node', async () => {
    const handles = new HandleTable();
    const held = await cache.resolve(call, ['a', 'b'], false);
    const number = handles.add({ held, handle: 2 ** 40 });
    expect(number).toBe(1);
    expect(handles.get(number).handle).toBe(2 ** 40);
    expect(handles.isOpen(held)).toBe(true);
    expect(handles.take(number).handle).toBe(2 ** 40);
    expect(() => handles.get(number)).toThrow('no such open file');
    cache.release(held);
  });
});
