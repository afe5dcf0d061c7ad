import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { type Dispatcher, Pool } from 'undici';
import { sleep, systemTimers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteSink } from '../contract.js';
import { type CredentialOptions, Credentials } from '../web/credentials.js';
import { type RangeQuestion, RangeReader } from '../web/range-reader.js';
import { type Attempt, Refusal, toMirageError } from './errors.js';

export interface ClientOptions {
  /** Scheme, host and port. */
  readonly origin: string;
  readonly credentials: CredentialOptions;
  readonly headers: Readonly<Record<string, string>>;
  /** PEM. */
  readonly ca: string | undefined;
  /** Milliseconds. */
  readonly connectTimeout: number;
}

export interface Request {
  readonly method: string;
  /** Percent-encoded, with a leading slash. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer | Readable;
  /** 423, and 424 where the folder is locked, is waited for: locks of other writers, and ours on the folder, are short. */
  readonly patient?: boolean;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Dispatcher.ResponseData['body'];
}

/** What is asked of a large range: a path in place of the URL. */
export type RangeRequest = Omit<RangeQuestion, 'url'> & { readonly path: string };

const CONNECTIONS = 32;
/** Servers that do not say how long they keep a connection open: Apache's own default is 5 s. Milliseconds. */
const KEEP_ALIVE = 4_000;
const REDIRECTS = 5;
/** Methods that change nothing: they may follow a redirect. */
const FOLLOWING = new Set(['GET', 'HEAD', 'PROPFIND', 'OPTIONS']);
/** Longest Retry-After that is waited for here, milliseconds, and how often: callers above have a patience of their own. */
const PATIENCE = 10_000;
const WAITS = 3;
/** Between two tries of what is locked, milliseconds on average. */
const LOCKED_PAUSE = 30;
/** Milliseconds of silence in the middle of a range. The layers watch, too, and are not so patient. */
const RANGE_SILENCE = 60_000;
/** Bytes of an error page that are read for its reason. */
const REASON = 4096;

/** HTTP connections to one server. Credentials never leave for another one. */
export class Client {
  readonly #pool: Pool;
  readonly #origin: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #credentials: Credentials;
  /** The scheme of a Destination that the server takes; undefined: none was named yet. */
  #destinations: 'https' | 'http' | undefined;
  /** Knows no authorities but the usual ones. */
  readonly #ranges: RangeReader | undefined;

  constructor({ origin, credentials, headers, ca, connectTimeout }: ClientOptions) {
    this.#origin = origin;
    this.#headers = {
      // A compressed answer has no ranges.
      'accept-encoding': 'identity',
      ...headers,
    };
    this.#credentials = new Credentials(credentials);
    this.#ranges = ca === undefined ? new RangeReader({ connectTimeout, timeout: RANGE_SILENCE }) : undefined;
    this.#pool = new Pool(origin, {
      connections: CONNECTIONS,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE,
      // The layers watch for progress.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: { timeout: connectTimeout, ...(ca !== undefined && { ca }) },
    });
  }

  /**
   * Sends one request; resolves with an answer whose status is 2xx or one of `accepts`, its body unread. Whoever gets an answer
   * reads its body or dumps it.
   */
  async request(request: Request, attempt: Attempt, accepts: readonly number[] = []): Promise<Answer> {
    try {
      const answer = await this.#patiently(request, attempt.signal);
      if ((answer.status >= 200 && answer.status < 300) || accepts.includes(answer.status)) return answer;
      throw new Refusal(answer.status, await reasonOf(answer));
    } catch (error) {
      throw toMirageError(error, attempt);
    }
  }

  /** The same for an answer of which only the head matters. */
  async head(
    request: Request,
    attempt: Attempt,
    accepts: readonly number[] = [],
  ): Promise<Omit<Answer, 'body'>> {
    const { status, headers, body } = await this.request(request, attempt, accepts);
    await dump(body);
    return { status, headers };
  }

  /** GET of a large range by the shortest way; false: nothing has happened, and it is to be asked for with `request`. */
  async readRange({ path, headers, ...question }: RangeRequest, sink: ByteSink): Promise<boolean> {
    if (this.#ranges === undefined) return false;
    const url = new URL(this.#origin + path);
    return this.#ranges.read(
      { ...question, url, headers: { ...this.#ownHeaders('GET', path), ...headers } },
      sink,
    );
  }

  close(): Promise<void> {
    this.#ranges?.close();
    return this.#pool.destroy();
  }

  /** 429 and 503 with Retry-After: nothing has happened yet, and the server says when to come back (RFC 9110, 10.2.3). */
  async #patiently(request: Request, signal: AbortSignal | undefined): Promise<Answer> {
    const started = performance.now();
    for (let waits = 0; ; waits++) {
      const answer = await overall(request.method, await this.#address(request, signal));
      const locked = answer.status === 423 || answer.status === 424;
      if (locked && request.patient === true && performance.now() - started < PATIENCE) {
        await dump(answer.body);
        await sleep(systemTimers, LOCKED_PAUSE * (0.5 + Math.random()), signal ?? NEVER);
        waits--;
        continue;
      }
      if (answer.status !== 429 && answer.status !== 503) return answer;
      const pause = retryAfter(answer.headers['retry-after']);
      if (pause === undefined || pause > PATIENCE || waits === WAITS || !isRepeatable(request)) return answer;
      await dump(answer.body);
      await sleep(systemTimers, pause, signal ?? NEVER);
    }
  }

  /**
   * A server behind an end of the encryption believes that it is asked over http, and takes a Destination with https for one elsewhere: 502.
   * It is given the one that it knows then.
   */
  async #address(request: Request, signal: AbortSignal | undefined): Promise<Answer> {
    const destination = request.headers?.destination;
    const names = request.method === 'COPY' || request.method === 'MOVE';
    if (!names || !destination?.startsWith('https:') || this.#destinations === 'https') {
      return this.#follow(request, signal);
    }
    const plain = { ...request, headers: { ...request.headers, destination: `http${destination.slice(5)}` } };
    if (this.#destinations === 'http') return this.#follow(plain, signal);
    const answer = await this.#follow(request, signal);
    if (answer.status !== 502) {
      this.#destinations = 'https';
      return answer;
    }
    await dump(answer.body);
    const again = await this.#follow(plain, signal);
    if (again.status !== 502) this.#destinations = 'http';
    return again;
  }

  #ownHeaders(method: string, target: string): Record<string, string> {
    const authorization = this.#credentials.authorization(method, target);
    return { ...this.#headers, ...(authorization !== undefined && { authorization }) };
  }

  /** One request, and once more where the server has first to say how it wants credentials. */
  async #authorized(
    request: Request,
    path: string,
    signal: AbortSignal | undefined,
  ): Promise<Dispatcher.ResponseData> {
    const { method, body = null } = request;
    for (let again = false; ; again = true) {
      const own = this.#ownHeaders(method, path);
      const headers = { ...own, ...request.headers };
      const answer = await this.#pool.request({
        method: method as Dispatcher.HttpMethod,
        path,
        headers,
        body,
        signal: signal ?? null,
      });
      const asked = answer.statusCode === 401 && !again;
      if (!asked || !this.#credentials.refused(answer.headers['www-authenticate'], own.authorization)) {
        return answer;
      }
      await dump(answer.body);
      if (isRepeatable(request)) continue;
      throw new MirageError(`${method} ${path}: the server wants its credentials anew`, {
        errno: 'EIO',
        retryable: true,
      });
    }
  }

  async #follow(request: Request, signal: AbortSignal | undefined): Promise<Answer> {
    let { path } = request;
    for (let redirects = 0; ; redirects++) {
      const answer = await this.#authorized(request, path, signal);
      const { location } = answer.headers;
      const moved = [301, 302, 307, 308].includes(answer.statusCode);
      if (!moved || typeof location !== 'string' || !FOLLOWING.has(request.method)) {
        return { status: answer.statusCode, headers: answer.headers, body: answer.body };
      }
      await dump(answer.body);
      const target = URL.canParse(location, this.#origin + path)
        ? new URL(location, this.#origin + path)
        : undefined;
      if (target?.origin !== this.#origin) {
        throw new MirageError(`${request.method} ${path}: redirected to ${target?.origin ?? 'nowhere'}`, {
          errno: 'EIO',
          hint: 'another server is asked to answer: put its address into `url` of the mount if you trust it',
        });
      }
      if (redirects === REDIRECTS) {
        throw new MirageError(`${request.method} ${path}: redirected again and again`, {
          errno: 'ELOOP',
          hint: 'correct `url` of the mount: the server sends every request elsewhere',
        });
      }
      path = target.pathname + target.search;
    }
  }
}

/** A stream was consumed by the first try. */
const isRepeatable = ({ body }: Request): boolean => typeof body !== 'object' || Buffer.isBuffer(body);

/**
 * A change that is answered with 207 has failed, for a reason that lies in another resource: Apache says so of a new name in a folder
 * that is locked. (RFC 4918, 9.6.1 and 11.4)
 */
async function overall(method: string, answer: Answer): Promise<Answer> {
  if (answer.status !== 207 || method === 'PROPFIND' || method === 'PROPPATCH') return answer;
  const text = await answer.body.text();
  const codes = [...text.matchAll(/HTTP\/\S+\s+(\d{3})/g)].map(([, code]) => Number(code));
  const failures = codes.filter((code) => code >= 300);
  return { ...answer, status: failures.includes(423) ? 423 : (failures[0] ?? 500) };
}

/** Reads the rest of a body that nobody wants, so that its connection can be used again. */
export async function dump(body: Answer['body']): Promise<void> {
  await body.dump({ limit: 256 * 1024 }).catch(() => undefined);
}

/** Breaks an answer off: more of it may be under way than is worth waiting for. */
export function discard(body: Answer['body'], reason?: Error): void {
  body.on('error', () => undefined);
  body.destroy(reason);
}

/** Milliseconds; seconds or a date in the header. */
function retryAfter(value: string | string[] | undefined): number | undefined {
  if (typeof value !== 'string') return undefined;
  if (/^\d{1,6}$/.test(value)) return Number(value) * 1000;
  const until = Date.parse(value);
  return Number.isNaN(until) ? undefined : Math.max(0, until - Date.now());
}

/** One line of what the server says about a refusal. */
async function reasonOf({ body }: Answer): Promise<string> {
  let text = '';
  try {
    for await (const chunk of body) {
      text += (chunk as Buffer).toString();
      if (text.length > REASON) break;
    }
  } catch {
    // The status says enough.
  }
  const message = /<(?:\w+:)?message>([^<]*)</.exec(text)?.[1] ?? /<title>([^<]*)</i.exec(text)?.[1] ?? text;
  return message
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
    .trim()
    .slice(0, 200);
}

const NEVER = new AbortController().signal;
