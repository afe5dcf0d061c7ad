/**
 * One page of ListObjectsV2. The SDK's XML parser takes longer for a page than the store does, and a walk through a large bucket is nothing
 * but pages: the answer is read here, and the SDK is left with signing, transport and errors.
 * Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
 */
import { ListObjectsV2Command } from '@aws-sdk/client-s3';
import { MirageError } from '../../errors/mirage-error.js';
import type { Timestamp } from '../contract.js';
import { decodeKey } from './keys.js';
import { type Bucket, request, validatorOf } from './requests.js';

export interface ListedObject {
  readonly name: string;
  readonly size: number | undefined;
  /** Whole seconds: a listing shows more digits than a HEAD, and a time must not change by being asked in another way. */
  readonly modified: Timestamp;
  readonly validator: string | undefined;
}

export interface BucketPage {
  readonly objects: readonly ListedObject[];
  /** What objects further below begin with, up to the delimiter. */
  readonly prefixes: readonly string[];
  /** Keys that are not UTF-8, as they came. */
  readonly unreadable: readonly string[];
  /** Continuation token; undefined after the last page. */
  readonly cursor: string | undefined;
}

/** Pages that were asked for ahead and not taken yet, at most, and how long they are kept, milliseconds. */
const AHEAD = 8;
const KEPT = 10_000;

interface PageAhead {
  readonly body: Promise<string>;
  readonly abort: AbortController;
  readonly kept: NodeJS.Timeout;
}

/**
 * The pages of a bucket's listings. Whoever has asked for a second page goes on, as a rule: the next one is asked for before the one at hand is read,
 * so that the store is never without a request. A page that was asked for ahead belongs to its walk alone, which its cursor says: another
 * walk from the same place may have to show what came meanwhile.
 */
export class Pages {
  readonly #bucket: Bucket;
  readonly #ahead = new Map<string, PageAhead>();
  #cursors = 0;

  constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  /** The page of what lies directly below `prefix` (which ends with a slash, or is empty), from `cursor` on. */
  async page(prefix: string, cursor: string | undefined, signal: AbortSignal): Promise<BucketPage> {
    const body = await this.#body(prefix, cursor, signal);
    const token = nextToken(body);
    if (token === undefined) return parseListing(body);
    const next = `${++this.#cursors}${NUMBER_END}${token}`;
    if (cursor !== undefined) {
      this.#ask(prefix, next, token);
      // Out with it before the processor is needed for this page.
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { ...parseListing(body), cursor: next };
  }

  #body(prefix: string, cursor: string | undefined, signal: AbortSignal): Promise<string> {
    const ahead = cursor === undefined ? undefined : this.#ahead.get(cursor);
    if (cursor === undefined || ahead === undefined) {
      const token = cursor?.slice(cursor.indexOf(NUMBER_END) + 1);
      return readPage(this.#bucket, prefix, token, signal);
    }
    this.#ahead.delete(cursor);
    clearTimeout(ahead.kept);
    const abort = (): void => ahead.abort.abort(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    return ahead.body.finally(() => signal.removeEventListener('abort', abort));
  }

  #ask(prefix: string, cursor: string, token: string): void {
    const abort = new AbortController();
    const body = readPage(this.#bucket, prefix, token, abort.signal);
    // Whoever takes it hears of its failure.
    body.catch(() => undefined);
    const kept = setTimeout(() => this.#drop(cursor), KEPT);
    kept.unref();
    this.#ahead.set(cursor, { body, abort, kept });
    const [oldest] = this.#ahead.keys();
    if (this.#ahead.size > AHEAD && oldest !== undefined) this.#drop(oldest);
  }

  #drop(cursor: string): void {
    const ahead = this.#ahead.get(cursor);
    if (ahead === undefined) return;
    this.#ahead.delete(cursor);
    clearTimeout(ahead.kept);
    ahead.abort.abort();
  }
}

/** Stands between the number of a cursor, which no other has, and the token of the store. */
const NUMBER_END = ':';

async function readPage(
  bucket: Bucket,
  prefix: string,
  token: string | undefined,
  signal: AbortSignal,
): Promise<string> {
  const command = new ListObjectsV2Command({
    Bucket: bucket.name,
    Prefix: prefix,
    Delimiter: '/',
    EncodingType: 'url',
    ContinuationToken: token,
  });
  let body = '';
  command.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const response = result.response as { statusCode: number; body: AsyncIterable<Uint8Array> };
      if (response.statusCode !== 200) return result;
      const chunks: Uint8Array[] = [];
      for await (const chunk of response.body) chunks.push(chunk);
      body = Buffer.concat(chunks).toString('utf8');
      return { ...result, response: Object.assign(response, { body: NOTHING_LEFT }) };
    },
    { step: 'deserialize', name: 'readListing', priority: 'low' },
  );
  await request({ operation: 'list', subject: prefix, signal }, () =>
    bucket.client.send(command, { abortSignal: signal }),
  );
  return body;
}

const NOTHING_LEFT = Buffer.from('<ListBucketResult/>');

/** The token of the page behind this one; undefined behind the last. */
function nextToken(xml: string): string | undefined {
  return textOf(xml, 'IsTruncated') === 'true' ? textOf(xml, 'NextContinuationToken') : undefined;
}

export function parseListing(xml: string): BucketPage {
  if (!xml.includes('<ListBucketResult') || !xml.includes('</ListBucketResult>')) {
    throw new MirageError('the store answered a listing with something else', {
      errno: 'EIO',
      hint: 'is the endpoint that of an S3 API?',
    });
  }
  const encoded = textOf(xml, 'EncodingType') === 'url';
  const unreadable: string[] = [];
  const decode = (key: string): string | undefined => {
    const name = encoded ? decodeKey(key) : key;
    if (name === undefined) unreadable.push(key);
    return name;
  };
  const objects: ListedObject[] = [];
  for (const object of elements(xml, 'Contents')) {
    const name = decode(textOf(object, 'Key') ?? '');
    if (name === undefined) continue;
    const size = textOf(object, 'Size');
    const modified = Date.parse(textOf(object, 'LastModified') ?? '');
    objects.push({
      name,
      size: size === undefined ? undefined : Number(size),
      modified: { seconds: Number.isNaN(modified) ? 0 : Math.floor(modified / 1000), nanoseconds: 0 },
      validator: validatorOf(textOf(object, 'ETag')),
    });
  }
  const prefixes: string[] = [];
  for (const common of elements(xml, 'CommonPrefixes')) {
    // A provider may gather several in one element.
    for (const prefix of elements(common, 'Prefix')) {
      const name = decode(plain(prefix));
      if (name !== undefined) prefixes.push(name);
    }
  }
  return { objects, prefixes, unreadable, cursor: nextToken(xml) };
}

/** What stands between the tags of each element of this name; the text of a document never holds a bare `<`. */
function* elements(xml: string, name: string): Generator<string> {
  const opening = `<${name}>`;
  const closing = `</${name}>`;
  let from = xml.indexOf(opening);
  while (from !== -1) {
    const to = xml.indexOf(closing, from);
    if (to === -1) return;
    yield xml.slice(from + opening.length, to);
    from = xml.indexOf(opening, to);
  }
}

function textOf(xml: string, name: string): string | undefined {
  const opening = `<${name}>`;
  const from = xml.indexOf(opening);
  if (from === -1) return undefined;
  const start = from + opening.length;
  return plain(xml.slice(start, xml.indexOf('<', start)));
}

const named: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function plain(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(/&(?:#(\d+)|#x([0-9a-f]+)|(\w+));/gi, (whole, decimal, hexadecimal, name) => {
    if (name !== undefined) return named[name] ?? whole;
    return String.fromCodePoint(decimal !== undefined ? Number(decimal) : Number.parseInt(hexadecimal, 16));
  });
}
