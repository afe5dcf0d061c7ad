import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { ByteSink } from '../contract.js';
import { type Check, digest, patternSource, refuses } from './check.js';

/** Content: writing, reading, ranges, large objects, aborted and broken transfers. */
export const objectChecks: readonly Check[] = [
  {
    name: 'what was written is read back, with its size and version',
    async run(backend, tools) {
      const key = tools.key('file');
      const written = await tools.write(key, 'hello');
      const info = await tools.stat(key);
      assert.equal(info.key, key);
      assert.equal(info.kind, 'file');
      assert.ok(info.size === 5 || info.size === undefined);
      assert.ok(info.validator !== undefined);
      assert.equal(written.validator, info.validator);
      assert.equal(await tools.read(key), 'hello');
      const sink = { write() {} };
      const read = await backend.read(key, { offset: 0, length: 5 }, sink, tools.context);
      assert.equal(read.validator, info.validator);
    },
  },
  {
    name: 'another content is another version',
    async run(_backend, tools) {
      const key = tools.key('file');
      const first = await tools.write(key, 'one');
      const second = await tools.write(key, 'two, and longer');
      assert.notEqual(first.validator, second.validator);
      assert.equal(await tools.read(key), 'two, and longer');
    },
  },
  {
    name: 'an empty object is an object',
    async run(_backend, tools) {
      const key = tools.key('empty');
      await tools.write(key, '');
      const info = await tools.stat(key);
      assert.equal(info.kind, 'file');
      assert.equal(info.size ?? 0, 0);
      assert.equal(await tools.read(key), '');
      assert.equal(await tools.read(key, { offset: 0, length: 10 }), '');
    },
  },
  {
    name: 'ranges are exact and cut short at the end',
    async run(_backend, tools) {
      const key = tools.key('file');
      await tools.write(key, '0123456789');
      const at = (offset: number, length: number) => tools.read(key, { offset, length });
      assert.equal(await at(3, 4), '3456');
      assert.equal(await at(0, 1), '0');
      assert.equal(await at(9, 1), '9');
      assert.equal(await at(8, 100), '89');
      assert.equal(await at(10, 5), '');
      assert.equal(await at(1000, 5), '');
      assert.equal(await at(4, 0), '');
    },
  },
  {
    name: 'a read of a named version fails once there is another',
    async run(_backend, tools) {
      const key = tools.key('file');
      const old = await tools.write(key, 'old');
      assert.equal(await tools.read(key, { offset: 0, length: 3 }, old.validator), 'old');
      await tools.write(key, 'newer');
      await refuses(tools.read(key, { offset: 0, length: 3 }, old.validator), 'ESTALE');
      await refuses(tools.read(key, { offset: 100, length: 3 }, old.validator), 'ESTALE');
    },
  },
  {
    name: 'what is not there is not found',
    async run(backend, tools) {
      const key = tools.key('missing');
      assert.equal(await backend.stat(key, tools.context), undefined);
      await refuses(tools.read(key), 'ENOENT');
      await refuses(tools.read(key, { offset: 0, length: 0 }), 'ENOENT');
    },
  },
  {
    name: 'a removed object is gone',
    async run(backend, tools) {
      const key = tools.key('file');
      await tools.write(key, 'x');
      await backend.remove(key, { kind: 'any' }, tools.context);
      assert.equal(await backend.stat(key, tools.context), undefined);
      assert.deepEqual(await tools.list(tools.directory), []);
    },
  },
  {
    name: 'a large object goes there and back unharmed',
    async run(backend, tools) {
      const key = tools.key('large');
      const source = patternSource(40 * 2 ** 20 + 12_345);
      await backend.write(key, source, { precondition: { kind: 'any' } }, tools.context);
      const hash = createHash('sha256');
      let size = 0;
      const sink: ByteSink = {
        write(chunk) {
          size += chunk.length;
          hash.update(chunk);
        },
      };
      await backend.read(key, { offset: 0, length: source.size }, sink, tools.context);
      assert.equal(size, source.size);
      assert.equal(hash.digest('hex'), await digest(source));
    },
  },
  {
    name: 'the sink is never given a chunk while it is busy',
    async run(backend, tools) {
      const key = tools.key('file');
      const source = patternSource(1_000_000);
      await backend.write(key, source, { precondition: { kind: 'any' } }, tools.context);
      let busy = false;
      let size = 0;
      const sink: ByteSink = {
        async write(chunk) {
          assert.equal(busy, false);
          busy = true;
          await new Promise((resolve) => setImmediate(resolve));
          size += chunk.length;
          busy = false;
        },
      };
      await backend.read(key, { offset: 0, length: source.size }, sink, tools.context);
      assert.equal(size, source.size);
    },
  },
  {
    name: 'a read that is aborted in the middle ends, and gives no more',
    async run(backend, tools) {
      const key = tools.key('file');
      const source = patternSource(8 * 2 ** 20);
      await backend.write(key, source, { precondition: { kind: 'any' } }, tools.context);
      const controller = new AbortController();
      let size = 0;
      let settled = false;
      const sink: ByteSink = {
        write(chunk) {
          assert.equal(settled, false);
          size += chunk.length;
          controller.abort();
        },
      };
      const read = backend.read(key, { offset: 0, length: source.size }, sink, { signal: controller.signal });
      await assert.rejects(read);
      settled = true;
      assert.ok(size > 0 && size < source.size);
    },
  },
  {
    name: 'an error of the sink ends the read and is what the caller gets',
    async run(backend, tools) {
      const key = tools.key('file');
      const source = patternSource(8 * 2 ** 20);
      await backend.write(key, source, { precondition: { kind: 'any' } }, tools.context);
      const full = new Error('the sink is full');
      const sink: ByteSink = {
        write() {
          throw full;
        },
      };
      const read = backend.read(key, { offset: 0, length: source.size }, sink, tools.context);
      await assert.rejects(read, (error: Error) => error === full || error.cause === full);
    },
  },
  {
    name: 'a write whose source fails leaves no object and no half one',
    async run(backend, tools) {
      const key = tools.key('file');
      await tools.write(key, 'whole');
      const broken = {
        size: 3_000_000,
        async *read() {
          yield Buffer.alloc(1_000_000);
          throw new Error('the disk is broken');
        },
      };
      const other = tools.key('other');
      await assert.rejects(backend.write(key, broken, { precondition: { kind: 'any' } }, tools.context));
      await assert.rejects(backend.write(other, broken, { precondition: { kind: 'any' } }, tools.context));
      assert.equal(await tools.read(key), 'whole');
      assert.equal(await backend.stat(other, tools.context), undefined);
    },
  },
  {
    name: 'a call that was aborted before it began does nothing',
    async run(backend, tools) {
      const key = tools.key('file');
      const context = { signal: AbortSignal.abort() };
      await assert.rejects(backend.write(key, patternSource(10), { precondition: { kind: 'any' } }, context));
      await assert.rejects(backend.stat(key, context));
      assert.equal(await backend.stat(key, tools.context), undefined);
    },
  },
];
