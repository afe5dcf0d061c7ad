/** kill -9 while a large file is on its way: what the store has of it does not travel again. */
import { createHash } from 'node:crypto';
import { ListMultipartUploadsCommand, ListPartsCommand, type MultipartUpload } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { Mirage } from './mount.js';
import { must, until } from './process.js';
import { Bucket, s3Mount } from './s3-mount.js';

const DEADLINE = 120_000;
/** Of 16 MiB each, the last one shorter. */
const PARTS = 13;
const PART = 16 * 2 ** 20;
const SIZE = 200 * 2 ** 20;

let server: Radosgw;

beforeAll(async () => {
  server = await startRadosgw();
}, DEADLINE);
afterAll(() => server?.stop(), DEADLINE);

async function uploadOf(bucket: string): Promise<MultipartUpload | undefined> {
  const { Uploads } = await server.client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  return Uploads?.[0];
}

/** Parts of the one upload under way that the store has whole. */
async function partsAt(bucket: string): Promise<number> {
  const upload = await uploadOf(bucket);
  if (upload === undefined) return 0;
  const { Key, UploadId } = upload;
  const { Parts } = await server.client.send(new ListPartsCommand({ Bucket: bucket, Key, UploadId }));
  return Parts?.length ?? 0;
}

interface Status {
  readonly daemons: readonly { readonly mounts: readonly { readonly counters?: Record<string, number> }[] }[];
}

async function counters(mirage: Mirage): Promise<Record<string, number>> {
  const { stdout } = await mirage.mirage('status', '--json');
  return (JSON.parse(stdout) as Status).daemons[0]?.mounts[0]?.counters ?? {};
}

test(
  'a killed daemon sends of a large file what the store does not have',
  async () => {
    const bucket = new Bucket(server, await server.createBucket());
    // This store puts parts together without a look at preconditions: it is given them only where none is asked for.
    const mount = s3Mount(server, bucket.name, { writeBack: 'async', conflicts: 'lastWriterWins' });
    const mirage = await Mirage.start({ mounts: { '/s3': mount } });
    try {
      const path = mirage.path('s3', 'large');
      await must('sh', ['-c', `seq 1 40000000 | head -c ${SIZE} > "$1"`, 'sh', path], {
        deadline: DEADLINE,
      });
      await until(async () => (await partsAt(bucket.name)) >= 1, 'a part is at the store', 60_000);
      await mirage.crash();
      mirage.kill();
      const there = await partsAt(bucket.name);
      expect(there).toBeGreaterThanOrEqual(1);
      expect(there).toBeLessThan(PARTS);
      await mirage.restart();
      await until(
        async () => (await mirage.mirage('drain', mirage.mountpoint)).code === 0,
        'drained',
        DEADLINE,
      );
      const said = await counters(mirage);
      expect(said).toMatchObject({ sendPart: PARTS - there });
      expect(said.bytesWritten).toBeLessThanOrEqual(SIZE - (there - 1) * PART);
      expect(await uploadOf(bucket.name)).toBeUndefined();
      const stored = await bucket.get('large');
      expect(stored.length).toBe(SIZE);
      expect(stored.subarray(0, 6).toString()).toBe('1\n2\n3\n');
      const expected = await must('sh', ['-c', `seq 1 40000000 | head -c ${SIZE} | md5sum`], {
        deadline: DEADLINE,
      });
      expect(expected).toContain(createHash('md5').update(stored).digest('hex'));
    } finally {
      await mirage.dispose();
    }
  },
  3 * DEADLINE,
);
