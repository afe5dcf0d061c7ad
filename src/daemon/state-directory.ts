import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { MirageError } from '../errors/mirage-error.js';
import { lockFolder } from './folder-lock.js';

export interface StateDirectory {
  readonly path: string;
  readonly metadataFile: string;
  readonly conflicts: string;
  readonly journal: string;
  readonly certificates: string;
  /** Folder of what is known of our own leases. */
  readonly leases: string;
  readonly uploads: string;
  readonly log: string;
  /** Lets the next daemon have it. */
  release(): void;
}

/**
 * Makes a state directory and takes it for this process. EBUSY: another daemon has it.
 */
export function takeStateDirectory(path: string): StateDirectory {
  makePrivate(path);
  const lock = lockFolder(path, 'state');
  const conflicts = join(path, 'conflicts');
  makePrivate(conflicts);
  return {
    path,
    metadataFile: join(path, 'metadata.db'),
    conflicts,
    journal: join(path, 'journal.log'),
    certificates: join(path, 'certificates.json'),
    leases: join(path, 'leases'),
    uploads: join(path, 'uploads'),
    log: logFile(path),
    release: lock,
  };
}

export const logFile = (state: string): string => join(state, 'daemon.log');

/** The same for the cache directory: two daemons would evict and overwrite each other's files. */
export function takeCacheDirectory(path: string): () => void {
  makePrivate(path);
  return lockFolder(path, 'cache.directory');
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
