import { createHash, randomUUID } from 'node:crypto';
import { sleep, systemTimers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type {
  AttributeBackend,
  ByteRange,
  ByteSink,
  ByteSource,
  Capabilities,
  Context,
  CopyBackend,
  DirectoryBackend,
  ListPage,
  ObjectInfo,
  Precondition,
  RenameBackend,
  StoredAttributes,
  UsageBackend,
  Validator,
  WriteOptions,
} from '../contract.js';
import type { Addresses } from './addresses.js';
import { isEmpty } from './attributes.js';
import { sendBody } from './body.js';
import { type Client, discard, dump } from './client.js';
import { toMirageError } from './errors.js';
import { type FolderPlace, Guard, type Held, type Target, UNGUARDED } from './guard.js';
import type { Locks } from './locks.js';
import { pour, wholeSize } from './pour.js';
import { COLLECTION, isByTime, timestampOf, validatorOfHeaders } from './properties.js';
import { Resources, UPLOADS } from './resources.js';
import type { Traits } from './traits.js';
import type { ChunkedUploads } from './uploads.js';

/** Times that a change is sent again under a lock when nobody knows whether it was carried out. */
const TRIES = 3;
/** Bytes of a file that are on the server in no time. */
const SOON = 2 ** 18;
const REGULAR = 0o100000;
const TYPE = 0o170000;

export interface WebdavParts {
  readonly client: Client;
  readonly addresses: Addresses;
  readonly locks: Locks;
  readonly traits: Traits;
  /** Where large files travel in chunks. */
  readonly uploads: ChunkedUploads | undefined;
  readonly log: Log;
}

/** A folder of a WebDAV server (RFC 4918). Content goes by GET and PUT, attributes of ours as a dead property. */
export class WebdavBackend
  implements DirectoryBackend, CopyBackend, UsageBackend, Partial<AttributeBackend>, Partial<RenameBackend>
{
  readonly capabilities: Capabilities;
  /** Only where versions survive it: what is cached and what is being written must go on under the new name. */
  declare readonly rename?: RenameBackend['rename'];
  /** Only where the server keeps them. */
  declare readonly setAttributes?: AttributeBackend['setAttributes'];
  readonly #parts: WebdavParts;
  readonly #resources: Resources;
  readonly #guard: Guard;
  #uploads: Promise<void> | undefined;

  constructor(parts: WebdavParts) {
    const { client, addresses, locks, traits, log } = parts;
    this.#parts = parts;
    this.#resources = new Resources(client, addresses, traits.attributes, log);
    this.#guard = new Guard(locks, traits, (key, context) => this.stat(key, context), log);
    const writeAbsent = traits.locks || traits.writeAbsent;
    const writeMatch = traits.locks || traits.writeMatch !== false;
    this.capabilities = {
      preconditions: {
        writeAbsent,
        writeMatch,
        multipartAbsent: writeAbsent,
        multipartMatch: writeMatch,
        copyAbsent: traits.locks || traits.overwrite,
        removeMatch: traits.locks,
      },
      attributes: traits.attributes,
      directories: 'real',
      maximumSize: Number.MAX_SAFE_INTEGER,
      maximumKeyBytes: Number.POSITIVE_INFINITY,
    };
    if (traits.attributes) {
      this.setAttributes = (...[key, kind, attributes, precondition, context]) =>
        this.#setAttributes(key, kind, attributes, precondition, context);
    }
    if (traits.moveKeepsVersion) this.rename = (from, to, context) => this.#rename(from, to, context);
  }

  stat(key: string, { signal }: Context): Promise<ObjectInfo | undefined> {
    return this.#resources.stat(key, signal);
  }

  list(prefix: string, _cursor: string | undefined, { signal }: Context): Promise<ListPage> {
    return this.#resources.list(prefix, signal);
  }

  async read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Promise<ObjectInfo> {
    const { signal } = context;
    if (range.length === 0) return this.#existing(key, context, match);
    const attempt = { operation: 'read', subject: key, signal };
    const answer = await this.#parts.client.request(
      {
        method: 'GET',
        path: this.#parts.addresses.path(key, 'file'),
        headers: { range: `bytes=${range.offset}-${range.offset + range.length - 1}` },
      },
      attempt,
      [416],
    );
    if (answer.status === 416) {
      // Past the end, or an empty file: nothing to read, but still a version to tell.
      await dump(answer.body);
      return this.#existing(key, context, match);
    }
    // No If-Match: servers compare it strongly, and a file that was just written has a weak ETag. The head of the answer tells as much.
    const size = wholeSize(answer);
    const byTime = match === undefined ? this.#resources.withoutTags : isByTime(match);
    const validator = validatorOfHeaders(answer.headers, size, byTime);
    if (match !== undefined && validator !== match) {
      discard(answer.body);
      if (isByTime(validator) && !byTime) throw somethingElse(key, answer.headers['content-type']);
      throw anotherVersion(key);
    }
    try {
      const told = await pour(answer, range, sink, signal);
      return {
        key,
        kind: 'file',
        size: told,
        modified: timestampOf(answer.headers['last-modified']),
        validator,
        attributes: undefined,
      };
    } catch (error) {
      throw toMirageError(error, attempt);
    }
  }

  async write(
    key: string,
    source: ByteSource,
    { precondition, attributes = {} }: WriteOptions,
    context: Context,
  ): Promise<ObjectInfo> {
    if (precondition.kind === 'absent' && this.#makesNames) {
      return this.#make(key, attributes, context, source.size <= SOON, (temporary) =>
        this.#put(temporary, source, attributes, ANY, UNGUARDED, context),
      );
    }
    return this.#guard.change(this.#target(key, 'file'), precondition, context, async (held) => {
      const validator = await this.#put(key, source, attributes, precondition, held, context);
      const found = await this.#mustStat(key, context);
      // Without a lock somebody else may have been next: what was written here is the version that the answer named.
      const made = validator === undefined ? found : { ...found, size: source.size, validator };
      return this.#attributesSaved(made, attributes, held, context);
    });
  }

  async remove(key: string, precondition: Precondition, context: Context): Promise<void> {
    if (precondition.kind === 'absent') return;
    const { traits } = this.#parts;
    const target = this.#target(key, 'file');
    // Without a lock the file may change between the look and the DELETE: `capabilities` says so.
    if (!traits.locks) await this.#expect(key, precondition, context);
    await this.#guard.change(target, traits.locks ? precondition : ANY, context, async (held) => {
      await this.#delete(target, held, context, precondition.kind === 'any' ? [404, 410] : []);
    });
  }

  async createDirectory(key: string, attributes: StoredAttributes, context: Context): Promise<ObjectInfo> {
    const { addresses, client, traits } = this.#parts;
    const path = addresses.path(key, 'directory');
    const attempt = { operation: 'createDirectory', subject: key, changes: true, signal: context.signal };
    let date: string | undefined;
    for (let tries = 1; ; tries++) {
      try {
        // 405 by the standard; Apache redirects to the collection that is there.
        const { status, headers } = await client.head(
          { method: 'MKCOL', path, patient: true },
          attempt,
          [405, 301],
        );
        date = headers.date;
        if (status < 300 || tries > 1) break;
        throw new MirageError(`createDirectory ${key}: it exists`, { errno: 'EEXIST' });
      } catch (error) {
        if (!isUnknown(error) || tries === TRIES || context.signal.aborted) throw error;
      }
    }
    if (!isEmpty(attributes) && traits.attributes) {
      await this.#again(context, () =>
        this.#resources.saveAttributes(key, 'directory', attributes, undefined, {}, context.signal),
      );
    }
    return {
      key,
      kind: 'directory',
      size: 0,
      modified: timestampOf(date),
      validator: COLLECTION,
      attributes: traits.attributes ? attributes : undefined,
    };
  }

  async removeDirectory(key: string, context: Context): Promise<void> {
    const target = this.#target(key, 'directory');
    // DELETE takes everything below along; a lock on the collection keeps new members out.
    await this.#guard.exclusively(target, context, async (held) => {
      const { entries } = await this.#resources.list(key, context.signal);
      if (entries.length > 0) {
        throw new MirageError(`removeDirectory ${key}: it is not empty`, { errno: 'ENOTEMPTY' });
      }
      await this.#delete(target, held, context, [404, 410]);
    });
  }

  async copy(
    from: string,
    to: string,
    { precondition, attributes, match }: WriteOptions & { readonly match?: Validator },
    context: Context,
  ): Promise<ObjectInfo> {
    const { addresses, client, traits } = this.#parts;
    const source = await this.#source(from, match, context);
    const target = this.#target(to, 'file');
    const destination = target.url;
    if (precondition.kind === 'absent' && this.#makesNames) {
      return this.#make(to, attributes ?? source.attributes ?? {}, context, false, async (temporary) => {
        const headers = { destination: addresses.url(temporary, 'file'), overwrite: 'T', depth: '0' };
        await client.head(
          { method: 'COPY', path: addresses.path(from, 'file'), headers, patient: true },
          { operation: 'copy', subject: to, changes: true, signal: context.signal },
        );
        await this.#source(from, source.validator, context);
      });
    }
    const make = async (held: Held, overwrite: 'T' | 'F'): Promise<ObjectInfo> => {
      await client.head(
        {
          method: 'COPY',
          path: addresses.path(from, 'file'),
          headers: { destination, overwrite, depth: '0', ...conditionsOn(destination, held.headers) },
        },
        { operation: 'copy', subject: to, changes: true, signal: context.signal },
      );
      const [made, now] = await Promise.all([this.#mustStat(to, context), this.stat(from, context)]);
      if (now?.validator !== source.validator) {
        await this.#delete(target, held, context).catch(() => undefined);
        throw anotherVersion(from);
      }
      return this.#attributesSaved(made, attributes ?? source.attributes ?? {}, held, context);
    };
    if (traits.locks && precondition.kind !== 'any') {
      return this.#guard.change(target, precondition, context, (held) => make(held, 'T'));
    }
    return this.#guard.change(target, ANY, context, async (held) => {
      const absent = precondition.kind === 'absent' && traits.overwrite;
      if (!absent) await this.#expect(to, precondition, context);
      return make(held, absent ? 'F' : 'T');
    });
  }

  usage({ signal }: Context): Promise<{ total?: number; free?: number }> {
    return this.#resources.quota(signal);
  }

  async close(): Promise<void> {
    await this.#guard.close();
    await this.#parts.client.close();
  }

  async #setAttributes(
    key: string,
    kind: ObjectInfo['kind'],
    attributes: StoredAttributes,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    const found = await this.#resources.stat(key, context.signal, kind);
    if (found?.kind !== kind) {
      const errno = precondition.kind === 'match' ? 'ESTALE' : 'ENOENT';
      throw new MirageError(`setAttributes ${key}: no such ${kind}`, { errno });
    }
    if (precondition.kind === 'match' && found.validator !== precondition.validator)
      throw anotherVersion(key);
    // Where another content comes in between, the property says of which one it is.
    await this.#again(context, () =>
      this.#resources.saveAttributes(key, kind, attributes, found.validator, {}, context.signal),
    );
    return { ...found, attributes };
  }

  async #rename(from: string, to: string, context: Context): Promise<void> {
    const { addresses, client, locks } = this.#parts;
    const [source, target] = await Promise.all([
      this.#source(from, undefined, context),
      this.stat(to, context),
    ]);
    const { kind } = source;
    await this.#guard.settled(addresses.path(from, kind));
    await this.#guard.settled(addresses.path(to, kind));
    if (target !== undefined && target.kind !== kind) {
      throw new MirageError(`rename to ${to}`, { errno: kind === 'file' ? 'EISDIR' : 'ENOTDIR' });
    }
    // A MOVE would take what is in it away.
    if (target?.kind === 'directory') await this.removeDirectory(to, context);
    const attempt = { operation: 'rename', subject: from, changes: true, signal: context.signal };
    for (let tries = 1; ; tries++) {
      try {
        const overwrite = kind === 'file' ? 'T' : 'F';
        const headers = { destination: addresses.url(to, kind), overwrite };
        const move = { method: 'MOVE', path: addresses.path(from, kind), headers };
        await locks.inTurnWhenFree(() => client.head(move, attempt), context.signal);
        return;
      } catch (error) {
        if (!isUnknown(error) || tries === TRIES || context.signal.aborted) throw error;
        const [left, come] = await Promise.all([this.stat(from, context), this.stat(to, context)]);
        if (left === undefined && come?.kind === kind && come.validator === source.validator) return;
        if (left?.validator !== source.validator) throw error;
      }
    }
  }

  /** A new name is best made elsewhere and moved into place, all of it at once. */
  get #makesNames(): boolean {
    const { locks, overwrite, moveKeepsVersion } = this.#parts.traits;
    return locks && overwrite && moveKeepsVersion;
  }

  /**
   * Makes a file under a name of its own, with its attributes, and gives it its name where nobody has taken that. `soon`: it takes no longer than
   * others can wait for their turn in the folder.
   */
  async #make(
    key: string,
    attributes: StoredAttributes,
    context: Context,
    soon: boolean,
    fill: (temporary: string) => Promise<unknown>,
  ): Promise<ObjectInfo> {
    const temporary = `${UPLOADS}/${randomUUID()}`;
    const folder = this.#target(key.slice(0, Math.max(0, key.lastIndexOf('/'))), 'directory');
    // Before the lock: it may be on the folder that this one is made in.
    await this.#uploadsFolder();
    const place = soon ? this.#guard.join(folder) : undefined;
    try {
      return await this.#fillAndName(key, temporary, folder, place, attributes, context, fill);
    } catch (error) {
      const path = this.#parts.addresses.path(temporary, 'file');
      const attempt = { operation: 'clean up', subject: temporary, signal: AbortSignal.timeout(10_000) };
      await this.#parts.client.head({ method: 'DELETE', path }, attempt, [404, 410]).catch(() => undefined);
      if (MirageError.is(error, 'EEXIST')) throw anotherVersion(key);
      throw error;
    } finally {
      place?.leave();
    }
  }

  async #fillAndName(
    key: string,
    temporary: string,
    folder: Target,
    place: FolderPlace | undefined,
    attributes: StoredAttributes,
    context: Context,
    fill: (temporary: string) => Promise<unknown>,
  ): Promise<ObjectInfo> {
    const { addresses, client, locks } = this.#parts;
    await fill(temporary).catch(async (error: unknown) => {
      if (!MirageError.is(error, 'ENOENT')) throw error;
      // Somebody has tidied up.
      this.#uploads = undefined;
      place?.leave();
      await this.#uploadsFolder();
      await fill(temporary);
    });
    const made = await this.#mustStat(temporary, context);
    const saved = await this.#attributesSaved(made, attributes, UNGUARDED, context);
    const attempt = { operation: 'write', subject: key, changes: true, signal: context.signal };
    const name = async (condition: Held['headers']): Promise<void> => {
      const headers = { destination: addresses.url(key, 'file'), overwrite: 'F', ...condition };
      const move = { method: 'MOVE', path: addresses.path(temporary, 'file'), headers };
      for (let tries = 1; ; tries++) {
        try {
          await locks.inTurnWhenFree(() => client.head(move, attempt), context.signal);
          return;
        } catch (error) {
          const unknown = isUnknown(error);
          if ((!unknown && !MirageError.is(error, 'ESTALE')) || context.signal.aborted) throw error;
          const [left, come] = await Promise.all([this.stat(temporary, context), this.stat(key, context)]);
          if (left === undefined && come?.validator === made.validator) return;
          if (come !== undefined) throw exists(key);
          if (!unknown || tries === TRIES) throw error;
        }
      }
    };
    await this.#guard.inFolder(folder, name, place);
    return { ...saved, key };
  }

  /** A folder that nobody locks. */
  #uploadsFolder(): Promise<void> {
    this.#uploads ??= this.createDirectory(UPLOADS, {}, { signal: AbortSignal.timeout(10_000) }).then(
      () => undefined,
      () => undefined,
    );
    return this.#uploads;
  }

  /** Sends the content. Returns the version where the answer names it. */
  async #put(
    key: string,
    source: ByteSource,
    attributes: StoredAttributes,
    precondition: Precondition,
    held: Held,
    context: Context,
  ): Promise<Validator | undefined> {
    const { addresses, client, uploads } = this.#parts;
    const path = addresses.path(key, 'file');
    const attempt = { operation: 'write', subject: key, changes: true, signal: context.signal };
    const seconds = attributes.modified?.seconds;
    // Nextcloud and ownCloud keep the time that they are told.
    const time: Record<string, string> =
      uploads && seconds !== undefined ? { 'x-oc-mtime': String(seconds) } : {};
    const send = async (conditions: Held['headers']) => {
      const headers = { 'content-type': 'application/octet-stream', ...time, ...conditions };
      if (uploads !== undefined && source.size >= uploads.threshold) {
        const destination = addresses.url(key, 'file');
        const ofTarget = {
          ...conditionsOn(destination, conditions),
          overwrite: precondition.kind === 'absent' ? 'F' : 'T',
        };
        return uploads.upload({ destination, headers: { ...time, ...ofTarget } }, source, attempt);
      }
      return sendBody(source, { offset: 0, length: source.size }, (body, length) =>
        client.head(
          { method: 'PUT', path, headers: { ...headers, ...length }, body, patient: true },
          attempt,
        ),
      );
    };
    for (let tries = 1; ; tries++) {
      try {
        const { headers: answered } = await send(tries === 1 || !held.repeatable ? held.first : held.headers);
        return answered.etag === undefined || answered.etag.startsWith('W/')
          ? undefined
          : validatorOfHeaders(answered, undefined);
      } catch (error) {
        if (!isUnknown(error) || tries === TRIES || context.signal.aborted) throw error;
        if (held.repeatable) continue;
        const found = await this.stat(key, context);
        if (found?.size === source.size && (await this.#holds(key, source, found.validator, context))) {
          return found.validator;
        }
        const untouched =
          precondition.kind === 'match' ? found?.validator === precondition.validator : found === undefined;
        if (!untouched) throw anotherVersion(key);
      }
    }
  }

  /** What is there is what was sent. Without a lock this is how a write is known again whose answer was lost. */
  async #holds(
    key: string,
    source: ByteSource,
    validator: Validator | undefined,
    context: Context,
  ): Promise<boolean> {
    const digest = createHash('sha256');
    const sink = { write: (chunk: Uint8Array) => void digest.update(chunk) };
    const whole = { offset: 0, length: source.size };
    if (whole.length > 0) await this.read(key, whole, sink, context, validator);
    const expected = createHash('sha256');
    for await (const chunk of source.read(whole)) expected.update(chunk);
    return digest.digest('hex') === expected.digest('hex');
  }

  /**
   * Saves the attributes of what was just written. The content is in the store by now: what cannot be kept beside it is no reason to say
   * that the write failed, unless it is what makes the file what it is, a symlink or a device.
   */
  async #attributesSaved(
    made: ObjectInfo,
    attributes: StoredAttributes,
    held: Held,
    context: Context,
  ): Promise<ObjectInfo> {
    const { traits, log } = this.#parts;
    const before = made.attributes ?? {};
    if (!traits.attributes || (isEmpty(attributes) && isEmpty(before))) {
      return { ...made, attributes: traits.attributes ? {} : undefined };
    }
    try {
      await this.#again(context, () =>
        this.#resources.saveAttributes(
          made.key,
          'file',
          attributes,
          made.validator,
          held.headers,
          context.signal,
        ),
      );
      return { ...made, attributes };
    } catch (error) {
      const type = (attributes.mode ?? REGULAR) & TYPE;
      if (type !== REGULAR && type !== 0) {
        await this.#delete(this.#target(made.key, 'file'), held, context).catch(() => undefined);
        throw error;
      }
      log.warn('the server did not keep the attributes of a file', { key: made.key, reason: String(error) });
      return { ...made, attributes: before };
    }
  }

  async #delete(
    { key, path }: Target,
    held: Held,
    { signal }: Context,
    accepts: readonly number[] = [],
  ): Promise<void> {
    const { client, locks } = this.#parts;
    const attempt = { operation: 'remove', subject: key, changes: true, signal };
    const send = () => client.head({ method: 'DELETE', path, headers: held.headers }, attempt, accepts);
    // The server strikes the lock off its list, too.
    await locks.inTurnWhenFree(send, signal);
    held.removed();
  }

  #target(key: string, kind: ObjectInfo['kind']): Target {
    const { addresses } = this.#parts;
    return { key, path: addresses.path(key, kind), url: addresses.url(key, kind) };
  }

  /** Repeats what may be done twice without harm. */
  async #again(context: Context, work: () => Promise<void>): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        return await work();
      } catch (error) {
        const passing = MirageError.is(error) && (error.outcomeUnknown || error.retryable);
        if (!passing || tries === TRIES || context.signal.aborted) throw error;
      }
    }
  }

  /** What was written a moment ago. A server that is busy may not show it at the first look. */
  async #mustStat(key: string, context: Context): Promise<ObjectInfo> {
    for (let tries = 1; ; tries++) {
      const found = await this.stat(key, context);
      if (found !== undefined) return found;
      if (tries === TRIES) {
        throw new MirageError(`${key} is gone as soon as it was written`, {
          errno: 'EIO',
          outcomeUnknown: true,
        });
      }
      await sleep(systemTimers, 20 * tries, context.signal);
    }
  }

  async #source(key: string, match: Validator | undefined, context: Context): Promise<ObjectInfo> {
    const found = await this.stat(key, context);
    if (found === undefined) throw new MirageError(`${key}: no such file`, { errno: 'ENOENT' });
    if (match !== undefined && found.validator !== match) throw anotherVersion(key);
    return found;
  }

  /** A look right before the change: it narrows the window of a lost update and cannot close it. */
  async #expect(key: string, precondition: Precondition, context: Context): Promise<void> {
    if (precondition.kind === 'any') return;
    const found = await this.stat(key, context);
    const holds =
      precondition.kind === 'absent' ? found === undefined : found?.validator === precondition.validator;
    if (!holds) throw anotherVersion(key);
  }

  /** An object of which nothing is read; it must be there, and be the version that was asked for. */
  async #existing(key: string, context: Context, match: Validator | undefined): Promise<ObjectInfo> {
    const found = await this.#source(key, undefined, context);
    if (match !== undefined && found.validator !== match) throw anotherVersion(key);
    return found;
  }
}

const exists = (key: string): MirageError => new MirageError(`${key} exists`, { errno: 'EEXIST' });

const ANY: Precondition = { kind: 'any' };

/** Conditions on `url` for a request that is not sent to it. */
function conditionsOn(url: string, headers: Held['headers']): Record<string, string> {
  if (headers.if !== undefined) return { if: headers.if };
  const tag = headers['if-match'];
  return tag === undefined ? {} : { if: `<${url}> ([${tag}])` };
}

const isUnknown = (error: unknown): boolean => MirageError.is(error) && error.outcomeUnknown;

const anotherVersion = (key: string): MirageError =>
  new MirageError(`${key} is another version by now`, { errno: 'ESTALE' });

const somethingElse = (key: string, type: string | undefined): MirageError =>
  new MirageError(`read ${key}: the server sent ${type ?? 'something'} instead of the file`, {
    errno: 'EIO',
    hint: 'a login page or a proxy may have answered in place of the server: open the URL in a browser',
  });
