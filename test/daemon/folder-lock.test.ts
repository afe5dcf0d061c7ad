import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { lockByDirectory, lockFolder } from '../../src/daemon/folder-lock.js';
import { MirageError } from '../../src/errors/mirage-error.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mirage-lock-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const kinds = {
  'by the kernel': () => lockFolder(folder, 'state'),
  'by a directory, where the file system has no locks': () =>
    lockByDirectory(join(folder, 'lock'), folder, 'state'),
};

describe.each(Object.entries(kinds))('a folder is locked %s', (_name, lock) => {
  test('once, and again after it was given back', () => {
    const release = lock();
    expect(readFileSync(join(folder, 'lock'), 'utf8').trim()).toBe(String(process.pid));
    let refused: unknown;
    try {
      lock();
    } catch (error) {
      refused = error;
    }
    expect(MirageError.is(refused, 'EBUSY') && refused.hint).toContain('set state to another folder');
    release();
    lock()();
  });
});

test('the kernel gives the lock of a killed process back', () => {
  const holder = `
    import { lockFolder } from ${JSON.stringify(join(process.cwd(), 'dist/daemon/folder-lock.js'))};
    lockFolder(${JSON.stringify(folder)}, 'state');
    process.kill(process.pid, 'SIGKILL');`;
  const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', holder]);
  expect(signal).toBe('SIGKILL');
  lockFolder(folder, 'state')();
});
