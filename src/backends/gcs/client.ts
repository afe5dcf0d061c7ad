import { Agent, type Dispatcher } from 'undici';
import { z } from 'zod';
import type { Authorization } from './authorization.js';
import { type Attempt, Refusal, toMirageError } from './errors.js';

export const GOOGLE = 'https://storage.googleapis.com';

/** The layers above allow 64 calls at a time, some of which make two requests. */
const CONNECTIONS = 128;
const CONNECT_MILLISECONDS = 5_000;
const KEEP_ALIVE_MILLISECONDS = 30_000;
/** Bytes of an answer that says no, of which more than its first line is never shown. */
const REFUSAL_BYTES = 65_536;

type Query = Readonly<Record<string, string | undefined>>;
type Body = string | Buffer | AsyncIterable<Uint8Array>;

export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Below the endpoint, names percent-encoded. */
  readonly path: string;
  readonly query?: Query;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Body;
  /** Statuses that are an answer besides 200 to 299. */
  readonly accepts?: readonly number[];
  /** Milliseconds to wait for an answer; without it only the signal ends the wait. */
  readonly patience?: number;
  readonly attempt: Attempt;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Must be read to its end or destroyed. */
  readonly body: Dispatcher.ResponseData['body'];
}

const refusalSchema = z.object({ error: z.object({ message: z.string() }) });

/**
 * Requests to the JSON API of one bucket. Google's own client signs them but does not send them: it buffers listings, hides headers, and repeats
 * what must not be repeated. Source: https://cloud.google.com/storage/docs/json_api/v1
 */
export class GcsClient {
  readonly #agent = new Agent({
    connections: CONNECTIONS,
    pipelining: 1,
    keepAliveTimeout: KEEP_ALIVE_MILLISECONDS,
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: { timeout: CONNECT_MILLISECONDS },
  });
  readonly #origin: string;
  readonly #base: string;

  constructor(
    readonly bucket: string,
    endpoint: string | undefined,
    private readonly authorization: Authorization,
    private readonly userProject: string | undefined,
  ) {
    const url = new URL(endpoint ?? GOOGLE);
    this.#origin = url.origin;
    this.#base = url.pathname.replace(/\/+$/, '');
  }

  /** `/storage/v1/b/BUCKET/o`, and below it the object. */
  objects(name?: string): string {
    const all = `/storage/v1/b/${encodeURIComponent(this.bucket)}/o`;
    return name === undefined ? all : `${all}/${encodeURIComponent(name)}`;
  }

  /** Resolves with an answer that says yes, or with one of the other statuses that the call accepts. */
  async send(call: Call): Promise<Answer> {
    const { attempt, accepts = [] } = call;
    try {
      const answer = await this.#request(call);
      const { status } = answer;
      if ((status >= 200 && status < 300) || accepts.includes(status)) return answer;
      throw new Refusal(status, await reasonOf(answer));
    } catch (error) {
      throw toMirageError(error, attempt);
    }
  }

  /** As `send`, for an answer in JSON. */
  async json<T>(call: Call, schema: z.ZodType<T>): Promise<T> {
    return this.parsed(await this.send(call), schema, call.attempt);
  }

  async parsed<T>(answer: Answer, schema: z.ZodType<T>, attempt: Attempt): Promise<T> {
    try {
      return schema.parse(await answer.body.json());
    } catch (error) {
      throw toMirageError(error, attempt);
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  async #request({ method, path, query, headers, body, attempt, patience }: Call): Promise<Answer> {
    const { signal } = attempt;
    signal?.throwIfAborted();
    const proof = await until(this.authorization(this.#origin + path), signal);
    const answer = await this.#agent.request({
      origin: this.#origin,
      path: `${this.#base}${path}${search(path, { ...query, userProject: this.userProject })}`,
      method,
      headers: { 'user-agent': 'mirage', ...proof, ...headers },
      ...(body !== undefined && { body: body as Buffer }),
      ...(signal !== undefined && { signal }),
      ...(patience !== undefined && { headersTimeout: patience }),
    });
    return { status: answer.statusCode, headers: answer.headers, body: answer.body };
  }
}

export function header({ headers }: Answer, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** Ends an answer whose body nobody wants; a short one is read, so that its connection can be used again. */
export async function discard({ body }: Answer): Promise<void> {
  body.on('error', () => undefined);
  await body.dump({ limit: REFUSAL_BYTES }).catch(() => undefined);
}

/** A path may bring a query of its own: that of an upload session. */
function search(path: string, query: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) parameters.set(name, value);
  const text = parameters.toString();
  if (text === '') return '';
  return path.includes('?') ? `&${text}` : `?${text}`;
}

async function reasonOf(answer: Answer): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of answer.body) {
    chunks.push(chunk as Uint8Array);
    size += (chunk as Uint8Array).length;
    if (size > REFUSAL_BYTES) break;
  }
  const text = Buffer.concat(chunks).toString();
  try {
    return oneLine(refusalSchema.parse(JSON.parse(text)).error.message);
  } catch {
    return oneLine(text);
  }
}

const oneLine = (text: string): string => (text.trim().split('\n', 1)[0] ?? '').slice(0, 200);

/** A sign-in knows no signal. */
async function until<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  let abort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
