import { statfsSync } from 'node:fs';
import { MirageError } from '../errors/mirage-error.js';

/** Of the disk that holds the cache, 5 % stay free, but no more than this many bytes. */
const LARGEST_RESERVE = 1024 ** 3;

/** Frees cached bytes that nobody uses, oldest first, until `bytes` are free or there are none left. `now`: on disk at once. */
export type Evict = (bytes: number, now: boolean) => void;

/** Who may take how much of the disk: a limit for the cache, and a part of the disk that stays free for others. */
export class DiskSpace {
  readonly limit: number;
  readonly #directory: string;
  readonly #evict: Evict;
  #used = 0;
  /** Bytes that may be taken before the disk has to be asked again. */
  #credit = 0;

  constructor(directory: string, limit: number, evict: Evict) {
    this.#directory = directory;
    this.limit = limit;
    this.#evict = evict;
  }

  get used(): number {
    return this.#used;
  }

  /**
   * Takes bytes, evicting what is in the way. `within`: fails when the limit is reached, for what cannot be evicted later; a
   * cached range may exceed it while everything is in use. Throws ENOSPC.
   */
  take(bytes: number, within: boolean): void {
    const excess = this.#used + bytes - this.limit;
    if (excess > 0) {
      this.#evict(excess, false);
      if (within && this.#used + bytes > this.limit) throw this.#full(`its limit of ${this.limit} bytes`);
    }
    if (bytes > this.#credit) this.#askDisk(bytes);
    this.#credit -= bytes;
    this.#used += bytes;
  }

  give(bytes: number): void {
    this.#used -= bytes;
  }

  /** Counts bytes that are on disk already. */
  count(bytes: number): void {
    this.#used += bytes;
  }

  #askDisk(bytes: number): void {
    this.#credit = this.#free();
    if (bytes <= this.#credit) return;
    this.#evict(bytes - this.#credit, true);
    this.#credit = this.#free();
    if (bytes > this.#credit) throw this.#full('what the disk must keep free');
  }

  #free(): number {
    const { bavail, blocks, bsize } = statfsSync(this.#directory);
    return bavail * bsize - Math.min(0.05 * blocks * bsize, LARGEST_RESERVE);
  }

  #full(reached: string): MirageError {
    return new MirageError(`the cache in ${this.#directory} has reached ${reached}`, {
      errno: 'ENOSPC',
      hint: 'raise cache.size, or make room on the disk of cache.directory',
    });
  }
}
