import {
  AnonymousCredential,
  BlobServiceClient,
  type StoragePipelineOptions,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { MirageError } from '../../errors/mirage-error.js';
import type { AzureOptions } from './options.js';

/** The SDK never retries here: a change that was carried out and whose answer was lost would come back as "precondition failed". */
const PIPELINE: StoragePipelineOptions = { retryOptions: { maxTries: 1 } };

export async function createClient(options: AzureOptions): Promise<BlobServiceClient> {
  const { connectionString } = options;
  try {
    if (connectionString !== undefined) {
      return BlobServiceClient.fromConnectionString(connectionString, PIPELINE);
    }
    const endpoint = options.endpoint ?? `https://${options.account}.blob.core.windows.net`;
    const { sasToken } = options;
    const url = sasToken === undefined ? endpoint : `${endpoint}?${sasToken.replace(/^\?/, '')}`;
    return new BlobServiceClient(url, await credentialOf(options), PIPELINE);
  } catch {
    // What the SDK says may quote what it was given.
    throw new MirageError('the credentials of the mount cannot be read', {
      errno: 'EINVAL',
      hint: 'connectionString is what the portal shows under "Access keys", accountKey is base64',
    });
  }
}

async function credentialOf({ account, accountKey, sasToken, anonymous }: AzureOptions) {
  if (account !== undefined && accountKey !== undefined) {
    return new StorageSharedKeyCredential(account, accountKey);
  }
  if (sasToken !== undefined || anonymous) return new AnonymousCredential();
  // Large, and of use to few.
  const { DefaultAzureCredential } = await import('@azure/identity');
  return new DefaultAzureCredential();
}
