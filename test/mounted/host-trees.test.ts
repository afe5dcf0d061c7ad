/** Memory and local disk through our own transport: everything that a program may ask of a file system. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from '@jest/globals';
import { Mirage } from './mount.js';
import { describePosix } from './posix.js';
import { describePrograms } from './programs.js';

let mirage: Mirage;
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mirage-mounted-local-'));
  mkdirSync(join(folder, 'root'), { mode: 0o755 });
  mirage = await Mirage.start({
    mounts: {
      '/ram': { type: 'ram', mode: 'exec' },
      '/local': { type: 'local', mode: 'exec', path: join(folder, 'root') },
    },
  });
}, 60_000);
afterAll(async () => {
  await mirage?.dispose();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

for (const name of ['ram', 'local']) {
  describe(`a ${name} mount`, () => {
    describePosix(() => mirage.path(name));
    describePrograms(() => mirage.path(name));
  });
}
