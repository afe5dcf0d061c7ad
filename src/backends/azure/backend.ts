import type { Readable } from 'node:stream';
import type { BlobClient, BlobDownloadResponseParsed, BlobGetPropertiesResponse } from '@azure/storage-blob';
import { MirageError } from '../../errors/mirage-error.js';
import type {
  AttributeBackend,
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
  StoredAttributes,
  Validator,
  WriteOptions,
} from '../contract.js';
import type { Multipart, MultipartBackend } from '../multipart.js';
import { anotherVersion, implicitDirectory, sizeOfRange } from '../object-store/info.js';
import type { KeySpace } from '../object-store/keys.js';
import { pour } from '../object-store/pour.js';
import { Versions } from '../object-store/versions.js';
import { encodeAttributes, encodeFolder, foreignMetadata, isFolder } from './attributes.js';
import { copyBlob } from './copy.js';
import { statusOf, toMirageError } from './errors.js';
import { listPage, namesBelow } from './listing.js';
import { AzureLocks } from './locks.js';
import {
  type Container,
  conditionsOf,
  etagOf,
  infoOf,
  type Limits,
  request,
  type Traits,
  validatorOf,
} from './requests.js';
import { upload } from './upload.js';
import { AzureUploads } from './uploads.js';

/**
 * A container of Azure Blob Storage, or what lies below a prefix of it. A directory is the blob `a/b` whose metadata says `hdi_isfolder`, or
 * just the prefix of what lies in it; the marker `a/b/` of other programs is read as well. Every change carries its precondition.
 */
export class AzureBackend implements DirectoryBackend, CopyBackend, AttributeBackend, MultipartBackend {
  readonly capabilities: Capabilities;
  readonly multipart: Multipart;
  readonly locks: AzureLocks;
  readonly #container: Container;
  readonly #keys: KeySpace;
  readonly #limits: Limits;
  readonly #versions = new Versions();

  constructor(
    container: Container,
    keys: KeySpace,
    traits: Traits,
    limits: Limits,
    hierarchicalNamespace: boolean,
  ) {
    this.#container = container;
    this.#keys = keys;
    this.#limits = limits;
    this.locks = new AzureLocks(container.client, keys);
    this.multipart = new AzureUploads(container, keys, this.#versions, limits);
    this.capabilities = {
      preconditions: traits,
      attributes: true,
      directories: hierarchicalNamespace ? 'real' : 'markers',
      maximumSize: limits.preferredPut,
      maximumKeyBytes: keys.maximumBytes,
    };
  }

  async stat(key: string, context: Context): Promise<ObjectInfo | undefined> {
    context.signal.throwIfAborted();
    if (key === '') return implicitDirectory(key);
    this.#checkName(key);
    const prefix = this.#keys.directory(key);
    // Both at once: a name may be a blob or a mere prefix, and each question costs a round trip. A blob does not wait for the other answer.
    const listed = namesBelow(this.#container.client, prefix, 1, context.signal);
    listed.catch(() => undefined);
    const head = await this.#head(this.#keys.object(key), context);
    if (head !== undefined) return this.#versions.seen(infoOf(key, kindOf(head), head));
    const below = await listed;
    if (below.length === 0) return undefined;
    const own = below[0] === prefix ? await this.#head(prefix, context) : undefined;
    return own === undefined ? implicitDirectory(key) : infoOf(key, 'directory', own);
  }

  async list(prefix: string, cursor: string | undefined, context: Context): Promise<ListPage> {
    const directory = this.#keys.directory(prefix);
    return listPage(this.#container.client, this.#keys, directory, cursor, context.signal);
  }

  async read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Promise<ObjectInfo> {
    if (!isStorable(key)) throw noSuchBlob('read', key);
    if (range.length === 0) return this.#existing(key, context, match);
    try {
      const answer = await this.#version(key, range, match, context);
      const body = answer.readableStreamBody as Readable;
      if (isFolder(answer.metadata)) {
        body.destroy();
        throw noSuchBlob('read', key);
      }
      const info = this.#versions.seen(downloadedInfo(key, answer));
      sink.begin?.(info);
      await pour(body, { skip: 0, length: answer.contentLength ?? 0, last: true }, sink, context.signal);
      return info;
    } catch (error) {
      // Past the end, or an empty blob: nothing to read, but still a version to tell.
      if (statusOf(error) === 416) return this.#existing(key, context, match);
      throw toMirageError(error, { operation: 'read', subject: key, signal: context.signal });
    }
  }

  /** The newest version, or the one that was asked for, which an account with versions still has when it is not the newest. */
  async #version(
    key: string,
    { offset, length }: ByteRange,
    match: Validator | undefined,
    { signal }: Context,
  ): Promise<BlobDownloadResponseParsed> {
    const blob = this.#blob(this.#keys.object(key));
    // The SDK would go on by itself after a broken connection; that is the retry layer's to decide.
    const options = { abortSignal: signal, maxRetryRequests: 0 };
    try {
      return await blob.download(offset, length, {
        ...options,
        ...(match !== undefined && { conditions: { ifMatch: etagOf(match) } }),
      });
    } catch (error) {
      const status = statusOf(error);
      const gone = status === 412 || status === 404;
      const version = gone && match !== undefined ? this.#versions.find(key, match) : undefined;
      if (version === undefined) throw error;
      return blob.withVersion(version).download(offset, length, options);
    }
  }

  async write(
    key: string,
    source: ByteSource,
    { precondition, attributes = {} }: WriteOptions,
    context: Context,
  ): Promise<ObjectInfo> {
    this.#checkName(key);
    return this.#put(key, 'file', source, attributes, precondition, context);
  }

  async remove(key: string, precondition: Precondition, context: Context): Promise<void> {
    if (precondition.kind === 'absent' || !isStorable(key)) return;
    const blob = this.#blob(this.#keys.object(key));
    const { signal } = context;
    const head = precondition.kind === 'any' ? await this.#head(this.#keys.object(key), context) : undefined;
    // Whoever names no version must not take a directory for a file.
    if (precondition.kind === 'any' && (head === undefined || isFolder(head.metadata))) return;
    const conditions = head?.etag === undefined ? conditionsOf(precondition) : { ifMatch: head.etag };
    try {
      await blob.delete({ conditions, abortSignal: signal });
    } catch (error) {
      if (precondition.kind === 'any' && statusOf(error) === 404) return;
      throw toMirageError(error, {
        operation: 'remove',
        subject: key,
        conditional: precondition.kind === 'match',
        signal,
      });
    }
  }

  async createDirectory(key: string, attributes: StoredAttributes, context: Context): Promise<ObjectInfo> {
    this.#checkName(key);
    const other = this.#keys.directory(key);
    try {
      if ((await this.#head(other, context)) !== undefined) {
        throw new MirageError(`createDirectory ${key}: it exists`, { errno: 'EEXIST' });
      }
      return await this.#put(key, 'directory', EMPTY, attributes, { kind: 'absent' }, context);
    } catch (error) {
      if (!MirageError.is(error, 'ESTALE')) throw error;
      throw new MirageError(`createDirectory ${key}: it exists`, { errno: 'EEXIST', cause: error });
    }
  }

  async removeDirectory(key: string, context: Context): Promise<void> {
    const prefix = this.#keys.directory(key);
    const { signal } = context;
    const [below, head] = await Promise.all([
      namesBelow(this.#container.client, prefix, 2, signal),
      this.#head(this.#keys.object(key), context),
    ]);
    if (below.some((name) => name !== prefix)) {
      throw new MirageError(`removeDirectory ${key}: it is not empty`, { errno: 'ENOTEMPTY' });
    }
    const attempt = { operation: 'removeDirectory', subject: key, signal };
    const options = { abortSignal: signal };
    if (below.length > 0) await request(attempt, () => this.#blob(prefix).deleteIfExists(options));
    if (head === undefined || !isFolder(head.metadata)) return;
    const conditions = { ifMatch: head.etag ?? '*' };
    await request(attempt, () =>
      this.#blob(this.#keys.object(key)).deleteIfExists({ ...options, conditions }),
    );
  }

  async copy(from: string, to: string, options: CopyOptions, context: Context): Promise<ObjectInfo> {
    this.#checkName(to);
    if (!isStorable(from)) throw noSuchBlob('copy', from);
    const source = this.#blob(this.#keys.object(from));
    const target = this.#blob(this.#keys.object(to));
    const { match, size, attributes } = options;
    if (match !== undefined && size !== undefined && attributes === undefined) {
      // A file of a known version: what a look would tell is known, and the copy itself is held to it.
      const head = { etag: etagOf(match), contentLength: size };
      const info = await copyBlob({ source, head, target, to }, options, context);
      return this.#versions.seen({ ...info, attributes: undefined });
    }
    const head = await this.#head(this.#keys.object(from), context);
    if (head === undefined || isFolder(head.metadata)) throw noSuchBlob('copy', from);
    if (options.match !== undefined && validatorOf(head.etag) !== options.match) throw anotherVersion(from);
    return this.#versions.seen(await copyBlob({ source, head, target, to }, options, context));
  }

  /** In place: the service replaces the metadata alone. */
  async setAttributes(
    key: string,
    kind: 'file' | 'directory',
    attributes: StoredAttributes,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    if (key === '')
      throw new MirageError('the root of a container keeps no attributes', { errno: 'ENOTSUP' });
    const head = await this.#head(this.#keys.object(key), context);
    const fits = head !== undefined && kindOf(head) === kind;
    if (!fits && kind === 'directory') {
      // So far it was but a prefix, or is marked in the way of another program.
      if (precondition.kind === 'match') throw anotherVersion(key);
      return this.#put(key, kind, EMPTY, attributes, { kind: 'absent' }, context);
    }
    if (!fits) {
      throw precondition.kind === 'match' ? anotherVersion(key) : noSuchBlob('setAttributes', key);
    }
    const validator = validatorOf(head.etag);
    if (precondition.kind === 'match' && validator !== precondition.validator) throw anotherVersion(key);
    const encode = kind === 'directory' ? encodeFolder : encodeAttributes;
    const metadata = encode(attributes, foreignMetadata(head.metadata));
    const { signal } = context;
    const answer = await request(
      { operation: 'setAttributes', subject: key, conditional: true, signal },
      () =>
        this.#blob(this.#keys.object(key)).setMetadata(metadata, {
          // It replaces all of what was just read, so it always names the version it has seen.
          conditions: conditionsOf({ kind: 'match', validator: validator ?? '' }),
          abortSignal: signal,
        }),
    );
    return this.#versions.seen(
      infoOf(key, kind, { ...answer, metadata, contentLength: head.contentLength ?? 0 }),
    );
  }

  async #put(
    key: string,
    kind: ObjectInfo['kind'],
    source: ByteSource,
    attributes: StoredAttributes,
    precondition: Precondition,
    context: Context,
  ): Promise<ObjectInfo> {
    const metadata = kind === 'directory' ? encodeFolder(attributes) : encodeAttributes(attributes);
    const client = this.#blob(this.#keys.object(key)).getBlockBlobClient();
    const written = await upload(
      { client, key, source, metadata, precondition, limits: this.#limits },
      context,
    );
    return this.#versions.seen({
      ...infoOf(key, kind, { ...written, contentLength: source.size }),
      attributes,
    });
  }

  async #head(name: string, { signal }: Context): Promise<BlobGetPropertiesResponse | undefined> {
    try {
      return await this.#blob(name).getProperties({ abortSignal: signal });
    } catch (error) {
      if (statusOf(error) === 404) return undefined;
      throw toMirageError(error, { operation: 'stat', subject: name, signal });
    }
  }

  async #existing(key: string, context: Context, match: Validator | undefined): Promise<ObjectInfo> {
    const head = await this.#head(this.#keys.object(key), context);
    if (head === undefined || isFolder(head.metadata)) throw noSuchBlob('read', key);
    if (match !== undefined && validatorOf(head.etag) !== match) throw anotherVersion(key);
    return this.#versions.seen(infoOf(key, 'file', head));
  }

  #blob(name: string): BlobClient {
    return this.#container.client.getBlobClient(name);
  }

  #checkName(key: string): void {
    if (!isStorable(key)) {
      throw new MirageError(`${key.slice(0, 60)}: Azure cannot keep this name`, {
        errno: 'EINVAL',
        hint: 'it would take a backslash for a slash: choose another name',
      });
    }
    if (Buffer.byteLength(key) > this.#keys.maximumBytes) {
      throw new MirageError(`${key.slice(0, 60)}…: the key is longer than Azure allows`, {
        errno: 'ENAMETOOLONG',
      });
    }
  }
}

/** Azure takes a backslash for a slash, and an address has no `.` and `..`: such a key would silently be another one. */
const isStorable = (key: string): boolean => !/\\|(?:^|\/)\.{1,2}(?:\/|$)/.test(key);

const kindOf = (head: BlobGetPropertiesResponse): ObjectInfo['kind'] =>
  isFolder(head.metadata) ? 'directory' : 'file';

/** The SDK's answer is an object of getters, so it is asked for each field. */
function downloadedInfo(key: string, answer: BlobDownloadResponseParsed): ObjectInfo {
  const { lastModified, etag, versionId, metadata } = answer;
  return infoOf(key, 'file', {
    contentLength: sizeOfRange(answer.contentRange) ?? answer.contentLength ?? 0,
    ...(lastModified !== undefined && { lastModified }),
    ...(etag !== undefined && { etag }),
    ...(versionId !== undefined && { versionId }),
    ...(metadata !== undefined && { metadata }),
  });
}

function noSuchBlob(operation: string, key: string): MirageError {
  return new MirageError(`${operation} ${key}: no such blob`, { errno: 'ENOENT' });
}

const EMPTY: ByteSource = {
  size: 0,
  async *read() {},
};
