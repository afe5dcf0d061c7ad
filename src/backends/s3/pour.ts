import type { Readable } from 'node:stream';
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3';
import type { ByteRange, ByteSink } from '../contract.js';
import { sizeOfRange } from '../object-store/info.js';
import { extractOf, pour as pourBody } from '../object-store/pour.js';

/** A range on its way into a sink. */
export interface Pouring<Told> {
  readonly range: ByteRange;
  readonly sink: ByteSink;
  /** Called with the head of the answer before the first byte; what it returns is the outcome. */
  readonly begin: (answer: GetObjectCommandOutput) => Told;
  readonly signal: AbortSignal;
}

/** Streams the body of a GET into the sink. */
export async function pour<Told>(
  answer: GetObjectCommandOutput,
  { range, sink, begin, signal }: Pouring<Told>,
): Promise<Told> {
  const told = begin(answer);
  const ranged = sizeOfRange(answer.ContentRange) !== undefined;
  await pourBody(answer.Body as Readable, extractOf(range, objectSize(answer), ranged), sink, signal);
  return told;
}

export const rangeHeader = ({ offset, length }: ByteRange): string =>
  `bytes=${offset}-${offset + length - 1}`;

/** Bytes of the whole object, of which an answer may carry a part. */
export function objectSize({ ContentRange, ContentLength = 0 }: GetObjectCommandOutput): number {
  return sizeOfRange(ContentRange) ?? ContentLength;
}
