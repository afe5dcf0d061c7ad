import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { patternSource } from '../../src/backends/conformance/check.js';
import type { Backend, ByteSink, Context } from '../../src/backends/contract.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { connectStorePort, serveStorePort } from '../../src/ports/message-store-port.js';
import type { StorePort } from '../../src/ports/store-port.js';
import { featuresOf, Transfer } from '../../src/transfer/transfer.js';
import { MemoryBackend } from '../backends/memory-backend.js';
import { quietLog } from '../servers/quiet.js';

const context: Context = { signal: new AbortController().signal };
const any = { kind: 'any' } as const;

/** A port over `backends` and what ends it. */
type Connect = (backends: (Backend | undefined)[]) => { port: StorePort; close(): void };

const inThread: Connect = (backends) => ({
  port: new Transfer(backends, { log: quietLog }),
  close() {},
});

const overMessages: Connect = (backends) => {
  const { port1, port2 } = new MessageChannel();
  const server = serveStorePort(port1, new Transfer(backends, { log: quietLog }));
  const mounts = backends.map((backend) => ({
    capabilities: (backend ?? new MemoryBackend()).capabilities,
    features: featuresOf(backend ?? new MemoryBackend()),
  }));
  const port = connectStorePort(port2, mounts);
  return {
    port,
    close() {
      port.close();
      server.close();
    },
  };
};

describe.each([
  ['in one thread', inThread],
  ['over messages', overMessages],
])('the store port %s', (_name, connect) => {
  let directory: string;
  let fd: number;
  let backend: MemoryBackend;
  let connection: ReturnType<Connect>;
  let port: StorePort;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'mirage-transfer-'));
    fd = openSync(join(directory, 'file'), 'w+');
    backend = new MemoryBackend(10_000);
    connection = connect([undefined, backend]);
    port = connection.port;
  });
  afterEach(() => {
    connection.close();
    closeSync(fd);
    rmSync(directory, { recursive: true });
  });
  const file = () => readFileSync(join(directory, 'file'));
  const put = (key: string, bytes: Buffer | string) =>
    backend.write(
      key,
      {
        size: bytes.length,
        async *read() {
          yield Buffer.from(bytes);
        },
      },
      { precondition: any },
      context,
    );

  test('fetch writes a range at its own offset and says how far it is', async () => {
    const bytes = Buffer.alloc(3_000_000, 'abcdefg');
    const written = await put('key', bytes);
    ftruncateSync(fd, bytes.length);
    const progress: number[] = [];
    const info = await port.fetch(1, {
      key: 'key',
      range: { offset: 1_000_000, length: 1_500_000 },
      fd,
      match: written.validator ?? '',
      onProgress: (arrivedTo) => progress.push(arrivedTo),
    });
    expect(info.validator).toBe(written.validator);
    expect(info.size).toBe(3_000_000);
    expect(file().subarray(1_000_000, 2_500_000).equals(bytes.subarray(1_000_000, 2_500_000))).toBe(true);
    expect(
      file()
        .subarray(0, 1_000_000)
        .every((byte) => byte === 0),
    ).toBe(true);
    expect(
      file()
        .subarray(2_500_000)
        .every((byte) => byte === 0),
    ).toBe(true);
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    expect(progress.length).toBeGreaterThan(0);
    expect(progress.at(-1)).toBeLessThan(2_500_000);
    for (let i = 1; i < progress.length; i++) {
      expect((progress[i] ?? 0) - (progress[i - 1] ?? 0)).toBeGreaterThanOrEqual(256 * 1024);
    }
  });

  test('fetch puts a range wherever it is told to, with a checksum of each block', async () => {
    const bytes = Buffer.from('0123456789abcdefghij');
    await put('key', bytes);
    const begun: (number | undefined)[] = [];
    const fetched = await port.fetch(1, {
      key: 'key',
      range: { offset: 5, length: 11 },
      fd,
      position: 100,
      checksumBlock: 4,
      onBegin: ({ size }) => begun.push(size),
    });
    expect(file().subarray(100).toString()).toBe('56789abcdef');
    expect(fetched.checksums).toEqual(['5678', '9abc', 'def'].map((block) => crc32(block)));
    // Where the store says it; this one does.
    expect(begun).toEqual([20]);
  });

  test('blocks of a checksum need not be those that arrive', async () => {
    const bytes = Buffer.from(Array.from({ length: 50_000 }, (_, index) => index % 251));
    const chunky = Object.assign(new MemoryBackend(), {
      async read(key: string, _range: unknown, sink: ByteSink) {
        for (let at = 0; at < bytes.length; at += 777) await sink.write(bytes.subarray(at, at + 777));
        return { key, kind: 'file', size: 50_000, modified: { seconds: 0, nanoseconds: 0 } };
      },
    });
    const other = connect([chunky as unknown as Backend]);
    try {
      const range = { offset: 0, length: 50_000 };
      const { checksums } = await other.port.fetch(0, { key: 'key', range, fd, checksumBlock: 16_384 });
      const blocks = [0, 1, 2, 3].map((index) => bytes.subarray(index * 16_384, (index + 1) * 16_384));
      expect(checksums).toEqual(blocks.map((block) => crc32(block)));
    } finally {
      other.close();
    }
  });

  test('a full disk ends the fetch and says so', async () => {
    await put('key', Buffer.alloc(3_000_000));
    const full = openSync('/dev/full', 'w');
    try {
      const range = { offset: 0, length: 3_000_000 };
      await expect(port.fetch(1, { key: 'key', range, fd: full })).rejects.toMatchObject({ errno: 'ENOSPC' });
    } finally {
      closeSync(full);
    }
  });

  test('a staged file that became shorter is not committed', async () => {
    writeFileSync(fd, 'short');
    const request = { key: 'key', fd, size: 6, precondition: any, attributes: {} };
    await expect(port.commit(1, request)).rejects.toMatchObject({ errno: 'EIO' });
    expect(await port.stat(1, 'key')).toBeUndefined();
  });

  test('commit puts the first bytes of a file under its precondition', async () => {
    writeFileSync(fd, Buffer.concat(await collect(patternSource(1_000_000))));
    const attributes = { mode: 0o100600, writer: 'nonce' };
    const request = { key: 'key', fd, size: 999_999, precondition: { kind: 'absent' }, attributes } as const;
    const info = await port.commit(1, request);
    expect(info).toMatchObject({ size: 999_999, attributes });
    await expect(port.commit(1, request)).rejects.toMatchObject({ errno: 'ESTALE' });
    const chunks: Uint8Array[] = [];
    const sink: ByteSink = { write: (chunk) => void chunks.push(chunk) };
    await backend.read('key', { offset: 0, length: 2_000_000 }, sink, context);
    expect(Buffer.concat(chunks).equals(file().subarray(0, 999_999))).toBe(true);
  });

  test('errors keep their number, their words and what is to be done', async () => {
    const failing = Object.assign(new MemoryBackend(), {
      stat: () =>
        Promise.reject(
          new MirageError('no way', { errno: 'EACCES', outcomeUnknown: true, retryable: true, hint: 'pay' }),
        ),
    });
    const other = connect([undefined, failing]);
    try {
      await expect(other.port.stat(1, 'key')).rejects.toMatchObject({
        message: 'no way',
        errno: 'EACCES',
        outcomeUnknown: true,
        retryable: true,
        hint: 'pay',
      });
    } finally {
      other.close();
    }
  });

  test('a store that was not reached when it was mounted is down', async () => {
    await expect(port.stat(0, 'key')).rejects.toMatchObject({ errno: 'EHOSTDOWN' });
  });

  test('what a backend lacks is refused', async () => {
    expect(port.features(1)).toEqual({
      directories: false,
      copy: false,
      setAttributes: false,
      rename: false,
      usage: false,
    });
    await expect(port.createDirectory(1, 'd', {})).rejects.toMatchObject({ errno: 'ENOTSUP' });
    await expect(port.removeDirectory(1, 'd')).rejects.toMatchObject({ errno: 'ENOTSUP' });
    await expect(port.rename(1, 'a', 'b')).rejects.toMatchObject({ errno: 'ENOTSUP' });
    await expect(port.copy(1, { from: 'a', to: 'b', precondition: any })).rejects.toMatchObject({
      errno: 'ENOTSUP',
    });
    await expect(port.setAttributes(1, 'a', 'file', {}, any)).rejects.toMatchObject({ errno: 'ENOTSUP' });
    await expect(port.usage(1)).rejects.toMatchObject({ errno: 'ENOTSUP' });
  });

  test('an aborted fetch rejects with EINTR, after the last byte it writes', async () => {
    let release = () => {};
    let ended = false;
    const slow = Object.assign(new MemoryBackend(), {
      async read(_key: string, _range: unknown, sink: ByteSink, { signal }: Context) {
        await sink.write(Buffer.alloc(300_000, 1));
        await new Promise<void>((resolve) => {
          release = resolve;
          signal.addEventListener('abort', () => setImmediate(resolve));
        });
        await sink.write(Buffer.alloc(100, 2));
        ended = true;
        signal.throwIfAborted();
        throw new Error('not aborted');
      },
    });
    const other = connect([slow]);
    const controller = new AbortController();
    try {
      const fetched = other.port.fetch(
        0,
        { key: 'key', range: { offset: 0, length: 2_000_000 }, fd, onProgress: () => controller.abort() },
        controller.signal,
      );
      await expect(fetched).rejects.toMatchObject({ errno: 'EINTR' });
      expect(ended).toBe(true);
      expect(file().length).toBe(300_100);
    } finally {
      release();
      other.close();
    }
  });

  test('a call that is aborted before it is made rejects with EINTR', async () => {
    await expect(port.stat(1, 'key', AbortSignal.abort())).rejects.toMatchObject({ errno: 'EINTR' });
  });

  test('many calls at once are answered each with its own', async () => {
    await Promise.all(Array.from({ length: 50 }, (_, i) => put(`key${i}`, String(i).repeat(i + 1))));
    const infos = await Promise.all(Array.from({ length: 50 }, (_, i) => port.stat(1, `key${i}`)));
    expect(infos.map((info) => info?.key)).toEqual(Array.from({ length: 50 }, (_, i) => `key${i}`));
    expect((await port.list(1, '', undefined)).entries).toHaveLength(50);
    await port.remove(1, 'key7', any);
    expect(await port.stat(1, 'key7')).toBeUndefined();
  });
});

describe('the message port', () => {
  const silentStore = new Proxy({} as StorePort, { get: () => () => new Promise(() => {}) });
  const mounts = [
    { capabilities: new MemoryBackend().capabilities, features: featuresOf(new MemoryBackend()) },
  ];

  test('what one turn has to say crosses as one message', async () => {
    const { port1, port2 } = new MessageChannel();
    let messages = 0;
    port1.on('message', () => messages++);
    const server = serveStorePort(port1, new Transfer([new MemoryBackend()], { log: quietLog }));
    const port = connectStorePort(port2, mounts);
    try {
      await Promise.all(Array.from({ length: 20 }, (_, i) => port.stat(0, `key${i}`)));
      expect(messages).toBe(1);
    } finally {
      port.close();
      server.close();
    }
  });

  test('closing rejects what is pending and what comes later', async () => {
    const { port1, port2 } = new MessageChannel();
    const server = serveStorePort(port1, silentStore);
    const port = connectStorePort(port2, mounts);
    const pending = port.stat(0, 'key');
    port.close();
    await expect(pending).rejects.toMatchObject({ errno: 'ECANCELED' });
    await expect(port.stat(0, 'key')).rejects.toMatchObject({ errno: 'ECANCELED' });
    server.close();
  });

  test('when the store side ends, pending calls fail', async () => {
    const { port1, port2 } = new MessageChannel();
    const server = serveStorePort(port1, silentStore);
    const port = connectStorePort(port2, mounts);
    const pending = port.stat(0, 'key');
    server.close();
    await expect(pending).rejects.toMatchObject({ errno: 'EIO' });
    port.close();
  });

  test('when the file-system side ends, its calls are aborted', async () => {
    const { port1, port2 } = new MessageChannel();
    const aborted = new Promise<void>((resolve) => {
      const store = {
        stat: (_mount: number, _key: string, signal: AbortSignal) =>
          new Promise((_resolve, reject) => {
            signal.addEventListener('abort', () => {
              resolve();
              reject(signal.reason);
            });
            port.close();
          }),
      } as unknown as StorePort;
      serveStorePort(port1, store);
      const port = connectStorePort(port2, mounts);
      port.stat(0, 'key').catch(() => undefined);
    });
    await aborted;
  });
});

async function collect(source: ReturnType<typeof patternSource>): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source.read({ offset: 0, length: source.size })) chunks.push(chunk);
  return chunks;
}
