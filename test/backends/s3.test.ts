import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import {
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { OpenContext } from '../../src/backends/backend-type.js';
import { digest, patternSource, Tools } from '../../src/backends/conformance/check.js';
import type { Backend, ByteRange } from '../../src/backends/contract.js';
import { layered } from '../../src/backends/layers/stack.js';
import { KeySpace } from '../../src/backends/object-store/keys.js';
import { S3Backend } from '../../src/backends/s3/backend.js';
import { createClient } from '../../src/backends/s3/client.js';
import { open } from '../../src/backends/s3/open.js';
import type { S3Options } from '../../src/backends/s3/options.js';
import { type Limits, s3Limits, type Traits } from '../../src/backends/s3/requests.js';
import { systemClock } from '../../src/clock/clock.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { type DelayProxy, startDelayProxy } from '../servers/proxy.js';
import { quietLog } from '../servers/quiet.js';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';

const signal = new AbortController().signal;
const context: OpenContext = { log: quietLog, clock: systemClock, writable: true, signal };
const any = { kind: 'any' } as const;
const absent = { kind: 'absent' } as const;

/** What Ceph 16 honours, as the probe finds it. */
const ceph: Traits = {
  quotedETags: false,
  writeAbsent: true,
  writeMatch: true,
  multipartAbsent: false,
  multipartMatch: false,
  copyAbsent: false,
  copyMatch: false,
  copySourceMatch: false,
  removeMatch: false,
  removeMany: true,
  removeManyMatch: false,
};

let server: Radosgw;
let options: S3Options;

beforeAll(async () => {
  server = await startRadosgw();
});
afterAll(() => server?.stop());
beforeEach(async () => {
  options = { ...server.credentials, endpoint: server.endpoint, bucket: await server.createBucket() };
});

const keysIn = async (bucket: string): Promise<(string | undefined)[]> =>
  ((await server.client.send(new ListObjectsV2Command({ Bucket: bucket }))).Contents ?? []).map((o) => o.Key);

/** Connections that were made to a proxy so far. */
async function connections(proxy: DelayProxy): Promise<number> {
  return JSON.parse(await proxy.command('stats')).connections;
}

/** A backend that splits objects of a few megabytes. */
function smallParts(limits: Partial<Limits> = {}): { backend: S3Backend; tools: Tools } {
  const bucket = { client: createClient(options, 'auto'), name: options.bucket };
  const MiB = 2 ** 20;
  const backend = new S3Backend(
    bucket,
    new KeySpace(undefined),
    ceph,
    { ...s3Limits, preferredPut: 6 * MiB, part: 5 * MiB, copyPart: 5 * MiB, maximumCopy: 6 * MiB, ...limits },
    quietLog,
  );
  return { backend, tools: new Tools(backend, 'd', signal) };
}

async function opened(overrides: Partial<S3Options> = {}): Promise<{ backend: S3Backend; tools: Tools }> {
  const { backend } = await open({ ...options, ...overrides }, context);
  return { backend: backend as S3Backend, tools: new Tools(backend, 'd', signal) };
}

describe('opening', () => {
  test('leaves nothing behind', async () => {
    const { backend } = await opened();
    expect(await keysIn(options.bucket)).toEqual([]);
    const uploads = await server.client.send(new ListMultipartUploadsCommand({ Bucket: options.bucket }));
    expect(uploads.Uploads ?? []).toEqual([]);
    await backend.close();
  });

  test.each([
    ['a wrong secret', { secretAccessKey: 'wrong' }, 'EACCES', /credentials/],
    ['an unknown key', { accessKeyId: 'nobody' }, 'EACCES', /credentials/],
    ['a bucket that is not there', { bucket: 'no-such-bucket' }, 'ENOENT', /bucket/],
    ['an endpoint where nobody listens', { endpoint: 'http://127.0.0.1:9' }, 'EHOSTDOWN', /endpoint/],
    ['a host that has no address', { endpoint: 'http://store.invalid' }, 'EHOSTDOWN', /endpoint/],
  ])('fails clearly with %s', async (_name, wrong, errno, hint) => {
    const failure = open({ ...options, ...wrong }, context);
    await expect(failure).rejects.toMatchObject({ errno, hint: expect.stringMatching(hint) });
    await failure.catch((error) =>
      expect(JSON.stringify([error.message, error.hint])).not.toContain('testsecret'),
    );
  });

  test('fails when the store does not answer in time', async () => {
    const proxy = await startDelayProxy(server.port);
    try {
      await proxy.command('stall');
      const deadline = new AbortController();
      const opening = open(
        { ...options, endpoint: `http://127.0.0.1:${proxy.port}` },
        { ...context, signal: deadline.signal },
      );
      deadline.abort();
      await expect(opening).rejects.toMatchObject({ errno: 'EINTR' });
    } finally {
      await proxy.stop();
    }
  });

  test('a read-only mount never writes, and needs no right to', async () => {
    await publish(options.bucket);
    await server.client.send(
      new PutObjectCommand({ Bucket: options.bucket, Key: 'file', Body: Buffer.from('x') }),
    );
    const { accessKeyId: _key, secretAccessKey: _secret, ...rest } = options;
    const anonymous = { ...rest, anonymous: true };
    await expect(open(anonymous, context)).rejects.toMatchObject({
      errno: 'EACCES',
      hint: expect.stringMatching(/mode: read/),
    });
    const { backend } = await open(anonymous, { ...context, writable: false });
    const tools = new Tools(backend, 'd', signal);
    expect((await tools.list('')).map((entry) => entry.key)).toEqual(['file']);
    expect(await tools.read('file')).toBe('x');
    await expect(tools.write('other', 'y')).rejects.toMatchObject({ errno: 'EACCES' });
    expect(await keysIn(options.bucket)).toEqual(['file']);
    await backend.close?.();
  });

  describe('without keys', () => {
    const saved = { ...process.env };
    let folder: string;
    beforeEach(() => {
      // The SDK remembers what it read from a file: another one for each test.
      folder = mkdtempSync(join(tmpdir(), 'mirage-s3-'));
      for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
      process.env.AWS_EC2_METADATA_DISABLED = 'true';
      process.env.AWS_SHARED_CREDENTIALS_FILE = join(folder, 'credentials');
      process.env.AWS_CONFIG_FILE = join(folder, 'config');
    });
    afterEach(() => {
      process.env = { ...saved };
      rmSync(folder, { recursive: true });
    });
    const keyless = () => ({ endpoint: server.endpoint, bucket: options.bucket });

    test('they come from the environment', async () => {
      process.env.AWS_ACCESS_KEY_ID = server.credentials.accessKeyId;
      process.env.AWS_SECRET_ACCESS_KEY = server.credentials.secretAccessKey;
      await (await open(keyless(), context)).backend.close?.();
    });

    test('they come from a profile', async () => {
      const { accessKeyId, secretAccessKey } = server.credentials;
      writeFileSync(
        join(folder, 'credentials'),
        `[lab]\naws_access_key_id=${accessKeyId}\naws_secret_access_key=${secretAccessKey}\n`,
      );
      await (await open({ ...keyless(), profile: 'lab' }, context)).backend.close?.();
      await expect(open({ ...keyless(), profile: 'other' }, context)).rejects.toMatchObject({
        errno: 'EACCES',
      });
    });

    test('none at all is an error that says what to give', async () => {
      await expect(open(keyless(), context)).rejects.toMatchObject({
        errno: 'EACCES',
        hint: expect.stringMatching(/AWS_ACCESS_KEY_ID/),
      });
    });
  });

  test('the identity names what is mounted and no secret', async () => {
    const { identity, backend } = await open({ ...options, prefix: '/a/b/' }, context);
    expect(identity).toBe(`s3:${server.endpoint}/${options.bucket}/a/b/`);
    await backend.close?.();
  });
});

describe('keys', () => {
  test('a prefix is a root: nothing above it is seen or touched', async () => {
    const { backend, tools } = await opened({ prefix: 'in/side' });
    await tools.write('file', 'x');
    await backend.createDirectory('dir', {}, { signal });
    await server.client.send(
      new PutObjectCommand({ Bucket: options.bucket, Key: 'in/sidecar', Body: Buffer.of() }),
    );
    expect(await keysIn(options.bucket)).toEqual(['in/side/dir/', 'in/side/file', 'in/sidecar']);
    expect((await tools.list('')).map((entry) => entry.key).sort()).toEqual(['dir', 'file']);
    expect(await backend.stat('', { signal })).toMatchObject({ key: '', kind: 'directory' });
    await backend.close();
  });

  test('a directory of another tool is one, marked or not', async () => {
    const { backend, tools } = await opened();
    for (const Key of ['marked/', 'implicit/file']) {
      await server.client.send(new PutObjectCommand({ Bucket: options.bucket, Key, Body: Buffer.of() }));
    }
    expect(await backend.stat('marked', { signal })).toMatchObject({ kind: 'directory', attributes: {} });
    expect(await backend.stat('implicit', { signal })).toMatchObject({
      kind: 'directory',
      validator: undefined,
    });
    expect(await tools.list('marked')).toEqual([]);
    await backend.close();
  });
});

describe('a range', () => {
  const body = Buffer.alloc(2_000_000, 'bytes of an object ');
  const range = { offset: 100_000, length: 1_500_000 };

  /** What of a range went to the sink straight from the socket, and what through a stream. */
  async function read(backend: Backend, key: string, match?: string, wanted: ByteRange = range) {
    const straight: Buffer[] = [];
    const streamed: Buffer[] = [];
    const sink = {
      write: (chunk: Uint8Array) => void streamed.push(Buffer.from(chunk)),
      writeNow: (chunk: Uint8Array) => void straight.push(Buffer.from(chunk)),
    };
    const info = await backend.read(key, wanted, sink, { signal }, match);
    return { info, straight: Buffer.concat(straight), streamed: Buffer.concat(streamed) };
  }

  test.each([
    ['of any name', "a (b)/ü+%20&='~.x", {}],
    ['that is stored in a coding', 'page', { ContentEncoding: 'gzip' }],
  ])('of an object %s goes straight to the sink', async (_name, Key, fields) => {
    await server.client.send(new PutObjectCommand({ Bucket: options.bucket, Key, Body: body, ...fields }));
    const { backend } = await opened();
    const { info, straight, streamed } = await read(backend, Key);
    expect(straight.equals(body.subarray(range.offset, range.offset + range.length))).toBe(true);
    expect(streamed.length).toBe(0);
    expect(info).toMatchObject({ key: Key, size: body.length, validator: expect.any(String) });
    await backend.close();
  });

  test('as small as an object is goes straight, too, and finds a connection', async () => {
    const Bucket = options.bucket;
    await server.client.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'some bytes' }));
    const proxy = await startDelayProxy(server.port);
    try {
      const endpoint = `http://127.0.0.1:${proxy.port}`;
      const { backend } = await open({ ...options, endpoint }, { ...context, writable: false });
      // One for what opening asks, one for the first reader.
      while ((await connections(proxy)) < 2) await setImmediate();
      for (let round = 0; round < 3; round++) {
        // Whether it is asked for as a range or as a whole.
        const wanted = { offset: 0, length: 10, whole: round > 0 };
        const { info, straight, streamed } = await read(backend, 'k', undefined, wanted);
        expect(info).toMatchObject({ key: 'k', size: 10 });
        expect(straight.toString()).toBe('some bytes');
        expect(streamed.length).toBe(0);
      }
      expect(await connections(proxy)).toBe(2);
      // As a store does with one that it has heard nothing of for a while.
      await proxy.command('drop');
      const rest = await read(backend, 'k', undefined, { offset: 5, length: 5 });
      expect(rest.info.size).toBe(10);
      await backend.close?.();
    } finally {
      await proxy.stop();
    }
  });

  test('that is no longer the whole object is what was asked for, all the same', async () => {
    const Bucket = options.bucket;
    const { backend } = await opened();
    for (const Body of ['grown by a few bytes', 'some bytes', 'less']) {
      await server.client.send(new PutObjectCommand({ Bucket, Key: 'k', Body }));
      const wanted = { offset: 0, length: 10, whole: true };
      const { info, straight, streamed } = await read(backend, 'k', undefined, wanted);
      expect(info).toMatchObject({ key: 'k', size: Body.length });
      expect(Buffer.concat([straight, streamed]).toString()).toBe(Body.slice(0, 10));
    }
    await backend.close();
  });

  test('is read whatever number of others is', async () => {
    const Bucket = options.bucket;
    await server.client.send(new PutObjectCommand({ Bucket, Key: 'k', Body: body }));
    const { backend } = await opened();
    const reads = Array.from({ length: 100 }, async (_, index) => {
      const wanted = { offset: index * 1000, length: 5000 };
      const { straight, streamed } = await read(backend, 'k', undefined, wanted);
      const bytes = Buffer.concat([straight, streamed]);
      return bytes.equals(body.subarray(wanted.offset, wanted.offset + wanted.length));
    });
    expect(await Promise.all(reads)).toEqual(reads.map(() => true));
    await backend.close();
  });

  test('of a version that is gone is an error, and the next one goes straight again', async () => {
    const Bucket = options.bucket;
    await server.client.send(new PutObjectCommand({ Bucket, Key: 'k', Body: body }));
    const { backend } = await opened();
    await expect(read(backend, 'k', 'another')).rejects.toMatchObject({ errno: 'ESTALE' });
    await expect(read(backend, 'none')).rejects.toMatchObject({ errno: 'ENOENT' });
    expect((await read(backend, 'k')).straight.length).toBe(range.length);
    await backend.close();
  });

  test('of a store that is gone is an error that says what to check', async () => {
    const proxy = await startDelayProxy(server.port);
    try {
      const { backend } = await opened({ endpoint: `http://127.0.0.1:${proxy.port}` });
      await proxy.command('refuse');
      await proxy.command('drop');
      await expect(read(backend, 'k')).rejects.toMatchObject({
        errno: expect.stringMatching(/EIO|EHOSTDOWN/),
      });
      await backend.close();
    } finally {
      await proxy.stop();
    }
  });
});

describe('attributes', () => {
  test('stand in the metadata as s3fs has them', async () => {
    const { backend, tools } = await opened();
    await tools.write('file', 'x', {
      attributes: {
        mode: 0o100755,
        uid: 1000,
        gid: 100,
        modified: { seconds: 1_700_000_000, nanoseconds: 5 },
        xattrs: { 'user.a': 'Yg==' },
      },
    });
    const head = await server.client.send(new HeadObjectCommand({ Bucket: options.bucket, Key: 'file' }));
    expect(head.Metadata).toEqual({
      mode: '33261',
      uid: '1000',
      gid: '100',
      mtime: '1700000000',
      'mirage-mtime-ns': '5',
      xattr: '%7B%22user.a%22%3A%22Yg%3D%3D%22%7D',
    });
    await backend.close();
  });

  test('of other tools are understood, and damaged ones do no harm', async () => {
    const { backend, tools } = await opened();
    const put = (Key: string, Metadata: Record<string, string>) =>
      server.client.send(new PutObjectCommand({ Bucket: options.bucket, Key, Metadata, Body: Buffer.of() }));
    await put('new-s3fs', { mtime: '1700000000.000000042', mode: '33188' });
    await put('rclone', { mtime: '1700000000.5' });
    await put('damaged', {
      mode: 'rwx',
      mtime: 'soon',
      xattr: '%7Bnot json',
      uid: '-1',
      'mirage-writer': '%',
    });
    expect((await tools.stat('new-s3fs')).attributes).toEqual({
      mode: 33188,
      modified: { seconds: 1_700_000_000, nanoseconds: 42 },
    });
    expect((await tools.stat('rclone')).attributes).toEqual({
      modified: { seconds: 1_700_000_000, nanoseconds: 500_000_000 },
    });
    expect((await tools.stat('damaged')).attributes).toEqual({});
    await backend.close();
  });

  test('changing ours leaves those of others alone', async () => {
    const { backend, tools } = await opened();
    await server.client.send(
      new PutObjectCommand({
        Bucket: options.bucket,
        Key: 'file',
        Body: Buffer.from('x'),
        ContentType: 'text/html',
        CacheControl: 'max-age=5',
        Metadata: { owner: 'somebody', mode: '33188' },
      }),
    );
    await backend.setAttributes('file', 'file', { uid: 7 }, any, { signal });
    await backend.copy('file', 'copy', { precondition: absent, attributes: { uid: 8 } }, { signal });
    for (const [Key, uid] of [
      ['file', '7'],
      ['copy', '8'],
    ] as const) {
      const head = await server.client.send(new HeadObjectCommand({ Bucket: options.bucket, Key }));
      expect(head).toMatchObject({
        ContentType: 'text/html',
        CacheControl: 'max-age=5',
        Metadata: { owner: 'somebody', uid },
      });
    }
    expect(await tools.read('copy')).toBe('x');
    await backend.close();
  });

  test('that do not fit are refused before anything is sent', async () => {
    const { backend, tools } = await opened();
    const attributes = { xattrs: { 'user.big': 'A'.repeat(3000) } };
    await expect(tools.write('file', 'x', { attributes })).rejects.toMatchObject({
      errno: 'ENOSPC',
      hint: expect.stringMatching(/2048/),
    });
    expect(await keysIn(options.bucket)).toEqual([]);
    await backend.close();
  });
});

describe('parts', () => {
  const size = 12 * 2 ** 20 + 1;

  test('a large object goes up in parts and comes down whole', async () => {
    const { backend, tools } = smallParts();
    const info = await backend.write(
      'file',
      patternSource(size),
      { precondition: any, attributes: { uid: 3 } },
      { signal },
    );
    expect(info.validator).toMatch(/-3$/);
    expect(await tools.stat('file')).toMatchObject({
      size,
      validator: info.validator,
      attributes: { uid: 3 },
    });
    expect(await hashOf('file')).toBe(await digest(patternSource(size)));
    await backend.close();
  });

  test('where parts cannot carry the precondition, one request does', async () => {
    const { backend } = smallParts();
    const info = await backend.write('file', patternSource(size), { precondition: absent }, { signal });
    expect(info.validator).not.toMatch(/-/);
    await backend.close();
  });

  test('an object too large even for that is looked at before the last step', async () => {
    const { backend, tools } = smallParts({ maximumPut: 6 * 2 ** 20 });
    const write = () => backend.write('file', patternSource(size), { precondition: absent }, { signal });
    expect((await write()).validator).toMatch(/-3$/);
    await expect(write()).rejects.toMatchObject({ errno: 'ESTALE' });
    expect((await tools.stat('file')).size).toBe(size);
    await expectNoUploads();
    await backend.close();
  });

  test('a broken source or an abort leaves no parts behind', async () => {
    const { backend } = smallParts();
    const broken = {
      size,
      async *read({ offset, length }: { offset: number; length: number }) {
        if (offset > 0) throw new Error('the disk is broken');
        yield* patternSource(size).read({ offset, length });
      },
    };
    await expect(backend.write('file', broken, { precondition: any }, { signal })).rejects.toMatchObject({
      errno: 'EIO',
      retryable: false,
    });
    const controller = new AbortController();
    const aborting = {
      size,
      async *read(range: { offset: number; length: number }) {
        yield* patternSource(size).read(range);
        controller.abort();
      },
    };
    await expect(
      backend.write('file', aborting, { precondition: any }, { signal: controller.signal }),
    ).rejects.toMatchObject({ errno: 'EINTR' });
    expect(await keysIn(options.bucket)).toEqual([]);
    await expectNoUploads();
    await backend.close();
  });

  test('a large object is copied in parts on the server', async () => {
    const { backend, tools } = smallParts();
    await backend.write(
      'file',
      patternSource(size),
      { precondition: any, attributes: { uid: 3 } },
      { signal },
    );
    const copied = await backend.copy('file', 'copy +&%41', { precondition: absent }, { signal });
    expect(copied.validator).toMatch(/-3$/);
    expect(await tools.stat('copy +&%41')).toMatchObject({ size, attributes: { uid: 3 } });
    expect(await hashOf('copy +&%41')).toBe(await digest(patternSource(size)));
    await expect(
      backend.copy('file', 'copy +&%41', { precondition: absent }, { signal }),
    ).rejects.toMatchObject({
      errno: 'ESTALE',
    });
    await expectNoUploads();
    await backend.close();
  });

  const hashOf = async (Key: string) => {
    const object = await server.client.send(new GetObjectCommand({ Bucket: options.bucket, Key }));
    const bytes = await object.Body?.transformToByteArray();
    return digest({
      size,
      async *read() {
        yield bytes ?? Buffer.of();
      },
    });
  };
  const expectNoUploads = async () => {
    const list = await server.client.send(new ListMultipartUploadsCommand({ Bucket: options.bucket }));
    expect(list.Uploads ?? []).toEqual([]);
  };
});

describe('what Ceph ignores is looked at first', () => {
  test('remove, copy and attributes of another version', async () => {
    const { backend, tools } = await opened();
    const first = await tools.write('file', 'first');
    await tools.write('file', 'second');
    const match = { kind: 'match', validator: first.validator ?? '' } as const;
    await expect(backend.remove('file', match, { signal })).rejects.toMatchObject({ errno: 'ESTALE' });
    await expect(backend.setAttributes('file', 'file', {}, match, { signal })).rejects.toMatchObject({
      errno: 'ESTALE',
    });
    await tools.write('other', 'other');
    await expect(backend.copy('other', 'file', { precondition: absent }, { signal })).rejects.toMatchObject({
      errno: 'ESTALE',
    });
    await expect(backend.copy('other', 'file', { precondition: match }, { signal })).rejects.toMatchObject({
      errno: 'ESTALE',
    });
    expect(await tools.read('file')).toBe('second');
    await backend.close();
  });
});

test('of many who add to one number none is lost, whatever the store answers under load', async () => {
  const { backend } = await layered({ open: (o, c) => open(o as S3Options, c) }).open(options, context);
  const tools = new Tools(backend, 'd', signal);
  await tools.write('number', '0', { precondition: absent });
  let refused = 0;
  const add = async () => {
    for (;;) {
      const { validator = '' } = await tools.stat('number');
      const value = await tools.read('number', { offset: 0, length: 20 }, validator).catch(() => undefined);
      if (value === undefined) continue;
      const precondition = { kind: 'match', validator } as const;
      try {
        await tools.write('number', String(Number(value) + 1), { precondition });
        return;
      } catch (error) {
        if (!MirageError.is(error, 'ESTALE')) throw error;
        refused++;
      }
    }
  };
  await Promise.all(
    Array.from({ length: 6 }, async () => {
      for (let i = 0; i < 5; i++) await add();
    }),
  );
  expect(await tools.read('number')).toBe('30');
  expect(refused).toBeGreaterThan(0);
  await backend.close?.();
}, 120_000);

test('a bucket with versions tells them', async () => {
  await server.client.send(
    new PutBucketVersioningCommand({
      Bucket: options.bucket,
      VersioningConfiguration: { Status: 'Enabled' },
    }),
  );
  const { backend, tools } = await opened();
  const written = await tools.write('file', 'x');
  expect(written.version).toMatch(/.+/);
  expect((await tools.stat('file')).version).toBe(written.version);
  await backend.close();
});

describe('on a bad line', () => {
  let proxy: DelayProxy;
  beforeEach(async () => {
    proxy = await startDelayProxy(server.port);
    options = { ...options, endpoint: `http://127.0.0.1:${proxy.port}` };
  });
  afterEach(() => proxy.stop());

  test('a create whose answer is lost is found to have happened', async () => {
    const { backend } = await layered({ open: (o, c) => open(o as S3Options, c) }).open(options, context);
    const tools = new Tools(backend, 'd', signal);
    await proxy.command('dropAfter 1');
    const attributes = { writer: 'me' };
    const info = await tools.write('file', 'mine', { precondition: absent, attributes });
    expect(info.attributes).toEqual(attributes);
    await proxy.command('dropAfter 1');
    await expect(
      tools.write('file', 'other', { precondition: absent, attributes: { writer: 'you' } }),
    ).rejects.toMatchObject({ errno: 'ESTALE' });
    expect(await tools.read('file')).toBe('mine');
    await backend.close?.();
  });

  test('the bare backend says that it does not know', async () => {
    const { backend, tools } = await opened();
    await proxy.command('dropAfter 1');
    await expect(tools.write('file', 'mine', { precondition: absent })).rejects.toMatchObject({
      errno: 'EIO',
      outcomeUnknown: true,
    });
    await backend.close();
  });

  test('a read that is cut goes on', async () => {
    const { backend } = await layered({ open: (o, c) => open(o as S3Options, c) }).open(options, context);
    const tools = new Tools(backend, 'd', signal);
    const size = 20 * 2 ** 20;
    const { validator } = await backend.write('file', patternSource(size), { precondition: any }, { signal });
    let received = 0;
    const chunks: Uint8Array[] = [];
    const sink = {
      async write(chunk: Uint8Array) {
        chunks.push(chunk);
        const before = received;
        received += chunk.length;
        if (before < 2 ** 20 && received >= 2 ** 20) await proxy.command('drop');
      },
    };
    await backend.read('file', { offset: 0, length: size }, sink, tools.context, validator);
    const whole = Buffer.concat(chunks);
    expect(whole.length).toBe(size);
    expect(
      await digest({
        size,
        async *read() {
          yield whole;
        },
      }),
    ).toBe(await digest(patternSource(size)));
    await backend.close?.();
  });
});

/** Lets everybody list and read a bucket. */
async function publish(bucket: string): Promise<void> {
  const Policy = JSON.stringify({
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Principal: '*',
        Action: ['s3:ListBucket', 's3:GetObject'],
        Resource: [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`],
      },
    ],
  });
  await server.client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
}
