import type { Deadline } from './deadline.js';

/** A lock that was taken, for as long as it is renewed. */
export interface Grant {
  /** Fencing token, one more with every holder; undefined where the store itself keeps leases and counts none. */
  readonly epoch: number | undefined;
  /** Of this grant alone. */
  readonly nonce: string;
  /** Until then nobody else can have it. */
  readonly deadline: Deadline;
  /** Another host waits for it. */
  readonly wanted: boolean;
}

export type Attempt<G extends Grant = Grant> =
  | { readonly granted: G }
  /** Who has it, as far as that is known. */
  | { readonly holder: string };

/** One way to have a lock on a store. Failures are MirageError; a lock whose outcome is unknown is nobody's until its term is over. */
export interface LockMethod<G extends Grant = Grant> {
  /** Milliseconds that a grant lasts. */
  readonly term: number;
  /** Tries once. `ask`: who has it is told that somebody waits, where there are means to. */
  attempt(name: string, ask: boolean, signal: AbortSignal): Promise<Attempt<G>>;
  /** undefined: another one has it, and it is lost for good. May be tried again after a failure, also after the deadline. */
  renew(name: string, grant: G, signal: AbortSignal): Promise<G | undefined>;
  /** Whoever comes next need not wait. */
  release(name: string, grant: G, signal: AbortSignal): Promise<void>;
}
