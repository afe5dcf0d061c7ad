import { inspect } from 'node:util';
import type { ContainerClient } from '@azure/storage-blob';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { AzureBackend } from '../../src/backends/azure/backend.js';
import { open } from '../../src/backends/azure/open.js';
import { type AzureOptions, azureOptions } from '../../src/backends/azure/options.js';
import { azureLimits, type Traits } from '../../src/backends/azure/requests.js';
import type { Certificates, OpenContext } from '../../src/backends/backend-type.js';
import { digest, patternSource, Tools } from '../../src/backends/conformance/check.js';
import { KeySpace } from '../../src/backends/object-store/keys.js';
import { backendTypes } from '../../src/backends/registry.js';
import { systemClock } from '../../src/clock/clock.js';
import { configurationOfSource } from '../../src/config/load.js';
import { isSecretName } from '../../src/log/redaction.js';
import { type Azurite, startAzurite } from '../servers/azurite.js';
import { quietLog } from '../servers/quiet.js';

const signal = new AbortController().signal;
const context: OpenContext = { log: quietLog, clock: systemClock, writable: true, signal };
const any = { kind: 'any' } as const;
const absent = { kind: 'absent' } as const;
const MiB = 2 ** 20;

const honoured: Traits = {
  writeAbsent: true,
  writeMatch: true,
  multipartAbsent: true,
  multipartMatch: true,
  copyAbsent: true,
  removeMatch: true,
};

let server: Azurite;
let container: ContainerClient;
let options: AzureOptions;

beforeAll(async () => {
  server = await startAzurite();
}, 90_000);
afterAll(() => server?.stop());
beforeEach(async () => {
  container = await server.createContainer();
  const { containerName } = container;
  options = azureOptions.parse({
    ...server.credentials,
    endpoint: server.endpoint,
    container: containerName,
  });
});

async function opened(
  overrides: Partial<AzureOptions> = {},
): Promise<{ backend: AzureBackend; tools: Tools }> {
  const backend = (await open({ ...options, ...overrides }, context)).backend as AzureBackend;
  return { backend, tools: new Tools(backend, 'd', signal) };
}

/** A backend that cuts blobs of a few megabytes into blocks. */
function smallBlocks(): { backend: AzureBackend; tools: Tools } {
  const limits = { ...azureLimits, preferredPut: MiB, block: MiB };
  const backend = new AzureBackend({ client: container }, new KeySpace(undefined), honoured, limits, false);
  return { backend, tools: new Tools(backend, 'd', signal) };
}

async function names(): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of container.listBlobsFlat()) found.push(name);
  return found;
}

const put = (name: string, text: string, metadata: Record<string, string> = {}) =>
  container.getBlockBlobClient(name).upload(text, Buffer.byteLength(text), { metadata });

describe('opening', () => {
  test('leaves nothing behind', async () => {
    await opened();
    expect(await names()).toEqual([]);
  });

  const wrongKey = Buffer.alloc(64, 'wrong').toString('base64');
  test.each([
    ['a wrong key', { accountKey: wrongKey }, 'EACCES', /credentials/],
    [
      'a signature that is none',
      { accountKey: undefined, sasToken: 'sv=2024-11-04&sig=wrong' },
      'EACCES',
      /credentials/,
    ],
    ['a container that is not there', { container: 'no-such-container' }, 'ENOENT', /container/],
    ['an endpoint where nobody listens', { endpoint: 'http://127.0.0.1:9/x' }, 'EHOSTDOWN', /endpoint/],
    ['a host that has no address', { endpoint: 'http://store.invalid' }, 'EHOSTDOWN', /account/],
    ['a connection string that is none', { connectionString: `AccountKey=${wrongKey}` }, 'EINVAL', /portal/],
  ])('fails clearly with %s, and tells no secret', async (_name, wrong, errno, hint) => {
    const given = { ...options, ...wrong } as AzureOptions;
    const failure = await open(given, context).catch((error: unknown) => error);
    expect(failure).toMatchObject({ errno, hint: expect.stringMatching(hint) });
    const told = inspect(failure, { depth: 10, showHidden: true });
    for (const secret of [server.credentials.accountKey, wrongKey, 'sig=wrong']) {
      expect(told).not.toContain(secret);
    }
  });

  test('a connection string is enough', async () => {
    const { account, accountKey } = server.credentials;
    const connectionString = `DefaultEndpointsProtocol=http;AccountName=${account};AccountKey=${accountKey};BlobEndpoint=${server.endpoint};`;
    const given = azureOptions.parse({ connectionString, container: container.containerName });
    const { backend, identity } = await open(given, context);
    expect(await backend.stat('missing', { signal })).toBeUndefined();
    expect(identity).toBe(`azure:${server.endpoint}/${container.containerName}/`);
  });

  test('what is honoured is asked once, and not of a read-only mount', async () => {
    const kept = new Map<string, unknown>();
    const certificates: Certificates = {
      read: (store) => kept.get(store),
      write: (store, value) => void kept.set(store, value),
    };
    expect((await open(options, { ...context, certificates })).probed).not.toHaveProperty('remembered');
    expect((await open(options, { ...context, certificates })).probed).toMatchObject({
      ...honoured,
      remembered: true,
    });
    const { backend } = await open(options, { ...context, writable: false });
    expect(Object.values(backend.capabilities.preconditions)).not.toContain(true);
  });

  test('secrets are known as such by their names', () => {
    expect(['accountKey', 'sasToken', 'connectionString'].filter(isSecretName)).toHaveLength(3);
    expect(['account', 'container', 'key'].filter(isSecretName)).toEqual([]);
  });

  test('an address on the command line says account, container and prefix', () => {
    const load = { types: backendTypes, environment: { HOME: '/root' }, mountpoint: '/m' };
    expect(configurationOfSource('azure://account/files/some/prefix', load).mounts).toMatchObject([
      { type: 'azure', options: { account: 'account', container: 'files', prefix: 'some/prefix' } },
    ]);
  });

  test('credentials exclude each other', () => {
    const { success } = azureOptions.safeParse({ ...options, sasToken: 'sig=x' });
    expect(success).toBe(false);
    expect(azureOptions.safeParse({ container: 'c' }).success).toBe(false);
  });
});

describe('directories', () => {
  test('are marked as Hadoop and blobfuse do', async () => {
    const { backend } = await opened();
    await backend.createDirectory('a', { mode: 0o40755 }, { signal });
    expect((await container.getBlobClient('a').getProperties()).metadata).toEqual({
      hdi_isfolder: 'true',
      mode: String(0o40755),
    });
  });

  test('of every kind are read: marked, marked with a slash, not marked', async () => {
    await put('marked', '', { hdi_isfolder: 'true', mode: String(0o40700) });
    await put('marked/x', 'x');
    await put('slash/', '');
    await put('bare/x', 'x');
    const { backend, tools } = await opened();
    const entries = await tools.list('');
    expect(entries.map(({ key, kind }) => [key, kind]).sort()).toEqual([
      ['bare', 'directory'],
      ['marked', 'directory'],
      ['slash', 'directory'],
    ]);
    expect(entries.find(({ key }) => key === 'marked')?.attributes).toEqual({ mode: 0o40700 });
    for (const key of ['bare', 'marked', 'slash'])
      expect(await tools.stat(key)).toMatchObject({ kind: 'directory' });
    expect(await tools.list('slash')).toEqual([]);
    await expect(backend.createDirectory('slash', {}, { signal })).rejects.toMatchObject({ errno: 'EEXIST' });
    await backend.removeDirectory('slash', { signal });
    await expect(tools.read('marked')).rejects.toMatchObject({ errno: 'ENOENT' });
    await backend.remove('marked', any, { signal });
    expect(await names()).toEqual(['bare/x', 'marked', 'marked/x']);
  });

  test('a file is not taken for one that is removed, nor replaced by one', async () => {
    const { backend, tools } = await opened();
    await tools.write('file', 'x');
    await backend.removeDirectory('file', { signal });
    expect(await tools.read('file')).toBe('x');
    await expect(backend.createDirectory('file', {}, { signal })).rejects.toMatchObject({ errno: 'EEXIST' });
  });
});

describe('names', () => {
  test('that Azure would take for others are refused and never there', async () => {
    const { backend, tools } = await opened();
    await tools.write('a/b', 'x');
    for (const name of ['a\\b', 'a/./b', 'c/../a/b']) {
      await expect(backend.stat(name, { signal })).rejects.toMatchObject({ errno: 'EINVAL' });
      await expect(tools.write(name, 'y')).rejects.toMatchObject({ errno: 'EINVAL' });
      await backend.remove(name, any, { signal });
    }
    expect(await tools.read('a/b')).toBe('x');
  });

  test('of all other kinds come back as they were', async () => {
    const { tools } = await opened();
    const odd = [
      'a b',
      ' around ',
      'plus+sign',
      'percent%41',
      '%2F',
      `&<>"'`,
      'new\nline',
      'question?mark#hash',
      '*',
      'ümläut',
      'e\u0301',
      '日本語 😀',
      '...',
      'colon:semi;comma,',
      'x'.repeat(255),
    ];
    for (const name of odd) await tools.write(`d/${name}`, name);
    expect((await tools.list('d')).map(({ key }) => key).sort()).toEqual(
      odd.map((name) => `d/${name}`).sort(),
    );
    for (const name of odd) expect(await tools.read(`d/${name}`)).toBe(name);
  });
});

describe('attributes', () => {
  const attributes = { mode: 0o100600, uid: 7, linkGroup: 'g', writer: 'n', xattrs: { 'user.a': 'Yg==' } };

  test('come with the listing', async () => {
    const { tools } = await opened();
    await tools.write('file', 'x', { attributes });
    expect((await tools.list(''))[0]?.attributes).toEqual(attributes);
  });

  test('change in place, and leave the metadata of others alone', async () => {
    await put('file', 'content', { Owner: 'somebody', mode: '33188' });
    const { backend, tools } = await opened();
    await backend.setAttributes('file', 'file', attributes, any, { signal });
    expect(await tools.stat('file')).toMatchObject({ attributes, size: 7 });
    expect((await container.getBlobClient('file').getProperties()).metadata).toMatchObject({
      owner: 'somebody',
      mirage_link: 'g',
    });
  });

  test('a copy that shall have none has none', async () => {
    const { backend, tools } = await opened();
    await tools.write('from', 'x', { attributes });
    await backend.copy('from', 'to', { precondition: absent, attributes: {} }, { signal });
    expect((await tools.stat('to')).attributes).toEqual({});
  });

  test('that do not fit are refused', async () => {
    const { tools } = await opened();
    const xattrs = { 'user.large': 'x'.repeat(9000) };
    await expect(tools.write('file', 'x', { attributes: { xattrs } })).rejects.toMatchObject({
      errno: 'ENOSPC',
    });
    expect(await names()).toEqual([]);
  });
});

describe('content', () => {
  test('a large blob goes in blocks, under its precondition', async () => {
    const { backend } = smallBlocks();
    const source = patternSource(3 * MiB + 5);
    const first = await backend.write('large', source, { precondition: absent }, { signal });
    await expect(backend.write('large', source, { precondition: absent }, { signal })).rejects.toMatchObject({
      errno: 'ESTALE',
    });
    const match = { kind: 'match', validator: first.validator ?? '' } as const;
    await backend.write('large', patternSource(2 * MiB), { precondition: match }, { signal });
    await expect(backend.write('large', source, { precondition: match }, { signal })).rejects.toMatchObject({
      errno: 'ESTALE',
    });
    const { blobItems } = (await container.listBlobsFlat().byPage().next()).value.segment;
    expect(blobItems[0].properties.contentLength).toBe(2 * MiB);
    const bytes = await container.getBlobClient('large').downloadToBuffer();
    const hash = await digest({
      size: bytes.length,
      read: async function* () {
        yield bytes;
      },
    });
    expect(hash).toBe(await digest(patternSource(2 * MiB)));
  });

  test('two that write one blob in blocks do not mix', async () => {
    const { backend } = smallBlocks();
    const sources = [4, 5].map((size) => patternSource(size * MiB + size));
    const results = await Promise.allSettled(
      sources.map((source) => backend.write('large', source, { precondition: absent }, { signal })),
    );
    const winner = results.findIndex(({ status }) => status === 'fulfilled');
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(results[1 - winner]).toMatchObject({ reason: { errno: 'ESTALE' } });
    const bytes = await container.getBlobClient('large').downloadToBuffer();
    expect(bytes.length).toBe(sources[winner]?.size);
  });

  test('append and page blobs are read, and replaced by block blobs', async () => {
    const append = container.getAppendBlobClient('append');
    await append.create();
    await append.appendBlock('one', 3);
    await append.appendBlock('two', 3);
    const page = container.getPageBlobClient('page');
    await page.create(1024);
    await page.uploadPages(Buffer.alloc(512, 'p'), 512, 512);
    const { backend, tools } = smallBlocks();
    expect(await tools.read('append', { offset: 2, length: 2 })).toBe('et');
    expect(await tools.read('page', { offset: 511, length: 2 })).toBe('\0p');
    const source = patternSource(2 * MiB);
    await backend.write('append', source, { precondition: any }, { signal });
    expect(await container.getBlobClient('append').getProperties()).toMatchObject({
      blobType: 'BlockBlob',
      contentLength: source.size,
    });
  });

  test('a blob that another program holds a lease on is busy, not stale', async () => {
    const { tools } = await opened();
    const written = await tools.write('file', 'x');
    await container.getBlobClient('file').getBlobLeaseClient().acquireLease(60);
    const match = { kind: 'match', validator: written.validator ?? '' } as const;
    await expect(tools.write('file', 'y', { precondition: match })).rejects.toMatchObject({
      errno: 'EBUSY',
      hint: expect.stringMatching(/lease/),
    });
  });
});
