import { writeSync } from 'node:fs';
import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import { MirageError } from '../../errors/mirage-error.js';
import { type LocalFiles, localFiles } from '../../native/local-files.js';
import type { LentConnection, NearFiles, OpenedFile, ServerHandle } from '../file-server.js';
import { sameOwners, toServerAttributes } from './attributes.js';
import { Call } from './call.js';
import type { Channel } from './channel.js';
import { OpenFlag } from './packet.js';
import { Requests } from './requests.js';
import { Session } from './session.js';

/** Answers to small reads: what one system call can bring. */
const BUFFER_BYTES = 64 * 1024;
/** The longest read. */
const READ_BYTES = 32 * 1024;
const EAGAIN = 11;
const EINTR = 4;

/** Opens files for reading over a connection that was lent to this thread, whose event loop it joins. Ends the connection where it fails. */
export async function nearFiles(lent: LentConnection): Promise<NearFiles> {
  const call = new Call(UNINTERRUPTED.signal);
  const channel = new DescriptorChannel(lent.fd);
  const session = await Session.start(channel, { timeout: lent.timeout }, call);
  const files = new SftpNearFiles(new Requests(session, call), lent.root);
  channel.onTurn = () => files.reuse();
  return files;
}

class SftpNearFiles implements NearFiles {
  readonly #ask: Requests;
  readonly #root: string;
  /** The server's own names of them. */
  readonly #handles = new Map<ServerHandle, string>();
  readonly #spare: Buffer[] = [];
  readonly #given: Buffer[] = [];
  #lastHandle = 0;

  constructor(ask: Requests, root: string) {
    this.#ask = ask;
    this.#root = root;
  }

  get lost(): boolean {
    return this.#ask.session.lost !== undefined;
  }

  async open(path: string): Promise<OpenedFile> {
    const remote = await this.#ask.open(`${this.#root}/${path}`, OpenFlag.read, {}, false);
    try {
      // Owners as the server numbers them: who asks for them asks the server itself.
      const attributes = toServerAttributes(await this.#ask.fstat(remote), sameOwners);
      const handle = ++this.#lastHandle;
      this.#handles.set(handle, remote);
      return { handle, attributes };
    } catch (error) {
      void this.#ask.close(remote).catch(() => undefined);
      throw error;
    }
  }

  async read(handle: ServerHandle, offset: number, length: number): Promise<Uint8Array> {
    const remote = this.#handles.get(handle);
    if (remote === undefined) throw new MirageError('the file is not open', { errno: 'EBADF' });
    const buffer = this.#spare.pop() ?? Buffer.allocUnsafeSlow(READ_BYTES);
    const bytes = buffer.subarray(0, length);
    let done = await this.#ask.read(remote, offset, bytes);
    // A server may give fewer than it was asked for, and end where it gives none.
    for (let got = done; got > 0 && done < length; done += got) {
      got = await this.#ask.read(remote, offset + done, bytes.subarray(done));
    }
    this.#given.push(buffer);
    return done === length ? bytes : bytes.subarray(0, done);
  }

  /** What was given before is not looked at any more. */
  reuse(): void {
    while (this.#given.length > 0) this.#spare.push(this.#given.pop()!);
  }

  close(handle: ServerHandle): void {
    const remote = this.#handles.get(handle);
    this.#handles.delete(handle);
    if (remote !== undefined && !this.lost) void this.#ask.close(remote).catch(() => undefined);
  }

  end(): void {
    this.#ask.session.end(new MirageError('the mount is closed', { errno: 'EHOSTDOWN' }));
  }
}

/** A connected socket without a stream around it: a request is one write, an answer one read. */
class DescriptorChannel implements Channel {
  readonly ended: Promise<MirageError>;
  readonly #fd: number;
  readonly #files: LocalFiles = localFiles();
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  /** Called before anything of what has arrived is delivered. */
  onTurn: () => void = () => undefined;
  #stop: () => void = () => undefined;
  #end: (why: MirageError) => void = () => undefined;
  #closed = false;

  constructor(fd: number) {
    this.#fd = fd;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** Requests are small, and few at a time: a socket that does not take one whole is stuck. */
  send(packet: Uint8Array): void {
    if (this.#closed) return;
    try {
      if (writeSync(this.#fd, packet) === packet.length) return;
      this.#lose('takes no more');
    } catch (cause) {
      this.#lose('cannot be written to', cause);
    }
  }

  listen(onBytes: (chunk: Buffer) => void): void {
    const readable = this.#files.onReadable(this.#fd, () => this.#receive(onBytes));
    this.#stop = () => readable.stop();
  }

  #receive(onBytes: (chunk: Buffer) => void): void {
    this.onTurn();
    while (!this.#closed) {
      const length = this.#files.read(this.#fd, this.#buffer);
      if (length > 0) onBytes(this.#buffer.subarray(0, length));
      else if (length !== -EAGAIN && length !== -EINTR) this.#lose('has ended');
      if (length < BUFFER_BYTES) return;
    }
  }

  #lose(how: string, cause?: unknown): void {
    this.#end(new MirageError(`the connection ${how}`, { errno: 'EHOSTDOWN', retryable: true, cause }));
  }

  destroy(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stop();
    // Not Node's own: it knows which descriptors a thread has opened, and wonders at others.
    this.#files.close(this.#fd);
  }
}
