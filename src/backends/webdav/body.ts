import { Readable } from 'node:stream';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteRange, ByteSource } from '../contract.js';

/** Files up to this size, in bytes, are sent from memory in one piece: a stream would cost more than the copy. */
const IN_MEMORY = 2 ** 20;

/**
 * Sends `range` of a source as the body of a request, its length known. A source that fails ends the request: what it says is what the caller
 * gets, for the request was never whole and had no effect.
 */
export async function sendBody<T>(
  source: ByteSource,
  range: ByteRange,
  send: (body: Buffer | Readable, headers: Record<string, string>) => Promise<T>,
): Promise<T> {
  const headers = { 'content-length': String(range.length) };
  let failure: MirageError | undefined;
  const chunks = readable(source, range, (error) => {
    failure = error;
  });
  if (range.length <= IN_MEMORY) return send(Buffer.concat(await collected(chunks)), headers);
  const body = Readable.from(chunks, { objectMode: false, highWaterMark: IN_MEMORY });
  body.on('error', () => undefined);
  try {
    return await send(body, headers);
  } catch (error) {
    throw failure ?? error;
  } finally {
    body.destroy();
  }
}

async function* readable(
  source: ByteSource,
  range: ByteRange,
  failed: (error: MirageError) => void,
): AsyncGenerator<Uint8Array> {
  try {
    yield* source.read(range);
  } catch (cause) {
    const error = MirageError.is(cause)
      ? cause
      : new MirageError('the content to write could not be read', { errno: 'EIO', cause });
    failed(error);
    throw error;
  }
}

async function collected(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return all;
}
