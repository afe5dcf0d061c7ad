import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What one system call can bring. */
const BUFFER_BYTES = 256 * 1024;

export interface SocketPair {
  readonly ours: Socket;
  /** For the standard streams of a child; not read from here. */
  readonly theirs: Socket;
  /** Called once: what arrives at our end, in one buffer that is used again and again. */
  listen(onBytes: (chunk: Buffer) => void): void;
}

/**
 * Two connected sockets, as socketpair(2) makes them. The pipes that a child process gets from Node allocate a buffer for each piece that arrives, which
 * at the speed of a file transfer keeps the garbage collector busier than the transfer does the rest.
 */
export async function socketPair(): Promise<SocketPair> {
  // Nobody else can enter the folder, so it is us who connect.
  const folder = await mkdtemp(join(tmpdir(), 'mirage-'));
  const path = join(folder, 'pair');
  const server = createServer({ pauseOnConnect: true });
  try {
    const accepted = new Promise<Socket>((resolve, reject) => {
      server.once('connection', resolve);
      server.once('error', reject);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    let receiver: ((chunk: Buffer) => void) | undefined;
    const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
    const ours = connect({
      path,
      onread: {
        buffer,
        callback(length) {
          receiver?.(buffer.subarray(0, length));
          return true;
        },
      },
    });
    const connected = new Promise<void>((resolve, reject) => {
      ours.once('connect', resolve);
      ours.once('error', reject);
    });
    const [theirs] = await Promise.all([accepted, connected]);
    return {
      ours,
      theirs,
      listen(onBytes) {
        receiver = onBytes;
      },
    };
  } finally {
    server.close();
    await rm(folder, { recursive: true, force: true });
  }
}
