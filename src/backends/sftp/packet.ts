/**
 * Packets of the SSH File Transfer Protocol, version 3 (draft-ietf-secsh-filexfer-02), the version that OpenSSH speaks. A packet is
 * its length (u32), a type (u8), the id of the request (u32), and fields: u32 and u64 big-endian, strings with their length in front. Paths
 * and names are bytes there; here they are byte strings, one UTF-16 unit per byte.
 */
import { MirageError } from '../../errors/mirage-error.js';

export enum PacketType {
  init = 1,
  version = 2,
  open = 3,
  close = 4,
  read = 5,
  write = 6,
  lstat = 7,
  fstat = 8,
  setstat = 9,
  fsetstat = 10,
  opendir = 11,
  readdir = 12,
  remove = 13,
  mkdir = 14,
  rmdir = 15,
  realpath = 16,
  stat = 17,
  rename = 18,
  readlink = 19,
  symlink = 20,
  status = 101,
  handle = 102,
  data = 103,
  name = 104,
  attributes = 105,
  extended = 200,
  extendedReply = 201,
}

export enum Status {
  ok = 0,
  endOfFile = 1,
  noSuchFile = 2,
  permissionDenied = 3,
  failure = 4,
  badMessage = 5,
  noConnection = 6,
  connectionLost = 7,
  unsupported = 8,
}

/** Bits of `open`. */
export enum OpenFlag {
  read = 1,
  write = 2,
  create = 8,
  truncate = 16,
  exclusive = 32,
}

/** Bytes before the fields: length, type, id. */
export const HEADER_BYTES = 9;
const FIRST_CAPACITY = 256;

/** The fields of one request, in their order. */
export class RequestPacket {
  #buffer = Buffer.allocUnsafe(FIRST_CAPACITY);
  #end = HEADER_BYTES;

  constructor(readonly type: PacketType) {}

  u32(value: number): this {
    this.#reserve(4);
    this.#end = this.#buffer.writeUInt32BE(value, this.#end);
    return this;
  }

  u64(value: number): this {
    this.#reserve(8);
    this.#buffer.writeUInt32BE(Math.floor(value / 2 ** 32), this.#end);
    this.#end = this.#buffer.writeUInt32BE(value % 2 ** 32, this.#end + 4);
    return this;
  }

  /** A path or a name, or any text whose units are bytes. */
  text(value: string): this {
    this.#reserve(4 + value.length);
    this.#end = this.#buffer.writeUInt32BE(value.length, this.#end);
    this.#end += this.#buffer.write(value, this.#end, 'latin1');
    return this;
  }

  bytes(value: Uint8Array): this {
    this.#reserve(4 + value.length);
    this.#end = this.#buffer.writeUInt32BE(value.length, this.#end);
    this.#buffer.set(value, this.#end);
    this.#end += value.length;
    return this;
  }

  /** The packet under a request id. `following`: bytes of its last field that are sent after it. */
  encode(id: number, following = 0): Buffer {
    const packet = this.#buffer.subarray(0, this.#end);
    packet.writeUInt32BE(packet.length + following - 4, 0);
    packet[4] = this.type;
    packet.writeUInt32BE(id, 5);
    return packet;
  }

  #reserve(bytes: number): void {
    if (this.#end + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#end + bytes));
    this.#buffer.copy(larger, 0, 0, this.#end);
    this.#buffer = larger;
  }
}

/** The fields of one answer, read in their order. Throws EIO where the packet ends too early. */
export class ReplyPacket {
  #at = 0;

  /** `fields`: what stands behind the header; valid while the reply is looked at. */
  constructor(
    readonly type: PacketType,
    private readonly fields: Buffer,
  ) {}

  get left(): number {
    return this.fields.length - this.#at;
  }

  u32(): number {
    const at = this.#take(4);
    return this.fields.readUInt32BE(at);
  }

  /** Exact below 2^53. */
  u64(): number {
    const at = this.#take(8);
    return this.fields.readUInt32BE(at) * 2 ** 32 + this.fields.readUInt32BE(at + 4);
  }

  text(): string {
    const length = this.u32();
    const at = this.#take(length);
    return this.fields.toString('latin1', at, at + length);
  }

  bytes(): Buffer {
    const length = this.u32();
    const at = this.#take(length);
    return this.fields.subarray(at, at + length);
  }

  #take(length: number): number {
    if (length > this.left) throw new MirageError('a packet of the server is cut short', { errno: 'EIO' });
    const at = this.#at;
    this.#at += length;
    return at;
  }
}
