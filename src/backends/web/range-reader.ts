/**
 * GET of a range straight from the socket into the sink: one buffer takes the bytes of every connection, and no stream stands between.
 * A general client spends more than twice the processor time on the same bytes. Only the one answer that a good server gives is understood here
 * (206 with the very range, or all where all is asked for; its length, no coding); the request of any other is made again by the general client, whose business it stays.
 * Sources: RFC 9112; https://nodejs.org/api/net.html#netconnectoptions-connectlistener (`onread`).
 */
import { connect, isIP, type OnReadOpts, type Socket } from 'node:net';
import { connect as connectSecurely } from 'node:tls';
import type { ByteRange, ByteSink } from '../contract.js';
import { endedEarly, toMirageError } from './errors.js';
import { LARGEST_HEAD, parseResponseHead, type ResponseHead } from './response-head.js';
import { contentRange, type Headers, header } from './versions.js';

/** Connections in all, where not said otherwise; a request beyond them goes the general way. */
const CONNECTIONS = 16;
const IDLE_MILLISECONDS = 30_000;
/** Bytes that are taken from a socket at a time at most. */
const BUFFER = 1024 * 1024;
const END_OF_HEAD = '\r\n\r\n';
const TOKEN = /^[!#$%&'*+.^_`|~0-9a-z-]+$/i;
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
/** Fields that say how a connection is used: not for a configuration to set here. */
const OF_CONNECTION = new Set([
  'host',
  'connection',
  'keep-alive',
  'content-length',
  'transfer-encoding',
  'te',
  'trailer',
  'upgrade',
  'expect',
]);

export interface RangeQuestion {
  readonly url: URL;
  /** Path and query as they are sent, where they are not those of `url`. */
  readonly target?: string;
  /** `range` included, but for `whole`. */
  readonly headers: Readonly<Record<string, string>>;
  readonly range: ByteRange;
  /** The request names no range, for this one is all of the object: that is then the one good answer. */
  readonly whole?: boolean;
  readonly subject: string;
  readonly signal: AbortSignal;
  /** Called with the head of a fitting answer, before its first byte. False: make the request the general way. What it throws is the outcome. */
  readonly accept: (headers: Headers) => boolean;
  /** Called when the server answers with an error; the request is then to be made the general way, which tells which. */
  readonly refused?: () => void;
}

export interface RangeReaderOptions {
  /** Milliseconds. */
  readonly connectTimeout: number;
  /** Milliseconds of silence after which a request is given up. */
  readonly timeout: number;
  /** Connections in all. */
  readonly connections?: number;
  /** Milliseconds that a connection without requests is kept at most. */
  readonly idleTimeout?: number;
  /** Bytes are taken as the server keeps them, whatever they are encoded with. */
  readonly anyCoding?: boolean;
  /** What is thrown for a failure of the connection, in place of what is made for a web server. */
  readonly explain?: (error: unknown) => unknown;
}

export class RangeReader {
  readonly #options: RangeReaderOptions;
  readonly #idle = new Map<string, Connection[]>();
  readonly #connections = new Set<Connection>();
  /** Servers that answer ranges in another way. */
  readonly #unfit = new Set<string>();
  #buffer: Buffer | undefined;

  constructor(options: RangeReaderOptions) {
    this.#options = options;
  }

  /** False: nothing has happened that the sink knows of, and the request has to be made the general way. */
  async read(question: RangeQuestion, sink: ByteSink): Promise<boolean> {
    const { url, headers, signal, subject } = question;
    if (this.#unfit.has(url.origin) || !isSendable(headers)) return false;
    const connection = this.#take(url);
    if (connection === undefined) return false;
    const exchange = new Exchange(question, sink, this.#options);
    try {
      const outcome = await connection.carry(exchange, requestOf(question));
      if (outcome === 'unfit') this.#unfit.add(url.origin);
      return outcome === 'read';
    } catch (error) {
      throw this.#options.explain?.(error) ?? toMirageError(error, subject, signal);
    }
  }

  /** Has a connection ready, so that the next request does not have to wait for one. */
  prepare(url: URL): void {
    const pool = this.#poolOf(url.origin);
    if (pool.length === 0 && !this.#unfit.has(url.origin)) pool.push(this.#connect(url, pool));
  }

  close(): void {
    for (const connection of this.#connections) connection.destroy();
  }

  #take(url: URL): Connection | undefined {
    const idle = this.#idle.get(url.origin);
    for (let found = idle?.pop(); found !== undefined; found = idle?.pop()) {
      if (!found.ended) return found;
    }
    const { connections = CONNECTIONS } = this.#options;
    if (this.#connections.size >= connections) {
      const [other] = [...this.#idle.values()].flat();
      if (other === undefined) return undefined;
      other.destroy();
    }
    return this.#connect(url, this.#poolOf(url.origin));
  }

  #connect(url: URL, pool: Connection[]): Connection {
    this.#buffer ??= Buffer.allocUnsafeSlow(BUFFER);
    const connection: Connection = new Connection(url, this.#buffer, this.#options, {
      idle: () => void pool.push(connection),
      closed: () => {
        this.#connections.delete(connection);
        const index = pool.indexOf(connection);
        if (index >= 0) pool.splice(index, 1);
      },
    });
    this.#connections.add(connection);
    return connection;
  }

  #poolOf(origin: string): Connection[] {
    let pool = this.#idle.get(origin);
    if (pool === undefined) {
      pool = [];
      this.#idle.set(origin, pool);
    }
    return pool;
  }
}

/** `read`: all is in the sink. The others: nothing is; `unfit` is how this server answers, `failed` may be different next time. */
type Outcome = 'read' | 'unfit' | 'failed';

/** What a connection is to do when bytes have come. */
type Next = 'more' | 'pause' | 'done' | 'over';

interface ConnectionOwner {
  idle(): void;
  closed(): void;
}

/** One socket, for one exchange after the other. */
class Connection {
  readonly #socket: Socket;
  readonly #owner: ConnectionOwner;
  readonly #idleTimeout: number;
  #exchange: Exchange | undefined;
  #connected = false;

  constructor(url: URL, buffer: Buffer, options: RangeReaderOptions, owner: ConnectionOwner) {
    const { connectTimeout, idleTimeout = IDLE_MILLISECONDS } = options;
    this.#owner = owner;
    this.#idleTimeout = idleTimeout;
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
    const secure = url.protocol === 'https:';
    const port = Number(url.port) || (secure ? 443 : 80);
    const onread: OnReadOpts = { buffer, callback: (bytes) => this.#arrived(buffer.subarray(0, bytes)) };
    const target = { host, port, noDelay: true, onread };
    this.#socket = secure
      ? connectSecurely({ ...target, ALPNProtocols: ['http/1.1'], servername: isIP(host) ? '' : host })
      : connect(target);
    this.#socket.setTimeout(connectTimeout).unref();
    this.#socket.once(secure ? 'secureConnect' : 'connect', () => {
      this.#connected = true;
      this.#socket.setTimeout(this.#exchange?.timeout ?? idleTimeout);
    });
    this.#socket.on('timeout', () => this.#socket.destroy(this.#exchange && silent()));
    this.#socket.on('error', (error) => this.#exchange?.broken(error, this.#connected));
    this.#socket.on('end', () => this.#socket.destroy());
    this.#socket.once('close', () => {
      this.#exchange?.broken(undefined, this.#connected);
      owner.closed();
    });
  }

  async carry(exchange: Exchange, request: string): Promise<Outcome> {
    const { signal } = exchange;
    signal.throwIfAborted();
    this.#exchange = exchange;
    const abort = (): void => {
      exchange.broken(signal.reason, true);
      this.#socket.destroy();
    };
    signal.addEventListener('abort', abort, { once: true });
    this.#socket.ref();
    if (this.#connected) this.#socket.setTimeout(exchange.timeout);
    try {
      this.#socket.write(request, 'latin1');
      return await exchange.outcome;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  get ended(): boolean {
    return this.#socket.destroyed;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** False keeps the socket from being read until it is resumed. */
  #arrived(bytes: Buffer): boolean {
    const exchange = this.#exchange;
    const next = exchange?.take(bytes, () => this.#goOn()) ?? 'over';
    if (next === 'pause') this.#socket.setTimeout(0);
    else if (next !== 'more') this.#finish(next);
    return next !== 'pause';
  }

  /** The sink takes more. */
  #goOn(): void {
    const exchange = this.#exchange;
    if (exchange === undefined || this.#socket.destroyed) return;
    if (exchange.complete) this.#finish('done');
    else this.#socket.setTimeout(exchange.timeout);
    this.#socket.resume();
  }

  #finish(how: 'done' | 'over'): void {
    const exchange = this.#exchange;
    this.#exchange = undefined;
    const keep = exchange?.keepAlive ?? 0;
    if (how === 'over' || keep <= 0) {
      this.#socket.destroy();
    } else {
      this.#socket.setTimeout(Math.min(keep, this.#idleTimeout)).unref();
      this.#owner.idle();
    }
    exchange?.settle();
  }
}

/** One request and its answer. */
class Exchange {
  readonly outcome: Promise<Outcome>;
  readonly timeout: number;
  /** Milliseconds that the connection may be idle afterwards; 0: it ends. */
  keepAlive = 0;
  readonly #question: RangeQuestion;
  readonly #sink: ByteSink;
  readonly #anyCoding: boolean;
  #resolve!: (outcome: Outcome) => void;
  #reject!: (error: unknown) => void;
  #result: Outcome = 'failed';
  #failure: { readonly error: unknown } | undefined;
  /** Of the head, as far as it has come; undefined once the body has begun. */
  #head: Buffer | undefined = Buffer.alloc(0);
  /** Bytes of the body still to come. */
  #left = 0;

  constructor(question: RangeQuestion, sink: ByteSink, { timeout, anyCoding = false }: RangeReaderOptions) {
    this.#question = question;
    this.#sink = sink;
    this.#anyCoding = anyCoding;
    this.timeout = timeout;
    this.outcome = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get signal(): AbortSignal {
    return this.#question.signal;
  }

  get complete(): boolean {
    return this.#head === undefined && this.#left === 0;
  }

  /** `bytes` are valid until it returns. `goOn` is called after a pause. */
  take(bytes: Buffer, goOn: () => void): Next {
    try {
      const body = this.#head === undefined ? bytes : this.#begin(bytes);
      if (body === undefined) return this.#result === 'failed' && this.#head !== undefined ? 'more' : 'over';
      return body.length === 0 ? 'more' : this.#pass(body, goOn);
    } catch (error) {
      this.#failure = { error };
      return 'over';
    }
  }

  /** The connection is gone. Before the body that may be an idle one that the server had closed: the general way finds out. */
  broken(error: unknown, connected: boolean): void {
    if (this.signal.aborted) this.#failure ??= { error: this.signal.reason };
    else if (error !== undefined && (!connected || isSilence(error))) this.#failure ??= { error };
    else if (this.#head === undefined && this.#left > 0) {
      this.#failure ??= { error: error ?? endedEarly(this.#question.subject) };
    }
    this.settle();
  }

  settle(): void {
    if (this.#failure !== undefined) this.#reject(this.#failure.error);
    else this.#resolve(this.#result);
  }

  /** What of the body came with the end of the head; undefined: the head is not complete, or the answer is not for here. */
  #begin(bytes: Buffer): Buffer | undefined {
    const head = Buffer.concat([this.#head ?? Buffer.alloc(0), bytes]);
    this.#head = head;
    const end = head.indexOf(END_OF_HEAD);
    if (end < 0 && head.length <= LARGEST_HEAD) return undefined;
    this.#head = undefined;
    const parsed =
      end < 0 || end > LARGEST_HEAD ? undefined : parseResponseHead(head.toString('latin1', 0, end));
    // An error passes, and says nothing of how this server sends ranges.
    if (parsed !== undefined && parsed.status >= 400) {
      this.#question.refused?.();
      return undefined;
    }
    const { range, whole = false } = this.#question;
    // Neither does an object of another size.
    const another = whole && parsed?.status === 200 && 'content-length' in parsed.headers;
    this.#result = another ? 'failed' : 'unfit';
    const length = parsed && bodyLength(parsed, range, whole, this.#anyCoding);
    if (parsed === undefined || length === undefined || !this.#question.accept(parsed.headers))
      return undefined;
    this.#result = 'read';
    this.#left = length;
    this.keepAlive = keepAliveOf(parsed.headers);
    return head.subarray(end + END_OF_HEAD.length);
  }

  #pass(bytes: Buffer, goOn: () => void): Next {
    if (bytes.length > this.#left) this.keepAlive = 0;
    const chunk = bytes.length > this.#left ? bytes.subarray(0, this.#left) : bytes;
    this.#left -= chunk.length;
    const then = this.#left === 0 ? 'done' : 'more';
    if (this.#sink.writeNow !== undefined) {
      this.#sink.writeNow(chunk);
      return then;
    }
    const full = this.#sink.write(Buffer.from(chunk));
    if (full === undefined) return then;
    full.then(goOn, (error: unknown) => {
      this.#failure = { error };
      this.#left = 0;
      this.keepAlive = 0;
      goOn();
    });
    return 'pause';
  }
}

/**
 * Bytes of the body of the one answer that is understood: 206 with the very range that was asked for, as far as the object goes, or 200 with all
 * of the object.
 */
function bodyLength(
  { status, headers }: ResponseHead,
  { offset, length }: ByteRange,
  whole: boolean,
  anyCoding: boolean,
): number | undefined {
  const plain = anyCoding || (header(headers, 'content-encoding') ?? 'identity') === 'identity';
  if (!plain || 'transfer-encoding' in headers) return undefined;
  if (whole) {
    return status === 200 && header(headers, 'content-length') === String(length) ? length : undefined;
  }
  const part = status === 206 ? contentRange(headers) : undefined;
  if (part?.size === undefined) return undefined;
  if (part.start !== offset || part.end !== Math.min(offset + length, part.size)) return undefined;
  return header(headers, 'content-length') === String(part.end - part.start)
    ? part.end - part.start
    : undefined;
}

/** Milliseconds; a second less than the server says, so that it does not close while a request is on its way. */
function keepAliveOf(headers: Headers): number {
  const connection = [headers.connection ?? ''].flat().join(',');
  if (/\bclose\b/i.test(connection)) return 0;
  const seconds = /\btimeout=(\d+)/i.exec(header(headers, 'keep-alive') ?? '')?.[1];
  return seconds === undefined ? Number.POSITIVE_INFINITY : (Number(seconds) - 1) * 1000;
}

const isSendable = (headers: Readonly<Record<string, string>>): boolean =>
  Object.entries(headers).every(
    ([name, value]) => TOKEN.test(name) && FIELD_VALUE.test(value) && !OF_CONNECTION.has(name.toLowerCase()),
  );

function requestOf({ url, target = `${url.pathname}${url.search}`, headers }: RangeQuestion): string {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${target} HTTP/1.1\r\nhost: ${url.host}\r\nconnection: keep-alive\r\n${lines.join('')}\r\n`;
}

const silent = (): Error => Object.assign(new Error('the server is silent'), { code: 'ETIMEDOUT' });

const isSilence = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ETIMEDOUT';
