import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** How a request is answered. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export interface FaultyHttp {
  readonly origin: string;
  /** Method and path of every request since the last call. */
  requests(): string[];
  /** Answers this path from now on. */
  on(path: string, handler: Handler): void;
  stop(): Promise<void>;
}

/** A web server that does what no good one does: each path has a handler that a test gives it. What has none is not found. */
export async function startFaultyHttp(): Promise<FaultyHttp> {
  const handlers = new Map<string, Handler>();
  let requests: string[] = [];
  const server = createServer((request, response) => {
    const { method, url = '/' } = request;
    requests.push(`${method} ${url}`);
    const handler = handlers.get(url.split('?')[0] as string);
    if (handler !== undefined) handler(request, response);
    else response.writeHead(404).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests() {
      const before = requests;
      requests = [];
      return before;
    },
    on: (path, handler) => void handlers.set(path, handler),
    async stop() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Serves a body as a good server does: HEAD, ranges, conditions. `headers` are added, and win. */
export function serves(
  body: () => string | Buffer,
  headers: () => Record<string, string> = () => ({}),
): Handler {
  return (request, response) => {
    const bytes = Buffer.from(body());
    const own = headers();
    const condition = request.headers['if-match'];
    if (condition !== undefined && own.etag !== undefined && condition !== own.etag) {
      response.writeHead(412).end();
      return;
    }
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    if (first === undefined) {
      response.writeHead(200, { 'content-length': String(bytes.length), ...own });
      response.end(request.method === 'HEAD' ? undefined : bytes);
      return;
    }
    if (Number(first) >= bytes.length) {
      response.writeHead(416, { 'content-range': `bytes */${bytes.length}`, ...own }).end();
      return;
    }
    const part = bytes.subarray(Number(first), Number(last) + 1);
    response.writeHead(206, {
      'content-length': String(part.length),
      'content-range': `bytes ${first}-${Number(first) + part.length - 1}/${bytes.length}`,
      ...own,
    });
    response.end(part);
  };
}
