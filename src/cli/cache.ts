/** `mirage cache`: what is cached, fetching it ahead, letting it go. All of it is asked of the mount itself, file by file. */
import { constants, type Dirent, realpathSync } from 'node:fs';
import { lstat, open, opendir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { isOurs, mountOf } from '../daemon/mount-table.js';
import { MirageError } from '../errors/mirage-error.js';
import { localFiles } from '../native/local-files.js';
import { exitCodes } from './exit-codes.js';
import type { Output } from './output.js';
import { Progress } from './progress.js';

const CACHED = 'user.mirage.cached';
/** Open without opening: the store is not asked for the content. */
const O_PATH = 0o10000000;
/** Files fetched at a time. */
const PARALLEL = 4;
const CHUNK = 2 ** 20;

interface CachedFile {
  readonly path: string;
  readonly size: number;
}

/** How much of a file or tree is cached. */
export async function cacheStat(path: string, json: boolean, output: Output): Promise<number> {
  const sum = { files: 0, bytes: 0, cachedFiles: 0, cachedBytes: 0 };
  for await (const { path: file, size } of filesBelow(path)) {
    const cached = cachedBytes(file);
    sum.files++;
    sum.bytes += size;
    sum.cachedBytes += Math.min(cached, size);
    if (cached >= size) sum.cachedFiles++;
  }
  if (json) output.json({ path: resolve(path), ...sum });
  else {
    output.table(
      ['PATH', 'FILES', 'CACHED', 'SIZE', 'CACHED'],
      [
        [
          path,
          String(sum.files),
          String(sum.cachedFiles),
          inMebibytes(sum.bytes),
          inMebibytes(sum.cachedBytes),
        ],
      ],
    );
  }
  return exitCodes.ok;
}

/** Fetches files into the cache, several at a time; goes on when one cannot be had. */
export async function cacheWarm(path: string, output: Output): Promise<number> {
  const progress = new Progress(output, 'fetched');
  const failed: string[] = [];
  const files = filesBelow(path);
  const worker = async (): Promise<void> => {
    for (;;) {
      const next = await files.next();
      if (next.done) return;
      const { path: file } = next.value;
      try {
        await readThrough(file, (bytes) => progress.add(0, bytes));
        progress.add(1, 0);
      } catch (error) {
        failed.push(`${file}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  };
  const whole = async (): Promise<void> => {
    if (!progress.isShown) return;
    for await (const { size } of filesBelow(path)) progress.expect(size);
  };
  await Promise.all([whole(), ...Array.from({ length: PARALLEL }, worker)]);
  progress.end();
  if (failed.length === 0) return exitCodes.ok;
  output.problem({
    what: `${failed.length} files could not be fetched`,
    why: failed.slice(0, 3).join('; '),
    remedy: 'see .mirage/last-error below the mount point, then run it again: what came stays',
  });
  return exitCodes.failure;
}

/** Forgets what is cached of a file or tree. What is pinned, and what is not on its store yet, stays. */
export async function cacheDrop(path: string, output: Output): Promise<number> {
  const progress = new Progress(output, 'dropped');
  for await (const { path: file } of filesBelow(path)) {
    const bytes = cachedBytes(file);
    if (bytes === 0) continue;
    const result = withPath(file, (fd) => localFiles().setxattr(fd, CACHED, Buffer.from('none'), 0));
    if (result < 0) throw MirageError.system(`drop ${file}`, -result);
    progress.add(1, bytes);
  }
  progress.end();
  return exitCodes.ok;
}

async function readThrough(path: string, read: (bytes: number) => void): Promise<void> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafeSlow(CHUNK);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, CHUNK, null);
      if (bytesRead === 0) return;
      read(bytesRead);
    }
  } finally {
    await file.close();
  }
}

function cachedBytes(path: string): number {
  const value = Buffer.alloc(32);
  const length = withPath(path, (fd) => localFiles().getxattr(fd, CACHED, value));
  return length < 0 ? 0 : Number(value.toString('latin1', 0, length));
}

function withPath(path: string, work: (fd: number) => number): number {
  const fd = localFiles().openPath(path, O_PATH | constants.O_NOFOLLOW);
  if (fd < 0) return fd;
  try {
    return work(fd);
  } finally {
    localFiles().close(fd);
  }
}

/** Regular files at and below a path, on the same mount. */
async function* filesBelow(path: string): AsyncGenerator<CachedFile> {
  const top = await lstat(path).catch((cause: NodeJS.ErrnoException) => {
    throw new MirageError(`${path} cannot be read`, {
      errno: cause.code === 'ENOENT' ? 'ENOENT' : 'EIO',
      cause,
      hint: 'name a file or folder below a mount point',
    });
  });
  const mount = mountOf(realpathSync(path));
  if (mount === undefined || !isOurs(mount)) {
    throw new MirageError(`${path} is not on a mount of Mirage`, {
      errno: 'ENOENT',
      cause: new Error(`it lies on ${mount?.path ?? '/'} (${mount?.type ?? 'unknown'})`),
      hint: 'name a file or folder below a mount point: mirage status',
    });
  }
  if (top.isFile()) yield { path, size: top.size };
  if (top.isDirectory()) yield* below(path, top.dev);
}

async function* below(folder: string, device: number): AsyncGenerator<CachedFile> {
  const folders: string[] = [];
  for await (const entry of (await opendir(folder)) as AsyncIterable<Dirent>) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) folders.push(path);
    if (!entry.isFile()) continue;
    const { size } = await lstat(path);
    yield { path, size };
  }
  for (const path of folders) {
    if ((await lstat(path)).dev === device) yield* below(path, device);
  }
}

const inMebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
