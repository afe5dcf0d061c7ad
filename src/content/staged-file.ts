import { closeSync, constants, fsync, ftruncateSync, openSync, unlinkSync } from 'node:fs';
import { copyFile, open, rename } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { ObjectInfo } from '../backends/contract.js';
import { MirageError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';
import { localFiles, Stat } from '../native/local-files.js';
import type { CleanFile, Loan, ReadCursor, StagedFile, Version } from './contract.js';
import type { DiskSpace } from './disk-space.js';
import { RangeSet } from './range-set.js';
import { newCursor } from './read-ahead.js';

/** Bytes copied from the base before other requests get their turn. */
const COPY = 1024 * 1024;
/** Written bytes after which the true size on disk is asked. */
const MEASURE_AFTER = 1024 * 1024;

const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_ZERO_RANGE = 0x10;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

const flushFile = promisify(fsync);

/** A clean file that can be held once more. */
export type SharedFile = CleanFile & { retain(): void };

export interface StagedFileOwner {
  readonly space: DiskSpace;
  readonly log: Log;
  /** Makes a file with every byte of `version` a clean one, in use once. `charged`: bytes it takes on disk. */
  adopt(path: string, fd: number, version: Version, charged: number): CleanFile;
  acquire(version: Version): CleanFile;
  ended(file: WorkingFile): void;
}

/**
 * A file that programs write, over a base version whose bytes are brought in only where somebody reads them, and before a commit.
 * Below `#baseSize` the file holds what is in `#own`, the base the rest; from there on the file holds all (nothing is a hole).
 */
export class WorkingFile implements StagedFile {
  readonly fd: number;
  readonly start = 0;
  readonly transient = false;
  readonly #path: string;
  readonly #owner: StagedFileOwner;
  readonly #base: SharedFile | undefined;
  readonly #own = new RangeSet();
  #baseSize: number;
  #size: number;
  #dirty = false;
  /** Counts changes, so that a commit knows whether it saw the last one. */
  #generation = 0;
  /** Settles when the commit that reads the file has ended. */
  #frozen: Promise<void> | undefined;
  /** Somebody waited for the last commit and has not had a turn since. */
  #waited = false;
  #commits: Promise<unknown> = Promise.resolve();
  #loan: Loan | undefined;
  #charged = 0;
  #unmeasured = 0;
  #ended = false;

  constructor(owner: StagedFileOwner, path: string, base: SharedFile | undefined, size: number) {
    this.#owner = owner;
    this.#path = path;
    this.#base = base;
    this.#baseSize = base ? Math.min(size, base.version.size) : 0;
    this.#size = size;
    this.fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    base?.retain();
    if (size > 0) ftruncateSync(this.fd, size);
  }

  get size(): number {
    return this.#size;
  }

  get dirty(): boolean {
    return this.#dirty;
  }

  ensure(offset: number, length: number, cursor: ReadCursor, signal: AbortSignal): undefined | Promise<void> {
    const end = Math.min(offset + length, this.#baseSize);
    return this.#own.has(offset, end) ? undefined : this.#fill(offset, end, cursor, signal);
  }

  ensureAll(signal: AbortSignal): undefined | Promise<void> {
    return this.ensure(0, this.#baseSize, newCursor(), signal);
  }

  prepareWrite(offset: number, length: number, signal: AbortSignal): undefined | Promise<void> {
    const waiting = this.#mayChange(signal);
    if (waiting !== undefined) return waiting.then(() => this.#charge(offset, length));
    this.#charge(offset, length);
    return undefined;
  }

  wrote(offset: number, length: number): void {
    if (length === 0) return;
    this.#own.add(offset, Math.min(offset + length, this.#baseSize));
    if (offset + length > this.#size) this.#size = offset + length;
    this.#changed();
    if (this.#unmeasured >= MEASURE_AFTER) this.#measure();
  }

  truncate(size: number, signal: AbortSignal): undefined | Promise<void> {
    const waiting = this.#mayChange(signal);
    if (waiting !== undefined) return waiting.then(() => this.#truncate(size));
    this.#truncate(size);
    return undefined;
  }

  allocate(mode: number, offset: number, length: number, signal: AbortSignal): undefined | Promise<void> {
    const waiting = this.#mayChange(signal);
    if (waiting !== undefined) return waiting.then(() => this.#allocate(mode, offset, length));
    this.#allocate(mode, offset, length);
    return undefined;
  }

  seek(offset: number, whence: number): number {
    if (offset >= this.#size) throw MirageError.system('lseek', 6);
    return whence === SEEK_DATA ? this.#seekData(offset) : this.#seekHole(offset);
  }

  commit(upload: (fd: number, size: number) => Promise<ObjectInfo>): Promise<ObjectInfo> {
    const committed = this.#commits.then(() => this.#commit(upload));
    this.#commits = committed.catch(() => {});
    return committed;
  }

  settle(version: Version): CleanFile {
    const whole = this.#own.has(0, this.#baseSize) && this.#size === version.size && !this.#dirty;
    if (!whole) {
      this.discard();
      return this.#owner.acquire(version);
    }
    this.#measure();
    this.#end();
    return this.#owner.adopt(this.#path, this.fd, version, this.#charged);
  }

  discard(): void {
    if (this.#ended) return;
    this.#end();
    unlinkSync(this.#path);
    this.#close();
  }

  async keep(path: string): Promise<void> {
    try {
      await this.ensureAll(new AbortController().signal);
    } catch (error) {
      this.#owner.log.warn('a kept file lacks bytes of the version that it was based on', {
        path,
        error: error instanceof Error ? error.message : String(error),
      });
    }
    await flushFile(this.fd);
    await rename(this.#path, path).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EXDEV') throw error;
      await copyFile(this.#path, path);
      await syncPath(path);
      unlinkSync(this.#path);
    });
    this.#end();
    this.#close();
  }

  lend(loan: Loan): void {
    this.#loan = loan;
  }

  /** Leaves the file where it is, for the next start to find. */
  abandon(): void {
    if (this.#ended) return;
    this.#end();
    this.#close();
  }

  #changed(): void {
    this.#dirty = true;
    this.#generation++;
  }

  #end(): void {
    this.#ended = true;
    this.#loan?.giveBack();
    this.#base?.release();
    this.#owner.ended(this);
  }

  /** Once no upload reads the descriptor. */
  #close(): void {
    if (this.#frozen !== undefined) {
      void this.#frozen.then(() => this.#close());
      return;
    }
    closeSync(this.fd);
    this.#owner.space.give(this.#charged);
  }

  /** Brings what is missing of [offset, end) from the base. */
  async #fill(offset: number, end: number, cursor: ReadCursor, signal: AbortSignal): Promise<void> {
    const base = this.#base!;
    for (let at = offset; ; ) {
      if (this.#ended) throw closedError();
      const limit = Math.min(end, this.#baseSize);
      at = this.#own.endFrom(at);
      if (at >= limit) return;
      const length = Math.min(this.#own.nextStart(at), limit, at + COPY) - at;
      const fetched = base.ensure(at, length, cursor, signal);
      if (fetched) {
        // A write may have come in meanwhile: look again.
        await fetched;
        continue;
      }
      this.#copy(base, at, length);
      if (length === COPY) await nextTurn();
    }
  }

  #copy(base: SharedFile, offset: number, length: number): void {
    this.#charge(offset, length);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const copied = localFiles().copyFileRange(base.fd, base.start + at, this.fd, at, length - done);
      if (copied < 0) throw MirageError.system('copy_file_range', -copied);
      if (copied === 0) throw new MirageError('a cache file is shorter than it was', { errno: 'EIO' });
      this.#own.add(at, at + copied);
      done += copied;
    }
    if (this.#unmeasured >= MEASURE_AFTER) this.#measure();
  }

  /** Takes room for bytes at an offset, more than needed at times; the true figure is asked now and then. */
  #charge(offset: number, length: number): void {
    const { space } = this.#owner;
    try {
      space.take(length, true);
    } catch (error) {
      this.#measure();
      if (this.#isAllocated(offset, length)) return;
      if (!MirageError.is(error, 'ENOSPC')) throw error;
      space.take(length, true);
    }
    this.#charged += length;
    this.#unmeasured += length;
  }

  #isAllocated(offset: number, length: number): boolean {
    const files = localFiles();
    return (
      files.lseek(this.fd, offset, SEEK_DATA) === offset &&
      files.lseek(this.fd, offset, SEEK_HOLE) >= offset + length
    );
  }

  #measure(): void {
    const files = localFiles();
    if (files.statFd(this.fd) < 0) return;
    const bytes = files.stat[Stat.blocks]! * 512;
    this.#owner.space.give(this.#charged - bytes);
    this.#charged = bytes;
    this.#unmeasured = 0;
  }

  #truncate(size: number): void {
    if (size === this.#size) return;
    this.#baseSize = Math.min(this.#baseSize, size);
    ftruncateSync(this.fd, size);
    const shrinks = size < this.#size;
    this.#size = size;
    if (shrinks) this.#measure();
    this.#changed();
  }

  #allocate(mode: number, offset: number, length: number): void {
    const end = offset + length;
    const keepsSize = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
    const kind = mode & ~FALLOC_FL_KEEP_SIZE;
    const punches = kind === FALLOC_FL_PUNCH_HOLE && keepsSize;
    const zeroes = kind === FALLOC_FL_ZERO_RANGE;
    if (kind !== 0 && !punches && !zeroes) throw MirageError.system('fallocate', 95);
    if (punches || zeroes) {
      this.#fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
      this.#own.add(offset, Math.min(end, this.#baseSize));
      this.#changed();
    }
    if (!punches) {
      this.#charge(offset, length);
      this.#fallocate(FALLOC_FL_KEEP_SIZE, offset, length);
      if (!keepsSize && end > this.#size) this.#truncate(end);
    }
    this.#measure();
  }

  #fallocate(mode: number, offset: number, length: number): void {
    const result = localFiles().fallocate(this.fd, mode, offset, length);
    if (result < 0) throw MirageError.system('fallocate', -result);
  }

  /** The next offset that the base has and the file has not, from `at` on. */
  #nextMissing(at: number): number {
    const missing = this.#own.endFrom(at);
    return missing < this.#baseSize ? missing : Number.POSITIVE_INFINITY;
  }

  #seekData(offset: number): number {
    const missing = this.#nextMissing(offset);
    const data = localFiles().lseek(this.fd, offset, SEEK_DATA);
    const found = Math.min(missing, data < 0 ? Number.POSITIVE_INFINITY : data);
    if (found >= this.#size) throw MirageError.system('lseek', 6);
    return found;
  }

  #seekHole(offset: number): number {
    for (let at = offset; at < this.#size; ) {
      if (this.#nextMissing(at) === at) {
        at = Math.min(this.#own.nextStart(at), this.#baseSize);
        continue;
      }
      const hole = localFiles().lseek(this.fd, at, SEEK_HOLE);
      if (hole < 0) throw MirageError.system('lseek', -hole);
      if (hole === at) return at;
      at = hole;
    }
    return this.#size;
  }

  /** Undefined: nobody reads the bytes now. */
  #mayChange(signal: AbortSignal): undefined | Promise<void> {
    const waiting = this.#frozen === undefined ? this.#loan?.recall() : this.#thawed(signal);
    return waiting?.then(() => this.#mayChange(signal));
  }

  async #thawed(signal: AbortSignal): Promise<void> {
    while (this.#frozen !== undefined) {
      this.#waited = true;
      await abortable(this.#frozen, signal);
    }
  }

  async #commit(upload: (fd: number, size: number) => Promise<ObjectInfo>): Promise<ObjectInfo> {
    // Writers that waited for the last commit have their turn before this one freezes the file again.
    if (this.#waited) {
      this.#waited = false;
      await nextTurn();
    }
    await this.ensureAll(new AbortController().signal);
    if (this.#ended) throw closedError();
    let thaw = () => {};
    this.#frozen = new Promise((resolve) => {
      thaw = resolve;
    });
    const generation = this.#generation;
    try {
      const info = await upload(this.fd, this.#size);
      if (generation === this.#generation) this.#dirty = false;
      return info;
    } finally {
      this.#frozen = undefined;
      thaw();
    }
  }
}

const closedError = (): MirageError => new MirageError('the file is closed', { errno: 'EBADF' });

async function syncPath(path: string): Promise<void> {
  await using file = await open(path);
  await file.sync();
}

function abortable(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = () => reject(new MirageError('interrupted', { errno: 'EINTR' }));
    if (signal.aborted) return aborted();
    signal.addEventListener('abort', aborted, { once: true });
    void promise.then(() => {
      signal.removeEventListener('abort', aborted);
      resolve();
    });
  });
}
