import { createHash, type Hash } from 'node:crypto';
import type { Readable, Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteRange, ByteSink } from '../contract.js';
import { endedEarly, toMirageError } from '../web/errors.js';
import { contentRange } from '../web/versions.js';
import { eachChunk } from './chunks.js';
import type { Answer } from './client.js';

/** Bytes passed over after which the sink hears that something moves. */
const SIGN_OF_LIFE = 1024 * 1024;
const NOTHING = new Uint8Array(0);

export interface Poured {
  /** Bytes of the whole object, if the body was read to its end or the answer said so; decoded ones where it was encoded. */
  readonly size: number | undefined;
  /** Of the whole object; undefined unless asked for and read from start to end. */
  readonly digest: string | undefined;
}

export interface PourOptions {
  readonly subject: string;
  readonly codings: readonly string[];
  /** Reads on to the end of the object, past the range, for its digest. */
  readonly digest: boolean;
  readonly signal: AbortSignal;
}

/**
 * Streams what the range asks for of an answer into the sink, as fast as the sink takes it. An answer may begin before the range (a server
 * without ranges sends everything): that is passed over. One that ends early is an error, never a short read.
 */
export async function pour(
  answer: Answer,
  range: ByteRange,
  sink: ByteSink,
  { subject, codings, digest, signal }: PourOptions,
): Promise<Poured> {
  // What is broken off on purpose says so in an event, too.
  answer.body.on('error', () => undefined);
  const part = answer.status === 206 ? contentRange(answer.headers) : undefined;
  const size = part?.size ?? (codings.length === 0 ? lengthOf(answer) : undefined);
  const hash = digest && (part === undefined || part.start === 0) ? createHash('sha256') : undefined;
  let position = part?.start ?? 0;
  if (position > range.offset || (answer.status === 206 && part === undefined)) {
    answer.body.destroy();
    throw new MirageError(`${subject}: the server sent another range than was asked for`, { errno: 'EIO' });
  }
  const end = Math.min(range.offset + range.length, size ?? Number.POSITIVE_INFINITY);
  const body = decoded(answer.body, codings, subject);
  let quiet = 0;
  const passOver = (bytes: number): void | Promise<void> => {
    quiet += bytes;
    if (quiet < SIGN_OF_LIFE) return undefined;
    quiet = 0;
    return sink.write(NOTHING);
  };
  let whole = false;
  try {
    await eachChunk(body, (chunk) => {
      hash?.update(chunk);
      const from = Math.max(0, range.offset - position);
      const to = Math.min(chunk.length, end - position);
      position += chunk.length;
      const waiting =
        from < to
          ? sink.write(from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to))
          : passOver(chunk.length);
      const enough = position >= end && hash === undefined && (part === undefined || part.end > end);
      return waiting === undefined ? enough : waiting.then(() => enough);
    });
    whole = position >= (part?.end ?? size ?? 0);
  } catch (error) {
    throw toMirageError(error, subject, signal);
  } finally {
    if (!body.readableEnded) body.destroy();
    if (!answer.body.readableEnded) answer.body.destroy();
  }
  signal.throwIfAborted();
  if (size !== undefined && position < end) throw endedEarly(subject);
  const ended = body.readableEnded && part === undefined;
  return { size: size ?? (ended ? position : undefined), digest: whole ? finished(hash) : undefined };
}

const finished = (hash: Hash | undefined): string | undefined => hash?.digest('base64url');

function lengthOf({ headers }: Answer): number | undefined {
  const text = headers['content-length'];
  return typeof text === 'string' && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** The body without its content codings, which nobody asked for. */
function decoded(body: Readable, codings: readonly string[], subject: string): Readable {
  let plain = body;
  for (const coding of [...codings].reverse()) {
    const decoder = decoderOf(coding);
    if (decoder === undefined) {
      body.destroy();
      throw new MirageError(`${subject}: the server encodes it with ${coding}, unasked`, { errno: 'EIO' });
    }
    const source = plain;
    source.on('error', (error) => decoder.destroy(error));
    decoder.on('close', () => source.destroy());
    plain = source.pipe(decoder);
  }
  return plain;
}

function decoderOf(coding: string): Transform | undefined {
  switch (coding) {
    case 'gzip':
    case 'x-gzip':
      return createGunzip();
    case 'deflate':
      return createInflate();
    case 'br':
      return createBrotliDecompress();
    default:
      return undefined;
  }
}
