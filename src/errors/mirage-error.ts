import { type ErrnoName, errno, errnoName } from './errno.js';

export interface MirageErrorDetails {
  /** What a program on the mount gets to see. */
  errno: ErrnoName;
  /** The same call may succeed later without anybody changing anything. */
  retryable?: boolean;
  /** The request may or may not have been carried out (a broken connection, a 5xx): read back before trying again. */
  outcomeUnknown?: boolean;
  /** One sentence that says what to do. */
  hint?: string;
  cause?: unknown;
}

/**
 * The one error of the project: an errno for the program, a message and a hint for the person.
 * Backends map the errors of their SDK to it in one function each. Never carries a secret.
 */
export class MirageError extends Error {
  override readonly name = 'MirageError';
  readonly errno: ErrnoName;
  readonly retryable: boolean;
  readonly outcomeUnknown: boolean;
  readonly hint: string | undefined;

  constructor(message: string, details: MirageErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.errno = details.errno;
    this.retryable = details.retryable ?? false;
    this.outcomeUnknown = details.outcomeUnknown ?? false;
    this.hint = details.hint;
  }

  /** The error number of the host. */
  get code(): number {
    return errno[this.errno];
  }

  static is(error: unknown, name?: ErrnoName): error is MirageError {
    return error instanceof MirageError && (name === undefined || error.errno === name);
  }

  /** A failed system call: `call` names it for the reader of the log, `number` is its errno (positive). */
  static system(call: string, number: number, cause?: unknown): MirageError {
    const name = errnoName(number);
    return new MirageError(`${call}: ${name}`, { errno: name as ErrnoName, cause });
  }
}

/** The error number that a program sees for whatever was thrown: `EIO` for what nobody mapped. */
export function errnoOf(error: unknown): number {
  if (error instanceof MirageError) return error.code;
  if (error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code in errno) {
    return errno[error.code as ErrnoName];
  }
  if (error instanceof Error && error.name === 'AbortError') return errno.EINTR;
  return errno.EIO;
}

/** What crosses a thread boundary in place of a MirageError. */
export interface PlainError {
  message: string;
  errno: ErrnoName;
  retryable: boolean;
  outcomeUnknown: boolean;
  hint: string | undefined;
}

export function toPlainError(error: unknown): PlainError {
  if (error instanceof MirageError) {
    const { message, errno: name, retryable, outcomeUnknown, hint } = error;
    return { message, errno: name, retryable, outcomeUnknown, hint };
  }
  const message = error instanceof Error ? error.message : String(error);
  return {
    message,
    errno: errnoName(errnoOf(error)) as ErrnoName,
    retryable: false,
    outcomeUnknown: false,
    hint: undefined,
  };
}

export function fromPlainError(plain: PlainError): MirageError {
  const { message, ...details } = plain;
  return new MirageError(message, details);
}
