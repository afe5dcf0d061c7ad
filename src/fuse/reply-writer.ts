import type { FuseChannel } from '../native/fuse-transport.js';
import { OUT_HEADER_SIZE, OUT_HEADER_WORDS } from './protocol.js';
import type { Request } from './request.js';

/** What the writer needs of the channel. */
export type ReplyChannel = Pick<FuseChannel, 'replies' | 'reply' | 'replyBuffer' | 'flush'>;

/**
 * Composes replies in the arena. Within a batch they lie one behind the other, as they leave together at its end; outside of one each
 * leaves at once and the next takes its place.
 */
export class ReplyWriter {
  readonly words: Uint32Array;
  readonly bytes: Buffer;
  readonly #channel: ReplyChannel;
  readonly #signed: Int32Array;
  #next = 0;
  #batch = false;
  /** Byte offset and length of the reply being composed. */
  #offset = 0;
  #length = 0;

  constructor(channel: ReplyChannel) {
    this.#channel = channel;
    this.words = new Uint32Array(channel.replies);
    this.#signed = new Int32Array(channel.replies);
    this.bytes = Buffer.from(channel.replies);
  }

  beginBatch(): void {
    this.#next = 0;
    this.#batch = true;
  }

  endBatch(): void {
    this.#next = 0;
    this.#batch = false;
  }

  /** Begins a reply with so many bytes behind the header; returns the word where they begin. */
  begin(request: Request, size: number): number {
    const length = OUT_HEADER_SIZE + size;
    if (this.#next + length > this.bytes.length) {
      this.#channel.flush();
      this.#next = 0;
    }
    this.#offset = this.#next;
    this.#length = length;
    if (this.#batch) this.#next += (length + 63) & ~63;
    const at = this.#offset >>> 2;
    const { words } = this;
    words[at] = length;
    words[at + 1] = 0;
    words[at + 2] = request.uniqueLow;
    words[at + 3] = request.uniqueHigh;
    return at + OUT_HEADER_WORDS;
  }

  send(): void {
    this.#channel.reply(this.#offset, this.#length);
  }

  empty(request: Request): void {
    this.begin(request, 0);
    this.send();
  }

  /** `errno` is positive. */
  error(request: Request, errno: number): void {
    const at = this.begin(request, 0);
    this.#signed[at - OUT_HEADER_WORDS + 1] = -errno;
    this.send();
  }

  data(request: Request, value: Uint8Array): void {
    if (OUT_HEADER_SIZE + value.length > this.bytes.length) {
      this.#channel.replyBuffer(this.#alone(request, value), OUT_HEADER_SIZE + value.length);
      return;
    }
    const at = this.begin(request, value.length);
    this.bytes.set(value, at << 2);
    this.send();
  }

  text(request: Request, value: string): void {
    const at = this.begin(request, value.length);
    this.bytes.write(value, at << 2, 'latin1');
    this.send();
  }

  /** Fills the header of a reply that is composed elsewhere. */
  header(words: Uint32Array, length: number, request: Request): void {
    words[0] = length;
    words[1] = 0;
    words[2] = request.uniqueLow;
    words[3] = request.uniqueHigh;
  }

  /** Sends a reply that is composed elsewhere. */
  sendBuffer(buffer: Uint8Array, length: number): void {
    this.#channel.replyBuffer(buffer, length);
  }

  #alone(request: Request, value: Uint8Array): Uint8Array {
    const reply = new Uint8Array(OUT_HEADER_SIZE + value.length);
    this.header(new Uint32Array(reply.buffer, 0, OUT_HEADER_WORDS), reply.length, request);
    reply.set(value, OUT_HEADER_SIZE);
    return reply;
  }
}
