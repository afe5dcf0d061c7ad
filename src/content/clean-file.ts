import { MirageError } from '../errors/mirage-error.js';
import { localFiles, Stat } from '../native/local-files.js';
import type { StorePort } from '../ports/store-port.js';
import type { Signature } from './content-index.js';
import type { CleanFile, ReadCursor, Version } from './contract.js';
import type { DiskSpace } from './disk-space.js';
import { Fetcher, PART } from './fetcher.js';
import type { RangeSet } from './range-set.js';

/** Unit of random reads, bytes. */
const BLOCK = 128 * 1024;
/** First request of a large object, bytes: what a look at its head needs. */
const FIRST = 1024 * 1024 + BLOCK;
/** Bytes asked for ahead of a sequential reader: it has between two and three parts under way. */
const AHEAD = 2 * PART;
/** Reads of one sequential pass reach us out of order within the kernel's own read-ahead, bytes. */
const SLACK = 1024 * 1024;

export interface CleanFileOwner {
  readonly port: StorePort;
  readonly space: DiskSpace;
  /** The file is as it stays for now: its row may be written. */
  settled(file: CachedFile): void;
  /** Nobody uses the file and nothing writes to it. */
  rest(file: CachedFile): void;
  /** The file is of no use to later readers. */
  doom(file: CachedFile): void;
}

export class CachedFile implements CleanFile {
  readonly id: number;
  readonly location: number;
  readonly version: Version;
  readonly fd: number;
  /** Bytes that count as used on the disk. */
  charged: number;
  references = 0;
  /** Has no name any more; goes with its last user. */
  doomed = false;
  signature: Signature | undefined;
  readonly #owner: CleanFileOwner;
  readonly #fetcher: Fetcher;
  #stale = false;
  #whenIdle: (() => void) | undefined;

  constructor(
    owner: CleanFileOwner,
    id: number,
    location: number,
    version: Version,
    fd: number,
    present: RangeSet,
    charged: number,
  ) {
    this.#owner = owner;
    this.id = id;
    this.location = location;
    this.version = version;
    this.fd = fd;
    this.charged = charged;
    this.#fetcher = new Fetcher(owner.port, version, fd, present, {
      charge: (bytes) => {
        owner.space.take(bytes, false);
        this.charged += bytes;
      },
      refund: (bytes) => {
        owner.space.give(bytes);
        this.charged -= bytes;
      },
      idle: () => this.#idle(),
      stale: () => {
        this.#stale = true;
        owner.doom(this);
      },
    });
  }

  get present(): RangeSet {
    return this.#fetcher.present;
  }

  get complete(): boolean {
    return this.#fetcher.present.bytes === this.version.size;
  }

  get busy(): boolean {
    return this.#fetcher.busy;
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

  ensure(offset: number, length: number, cursor: ReadCursor, signal: AbortSignal): undefined | Promise<void> {
    if (this.complete) return undefined;
    const { size } = this.version;
    const end = Math.min(offset + length, size);
    if (offset >= end) return undefined;
    follow(cursor, offset, end);
    if (!this.present.has(offset, end)) {
      if (this.#stale) return Promise.reject(staleError(this.version.key));
      try {
        this.#request(offset, end, cursor);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    if (cursor.window === AHEAD && size > PART) this.#readAhead(end);
    return this.present.has(offset, end) ? undefined : this.#fetcher.wait(offset, end, signal);
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
    if (!this.busy) return;
    await new Promise<void>((resolve) => {
      this.#whenIdle = resolve;
    });
  }

  /** What the read needs, as large as suits the reader. */
  #request(offset: number, end: number, cursor: ReadCursor): void {
    const { size } = this.version;
    if (size <= PART) {
      this.#fetcher.request(0, size);
      return;
    }
    const from = offset - (offset % BLOCK);
    let to = end + ((BLOCK - (end % BLOCK)) % BLOCK);
    if (cursor.window > 0) to = Math.max(to, from + (cursor.window === AHEAD ? PART : FIRST));
    this.#fetcher.request(from, Math.min(to, size));
  }

  #readAhead(next: number): void {
    const { size } = this.version;
    if (this.#stale) return;
    try {
      for (;;) {
        const from = this.#fetcher.frontier(next);
        if (from >= size || from - next >= AHEAD) return;
        this.#fetcher.request(from, Math.min(from + PART, size));
      }
    } catch (error) {
      // No room to read ahead is no failure of the read at hand.
      if (!MirageError.is(error, 'ENOSPC')) throw error;
    }
  }

  async #fetchAll(signal: AbortSignal): Promise<void> {
    const { size } = this.version;
    for (let offset = 0; offset < size; offset += PART) {
      await this.ensure(offset, PART, { next: offset, window: AHEAD }, signal);
    }
  }

  #idle(): void {
    this.sign();
    if (!this.doomed) this.#owner.settled(this);
    if (this.references === 0) this.#owner.rest(this);
    this.#whenIdle?.();
  }
}

/** Moves the cursor on: after some reads in a row there is read-ahead, after a jump none. */
function follow(cursor: ReadCursor, offset: number, end: number): void {
  if (Math.abs(offset - cursor.next) > SLACK) {
    cursor.window = 0;
    cursor.next = end;
  } else {
    cursor.window = cursor.window === 0 ? FIRST : Math.min(cursor.window * 2, AHEAD);
    cursor.next = Math.max(cursor.next, end);
  }
}

const staleError = (key: string): MirageError =>
  new MirageError(`${key} is another version by now`, { errno: 'ESTALE' });
