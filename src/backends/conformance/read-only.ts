import assert from 'node:assert/strict';
import type { Backend, ByteSink, ObjectInfo } from '../contract.js';
import { type Check, refuses, type Tools } from './check.js';

/** A store that can only be read has to be taken as it is: what the checks work on is looked for in so many directories. */
const DIRECTORIES = 20;
const LARGEST_SAMPLE = 64 * 2 ** 20;
const COMPARED = 20;
/** From this size on, bytes, a read has more than one chunk. */
const LARGE = 2 ** 20;

const isReadOnly = (backend: Backend): boolean => backend.capabilities.readOnly === true;

const readOnlyCheck = (name: string, run: Check['run']): Check => ({
  name: `read-only: ${name}`,
  requires: isReadOnly,
  writesNothing: true,
  run,
});

/** Stores that can only be read: they must hold a file that is not empty, better one of some megabytes. */
export const readOnlyChecks: readonly Check[] = [
  readOnlyCheck('a listing tells what a look at one name tells, or nothing', async (backend, tools) => {
    const root = await tools.stat('');
    assert.equal(root.kind, 'directory');
    const entries = await tools.list('');
    assert.ok(entries.length > 0, 'the root holds something');
    for (const entry of entries.slice(0, COMPARED)) {
      const info = await tools.stat(entry.key);
      assert.equal(info.key, entry.key);
      assert.equal(info.kind, entry.kind);
      if (entry.kind === 'directory') continue;
      if (info.size !== undefined) assert.ok(entry.size === undefined || entry.size === info.size);
      assert.ok(entry.validator === undefined || entry.validator === info.validator);
    }
    await assert.rejects(backend.list('', undefined, { signal: AbortSignal.abort() }));
  }),
  readOnlyCheck('a directory is one by its own name, too', async (_backend, tools) => {
    const { directories } = await survey(tools);
    for (const key of directories.slice(0, COMPARED)) {
      assert.equal((await tools.stat(key)).kind, 'directory');
      for (const { key: below } of await tools.list(key)) {
        assert.ok(below.startsWith(`${key}/`) && !below.slice(key.length + 1).includes('/'), below);
      }
    }
  }),
  readOnlyCheck('what is not there is not found', async (backend, tools) => {
    const { directory } = tools;
    assert.equal(await backend.stat(directory, tools.context), undefined);
    assert.equal(await backend.stat(`${directory}/below`, tools.context), undefined);
    await refuses(tools.read(directory), 'ENOENT');
    await refuses(tools.read(directory, { offset: 0, length: 0 }), 'ENOENT');
  }),
  readOnlyCheck('ranges are exact and cut short at the end', async (_backend, tools) => {
    const { key } = await sample(tools);
    const whole = await bytesOf(tools, key);
    const size = whole.length;
    const info = await tools.stat(key);
    assert.ok(info.size === undefined || info.size === size, 'the size is true');
    const middle = Math.floor(size / 2);
    for (const [offset, length] of [
      [0, 1],
      [0, size],
      [middle, 1000],
      [size - 1, 1],
      [size - 1, 1000],
      [size, 5],
      [size + 1000, 5],
      [middle, 0],
    ] as const) {
      const part = await bytesOf(tools, key, offset, length);
      const what = `${length} bytes from ${offset} of ${size}`;
      assert.ok(part.equals(whole.subarray(offset, offset + length)), what);
    }
  }),
  readOnlyCheck('a read tells its version, and of another one fails', async (backend, tools) => {
    const { key } = await sample(tools);
    const sink = { write() {} };
    const range = { offset: 0, length: LARGEST_SAMPLE };
    const read = await backend.read(key, range, sink, tools.context);
    const { validator } = read;
    assert.ok(validator !== undefined, 'a whole read tells the version');
    const { validator: looked } = await tools.stat(key);
    assert.ok(looked === undefined || looked === validator);
    await backend.read(key, { offset: 0, length: 1 }, sink, tools.context, validator);
    const other = '"no version of this file"';
    for (const { offset, length } of [
      range,
      { offset: 0, length: 1 },
      { offset: LARGEST_SAMPLE, length: 1 },
    ]) {
      await refuses(backend.read(key, { offset, length }, sink, tools.context, other), 'ESTALE');
    }
  }),
  readOnlyCheck('the sink is never given a chunk while it is busy', async (backend, tools) => {
    const { key } = await sample(tools);
    let busy = false;
    const sink: ByteSink = {
      async write() {
        assert.equal(busy, false);
        busy = true;
        await new Promise((resolve) => setImmediate(resolve));
        busy = false;
      },
    };
    await backend.read(key, { offset: 0, length: LARGEST_SAMPLE }, sink, tools.context);
  }),
  readOnlyCheck('an error of the sink ends the read and is what the caller gets', async (backend, tools) => {
    const { key } = await sample(tools);
    const full = new Error('the sink is full');
    const sink: ByteSink = {
      write() {
        throw full;
      },
    };
    const read = backend.read(key, { offset: 0, length: LARGEST_SAMPLE }, sink, tools.context);
    await assert.rejects(read, (error: Error) => error === full || error.cause === full);
  }),
  readOnlyCheck('a read that is aborted ends, and gives no more', async (backend, tools) => {
    const { key, size = 0 } = await sample(tools);
    const range = { offset: 0, length: LARGEST_SAMPLE };
    await assert.rejects(backend.read(key, range, { write() {} }, { signal: AbortSignal.abort() }));
    await assert.rejects(backend.stat(key, { signal: AbortSignal.abort() }));
    if (size < LARGE) return;
    const controller = new AbortController();
    let settled = false;
    const sink: ByteSink = {
      write() {
        assert.equal(settled, false);
        controller.abort();
      },
    };
    await assert.rejects(backend.read(key, range, sink, { signal: controller.signal }));
    settled = true;
  }),
  readOnlyCheck('nothing can be changed', async (backend, tools) => {
    const { key } = await sample(tools);
    await refuses(tools.write(tools.directory, 'x'), 'EROFS');
    await refuses(tools.write(key, 'x'), 'EROFS');
    await refuses(backend.remove(key, { kind: 'any' }, tools.context), 'EROFS');
    assert.equal((await tools.stat(key)).kind, 'file');
  }),
];

/** The largest file of those that are not too large, and the directories on the way to it. */
async function survey(tools: Tools): Promise<{ file: ObjectInfo | undefined; directories: string[] }> {
  const directories: string[] = [];
  const waiting = [''];
  let file: ObjectInfo | undefined;
  for (
    let key = waiting.shift();
    key !== undefined && directories.length < DIRECTORIES;
    key = waiting.shift()
  ) {
    if (key !== '') directories.push(key);
    for (const entry of await tools.list(key)) {
      if (entry.kind === 'directory') waiting.push(entry.key);
      else if ((entry.size ?? 0) <= LARGEST_SAMPLE && (entry.size ?? 0) >= (file?.size ?? 0)) file = entry;
    }
  }
  return { file, directories };
}

async function sample(tools: Tools): Promise<ObjectInfo> {
  const { file } = await survey(tools);
  assert.ok(file !== undefined, 'the store holds a file to read');
  return tools.stat(file.key);
}

async function bytesOf(tools: Tools, key: string, offset = 0, length = LARGEST_SAMPLE): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  const sink = { write: (chunk: Uint8Array) => void chunks.push(Buffer.from(chunk)) };
  await tools.backend.read(key, { offset, length }, sink, tools.context);
  return Buffer.concat(chunks);
}
