import type { Readable } from 'node:stream';
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteRange, ByteSink } from '../contract.js';

/**
 * Streams the body of a GET into the sink, as fast as the sink takes it. A store that ignores
 * the range sends the object from its start: what was not asked for is passed over. A body that ends early is an error, never a short read.
 */
export async function pour(
  answer: GetObjectCommandOutput,
  range: ByteRange,
  sink: ByteSink,
  signal: AbortSignal,
): Promise<void> {
  const body = answer.Body as Readable;
  const ranged = isRanged(answer);
  const size = objectSize(answer);
  let skip = ranged ? 0 : range.offset;
  let missing = Math.max(0, Math.min(range.length, size - range.offset));
  const abort = () => body.destroy(signal.reason);
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  try {
    for await (const data of body) {
      let chunk = data as Uint8Array;
      if (skip > 0) {
        const passed = Math.min(skip, chunk.length);
        skip -= passed;
        chunk = chunk.subarray(passed);
      }
      if (chunk.length > missing) chunk = chunk.subarray(0, missing);
      if (chunk.length > 0) {
        const full = sink.write(chunk);
        if (full !== undefined) await full;
        missing -= chunk.length;
      }
      if (missing === 0 && !ranged) break;
    }
  } finally {
    signal.removeEventListener('abort', abort);
  }
  if (missing > 0) {
    throw new MirageError('the store ended the answer early', { errno: 'EIO', retryable: true });
  }
}

const CONTENT_RANGE = /^bytes (?:\d+)-(?:\d+)\/(\d+)$/;

const isRanged = ({ ContentRange = '' }: GetObjectCommandOutput): boolean => CONTENT_RANGE.test(ContentRange);

/** Bytes of the whole object, of which an answer may carry a part. */
export function objectSize({ ContentRange = '', ContentLength = 0 }: GetObjectCommandOutput): number {
  const ranged = CONTENT_RANGE.exec(ContentRange);
  return ranged === null ? ContentLength : Number(ranged[1]);
}
