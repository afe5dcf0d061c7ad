/** How many bytes may wait for their store: whoever brings more waits until some have gone. */
import { MirageError } from '../../../errors/mirage-error.js';

export class Admission {
  readonly #limit: number;
  readonly #drain: () => Promise<void>;
  /** Bytes of all files that wait. */
  #staged = 0;
  #whenLess: (() => void)[] = [];

  /** `drain` tries to bring all to the store, and resolves when nothing more can be done for the moment. */
  constructor(limit: number, drain: () => Promise<void>) {
    this.#limit = limit;
    this.#drain = drain;
  }

  /** Counts bytes that wait already. */
  count(bytes: number): void {
    this.#staged += bytes;
  }

  /** Waits until there is room for more bytes, and counts them. ENOSPC: nothing makes room. */
  async admit(bytes: number): Promise<void> {
    while (this.#staged > 0 && this.#staged + bytes > this.#limit) {
      const less = new Promise<void>((resolve) => this.#whenLess.push(resolve));
      const before = this.#staged;
      await Promise.race([less, this.#drain()]);
      if (this.#staged < before) continue;
      throw new MirageError(`${this.#limit} bytes wait for their store, which does not take them`, {
        errno: 'ENOSPC',
        hint: 'see .mirage/last-error for what keeps the store from taking them, or raise cache.size',
      });
    }
    this.#staged += bytes;
  }

  /** They do not wait any more. */
  release(bytes: number): void {
    this.#staged -= bytes;
    const waiting = this.#whenLess;
    this.#whenLess = [];
    for (const tell of waiting) tell();
  }
}
