import type { Readable } from 'node:stream';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { MirageError } from '../../errors/mirage-error.js';
import type { Log } from '../../log/log.js';
import type {
  AttributeBackend,
  BatchRemovalBackend,
  ByteRange,
  ByteSink,
  ByteSource,
  Capabilities,
  Context,
  CopyBackend,
  CopyOptions,
  DirectoryBackend,
  ListPage,
  ObjectInfo,
  Precondition,
  Removal,
  StoredAttributes,
  Validator,
  WriteOptions,
} from '../contract.js';
import type { Multipart, MultipartBackend } from '../multipart.js';
import { encodeAttributes } from '../object-store/attributes.js';
import { gather, sendBody } from '../object-store/body.js';
import { implicitDirectory } from '../object-store/info.js';
import type { KeySpace } from '../object-store/keys.js';
import { removeEach } from '../object-store/removals.js';
import { Versions } from '../object-store/versions.js';
import { Copies } from './copies.js';
import { DirectReader } from './direct-read.js';
import { toMirageError } from './errors.js';
import { decodeKey } from './keys.js';
import { Pages } from './listing.js';
import { uploadInParts } from './multipart.js';
import { infoOf, Objects } from './objects.js';
import { objectSize, type Pouring, pour, rangeHeader } from './pour.js';
import { fitsBatch, MOST_REMOVALS, removeBatch } from './removals.js';
import {
  answeredAt,
  type Bucket,
  conditionsOf,
  type Limits,
  request,
  statusOf,
  type Traits,
  validatorOf,
} from './requests.js';
import { S3Uploads } from './uploads.js';

/** Objects up to this size, in bytes, are sent from memory in one piece: a stream would cost more than the copy. */
const IN_MEMORY = 2 ** 20;

/**
 * An S3 bucket, or what lies below a prefix of it. Where the store honours a precondition it carries it; where it does not, the object is
 * looked at right before the change, which narrows the window of a lost update but cannot close it (`capabilities.preconditions` says which).
 */
export class S3Backend implements DirectoryBackend, CopyBackend, AttributeBackend, MultipartBackend {
  readonly capabilities: Capabilities;
  /** Only where the store was found to know it. */
  readonly removeMany?: BatchRemovalBackend['removeMany'];
  readonly multipart: Multipart;
  readonly #bucket: Bucket;
  readonly #pages: Pages;
  readonly #reader: DirectReader;
  readonly #keys: KeySpace;
  readonly #objects: Objects;
  readonly #copies: Copies;
  readonly #versions = new Versions();
  readonly #limits: Limits;
  readonly #log: Log;

  constructor(bucket: Bucket, keys: KeySpace, traits: Traits, limits: Limits, log: Log) {
    this.#bucket = bucket;
    this.#pages = new Pages(bucket);
    this.#reader = new DirectReader(bucket);
    this.#keys = keys;
    this.#objects = new Objects(bucket, keys, traits);
    this.#copies = new Copies(this.#objects, limits);
    this.multipart = new S3Uploads(this.#objects, this.#versions, limits);
    this.#limits = limits;
    this.#log = log;
    const { writeAbsent, writeMatch, multipartAbsent, multipartMatch, copyAbsent, removeMatch } = traits;
    this.capabilities = {
      preconditions: { writeAbsent, writeMatch, multipartAbsent, multipartMatch, copyAbsent, removeMatch },
      attributes: true,
      directories: 'markers',
      maximumSize: limits.maximumPut,
      maximumKeyBytes: keys.maximumBytes,
    };
    if (traits.removeMany) this.removeMany = (removals, context) => this.#removeMany(removals, context);
  }

  async stat(key: string, context: Context): Promise<ObjectInfo | undefined> {
    const marker = this.#keys.directory(key);
    if (key === '') {
      const head = marker === '' ? undefined : await this.#objects.head(marker, context);
      return head === undefined ? implicitDirectory(key) : infoOf(key, 'directory', head);
    }
    this.#checkLength(key);
    // Both at once: a name may be a file or a directory, and each question costs a round trip. A file does not wait for the other answer.
    const listed = this.#below(marker, 1, context);
    listed.catch(() => undefined);
    const head = await this.#objects.head(this.#keys.object(key), context);
    if (head !== undefined) return this.#versions.seen(infoOf(key, 'file', head));
    const below = await listed;
    if (below.length === 0) return undefined;
    const own = below[0] === marker ? await this.#objects.head(marker, context) : undefined;
    return own === undefined ? implicitDirectory(key) : infoOf(key, 'directory', own);
  }

  async list(prefix: string, cursor: string | undefined, context: Context): Promise<ListPage> {
    const directory = this.#keys.directory(prefix);
    const page = await this.#pages.page(directory, cursor, context.signal);
    const entries: ObjectInfo[] = [];
    let marker = false;
    for (const { name, size, modified, validator } of page.objects) {
      if (name === directory) {
        marker = true;
        continue;
      }
      const key = this.#keys.fromObject(name);
      entries.push({ key, kind: 'file', size, modified, validator, attributes: undefined });
    }
    for (const name of page.prefixes) {
      const key = this.#keys.fromPrefix(name);
      if (key === undefined) this.#unnameable(name);
      else entries.push(implicitDirectory(key));
    }
    for (const key of page.unreadable) this.#unnameable(key);
    return { entries, cursor: page.cursor, marker };
  }

  async read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Promise<ObjectInfo> {
    const attempt = { operation: 'read', subject: key, signal: context.signal };
    if (range.length === 0) return this.#objects.existing(key, context, match);
    const begin = (answer: GetObjectCommandOutput): ObjectInfo => {
      const info = this.#versions.seen(infoOf(key, 'file', { ...answer, ContentLength: objectSize(answer) }));
      sink.begin?.(info);
      return info;
    };
    try {
      return await this.#version(key, { range, sink, begin, signal: context.signal }, match);
    } catch (error) {
      // Past the end, or an empty object: nothing to read, but still a version to tell.
      if (statusOf(error) === 416) return this.#objects.existing(key, context, match);
      throw toMirageError(error, attempt);
    }
  }

  /** The newest version, or the one that was asked for, which a bucket with versions still has when it is not the newest. */
  async #version(
    key: string,
    pouring: Pouring<ObjectInfo>,
    match: Validator | undefined,
  ): Promise<ObjectInfo> {
    const Key = this.#keys.object(key);
    try {
      return await this.#reader.read({ Key, ...(match !== undefined && { IfMatch: `"${match}"` }) }, pouring);
    } catch (error) {
      const status = statusOf(error);
      const gone = status === 412 || status === 404;
      const VersionId = gone && match !== undefined ? this.#versions.find(key, match) : undefined;
      if (VersionId === undefined) throw error;
      const { client, name } = this.#bucket;
      const { range, signal } = pouring;
      const command = new GetObjectCommand({ Bucket: name, Key, Range: rangeHeader(range), VersionId });
      return pour(await client.send(command, { abortSignal: signal }), pouring);
    }
  }

  async write(
    key: string,
    source: ByteSource,
    { precondition, attributes = {} }: WriteOptions,
    context: Context,
  ): Promise<ObjectInfo> {
    this.#checkLength(key);
    const object = this.#keys.object(key);
    const metadata = encodeAttributes(attributes);
    const honoured = this.#objects.honours(
      precondition,
      this.#objects.traits.multipartAbsent,
      this.#objects.traits.multipartMatch,
    );
    const { size } = source;
    if (size <= (honoured ? this.#limits.preferredPut : this.#limits.maximumPut)) {
      return this.#versions.seen(
        await this.#put(key, object, 'file', source, attributes, precondition, context),
      );
    }
    const completed = await uploadInParts(
      {
        bucket: this.#bucket,
        object,
        create: { Metadata: metadata },
        conditions: honoured ? conditionsOf(precondition, this.#objects.traits) : {},
        limits: this.#limits,
        ...(!honoured && { beforeCompletion: () => this.#objects.guard(key, object, precondition, context) }),
      },
      source,
      context,
    );
    return this.#versions.seen(
      await this.#objects.completed(key, object, size, attributes, completed, context),
    );
  }

  async remove(key: string, precondition: Precondition, context: Context): Promise<void> {
    if (precondition.kind === 'absent') return;
    const object = this.#keys.object(key);
    const honoured = this.#objects.honours(precondition, false, this.#objects.traits.removeMatch);
    if (!honoured) await this.#objects.guard(key, object, precondition, context);
    const conditions = honoured ? conditionsOf(precondition, this.#objects.traits) : {};
    await request(
      {
        operation: 'remove',
        subject: key,
        conditional: conditions.IfMatch !== undefined,
        signal: context.signal,
      },
      () =>
        this.#bucket.client.send(
          new DeleteObjectCommand({ Bucket: this.#bucket.name, Key: object, IfMatch: conditions.IfMatch }),
          { abortSignal: context.signal },
        ),
    );
  }

  async #removeMany(
    removals: readonly Removal[],
    context: Context,
  ): Promise<readonly (MirageError | undefined)[]> {
    const { traits, keys } = this.#objects;
    const outcomes: (MirageError | undefined)[] = removals.map(() => undefined);
    const single: number[] = [];
    const batched: number[] = [];
    removals.forEach((removal, index) => {
      if (removal.precondition.kind !== 'absent') (fitsBatch(removal, traits) ? batched : single).push(index);
    });
    const take = (indexes: readonly number[], found: readonly (MirageError | undefined)[]): void =>
      indexes.forEach((index, at) => {
        outcomes[index] = found[at];
      });
    const of = (indexes: readonly number[]) => indexes.map((index) => removals[index] as Removal);
    for (let at = 0; at < batched.length; at += MOST_REMOVALS) {
      const part = batched.slice(at, at + MOST_REMOVALS);
      take(part, await removeBatch(this.#bucket, keys, traits, of(part), context));
    }
    take(
      single,
      await removeEach(of(single), ({ key, precondition }) => this.remove(key, precondition, context)),
    );
    return outcomes;
  }

  async createDirectory(key: string, attributes: StoredAttributes, context: Context): Promise<ObjectInfo> {
    const marker = this.#keys.directory(key);
    this.#checkLength(`${key}/`);
    try {
      return await this.#put(key, marker, 'directory', EMPTY, attributes, { kind: 'absent' }, context);
    } catch (error) {
      if (!MirageError.is(error, 'ESTALE')) throw error;
      throw new MirageError(`createDirectory ${key}: it exists`, { errno: 'EEXIST', cause: error });
    }
  }

  async removeDirectory(key: string, context: Context): Promise<void> {
    const marker = this.#keys.directory(key);
    const below = await this.#below(marker, 2, context);
    if (below.some((object) => object !== marker)) {
      throw new MirageError(`removeDirectory ${key}: it is not empty`, { errno: 'ENOTEMPTY' });
    }
    if (below.length === 0) return;
    await request({ operation: 'removeDirectory', subject: key, signal: context.signal }, () =>
      this.#bucket.client.send(new DeleteObjectCommand({ Bucket: this.#bucket.name, Key: marker }), {
        abortSignal: context.signal,
      }),
    );
  }

  async copy(from: string, to: string, options: CopyOptions, context: Context): Promise<ObjectInfo> {
    this.#checkLength(to);
    return this.#versions.seen(await this.#copies.copy(from, to, options, context));
  }

  async setAttributes(
    key: string,
    kind: 'file' | 'directory',
    attributes: StoredAttributes,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    if (kind === 'directory') {
      const marker = this.#keys.directory(key);
      if (marker === '') {
        throw new MirageError('the root of a bucket keeps no attributes', { errno: 'ENOTSUP' });
      }
      return this.#put(key, marker, 'directory', EMPTY, attributes, precondition, context);
    }
    return this.#versions.seen(await this.#copies.setAttributes(key, attributes, precondition, context));
  }

  async close(): Promise<void> {
    this.#reader.close();
    this.#bucket.client.destroy();
  }

  async #put(
    key: string,
    object: string,
    kind: ObjectInfo['kind'],
    source: ByteSource,
    attributes: StoredAttributes,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    const honoured = this.#objects.honours(
      precondition,
      this.#objects.traits.writeAbsent,
      this.#objects.traits.writeMatch,
    );
    if (!honoured) await this.#objects.guard(key, object, precondition, context);
    const conditions = honoured ? conditionsOf(precondition, this.#objects.traits) : {};
    const conditional = honoured && precondition.kind !== 'any';
    const put = (body: Buffer | Readable, signal: AbortSignal) =>
      this.#bucket.client.send(
        new PutObjectCommand({
          Bucket: this.#bucket.name,
          Key: object,
          Body: body,
          ContentLength: source.size,
          Metadata: encodeAttributes(attributes),
          ...(kind === 'directory' && { ContentType: 'application/x-directory' }),
          ...conditions,
        }),
        { abortSignal: signal },
      );
    const { signal } = context;
    const answer = await request({ operation: 'write', subject: key, conditional, signal }, async () =>
      source.size <= IN_MEMORY
        ? put(await gather(source), signal)
        : sendBody(source, { offset: 0, length: source.size }, signal, put),
    );
    return {
      key,
      kind,
      size: source.size,
      modified: answeredAt(answer.$metadata),
      validator: validatorOf(answer.ETag),
      ...(answer.VersionId !== undefined && { version: answer.VersionId }),
      attributes,
    };
  }

  /** Up to `limit` keys that begin with `prefix`. */
  async #below(prefix: string, limit: number, context: Context): Promise<string[]> {
    const page = await request({ operation: 'list', subject: prefix, signal: context.signal }, () =>
      this.#bucket.client.send(
        new ListObjectsV2Command({
          Bucket: this.#bucket.name,
          Prefix: prefix,
          MaxKeys: limit,
          EncodingType: 'url',
        }),
        { abortSignal: context.signal },
      ),
    );
    return (page.Contents ?? []).map((object) => decodeKey(object.Key ?? '') ?? '');
  }

  #checkLength(key: string): void {
    if (Buffer.byteLength(key) > this.#keys.maximumBytes) {
      throw new MirageError(`${key.slice(0, 60)}…: the key is longer than S3 allows`, {
        errno: 'ENAMETOOLONG',
      });
    }
  }

  #unnameable(encoded: string | undefined): void {
    this.#log.warn('an object cannot be shown: its key is not UTF-8, or it begins with a slash', {
      key: encoded,
    });
  }
}

const EMPTY: ByteSource = {
  size: 0,
  async *read() {},
};
