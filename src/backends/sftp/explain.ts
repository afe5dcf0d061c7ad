/**
 * What FAILURE hides. OpenSSH has words of its own for ENOENT, EACCES and EINVAL only, everything else is FAILURE: so the state is looked
 * at, which tells what rename(2), mkdir(2) and the others would have said.
 */
import type { ErrnoName } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { WireAttributes } from './attributes.js';
import { renamed, statusOf } from './errors.js';
import { Status } from './packet.js';
import type { Requests, Volume } from './requests.js';

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const NAME_BYTES = 255;
const PATH_BYTES = 4095;

export const isDirectory = (found: WireAttributes | undefined): boolean =>
  ((found?.mode ?? 0) & S_IFMT) === S_IFDIR;
export const isSymlink = (found: WireAttributes | undefined): boolean =>
  ((found?.mode ?? 0) & S_IFMT) === S_IFLNK;

/** What is at a path; undefined where nothing is. */
export async function look(ask: Requests, path: string): Promise<WireAttributes | undefined> {
  try {
    return await ask.lstat(path);
  } catch (error) {
    if (MirageError.is(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Which name was meant by the status of a refused change. */
export interface Refusal {
  readonly operation:
    | 'open'
    | 'list'
    | 'mkdir'
    | 'rmdir'
    | 'unlink'
    | 'rename'
    | 'symlink'
    | 'link'
    | 'setattr'
    | 'readlink';
  readonly path: string;
  /** The second name of rename and link. */
  readonly to?: string;
  readonly exclusive?: boolean;
  readonly write?: boolean;
}

/** Operations for which "permission denied" means that the file is another's. */
const OWNERS = new Set<Refusal['operation']>(['setattr']);

/** Runs a request; the error of the server leaves with the errno that the host's own kernel would have given. */
export async function explained<T>(ask: Requests, refusal: Refusal, request: Promise<T>): Promise<T> {
  try {
    return await request;
  } catch (error) {
    if (!MirageError.is(error)) throw error;
    const errno = await trueErrno(ask, refusal, statusOf(error)).catch(() => undefined);
    if (errno === undefined || errno === error.errno) throw error;
    throw renamed(error, errno, HINTS[errno]);
  }
}

/** A failed write to an open file: the disk is full, or it is no longer possible. */
export async function explainWrite(ask: Requests, handle: string, error: unknown): Promise<unknown> {
  if (statusOf(error) !== Status.failure || !ask.session.offers('fstatvfs@openssh.com')) return error;
  const volume = await ask.fstatvfs(handle).catch(() => undefined);
  const errno = volume && full(volume);
  return errno === undefined ? error : renamed(error as MirageError, errno, HINTS[errno]);
}

const HINTS: Partial<Record<ErrnoName, string>> = {
  ENOSPC: 'free space on the disk of the server',
  EROFS: 'the file system of the server is mounted read-only there',
};

async function trueErrno(
  ask: Requests,
  refusal: Refusal,
  status: number | undefined,
): Promise<ErrnoName | undefined> {
  const { operation, path, to } = refusal;
  switch (status) {
    case Status.permissionDenied:
      if (operation === 'link' && isDirectory(await look(ask, path))) return 'EPERM';
      return OWNERS.has(operation) ? 'EPERM' : 'EACCES';
    case Status.badMessage:
      return [path, to ?? ''].some(isTooLong) ? 'ENAMETOOLONG' : 'EINVAL';
    case Status.noSuchFile:
      return (await standsInTheWay(ask, refusal)) ? 'ENOTDIR' : 'ENOENT';
    case Status.failure:
      break;
    default:
      return undefined;
  }
  if (isTooLong(path) || isTooLong(to ?? '')) return 'ENAMETOOLONG';
  return (await fromState(ask, refusal)) ?? (await fromVolume(ask, to ?? path));
}

async function fromState(ask: Requests, refusal: Refusal): Promise<ErrnoName | undefined> {
  const { operation, path, to, exclusive, write } = refusal;
  const found = await look(ask, path);
  switch (operation) {
    case 'mkdir':
    case 'symlink':
      return found === undefined ? undefined : 'EEXIST';
    case 'open':
      if (exclusive && found !== undefined) return 'EEXIST';
      if (write && isDirectory(found)) return 'EISDIR';
      return undefined;
    case 'rmdir':
      if (found === undefined) return 'ENOENT';
      if (!isDirectory(found)) return 'ENOTDIR';
      return (await isEmpty(ask, path)) ? 'EBUSY' : 'ENOTEMPTY';
    case 'unlink':
      return isDirectory(found) ? 'EISDIR' : undefined;
    case 'link': {
      const target = await look(ask, to!);
      if (target !== undefined) return 'EEXIST';
      return isDirectory(found) ? 'EPERM' : await acrossVolumes(ask, path, to!);
    }
    case 'rename': {
      const target = await look(ask, to!);
      if (target === undefined) return await acrossVolumes(ask, path, to!);
      if (exclusive) return 'EEXIST';
      if (isDirectory(found) && !isDirectory(target)) return 'ENOTDIR';
      if (!isDirectory(found) && isDirectory(target)) return 'EISDIR';
      if (isDirectory(target) && !(await isEmpty(ask, to!))) return 'ENOTEMPTY';
      return await acrossVolumes(ask, path, to!);
    }
    default:
      return undefined;
  }
}

async function fromVolume(ask: Requests, path: string): Promise<ErrnoName | undefined> {
  const volume = await volumeOf(ask, path);
  if (volume === undefined) return undefined;
  return volume.readOnly ? 'EROFS' : full(volume);
}

async function acrossVolumes(ask: Requests, from: string, to: string): Promise<ErrnoName | undefined> {
  const [one, other] = await Promise.all([volumeOf(ask, from), volumeOf(ask, to)]);
  return one !== undefined && other !== undefined && one.id !== other.id ? 'EXDEV' : undefined;
}

/** Of the directory: the name itself may not be there. */
async function volumeOf(ask: Requests, path: string): Promise<Volume | undefined> {
  if (!ask.session.offers('statvfs@openssh.com')) return undefined;
  return await ask.statvfs(directoryOf(path)).catch(() => undefined);
}

async function isEmpty(ask: Requests, path: string): Promise<boolean> {
  const handle = await ask.opendir(path);
  try {
    for (;;) {
      const entries = await ask.readdir(handle, 'list');
      if (entries.length === 0) return true;
      if (entries.some(({ name }) => name !== '.' && name !== '..')) return false;
    }
  } finally {
    void ask.close(handle).catch(() => undefined);
  }
}

/** ENOTDIR is "no such file" there, too: a file is where a directory should be. */
async function standsInTheWay(ask: Requests, { operation, path, to }: Refusal): Promise<boolean> {
  const [found, directory] = await Promise.all([look(ask, path), look(ask, directoryOf(path))]);
  if (found === undefined) {
    const above = isSymlink(directory) ? await ask.stat(directoryOf(path)).catch(() => undefined) : directory;
    return above !== undefined && !isDirectory(above);
  }
  if (operation === 'rmdir' || operation === 'list') return !isDirectory(found);
  if (operation !== 'rename' || !isDirectory(found)) return false;
  const target = await look(ask, to!);
  return target !== undefined && !isDirectory(target);
}

const full = ({ blocksAvailable, files, filesFree }: Volume): ErrnoName | undefined =>
  blocksAvailable === 0 || (files > 0 && filesFree === 0) ? 'ENOSPC' : undefined;

const isTooLong = (path: string): boolean =>
  path.length > PATH_BYTES || path.split('/').some((name) => name.length > NAME_BYTES);

const directoryOf = (path: string): string => path.slice(0, Math.max(1, path.lastIndexOf('/')));
