/** Small reads over a connection that this thread speaks on itself: the way over the I/O side would take them longer than the server does. */
import type { FileServer, LentConnection, NearFiles, ServerHandle } from '../../backends/file-server.js';
import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { VolumeContext } from '../volume.js';
import type { HandleOwner } from './node-handles.js';

export type ConnectNear = (lent: LentConnection) => Promise<NearFiles>;

/** A read of up to this many bytes is small. */
const SMALL = 32 * 1024;
/** Small reads before another try, of a file that could not be opened here. */
const PATIENCE = 256;
/** A server that takes longer to answer is far, milliseconds: a disk is faster. */
const FAR = 3;
/** Answers of which the quickest counts: the others tell how busy this host is. */
const ANSWERS = 16;
/** Small reads before another look at a server that was far. */
const FAR_READS = 256;
/** Wait after a connection that failed or broke, milliseconds. */
const RETRY = 30_000;

/** The connection of one volume, made when it is first of use. */
export class NearConnection {
  readonly #server: FileServer;
  readonly #connect: ConnectNear;
  readonly #context: VolumeContext;
  #files: NearFiles | undefined;
  #connecting = false;
  #closed = false;
  #retryAt = Number.NEGATIVE_INFINITY;
  /** The quickest of the last answers, milliseconds, and how many they are. */
  #quickest = Number.POSITIVE_INFINITY;
  #answers = 0;
  /** So many small reads are not for us: the server is far. */
  #passed = 0;

  constructor(server: FileServer, connect: ConnectNear, context: VolumeContext) {
    this.#server = server;
    this.#connect = connect;
    this.#context = context;
  }

  /** Undefined while it does not stand; it is made meanwhile. */
  get files(): NearFiles | undefined {
    if (this.#files?.lost === false) return this.#files;
    const now = this.#context.clock.monotonic();
    if (!this.#connecting && !this.#closed && now >= this.#retryAt) {
      this.#connecting = true;
      this.#retryAt = now + RETRY;
      void this.#begin();
    }
    return undefined;
  }

  async #begin(): Promise<void> {
    try {
      const lent = await this.#server.lend?.(UNINTERRUPTED);
      if (lent === undefined) return;
      const files = await this.#connect(lent);
      if (this.#closed) files.end();
      else this.#files = files;
    } catch (error) {
      this.#context.log.debug('small reads take the long way', { why: String(error) });
    } finally {
      this.#connecting = false;
    }
  }

  /** A read was answered after so many milliseconds. */
  answered(milliseconds: number): void {
    this.#quickest = Math.min(this.#quickest, milliseconds);
    if (++this.#answers < ANSWERS) return;
    if (this.#quickest > FAR) this.#passed = FAR_READS;
    this.#quickest = Number.POSITIVE_INFINITY;
    this.#answers = 0;
  }

  /** What comes from so far is better fetched once and kept in the cache, which reads here are not. */
  get isFar(): boolean {
    if (this.#passed === 0) return false;
    this.#passed--;
    return true;
  }

  close(): void {
    this.#closed = true;
    this.#files?.end();
  }
}

/** One file on that connection. */
export class NearFile {
  readonly #connection: NearConnection;
  readonly #owner: HandleOwner;
  #reads = 0;
  #files: NearFiles | undefined;
  #handle: ServerHandle | undefined;
  #closed = false;

  constructor(connection: NearConnection, owner: HandleOwner) {
    this.#connection = connection;
    this.#owner = owner;
  }

  /** A large file was opened, of which parts may be read. */
  expect(): void {
    void this.#connection.files;
  }

  /** Bytes of the file, fewer at its end only; undefined: read them the usual way, also when the promise says so. */
  read(offset: number, length: number): Promise<Uint8Array | undefined> | undefined {
    if (length > SMALL || this.#connection.isFar) return undefined;
    if (this.#handle !== undefined && this.#files?.lost === false) {
      return this.#read(this.#files, this.#handle, offset, length);
    }
    if (++this.#reads > 0) {
      const { files } = this.#connection;
      if (files !== undefined) void this.#open(files);
    }
    return undefined;
  }

  async #read(
    files: NearFiles,
    handle: ServerHandle,
    offset: number,
    length: number,
  ): Promise<Uint8Array | undefined> {
    const askedAt = performance.now();
    try {
      const bytes = await files.read(handle, offset, length);
      this.#connection.answered(performance.now() - askedAt);
      return bytes;
    } catch (error) {
      this.#forget();
      if (files.lost) this.#reads = 0;
      // Silence is an answer of its own: the time for one is over. Anything else is for the usual way to tell.
      if (MirageError.is(error, 'ETIMEDOUT')) throw error;
      return undefined;
    }
  }

  async #open(files: NearFiles): Promise<void> {
    this.#reads = -PATIENCE;
    const path = this.#owner.path();
    if (path === undefined) return;
    try {
      const { handle, attributes } = await files.open(path);
      try {
        // As after a lost connection: the file must be the one that is known.
        this.#owner.check(attributes, true);
        if (this.#closed) throw new MirageError('closed meanwhile', { errno: 'EBADF' });
        this.#files = files;
        this.#handle = handle;
      } catch {
        files.close(handle);
      }
    } catch {
      // The usual way tells what is wrong with the file.
    }
  }

  close(): void {
    this.#closed = true;
    this.#forget();
  }

  #forget(): void {
    if (this.#handle !== undefined) this.#files?.close(this.#handle);
    this.#handle = undefined;
    this.#files = undefined;
  }
}
