import { Agent, type Dispatcher } from 'undici';
import { sleep, systemTimers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteSink } from '../contract.js';
import { type CredentialOptions, Credentials } from '../web/credentials.js';
import { refusal, toMirageError } from '../web/errors.js';
import { type RangeQuestion, RangeReader } from '../web/range-reader.js';
import { type Headers, header } from '../web/versions.js';

/** Connections to one server; those that are idle are kept open for the next request. */
const CONNECTIONS = 64;
const CONNECT_MILLISECONDS = 5_000;
const KEEP_ALIVE_MILLISECONDS = 30_000;
const REDIRECTS = 10;
/** The longest that one request waits because a server said `Retry-After`, milliseconds: less than the silence that ends a call. */
const PATIENCE = 15_000;

export interface ClientOptions extends CredentialOptions {
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Milliseconds of silence after which a request is given up. */
  readonly timeout: number;
}

export interface Question {
  readonly method: 'GET' | 'HEAD';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** A redirect to the same path with a slash at its end is the answer: what is there is a directory. */
  readonly stopAtSlash?: boolean;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** Where the answer came from, after redirects. */
  readonly url: URL;
  /** The body must be read to its end or destroyed. */
  readonly body: Dispatcher.ResponseData['body'];
}

/** Requests to web servers: a pool of connections, redirects, credentials that stay at home, and patience where a server asks for it. */
export class HttpClient {
  readonly #agent: Agent;
  readonly #ranges: RangeReader;
  readonly #own: Readonly<Record<string, string>>;
  readonly #credentials: Credentials;
  readonly #timeout: number;
  /** Origin → time on `performance.now()` before which it wants no request. */
  readonly #heldUntil = new Map<string, number>();

  constructor(options: ClientOptions) {
    this.#timeout = options.timeout;
    this.#own = lowerCased(options.headers ?? {});
    this.#credentials = new Credentials(options);
    const connectTimeout = Math.min(CONNECT_MILLISECONDS, options.timeout);
    this.#ranges = new RangeReader({ timeout: options.timeout, connectTimeout });
    this.#agent = new Agent({
      connections: CONNECTIONS,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MILLISECONDS,
      headersTimeout: options.timeout,
      bodyTimeout: options.timeout,
      connect: { timeout: connectTimeout },
    });
  }

  /** Asks, and follows redirects. Resolves with whatever status the server answers in the end. */
  async ask(question: Question): Promise<Answer> {
    const deadline = performance.now() + PATIENCE;
    const seen = new Set<string>();
    let { url } = question;
    for (;;) {
      seen.add(url.href);
      const answer = await this.#askPatiently(question, url, deadline);
      const location = REDIRECT.has(answer.status) ? header(answer.headers, 'location') : undefined;
      if (location === undefined) return answer;
      const next = this.#target(question, url, location);
      if (question.stopAtSlash && isWithSlash(question.url, next)) return answer;
      discard(answer);
      if (seen.has(next.href) || seen.size > REDIRECTS) {
        throw new MirageError(`${show(question.url)}: the server redirects endlessly`, {
          errno: 'ELOOP',
          hint: 'open the URL in a browser: the server may want a login or another address',
        });
      }
      url = next;
    }
  }

  /** The short way for a large range; `headers` are without those of the mount. False: nothing came of it, and `ask` has to. */
  async pourRange(question: RangeQuestion, sink: ByteSink): Promise<boolean> {
    const { url, headers } = question;
    if ((this.#heldUntil.get(url.origin) ?? 0) > performance.now()) return false;
    return this.#ranges.read(
      { ...question, headers: { ...COMMON, ...this.#ownHeaders('GET', url), ...headers } },
      sink,
    );
  }

  async close(): Promise<void> {
    this.#ranges.close();
    await this.#agent.destroy();
  }

  #target(question: Question, from: URL, location: string): URL {
    const target = resolveUrl(location, from);
    if (target === undefined || (target.protocol !== 'http:' && target.protocol !== 'https:')) {
      throw new MirageError(`${show(question.url)}: redirected to what is no web address`, { errno: 'EIO' });
    }
    if (from.protocol === 'https:' && target.protocol === 'http:') {
      throw new MirageError(`${show(question.url)}: redirected from https to http`, {
        errno: 'EACCES',
        hint: 'the server gives up encryption: if that is meant, mount the http:// address itself',
      });
    }
    target.hash = '';
    return target;
  }

  /** One request, repeated when the server says when. */
  async #askPatiently(question: Question, url: URL, deadline: number): Promise<Answer> {
    const { signal } = question;
    for (;;) {
      const wait = (this.#heldUntil.get(url.origin) ?? 0) - performance.now();
      if (wait > 0) {
        if (performance.now() + wait > deadline) {
          throw new MirageError(`${show(url)}: the server wants no request for ${Math.ceil(wait / 1000)} s`, {
            errno: 'EBUSY',
            retryable: true,
            hint: 'the server limits requests: try again later',
          });
        }
        await sleep(systemTimers, wait, signal);
      }
      const answer = await this.#sendAsAsked(question, url);
      const pause = answer.status === 429 || answer.status === 503 ? retryAfter(answer.headers) : undefined;
      if (pause === undefined) return answer;
      discard(answer);
      this.#heldUntil.set(url.origin, performance.now() + pause);
      if (performance.now() + pause > deadline) throw refusal(show(url), answer.status);
    }
  }

  /** One request, and once more where the server has first to say how it wants credentials. */
  async #sendAsAsked(question: Question, url: URL): Promise<Answer> {
    // Credentials stay at home, whoever asks for them.
    const atHome = url.origin === question.url.origin;
    const own = atHome ? this.#ownHeaders(question.method, url) : {};
    const answer = await this.#send(question, url, own);
    if (answer.status !== 401 || !atHome) return answer;
    if (!this.#credentials.refused(answer.headers['www-authenticate'], own.authorization)) return answer;
    discard(answer);
    return this.#send(question, url, this.#ownHeaders(question.method, url));
  }

  #ownHeaders(method: string, { pathname, search }: URL): Record<string, string> {
    const authorization = this.#credentials.authorization(method, pathname + search);
    return { ...this.#own, ...(authorization !== undefined && { authorization }) };
  }

  async #send(
    { method, headers, signal }: Question,
    url: URL,
    own: Readonly<Record<string, string>>,
  ): Promise<Answer> {
    try {
      signal.throwIfAborted();
      const {
        statusCode,
        headers: answered,
        body,
      } = await this.#agent.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        signal,
        headers: {
          ...COMMON,
          ...own,
          ...headers,
        },
        // A HEAD has nothing to wait for behind its header.
        headersTimeout: this.#timeout,
      });
      return { status: statusCode, headers: answered, url, body };
    } catch (error) {
      throw toMirageError(error, show(url), signal);
    }
  }
}

// Ranges of an encoded form would be of no use.
const COMMON = { 'user-agent': 'mirage', 'accept-encoding': 'identity' };

const REDIRECT = new Set([301, 302, 303, 307, 308]);

/** Ends an answer whose body nobody wants. A short one is read, so that its connection can be used again. */
export function discard({ body }: Answer): void {
  body.on('error', () => undefined);
  body.dump({ limit: 65_536 }).catch(() => undefined);
}

/** undefined: it is no address. */
export const resolveUrl = (reference: string, base: URL): URL | undefined =>
  URL.canParse(reference, base.href) ? new URL(reference, base) : undefined;

/** A URL as a person may read it: without its query, which may hold a signature. */
export const show = (url: URL): string => `${url.origin}${url.pathname}`;

export function isWithSlash(url: URL, target: URL): boolean {
  return target.origin === url.origin && target.pathname === `${url.pathname}/`;
}

const lowerCased = (headers: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));

/** Milliseconds; seconds or a date in the header (RFC 9110, section 10.2.3). */
function retryAfter(headers: Headers): number | undefined {
  const text = header(headers, 'retry-after');
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const at = Date.parse(text);
  return Number.isFinite(at) ? Math.max(0, at - Date.now()) : undefined;
}
