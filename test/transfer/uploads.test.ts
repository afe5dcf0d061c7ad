/** Large objects in parts: what the store has is not sent again, and what nobody needs does not stay there. */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AbortMultipartUploadCommand, ListMultipartUploadsCommand } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Backend, Precondition } from '../../src/backends/contract.js';
import { layered } from '../../src/backends/layers/stack.js';
import { partsOf } from '../../src/backends/multipart.js';
import { KeySpace } from '../../src/backends/object-store/keys.js';
import { S3Backend } from '../../src/backends/s3/backend.js';
import { createClient } from '../../src/backends/s3/client.js';
import { unprobedTraits } from '../../src/backends/s3/probe.js';
import { s3Limits } from '../../src/backends/s3/requests.js';
import { systemClock } from '../../src/clock/clock.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { Transfer } from '../../src/transfer/transfer.js';
import { UploadRecords } from '../../src/transfer/upload-records.js';
import { quietLog } from '../servers/quiet.js';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';

const MiB = 2 ** 20;
const any = { kind: 'any' } as const;
const signal = new AbortController().signal;

let server: Radosgw;
let folder: string;
let bucket: string;
let backend: Backend;
/** Requests by the name of the SDK's command; a name in `fails` is refused that often before it is sent. */
let requests: string[];
let refuse: (command: string) => boolean;
let fd: number;

beforeAll(async () => {
  server = await startRadosgw();
});
afterAll(() => server?.stop());

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mirage-uploads-'));
  bucket = await server.createBucket();
  requests = [];
  refuse = () => false;
  const client = createClient({ ...server.credentials, endpoint: server.endpoint, bucket }, 'auto');
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      (args) => {
        if (refuse(commandName)) {
          throw new MirageError(`${commandName}: the line is down`, { errno: 'EHOSTDOWN', retryable: true });
        }
        requests.push(commandName.replace('Command', ''));
        return next(args);
      },
    { step: 'initialize', name: 'count' },
  );
  // With preconditions that it honours nowhere, so that parts are looked at before they are put together.
  const traits = { ...unprobedTraits, quotedETags: false };
  const limits = { ...s3Limits, preferredPut: 6 * MiB, maximumPut: 6 * MiB, part: 5 * MiB, parallelParts: 1 };
  const s3 = new S3Backend({ client, name: bucket }, new KeySpace(undefined), traits, limits, quietLog);
  const opened = { backend: s3, identity: 's3', probed: {} };
  const module = layered({ open: async () => opened });
  ({ backend } = await module.open({}, { log: quietLog, clock: systemClock, writable: true, signal }));
  fd = openSync(join(folder, 'staged'), 'w+');
  for (let part = 0; part < 4; part++) writeSync(fd, Buffer.alloc(5 * MiB, `part ${part} `));
  writeSync(fd, Buffer.from('end'));
});
afterEach(async () => {
  closeSync(fd);
  await backend?.close?.();
  rmSync(folder, { recursive: true, force: true });
});

const SIZE = 20 * MiB + 3;

/** The I/O side of a daemon; another one over the same folder is its successor. */
const daemon = () =>
  new Transfer([backend], {
    log: quietLog,
    uploads: { records: new UploadRecords(join(folder, 'uploads')), identityOf: () => 's3' },
  });

const commit = (port: Transfer, writer: string, { precondition = any as Precondition, again = true } = {}) =>
  port.commit(0, { key: 'large', fd, size: SIZE, precondition, attributes: { writer }, again });

/** Commits until two parts are at the store; then nothing more gets there. */
async function brokenOff(port: Transfer, writer: string, options?: { again: boolean }): Promise<void> {
  let parts = 0;
  refuse = (command) =>
    command === 'UploadPartCommand' ? ++parts > 2 : command !== 'CreateMultipartUploadCommand';
  await expect(commit(port, writer, options)).rejects.toMatchObject({ errno: 'EHOSTDOWN' });
  refuse = () => false;
}

const count = (name: string): number => requests.filter((each) => each === name).length;
const uploads = async () =>
  (await server.client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))).Uploads ?? [];

describe('an upload that was broken off', () => {
  test('goes on in the next daemon, which sends what the store does not have', async () => {
    await brokenOff(daemon(), 'one');
    expect(count('UploadPart')).toBe(2);
    requests.length = 0;
    const info = await commit(daemon(), 'one');
    expect(requests.sort()).toEqual([
      'CompleteMultipartUpload',
      'HeadObject',
      'ListParts',
      'UploadPart',
      'UploadPart',
      'UploadPart',
    ]);
    expect(info.size).toBe(SIZE);
    expect(await backend.stat('large', { signal })).toMatchObject({
      size: SIZE,
      attributes: { writer: 'one' },
    });
    expect(await uploads()).toEqual([]);
  });

  test('sends a part again that has changed since', async () => {
    await brokenOff(daemon(), 'one');
    writeSync(fd, Buffer.from('changed'), 0, 7, 100);
    writeSync(fd, Buffer.from('changed'), 0, 7, 5 * MiB + 100);
    requests.length = 0;
    await commit(daemon(), 'one');
    expect(count('UploadPart')).toBe(5);
  });

  test('begins anew where the store has forgotten it', async () => {
    await brokenOff(daemon(), 'one');
    const [upload] = await uploads();
    await server.client.send(
      new AbortMultipartUploadCommand({ Bucket: bucket, Key: upload?.Key, UploadId: upload?.UploadId }),
    );
    expect((await commit(daemon(), 'one')).size).toBe(SIZE);
  });

  test('is aborted where nobody will go on with it', async () => {
    await brokenOff(daemon(), 'one');
    expect(await uploads()).toHaveLength(1);
    await daemon().abandonUploads(0, ['one', 'other']);
    expect(await uploads()).toHaveLength(1);
    await daemon().abandonUploads(0, ['other']);
    expect(await uploads()).toEqual([]);
  });

  test('leaves nothing where the caller will not come again', async () => {
    await brokenOff(daemon(), 'one', { again: false });
    // The line was down for the abort, too: the record is what the next daemon knows of it.
    await daemon().abandonUploads(0, []);
    expect(await uploads()).toEqual([]);
  });
});

test('a conflict at the end takes the parts away and says so', async () => {
  await commit(daemon(), 'one');
  const refused = commit(daemon(), 'two', { precondition: { kind: 'absent' } });
  await expect(refused).rejects.toMatchObject({ errno: 'ESTALE' });
  expect(await uploads()).toEqual([]);
  expect(await backend.stat('large', { signal })).toMatchObject({ attributes: { writer: 'one' } });
});

describe('the parts of an object', () => {
  const s3 = { part: 16 * MiB, maximumParts: 10_000 };

  test('cover 5 TB within what S3 allows', () => {
    const size = 5 * 2 ** 40;
    const parts = partsOf(size, s3);
    expect(parts.length).toBeLessThanOrEqual(10_000);
    expect(Math.max(...parts.map(({ length }) => length))).toBeLessThanOrEqual(5 * 2 ** 30);
    let end = 0;
    for (const [index, { number, offset, length }] of parts.entries()) {
      if (number !== index + 1 || offset !== end) throw new Error(`a gap before part ${number}`);
      end += length;
    }
    expect(end).toBe(size);
  });

  test('lie where they lie whatever the size', () => {
    const small = partsOf(100 * MiB, s3);
    expect(small).toHaveLength(7);
    expect(partsOf(10 * 2 ** 30, s3).slice(0, 6)).toEqual(small.slice(0, 6));
  });
});
