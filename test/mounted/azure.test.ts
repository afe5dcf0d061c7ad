/** A container of Azure Blob Storage (Azurite) through a daemon: written, read back without a cache, renamed. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ContainerClient } from '@azure/storage-blob';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { type Azurite, startAzurite } from '../servers/azurite.js';
import { Mirage } from './mount.js';
import { run, shell } from './process.js';

let server: Azurite;
const mounts: Mirage[] = [];
beforeAll(async () => {
  server = await startAzurite();
}, 90_000);
afterEach(async () => {
  for (const mount of mounts.splice(0)) await mount.dispose();
}, 90_000);
afterAll(() => server?.stop());

async function mounted(container: ContainerClient): Promise<Mirage> {
  const mirage = await Mirage.start({
    mounts: {
      '/azure': {
        type: 'azure',
        mode: 'exec',
        ...server.credentials,
        endpoint: server.endpoint,
        container: container.containerName,
      },
    },
  });
  mounts.push(mirage);
  return mirage;
}

async function names(container: ContainerClient): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of container.listBlobsFlat()) found.push(name);
  return found;
}

test('what one mount wrote another one reads, with mode and time', async () => {
  const container = await server.createContainer();
  const writer = await mounted(container);
  const bytes = Buffer.alloc(40_000_000, 'the quick brown fox; ');
  writeFileSync(join(writer.folder, 'large'), bytes);
  await shell(
    `cp ../large azure/large && echo small > azure/small && chmod 640 azure/small && touch -d @1234567890 azure/small && ln -s small azure/link`,
    writer.mountpoint,
  );
  await writer.stop();
  const reader = await mounted(container);
  const found = await shell(
    `cmp ${join(writer.folder, 'large')} azure/large && cat azure/link && stat -c '%a %Y' azure/small`,
    reader.mountpoint,
  );
  expect(found).toBe('small\n640 1234567890\n');
}, 120_000);

test('a directory is renamed with everything in it, and leaves nothing behind', async () => {
  const container = await server.createContainer();
  const mirage = await mounted(container);
  const tree = await shell(
    'cd azure && mkdir -p a/b/empty && echo 1 > a/one && echo 2 > a/b/two && mv a z && rm z/one && find z | sort',
    mirage.mountpoint,
  );
  expect(tree).toBe('z\nz/b\nz/b/empty\nz/b/two\n');
  await mirage.stop();
  const found = (await names(container)).filter((name) => !name.startsWith('.mirage/'));
  expect(found).toEqual(['z', 'z/b', 'z/b/empty', 'z/b/two']);
  expect((await container.getBlobClient('z/b/two').downloadToBuffer()).toString()).toBe('2\n');
}, 120_000);

test('a name that Azure would take for another is refused', async () => {
  const container = await server.createContainer();
  const mirage = await mounted(container);
  const told = await run('cp', [join(mirage.folder, 'mirage.yaml'), mirage.path('azure', 'a\\b')]);
  expect(told).toMatchObject({ code: 1, stderr: expect.stringMatching(/Invalid argument/) });
  expect(await names(container)).toEqual([]);
}, 120_000);
