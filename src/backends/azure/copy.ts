import type { BlobClient, BlobGetPropertiesResponse } from '@azure/storage-blob';
import { sleep, systemTimers } from '../../clock/timers.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Context, ObjectInfo, WriteOptions } from '../contract.js';
import { encodeForCopy, foreignMetadata } from './attributes.js';
import { type Answer, conditionsOf, infoOf, request } from './requests.js';

/** Milliseconds between looks at a copy that the service does in its own time. Within one account it is mostly done with the answer. */
const LOOK_AGAIN = 500;

export interface Copying {
  readonly source: BlobClient;
  /** The version to copy. */
  readonly head: Pick<BlobGetPropertiesResponse, 'etag' | 'contentLength' | 'metadata'>;
  readonly target: BlobClient;
  /** Key of the target. */
  readonly to: string;
}

/**
 * Copy Blob, which takes a source of the same account under the credentials of the request; "Copy Blob From URL" would want the source signed, and
 * ends at 256 MiB. https://learn.microsoft.com/rest/api/storageservices/copy-blob
 */
export async function copyBlob(
  { source, head, target, to }: Copying,
  { precondition, attributes }: WriteOptions,
  context: Context,
): Promise<ObjectInfo> {
  const { signal } = context;
  const metadata =
    attributes === undefined ? undefined : encodeForCopy(attributes, foreignMetadata(head.metadata));
  const attempt = {
    operation: 'copy',
    subject: to,
    conditional: precondition.kind !== 'any',
    signal,
  };
  const done = await request(attempt, async (): Promise<Answer> => {
    const poller = await target.beginCopyFromURL(source.url, {
      ...(metadata !== undefined && { metadata }),
      conditions: conditionsOf(precondition),
      sourceConditions: head.etag === undefined ? {} : { ifMatch: head.etag },
      abortSignal: signal,
    });
    const { isCompleted, result } = poller.getOperationState();
    return isCompleted && result?.copyStatus === 'success' ? result : settled(target, to, signal);
  });
  return infoOf(to, 'file', {
    ...done,
    contentLength: head.contentLength ?? 0,
    metadata: metadata ?? head.metadata ?? {},
  });
}

async function settled(target: BlobClient, to: string, signal: AbortSignal): Promise<Answer> {
  for (;;) {
    await sleep(systemTimers, LOOK_AGAIN, signal);
    const now = await target.getProperties({ abortSignal: signal });
    if (now.copyStatus === 'success') return now;
    if (now.copyStatus !== 'pending') {
      // Without a status somebody has written the blob since.
      const errno = now.copyStatus === undefined ? 'ESTALE' : 'EIO';
      throw new MirageError(`copy ${to}: ${now.copyStatusDescription ?? 'it was not finished'}`, { errno });
    }
  }
}
