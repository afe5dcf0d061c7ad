import type {
  Backend,
  ByteRange,
  ByteSink,
  ByteSource,
  Context,
  ListPage,
  ObjectInfo,
  Precondition,
  StoredAttributes,
  WriteOptions,
} from '../../src/backends/contract.js';
import { MirageError } from '../../src/errors/mirage-error.js';

interface Entry {
  readonly bytes: Buffer;
  readonly version: number;
  readonly attributes: StoredAttributes;
}

/**
 * The five methods of a custom backend over a Map, as a stranger would write them: every precondition honoured, no directories of its
 * own. `chunk` is the size, in bytes, of the pieces it reads in.
 */
export class MemoryBackend implements Backend {
  readonly capabilities = {
    preconditions: {
      writeAbsent: true,
      writeMatch: true,
      multipartAbsent: true,
      multipartMatch: true,
      copyAbsent: false,
      removeMatch: true,
    },
    attributes: true,
    directories: 'markers' as const,
    maximumSize: Number.POSITIVE_INFINITY,
    maximumKeyBytes: 1024,
  };
  readonly #objects = new Map<string, Entry>();
  #version = 0;

  constructor(private readonly chunk = 65_536) {}

  async stat(key: string, { signal }: Context): Promise<ObjectInfo | undefined> {
    signal.throwIfAborted();
    const entry = this.#objects.get(key);
    if (entry !== undefined) return describe(key, entry);
    const below = [...this.#objects.keys()].some((other) => other.startsWith(`${key}/`));
    return key === '' || below ? directory(key) : undefined;
  }

  async list(prefix: string, cursor: string | undefined): Promise<ListPage> {
    const start = prefix === '' ? '' : `${prefix}/`;
    const entries = new Map<string, ObjectInfo>();
    for (const [key, entry] of this.#objects) {
      if (!key.startsWith(start)) continue;
      const end = key.indexOf('/', start.length);
      if (end === -1) entries.set(key, describe(key, entry));
      else entries.set(`${key.slice(0, end)}/`, directory(key.slice(0, end)));
    }
    const from = Number(cursor ?? 0);
    const all = [...entries.values()];
    return {
      entries: all.slice(from, from + 1000),
      cursor: all.length > from + 1000 ? String(from + 1000) : undefined,
    };
  }

  async read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    { signal }: Context,
    match?: string,
  ): Promise<ObjectInfo> {
    const entry = this.#objects.get(key);
    if (entry === undefined) throw new MirageError(`${key}: no such object`, { errno: 'ENOENT' });
    if (match !== undefined && match !== String(entry.version)) throw stale(key);
    const end = Math.min(entry.bytes.length, range.offset + range.length);
    sink.begin?.(describe(key, entry));
    for (let at = range.offset; at < end; at += this.chunk) {
      signal.throwIfAborted();
      await sink.write(Buffer.from(entry.bytes.subarray(at, Math.min(end, at + this.chunk))));
    }
    return describe(key, entry);
  }

  async write(
    key: string,
    source: ByteSource,
    { precondition, attributes = {} }: WriteOptions,
    { signal }: Context,
  ): Promise<ObjectInfo> {
    if (Buffer.byteLength(key) > 1024) throw new MirageError('too long', { errno: 'ENAMETOOLONG' });
    const chunks: Uint8Array[] = [];
    for await (const chunk of source.read({ offset: 0, length: source.size })) {
      signal.throwIfAborted();
      chunks.push(chunk);
    }
    signal.throwIfAborted();
    this.#check(key, precondition);
    const entry = { bytes: Buffer.concat(chunks), version: ++this.#version, attributes };
    this.#objects.set(key, entry);
    return describe(key, entry);
  }

  async remove(key: string, precondition: Precondition): Promise<void> {
    this.#check(key, precondition);
    this.#objects.delete(key);
  }

  #check(key: string, precondition: Precondition): void {
    const entry = this.#objects.get(key);
    const holds =
      precondition.kind === 'any' ||
      (precondition.kind === 'absent'
        ? entry === undefined
        : entry !== undefined && String(entry.version) === precondition.validator);
    if (!holds) throw stale(key);
  }
}

const NEVER = { seconds: 0, nanoseconds: 0 };

function describe(key: string, { bytes, version, attributes }: Entry): ObjectInfo {
  return {
    key,
    kind: 'file',
    size: bytes.length,
    modified: NEVER,
    validator: String(version),
    attributes,
  };
}

function directory(key: string): ObjectInfo {
  return {
    key,
    kind: 'directory',
    size: undefined,
    modified: NEVER,
    validator: undefined,
    attributes: undefined,
  };
}

const stale = (key: string) => new MirageError(`${key}: another version`, { errno: 'ESTALE' });
