/** A file server over a folder of this host, with the faults that a test asks for. */
import { constants, promises as fs, readSync, type Stats, writeSync } from 'node:fs';
import { join } from 'node:path';
import type {
  FileServer,
  FileServerFeatures,
  HandleRange,
  OpenedFile,
  OpenHow,
  ServerAttributeChange,
  ServerAttributes,
  ServerEntry,
  ServerHandle,
  ServerUsage,
} from '../../src/backends/file-server.js';
import { errnoName } from '../../src/errors/errno.js';
import { MirageError } from '../../src/errors/mirage-error.js';

export type ServerOperation = Exclude<keyof FileServer, 'features'>;

const secondsOf = (milliseconds: number): number => Math.floor(milliseconds / 1000);

const attributesOf = (stats: Stats): ServerAttributes => ({
  mode: stats.mode,
  size: stats.size,
  uid: stats.uid,
  gid: stats.gid,
  // As SFTP has it: seconds.
  accessedSeconds: secondsOf(stats.atimeMs),
  accessedNanoseconds: 0,
  modifiedSeconds: secondsOf(stats.mtimeMs),
  modifiedNanoseconds: 0,
});

function failure(operation: string, cause: unknown): MirageError {
  if (MirageError.is(cause)) return cause;
  const { errno } = cause as { errno?: number };
  return MirageError.system(operation, Math.abs(errno ?? 5), cause);
}

export class LocalFileServer implements FileServer {
  readonly features: FileServerFeatures;
  /** What was asked, in order: `open a/b`, `read 0 4096`. */
  readonly asked: string[] = [];
  /** Called before each operation is carried out; may throw or wait. */
  before: (operation: ServerOperation, what: string) => void | Promise<void> = () => undefined;
  /** Called after it was: the answer is lost when it throws. */
  after: (operation: ServerOperation, what: string) => void | Promise<void> = () => undefined;
  readonly #root: string;
  readonly #handles = new Map<ServerHandle, fs.FileHandle>();
  #lastHandle = 0;

  constructor(root: string, features: Partial<FileServerFeatures> = {}) {
    this.#root = root;
    this.features = {
      renameReplace: true,
      renameExclusive: false,
      hardLinks: true,
      symlinks: true,
      fsync: true,
      statfs: false,
      copyRange: false,
      linkAttributes: false,
      nanoseconds: false,
      handlesOutliveNames: true,
      maximumHandles: 100,
      maximumRead: 65536,
      maximumWrite: 65536,
      ...features,
    };
  }

  get openHandles(): number {
    return this.#handles.size;
  }

  /** As when the connection breaks. */
  async loseHandles(): Promise<void> {
    for (const handle of this.#handles.values()) await handle.close();
    this.#handles.clear();
  }

  #path(path: string): string {
    return join(this.#root, Buffer.from(path, 'latin1').toString('utf8'));
  }

  #file(handle: ServerHandle): fs.FileHandle {
    const file = this.#handles.get(handle);
    if (file === undefined) throw new MirageError('the handle is gone', { errno: 'EBADF' });
    return file;
  }

  async #run<T>(operation: ServerOperation, what: string, work: () => Promise<T>): Promise<T> {
    this.asked.push(`${operation} ${what}`);
    try {
      await this.before(operation, what);
      const answer = await work();
      await this.after(operation, what);
      return answer;
    } catch (error) {
      throw failure(operation, error);
    }
  }

  lstat(path: string): Promise<ServerAttributes | undefined> {
    return this.#run('lstat', path, async () => {
      try {
        return attributesOf(await fs.lstat(this.#path(path)));
      } catch (error) {
        if (['ENOENT', 'ENOTDIR'].includes(errnoName(Math.abs((error as { errno: number }).errno)))) {
          return undefined;
        }
        throw error;
      }
    });
  }

  list(path: string, onPage: (entries: readonly ServerEntry[]) => void | Promise<void>): Promise<void> {
    return this.#run('list', path, async () => {
      let page: ServerEntry[] = [];
      for (const name of await fs.readdir(this.#path(path))) {
        page.push({ ...attributesOf(await fs.lstat(join(this.#path(path), name))), name });
        if (page.length === 100) await onPage(page.splice(0));
      }
      await onPage(page);
      page = [];
    });
  }

  readlink(path: string): Promise<string> {
    return this.#run('readlink', path, () => fs.readlink(this.#path(path)));
  }

  statfs(path: string): Promise<ServerUsage> {
    return this.#run('statfs', path, async () => {
      throw new MirageError('no figures', { errno: 'ENOTSUP' });
    });
  }

  open(path: string, how: OpenHow): Promise<OpenedFile> {
    return this.#run('open', path, async () => {
      const access = how.write ? (how.read ? constants.O_RDWR : constants.O_WRONLY) : constants.O_RDONLY;
      const flags =
        access |
        (how.create ? constants.O_CREAT : 0) |
        (how.exclusive ? constants.O_EXCL : 0) |
        (how.truncate ? constants.O_TRUNC : 0);
      const file = await fs.open(this.#path(path), flags, how.mode);
      const handle = ++this.#lastHandle;
      this.#handles.set(handle, file);
      return { handle, attributes: attributesOf(await file.stat()) };
    });
  }

  read(handle: ServerHandle, { offset, length, fd, position }: HandleRange): Promise<number> {
    return this.#run('read', `${offset} ${length}`, async () => {
      const buffer = Buffer.alloc(length);
      const got = readSync(this.#file(handle).fd, buffer, 0, length, offset);
      writeSync(fd, buffer, 0, got, position);
      return got;
    });
  }

  write(handle: ServerHandle, { offset, length, fd, position }: HandleRange): Promise<void> {
    return this.#run('write', `${offset} ${length}`, async () => {
      const buffer = Buffer.alloc(length);
      readSync(fd, buffer, 0, length, position);
      writeSync(this.#file(handle).fd, buffer, 0, length, offset);
    });
  }

  fstat(handle: ServerHandle): Promise<ServerAttributes> {
    return this.#run('fstat', '', async () => attributesOf(await this.#file(handle).stat()));
  }

  fsync(handle: ServerHandle): Promise<void> {
    return this.#run('fsync', '', () => this.#file(handle).sync());
  }

  close(handle: ServerHandle): Promise<void> {
    return this.#run('close', '', async () => {
      const file = this.#file(handle);
      this.#handles.delete(handle);
      await file.close();
    });
  }

  copyRange(): Promise<number> {
    return this.#run('copyRange', '', async () => {
      throw new MirageError('it does not copy', { errno: 'ENOTSUP' });
    });
  }

  setAttributes(target: string | ServerHandle, change: ServerAttributeChange): Promise<ServerAttributes> {
    return this.#run('setAttributes', `${typeof target === 'string' ? target : ''}`, async () => {
      const file = typeof target === 'string' ? await fs.open(this.#path(target), 'r+') : this.#file(target);
      try {
        if (change.size !== undefined) await file.truncate(change.size);
        if (change.mode !== undefined) await file.chmod(change.mode);
        if (change.accessed !== undefined && change.modified !== undefined) {
          await file.utimes(change.accessed.seconds, change.modified.seconds);
        }
        return attributesOf(await file.stat());
      } finally {
        if (typeof target === 'string') await file.close();
      }
    });
  }

  mkdir(path: string, mode: number): Promise<ServerAttributes> {
    return this.#run('mkdir', path, async () => {
      await fs.mkdir(this.#path(path), mode);
      return attributesOf(await fs.lstat(this.#path(path)));
    });
  }

  rmdir(path: string): Promise<void> {
    return this.#run('rmdir', path, () => fs.rmdir(this.#path(path)));
  }

  unlink(path: string): Promise<void> {
    return this.#run('unlink', path, () => fs.unlink(this.#path(path)));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#run('rename', `${from} ${to}`, () => fs.rename(this.#path(from), this.#path(to)));
  }

  symlink(target: string, path: string): Promise<ServerAttributes> {
    return this.#run('symlink', path, async () => {
      await fs.symlink(target, this.#path(path));
      return attributesOf(await fs.lstat(this.#path(path)));
    });
  }

  link(existing: string, path: string): Promise<ServerAttributes> {
    return this.#run('link', path, async () => {
      await fs.link(this.#path(existing), this.#path(path));
      return attributesOf(await fs.lstat(this.#path(path)));
    });
  }
}
