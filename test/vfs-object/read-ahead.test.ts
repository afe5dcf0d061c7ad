/** What opening and reading asks of the store: one request a file, the next files of a directory ahead, nothing twice. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { NodeId } from '../../src/vfs/operations.js';
import { type DirectorySink, OpenReply } from '../../src/vfs/operations.js';
import { Bucket } from './bucket.js';
import { errorOf, Tree } from './tree.js';

let bucket: Bucket;
let tree: Tree;
beforeEach(() => {
  bucket = new Bucket();
  tree = new Tree(bucket);
});
afterEach(() => tree.close());

/** The nodes of a directory as a walk gets them: from its listing alone, and kept. */
async function walk(path: string): Promise<Map<string, NodeId>> {
  const node = await tree.node(path);
  const open = new OpenReply();
  await tree.volume.opendir(tree.call, node, open);
  const nodes = new Map<string, NodeId>();
  let cookie = 0;
  for (let more = true; more; ) {
    more = false;
    const sink: DirectorySink = {
      wantsAttributes: true,
      fits: () => true,
      add: (name, next, entry) => {
        more = true;
        cookie = next;
        nodes.set(name, entry.nodeId);
      },
      addName: (_name, next) => {
        cookie = next;
      },
    };
    await tree.volume.readdir(tree.call, node, open.handle, cookie, sink);
  }
  await tree.volume.releasedir(tree.call, node, open.handle);
  bucket.requests.length = 0;
  return nodes;
}

async function readNode(node: NodeId): Promise<string> {
  const open = await tree.openNode(node);
  const text = await tree.read(open);
  await tree.release(open);
  return text;
}

const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate);
};

const asked = (operation: string): string[] =>
  bucket.requests.filter((request) => request.startsWith(`${operation} `)).sort();

describe('opening a file that a listing has told of', () => {
  test('takes one request, which brings its attributes too', async () => {
    bucket.put('d/f', 'content', { mode: 0o100640 });
    const nodes = await walk('d');
    expect(await readNode(nodes.get('f') as NodeId)).toBe('content');
    expect(bucket.requests).toEqual(['read d/f']);
    expect((await tree.stat('d/f')).mode).toBe(0o100640);
    expect(await readNode(nodes.get('f') as NodeId)).toBe('content');
    expect(asked('read')).toEqual(['read d/f']);
  });

  test('takes no more when it is looked at first, as the kernel does', async () => {
    bucket.put('d/f', 'content', { mode: 0o100640 });
    const node = (await walk('d')).get('f') as NodeId;
    tree.later += 11_000;
    expect((await tree.fstat(node)).mode).toBe(0o100640);
    expect(await readNode(node)).toBe('content');
    expect(bucket.requests).toEqual(['read d/f']);
  });

  test('looking at one after the other does not fetch them all', async () => {
    const names = Array.from({ length: 30 }, (_, index) => `f${index}`);
    for (const name of names) bucket.put(`d/${name}`, name, { mode: 0o100600 });
    const nodes = await walk('d');
    tree.later += 11_000;
    for (const name of names) expect((await tree.fstat(nodes.get(name) as NodeId)).mode).toBe(0o100600);
    expect(asked('read').length).toBe(8);
    expect(asked('stat').length).toBe(22);
  });

  test('a directory without an object of its own is not asked for', async () => {
    bucket.put('d/e/f', 'content');
    const e = (await walk('d')).get('e') as NodeId;
    await walk('d/e');
    tree.later += 11_000;
    expect((await tree.fstat(e)).mode).toBe(0o40755);
    expect(bucket.requests).toEqual([]);
  });

  test('a directory that has got an object of its own is asked for', async () => {
    bucket.put('d/e/f', 'content');
    const e = (await walk('d')).get('e') as NodeId;
    await walk('d/e');
    bucket.put('d/e/', '', { mode: 0o40700 });
    tree.later += 61_000;
    await walk('d');
    await walk('d/e');
    tree.later += 11_000;
    expect((await tree.fstat(e)).mode).toBe(0o40700);
  });

  test('finds out when it is something else than a file', async () => {
    bucket.put('d/link', 'target', { mode: 0o120777 });
    const nodes = await walk('d');
    expect(await errorOf(tree.openNode(nodes.get('link') as NodeId))).toBe('ESTALE');
    expect(await tree.readlink('d/link')).toBe('target');
  });

  test('opens the version that has come meanwhile', async () => {
    bucket.put('d/f', 'old');
    bucket.put('d/g', 'old');
    const nodes = await walk('d');
    bucket.put('d/f', 'new');
    expect(await readNode(nodes.get('f') as NodeId)).toBe('new');
    // The kernel has to hear of another size first.
    bucket.put('d/g', 'newer');
    expect(await errorOf(tree.openNode(nodes.get('g') as NodeId))).toBe('ESTALE');
    expect(await tree.readFile('d/g')).toBe('newer');
  });

  test('says that the object is gone', async () => {
    bucket.put('d/f', 'old');
    const nodes = await walk('d');
    bucket.objects.delete('d/f');
    expect(await errorOf(tree.openNode(nodes.get('f') as NodeId))).toBe('ESTALE');
    expect(await errorOf(tree.node('d/f'))).toBe('ENOENT');
  });
});

describe('opening the files of a directory in turn', () => {
  const names = Array.from({ length: 200 }, (_, index) => `f${String(index).padStart(3, '0')}`);
  beforeEach(() => {
    for (const name of names) bucket.put(`d/${name}`, `content of ${name}`);
  });

  test('fetches the next ones ahead, each once, without any other request', async () => {
    const nodes = await walk('d');
    for (const name of names.slice(0, 10)) await readNode(nodes.get(name) as NodeId);
    await settled();
    const ahead = asked('read').length;
    expect(ahead).toBeGreaterThan(40);
    for (const name of names) expect(await readNode(nodes.get(name) as NodeId)).toBe(`content of ${name}`);
    await settled();
    expect(asked('read')).toEqual(names.map((name) => `read d/${name}`));
    expect(bucket.requests.length).toBe(names.length);
  });

  test('looks at no other file the second time', async () => {
    const nodes = await walk('d');
    for (const name of names) await readNode(nodes.get(name) as NodeId);
    tree.acquired.length = 0;
    for (const name of names) await readNode(nodes.get(name) as NodeId);
    expect(tree.acquired).toEqual(names.map((name) => `d/${name}`));
  });

  test('fetches ahead again what the cache has lost', async () => {
    const nodes = await walk('d');
    for (const name of names) await readNode(nodes.get(name) as NodeId);
    for (const name of names.slice(100)) await tree.setxattr(`d/${name}`, 'user.mirage.cached', 'none');
    bucket.requests.length = 0;
    for (const name of names.slice(0, 110)) await readNode(nodes.get(name) as NodeId);
    await settled();
    expect(asked('read').length).toBeGreaterThan(40);
  });

  test('is not what a reader of single files does', async () => {
    const nodes = await walk('d');
    for (const index of [100, 20, 160, 60, 130, 5])
      await readNode(nodes.get(names[index] as string) as NodeId);
    await settled();
    expect(asked('read').length).toBe(6);
  });

  test('ends when the reader goes elsewhere', async () => {
    const nodes = await walk('d');
    let under = 0;
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    for (const name of names.slice(0, 3)) await readNode(nodes.get(name) as NodeId);
    bucket.before = async (operation) => {
      if (operation !== 'read') return;
      under++;
      await gate;
    };
    const fourth = readNode(nodes.get(names[3] as string) as NodeId);
    const last = readNode(nodes.get(names[190] as string) as NodeId);
    await settled();
    release();
    expect([await fourth, await last]).toEqual([`content of ${names[3]}`, `content of ${names[190]}`]);
    await settled();
    expect(under).toBeLessThan(60);
  });

  test('leaves large files to those who read them', async () => {
    bucket.put('e/a', 'a');
    bucket.put('e/b', 'b');
    bucket.put('e/c', 'c');
    bucket.put('e/d', Buffer.alloc(2 * 2 ** 20).toString());
    bucket.put('e/e', 'e');
    const nodes = await walk('e');
    for (const name of ['a', 'b', 'c']) await readNode(nodes.get(name) as NodeId);
    await settled();
    expect(asked('read')).toEqual(['read e/a', 'read e/b', 'read e/c', 'read e/e']);
  });
});

describe('user.mirage attributes', () => {
  test('tell how much is cached, fetch it and let it go', async () => {
    bucket.put('d/f', 'content');
    expect(await tree.getxattr('d/f', 'user.mirage.cached')).toBe('0');
    await tree.setxattr('d/f', 'user.mirage.cached', 'all');
    expect(await tree.getxattr('d/f', 'user.mirage.cached')).toBe('7');
    expect(asked('read')).toEqual(['read d/f']);
    await tree.setxattr('d/f', 'user.mirage.cached', 'none');
    expect(await tree.getxattr('d/f', 'user.mirage.cached')).toBe('0');
    expect(await tree.readFile('d/f')).toBe('content');
    expect(asked('read').length).toBe(2);
    expect(await errorOf(tree.setxattr('d/f', 'user.mirage.cached', 'some'))).toBe('EINVAL');
  });

  test('pin a file', async () => {
    bucket.put('d/f', 'content');
    expect(await tree.getxattr('d/f', 'user.mirage.pin')).toBe('0');
    await tree.setxattr('d/f', 'user.mirage.pin', '1');
    expect(await tree.getxattr('d/f', 'user.mirage.pin')).toBe('1');
    expect(await tree.getxattr('d/f', 'user.mirage.cached')).toBe('7');
    await tree.setxattr('d/f', 'user.mirage.pin', '0');
    expect(await tree.getxattr('d/f', 'user.mirage.pin')).toBe('0');
  });

  test('refresh a file within its time to live', async () => {
    bucket.put('d/f', 'old');
    expect(await tree.readFile('d/f')).toBe('old');
    bucket.put('d/f', 'newer');
    expect(await tree.readFile('d/f')).toBe('old');
    await tree.setxattr('d/f', 'user.mirage.refresh', '1');
    expect(await tree.readFile('d/f')).toBe('newer');
  });

  test('refresh a directory', async () => {
    bucket.put('d/f', 'x');
    expect(await tree.list('d')).toEqual(['f']);
    bucket.put('d/g', 'x');
    expect(await tree.list('d')).toEqual(['f']);
    await tree.setxattr('d', 'user.mirage.refresh', '1');
    expect(await tree.list('d')).toEqual(['f', 'g']);
  });

  test('name the object', async () => {
    bucket.put('d/f', 'x');
    expect(await tree.getxattr('d/f', 'user.mirage.url')).toMatch(/\/d\/f$/);
    expect(await tree.getxattr('d/f', 'user.mirage.backend')).toMatch(/^\//);
  });
});
