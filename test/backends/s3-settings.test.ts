import { GetObjectCommand, PutBucketVersioningCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { Certificates, OpenContext } from '../../src/backends/backend-type.js';
import { Tools } from '../../src/backends/conformance/check.js';
import type { S3Backend } from '../../src/backends/s3/backend.js';
import { open } from '../../src/backends/s3/open.js';
import { type S3Options, s3Options, withPreset } from '../../src/backends/s3/options.js';
import { presets } from '../../src/backends/s3/presets.js';
import { settingsOf } from '../../src/backends/s3/settings.js';
import { systemClock } from '../../src/clock/clock.js';
import { quietLog } from '../servers/quiet.js';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';

const signal = new AbortController().signal;
const context: OpenContext = { log: quietLog, clock: systemClock, writable: true, signal };

let server: Radosgw;
let options: S3Options;

beforeAll(async () => {
  server = await startRadosgw();
});
afterAll(() => server?.stop());
beforeEach(async () => {
  options = { ...server.credentials, endpoint: server.endpoint, bucket: await server.createBucket() };
});

async function opened(overrides: Partial<S3Options> = {}): Promise<{ backend: S3Backend; tools: Tools }> {
  const { backend } = await open({ ...options, ...overrides }, context);
  return { backend: backend as S3Backend, tools: new Tools(backend, 'd', signal) };
}

describe('settings of the mount', () => {
  test('an object encrypted with a key of ours is nothing without it', async () => {
    const secretKey = Buffer.alloc(32, 'k').toString('base64');
    const { backend, tools } = await opened({ encryption: { type: 'customer', secretKey } });
    await tools.write('secret', 'the text');
    expect(await tools.read('secret')).toBe('the text');
    const plain = server.client.send(new GetObjectCommand({ Bucket: options.bucket, Key: 'secret' }));
    await expect(plain).rejects.toMatchObject({ $metadata: { httpStatusCode: 400 } });
    await backend.close();
  });

  test('every upload carries a checksum where that is wanted', async () => {
    const { backend, probed } = await open({ ...options, checksums: 'always' }, context);
    expect(probed).toMatchObject({ checksums: 'always' });
    // Ceph 16 takes a checksum with the headers, and refuses the one behind a stream: so it was sent.
    const tools = new Tools(backend, 'd', signal);
    await tools.write('small', 'x');
    await expect(tools.write('large', Buffer.alloc(2 ** 21))).rejects.toMatchObject({ errno: 'EIO' });
    await backend.close?.();
  });

  test.each([
    ['requester pays', { requesterPays: true }, 'GetObjectCommand', { RequestPayer: 'requester' }],
    ['a storage class', { storageClass: 'STANDARD_IA' }, 'PutObjectCommand', { StorageClass: 'STANDARD_IA' }],
    ['a storage class is nothing to a read', { storageClass: 'STANDARD_IA' }, 'GetObjectCommand', {}],
    [
      'a key of the key service',
      { encryption: { type: 'aws:kms', keyId: 'k' } },
      'CreateMultipartUploadCommand',
      { ServerSideEncryption: 'aws:kms', SSEKMSKeyId: 'k' },
    ],
  ] as const)('%s', (_name, settings, command, expected) => {
    expect(settingsOf({ ...options, ...settings })(command)).toEqual(expected);
  });

  test.each(Object.entries(presets))(
    'the preset %s says what its endpoint looks like',
    (preset, { endpoint }) => {
      const bare = s3Options.safeParse({ bucket: 'b', preset });
      expect(bare.error?.issues[0]?.message).toContain(endpoint);
      const given = s3Options.parse({ bucket: 'b', preset, endpoint, region: 'here' });
      expect(withPreset(given)).toMatchObject({ endpoint, region: 'here' });
    },
  );
});

describe('a bucket with versions', () => {
  test('a version that was replaced or removed can still be read', async () => {
    await server.client.send(
      new PutBucketVersioningCommand({
        Bucket: options.bucket,
        VersioningConfiguration: { Status: 'Enabled' },
      }),
    );
    const { backend, tools } = await opened();
    const first = await tools.write('a', 'first');
    await tools.write('a', 'second');
    expect(await tools.read('a', undefined, first.validator)).toBe('first');
    await backend.remove('a', { kind: 'any' }, { signal });
    expect(await tools.read('a', undefined, first.validator)).toBe('first');
    await backend.close();
  });

  test('without versions it is gone', async () => {
    const { backend, tools } = await opened();
    const first = await tools.write('a', 'first');
    await tools.write('a', 'second');
    await expect(tools.read('a', undefined, first.validator)).rejects.toMatchObject({ errno: 'ESTALE' });
    await backend.close();
  });
});

describe('what a store was found to honour', () => {
  test('is remembered, and then not asked again', async () => {
    const remembered = new Map<string, unknown>();
    const certificates: Certificates = {
      read: (store) => remembered.get(store),
      write: (store, value) => remembered.set(store, value),
    };
    const probed = (await open(options, { ...context, certificates })).probed;
    const again = await open(options, { ...context, certificates });
    expect(again.probed).toEqual({ ...probed, remembered: true });
    expect(JSON.stringify([...remembered])).not.toContain('testsecret');
    remembered.set([...remembered.keys()][0] as string, { damaged: true });
    expect((await open(options, { ...context, certificates })).probed).toEqual(probed);
  });
});
