import { randomUUID } from 'node:crypto';
import type { BlobUploadCommonResponse, BlockBlobClient } from '@azure/storage-blob';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteSource, Context, Precondition } from '../contract.js';
import { defaultRetry, retrying } from '../layers/retry.js';
import { gather, sendBody } from '../object-store/body.js';
import type { Metadata } from './attributes.js';
import { codeOf, toMirageError } from './errors.js';
import { conditionsOf, type Limits, request } from './requests.js';

/** Blobs and blocks up to this size, in bytes, are sent from memory in one piece: a stream would cost more than the copy. */
const IN_MEMORY = 2 ** 20;

export interface Upload {
  readonly client: BlockBlobClient;
  readonly key: string;
  readonly source: ByteSource;
  readonly metadata: Metadata;
  readonly precondition: Precondition;
  readonly limits: Limits;
}

/** What the store says of a blob that was written. */
export type Written = Pick<BlobUploadCommonResponse, 'etag' | 'lastModified' | 'versionId'>;

export async function upload(what: Upload, context: Context): Promise<Written> {
  const { source, limits } = what;
  if (source.size <= limits.preferredPut) return putBlob(what, context);
  try {
    return await putBlocks(what, context);
  } catch (error) {
    // Blocks cannot replace an append or a page blob; a whole blob can.
    if (!(error instanceof OtherBlobType) || source.size > limits.maximumPut) throw error;
    return putBlob(what, context);
  }
}

class OtherBlobType extends MirageError {}

async function putBlob(
  { client, key, source, metadata, precondition }: Upload,
  { signal }: Context,
): Promise<Written> {
  const attempt = {
    operation: 'write',
    subject: key,
    conditional: precondition.kind !== 'any',
    signal,
  };
  const options = { metadata, conditions: conditionsOf(precondition) };
  return request(attempt, async () =>
    source.size <= IN_MEMORY
      ? client.upload(await gather(source), source.size, { ...options, abortSignal: signal })
      : sendBody(source, { offset: 0, length: source.size }, signal, (body, abortSignal) =>
          client.upload(() => body, source.size, { ...options, abortSignal }),
        ),
  );
}

/**
 * Blocks are staged beside the blob and become it by one commit, which carries the precondition. Their names are those of this upload alone: two
 * that upload one key at a time must not mix. Blocks that nobody commits are thrown away by the store, at the latest after a week.
 */
async function putBlocks(
  { client, key, source, metadata, precondition, limits }: Upload,
  context: Context,
): Promise<Written> {
  const { signal } = context;
  const MiB = 2 ** 20;
  const length = Math.max(limits.block, Math.ceil(source.size / limits.maximumBlocks / MiB) * MiB);
  const count = Math.ceil(source.size / length);
  const nonce = randomUUID();
  const names = Array.from({ length: count }, (_, index) =>
    Buffer.from(`${nonce}-${String(index).padStart(5, '0')}`).toString('base64'),
  );
  const stage = async (index: number, stop: AbortSignal): Promise<void> => {
    const offset = index * length;
    const range = { offset, length: Math.min(length, source.size - offset) };
    try {
      await sendBody(source, range, stop, (body, abortSignal) =>
        client.stageBlock(names[index] ?? '', () => body, range.length, { abortSignal }),
      );
    } catch (error) {
      if (codeOf(error) === 'InvalidBlobType') throw new OtherBlobType(key, { errno: 'EIO' });
      throw toMirageError(error, { operation: 'write', subject: key, signal: stop });
    }
  };
  await inParallel(count, limits.parallelBlocks, signal, (index, stop) =>
    retrying(() => stage(index, stop), defaultRetry, stop),
  );
  const conditional = precondition.kind !== 'any';
  try {
    return await client.commitBlockList(names, {
      metadata,
      conditions: conditionsOf(precondition),
      abortSignal: signal,
    });
  } catch (error) {
    if (codeOf(error) === 'InvalidBlockList') {
      // Somebody else has written the blob meanwhile, which throws staged blocks away.
      throw new MirageError(`write ${key}: another writer was first`, {
        errno: conditional ? 'ESTALE' : 'EBUSY',
        retryable: !conditional,
      });
    }
    throw toMirageError(error, { operation: 'write', subject: key, conditional, signal });
  }
}

/** Runs a task for each index below `count`, some at a time. The first failure stops the others, and is thrown after all have ended. */
async function inParallel(
  count: number,
  parallel: number,
  signal: AbortSignal,
  task: (index: number, stop: AbortSignal) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const stop = AbortSignal.any([signal, failed.signal]);
  let next = 0;
  const worker = async () => {
    try {
      while (next < count) await task(next++, stop);
    } catch (error) {
      failed.abort(error);
    }
  };
  await Promise.all(Array.from({ length: Math.min(parallel, count) }, worker));
  signal.throwIfAborted();
  if (failed.signal.aborted) throw failed.signal.reason;
}
