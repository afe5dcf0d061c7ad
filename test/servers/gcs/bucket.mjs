/**
 * One bucket in memory: objects with generations and metagenerations, conditional changes, listings.
 * Source: https://cloud.google.com/storage/docs/json_api/v1/objects and .../request-preconditions
 */
import { createHash } from 'node:crypto';
import { crc32c } from './crc32c.mjs';
import { integer, Refusal } from './refusal.mjs';

/** Metadata that a writer may choose. */
const writable = [
  'acl',
  'cacheControl',
  'contentDisposition',
  'contentEncoding',
  'contentLanguage',
  'contentType',
  'customTime',
  'eventBasedHold',
  'metadata',
  'storageClass',
  'temporaryHold',
];
const preconditions = [
  'ifGenerationMatch',
  'ifGenerationNotMatch',
  'ifMetagenerationMatch',
  'ifMetagenerationNotMatch',
];

let lastGeneration = 0n;
/** Microseconds since 1970, never the same twice: what generations look like. */
function nextGeneration() {
  const now = BigInt(Date.now()) * 1000n;
  lastGeneration = now > lastGeneration ? now : lastGeneration + 1n;
  return String(lastGeneration);
}

/** @param {string} name */
function checkName(name) {
  const bytes = Buffer.byteLength(name);
  const bad =
    name === '.' || name === '..' || /[\r\n]/.test(name) || name.startsWith('.well-known/acme-challenge/');
  if (bytes === 0 || bytes > 1024 || bad) throw new Refusal(400, `Invalid object name: ${name}`);
}

export class Bucket {
  /** @type {Map<string, any[]>} name → versions, the live one last (undefined when there is none) */
  #objects = new Map();
  /** @type {string[] | undefined} names in UTF-8 order, until one comes or goes */
  #sorted;
  metageneration = 1;
  timeCreated = new Date().toISOString();

  /** @param {string} name @param {Record<string, any>} settings of the insert request */
  constructor(name, settings) {
    this.name = name;
    this.versioning = settings.versioning?.enabled === true;
    this.storageClass = settings.storageClass ?? 'STANDARD';
  }

  resource() {
    return {
      kind: 'storage#bucket',
      id: this.name,
      name: this.name,
      projectNumber: '1',
      metageneration: String(this.metageneration),
      location: 'US',
      locationType: 'multi-region',
      storageClass: this.storageClass,
      etag: Buffer.from(String(this.metageneration)).toString('base64'),
      timeCreated: this.timeCreated,
      updated: this.timeCreated,
      ...(this.versioning && { versioning: { enabled: true } }),
    };
  }

  get isEmpty() {
    return this.#objects.size === 0;
  }

  /** The live object, if there is one. @param {string} name */
  peek(name) {
    return this.#objects.get(name)?.at(-1);
  }

  /** The object as a request sees it: a generation, or the live one. 404 without it. */
  find(name, query) {
    const generation = integer(query.generation, 'generation');
    const versions = this.#objects.get(name) ?? [];
    const found =
      generation === undefined ? versions.at(-1) : versions.find((each) => each?.generation === generation);
    if (found === undefined) throw new Refusal(404, `No such object: ${this.name}/${name}`);
    return found;
  }

  /**
   * 412, or 304 for a read, unless the object is as the request wants it. `prefix` names the parameters of a copy's source (`ifSource…`).
   * @param {any} object undefined: there is none @param {Record<string, string>} query
   */
  static require(object, query, { prefix = 'if', reading = false } = {}) {
    for (const name of preconditions) {
      const parameter = name.replace('if', prefix);
      const wanted = integer(query[parameter], parameter);
      if (wanted === undefined) continue;
      const has = name.includes('Meta') ? (object?.metageneration ?? '0') : (object?.generation ?? '0');
      const negative = name.includes('Not');
      if (negative ? has !== wanted : has === wanted) continue;
      if (negative && reading) throw new Refusal(304, 'Not Modified');
      throw new Refusal(412, 'At least one of the pre-conditions you specified did not hold.');
    }
  }

  /** A new generation, if the live object is as the request wants it. @param {string} name @param {Buffer} content */
  insert(name, content, metadata, query) {
    checkName(name);
    Bucket.require(this.peek(name), query);
    const [md5Hash, checksum] = [createHash('md5').update(content).digest('base64'), crc32c(content)];
    for (const [field, is] of [
      ['md5Hash', md5Hash],
      ['crc32c', checksum],
    ]) {
      if (metadata[field] !== undefined && metadata[field] !== is) {
        throw new Refusal(400, `Provided ${field} "${metadata[field]}" doesn't match calculated "${is}".`);
      }
    }
    const time = new Date().toISOString();
    const object = {
      name,
      content,
      generation: nextGeneration(),
      metageneration: '1',
      md5Hash,
      crc32c: checksum,
    };
    Object.assign(object, { timeCreated: time, updated: time, storageClass: this.storageClass });
    this.#choose(object, metadata);
    if (metadata.componentCount !== undefined) {
      object.componentCount = metadata.componentCount;
      delete object.md5Hash;
    }
    const versions = this.#objects.get(name);
    if (versions === undefined || !this.versioning) this.#objects.set(name, [object]);
    else versions.push(object);
    if (versions === undefined) this.#sorted = undefined;
    return object;
  }

  #choose(object, metadata) {
    for (const field of writable) if (metadata[field] != null) object[field] = metadata[field];
    for (const value of Object.values(metadata.metadata ?? {})) {
      if (typeof value !== 'string') throw new Refusal(400, 'Invalid value for: metadata: not a string');
    }
    const size = Object.entries(object.metadata ?? {}).reduce(
      (sum, [name, value]) => sum + Buffer.byteLength(name) + Buffer.byteLength(String(value)),
      0,
    );
    if (size > 8192) throw new Refusal(400, 'The total size of the custom metadata is above 8 KiB.');
  }

  /** PATCH merges (null removes a field, also of `metadata`), PUT replaces. */
  update(name, metadata, query, replace) {
    const object = this.find(name, query);
    Bucket.require(object, query);
    if (replace) for (const field of writable) if (field !== 'storageClass') delete object[field];
    const custom = { ...object.metadata };
    for (const [key, value] of Object.entries(metadata.metadata ?? {})) {
      if (value === null) delete custom[key];
      else custom[key] = value;
    }
    for (const field of writable) if (metadata[field] === null) delete object[field];
    this.#choose(object, { ...metadata, ...(metadata.metadata && { metadata: custom }) });
    object.metageneration = String(Number(object.metageneration) + 1);
    object.updated = new Date().toISOString();
    return object;
  }

  remove(name, query) {
    const object = this.find(name, query);
    Bucket.require(object, query);
    const versions = this.#objects.get(name);
    if (query.generation !== undefined || !this.versioning) versions.splice(versions.indexOf(object), 1);
    else versions.push(undefined);
    if (versions.every((each) => each === undefined)) {
      this.#objects.delete(name);
      this.#sorted = undefined;
    }
  }

  /** One page, in the order of UTF-8 bytes. */
  list(query) {
    const { prefix = '', delimiter, startOffset, endOffset, includeTrailingDelimiter, pageToken } = query;
    const limit = Math.min(Number(integer(query.maxResults, 'maxResults', 1) ?? 1000), 1000);
    const allVersions = query.versions === 'true';
    const after = pageToken === undefined ? undefined : Buffer.from(pageToken, 'base64').toString();
    this.#sorted ??= [...this.#objects.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const isAfter = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)) > 0;
    const items = [];
    const prefixes = [];
    let last;
    for (const name of this.#sorted) {
      if (!name.startsWith(prefix)) continue;
      if (startOffset !== undefined && isAfter(startOffset, name)) continue;
      if (endOffset !== undefined && !isAfter(endOffset, name)) continue;
      const end = delimiter === undefined ? -1 : name.indexOf(delimiter, prefix.length);
      const group = end < 0 ? undefined : name.slice(0, end + delimiter.length);
      // What a page ended with: a name, or a whole group of names.
      if (after !== undefined && (!isAfter(name, after) || group === after)) continue;
      const versions = this.#objects
        .get(name)
        .filter((each, index, { length }) =>
          allVersions ? each !== undefined : each !== undefined && index === length - 1,
        );
      if (versions.length === 0) continue;
      const isNew = group !== undefined && prefixes.at(-1) !== group;
      const shown = group === undefined || (includeTrailingDelimiter === 'true' && group === name);
      if ((isNew || shown) && items.length + prefixes.length >= limit) {
        return { items, prefixes, nextPageToken: Buffer.from(last).toString('base64') };
      }
      if (isNew) prefixes.push(group);
      if (shown) items.push(...versions);
      last = group ?? name;
    }
    return { items, prefixes, nextPageToken: undefined };
  }
}
