import { randomUUID } from 'node:crypto';
import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type { ObjectInfo } from '../contract.js';
import type { Addresses } from './addresses.js';
import type { Client } from './client.js';
import type { Locks } from './locks.js';
import { entityTag, isByTime, validatorOfHeaders } from './properties.js';
import { Resources } from './resources.js';
import type { Traits } from './traits.js';

/** Looks like an ETag, and is none. */
const NOBODY = '0'.repeat(16);
const BODY = 'probe';

/**
 * Finds out what the server honours, by asking for what it must refuse: a refusal is the only proof. Works in two hidden files of its own
 * and removes them. EACCES when the credentials may not write.
 */
export async function probe(
  client: Client,
  addresses: Addresses,
  locks: Locks,
  log: Log,
  signal: AbortSignal,
): Promise<Traits> {
  const prober = new Prober(client, addresses, locks, log, signal);
  try {
    return await prober.traits();
  } finally {
    await prober.cleanUp();
  }
}

class Prober {
  readonly #key = `.mirage-probe-${randomUUID()}`;
  readonly #moved = `${this.#key}-moved`;
  readonly #path: string;
  readonly #resources: Resources;

  constructor(
    private readonly client: Client,
    private readonly addresses: Addresses,
    private readonly locks: Locks,
    private readonly log: Log,
    private readonly signal: AbortSignal,
  ) {
    this.#path = addresses.path(this.#key, 'file');
    this.#resources = new Resources(client, addresses, true, log);
  }

  async traits(): Promise<Traits> {
    const writeTellsVersion = await this.#writeTellsVersion();
    const writeAbsent = await this.#refuses(this.#put({ 'if-none-match': '*' }));
    const writeMatch = await this.#writeMatch();
    const locks = await this.#locks(writeAbsent && writeMatch === 'if');
    const attributes = await this.#attributes();
    const overwrite = await this.#overwrite();
    const moveKeepsVersion = await this.#move();
    return { ...locks, writeAbsent, writeMatch, writeTellsVersion, attributes, overwrite, moveKeepsVersion };
  }

  async cleanUp(): Promise<void> {
    for (const key of [this.#key, this.#moved]) {
      const path = this.addresses.path(key, 'file');
      const signal = AbortSignal.timeout(10_000);
      await this.client
        .head({ method: 'DELETE', path }, { operation: 'probe', subject: key, signal }, [404, 410])
        .catch((error: unknown) =>
          this.log.warn('a probe file could not be removed', { key, reason: String(error) }),
        );
    }
  }

  async #writeTellsVersion(): Promise<boolean> {
    const { headers } = await this.#put({});
    const { validator } = await this.#stat();
    if (headers.etag === undefined || headers.etag.startsWith('W/')) return false;
    return validatorOfHeaders(headers, undefined) === validator;
  }

  /** Another version must be refused and this one accepted, in the form that is asked. */
  async #writeMatch(): Promise<Traits['writeMatch']> {
    const url = this.addresses.url(this.#key, 'file');
    for (const form of ['if', 'if-match'] as const) {
      const { validator } = await this.#stat();
      if (validator === undefined || isByTime(validator)) return false;
      const header = (tag: string): Record<string, string> =>
        form === 'if' ? { if: `<${url}> ([${tag}])` } : { 'if-match': tag };
      if (!(await this.#refuses(this.#put(header(entityTag(NOBODY)))))) continue;
      if (!(await this.#refuses(this.#put(header(entityTag(validator)))))) return form;
    }
    return false;
  }

  async #locks(conditional: boolean): Promise<Pick<Traits, 'locks' | 'lockConditions'>> {
    const without = { locks: false, lockConditions: false };
    const request = { path: this.#path, signal: this.signal };
    const lock = await this.locks.lock(request).catch(declined);
    if (lock === undefined) return without;
    let enforced = false;
    try {
      const token = { if: `<${this.addresses.url(this.#key, 'file')}> (<${lock.token}>)` };
      enforced = (await this.#refuses(this.#put({}))) && !(await this.#refuses(this.#put(token)));
    } finally {
      await this.locks.unlock(lock, AbortSignal.timeout(10_000)).catch(declined);
    }
    if (!enforced) return without;
    // Not asked of a server that ignores conditions anyway: nginx takes the lock and says that it did not.
    return { locks: true, lockConditions: conditional && (await this.#lockConditions()) };
  }

  async #lockConditions(): Promise<boolean> {
    const { validator } = await this.#stat();
    const conditions: [Record<string, string>, boolean][] = [
      [{ 'if-none-match': '*' }, false],
      [{ if: `([${entityTag(NOBODY)}])` }, false],
      [{ if: `([${entityTag(validator ?? NOBODY)}])` }, true],
    ];
    for (const [condition, holds] of conditions) {
      const granted = await this.locks
        .lock({ path: this.#path, conditions: condition, signal: this.signal })
        .catch(declined);
      if (granted !== undefined) {
        await this.locks.unlock(granted, AbortSignal.timeout(10_000)).catch(declined);
      }
      if ((granted !== undefined) !== holds) return false;
    }
    return true;
  }

  async #attributes(): Promise<boolean> {
    const { validator } = await this.#stat();
    const nonce = randomUUID();
    try {
      await this.#resources.saveAttributes(this.#key, 'file', { writer: nonce }, validator, {}, this.signal);
    } catch (error) {
      if (refused(error)) return false;
      throw error;
    }
    return (await this.#stat()).attributes?.writer === nonce;
  }

  async #overwrite(): Promise<boolean> {
    await this.#to('COPY', 'T');
    return this.#refuses(this.#to('COPY', 'F'));
  }

  async #move(): Promise<boolean> {
    const before = await this.#stat();
    try {
      await this.#to('MOVE', 'T');
    } catch (error) {
      if (refused(error)) return false;
      throw error;
    }
    const after = await this.#resources.stat(this.#moved, this.signal);
    // One that goes by time and size only: what was moved could as well be another file.
    return after !== undefined && after.validator === before.validator;
  }

  #to(method: 'COPY' | 'MOVE', overwrite: 'T' | 'F') {
    const destination = this.addresses.url(this.#moved, 'file');
    return this.#send({ method, path: this.#path, headers: { destination, overwrite, depth: 'infinity' } });
  }

  #put(headers: Record<string, string>) {
    return this.#send({ method: 'PUT', path: this.#path, headers, body: BODY });
  }

  #send(request: Parameters<Client['head']>[0]) {
    return this.client.head(request, { operation: 'probe', subject: this.#key, signal: this.signal });
  }

  async #stat(): Promise<ObjectInfo> {
    const found = await this.#resources.stat(this.#key, this.signal);
    if (found !== undefined) return found;
    throw new MirageError('probe: what was written is not there', {
      errno: 'EIO',
      hint: 'is `url` of the mount a WebDAV folder?',
    });
  }

  /** Whether the server refused. Accepting it, or not knowing the method or header, is a no. */
  async #refuses(call: Promise<unknown>): Promise<boolean> {
    try {
      await call;
      return false;
    } catch (error) {
      if (MirageError.is(error, 'ESTALE') || MirageError.is(error, 'EBUSY')) return true;
      if (refused(error)) return false;
      throw error;
    }
  }
}

/** The server cannot do it, or does not want to: no failure of the probe. */
const refused = (error: unknown): boolean =>
  MirageError.is(error) && ['ENOTSUP', 'EIO', 'EACCES', 'ESTALE', 'EBUSY', 'ENOENT'].includes(error.errno);

function declined(error: unknown): undefined {
  if (refused(error)) return undefined;
  throw error;
}
