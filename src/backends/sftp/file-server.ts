import { MirageError } from '../../errors/mirage-error.js';
import type { Context } from '../contract.js';
import type {
  FileServer,
  FileServerFeatures,
  HandleRange,
  LentConnection,
  OpenedFile,
  OpenHow,
  ServerAttributeChange,
  ServerAttributes,
  ServerEntry,
  ServerHandle,
  ServerUsage,
} from '../file-server.js';
import { type OwnerMap, toServerAttributes, type WireAttributes } from './attributes.js';
import { Blocks } from './blocks.js';
import { Call } from './call.js';
import type { Connections } from './connections.js';
import { notOffered, statusOf } from './errors.js';
import { explained, explainWrite, isDirectory, look, type Refusal } from './explain.js';
import { featuresOf } from './features.js';
import { Listing } from './listing.js';
import { OpenFlag } from './packet.js';
import { Requests, shown } from './requests.js';
import type { ServerTraits, Session } from './session.js';
import { setByHandle, setByPath } from './set-attributes.js';
import { readIntoFile, writeFromFile } from './transfer.js';

/** A server is busy with one copy for so many bytes at most, and answers nobody else on the connection meanwhile. */
const COPY_BYTES = 64 * 2 ** 20;
/** NUL cannot be in a path, and would cut it short at some servers. */
const NO_PATH = /\0/;

/** Connects without speaking on the connection. */
export type Lender = (signal: AbortSignal) => Promise<Pick<LentConnection, 'fd' | 'timeout'>>;

interface OpenHandle {
  readonly session: Session;
  /** The server's own name of it. */
  readonly remote: string;
  /** Writes whose bytes are still being read here: what is asked after them must not overtake them. */
  readonly begun: Set<Promise<void>>;
}

/** The files below one folder of an SFTP server. */
export class SftpFileServer implements FileServer {
  readonly features: FileServerFeatures;
  readonly #connections: Connections;
  readonly #root: string;
  readonly #owners: OwnerMap;
  readonly #handles = new Map<ServerHandle, OpenHandle>();
  readonly #lender: Lender | undefined;
  readonly blocks = new Blocks();
  #lastHandle = 0;

  /** `root`: absolute, as the server names it. */
  constructor(
    connections: Connections,
    root: string,
    owners: OwnerMap,
    traits: ServerTraits,
    lender?: Lender,
  ) {
    this.#connections = connections;
    this.#root = root === '/' ? '' : root;
    this.#owners = owners;
    this.#lender = lender;
    this.features = { ...featuresOf(traits), lends: lender !== undefined };
  }

  async lend({ signal }: Context): Promise<LentConnection> {
    if (this.#lender === undefined) throw notOffered('a connection for somebody else');
    return { protocol: 'sftp', root: this.#root, ...(await this.#lender(signal)) };
  }

  /** The server's path of a path of the mount. */
  at(path: string): string {
    if (NO_PATH.test(path)) throw new MirageError(`${shown(path)} is no path`, { errno: 'EINVAL' });
    return path === '' ? this.#root || '/' : `${this.#root}/${path}`;
  }

  attributes(wire: WireAttributes, longname?: string): ServerAttributes {
    return toServerAttributes(wire, this.#owners, longname);
  }

  async lstat(path: string, context: Context): Promise<ServerAttributes | undefined> {
    const place = this.at(path);
    return this.#connections.run(context, true, async (ask) => {
      const found = await look(ask, place);
      return found && this.attributes(found);
    });
  }

  async list(
    path: string,
    onPage: (entries: readonly ServerEntry[]) => void | Promise<void>,
    context: Context,
  ): Promise<void> {
    const place = this.at(path);
    const listing = new Listing(place, (wire, longname) => this.attributes(wire, longname), onPage);
    return this.#connections.run(context, true, (ask) => listing.run(ask));
  }

  async readlink(path: string, context: Context): Promise<string> {
    const place = this.at(path);
    return this.#connections.run(context, true, (ask) =>
      explained(ask, { operation: 'readlink', path: place }, ask.readlink(place)),
    );
  }

  async statfs(path: string, context: Context): Promise<ServerUsage> {
    const place = this.at(path);
    return this.#connections.run(context, true, (ask) => {
      if (!ask.session.offers('statvfs@openssh.com')) throw notOffered('statvfs');
      return ask.statvfs(place);
    });
  }

  async open(path: string, how: OpenHow, context: Context): Promise<OpenedFile> {
    const place = this.at(path);
    const flags =
      (how.read ? OpenFlag.read : 0) |
      (how.write ? OpenFlag.write : 0) |
      (how.create || how.exclusive ? OpenFlag.create : 0) |
      (how.exclusive ? OpenFlag.exclusive : 0) |
      (how.truncate ? OpenFlag.truncate : 0);
    const given = how.mode === undefined ? {} : { mode: how.mode & 0o7777 };
    const refusal: Refusal = {
      operation: 'open',
      path: place,
      exclusive: how.exclusive ?? false,
      write: how.write,
    };
    const opened = async (ask: Requests): Promise<OpenedFile> => {
      const opening = ask.open(place, flags, given, how.exclusive ?? false);
      const looking = ask.lstat(place);
      looking.catch(() => undefined);
      const remote = await explained(ask, refusal, opening);
      try {
        const found = await looking.catch((error) => {
          // Removed or renamed in between: the open file still has its attributes.
          if (statusOf(error) === undefined) throw error;
          return ask.fstat(remote);
        });
        if (isDirectory(found))
          throw new MirageError(`open ${shown(place)}: a directory`, { errno: 'EISDIR' });
        const handle = ++this.#lastHandle;
        this.#handles.set(handle, { session: ask.session, remote, begun: new Set() });
        return { handle, attributes: this.attributes(found) };
      } catch (error) {
        void ask.close(remote).catch(() => undefined);
        throw error;
      }
    };
    return this.#connections.run(context, how.exclusive !== true, opened, 'content');
  }

  read(handle: ServerHandle, range: HandleRange, context: Context): Promise<number> {
    return this.#with(handle, context, (ask, remote) => readIntoFile(ask, remote, range, this.blocks));
  }

  write(handle: ServerHandle, range: HandleRange, context: Context): Promise<void> {
    const { begun } = this.#handles.get(handle) ?? { begun: new Set() };
    let asked = (): void => {};
    const begins = new Promise<void>((resolve) => {
      asked = () => {
        begun.delete(begins);
        resolve();
      };
    });
    begun.add(begins);
    return this.#with(handle, context, async (ask, remote) => {
      try {
        await writeFromFile(ask, remote, range, this.blocks, asked);
      } catch (error) {
        throw await explainWrite(ask, remote, error);
      }
    }).finally(asked);
  }

  async fstat(handle: ServerHandle, context: Context): Promise<ServerAttributes> {
    await this.#asked(handle);
    return this.#with(handle, context, async (ask, remote) => this.attributes(await ask.fstat(remote)));
  }

  /** The requests of the writes that were begun on a handle have been made. */
  async #asked(handle: ServerHandle): Promise<void> {
    const begun = this.#handles.get(handle)?.begun;
    if (begun !== undefined && begun.size > 0) await Promise.all(begun);
  }

  async fsync(handle: ServerHandle, context: Context): Promise<void> {
    await this.#asked(handle);
    return this.#with(handle, context, async (ask, remote) => {
      if (!this.features.fsync) throw notOffered('fsync');
      try {
        await ask.fsync(remote);
      } catch (error) {
        throw await explainWrite(ask, remote, error);
      }
    });
  }

  async close(handle: ServerHandle, context: Context): Promise<void> {
    await this.#asked(handle);
    const open = this.#handles.get(handle);
    // A connection that is gone has closed its files.
    if (open === undefined || open.session.lost !== undefined) {
      this.#handles.delete(handle);
      return;
    }
    try {
      // Also for a caller that has given up: the server would keep the file open.
      const patient = context.signal.aborted ? { signal: new AbortController().signal } : context;
      await this.#with(handle, patient, (ask, remote) => ask.close(remote));
    } finally {
      this.#handles.delete(handle);
    }
  }

  async copyRange(
    from: ServerHandle,
    fromOffset: number,
    to: ServerHandle,
    toOffset: number,
    length: number,
    context: Context,
  ): Promise<number> {
    const source = this.#handle(from);
    // The request names two handles of one connection; and a file's own bytes may overlap.
    if (!this.features.copyRange || source.session !== this.#handle(to).session || from === to) {
      throw notOffered('copy-data');
    }
    return this.#with(to, context, async (ask, target) => {
      const { size = 0 } = await ask.fstat(source.remote);
      const total = Math.max(0, Math.min(length, size - fromOffset));
      try {
        for (let done = 0; done < total; ) {
          const part = Math.min(COPY_BYTES, total - done);
          await ask.copyData(source.remote, fromOffset + done, part, target, toOffset + done);
          done += part;
        }
      } catch (error) {
        throw await explainWrite(ask, target, error);
      }
      return total;
    });
  }

  async setAttributes(
    target: string | ServerHandle,
    change: ServerAttributeChange,
    context: Context,
  ): Promise<ServerAttributes> {
    if (typeof target === 'number') {
      await this.#asked(target);
      return this.#with(target, context, async (ask, remote) => {
        return this.attributes(await setByHandle(ask, remote, change, this.#owners));
      });
    }
    const path = this.at(target);
    return this.#connections.run(context, true, (ask) =>
      explained(
        ask,
        { operation: 'setattr', path },
        setByPath(ask, path, change, this.#owners, this.features).then((found) => this.attributes(found)),
      ),
    );
  }

  async mkdir(path: string, mode: number, context: Context): Promise<ServerAttributes> {
    const place = this.at(path);
    return this.#create(context, { operation: 'mkdir', path: place }, place, (ask) =>
      ask.mkdir(place, mode & 0o7777),
    );
  }

  async symlink(target: string, path: string, context: Context): Promise<ServerAttributes> {
    const place = this.at(path);
    return this.#create(context, { operation: 'symlink', path: place }, place, (ask) =>
      ask.symlink(target, place),
    );
  }

  async link(existing: string, path: string, context: Context): Promise<ServerAttributes> {
    if (!this.features.hardLinks) throw notOffered('hardlink');
    const from = this.at(existing);
    const to = this.at(path);
    return this.#create(context, { operation: 'link', path: from, to }, to, (ask) => ask.link(from, to));
  }

  async rmdir(path: string, context: Context): Promise<void> {
    const place = this.at(path);
    return this.#connections.run(context, false, (ask) =>
      explained(ask, { operation: 'rmdir', path: place }, ask.rmdir(place)),
    );
  }

  async unlink(path: string, context: Context): Promise<void> {
    const place = this.at(path);
    return this.#connections.run(context, false, (ask) =>
      explained(ask, { operation: 'unlink', path: place }, ask.remove(place)),
    );
  }

  async rename(
    from: string,
    to: string,
    { replace }: { readonly replace: boolean },
    context: Context,
  ): Promise<void> {
    const path = this.at(from);
    const target = this.at(to);
    if (replace && !this.features.renameReplace) throw notOffered('posix-rename');
    if (!replace && !this.features.renameExclusive) throw notOffered('a rename that does not replace');
    return this.#connections.run(context, false, (ask) =>
      explained(
        ask,
        { operation: 'rename', path, to: target, exclusive: !replace },
        replace ? ask.posixRename(path, target) : ask.rename(path, target),
      ),
    );
  }

  /** A change that makes a name, and the question what became of it, in one round trip. */
  #create(
    context: Context,
    refusal: Refusal,
    place: string,
    make: (ask: Requests) => Promise<void>,
  ): Promise<ServerAttributes> {
    return this.#connections.run(context, false, async (ask) => {
      const making = make(ask);
      const looking = ask.lstat(place);
      looking.catch(() => undefined);
      await explained(ask, refusal, making);
      return this.attributes(await looking);
    });
  }

  #handle(handle: ServerHandle): OpenHandle {
    const open = this.#handles.get(handle);
    if (open === undefined || open.session.lost !== undefined) {
      this.#handles.delete(handle);
      throw goneHandle(open?.session.lost);
    }
    return open;
  }

  async #with<T>(
    handle: ServerHandle,
    context: Context,
    work: (ask: Requests, remote: string) => Promise<T>,
  ): Promise<T> {
    const { session, remote } = this.#handle(handle);
    using call = new Call(context.signal);
    try {
      return await work(new Requests(session, call), remote);
    } catch (error) {
      if (session.lost === undefined || call.signal.aborted) throw error;
      if (MirageError.is(error) && !error.retryable) throw error;
      this.#handles.delete(handle);
      // Silence is an answer of its own: the time for one is over.
      throw session.lost.errno === 'ETIMEDOUT' ? error : goneHandle(error);
    }
  }
}

const goneHandle = (cause: unknown): MirageError =>
  new MirageError('the connection of an open file was lost', { errno: 'EBADF', cause });
