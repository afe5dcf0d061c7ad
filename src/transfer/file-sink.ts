import { writeSync, writev } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { ByteSink, ObjectInfo } from '../backends/contract.js';
import { MirageError } from '../errors/mirage-error.js';

/** Bytes that may wait for the disk before the sender has to pause. */
const HIGH_WATER = 1 << 20;
/** A transfer of up to so many bytes is written as it comes: a trip to another thread and back would take longer than each of its writes. */
const AT_ONCE = 1280 * 1024;

export interface FileSinkOptions {
  /** Called after each write with how many bytes are in the file by now. */
  readonly onWritten: (bytes: number) => void;
  readonly onBegin?: (info: ObjectInfo) => void;
  /** Bytes of a block to take a checksum of. */
  readonly checksumBlock?: number;
}

/**
 * Writes what arrives into a descriptor from a position on. One write is under way at a time, and it takes all that has gathered meanwhile,
 * so a fast sender costs few system calls and a slow one no delay.
 */
export class FileSink implements ByteSink {
  readonly #fd: number;
  readonly #start: number;
  readonly #atOnce: boolean;
  readonly #options: FileSinkOptions;
  readonly #checksums: BlockChecksums | undefined;
  #position: number;
  #gathered: Uint8Array[] = [];
  #gatheredBytes = 0;
  #writing: Promise<void> | undefined;
  #failure: MirageError | undefined;

  /** `length`: bytes to come at most. */
  constructor(fd: number, position: number, length: number, options: FileSinkOptions) {
    this.#fd = fd;
    this.#start = position;
    this.#position = position;
    this.#atOnce = length <= AT_ONCE;
    this.#options = options;
    const { checksumBlock } = options;
    this.#checksums = checksumBlock === undefined ? undefined : new BlockChecksums(checksumBlock);
  }

  /** Of the bytes that were given so far: CRC-32 of each block. */
  checksums(): readonly number[] {
    return this.#checksums?.all() ?? [];
  }

  begin(info: ObjectInfo): void {
    this.#options.onBegin?.(info);
  }

  write(chunk: Uint8Array): void | Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#checksums?.add(chunk);
    if (this.#atOnce) return this.#writeNow(chunk);
    this.#gathered.push(chunk);
    this.#gatheredBytes += chunk.length;
    this.#writing ??= this.#drain();
    if (this.#gatheredBytes >= HIGH_WATER) return this.finish();
  }

  /** Straight from the giver's memory: it is in the processor's cache, and two copies of it cost less than a trip to another thread. */
  writeNow(chunk: Uint8Array): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#writing !== undefined) {
      // What was given to `write` goes first.
      void this.write(Uint8Array.from(chunk));
      return;
    }
    this.#checksums?.add(chunk);
    this.#writeNow(chunk);
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
        this.#options.onWritten(this.#position - this.#start);
      }
    } catch (error) {
      this.#failure = unwritable(error);
    } finally {
      this.#writing = undefined;
    }
  }

  #writeNow(chunk: Uint8Array): void {
    try {
      for (let done = 0; done < chunk.length; ) {
        done += writeSync(this.#fd, chunk, done, chunk.length - done, this.#position + done);
      }
    } catch (error) {
      this.#failure = unwritable(error);
      throw this.#failure;
    }
    this.#position += chunk.length;
    this.#options.onWritten(this.#position - this.#start);
  }

  async #writeAll(chunks: Uint8Array[]): Promise<void> {
    let rest = chunks;
    while (rest.length > 0) rest = this.#after(rest, await writevLater(this.#fd, rest, this.#position));
  }

  /** What is left of the chunks after the first `written` bytes of them. */
  #after(chunks: Uint8Array[], written: number): Uint8Array[] {
    this.#position += written;
    let skip = written;
    let whole = 0;
    while (whole < chunks.length && skip >= (chunks[whole] as Uint8Array).length) {
      skip -= (chunks[whole++] as Uint8Array).length;
    }
    const rest = chunks.slice(whole);
    if (skip > 0) rest[0] = (rest[0] as Uint8Array).subarray(skip);
    return rest;
  }
}

/** CRC-32 of every block of a stream, taken as it passes. */
class BlockChecksums {
  readonly #block: number;
  readonly #done: number[] = [];
  #current = 0;
  /** Bytes in the current block. */
  #filled = 0;

  constructor(block: number) {
    this.#block = block;
  }

  add(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      const length = Math.min(chunk.length - at, this.#block - this.#filled);
      this.#current = crc32(chunk.subarray(at, at + length), this.#current);
      at += length;
      this.#filled += length;
      if (this.#filled === this.#block) this.#finish();
    }
  }

  all(): readonly number[] {
    return this.#filled === 0 ? this.#done : [...this.#done, this.#current];
  }

  #finish(): void {
    this.#done.push(this.#current);
    this.#current = 0;
    this.#filled = 0;
  }
}

function unwritable(cause: unknown): MirageError {
  const { code } = cause as NodeJS.ErrnoException;
  return new MirageError('the cache file could not be written', {
    errno: code === 'ENOSPC' || code === 'EDQUOT' ? code : 'EIO',
    cause,
    ...(code === 'ENOSPC' && { hint: 'free space on the disk of the cache directory' }),
  });
}

function writevLater(fd: number, chunks: Uint8Array[], position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    writev(fd, chunks, position, (error, written) => (error === null ? resolve(written) : reject(error)));
  });
}
