import { createHash } from 'node:crypto';
import { sleep, systemTimers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type {
  ByteSource,
  Context,
  ObjectInfo,
  Precondition,
  StoredAttributes,
  Validator,
} from '../contract.js';
import type { Addresses } from './addresses.js';
import { isEmpty } from './attributes.js';
import { sendBody } from './body.js';
import type { Answer, Client } from './client.js';
import { anotherVersion, isUnknown } from './errors.js';
import { type FolderLocks, together } from './folder-locks.js';
import type { Held, Target } from './guard.js';
import type { Locks } from './locks.js';
import { timestampOf, validatorOfHeaders } from './properties.js';
import type { Reader } from './reader.js';
import type { Resources } from './resources.js';
import type { Traits } from './traits.js';
import type { ChunkedUploads } from './uploads.js';

/** Times that a change is sent again whose outcome nobody knows, where that does no harm. */
export const TRIES = 3;
const REGULAR = 0o100000;
const TYPE = 0o170000;

export interface ContentParts {
  readonly client: Client;
  readonly addresses: Addresses;
  readonly locks: Locks;
  readonly folders: FolderLocks;
  readonly traits: Traits;
  readonly resources: Resources;
  readonly reader: Reader;
  /** Where large files travel in chunks. */
  readonly uploads: ChunkedUploads | undefined;
  readonly log: Log;
}

/** What one resource is made of: bytes by PUT, attributes by PROPPATCH, its end by DELETE. Under which lock, the caller knows. */
export class Contents {
  readonly #parts: ContentParts;

  constructor(parts: ContentParts) {
    this.#parts = parts;
  }

  /** Sends the content; resolves with what is there then, its attributes not saved yet. */
  async put(
    key: string,
    source: ByteSource,
    attributes: StoredAttributes,
    precondition: Precondition,
    held: Held,
    context: Context,
  ): Promise<ObjectInfo> {
    for (let tries = 1; ; tries++) {
      try {
        const conditions = tries === 1 || !held.repeatable ? held.first : held.headers;
        const { headers } = await this.#send(key, source, attributes, precondition, conditions, context);
        const told = this.#told(key, source, headers);
        if (told !== undefined && this.#parts.traits.writeTellsVersion) return told;
        const found = await this.mustStat(key, context);
        // Without a lock somebody else may have been next: what was written here is the version that the answer named.
        return told === undefined ? found : { ...found, size: source.size, validator: told.validator };
      } catch (error) {
        if (!isUnknown(error) || tries === TRIES || context.signal.aborted) throw error;
        if (held.repeatable) continue;
        const found = await this.#parts.resources.stat(key, context.signal);
        if (found !== undefined && (await this.holds(key, source, found, context))) return found;
        const untouched =
          precondition.kind === 'match' ? found?.validator === precondition.validator : found === undefined;
        if (!untouched) throw anotherVersion(key);
      }
    }
  }

  #send(
    key: string,
    source: ByteSource,
    attributes: StoredAttributes,
    precondition: Precondition,
    conditions: Held['headers'],
    context: Context,
  ): Promise<Omit<Answer, 'body'>> {
    const { addresses, client, uploads } = this.#parts;
    const path = addresses.path(key, 'file');
    const attempt = { operation: 'write', subject: key, changes: true, signal: context.signal };
    const seconds = attributes.modified?.seconds;
    // Nextcloud and ownCloud keep the time that they are told.
    const time: Record<string, string> =
      uploads && seconds !== undefined ? { 'x-oc-mtime': String(seconds) } : {};
    if (uploads !== undefined && source.size >= uploads.threshold) {
      const destination = addresses.url(key, 'file');
      const overwrite = precondition.kind === 'absent' ? 'F' : 'T';
      const headers = { ...time, ...conditionsOn(destination, conditions), overwrite };
      return uploads.upload({ destination, headers }, source, attempt);
    }
    const headers = { 'content-type': 'application/octet-stream', ...time, ...conditions };
    return sendBody(source, { offset: 0, length: source.size }, (body, length) =>
      client.head({ method: 'PUT', path, headers: { ...headers, ...length }, body, patient: true }, attempt),
    );
  }

  /** What the answer says of the version that was made; undefined: nothing that can be relied on. */
  #told(key: string, source: ByteSource, headers: Answer['headers']): ObjectInfo | undefined {
    if (headers.etag === undefined || headers.etag.startsWith('W/')) return undefined;
    return {
      key,
      kind: 'file',
      size: source.size,
      modified: timestampOf(headers['last-modified'] ?? headers.date),
      validator: validatorOfHeaders(headers, undefined),
      attributes: undefined,
    };
  }

  /** What is there is what was sent. This is how a write is known again whose answer was lost. */
  async holds(key: string, source: ByteSource, found: ObjectInfo, context: Context): Promise<boolean> {
    if (found.kind !== 'file' || found.size !== source.size) return false;
    const digest = createHash('sha256');
    const sink = { write: (chunk: Uint8Array) => void digest.update(chunk) };
    const whole = { offset: 0, length: source.size };
    if (whole.length > 0) await this.#parts.reader.read(key, whole, sink, context, found.validator);
    const expected = createHash('sha256');
    for await (const chunk of source.read(whole)) expected.update(chunk);
    return digest.digest('hex') === expected.digest('hex');
  }

  /**
   * Saves the attributes of what was just written. The content is in the store by now: what cannot be kept beside it is no reason to say
   * that the write failed, unless it is what makes the file what it is, a symlink or a device.
   */
  async attributesSaved(
    made: ObjectInfo,
    attributes: StoredAttributes,
    held: Held,
    context: Context,
  ): Promise<ObjectInfo> {
    const { traits, log, addresses } = this.#parts;
    const before = made.attributes ?? {};
    if (!traits.attributes) return { ...made, attributes: undefined };
    // Where nobody has looked, the property of an earlier version may still be there.
    if (isEmpty(attributes) && made.attributes !== undefined && isEmpty(before)) {
      return { ...made, attributes: {} };
    }
    try {
      await this.saveAttributes(made.key, 'file', attributes, made.validator, held.headers, context);
      return { ...made, attributes };
    } catch (error) {
      if (!isRegular(attributes)) {
        const target = { key: made.key, ...addresses.place(made.key, 'file') };
        await this.remove(target, held, context).catch(() => undefined);
        throw error;
      }
      log.warn('the server did not keep the attributes of a file', { key: made.key, reason: String(error) });
      return { ...made, attributes: before };
    }
  }

  /** `validator`: of the content that the attributes are of. Repeated where it fails for a moment: twice does no harm. */
  async saveAttributes(
    key: string,
    kind: ObjectInfo['kind'],
    attributes: StoredAttributes,
    validator: Validator | undefined,
    headers: Held['headers'],
    { signal }: Context,
  ): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#parts.resources.saveAttributes(key, kind, attributes, validator, headers, signal);
      } catch (error) {
        const passing = MirageError.is(error) && (error.outcomeUnknown || error.retryable);
        if (!passing || tries === TRIES || signal.aborted) throw error;
      }
    }
  }

  async remove(
    { key, path }: Target,
    held: Held,
    { signal }: Context,
    accepts: readonly number[] = [],
  ): Promise<void> {
    const { addresses, client, folders, locks } = this.#parts;
    const attempt = { operation: 'remove', subject: key, changes: true, signal };
    await folders.amid([addresses.parentOf(key)], signal, (ours) =>
      // The server strikes the lock off its list, too.
      locks.inTurn(() =>
        client.head({ method: 'DELETE', path, headers: together(held.headers, ours) }, attempt, accepts),
      ),
    );
    held.removed();
  }

  /** What was written a moment ago. A server that is busy may not show it at the first look; that it was written is true all the same. */
  async mustStat(key: string, context: Context): Promise<ObjectInfo> {
    for (let tries = 1; ; tries++) {
      let cause: unknown;
      try {
        const found = await this.#parts.resources.stat(key, context.signal);
        if (found !== undefined) return found;
      } catch (error) {
        if (!MirageError.is(error) || !error.retryable) throw error;
        cause = error;
      }
      if (tries === TRIES) {
        throw new MirageError(`${key} is not there right after it was written`, {
          errno: 'EIO',
          outcomeUnknown: true,
          cause,
        });
      }
      await sleep(systemTimers, 20 * tries, context.signal);
    }
  }
}

export const isRegular = ({ mode = REGULAR }: StoredAttributes): boolean =>
  (mode & TYPE) === REGULAR || (mode & TYPE) === 0;

/** Conditions on `url` for a request that is not sent to it. */
export function conditionsOn(url: string, headers: Held['headers']): Held['headers'] {
  if (headers.if !== undefined) return { if: headers.if };
  const tag = headers['if-match'];
  return tag === undefined ? {} : { if: `<${url}> ([${tag}])` };
}
