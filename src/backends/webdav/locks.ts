import { z } from 'zod';
import { MirageError } from '../../errors/mirage-error.js';
import type { Client } from './client.js';
import { parseDocument } from './multistatus.js';

/** How long a lock outlives a client that is gone, seconds. It is renewed after a third of it. */
export const LOCK_SECONDS = 90;

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
  /** Told to whoever asks who holds it; unique to the holder, so that a lock whose answer was lost is found again. */
  readonly owner: string;
  readonly seconds?: number;
  /** Conditions that the resource must meet, as headers. */
  readonly conditions?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

const activeLock = z.object({
  owner: z.unknown().optional(),
  timeout: z.string().optional(),
  locktoken: z.object({ href: z.tuple([z.string()]).rest(z.string()) }).optional(),
});
const discovery = z.object({
  prop: z.object({ lockdiscovery: z.object({ activelock: z.array(activeLock) }) }),
});

/** Exclusive write locks of a WebDAV server (RFC 4918, 6 and 9.10): taken, renewed, given back. */
export class Locks {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  /** Takes a lock on one resource. EBUSY: somebody else holds one. ESTALE: a condition does not hold. ENOENT: no folder to put it in. */
  async lock({ path, owner, seconds = LOCK_SECONDS, conditions = {}, signal }: LockRequest): Promise<Lock> {
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
    const header = answer.headers['lock-token'];
    const token = typeof header === 'string' ? /^<(.*)>$/.exec(header.trim())?.[1] : undefined;
    const found = discovery.safeParse(parseDocument(text)).data?.prop.lockdiscovery.activelock;
    const mine = found?.find(({ locktoken }) => token === undefined || locktoken?.href[0] === token);
    const granted = token ?? mine?.locktoken?.href[0];
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
    await this.#client.head(
      {
        method: 'LOCK',
        path: lock.path,
        headers: { timeout: `Second-${seconds}`, if: `(<${lock.token}>)` },
      },
      { operation: 'refresh the lock of', subject: lock.path, changes: true, ...(signal && { signal }) },
    );
  }

  /** Gives it back. One that is gone already counts as given back. */
  async unlock(lock: Lock, signal?: AbortSignal): Promise<void> {
    await this.#client.head(
      { method: 'UNLOCK', path: lock.path, headers: { 'lock-token': `<${lock.token}>` } },
      { operation: 'unlock', subject: lock.path, changes: true, ...(signal && { signal }) },
      [400, 404, 409, 412],
    );
  }

  /** Removes what the lock is on, and the lock with it; false where that was not possible. */
  async remove(lock: Lock): Promise<boolean> {
    const signal = AbortSignal.timeout(10_000);
    try {
      await this.#client.head(
        { method: 'DELETE', path: lock.path, headers: { if: `(<${lock.token}>)` } },
        { operation: 'remove', subject: lock.path, changes: true, signal },
      );
      return true;
    } catch {
      return false;
    }
  }

  /** The lock that `owner` holds, whose answer was lost; undefined where the server does not tell or somebody else holds it. */
  async find(path: string, owner: string, signal: AbortSignal): Promise<Lock | undefined> {
    const answer = await this.#client.request(
      {
        method: 'PROPFIND',
        path,
        headers: { depth: '0', 'content-type': XML },
        body: '<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop><D:lockdiscovery/></D:prop></D:propfind>',
      },
      { operation: 'look for the lock of', subject: path, signal },
      [404],
    );
    const text = await answer.body.text();
    if (answer.status === 404 || !text.includes(owner)) return undefined;
    const token = /<(?:[\w.-]+:)?locktoken>\s*<(?:[\w.-]+:)?href>\s*([^<\s]+)/.exec(
      text.slice(text.indexOf(owner)),
    )?.[1];
    return token === undefined
      ? undefined
      : { path, token, created: false, milliseconds: LOCK_SECONDS * 1000 };
  }
}

const XML = 'application/xml; charset=utf-8';

/** `Second-60` → 60,000; servers may grant less than was asked for. */
function grantedFor(timeout: string | undefined, asked: number): number {
  const seconds = /Second-(\d+)/.exec(timeout ?? '')?.[1];
  return (seconds === undefined ? asked : Math.min(Number(seconds), asked)) * 1000;
}
