import type { ObjectInfo } from '../backends/contract.js';
import { MirageError } from '../errors/mirage-error.js';
import type { StorePort } from '../ports/store-port.js';
import type { CleanFile, ReadCursor, Version } from './contract.js';
import { interrupted, staleError } from './fetcher.js';

/** Where a packed object lies. */
export interface Place {
  readonly pack: number;
  readonly fd: number;
  readonly offset: number;
}

export interface PackedObjectOwner {
  readonly port: StorePort;
  /** Room in a pack; throws ENOSPC. */
  allocate(bytes: number): Place;
  /** What was allocated was not filled. */
  abandon(place: Place, bytes: number): void;
  /** All bytes are there. */
  filled(object: PackedObject, checksum: number): void;
  /** The object is of no use to later readers. */
  doom(object: PackedObject): void;
  /** Nobody uses the object and nothing is under way. */
  rest(object: PackedObject): void;
}

interface Waiter {
  readonly resolve: (info: ObjectInfo | undefined) => void;
  readonly reject: (error: unknown) => void;
}

/** A small object: fetched as a whole, by one request, into a file that it shares with others. */
export class PackedObject implements CleanFile {
  readonly location: number;
  readonly version: Version;
  readonly transient = false;
  readonly shared = true;
  references = 0;
  /** Not to be found any more; goes with its last user. */
  doomed = false;
  place: Place | undefined;
  /** The index has it. */
  saved: boolean;
  readonly #owner: PackedObjectOwner;
  #complete: boolean;
  #stale = false;
  #fetch: { readonly abort: AbortController; readonly ended: Promise<void> } | undefined;
  readonly #waiters = new Set<Waiter>();

  /** `place`: where its bytes are already. */
  constructor(owner: PackedObjectOwner, location: number, version: Version, place?: Place) {
    this.#owner = owner;
    this.location = location;
    this.version = version;
    this.place = place;
    this.saved = place !== undefined || version.size === 0;
    this.#complete = this.saved;
  }

  get fd(): number {
    return this.place?.fd ?? -1;
  }

  get start(): number {
    return this.place?.offset ?? 0;
  }

  get complete(): boolean {
    return this.#complete;
  }

  get busy(): boolean {
    return this.#fetch !== undefined;
  }

  retain(): void {
    this.references++;
  }

  begin(signal: AbortSignal): undefined | Promise<ObjectInfo | undefined> {
    return this.#complete ? undefined : this.#fetched(signal);
  }

  ensure(
    _offset: number,
    _length: number,
    _cursor: ReadCursor,
    signal: AbortSignal,
  ): undefined | Promise<void> {
    return this.ensureAll(signal);
  }

  ensureAll(signal: AbortSignal): undefined | Promise<void> {
    return this.#complete ? undefined : this.#fetched(signal).then(() => undefined);
  }

  release(): void {
    if (--this.references > 0) return;
    if (this.#waiters.size === 0) this.#fetch?.abort.abort();
    if (!this.busy) this.#owner.rest(this);
  }

  async stop(): Promise<void> {
    this.#stale = true;
    for (const waiter of this.#waiters) waiter.reject(interrupted());
    this.#fetch?.abort.abort();
    await this.#fetch?.ended;
  }

  /** Joins the request that is under way, or makes it; the last who waits takes it along when it is aborted. */
  #fetched(signal: AbortSignal): Promise<ObjectInfo | undefined> {
    if (this.#stale) return Promise.reject(staleError(this.version.key));
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#waiters.delete(waiter);
        signal.removeEventListener('abort', aborted);
      };
      const waiter: Waiter = {
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
        if (this.#waiters.size === 0) this.#fetch?.abort.abort();
      };
      this.#waiters.add(waiter);
      if (signal.aborted) {
        aborted();
        return;
      }
      signal.addEventListener('abort', aborted);
      if (this.#fetch === undefined || this.#fetch.abort.signal.aborted) this.#start();
    });
  }

  #start(): void {
    const before = this.#fetch?.ended;
    const abort = new AbortController();
    const ended = this.#run(abort, before);
    this.#fetch = { abort, ended };
  }

  async #run(abort: AbortController, before: Promise<void> | undefined): Promise<void> {
    // One that was given up still writes to where it was told to.
    if (before !== undefined) await before;
    const { size } = this.version;
    let place: Place | undefined;
    let failure: unknown;
    let info: ObjectInfo | undefined;
    try {
      place = this.#owner.allocate(size);
      info = await this.#into(place, abort.signal);
    } catch (error) {
      failure = error;
    }
    if (this.#fetch?.abort === abort) this.#fetch = undefined;
    if (failure === undefined) {
      this.place = place;
      this.#complete = true;
      for (const waiter of this.#waiters) waiter.resolve(info);
    } else {
      if (place !== undefined) this.#owner.abandon(place, size);
      // Whoever joined after the request was given up has one of his own.
      if (!abort.signal.aborted) this.#fail(failure);
    }
    if (this.references === 0 && !this.busy) this.#owner.rest(this);
  }

  async #into(place: Place, signal: AbortSignal): Promise<ObjectInfo> {
    const { mount, key, validator, size } = this.version;
    const { checksums, ...info } = await this.#owner.port.fetch(
      mount,
      {
        key,
        range: { offset: 0, length: size, whole: true },
        fd: place.fd,
        position: place.offset,
        match: validator,
        checksumBlock: size,
      },
      signal,
    );
    const other = info.validator !== undefined && info.validator !== validator;
    if (other || (info.size !== undefined && info.size !== size)) throw staleError(key);
    this.place = place;
    this.#owner.filled(this, checksums?.[0] ?? 0);
    return info;
  }

  #fail(failure: unknown): void {
    if (MirageError.is(failure, 'ESTALE')) {
      this.#stale = true;
      this.#owner.doom(this);
    }
    for (const waiter of this.#waiters) waiter.reject(failure);
  }
}
