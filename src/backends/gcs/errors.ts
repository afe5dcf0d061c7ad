import type { ErrnoName } from '../../errors/errno.js';
import { MirageError, type MirageErrorDetails } from '../../errors/mirage-error.js';
import type { Attempt as AnyAttempt } from '../object-store/attempt.js';

/** With what "no such object" means here: ESTALE for a change under a precondition, else ENOENT, where it is not said. */
export interface Attempt extends AnyAttempt {
  readonly missing?: ErrnoName;
}
/** An answer that says no. https://cloud.google.com/storage/docs/json_api/v1/status-codes */
export class Refusal {
  constructor(
    readonly status: number,
    /** What the store says about it, one line. */
    readonly reason: string,
  ) {}
}

/** The fields of an error of undici or of Node that mean something here. */
interface Failure {
  readonly name?: string;
  readonly message?: string;
  readonly code?: string;
  readonly syscall?: string;
}

/** System calls before which no request can have left. */
const CONNECTING = new Set(['connect', 'getaddrinfo']);
const CERTIFICATE_CODE = /CERT|SELF_SIGNED|ISSUER|UNABLE_TO_VERIFY|ERR_TLS|ERR_SSL/;
const NO_BUCKET = /bucket does not exist/i;

/** The one mapping of an answer that says no, and of whatever the HTTP client throws. */
export function toMirageError(error: unknown, attempt: Attempt): MirageError {
  if (error instanceof MirageError) return error;
  const { operation, subject, signal, conditional = false } = attempt;
  if (signal?.aborted) {
    if (signal.reason instanceof MirageError) return signal.reason;
    return new MirageError(`${operation} ${subject}: aborted`, {
      errno: 'EINTR',
      outcomeUnknown: conditional,
    });
  }
  if (error instanceof Refusal) {
    const text = error.reason === '' ? '' : `: ${error.reason}`;
    return new MirageError(`${operation} ${subject}: ${error.status}${text}`, ofStatus(error, attempt));
  }
  const failure = error as Failure;
  return new MirageError(`${operation} ${subject}: ${failure.message || failure.name || 'failed'}`, {
    ...ofFailure(failure, conditional),
    cause: error,
  });
}

function ofStatus({ status, reason }: Refusal, attempt: Attempt): MirageErrorDetails {
  const { conditional = false, missing = conditional ? 'ESTALE' : 'ENOENT' } = attempt;
  switch (status) {
    case 401:
      return {
        errno: 'EACCES',
        hint: 'wrong or expired credentials: check keyFile, credentials or accessToken of the mount, or run `gcloud auth application-default login`',
      };
    case 403:
      return {
        errno: 'EACCES',
        hint: 'the store refuses this to these credentials: give their account a role such as roles/storage.objectUser on the bucket, or mount with `mode: read`',
      };
    case 404:
      return NO_BUCKET.test(reason)
        ? { errno: 'ENOENT', hint: 'create the bucket, or correct `bucket` of the mount' }
        : { errno: missing };
    case 408:
      return { errno: 'EIO', retryable: true, outcomeUnknown: conditional };
    case 412:
      return { errno: 'ESTALE' };
    case 413:
      return { errno: 'EFBIG' };
    case 429:
      return { errno: 'EBUSY', retryable: true, hint: 'the store asks for fewer requests' };
    case 501:
      return { errno: 'ENOTSUP' };
    default:
      // A 5xx may come after the change has happened.
      return status >= 500
        ? { errno: 'EIO', retryable: true, outcomeUnknown: conditional }
        : { errno: 'EIO' };
  }
}

function ofFailure({ code = '', syscall = '' }: Failure, conditional: boolean): MirageErrorDetails {
  if (CONNECTING.has(syscall) || code === 'UND_ERR_CONNECT_TIMEOUT') {
    return { errno: 'EHOSTDOWN', retryable: true, hint: 'check `endpoint` of the mount and the network' };
  }
  if (CERTIFICATE_CODE.test(code)) {
    return {
      errno: 'EHOSTDOWN',
      hint: 'the certificate of the endpoint is not trusted: set NODE_EXTRA_CA_CERTS to the authority that signed it',
    };
  }
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') {
    return { errno: 'ETIMEDOUT', retryable: true, outcomeUnknown: conditional };
  }
  // A broken connection, a body that ended early, an answer that could not be read.
  return { errno: 'EIO', retryable: true, outcomeUnknown: conditional };
}
