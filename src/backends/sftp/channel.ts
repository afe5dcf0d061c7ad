import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';
import type { Writable } from 'node:stream';
import type { MirageError } from '../../errors/mirage-error.js';

/** A byte stream to the SFTP subsystem of a server, authenticated and encrypted by whoever made it. */
export interface Channel {
  /** Towards the server: a packet, and bytes that belong behind it. What they are in must not change before the answer. */
  send(packet: Uint8Array, following?: Uint8Array): void;
  /** Called once. `onBytes` gets what the server sends; the chunk is its own during the call only. */
  listen(onBytes: (chunk: Buffer) => void): void;
  /** Resolves once, when the channel has ended for whatever reason, with what is known of it. */
  readonly ended: Promise<MirageError>;
  /** Ends it at once. */
  destroy(): void;
}

/** What one system call can bring. */
const BUFFER_BYTES = 256 * 1024;

/** The sending half of a channel over a stream, which says by its end that it was lost. */
export function sendTo(stream: Writable): Channel['send'] {
  stream.on('error', () => undefined);
  return (packet, following) => {
    if (following === undefined) {
      stream.write(packet);
      return;
    }
    stream.cork();
    stream.write(packet);
    stream.write(following);
    stream.uncork();
  };
}

/** Both directions over a socket that is connected; what arrives is in one buffer that is used again and again. */
export function overSocket(fd: number): Pick<Channel, 'send' | 'listen' | 'destroy'> {
  let receiver: ((chunk: Buffer) => void) | undefined;
  const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  // The types know onread of connect() only.
  const options: SocketConstructorOpts & { readonly onread: OnReadOpts } = {
    fd,
    readable: true,
    writable: true,
    onread: {
      buffer,
      callback(length) {
        receiver?.(buffer.subarray(0, length));
        return true;
      },
    },
  };
  const socket = new Socket(options);
  return {
    send: sendTo(socket),
    listen(onBytes) {
      receiver = onBytes;
      socket.resume();
    },
    destroy: () => void socket.destroy(),
  };
}
