/** The bytes of one remote file on this host: what was fetched, and what programs wrote and is on its way to the server. */
import { ftruncateSync } from 'node:fs';
import type { HandleRange } from '../../backends/file-server.js';
import type { ReadCursor } from '../../content/contract.js';
import { RangeSet } from '../../content/range-set.js';
import { errno } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import { localFiles } from '../../native/local-files.js';
import type { BlockCache } from './block-cache.js';
import { interruptible } from './interruptible.js';
import { WHOLE } from './node-handles.js';
import { follow } from './sequential.js';
import { overlaps, pairs } from './spans.js';

/** What programs ask for comes in these, bytes: pages of the kernel. */
const PAGE = 4096;
/** Bytes of one fetch at most: who waits for one byte waits for all of it. */
const FETCH = 512 * 1024;
/** Bytes of one write to the server at most, those under way at a time, and those that may wait before programs do. */
const SEND = 1024 * 1024;
const UNDER_WAY = 8 * 1024 * 1024;
const WAITING = 16 * 1024 * 1024;

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/** The server's side of the file. Handles are opened, and opened again after a lost connection, by the owner. */
export interface ContentServer {
  read(range: HandleRange): Promise<number>;
  /** Bytes, fewer only at the end of the file; undefined: there is no way but `read`. */
  glance(offset: number, length: number): Promise<Uint8Array | undefined> | undefined;
  write(range: HandleRange): Promise<void>;
  /** The file ends here on the server, earlier than was known. */
  endsAt(size: number): void;
  /** Bytes could not be written: they are lost, unless the server may take them later. */
  failed(error: MirageError): void;
}

interface Fetch {
  readonly start: number;
  readonly end: number;
  readonly done: Promise<void>;
}

export class RemoteContent {
  /** What the server said of size and time when the bytes were its own. */
  version: string;
  /** The version cannot be another one with the same size and time: it was written here, or is not of this moment. */
  trusted = false;
  /** Bytes that are in the file here. */
  readonly present = new RangeSet();
  /** Bytes that the server does not have and that are not on their way. */
  readonly #dirty = new RangeSet();
  readonly #sending = new RangeSet();
  readonly #claimed = new RangeSet();
  readonly #fetches = new Set<Fetch>();
  readonly #cache: BlockCache;
  #server: ContentServer | undefined;
  #fd = -1;
  #disposed = false;
  /** Who waits for something to have been sent. */
  #waiting: (() => void)[] = [];
  #flushing = 0;
  /** The server takes nothing for now: what is left is tried again when somebody asks for it. */
  #stalled: MirageError | undefined;

  constructor(cache: BlockCache, version: string) {
    this.#cache = cache;
    this.version = version;
  }

  /** Goes into use by a node (undefined: out of it). */
  serve(server: ContentServer | undefined): void {
    this.#server = server;
  }

  get fd(): number {
    if (this.#fd < 0) this.#fd = this.#cache.create();
    return this.#fd;
  }

  /** Bytes that the server has not acknowledged. */
  get unsent(): number {
    return this.#dirty.bytes + this.#sending.bytes;
  }

  get busy(): boolean {
    return this.unsent > 0 || this.#fetches.size > 0;
  }

  // Reading.

  /** Undefined when [offset, end) is here, else a promise of it; fetches ahead along `cursor`. `size` is that of the file. */
  ensure(
    offset: number,
    end: number,
    size: number,
    cursor: ReadCursor,
    signal: AbortSignal,
  ): undefined | Promise<void> {
    if (this.present.bytes === size) return undefined;
    follow(cursor, offset, end);
    const here = this.present.has(offset, end);
    if (!here) this.#request(offset, end, size);
    if (cursor.window > 0) this.#fetchAhead(end, size, cursor.window);
    return here ? undefined : this.#wait(offset, end, signal);
  }

  /** [offset, end), a random read of a large file, from the server without keeping it: storing a few bytes here takes as long as asking for them again. */
  glance(offset: number, end: number, size: number, cursor: ReadCursor): ReturnType<ContentServer['glance']> {
    if (size <= WHOLE || this.present.touches(offset, end) || this.#claimed.touches(offset, end)) {
      return undefined;
    }
    follow(cursor, offset, end);
    return cursor.window > 0 ? undefined : this.#server?.glance(offset, end - offset);
  }

  /** Asks for what of [offset, end) is neither here nor coming. */
  #request(offset: number, end: number, size: number): void {
    if (size <= WHOLE) this.#fetchGaps(0, size);
    else this.#fetchGaps(offset - (offset % PAGE), Math.min(size, end + ((PAGE - (end % PAGE)) % PAGE)));
  }

  #fetchAhead(next: number, size: number, window: number): void {
    const to = Math.min(size, next + window);
    // In steps of half a window, so that requests stay large.
    const frontier = this.#frontier(next);
    if (frontier >= to || (frontier - next > window / 2 && to < size)) return;
    try {
      this.#fetchGaps(frontier, to);
    } catch (error) {
      // No room to read ahead is no failure of the read at hand.
      if (!MirageError.is(error, 'ENOSPC')) throw error;
    }
  }

  /** End of what is here or coming without a gap from `offset`. */
  #frontier(offset: number): number {
    let at = offset;
    for (;;) {
      const end = Math.max(this.present.endFrom(at), this.#claimed.endFrom(at));
      if (end === at) return at;
      at = end;
    }
  }

  #fetchGaps(start: number, end: number): void {
    const gaps = this.present.gaps(start, end);
    for (let i = 0; i < gaps.length; i += 2) {
      const wanted = this.#claimed.gaps(gaps[i]!, gaps[i + 1]!);
      for (let j = 0; j < wanted.length; j += 2) {
        for (let from = wanted[j]!; from < wanted[j + 1]!; from += FETCH) {
          this.#fetch(from, Math.min(from + FETCH, wanted[j + 1]!));
        }
      }
    }
  }

  #fetch(start: number, end: number): void {
    const server = this.#server;
    if (server === undefined) throw MirageError.system('read', errno.EBADF);
    this.#cache.take(end - start);
    this.#claimed.add(start, end);
    const fetching = server.read({ offset: start, length: end - start, fd: this.fd, position: start }).then(
      (length) => {
        this.#claimed.remove(start, end);
        this.#cache.give(end - start - this.present.add(start, end));
        if (length === end - start) return;
        // Whatever the file is taken to be longer by reads as zeros.
        punch(this.#fd, start + length, end);
        server.endsAt(start + length);
      },
      (error: unknown) => {
        this.#claimed.remove(start, end);
        this.#cache.give(end - start);
        throw error;
      },
    );
    const fetch: Fetch = { start, end, done: fetching.finally(() => this.#fetches.delete(fetch)) };
    this.#fetches.add(fetch);
    // Who reads ahead waits for nothing; whoever comes to these bytes asks again.
    fetch.done.catch(() => undefined);
  }

  async #wait(start: number, end: number, signal: AbortSignal): Promise<void> {
    const waits = [...this.#fetches].filter((fetch) => fetch.start < end && fetch.end > start);
    await interruptible(Promise.all(waits.map(({ done }) => done)), signal);
  }

  /** Fetches that touch [start, end) are over. */
  #settled(start: number, end: number): undefined | Promise<unknown> {
    if (this.#fetches.size === 0) return undefined;
    const waits = [...this.#fetches].filter((fetch) => fetch.start < end && fetch.end > start);
    return waits.length === 0 ? undefined : Promise.allSettled(waits.map(({ done }) => done));
  }

  // Writing.

  /**
   * Call before bytes are written to `fd` at [offset, offset + length), again after its promise, and `wrote` after, in the same turn. What is being
   * fetched would come over what is written now. Throws when the server has taken nothing for too long.
   */
  prepareWrite(offset: number, length: number): undefined | Promise<unknown> {
    if (this.#stalled !== undefined && this.unsent > WAITING) throw this.#stalled;
    return this.#settled(offset, offset + length);
  }

  /** A writer that has written more than the server takes for now is answered when there is room, or somebody's flush has ended. */
  room(): undefined | Promise<void> {
    return this.#isFull ? this.#whenRoom() : undefined;
  }

  get #isFull(): boolean {
    return (this.#flushing > 0 || this.unsent > WAITING) && this.#stalled === undefined && this.unsent > 0;
  }

  async #whenRoom(): Promise<void> {
    while (this.#isFull) await this.#sent();
  }

  /** `size` is that of the file before. Throws ENOSPC when the cache may not grow. */
  wrote(offset: number, length: number, size: number): void {
    const end = offset + length;
    // Between the end of the file and what was written there are zeros.
    const from = Math.min(offset, size);
    this.#cache.take(end - from);
    this.#cache.give(end - from - this.present.add(from, end));
    this.#dirty.add(offset, end);
    this.#pump(false);
  }

  /** Resolves when the server has acknowledged every byte; `last` is called when all were handed over, so that what follows needs no round trip of its own. */
  async flush(last?: () => Promise<void>): Promise<void> {
    this.#flushing++;
    this.#stalled = undefined;
    try {
      this.#pump(true);
      while (this.#dirty.bytes > 0 && this.#stalled === undefined) {
        await this.#sent();
        this.#pump(true);
      }
      const following = this.#stalled === undefined ? last?.() : undefined;
      // It is waited for below: until then its failure must not count as nobody's.
      following?.catch(() => undefined);
      try {
        while (this.#sending.bytes > 0) await this.#sent();
      } finally {
        await following;
      }
      if (this.#stalled !== undefined) throw this.#stalled;
    } finally {
      this.#flushing--;
      this.#wake();
    }
  }

  #sent(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resume of waiting) resume();
  }

  /** Sends what is dirty. A short piece waits for more as long as something else is under way, unless `all` is wanted. */
  #pump(all: boolean): void {
    if (this.#stalled !== undefined) return;
    let from = 0;
    while (this.#sending.bytes < UNDER_WAY) {
      const start = this.#dirty.endFrom(from) > from ? from : this.#dirty.nextStart(from);
      if (start === Number.POSITIVE_INFINITY) return;
      const end = Math.min(this.#dirty.endFrom(start), start + SEND);
      // An older form of the same bytes is under way: it must arrive first.
      const [clear] = this.#sending.gaps(start, end);
      if (clear === undefined) {
        from = end;
        continue;
      }
      const clearEnd = Math.min(end, this.#sending.nextStart(clear));
      if (clear === start && clearEnd === end && end - start < SEND / 2 && !all && this.#sending.bytes > 0) {
        from = end;
        continue;
      }
      this.#send(clear, clearEnd);
      from = clearEnd;
    }
  }

  #send(start: number, end: number): void {
    const server = this.#server;
    if (server === undefined) return;
    this.#dirty.remove(start, end);
    this.#sending.add(start, end);
    const writing = server.write({ offset: start, length: end - start, fd: this.fd, position: start });
    writing.then(
      () => {
        this.#sending.remove(start, end);
        this.#pump(this.#flushing > 0);
        this.#wake();
      },
      (error: unknown) => {
        this.#sending.remove(start, end);
        this.#refused(start, end, error, server);
        this.#wake();
      },
    );
  }

  #refused(start: number, end: number, cause: unknown, server: ContentServer): void {
    const error = MirageError.is(cause)
      ? cause
      : new MirageError('bytes could not be written to the server', { errno: 'EIO', cause });
    if (isPassing(error)) {
      // Bytes that were written here meanwhile are newer, and dirty themselves.
      this.#dirty.add(start, end);
      this.#stalled = error;
    } else {
      // What the server has now is what programs must see.
      this.#cache.give(this.present.remove(start, end));
      for (const [from, to] of pairs(this.#dirty.gaps(start, end))) punch(this.#fd, from, to);
      for (const [from, to] of overlaps(this.#dirty, start, end)) this.present.add(from, to);
    }
    server.failed(error);
    this.#pump(this.#flushing > 0);
  }

  /** Brings the file to a size, here; the server is told by the caller. */
  async resize(before: number, size: number): Promise<void> {
    await this.#settled(size, Number.POSITIVE_INFINITY);
    while (this.#sending.nextStart(size) < Number.POSITIVE_INFINITY || this.#sending.endFrom(size) > size) {
      await this.#sent();
    }
    this.#dirty.remove(size, Number.POSITIVE_INFINITY);
    this.#cache.give(this.present.remove(size, Number.POSITIVE_INFINITY));
    if (this.#fd >= 0) ftruncateSync(this.#fd, size);
    if (size > before) {
      this.#cache.take(size - before);
      this.#cache.give(size - before - this.present.add(before, size));
      ftruncateSync(this.fd, size);
    }
  }

  /** What was not sent need not be any more: the file has gone. */
  abandon(): void {
    this.#dirty.remove(0, Number.POSITIVE_INFINITY);
    this.#stalled = undefined;
    this.#wake();
  }

  /** Another version came to the server by other means, of this size. Nothing is dirty here. */
  replaced(version: string, size: number): void {
    this.version = version;
    this.#cache.give(this.present.remove(0, Number.POSITIVE_INFINITY));
    if (this.#fd >= 0) ftruncateSync(this.#fd, size);
  }

  /** SEEK_DATA 3 or SEEK_HOLE 4 of what is here. Bytes that were not fetched count as data. */
  seek(offset: number, whence: number, size: number): number {
    if (this.present.bytes < size || this.#fd < 0) return whence === 3 ? offset : size;
    return localFiles().lseek(this.#fd, offset, whence);
  }

  // Room.

  /** Gives back up to about `wanted` bytes that the server has. Returns how many. */
  shrink(wanted: number): number {
    let freed = 0;
    for (const [start, end] of pairs([...this.present.bounds])) {
      for (const [from, to] of pairs(this.#dirty.gaps(start, end))) {
        for (const [first, last] of pairs(this.#sending.gaps(from, to))) {
          if (freed >= wanted) return freed;
          punch(this.#fd, first, last);
          freed += this.present.remove(first, last);
        }
      }
    }
    this.#cache.give(freed);
    return freed;
  }

  /** Ends the file here. Nothing may be dirty that is wanted. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#cache.give(this.present.remove(0, Number.POSITIVE_INFINITY));
    const fd = this.#fd;
    if (fd < 0) return;
    // The descriptor's number must not be another file's while the other side still writes to it.
    const waits = [...this.#fetches].map(({ done }) => done);
    if (waits.length === 0 && this.#sending.bytes === 0) localFiles().closeLater(fd);
    else void this.#closeLater(fd, waits);
  }

  async #closeLater(fd: number, waits: readonly Promise<void>[]): Promise<void> {
    await Promise.allSettled(waits);
    while (this.#sending.bytes > 0) await this.#sent();
    localFiles().closeLater(fd);
  }
}

/** The same bytes may be taken later without anybody changing anything. */
export const isPassing = (error: MirageError): boolean =>
  error.retryable || ['EHOSTDOWN', 'ETIMEDOUT', 'ECANCELED', 'EINTR'].includes(error.errno);

function punch(fd: number, start: number, end: number): void {
  if (fd < 0) return;
  localFiles().fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start);
}
