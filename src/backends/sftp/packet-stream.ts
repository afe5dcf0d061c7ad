import { MirageError } from '../../errors/mirage-error.js';
import { HEADER_BYTES, PacketType, ReplyPacket } from './packet.js';

/** Length, type, id, and the length of what was read. */
const DATA_HEADER_BYTES = HEADER_BYTES + 4;
/** No packet is longer: OpenSSH stays below 256 KiB, others below a few. */
const MAXIMUM_BYTES = 4 * 2 ** 20;

export interface PacketReceiver {
  /** A whole packet that is no DATA; valid during the call. `id` is the version in the first packet. */
  onReply(id: number, reply: ReplyPacket): void;
  /** A DATA packet: its bytes as they came, not joined; the receiver keeps them as long as it likes. */
  onData(id: number, pieces: Buffer[]): void;
}

/** Cuts the stream of a server into packets. The bytes of files are not copied. */
export class PacketStream {
  readonly #receiver: PacketReceiver;
  /** A header that came in parts. */
  readonly #header = Buffer.allocUnsafe(DATA_HEADER_BYTES);
  #headerBytes = 0;
  /** What follows the header, while a part of it is missing. */
  #missing = 0;
  #isData = false;
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
        this.#pieces.push(chunk.subarray(at, at + length));
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
    if (this.#missing === 0) this.#deliver();
    return header;
  }

  #deliver(): void {
    const pieces = this.#pieces;
    this.#pieces = [];
    if (this.#isData) {
      this.#receiver.onData(this.#id, pieces);
      return;
    }
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
