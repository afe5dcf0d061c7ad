import type { ContainerClient } from '@azure/storage-blob';
import type { Capabilities, ObjectInfo, Precondition, Timestamp, Validator } from '../contract.js';
import type { Attempt } from '../object-store/attempt.js';
import { decodeAttributes, type Metadata } from './attributes.js';
import { toMirageError } from './errors.js';

/** What the container was found to honour; see probe.ts. */
export type Traits = Readonly<Capabilities['preconditions']>;

/** Sizes, in bytes, above which a blob travels in blocks. */
export interface Limits {
  /** One Put Blob; larger ones go in blocks, several at a time. */
  readonly preferredPut: number;
  /** One Put Blob at most. */
  readonly maximumPut: number;
  /** A block; grows with blobs that would need more than `maximumBlocks`. */
  readonly block: number;
  readonly maximumBlocks: number;
  /** Blocks of one blob under way at a time. */
  readonly parallelBlocks: number;
}

const MiB = 2 ** 20;
/** https://learn.microsoft.com/azure/storage/blobs/scalability-targets */
export const azureLimits: Limits = {
  preferredPut: 32 * MiB,
  maximumPut: 5000 * MiB,
  block: 16 * MiB,
  maximumBlocks: 50_000,
  parallelBlocks: 4,
};

/** Makes one request; whatever it throws is mapped. */
export async function request<T>(attempt: Attempt, send: () => Promise<T>): Promise<T> {
  try {
    return await send();
  } catch (error) {
    throw toMirageError(error, attempt);
  }
}

/** What every part of the backend needs to talk to its container. */
export interface Container {
  readonly client: ContainerClient;
}

/** ETags are compared without their quotes: a listing shows them without. */
export function validatorOf(etag: string | undefined): Validator | undefined {
  return etag?.replace(/^"|"$/g, '');
}

export const etagOf = (validator: Validator): string => `"${validator}"`;

/** The precondition of a change as the SDK takes it. */
export function conditionsOf(precondition: Precondition): { ifMatch?: string; ifNoneMatch?: string } {
  switch (precondition.kind) {
    case 'absent':
      return { ifNoneMatch: '*' };
    case 'match':
      return { ifMatch: etagOf(precondition.validator) };
    case 'any':
      return {};
  }
}

/** Whole seconds: that is what the store tells. */
export function timestampOf(date: Date | undefined): Timestamp {
  return { seconds: date === undefined ? 0 : Math.floor(date.getTime() / 1000), nanoseconds: 0 };
}

/** What any answer about a blob says of it. */
export interface Answer {
  readonly contentLength?: number;
  readonly lastModified?: Date;
  readonly etag?: string;
  readonly versionId?: string;
  readonly metadata?: Metadata;
}

export function infoOf(key: string, kind: ObjectInfo['kind'], answer: Answer): ObjectInfo {
  return {
    key,
    kind,
    size: answer.contentLength,
    modified: timestampOf(answer.lastModified),
    validator: validatorOf(answer.etag),
    ...(answer.versionId !== undefined && { version: answer.versionId }),
    attributes: decodeAttributes(answer.metadata),
  };
}
