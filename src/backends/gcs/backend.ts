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
  StoredAttributes,
  Validator,
  WriteOptions,
} from '../contract.js';
import { anotherVersion, implicitDirectory } from '../object-store/info.js';
import { extractOf, pour } from '../object-store/pour.js';
import { discard } from './client.js';
import { copyObject } from './copies.js';
import { toMirageError } from './errors.js';
import type { Objects } from './objects.js';
import { infoOf, infoOfMedia, isRanged, PAGE_FIELDS, pageSchema, versionOf } from './resources.js';

/** https://cloud.google.com/storage/quotas#objects */
const MAXIMUM_SIZE = 5 * 2 ** 40;

/**
 * A bucket of Google Cloud Storage, or what lies below a prefix of it. Every change carries the generation it was made for, content is read by its
 * generation, and listings tell the attributes of what they show.
 */
export class GcsBackend implements DirectoryBackend, CopyBackend, AttributeBackend {
  readonly capabilities: Capabilities;

  constructor(
    private readonly objects: Objects,
    preconditions: Capabilities['preconditions'],
    private readonly log: Log,
  ) {
    this.capabilities = {
      preconditions,
      attributes: true,
      directories: 'markers',
      maximumSize: MAXIMUM_SIZE,
      maximumKeyBytes: objects.keys.maximumBytes,
    };
  }

  async stat(key: string, context: Context): Promise<ObjectInfo | undefined> {
    const { keys } = this.objects;
    const marker = keys.directory(key);
    if (key === '') {
      const own = marker === '' ? undefined : await this.objects.find(marker, context);
      return own === undefined ? implicitDirectory(key) : infoOf(key, 'directory', own);
    }
    if (LINE_BREAK.test(key)) return undefined;
    this.#checkName(key);
    // Both at once: a name may be a file or a directory, and each question costs a round trip. A file does not wait for the other answer.
    const listed = this.objects.below(marker, 1, context);
    listed.catch(() => undefined);
    const file = await this.objects.find(keys.object(key), context);
    if (file !== undefined) return infoOf(key, 'file', file);
    const [first] = await listed;
    if (first === undefined) return undefined;
    return first.name === marker ? infoOf(key, 'directory', first) : implicitDirectory(key);
  }

  async list(prefix: string, cursor: string | undefined, { signal }: Context): Promise<ListPage> {
    const { client, keys } = this.objects;
    const directory = keys.directory(prefix);
    const page = await client.json(
      {
        method: 'GET',
        path: client.objects(),
        query: {
          prefix: directory,
          delimiter: '/',
          // Markers of directories come with their attributes.
          includeTrailingDelimiter: 'true',
          pageToken: cursor,
          fields: PAGE_FIELDS,
        },
        attempt: { operation: 'list', subject: prefix, signal },
      },
      pageSchema,
    );
    const entries: ObjectInfo[] = [];
    const marked = new Set<string>();
    for (const object of page.items) {
      const { name } = object;
      if (name === directory) continue;
      const isMarker = name.endsWith('/');
      const key = isMarker ? keys.fromPrefix(name) : keys.fromObject(name);
      if (isMarker) marked.add(name);
      if (key === undefined) this.#unnameable(name);
      else entries.push(infoOf(key, isMarker ? 'directory' : 'file', object));
    }
    for (const name of page.prefixes) {
      if (marked.has(name)) continue;
      const key = keys.fromPrefix(name);
      if (key === undefined) this.#unnameable(name);
      else entries.push(implicitDirectory(key));
    }
    return { entries, cursor: page.nextPageToken };
  }

  async read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Promise<ObjectInfo> {
    if (range.length === 0) return this.objects.existing(key, context, match);
    const { client, keys } = this.objects;
    const { signal } = context;
    const attempt = { operation: 'read', subject: key, signal };
    // A bucket that keeps old versions gives one of them as well.
    const generation = match === undefined ? undefined : versionOf(key, match).generation;
    const answer = await client.send({
      method: 'GET',
      path: client.objects(keys.object(key)),
      query: { alt: 'media', generation },
      headers: {
        range: `bytes=${range.offset}-${range.offset + range.length - 1}`,
        // What was stored packed comes as it is: unpacked on the way it would have neither size nor ranges.
        'accept-encoding': 'gzip',
      },
      accepts: [404, 416],
      attempt,
    });
    if (answer.status === 404 || answer.status === 416) {
      await discard(answer);
      // Past the end, or an empty object, is nothing to read, but still a version to tell.
      const found = await this.objects.existing(key, context, undefined);
      const same = generation === undefined || found.version === generation;
      if (!same || answer.status === 404) throw anotherVersion(key);
      return match === undefined ? found : { ...found, validator: match };
    }
    try {
      const said = infoOfMedia(key, answer);
      // Another writer may have changed the attributes: the content is still that of the version that was asked for.
      const info = match === undefined ? said : { ...said, validator: match };
      sink.begin?.(info);
      // What is broken off on purpose says so in an event, too.
      answer.body.on('error', () => undefined);
      await pour(answer.body, extractOf(range, info.size ?? 0, isRanged(answer)), sink, signal);
      return info;
    } catch (error) {
      answer.body.destroy();
      throw toMirageError(error, attempt);
    }
  }

  async write(
    key: string,
    source: ByteSource,
    { precondition, attributes = {} }: WriteOptions,
    context: Context,
  ): Promise<ObjectInfo> {
    this.#checkName(key);
    return this.objects.put(key, 'file', source, attributes, precondition, context);
  }

  async remove(key: string, precondition: Precondition, context: Context): Promise<void> {
    if (precondition.kind === 'absent') return;
    await this.objects.remove(key, this.objects.keys.object(key), precondition, context);
  }

  async createDirectory(key: string, attributes: StoredAttributes, context: Context): Promise<ObjectInfo> {
    this.#checkName(`${key}/`);
    try {
      return await this.objects.put(key, 'directory', EMPTY, attributes, { kind: 'absent' }, context);
    } catch (error) {
      if (!MirageError.is(error, 'ESTALE')) throw error;
      throw new MirageError(`createDirectory ${key}: it exists`, { errno: 'EEXIST', cause: error });
    }
  }

  async removeDirectory(key: string, context: Context): Promise<void> {
    const marker = this.objects.keys.directory(key);
    const below = await this.objects.below(marker, 2, context);
    if (below.some(({ name }) => name !== marker)) {
      throw new MirageError(`removeDirectory ${key}: it is not empty`, { errno: 'ENOTEMPTY' });
    }
    if (below.length > 0) await this.objects.remove(key, marker, { kind: 'any' }, context);
  }

  async copy(
    from: string,
    to: string,
    options: WriteOptions & { readonly match?: Validator },
    context: Context,
  ): Promise<ObjectInfo> {
    this.#checkName(to);
    return copyObject(this.objects, from, to, options, context);
  }

  async setAttributes(
    key: string,
    kind: 'file' | 'directory',
    attributes: StoredAttributes,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    if (kind === 'file') return this.objects.patch(key, kind, attributes, precondition, context);
    if (this.objects.keys.directory(key) === '') {
      throw new MirageError('the root of a bucket keeps no attributes', { errno: 'ENOTSUP' });
    }
    if (precondition.kind === 'absent') {
      return this.objects.put(key, kind, EMPTY, attributes, precondition, context);
    }
    try {
      return await this.objects.patch(key, kind, attributes, precondition, context);
    } catch (error) {
      // An implicit directory becomes one of its own.
      if (!MirageError.is(error, 'ENOENT')) throw error;
      return this.objects.put(key, kind, EMPTY, attributes, { kind: 'any' }, context);
    }
  }

  async close(): Promise<void> {
    await this.objects.client.close();
  }

  /** https://cloud.google.com/storage/docs/objects#naming */
  #checkName(key: string): void {
    if (Buffer.byteLength(key) > this.capabilities.maximumKeyBytes) {
      throw new MirageError(`${key.slice(0, 60)}…: the key is longer than Google Cloud Storage allows`, {
        errno: 'ENAMETOOLONG',
      });
    }
    if (LINE_BREAK.test(key)) {
      throw new MirageError(`${JSON.stringify(key)}: Google Cloud Storage allows no line break in a name`, {
        errno: 'EINVAL',
      });
    }
  }

  #unnameable(name: string): void {
    this.log.warn('an object cannot be shown: its key begins with a slash', { key: name });
  }
}

const LINE_BREAK = /[\r\n]/;

const EMPTY: ByteSource = {
  size: 0,
  async *read() {},
};
