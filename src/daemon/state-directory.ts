import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { errno } from '../errors/errno.js';
import { MirageError } from '../errors/mirage-error.js';
import { localFiles } from '../native/local-files.js';

export interface StateDirectory {
  readonly path: string;
  readonly metadataFile: string;
  readonly conflicts: string;
  readonly log: string;
  /** Lets the next daemon have it. */
  release(): void;
}

/**
 * Makes a state directory and takes it for this process: an open file description lock, which the kernel gives back however the
 * process ends. EBUSY: another daemon has it.
 */
export function takeStateDirectory(path: string): StateDirectory {
  makePrivate(path);
  const lock = lockFile(join(path, 'lock'), 'state', path);
  const conflicts = join(path, 'conflicts');
  makePrivate(conflicts);
  return { path, metadataFile: join(path, 'metadata.db'), conflicts, log: logFile(path), release: lock };
}

export const logFile = (state: string): string => join(state, 'daemon.log');

/** The same for the cache directory: two daemons would evict and overwrite each other's files. */
export function takeCacheDirectory(path: string): () => void {
  makePrivate(path);
  return lockFile(join(path, 'lock'), 'cache.directory', path);
}

export function makePrivate(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new MirageError(`cannot make the folder ${path}`, {
      errno: (cause as NodeJS.ErrnoException).code === 'ENOSPC' ? 'ENOSPC' : 'EACCES',
      cause,
      hint: `make ${dirname(path)} writable, or choose another folder (state, cache.directory)`,
    });
  }
}

function lockFile(file: string, key: string, folder: string): () => void {
  const fd = openSync(file, 'a+', 0o600);
  const result = localFiles().lockFile(fd, true);
  if (result < 0) {
    closeSync(fd);
    if (result !== -errno.EAGAIN && result !== -errno.EACCES)
      throw MirageError.system(`lock ${file}`, -result);
    const owner = readFileSync(file, 'utf8').trim();
    throw new MirageError(`another daemon uses ${folder}`, {
      errno: 'EBUSY',
      cause: new Error(`process ${owner} holds its lock`),
      hint: `unmount that one first (mirage status), or set ${key} to another folder`,
    });
  }
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid}\n`);
  return () => closeSync(fd);
}
