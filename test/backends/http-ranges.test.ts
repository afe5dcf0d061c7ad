/** Large ranges, which take the short way from the socket to the sink, and what sends them round the long one. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Backend, ByteSink } from '../../src/backends/contract.js';
import { open } from '../../src/backends/http/open.js';
import { httpOptions } from '../../src/backends/http/options.js';
import { LARGEST_HEAD, parseResponseHead } from '../../src/backends/web/response-head.js';
import { systemClock } from '../../src/clock/clock.js';
import { quietLog } from '../servers/quiet.js';

const MIB = 2 ** 20;
const SIZE = 5 * MIB;
const content = Buffer.alloc(SIZE);
for (let at = 0; at < SIZE; at += 4) content.writeUInt32LE(at, at);

interface Request {
  readonly text: string;
  /** Which connection it came on. */
  readonly connection: number;
  readonly first: number;
  readonly last: number;
}

/** Answers by writing to the socket, so that a test can send whatever it likes. */
type Handler = (socket: Socket, request: Request) => void;

const closed = (socket: Socket): Promise<unknown> =>
  socket.closed ? Promise.resolve() : new Promise((resolve) => socket.once('close', resolve));

const rangeHead = ({ first, last }: Request, more = ''): string =>
  `HTTP/1.1 206 Partial Content\r\nContent-Length: ${last + 1 - first}\r\nContent-Range: bytes ${first}-${last}/${SIZE}\r\nETag: "1"\r\n${more}\r\n`;

const good: Handler = (socket, request) => {
  socket.write(rangeHead(request));
  socket.write(content.subarray(request.first, request.last + 1));
};

describe('a large range', () => {
  let server: Server;
  let sockets: Socket[];
  let requests: Request[];
  let answer: Handler;
  let backend: Backend;

  beforeEach(async () => {
    sockets = [];
    requests = [];
    answer = good;
    server = createServer((socket) => {
      const connection = sockets.push(socket) - 1;
      socket.on('error', () => undefined);
      socket.on('data', (bytes) => {
        const text = bytes.toString();
        const [, first, last] = /range: bytes=(\d+)-(\d+)/i.exec(text) ?? [];
        const request = { text, connection, first: Number(first), last: Math.min(Number(last), SIZE - 1) };
        requests.push(request);
        answer(socket, request);
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const files = { 'f.bin': `http://127.0.0.1:${port}/f?q=1` };
    const options = httpOptions.parse({ files, token: 'secret', timeout: '1s' });
    const context = { log: quietLog, clock: systemClock, writable: false, signal: AbortSignal.any([]) };
    ({ backend } = await open(options, context));
  });
  afterEach(async () => {
    await backend?.close?.();
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });

  class Collected implements ByteSink {
    readonly chunks: Buffer[] = [];
    begun = 0;
    begin(): void {
      this.begun++;
    }
    write(chunk: Uint8Array): void | Promise<void> {
      this.chunks.push(chunk as Buffer);
    }
    get bytes(): Buffer {
      return Buffer.concat(this.chunks);
    }
  }
  /** Has to have the bytes before it returns: the chunk is used again. */
  class Immediate extends Collected {
    writeNow(chunk: Uint8Array): void {
      this.chunks.push(Buffer.from(chunk));
    }
  }
  const read = (sink: ByteSink, offset = 0, length = SIZE, signal = AbortSignal.any([])) =>
    backend.read('f.bin', { offset, length }, sink, { signal }, '"1"');

  test.each([
    ['that takes the bytes at once', () => new Immediate()],
    ['that keeps the chunks', () => new Collected()],
    [
      'that is slow',
      () =>
        Object.assign(new Collected(), {
          write(this: Collected, chunk: Uint8Array) {
            this.chunks.push(chunk as Buffer);
            return new Promise<void>((resolve) => setImmediate(resolve));
          },
        }),
    ],
  ])('arrives in a sink %s, over one connection for one range after the other', async (_name, make) => {
    for (const [offset, length] of [
      [0, 3 * MIB],
      [MIB + 1, 2 * MIB],
      [4 * MIB, 2 * MIB],
    ] as const) {
      const sink = make();
      expect(await read(sink, offset, length)).toMatchObject({ size: SIZE, validator: '"1"' });
      expect(sink.bytes.equals(content.subarray(offset, offset + length))).toBe(true);
      expect(sink.begun).toBe(1);
    }
    expect(requests.map(({ connection }) => connection)).toEqual([0, 0, 0]);
    expect(requests[0]?.text).toMatch(/^GET \/f\?q=1 HTTP\/1\.1\r\n/);
    for (const header of ['authorization: Bearer secret', 'accept-encoding: identity', 'if-match: "1"'])
      expect(requests[0]?.text).toContain(`\r\n${header}\r\n`);
  });

  test('whose head comes byte by byte is understood', async () => {
    answer = (socket, request) => {
      socket.setNoDelay(true);
      const head = rangeHead(request);
      const next = (at: number): void => {
        if (at < head.length) socket.write(head[at] as string, () => setImmediate(next, at + 1));
        else socket.write(content);
      };
      next(0);
    };
    const sink = new Immediate();
    await read(sink);
    expect(sink.bytes.equals(content)).toBe(true);
    expect(requests).toHaveLength(1);
  });

  test.each([
    ['is encoded in chunks', 'Transfer-Encoding: chunked\r\n'],
    ['has two lengths', 'Content-Length: 7\r\n'],
    ['has a folded line', 'X-A: b\r\n c\r\n'],
    ['has a head without an end', `X-A: ${'a'.repeat(LARGEST_HEAD)}\r\n`],
  ])('whose answer %s is asked for the general way, and so are those after it', async (_name, more) => {
    answer = (socket, request) => {
      if (requests.length === 1) socket.write(rangeHead(request, more));
      else good(socket, request);
    };
    for (const count of [2, 3]) {
      const sink = new Immediate();
      await read(sink);
      expect(sink.bytes.equals(content)).toBe(true);
      expect(sink.begun).toBe(1);
      expect(requests).toHaveLength(count);
    }
  });

  test('that is refused once, or whose idle connection has been closed, takes the short way again', async () => {
    answer = (socket, request) => {
      if (requests.length === 2) socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n');
      else if (requests.length === 4) socket.destroy();
      else good(socket, request);
    };
    for (let i = 0; i < 3; i++) {
      const sink = new Immediate();
      await read(sink);
      expect(sink.bytes.equals(content)).toBe(true);
    }
    expect(requests).toHaveLength(5);
  });

  test('that ends early is an error that is worth another try, never a short read', async () => {
    answer = (socket, request) => {
      socket.write(rangeHead(request));
      socket.end(content.subarray(0, 2 * MIB));
    };
    const sink = new Immediate();
    await expect(read(sink)).rejects.toMatchObject({ errno: 'EIO', retryable: true });
    expect(sink.bytes.equals(content.subarray(0, 2 * MIB))).toBe(true);
  });

  test('of another version is ESTALE, and nothing of it arrives', async () => {
    answer = (socket, request) => socket.write(rangeHead(request).replace('"1"', '"2"'));
    const sink = new Immediate();
    await expect(read(sink)).rejects.toMatchObject({ errno: 'ESTALE' });
    expect(sink).toMatchObject({ begun: 0, chunks: [] });
  });

  test('that stands still is ETIMEDOUT, before and in the middle of the answer', async () => {
    for (const silent of [
      () => undefined,
      (socket: Socket, request: Request) => void socket.write(rangeHead(request)),
    ]) {
      answer = silent;
      await expect(read(new Immediate())).rejects.toMatchObject({ errno: 'ETIMEDOUT', retryable: true });
    }
    expect(requests).toHaveLength(2);
  });

  test('with bytes behind its end costs the connection, not the range', async () => {
    answer = (socket, request) => {
      good(socket, request);
      socket.write('HTTP/1.1 200 OK');
    };
    for (const connection of [0, 1]) {
      const sink = new Immediate();
      await read(sink);
      expect(sink.bytes.equals(content)).toBe(true);
      await closed(sockets[connection] as Socket);
    }
  });

  test('ends when it is aborted, and so does its connection', async () => {
    const abort = new AbortController();
    answer = (socket, request) => {
      socket.write(rangeHead(request));
      socket.write(content.subarray(0, 1000));
    };
    const sink = Object.assign(new Immediate(), { writeNow: () => abort.abort() });
    await expect(read(sink, 0, SIZE, abort.signal)).rejects.toMatchObject({ name: 'AbortError' });
    await closed(sockets[0] as Socket);
  });

  test('that the sink cannot take fails as the sink says', async () => {
    const full = new Error('full');
    const sink = Object.assign(new Immediate(), {
      writeNow: () => {
        throw full;
      },
    });
    await expect(read(sink)).rejects.toMatchObject({ cause: full });
    await closed(sockets[0] as Socket);
  });
});

describe('the head of a response', () => {
  test('gives status and fields, names in lower case', () => {
    expect(parseResponseHead('HTTP/1.1 206 OK\r\nETag:  "a" \r\nX-A: 1\r\nx-a: 2\r\nEmpty:')).toEqual({
      status: 206,
      headers: { etag: '"a"', 'x-a': ['1', '2'], empty: '' },
    });
  });

  test.each([
    'HTTP/1.0 206 OK',
    'HTTP/2 206',
    'HTTP/1.1 20 OK',
    'HTTP/1.1  206 OK',
    '',
    'HTTP/1.1 206 OK\nA: b',
    'HTTP/1.1 206 OK\r\nA b',
    'HTTP/1.1 206 OK\r\nA : b',
    'HTTP/1.1 206 OK\r\n: b',
    'HTTP/1.1 206 OK\r\nA: b\r\n c',
    'HTTP/1.1 206 OK\r\nA: b\0c',
    'HTTP/1.1 206 OK\r\nA: b\rB: c',
    'HTTP/1.1 206 OK\r\nContent-Length: 1\r\ncontent-length: 1',
  ])('is refused when it is %j', (text) => {
    expect(parseResponseHead(text)).toBeUndefined();
  });
});
