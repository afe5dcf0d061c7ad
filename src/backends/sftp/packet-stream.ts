import { MirageError } from '../../errors/mirage-error.js';
import { HEADER_BYTES, PacketType, ReplyPacket } from './packet.js';

/** Length, type, id, and the length of what was read. */
const DATA_HEADER_BYTES = HEADER_BYTES + 4;
/** No packet is longer: OpenSSH stays below 256 KiB, others below a few. */
const MAXIMUM_BYTES = 4 * 2 ** 20;

export interface PacketReceiver {
  /** A whole packet that is no DATA; valid during the call. `id` is the version in the first packet. */
  onReply(id: number, reply: ReplyPacket): void;
  /** Where the bytes of a DATA packet go, as far as they fit; undefined: nowhere. */
  spaceFor(id: number): Buffer | undefined;
  /** A DATA packet has come: so many bytes are in the space that was given. */
  onData(id: number, length: number): void;
}

/** Cuts the stream of a server into packets. The bytes of files are copied once, to where the receiver wants them. */
export class PacketStream {
  readonly #receiver: PacketReceiver;
  /** A header that came in parts. */
  readonly #header = Buffer.allocUnsafe(DATA_HEADER_BYTES);
  #headerBytes = 0;
  /** What follows the header, while a part of it is missing. */
  #missing = 0;
  #isData = false;
  /** Bytes behind the header. */
  #length = 0;
  #space: Buffer | undefined;
  #type = 0;
  #id = 0;
  #pieces: Buffer[] = [];

  constructor(receiver: PacketReceiver) {
    this.#receiver = receiver;
  }

  /** Throws EIO when this is not SFTP. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#missing > 0) {
        const length = Math.min(this.#missing, chunk.length - at);
        if (this.#isData) this.#space?.set(chunk.subarray(at, at + length), this.#length - this.#missing);
        else this.#collect(chunk.subarray(at, at + length));
        at += length;
        this.#missing -= length;
        if (this.#missing === 0) this.#deliver();
      } else if (this.#headerBytes === 0 && chunk.length - at >= DATA_HEADER_BYTES) {
        at += this.#begin(chunk, at);
      } else {
        this.#header[this.#headerBytes++] = chunk[at++]!;
        const wanted =
          this.#headerBytes > 4 && this.#header[4] === PacketType.data ? DATA_HEADER_BYTES : HEADER_BYTES;
        if (this.#headerBytes === wanted) {
          this.#headerBytes = 0;
          this.#begin(this.#header, 0);
        }
      }
    }
  }

  /** Reads a header; returns its length. */
  #begin(bytes: Buffer, at: number): number {
    const length = bytes.readUInt32BE(at) + 4;
    if (length < HEADER_BYTES || length > MAXIMUM_BYTES)
      throw noPacket(bytes.subarray(at, at + HEADER_BYTES));
    this.#type = bytes[at + 4]!;
    this.#id = bytes.readUInt32BE(at + 5);
    this.#isData = this.#type === PacketType.data;
    const header = this.#isData ? DATA_HEADER_BYTES : HEADER_BYTES;
    this.#missing = length - header;
    if (this.#isData && (this.#missing < 0 || bytes.readUInt32BE(at + HEADER_BYTES) !== this.#missing)) {
      throw noPacket(bytes.subarray(at, at + HEADER_BYTES));
    }
    this.#length = this.#missing;
    if (this.#isData) {
      this.#space = this.#receiver.spaceFor(this.#id);
      if (this.#space !== undefined && this.#space.length < this.#length) {
        throw new MirageError('the server sent more than it was asked for', { errno: 'EIO' });
      }
    }
    if (this.#missing === 0) this.#deliver();
    return header;
  }

  /** The chunk is gone after the call: what is a part of a packet is copied. */
  #collect(part: Buffer): void {
    const isWhole = part.length === this.#length;
    this.#pieces.push(isWhole ? part : Buffer.from(part));
  }

  #deliver(): void {
    if (this.#isData) {
      this.#space = undefined;
      this.#receiver.onData(this.#id, this.#length);
      return;
    }
    const pieces = this.#pieces;
    this.#pieces = [];
    const fields = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
    this.#receiver.onReply(this.#id, new ReplyPacket(this.#type, fields));
  }
}

/** Most often the greeting of a login script, which the protocol takes for a length. */
function noPacket(bytes: Buffer): MirageError {
  const isText = bytes.every((byte) => (byte >= 0x20 && byte < 0x7f) || byte === 0x0a || byte === 0x0d);
  const shown = isText ? JSON.stringify(bytes.toString('latin1')) : bytes.toString('hex');
  return new MirageError(`what the server sent is no SFTP: ${shown}`, {
    errno: 'EIO',
    hint: 'a login script of the server (.bashrc, .profile) must print nothing when it is not run by a person',
  });
}
