import assert from 'node:assert/strict';
import { hasDirectories } from '../contract.js';
import { type Check, refuses } from './check.js';

const ODD_NAMES = [
  'a b',
  ' leading and trailing ',
  'plus+sign',
  'percent%41',
  '%2F',
  `&<>"'`,
  'back\\slash',
  'new\nline',
  'control\u0001\u001f',
  'tab\t',
  'question?mark#hash',
  '*',
  '{brace}[bracket]',
  'ümläut',
  'e\u0301 decomposed',
  '日本語',
  'emoji 😀',
  '...',
  '-rf',
  '~',
  'colon:semi;comma,',
  'x'.repeat(255),
];

/** Names: listings, pages, odd keys, directories. */
export const nameChecks: readonly Check[] = [
  {
    name: 'a listing shows one level, with what a program asks next',
    async run(_backend, tools) {
      const { directory } = tools;
      await tools.write(tools.key('file'), 'four');
      await tools.createDirectory(tools.key('below'));
      await tools.write(tools.key('below/deep'), 'x');
      const entries = await tools.list(directory);
      assert.deepEqual(entries.map((entry) => [entry.key, entry.kind]).sort(), [
        [tools.key('below'), 'directory'],
        [tools.key('file'), 'file'],
      ]);
      const file = entries.find((entry) => entry.kind === 'file');
      const info = await tools.stat(tools.key('file'));
      assert.equal(file?.size, info.size);
      assert.equal(file?.validator, info.validator);
      assert.deepEqual(file?.modified, info.modified);
      assert.deepEqual(
        (await tools.list(tools.key('below'))).map((entry) => entry.key),
        [tools.key('below/deep')],
      );
    },
  },
  {
    name: 'a name is no prefix: siblings that begin alike do not show',
    async run(backend, tools) {
      await tools.createDirectory(tools.key('a'));
      await tools.createDirectory(tools.key('ab'));
      await tools.write(tools.key('a/1'), 'x');
      await tools.write(tools.key('ab/2'), 'x');
      await tools.write(tools.key('abc'), 'x');
      assert.deepEqual(
        (await tools.list(tools.key('a'))).map((entry) => entry.key),
        [tools.key('a/1')],
      );
      assert.equal((await tools.stat(tools.key('a'))).kind, 'directory');
      assert.equal(await backend.stat(tools.key('abcd'), tools.context), undefined);
    },
  },
  {
    name: 'a listing of more than one page shows every name once',
    async run(_backend, tools) {
      const wanted: string[] = [];
      for (let i = 0; i < 1100; i++) wanted.push(tools.key(`n${String(i).padStart(4, '0')}`));
      for (let i = 0; i < wanted.length; i += 50) {
        await Promise.all(wanted.slice(i, i + 50).map((key) => tools.write(key, '')));
      }
      const found = (await tools.list(tools.directory)).map((entry) => entry.key);
      assert.deepEqual(found.sort(), wanted);
    },
  },
  {
    name: 'odd names are names like others',
    async run(backend, tools) {
      const keys = ODD_NAMES.map((name) => tools.key(name));
      await Promise.all(keys.map((key) => tools.write(key, key)));
      const found = (await tools.list(tools.directory)).map((entry) => entry.key);
      assert.deepEqual(found.sort(), [...keys].sort());
      for (const key of keys) {
        assert.equal((await tools.stat(key)).size ?? Buffer.byteLength(key), Buffer.byteLength(key));
        assert.equal(await tools.read(key), key);
      }
      await Promise.all(keys.map((key) => backend.remove(key, { kind: 'any' }, tools.context)));
      assert.deepEqual(await tools.list(tools.directory), []);
    },
  },
  {
    name: 'odd names are directories like others',
    async run(_backend, tools) {
      const names = ODD_NAMES.filter((name) => name.length < 100);
      for (const name of names) await tools.createDirectory(tools.key(name));
      await Promise.all(names.map((name) => tools.write(tools.key(`${name}/file`), name)));
      const entries = await tools.list(tools.directory);
      assert.deepEqual(entries.map((entry) => entry.key).sort(), names.map((name) => tools.key(name)).sort());
      for (const entry of entries) {
        assert.equal(entry.kind, 'directory');
        assert.deepEqual(
          (await tools.list(entry.key)).map((child) => child.key),
          [`${entry.key}/file`],
        );
      }
    },
  },
  {
    name: 'a key without a name in the middle is kept as it is',
    requires: (backend) => backend.capabilities.directories === 'markers',
    async run(_backend, tools) {
      await tools.write(tools.key('a//b'), 'x');
      await tools.write(tools.key('c/./d'), 'y');
      await tools.write(tools.key('e/../f'), 'z');
      assert.equal(await tools.read(tools.key('a//b')), 'x');
      const level = async (name: string) => (await tools.list(tools.key(name))).map((entry) => entry.key);
      assert.deepEqual(await level('a'), [tools.key('a/')]);
      assert.deepEqual(await level('a/'), [tools.key('a//b')]);
      assert.deepEqual(await level('c'), [tools.key('c/.')]);
      assert.deepEqual(await level('e/..'), [tools.key('e/../f')]);
    },
  },
  {
    name: 'a file and a directory of one name are both there',
    requires: (backend) => backend.capabilities.directories === 'markers',
    async run(_backend, tools) {
      await tools.write(tools.key('both'), 'file');
      await tools.write(tools.key('both/child'), 'child');
      const entries = await tools.list(tools.directory);
      assert.deepEqual(entries.map((entry) => [entry.key, entry.kind]).sort(), [
        [tools.key('both'), 'directory'],
        [tools.key('both'), 'file'],
      ]);
      assert.equal(await tools.read(tools.key('both')), 'file');
      assert.equal(await tools.read(tools.key('both/child')), 'child');
    },
  },
  {
    name: 'the longest key works, a longer one is refused',
    requires: (backend) => Number.isFinite(backend.capabilities.maximumKeyBytes),
    async run(backend, tools) {
      const longest = tools.key('k/'.repeat(2000)).slice(0, backend.capabilities.maximumKeyBytes - 1);
      await tools.write(`${longest}x`, 'long');
      assert.equal(await tools.read(`${longest}x`), 'long');
      await refuses(tools.write(`${longest}xy`, 'longer'), 'ENAMETOOLONG');
      await backend.remove(`${longest}x`, { kind: 'any' }, tools.context);
    },
  },
  {
    name: 'an empty directory stays until it is removed',
    requires: hasDirectories,
    async run(backend, tools) {
      if (!hasDirectories(backend)) return;
      const key = tools.key('directory');
      await tools.createDirectory(key);
      assert.equal((await tools.stat(key)).kind, 'directory');
      const entries = await tools.list(tools.directory);
      assert.deepEqual(
        entries.map((entry) => [entry.key, entry.kind]),
        [[key, 'directory']],
      );
      assert.deepEqual(await tools.list(key), []);
      await refuses(tools.createDirectory(key), 'EEXIST');
      await tools.write(`${key}/file`, 'x');
      await refuses(backend.removeDirectory(key, tools.context), 'ENOTEMPTY');
      await backend.remove(`${key}/file`, { kind: 'any' }, tools.context);
      await backend.removeDirectory(key, tools.context);
      assert.equal(await backend.stat(key, tools.context), undefined);
    },
  },
];
