import { sleep, systemTimers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type { Precondition } from '../contract.js';
import type { Lock, Locks } from './locks.js';
import { entityTag, isByTime } from './properties.js';

/** How long another writer's lock is waited for, milliseconds, and the longest pause between two tries. */
export const PATIENCE = 10_000;
const LONGEST_PAUSE = 400;
const LOST_ANSWERS = 3;

/** Takes locks with patience, keeps them alive, gives them back. */
export class LockHolder {
  readonly #locks: Locks;
  readonly #conditional: boolean;
  readonly #log: Log;

  /** `conditional`: the server refuses a lock on a resource that does not meet a condition. */
  constructor(locks: Locks, conditional: boolean, log: Log) {
    this.#locks = locks;
    this.#conditional = conditional;
    this.#log = log;
  }

  /** Waits while another writer has it. ESTALE: the precondition does not hold, where the server can tell. */
  async acquire(path: string, precondition: Precondition, signal: AbortSignal): Promise<Lock> {
    const conditions = this.#conditional ? conditionsOfLock(precondition) : {};
    const deadline = performance.now() + PATIENCE;
    let pause = 10;
    for (let lost = 0; ; ) {
      try {
        return await this.#locks.lock({ path, conditions, signal });
      } catch (error) {
        if (!MirageError.is(error)) throw error;
        const passing = error.errno === 'EBUSY' || (error.outcomeUnknown && lost++ < LOST_ANSWERS);
        if (!passing || signal.aborted || performance.now() > deadline) throw error;
        // Nobody else here can hold one on this path.
        if (await this.#locks.unlockForgotten(path, signal)) continue;
      }
      await sleep(systemTimers, pause * (0.5 + Math.random() / 2), signal);
      pause = Math.min(LONGEST_PAUSE, pause * 2);
    }
  }

  /** Renews the lock until the function that is returned is called. */
  keep(lock: Lock): () => void {
    const renewal = setInterval(() => this.#renew(lock), lock.milliseconds / 3);
    return () => clearInterval(renewal);
  }

  async release(lock: Lock): Promise<void> {
    try {
      await this.#locks.unlock(lock, AbortSignal.timeout(PATIENCE));
    } catch (error) {
      this.#log.warn('a lock could not be given back and ends by itself', {
        path: lock.path,
        seconds: lock.milliseconds / 1000,
        reason: String(error),
      });
    }
  }

  /** An empty resource that came with the lock is not for others to find. */
  async giveUp(lock: Lock): Promise<void> {
    if (lock.created && (await this.#locks.remove(lock))) return;
    await this.release(lock);
  }

  #renew(lock: Lock): void {
    this.#locks
      .refresh(lock, undefined, AbortSignal.timeout(lock.milliseconds / 3))
      .catch((error: unknown) => {
        // The change itself will hear that the token is not valid any more.
        this.#log.warn('a lock could not be renewed', { path: lock.path, reason: String(error) });
      });
  }
}

function conditionsOfLock(precondition: Precondition): Record<string, string> {
  if (precondition.kind === 'absent') return { 'if-none-match': '*' };
  if (precondition.kind === 'match' && !isByTime(precondition.validator)) {
    return { if: `([${entityTag(precondition.validator)}])` };
  }
  return {};
}
