import { execFile } from 'node:child_process';
import { rmSync, unlink } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Log } from '../log/log.js';

export interface CacheFolders {
  readonly root: string;
  /** Clean files, by the low byte of their number. */
  readonly files: string;
  readonly staging: string;
}

/** Where the file with a number is, by the folder of all. */
export const cacheFile = (files: string, id: number): string =>
  join(files, (id % 256).toString(16).padStart(2, '0'), String(id));

/** Where the numbered cache files are, and how they go. */
export class CacheFolder {
  readonly #folders: CacheFolders;
  readonly #log: Log;
  readonly #unlinking = new Set<Promise<void>>();

  constructor(folders: CacheFolders, log: Log) {
    this.#folders = folders;
    this.#log = log;
  }

  path(id: number): string {
    return cacheFile(this.#folders.files, id);
  }

  staging(number: number): string {
    return join(this.#folders.staging, String(number));
  }

  /** Frees the bytes off this thread, unless they are needed `now`: a large file takes milliseconds. */
  unlink(id: number, now = false): void {
    const path = this.path(id);
    if (now) {
      rmSync(path, { force: true });
      return;
    }
    const done = new Promise<void>((resolve) => {
      unlink(path, (error) => {
        if (error && error.code !== 'ENOENT') {
          this.#log.warn('a cache file cannot be removed', { path, error: error.message });
        }
        resolve();
      });
    });
    this.#unlinking.add(done);
    void done.then(() => this.#unlinking.delete(done));
  }

  /** Everything that is to go is gone. */
  async unlinked(): Promise<void> {
    await Promise.all(this.#unlinking);
  }

  /** Waits until the bytes of this session are on the disk, for some seconds at most. */
  async sync(): Promise<boolean> {
    try {
      await promisify(execFile)('sync', ['-f', this.#folders.root], { timeout: 10_000 });
      return true;
    } catch {
      return false;
    }
  }
}
