import { createHash } from 'node:crypto';
import type {
  AttributeBackend,
  ByteRange,
  ByteSink,
  ByteSource,
  CopyBackend,
  DirectoryBackend,
  ListPage,
  ObjectInfo,
  Precondition,
  StoredAttributes,
  Validator,
  WriteOptions,
} from '../../src/backends/contract.js';
import { MirageError } from '../../src/errors/mirage-error.js';

interface Stored {
  readonly bytes: Buffer;
  readonly attributes: StoredAttributes;
  readonly seconds: number;
  readonly validator: Validator;
}

export interface Honours {
  copyAbsent?: boolean;
  removeMatch?: boolean;
  /** Every change makes a version of another name, whatever its bytes. */
  namesAnew?: boolean;
}

/**
 * A bucket as S3 is: flat keys, markers, listings without attributes, ETags that are the hash of the bytes, and copies or removals
 * that may not know preconditions.
 */
export class Bucket implements DirectoryBackend, CopyBackend, AttributeBackend {
  readonly capabilities;
  readonly objects = new Map<string, Stored>();
  /** Requests that reached the store, by operation. */
  readonly requests: string[] = [];
  /** Runs before an operation acts; what it throws is the answer. */
  before: ((operation: string, key: string) => void | Promise<void>) | undefined;
  /** Runs after an operation has acted; what it throws is the answer. */
  after: ((operation: string, key: string) => void) | undefined;
  pageSize = 1000;
  #seconds = 1_000_000;
  get #later(): number {
    this.#seconds += 10;
    return this.#seconds;
  }
  readonly #namesAnew: boolean;

  constructor(honours: Honours = {}) {
    this.#namesAnew = honours.namesAnew ?? false;
    this.capabilities = {
      preconditions: {
        writeAbsent: true,
        writeMatch: true,
        multipartAbsent: true,
        multipartMatch: true,
        copyAbsent: honours.copyAbsent ?? true,
        removeMatch: honours.removeMatch ?? true,
      },
      attributes: true,
      directories: 'markers' as const,
      maximumSize: Number.POSITIVE_INFINITY,
      maximumKeyBytes: 1024,
    };
  }

  /** What another host does. */
  put(key: string, text: string, attributes: StoredAttributes = {}): void {
    this.#store(key, Buffer.from(text), attributes);
  }

  #store(name: string, bytes: Buffer, attributes: StoredAttributes): Stored {
    const seconds = this.#later;
    const hash = createHash('md5').update(bytes).digest('hex');
    const stored = { bytes, attributes, seconds, validator: this.#namesAnew ? `${seconds}` : hash };
    this.objects.set(name, stored);
    return stored;
  }
  text(key: string): string | undefined {
    return this.objects.get(key)?.bytes.toString();
  }
  keys(): string[] {
    return [...this.objects.keys()].sort();
  }

  async #enter(operation: string, key: string): Promise<void> {
    this.requests.push(`${operation} ${key}`);
    await this.before?.(operation, key);
  }

  async stat(key: string): Promise<ObjectInfo | undefined> {
    await this.#enter('stat', key);
    const stored = this.objects.get(key);
    if (stored !== undefined) return describe(key, 'file', stored, true);
    const marker = this.objects.get(`${key}/`);
    if (marker !== undefined) return describe(key, 'directory', marker, true);
    return [...this.objects.keys()].some((other) => other.startsWith(`${key}/`)) ? implicit(key) : undefined;
  }

  async list(prefix: string, cursor: string | undefined): Promise<ListPage> {
    await this.#enter('list', prefix);
    const start = prefix === '' ? '' : `${prefix}/`;
    const entries = new Map<string, ObjectInfo>();
    for (const key of [...this.objects.keys()].sort()) {
      if (!key.startsWith(start) || key === start) continue;
      const end = key.indexOf('/', start.length);
      if (end === -1) entries.set(key, describe(key, 'file', this.objects.get(key) as Stored, false));
      else entries.set(`${key.slice(0, end)}/`, implicit(key.slice(0, end)));
    }
    const all = [...entries.values()];
    const from = Number(cursor ?? 0);
    const next = from + this.pageSize;
    const marker = from === 0 && start !== '' && this.objects.has(start);
    return { entries: all.slice(from, next), cursor: all.length > next ? String(next) : undefined, marker };
  }

  async read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    _context: unknown,
    match?: Validator,
  ): Promise<ObjectInfo> {
    await this.#enter('read', key);
    const stored = this.objects.get(key);
    if (stored === undefined) throw new MirageError(`${key}: no such object`, { errno: 'ENOENT' });
    if (match !== undefined && match !== stored.validator) throw stale(key);
    await sink.write(Buffer.from(stored.bytes.subarray(range.offset, range.offset + range.length)));
    return describe(key, 'file', stored, true);
  }

  async write(
    key: string,
    source: ByteSource,
    { precondition, attributes = {} }: WriteOptions,
  ): Promise<ObjectInfo> {
    if (Buffer.byteLength(key) > 1024) throw new MirageError('too long', { errno: 'ENAMETOOLONG' });
    const chunks: Buffer[] = [];
    for await (const chunk of source.read({ offset: 0, length: source.size }))
      chunks.push(Buffer.from(chunk));
    await this.#enter('write', key);
    this.#check(key, precondition);
    const stored = this.#store(key, Buffer.concat(chunks), attributes);
    this.after?.('write', key);
    return describe(key, 'file', stored, true);
  }

  async remove(key: string, precondition: Precondition): Promise<void> {
    await this.#enter('remove', key);
    if (this.capabilities.preconditions.removeMatch) this.#check(key, precondition);
    this.objects.delete(key);
  }

  async createDirectory(key: string, attributes: StoredAttributes): Promise<ObjectInfo> {
    await this.#enter('createDirectory', key);
    if (this.objects.has(`${key}/`)) throw new MirageError(`${key} exists`, { errno: 'EEXIST' });
    return this.#marker(key, attributes);
  }

  async removeDirectory(key: string): Promise<void> {
    await this.#enter('removeDirectory', key);
    const below = [...this.objects.keys()].filter((other) => other.startsWith(`${key}/`));
    if (below.some((other) => other !== `${key}/`)) throw new MirageError(key, { errno: 'ENOTEMPTY' });
    this.objects.delete(`${key}/`);
  }

  async copy(
    from: string,
    to: string,
    { precondition, attributes, match }: WriteOptions & { match?: Validator },
  ): Promise<ObjectInfo> {
    await this.#enter('copy', `${from} ${to}`);
    const source = this.objects.get(from);
    if (source === undefined) throw new MirageError(`${from}: no such object`, { errno: 'ENOENT' });
    if (match !== undefined && source.validator !== match) throw stale(from);
    if (this.capabilities.preconditions.copyAbsent) this.#check(to, precondition);
    const stored = this.#store(to, source.bytes, attributes ?? source.attributes);
    return describe(to, 'file', stored, true);
  }

  async setAttributes(
    key: string,
    kind: 'file' | 'directory',
    attributes: StoredAttributes,
    precondition: Precondition,
  ): Promise<ObjectInfo> {
    await this.#enter('setAttributes', key);
    if (kind === 'directory') return this.#marker(key, attributes);
    this.#check(key, precondition);
    const stored = this.objects.get(key);
    if (stored === undefined) throw new MirageError(`${key}: no such object`, { errno: 'ENOENT' });
    const changed = this.#store(key, stored.bytes, attributes);
    this.after?.('setAttributes', key);
    return describe(key, 'file', changed, true);
  }

  #marker(key: string, attributes: StoredAttributes): ObjectInfo {
    const stored = this.#store(`${key}/`, Buffer.alloc(0), attributes);
    return describe(key, 'directory', stored, true);
  }

  #check(key: string, precondition: Precondition): void {
    const stored = this.objects.get(key);
    const holds =
      precondition.kind === 'any' ||
      (precondition.kind === 'absent'
        ? stored === undefined
        : stored !== undefined && stored.validator === precondition.validator);
    if (!holds) throw stale(key);
  }
}

const describe = (
  key: string,
  kind: 'file' | 'directory',
  stored: Stored,
  withAttributes: boolean,
): ObjectInfo => ({
  key,
  kind,
  size: stored.bytes.length,
  modified: { seconds: stored.seconds, nanoseconds: 0 },
  validator: stored.validator,
  attributes: withAttributes ? stored.attributes : undefined,
});

const implicit = (key: string): ObjectInfo => ({
  key,
  kind: 'directory',
  size: undefined,
  modified: { seconds: 0, nanoseconds: 0 },
  validator: undefined,
  attributes: undefined,
});

const stale = (key: string): MirageError => new MirageError(`${key}: another version`, { errno: 'ESTALE' });
