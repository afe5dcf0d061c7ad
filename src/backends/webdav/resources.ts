import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type { ListPage, ObjectInfo, StoredAttributes, Validator } from '../contract.js';
import type { Addresses } from './addresses.js';
import { encodeAttributes, isEmpty } from './attributes.js';
import type { Client } from './client.js';
import { Refusal, toMirageError } from './errors.js';
import { type Resource, resources } from './multistatus.js';
import { infoOf, isByTime, PROPFIND, PROPFIND_QUOTA, proppatch } from './properties.js';

/** Folder of files that are not whole yet, and of those whose maker ended before they were. Not listed. */
export const UPLOADS = '.mirage-uploads';

const XML = 'application/xml; charset=utf-8';

/** What the server says about its resources, and our property of them. */
export class Resources {
  readonly #client: Client;
  readonly #addresses: Addresses;
  readonly #log: Log;
  /** Dead properties are kept. */
  readonly #attributes: boolean;
  #withoutTags = false;

  constructor(client: Client, addresses: Addresses, attributes: boolean, log: Log) {
    this.#client = client;
    this.#addresses = addresses;
    this.#attributes = attributes;
    this.#log = log;
  }

  /** The files that were seen last had no ETag. */
  get withoutTags(): boolean {
    return this.#withoutTags;
  }

  /** One resource. `kind` saves a redirect where it is known: a collection is named with a slash at the end. */
  async stat(
    key: string,
    signal: AbortSignal,
    kind: ObjectInfo['kind'] = 'file',
  ): Promise<ObjectInfo | undefined> {
    const attempt = { operation: 'stat', subject: key, signal };
    const path = this.#addresses.path(key, key === '' ? 'directory' : kind);
    const found = await this.#propfind(path, '0', PROPFIND, attempt, [404, 410]);
    if (found === undefined) return undefined;
    for await (const resource of found) {
      if (resource.failure === 404) return undefined;
      if (resource.failure !== undefined) throw toMirageError(new Refusal(resource.failure, ''), attempt);
      const info = this.#info(key, resource);
      if (info?.kind === 'file' && kind === 'directory' && key !== '') return undefined;
      return info;
    }
    throw new MirageError(`stat ${key}: the server sent an empty answer`, { errno: 'EIO', retryable: true });
  }

  /** One level, whole. ENOENT: no such collection. */
  async list(key: string, signal: AbortSignal): Promise<ListPage> {
    const entries: ObjectInfo[] = [];
    for await (const info of this.entries(key, signal)) entries.push(info);
    return { entries, cursor: undefined };
  }

  /** The same as it arrives. */
  async *entries(key: string, signal: AbortSignal): AsyncGenerator<ObjectInfo> {
    const attempt = { operation: 'list', subject: key, signal };
    const path = this.#addresses.path(key, 'directory');
    const found = await this.#propfind(path, '1', PROPFIND, attempt);
    let unnameable = 0;
    for await (const resource of found ?? []) {
      const child = this.#addresses.childOf(key, resource.href);
      if (child === key) {
        if (resource.failure !== undefined) throw toMirageError(new Refusal(resource.failure, ''), attempt);
        if (infoOf(key, resource, false)?.kind === 'file') {
          throw new MirageError(`list ${key}: it is a file`, { errno: 'ENOTDIR' });
        }
        continue;
      }
      const info = child === undefined ? undefined : this.#info(child, resource);
      if (child === undefined) unnameable++;
      else if (info !== undefined && child !== UPLOADS) yield info;
    }
    if (unnameable > 0) {
      this.#log.warn('the server listed names that are not in the folder, or are no names', {
        key,
        unnameable,
      });
    }
  }

  async quota(signal: AbortSignal): Promise<{ total?: number; free?: number }> {
    const attempt = { operation: 'usage', subject: '/', signal };
    const path = this.#addresses.path('', 'directory');
    for await (const { properties } of (await this.#propfind(path, '0', PROPFIND_QUOTA, attempt)) ?? []) {
      const free = bytesOf(properties['quota-available-bytes']);
      const used = bytesOf(properties['quota-used-bytes']);
      // Negative: unlimited or not known (Nextcloud).
      if (free === undefined) return {};
      return { free, total: free + (used ?? 0) };
    }
    return {};
  }

  /** Replaces our property. `validator`: of the content that the attributes are of. */
  async saveAttributes(
    key: string,
    kind: ObjectInfo['kind'],
    attributes: StoredAttributes,
    validator: Validator | undefined,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<void> {
    const attempt = { operation: 'setAttributes', subject: key, changes: true, signal };
    const value = isEmpty(attributes)
      ? undefined
      : encodeAttributes(attributes, kind === 'file' ? validator : undefined);
    const answer = await this.#client.request(
      {
        method: 'PROPPATCH',
        path: this.#addresses.path(key, kind),
        headers: { 'content-type': XML, ...headers },
        body: proppatch(value),
        patient: true,
      },
      attempt,
    );
    for await (const { failure } of resources(answer.body)) {
      if (failure !== undefined)
        throw toMirageError(new Refusal(failure, 'the property was not saved'), attempt);
    }
  }

  #info(key: string, resource: Resource): ObjectInfo | undefined {
    const info = infoOf(key, resource, this.#attributes);
    if (info?.kind === 'file' && info.validator !== undefined) this.#withoutTags = isByTime(info.validator);
    return info;
  }

  async #propfind(
    path: string,
    depth: '0' | '1',
    body: string,
    attempt: { operation: string; subject: string; signal: AbortSignal },
    missing: readonly number[] = [],
  ): Promise<AsyncIterable<Resource> | undefined> {
    const answer = await this.#client.request(
      { method: 'PROPFIND', path, headers: { depth, 'content-type': XML }, body },
      attempt,
      missing,
    );
    if (missing.includes(answer.status)) {
      await answer.body.dump();
      return undefined;
    }
    if (answer.status !== 207) {
      await answer.body.dump();
      throw new MirageError(`${attempt.operation} ${attempt.subject}: ${answer.status} is no listing`, {
        errno: 'EIO',
        hint: 'is `url` of the mount a WebDAV folder?',
      });
    }
    return mapped(resources(answer.body), attempt);
  }
}

/** Connections break in the middle of a listing, too. */
async function* mapped(
  found: AsyncIterable<Resource>,
  attempt: { operation: string; subject: string; signal: AbortSignal },
): AsyncGenerator<Resource> {
  try {
    yield* found;
  } catch (error) {
    throw toMirageError(error, attempt);
  }
}

function bytesOf(value: unknown): number | undefined {
  return typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : undefined;
}
