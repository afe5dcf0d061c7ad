import { RestError } from '@azure/storage-blob';
import { MirageError, type MirageErrorDetails } from '../../errors/mirage-error.js';
import type { Attempt } from '../object-store/attempt.js';

/** The fields of an error of the SDK, of its credentials or of Node that mean something here. */
interface Failure {
  readonly name?: string;
  readonly message?: string;
  /** The error code of the service, or that of a system call. */
  readonly code?: string;
  readonly statusCode?: number;
  /** Of a HEAD, whose answer has no body. */
  readonly response?: { readonly headers?: { get(name: string): string | undefined } };
}

export const statusOf = (error: unknown): number | undefined => (error as Failure | undefined)?.statusCode;

/** The service's own word: https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes */
export function codeOf(error: unknown): string {
  const failure = error as Failure | undefined;
  return failure?.code ?? failure?.response?.headers?.get('x-ms-error-code') ?? '';
}

/** Codes of Node for which no request can have left. */
const UNREACHED = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);
const CERTIFICATE_CODE = /CERT|SELF_SIGNED|ISSUER|UNABLE_TO_VERIFY|ERR_TLS/;
const CREDENTIAL_CODES = new Set([
  'AuthenticationFailed',
  'NoAuthenticationInformation',
  'InvalidAuthenticationInfo',
]);
const CREDENTIAL_ERRORS = new Set([
  'CredentialUnavailableError',
  'AuthenticationError',
  'AggregateAuthenticationError',
  'AuthenticationRequiredError',
]);

const WRONG_CREDENTIALS =
  'wrong credentials: check account, accountKey, sasToken (also when it ends) or connectionString of the mount';

/** What the service says by a code of its own, whatever the status. */
const BY_CODE: Readonly<Record<string, MirageErrorDetails>> = {
  ContainerNotFound: { errno: 'ENOENT', hint: 'create the container, or correct `container` of the mount' },
  ContainerBeingDeleted: { errno: 'EBUSY', retryable: true },
  ContainerDisabled: { errno: 'EACCES', hint: 'the container is disabled' },
  AccountIsDisabled: { errno: 'EACCES', hint: 'the storage account is disabled' },
  BlobAlreadyExists: { errno: 'ESTALE' },
  PathAlreadyExists: { errno: 'ESTALE' },
  ConditionNotMet: { errno: 'ESTALE' },
  SourceConditionNotMet: { errno: 'ESTALE' },
  TargetConditionNotMet: { errno: 'ESTALE' },
  LeaseIdMissing: { errno: 'EBUSY', hint: 'another program holds a lease on the blob' },
  LeaseIdMismatchWithBlobOperation: { errno: 'EBUSY', hint: 'another program holds a lease on the blob' },
  PendingCopyOperation: { errno: 'EBUSY', retryable: true, hint: 'another copy to this blob is under way' },
  SnapshotsPresent: { errno: 'EBUSY', hint: 'the blob has snapshots: remove them first' },
  DirectoryIsNotEmpty: { errno: 'ENOTEMPTY' },
  BlobImmutableDueToPolicy: { errno: 'EACCES', hint: 'a policy of the container keeps the blob as it is' },
  BlobArchived: { errno: 'EACCES', hint: 'the blob is archived: rehydrate it first' },
  BlobBeingRehydrated: { errno: 'EBUSY', hint: 'the blob is being rehydrated' },
  InvalidResourceName: { errno: 'EINVAL', hint: 'Azure does not allow this name' },
  OutOfRangeInput: { errno: 'EINVAL', hint: 'Azure does not allow a name of this length' },
  RequestBodyTooLarge: { errno: 'EFBIG' },
  ServerBusy: { errno: 'EBUSY', retryable: true },
};

/**
 * The one mapping of whatever the SDK throws. The error of the SDK itself goes no further: it carries the request, whose address and headers are
 * signed.
 */
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
  const code = codeOf(error);
  const said = (failure.message ?? '').split('\n', 1)[0]?.replace(/\bsig=[^&\s"']*/g, 'sig=…') || 'failed';
  const what = [failure.statusCode, code].filter((word) => word !== undefined && word !== '').join(' ');
  const carriesRequest = error instanceof RestError;
  return new MirageError(
    `${attempt.operation} ${attempt.subject}: ${said}${what === '' ? '' : ` (${what})`}`,
    {
      ...classify(failure, code, attempt),
      ...(!carriesRequest && { cause: error }),
    },
  );
}

function classify(
  failure: Failure,
  code: string,
  { conditional = false, operation }: Attempt,
): MirageErrorDetails {
  const passing = { retryable: true, outcomeUnknown: conditional };
  const { statusCode: status } = failure;
  if (UNREACHED.has(code)) {
    return {
      errno: 'EHOSTDOWN',
      retryable: true,
      hint: 'check account and endpoint of the mount, and the network',
    };
  }
  if (CERTIFICATE_CODE.test(code)) {
    return {
      errno: 'EHOSTDOWN',
      hint: 'the certificate of the endpoint is not trusted: set NODE_EXTRA_CA_CERTS to the authority that signed it',
    };
  }
  if (CREDENTIAL_ERRORS.has(failure.name ?? '')) {
    return {
      errno: 'EACCES',
      hint: 'give accountKey, sasToken or connectionString, sign in with `az login`, or set AZURE_CLIENT_ID and its companions; `anonymous: true` for a public container',
    };
  }
  if (CREDENTIAL_CODES.has(code)) return { errno: 'EACCES', hint: WRONG_CREDENTIALS };
  const known = BY_CODE[code];
  if (known !== undefined) return known;
  if (status === 412) return { errno: 'ESTALE' };
  if (status === 404) return { errno: conditional ? 'ESTALE' : 'ENOENT' };
  if (status === 401 || status === 403) {
    return {
      errno: 'EACCES',
      hint:
        operation === 'open'
          ? WRONG_CREDENTIALS
          : 'the store refuses these credentials here: give them the role, or the permission of the signature, or mount with `mode: read`',
    };
  }
  if (status === 409) return { errno: 'EBUSY', ...passing };
  if (status === 501) return { errno: 'ENOTSUP' };
  if (status === 429) return { errno: 'EBUSY', retryable: true };
  if (status !== undefined && status >= 400 && status < 500 && status !== 408) return { errno: 'EIO' };
  // A 5xx, a broken connection, a body that ended early, an answer that could not be read.
  return { errno: 'EIO', ...passing };
}
