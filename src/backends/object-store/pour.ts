import type { Readable } from 'node:stream';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteRange, ByteSink } from '../contract.js';

/** Which bytes of a body are wanted. */
export interface Extract {
  /** Bytes to pass over first. */
  readonly skip: number;
  readonly length: number;
  /** The body ends with what is wanted: it is read to its end, so that its connection serves the next request. */
  readonly last: boolean;
}

/** The part of an answer that is `range`: a store that ignored the range sends all `size` bytes of the object. */
export function extractOf(range: ByteRange, size: number, ranged: boolean): Extract {
  const length = Math.max(0, Math.min(range.length, size - range.offset));
  return { skip: ranged ? 0 : range.offset, length, last: ranged };
}

/** Streams a body into the sink, as fast as the sink takes it. A body that ends early is an error, never a short read. */
export async function pour(
  body: Readable,
  extract: Extract,
  sink: ByteSink,
  signal: AbortSignal,
): Promise<void> {
  let { skip, length: missing } = extract;
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
      if (missing === 0 && !extract.last) break;
    }
  } finally {
    signal.removeEventListener('abort', abort);
  }
  if (missing > 0) {
    throw new MirageError('the store ended the answer early', { errno: 'EIO', retryable: true });
  }
}
