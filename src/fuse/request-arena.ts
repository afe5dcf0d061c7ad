import { ARGUMENT, IN_HEADER_SIZE, InHeader } from './protocol.js';

const HIGH = 0x1_0000_0000;

/**
 * Reads the request in one slot of the arena. Offsets are words from the start of the request; nothing is read beyond its
 * end. 64-bit fields come as numbers, exact below 2^53.
 */
export class RequestArena {
  readonly words: Uint32Array;
  readonly bytes: Buffer;
  readonly #slotBytes: number;
  slot = 0;
  /** The request's first word, first byte, and the byte after its last. */
  at = 0;
  start = 0;
  end = 0;

  constructor(arena: ArrayBuffer, slotBytes: number) {
    this.words = new Uint32Array(arena);
    this.bytes = Buffer.from(arena);
    this.#slotBytes = slotBytes;
  }

  /** Turns to the request in a slot. False when what is there is no request: too short, or of another length than it says. */
  select(slot: number, length: number): boolean {
    this.slot = slot;
    this.start = slot * this.#slotBytes;
    this.at = this.start >>> 2;
    this.end = this.start + length;
    return length >= IN_HEADER_SIZE && this.words[this.at + InHeader.len] === length;
  }

  /** Bytes after the header. */
  get argumentBytes(): number {
    return this.end - this.start - IN_HEADER_SIZE;
  }

  u32(word: number): number {
    return this.words[this.at + word]!;
  }

  u64(word: number): number {
    const at = this.at + word;
    return this.words[at]! + this.words[at + 1]! * HIGH;
  }

  /** A signed 64-bit field, exact within ±2^53. */
  i64(word: number): number {
    const at = this.at + word;
    return this.words[at]! + (this.words[at + 1]! | 0) * HIGH;
  }

  /** An argument by its word, counted behind the header. */
  argument32(word: number): number {
    return this.words[this.at + ARGUMENT + word]!;
  }

  argument64(word: number): number {
    return this.u64(ARGUMENT + word);
  }

  /** The bytes up to the next NUL, or the end of the request, from an offset behind the header. */
  name(offset: number): string {
    const { bytes, end } = this;
    const from = this.start + IN_HEADER_SIZE + offset;
    let to = from;
    while (to < end && bytes[to] !== 0) to++;
    return bytes.toString('latin1', from, to);
  }

  /** A copy of argument bytes; undefined when the request does not hold so many. */
  payload(offset: number, length: number): Uint8Array | undefined {
    const from = this.start + IN_HEADER_SIZE + offset;
    return from + length <= this.end
      ? Uint8Array.prototype.slice.call(this.bytes, from, from + length)
      : undefined;
  }
}
