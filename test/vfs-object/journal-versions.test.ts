/** Versions that have a name before the store has made them: whoever speaks of one is understood later too, and after a restart. */
import {
  closeSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { MirageError } from '../../src/errors/mirage-error.js';
import { provisional } from '../../src/vfs/object/journal/intent.js';
import { VirtualTime } from '../backends/virtual-time.js';
import { Bucket } from './bucket.js';
import { Tree } from './tree.js';

let bucket: Bucket;
let trees: Tree[];

beforeEach(() => {
  bucket = new Bucket();
  trees = [];
});
afterEach(async () => {
  bucket.before = undefined;
  bucket.after = undefined;
  for (const tree of trees) await tree.close().catch(() => undefined);
});

function mount(folder?: string): Tree {
  const tree = new Tree(bucket, { writeBack: 'async', ...(folder !== undefined && { folder }) });
  trees.push(tree);
  return tree;
}

/** The same host after its daemon was killed. */
async function restarted(tree: Tree): Promise<Tree> {
  trees.splice(trees.indexOf(tree), 1);
  await tree.crash();
  return mount(tree.folder);
}

/** The store takes `operations`, and nothing else that changes it. */
function only(...operations: string[]): void {
  bucket.before = (operation) => {
    if (['stat', 'list', 'read', ...operations].includes(operation)) return;
    throw new MirageError('out of reach', { errno: 'EHOSTDOWN', retryable: true });
  };
}

/** Until the journal of a tree has so many changes left. */
async function untilPending(tree: Tree, count: number): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (tree.writeBehind.pendingCount !== count) {
    if (Date.now() > deadline) throw new Error(`${tree.writeBehind.pendingCount} changes are pending`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const conflicts = (tree: Tree): boolean => existsSync(tree.conflicts);

test('a renamed file that is not cached is read from where it still is', async () => {
  const text = 'old '.repeat(50_000);
  bucket.put('old', text);
  const tree = mount();
  await tree.list('');
  only();
  await tree.rename('old', 'new');
  expect(await tree.readFile('new')).toBe(text);
});

describe('a version is known by the name that it was promised under', () => {
  let fd: number;
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'mirage-versions-'));
    fd = openSync(join(folder, 'bytes'), 'w+');
  });
  afterEach(() => {
    closeSync(fd);
    rmSync(folder, { recursive: true, force: true });
  });

  const nonceOf = (key: string): string => bucket.objects.get(key)?.attributes.writer as string;

  test('by a daemon that was restarted since', async () => {
    const first = mount();
    await first.writeFile('f', 'content');
    await first.volume.drain();
    const tree = await restarted(first);
    const match = provisional(nonceOf('f').split('+')[0] as string);
    const range = { offset: 0, length: 7 };
    const { validator } = await tree.writeBehind.fetch(0, { key: 'f', range, fd, match });
    expect(validator).toBe(match);
    expect(readFileSync(join(folder, 'bytes'), 'utf8')).toBe('content');
  });

  test('also when its attributes were changed since', async () => {
    const first = mount();
    await first.writeFile('f', 'content');
    const promised = provisional(
      (await first.writeBehind.stat(0, 'f'))?.attributes?.writer ?? (nonceOf('f').split('+')[0] as string),
    );
    await first.volume.drain();
    // A row that the kill took back speaks of the promised version.
    await first.writeBehind.setAttributes(
      0,
      'f',
      'file',
      { mode: 0o100640 },
      { kind: 'match', validator: promised },
    );
    await first.writeBehind.drain();
    const tree = await restarted(first);
    await tree.writeBehind.remove(0, 'f', { kind: 'match', validator: promised });
    await tree.writeBehind.drain();
    expect(bucket.keys()).toEqual([]);
  });
});

for (const namesAnew of [false, true]) {
  describe(`at a store that names ${namesAnew ? 'every change' : 'the same bytes'} ${namesAnew ? 'anew' : 'alike'}`, () => {
    beforeEach(() => {
      bucket = new Bucket({ namesAnew });
    });

    /** Written, its mode changed, written again: of that the store has what `done` says when the daemon is killed. */
    async function writtenAndKilled(done: 'write' | 'both'): Promise<Tree> {
      const time = new VirtualTime();
      const first = new Tree(bucket, { writeBack: 'async', timers: time });
      trees.push(first);
      const open = await first.create('f');
      await first.write(open, 0, 'one');
      await first.close2(open);
      await untilPending(first, 0);
      await first.change('f', { mode: 0o640 });
      await first.writeFile('f', 'two');
      expect(first.writeBehind.pendingCount).toBe(2);
      only(...(done === 'both' ? ['setAttributes'] : []));
      await time.advance(1000);
      await untilPending(first, done === 'both' ? 1 : 2);
      const tree = await restarted(first);
      bucket.before = undefined;
      await tree.volume.drain();
      return tree;
    }

    test('a write after a change of attributes is based on what that made, also after a restart', async () => {
      for (const done of ['write', 'both'] as const) {
        const tree = await writtenAndKilled(done);
        expect(bucket.text('f')).toBe('two');
        expect(conflicts(tree)).toBe(false);
        expect((await tree.stat('f')).mode & 0o7777).toBe(0o640);
        await tree.unlink('f');
        await tree.volume.drain();
        expect(bucket.keys()).toEqual([]);
      }
    });

    test('what was done and not noted as done is not done again, nor taken for the change of somebody else', async () => {
      const first = mount();
      // The store acts, and the answer never comes.
      bucket.after = () => {
        throw new MirageError('connection lost', { errno: 'EHOSTDOWN', outcomeUnknown: true });
      };
      await first.writeFile('f', 'one');
      await first.writeFile('g', 'two');
      await first.rename('g', 'h');
      await first.change('f', { mode: 0o640 });
      await first.writeBehind.drain().catch(() => undefined);
      const tree = await restarted(first);
      bucket.after = undefined;
      await tree.volume.drain();
      expect(bucket.keys()).toEqual(['f', 'h']);
      expect([bucket.text('f'), bucket.text('h')]).toEqual(['one', 'two']);
      expect(conflicts(tree)).toBe(false);
    });

    test('the change of another host is found, and the bytes are kept', async () => {
      const first = mount();
      await first.writeFile('f', 'one');
      await first.volume.drain();
      await first.change('f', { mode: 0o640 });
      only();
      await first.writeFile('f', 'two');
      const tree = await restarted(first);
      bucket.put('f', 'theirs');
      bucket.before = undefined;
      await tree.volume.drain();
      expect(bucket.text('f')).toBe('theirs');
      expect(conflicts(tree)).toBe(true);
    });
  });
}

test('a journal that has forgotten what it did last takes its own later versions for what they are', async () => {
  const first = mount();
  only();
  await first.writeFile('f', 'one');
  const journal = join(first.folder, 'journal.log');
  trees.splice(0);
  await first.crash();
  const before = readFileSync(journal);
  const second = mount(first.folder);
  // Begun before, so that the second write cannot take its place.
  await second.writeFile('f', 'two');
  expect(second.writeBehind.pendingCount).toBe(2);
  expect(before.length).toBeGreaterThan(0);
  const forgotten = readFileSync(journal);
  const staged = join(second.folder, 'cache', 'journal');
  const kept = mkdtempSync(join(tmpdir(), 'mirage-forgotten-'));
  try {
    cpSync(staged, kept, { recursive: true });
    bucket.before = undefined;
    await second.volume.drain();
    expect(bucket.text('f')).toBe('two');
    trees.splice(0);
    await second.crash();
    // The machine stopped, and the last of the journal was not on its disk.
    writeFileSync(journal, forgotten);
    cpSync(kept, staged, { recursive: true });
    const tree = mount(second.folder);
    await tree.volume.drain();
    expect(bucket.text('f')).toBe('two');
    expect(conflicts(tree)).toBe(false);
    expect(tree.writeBehind.pendingCount).toBe(0);
  } finally {
    rmSync(kept, { recursive: true, force: true });
  }
});
