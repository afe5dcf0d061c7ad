/** The bytes of files that are still to be sent, each under a name of its own beside the cache: they outlive the daemon. */
import {
  closeSync,
  constants,
  existsSync,
  fdatasync,
  fsync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ByteRange } from '../../../backends/contract.js';
import { MirageError } from '../../../errors/mirage-error.js';
import { localFiles } from '../../../native/local-files.js';
import { stagedFileOf } from './intent.js';

/** Bytes copied before others get their turn. */
const COPY = 4 * 1024 * 1024;

const syncData = promisify(fdatasync);
const syncFile = promisify(fsync);

export class StagedBytes {
  readonly directory: string;
  readonly #fd: number;
  #syncing: Promise<void> | undefined;
  #following: Promise<void> | undefined;

  constructor(directory: string) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.directory = directory;
    this.#fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  }

  /**
   * Gives the file behind a descriptor another name, so that it outlives its first one; copies it where it has no name that a
   * link can be made to.
   */
  async adopt(fd: number, size: number, name: string): Promise<void> {
    const linked = localFiles().linkAt(fd, this.#fd, name);
    if (linked === 0) return;
    const copy = openSync(this.path(name), constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      await copyRange(fd, copy, { offset: 0, length: size }, 0);
    } catch (error) {
      unlinkSync(this.path(name));
      throw error;
    } finally {
      closeSync(copy);
    }
  }

  /** The bytes behind a descriptor. */
  whole(fd: number, size: number): Uint8Array {
    const bytes = Buffer.allocUnsafe(size);
    let done = 0;
    while (done < size) {
      const count = readSync(fd, bytes, done, size - done, done);
      if (count === 0) throw new MirageError('a staged file is shorter than it was', { errno: 'EIO' });
      done += count;
    }
    return bytes;
  }

  content(name: string): Uint8Array {
    return readFileSync(this.path(name));
  }

  /** The bytes of `name` and the name itself are on the disk. */
  async durable(name: string): Promise<void> {
    const fd = openSync(this.path(name), constants.O_RDONLY);
    try {
      await Promise.all([syncData(fd), this.#syncNames()]);
    } finally {
      closeSync(fd);
    }
  }

  /** All who come while a sync of the folder runs share the next one. */
  #syncNames(): Promise<void> {
    const sync = (): Promise<void> => {
      const syncing = syncFile(this.#fd).finally(() => {
        if (this.#syncing === syncing) this.#syncing = undefined;
      });
      this.#syncing = syncing;
      return syncing;
    };
    if (this.#syncing === undefined) return sync();
    this.#following ??= this.#syncing
      .catch(() => undefined)
      .then(() => {
        this.#following = undefined;
        return sync();
      });
    return this.#following;
  }

  /** Copies a range of the staged bytes into a descriptor; at the same offsets, or from `position` on. */
  async read(name: string, range: ByteRange, fd: number, position = range.offset): Promise<void> {
    const from = openSync(this.path(name), constants.O_RDONLY);
    try {
      await copyRange(from, fd, range, position);
    } finally {
      closeSync(from);
    }
  }

  /** From here on `name` has the bytes for itself. */
  async part(name: string): Promise<void> {
    const path = this.path(name);
    await copyFile(path, `${path}.own`, constants.COPYFILE_FICLONE);
    renameSync(`${path}.own`, path);
  }

  remove(name: string): void {
    try {
      unlinkSync(this.path(name));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }

  /** Moves the bytes to `path`, which may be on another disk. */
  async keep(name: string, path: string): Promise<void> {
    try {
      renameSync(this.path(name), path);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Somebody has removed them: there is nothing to keep.
      if (code === 'ENOENT' && this.sizeOf(name) === undefined) return;
      if (code !== 'EXDEV') throw error;
      await copyFile(this.path(name), path);
      this.remove(name);
    }
  }

  /** Bytes that a name takes; undefined: there is none. */
  sizeOf(name: string): number | undefined {
    try {
      return statSync(this.path(name)).size;
    } catch {
      return undefined;
    }
  }

  names(): string[] {
    return readdirSync(this.directory);
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Brings staged bytes back that the journal has and the disk may not: the machine stopped before they were written. */
export function restoreStaged(directory: string, intent: unknown, bytes: Uint8Array, sure: boolean): void {
  const file = stagedFileOf(intent);
  if (file === undefined) return;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const path = join(directory, file);
  if (sure && existsSync(path)) return;
  rmSync(path, { force: true });
  writeFileSync(path, bytes, { mode: 0o600 });
}

/**
 * Staged bytes that no record of the journal names are left by a crash between the two. Where the journal is damaged they may be all there is of a
 * change: they go to `recovered` then.
 */
export function clearUnnamed(
  directory: string,
  named: ReadonlySet<string>,
  recovered: string | undefined,
): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(directory)) {
    if (named.has(name)) continue;
    const path = join(directory, name);
    if (recovered === undefined) rmSync(path, { force: true });
    else {
      mkdirSync(recovered, { recursive: true, mode: 0o700 });
      renameSync(path, join(recovered, `journal-${name}`));
    }
  }
}

async function copyRange(
  from: number,
  to: number,
  { offset, length }: ByteRange,
  position: number,
): Promise<void> {
  for (let done = 0; done < length; ) {
    const bytes = Math.min(COPY, length - done);
    const copied = localFiles().copyFileRange(from, offset + done, to, position + done, bytes);
    if (copied < 0) throw MirageError.system('copy_file_range', -copied);
    if (copied === 0) return;
    done += copied;
    if (done < length) await new Promise((resolve) => setImmediate(resolve));
  }
}
