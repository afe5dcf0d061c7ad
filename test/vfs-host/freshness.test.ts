import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Mirage } from '../mounted/mount.js';
import { daemon, Host, openRoot, ROOT, temporaryFolder, until } from './host-harness.js';

const asRoot = process.getuid!() === 0 ? test : test.skip;

/** Changes what lies below a folder from another process. */
const outside = (folder: string, script: string): void => {
  execFileSync('sh', ['-ec', script], { cwd: folder });
};

describe('changes made outside of a mount', () => {
  let folder: ReturnType<typeof temporaryFolder>;
  let host: Host;
  const at = (name: string): string => join(folder.path, name);
  const told = (what: string) => until(`told: ${what}`, () => host.invalidated.includes(what));

  beforeEach(() => {
    folder = temporaryFolder();
    mkdirSync(at('directory'));
    writeFileSync(at('directory/file'), 'old');
  });
  afterEach(async () => {
    await host.close();
    folder.remove();
  });

  test('now: the kernel remembers nothing', () => {
    host = new Host(folder.root(), false);
    const directory = host.node('directory');
    const { node, entryValid } = host.lookup(directory, 'file');
    expect(entryValid).toBe(0);
    outside(folder.path, 'printf longer > directory/file; chmod 600 directory/file');
    expect(host.getattr(node)).toMatchObject({ attributesValid: 0, attributes: { size: 6, mode: 0o100600 } });
    outside(folder.path, 'rm directory/file');
    expect(() => host.node('directory/file')).toThrow('ENOENT');
  });

  asRoot(
    'inotify: a file system that others may change is asked each time',
    async () => {
      // Another FUSE stands for all of them: memory that a process of its own serves.
      const other = await Mirage.start({ mounts: { '/ram': { type: 'ram', mode: 'write' } } });
      try {
        writeFileSync(other.path('ram', 'file'), 'x');
        host = new Host(openRoot(other.path('ram')), false, { freshness: 'inotify' });
        expect(host.lookup(ROOT, 'file')).toMatchObject({ errno: 0, entryValid: 0, attributesValid: 0 });
      } finally {
        await host.close();
        await other.dispose();
        host = new Host(folder.root(), false);
      }
    },
    60_000,
  );

  test('ttl: the kernel remembers for so long', () => {
    host = new Host(folder.root(), false, { freshness: 'ttl', ttl: 1500 });
    const { node, entryValid, attributesValid } = host.lookup(ROOT, 'directory');
    expect([entryValid, attributesValid]).toEqual([1.5e9, 1.5e9]);
    expect(host.lookup(node, 'missing')).toMatchObject({ errno: 0, node: 0, entryValid: 1.5e9 });
  });

  describe('inotify: the kernel is told', () => {
    let directory: number;
    let file: number;

    beforeEach(() => {
      host = new Host(folder.root(), false, { freshness: 'inotify' });
      directory = host.node('directory');
      const entry = host.lookup(directory, 'file');
      file = entry.node;
      expect(entry.entryValid).toBeGreaterThan(1e10);
      expect(entry.attributesValid).toBeGreaterThan(1e10);
      expect(host.getattr(directory).attributesValid).toBeGreaterThan(1e10);
    });

    test('of new content, its pages included', async () => {
      outside(folder.path, 'printf more >> directory/file');
      await told(`node ${file} 0`);
    });

    test('once of many writes in a row, and of what follows later', async () => {
      const about = () => host.invalidated.filter((line) => line === `node ${file} 0`).length;
      outside(
        folder.path,
        'touch directory/a; for i in 1 2 3 4 5 6; do echo >> directory/a; echo >> directory/file; done',
      );
      await told(`node ${file} 0`);
      const first = about();
      expect(first).toBeLessThan(6);
      outside(folder.path, 'echo >> directory/file');
      await until('told again', () => about() > first);
    });

    test('of attributes', async () => {
      outside(folder.path, 'chmod 600 directory/file');
      await told(`node ${file} -1`);
      outside(folder.path, 'chmod 700 directory');
      await told(`node ${directory} -1`);
    });

    test('of names that come, go and change', async () => {
      expect(host.lookup(directory, 'new').node).toBe(0);
      outside(folder.path, 'touch directory/new');
      await told(`entry ${directory} new`);
      await told(`node ${directory} 0`);
      outside(folder.path, 'mv directory/file directory/moved');
      await told(`entry ${directory} file`);
      await told(`entry ${directory} moved`);
      outside(folder.path, 'rm -r directory');
      await told(`entry ${ROOT} directory`);
    });

    test('of another file in the place of one it knows', async () => {
      outside(folder.path, 'echo other > x; mv x directory/file');
      await told(`entry ${directory} file`);
    });

    test('not of a name it was just given by the mount: somebody may stand in it', async () => {
      const made = host.volume.mkdir(daemon, directory, 'made', 0o755).nodeId;
      await told(`node ${made} -1`);
      expect(host.invalidated).not.toContain(`entry ${directory} made`);
    });

    test('about a file with a second name elsewhere it remembers nothing', () => {
      linkSync(at('directory/file'), at('second'));
      expect(host.getattr(file).attributesValid).toBe(0);
    });

    test('about a file that is open for writing it remembers nothing', () => {
      const { handle } = host.open(file, 2);
      expect(host.getattr(file).attributesValid).toBe(0);
      host.release(file, handle);
      expect(host.getattr(file).attributesValid).toBeGreaterThan(1e10);
    });

    test('no watch outlives its directory', async () => {
      host.volume.forget(file, 1);
      host.volume.forget(directory, 1);
      const again = host.node('directory');
      expect(again).not.toBe(directory);
      host.lookup(again, 'file');
      outside(folder.path, 'touch directory/other');
      await told(`entry ${again} other`);
      expect(host.invalidated.some((line) => line.includes(` ${directory} `))).toBe(false);
    });
  });
});
