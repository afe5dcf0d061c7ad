/** Google Cloud Storage, against a fake that was written from Google's reference by somebody who had not seen the driver. */
import { inspect } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Certificates, OpenContext } from '../../src/backends/backend-type.js';
import { bytesSource, digest, patternSource } from '../../src/backends/conformance/check.js';
import type { ByteRange, ObjectInfo } from '../../src/backends/contract.js';
import type { GcsBackend } from '../../src/backends/gcs/backend.js';
import { open } from '../../src/backends/gcs/open.js';
import { type GcsOptions, gcsOptions } from '../../src/backends/gcs/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { type FakeGcs, startFakeGcs } from '../servers/gcs.js';
import { type DelayProxy, startDelayProxy } from '../servers/proxy.js';
import { quietLog } from '../servers/quiet.js';

const MiB = 2 ** 20;
const context = { signal: new AbortController().signal };
const openContext: OpenContext = { log: quietLog, clock: systemClock, writable: true, ...context };
const any = { kind: 'any' } as const;
const match = ({ validator = '' }: ObjectInfo) => ({ kind: 'match', validator }) as const;

describe('Google Cloud Storage', () => {
  let server: FakeGcs;
  const opened: GcsBackend[] = [];
  const proxies: DelayProxy[] = [];

  beforeAll(async () => {
    server = await startFakeGcs();
  });
  afterEach(async () => {
    for (const backend of opened.splice(0)) await backend.close();
    for (const proxy of proxies.splice(0)) await proxy.stop();
  });
  afterAll(() => server?.stop());

  async function mounted(more: Partial<GcsOptions> = {}, given: Partial<OpenContext> = {}) {
    const bucket = more.bucket ?? (await server.createBucket());
    const options = gcsOptions.parse({ endpoint: server.endpoint, ...more, bucket });
    const { backend, probed } = await open(options, { ...openContext, ...given });
    opened.push(backend as GcsBackend);
    return { backend: backend as GcsBackend, bucket, probed };
  }
  async function overProxy() {
    const proxy = await startDelayProxy(server.port);
    proxies.push(proxy);
    return { proxy, ...(await mounted({ endpoint: `http://127.0.0.1:${proxy.port}` })) };
  }
  const objectPath = (bucket: string, name: string) =>
    `/storage/v1/b/${bucket}/o/${encodeURIComponent(name)}`;
  const resource = async (bucket: string, name: string) =>
    (await (await server.request('GET', objectPath(bucket, name))).json()) as Record<string, unknown>;
  async function read(backend: GcsBackend, key: string, of?: ObjectInfo): Promise<string> {
    const chunks: Uint8Array[] = [];
    const sink = { write: (chunk: Uint8Array) => void chunks.push(chunk) };
    await backend.read(key, { offset: 0, length: MiB }, sink, context, of?.validator);
    return Buffer.concat(chunks).toString();
  }
  const write = (backend: GcsBackend, key: string, content: string, attributes = {}) =>
    backend.write(key, bytesSource(content), { precondition: any, attributes }, context);

  describe('what is wrong is said when it is mounted, and never with a secret', () => {
    let guarded: FakeGcs;
    let bucket: string;
    beforeAll(async () => {
      guarded = await startFakeGcs({ token: 'the-right-token' });
      bucket = await guarded.createBucket();
    });
    afterAll(() => guarded?.stop());
    const failure = async (more: Record<string, unknown>) => {
      const options = gcsOptions.parse({ endpoint: guarded.endpoint, bucket, ...more });
      return open(options, openContext).then(
        () => undefined,
        (error: unknown) => error,
      );
    };

    test('a wrong token, or none, is EACCES; the right one opens', async () => {
      const wrong = await failure({ accessToken: 'a-wrong-token' });
      expect(wrong).toMatchObject({ errno: 'EACCES', hint: expect.stringContaining('credentials') });
      expect(inspect(wrong, { depth: 10 })).not.toContain('a-wrong-token');
      expect(await failure({})).toMatchObject({ errno: 'EACCES' });
      expect(await failure({ anonymous: true })).toMatchObject({ errno: 'EACCES' });
      await mounted({ endpoint: guarded.endpoint, bucket, accessToken: 'the-right-token' });
    });

    test('a private key that is none, and a key file that is not there, are EACCES', async () => {
      const privateKey = '-----BEGIN PRIVATE KEY-----\\nbm90IGEga2V5\\n-----END PRIVATE KEY-----\\n';
      const wrong = await failure({ credentials: { clientEmail: 'a@example.org', privateKey } });
      expect(wrong).toMatchObject({ errno: 'EACCES', hint: expect.stringContaining('keyFile') });
      expect(inspect(wrong, { depth: 10 })).not.toContain('bm90IGEga2V5');
      expect(await failure({ keyFile: '/nowhere/key.json' })).toMatchObject({ errno: 'EACCES' });
    });

    test('a bucket that is not there is ENOENT, and says so', async () => {
      const accessToken = 'the-right-token';
      expect(await failure({ accessToken, bucket: 'nobodys-bucket' })).toMatchObject({
        errno: 'ENOENT',
        hint: expect.stringContaining('bucket'),
      });
    });

    test('an endpoint where nobody answers is EHOSTDOWN', async () => {
      const gone = await startFakeGcs();
      await gone.stop();
      expect(await failure({ endpoint: gone.endpoint })).toMatchObject({ errno: 'EHOSTDOWN' });
    });

    test('credentials take the place of each other', () => {
      const both = { bucket, accessToken: 'x', keyFile: 'y' };
      expect(gcsOptions.safeParse(both).success).toBe(false);
    });
  });

  test('what the store honours is asked once and remembered; a mount that only reads writes nothing', async () => {
    const kept = new Map<string, unknown>();
    const certificates: Certificates = {
      read: (store) => kept.get(store),
      write: (store, value) => void kept.set(store, value),
    };
    const first = await mounted({}, { certificates });
    expect(first.probed).toMatchObject({ writeAbsent: true, multipartMatch: true, removeMatch: true });
    const second = await mounted({ bucket: first.bucket }, { certificates });
    expect(second.probed).toMatchObject({ remembered: true, copyAbsent: true });
    expect(second.backend.capabilities).toEqual(first.backend.capabilities);
    const { bucket } = await mounted({}, { writable: false });
    const everything = await server.request('GET', `/storage/v1/b/${bucket}/o?versions=true`);
    expect(await everything.json()).toEqual({ kind: 'storage#objects' });
  });

  test('a listing tells the attributes of files and directories', async () => {
    const { backend, bucket } = await mounted();
    await write(backend, 'd/file', 'four', { mode: 0o100600, uid: 7 });
    await backend.createDirectory('d/marked', { mode: 0o40700 }, context);
    await write(backend, 'd/marked/below', 'x');
    await write(backend, 'd/implicit/below', 'x');
    const { entries } = await backend.list('d', undefined, context);
    const of = (name: string) => entries.filter(({ key }) => key === `d/${name}`);
    expect(of('file')).toEqual([await backend.stat('d/file', context)]);
    expect(of('file')).toMatchObject([{ kind: 'file', size: 4, attributes: { mode: 0o100600, uid: 7 } }]);
    expect(of('marked')).toEqual([await backend.stat('d/marked', context)]);
    expect(of('marked')).toMatchObject([{ kind: 'directory', attributes: { mode: 0o40700 } }]);
    expect(of('implicit')).toEqual([await backend.stat('d/implicit', context)]);
    expect(of('implicit')).toMatchObject([{ kind: 'directory', validator: undefined }]);
    expect(entries).toHaveLength(3);
    expect(await resource(bucket, 'd/marked/')).toMatchObject({ size: '0' });
  });

  test('odd names are names of files and of directories, all but those with a line break', async () => {
    const { backend } = await mounted();
    const names = [' a b ', 'plus+sign', 'percent%41', '%2F', `&<>"'`, 'back\\slash', '\u0001\u001f', '\t'];
    names.push('question?mark#hash', '*', '{}[]', 'ümläut', 'e\u0301', '日本語', '😀', '...', '-rf', ':;,');
    for (const name of names) {
      await write(backend, `odd/${name}`, name);
      await backend.createDirectory(`below/${name}`, {}, context);
      await write(backend, `below/${name}/file`, name);
    }
    const keys = async (key: string) =>
      (await backend.list(key, undefined, context)).entries.map((entry) => entry.key).sort();
    expect(await keys('odd')).toEqual(names.map((name) => `odd/${name}`).sort());
    expect(await keys('below')).toEqual(names.map((name) => `below/${name}`).sort());
    for (const name of names) {
      expect(await read(backend, `odd/${name}`)).toBe(name);
      expect(await keys(`below/${name}`)).toEqual([`below/${name}/file`]);
    }
    await expect(write(backend, 'new\nline', 'x')).rejects.toMatchObject({ errno: 'EINVAL' });
    await expect(backend.createDirectory('a\r', {}, context)).rejects.toMatchObject({ errno: 'EINVAL' });
    expect(await backend.stat('new\nline', context)).toBeUndefined();
  });

  test('attributes change in place: same content, other version; metadata of others stays', async () => {
    const { backend, bucket } = await mounted();
    const written = await write(backend, 'file', 'content', { mode: 0o100644, uid: 1, writer: 'a' });
    const theirs = JSON.stringify({ metadata: { colour: 'blue' }, cacheControl: 'no-store' });
    await server.request('PATCH', objectPath(bucket, 'file'), theirs);
    const stale = backend.setAttributes('file', 'file', { uid: 2 }, match(written), context);
    await expect(stale).rejects.toMatchObject({ errno: 'ESTALE' });
    const seen = await backend.stat('file', context);
    const changed = await backend.setAttributes('file', 'file', { mode: 0o100600 }, match(seen!), context);
    expect(changed.version).toBe(written.version);
    expect(changed.validator).not.toBe(seen!.validator);
    expect(changed.attributes).toEqual({ mode: 0o100600 });
    expect(await resource(bucket, 'file')).toMatchObject({
      metadata: { colour: 'blue', mode: String(0o100600) },
      cacheControl: 'no-store',
    });
    // Who opened it before reads on.
    expect(await read(backend, 'file', written)).toBe('content');
  });

  test('an implicit directory that is given attributes becomes one of its own', async () => {
    const { backend } = await mounted();
    await write(backend, 'd/file', 'x');
    await backend.setAttributes('d', 'directory', { mode: 0o40711 }, any, context);
    expect(await backend.stat('d', context)).toMatchObject({ attributes: { mode: 0o40711 } });
    expect(await read(backend, 'd/file')).toBe('x');
  });

  test('a copy with other attributes keeps what else its source has', async () => {
    const { backend, bucket } = await mounted();
    await write(backend, 'from', 'content', { uid: 1 });
    const theirs = { contentType: 'text/plain', contentLanguage: 'eo', metadata: { colour: 'blue' } };
    await server.request('PATCH', objectPath(bucket, 'from'), JSON.stringify(theirs));
    await backend.copy('from', 'to', { precondition: { kind: 'absent' }, attributes: { uid: 2 } }, context);
    expect(await resource(bucket, 'to')).toMatchObject({ ...theirs, metadata: { colour: 'blue', uid: '2' } });
    expect(await read(backend, 'to')).toBe('content');
  });

  test('more attributes than the store keeps are refused before anything is sent', async () => {
    const { backend } = await mounted();
    const xattrs = { 'user.large': Buffer.alloc(7000).toString('base64') };
    await expect(write(backend, 'file', 'x', { xattrs })).rejects.toMatchObject({ errno: 'ENOSPC' });
    const fits = { 'user.large': Buffer.alloc(5000).toString('base64') };
    await write(backend, 'file', 'x', { xattrs: fits });
    expect(await backend.stat('file', context)).toMatchObject({ attributes: { xattrs: fits } });
  });

  test('a bucket that keeps old versions gives them to who has opened them', async () => {
    const bucket = await server.createBucket({ versioning: { enabled: true } });
    const { backend } = await mounted({ bucket });
    const old = await write(backend, 'file', 'old');
    const middle = await write(backend, 'file', 'middle');
    expect(await read(backend, 'file', old)).toBe('old');
    await backend.remove('file', match(middle), context);
    expect(await backend.stat('file', context)).toBeUndefined();
    expect(await read(backend, 'file', middle)).toBe('middle');
    await expect(read(backend, 'file')).rejects.toMatchObject({ errno: 'ENOENT' });
  });

  test('what was stored packed is read as it is stored', async () => {
    const { backend, bucket } = await mounted();
    const packed = gzipSync('a'.repeat(10_000));
    await fetch(
      `${server.endpoint}/upload/storage/v1/b/${bucket}/o?uploadType=media&name=packed&contentEncoding=gzip`,
      { method: 'POST', body: packed },
    );
    expect(await backend.stat('packed', context)).toMatchObject({ size: packed.length });
    const chunks: Uint8Array[] = [];
    const sink = { write: (chunk: Uint8Array) => void chunks.push(chunk) };
    await backend.read('packed', { offset: 5, length: 10 }, sink, context);
    expect(Buffer.concat(chunks)).toEqual(packed.subarray(5, 15));
  });

  test('new objects are of the class that the mount says', async () => {
    const { backend, bucket } = await mounted({ storageClass: 'NEARLINE', userProject: 'payer' });
    await write(backend, 'small', 'x');
    await backend.write('large', patternSource(9 * MiB), { precondition: any }, context);
    expect(await resource(bucket, 'small')).toMatchObject({ storageClass: 'NEARLINE' });
    expect(await resource(bucket, 'large')).toMatchObject({ storageClass: 'NEARLINE' });
  });

  test('what the fake does not know it refuses: nothing passes that was not looked at', async () => {
    const { bucket } = await mounted();
    const answer = await server.request('GET', `/storage/v1/b/${bucket}/o?unheardOf=1`);
    expect(answer.status).toBe(501);
    const key = 'projects/p/locations/l/keyRings/r/cryptoKeys/k';
    await expect(mounted({ bucket, kmsKeyName: key })).rejects.toMatchObject({ errno: 'ENOTSUP' });
  });

  describe('over a connection that breaks', () => {
    const SIZE = 40 * MiB + 12_345;
    const whole = async (backend: GcsBackend, key: string) => {
      const parts: Uint8Array[] = [];
      const sink = { write: (chunk: Uint8Array) => void parts.push(chunk) };
      await backend.read(key, { offset: 0, length: SIZE }, sink, context);
      const bytes = Buffer.concat(parts);
      return digest(bytesSource(bytes));
    };

    test.each([
      ['the first', 5],
      ['the second', 20],
      ['the last', 36],
    ])('a large upload goes on where it was: %s chunk', async (_, cut) => {
      const { backend, proxy, bucket } = await overProxy();
      await proxy.command(`dropAfter ${cut * MiB}`);
      const before = JSON.parse(await proxy.command('stats')) as { bytesUp: number };
      const source = patternSource(SIZE);
      const options = { precondition: { kind: 'absent' }, attributes: { writer: 'me' } } as const;
      const written = await backend.write('large', source, options, context);
      const after = JSON.parse(await proxy.command('stats')) as { bytesUp: number };
      // One chunk was sent twice, not everything.
      expect(after.bytesUp - before.bytesUp).toBeLessThan(SIZE + 20 * MiB);
      expect(await backend.stat('large', context)).toEqual(written);
      expect(await resource(bucket, 'large')).toMatchObject({ size: String(SIZE), metageneration: '1' });
      expect(await whole(backend, 'large')).toBe(await digest(source));
    });

    test('a large upload whose end nobody can tell has an unknown outcome', async () => {
      const { backend, proxy } = await overProxy();
      const pattern = patternSource(SIZE);
      const source = {
        size: SIZE,
        async *read(range: ByteRange) {
          yield* pattern.read(range);
          if (range.offset < 32 * MiB) return;
          // The last chunk is under way: its connection breaks, and there is no other.
          await proxy.command('refuse');
          await proxy.command('drop');
        },
      };
      const options = { precondition: { kind: 'absent' }, attributes: { writer: 'me' } } as const;
      const lost = backend.write('large', source, options, context);
      await expect(lost).rejects.toMatchObject({ outcomeUnknown: true });
    });

    test('of a conditional change whose answer is lost the outcome is unknown', async () => {
      const { backend, proxy } = await overProxy();
      await backend.stat('x', context);
      await proxy.command('dropAfter 1');
      const options = { precondition: { kind: 'absent' }, attributes: { writer: 'me' } } as const;
      const lost = backend.write('file', bytesSource('content'), options, context);
      await expect(lost).rejects.toMatchObject({ retryable: true, outcomeUnknown: true });
      expect(await backend.stat('file', context)).toMatchObject({ attributes: { writer: 'me' } });
    });

    test('a write that is aborted leaves nothing', async () => {
      const { backend } = await mounted();
      const controller = new AbortController();
      const source = {
        size: SIZE,
        async *read() {
          yield Buffer.alloc(MiB);
          controller.abort();
          yield Buffer.alloc(MiB);
        },
      };
      const aborted = backend.write('file', source, { precondition: any }, { signal: controller.signal });
      await expect(aborted).rejects.toMatchObject({ errno: 'EINTR' });
      expect(await backend.stat('file', context)).toBeUndefined();
    });
  });
});
