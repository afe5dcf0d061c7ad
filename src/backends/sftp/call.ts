import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import { MirageError } from '../../errors/mirage-error.js';

/** A request that waits for its answer. */
export interface Waiting {
  /** Rejects the request with what made its caller give up; its answer is thrown away when it comes. */
  giveUp(reason: MirageError): void;
}

/** The calls of each signal, which may be one for all of them: it is listened to once. */
const callsOf = new WeakMap<AbortSignal, Set<Call>>();

function callsOn(signal: AbortSignal): Set<Call> {
  const known = callsOf.get(signal);
  if (known !== undefined) return known;
  const calls = new Set<Call>();
  callsOf.set(signal, calls);
  const giveUp = (): void => {
    for (const call of calls) call.giveUp();
  };
  signal.addEventListener('abort', giveUp, { once: true });
  return calls;
}

/** One operation of a caller and the requests it has sent. */
export class Call implements Disposable {
  readonly #waiting = new Set<Waiting>();
  readonly #signal: AbortSignal;
  readonly #calls: Set<Call>;

  /** Throws at once when the signal was given before. */
  constructor(signal: AbortSignal) {
    if (signal.aborted) throw abortReason(signal);
    this.#signal = signal;
    this.#calls = callsOn(signal);
    this.#calls.add(this);
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

  giveUp(): void {
    const reason = abortReason(this.#signal);
    for (const request of this.#waiting) request.giveUp(reason);
    this.#waiting.clear();
  }

  /** For what must still be done when the caller is gone: nothing aborts it. */
  beyond(): Call {
    return new Call(UNINTERRUPTED.signal);
  }

  throwIfAborted(): void {
    if (this.#signal.aborted) throw abortReason(this.#signal);
  }

  [Symbol.dispose](): void {
    this.#calls.delete(this);
  }
}

export function abortReason(signal: AbortSignal): MirageError {
  const { reason } = signal;
  return MirageError.is(reason) ? reason : new MirageError('aborted', { errno: 'EINTR', cause: reason });
}
