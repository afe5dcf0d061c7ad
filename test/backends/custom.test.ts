import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import { loadModule } from '../../src/backends/custom/module.js';
import { systemClock } from '../../src/clock/clock.js';
import { loadConfiguration } from '../../src/config/load.js';
import { quietLog } from '../servers/quiet.js';

const folder = mkdtempSync(join(tmpdir(), 'mirage-custom-'));
afterAll(() => rmSync(folder, { recursive: true }));
let written = 0;
const { signal } = new AbortController();

/** A module of this text, at a path of its own. */
function moduleOf(text: string): string {
  const path = join(folder, `backend-${++written}.mjs`);
  writeFileSync(path, text);
  return path;
}

async function openModule(text: string, given: object = {}, writable = true): Promise<OpenedBackend> {
  const module = await loadModule(moduleOf(text));
  return module.open(given, { log: quietLog, clock: systemClock, writable, signal });
}

const reading = `stat: (key) => key === 'file' ? { size: 3, modified: 1500, validator: 'v' } : undefined,
  list: () => [{ key: 'file' }],
  read: async (key, range, sink) => { await sink.write(Buffer.from('abc')); return { size: 3, validator: 'v' }; },`;
const writing = `write: async () => ({ size: 0, validator: 'w' }), remove() {},`;

describe('what is wrong with a module is said', () => {
  test.each([
    ['a syntax error', 'export const = 1', /cannot be loaded/],
    ['an error while it is loaded', 'throw new Error("no such driver")', /no such driver/],
    ['no open', 'export const close = 1;', /exports no function open \(it exports close\)/],
    ['nothing', '', /it exports nothing/],
    ['no backend', 'export const open = () => undefined;', /no stat, no list, no read/],
    ['methods that are missing', 'export const open = () => ({ stat() {} });', /no list, no read/],
    ['half of writing', `export const open = () => ({ ${reading} write() {} });`, /write but no remove/],
  ])('%s', async (_what, text, message) => {
    await expect(openModule(text)).rejects.toMatchObject({
      errno: 'EINVAL',
      message: expect.stringMatching(message),
      hint: expect.stringContaining('docs/write-a-backend.md'),
    });
  });

  test('a path without a module', async () => {
    await expect(loadModule(join(folder, 'missing.mjs'))).rejects.toMatchObject({ errno: 'ENOENT' });
  });

  test('options that the module refuses, by a function or by a schema', async () => {
    const open = `export const open = () => ({ ${reading} ${writing} });`;
    const byFunction = `export const options = () => { throw new Error('url is missing'); }; ${open}`;
    const bySchema = `export const options = { parse() { throw Object.assign(new Error('[]'), {
      issues: [{ path: ['url'], message: 'expected string' }] }); } }; ${open}`;
    for (const [text, reason] of [
      [byFunction, 'url is missing'],
      [bySchema, 'url: expected string'],
    ] as const) {
      await expect(openModule(text)).rejects.toMatchObject({
        errno: 'EINVAL',
        message: expect.stringContaining(reason),
      });
    }
  });

  test('an answer that is none', async () => {
    const { backend } = await openModule(
      `export const open = () => ({ ${reading} ${writing} stat: () => ({ size: 'three' }), list: () => [{ key: 'a/b' }] });`,
    );
    await expect(backend.stat('x', { signal })).rejects.toMatchObject({
      errno: 'EIO',
      message: expect.stringMatching(/stat gave a wrong answer.*size/),
    });
    await expect(backend.list('', undefined, { signal })).rejects.toMatchObject({
      message: expect.stringContaining('"a/b" is not one name below ""'),
    });
  });
});

describe('a backend of a stranger', () => {
  test('gets what it leaves out', async () => {
    const { backend, identity } = await openModule(`export const open = () => ({ ${reading} ${writing} });`);
    expect(backend.capabilities).toMatchObject({
      readOnly: false,
      attributes: false,
      directories: 'markers',
      preconditions: { writeAbsent: false, writeMatch: false, removeMatch: false },
    });
    expect(identity).toMatch(/^custom:.*backend-\d+\.mjs:[0-9a-f]{16}$/);
    expect(await backend.stat('file', { signal })).toEqual({
      key: 'file',
      kind: 'file',
      size: 3,
      modified: { seconds: 1, nanoseconds: 500_000_000 },
      validator: 'v',
      attributes: {},
    });
    expect(await backend.stat('', { signal })).toMatchObject({ kind: 'directory' });
    expect(await backend.stat('other', { signal })).toBeUndefined();
  });

  test('sees what its options made of the keys', async () => {
    const { backend } = await openModule(
      `export const options = (given) => ({ size: given.size * 2 });
       export const open = async ({ size }, { writable }) =>
         ({ ${reading} ${writing} stat: () => ({ size, validator: String(writable) }) });`,
      { size: 21 },
    );
    expect(await backend.stat('x', { signal })).toMatchObject({ size: 42, validator: 'true' });
  });

  test('without write and remove can only be read', async () => {
    const text = `export const open = () => ({ ${reading} });`;
    await expect(openModule(text)).rejects.toMatchObject({ errno: 'EROFS' });
    const { backend } = await openModule(text, {}, false);
    expect(backend.capabilities.readOnly).toBe(true);
    const write = backend.write(
      'x',
      { size: 0, async *read() {} },
      { precondition: { kind: 'any' } },
      { signal },
    );
    await expect(write).rejects.toMatchObject({ errno: 'EROFS' });
  });

  test('throws errors as Node does', async () => {
    const { backend } = await openModule(
      `const fail = () => { throw Object.assign(new Error('gone away'), { code: 'EHOSTDOWN', hint: 'wait', retryable: true }); };
       export const open = () => ({ ${reading} ${writing} stat: fail, list: () => { throw new Error('?'); } });`,
    );
    await expect(backend.stat('x', { signal })).rejects.toMatchObject({
      errno: 'EHOSTDOWN',
      retryable: true,
      hint: 'wait',
    });
    await expect(backend.list('', undefined, { signal })).rejects.toMatchObject({
      errno: 'EIO',
      retryable: false,
    });
  });

  test('that claims no preconditions is looked at before a change', async () => {
    const { backend } = await openModule(`export const open = () => ({ ${reading} ${writing} });`);
    const source = { size: 0, async *read() {} };
    const write = (precondition: { kind: 'absent' } | { kind: 'match'; validator: string }) =>
      backend.write('file', source, { precondition }, { signal });
    await expect(write({ kind: 'absent' })).rejects.toMatchObject({ errno: 'ESTALE' });
    await expect(write({ kind: 'match', validator: 'old' })).rejects.toMatchObject({ errno: 'ESTALE' });
    await expect(write({ kind: 'match', validator: 'v' })).resolves.toMatchObject({ validator: 'w' });
    await expect(
      backend.remove('file', { kind: 'match', validator: 'old' }, { signal }),
    ).rejects.toMatchObject({
      errno: 'ESTALE',
    });
  });
});

test('the path of a module is relative to the configuration', () => {
  const file = join(folder, 'mirage.yaml');
  const mounts = {
    a: { type: './mine.mjs', mode: 'write', anything: 1 },
    b: { type: '../b.mjs', config: { x: 'y' } },
  };
  writeFileSync(file, JSON.stringify({ mountpoint: '/mnt/x', mounts }));
  expect(loadConfiguration(file, { types: {}, environment: {} }).mounts).toMatchObject([
    { type: join(folder, 'mine.mjs'), placement: 'remote', mode: 'write', options: { anything: 1 } },
    { type: join(folder, '..', 'b.mjs'), options: { x: 'y' } },
  ]);
});
