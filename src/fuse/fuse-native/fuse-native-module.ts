/**
 * The npm package fuse-native (2.2.x, libfuse 2.9): what we use of it, how it is loaded, and what had to be mended around it.
 * It is optional: its absence is a clear error, nothing else depends on it.
 */
import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { promisify } from 'node:util';
import { MirageError } from '../../errors/mirage-error.js';
import type { StatfsRecord, StatRecord } from './records.js';

type Done = (error: number) => void;
type DoneWith<T> = (error: number, value?: T) => void;

/** Handlers as fuse-native calls them; an error is a negated error number. Times are milliseconds, signed; NaN = not known. */
export interface FuseNativeHandlers {
  getattr(path: string, done: DoneWith<StatRecord>): void;
  fgetattr(path: string, file: number, done: DoneWith<StatRecord>): void;
  statfs(path: string, done: DoneWith<StatfsRecord>): void;
  readdir(path: string, done: (error: number, names?: string[], stats?: StatRecord[]) => void): void;
  readlink(path: string, done: DoneWith<string>): void;
  open(path: string, flags: number, done: DoneWith<number>): void;
  create(path: string, mode: number, done: DoneWith<number>): void;
  /** Answers with the number of bytes, or a negated error number, as its one argument. */
  read(path: string, file: number, buffer: Buffer, length: number, position: number, done: Done): void;
  write(path: string, file: number, buffer: Buffer, length: number, position: number, done: Done): void;
  flush(path: string, file: number, done: Done): void;
  fsync(path: string, dataOnly: number, file: number, done: Done): void;
  fsyncdir(path: string, dataOnly: number, file: number, done: Done): void;
  release(path: string, file: number, done: Done): void;
  truncate(path: string, size: number, done: Done): void;
  ftruncate(path: string, file: number, size: number, done: Done): void;
  utimens(path: string, accessed: number, modified: number, done: Done): void;
  chmod(path: string, mode: number, done: Done): void;
  chown(path: string, uid: number, gid: number, done: Done): void;
  mknod(path: string, mode: number, device: number, done: Done): void;
  mkdir(path: string, mode: number, done: Done): void;
  rmdir(path: string, done: Done): void;
  unlink(path: string, done: Done): void;
  rename(from: string, to: string, done: Done): void;
  link(existing: string, name: string, done: Done): void;
  symlink(target: string, name: string, done: Done): void;
  setxattr(path: string, name: string, value: Buffer, position: number, flags: number, done: Done): void;
  getxattr(path: string, name: string, position: number, done: DoneWith<Buffer>): void;
  listxattr(path: string, done: DoneWith<string[]>): void;
  removexattr(path: string, name: string, done: Done): void;
}

export interface FuseNativeOptions {
  timeout: false;
  allowOther: boolean;
  defaultPermissions: boolean;
  fsname: string;
  entryTimeout: string;
  attrTimeout: string;
}

type Signal = (result: number, buffer: ArrayBufferLike) => void;
type RawHandler = (thread: Buffer, operation: number, ...args: unknown[]) => unknown;

interface FuseNative {
  readonly mnt: string;
  readonly ops: FuseNativeHandlers;
  /** By operation number: what its C side calls, with the record of the libfuse thread first. */
  readonly _handlers: (RawHandler | undefined)[];
  mount(done: (error: Error | null) => void): void;
  unmount(done: (error: Error | null) => void): void;
  _close(done: (error: Error | null) => void): void;
}

/** A mount through fuse-native. */
export interface MendedFuse extends FuseNative {
  /** The mount has ended from outside: nothing is left to unmount, and what is mounted there now is somebody else's. */
  gone: boolean;
}

interface FuseNativeConstructor {
  new (mountpoint: string, handlers: FuseNativeHandlers, options: FuseNativeOptions): FuseNative;
  unmount(mountpoint: string, done: (error: Error | null) => void): void;
}

const require = createRequire(import.meta.url);
const run = promisify(execFile);

/** Loads fuse-native; ENOSYS with a hint when it or libfuse 2 is missing. */
export function loadFuseNative(): FuseNativeConstructor {
  try {
    return require('fuse-native') as FuseNativeConstructor;
  } catch (cause) {
    const missing = cause instanceof Error && 'code' in cause && cause.code === 'MODULE_NOT_FOUND';
    throw new MirageError(
      missing ? 'the package fuse-native is not installed' : 'the package fuse-native cannot be loaded',
      {
        errno: 'ENOSYS',
        cause,
        hint: missing
          ? 'run `npm install fuse-native`, or choose `binding: raw`'
          : 'it needs libfuse 2 (`apt-get install libfuse2 fuse3`, macFUSE on a Mac), or choose `binding: raw`',
      },
    );
  }
}

const ERANGE = -34;

/** fuse-native with the faults mended that can be mended from outside. */
export function createFuse(
  Fuse: FuseNativeConstructor,
  mountpoint: string,
  handlers: FuseNativeHandlers,
  options: FuseNativeOptions,
): MendedFuse {
  class Mended extends Fuse implements MendedFuse {
    gone = false;

    // Its own way passes the mount point through a shell. `_close` calls `Fuse.unmount` at once, then lets go of the thread.
    override _close(done: (error: Error | null) => void): void {
      Fuse.unmount = (path, unmounted) => {
        if (this.gone) unmounted(null);
        else detach(path).then(() => unmounted(null), unmounted);
      };
      super._close(done);
    }

    // Its own way answers with more bytes than the program's buffer has, and libfuse then reads past the end of it.
    _op_getxattr(signal: Signal, path: string, name: string, buffer: Buffer): void {
      this.ops.getxattr(path, name, 0, (error, value) => {
        if (error !== 0 || value === undefined) return signal(error, buffer.buffer);
        if (buffer.length > 0 && value.length > buffer.length) return signal(ERANGE, buffer.buffer);
        value.copy(buffer);
        signal(value.length, buffer.buffer);
      });
    }

    _op_listxattr(signal: Signal, path: string, buffer: Buffer): void {
      this.ops.listxattr(path, (error, names) => {
        if (error !== 0 || names === undefined) return signal(error, buffer.buffer);
        const list = Buffer.from(names.map((name) => `${name}\0`).join(''), 'utf8');
        if (buffer.length > 0 && list.length > buffer.length) return signal(ERANGE, buffer.buffer);
        list.copy(buffer);
        signal(list.length, buffer.buffer);
      });
    }
  }
  const fuse = new Mended(mountpoint, handlers, options);
  mendModificationTime(fuse._handlers);
  return fuse;
}

/** Number of the operation in fuse-native.c, and where its thread record keeps both times (64-bit Linux builds). */
const UTIMENS = 12;
const ACCESSED_AT = 104;
const MODIFIED_AT = 112;

/**
 * fuse-native passes the access time twice, but its thread record, which comes with the call, has both. The record is
 * believed only where the access time in it is the one that was passed; else the handler gets NaN for the other.
 */
export function mendModificationTime(handlers: (RawHandler | undefined)[]): void {
  const original = handlers[UTIMENS];
  if (original === undefined) return;
  handlers[UTIMENS] = (thread, operation, path, low, high) => {
    const passed = BigInt.asIntN(64, (BigInt(high as number) << 32n) | BigInt(low as number));
    const known = thread.length >= MODIFIED_AT + 8 && thread.readBigInt64LE(ACCESSED_AT) === passed;
    const modified = known ? Number(thread.readBigInt64LE(MODIFIED_AT)) : Number.NaN;
    return original(thread, operation, path, Number(passed), 0, modified, 0);
  };
}

/** Unmounts in another process: the kernel may still want answers from this one. Not mounted any more is no error. */
async function detach(mountpoint: string): Promise<void> {
  const [command, args] =
    process.platform === 'darwin'
      ? ['diskutil', ['unmount', mountpoint]]
      : ['fusermount', ['-u', mountpoint]];
  try {
    await run(command, args);
  } catch (error) {
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr) : '';
    if (!/not (found|mounted)|Invalid argument/.test(said)) throw error;
  }
}
