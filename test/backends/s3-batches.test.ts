/** What is done with many objects takes few requests, and each of them is still told apart. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type BatchRemovalBackend, hasRemoveMany } from '../../src/backends/contract.js';
import { layered } from '../../src/backends/layers/stack.js';
import { KeySpace } from '../../src/backends/object-store/keys.js';
import { S3Backend } from '../../src/backends/s3/backend.js';
import { createClient } from '../../src/backends/s3/client.js';
import { open } from '../../src/backends/s3/open.js';
import type { S3Options } from '../../src/backends/s3/options.js';
import { unprobedTraits } from '../../src/backends/s3/probe.js';
import { fitsBatch } from '../../src/backends/s3/removals.js';
import { s3Limits } from '../../src/backends/s3/requests.js';
import { systemClock } from '../../src/clock/clock.js';
import { quietLog } from '../servers/quiet.js';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';

const signal = new AbortController().signal;
const any = { kind: 'any' } as const;

let server: Radosgw;
let options: S3Options;
let requests: string[];
let backend: S3Backend;

beforeAll(async () => {
  server = await startRadosgw();
});
afterAll(() => server?.stop());
beforeEach(async () => {
  options = { ...server.credentials, endpoint: server.endpoint, bucket: await server.createBucket() };
  requests = [];
  const client = createClient(options, 'auto');
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        requests.push(commandName ?? '');
        return next(args);
      },
    { step: 'initialize', name: 'count' },
  );
  const traits = {
    ...unprobedTraits,
    quotedETags: false,
    writeAbsent: true,
    writeMatch: true,
    removeMany: true,
  };
  const bucket = { client, name: options.bucket };
  backend = new S3Backend(bucket, new KeySpace('below'), traits, s3Limits, quietLog);
});

afterEach(() => backend?.close());

const put = async (key: string, content: string): Promise<{ validator: string; size: number }> => {
  const bytes = Buffer.from(content);
  const source = {
    size: bytes.length,
    async *read() {
      yield bytes;
    },
  };
  const { validator = '' } = await backend.write(key, source, { precondition: any }, { signal });
  return { validator, size: bytes.length };
};
const removeMany: BatchRemovalBackend['removeMany'] = (removals, context) =>
  (backend.removeMany as BatchRemovalBackend['removeMany'])(removals, context);

describe('removing many', () => {
  test('takes a request for each thousand, whatever is there', async () => {
    await put('a & b/<c>', 'x');
    await put('ü', 'x');
    const removals = Array.from({ length: 1500 }, (_, index) => ({
      key: `none-${index}`,
      precondition: any,
    }));
    removals.push({ key: 'a & b/<c>', precondition: any }, { key: 'ü', precondition: any });
    requests.length = 0;
    const outcomes = await removeMany(removals, { signal });
    expect(requests).toEqual(['DeleteObjectsCommand', 'DeleteObjectsCommand']);
    expect(outcomes).toHaveLength(1502);
    expect(outcomes.filter((each) => each !== undefined)).toEqual([]);
    expect((await backend.list('', undefined, { signal })).entries).toEqual([]);
  });

  test('what names a version is looked at where a batch cannot carry it, and the others go all the same', async () => {
    const kept = await put('kept', 'first');
    await put('kept', 'second');
    const { validator } = await put('gone', 'only');
    await put('also', 'x');
    const outcomes = await removeMany(
      [
        { key: 'kept', precondition: { kind: 'match', validator: kept.validator } },
        { key: 'gone', precondition: { kind: 'match', validator } },
        { key: 'also', precondition: any },
      ],
      { signal },
    );
    expect(outcomes.map((each) => each?.errno)).toEqual(['ESTALE', undefined, undefined]);
    const left = await backend.list('', undefined, { signal });
    expect(left.entries.map(({ key }) => key)).toEqual(['kept']);
  });

  test('a batch carries versions where the store honours them, and no name that XML cannot', () => {
    const match = { kind: 'match', validator: 'v' } as const;
    expect(fitsBatch({ key: 'a', precondition: match }, { removeManyMatch: true })).toBe(true);
    expect(fitsBatch({ key: 'a', precondition: match }, { removeManyMatch: false })).toBe(false);
    expect(fitsBatch({ key: 'a\u0001', precondition: any }, { removeManyMatch: true })).toBe(false);
  });

  test('is there where the probe has found it', async () => {
    const module = layered({ open: (given, context) => open(given as S3Options, context) });
    const opened = await module.open(options, {
      log: quietLog,
      clock: systemClock,
      writable: true,
      signal,
    });
    expect(opened.probed).toMatchObject({ removeMany: true, removeManyMatch: false });
    expect(hasRemoveMany(opened.backend)).toBe(true);
    await opened.backend.close?.();
  });
});

describe('a copy of a version whose size is known', () => {
  test('is one request', async () => {
    const { validator, size } = await put('from', 'content');
    requests.length = 0;
    const made = await backend.copy('from', 'to', { precondition: any, match: validator, size }, { signal });
    expect(requests).toEqual(['CopyObjectCommand']);
    expect(made).toMatchObject({ key: 'to', size, validator, attributes: undefined });
  });

  test('of another version is none, where the store would have made it', async () => {
    const { validator, size } = await put('from', 'first');
    await put('from', 'other');
    const copy = backend.copy('from', 'to', { precondition: any, match: validator, size }, { signal });
    await expect(copy).rejects.toMatchObject({ errno: 'ESTALE' });
    expect(await backend.stat('to', { signal })).toBeUndefined();
  });
});
