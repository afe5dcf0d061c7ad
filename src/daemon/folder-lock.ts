import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { errno } from '../errors/errno.js';
import { MirageError } from '../errors/mirage-error.js';
import { localFiles } from '../native/local-files.js';

const require = createRequire(import.meta.url);

/** What a file system without locks says to one (NFS without a lock service, some FUSE file systems). */
const WITHOUT_LOCKS: readonly number[] = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL];
/** A lock of the kind that is kept by renewing it counts as left behind after so long, milliseconds. */
const STALE = 10_000;

/**
 * Takes a folder for this process, through the file `lock` in it. EBUSY: another process has it. `key` is the configuration key
 * to change then. Returns what gives it back.
 *
 * The lock is an open file description lock, which the kernel gives back however the process ends, and which costs nothing while it is held. Only
 * where the file system has none, a lock directory does (proper-lockfile): it must be renewed every few seconds, and outlives a crash by as long.
 */
export function lockFolder(folder: string, key: string): () => void {
  const file = `${folder}/lock`;
  const fd = openSync(file, 'a+', 0o600);
  const result = localFiles().lockFile(fd, true);
  if (result === 0) {
    sign(fd);
    return () => closeSync(fd);
  }
  try {
    if (WITHOUT_LOCKS.includes(-result)) return lockByDirectory(file, folder, key);
    if (result === -errno.EAGAIN || result === -errno.EACCES) throw busy(file, folder, key);
    throw MirageError.system(`lock ${file}`, -result);
  } finally {
    closeSync(fd);
  }
}

/** The same by a directory beside the file, on file systems that cannot lock. */
export function lockByDirectory(file: string, folder: string, key: string): () => void {
  const { lockSync } = require('proper-lockfile') as typeof import('proper-lockfile');
  let release: () => void;
  try {
    release = lockSync(file, { stale: STALE, realpath: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ELOCKED') throw busy(file, folder, key);
    throw error;
  }
  const fd = openSync(file, 'a+', 0o600);
  sign(fd);
  closeSync(fd);
  return release;
}

/** Leaves the process id for the message of who comes second. */
function sign(fd: number): void {
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid}\n`);
}

function busy(file: string, folder: string, key: string): MirageError {
  const owner = readFileSync(file, 'utf8').trim();
  return new MirageError(`another daemon uses ${folder}`, {
    errno: 'EBUSY',
    cause: new Error(`process ${owner} holds its lock`),
    hint: `unmount that one first (mirage status), or set ${key} to another folder`,
  });
}
