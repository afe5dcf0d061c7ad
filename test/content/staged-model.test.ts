import { writeSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { StagedFile } from '../../src/content/contract.js';
import { ContentBench, never, readFrom } from './bench.js';
import { info, patterned } from './memory-store.js';

const LIMIT = 300_000;
const offset = fc.nat(LIMIT);
const length = fc.integer({ min: 1, max: 60_000 });

const aStep = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('write' as const), offset, length, seed: fc.nat(200) }),
  },
  fc.record({ do: fc.constant('truncate' as const), size: offset }),
  fc.record({
    do: fc.constant('allocate' as const),
    mode: fc.constantFrom(0, 1, 3, 0x10, 0x11),
    offset,
    length,
  }),
  { weight: 3, arbitrary: fc.record({ do: fc.constant('read' as const), offset, length }) },
  fc.record({ do: fc.constant('startReading' as const), offset, length }),
  fc.record({ do: fc.constant('fetched' as const), bytes: fc.constantFrom(10_000, 100_000, LIMIT) }),
  fc.record({ do: fc.constant('commit' as const) }),
  fc.record({ do: fc.constant('restage' as const) }),
);
type Step = typeof aStep extends fc.Arbitrary<infer T> ? T : never;

/** A staged file and a plain buffer that must stay equal. */
class Pair {
  model: Buffer;
  file: StagedFile;
  readonly #reads: Promise<unknown>[] = [];

  constructor(
    readonly bench: ContentBench,
    size: number,
    kept: number,
  ) {
    const bytes = patterned(size, 7);
    this.model = Buffer.from(bytes.subarray(0, kept));
    const base = bench.content.acquire(bench.store.put('key', bytes));
    this.file = bench.content.stage({ file: base, size: kept });
    base.release();
  }

  async run(step: Step): Promise<void> {
    const { file, bench } = this;
    if (step.do === 'write') {
      const bytes = Buffer.alloc(step.length, step.seed + 1);
      await file.prepareWrite(step.offset, step.length, never);
      writeSync(file.fd, bytes, 0, step.length, step.offset);
      file.wrote(step.offset, step.length);
      this.#grow(step.offset + step.length);
      bytes.copy(this.model, step.offset);
    } else if (step.do === 'truncate') {
      await file.truncate(step.size, never);
      this.#grow(step.size);
      this.model = Buffer.from(this.model.subarray(0, step.size));
    } else if (step.do === 'allocate') {
      await file.allocate(step.mode, step.offset, step.length, never);
      const end = step.offset + step.length;
      if ((step.mode & 1) === 0) this.#grow(end);
      if ((step.mode & 0x12) !== 0) this.model.subarray(step.offset, end).fill(0);
    } else if (step.do === 'startReading') {
      this.#reads.push(
        Promise.resolve(file.ensure(step.offset, step.length, bench.content.newCursor(), never)),
      );
    } else if (step.do === 'fetched') {
      for (const fetch of bench.store.held) fetch.pass(step.bytes);
      await new Promise(setImmediate);
    } else if (step.do === 'read') {
      await this.#let(
        Promise.resolve(file.ensure(step.offset, step.length, bench.content.newCursor(), never)),
      );
      const expected = this.model.subarray(step.offset, step.offset + step.length);
      expect(readFrom(file.fd, step.offset, step.length).equals(expected)).toBe(true);
    } else if (step.do === 'commit') {
      await this.#let(file.commit(this.#upload));
      expect(file.dirty).toBe(false);
    } else if (step.do === 'restage') {
      const { validator } = await this.#let(file.commit(this.#upload));
      const version = { mount: 0, key: 'key', validator: validator!, size: this.model.length };
      await Promise.allSettled(this.#reads);
      const clean = file.settle(version);
      expect(clean.complete).toBe(true);
      this.file = bench.content.stage({ file: clean, size: version.size });
      clean.release();
    }
    expect(this.file.size).toBe(this.model.length);
  }

  async end(): Promise<void> {
    await this.#let(Promise.all(this.#reads));
    await this.#let(Promise.resolve(this.file.ensureAll(never)));
    expect(readFrom(this.file.fd, 0, LIMIT * 2).equals(this.model)).toBe(true);
    this.file.discard();
  }

  readonly #upload = async (fd: number, size: number) => {
    const bytes = readFrom(fd, 0, size);
    expect(bytes.equals(this.model)).toBe(true);
    return info('key', size, this.bench.store.put('key', bytes).validator);
  };

  /** Lets fetches through until the promise has settled. */
  async #let<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const done = promise.finally(() => {
      settled = true;
    });
    while (!settled) {
      for (const fetch of this.bench.store.held) fetch.pass();
      await Promise.race([done, new Promise(setImmediate)]);
    }
    return done;
  }

  #grow(size: number): void {
    if (size > this.model.length) {
      this.model = Buffer.concat([this.model, Buffer.alloc(size - this.model.length)]);
    }
  }
}

test('random writes, truncations, holes and commits over a base that is still coming equal a plain buffer', async () => {
  await using bench = new ContentBench();
  bench.store.hold = true;
  await fc.assert(
    fc.asyncProperty(
      fc.array(aStep, { maxLength: 25 }),
      fc.nat(LIMIT),
      fc.nat(LIMIT),
      async (steps, size, kept) => {
        bench.store.held.length = 0;
        const pair = new Pair(bench, size, Math.min(size, kept));
        for (const step of steps) await pair.run(step);
        await pair.end();
        bench.content.drop(0, 'key');
      },
    ),
    { numRuns: 200 },
  );
  expect(bench.content.used).toBe(0);
}, 120_000);
