/** The second binding, on memory: the same suite, without what its library cannot do. */
import { afterAll, beforeAll, describe } from '@jest/globals';
import { fuseNativeLimits } from './expectations.js';
import { Mirage } from './mount.js';
import { describePosix } from './posix.js';
import { describePrograms } from './programs.js';

let mirage: Mirage;
beforeAll(async () => {
  mirage = await Mirage.start({
    binding: 'fuse-native',
    mounts: { '/ram': { type: 'ram', mode: 'exec' } },
  });
}, 60_000);
afterAll(() => mirage?.dispose(), 60_000);

describe('a memory mount through fuse-native', () => {
  describePosix(() => mirage.path('ram'), { limits: fuseNativeLimits });
  describePrograms(() => mirage.path('ram'), { limits: fuseNativeLimits, holes: false });
});
