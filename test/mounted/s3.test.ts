/** An S3 bucket on a real object store (Ceph): the same suite as for a disk. */
import { afterAll, beforeAll, describe } from '@jest/globals';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { s3Limits } from './expectations.js';
import { Mirage } from './mount.js';
import { describePosix } from './posix.js';
import { describePrograms } from './programs.js';
import { s3Mount } from './s3-mount.js';

let server: Radosgw;
let mirage: Mirage;
beforeAll(async () => {
  server = await startRadosgw();
  mirage = await Mirage.start({
    mounts: { '/s3': s3Mount(server, await server.createBucket(), { mode: 'exec' }) },
  });
}, 90_000);
afterAll(async () => {
  await mirage?.dispose();
  await server?.stop();
}, 90_000);

describe('an S3 mount', () => {
  describePosix(() => mirage.path('s3'), { limits: s3Limits, entries: 1000 });
  describePrograms(() => mirage.path('s3'), { limits: s3Limits });
});
