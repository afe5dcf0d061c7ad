/**
 * GET of an object without the SDK, whose command takes several times as long as the request that it makes. Where and how a request goes is
 * learned from one that the SDK prepares and does not send: endpoint, style of address, region, headers of the mount. The connections are
 * the SDK's, so that those that listings have opened are used. It also makes every request again that is not answered with content, so that
 * errors, redirections and a wrong clock stay its business.
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
import type { Bucket } from './requests.js';

const CONNECT_MILLISECONDS = 5_000;
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

type Input = Pick<GetObjectCommandInput, 'Range' | 'IfMatch' | 'VersionId'> & { readonly Key: string };

export class DirectReader {
  readonly #bucket: Bucket;
  readonly #learned: Promise<void>;
  /** undefined: not known, or not as expected, and the SDK had better make every request. */
  #route: Route | undefined;
  #signingKey: { readonly scope: string; readonly secret: string; readonly key: Buffer } | undefined;

  constructor(bucket: Bucket) {
    this.#bucket = bucket;
    this.#learned = this.#learn();
  }

  /** As GetObjectCommand; the body is a stream of Node's. */
  async get(input: Input, signal: AbortSignal): Promise<GetObjectCommandOutput> {
    if (this.#route === undefined) await this.#learned;
    const route = this.#route;
    if (route === undefined) return this.#bySdk(input, signal);
    const answer = await this.#send(route, input, signal);
    if (answer.statusCode === 200 || answer.statusCode === 206) return outputOf(answer);
    answer.resume();
    return this.#bySdk(input, signal);
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
  }

  #bySdk(input: Input, signal: AbortSignal): Promise<GetObjectCommandOutput> {
    const command = new GetObjectCommand({ Bucket: this.#bucket.name, ...input });
    command.middlewareStack.add(
      (next) => (args) => {
        // It may have been sent to another place than the last one.
        this.#route = routeOf(args.request as SdkRequest, input.Key);
        return next(args);
      },
      { step: 'finalizeRequest', name: 'learnRoute', priority: 'low' },
    );
    return this.#bucket.client.send(command, { abortSignal: signal });
  }

  async #send(
    route: Route,
    { Key, Range, IfMatch, VersionId }: Input,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const path = `${route.path}/${encodeKey(Key)}`;
    const query = VersionId === undefined ? '' : `versionId=${encodeURIComponent(VersionId)}`;
    const headers: Record<string, string> = { ...route.headers, host: route.host };
    if (Range !== undefined) headers.range = Range;
    if (IfMatch !== undefined) headers['if-match'] = IfMatch;
    if (route.region !== undefined) await this.#sign(route.region, path, query, headers);
    const { secure, hostname, port } = route;
    const target = query === '' ? path : `${path}?${query}`;
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
  async #sign(region: string, path: string, query: string, headers: Record<string, string>): Promise<void> {
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
    const canonical = `GET\n${path}\n${query}\n${lines}\n${names.join(';')}\n${EMPTY_SHA256}`;
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
  return {
    secure: protocol === 'https:',
    hostname,
    port,
    host: headers.host ?? (port === undefined ? hostname : `${hostname}:${port}`),
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

function outputOf(answer: IncomingMessage): GetObjectCommandOutput {
  const { headers } = answer;
  const Metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(METADATA)) Metadata[name.slice(METADATA.length)] = String(value);
  }
  const one = (name: string): string | undefined => {
    const value = headers[name];
    return Array.isArray(value) ? value[0] : value;
  };
  const modified = one('last-modified');
  return {
    $metadata: { httpStatusCode: answer.statusCode },
    Body: answer as unknown as GetObjectCommandOutput['Body'],
    ContentLength: Number(one('content-length') ?? 0),
    ContentRange: one('content-range'),
    ETag: one('etag'),
    LastModified: modified === undefined ? undefined : new Date(modified),
    VersionId: one('x-amz-version-id'),
    Metadata,
  } as GetObjectCommandOutput;
}
