/**
 * GET of an object without the SDK, whose command takes several times as long as the request that it makes. Where and how a request goes is
 * learned from one that the SDK prepares and does not send: endpoint, style of address, region, headers of the mount. Bytes go from connections
 * of their own into the sink, without a stream in between; where that cannot be, from the SDK's. The SDK makes every request again that is not
 * answered with content, so that errors, redirections and a wrong clock stay its business.
 * Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 */
import { createHash, createHmac } from 'node:crypto';
import { type Agent, type IncomingMessage, type RequestOptions, request } from 'node:http';
import { request as secureRequest } from 'node:https';
import {
  GetObjectCommand,
  type GetObjectCommandInput,
  type GetObjectCommandOutput,
} from '@aws-sdk/client-s3';
import type { ByteRange } from '../contract.js';
import { RangeReader } from '../web/range-reader.js';
import { type Headers, header } from '../web/versions.js';
import { type Pouring, pour, rangeHeader } from './pour.js';
import type { Bucket } from './requests.js';

const CONNECT_MILLISECONDS = 5_000;
/** The layers watch for progress, and give up sooner. */
const SILENCE_MILLISECONDS = 60_000;
/** Connections at most; as many small objects are fetched at a time. */
const CONNECTIONS = 64;
/** A store closes a connection that nobody uses when it likes to, and there is little that one costs. */
const IDLE_MILLISECONDS = 300_000;
const EMPTY_SHA256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const METADATA = 'x-amz-meta-';
/** Headers of the SDK's request that belong to that one alone. */
const OWN_HEADERS =
  /^(authorization|host|range|if-match|user-agent|x-amz-date|x-amz-content-sha256|x-amz-security-token|x-amz-user-agent|amz-sdk-.*)$/;

/** Where requests go. */
interface Route {
  readonly secure: boolean;
  readonly hostname: string;
  readonly port: number | undefined;
  readonly host: string;
  readonly url: URL;
  /** Path before the key, without a slash at its end. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Region of the signature; undefined: requests are not signed. */
  readonly region: string | undefined;
}

/** The SDK's transport: https://github.com/smithy-lang/smithy-typescript/tree/main/packages/node-http-handler */
interface NodeHttpHandler {
  httpHandlerConfigs(): { readonly httpAgent?: Agent; readonly httpsAgent?: Agent };
}

/** A request as the SDK hands it to its transport. */
interface SdkRequest {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

type Input = Pick<GetObjectCommandInput, 'IfMatch'> & { readonly Key: string };

/** A request as it goes out. */
interface Prepared {
  /** Path and query. */
  readonly target: string;
  readonly headers: Record<string, string>;
}

export class DirectReader {
  readonly #bucket: Bucket;
  readonly #learned: Promise<void>;
  /** undefined: not known, or not as expected, and the SDK had better make every request. */
  #route: Route | undefined;
  readonly #ranges = new RangeReader({
    connectTimeout: CONNECT_MILLISECONDS,
    timeout: SILENCE_MILLISECONDS,
    connections: CONNECTIONS,
    idleTimeout: IDLE_MILLISECONDS,
    anyCoding: true,
    explain: (error) => ((error as NodeJS.ErrnoException).code === 'ETIMEDOUT' ? notConnected() : error),
  });
  #closed = false;
  #signingKey: { readonly scope: string; readonly secret: string; readonly key: Buffer } | undefined;

  constructor(bucket: Bucket) {
    this.#bucket = bucket;
    this.#learned = this.#learn();
  }

  /** Reads a range into a sink. Errors are those of GetObjectCommand, of the connection, and of the sink. */
  async read<Told>(input: Input, pouring: Pouring<Told>): Promise<Told> {
    if (this.#route === undefined) await this.#learned;
    const route = this.#route;
    if (route === undefined) return this.#bySdk(input, pouring);
    const prepared = await this.#prepare(route, input, pouring.range);
    const outcome = await this.#straight(route, prepared, input.Key, pouring);
    if (outcome === 'refused') return this.#bySdk(input, pouring);
    if (outcome !== undefined) return outcome.told;
    const answer = await this.#send(route, prepared, pouring.signal);
    const { statusCode, headers } = answer;
    if (statusCode === 200 || statusCode === 206) {
      const Body = answer as unknown as NonNullable<GetObjectCommandOutput['Body']>;
      return pour({ ...outputOf(statusCode, headers), Body }, pouring);
    }
    answer.resume();
    return this.#bySdk(input, pouring);
  }

  close(): void {
    this.#closed = true;
    this.#ranges.close();
  }

  /** Has a request prepared that is stopped before it is sent. */
  async #learn(): Promise<void> {
    const Key = 'any';
    const command = new GetObjectCommand({ Bucket: this.#bucket.name, Key });
    command.middlewareStack.add(
      () => (args) => {
        this.#route = routeOf(args.request as SdkRequest, Key);
        return Promise.reject(new Error('not to be sent'));
      },
      { step: 'finalizeRequest', name: 'learnRoute', priority: 'low' },
    );
    await this.#bucket.client.send(command).catch(() => undefined);
    // The first reader would have to wait for it.
    if (this.#route !== undefined && !this.#closed) this.#ranges.prepare(this.#route.url);
  }

  async #bySdk<Told>(input: Input, pouring: Pouring<Told>): Promise<Told> {
    const Range = rangeHeader(pouring.range);
    const command = new GetObjectCommand({ Bucket: this.#bucket.name, ...input, Range });
    command.middlewareStack.add(
      (next) => (args) => {
        // It may have been sent to another place than the last one.
        this.#route = routeOf(args.request as SdkRequest, input.Key);
        return next(args);
      },
      { step: 'finalizeRequest', name: 'learnRoute', priority: 'low' },
    );
    return pour(await this.#bucket.client.send(command, { abortSignal: pouring.signal }), pouring);
  }

  async #prepare(route: Route, { Key, IfMatch }: Input, range: ByteRange): Promise<Prepared> {
    const target = `${route.path}/${encodeKey(Key)}`;
    const headers: Record<string, string> = { ...route.headers, host: route.host };
    // A store looks longer for a part of an object than for all of it.
    if (range.whole !== true) headers.range = rangeHeader(range);
    if (IfMatch !== undefined) headers['if-match'] = IfMatch;
    if (route.region !== undefined) await this.#sign(route.region, target, headers);
    return { target, headers };
  }

  /** Through no stream; undefined: nothing has happened, and the request may be made in another way. */
  async #straight<Told>(
    { url }: Route,
    { target, headers: { host: _, ...headers } }: Prepared,
    subject: string,
    { range, sink, begin, signal }: Pouring<Told>,
  ): Promise<{ readonly told: Told } | 'refused' | undefined> {
    const told: Told[] = [];
    const { whole = false } = range;
    let refused = false;
    const accept = (answered: Headers): boolean => {
      told.push(begin(outputOf(whole ? 200 : 206, answered)));
      return true;
    };
    const refuse = (): void => {
      refused = true;
    };
    const question = { url, target, headers, range, whole, subject, signal, accept, refused: refuse };
    await this.#ranges.read(question, sink);
    if (told.length > 0) return { told: told[0]! };
    return refused ? 'refused' : undefined;
  }

  #send(route: Route, { target, headers }: Prepared, signal: AbortSignal): Promise<IncomingMessage> {
    const { secure, hostname, port } = route;
    const options: RequestOptions = { hostname, path: target, headers, signal };
    if (port !== undefined) options.port = port;
    const agent = this.#agent(secure);
    if (agent !== undefined) options.agent = agent;
    return answerTo(secure, options);
  }

  /** Keeper of the SDK's connections, which it has after its first request. */
  #agent(secure: boolean): Agent | undefined {
    const handler = this.#bucket.client.config.requestHandler as Partial<NodeHttpHandler>;
    const { httpAgent, httpsAgent } = handler.httpHandlerConfigs?.() ?? {};
    return secure ? httpsAgent : httpAgent;
  }

  /** Adds the headers that sign the request. */
  async #sign(region: string, path: string, headers: Record<string, string>): Promise<void> {
    const { config } = this.#bucket.client;
    const { accessKeyId, secretAccessKey, sessionToken } = await config.credentials();
    const now = new Date(Date.now() + config.systemClockOffset);
    const time = now.toISOString().replaceAll(/[:-]|\.\d{3}/g, '');
    const scope = `${time.slice(0, 8)}/${region}/s3/aws4_request`;
    headers['x-amz-date'] = time;
    headers['x-amz-content-sha256'] = EMPTY_SHA256;
    if (sessionToken !== undefined) headers['x-amz-security-token'] = sessionToken;
    const names = Object.keys(headers).sort();
    const lines = names.map((name) => `${name}:${headers[name]}\n`).join('');
    const canonical = `GET\n${path}\n\n${lines}\n${names.join(';')}\n${EMPTY_SHA256}`;
    const hash = createHash('sha256').update(canonical).digest('hex');
    const text = `AWS4-HMAC-SHA256\n${time}\n${scope}\n${hash}`;
    const signature = createHmac('sha256', this.#keyFor(scope, secretAccessKey)).update(text).digest('hex');
    headers.authorization = `AWS4-HMAC-SHA256 Credential=${accessKeyId}/${scope}, SignedHeaders=${names.join(';')}, Signature=${signature}`;
  }

  /** The same for a whole day. */
  #keyFor(scope: string, secret: string): Buffer {
    if (this.#signingKey?.scope !== scope || this.#signingKey.secret !== secret) {
      let key: Buffer | string = `AWS4${secret}`;
      for (const part of scope.split('/')) key = createHmac('sha256', key).update(part).digest();
      this.#signingKey = { scope, secret, key: key as Buffer };
    }
    return this.#signingKey.key;
  }
}

/** undefined: not as expected, and the SDK had better make every request. */
function routeOf(sent: SdkRequest, key: string): Route | undefined {
  const { protocol, hostname, port, headers } = sent;
  const suffix = `/${encodeKey(key)}`;
  const authorization = headers.authorization;
  const scope = /^AWS4-HMAC-SHA256 Credential=[^/]+\/\d{8}\/([^/]+)\/s3\/aws4_request,/.exec(
    authorization ?? '',
  );
  if (!sent.path.endsWith(suffix) || (authorization !== undefined && scope === null)) return undefined;
  const host = headers.host ?? (port === undefined ? hostname : `${hostname}:${port}`);
  const url = URL.canParse(`${protocol}//${host}`) ? new URL(`${protocol}//${host}`) : undefined;
  if (url?.host !== host) return undefined;
  return {
    secure: protocol === 'https:',
    hostname,
    port,
    host,
    url,
    path: sent.path.slice(0, -suffix.length),
    headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !OWN_HEADERS.test(name))),
    region: scope?.[1],
  };
}

/** As signatures want it: every byte but letters, digits and `-._~/` as %XX. */
const encodeKey = (key: string): string =>
  encodeURIComponent(key)
    .replaceAll('%2F', '/')
    .replaceAll(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`);

function answerTo(secure: boolean, options: RequestOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const sent = secure ? secureRequest(options) : request(options);
    sent.once('response', resolve);
    sent.once('error', (error: NodeJS.ErrnoException) => {
      // The store has closed a connection that nobody used for a while: that is no failure of this request.
      const closedBefore = sent.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
      if (closedBefore) resolve(answerTo(secure, options));
      else reject(error);
    });
    sent.once('socket', (socket) => {
      if (!socket.connecting) return;
      const timer = setTimeout(() => sent.destroy(notConnected()), CONNECT_MILLISECONDS);
      socket.once('connect', () => clearTimeout(timer));
      socket.once('close', () => clearTimeout(timer));
    });
    sent.end();
  });
}

/** By the name that the SDK gives it. */
const notConnected = (): Error =>
  Object.assign(new Error('the store takes no connection'), { name: 'TimeoutError' });

function outputOf(status: number, headers: Headers): GetObjectCommandOutput {
  const Metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(METADATA)) Metadata[name.slice(METADATA.length)] = String(value);
  }
  const one = (name: string): string | undefined => header(headers, name);
  const modified = one('last-modified');
  return {
    $metadata: { httpStatusCode: status },
    ContentLength: Number(one('content-length') ?? 0),
    ContentRange: one('content-range'),
    ETag: one('etag'),
    LastModified: modified === undefined ? undefined : new Date(modified),
    VersionId: one('x-amz-version-id'),
    Metadata,
  } as GetObjectCommandOutput;
}
