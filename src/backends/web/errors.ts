import type { ErrnoName } from '../../errors/errno.js';
import { MirageError, type MirageErrorDetails } from '../../errors/mirage-error.js';

type Verdict = Omit<MirageErrorDetails, 'cause'>;

const CERTIFICATE_CODE = /^(CERT_|ERR_TLS_|ERR_SSL_|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO_|HOSTNAME_MISMATCH)/;
const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTDOWN',
]);
const SILENT = new Set([
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'UND_ERR_CONNECT_TIMEOUT',
  'ETIMEDOUT',
]);

/** Whatever a request threw before or while its answer came; an abort by the caller is passed on as it is. */
export function toMirageError(error: unknown, subject: string, signal: AbortSignal): unknown {
  if (signal.aborted || error instanceof MirageError) return error;
  const { code, message } = innermost(error);
  return new MirageError(`${subject}: ${message}`, { ...ofFailure(code, message), cause: error });
}

function ofFailure(code: string, message: string): Verdict {
  if (SILENT.has(code)) {
    return {
      errno: 'ETIMEDOUT',
      retryable: true,
      hint: 'check the network to the server, or raise `timeout` of the mount',
    };
  }
  if (UNREACHABLE.has(code)) {
    return { errno: 'EHOSTDOWN', retryable: true, hint: 'check the URL of the mount and the network' };
  }
  if (CERTIFICATE_CODE.test(code)) {
    return {
      errno: 'EHOSTDOWN',
      hint: 'the certificate of the server is not trusted: set NODE_EXTRA_CA_CERTS to the authority that signed it',
    };
  }
  if (code.startsWith('HPE_')) return { errno: 'EIO', hint: `the server does not speak HTTP: ${message}` };
  // A broken connection, a body of another length than was announced.
  return { errno: 'EIO', retryable: true };
}

function innermost(error: unknown): { code: string; message: string } {
  let found = error;
  // `fetch failed`, an AggregateError of several addresses: the reason is inside.
  for (let depth = 0; depth < 4 && found instanceof Error; depth++) {
    const inner = found instanceof AggregateError ? found.errors[0] : found.cause;
    if (typeof (found as NodeJS.ErrnoException).code === 'string' && !(inner instanceof Error)) break;
    if (!(inner instanceof Error)) break;
    found = inner;
  }
  const { code = '', message = String(found) } = found as { code?: string; message?: string };
  return { code: String(code), message };
}

/** An answer that is no success. Never quotes the query of a URL: it may hold a signature. */
export function refusal(subject: string, status: number, details: Partial<Verdict> = {}): MirageError {
  return new MirageError(`${subject}: the server answers ${status}`, { ...ofStatus(status), ...details });
}

function ofStatus(status: number): Verdict {
  const passing = { retryable: true };
  switch (status) {
    case 401:
      return { errno: 'EACCES', hint: 'set username and password, or token, of the mount' };
    case 403:
    case 407:
    case 451:
      return { errno: 'EACCES', hint: 'the server refuses access: check the credentials of the mount' };
    case 404:
    case 410:
      return { errno: 'ENOENT' };
    case 408:
      return { errno: 'ETIMEDOUT', ...passing };
    case 412:
      return { errno: 'ESTALE' };
    case 429:
      return { errno: 'EBUSY', ...passing, hint: 'the server limits requests: try again later' };
    case 502:
    case 503:
    case 504:
      return { errno: 'EHOSTDOWN', ...passing, hint: 'the server is overloaded or down: try again later' };
  }
  const errno: ErrnoName = status === 405 || status === 501 ? 'ENOTSUP' : 'EIO';
  return status >= 500 && errno === 'EIO' ? { errno, ...passing } : { errno };
}

export const endedEarly = (subject: string): MirageError =>
  new MirageError(`${subject}: the answer ended early`, {
    errno: 'EIO',
    retryable: true,
    hint: 'the server or a proxy in front of it announces more bytes than it sends',
  });
