import { writeSync } from 'node:fs';
import { errno } from '../errors/errno.js';
import { errnoOf, MirageError } from '../errors/mirage-error.js';
import type { FuseChannel } from '../native/fuse-transport.js';
import type { WriteSource } from '../vfs/operations.js';

const APPEND = -1;

type PayloadChannel = Pick<FuseChannel, 'writeFromSlot' | 'handOver' | 'fetchPayload'>;

/** The payload of a WRITE where it lies, in a slot of the arena. It is gone when the request has left the slot. */
export class SlotSource implements WriteSource {
  length = 0;
  killPrivileges = false;
  readonly #channel: PayloadChannel;
  readonly #arena: Buffer;
  readonly #slotBytes: number;
  #slot = -1;
  #skip = 0;
  #handedOver = false;

  constructor(channel: PayloadChannel, arena: Buffer, slotBytes: number) {
    this.#channel = channel;
    this.#arena = arena;
    this.#slotBytes = slotBytes;
  }

  set(slot: number, skip: number, length: number, killPrivileges: boolean): void {
    this.#slot = slot;
    this.#skip = skip;
    this.length = length;
    this.killPrivileges = killPrivileges;
    this.#handedOver = false;
  }

  /** The channel answers. */
  get handedOver(): boolean {
    return this.#handedOver;
  }

  /** From here on a write fails with EBADF, rather than take the bytes of another request. */
  expire(): void {
    this.#slot = -1;
  }

  writeTo(fd: number, position: number): number {
    if (this.#slot < 0) return -errno.EBADF;
    return this.#channel.writeFromSlot(this.#slot, this.#skip, this.length, fd, position);
  }

  appendTo(fd: number): number {
    return this.writeTo(fd, APPEND);
  }

  handOver(fd: number, position: number): boolean {
    if (this.#slot < 0) return false;
    this.#handedOver = this.#channel.handOver(this.#slot, fd, position);
    if (this.#handedOver) this.expire();
    return this.#handedOver;
  }

  retain(): WriteSource {
    if (this.#slot >= 0 && !this.#channel.fetchPayload(this.#slot))
      throw MirageError.system('write', errno.EIO);
    const start = this.#slot * this.#slotBytes + this.#skip;
    const bytes =
      this.#slot < 0 ? Buffer.alloc(0) : Buffer.from(this.#arena.subarray(start, start + this.length));
    return new RetainedSource(bytes, this.killPrivileges);
  }
}

/** The payload in memory of its own. */
class RetainedSource implements WriteSource {
  readonly length: number;
  readonly killPrivileges: boolean;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer, killPrivileges: boolean) {
    this.#bytes = bytes;
    this.length = bytes.length;
    this.killPrivileges = killPrivileges;
  }

  writeTo(fd: number, position: number): number {
    return this.#write(fd, position);
  }

  appendTo(fd: number): number {
    return this.#write(fd, null);
  }

  retain(): WriteSource {
    return this;
  }

  #write(fd: number, position: number | null): number {
    let done = 0;
    try {
      while (done < this.length) {
        const at = position === null ? null : position + done;
        done += writeSync(fd, this.#bytes, done, this.length - done, at);
      }
    } catch (error) {
      if (done === 0) return -errnoOf(error);
    }
    return done;
  }
}
