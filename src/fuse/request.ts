import type { Call } from '../vfs/operations.js';

/**
 * One request of the kernel, from its arrival to its one answer. While it is answered synchronously the session uses the same
 * object for every request; one that goes on asynchronously keeps its own.
 */
export class Request implements Call {
  uniqueLow = 0;
  uniqueHigh = 0;
  opcode = 0;
  node = 0;
  uid = 0;
  gid = 0;
  pid = 0;
  requestedMode: number | undefined = undefined;
  /** An interrupt may be answered for it: nothing has changed that the program must learn of. */
  interruptible = false;
  #answered = false;
  #controller: AbortController | undefined;

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    return this.#controller.signal;
  }

  /** The number that an INTERRUPT names; the bit of a resent request (63) is not part of it. */
  get key(): number {
    return (this.uniqueHigh & 0x1f_ffff) * 0x1_0000_0000 + this.uniqueLow;
  }

  /** True for the one who may answer. */
  claim(): boolean {
    if (this.#answered) return false;
    this.#answered = true;
    return true;
  }

  abort(): void {
    this.#controller ??= new AbortController();
    this.#controller.abort();
  }
}
