/** An S3 bucket on a real object store (Ceph): the same suite as for a disk. In the long form through fuse-native, too. */
import { afterAll, beforeAll, describe } from '@jest/globals';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { fuseNativeLimits, s3Limits } from './expectations.js';
import { Mirage } from './mount.js';
import { describePosix } from './posix.js';
import { describePrograms, long } from './programs.js';
import { s3Mount } from './s3-mount.js';

const bindings = {
  raw: s3Limits,
  ...(long ? { 'fuse-native': { ...s3Limits, ...fuseNativeLimits } } : {}),
};

describe.each(Object.entries(bindings))('an S3 mount, binding %s', (binding, limits) => {
  let server: Radosgw;
  let mirage: Mirage;
  beforeAll(async () => {
    server = await startRadosgw();
    mirage = await Mirage.start({
      binding: binding as 'raw' | 'fuse-native',
      mounts: { '/s3': s3Mount(server, await server.createBucket(), { mode: 'exec' }) },
    });
  }, 90_000);
  afterAll(async () => {
    await mirage?.dispose();
    await server?.stop();
  }, 90_000);

  describePosix(() => mirage.path('s3'), { limits, entries: 1000 });
  describePrograms(() => mirage.path('s3'), { limits, holes: binding === 'raw' });
});
