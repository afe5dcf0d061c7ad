import type { ErrnoName } from '../../errors/errno.js';
import { MirageError, type MirageErrorDetails } from '../../errors/mirage-error.js';
import { type ReplyPacket, Status } from './packet.js';

/** A STATUS of the server, as the cause of the error that it became. */
export class ServerStatus extends Error {
  override readonly name = 'ServerStatus';

  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** What a status says for certain. FAILURE is OpenSSH's word for most errors: see explain.ts for what it hides. */
const details: Readonly<Record<number, MirageErrorDetails>> = {
  [Status.endOfFile]: { errno: 'EIO' },
  [Status.noSuchFile]: { errno: 'ENOENT' },
  [Status.permissionDenied]: {
    errno: 'EACCES',
    hint: 'the user of the mount may not do this on the server: check owner and mode of the file there',
  },
  [Status.failure]: { errno: 'EIO' },
  [Status.badMessage]: { errno: 'EINVAL' },
  [Status.noConnection]: { errno: 'EHOSTDOWN', retryable: true },
  [Status.connectionLost]: { errno: 'EHOSTDOWN', retryable: true },
  [Status.unsupported]: { errno: 'ENOTSUP' },
};

/** `code`: given where it has been read from the packet. */
export function statusError(reply: ReplyPacket, what: string, code = reply.u32()): MirageError {
  // Servers of the first versions leave the message out.
  const text = reply.left > 0 ? Buffer.from(reply.text(), 'latin1').toString() : '';
  const status = new ServerStatus(code, text || `status ${code}`);
  return new MirageError(`${what}: ${status.message}`, {
    ...(details[code] ?? { errno: 'EIO' }),
    cause: status,
  });
}

/** The code behind an error that a server answered with; undefined for any other error. */
export function statusOf(error: unknown): number | undefined {
  if (!(error instanceof MirageError) || !(error.cause instanceof ServerStatus)) return undefined;
  return error.cause.code;
}

/** The same error under the errno that it truly is. */
export function renamed(error: MirageError, errno: ErrnoName, hint?: string): MirageError {
  return new MirageError(error.message, { errno, cause: error.cause, ...(hint !== undefined && { hint }) });
}

export const notOffered = (what: string): MirageError =>
  new MirageError(`the server does not offer ${what}`, { errno: 'ENOTSUP' });
