import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type {
  Backend,
  ByteRange,
  ByteSink,
  Capabilities,
  Context,
  ListPage,
  ObjectInfo,
  Timestamp,
  Validator,
} from '../contract.js';
import { refusal } from '../web/errors.js';
import { conditionOf, type Described, describe, type Headers, header, isStrong } from '../web/versions.js';
import { type Answer, discard, type HttpClient, isWithSlash, resolveUrl, show } from './client.js';
import { cutTo } from './index-traits.js';
import { directory, Indexes } from './indexes.js';
import type { Given, Places } from './places.js';
import { type Poured, pour } from './pour.js';
import { isDigest, Verified } from './verified.js';

/** A range of at least so many bytes from the start is everything: no range is asked for. */
const EVERYTHING = 2 ** 40;
/** A range of at least so many bytes, which are not everything, takes the short way from the socket to the sink. */
const LARGE = 2 ** 20;
/** Files whose size and version a HEAD told, to notice when a GET says otherwise. */
const REMEMBERED = 10_000;

export interface HttpBackendOptions {
  readonly client: HttpClient;
  readonly places: Places;
  /** Takes a page of HTML for the content of any file. */
  readonly webPages: boolean;
  readonly log: Log;
}

/**
 * Files of web servers, read-only. A listing carries what the index of the server tells; where that is rounded, size and version are left out
 * and `stat` asks for the file itself.
 */
export class HttpBackend implements Backend {
  readonly capabilities: Capabilities = {
    readOnly: true,
    preconditions: {
      writeAbsent: false,
      writeMatch: false,
      multipartAbsent: false,
      multipartMatch: false,
      copyAbsent: false,
      removeMatch: false,
    },
    attributes: false,
    directories: 'real',
    maximumSize: 0,
    maximumKeyBytes: Number.POSITIVE_INFINITY,
  };
  readonly #client: HttpClient;
  readonly #places: Places;
  readonly #webPages: boolean;
  readonly #told = new Map<string, { readonly validator: Validator; readonly size: number }>();
  /** Servers that answer a HEAD with something else than what a GET has. */
  readonly #withoutHead = new Set<string>();
  /** Servers that answer 412 to an If-Match that holds. */
  readonly #withoutIfMatch = new Set<string>();
  readonly #indexes: Indexes;

  constructor({ client, places, webPages, log }: HttpBackendOptions) {
    this.#client = client;
    this.#places = places;
    this.#webPages = webPages;
    this.#indexes = new Indexes(client, (url, signal) => this.#head(url, signal), log);
  }

  async stat(key: string, { signal }: Context): Promise<ObjectInfo | undefined> {
    signal.throwIfAborted();
    if (key === '' || this.#places.listed(key) !== undefined) return directory(key);
    const file = this.#places.file(key);
    if (file === undefined) return undefined;
    if (file.size !== undefined && file.etag !== undefined) return given(key, file, file.size, file.etag);
    const answer = await this.#head(file.url, signal);
    discard(answer);
    const { status, headers } = answer;
    if (status >= 300 && status < 400) {
      const location = header(headers, 'location');
      const target = location === undefined ? undefined : resolveUrl(location, answer.url);
      if (target !== undefined && isWithSlash(file.url, target)) return directory(key);
    }
    if (status === 404 || status === 410) return undefined;
    // A range of an empty file.
    if (status !== 200 && status !== 206 && status !== 416) throw refusal(show(file.url), status);
    this.#refusePage(key, headers, answer.url);
    const described = describe(status, headers);
    if (described.size !== undefined && described.validator !== undefined) {
      this.#remember(key, described.validator, described.size);
    }
    return this.#info(key, file, described);
  }

  async list(prefix: string, _cursor: string | undefined, context: Context): Promise<ListPage> {
    const listed = this.#places.listed(prefix);
    if (listed !== undefined) {
      context.signal.throwIfAborted();
      const below = prefix === '' ? '' : `${prefix}/`;
      const entries = listed.map(({ name, file }) =>
        file === undefined ? directory(below + name) : given(below + name, file, file.size, file.etag),
      );
      return { entries, cursor: undefined };
    }
    const url = this.#places.index(prefix);
    if (url === undefined) throw new MirageError(`${prefix}: no such directory`, { errno: 'ENOENT' });
    return { entries: await this.#indexes.list(prefix, url, context), cursor: undefined };
  }

  async read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Promise<ObjectInfo> {
    const file = this.#places.file(key);
    if (file === undefined) throw missing(key);
    if (range.length === 0) return this.#existing(key, context, match);
    const verified = match !== undefined && isDigest(match) ? new Verified(sink, match) : undefined;
    const everything = verified !== undefined || (range.offset === 0 && range.length >= EVERYTHING);
    const asked: Record<string, string> = everything
      ? {}
      : { range: `bytes=${range.offset}-${range.offset + range.length - 1}` };
    if (!everything && range.length >= LARGE) {
      const info = await this.#pourLarge(key, file, range, asked, sink, context, match);
      if (info !== undefined) return info;
    }
    const answer = await this.#get(
      file.url,
      asked,
      verified === undefined ? match : undefined,
      context.signal,
    );
    const { status, headers } = answer;
    if (status === 416) {
      discard(answer);
      return this.#existing(key, context, match);
    }
    const described = describe(status, headers);
    try {
      if (status !== 200 && status !== 206) throw refusal(key, status);
      if (isWithSlash(file.url, answer.url)) throw missing(key);
      this.#refusePage(key, headers, answer.url);
      if (match !== undefined && verified === undefined && described.validator !== match) throw another(key);
      this.#refuseLie(key, described, match);
    } catch (error) {
      discard(answer);
      throw error;
    }
    const info = {
      ...this.#info(key, file, described),
      ...(status === 200 && !everything && { sequential: true }),
    };
    if (verified === undefined) sink.begin?.(info);
    const poured = await pour(answer, range, verified ?? sink, {
      subject: key,
      codings: described.codings,
      digest: described.validator === undefined || verified !== undefined,
      signal: context.signal,
    });
    await verified?.settle(poured.digest, key);
    return { ...info, ...versionOf(described, poured) };
  }

  write(): Promise<ObjectInfo> {
    return Promise.reject(readOnly());
  }

  remove(): Promise<void> {
    return Promise.reject(readOnly());
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  /** The answer to a HEAD, or to what comes nearest: one byte, where the server knows no HEAD, refuses it or keeps the size back. */
  async #head(url: URL, signal: AbortSignal): Promise<Answer> {
    if (!this.#withoutHead.has(url.origin)) {
      const answer = await this.#client.ask({ method: 'HEAD', url, signal, stopAtSlash: true });
      const { status, headers } = answer;
      const unable = status === 400 || status === 403 || status === 405 || status === 501;
      const tells = status !== 200 || describe(status, headers).size !== undefined;
      if (!unable && (tells || header(headers, 'content-encoding') !== undefined)) return answer;
      discard(answer);
    }
    const headers = { range: 'bytes=0-0' };
    const answer = await this.#client.ask({ method: 'GET', url, headers, signal, stopAtSlash: true });
    // What a HEAD is good for is seen by what it was good for.
    if (answer.status === 200 || answer.status === 206) this.#withoutHead.add(url.origin);
    return answer;
  }

  async #get(
    url: URL,
    range: Record<string, string>,
    match: Validator | undefined,
    signal: AbortSignal,
  ): Promise<Answer> {
    const ask = (condition: Record<string, string>): Promise<Answer> =>
      this.#client.ask({ method: 'GET', url, headers: { ...range, ...condition }, signal });
    const condition = (): Record<string, string> => this.#conditionFor(url, match, 'range' in range);
    if (match !== undefined && !this.#withoutIfMatch.has(url.origin)) {
      const answer = await ask(condition());
      if (answer.status !== 412) return answer;
      discard(answer);
      if (!isStrong(match)) return answer;
      // The version has changed; or the server compares wrongly what it has sent itself.
      const head = await this.#head(url, signal);
      discard(head);
      if (describe(head.status, head.headers).validator !== match) return answer;
      this.#withoutIfMatch.add(url.origin);
    }
    return ask(condition());
  }

  /** undefined: nothing has come, and the usual way has to ask. */
  async #pourLarge(
    key: string,
    file: Given,
    range: ByteRange,
    asked: Record<string, string>,
    sink: ByteSink,
    { signal }: Context,
    match: Validator | undefined,
  ): Promise<ObjectInfo | undefined> {
    let info: ObjectInfo | undefined;
    const accept = (headers: Headers): boolean => {
      const described = describe(206, headers);
      if (described.validator === undefined) return false;
      this.#refusePage(key, headers, file.url);
      if (match !== undefined && described.validator !== match) throw another(key);
      this.#refuseLie(key, described, match);
      info = this.#info(key, file, described);
      sink.begin?.(info);
      return true;
    };
    const headers = { ...asked, ...this.#conditionFor(file.url, match, true) };
    const question = { url: file.url, headers, range, subject: key, signal, accept };
    return (await this.#client.pourRange(question, sink)) ? info : undefined;
  }

  #conditionFor(url: URL, match: Validator | undefined, ranged: boolean): Record<string, string> {
    if (match === undefined) return {};
    if (!this.#withoutIfMatch.has(url.origin)) return conditionOf(match);
    return isStrong(match) && ranged ? { 'if-range': match } : {};
  }

  #info(key: string, file: Given, { size, modified, validator }: Described): ObjectInfo {
    return {
      key,
      kind: 'file',
      size,
      modified:
        file.modified === undefined
          ? cutTo(this.#indexes.traits?.grain ?? 1, modified)
          : timeOf(file.modified),
      validator,
      attributes: {},
    };
  }

  async #existing(key: string, context: Context, match: Validator | undefined): Promise<ObjectInfo> {
    const info = await this.stat(key, context);
    if (info?.kind !== 'file') throw missing(key);
    if (match !== undefined && !isDigest(match) && info.validator !== match) throw another(key);
    return info;
  }

  /** A login page or an error in the clothes of a success: a page where no page can be. */
  #refusePage(key: string, headers: Headers, url: URL): void {
    if (this.#webPages || !/^\s*(text\/html|application\/xhtml)/i.test(header(headers, 'content-type') ?? ''))
      return;
    if (!/[^/]\.[^./]+$/.test(key) || PAGE_NAME.test(key)) return;
    throw new MirageError(`${key}: the server sends a web page instead of the file`, {
      errno: 'EIO',
      hint: `it may be a login or an error page: see ${show(url)}; if it is meant, set \`webPages: true\``,
    });
  }

  /** One version has one size. */
  #refuseLie(key: string, { size, validator }: Described, match: Validator | undefined): void {
    const told = this.#told.get(key);
    if (match === undefined || told?.validator !== validator || size === undefined || told?.size === size)
      return;
    throw new MirageError(`${key}: the server tells ${told?.size} bytes, then ${size} of the same version`, {
      errno: 'EIO',
      hint: 'the server or a proxy in front of it is broken',
    });
  }

  #remember(key: string, validator: Validator, size: number): void {
    this.#told.delete(key);
    this.#told.set(key, { validator, size });
    if (this.#told.size <= REMEMBERED) return;
    for (const oldest of this.#told.keys()) {
      this.#told.delete(oldest);
      return;
    }
  }
}

const PAGE_NAME = /\.(html?|xhtml?|shtml|php\d?|aspx?|jsp|cgi|do)$/i;

function versionOf({ size, validator }: Described, poured: Poured): Pick<ObjectInfo, 'size' | 'validator'> {
  return {
    size: size ?? poured.size,
    validator: validator ?? (poured.digest === undefined ? undefined : `sha256-${poured.digest}`),
  };
}

/** A file as the configuration describes it. */
function given(
  key: string,
  file: Given,
  size: number | undefined,
  validator: Validator | undefined,
): ObjectInfo {
  return {
    key,
    kind: 'file',
    size,
    modified: timeOf(file.modified ?? 0),
    validator,
    attributes: size === undefined ? undefined : {},
  };
}

const timeOf = (milliseconds: number): Timestamp => ({
  seconds: Math.floor(milliseconds / 1000),
  nanoseconds: (((milliseconds % 1000) + 1000) % 1000) * 1e6,
});

const missing = (key: string): MirageError => new MirageError(`${key}: no such file`, { errno: 'ENOENT' });
const another = (key: string): MirageError =>
  new MirageError(`${key} is another version by now`, { errno: 'ESTALE' });
const readOnly = (): MirageError =>
  new MirageError('files of a web server can only be read', {
    errno: 'EROFS',
    hint: 'mount it with `mode: read`',
  });
