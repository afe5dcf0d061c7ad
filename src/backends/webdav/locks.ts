import type { IncomingHttpHeaders } from 'node:http';
import { MirageError } from '../../errors/mirage-error.js';
import type { Client } from './client.js';
import { parseDocument } from './multistatus.js';
import { childrenOf, textOf } from './xml.js';

/** How long a lock outlives a client that is gone, seconds. It is renewed after a third of it. */
export const LOCK_SECONDS = 60;

export interface Lock {
  readonly path: string;
  /** State token, `opaquelocktoken:…`. */
  readonly token: string;
  /** Nothing was there before: the lock has made an empty resource, or a place for one. */
  readonly created: boolean;
  /** For as long as the server keeps it without a renewal, milliseconds. */
  readonly milliseconds: number;
}

export interface LockRequest {
  readonly path: string;
  readonly seconds?: number;
  /** Who the server is told holds it; the mount by default. */
  readonly owner?: string;
  /** Conditions that the resource must meet, as headers. */
  readonly conditions?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** Exclusive write locks of a WebDAV server (RFC 4918, 6 and 9.10): taken, renewed, given back. */
export class Locks {
  readonly #client: Client;
  /** Told to whoever asks who holds a lock; nobody else's. */
  readonly #owner: string;
  #last: Promise<unknown> = Promise.resolve();

  constructor(client: Client, owner: string) {
    this.#client = client;
    this.#owner = owner;
  }

  /** Takes a lock on one resource. EBUSY: somebody else holds one. ESTALE: a condition does not hold. ENOENT: no folder to put it in. */
  async lock(request: LockRequest): Promise<Lock> {
    return this.inTurn(() => this.#lock(request));
  }

  /**
   * Runs what changes the server's list of locks after everything else that does. Apache keeps it in a file that two requests at a time
   * damage: locks are lost, and given back in vain. (PR 36636 of its bug tracker.)
   */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #lock({
    path,
    seconds = LOCK_SECONDS,
    owner = this.#owner,
    conditions = {},
    signal,
  }: LockRequest): Promise<Lock> {
    const body =
      '<?xml version="1.0" encoding="utf-8"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>' +
      `<D:locktype><D:write/></D:locktype><D:owner>${owner}</D:owner></D:lockinfo>`;
    const attempt = { operation: 'lock', subject: path, changes: true, signal };
    const answer = await this.#client.request(
      {
        method: 'LOCK',
        path,
        headers: { depth: '0', timeout: `Second-${seconds}`, 'content-type': XML, ...conditions },
        body,
      },
      attempt,
    );
    const text = await answer.body.text();
    const token = tokenIn(answer.headers);
    const discovered = childrenOf(childrenOf(parseDocument(text), 'prop')[0], 'lockdiscovery')[0];
    const locks = childrenOf(discovered, 'activelock').map((lock) => ({
      token: textOf(childrenOf(childrenOf(lock, 'locktoken')[0], 'href')[0]),
      timeout: textOf(childrenOf(lock, 'timeout')[0]),
    }));
    const mine = locks.find((lock) => token === undefined || lock.token === token);
    const granted = token ?? mine?.token;
    if (granted === undefined) {
      throw new MirageError(`lock ${path}: the server granted a lock without a token`, { errno: 'ENOTSUP' });
    }
    return {
      path,
      token: granted,
      created: answer.status === 201,
      milliseconds: grantedFor(mine?.timeout, seconds),
    };
  }

  /** Makes it last from now on. ESTALE: it is not held any more. */
  async refresh(lock: Lock, seconds = LOCK_SECONDS, signal?: AbortSignal): Promise<void> {
    const { headers } = await this.#client.head(
      {
        method: 'LOCK',
        path: lock.path,
        headers: { timeout: `Second-${seconds}`, if: `(<${lock.token}>)` },
      },
      { operation: 'refresh the lock of', subject: lock.path, changes: true, ...(signal && { signal }) },
    );
    const token = tokenIn(headers);
    if (token === undefined || token === lock.token) return;
    // nginx grants a lock that nobody has asked for.
    await this.unlock({ path: lock.path, token }, signal);
    throw new MirageError(`refresh the lock of ${lock.path}: it had ended`, { errno: 'ESTALE' });
  }

  /** Gives it back. One that is gone already counts as given back. */
  async unlock(lock: Pick<Lock, 'path' | 'token'>, signal?: AbortSignal): Promise<void> {
    await this.inTurn(() =>
      this.#client.head(
        { method: 'UNLOCK', path: lock.path, headers: { 'lock-token': `<${lock.token}>` } },
        { operation: 'unlock', subject: lock.path, changes: true, ...(signal && { signal }) },
        [400, 404, 409, 412],
      ),
    );
  }

  /** Removes what the lock is on, and the lock with it; false where that was not possible. */
  async remove(lock: Lock): Promise<boolean> {
    const signal = AbortSignal.timeout(10_000);
    try {
      await this.inTurn(() =>
        this.#client.head(
          { method: 'DELETE', path: lock.path, headers: { if: `(<${lock.token}>)` } },
          { operation: 'remove', subject: lock.path, changes: true, signal },
        ),
      );
      return true;
    } catch {
      return false;
    }
  }

  /**
   * Gives back a lock that is held in our name and that nobody here knows of: its answer was lost, or it was given back in vain.
   * False: there is none, or the server does not tell.
   */
  async unlockForgotten(path: string, signal: AbortSignal): Promise<boolean> {
    const token = await this.tokenOf(path, this.#owner, signal);
    if (token === undefined) return false;
    await this.unlock({ path, token }, signal);
    return true;
  }

  /** State token of the lock that this owner has; undefined: there is none, or the server does not tell. */
  async tokenOf(path: string, owner: string, signal: AbortSignal): Promise<string | undefined> {
    const answer = await this.#client.request(
      {
        method: 'PROPFIND',
        path,
        headers: { depth: '0', 'content-type': XML },
        body: '<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop><D:lockdiscovery/></D:prop></D:propfind>',
      },
      { operation: 'look for the lock of', subject: path, signal },
      [301, 404],
    );
    const text = await answer.body.text();
    const at = text.indexOf(owner);
    if (at < 0) return undefined;
    return /<(?:[\w.-]+:)?locktoken>\s*<(?:[\w.-]+:)?href>\s*([^<\s]+)/.exec(text.slice(at))?.[1];
  }
}

function tokenIn({ 'lock-token': header }: IncomingHttpHeaders): string | undefined {
  return typeof header === 'string' ? /^<(.*)>$/.exec(header.trim())?.[1] : undefined;
}

const XML = 'application/xml; charset=utf-8';

/** `Second-60` → 60,000; servers may grant less than was asked for. */
function grantedFor(timeout: string | undefined, asked: number): number {
  const seconds = /Second-(\d+)/.exec(timeout ?? '')?.[1];
  return (seconds === undefined ? asked : Math.min(Number(seconds), asked)) * 1000;
}
