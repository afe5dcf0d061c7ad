import { writev, writevSync } from 'node:fs';
import type { ByteRange, ByteSink } from '../backends/contract.js';
import { MirageError } from '../errors/mirage-error.js';

/** Bytes that may wait for the disk before the sender has to pause. */
const HIGH_WATER = 1 << 20;
/** A transfer of up to so many bytes is written at once: the trip to another thread and back would take longer. */
const AT_ONCE = 128 * 1024;

/**
 * Writes what arrives into a descriptor at growing offsets. One write is under way at a time, and it takes all that has gathered meanwhile,
 * so a fast sender costs few system calls and a slow one no delay.
 */
export class FileSink implements ByteSink {
  readonly #fd: number;
  readonly #atOnce: boolean;
  readonly #onWritten: (writtenTo: number) => void;
  #position: number;
  #gathered: Uint8Array[] = [];
  #gatheredBytes = 0;
  #writing: Promise<void> | undefined;
  #failure: MirageError | undefined;

  /** `onWritten` is called after each write with the offset up to which the bytes are in the file. */
  constructor(fd: number, range: ByteRange, onWritten: (writtenTo: number) => void) {
    this.#fd = fd;
    this.#position = range.offset;
    this.#atOnce = range.length <= AT_ONCE;
    this.#onWritten = onWritten;
  }

  write(chunk: Uint8Array): void | Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#gathered.push(chunk);
    this.#gatheredBytes += chunk.length;
    this.#writing ??= this.#drain();
    if (this.#gatheredBytes >= HIGH_WATER) return this.finish();
  }

  /** Resolves when everything given is in the file; also after a failed transfer, before the descriptor is given back. */
  async finish(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #drain(): Promise<void> {
    try {
      while (this.#gathered.length > 0) {
        const chunks = this.#gathered;
        this.#gathered = [];
        this.#gatheredBytes = 0;
        await this.#writeAll(chunks);
        this.#onWritten(this.#position);
      }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      this.#failure = new MirageError('the cache file could not be written', {
        errno: code === 'ENOSPC' || code === 'EDQUOT' ? code : 'EIO',
        cause: error,
        ...(code === 'ENOSPC' && { hint: 'free space on the disk of the cache directory' }),
      });
    } finally {
      this.#writing = undefined;
    }
  }

  async #writeAll(chunks: Uint8Array[]): Promise<void> {
    let rest = chunks;
    while (rest.length > 0) {
      let written = this.#atOnce
        ? writevSync(this.#fd, rest, this.#position)
        : await writevLater(this.#fd, rest, this.#position);
      this.#position += written;
      const next: Uint8Array[] = [];
      for (const chunk of rest) {
        if (written >= chunk.length) {
          written -= chunk.length;
        } else {
          next.push(chunk.subarray(written));
          written = 0;
        }
      }
      rest = next;
    }
  }
}

function writevLater(fd: number, chunks: Uint8Array[], position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    writev(fd, chunks, position, (error, written) => (error === null ? resolve(written) : reject(error)));
  });
}
