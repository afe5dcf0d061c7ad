import type { Inode } from './inode.js';

/** Milliseconds from a failure to the next attempt: doubled each time up to the longest, until one succeeds. */
const FIRST_PAUSE = 5000;
const LONGEST_PAUSE = 60_000;

/** What could not be brought to the store behind programs' backs is tried again, all of it together; no timer runs without need. */
export class Retries {
  readonly #again: (inode: Inode) => void;
  readonly #waiting = new Set<Inode>();
  #pause = FIRST_PAUSE;
  #timer: NodeJS.Timeout | undefined;

  constructor(again: (inode: Inode) => void) {
    this.#again = again;
  }

  add(inode: Inode): void {
    this.#waiting.add(inode);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
      const waiting = [...this.#waiting];
      this.#waiting.clear();
      for (const each of waiting) this.#again(each);
    }, this.#pause).unref();
  }

  /** The store takes changes (again). */
  succeeded(): void {
    this.#pause = FIRST_PAUSE;
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waiting.clear();
  }
}
