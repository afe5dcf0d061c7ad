/** The folders of a tree, as the server lists them. */
import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type { ByteRange, ByteSink, Context, ObjectInfo, Timestamp } from '../contract.js';
import { refusal } from '../web/errors.js';
import { describe, header } from '../web/versions.js';
import { type Answer, discard, type HttpClient, show } from './client.js';
import { type IndexEntry, parseHtmlIndex, parseJsonIndex } from './index-page.js';
import { type IndexTraits, traitsOf, unbelieved } from './index-traits.js';
import { pour } from './pour.js';

const EVERYTHING: ByteRange = { offset: 0, length: 2 ** 40 };
/** The largest index that is read, bytes. */
const LARGEST_INDEX = 64 * 2 ** 20;

/** Asks for the head of a file; the body is the caller's to end. */
export type AskHead = (url: URL, signal: AbortSignal) => Promise<Answer>;

export class Indexes {
  readonly #client: HttpClient;
  readonly #head: AskHead;
  readonly #log: Log;
  #traits: IndexTraits | undefined;
  #learning: Promise<IndexTraits> | undefined;

  constructor(client: HttpClient, head: AskHead, log: Log) {
    this.#client = client;
    this.#head = head;
    this.#log = log;
  }

  /** What the indexes of this server were found to tell truly; undefined before one was put to the test. */
  get traits(): IndexTraits | undefined {
    return this.#traits;
  }

  /** The entries of the folder at `url`, under `prefix`. */
  async list(prefix: string, url: URL, context: Context): Promise<ObjectInfo[]> {
    const index = await this.#entries(url, context.signal);
    const traits = await this.#believe(index, url, context);
    return index.map((entry) => infoOf(prefix, entry, traits));
  }

  async #entries(url: URL, signal: AbortSignal): Promise<IndexEntry[]> {
    const answer = await this.#client.ask({ method: 'GET', url, signal });
    if (answer.status !== 200) {
      discard(answer);
      throw refusal(show(url), answer.status, indexHint(answer.status));
    }
    const chunks: Uint8Array[] = [];
    let size = 0;
    const sink: ByteSink = {
      write(chunk) {
        size += chunk.length;
        if (size > LARGEST_INDEX)
          throw new MirageError(`${show(url)}: the index is too large`, { errno: 'EFBIG' });
        chunks.push(chunk);
      },
    };
    const { codings } = describe(answer.status, answer.headers);
    await pour(answer, EVERYTHING, sink, {
      subject: show(url),
      codings,
      digest: false,
      signal,
    });
    const text = Buffer.concat(chunks).toString('utf8');
    const kind = header(answer.headers, 'content-type') ?? '';
    const entries = /json/i.test(kind)
      ? parseJsonIndex(text)
      : /html/i.test(kind)
        ? parseHtmlIndex(text, answer.url)
        : undefined;
    if (entries !== undefined) return entries;
    throw new MirageError(`${show(url)}: this is no index of a directory`, {
      errno: 'EIO',
      hint: 'the server must list its folders (autoindex of nginx, mod_autoindex of Apache), or list the files in the mount: `files`',
    });
  }

  /** What can be made of an index. The first one with a file of known size is put to the test. */
  async #believe(index: readonly IndexEntry[], url: URL, context: Context): Promise<IndexTraits> {
    if (this.#traits !== undefined) return this.#traits;
    let sample: IndexEntry | undefined;
    for (const entry of index) {
      // Rounding shows in large sizes.
      if (entry.size !== undefined && entry.size > (sample?.size ?? -1)) sample = entry;
    }
    if (sample === undefined) return unbelieved;
    this.#learning ??= this.#compare(sample, url, context).finally(() => {
      this.#learning = undefined;
    });
    return this.#learning;
  }

  async #compare(sample: IndexEntry, directoryUrl: URL, { signal }: Context): Promise<IndexTraits> {
    try {
      const answer = await this.#head(new URL(`./${encodeURIComponent(sample.name)}`, directoryUrl), signal);
      discard(answer);
      if (answer.status !== 200 && answer.status !== 206) return unbelieved;
      this.#traits = traitsOf(sample, describe(answer.status, answer.headers));
      return this.#traits;
    } catch (error) {
      this.#log.debug('the index could not be put to the test', { reason: String(error) });
      signal.throwIfAborted();
      return unbelieved;
    }
  }
}

function infoOf(
  prefix: string,
  { name, kind, size, modified = 0 }: IndexEntry,
  traits: IndexTraits,
): ObjectInfo {
  const key = prefix === '' ? name : `${prefix}/${name}`;
  const seconds = modified === 0 ? 0 : modified + traits.zone;
  const at: Timestamp = { seconds, nanoseconds: 0 };
  if (kind === 'directory') return { ...directory(key), modified: at };
  const exact = traits.exactSizes && size !== undefined;
  const validator = exact ? traits.versionOf?.(modified, size) : undefined;
  return {
    key,
    kind,
    size: exact ? size : undefined,
    modified: at,
    validator,
    attributes: exact ? {} : undefined,
  };
}

export function directory(key: string): ObjectInfo {
  return {
    key,
    kind: 'directory',
    size: undefined,
    modified: { seconds: 0, nanoseconds: 0 },
    validator: undefined,
    attributes: {},
  };
}

const indexHint = (status: number): { hint: string } | undefined =>
  status === 403
    ? { hint: 'the server shows no index of this folder; files in it can be opened by their names' }
    : undefined;
