import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../clock/clock.js';
import { MirageError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';
import { localFiles } from '../native/local-files.js';
import type { StorePort } from '../ports/store-port.js';
import { ContentIndex } from './content-index.js';
import type { ContentStore } from './contract.js';
import { DiskContent } from './disk-content.js';

export interface ContentOptions {
  /** The cache directory; it is made. One program at a time. */
  readonly directory: string;
  /** Bytes that the cache may take. */
  readonly limit: number;
  readonly port: StorePort;
  readonly log: Log;
  readonly clock: Clock;
}

/**
 * Opens a cache directory: `files/` clean content, `index.db` what of it is there, `staging/` what programs write now,
 * `recovered/` what they had written when the program died. Throws EBUSY when another program has it.
 */
export function openContent(options: ContentOptions): ContentStore {
  const { directory, limit, port, log, clock } = options;
  const files = join(directory, 'files');
  const staging = join(directory, 'staging');
  const recovered = join(directory, 'recovered');
  for (const folder of [files, staging, recovered]) mkdirSync(folder, { recursive: true, mode: 0o700 });
  const lock = lockDirectory(directory);
  try {
    const index = ContentIndex.open(directory, files, log);
    for (let i = 0; i < 256; i++) {
      mkdirSync(join(files, i.toString(16).padStart(2, '0')), { recursive: true, mode: 0o700 });
    }
    if (index.hasStrays) removeStrays(files, index);
    keepLeftovers(staging, recovered, log, clock);
    return new DiskContent({ root: directory, files, staging }, lock, index, limit, port, log);
  } catch (error) {
    closeSync(lock);
    throw error;
  }
}

function lockDirectory(directory: string): number {
  const fd = openSync(join(directory, 'lock'), 'w', 0o600);
  const result = localFiles().lockFile(fd, true);
  if (result < 0) {
    closeSync(fd);
    throw new MirageError(`the cache directory ${directory} is in use by another process`, {
      errno: 'EBUSY',
      hint: 'stop the other daemon, or give this one its own cache.directory',
    });
  }
  return fd;
}

/** A crash leaves files whose row was not written yet. */
function removeStrays(files: string, index: ContentIndex): void {
  for (const folder of readdirSync(files)) {
    for (const name of readdirSync(join(files, folder))) {
      if (!index.has(Number(name))) rmSync(join(files, folder, name), { force: true });
    }
  }
}

/** What a program wrote and nobody committed is somebody's work: kept aside. A file without a byte is not. */
function keepLeftovers(staging: string, recovered: string, log: Log, clock: Clock): void {
  for (const name of readdirSync(staging)) {
    const path = join(staging, name);
    const { blocks, size, nlink } = statSync(path);
    // The journal has what has another name, and brings it to its store.
    if (blocks === 0 || nlink > 1) {
      unlinkSync(path);
      continue;
    }
    const kept = join(recovered, `${new Date(clock.wall()).toISOString().replaceAll(':', '')}-${name}`);
    renameSync(path, kept);
    log.warn('a file was being written when the last run ended; what had reached it is kept', {
      file: kept,
      size,
    });
  }
}
