import { randomUUID } from 'node:crypto';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteRange, ByteSource } from '../contract.js';
import { gather } from '../object-store/body.js';

/** Up to this size, in bytes, a body is sent from memory in one piece: a stream would cost more than the copy. */
const IN_MEMORY = 2 ** 20;

/** The body of a request, and what is to be thrown when the request fails because the content could not be read. */
export interface SentBody {
  readonly content: Buffer | AsyncIterable<Uint8Array>;
  readonly length: number;
  /** The error of the source, if there was one: not the store's fault, and no reason to send it again. */
  failure(): MirageError | undefined;
}

/** `range` of a source. */
export function streamed(
  source: ByteSource,
  range: ByteRange,
): SentBody & { readonly content: AsyncIterable<Uint8Array> } {
  let failed: MirageError | undefined;
  async function* content() {
    try {
      yield* source.read(range);
    } catch (cause) {
      failed = MirageError.is(cause)
        ? cause
        : new MirageError('the content to write could not be read', { errno: 'EIO', cause });
      throw failed;
    }
  }
  return { content: content(), length: range.length, failure: () => failed };
}

/**
 * Metadata and content in one request (RFC 2387).
 * https://cloud.google.com/storage/docs/uploading-objects#uploading-an-object
 */
export async function related(
  metadata: object,
  contentType: string,
  source: ByteSource,
): Promise<SentBody & { readonly type: string }> {
  const boundary = randomUUID();
  const head = Buffer.from(
    `--${boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n${JSON.stringify(metadata)}\r\n` +
      `--${boundary}\r\nContent-Type: ${contentType}\r\n\r\n`,
  );
  const tail = Buffer.from(`\r\n--${boundary}--`);
  const type = `multipart/related; boundary=${boundary}`;
  const length = head.length + source.size + tail.length;
  if (source.size <= IN_MEMORY) {
    const content = Buffer.concat([head, await gather(source), tail]);
    return { content, length, type, failure: () => undefined };
  }
  const middle = streamed(source, { offset: 0, length: source.size });
  async function* content() {
    yield head;
    yield* middle.content;
    yield tail;
  }
  return { content: content(), length, type, failure: middle.failure };
}
