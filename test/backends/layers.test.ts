import { beforeEach, describe, expect, test } from '@jest/globals';
import { patternSource } from '../../src/backends/conformance/check.js';
import {
  type Backend,
  type ByteSink,
  type Context,
  hasCopy,
  hasDirectories,
  hasHostTree,
  hasRename,
  hasSetAttributes,
  hasUsage,
  type ListPage,
  type ObjectInfo,
} from '../../src/backends/contract.js';
import { chaos, type Fault } from '../../src/backends/layers/chaos.js';
import { intercept } from '../../src/backends/layers/intercept.js';
import { limit } from '../../src/backends/layers/limit.js';
import { Metrics, metrics } from '../../src/backends/layers/metrics.js';
import { ownChanges } from '../../src/backends/layers/own-changes.js';
import { readBack } from '../../src/backends/layers/read-back.js';
import { readonly } from '../../src/backends/layers/readonly.js';
import { type RetryOptions, retry } from '../../src/backends/layers/retry.js';
import { timeout } from '../../src/backends/layers/timeout.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { MemoryBackend } from './memory-backend.js';
import { settled, VirtualTime } from './virtual-time.js';

const context: Context = { signal: new AbortController().signal };
const any = { kind: 'any' } as const;
const absent = { kind: 'absent' } as const;
const passing = () => new MirageError('503', { errno: 'EIO', retryable: true });
const unknown = () => new MirageError('reset', { errno: 'EIO', retryable: true, outcomeUnknown: true });
const text = (content: string) => ({
  size: content.length,
  async *read({ offset, length }: { offset: number; length: number }) {
    yield Buffer.from(content.slice(offset, offset + length));
  },
});

let time: VirtualTime;
let store: MemoryBackend;
beforeEach(() => {
  time = new VirtualTime();
  store = new MemoryBackend(4);
});

/** The store with single operations replaced. */
const withOperations = (operations: Partial<Backend>): Backend => Object.assign(store, operations);

function collector(): { sink: ByteSink; text(): string } {
  const chunks: Uint8Array[] = [];
  return {
    sink: { write: (chunk) => void chunks.push(chunk) },
    text: () => Buffer.concat(chunks).toString(),
  };
}

test('a wrapped backend has the optional operations of the inner one, and no others', () => {
  const guards = [hasDirectories, hasCopy, hasSetAttributes, hasRename, hasUsage, hasHostTree];
  const names = ['createDirectory', 'copy', 'setAttributes', 'rename', 'usage', 'openTree'];
  const wrapped = (operations: object) =>
    readonly(metrics(readBack(retry(limit(timeout(withOperations(operations)), 1))), new Metrics(), time));
  expect(guards.map((guard) => guard(wrapped({})))).toEqual(names.map(() => false));
  for (const [i, name] of names.entries()) {
    store = new MemoryBackend();
    const backend = wrapped({ [name]: async () => name });
    expect(guards.map((guard) => guard(backend))).toEqual(names.map((_, j) => i === j));
  }
});

test('operations of a class keep their object', async () => {
  const backend = intercept(store, (_operation, _key, c, proceed) => proceed(c));
  await backend.write('key', text('x'), { precondition: any }, context);
  expect((await backend.stat('key', context))?.size).toBe(1);
});

describe('retry', () => {
  let options: RetryOptions;
  beforeEach(() => {
    options = {
      attempts: 3,
      firstDelay: 100,
      maximumDelay: 150,
      budget: 10_000,
      timers: time,
      clock: time,
      random: () => 1,
    };
  });

  function failing(failures: MirageError[]): { backend: Backend; calls: number[] } {
    const calls: number[] = [];
    const backend = withOperations({
      async stat() {
        calls.push(time.monotonic());
        const failure = failures.shift();
        if (failure !== undefined) throw failure;
        return undefined;
      },
    });
    return { backend: retry(backend, options), calls };
  }

  test('tries again after pauses that grow up to a limit', async () => {
    const { backend, calls } = failing([passing(), passing()]);
    const answer = backend.stat('key', context);
    await time.advance(1000);
    await expect(answer).resolves.toBeUndefined();
    expect(calls).toEqual([0, 100, 250]);
  });

  test('pauses are a random part of the longest', async () => {
    options = { ...options, random: () => 0.5 };
    const { backend, calls } = failing([passing()]);
    const answer = backend.stat('key', context);
    await time.advance(1000);
    await answer;
    expect(calls).toEqual([0, 50]);
  });

  test('gives up after its tries, and after its time', async () => {
    const first = failing([passing(), passing(), passing()]);
    const exhausted = expect(first.backend.stat('key', context)).rejects.toMatchObject({ errno: 'EIO' });
    await time.advance(1000);
    await exhausted;
    expect(first.calls).toHaveLength(3);
    options = { ...options, budget: 100 };
    const second = failing([passing(), passing(), passing()]);
    const late = expect(second.backend.stat('key', context)).rejects.toMatchObject({ errno: 'EIO' });
    await time.advance(1000);
    await late;
    expect(second.calls).toHaveLength(2);
  });

  test('never repeats what may have happened, nor what will not change', async () => {
    for (const failure of [unknown(), new MirageError('no', { errno: 'EACCES' })]) {
      const { backend, calls } = failing([failure]);
      await expect(backend.stat('key', context)).rejects.toBe(failure);
      expect(calls).toHaveLength(1);
    }
  });

  test('an abort ends the pause', async () => {
    const controller = new AbortController();
    const { backend } = failing([passing()]);
    const answer = expect(backend.stat('key', { signal: controller.signal })).rejects.toThrow();
    await settled();
    controller.abort();
    await answer;
    expect(time.waiting).toBe(0);
  });

  /** Breaks the first `times` reads after some bytes of each. */
  function breaking(times: number): Backend {
    const read = store.read.bind(store);
    let broken = 0;
    return withOperations({
      async read(key, range, sink, c, match) {
        if (broken++ >= times) return read(key, range, sink, c, match);
        await read(key, { offset: range.offset, length: 6 }, sink, c, match);
        throw passing();
      },
    });
  }

  test('a read of a named version goes on where it stopped', async () => {
    const { validator } = await store.write(
      'key',
      text('0123456789abcdefghij'),
      { precondition: any },
      context,
    );
    const { sink, text: read } = collector();
    const answer = retry(breaking(2), options).read(
      'key',
      { offset: 1, length: 18 },
      sink,
      context,
      validator,
    );
    await time.advance(1000);
    await answer;
    expect(read()).toBe('123456789abcdefghi');
  });

  test('a read of whatever version there is does not mix two', async () => {
    await store.write('key', text('0123456789'), { precondition: any }, context);
    const { sink } = collector();
    const answer = retry(breaking(1), options).read('key', { offset: 0, length: 10 }, sink, context);
    await expect(answer).rejects.toMatchObject({ errno: 'EIO', retryable: false });
  });
});

describe('timeout', () => {
  const never = (c: Context) =>
    new Promise<never>((_resolve, reject) => {
      c.signal.addEventListener('abort', () => reject(c.signal.reason));
    });
  const guarded = (backend: Backend) => timeout(backend, { idle: 1000, serverSide: 5000, timers: time });

  test('a call without an answer ends, and says whether it may have happened', async () => {
    const backend = guarded(
      withOperations({ stat: (_key, c) => never(c), remove: (_key, _precondition, c) => never(c) }),
    );
    const stat = expect(backend.stat('key', context)).rejects.toMatchObject({
      errno: 'ETIMEDOUT',
      retryable: true,
      outcomeUnknown: false,
    });
    const remove = expect(backend.remove('key', any, context)).rejects.toMatchObject({
      errno: 'ETIMEDOUT',
      outcomeUnknown: true,
    });
    await time.advance(999);
    expect(time.waiting).toBe(2);
    await time.advance(1);
    await stat;
    await remove;
    expect(time.waiting).toBe(0);
  });

  test('a read may take long while bytes arrive, and a slow sink is not the fault of the store', async () => {
    await store.write('key', text('0123456789ab'), { precondition: any }, context);
    const arrived: string[] = [];
    const sink: ByteSink = {
      write: (chunk) =>
        new Promise((resolve) => {
          time.after(5000, () => {
            arrived.push(Buffer.from(chunk).toString());
            resolve();
          });
        }),
    };
    const read = guarded(store).read('key', { offset: 0, length: 12 }, sink, context);
    await time.advance(15_000);
    await read;
    expect(arrived).toEqual(['0123', '4567', '89ab']);
    expect(time.waiting).toBe(0);
  });

  test('a store has time to put together what it was sent', async () => {
    const never = withOperations({
      write: (_key, _source, _options, c) =>
        new Promise((_resolve, reject) => c.signal.addEventListener('abort', () => reject(c.signal.reason))),
    });
    const large = { ...text(''), size: 128 * 2 ** 20 };
    const write = guarded(never).write('key', large, { precondition: any }, context);
    const ended = expect(write).rejects.toMatchObject({ errno: 'ETIMEDOUT', outcomeUnknown: true });
    await time.advance(2999);
    expect(time.waiting).toBe(1);
    await time.advance(1);
    await ended;
  });

  test('an abort of the caller passes through', async () => {
    const controller = new AbortController();
    const backend = guarded(withOperations({ stat: (_key, c) => never(c) }));
    const answer = backend.stat('key', { signal: controller.signal });
    controller.abort(new Error('the caller has gone'));
    await expect(answer).rejects.toThrow('the caller has gone');
    expect(time.waiting).toBe(0);
  });
});

describe('chaos', () => {
  test('breaks calls before and after the store has acted, and lists what was', async () => {
    const faults: Fault[] = [];
    const backend = chaos(store, {
      next: () => faults.shift() ?? { kind: 'none' },
      timers: time,
      clock: time,
    });
    const write = () => backend.write('key', text('x'), { precondition: any }, context);
    const listed = async () => (await backend.list('', undefined, context)).entries.map((entry) => entry.key);
    expect(await listed()).toEqual([]);
    faults.push({ kind: 'unavailable' });
    await expect(write()).rejects.toMatchObject({ errno: 'EIO', outcomeUnknown: true });
    expect(await store.stat('key', context)).toBeUndefined();
    faults.push({ kind: 'reset', bytes: 0 });
    await expect(write()).rejects.toMatchObject({ errno: 'EIO', outcomeUnknown: true });
    expect((await store.stat('key', context))?.size).toBe(1);
    faults.push({ kind: 'stale', milliseconds: 10 });
    expect(await listed()).toEqual([]);
    expect(await listed()).toEqual(['key']);
    await time.advance(11);
    faults.push({ kind: 'stale', milliseconds: 10 });
    expect(await listed()).toEqual(['key']);
    faults.push({ kind: 'latency', milliseconds: 50 });
    const slow = backend.stat('key', context);
    await settled();
    expect(time.waiting).toBe(1);
    await time.advance(50);
    expect((await slow)?.size).toBe(1);
  });
});

describe('own changes', () => {
  const page = async (backend: Backend, cursor?: string) => backend.list('d', cursor, context);
  const write = (backend: Backend, key: string, content = 'x') =>
    backend.write(key, text(content), { precondition: any }, context);

  test('are held against a listing that comes late, and nothing else is asked for', async () => {
    const asked: string[] = [];
    const late = { entries: [] as readonly ObjectInfo[] };
    let lists = false;
    const counting = intercept(store, async (operation, key, c, proceed) => {
      asked.push(`${operation} ${key}`);
      return proceed(c);
    });
    const backend = ownChanges(
      {
        ...counting,
        list: (prefix, cursor) =>
          lists ? Promise.resolve({ ...late, cursor: undefined }) : store.list(prefix, cursor),
      },
      time,
    );
    const names = async () => (await page(backend)).entries.map(({ key, size }) => `${key} ${size}`).sort();
    await write(backend, 'd/kept');
    await write(backend, 'd/changed');
    await write(backend, 'd/removed');
    late.entries = (await store.list('d', undefined)).entries;
    await write(backend, 'd/changed', 'longer');
    await backend.remove('d/removed', any, context);
    await write(backend, 'd/made');
    asked.length = 0;
    expect(await names()).toEqual(['d/changed 6', 'd/kept 1', 'd/made 1']);
    expect(asked).toEqual([]);
    lists = true;
    expect(await names()).toEqual(['d/changed 6', 'd/kept 1', 'd/made 1']);
    expect(asked.sort()).toEqual(['stat d/changed', 'stat d/made', 'stat d/removed']);
    // Another host may have removed it since.
    await store.remove('d/made', any);
    expect(await names()).toEqual(['d/changed 6', 'd/kept 1']);
    await time.advance(60_001);
    expect(await names()).toEqual(['d/changed 1', 'd/kept 1', 'd/removed 1']);
  });

  test('are looked for once a listing of several pages has ended', async () => {
    const pages: Record<string, ListPage> = {};
    const asked: string[] = [];
    const backend = ownChanges(
      {
        ...intercept(store, async (operation, key, c, proceed) => {
          asked.push(`${operation} ${key}`);
          return proceed(c);
        }),
        list: async (_prefix, cursor) => pages[cursor ?? 'first'] as ListPage,
      },
      time,
    );
    for (const name of ['d/a', 'd/b', 'd/c']) await write(backend, name);
    const [a, b] = (await store.list('d', undefined)).entries as [ObjectInfo, ObjectInfo];
    pages.first = { entries: [b], cursor: 'second' };
    pages.second = { entries: [a], cursor: undefined };
    asked.length = 0;
    expect((await page(backend)).entries).toEqual([b]);
    expect((await page(backend, 'second')).entries.map(({ key }) => key)).toEqual(['d/a', 'd/c']);
    expect(asked).toEqual(['stat d/c']);
  });
});

describe('limit', () => {
  test('lets a few in, the others in their order, and forgets who left', async () => {
    const started: string[] = [];
    const finish: (() => void)[] = [];
    const backend = limit(
      withOperations({
        stat: (key) =>
          new Promise((resolve) => {
            started.push(key);
            finish.push(() => resolve(undefined));
          }),
      }),
      2,
    );
    const controller = new AbortController();
    const calls = ['a', 'b', 'c'].map((key) => backend.stat(key, context));
    const leaving = expect(backend.stat('d', { signal: controller.signal })).rejects.toThrow();
    calls.push(backend.stat('e', context));
    await settled();
    expect(started).toEqual(['a', 'b']);
    controller.abort();
    await leaving;
    finish[1]?.();
    await settled();
    expect(started).toEqual(['a', 'b', 'c']);
    finish[0]?.();
    await settled();
    expect(started).toEqual(['a', 'b', 'c', 'e']);
    finish[2]?.();
    finish[3]?.();
    await Promise.all(calls);
    void backend.stat('f', context);
    void backend.stat('g', context);
    await settled();
    expect(started.slice(4)).toEqual(['f', 'g']);
  });

  test('a failed call gives its place back', async () => {
    const backend = limit(
      withOperations({
        stat: () => Promise.reject(passing()),
        list: async () => ({ entries: [], cursor: undefined }),
      }),
      1,
    );
    await expect(backend.stat('key', context)).rejects.toMatchObject({ errno: 'EIO' });
    await backend.list('', undefined, context);
  });
});

describe('readonly', () => {
  test('refuses every change and nothing else', async () => {
    await store.write('key', text('x'), { precondition: any }, context);
    const backend = readonly(store);
    expect((await backend.stat('key', context))?.size).toBe(1);
    const { sink, text: read } = collector();
    await backend.read('key', { offset: 0, length: 1 }, sink, context);
    expect(read()).toBe('x');
    await expect(backend.write('key', text('y'), { precondition: any }, context)).rejects.toMatchObject({
      errno: 'EROFS',
    });
    await expect(backend.remove('key', any, context)).rejects.toMatchObject({ errno: 'EROFS' });
  });
});

describe('metrics', () => {
  test('counts calls, errors, time and bytes', async () => {
    const counters = new Metrics();
    const backend = metrics(
      withOperations({
        async stat() {
          await time.advance(25);
          throw passing();
        },
      }),
      counters,
      time,
    );
    await backend.write('key', text('0123456789'), { precondition: any }, context);
    const { sink } = collector();
    await backend.read('key', { offset: 2, length: 5 }, sink, context);
    await expect(backend.stat('key', context)).rejects.toThrow();
    expect(counters.snapshot()).toMatchObject({
      bytesWritten: 10,
      bytesRead: 5,
      write: 1,
      read: 1,
      stat: 1,
      statErrors: 1,
      statMilliseconds: 25,
    });
  });
});

describe('read-back', () => {
  const write = (backend: Backend, content: string, writer?: string): Promise<ObjectInfo> =>
    backend.write(
      'key',
      text(content),
      { precondition: absent, ...(writer !== undefined && { attributes: { writer } }) },
      context,
    );
  const content = async () => {
    const { sink, text: read } = collector();
    await store.read('key', { offset: 0, length: 100 }, sink, context);
    return read();
  };

  /** Fails the first writes after (`acts`) or before the store has acted. */
  function unsure(faults: readonly { acts: boolean }[]): { backend: Backend; writes(): number } {
    const inner = store.write.bind(store);
    let writes = 0;
    const backend = withOperations({
      async write(...call) {
        const fault = faults[writes++];
        if (fault === undefined) return inner(...call);
        if (fault.acts) await inner(...call);
        throw unknown();
      },
    });
    return { backend: readBack(backend), writes: () => writes };
  }

  test('a write that was carried out is a success', async () => {
    const { backend, writes } = unsure([{ acts: true }]);
    const info = await write(backend, 'mine', 'me');
    expect(info).toMatchObject({ size: 4, attributes: { writer: 'me' } });
    expect(writes()).toBe(1);
  });

  test('a write that was not carried out is tried again', async () => {
    const { backend, writes } = unsure([{ acts: false }]);
    await write(backend, 'mine', 'me');
    expect(await content()).toBe('mine');
    expect(writes()).toBe(2);
  });

  test('a first try that arrives late is recognised when the second is refused', async () => {
    const inner = store.write.bind(store);
    let writes = 0;
    const backend = readBack(
      withOperations({
        async write(...call) {
          writes++;
          if (writes === 1) throw unknown();
          if (writes === 2) await inner(...call);
          return inner(...call);
        },
      }),
    );
    expect(await write(backend, 'mine', 'me')).toMatchObject({ attributes: { writer: 'me' } });
  });

  test('a write that lost against another is refused', async () => {
    const { backend } = unsure([{ acts: true }, { acts: false }]);
    await write(backend, 'first', 'other');
    await expect(write(backend, 'mine', 'me')).rejects.toMatchObject({ errno: 'ESTALE' });
    expect(await content()).toBe('first');
  });

  test('without a nonce nobody guesses', async () => {
    const { backend, writes } = unsure([{ acts: true }]);
    await expect(write(backend, 'mine')).rejects.toMatchObject({ outcomeUnknown: true });
    expect(writes()).toBe(1);
  });

  test('a store that cannot be asked leaves the outcome unknown', async () => {
    const { backend } = unsure([{ acts: true }]);
    withOperations({ stat: () => Promise.reject(passing()) });
    await expect(write(backend, 'mine', 'me')).rejects.toMatchObject({ outcomeUnknown: true });
  });

  test('it does not try for ever', async () => {
    const { backend, writes } = unsure(Array.from({ length: 10 }, () => ({ acts: false })));
    await expect(write(backend, 'mine', 'me')).rejects.toMatchObject({ outcomeUnknown: true });
    expect(writes()).toBe(3);
  });

  test('a remove is settled by looking whether the object is gone', async () => {
    const { validator } = await store.write('key', patternSource(5), { precondition: any }, context);
    const match = { kind: 'match', validator: validator ?? '' } as const;
    const inner = store.remove.bind(store);
    const backend = readBack(
      withOperations({
        async remove(key, precondition) {
          await inner(key, precondition);
          throw unknown();
        },
      }),
    );
    await backend.remove('key', match, context);
    await store.write('key', patternSource(6), { precondition: any }, context);
    const lost = readBack(withOperations({ remove: () => Promise.reject(unknown()) }));
    await expect(lost.remove('key', match, context)).rejects.toMatchObject({ errno: 'ESTALE' });
  });
});
