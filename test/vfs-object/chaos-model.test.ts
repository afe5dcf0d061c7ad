/**
 * The model once more, over a store that answers one call in ten with 503, breaks the connection after it has acted, keeps
 * callers waiting for two seconds, which are two milliseconds here, and lists what it had a while ago.
 */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Backend } from '../../src/backends/contract.js';
import { type Call, chaos, type Fault } from '../../src/backends/layers/chaos.js';
import { ownChanges } from '../../src/backends/layers/own-changes.js';
import { readBack } from '../../src/backends/layers/read-back.js';
import { defaultRetry, retry } from '../../src/backends/layers/retry.js';
import type { Clock } from '../../src/clock/clock.js';
import { systemTimers, type Timers } from '../../src/clock/timers.js';
import { Bucket, type Honours } from './bucket.js';
import { Model, operation, show } from './model.js';
import { errorOf, Tree } from './tree.js';

const LONG = process.env.MIRAGE_TEST_LONG !== undefined;
/** For each way of writing back. */
const OPERATIONS = LONG ? 10_000 : 500;
const AT_ONCE = 50;
/** Milliseconds that a program of the test waits for what cannot be done yet. */
const PATIENCE = 20_000;

/** Milliseconds that a name is believed, and that a listing may be late. What another host changed is looked for when both have passed. */
const LIFETIME = 5000;
const LAG = 30_000;

/** A second takes a millisecond. */
const swift: Timers = {
  after: (milliseconds, callback) => systemTimers.after(milliseconds / 1000, callback),
};

/** What goes wrong is drawn from a seed, so that a failure can be seen again. */
class Chaos {
  /** Calls while things go wrong. */
  requests = 0;
  faults = 0;
  stale = 0;
  active = true;
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** Time goes on between two operations, now and then. */
  passes(): boolean {
    return this.#random() < 0.3;
  }

  over(store: Backend, clock: Clock): Backend {
    const unreliable = chaos(store, { next: (call) => this.#next(call), timers: swift, clock });
    return ownChanges(readBack(retry(unreliable, { ...defaultRetry, timers: swift })), clock);
  }

  #next({ operation }: Call): Fault {
    if (!this.active) return { kind: 'none' };
    this.requests++;
    const chance = this.#random();
    if (chance < 0.17) this.faults++;
    if (chance < 0.1) return { kind: 'unavailable' };
    if (chance < 0.15) return { kind: 'reset', bytes: Math.floor(this.#random() * 4) };
    if (chance < 0.17) return { kind: 'latency', milliseconds: 2000 };
    if (operation !== 'list' || chance < 0.6) return { kind: 'none' };
    this.stale++;
    return { kind: 'stale', milliseconds: chance < 0.8 ? this.#random() * 30 : LAG };
  }

  /** Mulberry32. */
  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** Tries until it works. */
async function persistently<T>(work: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
  }
}

/** What a second try may be told by a first one that failed after it had acted. */
const ALREADY = /^(ENOENT|EEXIST|success)$/;

for (const writeBack of ['close', 'async'] as const) {
  const stores: Honours[] = [{}, { copyAbsent: false, removeMatch: false }, { namesAnew: true }];
  test(`with writeBack ${writeBack} a tree over an unreliable bucket is a POSIX tree all the same`, async () => {
    let operations = 0;
    let requests = 0;
    let faults = 0;
    let stale = 0;
    let failures = 0;
    const runs = fc.tuple(
      fc.array(operation, { minLength: AT_ONCE, maxLength: AT_ONCE, size: 'max' }),
      fc.constantFrom(...stores),
      fc.integer(),
    );
    await fc.assert(
      fc.asyncProperty(runs, async ([steps, honours, seed]) => {
        const bucket = new Bucket(honours);
        const trouble = new Chaos(seed);
        const clock: Clock = { wall: Date.now, monotonic: () => performance.now() + tree.later };
        const backend = trouble.over(bucket, clock);
        const tree: Tree = new Tree(bucket, { writeBack, timers: swift, backend, ttl: LIFETIME });
        const model = new Model();
        const done: string[] = [];
        const settle = () => persistently(() => tree.volume.drain());
        try {
          for (const { text, run } of steps) {
            done.push(text);
            operations++;
            // Another host writes when nothing of ours is under way.
            if (/^(put|delete) /.test(text)) await settle();
            trouble.active = !/^(put|delete) /.test(text);
            let [got, wanted] = await run(tree, model, bucket);
            for (let tries = 1; got === 'EIO' && tries < 50; tries++) {
              failures++;
              done.push(`${text} (again)`);
              const before = new Model();
              [got] = await run(tree, before, bucket);
              if (ALREADY.test(got) && wanted === 'success') got = wanted;
            }
            trouble.active = true;
            if (trouble.passes()) tree.later += LIFETIME + 1;
            expect({ seed, done, result: got }).toEqual({ seed, done, result: wanted });
          }
          await settle();
          trouble.active = false;
          // A listing that came in between tells no attributes: the first look at a file does.
          await show(tree);
          expect({ seed, done, tree: await show(tree) }).toEqual({ seed, done, tree: model.show() });
          tree.later += 61_000;
          await show(tree);
          expect({ seed, done, tree: await show(tree) }).toEqual({ seed, done, tree: model.show() });
          for (const [at, line] of Object.entries(model.show())) {
            if (line === 'directory') continue;
            expect({ seed, done, at, text: bucket.text(at) }).toEqual({
              seed,
              done,
              at,
              text: line.split(' ').slice(2).join(' '),
            });
          }
          requests += trouble.requests;
          faults += trouble.faults;
          stale += trouble.stale;
        } finally {
          trouble.active = false;
          await errorOf(() => tree.close());
        }
      }),
      {
        numRuns: OPERATIONS / AT_ONCE,
        endOnFailure: process.env.MIRAGE_MODEL_SHRINK === undefined,
      },
    );
    expect(faults).toBeGreaterThan(requests / 10);
    expect(stale).toBeGreaterThan(0);
    if (LONG) {
      process.stdout.write(
        `${writeBack}: ${operations} operations, ${requests} requests, ${faults} faults, ${stale} listings that came late, ${failures} told to programs\n`,
      );
    }
  }, 1_200_000);
}
