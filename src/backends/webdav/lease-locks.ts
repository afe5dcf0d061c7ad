import { MirageError } from '../../errors/mirage-error.js';
import type { Context, StoreLocks } from '../contract.js';
import type { Addresses } from './addresses.js';
import type { Client } from './client.js';
import type { Lock, Locks } from './locks.js';

export interface LeaseLocksParts {
  readonly client: Client;
  readonly addresses: Addresses;
  readonly locks: Locks;
  /** The server refuses a lock on a resource that does not meet a condition. */
  readonly lockConditions: boolean;
  /** Makes one folder; EEXIST where there is one. */
  readonly makeFolder: (key: string, context: Context) => Promise<unknown>;
}

/** Servers count in whole seconds, and say what is left of them: so many more are asked for. */
const SPARE_SECONDS = 2;

interface Held {
  readonly lock: Lock;
  /** What the server is asked for. */
  readonly seconds: number;
}

/**
 * Leases as exclusive locks of the server (RFC 4918, section 6), which ends them by its own clock, each on a file of its own. The owner that the
 * server is told is the id of the lease: a lock whose answer was lost, or of an earlier life, is found again by it.
 */
export class LeaseLocks implements StoreLocks {
  readonly shortestTerm = 2_000;
  readonly longestTerm = 3_600_000;
  readonly #parts: LeaseLocksParts;
  /** By the id of the lease. */
  readonly #held = new Map<string, Held>();
  /** The folder that is known to be there. */
  #folder: string | undefined;

  constructor(parts: LeaseLocksParts) {
    this.#parts = parts;
  }

  async acquire(key: string, id: string, term: number, context: Context): Promise<boolean> {
    if (this.#held.has(id) && (await this.renew(key, id, context))) return true;
    const seconds = Math.ceil(term / 1000) + SPARE_SECONDS;
    const lock = (await this.#lock(key, id, seconds, context)) ?? (await this.#find(key, id, context));
    if (lock === undefined) return false;
    this.#held.set(id, { lock, seconds });
    if (lock.milliseconds >= term) return true;
    // It was found again, with less left than it had.
    if (lock.milliseconds === 0) return this.renew(key, id, context);
    await this.release(key, id, context);
    throw new MirageError(`lock ${key}: the server grants ${lock.milliseconds / 1000} s at most`, {
      errno: 'ENOTSUP',
      hint: 'set a shorter `leaseTerm` of the mount',
    });
  }

  async renew(_key: string, id: string, { signal }: Context): Promise<boolean> {
    const held = this.#held.get(id);
    if (held === undefined) return false;
    try {
      await this.#parts.locks.refresh(held.lock, held.seconds, signal);
      return true;
    } catch (error) {
      if (!isLost(error)) throw error;
      this.#held.delete(id);
      return false;
    }
  }

  async release(_key: string, id: string, { signal }: Context): Promise<void> {
    const held = this.#held.get(id);
    if (held === undefined) return;
    await this.#parts.locks.unlock(held.lock, signal);
    this.#held.delete(id);
  }

  /** undefined: somebody has one. */
  async #lock(key: string, id: string, seconds: number, context: Context): Promise<Lock | undefined> {
    const { addresses, lockConditions, locks } = this.#parts;
    const path = addresses.path(key, 'file');
    // Without a file below it, Apache could not list the folder any more once the lock has ended.
    const conditions: Record<string, string> = lockConditions ? { 'if-match': '*' } : {};
    // nginx keeps a lock that it could not grant for want of a folder.
    await this.#makeFolders(key, context);
    for (let made = false; ; made = true) {
      try {
        return await locks.lock({ path, seconds, owner: ownerOf(id), conditions, signal: context.signal });
      } catch (error) {
        if (MirageError.is(error, 'EBUSY')) return undefined;
        if (made) throw error;
        if (MirageError.is(error, 'ENOENT')) {
          this.#folder = undefined;
          await this.#makeFolders(key, context);
        } else if (!MirageError.is(error, 'ESTALE')) throw error;
        await this.#makeFile(key, path, context);
      }
    }
  }

  /** The lock that is held under this id, though nobody here knows of it. */
  async #find(key: string, id: string, { signal }: Context): Promise<Lock | undefined> {
    const path = this.#parts.addresses.path(key, 'file');
    const token = await this.#parts.locks.tokenOf(path, ownerOf(id), signal);
    return token === undefined ? undefined : { path, token, created: false, milliseconds: 0 };
  }

  /** All that the key is in, once. */
  async #makeFolders(key: string, context: Context): Promise<void> {
    const folder = key.slice(0, key.lastIndexOf('/'));
    if (this.#folder === folder) return;
    const names = folder.split('/');
    for (const [index] of names.entries()) {
      await this.#parts.makeFolder(names.slice(0, index + 1).join('/'), context).catch(unlessThere);
    }
    this.#folder = folder;
  }

  /** Another host may make it just now. */
  async #makeFile(key: string, path: string, { signal }: Context): Promise<void> {
    const headers = { 'if-none-match': '*' };
    const attempt = { operation: 'lock', subject: key, signal };
    await this.#parts.client.head({ method: 'PUT', path, headers, body: '\n' }, attempt, [412, 423]);
  }
}

const ownerOf = (id: string): string => `mirage-lease-${id}`;

/** The token is not valid any more, or the file is gone. */
const isLost = (error: unknown): boolean =>
  MirageError.is(error, 'ESTALE') || MirageError.is(error, 'ENOENT') || MirageError.is(error, 'EBUSY');

function unlessThere(error: unknown): void {
  if (!MirageError.is(error, 'EEXIST')) throw error;
}
