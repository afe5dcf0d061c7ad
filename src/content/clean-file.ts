import type { ObjectInfo } from '../backends/contract.js';
import { MirageError } from '../errors/mirage-error.js';
import { localFiles, Stat } from '../native/local-files.js';
import type { StorePort } from '../ports/store-port.js';
import { BlockChecksums, blockEnd, blockStart } from './block-checksums.js';
import { verifyBlocks } from './block-verification.js';
import type { Signature } from './content-index.js';
import type { CleanFile, ReadCursor, Version } from './contract.js';
import type { DiskSpace } from './disk-space.js';
import { Fetcher, interrupted, PART, staleError } from './fetcher.js';
import { RangeSet } from './range-set.js';
import { FIRST, follow, newCursor, type ReadAheadBudget, widen } from './read-ahead.js';

/** Bytes that are held against their checksums at a time. */
const VERIFIED_AT_ONCE = 1024 * 1024;
/** Of a cache that an object does not fit into, one reader has this part ahead of itself. */
const SHARE_AHEAD = 0.25;
const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;

export interface CleanFileOwner {
  readonly port: StorePort;
  readonly space: DiskSpace;
  readonly readAhead: ReadAheadBudget;
  /** The file is as it stays for now: its row may be written. */
  settled(file: CachedFile): void;
  /** Nobody uses the file and nothing writes to it. */
  rest(file: CachedFile): void;
  /** The file is of no use to later readers. */
  doom(file: CachedFile): void;
  /** Blocks of the file were not what was once fetched. */
  damaged(key: string): void;
}

/** What the index, or nobody yet, knows of the content of a file. */
export interface KnownContent {
  /** In the file; to be held against the checksums. */
  readonly ranges: RangeSet;
  readonly checksums?: Uint8Array;
  /** Bytes that count as used on the disk. */
  readonly charged: number;
  readonly signature?: Signature;
}

export class CachedFile implements CleanFile {
  readonly id: number;
  readonly location: number;
  readonly version: Version;
  readonly fd: number;
  readonly start = 0;
  readonly shared = false;
  readonly transient: boolean;
  /** Bytes that count as used on the disk. */
  charged: number;
  references = 0;
  /** Has no name any more; goes with its last user. */
  doomed = false;
  signature: Signature | undefined;
  readonly checksums: BlockChecksums;
  readonly #owner: CleanFileOwner;
  readonly #fetcher: Fetcher;
  #stale = false;
  #verifying: Promise<void> | undefined;
  #whenIdle: (() => void) | undefined;

  constructor(
    owner: CleanFileOwner,
    id: number,
    location: number,
    version: Version,
    fd: number,
    known: KnownContent,
    present = new RangeSet(),
  ) {
    this.#owner = owner;
    this.id = id;
    this.location = location;
    this.version = version;
    this.fd = fd;
    this.charged = known.charged;
    this.signature = known.signature;
    this.transient = version.size > owner.space.limit;
    this.checksums = new BlockChecksums(version.size, known.checksums);
    const content = {
      present,
      unverified: known.ranges,
      checksums: this.checksums,
      givesUp: this.transient,
    };
    this.#fetcher = new Fetcher(owner.port, version, fd, content, {
      charge: (bytes) => this.#charge(bytes),
      refund: (bytes) => this.#refund(bytes),
      mayAhead: (bytes) => owner.readAhead.take(bytes),
      aheadEnded: (bytes) => owner.readAhead.give(bytes),
      idle: () => this.#idle(),
      stale: () => {
        this.#stale = true;
        owner.doom(this);
      },
    });
  }

  /** Bytes that the file holds, whether they were held against their checksums or not. */
  get bytes(): number {
    return this.#fetcher.present.bytes + this.#fetcher.unverified.bytes;
  }

  get complete(): boolean {
    return this.#fetcher.present.bytes === this.version.size;
  }

  get busy(): boolean {
    return this.#fetcher.busy || this.#verifying !== undefined;
  }

  /** What the file holds, in whole blocks. */
  savedRanges(): RangeSet {
    const saved = new RangeSet();
    const { size } = this.version;
    for (const ranges of [this.#fetcher.present, this.#fetcher.unverified]) {
      for (const [start, end] of ranges.ranges()) saved.add(start, end);
    }
    const whole = new RangeSet();
    for (const [start, end] of saved.ranges()) {
      whole.add(blockEnd(start), end === size ? end : blockStart(end));
    }
    return whole;
  }

  /** The file is as it was left: same inode, size and change time. Only while nothing writes to it. */
  get intact(): boolean {
    const { signature } = this;
    const files = localFiles();
    if (!signature || files.statFd(this.fd) < 0) return false;
    const { stat } = files;
    return (
      stat[Stat.size] === this.version.size &&
      stat[Stat.ino] === signature.ino &&
      stat[Stat.changedSeconds] === signature.changedSeconds &&
      stat[Stat.changedNanoseconds] === signature.changedNanoseconds
    );
  }

  sign(): void {
    const files = localFiles();
    const result = files.statFd(this.fd);
    if (result < 0) throw MirageError.system('fstat', -result);
    const { stat } = files;
    this.signature = {
      ino: stat[Stat.ino]!,
      changedSeconds: stat[Stat.changedSeconds]!,
      changedNanoseconds: stat[Stat.changedNanoseconds]!,
    };
  }

  retain(): void {
    this.references++;
  }

  begin(signal: AbortSignal): undefined | Promise<ObjectInfo | undefined> {
    const { size } = this.version;
    // Who hears of the version reads on: what its first read needs comes along.
    const end = size <= PART ? size : FIRST;
    const { present, unverified } = this.#fetcher;
    if (present.has(0, end) || unverified.touches(0, end)) return undefined;
    try {
      this.#mustBeCurrent();
      this.#fetcher.request(0, end);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#fetcher.begun(0, end, signal);
  }

  ensure(offset: number, length: number, cursor: ReadCursor, signal: AbortSignal): undefined | Promise<void> {
    if (this.complete) return undefined;
    const { size } = this.version;
    const end = Math.min(offset + length, size);
    if (offset >= end) return undefined;
    const jumped = cursor.window > 0;
    const sequential = follow(cursor, offset, end, this.#fetcher.frontier(cursor.next));
    // What was fetched ahead of where the only reader was is of no use where it is now.
    const useless = jumped && !sequential && !this.#fetcher.sequential;
    if (useless && this.references === 1) this.#fetcher.dropUnwanted();
    return this.#ensure(offset, end, cursor, signal);
  }

  ensureAll(signal: AbortSignal): undefined | Promise<void> {
    return this.complete ? undefined : this.#fetchAll(signal);
  }

  release(): void {
    if (--this.references > 0) return;
    this.#fetcher.dropUnwanted();
    if (!this.busy) this.#owner.rest(this);
  }

  /** Stops what is under way; resolves when nothing writes to the file any more. */
  async stop(): Promise<void> {
    this.#stale = true;
    this.#fetcher.stop();
    await this.#verifying?.catch(() => undefined);
    if (!this.#fetcher.busy) return;
    await new Promise<void>((resolve) => {
      this.#whenIdle = resolve;
    });
  }

  /** Frees bytes on the disk, those that came first; returns how many. Only of a transient file. */
  giveUp(bytes: number): number {
    let freed = 0;
    while (freed < bytes) {
      const range = this.#fetcher.giveUpOldest();
      if (range === undefined) break;
      const length = range.end - range.start;
      localFiles().fallocate(this.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range.start, length);
      this.#refund(length);
      freed += length;
    }
    if (freed > 0 && !this.busy) this.#settle();
    return freed;
  }

  #ensure(offset: number, end: number, cursor: ReadCursor, signal: AbortSignal): undefined | Promise<void> {
    const { present, unverified } = this.#fetcher;
    if (!present.has(offset, end)) {
      if (unverified.touches(offset, end)) return this.#verified(offset, end, cursor, signal);
      try {
        this.#mustBeCurrent();
        this.#request(offset, end, cursor);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    if (this.version.size > PART) this.#readAhead(end, cursor);
    return present.has(offset, end) ? undefined : this.#fetcher.wait(offset, end, signal);
  }

  #mustBeCurrent(): void {
    if (this.#stale) throw staleError(this.version.key);
  }

  /** What the read needs, as large as suits the reader. */
  #request(offset: number, end: number, cursor: ReadCursor): void {
    const { size } = this.version;
    if (size <= PART && !this.transient) {
      this.#fetcher.request(0, size);
      return;
    }
    const from = blockStart(offset);
    const needed = Math.min(blockEnd(end), size);
    // Under way already: how much more is for reading ahead to say.
    if (this.#fetcher.frontier(from) >= needed) return;
    const wanted = Math.max(needed, Math.min(from + Math.min(cursor.window, PART), size));
    try {
      this.#fetcher.request(from, wanted);
    } catch (error) {
      if (wanted === needed || !MirageError.is(error, 'ENOSPC')) throw error;
      this.#fetcher.request(from, needed);
    }
  }

  #readAhead(next: number, cursor: ReadCursor): void {
    const { size } = this.version;
    if (this.#stale) return;
    const frontier = this.#fetcher.frontier(next);
    const largest = this.transient ? this.#owner.space.limit * SHARE_AHEAD : undefined;
    if (frontier >= size) return;
    const wanted = widen(cursor, frontier - next, PART, largest);
    if (wanted === undefined) return;
    try {
      this.#fetcher.request(frontier, Math.min(blockEnd(next + wanted), size), true);
    } catch (error) {
      // No room to read ahead is no failure of the read at hand.
      if (!MirageError.is(error, 'ENOSPC')) throw error;
    }
  }

  async #fetchAll(signal: AbortSignal): Promise<void> {
    const { size } = this.version;
    if (this.transient) {
      throw new MirageError(`${this.version.key} does not fit into the cache`, {
        errno: 'ENOSPC',
        hint: 'raise cache.size',
      });
    }
    const cursor = newCursor();
    for (let offset = 0; offset < size; offset += PART) await this.ensure(offset, PART, cursor, signal);
  }

  /** Bytes from before the last start are held against their checksums before anybody gets them. */
  async #verified(offset: number, end: number, cursor: ReadCursor, signal: AbortSignal): Promise<void> {
    while (this.#verifying !== undefined) await this.#verifying;
    const from = blockStart(offset);
    const to = Math.min(this.version.size, Math.max(blockEnd(end), from + VERIFIED_AT_ONCE));
    if (this.#fetcher.unverified.touches(from, to)) {
      this.#verifying = this.#verify(from, to).finally(() => {
        this.#verifying = undefined;
        if (!this.#fetcher.busy) this.#idle();
      });
      await this.#verifying;
    }
    if (signal.aborted) throw interrupted();
    await this.#ensure(offset, end, cursor, signal);
  }

  async #verify(from: number, to: number): Promise<void> {
    let damaged = 0;
    const kept = new RangeSet(this.#fetcher.unverified.bounds);
    kept.remove(0, from);
    kept.remove(to, this.version.size);
    for (const [start, end] of kept.ranges()) {
      await verifyBlocks(this.fd, start, end, this.checksums, (at, length, right) => {
        if (right) {
          this.#fetcher.verified(at, at + length);
          return;
        }
        damaged += length;
        this.#fetcher.forget(at, at + length);
      });
    }
    if (damaged === 0) return;
    this.#refund(damaged);
    this.#owner.damaged(this.version.key);
  }

  #charge(bytes: number): void {
    // One that cannot fit must not push everything else out, nor exceed the limit.
    this.#owner.space.take(bytes, this.transient);
    this.charged += bytes;
  }

  #refund(bytes: number): void {
    this.#owner.space.give(bytes);
    this.charged -= bytes;
  }

  #idle(): void {
    if (this.#verifying !== undefined) return;
    this.#settle();
    if (this.references === 0) this.#owner.rest(this);
    this.#whenIdle?.();
  }

  #settle(): void {
    this.sign();
    if (!this.doomed) this.#owner.settled(this);
  }
}
