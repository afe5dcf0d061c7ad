import type { ObjectInfo, Validator } from '../backends/contract.js';
import { MirageError } from '../errors/mirage-error.js';
import type { StorePort } from '../ports/store-port.js';
import { BLOCK, type BlockChecksums, blockStart } from './block-checksums.js';
import type { Version } from './contract.js';
import { RangeSet } from './range-set.js';

/** Bytes of one request at most, and of the objects that are fetched whole. */
export const PART = 8 * 1024 * 1024;

interface Fetch {
  readonly start: number;
  readonly end: number;
  /** What the version was called when it was asked for, and so in the answer: the store may name it otherwise meanwhile. */
  readonly validator: Validator;
  /** Nobody has asked for these bytes yet. */
  readonly ahead: boolean;
  readonly abort: AbortController;
  /** Bytes before it are in the file. */
  arrived: number;
  /** Given up: what still comes of it does not count. */
  dropped: boolean;
  /** What was wrong with the answer, before the request failed of it. */
  failure: MirageError | undefined;
}

interface Waiter {
  readonly start: number;
  readonly end: number;
  /** Wants to know which version comes, not the bytes. */
  readonly forVersion: boolean;
  readonly resolve: (info?: ObjectInfo) => void;
  readonly reject: (error: unknown) => void;
}

/** What there is of a version in its cache file. */
export interface FetchedContent {
  readonly present: RangeSet;
  readonly unverified: RangeSet;
  readonly checksums: BlockChecksums;
  /** The file is larger than the cache: old ranges give way to new ones. */
  readonly givesUp: boolean;
}

export interface FetcherOwner {
  /** Room for so many more bytes; throws ENOSPC. `refund` gives back what did not come. */
  charge(bytes: number): void;
  refund(bytes: number): void;
  /** May so many bytes more be under way that nobody has asked for? `aheadEnded` gives them back. */
  mayAhead(bytes: number): boolean;
  aheadEnded(bytes: number): void;
  /** No request is under way any more; nothing writes to the file. */
  idle(): void;
  /** The object is another version by now: no byte can be had any more. */
  stale(): void;
}

/** Brings ranges of one version into its cache file, in whole blocks. A byte is asked for once, whoever waits for it. */
export class Fetcher {
  /** What is in the file and right. */
  readonly present: RangeSet;
  /** What is in the file from before, and has still to be held against its checksums. */
  readonly unverified: RangeSet;
  /** What is in the file or on its way. */
  readonly #claimed: RangeSet;
  /** Ranges in the order in which they came, of a file that gives up old ones for new. */
  readonly #arrivals: { start: number; end: number }[] | undefined;
  /** The store sends the object from its start only: what is asked for comes in one request as large as it can be. */
  #sequential = false;
  readonly #fetches = new Set<Fetch>();
  readonly #waiters = new Set<Waiter>();
  readonly #port: StorePort;
  readonly #version: Version;
  readonly #fd: number;
  readonly #checksums: BlockChecksums;
  readonly #owner: FetcherOwner;

  constructor(port: StorePort, version: Version, fd: number, content: FetchedContent, owner: FetcherOwner) {
    this.#port = port;
    this.#version = version;
    this.#fd = fd;
    this.#owner = owner;
    this.present = content.present;
    this.unverified = content.unverified;
    this.#checksums = content.checksums;
    this.#claimed = new RangeSet(content.present.bounds);
    for (const [start, end] of content.unverified.ranges()) this.#claimed.add(start, end);
    if (!content.givesUp) return;
    this.#arrivals = [...content.unverified.ranges()].map(([start, end]) => ({ start, end }));
  }

  get busy(): boolean {
    return this.#fetches.size > 0;
  }

  get sequential(): boolean {
    return this.#sequential;
  }

  /** End of what is here or coming without a gap from `offset`. */
  frontier(offset: number): number {
    return this.#claimed.endFrom(offset);
  }

  /** Asks for what of [start, end) is neither here nor coming. Ahead of readers only as far as there is room under way. */
  request(start: number, end: number, ahead = false): void {
    if (this.#sequential) {
      this.#requestOnward(start, end);
      return;
    }
    const gaps = this.#claimed.gaps(start, end);
    for (let i = 0; i < gaps.length; i += 2) {
      for (let from = gaps[i]!; from < gaps[i + 1]!; from += PART) {
        const to = Math.min(from + PART, gaps[i + 1]!);
        if (ahead && !this.#owner.mayAhead(to - from)) return;
        this.#fetch(from, to, ahead);
      }
    }
  }

  /** What the store passes on its way is kept, so that nobody who goes back has it sent once more. */
  #requestOnward(start: number, end: number): void {
    const gaps = this.#claimed.gaps(0, this.#version.size);
    for (let i = 0; i < gaps.length; i += 2) {
      if (gaps[i]! < end && gaps[i + 1]! > start) this.#fetch(gaps[i]!, gaps[i + 1]!, false);
    }
  }

  /** Resolves when [start, end), asked for before, is here. The last waiter of a request takes it along when it is aborted. */
  async wait(start: number, end: number, signal: AbortSignal): Promise<void> {
    await this.#wait(start, end, false, signal);
  }

  /** Resolves when the store says which version it sends of [start, end), asked for before; undefined: it came without that word. */
  begun(start: number, end: number, signal: AbortSignal): Promise<ObjectInfo | undefined> {
    return this.#wait(start, end, true, signal);
  }

  /** Stops every request that nobody waits for. */
  dropUnwanted(): void {
    for (const fetch of this.#fetches) {
      if (!this.#isWanted(fetch)) this.#drop(fetch);
    }
  }

  /** Stops everything; who waits gets EINTR. */
  stop(): void {
    for (const waiter of this.#waiters) waiter.reject(interrupted());
    this.dropUnwanted();
  }

  /** Bytes of [start, end) proved wrong, or are not in the file any more. */
  forget(start: number, end: number): void {
    this.present.remove(start, end);
    this.unverified.remove(start, end);
    this.#claimed.remove(start, end);
  }

  /** Bytes of [start, end) proved right. */
  verified(start: number, end: number): void {
    this.unverified.remove(start, end);
    this.present.add(start, end);
  }

  /** The range that came longest ago, nobody waits for, and no longer counts as here; undefined: there is none. */
  giveUpOldest(): { start: number; end: number } | undefined {
    const index = this.#arrivals?.findIndex((range) => !this.#isWanted(range)) ?? -1;
    const [range] = index < 0 ? [] : (this.#arrivals?.splice(index, 1) ?? []);
    if (range !== undefined) this.forget(range.start, range.end);
    return range;
  }

  #wait(
    start: number,
    end: number,
    forVersion: boolean,
    signal: AbortSignal,
  ): Promise<ObjectInfo | undefined> {
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#waiters.delete(waiter);
        signal.removeEventListener('abort', aborted);
      };
      const waiter: Waiter = {
        start,
        end,
        forVersion,
        resolve: (info) => {
          done();
          resolve(info);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      const aborted = () => {
        waiter.reject(interrupted());
        for (const fetch of this.#fetches) {
          if (overlap(fetch, waiter) && !this.#isWanted(fetch)) this.#drop(fetch);
        }
      };
      this.#waiters.add(waiter);
      if (signal.aborted) aborted();
      else signal.addEventListener('abort', aborted);
    });
  }

  #isWanted(range: { start: number; end: number }): boolean {
    for (const waiter of this.#waiters) {
      if (overlap(range, waiter)) return true;
    }
    return false;
  }

  #fetch(start: number, end: number, ahead: boolean): void {
    try {
      this.#owner.charge(end - start);
    } catch (error) {
      if (ahead) this.#owner.aheadEnded(end - start);
      throw error;
    }
    const fetch: Fetch = {
      start,
      end,
      validator: this.#version.validator,
      ahead,
      abort: new AbortController(),
      arrived: start,
      dropped: false,
      failure: undefined,
    };
    this.#fetches.add(fetch);
    this.#claimed.add(start, end);
    void this.#run(fetch);
  }

  async #run(fetch: Fetch): Promise<void> {
    const { start, end, validator } = fetch;
    const { mount, key } = this.#version;
    let failure: unknown;
    try {
      const info = await this.#port.fetch(
        mount,
        {
          key,
          range: { offset: start, length: end - start, whole: end - start === this.#version.size },
          fd: this.#fd,
          match: validator,
          checksumBlock: BLOCK,
          onBegin: (begun) => this.#begin(fetch, begun),
          onProgress: (arrivedTo) => this.#progress(fetch, arrivedTo),
        },
        fetch.abort.signal,
      );
      if (fetch.failure === undefined) fetch.failure = this.#mismatch(fetch, info);
      if (fetch.failure !== undefined) throw fetch.failure;
      if (info.checksums !== undefined && !fetch.dropped) this.#checksums.put(start, info.checksums);
      this.#begin(fetch, info);
      this.#progress(fetch, end);
    } catch (error) {
      failure = fetch.failure ?? error;
    }
    this.#end(fetch, failure);
  }

  #begin(fetch: Fetch, info: ObjectInfo): void {
    if (fetch.dropped) return;
    fetch.failure = this.#mismatch(fetch, info);
    if (fetch.failure !== undefined) {
      fetch.abort.abort();
      return;
    }
    if (info.sequential === true && !this.#sequential) {
      this.#sequential = true;
      for (const other of this.#fetches) {
        if (other !== fetch && !this.#isWanted(other)) this.#drop(other);
      }
    }
    for (const waiter of this.#waiters) {
      if (waiter.forVersion && overlap(fetch, waiter)) waiter.resolve(info);
    }
  }

  #mismatch({ validator }: Fetch, info: ObjectInfo): MirageError | undefined {
    const { key, size } = this.#version;
    const other = info.validator !== undefined && info.validator !== validator;
    return other || (info.size !== undefined && info.size !== size) ? staleError(key) : undefined;
  }

  #progress(fetch: Fetch, arrivedTo: number): void {
    const to = Math.min(arrivedTo, fetch.end);
    if (fetch.dropped || fetch.failure !== undefined || to <= fetch.arrived) return;
    this.present.add(fetch.arrived, to);
    fetch.arrived = to;
    for (const waiter of this.#waiters) {
      if (overlap(fetch, waiter) && this.present.has(waiter.start, waiter.end)) waiter.resolve();
    }
  }

  #end(fetch: Fetch, failure: unknown): void {
    if (fetch.ahead) this.#owner.aheadEnded(fetch.end - fetch.start);
    if (!fetch.dropped) this.#settle(fetch);
    if (failure !== undefined && !fetch.dropped) {
      if (MirageError.is(failure, 'ESTALE')) this.#owner.stale();
      for (const waiter of this.#waiters) {
        if (waiter.start < fetch.end && waiter.end > fetch.arrived) waiter.reject(failure);
      }
    }
    // Last: until here the file is in use, whatever the owner makes of the failure.
    this.#fetches.delete(fetch);
    if (this.#fetches.size === 0) this.#owner.idle();
  }

  #drop(fetch: Fetch): void {
    if (fetch.dropped || fetch.arrived === fetch.end) return;
    fetch.dropped = true;
    this.#settle(fetch);
    fetch.abort.abort();
  }

  /** Nothing more comes of a request: what did not come is free again, and so is a block that did not come whole. */
  #settle(fetch: Fetch): void {
    const { start, end, arrived } = fetch;
    const kept = arrived === end ? end : Math.max(start, blockStart(arrived));
    if (kept > start) this.#arrivals?.push({ start, end: kept });
    if (kept === end) return;
    this.present.remove(kept, end);
    this.#claimed.remove(kept, end);
    this.#owner.refund(end - kept);
  }
}

export const staleError = (key: string): MirageError =>
  new MirageError(`${key} is another version by now`, { errno: 'ESTALE' });

export const interrupted = (): MirageError => new MirageError('interrupted', { errno: 'EINTR' });

const overlap = (a: { start: number; end: number }, b: { start: number; end: number }): boolean =>
  a.start < b.end && b.start < a.end;
