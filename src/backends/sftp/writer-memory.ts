import type { Validator } from '../contract.js';

const KEPT = 1024;

/**
 * The nonces of our latest changes, for a server that keeps none: an answer that was lost between us and our caller can be read back. What another
 * process has changed since has another version, and no nonce.
 */
export class WriterMemory {
  readonly #latest = new Map<
    string,
    { readonly writer: string; readonly validator: Validator | undefined }
  >();

  add(key: string, writer: string | undefined, validator: Validator | undefined): void {
    this.#latest.delete(key);
    if (writer === undefined) return;
    this.#latest.set(key, { writer, validator });
    if (this.#latest.size > KEPT) this.#latest.delete(this.#latest.keys().next().value!);
  }

  /** `validator`: of what is there now; undefined for a directory, whose time changes with its entries. */
  of(key: string, validator: Validator | undefined): string | undefined {
    const change = this.#latest.get(key);
    if (change === undefined) return undefined;
    return validator === undefined || change.validator === validator ? change.writer : undefined;
  }
}
