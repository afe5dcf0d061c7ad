import type {
  CopyObjectCommandInput,
  HeadObjectCommandOutput,
  S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import type { Capabilities, Precondition, Timestamp, Validator } from '../contract.js';
import type { Attempt } from '../object-store/attempt.js';
import type { AnswerMetadata } from './client.js';
import { toMirageError } from './errors.js';

/** What the store was found to honour; see probe.ts. */
export interface Traits extends Readonly<Capabilities['preconditions']> {
  /** `If-Match` of a write takes the ETag in quotes, as the standard has it. Ceph up to 16 compares without. */
  readonly quotedETags: boolean;
  /** Copy honours `x-amz-copy-source-if-match`. */
  readonly copySourceMatch: boolean;
  /** Copy honours `If-Match` on what it replaces. */
  readonly copyMatch: boolean;
  /** Many objects can be removed by one request. */
  readonly removeMany: boolean;
  /** Such a request honours the ETag that it names with a key. */
  readonly removeManyMatch: boolean;
}

/** Sizes, in bytes, above which an object travels in parts. */
export interface Limits {
  /** One PUT, where parts can carry the precondition as well. */
  readonly preferredPut: number;
  /** One PUT at most. */
  readonly maximumPut: number;
  /** One server-side copy at most. */
  readonly maximumCopy: number;
  /** A part of an upload; grows with objects that would need more than `maximumParts`. */
  readonly part: number;
  readonly copyPart: number;
  readonly maximumParts: number;
  /** Parts of one object under way at a time. */
  readonly parallelParts: number;
}

const MiB = 2 ** 20;
export const s3Limits: Limits = {
  preferredPut: 32 * MiB,
  maximumPut: 5120 * MiB,
  maximumCopy: 5120 * MiB,
  part: 16 * MiB,
  copyPart: 512 * MiB,
  maximumParts: 10_000,
  parallelParts: 4,
};

/** What every part of the backend needs to talk to its bucket. */
export interface Bucket {
  readonly client: S3Client;
  readonly name: string;
}

/** Makes one request; whatever it throws is mapped. */
export async function request<T>(attempt: Attempt, send: () => Promise<T>): Promise<T> {
  try {
    return await send();
  } catch (error) {
    throw toMirageError(error, attempt);
  }
}

/** For what is tidied up after a failure, when nobody waits and the caller's signal may be spent. */
export const cleanUpOptions = (): { abortSignal: AbortSignal } => ({
  abortSignal: AbortSignal.timeout(10_000),
});

export const statusOf = (error: unknown): number | undefined =>
  (error as Partial<S3ServiceException> | undefined)?.$metadata?.httpStatusCode;

/** ETags are compared without their quotes: stores disagree where to put them. */
export function validatorOf(etag: string | undefined): Validator | undefined {
  return etag?.replace(/^"|"$/g, '');
}

export function etagOf(validator: Validator, traits: Pick<Traits, 'quotedETags'>): string {
  return traits.quotedETags ? `"${validator}"` : validator;
}

/** The precondition of a change as request headers. */
export function conditionsOf(
  precondition: Precondition,
  traits: Pick<Traits, 'quotedETags'>,
): { IfMatch?: string; IfNoneMatch?: string } {
  switch (precondition.kind) {
    case 'absent':
      return { IfNoneMatch: '*' };
    case 'match':
      return { IfMatch: etagOf(precondition.validator, traits) };
    case 'any':
      return {};
  }
}

/** Whole seconds: a listing shows more digits than a HEAD, and a time must not change by being asked in another way. */
export function timestampOf(date: Date | undefined): Timestamp {
  return { seconds: date === undefined ? 0 : Math.floor(date.getTime() / 1000), nanoseconds: 0 };
}

/** When the store answered a change: what it will show as the time of the object, give or take a second. */
export function answeredAt(metadata: AnswerMetadata): Timestamp {
  const time = Date.parse(metadata.date ?? '');
  return timestampOf(Number.isNaN(time) ? new Date() : new Date(time));
}

/** What an object has besides content and metadata, and would lose by a copy that replaces its metadata. */
export function headersToKeep(
  head: Omit<HeadObjectCommandOutput, '$metadata'>,
): Partial<CopyObjectCommandInput> {
  const {
    CacheControl,
    ContentDisposition,
    ContentEncoding,
    ContentLanguage,
    ContentType,
    ServerSideEncryption,
    SSEKMSKeyId,
    StorageClass,
    WebsiteRedirectLocation,
  } = head;
  return {
    CacheControl,
    ContentDisposition,
    ContentEncoding,
    ContentLanguage,
    ContentType,
    ServerSideEncryption,
    SSEKMSKeyId,
    StorageClass,
    WebsiteRedirectLocation,
  };
}
