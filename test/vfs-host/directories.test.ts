import { closeSync, mkdirSync, openSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { localFiles } from '../../src/native/local-files.js';
import { daemon, Host, INDEX, outcome, ROOT, temporaryFolder } from './host-harness.js';

const asRoot = process.getuid!() === 0 ? test : test.skip;

describe('listings of a host volume', () => {
  let folder: ReturnType<typeof temporaryFolder>;
  let host: Host;
  const at = (name: string): string => join(folder.path, name);
  const touch = (name: string): void => closeSync(openSync(at(name), 'w'));

  beforeEach(() => {
    folder = temporaryFolder();
    host = new Host(folder.root(), false);
  });
  afterEach(async () => {
    await host.close();
    folder.remove();
  });

  test('names, numbers and types, with . and ..', () => {
    touch('file');
    mkdirSync(at('directory'));
    host.volume.symlink(daemon, ROOT, 'link', 'x');
    const { handle } = host.opendir(ROOT);
    const entries = Object.fromEntries(
      host.readdir(ROOT, handle).map(({ name, ino, type }) => [name, [ino, type]]),
    );
    expect(Object.keys(entries).sort()).toEqual(['.', '..', 'directory', 'file', 'link']);
    const number = (name: string) => INDEX * 2 ** 41 + statSync(at(name)).ino;
    expect(entries.file).toEqual([number('file'), 0o100000]);
    expect(entries.directory).toEqual([number('directory'), 0o040000]);
    expect(entries['.']).toEqual([number('.'), 0o040000]);
    expect(entries.link![1]).toBe(0o120000);
  });

  test.each([1, 7, 1000])('%d entries at a time show every name once', (room) => {
    const wanted = Array.from({ length: 300 }, (_, i) => `name ${i}`);
    for (const name of wanted) touch(name);
    const { handle } = host.opendir(ROOT);
    const names: string[] = [];
    for (let cookie = 0; ; ) {
      const page = host.readdir(ROOT, handle, cookie, room);
      if (page.length === 0) break;
      names.push(...page.map(({ name }) => name));
      cookie = page.at(-1)!.cookie;
    }
    expect(names.sort()).toEqual(['.', '..', ...wanted].sort());
  });

  test('a position stays good when entries go, and after a rewind', () => {
    for (let i = 0; i < 300; i++) touch(`name ${i}`);
    const { handle } = host.opendir(ROOT);
    const first = host.readdir(ROOT, handle, 0, 100);
    const rest = host.readdir(ROOT, handle, first.at(-1)!.cookie).map(({ name }) => name);
    for (const { name } of first) if (!name.startsWith('.')) unlinkSync(at(name));
    const other = host.opendir(ROOT).handle;
    expect(host.readdir(ROOT, other, first.at(-1)!.cookie).map(({ name }) => name)).toEqual(rest);
    expect(host.readdir(ROOT, handle, 0).map(({ name }) => name)).toEqual(
      expect.arrayContaining(['.', '..', ...rest]),
    );
  });

  test('a handle is good until it is released', () => {
    const { handle } = host.opendir(ROOT);
    host.volume.releasedir(daemon, ROOT, handle);
    expect(outcome(() => host.readdir(ROOT, handle))).toBe('EBADF');
    expect(outcome(() => host.opendir(host.file(ROOT, 'file', '')))).toBe('ENOTDIR');
  });

  test('attributes go with the names where the kernel may keep them', async () => {
    touch('file');
    const plain = host.readdir(ROOT, host.opendir(ROOT).handle, 0, Infinity, true);
    expect(plain.find(({ name }) => name === 'file')!.node).toBe(0);
    await host.close();
    host = new Host(folder.root(), false, { freshness: 'ttl', ttl: 1000 });
    const entries = host.readdir(ROOT, host.opendir(ROOT).handle, 0, Infinity, true);
    const node = entries.find(({ name }) => name === 'file')!.node;
    expect(node).toBe(host.node('file'));
    expect(entries.find(({ name }) => name === '..')!.node).toBe(0);
    // One lookup from the listing, one from `node`; an entry that did not fit was not counted.
    host.readdir(ROOT, host.opendir(ROOT).handle, 0, 0, true);
    host.volume.forget(node, 2);
    expect(outcome(() => host.getattr(node))).toBe('ESTALE');
  });

  asRoot('a memory tree works the same, and its listings may be kept while nothing changes', async () => {
    const ram = new Host(localFiles().createMemoryTree(64 * 2 ** 20), true);
    try {
      ram.file(ROOT, 'file', 'hello');
      expect(ram.list(ROOT)).toEqual(['file']);
      expect(ram.opendir(ROOT)).toMatchObject({ cacheDirectory: true, keepCache: true });
      ram.file(ROOT, 'another', 'hello');
      expect(ram.opendir(ROOT)).toMatchObject({ cacheDirectory: true, keepCache: false });
      const { node, entryValid, attributesValid } = ram.lookup(ROOT, 'file');
      expect([entryValid, attributesValid].every((valid) => valid > 1e12)).toBe(true);
      expect(ram.lookup(ROOT, 'missing')).toMatchObject({ errno: 0, node: 0 });
      ram.open(node, 2);
      expect(ram.getattr(node).attributesValid).toBe(0);
      ram.volume.setxattr(daemon, node, 'user.a', Buffer.from('1'), 0);
      expect(ram.xattr(node, 'user.a')).toBe('1');
      expect(ram.volume.temporary(daemon, ROOT, 0o600, { flags: 2 }).entry.attributes.nlink).toBe(0);
      expect(ram.volume.statfs(daemon, ROOT).blocks * 4096).toBe(64 * 2 ** 20);
    } finally {
      await ram.close();
    }
  });
});
