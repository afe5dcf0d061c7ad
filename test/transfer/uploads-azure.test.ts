/** Blobs in blocks: those that are staged outlive the daemon, each under a name that says what is in it. */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { AzureBackend } from '../../src/backends/azure/backend.js';
import { azureLimits } from '../../src/backends/azure/requests.js';
import type { Precondition } from '../../src/backends/contract.js';
import { plain } from '../../src/backends/layers/intercept.js';
import { hasMultipart } from '../../src/backends/multipart.js';
import { KeySpace } from '../../src/backends/object-store/keys.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { Transfer } from '../../src/transfer/transfer.js';
import { UploadRecords } from '../../src/transfer/upload-records.js';
import { type Azurite, startAzurite } from '../servers/azurite.js';
import { quietLog } from '../servers/quiet.js';

const MiB = 2 ** 20;
const SIZE = 5 * MiB + 3;
const signal = new AbortController().signal;
const absent = { kind: 'absent' } as const;

let server: Azurite;
let folder: string;
let fd: number;
let backend: AzureBackend;
/** Blocks that were sent, and how many more may be. */
let sent: number[];
let allowed: number;

beforeAll(async () => {
  server = await startAzurite();
}, 90_000);
afterAll(() => server?.stop());

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mirage-uploads-'));
  fd = openSync(join(folder, 'staged'), 'w+');
  for (let block = 0; block < 5; block++) writeSync(fd, Buffer.alloc(MiB, `block ${block} `));
  writeSync(fd, Buffer.from('end'));
  const honoured = {
    writeAbsent: true,
    writeMatch: true,
    multipartAbsent: true,
    multipartMatch: true,
    copyAbsent: true,
    removeMatch: true,
  };
  const limits = { ...azureLimits, preferredPut: MiB, block: MiB, parallelBlocks: 1 };
  const client = await server.createContainer();
  backend = new AzureBackend({ client }, new KeySpace('below'), honoured, limits, false);
  sent = [];
  allowed = Number.POSITIVE_INFINITY;
});
afterEach(() => {
  closeSync(fd);
  rmSync(folder, { recursive: true, force: true });
});

/** The I/O side of a daemon; another one over the same folder is its successor. */
function daemon(): Transfer {
  const counted = plain(backend);
  if (!hasMultipart(counted)) throw new Error('it has no parts');
  const { multipart } = counted;
  const send: typeof multipart.send = async (upload, part, source, context) => {
    if (allowed-- <= 0) throw new MirageError('the line is down', { errno: 'EHOSTDOWN', retryable: true });
    sent.push(part.number);
    return multipart.send(upload, part, source, context);
  };
  return new Transfer([{ ...counted, multipart: { ...multipart, send } } as typeof counted], {
    log: quietLog,
    uploads: { records: new UploadRecords(join(folder, 'uploads')), identityOf: () => 'azure' },
  });
}

const commit = (writer: string, precondition: Precondition = absent) =>
  daemon().commit(0, { key: 'large', fd, size: SIZE, precondition, attributes: { writer }, again: true });

test('an upload that was broken off goes on with the blocks that are not there', async () => {
  allowed = 3;
  await expect(commit('one')).rejects.toMatchObject({ errno: 'EHOSTDOWN' });
  allowed = 3;
  writeSync(fd, Buffer.from('changed'), 0, 7, MiB + 100);
  await expect(commit('one')).rejects.toMatchObject({ errno: 'EHOSTDOWN' });
  allowed = 9;
  const info = await commit('one');
  // The second one has changed; it was sent again, and that one counts.
  expect(sent).toEqual([1, 2, 3, 2, 4, 5, 6]);
  expect(info).toMatchObject({ size: SIZE, attributes: { writer: 'one' } });
  const bytes: Buffer[] = [];
  const sink = { write: (chunk: Uint8Array) => void bytes.push(Buffer.from(chunk)) };
  const range = { offset: 0, length: SIZE };
  const read = await backend.read('large', range, sink, { signal }, info.validator);
  expect(read.size).toBe(SIZE);
  const whole = Buffer.concat(bytes);
  expect(whole.subarray(MiB + 100, MiB + 107).toString()).toBe('changed');
  expect(whole.subarray(-3).toString()).toBe('end');
});

test('the precondition is that of the last request', async () => {
  const { validator = '' } = await commit('one');
  sent = [];
  await expect(commit('two')).rejects.toMatchObject({ errno: 'ESTALE' });
  const info = await commit('three', { kind: 'match', validator });
  expect(info.attributes?.writer).toBe('three');
  await expect(commit('four', { kind: 'match', validator })).rejects.toMatchObject({ errno: 'ESTALE' });
  expect(await backend.stat('large', { signal })).toMatchObject({ attributes: { writer: 'three' } });
});
