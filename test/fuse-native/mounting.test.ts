import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mountFuseNative } from '../../src/fuse/fuse-native/fuse-native-binding.js';
import type { FileSystem } from '../../src/vfs/operations.js';
import { quietLog } from '../servers/quiet.js';

describe('mounting through fuse-native', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'mirage-fuse-native-'));
    writeFileSync(join(folder, 'file'), '');
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const nothing = {} as FileSystem;
  const attempt = (mountpoint: string): Promise<unknown> =>
    mountFuseNative(nothing, { mountpoint, allowOther: false, log: quietLog });

  test('a mount point that is missing or no folder is refused with what to do', async () => {
    await expect(attempt(join(folder, 'missing'))).rejects.toMatchObject({
      errno: 'ENOENT',
      hint: 'make the directory first',
    });
    await expect(attempt(join(folder, 'file'))).rejects.toMatchObject({ errno: 'ENOTDIR' });
  });
});
