/** Reading directories: entries as pages arrive, cookies, lifetimes, and what is shown before the store has told everything. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type DirectorySink, type Handle, type NodeId, OpenReply } from '../../src/vfs/operations.js';
import { Bucket } from './bucket.js';
import { Tree } from './tree.js';

let bucket: Bucket;
let tree: Tree;
beforeEach(() => {
  bucket = new Bucket();
  tree = new Tree(bucket);
});
afterEach(() => tree.close());

interface Shown {
  readonly name: string;
  readonly cookie: number;
  readonly nodeId: NodeId;
  readonly mode: number;
  /** Seconds. */
  readonly attributesValid: number;
}

/** An open directory, read as the kernel reads it. */
class Reader {
  constructor(
    readonly tree: Tree,
    readonly node: NodeId,
    readonly handle: Handle,
  ) {}

  static async open(of: Tree, path: string): Promise<Reader> {
    const node = await of.node(path);
    const open = new OpenReply();
    await of.volume.opendir(of.call, node, open);
    return new Reader(of, node, open.handle);
  }

  /** One reply, with room for so many entries; `.` and `..` left out. */
  async read(cookie: number, room = 1000): Promise<Shown[]> {
    const shown: Shown[] = [];
    let left = room;
    const sink: DirectorySink = {
      wantsAttributes: true,
      fits: () => left-- > 0,
      add: (name, next, { nodeId, attributes, attributesValid }) => {
        const mode = attributes?.mode ?? 0;
        shown.push({ name, cookie: next, nodeId, mode, attributesValid: attributesValid / 1e9 });
      },
      addName: () => {
        left++;
      },
    };
    await this.tree.volume.readdir(this.tree.call, this.node, this.handle, cookie, sink);
    return shown;
  }

  async names(cookie: number, room?: number): Promise<string[]> {
    return (await this.read(cookie, room)).map(({ name }) => name);
  }

  async rest(cookie: number): Promise<string[]> {
    const all: string[] = [];
    for (let at = cookie; ; ) {
      const shown = await this.read(at);
      const last = shown.at(-1);
      if (last === undefined) return all;
      all.push(...shown.map(({ name }) => name));
      at = last.cookie;
    }
  }

  close(): void {
    this.tree.volume.releasedir(this.tree.call, this.node, this.handle);
  }
}

const fill = (count: number): string[] => {
  const names = Array.from({ length: count }, (_, index) => `f${String(index).padStart(3, '0')}`);
  for (const name of names) bucket.put(`d/${name}`, 'x');
  return names;
};
const lists = (): number => bucket.requests.filter((request) => request.startsWith('list')).length;

/** Pages of the folder `d` wait from the `first` one on, until the returned function is called. */
function hold(first: number): () => void {
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let seen = 0;
  bucket.before = async (operation, key) => {
    if (operation === 'list' && key === 'd' && ++seen >= first) await held;
  };
  return release;
}

describe('a listing that is under way', () => {
  test('shows each page as it arrives, and its end', async () => {
    const names = fill(25);
    bucket.pageSize = 10;
    const release = hold(3);
    const reader = await Reader.open(tree, 'd');
    const first = await reader.read(0);
    const shown = [...first];
    while (shown.length < 20) shown.push(...(await reader.read(shown.at(-1)?.cookie ?? 0)));
    expect(shown.map(({ name }) => name)).toEqual(names.slice(0, 20));
    const rest = reader.rest(shown.at(-1)?.cookie ?? 0);
    release();
    expect(await rest).toEqual(names.slice(20));
    reader.close();
  });

  test('is one for all who read', async () => {
    const names = fill(25);
    bucket.pageSize = 10;
    const readers = await Promise.all([1, 2, 3].map(() => Reader.open(tree, 'd')));
    const before = lists();
    expect(await Promise.all(readers.map((reader) => reader.rest(0)))).toEqual([names, names, names]);
    expect(lists() - before).toBeLessThanOrEqual(3);
    for (const reader of readers) reader.close();
  });

  test('shows no name that is older than the time to live before the store has confirmed it', async () => {
    const names = fill(25);
    bucket.pageSize = 10;
    expect(await tree.list('d')).toEqual(names);
    bucket.objects.delete('d/f005');
    bucket.objects.delete('d/f020');
    tree.later += 61_000;
    const reader = await Reader.open(tree, 'd');
    expect(await reader.rest(0)).toEqual(names.filter((name) => name !== 'f005' && name !== 'f020'));
    reader.close();
  });

  test('fails for its readers when the store fails, and not for who comes later', async () => {
    const names = fill(25);
    bucket.pageSize = 10;
    const reader = await Reader.open(tree, 'd');
    let seen = 0;
    bucket.before = (operation, key) => {
      if (operation === 'list' && key === 'd' && ++seen === 2) throw new Error('gone');
    };
    await expect(reader.rest(0)).rejects.toThrow();
    expect(await reader.rest(0)).toEqual(names);
    reader.close();
  });

  test('stops when nobody reads on', async () => {
    fill(200);
    bucket.pageSize = 10;
    const release = hold(10);
    const reader = await Reader.open(tree, 'd');
    await reader.read(0);
    reader.close();
    release();
    await new Promise((resolve) => setImmediate(resolve));
    await tree.volume.drain();
    expect(lists()).toBeLessThan(15);
    expect((await tree.list('d')).length).toBe(200);
  });
});

describe('a cookie', () => {
  test('stays valid when entries before it go, after a return to the start, and over a restart', async () => {
    const names = fill(20);
    const reader = await Reader.open(tree, 'd');
    const shown = await reader.read(0, 8);
    const { cookie } = shown.at(-1) as Shown;
    await tree.unlink('d/f002');
    await tree.unlink('d/f007');
    expect(await reader.rest(cookie)).toEqual(names.slice(8));
    expect(await reader.names(0, 4)).toEqual(['f000', 'f001', 'f003', 'f004']);
    expect(await reader.rest(cookie)).toEqual(names.slice(8));
    reader.close();
    const { folder } = tree;
    await tree.close(true);
    tree = new Tree(bucket, { folder });
    const again = await Reader.open(tree, 'd');
    expect(await again.rest(cookie)).toEqual(names.slice(8));
    again.close();
  });

  test('of a reader that takes its time survives the time to live and a new listing by others', async () => {
    const names = fill(20);
    const reader = await Reader.open(tree, 'd');
    const { cookie } = (await reader.read(0, 8)).at(-1) as Shown;
    tree.later += 61_000;
    bucket.put('d/a', 'new');
    expect(await tree.list('d')).toEqual(['a', ...names]);
    // What came later is at the end.
    expect(await reader.rest(cookie)).toEqual([...names.slice(8), 'a']);
    reader.close();
  });
});

test('beyond the configured number of nodes a listing shows names only', async () => {
  const names = fill(20);
  await tree.close();
  tree = new Tree(bucket, { listedNodes: 10 });
  const reader = await Reader.open(tree, 'd');
  const shown = await reader.read(0);
  expect(shown.map(({ name }) => name)).toEqual(names);
  expect(shown.filter(({ nodeId }) => nodeId === 0).length).toBeGreaterThanOrEqual(10);
  const before = bucket.requests.length;
  for (const name of names) expect((await tree.stat(`d/${name}`)).size).toBe(1);
  expect(bucket.requests.length).toBe(before);
  reader.close();
});

describe('attributes that a listing does not tell', () => {
  test('are shown for two seconds only, and asked for by who looks at the file alone', async () => {
    bucket.put('d/script', 'text', { mode: 0o100755 });
    const reader = await Reader.open(tree, 'd');
    const [shown] = await reader.read(0);
    expect(shown?.mode).toBe(0o100644);
    expect(shown?.attributesValid).toBe(2);
    // Part of the walk: no question per name.
    const before = bucket.requests.length;
    expect((await tree.fstat(shown?.nodeId as NodeId)).mode).toBe(0o100644);
    expect(bucket.requests.length).toBe(before);
    tree.later += 1500;
    expect((await tree.fstat(shown?.nodeId as NodeId)).mode).toBe(0o100755);
    expect((await reader.read(0))[0]?.attributesValid).toBeGreaterThan(50);
    reader.close();
  });

  test('come with opening, and the kernel hears of them', async () => {
    bucket.put('d/script', 'text', { mode: 0o100755 });
    const reader = await Reader.open(tree, 'd');
    const node = (await reader.read(0))[0]?.nodeId as NodeId;
    const open = await tree.openNode(node);
    expect(tree.invalidated).toContain(`${node}`);
    expect((await tree.fstat(node)).mode).toBe(0o100755);
    await tree.release(open);
    reader.close();
  });

  test('of what this host has written are shown at once, also after a restart', async () => {
    await tree.mkdir('d');
    await tree.writeFile('d/script', 'text');
    await tree.change('d/script', { mode: 0o755 });
    const { folder } = tree;
    await tree.close(true);
    tree = new Tree(bucket, { folder });
    tree.later += 61_000;
    const reader = await Reader.open(tree, 'd');
    const before = bucket.requests.length;
    expect((await reader.read(0))[0]?.mode).toBe(0o100755);
    expect(bucket.requests.slice(before).filter((request) => request.startsWith('stat'))).toEqual([]);
    reader.close();
  });
});

describe('attributes are settled', () => {
  test('while they are known and nobody has the file open', async () => {
    await tree.writeFile('f', 'content');
    const node = await tree.node('f');
    expect(await tree.settled(node)).toBe(true);
    const open = await tree.openNode(node);
    expect(tree.unsettled).toContain(node);
    expect(await tree.settled(node)).toBe(false);
    await tree.release(open);
    expect(await tree.settled(node)).toBe(true);
    tree.later += 61_000;
    // Asked of the store; what it said is settled from the next time on.
    expect(await tree.settled(node)).toBe(false);
    expect(await tree.settled(node)).toBe(true);
  });

  test('not where a walk shows defaults', async () => {
    bucket.put('d/script', 'text', { mode: 0o100755 });
    const reader = await Reader.open(tree, 'd');
    const node = (await reader.read(0))[0]?.nodeId as NodeId;
    expect(await tree.settled(node)).toBe(false);
    reader.close();
  });

  test('until a change of another host is heard of, or one is made here', async () => {
    bucket.put('d/f', 'content', { mode: 0o100600 });
    const node = await tree.node('d/f');
    const unsettledBy = async (action: () => Promise<unknown>): Promise<NodeId[]> => {
      await tree.volume.drain();
      expect(await tree.settled(node)).toBe(true);
      tree.unsettled.length = 0;
      await action();
      return [...tree.unsettled];
    };
    expect(await unsettledBy(() => tree.change('d/f', { mode: 0o644 }))).toContain(0);
    expect(await unsettledBy(() => tree.mkdir('d/e'))).toContain(0);
    bucket.put('d/f', 'of another host', { mode: 0o100600 });
    expect(await unsettledBy(() => tree.setxattr('d', 'user.mirage.refresh', '1'))).toContain(0);
    expect((await tree.stat('d/f')).size).toBe(15);
  });
});

test('two mounts of one bucket see each other as other hosts do', async () => {
  const other = new Tree(bucket, { beside: tree });
  try {
    await tree.mkdir('d');
    await tree.writeFile('d/stored', 'text');
    const open = await tree.create('d/unstored');
    await tree.write(open, 0, 'not yet');
    expect(await other.list('d')).toEqual(['stored']);
    expect(await other.exists('d/unstored')).toBe(false);
    expect(await tree.list('d')).toEqual(['stored', 'unstored']);
    expect((await tree.stat('d/unstored')).size).toBe(7);
    await tree.close2(open);
    await tree.unlink('d/stored');
    expect(await tree.list('d')).toEqual(['unstored']);
    other.later += 61_000;
    expect(await other.list('d')).toEqual(['unstored']);
    expect(await other.readFile('d/unstored')).toBe('not yet');
  } finally {
    await other.close();
  }
});

test('a folder with a time to live of its own is asked again sooner', async () => {
  await tree.close();
  tree = new Tree(bucket, { ttls: { logs: 5000, 'logs/old': 3_600_000 } });
  for (const key of ['logs/f', 'logs/old/f', 'logsize/f', 'd/f']) bucket.put(key, 'one');
  for (const folder of ['logs', 'logs/old', 'logsize', 'd']) await tree.list(folder);
  tree.later += 6000;
  for (const key of ['logs/g', 'logs/old/g', 'logsize/g', 'd/g']) bucket.put(key, 'two');
  expect(await tree.list('logs')).toEqual(['f', 'g', 'old']);
  expect(await tree.list('logs/old')).toEqual(['f']);
  expect(await tree.list('logsize')).toEqual(['f']);
  expect(await tree.list('d')).toEqual(['f']);
  tree.later += 60_000;
  expect(await tree.list('d')).toEqual(['f', 'g']);
  expect(await tree.list('logs/old')).toEqual(['f']);
});

describe('the listing that the kernel keeps', () => {
  /** What an open of the directory tells the kernel; its entries are read to the end where the kernel has none of its own. */
  async function walk(of: Tree, path: string): Promise<'kept' | 'read anew' | 'read past'> {
    const node = await of.node(path);
    const open = new OpenReply();
    await of.volume.opendir(of.call, node, open);
    const reader = new Reader(of, node, open.handle);
    // The kernel has `.` and `..` as well, and asks what is behind them.
    if (!open.keepCache && (await reader.rest(0)).length === 0) await reader.read(2);
    reader.close();
    if (!open.cacheDirectory) return 'read past';
    return open.keepCache ? 'kept' : 'read anew';
  }
  /** Attributes are known, so that the time to live alone counts. */
  const made = async (names: readonly string[]): Promise<void> => {
    await tree.mkdir('d');
    for (const name of names) await tree.writeFile(`d/${name}`, name);
  };

  test('is read again without a request', async () => {
    await made(['a', 'b']);
    expect([await walk(tree, 'd'), await walk(tree, 'd'), await walk(tree, 'd')]).toEqual([
      'read anew',
      'kept',
      'kept',
    ]);
  });

  test('is kept from the first walk on, while the pages of the listing arrive', async () => {
    bucket.pageSize = 10;
    fill(45);
    expect([await walk(tree, 'd'), await walk(tree, 'd')]).toEqual(['read anew', 'kept']);
  });

  test('is not used once a name has come or gone, and is again when it was read', async () => {
    await made(['a', 'b']);
    await walk(tree, 'd');
    const node = await tree.node('d');
    for (const change of [() => tree.writeFile('d/c', 'c'), () => tree.unlink('d/a')]) {
      await change();
      tree.invalidated.length = 0;
      expect(await walk(tree, 'd')).toBe('read past');
      expect(tree.invalidated).toContain(String(node));
      expect([await walk(tree, 'd'), await walk(tree, 'd')]).toEqual(['read anew', 'kept']);
    }
  });

  test('is not used when a look-up has heard of a change by another host', async () => {
    fill(5);
    await walk(tree, 'd');
    expect(await walk(tree, 'd')).toBe('kept');
    bucket.objects.delete('d/f001');
    await tree.setxattr('d/f001', 'user.mirage.refresh', '1').catch(() => undefined);
    expect(await walk(tree, 'd')).toBe('read past');
  });

  test('ends with the time to live, and with that of attributes that nobody has told', async () => {
    bucket.put('foreign/f', 'x');
    await made(['a']);
    await walk(tree, 'd');
    bucket.put('d/other', 'x');
    tree.later += 61_000;
    expect(await walk(tree, 'd')).toBe('read past');
    await walk(tree, 'foreign');
    expect(await walk(tree, 'foreign')).toBe('kept');
    tree.later += 2_000;
    expect(await walk(tree, 'foreign')).toBe('read past');
  });

  test('ends for who has the directory open and goes back to its start', async () => {
    const brief = new Tree(bucket, { ttl: 300 });
    try {
      bucket.put('d/f', 'x');
      const node = await brief.node('d');
      const open = new OpenReply();
      await brief.volume.opendir(brief.call, node, open);
      const reader = new Reader(brief, node, open.handle);
      expect(await reader.rest(0)).toEqual(['f']);
      brief.invalidated.length = 0;
      const deadline = Date.now() + 10_000;
      while (!brief.invalidated.includes(String(node)) && Date.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      expect(brief.invalidated).toContain(String(node));
      reader.close();
    } finally {
      await brief.close();
    }
  });

  test('of an empty directory ends, too', async () => {
    await tree.mkdir('e');
    await walk(tree, 'e');
    expect(await walk(tree, 'e')).toBe('kept');
    tree.later += 61_000;
    expect(await walk(tree, 'e')).toBe('read past');
  });
});
