/**
 * How a change meets only the version it is based on. The strongest way there is:
 * - A lock: taken under the condition, held until the change is whole. A conditional PUT alone is not enough where the server looks at the
 *   condition before it receives the body, as Apache does: two writers may both find it fulfilled.
 * - The condition on the change itself, where the server has no locks.
 * - Nothing: such a change is refused. Only one that may replace whatever is there (`conflicts: lastWriterWins`) is made.
 */
import { sleep, systemTimers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type { Context, ObjectInfo, Precondition } from '../contract.js';
import type { Lock, Locks } from './locks.js';
import { entityTag, isByTime } from './properties.js';
import type { Traits } from './traits.js';

/** What is to be changed: its key, its path on the server, and the same as a URL. */
export interface Target {
  readonly key: string;
  readonly path: string;
  readonly url: string;
}

/** What a change is made under. */
export interface Held {
  /** To be sent with the first request that changes the resource. */
  readonly first: Readonly<Record<string, string>>;
  /** To be sent with those after it. */
  readonly headers: Readonly<Record<string, string>>;
  /** The change may be sent again when its outcome is unknown: nobody else can have changed the resource, or it does not matter. */
  readonly repeatable: boolean;
  /** The resource is gone, and its lock with it. */
  removed(): void;
}

/** How long another writer's lock is waited for, milliseconds, and the longest pause between two tries. */
const PATIENCE = 10_000;
const LONGEST_PAUSE = 400;
const LOST_ANSWERS = 3;
/** Locks that the server may forget under one change. */
const FORGOTTEN = 3;

/** A lock on a folder that several changes share. */
interface Folder {
  users: number;
  /** Nobody else joins. */
  full: boolean;
  readonly lock: Promise<Lock>;
  readonly since: number;
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

/** How long a lock on a folder is joined, milliseconds: other hosts want their turn. */
const LONGEST_SHARE = 1_000;

export class Guard {
  readonly #locks: Locks;
  readonly #traits: Traits;
  readonly #stat: (key: string, context: Context) => Promise<ObjectInfo | undefined>;
  readonly #log: Log;
  /** Changes of one path take turns here, so that they do not wait for each other's locks at the server. */
  readonly #turns = new Map<string, Promise<void>>();
  readonly #folders = new Map<string, Folder>();

  constructor(
    locks: Locks,
    traits: Traits,
    stat: (key: string, context: Context) => Promise<ObjectInfo | undefined>,
    log: Log,
  ) {
    this.#locks = locks;
    this.#traits = traits;
    this.#stat = stat;
    this.#log = log;
  }

  /** Makes a change of the resource at `path` under its precondition: ESTALE where that does not hold. */
  async change<T>(
    { key, path, url }: Target,
    precondition: Precondition,
    context: Context,
    work: (held: Held) => Promise<T>,
  ): Promise<T> {
    context.signal.throwIfAborted();
    if (precondition.kind === 'any') {
      await this.settled(path);
      return work(UNGUARDED);
    }
    if (this.#traits.locks) return this.#locked({ key, path, url }, precondition, context, work);
    const headers = this.#conditions(url, precondition);
    if (headers === undefined) {
      throw new MirageError(`${key}: the server cannot keep two writers apart`, {
        errno: 'EROFS',
        hint: 'it has no locks and ignores conditions: mount it with `conflicts: lastWriterWins` to write all the same',
      });
    }
    return work({ first: headers, headers: {}, repeatable: false, removed() {} });
  }

  /** Keeps other writers away where the server has locks, whatever state the resource is in. */
  async exclusively<T>(target: Target, context: Context, work: (held: Held) => Promise<T>): Promise<T> {
    return this.#traits.locks ? this.#locked(target, { kind: 'any' }, context, work) : work(UNGUARDED);
  }

  /**
   * Keeps other writers from making or removing names in a folder while `work` runs, with the headers that it sends. Everybody here who makes a name
   * in the folder shares the lock. A name that is made could be locked itself, but Apache cannot list a folder again in which such
   * a lock, without a file, has expired.
   */
  async inFolder<T>(
    target: Target,
    work: (headers: Held['headers']) => Promise<T>,
    place: FolderPlace = this.join(target),
  ): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        const lock = await place.lock;
        return await work({ if: `<${target.url}> (<${lock.token}>)` });
      } catch (error) {
        place.close();
        // The server has forgotten the lock; who finds the name taken says EEXIST.
        if (!MirageError.is(error, 'ESTALE') || tries === FORGOTTEN) throw error;
      } finally {
        place.leave();
      }
      place = this.join(target);
    }
  }

  /** Takes part in the lock on a folder, or takes it: who needs it soon saves the time. It is kept until `leave`. */
  join({ path }: Target): FolderPlace {
    let folder = this.#folders.get(path);
    if (folder === undefined || folder.full || performance.now() - folder.since > LONGEST_SHARE) {
      if (folder !== undefined) folder.full = true;
      folder = this.#openFolder(path);
      this.#folders.set(path, folder);
    }
    const joined = folder;
    joined.users++;
    let left = false;
    return {
      lock: joined.lock,
      close() {
        joined.full = true;
      },
      leave: () => {
        if (left) return;
        left = true;
        joined.users--;
        if (joined.users > 0) return;
        joined.full = true;
        if (this.#folders.get(path) === joined) this.#folders.delete(path);
        joined.giveBack();
      },
    };
  }

  /** A lock of ours on `path` that is still being given back would be in the way of a change without it. */
  async settled(path: string): Promise<void> {
    await this.#turns.get(path);
  }

  /** Waits for locks that are still being given back. */
  async close(): Promise<void> {
    await Promise.all(this.#turns.values());
  }

  #conditions(url: string, precondition: Precondition): Record<string, string> | undefined {
    const { writeAbsent, writeMatch } = this.#traits;
    if (precondition.kind === 'absent') return writeAbsent ? { 'if-none-match': '*' } : undefined;
    if (precondition.kind !== 'match' || isByTime(precondition.validator) || writeMatch === false)
      return undefined;
    const tag = entityTag(precondition.validator);
    return writeMatch === 'if' ? { if: `<${url}> ([${tag}])` } : { 'if-match': tag };
  }

  async #locked<T>(
    { key, path, url }: Target,
    precondition: Precondition,
    context: Context,
    work: (held: Held) => Promise<T>,
  ): Promise<T> {
    const end = await this.#turn(path);
    let released: Promise<void> | undefined;
    try {
      for (let tries = 1; ; tries++) {
        const lock = await this.#acquire(path, precondition, context);
        const renewal = setInterval(() => this.#renew(lock), lock.milliseconds / 3);
        let removed = false;
        try {
          await this.#verify(key, lock, precondition, context);
        } catch (error) {
          clearInterval(renewal);
          await this.#giveUp(lock);
          throw error;
        }
        try {
          // Tagged with its resource: untagged, Apache would ask it of the folder, too.
          const token = `<${lock.token}>`;
          const result = await work({
            first: this.#firstOf(url, token, lock, precondition),
            headers: { if: `<${url}> (${token})` },
            repeatable: true,
            removed: () => {
              removed = true;
            },
          });
          // Nobody needs to wait until it is given back, but the next one here.
          if (!removed) released = this.#release(lock);
          return result;
        } catch (error) {
          if (!removed) await this.#giveUp(lock);
          // The server has forgotten the lock: whether the precondition still holds, the next one tells.
          if (!MirageError.is(error, 'ESTALE') || tries === FORGOTTEN) throw error;
        } finally {
          clearInterval(renewal);
        }
      }
    } finally {
      if (released === undefined) end();
      else void released.finally(end);
    }
  }

  /** Waits for those who came before; the next one begins when the function that is returned is called. */
  async #turn(path: string): Promise<() => void> {
    const before = this.#turns.get(path);
    let end = (): void => undefined;
    const mine = new Promise<void>((resolve) => {
      end = resolve;
    });
    const turn = Promise.all([before, mine]).then(() => {
      if (this.#turns.get(path) === turn) this.#turns.delete(path);
    });
    this.#turns.set(path, turn);
    await before;
    return end;
  }

  #openFolder(path: string): Folder {
    let giveBack = (): void => undefined;
    const given = new Promise<void>((resolve) => {
      giveBack = resolve;
    });
    const take = async (): Promise<Lock> => {
      const end = await this.#turn(path);
      try {
        const lock = await this.#acquire(
          path,
          { kind: 'any' },
          { signal: AbortSignal.timeout(2 * PATIENCE) },
        );
        const renewal = setInterval(() => this.#renew(lock), lock.milliseconds / 3);
        void given
          .then(() => clearInterval(renewal))
          .then(() => this.#release(lock))
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
    return { users: 0, full: false, lock, since: performance.now(), giveBack };
  }

  /** The lock, and once more the condition: a second writer may hold a lock where the server has lost one. */
  #firstOf(url: string, token: string, lock: Lock, precondition: Precondition): Record<string, string> {
    const plain = { if: `<${url}> (${token})` };
    if (!this.#traits.lockConditions || lock.created) return plain;
    if (precondition.kind === 'absent') return { ...plain, 'if-none-match': '*' };
    if (precondition.kind !== 'match' || isByTime(precondition.validator)) return plain;
    return { if: `<${url}> (${token} [${entityTag(precondition.validator)}])` };
  }

  /** An empty resource that came with the lock is not for others to find. */
  async #giveUp(lock: Lock): Promise<void> {
    if (lock.created && (await this.#locks.remove(lock))) return;
    await this.#release(lock);
  }

  async #acquire(path: string, precondition: Precondition, context: Context): Promise<Lock> {
    const { signal } = context;
    const conditions = this.#traits.lockConditions ? conditionsOfLock(precondition) : {};
    const deadline = performance.now() + PATIENCE;
    let pause = 10;
    for (let lost = 0; ; ) {
      try {
        return await this.#locks.lock({ path, conditions, signal });
      } catch (error) {
        if (!MirageError.is(error)) throw error;
        const passing = error.errno === 'EBUSY' || (error.outcomeUnknown && lost++ < LOST_ANSWERS);
        if (!passing || signal.aborted || performance.now() > deadline) throw error;
        // Nobody else here can hold one on this path.
        if (await this.#locks.unlockForgotten(path, signal)) continue;
      }
      await sleep(systemTimers, pause * (0.5 + Math.random() / 2), signal);
      pause = Math.min(LONGEST_PAUSE, pause * 2);
    }
  }

  /** Under the lock nothing changes any more: what is there now is what the change will meet. */
  async #verify(key: string, lock: Lock, precondition: Precondition, context: Context): Promise<void> {
    const { lockConditions } = this.#traits;
    if (precondition.kind === 'absent') {
      if (lock.created || lockConditions) return;
      if ((await this.#stat(key, context)) === undefined) return;
    } else if (precondition.kind === 'match') {
      if (!lock.created && lockConditions && !isByTime(precondition.validator)) return;
      if (!lock.created && (await this.#stat(key, context))?.validator === precondition.validator) return;
    } else return;
    throw new MirageError(`${key}: another writer was first`, { errno: 'ESTALE' });
  }

  #renew(lock: Lock): void {
    this.#locks
      .refresh(lock, undefined, AbortSignal.timeout(lock.milliseconds / 3))
      .catch((error: unknown) => {
        // The change itself will hear that the token is not valid any more.
        this.#log.warn('a lock could not be renewed', { path: lock.path, reason: String(error) });
      });
  }

  async #release(lock: Lock): Promise<void> {
    try {
      await this.#locks.unlock(lock, AbortSignal.timeout(PATIENCE));
    } catch (error) {
      this.#log.warn('a lock could not be given back and ends by itself', {
        path: lock.path,
        seconds: lock.milliseconds / 1000,
        reason: String(error),
      });
    }
  }
}

/** Whatever is there may be replaced. */
export const UNGUARDED: Held = { first: {}, headers: {}, repeatable: true, removed() {} };

function conditionsOfLock(precondition: Precondition): Record<string, string> {
  if (precondition.kind === 'absent') return { 'if-none-match': '*' };
  if (precondition.kind === 'match' && !isByTime(precondition.validator)) {
    return { if: `([${entityTag(precondition.validator)}])` };
  }
  return {};
}
