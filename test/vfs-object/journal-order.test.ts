/** In which order the intents of the journal are carried out, and what becomes of those that cancel each other out. */
import { describe, expect, test } from '@jest/globals';
import type { Precondition } from '../../src/backends/contract.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { type Intent, provisional } from '../../src/vfs/object/journal/intent.js';
import { type Outcome, Queue, type Work } from '../../src/vfs/object/journal/queue.js';
import { VirtualTime } from '../backends/virtual-time.js';

const at = { seconds: 1, nanoseconds: 0 };
const absent = { kind: 'absent' } as const;
const match = (validator: string) => ({ kind: 'match', validator }) as const;
const put = (key: string, nonce: string, precondition: Precondition = absent): Intent => ({
  kind: 'put',
  key,
  precondition,
  attributes: { writer: nonce },
  size: 1,
  file: `file-${nonce}`,
  nonce,
  at,
});
const remove = (key: string, validator: string): Intent => ({
  kind: 'remove',
  key,
  precondition: match(validator),
  at,
});
const makeDirectory = (key: string): Intent => ({
  kind: 'makeDirectory',
  key,
  attributes: {},
  nonce: key,
  at,
});
const removeDirectory = (key: string): Intent => ({ kind: 'removeDirectory', key, at });
const rename = (
  from: string,
  key: string,
  validator: string,
  precondition: Precondition = absent,
): Intent => ({
  kind: 'copy',
  key,
  from,
  match: validator,
  precondition,
  attributes: { mode: 0o100600 },
  size: 1,
  nonce: `renamed-${key}`,
  removes: true,
  at,
});
const moveTree = (from: string, key: string): Intent => ({
  kind: 'moveTree',
  key,
  from,
  attributes: {},
  nonce: key,
  at,
});
const attributes = (key: string, mode: number, validator: string): Intent => ({
  kind: 'setAttributes',
  key,
  of: 'file',
  attributes: { mode },
  precondition: match(validator),
  nonce: `mode-${mode}`,
  at,
});

/** A queue whose works end when the test says so. */
class Bench {
  readonly time = new VirtualTime();
  readonly running = new Map<string, (outcome: Outcome) => void>();
  readonly begun: string[] = [];
  readonly queue: Queue;
  #sequence = 1;

  constructor(parallel = 100, strictDirectories = false) {
    this.queue = new Queue({
      parallel,
      removals: parallel,
      strictDirectories,
      timers: this.time,
      nextSequence: () => this.#sequence++,
      carryOut: (work) => {
        this.begun.push(nameOf(work));
        return new Promise((resolve) => this.running.set(nameOf(work), resolve));
      },
    });
  }

  add(intent: Intent, rest = 0): readonly Work[] {
    return this.queue.add(intent, () => undefined, rest);
  }

  /** Works that were not begun, as they are now. */
  get waiting(): Intent[] {
    return [...this.queue.all()]
      .filter((work) => !this.running.has(nameOf(work)))
      .map(({ intent }) => intent);
  }

  async end(name: string, outcome: Outcome = { kind: 'done' }): Promise<void> {
    const resolve = this.running.get(name);
    if (resolve === undefined) throw new Error(`${name} is not under way`);
    this.running.delete(name);
    resolve(outcome);
    await new Promise((done) => setImmediate(done));
  }
}

const nameOf = ({ intent }: Work): string => `${intent.kind} ${intent.key}`;

describe('order', () => {
  test('different keys go together, up to the limit', async () => {
    const bench = new Bench(2);
    for (const key of ['a', 'b', 'c']) bench.add(put(key, key));
    expect(bench.begun).toEqual(['put a', 'put b']);
    await bench.end('put b');
    expect(bench.begun).toEqual(['put a', 'put b', 'put c']);
  });

  test('one key goes one after the other', async () => {
    const bench = new Bench();
    bench.add(put('a', '1'));
    bench.add(put('a', '2', match(provisional('1'))));
    expect(bench.begun).toEqual(['put a']);
    await bench.end('put a');
    expect(bench.begun).toEqual(['put a', 'put a']);
  });

  test('a directory goes after what was in it', async () => {
    const bench = new Bench();
    bench.add(remove('d/a', 'x'));
    bench.add(remove('d/b', 'x'));
    bench.add(removeDirectory('d'));
    expect(bench.begun).toEqual(['remove d/a', 'remove d/b']);
    await bench.end('remove d/a');
    await bench.end('remove d/b');
    expect(bench.begun.at(-1)).toBe('removeDirectory d');
  });

  test('what comes into a directory waits for its removal, and for its making where the store needs that', async () => {
    const flat = new Bench();
    flat.add(makeDirectory('d'));
    flat.add(put('d/e/f', '1'));
    expect(flat.begun).toEqual(['makeDirectory d', 'put d/e/f']);
    const real = new Bench(100, true);
    real.add(makeDirectory('d'));
    real.add(put('d/e/f', '1'));
    expect(real.begun).toEqual(['makeDirectory d']);
    await real.end('makeDirectory d');
    expect(real.begun.at(-1)).toBe('put d/e/f');
  });

  test('a directory moves after what was below it, and before what comes to either place', async () => {
    const bench = new Bench();
    bench.add(put('a/deep/f', '1'));
    bench.add(put('elsewhere', '2'));
    bench.add(moveTree('a', 'b'));
    bench.add(put('b/deep/g', '3'));
    bench.add(put('a', '4'));
    expect(bench.begun).toEqual(['put a/deep/f', 'put elsewhere']);
    await bench.end('put a/deep/f');
    expect(bench.begun.at(-1)).toBe('moveTree b');
    await bench.end('moveTree b');
    expect(bench.begun.slice(-2)).toEqual(['put b/deep/g', 'put a']);
  });
});

describe('what was not begun is put together', () => {
  /** A rest keeps works from being begun. */
  const REST = 1000;
  const later = () => new Bench();

  test('a file that is made and removed again costs nothing', () => {
    const bench = later();
    bench.add(put('a', '1'), REST);
    bench.add(remove('a', provisional('1')));
    expect(bench.queue.size).toBe(0);
  });

  test('a file that replaces another and is removed is the removal of that one', () => {
    const bench = later();
    bench.add(put('a', '1', match('old')), REST);
    expect(bench.add(remove('a', provisional('1'))).map(({ intent }) => intent)).toMatchObject([
      { kind: 'remove', key: 'a', precondition: match('old') },
    ]);
  });

  test('of many writes the last is sent, on the condition of the first', () => {
    const bench = later();
    bench.add(put('a', '1', match('old')), REST);
    bench.add(put('a', '2', match(provisional('1'))), REST);
    bench.add(put('a', '3', match(provisional('2'))), REST);
    expect(bench.waiting).toMatchObject([{ kind: 'put', file: 'file-3', precondition: match('old') }]);
  });

  test('removed and made again is replaced', () => {
    const bench = later();
    bench.add(remove('a', 'old'), REST);
    bench.add(put('a', '1'), REST);
    expect(bench.waiting).toMatchObject([{ kind: 'put', precondition: match('old') }]);
  });

  test('attributes go with the content, under its nonce', () => {
    const bench = later();
    bench.add(put('a', '1'), REST);
    bench.add(attributes('a', 0o100600, provisional('1')), REST);
    expect(bench.waiting).toMatchObject([
      { kind: 'put', file: 'file-1', attributes: { mode: 0o100600, writer: '1' } },
    ]);
  });

  test('bytes that were not sent go to the new name at once', () => {
    const bench = later();
    bench.add(put('a.tmp', '1'), REST);
    bench.add(rename('a.tmp', 'a', provisional('1'), match('old')), REST);
    expect(bench.waiting).toMatchObject([
      { kind: 'put', key: 'a', file: 'file-1', precondition: match('old'), nonce: 'renamed-a' },
    ]);
  });

  test('saving by rename again and again sends the last version alone', () => {
    const bench = later();
    bench.add(put('t1', '1'), REST);
    bench.add(rename('t1', 'a', provisional('1'), match('old')), REST);
    bench.add(put('t2', '2'), REST);
    bench.add(rename('t2', 'a', provisional('2'), match(provisional('renamed-a'))), REST);
    expect(bench.waiting).toMatchObject([
      { kind: 'put', key: 'a', file: 'file-2', precondition: match('old') },
    ]);
  });

  test('a renamed file that had replaced another leaves no other behind', () => {
    const bench = later();
    bench.add(put('a', '1', match('old')), REST);
    bench.add(rename('a', 'b', provisional('1')), REST);
    expect(bench.waiting).toMatchObject([
      { kind: 'put', key: 'b' },
      { kind: 'remove', key: 'a', precondition: match('old') },
    ]);
  });

  test('a directory that is made and removed again costs nothing, one with something in it does', () => {
    const bench = later();
    bench.add(makeDirectory('d'), REST);
    bench.add(removeDirectory('d'), REST);
    expect(bench.queue.size).toBe(0);
    bench.add(makeDirectory('d'), REST);
    bench.add(remove('d/f', 'x'), REST);
    bench.add(removeDirectory('d'), REST);
    expect(bench.queue.size).toBe(3);
  });

  test('what is under way is not taken back', async () => {
    const bench = later();
    bench.add(put('a', '1'));
    bench.add(remove('a', provisional('1')));
    expect(bench.queue.size).toBe(2);
    await bench.end('put a');
    expect(bench.begun.at(-1)).toBe('remove a');
  });

  test('what was taken back behind something under way is never begun', async () => {
    const bench = later();
    bench.add(put('a', '1'));
    bench.add(put('a', '2', match(provisional('1'))));
    bench.add(remove('a', provisional('2')));
    await bench.end('put a');
    expect(bench.begun).toEqual(['put a', 'remove a']);
  });

  test('nor is what may have reached the store', async () => {
    const bench = later();
    bench.add(put('a', '1'));
    const error = new MirageError('no answer', { errno: 'EHOSTDOWN', outcomeUnknown: true });
    await bench.end('put a', { kind: 'failed', error, everything: true });
    bench.add(remove('a', provisional('1')));
    expect(bench.waiting.map(({ kind }) => kind)).toEqual(['put', 'remove']);
  });
});

describe('when the store does not answer', () => {
  const down = new MirageError('down', { errno: 'EHOSTDOWN', retryable: true });

  test('everything waits, and goes on by itself', async () => {
    const bench = new Bench(1);
    bench.add(put('a', '1'));
    bench.add(put('b', '2'));
    await bench.end('put a', { kind: 'failed', error: down, everything: true });
    expect(bench.running.size).toBe(0);
    await bench.time.advance(1000);
    expect(bench.running.size).toBe(1);
  });

  test('a barrier tries at once, and says so when it cannot be', async () => {
    const bench = new Bench();
    bench.add(put('a', '1'));
    await bench.end('put a', { kind: 'failed', error: down, everything: true });
    const settled = bench.queue.settle('a').then(
      () => 'stored',
      (error: MirageError) => error.errno,
    );
    await bench.end('put a', { kind: 'failed', error: down, everything: true });
    expect(await settled).toBe('EHOSTDOWN');
  });

  test('what somebody must mend keeps nothing else waiting', async () => {
    const bench = new Bench(1);
    bench.add(put('a', '1'));
    bench.add(put('b', '2'));
    const denied = new MirageError('denied', { errno: 'EACCES' });
    await bench.end('put a', { kind: 'failed', error: denied, everything: false });
    expect([...bench.running.keys()]).toEqual(['put b']);
  });
});

test('a file that is written on is not sent until it is committed again', async () => {
  const bench = new Bench();
  const [work] = bench.add(put('a', '1'), 1000);
  bench.queue.hold((work as Work).sequence);
  await bench.time.advance(5000);
  expect(bench.running.size).toBe(0);
  bench.add(put('a', '2', match(provisional('1'))));
  expect(bench.begun).toEqual(['put a']);
  expect(bench.queue.size).toBe(1);
});
