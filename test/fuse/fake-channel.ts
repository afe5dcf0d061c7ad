import { readSync, writeSync } from 'node:fs';
import type { SessionChannel } from '../../src/fuse/operation.js';

const SLOTS = 4;
/** Room for a WRITE of 64 KiB. */
export const SLOT_BYTES = 64 * 1024 + 4096;
const REPLY_BYTES = 128 * 1024;

/**
 * A channel without a kernel: requests are put into its slots, replies are collected as they leave. Throws where the native one
 * would, when something outside of the arenas is named.
 */
export class FakeChannel implements SessionChannel {
  readonly requests = new ArrayBuffer(SLOTS * SLOT_BYTES);
  readonly replies = new ArrayBuffer(REPLY_BYTES);
  readonly lengths = new ArrayBuffer(SLOTS * 4);
  /** Whole replies, in the order in which they left. */
  readonly sent: Buffer[] = [];
  readonly backing = { opened: [] as number[], closed: [] as number[], answer: 7 };
  readonly kept: number[][] = [];
  readonly dropped: number[][] = [];
  #queue: { offset: number; length: number }[] | undefined;

  /** Delivers records as one batch, as the native channel does. */
  deliver(records: readonly Uint8Array[], batch: (count: number) => boolean): boolean {
    if (records.length > SLOTS) throw new RangeError('more requests than slots');
    records.forEach((record, slot) => {
      new Uint8Array(this.requests, slot * SLOT_BYTES, SLOT_BYTES).set(record);
      new Int32Array(this.lengths)[slot] = record.length;
    });
    this.#queue = [];
    try {
      return batch(records.length);
    } finally {
      this.flush();
      this.#queue = undefined;
    }
  }

  reply(offset: number, length: number): void {
    if (length < 16 || offset < 0 || offset + length > REPLY_BYTES)
      throw new RangeError('outside of the arena');
    if (this.#queue) this.#queue.push({ offset, length });
    else this.#send(new Uint8Array(this.replies, offset, length));
  }

  flush(): void {
    for (const { offset, length } of this.#queue ?? [])
      this.#send(new Uint8Array(this.replies, offset, length));
    if (this.#queue) this.#queue = [];
  }

  replyBuffer(buffer: Uint8Array, length: number): void {
    if (length < 16 || length > buffer.length) throw new RangeError('outside of the buffer');
    this.#send(buffer.subarray(0, length));
  }

  replyFromFile(low: number, high: number, fd: number, position: number, length: number): void {
    const bytes = Buffer.alloc(16 + length);
    const count = readSync(fd, bytes, 16, length, position);
    new Uint32Array(bytes.buffer, bytes.byteOffset, 4).set([16 + count, 0, low, high]);
    this.#send(bytes.subarray(0, 16 + count));
  }

  writeFromSlot(slot: number, skip: number, length: number, fd: number, position: number): number {
    if (slot >= SLOTS || skip + length > SLOT_BYTES) throw new RangeError('outside of the arena');
    return writeSync(
      fd,
      new Uint8Array(this.requests, slot * SLOT_BYTES + skip, length),
      0,
      length,
      position,
    );
  }

  handOver(): boolean {
    return false;
  }

  fetchPayload(): boolean {
    return true;
  }

  keepAttributes(nodeLow: number, nodeHigh: number, offset: number, milliseconds: number): void {
    this.kept.push([nodeLow, nodeHigh, offset, milliseconds]);
  }

  dropAttributes(nodeLow: number, nodeHigh: number): void {
    this.dropped.push([nodeLow, nodeHigh]);
  }

  backingOpen(fd: number): number {
    this.backing.opened.push(fd);
    return this.backing.answer;
  }

  backingClose(id: number): number {
    this.backing.closed.push(id);
    return 0;
  }

  #send(reply: Uint8Array): void {
    const copy = Buffer.from(reply);
    const length = copy.readUInt32LE(0);
    if (length !== copy.length) throw new Error(`a reply of ${copy.length} bytes says ${length}`);
    this.sent.push(copy);
  }
}
