import { crc32 } from 'node:zlib';

/** Unit of requests and of checksums, bytes. */
export const BLOCK = 16 * 1024;

export const blockStart = (offset: number): number => offset - (offset % BLOCK);
export const blockEnd = (offset: number): number => Math.ceil(offset / BLOCK) * BLOCK;

/** CRC-32 of the blocks of a file, as far as they are known. */
export class BlockChecksums {
  #sums: Uint32Array;
  readonly #blocks: number;

  /** `size`: bytes of the file; `encoded`: what `encode` gave. */
  constructor(size: number, encoded?: Uint8Array) {
    this.#blocks = Math.ceil(size / BLOCK);
    this.#sums = new Uint32Array(Math.min(this.#blocks, 64));
    if (encoded === undefined) return;
    const bytes = Uint8Array.from(encoded.subarray(0, Math.floor(encoded.length / 4) * 4));
    this.#sums = new Uint32Array(bytes.buffer);
  }

  /** Checksums of the blocks from the one at `offset` on. */
  put(offset: number, sums: readonly number[]): void {
    const first = offset / BLOCK;
    this.#reach(first + sums.length);
    this.#sums.set(sums, first);
  }

  /** Whether `bytes`, a whole block from `offset` on, are what was put there. A block that nothing is known of counts as right. */
  matches(offset: number, bytes: Uint8Array): boolean {
    const sum = this.#sums[offset / BLOCK] ?? 0;
    return sum === 0 || sum === crc32(bytes);
  }

  encode(): Uint8Array {
    return new Uint8Array(this.#sums.buffer, 0, this.#sums.byteLength);
  }

  #reach(blocks: number): void {
    if (blocks <= this.#sums.length) return;
    const grown = new Uint32Array(Math.min(Math.max(blocks, this.#sums.length * 2), this.#blocks));
    grown.set(this.#sums);
    this.#sums = grown;
  }
}
