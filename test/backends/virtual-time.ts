import type { Clock } from '../../src/clock/clock.js';
import type { Timers } from '../../src/clock/timers.js';

/** Time that stands still until a test moves it. */
export class VirtualTime implements Clock, Timers {
  #now = 0;
  readonly #timers = new Set<{ readonly at: number; readonly callback: () => void }>();

  monotonic(): number {
    return this.#now;
  }

  wall(): number {
    return this.#now;
  }

  /** Timers that wait. */
  get waiting(): number {
    return this.#timers.size;
  }

  after(milliseconds: number, callback: () => void): { cancel(): void } {
    const timer = { at: this.#now + milliseconds, callback };
    this.#timers.add(timer);
    return { cancel: () => this.#timers.delete(timer) };
  }

  /** Lets everything run that can, and then what becomes due within so many milliseconds, one after the other. */
  async advance(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds;
    for (;;) {
      await settled();
      const [next] = [...this.#timers].filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#now = next.at;
      next.callback();
    }
    this.#now = end;
  }
}

/** Resolves when all promises that can make progress have made it. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
