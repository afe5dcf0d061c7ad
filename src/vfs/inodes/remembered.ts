/** Directories of which something is remembered beside their rows; of the oldest it is found out again. */
const LIMIT = 10_000;

/** A map by directory that stays small: what came first goes first. */
export class Remembered<T> {
  readonly #values = new Map<string, T>();

  get(directory: string): T | undefined {
    return this.#values.get(directory);
  }

  set(directory: string, value: T): void {
    this.#values.set(directory, value);
    if (this.#values.size <= LIMIT) return;
    for (const oldest of this.#values.keys()) {
      this.#values.delete(oldest);
      return;
    }
  }

  delete(directory: string): void {
    this.#values.delete(directory);
  }
}
