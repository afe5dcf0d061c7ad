import type { Output } from './output.js';

/** Milliseconds between two pictures of how far it is. */
const INTERVAL = 200;
const ERASE_LINE = '\r\u001B[K';
const BAR = 24;
const COLUMNS = 80;

/** Where a picture is drawn: standard error, when that is a terminal. */
export interface Terminal {
  readonly isTTY?: boolean;
  /** Characters of a line. */
  readonly columns?: number;
  write(text: string): unknown;
}

/** How far something is: a bar that grows on a terminal, one line at the end everywhere. */
export class Progress {
  readonly #output: Pick<Output, 'line'>;
  readonly #done: string;
  readonly #terminal: Terminal;
  #files = 0;
  #bytes = 0;
  #expected = 0;
  #shownAt = Number.NEGATIVE_INFINITY;

  /** `done`: what happened to the files, as a word. */
  constructor(output: Pick<Output, 'line'>, done: string, terminal: Terminal = process.stderr) {
    this.#output = output;
    this.#done = done;
    this.#terminal = terminal;
  }

  /** Somebody sees how far it is. */
  get isShown(): boolean {
    return this.#terminal.isTTY === true;
  }

  /** So many bytes more belong to the whole. */
  expect(bytes: number): void {
    this.#expected += bytes;
    this.#show();
  }

  add(files: number, bytes: number): void {
    this.#files += files;
    this.#bytes += bytes;
    this.#show();
  }

  end(): void {
    if (this.isShown) this.#terminal.write(ERASE_LINE);
    this.#output.line(`${this.#files} files, ${mebibytes(this.#bytes)} MiB ${this.#done}`);
  }

  #show(): void {
    const now = performance.now();
    if (!this.isShown || now - this.#shownAt < INTERVAL) return;
    this.#shownAt = now;
    const text = `${this.#bar()}${this.#files} files, ${this.#amount()} MiB ${this.#done}`;
    // A line that wraps cannot be erased.
    this.#terminal.write(`${ERASE_LINE}${text.slice(0, (this.#terminal.columns ?? COLUMNS) - 1)}`);
  }

  #bar(): string {
    if (this.#expected === 0) return '';
    // What is found while it goes on makes the whole larger.
    const part = Math.min(1, this.#bytes / this.#expected);
    const filled = Math.floor(part * BAR);
    const percent = String(Math.floor(part * 100)).padStart(3);
    return `[${'#'.repeat(filled)}${'-'.repeat(BAR - filled)}] ${percent} %  `;
  }

  #amount(): string {
    const done = mebibytes(this.#bytes);
    return this.#expected === 0 ? done : `${done} of ${mebibytes(this.#expected)}`;
  }
}

const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
