import type { Readable } from 'node:stream';
import {
  type CompleteMultipartUploadCommandOutput,
  CopyObjectCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
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
import { decodeAttributes, encodeAttributes, foreignMetadata } from './attributes.js';
import { gather, sendBody } from './body.js';
import { toMirageError } from './errors.js';
import { copySource, decodeKey, type KeySpace } from './keys.js';
import { listPage } from './listing.js';
import { copyInParts, uploadInParts } from './multipart.js';
import { objectSize, pour } from './pour.js';
import {
  answeredAt,
  type Bucket,
  conditionsOf,
  headersToKeep,
  type Limits,
  request,
  statusOf,
  type Traits,
  timestampOf,
  validatorOf,
} from './requests.js';

/** Objects up to this size, in bytes, are sent from memory in one piece: a stream would cost more than the copy. */
const IN_MEMORY = 2 ** 20;

/**
 * An S3 bucket, or what lies below a prefix of it. Where the store honours a precondition it carries it; where it does not, the object is
 * looked at right before the change, which narrows the window of a lost update but cannot close it (`capabilities.preconditions` says which).
 */
export class S3Backend implements DirectoryBackend, CopyBackend, AttributeBackend {
  readonly capabilities: Capabilities;
  readonly #bucket: Bucket;
  readonly #keys: KeySpace;
  readonly #traits: Traits;
  readonly #limits: Limits;
  readonly #log: Log;

  constructor(bucket: Bucket, keys: KeySpace, traits: Traits, limits: Limits, log: Log) {
    this.#bucket = bucket;
    this.#keys = keys;
    this.#traits = traits;
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
  }

  async stat(key: string, context: Context): Promise<ObjectInfo | undefined> {
    const marker = this.#keys.directory(key);
    if (key === '') {
      const head = marker === '' ? undefined : await this.#head(marker, context);
      return head === undefined ? implicitDirectory(key) : infoOf(key, 'directory', head);
    }
    this.#checkLength(key);
    // Both at once: a name may be a file or a directory, and each question costs a round trip. A file does not wait for the other answer.
    const listed = this.#below(marker, 1, context);
    listed.catch(() => undefined);
    const head = await this.#head(this.#keys.object(key), context);
    if (head !== undefined) return infoOf(key, 'file', head);
    const below = await listed;
    if (below.length === 0) return undefined;
    const own = below[0] === marker ? await this.#head(marker, context) : undefined;
    return own === undefined ? implicitDirectory(key) : infoOf(key, 'directory', own);
  }

  async list(prefix: string, cursor: string | undefined, context: Context): Promise<ListPage> {
    const directory = this.#keys.directory(prefix);
    const page = await listPage(this.#bucket, directory, cursor, context.signal);
    const entries: ObjectInfo[] = [];
    for (const { name, size, modified, validator } of page.objects) {
      if (name === directory) continue;
      const key = this.#keys.fromObject(name);
      entries.push({ key, kind: 'file', size, modified, validator, attributes: undefined });
    }
    for (const name of page.prefixes) {
      const key = this.#keys.fromPrefix(name);
      if (key === undefined) this.#unnameable(name);
      else entries.push(implicitDirectory(key));
    }
    for (const key of page.unreadable) this.#unnameable(key);
    return { entries, cursor: page.cursor };
  }

  async read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Promise<ObjectInfo> {
    const object = this.#keys.object(key);
    const attempt = { operation: 'read', subject: key, signal: context.signal };
    if (range.length === 0) return this.#existing(key, context, match);
    try {
      const answer = await this.#bucket.client.send(
        new GetObjectCommand({
          Bucket: this.#bucket.name,
          Key: object,
          Range: `bytes=${range.offset}-${range.offset + range.length - 1}`,
          ...(match !== undefined && { IfMatch: `"${match}"` }),
        }),
        { abortSignal: context.signal },
      );
      const info = infoOf(key, 'file', { ...answer, ContentLength: objectSize(answer) });
      sink.begin?.(info);
      await pour(answer, range, sink, context.signal);
      return info;
    } catch (error) {
      // Past the end, or an empty object: nothing to read, but still a version to tell.
      if (statusOf(error) === 416) return this.#existing(key, context, match);
      throw toMirageError(error, attempt);
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
    const honoured = this.#honours(precondition, this.#traits.multipartAbsent, this.#traits.multipartMatch);
    const { size } = source;
    if (size <= (honoured ? this.#limits.preferredPut : this.#limits.maximumPut)) {
      return this.#put(key, object, 'file', source, attributes, precondition, context);
    }
    const completed = await uploadInParts(
      {
        bucket: this.#bucket,
        object,
        create: { Metadata: metadata },
        conditions: honoured ? conditionsOf(precondition, this.#traits) : {},
        limits: this.#limits,
        ...(!honoured && { beforeCompletion: () => this.#guard(key, object, precondition, context) }),
      },
      source,
      context,
    );
    return this.#completed(key, object, size, attributes, completed, context);
  }

  async remove(key: string, precondition: Precondition, context: Context): Promise<void> {
    if (precondition.kind === 'absent') return;
    const object = this.#keys.object(key);
    const honoured = this.#honours(precondition, false, this.#traits.removeMatch);
    if (!honoured) await this.#guard(key, object, precondition, context);
    const conditions = honoured ? conditionsOf(precondition, this.#traits) : {};
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

  async copy(
    from: string,
    to: string,
    { precondition, attributes, match }: WriteOptions & { readonly match?: Validator },
    context: Context,
  ): Promise<ObjectInfo> {
    this.#checkLength(to);
    const source = this.#keys.object(from);
    const head = await this.#head(source, context);
    if (head === undefined) throw new MirageError(`copy ${from}: no such object`, { errno: 'ENOENT' });
    if (match !== undefined && validatorOf(head.ETag) !== match) throw anotherVersion(from);
    return this.#copyFrom(source, head, to, attributes, precondition, context);
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
    const object = this.#keys.object(key);
    const head = await this.#head(object, context);
    if (head === undefined) {
      const errno = precondition.kind === 'match' ? 'ESTALE' : 'ENOENT';
      throw new MirageError(`setAttributes ${key}: no such object`, { errno });
    }
    const validator = validatorOf(head.ETag);
    if (precondition.kind === 'match' && validator !== precondition.validator) throw anotherVersion(key);
    // The copy replaces what it reads, so it always names the version it has seen.
    return this.#copyFrom(
      object,
      head,
      key,
      attributes,
      { kind: 'match', validator: validator ?? '' },
      context,
    );
  }

  async close(): Promise<void> {
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
    const honoured = this.#honours(precondition, this.#traits.writeAbsent, this.#traits.writeMatch);
    if (!honoured) await this.#guard(key, object, precondition, context);
    const conditions = honoured ? conditionsOf(precondition, this.#traits) : {};
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

  /** Copies the version that `head` describes. Without `attributes` the copy has those of the source. */
  async #copyFrom(
    source: string,
    head: HeadObjectCommandOutput,
    to: string,
    attributes: StoredAttributes | undefined,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    const target = this.#keys.object(to);
    const metadata =
      attributes === undefined ? undefined : encodeAttributes(attributes, foreignMetadata(head.Metadata));
    const honoured =
      // A copy onto itself is held together by the condition on its source.
      (source === target && this.#traits.copySourceMatch) ||
      this.#honours(precondition, this.#traits.copyAbsent, this.#traits.copyMatch);
    const guard = () => this.#guard(to, target, precondition, context);
    const conditions = source !== target || this.#traits.copyMatch ? this.#copyConditions(precondition) : {};
    const size = head.ContentLength ?? 0;
    const ifMatch = this.#traits.copySourceMatch ? head.ETag : undefined;
    const from = copySource(this.#bucket.name, source);
    const attempt = {
      operation: 'copy',
      subject: to,
      conditional: precondition.kind !== 'any',
      signal: context.signal,
    };
    const info = {
      key: to,
      kind: 'file',
      size,
      attributes: attributes ?? decodeAttributes(head.Metadata),
    } as const;

    if (size > this.#limits.maximumCopy) {
      const completed = await copyInParts(
        {
          bucket: this.#bucket,
          object: target,
          create: { ...headersToKeep(head), Metadata: metadata ?? head.Metadata },
          conditions: this.#honours(precondition, this.#traits.multipartAbsent, this.#traits.multipartMatch)
            ? conditionsOf(precondition, this.#traits)
            : {},
          limits: this.#limits,
          beforeCompletion: guard,
        },
        { copySource: from, size, ifMatch },
        context,
      );
      return this.#completed(to, target, size, info.attributes, completed, context);
    }
    if (!honoured) await guard();
    const copied = await request(attempt, () =>
      this.#bucket.client.send(
        new CopyObjectCommand({
          Bucket: this.#bucket.name,
          Key: target,
          CopySource: from,
          CopySourceIfMatch: ifMatch,
          ...(metadata !== undefined && {
            ...headersToKeep(head),
            MetadataDirective: 'REPLACE',
            Metadata: metadata,
          }),
          ...conditions,
        }),
        { abortSignal: context.signal },
      ),
    );
    return {
      ...info,
      modified: timestampOf(copied.CopyObjectResult?.LastModified),
      validator: validatorOf(copied.CopyObjectResult?.ETag),
      ...(copied.VersionId !== undefined && { version: copied.VersionId }),
    };
  }

  /** What a completed upload made. Ceph 16 leaves the ETag out of its answer, so it is asked for. */
  async #completed(
    key: string,
    object: string,
    size: number,
    attributes: StoredAttributes,
    answer: CompleteMultipartUploadCommandOutput,
    context: Context,
  ): Promise<ObjectInfo> {
    if (answer.ETag) {
      return {
        key,
        kind: 'file',
        size,
        modified: answeredAt(answer.$metadata),
        validator: validatorOf(answer.ETag),
        ...(answer.VersionId !== undefined && { version: answer.VersionId }),
        attributes,
      };
    }
    const head = await this.#head(object, context);
    // Somebody may have replaced it since: then that version is not one that the caller knows.
    const ours = head !== undefined && decodeAttributes(head.Metadata).writer === attributes.writer;
    if (!ours) throw anotherVersion(key);
    return infoOf(key, 'file', head);
  }

  #copyConditions(precondition: Precondition): { IfMatch?: string; IfNoneMatch?: string } {
    return this.#honours(precondition, this.#traits.copyAbsent, this.#traits.copyMatch)
      ? conditionsOf(precondition, this.#traits)
      : {};
  }

  #honours(precondition: Precondition, absent: boolean, match: boolean): boolean {
    if (precondition.kind === 'any') return true;
    return precondition.kind === 'absent' ? absent : match;
  }

  /** The best there is where the store ignores a precondition: look right before the change. */
  async #guard(key: string, object: string, precondition: Precondition, context: Context): Promise<void> {
    if (precondition.kind === 'any') return;
    const head = await this.#head(object, context);
    const holds =
      precondition.kind === 'absent'
        ? head === undefined
        : head !== undefined && validatorOf(head.ETag) === precondition.validator;
    if (!holds) throw anotherVersion(key);
  }

  async #head(object: string, context: Context): Promise<HeadObjectCommandOutput | undefined> {
    try {
      return await this.#bucket.client.send(
        new HeadObjectCommand({ Bucket: this.#bucket.name, Key: object }),
        { abortSignal: context.signal },
      );
    } catch (error) {
      if (statusOf(error) === 404) return undefined;
      throw toMirageError(error, { operation: 'stat', subject: object, signal: context.signal });
    }
  }

  async #existing(key: string, context: Context, match: Validator | undefined): Promise<ObjectInfo> {
    const head = await this.#head(this.#keys.object(key), context);
    if (head === undefined) throw new MirageError(`read ${key}: no such object`, { errno: 'ENOENT' });
    if (match !== undefined && validatorOf(head.ETag) !== match) throw anotherVersion(key);
    return infoOf(key, 'file', head);
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

function implicitDirectory(key: string): ObjectInfo {
  return {
    key,
    kind: 'directory',
    size: undefined,
    modified: { seconds: 0, nanoseconds: 0 },
    validator: undefined,
    attributes: undefined,
  };
}

function infoOf(
  key: string,
  kind: ObjectInfo['kind'],
  answer: Pick<HeadObjectCommandOutput, 'ContentLength' | 'LastModified' | 'ETag' | 'VersionId' | 'Metadata'>,
): ObjectInfo {
  return {
    key,
    kind,
    size: answer.ContentLength,
    modified: timestampOf(answer.LastModified),
    validator: validatorOf(answer.ETag),
    ...(answer.VersionId !== undefined && { version: answer.VersionId }),
    attributes: decodeAttributes(answer.Metadata),
  };
}

function anotherVersion(key: string): MirageError {
  return new MirageError(`${key}: the object is another version by now`, { errno: 'ESTALE' });
}
