import { MirageError } from '../../errors/mirage-error.js';
import type {
  ByteSource,
  Context,
  ObjectInfo,
  Precondition,
  StoredAttributes,
  Validator,
} from '../contract.js';
import { attributeNames, encodeAttributes } from '../object-store/attributes.js';
import { anotherVersion } from '../object-store/info.js';
import type { KeySpace } from '../object-store/keys.js';
import { related } from './body.js';
import { discard, type GcsClient } from './client.js';
import {
  conditionsOf,
  type GcsObject,
  infoOf,
  OBJECT_FIELDS,
  objectSchema,
  PAGE_FIELDS,
  pageSchema,
  validatorOf,
} from './resources.js';
import { uploadResumably } from './resumable.js';

/** Up to this size, in bytes, an object is sent in one request; above, a broken connection should not cost all of it. */
const ONE_REQUEST = 8 * 2 ** 20;
/** https://cloud.google.com/storage/quotas#objects */
export const metadataRoom = { store: 'Google Cloud Storage', bytes: 8192 };

/** What new objects get besides content and attributes. */
export interface NewObjects {
  readonly storageClass?: string | undefined;
  readonly kmsKeyName?: string | undefined;
}

/** The requests that look at one object, make it, or change it. */
export class Objects {
  constructor(
    readonly client: GcsClient,
    readonly keys: KeySpace,
    readonly made: NewObjects,
    /** Bytes that are sent in one request at most. */
    private readonly oneRequest = ONE_REQUEST,
  ) {}

  /** undefined: there is none. */
  async find(object: string, { signal }: Context): Promise<GcsObject | undefined> {
    const answer = await this.client.send({
      method: 'GET',
      path: this.client.objects(object),
      query: { fields: OBJECT_FIELDS },
      accepts: [404],
      attempt: { operation: 'stat', subject: object, signal },
    });
    if (answer.status !== 404) {
      return this.client.parsed(answer, objectSchema, { operation: 'stat', subject: object, signal });
    }
    await discard(answer);
    return undefined;
  }

  async existing(key: string, context: Context, match: Validator | undefined): Promise<ObjectInfo> {
    const found = await this.find(this.keys.object(key), context);
    if (found === undefined) throw new MirageError(`read ${key}: no such object`, { errno: 'ENOENT' });
    if (match !== undefined && validatorOf(found) !== match) throw anotherVersion(key);
    return infoOf(key, 'file', found);
  }

  /** Up to `limit` objects that begin with `prefix`, in the order of their names. */
  async below(prefix: string, limit: number, { signal }: Context): Promise<readonly GcsObject[]> {
    const page = await this.client.json(
      {
        method: 'GET',
        path: this.client.objects(),
        query: { prefix, maxResults: String(limit), fields: PAGE_FIELDS },
        attempt: { operation: 'list', subject: prefix, signal },
      },
      pageSchema,
    );
    return page.items;
  }

  async put(
    key: string,
    kind: ObjectInfo['kind'],
    source: ByteSource,
    attributes: StoredAttributes,
    precondition: Precondition,
    { signal }: Context,
  ): Promise<ObjectInfo> {
    const contentType = kind === 'directory' ? 'application/x-directory' : 'application/octet-stream';
    const name = kind === 'directory' ? this.keys.directory(key) : this.keys.object(key);
    const query = {
      ...conditionsOf(key, precondition),
      fields: OBJECT_FIELDS,
      kmsKeyName: this.made.kmsKeyName,
    };
    const metadata = {
      name,
      contentType,
      metadata: encodeAttributes(attributes, {}, metadataRoom),
      ...(this.made.storageClass !== undefined && { storageClass: this.made.storageClass }),
    };
    const conditional = precondition.kind !== 'any';
    const attempt = { operation: 'write', subject: key, conditional, signal };
    if (source.size > this.oneRequest) {
      const upload = { client: this.client, query, metadata, contentType, attempt };
      return infoOf(key, kind, await uploadResumably(upload, source));
    }
    const body = await related(metadata, contentType, source);
    try {
      const object = await this.client.json(
        {
          method: 'POST',
          path: `/upload${this.client.objects()}`,
          query: { ...query, uploadType: 'multipart' },
          headers: { 'content-type': body.type, 'content-length': String(body.length) },
          body: body.content,
          attempt,
        },
        objectSchema,
      );
      return infoOf(key, kind, object);
    } catch (error) {
      throw signal.aborted ? error : (body.failure() ?? error);
    }
  }

  /** Changes attributes in place: the content keeps its generation, and metadata of others stays. */
  async patch(
    key: string,
    kind: ObjectInfo['kind'],
    attributes: StoredAttributes,
    precondition: Precondition,
    { signal }: Context,
  ): Promise<ObjectInfo> {
    const gone = Object.fromEntries([...attributeNames].map((name) => [name, null]));
    const conditional = precondition.kind !== 'any';
    const object = await this.client.json(
      {
        method: 'PATCH',
        path: this.client.objects(kind === 'directory' ? this.keys.directory(key) : this.keys.object(key)),
        query: { ...conditionsOf(key, precondition), fields: OBJECT_FIELDS },
        headers: { 'content-type': 'application/json; charset=UTF-8' },
        body: JSON.stringify({ metadata: { ...gone, ...encodeAttributes(attributes, {}, metadataRoom) } }),
        attempt: { operation: 'setAttributes', subject: key, conditional, signal },
      },
      objectSchema,
    );
    return infoOf(key, kind, object);
  }

  /** What is not there any more is removed already, unless a version was named. */
  async remove(key: string, object: string, precondition: Precondition, { signal }: Context): Promise<void> {
    const conditional = precondition.kind !== 'any';
    const answer = await this.client.send({
      method: 'DELETE',
      path: this.client.objects(object),
      query: conditionsOf(key, precondition),
      accepts: conditional ? [] : [404],
      attempt: { operation: 'remove', subject: key, conditional, signal },
    });
    await discard(answer);
  }
}
