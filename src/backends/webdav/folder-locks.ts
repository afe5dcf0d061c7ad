/**
 * Locks on folders, which keep other writers from making or removing names in them. Everybody here who makes a name in a folder shares one lock, and
 * it stays a moment for the next one: a tree that is written file by file does not take and give back a lock for each. A name that is
 * made could be locked itself, but Apache cannot list a folder again in which such a lock, without a file, has expired.
 */
import { sleep, systemTimers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import { type LockHolder, PATIENCE } from './lock-holder.js';
import type { Lock } from './locks.js';
import type { Turns } from './turns.js';

/** A folder, or any other resource: its path on the server, and the same as a URL. */
export interface Place {
  readonly path: string;
  readonly url: string;
}

export type Headers = Readonly<Record<string, string>>;

/** How long a lock on a folder is joined, and kept for who may come next, milliseconds: other hosts want their turn. */
const LONGEST_SHARE = 1_000;
const LINGER = 100;
/** Locks that the server may forget under one change. */
const FORGOTTEN = 3;
/** Between two tries while somebody else has a lock, milliseconds on average. */
const PAUSE = 20;

/** A lock that several changes share. */
interface Shared {
  readonly url: string;
  readonly lock: Promise<Lock>;
  readonly since: number;
  users: number;
  /** Nobody else joins. */
  full: boolean;
  lingering: NodeJS.Timeout | undefined;
  giveBack(): void;
}

/** One's part in a lock on a folder. */
export interface FolderPlace {
  readonly lock: Promise<Lock>;
  /** It is of no use to others any more. */
  close(): void;
  /** May be called again. */
  leave(): void;
}

export class FolderLocks {
  readonly #holder: LockHolder;
  readonly #turns: Turns;
  readonly #shared = new Map<string, Shared>();

  /** `turns`: of everybody who takes locks on these paths. */
  constructor(holder: LockHolder, turns: Turns) {
    this.#holder = holder;
    this.#turns = turns;
  }

  /** Runs `work` under the lock, with the headers that its changes are sent with. */
  async inFolder<T>(
    folder: Place,
    work: (headers: Headers) => Promise<T>,
    place: FolderPlace = this.join(folder),
  ): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        const lock = await place.lock;
        return await work({ if: tagged(folder.url, lock) });
      } catch (error) {
        place.close();
        // The server has forgotten the lock; who finds the name taken says EEXIST.
        if (!MirageError.is(error, 'ESTALE') || tries === FORGOTTEN) throw error;
      } finally {
        place.leave();
      }
      place = this.join(folder);
    }
  }

  /**
   * Runs a change of names in `folders` that needs no lock, with those that are held here: they must not be in its way. Others' are waited for.
   * `work` is repeated, so it must be one request.
   */
  async amid<T>(
    folders: readonly Place[],
    signal: AbortSignal,
    work: (headers: Headers) => Promise<T>,
  ): Promise<T> {
    const deadline = performance.now() + PATIENCE;
    for (;;) {
      const places = folders.flatMap((folder) => {
        const open = this.#open(folder);
        return open === undefined ? [] : [{ folder, place: this.#enter(folder.path, open) }];
      });
      try {
        const held = await Promise.all(
          places.map(async ({ folder, place }) => tagged(folder.url, await place.lock)),
        );
        return await work(held.length === 0 ? {} : { if: held.join(' ') });
      } catch (error) {
        const forgotten = MirageError.is(error, 'ESTALE') && places.length > 0;
        const busy = MirageError.is(error, 'EBUSY') && performance.now() < deadline;
        if (signal.aborted || (!forgotten && !busy)) throw error;
        // The server may not know it any more.
        if (forgotten) for (const { place } of places) place.close();
      } finally {
        for (const { place } of places) place.leave();
      }
      await sleep(systemTimers, PAUSE * (0.5 + Math.random()), signal);
    }
  }

  /** Takes part in the lock on a folder, or takes it: who needs it soon saves the time. It is kept until `leave`. */
  join(folder: Place): FolderPlace {
    const { path, url } = folder;
    const open = this.#open(folder);
    if (open !== undefined) return this.#enter(path, open);
    const taken = this.#take(path, url);
    this.#shared.set(path, taken);
    return this.#enter(path, taken);
  }

  /** Gives back the locks on a resource and below it, as soon as nobody uses them, and waits for that. */
  async settled(path: string): Promise<void> {
    const below = path.endsWith('/') ? [...this.#shared.keys()].filter((each) => each.startsWith(path)) : [];
    for (const each of below) this.retire(each);
    await Promise.all([path, ...below].map((each) => this.#turns.settled(each)));
  }

  /** Gives back what nobody uses. */
  close(): void {
    for (const path of [...this.#shared.keys()]) this.retire(path);
  }

  /** The lock that others may join. */
  #open({ path }: Place): Shared | undefined {
    const shared = this.#shared.get(path);
    if (shared === undefined) return undefined;
    if (performance.now() - shared.since > LONGEST_SHARE) this.retire(path);
    return shared.full ? undefined : shared;
  }

  #enter(path: string, shared: Shared): FolderPlace {
    shared.users++;
    clearTimeout(shared.lingering);
    let left = false;
    return {
      lock: shared.lock,
      close() {
        shared.full = true;
      },
      leave: () => {
        if (left) return;
        left = true;
        shared.users--;
        if (shared.users > 0) return;
        if (shared.full) this.#end(path, shared);
        else shared.lingering = setTimeout(() => this.#end(path, shared), LINGER);
      },
    };
  }

  /** Nobody else joins the lock on this path: somebody wants another one. */
  retire(path: string): void {
    const shared = this.#shared.get(path);
    if (shared === undefined) return;
    shared.full = true;
    if (shared.users === 0) this.#end(path, shared);
  }

  #end(path: string, shared: Shared): void {
    clearTimeout(shared.lingering);
    shared.full = true;
    if (this.#shared.get(path) === shared) this.#shared.delete(path);
    shared.giveBack();
  }

  #take(path: string, url: string): Shared {
    let giveBack = (): void => undefined;
    const given = new Promise<void>((resolve) => {
      giveBack = resolve;
    });
    const take = async (): Promise<Lock> => {
      const end = await this.#turns.take(path);
      try {
        const lock = await this.#holder.acquire(path, { kind: 'any' }, AbortSignal.timeout(2 * PATIENCE));
        const stop = this.#holder.keep(lock);
        void given
          .then(stop)
          .then(() => this.#holder.release(lock))
          .finally(end);
        return lock;
      } catch (error) {
        end();
        throw error;
      }
    };
    const lock = take();
    // Whoever needs it hears why there is none.
    lock.catch(() => undefined);
    return { url, users: 0, full: false, lock, since: performance.now(), lingering: undefined, giveBack };
  }
}

const tagged = (url: string, lock: Lock): string => `<${url}> (<${lock.token}>)`;

/** Several conditions of the If header: each is about the resource that it names. (RFC 4918, 10.4) */
export function together(...headers: readonly Headers[]): Headers {
  const conditions = headers.flatMap(({ if: condition }) => (condition === undefined ? [] : [condition]));
  return Object.assign({}, ...headers, conditions.length > 0 && { if: conditions.join(' ') });
}
