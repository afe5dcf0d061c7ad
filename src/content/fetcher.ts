import type { ObjectInfo } from '../backends/contract.js';
import { MirageError } from '../errors/mirage-error.js';
import type { StorePort } from '../ports/store-port.js';
import type { Version } from './contract.js';
import { RangeSet } from './range-set.js';

/** Bytes of one request at most, and of the objects that are fetched whole. */
export const PART = 8 * 1024 * 1024;

interface Fetch {
  readonly start: number;
  readonly end: number;
  readonly abort: AbortController;
  /** Bytes before it are in the file. */
  arrived: number;
  /** Given up: what still comes of it does not count. */
  dropped: boolean;
}

interface Waiter {
  readonly start: number;
  readonly end: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export interface FetcherOwner {
  /** Room for so many more bytes; throws ENOSPC. `refund` gives back what did not come. */
  charge(bytes: number): void;
  refund(bytes: number): void;
  /** No request is under way any more; nothing writes to the file. */
  idle(): void;
  /** The object is another version by now: no byte can be had any more. */
  stale(): void;
}

/** Brings ranges of one version into its cache file. A byte is asked for once, whoever waits for it. */
export class Fetcher {
  /** What is in the file. */
  readonly present: RangeSet;
  /** What is in the file or on its way. */
  readonly #claimed: RangeSet;
  readonly #fetches = new Set<Fetch>();
  readonly #waiters = new Set<Waiter>();
  readonly #port: StorePort;
  readonly #version: Version;
  readonly #fd: number;
  readonly #owner: FetcherOwner;

  constructor(port: StorePort, version: Version, fd: number, present: RangeSet, owner: FetcherOwner) {
    this.#port = port;
    this.#version = version;
    this.#fd = fd;
    this.#owner = owner;
    this.present = present;
    this.#claimed = new RangeSet(present.bounds);
  }

  get busy(): boolean {
    return this.#fetches.size > 0;
  }

  /** End of what is here or coming without a gap from `offset`. */
  frontier(offset: number): number {
    return this.#claimed.endFrom(offset);
  }

  /** Asks for what of [start, end) is neither here nor coming. */
  request(start: number, end: number): void {
    const gaps = this.#claimed.gaps(start, end);
    for (let i = 0; i < gaps.length; i += 2) {
      for (let from = gaps[i]!; from < gaps[i + 1]!; from += PART) {
        this.#fetch(from, Math.min(from + PART, gaps[i + 1]!));
      }
    }
  }

  /** Resolves when [start, end), asked for before, is here. The last waiter of a request takes it along when it is aborted. */
  wait(start: number, end: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const end_ = () => {
        this.#waiters.delete(waiter);
        signal.removeEventListener('abort', aborted);
      };
      const waiter: Waiter = {
        start,
        end,
        resolve: () => {
          end_();
          resolve();
        },
        reject: (error) => {
          end_();
          reject(error);
        },
      };
      const aborted = () => {
        waiter.reject(new MirageError('interrupted', { errno: 'EINTR' }));
        for (const fetch of this.#fetches) {
          if (overlap(fetch, waiter) && !this.#isWanted(fetch)) this.#drop(fetch);
        }
      };
      this.#waiters.add(waiter);
      if (signal.aborted) aborted();
      else signal.addEventListener('abort', aborted);
    });
  }

  /** Stops every request that nobody waits for. */
  dropUnwanted(): void {
    for (const fetch of this.#fetches) {
      if (!this.#isWanted(fetch)) this.#drop(fetch);
    }
  }

  /** Stops everything; who waits gets EINTR. */
  stop(): void {
    for (const waiter of this.#waiters) waiter.reject(new MirageError('interrupted', { errno: 'EINTR' }));
    this.dropUnwanted();
  }

  #isWanted(fetch: Fetch): boolean {
    for (const waiter of this.#waiters) {
      if (overlap(fetch, waiter)) return true;
    }
    return false;
  }

  #fetch(start: number, end: number): void {
    this.#owner.charge(end - start);
    const fetch: Fetch = { start, end, abort: new AbortController(), arrived: start, dropped: false };
    this.#fetches.add(fetch);
    this.#claimed.add(start, end);
    void this.#run(fetch);
  }

  async #run(fetch: Fetch): Promise<void> {
    const { start, end } = fetch;
    const { mount, key, validator } = this.#version;
    let failure: unknown;
    try {
      const info = await this.#port.fetch(
        mount,
        {
          key,
          range: { offset: start, length: end - start },
          fd: this.#fd,
          match: validator,
          onProgress: (arrivedTo) => this.#progress(fetch, arrivedTo),
        },
        fetch.abort.signal,
      );
      this.#check(info);
      this.#progress(fetch, end);
    } catch (error) {
      failure = error;
    }
    this.#end(fetch, failure);
  }

  #check(info: ObjectInfo): void {
    const { key, validator, size } = this.#version;
    const other = info.validator !== undefined && info.validator !== validator;
    if (other || (info.size !== undefined && info.size !== size)) {
      throw new MirageError(`${key} is another version by now`, { errno: 'ESTALE' });
    }
  }

  #progress(fetch: Fetch, arrivedTo: number): void {
    const to = Math.min(arrivedTo, fetch.end);
    if (fetch.dropped || to <= fetch.arrived) return;
    this.present.add(fetch.arrived, to);
    fetch.arrived = to;
    for (const waiter of this.#waiters) {
      if (overlap(fetch, waiter) && this.present.has(waiter.start, waiter.end)) waiter.resolve();
    }
  }

  #end(fetch: Fetch, failure: unknown): void {
    if (!fetch.dropped) this.#unclaim(fetch);
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
    this.#unclaim(fetch);
    fetch.abort.abort();
  }

  #unclaim(fetch: Fetch): void {
    this.#claimed.remove(fetch.arrived, fetch.end);
    this.#owner.refund(fetch.end - fetch.arrived);
  }
}

const overlap = (a: { start: number; end: number }, b: { start: number; end: number }): boolean =>
  a.start < b.end && b.start < a.end;
