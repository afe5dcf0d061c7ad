import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteSource, Context, ObjectInfo, Precondition, WriteOptions } from '../contract.js';
import type { Multipart, Part, SentPart, Upload } from '../multipart.js';
import { encodeAttributes } from '../object-store/attributes.js';
import { sendBody } from '../object-store/body.js';
import type { Versions } from '../object-store/versions.js';
import type { Objects } from './objects.js';
import { conditionsOf, type Limits, request, validatorOf } from './requests.js';

const MD5 = /^[0-9a-f]{32}$/;

/** Multipart uploads: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html */
export class S3Uploads implements Multipart {
  readonly part: number;
  readonly maximumParts: number;
  readonly parallel: number;
  readonly #objects: Objects;
  readonly #versions: Versions;
  readonly #limits: Limits;

  constructor(objects: Objects, versions: Versions, limits: Limits) {
    this.#objects = objects;
    this.#versions = versions;
    this.#limits = limits;
    this.part = limits.part;
    this.maximumParts = limits.maximumParts;
    this.parallel = limits.parallelParts;
  }

  /** Where a completion cannot carry the precondition, one request for the whole does as long as it may. */
  above(precondition: Precondition): number {
    return this.#honours(precondition) ? this.#limits.preferredPut : this.#limits.maximumPut;
  }

  async begin(key: string, { attributes = {} }: WriteOptions, { signal }: Context): Promise<string> {
    const created = await request({ operation: 'beginUpload', subject: key, signal }, () =>
      this.#objects.bucket.client.send(
        new CreateMultipartUploadCommand({ ...this.#target(key), Metadata: encodeAttributes(attributes) }),
        { abortSignal: signal },
      ),
    );
    if (created.UploadId === undefined) {
      throw new MirageError(`write ${key}: the store gave no upload id`, { errno: 'EIO' });
    }
    return created.UploadId;
  }

  async send(upload: Upload, part: Part, source: ByteSource, { signal }: Context): Promise<SentPart> {
    const { number, length } = part;
    const answer = await request({ operation: 'sendPart', subject: upload.key, signal }, () =>
      sendBody(source, part, signal, (body, abortSignal) =>
        this.#objects.bucket.client.send(
          new UploadPartCommand({
            ...this.#named(upload),
            PartNumber: number,
            Body: body,
            ContentLength: length,
          }),
          { abortSignal },
        ),
      ),
    );
    return { number, length, tag: answer.ETag ?? '' };
  }

  async complete(
    upload: Upload,
    parts: readonly SentPart[],
    { precondition, attributes = {} }: WriteOptions,
    context: Context,
  ): Promise<ObjectInfo> {
    const { key } = upload;
    const { signal } = context;
    const { keys, traits } = this.#objects;
    const object = keys.object(key);
    const honoured = this.#honours(precondition);
    if (!honoured) await this.#objects.guard(key, object, precondition, context);
    const conditions = honoured ? conditionsOf(precondition, traits) : {};
    // The answer to a completion that was carried out may be lost, whatever its precondition.
    const attempt = { operation: 'completeUpload', subject: key, conditional: true, signal };
    const answer = await request(attempt, () =>
      this.#objects.bucket.client.send(
        new CompleteMultipartUploadCommand({
          ...this.#named(upload),
          MultipartUpload: { Parts: parts.map(({ number, tag }) => ({ PartNumber: number, ETag: tag })) },
          ...conditions,
        }),
        { abortSignal: signal },
      ),
    );
    const size = parts.reduce((sum, { length }) => sum + length, 0);
    return this.#versions.seen(await this.#objects.completed(key, object, size, attributes, answer, context));
  }

  async abort(upload: Upload, { signal }: Context): Promise<void> {
    await request({ operation: 'abortUpload', subject: upload.key, signal }, () =>
      this.#objects.bucket.client.send(new AbortMultipartUploadCommand(this.#named(upload)), {
        abortSignal: signal,
      }),
    );
  }

  async sent(upload: Upload, { signal }: Context): Promise<readonly SentPart[]> {
    const parts: SentPart[] = [];
    let marker: string | undefined;
    do {
      const page = await request({ operation: 'sentParts', subject: upload.key, signal }, () =>
        this.#objects.bucket.client.send(
          new ListPartsCommand({ ...this.#named(upload), PartNumberMarker: marker }),
          { abortSignal: signal },
        ),
      );
      for (const { PartNumber: number, Size: length, ETag: tag } of page.Parts ?? []) {
        if (number === undefined || length === undefined || tag === undefined) continue;
        const digest = validatorOf(tag);
        parts.push({
          number,
          length,
          tag,
          md5: digest !== undefined && MD5.test(digest) ? digest : undefined,
        });
      }
      marker = page.IsTruncated === true ? page.NextPartNumberMarker : undefined;
    } while (marker !== undefined);
    return parts;
  }

  async underWay(key: string, { signal }: Context): Promise<{ id: string; begun: number }[]> {
    const { Bucket, Key } = this.#target(key);
    const page = await request({ operation: 'uploads', subject: key, signal }, () =>
      this.#objects.bucket.client.send(new ListMultipartUploadsCommand({ Bucket, Prefix: Key }), {
        abortSignal: signal,
      }),
    );
    return (page.Uploads ?? []).flatMap(({ Key: name, UploadId: id, Initiated }) =>
      name === Key && id !== undefined && Initiated !== undefined ? [{ id, begun: Initiated.getTime() }] : [],
    );
  }

  #honours(precondition: Precondition): boolean {
    const { multipartAbsent, multipartMatch } = this.#objects.traits;
    return this.#objects.honours(precondition, multipartAbsent, multipartMatch);
  }

  #target(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#objects.bucket.name, Key: this.#objects.keys.object(key) };
  }

  #named({ key, id }: Upload): { Bucket: string; Key: string; UploadId: string } {
    return { ...this.#target(key), UploadId: id };
  }
}
