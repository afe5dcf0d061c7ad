import type { Request } from './request.js';
import { isEnding } from './tasks.js';

/** How often a program that was interrupted while it waits is looked at again, milliseconds. */
const RECHECK = 200;

/**
 * Decides which interrupts end a call. The kernel sends one for any signal, but a program that handles a signal (a timer, a child's end)
 * does not expect `stat` or `read` of a file to fail with EINTR, as they never do on a disk. So only a task that is about to end is
 * interrupted. The kernel tells of a request's first signal only; while such a request waits, its task is looked at again.
 */
export class Interrupts {
  readonly #end: (request: Request) => void;
  readonly #watched = new Set<Request>();
  #timer: NodeJS.Timeout | undefined;

  /** `end` is called at most once for a request. */
  constructor(end: (request: Request) => void) {
    this.#end = end;
  }

  /** The kernel says that a signal came for the task of a request. */
  signalled(request: Request): void {
    if (isEnding(request.pid)) {
      this.#watched.delete(request);
      this.#end(request);
    } else {
      this.#watched.add(request);
      this.#timer ??= setInterval(() => this.#recheck(), RECHECK).unref();
    }
  }

  /** The request has been answered. */
  settled(request: Request): void {
    if (this.#watched.delete(request) && this.#watched.size === 0) this.close();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#watched.clear();
  }

  #recheck(): void {
    for (const request of this.#watched) {
      if (!isEnding(request.pid)) continue;
      this.#watched.delete(request);
      this.#end(request);
    }
    if (this.#watched.size === 0) this.close();
  }
}
