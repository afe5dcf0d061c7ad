/**
 * Leases where everything goes wrong: hosts are killed, stopped and put to sleep, clocks run apart, requests and answers are lost, come late or
 * twice. Whatever happens, no two hosts believe at the same time, epochs rise, and no lock is lost for ever.
 */
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { VirtualTime } from '../backends/virtual-time.js';
import '../fast-check.js';
import { FakeStore, type Fate } from './fake-store.js';
import { Host } from './host.js';

const long = process.env.MIRAGE_TEST_LONG !== undefined;
const RUNS = long ? 2000 : 60;
const TERM = 9000;

const fates: fc.Arbitrary<Fate> = fc.record({
  there: fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 1, max: 50 }) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 2 * TERM }) },
  ),
  back: fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: 1, max: 50 }) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: TERM }) },
  ),
  wrong: fc.oneof(
    { weight: 6, arbitrary: fc.constant('nothing' as const) },
    { weight: 2, arbitrary: fc.constantFrom('lost', 'answer lost', 'twice', 'refused') },
  ),
  again: fc.integer({ min: 0, max: TERM }),
});

const steps = fc.record({
  host: fc.nat({ max: 2 }),
  what: fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom('acquire', 'release') },
    { weight: 2, arbitrary: fc.constantFrom('crash', 'stop', 'sleep', 'resume', 'try') },
  ),
  pause: fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 0, max: 300 }) },
    { weight: 1, arbitrary: fc.integer({ min: 300, max: 2 * TERM }) },
  ),
});

async function play(plan: readonly Step[], fateOf: () => Fate, rates: readonly number[]): Promise<void> {
  const time = new VirtualTime();
  const store = new FakeStore(time);
  let peace = false;
  const fate = (): Fate => (peace ? { there: 1, back: 1, wrong: 'nothing', again: 0 } : fateOf());
  const hosts = rates.map((rate, index) => new Host(`host ${index}`, store, { term: TERM, fate, rate }));
  const held = hosts.map(() => [] as number[]);
  let tickets = 0;

  const check = (): void => {
    const believers = hosts.filter(({ believes }) => believes).map(({ name }) => name);
    expect(believers.length).toBeLessThan(2);
  };
  async function pass(milliseconds: number): Promise<void> {
    for (let left = milliseconds; left > 0; left -= 100) {
      await time.advance(Math.min(left, 100));
      check();
    }
  }
  function acquire(index: number, limit: number): void {
    const { lease } = hosts[index] as Host;
    const ticket = ++tickets;
    const own = held[index] as number[];
    own.push(ticket);
    lease.acquire(ticket, limit).catch(() => {
      const at = own.indexOf(ticket);
      if (at >= 0) own.splice(at, 1);
    });
  }

  for (const { host: index, what, pause } of plan) {
    const host = hosts[index] as Host;
    const own = held[index] as number[];
    if (what === 'acquire') acquire(index, 20_000);
    else if (what === 'try') acquire(index, 0);
    else if (what === 'release') {
      const ticket = own.shift();
      if (ticket !== undefined) void host.lease.release(ticket);
    } else if (what === 'crash') {
      host.crash();
      own.length = 0;
    } else if (what === 'resume') host.resume();
    else host.stop(what === 'sleep');
    check();
    await pass(pause);
  }

  // When the trouble is over and everybody lets go, each of them gets it.
  for (const host of hosts) host.resume();
  peace = true;
  await pass(3 * TERM);
  for (const [index, host] of hosts.entries())
    for (const ticket of held[index] as number[]) void host.lease.release(ticket);
  await pass(3 * TERM);
  for (const host of hosts) {
    const ticket = ++tickets;
    let got = false;
    void host.lease.acquire(ticket, 60_000).then(() => {
      got = true;
    });
    await pass(2 * TERM);
    expect(got && host.believes).toBe(true);
    void host.lease.release(ticket);
    await pass(100);
  }
  const { epochs } = store;
  expect(epochs).toEqual([...epochs].sort((a, b) => a - b));
  expect(new Set(epochs).size).toBe(epochs.length);
}

interface Step {
  readonly host: number;
  readonly what: string;
  readonly pause: number;
}

test(
  'no two hosts believe at once, epochs rise, and no lock is lost for ever',
  async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(steps, { minLength: 5, maxLength: 40 }),
        fc.infiniteStream(fates),
        fc.array(fc.integer({ min: -100, max: 100 }), { minLength: 3, maxLength: 3 }),
        async (plan, stream, drifts) =>
          play(
            plan,
            () => stream.next().value as Fate,
            // Up to one percent too fast or too slow.
            drifts.map((drift) => 1 + drift / 10_000),
          ),
      ),
      { numRuns: RUNS },
    );
  },
  long ? 1_200_000 : 120_000,
);
