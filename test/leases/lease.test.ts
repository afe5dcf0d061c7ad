/** One lock object, several hosts, and time that a test moves: what a holder may believe, and who comes next. */
import { beforeEach, describe, expect, test } from '@jest/globals';
import { VirtualTime } from '../backends/virtual-time.js';
import { errorOf } from '../vfs-object/tree.js';
import { FakeStore, type Fate } from './fake-store.js';
import { Host, NAME } from './host.js';

const TERM = 9000;
let time: VirtualTime;
let store: FakeStore;
let ticket = 0;
beforeEach(() => {
  time = new VirtualTime();
  store = new FakeStore(time);
});

/** Moves time until the promise is settled; says how. */
async function outcome(promise: Promise<unknown>, within = 10 * TERM): Promise<string> {
  let ended: string | undefined;
  void errorOf(promise).then((name) => {
    ended = name;
  });
  for (let waited = 0; waited <= within; waited += 10) {
    await time.advance(10);
    if (ended !== undefined) return ended;
  }
  return 'still waiting';
}

const take = (host: Host, limit = 60_000): [number, Promise<string>] => {
  const mine = ++ticket;
  return [mine, outcome(host.lease.acquire(mine, limit))];
};

async function held(host: Host): Promise<number> {
  const [mine, taken] = take(host);
  expect(await taken).toBe('success');
  expect(host.believes).toBe(true);
  return mine;
}

const record = () => store.locks.get(NAME)?.record;

describe('a lease', () => {
  test('is taken by the first, and by the next one when it is given back, with a higher epoch', async () => {
    const a = new Host('a', store);
    const b = new Host('b', store);
    const ticket = await held(a);
    expect(record()).toMatchObject({ of: NAME, epoch: 1, owner: 'a', released: false });
    const waiting = outcome(b.lease.acquire(99, 60_000));
    await time.advance(2000);
    expect(b.believes).toBe(false);
    void a.lease.release(ticket);
    expect(await waiting).toBe('success');
    expect(a.believes).toBe(false);
    expect(record()).toMatchObject({ epoch: 2, owner: 'b' });
  });

  test('is shared by all of one host, and goes with the last', async () => {
    const a = new Host('a', store);
    const first = await held(a);
    const requests = store.requests;
    const second = await held(a);
    expect(store.requests).toBe(requests);
    await outcome(a.lease.release(first));
    expect(a.believes).toBe(true);
    await outcome(a.lease.release(second));
    expect(record()).toMatchObject({ epoch: 1, released: true });
    // The object stays: nothing begins anew.
    await held(a);
    expect(record()).toMatchObject({ epoch: 2, released: false });
  });

  test('is renewed for as long as it is held', async () => {
    const a = new Host('a', store);
    await held(a);
    for (let passed = 0; passed < 10 * TERM; passed += 500) {
      await time.advance(500);
      expect(a.believes).toBe(true);
    }
    expect(record()?.renewals).toBeGreaterThan(20);
    expect(record()?.renewals).toBeLessThan(40);
  });

  test('that nobody gives back is taken when its term has passed, and not before', async () => {
    const a = new Host('a', store);
    const b = new Host('b', store);
    await held(a);
    a.stop(false);
    const began = time.monotonic();
    const [, taken] = take(b);
    expect(await taken).toBe('success');
    expect(time.monotonic() - began).toBeGreaterThanOrEqual(TERM);
    expect(time.monotonic() - began).toBeLessThan(TERM * 1.2);
    a.resume();
    expect(a.believes).toBe(false);
    await time.advance(TERM);
    expect(a.believes).toBe(false);
    expect(b.believes).toBe(true);
    expect(record()).toMatchObject({ epoch: 2, owner: 'b' });
  });

  test('is not believed in after the host slept, before anything was asked', async () => {
    const a = new Host('a', store);
    await held(a);
    a.stop(true);
    await time.advance(TERM * 2);
    a.resume();
    expect(a.believes).toBe(false);
    // Nobody has taken it: it is renewed, and goes on.
    await time.advance(TERM);
    expect(a.believes).toBe(true);
    expect(record()).toMatchObject({ epoch: 1, owner: 'a' });
  });

  test('of a killed process is taken at once by its successor, for others when its term has passed', async () => {
    const a = new Host('a', store);
    await held(a);
    a.crash();
    expect(a.believes).toBe(false);
    const began = time.monotonic();
    await held(a);
    expect(time.monotonic() - began).toBeLessThan(100);
    expect(record()).toMatchObject({ epoch: 2, owner: 'a' });
  });

  test('of another state directory of the same name is a stranger’s', async () => {
    await held(new Host('a', store));
    const [, taken] = take(new Host('a', store), 5000);
    expect(await taken).toBe('ETIMEDOUT');
  });

  test('is refused at once to who does not wait, and in time to who does', async () => {
    const a = new Host('a', store);
    const b = new Host('b', store);
    const mine = await held(a);
    expect(await outcome(b.lease.acquire(50, 0), 100)).toBe('EAGAIN');
    expect(await outcome(b.lease.acquire(51, 4000), 4100)).toBe('ETIMEDOUT');
    const cancelled = b.lease.acquire(52, 60_000);
    void time.advance(100).then(() => b.lease.release(52));
    expect(await outcome(cancelled, 300)).toBe('ECANCELED');
    await outcome(a.lease.release(mine));
    expect(await outcome(b.lease.acquire(53, 0), 100)).toBe('success');
  });

  test('who asks without waiting learns all the same that a holder is dead', async () => {
    const a = new Host('a', store);
    const b = new Host('b', store);
    await held(a);
    a.stop(false);
    const answers: string[] = [];
    for (let passed = 0; passed < TERM * 1.2; passed += 1000) {
      answers.push(await outcome(b.lease.acquire(++ticket, 0), 100));
      await time.advance(1000);
    }
    expect(answers[0]).toBe('EAGAIN');
    expect(answers.at(-1)).toBe('success');
  });

  test('goes to and fro where programs of two hosts want it all the time', async () => {
    const hosts = [new Host('a', store), new Host('b', store)];
    const turns = new Map<Host, number>();
    let done = false;
    // Three programs of each host, so that one of them always has it.
    const programs = hosts.flatMap((host) =>
      [0, 1, 2].map(async (index) => {
        for (let mine = index * 1000; !done; mine += 1) {
          const id = hosts.indexOf(host) * 10_000 + mine;
          await host.lease.acquire(id, 600_000);
          turns.set(host, (turns.get(host) ?? 0) + 1);
          await new Promise<void>((resolve) => void time.after(200, resolve));
          void host.lease.release(id);
        }
      }),
    );
    await time.advance(20 * TERM);
    done = true;
    await time.advance(3 * TERM);
    await Promise.all(programs);
    const [a = 0, b = 0] = hosts.map((host) => turns.get(host));
    expect(Math.min(a, b)).toBeGreaterThan(50);
  });

  test('an answer that was lost is found out by reading', async () => {
    const fates: Fate['wrong'][] = ['nothing', 'answer lost', 'nothing', 'lost', 'answer lost'];
    const fate = (): Fate => ({ there: 1, back: 1, wrong: fates.shift() ?? 'nothing', again: 0 });
    const a = new Host('a', store, { fate });
    const mine = await held(a);
    expect(record()).toMatchObject({ epoch: 1, owner: 'a' });
    await time.advance(TERM * 2);
    expect(a.believes).toBe(true);
    fates.push('answer lost');
    await outcome(a.lease.release(mine));
    expect(record()).toMatchObject({ released: true });
  });

  test('a renewal that was carried out at the first try counts from there', async () => {
    const fates: Fate['wrong'][] = ['nothing', 'nothing'];
    const fate = (): Fate => ({ there: 1, back: 1, wrong: fates.shift() ?? 'refused', again: 0 });
    const a = new Host('a', store, { fate });
    const b = new Host('b', store);
    await held(a);
    // It arrives, and nobody here hears of it for almost a term.
    fates.push('answer lost', ...Array<Fate['wrong']>(6).fill('refused'), 'nothing', 'nothing');
    await time.advance(TERM * 0.4);
    const [, taken] = take(b);
    let handedOver = false;
    void taken.then(() => {
      handedOver = true;
    });
    for (let passed = 0; passed < 3 * TERM && !handedOver; passed += 10) {
      await time.advance(10);
      expect(a.believes && b.believes).toBe(false);
    }
    expect(record()).toMatchObject({ epoch: 2, owner: 'b' });
  });

  test('a lease whose grant was long on its way counts from when it was asked for', async () => {
    const fates: Fate[] = [
      { there: 1, back: 1, wrong: 'nothing', again: 0 },
      { there: 1, back: TERM / 2, wrong: 'nothing', again: 0 },
    ];
    const fate = (): Fate => fates.shift() ?? { there: 1, back: 1, wrong: 'refused', again: 0 };
    const a = new Host('a', store, { fate });
    const b = new Host('b', store);
    const [, granted] = take(a);
    await time.advance(10);
    const [, taken] = take(b);
    let handedOver = false;
    void taken.then(() => {
      handedOver = true;
    });
    for (let passed = 0; passed < 2 * TERM && !handedOver; passed += 10) {
      await time.advance(10);
      expect(a.believes && b.believes).toBe(false);
    }
    expect(await granted).toBe('success');
    expect(record()).toMatchObject({ epoch: 2, owner: 'b' });
  });

  test('a store out of reach ends the belief in time, and the waiting with its reason', async () => {
    let broken = false;
    const fate = (): Fate => ({ there: 1, back: 1, wrong: broken ? 'refused' : 'nothing', again: 0 });
    const a = new Host('a', store, { fate });
    await held(a);
    broken = true;
    await time.advance(TERM);
    expect(a.believes).toBe(false);
    expect(await outcome(a.lease.acquire(77, 60_000), 1000)).toBe('EIO');
    broken = false;
    await time.advance(TERM);
    expect(a.believes).toBe(true);
  });
});
