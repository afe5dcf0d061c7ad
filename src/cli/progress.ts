import type { Output } from './output.js';

/** Milliseconds between two lines that show how far it is. */
const INTERVAL = 200;
const ERASE_LINE = '\r\u001B[K';

/** How far something is: one line that changes on a terminal, one line at the end elsewhere. */
export class Progress {
  readonly #output: Output;
  readonly #done: string;
  readonly #onTerminal = process.stderr.isTTY === true;
  #files = 0;
  #bytes = 0;
  #shownAt = 0;

  /** `done`: what happened to the files, as a word. */
  constructor(output: Output, done: string) {
    this.#output = output;
    this.#done = done;
  }

  add(files: number, bytes: number): void {
    this.#files += files;
    this.#bytes += bytes;
    const now = performance.now();
    if (!this.#onTerminal || now - this.#shownAt < INTERVAL) return;
    this.#shownAt = now;
    process.stderr.write(`${ERASE_LINE}${this.#text()}`);
  }

  end(): void {
    if (this.#onTerminal) process.stderr.write(ERASE_LINE);
    this.#output.line(this.#text());
  }

  #text(): string {
    return `${this.#files} files, ${(this.#bytes / 2 ** 20).toFixed(1)} MiB ${this.#done}`;
  }
}
