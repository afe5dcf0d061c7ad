import { Readable } from 'node:stream';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteRange, ByteSource } from '../contract.js';

/**
 * Sends `range` of a source as the body of a request. The SDK waits for ever when the body it reads fails, so a failing source aborts the request
 * and is what the caller gets.
 */
export async function sendBody<T>(
  source: ByteSource,
  range: ByteRange,
  signal: AbortSignal,
  send: (body: Readable, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const cancel = () => controller.abort(signal.reason);
  if (signal.aborted) cancel();
  else signal.addEventListener('abort', cancel, { once: true });
  let failure: { readonly error: unknown } | undefined;
  const body = Readable.from(source.read(range));
  body.once('error', (error) => {
    failure ??= { error };
    controller.abort(error);
  });
  try {
    return await send(body, controller.signal);
  } catch (error) {
    throw failure === undefined || signal.aborted ? error : unreadable(failure.error);
  } finally {
    signal.removeEventListener('abort', cancel);
    body.destroy();
  }
}

/** A small source as one buffer. */
export async function gather(source: ByteSource): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of source.read({ offset: 0, length: source.size })) chunks.push(chunk);
  } catch (error) {
    throw unreadable(error);
  }
  const [only] = chunks;
  return chunks.length === 1 && only !== undefined
    ? Buffer.from(only.buffer, only.byteOffset, only.byteLength)
    : Buffer.concat(chunks);
}

/** Not the store's fault, and no reason to try again: the request was never whole, so it had no effect. */
function unreadable(error: unknown): MirageError {
  if (error instanceof MirageError) return error;
  return new MirageError('the content to write could not be read', { errno: 'EIO', cause: error });
}
