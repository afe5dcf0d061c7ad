import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteRange, ByteSink } from '../contract.js';
import { type Answer, discard } from './client.js';

/** Bytes of the whole file, as the head of a GET answer tells; undefined where it does not. */
export function wholeSize({ status, headers }: Answer): number | undefined {
  const text =
    status === 206
      ? /^bytes \d+-\d+\/(\d+)$/.exec(headers['content-range'] ?? '')?.[1]
      : isGzip(headers['content-encoding'])
        ? undefined
        : headers['content-length'];
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/**
 * Streams the body of a GET into the sink, as fast as the sink takes it. A server that ignores the range sends the file from its start: what
 * was not asked for is passed over. A body that ends early, or that was compressed although nobody asked for that, is never a short read.
 * Returns the size of the file where the body told it.
 */
export async function pour(
  answer: Answer,
  range: ByteRange,
  sink: ByteSink,
  signal: AbortSignal,
): Promise<number | undefined> {
  const { status, headers } = answer;
  const compressed = isGzip(headers['content-encoding']);
  const start = /^bytes (\d+)-/.exec(headers['content-range'] ?? '')?.[1];
  if (status === 206 && (compressed || Number(start) !== range.offset)) {
    discard(answer.body);
    throw new MirageError('the server sent another range than it was asked for', { errno: 'EIO' });
  }
  const size = wholeSize(answer);
  const body: Readable = compressed ? answer.body.pipe(createGunzip()) : answer.body;
  if (compressed) answer.body.once('error', (error) => body.destroy(error));
  let skip = status === 206 ? 0 : range.offset;
  let missing = size === undefined ? range.length : Math.max(0, Math.min(range.length, size - range.offset));
  const abort = () => discard(answer.body, signal.reason);
  if (signal.aborted) abort();
  else signal.addEventListener('abort', abort, { once: true });
  let passed = 0;
  try {
    for await (const data of body) {
      let chunk = data as Uint8Array;
      passed += chunk.length;
      if (skip > 0) {
        const dropped = Math.min(skip, chunk.length);
        skip -= dropped;
        chunk = chunk.subarray(dropped);
      }
      if (chunk.length > missing) chunk = chunk.subarray(0, missing);
      if (chunk.length > 0) {
        const full = sink.write(chunk);
        if (full !== undefined) await full;
        missing -= chunk.length;
      }
      if (missing === 0 && status !== 206) break;
    }
  } finally {
    signal.removeEventListener('abort', abort);
    discard(answer.body);
  }
  // Without a size the end of the body is the end of the file.
  if (missing === 0) return size;
  if (size !== undefined) {
    throw new MirageError('the server ended the answer early', { errno: 'EIO', retryable: true });
  }
  return passed;
}

const isGzip = (encoding: string | undefined): boolean => encoding !== undefined && /gzip/i.test(encoding);
