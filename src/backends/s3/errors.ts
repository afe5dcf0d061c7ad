import { MirageError, type MirageErrorDetails } from '../../errors/mirage-error.js';
import type { Attempt } from '../object-store/attempt.js';

/** The fields of an error of the SDK or of Node that mean something here. */
interface Failure {
  readonly name?: string;
  readonly message?: string;
  readonly code?: string;
  readonly syscall?: string;
  readonly Region?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
}

const CREDENTIAL_CODES = new Set([
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'InvalidToken',
  'TokenRefreshRequired',
  'ExpiredToken',
  'CredentialsProviderError',
  'AuthorizationHeaderMalformed',
]);
/** System calls before which no request can have left. */
const CONNECTING = new Set(['connect', 'getaddrinfo']);
const THROTTLE_CODES = new Set(['SlowDown', 'Throttling', 'ThrottlingException', 'RequestLimitExceeded']);
const CERTIFICATE_CODE = /CERT|SELF_SIGNED|ISSUER|UNABLE_TO_VERIFY|ERR_TLS/;

/** The one mapping of whatever the SDK throws. */
export function toMirageError(error: unknown, attempt: Attempt): MirageError {
  if (error instanceof MirageError) return error;
  if (attempt.signal?.aborted) {
    const { reason } = attempt.signal;
    if (reason instanceof MirageError) return reason;
    return new MirageError(`${attempt.operation} ${attempt.subject}: aborted`, {
      errno: 'EINTR',
      outcomeUnknown: attempt.conditional ?? false,
    });
  }
  const failure = error as Failure;
  const details = classify(failure, attempt);
  const text = failure.message && failure.message !== 'UnknownError' ? failure.message : failure.name;
  return new MirageError(`${attempt.operation} ${attempt.subject}: ${text ?? 'failed'}`, {
    ...details,
    cause: error,
  });
}

function classify(failure: Failure, { conditional = false }: Attempt): MirageErrorDetails {
  const status = failure.$metadata?.httpStatusCode;
  const name = failure.name ?? '';
  const code = failure.code ?? '';
  const passing = { retryable: true, outcomeUnknown: conditional };

  if (CONNECTING.has(failure.syscall ?? '') || (name === 'TimeoutError' && code === '')) {
    // The SDK's own time limit is one for connecting (see client.ts); with a code, the name hides a broken connection.
    return { errno: 'EHOSTDOWN', retryable: true, hint: 'check the endpoint of the mount and the network' };
  }
  if (CERTIFICATE_CODE.test(code)) {
    return {
      errno: 'EHOSTDOWN',
      hint: 'the certificate of the endpoint is not trusted: set NODE_EXTRA_CA_CERTS to the authority that signed it',
    };
  }
  if (CREDENTIAL_CODES.has(name)) return { errno: 'EACCES', hint: credentialHint(failure) };
  if (name === 'RequestTimeTooSkewed') {
    // The SDK takes the store's time from this very answer.
    return { errno: 'EACCES', retryable: true, hint: 'the clock of this machine is wrong: set it' };
  }
  if (name === 'NoSuchBucket') {
    return { errno: 'ENOENT', hint: 'create the bucket, or correct `bucket` of the mount' };
  }
  if (name === 'PermanentRedirect' || status === 301) {
    return { errno: 'ENOENT', hint: 'the bucket is in another region: set `region` of the mount' };
  }
  if (name === 'EntityTooLarge') return { errno: 'EFBIG' };
  if (name === 'KeyTooLongError') return { errno: 'ENAMETOOLONG' };
  if (name === 'QuotaExceeded')
    return { errno: 'EDQUOT', hint: 'the store refuses more data: raise its quota' };
  if (name === 'InvalidObjectState') {
    return { errno: 'EACCES', hint: 'the object is archived: restore it in the store first' };
  }
  if (status === 412) return { errno: 'ESTALE' };
  if (status === 404) return { errno: conditional ? 'ESTALE' : 'ENOENT' };
  if (status === 401 || status === 403) {
    return {
      errno: 'EACCES',
      hint: 'the store refuses these credentials here: allow the operation in its policy, or mount with `mode: read`',
    };
  }
  if (status === 409) return { errno: 'EBUSY', ...passing };
  if (status === 501) return { errno: 'ENOTSUP' };
  if (status === 429 || THROTTLE_CODES.has(name)) return { errno: 'EBUSY', retryable: true };
  if (status !== undefined && status >= 400 && status < 500 && name !== 'RequestTimeout')
    return { errno: 'EIO' };
  // A 5xx, a broken connection, a body that ended early, an answer that could not be read.
  return { errno: 'EIO', ...passing };
}

function credentialHint(failure: Failure): string {
  if (failure.name === 'AuthorizationHeaderMalformed' && failure.Region !== undefined) {
    return `set \`region: ${failure.Region}\` for this mount`;
  }
  if (failure.name === 'CredentialsProviderError') {
    return 'give accessKeyId and secretAccessKey, a profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `anonymous: true` for a public bucket';
  }
  return 'wrong credentials: check accessKeyId, secretAccessKey, sessionToken and profile of the mount';
}

/** The bucket takes no object without a checksum (object lock). S3 has no code of its own for it. */
export function asksForChecksum(error: unknown): boolean {
  const cause = error instanceof MirageError ? (error.cause as Failure | undefined) : undefined;
  return cause?.$metadata?.httpStatusCode === 400 && /checksum|content-md5/i.test(cause.message ?? '');
}
