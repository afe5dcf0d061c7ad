import { MirageError } from '../../errors/mirage-error.js';
import type { ByteRange, ByteSink } from '../contract.js';
import type { Answer } from './client.js';
import { isRanged } from './resources.js';

/**
 * Streams the body of a download into the sink, as fast as the sink takes it. An answer without a range begins at the start of the object: what
 * was not asked for is passed over. A body that ends early is an error, never a short read.
 */
export async function pour(answer: Answer, range: ByteRange, size: number, sink: ByteSink): Promise<void> {
  const { body } = answer;
  // What is broken off on purpose says so in an event, too.
  body.on('error', () => undefined);
  const ranged = isRanged(answer);
  let skip = ranged ? 0 : range.offset;
  let missing = Math.max(0, Math.min(range.length, size - range.offset));
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
  if (missing > 0) {
    throw new MirageError('the store ended the answer early', { errno: 'EIO', retryable: true });
  }
}
