import { MirageError } from '../../errors/mirage-error.js';
import type { ByteSink, Validator } from '../contract.js';

/** Bytes that are held back until they are known to be of the right version. */
const HELD = 8 * 2 ** 20;

/** The validator is a digest of the content: the server tells versions apart by nothing else. */
export const isDigest = (validator: Validator): boolean => validator.startsWith('sha256-');

/**
 * A sink for content whose version is known by its digest alone, thus only when all of it has come. What fits is held back until then; what
 * does not fit is passed on, and its read fails in the end if it was another version.
 */
export class Verified implements ByteSink {
  readonly #sink: ByteSink;
  readonly #expected: Validator;
  #held: Uint8Array[] | undefined = [];
  #bytes = 0;

  constructor(sink: ByteSink, expected: Validator) {
    this.#sink = sink;
    this.#expected = expected;
  }

  write(chunk: Uint8Array): void | Promise<void> {
    if (this.#held === undefined) return this.#sink.write(chunk);
    this.#held.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes > HELD) return this.#release();
  }

  /** `digest` is that of the whole object. ESTALE: it is another version. */
  async settle(digest: string | undefined, key: string): Promise<void> {
    if (`sha256-${digest}` !== this.#expected) {
      throw new MirageError(`${key} is another version by now`, { errno: 'ESTALE' });
    }
    await this.#release();
  }

  async #release(): Promise<void> {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const chunk of held) await this.#sink.write(chunk);
  }
}
