/** A bucket of Google Cloud Storage (the fake), through a real daemon: what programs do, and what the bucket holds afterwards. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type FakeGcs, startFakeGcs } from '../servers/gcs.js';
import { Mirage } from './mount.js';
import { shell } from './process.js';

describe('a Google Cloud Storage mount', () => {
  let server: FakeGcs;
  let bucket: string;
  let mirage: Mirage;
  beforeAll(async () => {
    server = await startFakeGcs();
    bucket = await server.createBucket();
    const mount = { type: 'gcs', mode: 'exec', bucket, endpoint: server.endpoint };
    mirage = await Mirage.start({ mounts: { '/gcs': mount } });
  }, 90_000);
  afterAll(async () => {
    await mirage?.dispose();
    await server?.stop();
  }, 90_000);
  const names = async () => {
    const answer = await server.request('GET', `/storage/v1/b/${bucket}/o`);
    const { items = [] } = (await answer.json()) as { items?: { name: string }[] };
    return items.map(({ name }) => name);
  };

  test('files are written, large ones too, and read back', async () => {
    await shell(
      'mkdir -p gcs/a && echo hello > gcs/a/small && head -c 20000000 /dev/zero > gcs/a/large && cmp -n 20000000 gcs/a/large /dev/zero && grep -q hello gcs/a/small',
      mirage.mountpoint,
    );
    expect(await names()).toEqual(expect.arrayContaining(['a/', 'a/large', 'a/small']));
  }, 60_000);

  test('attributes change, and a rename of a directory takes them along', async () => {
    await shell(
      'chmod 640 gcs/a/small && touch -d @1700000000 gcs/a/small && mv gcs/a gcs/b && test "$(stat -c "%a %Y" gcs/b/small)" = "640 1700000000"',
      mirage.mountpoint,
    );
    expect(await names()).toEqual(expect.arrayContaining(['b/', 'b/large', 'b/small']));
  }, 60_000);

  test('what is removed is gone from the bucket', async () => {
    await shell('rm -r gcs/b && test -z "$(ls gcs)"', mirage.mountpoint);
    expect((await names()).filter((name) => name.startsWith('b/'))).toEqual([]);
  }, 60_000);
});
