/**
 * The content side of the file system: clean cache files filled range by range from the store, and staged files that
 * programs write. All of it lives on the file-system thread; the bytes move between descriptors on the I/O side.
 */
import type { ObjectInfo, Validator } from '../backends/contract.js';
import type { MountIndex } from '../ports/store-port.js';

/** One version of one object. */
export interface Version {
  readonly mount: MountIndex;
  readonly key: string;
  readonly validator: Validator;
  readonly size: number;
}

/** Where a handle reads, so that the window in front of it can grow and shrink. One per open handle. */
export interface ReadCursor {
  /** End of the last read, bytes. */
  next: number;
  /** Bytes to have ahead of `next`; 0: the handle jumps about. */
  window: number;
}

/** Bytes in a descriptor. */
export interface Content {
  readonly fd: number;
  /** Where in `fd` the first byte is. */
  readonly start: number;
  /** The content is larger than the cache, and bytes give way to others as it is read: whoever answers from `fd` copies them in the same turn. */
  readonly transient: boolean;
}

/**
 * The cache file of one version; shared by all who read that version, counted by `acquire`/`release`.
 * Its descriptor stays valid from acquire to release.
 */
export interface CleanFile extends Content {
  readonly version: Version;
  /** Every byte is in the file, and right. */
  readonly complete: boolean;
  /** Small objects share a file: `fd` holds others too. */
  readonly shared: boolean;
  /**
   * Begins to fetch what a first read needs; resolves as soon as the store says which version it sends, attributes included.
   * undefined: nothing has to be fetched, so nothing new is heard. Fails as `ensure` does.
   */
  begin(signal: AbortSignal): undefined | Promise<ObjectInfo | undefined>;
  /**
   * Returns undefined when [offset, offset + length) is in the file, else a promise of it. Fetches ahead along `cursor`.
   * Waiters wait for their own bytes only. ESTALE: the object is another version by now. EINTR: aborted.
   */
  ensure(offset: number, length: number, cursor: ReadCursor, signal: AbortSignal): undefined | Promise<void>;
  /** The whole object, for passthrough, hydration and staging. */
  ensureAll(signal: AbortSignal): undefined | Promise<void>;
  release(): void;
}

/** A file that is being written. Shared by all opens of its node. */
export interface StagedFile extends Content {
  readonly size: number;
  /** Changed since `committing` was called last (or ever). */
  readonly dirty: boolean;
  /** Bytes from the base that are not in the file yet: fetches them. Undefined: nothing to do. */
  ensure(offset: number, length: number, cursor: ReadCursor, signal: AbortSignal): undefined | Promise<void>;
  ensureAll(signal: AbortSignal): undefined | Promise<void>;
  /**
   * Call before bytes are written to `fd` at [offset, offset + length), and `wrote` after. Waits for a commit that is reading
   * the file; undefined: write now. Throws ENOSPC (or rejects with it) when the cache directory may not grow.
   */
  prepareWrite(offset: number, length: number, signal: AbortSignal): undefined | Promise<void>;
  /** In the same turn as the write: nothing may be awaited between `prepareWrite` (or its promise) and the write. */
  wrote(offset: number, length: number): void;
  /** Changes the size; waits for a running commit. */
  truncate(size: number, signal: AbortSignal): undefined | Promise<void>;
  /** fallocate(2) modes: allocate, keep size, punch hole, zero range. */
  allocate(mode: number, offset: number, length: number, signal: AbortSignal): undefined | Promise<void>;
  /** SEEK_DATA 3 or SEEK_HOLE 4 of lseek(2); missing base bytes count as data. Throws ENXIO past the end. */
  seek(offset: number, whence: number): number;
  /**
   * Fetches what is missing of the base, then runs `upload` with a file that does not change meanwhile; clears `dirty` if it
   * succeeds and nothing was written since. One at a time.
   */
  commit(upload: (fd: number, size: number) => Promise<ObjectInfo>): Promise<ObjectInfo>;
  /** After a commit: the file becomes the clean cache file of the version that was committed. Ends this staged file; `fd` lives on in the result. */
  settle(version: Version): CleanFile;
  /** Drops the bytes. */
  discard(): void;
  /** Moves the bytes to `path` (a conflict record keeps them). Ends this staged file. */
  keep(path: string): Promise<void>;
  /** Somebody else has the same bytes under another name, and is asked before they change. */
  lend(loan: Loan): void;
}

/** The other holder of the bytes of a staged file. */
export interface Loan {
  /** Undefined: they may change now; else a promise after which it is to be asked again. */
  recall(): undefined | Promise<void>;
  /** The staged file has ended: they will not change any more. */
  giveBack(): void;
}

export interface ContentStore {
  /** Bytes on disk now, and the limit. */
  readonly used: number;
  readonly limit: number;
  /** Says what a mount index stands for, the same after a restart (endpoint, bucket, prefix). Once per mount, before its first `acquire`. */
  identify(mount: MountIndex, identity: string): void;
  /** The clean file of a version, empty at first. `alone`: one that is not shared. */
  acquire(version: Version, alone?: boolean): CleanFile;
  /** A new empty file, or one based on a version whose bytes are fetched only where needed (`size`: how much of it is kept). */
  stage(base?: { file: CleanFile; size: number }): StagedFile;
  newCursor(): ReadCursor;
  /**
   * The same bytes are called otherwise by the store. `between` may change how the cache file looks from outside (its link count), and is
   * called once whether there is such a file or not.
   */
  relabel(version: Version, validator: Validator, between: () => void): void;
  /** Bytes of a version that are here. */
  cached(version: Version): number;
  /** What is cached of an object is not evicted. */
  isPinned(mount: MountIndex, key: string): boolean;
  pin(mount: MountIndex, key: string, pinned: boolean): void;
  /** Forgets cached versions of an object. */
  drop(mount: MountIndex, key: string): void;
  close(): Promise<void>;
}
