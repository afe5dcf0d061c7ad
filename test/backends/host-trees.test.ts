import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Backend, ByteSource, Context } from '../../src/backends/contract.js';
import { hasHostTree, hasUsage } from '../../src/backends/contract.js';
import { open as openLocal } from '../../src/backends/local/backend.js';
import { localOptions } from '../../src/backends/local/options.js';
import { open as openRam } from '../../src/backends/ram/backend.js';
import { ramOptions } from '../../src/backends/ram/options.js';
import { createPrivateDirectory } from '../../src/backends/ram/private-directory.js';
import { systemClock } from '../../src/clock/clock.js';
import { localFiles } from '../../src/native/local-files.js';
import { quietLog } from '../servers/quiet.js';

const asRoot = process.getuid!() === 0 ? test : test.skip;
const { signal } = new AbortController();
const opening = { log: quietLog, clock: systemClock, writable: true, signal };
const context: Context = { signal };
const any = { precondition: { kind: 'any' } } as const;
const source = (text: string): ByteSource => ({
  size: text.length,
  async *read() {
    yield Buffer.from(text);
  },
});

let path: string;
beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), 'mirage-host-'));
});
afterEach(() => rmSync(path, { recursive: true, force: true }));

describe('a local folder', () => {
  let backend: Backend;
  beforeEach(async () => {
    mkdirSync(join(path, 'root'));
    ({ backend } = await openLocal({ path: join(path, 'root') }, opening));
  });
  afterEach(async () => backend.close?.());

  test('that is not there, or is no folder, is refused with what to do', async () => {
    writeFileSync(join(path, 'file'), '');
    const missing = openLocal({ path: join(path, 'missing') }, opening);
    await expect(missing).rejects.toMatchObject({ errno: 'ENOENT', hint: expect.stringContaining('create') });
    const file = openLocal({ path: join(path, 'file') }, opening);
    await expect(file).rejects.toMatchObject({ errno: 'ENOTDIR' });
    expect(localOptions.safeParse({ path, extra: 1 }).success).toBe(false);
  });

  test.each(['..', '../secret', 'a/../../secret', './a', 'a//b', '/etc/passwd', 'link/secret', 'a\0b'])(
    'the key %j leads nowhere',
    async (key) => {
      mkdirSync(join(path, 'root/a'));
      writeFileSync(join(path, 'secret'), 'outside');
      symlinkSync(path, join(path, 'root/link'));
      expect(await backend.stat(key, context)).toBeUndefined();
      await expect(backend.read(key, { offset: 0, length: 9 }, { write() {} }, context)).rejects.toThrow();
      await expect(backend.write(key, source('x'), any, context)).rejects.toThrow();
      await expect(backend.remove(key, { kind: 'any' }, context)).rejects.toThrow();
      expect(readdirSync(path).sort()).toEqual(['root', 'secret']);
      expect(statSync(join(path, 'secret')).size).toBe(7);
    },
  );

  test('keeps what a store keeps of a file', async () => {
    const attributes = { mode: 0o100640, modified: { seconds: 1_700_000_000, nanoseconds: 5 } };
    await backend.write('file', source('x'), { ...any, attributes }, context);
    expect(statSync(join(path, 'root/file'), { bigint: true }).mtimeNs).toBe(1_700_000_000_000_000_005n);
    expect((await backend.stat('file', context))?.attributes).toMatchObject(attributes);
  });

  test('shows no temporary files, and none stays', async () => {
    const names: string[][] = [];
    const watching: ByteSource = {
      size: 1,
      async *read() {
        names.push(readdirSync(join(path, 'root')));
        names.push((await backend.list('', undefined, context)).entries.map(({ key }) => key));
        yield Buffer.from('x');
      },
    };
    await backend.write('file', watching, any, context);
    expect(names[0]).toHaveLength(1);
    expect(names[1]).toEqual([]);
    expect(readdirSync(join(path, 'root'))).toEqual(['file']);
  });

  test('names that are no UTF-8 have no key', async () => {
    const native = localFiles();
    if (!hasHostTree(backend)) throw new Error('no tree');
    const tree = backend.openTree();
    native.mkdirAt(tree.root, '\xff', 0o755);
    native.mkdirAt(tree.root, Buffer.from('ü').toString('latin1'), 0o755);
    tree.close();
    const { entries } = await backend.list('', undefined, context);
    expect(entries.map(({ key }) => key)).toEqual(['ü']);
  });
});

describe('memory', () => {
  asRoot('is as large as it was told, and gone when it is closed', async () => {
    const options = ramOptions.parse({ size: '1m' });
    const { backend, probed } = await openRam(options, opening);
    if (!hasUsage(backend) || !hasHostTree(backend)) throw new Error('no memory tree');
    expect(probed).toMatchObject({ size: 2 ** 20 });
    expect(await backend.usage(context)).toMatchObject({ total: 2 ** 20 });
    const large = { ...source('x'.repeat(2 ** 21)) };
    await expect(backend.write('large', large, any, context)).rejects.toMatchObject({ errno: 'ENOSPC' });
    const tree = backend.openTree();
    expect(tree.exclusive).toBe(true);
    tree.close();
    await backend.close?.();
  });

  test('without privilege it is a directory that others cannot enter', () => {
    const directory = createPrivateDirectory(path);
    expect(statSync(directory.path).mode & 0o777).toBe(0o700);
    writeFileSync(join(directory.path, 'file'), 'x');
    localFiles().close(directory.root);
    directory.remove();
    expect(existsSync(directory.path)).toBe(false);
  });

  test('what processes left behind that have died goes, what others use stays', () => {
    const died = spawnSync(process.execPath, ['-e', '']).pid;
    const stale = join(path, `mirage-ram-${died}-abcdef`);
    const used = join(path, `mirage-ram-${process.ppid}-abcdef`);
    const foreign = join(path, 'something');
    for (const folder of [stale, used, foreign]) mkdirSync(folder);
    writeFileSync(join(stale, 'file'), 'x');
    const directory = createPrivateDirectory(path);
    localFiles().close(directory.root);
    directory.remove();
    expect(readdirSync(path).sort()).toEqual(['something', `mirage-ram-${process.ppid}-abcdef`].sort());
  });
});
