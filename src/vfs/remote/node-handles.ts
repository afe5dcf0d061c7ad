/** The handles of one node on the server: at most one that reads and one that writes, whatever number of programs has it open. */
import type { FileServer, OpenedFile, ServerAttributes, ServerHandle } from '../../backends/file-server.js';
import { UNINTERRUPTED } from '../../clock/uninterrupted.js';
import { MirageError } from '../../errors/mirage-error.js';
import { type NearConnection, NearFile } from './near-connection.js';

/** A handle that was lost with its connection is opened again so often for one call. */
const REOPENINGS = 2;
/** A file up to this size, bytes, is fetched whole: a request costs more than its bytes. */
export const WHOLE = 32 * 1024;

export interface HandleOwner {
  /** Where the node is now; undefined: it has no name any more. */
  path(): string | undefined;
  /** Something was opened under the path: throws ESTALE when it is not the node. `again`: a handle was lost before. */
  check(attributes: ServerAttributes, again: boolean): void;
}

export class NodeHandles {
  readonly #server: FileServer;
  readonly #owner: HandleOwner;
  #reader: ServerHandle | undefined;
  #writer: ServerHandle | undefined;
  #openingReader: Promise<ServerHandle> | undefined;
  #openingWriter: Promise<ServerHandle> | undefined;
  readonly #near: NearFile | undefined;
  #lost = false;

  constructor(server: FileServer, owner: HandleOwner, near: NearConnection | undefined) {
    this.#server = server;
    this.#owner = owner;
    this.#near = near && new NearFile(near, owner);
  }

  /** Any handle that is open. */
  get any(): ServerHandle | undefined {
    return this.#writer ?? this.#reader;
  }
  get hasWriter(): boolean {
    return this.#writer !== undefined;
  }

  /** A handle that was opened for the node elsewhere; closed when there is one already. */
  adopt(handle: ServerHandle, how: { read: boolean; write: boolean }): void {
    let taken = false;
    if (how.write && this.#writer === undefined) {
      this.#writer = handle;
      taken = true;
    }
    if (how.read && this.#reader === undefined) {
      this.#reader = handle;
      taken = true;
    }
    if (!taken) void this.#close(handle);
  }

  /** Runs `work` with a handle that reads or writes, at once where there is one: calls keep their order then. */
  async run<T>(writing: boolean, work: (handle: ServerHandle) => Promise<T>): Promise<T> {
    for (let reopenings = 0; ; reopenings++) {
      const handle = (writing ? this.#writer : this.#reader) ?? (await this.open(writing));
      try {
        return await work(handle);
      } catch (error) {
        if (!MirageError.is(error, 'EBADF') || reopenings === REOPENINGS) throw error;
        this.#lose(handle);
      }
    }
  }

  /** A small read that the cache is not to keep; undefined: it cannot be made that way, also when the promise says so. */
  glance(offset: number, length: number): Promise<Uint8Array | undefined> | undefined {
    return this.#near?.read(offset, length);
  }

  /** Makes sure that there is a handle. Throws what opening says, ESTALE where the node cannot be found. */
  open(writing: boolean): Promise<ServerHandle> {
    const known = writing ? this.#writer : this.#reader;
    if (known !== undefined) return Promise.resolve(known);
    if (writing) {
      this.#openingWriter ??= this.#open(true).finally(() => {
        this.#openingWriter = undefined;
      });
      return this.#openingWriter;
    }
    this.#openingReader ??= this.#open(false).finally(() => {
      this.#openingReader = undefined;
    });
    return this.#openingReader;
  }

  async #open(writing: boolean): Promise<ServerHandle> {
    const path = this.#owner.path();
    if (path === undefined) throw gone();
    let opened: OpenedFile;
    try {
      opened = await this.#server.open(path, { read: !writing, write: writing }, UNINTERRUPTED);
    } catch (error) {
      const now = this.#owner.path();
      // It was renamed meanwhile.
      if (MirageError.is(error, 'ENOENT') && now !== undefined && now !== path) return this.#open(writing);
      throw MirageError.is(error, 'ENOENT') ? gone(error) : error;
    }
    try {
      this.#owner.check(opened.attributes, this.#lost);
    } catch (error) {
      void this.#close(opened.handle);
      throw error;
    }
    this.adopt(opened.handle, { read: !writing, write: writing });
    if (!writing && opened.attributes.size > WHOLE) this.#near?.expect();
    return opened.handle;
  }

  #lose(handle: ServerHandle): void {
    this.#lost = true;
    if (this.#reader === handle) this.#reader = undefined;
    if (this.#writer === handle) this.#writer = undefined;
  }

  /** What the server says of a close has no listener: errors of writes came with the writes. */
  async close(): Promise<void> {
    this.#near?.close();
    await Promise.allSettled([this.#openingReader, this.#openingWriter]);
    const handles = new Set([this.#reader, this.#writer]);
    this.#reader = undefined;
    this.#writer = undefined;
    await Promise.all([...handles].map((handle) => handle !== undefined && this.#close(handle)));
  }

  async #close(handle: ServerHandle): Promise<void> {
    await this.#server.close(handle, UNINTERRUPTED).catch(() => undefined);
  }
}

const gone = (cause?: unknown): MirageError =>
  new MirageError('the file has gone from the server', { errno: 'ESTALE', cause });
