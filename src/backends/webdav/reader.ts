import { MirageError } from '../../errors/mirage-error.js';
import type { ByteRange, ByteSink, Context, ObjectInfo, Validator } from '../contract.js';
import { type Headers as AnswerHeaders, contentRange } from '../web/versions.js';
import type { Addresses } from './addresses.js';
import { type Client, discard, dump } from './client.js';
import { anotherVersion, toMirageError } from './errors.js';
import { pour, wholeSize } from './pour.js';
import { isByTime, timestampOf, validatorOfHeaders } from './properties.js';
import type { Resources } from './resources.js';

/** Bytes from which a range goes the short way, without a general client: below it, the answer is in one piece anyway. */
const LARGE = 256 * 1024;

/** GET of a range. */
export class Reader {
  readonly #client: Client;
  readonly #addresses: Addresses;
  readonly #resources: Resources;

  constructor(client: Client, addresses: Addresses, resources: Resources) {
    this.#client = client;
    this.#addresses = addresses;
    this.#resources = resources;
  }

  async read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Promise<ObjectInfo> {
    const { signal } = context;
    if (range.length === 0) return this.#existing(key, context, match);
    const attempt = { operation: 'read', subject: key, signal };
    const path = this.#addresses.path(key, 'file');
    const headers = { range: `bytes=${range.offset}-${range.offset + range.length - 1}` };
    if (range.length >= LARGE && match !== undefined) {
      let info: ObjectInfo | undefined;
      const accept = (answered: AnswerHeaders): boolean => {
        info = this.#infoOf(key, answered, contentRange(answered)?.size, match);
        // What does not fit is looked at the other way, which says why.
        return info.validator === match;
      };
      const whole = await this.#client.readRange(
        { path, headers, range, subject: key, signal, accept },
        sink,
      );
      if (whole && info !== undefined) return info;
    }
    const answer = await this.#client.request({ method: 'GET', path, headers }, attempt, [416]);
    if (answer.status === 416) {
      // Past the end, or an empty file: nothing to read, but still a version to tell.
      await dump(answer.body);
      return this.#existing(key, context, match);
    }
    // No If-Match: servers compare it strongly, and a file that was just written has a weak ETag. The head of the answer tells as much.
    const info = this.#infoOf(key, answer.headers, wholeSize(answer), match);
    const { validator } = info;
    if (match !== undefined && validator !== match) {
      discard(answer.body);
      if (validator !== undefined && isByTime(validator) && !isByTime(match)) {
        throw somethingElse(key, answer.headers['content-type']);
      }
      throw anotherVersion(key);
    }
    try {
      return { ...info, size: await pour(answer, range, sink, signal) };
    } catch (error) {
      throw toMirageError(error, attempt);
    }
  }

  #infoOf(
    key: string,
    { 'last-modified': modified, etag }: AnswerHeaders,
    size: number | undefined,
    match: Validator | undefined,
  ): ObjectInfo {
    const byTime = match === undefined ? this.#resources.withoutTags : isByTime(match);
    return {
      key,
      kind: 'file',
      size,
      modified: timestampOf(single(modified)),
      validator: validatorOfHeaders({ etag: single(etag), 'last-modified': single(modified) }, size, byTime),
      attributes: undefined,
    };
  }

  /** An object of which nothing is read; it must be there, and be the version that was asked for. */
  async #existing(key: string, { signal }: Context, match: Validator | undefined): Promise<ObjectInfo> {
    const found = await this.#resources.stat(key, signal);
    if (found === undefined) throw new MirageError(`${key}: no such file`, { errno: 'ENOENT' });
    if (match !== undefined && found.validator !== match) throw anotherVersion(key);
    return found;
  }
}

const single = (value: string | string[] | undefined): string | undefined => [value].flat()[0];

const somethingElse = (key: string, type: string | undefined): MirageError =>
  new MirageError(`read ${key}: the server sent ${type ?? 'something'} instead of the file`, {
    errno: 'EIO',
    hint: 'a login page or a proxy may have answered in place of the server: open the URL in a browser',
  });
