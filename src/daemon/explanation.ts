import type { ErrnoName } from '../errors/errno.js';
import { MirageError, toPlainError } from '../errors/mirage-error.js';

/** An error as a person reads it, and as it crosses from one process or thread to another. */
export interface Explanation {
  readonly errno: ErrnoName;
  readonly what: string;
  readonly why: string;
  readonly remedy: string;
}

export function explain(error: unknown): Explanation {
  const { errno, message, hint } = toPlainError(error);
  const reasons: string[] = [];
  let cause = error instanceof Error ? error.cause : undefined;
  for (; cause instanceof Error && reasons.length < 3; cause = cause.cause) {
    if (!reasons.includes(cause.message) && cause.message !== message) reasons.push(cause.message);
  }
  return {
    errno,
    what: message,
    why: reasons.join(': ') || errno,
    remedy: hint ?? 'see what is wrong: mirage doctor',
  };
}

export const fromExplanation = ({ errno, what, why, remedy }: Explanation): MirageError =>
  new MirageError(what, { errno, hint: remedy, cause: new Error(why) });
