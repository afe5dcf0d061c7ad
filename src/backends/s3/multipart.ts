import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  type CompleteMultipartUploadCommandOutput,
  CreateMultipartUploadCommand,
  type CreateMultipartUploadCommandInput,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { MirageError } from '../../errors/mirage-error.js';
import type { ByteSource, Context } from '../contract.js';
import { defaultRetry, retrying } from '../layers/retry.js';
import { sendBody } from '../object-store/body.js';
import { toMirageError } from './errors.js';
import { type Bucket, cleanUpOptions, type Limits, request } from './requests.js';

interface Part {
  readonly number: number;
  readonly offset: number;
  readonly length: number;
}

/** Uploads one part and returns its ETag. */
type SendPart = (part: Part, upload: string, context: Context) => Promise<string | undefined>;

export interface MultipartTarget {
  readonly bucket: Bucket;
  /** Key in the bucket. */
  readonly object: string;
  /** Metadata and headers of the object to be. */
  readonly create: Partial<CreateMultipartUploadCommandInput>;
  /** Precondition of the completion, where the store honours it. */
  readonly conditions: { IfMatch?: string; IfNoneMatch?: string };
  readonly limits: Limits;
  /** Last look before the completion; throws to call it off. */
  readonly beforeCompletion?: () => Promise<void>;
}

/** Sends a large object in parts. A part that fails for a passing reason is read and sent again by itself. */
export function uploadInParts(
  target: MultipartTarget,
  source: ByteSource,
  context: Context,
): Promise<CompleteMultipartUploadCommandOutput> {
  const { bucket, object, limits } = target;
  return inParts(
    target,
    split(source.size, limits.part, limits),
    context,
    async (part, upload, { signal }) => {
      const answer = await request({ operation: 'upload', subject: object, signal }, () =>
        sendBody(source, part, signal, (body, abortSignal) =>
          bucket.client.send(
            new UploadPartCommand({
              Bucket: bucket.name,
              Key: object,
              UploadId: upload,
              PartNumber: part.number,
              Body: body,
              ContentLength: part.length,
            }),
            { abortSignal },
          ),
        ),
      );
      return answer.ETag;
    },
  );
}

/** Copies an object that is too large for one copy, on the server. */
export function copyInParts(
  target: MultipartTarget,
  source: { readonly copySource: string; readonly size: number; readonly ifMatch: string | undefined },
  context: Context,
): Promise<CompleteMultipartUploadCommandOutput> {
  const { bucket, object, limits } = target;
  return inParts(
    target,
    split(source.size, limits.copyPart, limits),
    context,
    async (part, upload, { signal }) => {
      const answer = await request({ operation: 'copy', subject: object, signal }, () =>
        bucket.client.send(
          new UploadPartCopyCommand({
            Bucket: bucket.name,
            Key: object,
            UploadId: upload,
            PartNumber: part.number,
            CopySource: source.copySource,
            CopySourceIfMatch: source.ifMatch,
            CopySourceRange: `bytes=${part.offset}-${part.offset + part.length - 1}`,
          }),
          { abortSignal: signal },
        ),
      );
      return answer.CopyPartResult?.ETag;
    },
  );
}

function split(size: number, preferred: number, limits: Limits): Part[] {
  const MiB = 2 ** 20;
  const length = Math.max(preferred, Math.ceil(size / limits.maximumParts / MiB) * MiB);
  const parts: Part[] = [];
  for (let offset = 0; offset < size; offset += length) {
    parts.push({ number: parts.length + 1, offset, length: Math.min(length, size - offset) });
  }
  return parts;
}

async function inParts(
  target: MultipartTarget,
  parts: readonly Part[],
  context: Context,
  send: SendPart,
): Promise<CompleteMultipartUploadCommandOutput> {
  const { bucket, object, conditions } = target;
  const { signal } = context;
  const created = await request({ operation: 'write', subject: object, signal }, () =>
    bucket.client.send(
      new CreateMultipartUploadCommand({ ...target.create, Bucket: bucket.name, Key: object }),
      { abortSignal: signal },
    ),
  );
  const upload = created.UploadId;
  if (upload === undefined) {
    throw new MirageError(`write ${object}: the store gave no upload id`, { errno: 'EIO' });
  }
  try {
    const completed = await sendAll(object, parts, upload, target.limits.parallelParts, context, send);
    await target.beforeCompletion?.();
    return await request(
      { operation: 'write', subject: object, conditional: Object.keys(conditions).length > 0, signal },
      () =>
        bucket.client.send(
          new CompleteMultipartUploadCommand({
            Bucket: bucket.name,
            Key: object,
            UploadId: upload,
            MultipartUpload: { Parts: completed },
            ...conditions,
          }),
          { abortSignal: signal },
        ),
    );
  } catch (error) {
    // Parts that nobody completes cost money for ever. Where the completion may still be under way they stay: the store settles it.
    if (!MirageError.is(error) || !error.outcomeUnknown) {
      await bucket.client
        .send(
          new AbortMultipartUploadCommand({ Bucket: bucket.name, Key: object, UploadId: upload }),
          cleanUpOptions(),
        )
        .catch(() => undefined);
    }
    throw error;
  }
}

async function sendAll(
  object: string,
  parts: readonly Part[],
  upload: string,
  parallel: number,
  context: Context,
  send: SendPart,
): Promise<CompletedPart[]> {
  const completed: CompletedPart[] = [];
  const stop = new AbortController();
  const cancel = () => stop.abort(context.signal.reason);
  if (context.signal.aborted) cancel();
  context.signal.addEventListener('abort', cancel, { once: true });
  let next = 0;
  const worker = async () => {
    for (let part = parts[next++]; part !== undefined; part = parts[next++]) {
      const current = part;
      const etag = await retrying(
        () => send(current, upload, { ...context, signal: stop.signal }),
        defaultRetry,
        stop.signal,
      );
      completed[current.number - 1] = { PartNumber: current.number, ETag: etag };
    }
  };
  try {
    const workers = Array.from({ length: Math.min(parallel, parts.length) }, async () => {
      try {
        await worker();
      } catch (error) {
        stop.abort(error);
        throw error;
      }
    });
    // All have to end before the parts are thrown away; the first failure is the one that counts.
    await Promise.allSettled(workers);
    if (stop.signal.aborted) {
      throw toMirageError(stop.signal.reason, {
        operation: 'write',
        subject: object,
        signal: context.signal,
      });
    }
  } finally {
    context.signal.removeEventListener('abort', cancel);
  }
  return completed;
}
