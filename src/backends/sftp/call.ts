import { MirageError } from '../../errors/mirage-error.js';

/** A request that waits for its answer. */
export interface Waiting {
  /** Rejects the request with what made its caller give up; its answer is thrown away when it comes. */
  giveUp(reason: MirageError): void;
}

/**
 * One operation of a caller and the requests it has sent: its signal is listened to once, however many they are.
 */
export class Call implements Disposable {
  readonly #waiting = new Set<Waiting>();
  readonly #signal: AbortSignal;
  readonly #listener = (): void => {
    const reason = abortReason(this.#signal);
    for (const request of this.#waiting) request.giveUp(reason);
    this.#waiting.clear();
  };

  /** Throws at once when the signal was given before. */
  constructor(signal: AbortSignal) {
    if (signal.aborted) throw abortReason(signal);
    this.#signal = signal;
    signal.addEventListener('abort', this.#listener, { once: true });
  }

  get signal(): AbortSignal {
    return this.#signal;
  }

  add(request: Waiting): void {
    this.#waiting.add(request);
  }

  delete(request: Waiting): void {
    this.#waiting.delete(request);
  }

  /** For what must still be done when the caller is gone: nothing aborts it. */
  beyond(): Call {
    return new Call(new AbortController().signal);
  }

  throwIfAborted(): void {
    if (this.#signal.aborted) throw abortReason(this.#signal);
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener('abort', this.#listener);
  }
}

export function abortReason(signal: AbortSignal): MirageError {
  const { reason } = signal;
  return MirageError.is(reason) ? reason : new MirageError('aborted', { errno: 'EINTR', cause: reason });
}
