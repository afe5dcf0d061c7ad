import { createHash } from 'node:crypto';
import { DeleteObjectsCommand, type DeleteObjectsCommandOutput } from '@aws-sdk/client-s3';
import type { MirageError } from '../../errors/mirage-error.js';
import type { Context, Removal } from '../contract.js';
import type { KeySpace } from '../object-store/keys.js';
import { toMirageError } from './errors.js';
import { type Bucket, etagOf, request, type Traits } from './requests.js';

/** Objects that one request may name: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html */
export const MOST_REMOVALS = 1000;

/** What stands in the way of a key in the XML of a request. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const NOT_XML = /[\x00-\x1f\x7f\ufffe\uffff]/;

/** Whether a batch can carry this removal as it is meant. */
export function fitsBatch({ key, precondition }: Removal, traits: Pick<Traits, 'removeManyMatch'>): boolean {
  return (precondition.kind !== 'match' || traits.removeManyMatch) && !NOT_XML.test(key);
}

/** Removes up to `MOST_REMOVALS` objects by one request; those that are gone already are gone. */
export async function removeBatch(
  bucket: Bucket,
  keys: KeySpace,
  traits: Traits,
  removals: readonly Removal[],
  { signal }: Context,
): Promise<(MirageError | undefined)[]> {
  const objects = removals.map(({ key, precondition }) => ({
    Key: keys.object(key),
    ...(precondition.kind === 'match' && { ETag: etagOf(precondition.validator, traits) }),
  }));
  const conditional = objects.some((object) => 'ETag' in object);
  const subject = `${objects[0]?.Key} …`;
  const answer = await request({ operation: 'removeMany', subject, conditional, signal }, () =>
    sendBatch(bucket, objects, signal),
  );
  const failures = new Map((answer.Errors ?? []).map((error) => [error.Key, error]));
  return objects.map((object) => {
    const failure = failures.get(object.Key);
    if (failure === undefined || failure.Code === 'NoSuchKey') return undefined;
    return toMirageError(
      {
        name: failure.Code,
        message: failure.Message ?? failure.Code,
        $metadata: { httpStatusCode: statuses[failure.Code ?? ''] ?? 400 },
      },
      { operation: 'remove', subject: object.Key, conditional: 'ETag' in object, signal },
    );
  });
}

/** Answers name no status, but these codes mean one. */
const statuses: Record<string, number> = {
  PreconditionFailed: 412,
  AccessDenied: 403,
  InternalError: 500,
  SlowDown: 503,
  ServiceUnavailable: 503,
};

export function sendBatch(
  bucket: Bucket,
  objects: readonly { readonly Key: string; readonly ETag?: string }[],
  abortSignal: AbortSignal,
): Promise<DeleteObjectsCommandOutput> {
  const command = new DeleteObjectsCommand({
    Bucket: bucket.name,
    Delete: { Objects: [...objects], Quiet: true },
  });
  // The SDK's own checksum is one that older stores do not know; all of them take this one.
  command.middlewareStack.add(
    (next) => (args) => {
      const { headers, body } = args.request as { headers: Record<string, string>; body: string };
      headers['content-md5'] = createHash('md5').update(body).digest('base64');
      return next(args);
    },
    { step: 'build', name: 'contentMd5', priority: 'low' },
  );
  return bucket.client.send(command, { abortSignal });
}
