/** Objects as the JSON API tells them, and as the contract does. https://cloud.google.com/storage/docs/json_api/v1/objects#resource */
import { z } from 'zod';
import { MirageError } from '../../errors/mirage-error.js';
import type { ObjectInfo, Precondition, Timestamp, Validator } from '../contract.js';
import { decodeAttributes } from '../object-store/attributes.js';
import { anotherVersion, sizeOfRange } from '../object-store/info.js';
import { type Answer, header } from './client.js';

/** 64-bit numbers travel as text. */
const integer = z.string().regex(/^\d+$/);

export const objectSchema = z.object({
  name: z.string(),
  size: integer,
  generation: integer,
  metageneration: integer,
  updated: z.string(),
  metadata: z.record(z.string(), z.string()).optional(),
});
export type GcsObject = z.output<typeof objectSchema>;

/** Nothing else is asked for: a listing is mostly what nobody wants. */
export const OBJECT_FIELDS = 'name,size,generation,metageneration,updated,metadata';

export const pageSchema = z.object({
  items: z.array(objectSchema).default([]),
  prefixes: z.array(z.string()).default([]),
  nextPageToken: z.string().optional(),
});
export const PAGE_FIELDS = `items(${OBJECT_FIELDS}),prefixes,nextPageToken`;

/** The generation names the content, the metageneration what is told beside it: a change of either is another version. */
export interface Version {
  readonly generation: string;
  readonly metageneration: string;
}

export const validatorOf = ({ generation, metageneration }: Version): Validator =>
  `${generation}/${metageneration}`;

/** Of a validator that cannot be one of this store: the object is surely another version. */
export function versionOf(key: string, validator: Validator): Version {
  const [, generation, metageneration] = /^(\d+)\/(\d+)$/.exec(validator) ?? [];
  if (generation === undefined || metageneration === undefined) throw anotherVersion(key);
  return { generation, metageneration };
}

/** The precondition of a change as query parameters. https://cloud.google.com/storage/docs/request-preconditions */
export function conditionsOf(key: string, precondition: Precondition): Record<string, string> {
  if (precondition.kind === 'any') return {};
  if (precondition.kind === 'absent') return { ifGenerationMatch: '0' };
  const { generation, metageneration } = versionOf(key, precondition.validator);
  return { ifGenerationMatch: generation, ifMetagenerationMatch: metageneration };
}

export function infoOf(key: string, kind: ObjectInfo['kind'], object: GcsObject): ObjectInfo {
  return {
    key,
    kind,
    size: Number(object.size),
    modified: timestampOf(object.updated),
    validator: validatorOf(object),
    version: object.generation,
    attributes: decodeAttributes(object.metadata),
  };
}

/** What a download says of its object: all but the attributes. */
export function infoOfMedia(key: string, answer: Answer): ObjectInfo {
  const generation = header(answer, 'x-goog-generation');
  const metageneration = header(answer, 'x-goog-metageneration');
  if (generation === undefined || metageneration === undefined) {
    throw new MirageError(`read ${key}: the answer does not say which version it is`, {
      errno: 'EIO',
      hint: 'is `endpoint` the JSON API of Google Cloud Storage?',
    });
  }
  return {
    key,
    kind: 'file',
    size: mediaSize(answer),
    modified: timestampOf(header(answer, 'last-modified')),
    validator: validatorOf({ generation, metageneration }),
    version: generation,
    attributes: undefined,
  };
}

/** Bytes of the whole object, of which an answer may carry a part. */
function mediaSize(answer: Answer): number {
  return sizeOfRange(header(answer, 'content-range')) ?? Number(header(answer, 'content-length') ?? 0);
}

export const isRanged = (answer: Answer): boolean =>
  sizeOfRange(header(answer, 'content-range')) !== undefined;

/** Whole seconds: a download shows no more digits, and a time must not change by being asked in another way. */
function timestampOf(text: string | undefined): Timestamp {
  const time = Date.parse(text ?? '');
  return { seconds: Number.isNaN(time) ? 0 : Math.floor(time / 1000), nanoseconds: 0 };
}
