/** Copies inside the store. https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite */
import { z } from 'zod';
import { MirageError } from '../../errors/mirage-error.js';
import type { Context, ObjectInfo, StoredAttributes, Validator, WriteOptions } from '../contract.js';
import { encodeAttributes, foreignMetadata } from '../object-store/attributes.js';
import { metadataRoom, type Objects } from './objects.js';
import { conditionsOf, infoOf, OBJECT_FIELDS, objectSchema, versionOf } from './resources.js';

/** What an object has besides content and metadata, and would lose by a copy that names its metadata. */
const keptSchema = z.object({
  cacheControl: z.string().optional(),
  contentDisposition: z.string().optional(),
  contentEncoding: z.string().optional(),
  contentLanguage: z.string().optional(),
  contentType: z.string().optional(),
  customTime: z.string().optional(),
  storageClass: z.string().optional(),
});
const sourceSchema = objectSchema.extend(keptSchema.shape);
const SOURCE_FIELDS = [OBJECT_FIELDS, ...Object.keys(keptSchema.shape)].join();

/** A large copy between classes or places takes several requests. */
const rewriteSchema = z.object({
  done: z.boolean(),
  rewriteToken: z.string().optional(),
  resource: objectSchema.optional(),
});

export async function copyObject(
  objects: Objects,
  from: string,
  to: string,
  { match, precondition, attributes }: WriteOptions & { readonly match?: Validator },
  context: Context,
): Promise<ObjectInfo> {
  const { client, keys, made } = objects;
  const { signal } = context;
  const source = keys.object(from);
  const conditional = precondition.kind !== 'any';
  const attempt = { operation: 'copy', subject: to, conditional, missing: 'ENOENT', signal } as const;
  const given =
    attributes === undefined ? undefined : await describe(objects, from, attributes, match, context);
  const version = given?.version ?? (match === undefined ? undefined : versionOf(from, match));
  const query = {
    ...conditionsOf(to, precondition),
    ...(version !== undefined && {
      ifSourceGenerationMatch: version.generation,
      ifSourceMetagenerationMatch: version.metageneration,
    }),
    destinationKmsKeyName: made.kmsKeyName,
    fields: `done,rewriteToken,resource(${OBJECT_FIELDS})`,
  };
  const path = `${client.objects(source)}/rewriteTo${client.objects(keys.object(to)).replace('/storage/v1', '')}`;
  let rewriteToken: string | undefined;
  for (;;) {
    const answer = await client.json(
      {
        method: 'POST',
        path,
        query: { ...query, rewriteToken },
        headers: { 'content-type': 'application/json; charset=UTF-8' },
        ...(given !== undefined && { body: JSON.stringify(given.resource) }),
        attempt,
      },
      rewriteSchema,
    );
    if (answer.done && answer.resource !== undefined) return infoOf(to, 'file', answer.resource);
    ({ rewriteToken } = answer);
    if (rewriteToken === undefined) {
      throw new MirageError(`copy ${to}: the store does not say how to go on`, {
        errno: 'EIO',
        outcomeUnknown: conditional,
      });
    }
  }
}

/** The resource that a copy with other attributes shall have: a request with metadata replaces all of it. */
async function describe(
  { client, keys, made }: Objects,
  key: string,
  attributes: StoredAttributes,
  match: Validator | undefined,
  { signal }: Context,
) {
  const version = match === undefined ? undefined : versionOf(key, match);
  const source = await client.json(
    {
      method: 'GET',
      path: client.objects(keys.object(key)),
      query: {
        fields: SOURCE_FIELDS,
        ...(version !== undefined && {
          ifGenerationMatch: version.generation,
          ifMetagenerationMatch: version.metageneration,
        }),
      },
      attempt: { operation: 'copy', subject: key, signal },
    },
    sourceSchema,
  );
  const { generation, metageneration, metadata } = source;
  return {
    version: { generation, metageneration },
    resource: {
      ...keptSchema.parse(source),
      ...(made.storageClass !== undefined && { storageClass: made.storageClass }),
      metadata: encodeAttributes(attributes, foreignMetadata(metadata), metadataRoom),
    },
  };
}
