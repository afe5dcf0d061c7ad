import {
  type CompleteMultipartUploadCommandOutput,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
} from '@aws-sdk/client-s3';
import { MirageError } from '../../errors/mirage-error.js';
import type { Context, ObjectInfo, Precondition, StoredAttributes, Validator } from '../contract.js';
import { decodeAttributes } from '../object-store/attributes.js';
import { anotherVersion } from '../object-store/info.js';
import type { KeySpace } from '../object-store/keys.js';
import { toMirageError } from './errors.js';
import { answeredAt, type Bucket, statusOf, type Traits, timestampOf, validatorOf } from './requests.js';

/** Looking at objects, and holding them against preconditions that the store does not honour itself. */
export class Objects {
  constructor(
    readonly bucket: Bucket,
    readonly keys: KeySpace,
    readonly traits: Traits,
  ) {}

  async head(object: string, context: Context): Promise<HeadObjectCommandOutput | undefined> {
    try {
      return await this.bucket.client.send(new HeadObjectCommand({ Bucket: this.bucket.name, Key: object }), {
        abortSignal: context.signal,
      });
    } catch (error) {
      if (statusOf(error) === 404) return undefined;
      throw toMirageError(error, { operation: 'stat', subject: object, signal: context.signal });
    }
  }

  async existing(key: string, context: Context, match: Validator | undefined): Promise<ObjectInfo> {
    const head = await this.head(this.keys.object(key), context);
    if (head === undefined) throw new MirageError(`read ${key}: no such object`, { errno: 'ENOENT' });
    if (match !== undefined && validatorOf(head.ETag) !== match) throw anotherVersion(key);
    return infoOf(key, 'file', head);
  }

  honours(precondition: Precondition, absent: boolean, match: boolean): boolean {
    if (precondition.kind === 'any') return true;
    return precondition.kind === 'absent' ? absent : match;
  }

  /** The best there is where the store ignores a precondition: look right before the change. */
  async guard(key: string, object: string, precondition: Precondition, context: Context): Promise<void> {
    if (precondition.kind === 'any') return;
    const head = await this.head(object, context);
    const holds =
      precondition.kind === 'absent'
        ? head === undefined
        : head !== undefined && validatorOf(head.ETag) === precondition.validator;
    if (!holds) throw anotherVersion(key);
  }

  /** What a completed upload made. Ceph 16 leaves the ETag out of its answer, so it is asked for. */
  async completed(
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
    const head = await this.head(object, context);
    // Somebody may have replaced it since: then that version is not one that the caller knows.
    const ours = head !== undefined && decodeAttributes(head.Metadata).writer === attributes.writer;
    if (!ours) throw anotherVersion(key);
    return infoOf(key, 'file', head);
  }
}

export function infoOf(
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
