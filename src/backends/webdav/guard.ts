/**
 * How a change meets only the version it is based on. The strongest way there is:
 * - A lock: taken under the condition, held until the change is whole. A conditional PUT alone is not enough where the server looks at the
 *   condition before it receives the body, as Apache does: two writers may both find it fulfilled.
 * - The condition on the change itself, where the server has no locks.
 * - Nothing: such a change is refused. Only one that may replace whatever is there (`conflicts: lastWriterWins`) is made.
 */
import { MirageError } from '../../errors/mirage-error.js';
import type { Context, ObjectInfo, Precondition } from '../contract.js';
import type { FolderLocks, Headers, Place } from './folder-locks.js';
import type { LockHolder } from './lock-holder.js';
import type { Lock } from './locks.js';
import { entityTag, isByTime } from './properties.js';
import type { Traits } from './traits.js';
import type { Turns } from './turns.js';

/** What is to be changed. */
export interface Target extends Place {
  readonly key: string;
}

/** What a change is made under. */
export interface Held {
  /** To be sent with the first request that changes the resource. */
  readonly first: Headers;
  /** To be sent with those after it. */
  readonly headers: Headers;
  /** The change may be sent again when its outcome is unknown: nobody else can have changed the resource, or it does not matter. */
  readonly repeatable: boolean;
  /** The resource is gone, and its lock with it. */
  removed(): void;
}

/** Locks that the server may forget under one change. */
const FORGOTTEN = 3;

export interface GuardParts {
  readonly traits: Traits;
  readonly holder: LockHolder;
  readonly folders: FolderLocks;
  /** Changes of one path take turns here, so that they do not wait for each other's locks at the server. */
  readonly turns: Turns;
  readonly stat: (key: string, context: Context) => Promise<ObjectInfo | undefined>;
}

export class Guard {
  readonly #parts: GuardParts;

  constructor(parts: GuardParts) {
    this.#parts = parts;
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
      await this.#parts.folders.settled(path);
      return work(UNGUARDED);
    }
    if (this.#parts.traits.locks) return this.#locked({ key, path, url }, precondition, context, work);
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
    return this.#parts.traits.locks ? this.#locked(target, { kind: 'any' }, context, work) : work(UNGUARDED);
  }

  #conditions(url: string, precondition: Precondition): Record<string, string> | undefined {
    const { writeAbsent, writeMatch } = this.#parts.traits;
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
    const { folders, holder, turns } = this.#parts;
    const turn = turns.take(path);
    folders.retire(path);
    const end = await turn;
    let released: Promise<void> | undefined;
    try {
      for (let tries = 1; ; tries++) {
        const lock = await holder.acquire(path, precondition, context.signal);
        const stop = holder.keep(lock);
        let removed = false;
        try {
          await this.#verify(key, lock, precondition, context);
        } catch (error) {
          stop();
          await holder.giveUp(lock);
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
          if (!removed) released = holder.release(lock);
          return result;
        } catch (error) {
          if (!removed) await holder.giveUp(lock);
          // The server has forgotten the lock: whether the precondition still holds, the next one tells.
          if (!MirageError.is(error, 'ESTALE') || tries === FORGOTTEN) throw error;
        } finally {
          stop();
        }
      }
    } finally {
      if (released === undefined) end();
      else void released.finally(end);
    }
  }

  /** The lock, and once more the condition: a second writer may hold a lock where the server has lost one. */
  #firstOf(url: string, token: string, lock: Lock, precondition: Precondition): Record<string, string> {
    const plain = { if: `<${url}> (${token})` };
    if (!this.#parts.traits.lockConditions || lock.created) return plain;
    if (precondition.kind === 'absent') return { ...plain, 'if-none-match': '*' };
    if (precondition.kind !== 'match' || isByTime(precondition.validator)) return plain;
    return { if: `<${url}> (${token} [${entityTag(precondition.validator)}])` };
  }

  /** Under the lock nothing changes any more: what is there now is what the change will meet. */
  async #verify(key: string, lock: Lock, precondition: Precondition, context: Context): Promise<void> {
    const { lockConditions } = this.#parts.traits;
    if (precondition.kind === 'absent') {
      if (lock.created || lockConditions) return;
      if ((await this.#parts.stat(key, context)) === undefined) return;
    } else if (precondition.kind === 'match') {
      if (!lock.created && lockConditions && !isByTime(precondition.validator)) return;
      if (!lock.created && (await this.#parts.stat(key, context))?.validator === precondition.validator)
        return;
    } else return;
    throw new MirageError(`${key}: another writer was first`, { errno: 'ESTALE' });
  }
}

/** Whatever is there may be replaced. */
export const UNGUARDED: Held = { first: {}, headers: {}, repeatable: true, removed() {} };
