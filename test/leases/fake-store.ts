import type { Precondition } from '../../src/backends/contract.js';
import { sleep } from '../../src/clock/timers.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import type { FoundLock, LockObjects } from '../../src/leases/lock-objects.js';
import type { LockRecord } from '../../src/leases/lock-record.js';
import type { VirtualTime } from '../backends/virtual-time.js';

/** What becomes of one request: how long it travels there and back, milliseconds, and what goes wrong on the way. */
export interface Fate {
  readonly there: number;
  readonly back: number;
  readonly wrong: 'nothing' | 'lost' | 'answer lost' | 'twice' | 'refused';
  /** Milliseconds between the two arrivals of a request that arrives twice. */
  readonly again: number;
}

const SMOOTH: Fate = { there: 1, back: 1, wrong: 'nothing', again: 0 };
const NEVER = new AbortController().signal;

/** Lock objects of one store as many hosts reach it. Its versions are hashes of what they hold, as ETags are. */
export class FakeStore {
  readonly locks = new Map<string, FoundLock>();
  /** Every epoch that was taken, in order. */
  readonly epochs: number[] = [];
  requests = 0;

  constructor(readonly time: VirtualTime) {}

  /** The store as one host reaches it; `fate` is asked for each request. */
  reach(fate: () => Fate = () => SMOOTH): LockObjects {
    return {
      read: (name, signal) => this.#travel(fate(), signal, () => this.locks.get(name)),
      write: (name, record, precondition, signal) =>
        this.#travel(fate(), signal, () => this.#write(name, record, precondition)),
    };
  }

  #write(name: string, record: LockRecord, precondition: Precondition): FoundLock {
    const found = this.locks.get(name);
    const holds =
      precondition.kind === 'absent'
        ? found === undefined
        : precondition.kind === 'match' && found?.validator === precondition.validator;
    if (!holds) throw new MirageError('another version', { errno: 'ESTALE' });
    const written = { record, validator: JSON.stringify(record) };
    this.locks.set(name, written);
    if (record.epoch !== found?.record.epoch) this.epochs.push(record.epoch);
    return written;
  }

  async #travel<T>({ there, back, wrong, again }: Fate, signal: AbortSignal, act: () => T): Promise<T> {
    this.requests++;
    // What is under way arrives, whether somebody still waits for it or not.
    const arrival = (async () => {
      await sleep(this.time, there, NEVER);
      if (wrong === 'refused') throw new MirageError('busy', { errno: 'EIO', retryable: true });
      if (wrong === 'lost') throw unknown();
      const answer = act();
      if (wrong === 'twice') {
        this.time.after(again, () => {
          try {
            act();
          } catch {
            // Nobody hears of it.
          }
        });
      }
      await sleep(this.time, back, NEVER);
      if (wrong === 'answer lost') throw unknown();
      return answer;
    })();
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(unknown()), { once: true });
    });
    arrival.catch(() => undefined);
    aborted.catch(() => undefined);
    return Promise.race([arrival, aborted]);
  }
}

const unknown = () => new MirageError('no answer', { errno: 'EIO', outcomeUnknown: true });
