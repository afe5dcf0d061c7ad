import type { Readable } from 'node:stream';
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3';
import type { ByteRange, ByteSink } from '../contract.js';
import { sizeOfRange } from '../object-store/info.js';
import { extractOf, pour as pourBody } from '../object-store/pour.js';

/** Streams the body of a GET into the sink. */
export function pour(
  answer: GetObjectCommandOutput,
  range: ByteRange,
  sink: ByteSink,
  signal: AbortSignal,
): Promise<void> {
  const ranged = sizeOfRange(answer.ContentRange) !== undefined;
  return pourBody(answer.Body as Readable, extractOf(range, objectSize(answer), ranged), sink, signal);
}

/** Bytes of the whole object, of which an answer may carry a part. */
export function objectSize({ ContentRange, ContentLength = 0 }: GetObjectCommandOutput): number {
  return sizeOfRange(ContentRange) ?? ContentLength;
}
