import { Readable } from 'node:stream';
import type { GetObjectCommandOutput } from '@aws-sdk/client-s3';
import { describe, expect, test } from '@jest/globals';
import {
  decodeAttributes,
  encodeAttributes,
  foreignMetadata,
} from '../../src/backends/object-store/attributes.js';
import { KeySpace } from '../../src/backends/object-store/keys.js';
import { asksForChecksum, toMirageError } from '../../src/backends/s3/errors.js';
import { copySource, decodeKey } from '../../src/backends/s3/keys.js';
import { s3Options } from '../../src/backends/s3/options.js';
import { objectSize, pour } from '../../src/backends/s3/pour.js';
import { conditionsOf, timestampOf, validatorOf } from '../../src/backends/s3/requests.js';
import { MirageError } from '../../src/errors/mirage-error.js';

const signal = new AbortController().signal;

describe('the body of a GET', () => {
  const chunks = (...texts: string[]) => Readable.from(texts.map((text) => Buffer.from(text)));
  async function poured(
    body: Readable,
    fields: Partial<GetObjectCommandOutput>,
    offset: number,
    length: number,
  ) {
    const arrived: Uint8Array[] = [];
    const answer = { ...fields, Body: body } as unknown as GetObjectCommandOutput;
    const sink = { write: (chunk: Uint8Array) => void arrived.push(chunk) };
    const size = await pour(answer, { range: { offset, length }, sink, begin: objectSize, signal });
    return { size, text: Buffer.concat(arrived).toString() };
  }

  test('is the range that was asked for', async () => {
    const answer = { ContentRange: 'bytes 2-5/10', ContentLength: 4 };
    expect(await poured(chunks('23', '45'), answer, 2, 4)).toEqual({ size: 10, text: '2345' });
  });

  test('of a store that ignores ranges is cut to it', async () => {
    const whole = () => chunks('012', '345', '6789');
    expect(await poured(whole(), { ContentLength: 10 }, 2, 4)).toEqual({ size: 10, text: '2345' });
    expect(await poured(whole(), { ContentLength: 10 }, 8, 100)).toEqual({ size: 10, text: '89' });
    expect(await poured(whole(), { ContentLength: 10 }, 20, 5)).toEqual({ size: 10, text: '' });
  });

  test('that ends early is an error', async () => {
    const answer = { ContentRange: 'bytes 2-5/10', ContentLength: 4 };
    await expect(poured(chunks('23', '4'), answer, 2, 4)).rejects.toMatchObject({
      errno: 'EIO',
      retryable: true,
    });
  });
});

describe('keys', () => {
  test.each([
    ['a%20b', 'a b'],
    ['a+b', 'a b'],
    ['a%2Bb', 'a+b'],
    ['%2541', '%41'],
    ['%C3%A9%01', 'é\u0001'],
    ['%FF', undefined],
    ['%', undefined],
  ])('%s of a listing is %j', (encoded, key) => expect(decodeKey(encoded)).toBe(key));

  test('a prefix counts without its slashes', () => {
    for (const prefix of ['a/b', '/a/b/', 'a/b//']) expect(new KeySpace(prefix).base).toBe('a/b/');
    for (const prefix of [undefined, '', '/']) expect(new KeySpace(prefix).base).toBe('');
  });

  test('directories are prefixes, and back', () => {
    const keys = new KeySpace('p');
    expect(keys.directory('')).toBe('p/');
    expect(keys.directory('a')).toBe('p/a/');
    expect(keys.fromPrefix('p/a/')).toBe('a');
    expect(keys.fromPrefix('p/a//')).toBe('a/');
    expect(keys.fromObject('p/a/b')).toBe('a/b');
    expect(new KeySpace(undefined).fromPrefix('/')).toBeUndefined();
    expect(keys.maximumBytes).toBe(1022);
  });

  test('the source of a copy is encoded segment by segment', () => {
    expect(copySource('bucket', 'a b/+%/é')).toBe('bucket/a%20b/%2B%25/%C3%A9');
  });
});

describe('requests', () => {
  test('ETags are compared without quotes and sent as the store takes them', () => {
    expect(validatorOf('"abc-2"')).toBe('abc-2');
    expect(validatorOf('abc')).toBe('abc');
    const match = { kind: 'match', validator: 'abc' } as const;
    expect(conditionsOf(match, { quotedETags: true })).toEqual({ IfMatch: '"abc"' });
    expect(conditionsOf(match, { quotedETags: false })).toEqual({ IfMatch: 'abc' });
    expect(conditionsOf({ kind: 'absent' }, { quotedETags: true })).toEqual({ IfNoneMatch: '*' });
    expect(conditionsOf({ kind: 'any' }, { quotedETags: true })).toEqual({});
  });

  test('times are whole seconds', () => {
    expect(timestampOf(new Date(1_700_000_000_999))).toEqual({ seconds: 1_700_000_000, nanoseconds: 0 });
  });
});

describe('attributes', () => {
  test('of ours and of others are told apart', () => {
    const metadata = encodeAttributes({ mode: 1, linkGroup: 'ü' }, { owner: 'x' });
    expect(metadata).toEqual({ mode: '1', 'mirage-link': '%C3%BC', owner: 'x' });
    expect(foreignMetadata(metadata)).toEqual({ owner: 'x' });
    expect(decodeAttributes(metadata)).toEqual({ mode: 1, linkGroup: 'ü' });
    expect(decodeAttributes(undefined)).toEqual({});
  });

  test('fill the 2048 bytes of S3 and no more', () => {
    const room = 2048 - 'mirage-writer'.length;
    expect(encodeAttributes({ writer: 'w'.repeat(room) })).toBeDefined();
    expect(() => encodeAttributes({ writer: 'w'.repeat(room + 1) })).toThrow(/2049 bytes/);
  });
});

describe('errors', () => {
  const attempt = { operation: 'write', subject: 'key', signal };
  const answered = (status: number, name: string) => ({ name, $metadata: { httpStatusCode: status } });

  test.each([
    [answered(404, 'NoSuchKey'), 'ENOENT', false],
    [answered(404, 'NoSuchBucket'), 'ENOENT', false],
    [answered(412, 'PreconditionFailed'), 'ESTALE', false],
    [answered(409, 'ConditionalRequestConflict'), 'EBUSY', true],
    [answered(403, 'AccessDenied'), 'EACCES', false],
    [answered(403, 'InvalidAccessKeyId'), 'EACCES', false],
    [answered(403, 'RequestTimeTooSkewed'), 'EACCES', true],
    [answered(301, 'PermanentRedirect'), 'ENOENT', false],
    [answered(400, 'InvalidArgument'), 'EIO', false],
    [answered(400, 'RequestTimeout'), 'EIO', true],
    [answered(400, 'EntityTooLarge'), 'EFBIG', false],
    [answered(400, 'KeyTooLongError'), 'ENAMETOOLONG', false],
    [answered(403, 'QuotaExceeded'), 'EDQUOT', false],
    [answered(501, 'NotImplemented'), 'ENOTSUP', false],
    [answered(503, 'SlowDown'), 'EBUSY', true],
    [answered(500, 'InternalError'), 'EIO', true],
    [{ name: 'Error', code: 'ECONNREFUSED', syscall: 'connect' }, 'EHOSTDOWN', true],
    [{ name: 'Error', code: 'ENOTFOUND', syscall: 'getaddrinfo' }, 'EHOSTDOWN', true],
    [{ name: 'TimeoutError' }, 'EHOSTDOWN', true],
    [{ name: 'TimeoutError', code: 'ECONNRESET', syscall: 'read' }, 'EIO', true],
    [{ name: 'Error', code: 'EPIPE', syscall: 'write' }, 'EIO', true],
    [{ name: 'Error', code: 'DEPTH_ZERO_SELF_SIGNED_CERT' }, 'EHOSTDOWN', false],
    [{ name: 'CredentialsProviderError' }, 'EACCES', false],
  ])('%j is %s', (failure, errno, retryable) => {
    const error = toMirageError(failure, attempt);
    expect(error).toMatchObject({ errno, retryable, outcomeUnknown: false });
  });

  test.each([
    [answered(500, 'InternalError'), 'EIO', true],
    [answered(409, 'ConditionalRequestConflict'), 'EBUSY', true],
    [{ name: 'TimeoutError', code: 'ECONNRESET', syscall: 'read' }, 'EIO', true],
    [answered(503, 'SlowDown'), 'EBUSY', false],
    [{ name: 'Error', code: 'ECONNREFUSED', syscall: 'connect' }, 'EHOSTDOWN', false],
    [{ name: 'TimeoutError' }, 'EHOSTDOWN', false],
    [answered(404, 'NoSuchKey'), 'ESTALE', false],
    [answered(412, 'PreconditionFailed'), 'ESTALE', false],
  ])('under a precondition %j is %s', (failure, errno, outcomeUnknown) => {
    expect(toMirageError(failure, { ...attempt, conditional: true })).toMatchObject({
      errno,
      outcomeUnknown,
    });
  });

  test('an abort is EINTR, unless its reason says more', () => {
    const failure = { name: 'AbortError' };
    const plain = AbortSignal.abort();
    expect(toMirageError(failure, { ...attempt, signal: plain })).toMatchObject({ errno: 'EINTR' });
    const reason = new MirageError('too late', { errno: 'ETIMEDOUT' });
    expect(toMirageError(failure, { ...attempt, signal: AbortSignal.abort(reason) })).toBe(reason);
  });

  test('a store that insists on checksums is recognised', () => {
    const message = 'Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests';
    const refused = { ...answered(400, 'InvalidRequest'), message };
    expect(asksForChecksum(toMirageError(refused, attempt))).toBe(true);
    expect(asksForChecksum(toMirageError(answered(400, 'InvalidRequest'), attempt))).toBe(false);
  });
});

describe('options', () => {
  test.each([
    [{ bucket: 'b' }, true],
    [{ bucket: 'b', anonymous: true }, true],
    [{ bucket: 'b', accessKeyId: 'a', secretAccessKey: 's', pathStyle: false }, true],
    [{}, false],
    [{ bucket: '' }, false],
    [{ bucket: 'b', endpoint: 'localhost:9000' }, false],
    [{ bucket: 'b', accessKeyId: 'a' }, false],
    [{ bucket: 'b', anonymous: true, profile: 'p' }, false],
    [{ bucket: 'b', buckets: 'c' }, false],
  ])('%j: %s', (options, valid) => expect(s3Options.safeParse(options).success).toBe(valid));
});
