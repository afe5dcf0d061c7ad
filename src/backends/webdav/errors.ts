import { MirageError, type MirageErrorDetails } from '../../errors/mirage-error.js';

/** What was asked when it failed: the same answer means another thing for another question. */
export interface Attempt {
  readonly operation: string;
  /** What the message names: a key, or the URL of the mount. */
  readonly subject: string;
  /** A change: without a clear answer nobody knows whether it was carried out. */
  readonly changes?: boolean;
  readonly signal?: AbortSignal;
}

/** The fields of an error of undici or of Node that mean something here. */
interface Failure {
  readonly name?: string;
  readonly message?: string;
  readonly code?: string;
  readonly syscall?: string;
}

/** An answer that says no. */
export class Refusal {
  constructor(
    readonly status: number,
    /** What the server says about it, one line. */
    readonly reason: string,
  ) {}
}

/** System calls before which no request can have left. */
const CONNECTING = new Set(['connect', 'getaddrinfo']);
const CERTIFICATE_CODE = /CERT|SELF_SIGNED|ISSUER|UNABLE_TO_VERIFY|ERR_TLS|ERR_SSL/;

/** The one mapping of an answer that says no, and of whatever the HTTP client throws. */
export function toMirageError(error: unknown, attempt: Attempt): MirageError {
  if (error instanceof MirageError) return error;
  const { operation, subject, signal, changes = false } = attempt;
  if (signal?.aborted) {
    if (signal.reason instanceof MirageError) return signal.reason;
    return new MirageError(`${operation} ${subject}: aborted`, { errno: 'EINTR', outcomeUnknown: changes });
  }
  if (error instanceof Refusal) {
    const text = error.reason === '' ? '' : `: ${error.reason}`;
    return new MirageError(
      `${operation} ${subject}: ${error.status}${text}`,
      ofStatus(error.status, changes),
    );
  }
  const failure = error as Failure;
  return new MirageError(`${operation} ${subject}: ${failure.message || failure.name || 'failed'}`, {
    ...ofFailure(failure, changes),
    cause: error,
  });
}

function ofStatus(status: number, changes: boolean): MirageErrorDetails {
  switch (status) {
    case 301:
    case 302:
    case 307:
    case 308:
      return { errno: 'EIO', hint: 'the server sends the request elsewhere: correct `url` of the mount' };
    case 401:
      return { errno: 'EACCES', hint: 'wrong credentials: check username, password or token of the mount' };
    case 403:
      return { errno: 'EACCES', hint: 'the server does not allow this to these credentials' };
    case 404:
    case 410:
      return { errno: 'ENOENT' };
    case 405:
    case 501:
      return { errno: 'ENOTSUP', hint: 'the server knows no such operation here; is `url` a WebDAV folder?' };
    // RFC 4918: the collection that would hold the resource is missing.
    case 409:
      return { errno: 'ENOENT' };
    case 412:
      return { errno: 'ESTALE' };
    case 413:
      return { errno: 'EFBIG', hint: 'the server takes no file of this size: raise its limit' };
    case 414:
      return { errno: 'ENAMETOOLONG' };
    case 423:
    case 424:
      return { errno: 'EBUSY', retryable: true, hint: 'another client holds a lock on it' };
    case 429:
      return { errno: 'EBUSY', retryable: true, hint: 'the server asks for fewer requests' };
    case 507:
      return { errno: 'ENOSPC', hint: 'the disk or the quota on the server is full' };
    case 503:
      return { errno: 'EIO', retryable: true, hint: 'the server is busy or in maintenance' };
    default:
      // A 5xx may come after the change has happened.
      return status >= 500 ? { errno: 'EIO', retryable: true, outcomeUnknown: changes } : { errno: 'EIO' };
  }
}

function ofFailure({ code = '', syscall = '' }: Failure, changes: boolean): MirageErrorDetails {
  if (CONNECTING.has(syscall) || code === 'UND_ERR_CONNECT_TIMEOUT') {
    return { errno: 'EHOSTDOWN', retryable: true, hint: 'check `url` of the mount and the network' };
  }
  if (CERTIFICATE_CODE.test(code)) {
    return {
      errno: 'EHOSTDOWN',
      hint: 'the certificate of the server is not trusted: name the authority that signed it with `ca`',
    };
  }
  // A broken connection, a body that ended early, an answer that could not be read.
  return { errno: 'EIO', retryable: true, outcomeUnknown: changes };
}

export const anotherVersion = (key: string): MirageError =>
  new MirageError(`${key} is another version by now`, { errno: 'ESTALE' });

/** Nobody knows whether the change was carried out. */
export const isUnknown = (error: unknown): boolean => MirageError.is(error) && error.outcomeUnknown;
