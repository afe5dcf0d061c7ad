import type { Readable } from 'node:stream';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteSink } from '../contract.js';

/** Streams `length` bytes of an answer into the sink, as fast as the sink takes them. A body that ends early is an error, never a short read. */
export async function pour(
  body: Readable,
  length: number,
  sink: ByteSink,
  signal: AbortSignal,
): Promise<void> {
  let missing = length;
  const abort = () => body.destroy(signal.reason);
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  try {
    for await (const data of body) {
      const chunk = data as Uint8Array;
      missing -= chunk.length;
      const full = sink.write(chunk);
      if (full !== undefined) await full;
    }
  } finally {
    signal.removeEventListener('abort', abort);
  }
  if (missing > 0) {
    throw new MirageError('the store ended the answer early', { errno: 'EIO', retryable: true });
  }
}

const CONTENT_RANGE = /^bytes \d+-\d+\/(\d+)$/;

/** Bytes of the whole blob, of which an answer may carry a part. */
export function blobSize(answer: { contentRange?: string; contentLength?: number }): number {
  const ranged = CONTENT_RANGE.exec(answer.contentRange ?? '');
  return ranged === null ? (answer.contentLength ?? 0) : Number(ranged[1]);
}
