import { ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3';
import type { OpenContext, OpenedBackend } from '../backend-type.js';
import { defaultRetry, retrying } from '../layers/retry.js';
import { S3Backend } from './backend.js';
import { createClient } from './client.js';
import { asksForChecksum } from './errors.js';
import { KeySpace } from './keys.js';
import type { S3Options } from './options.js';
import { probe, unprobedTraits } from './probe.js';
import { request, s3Limits, type Traits } from './requests.js';

/** A mount should fail while somebody waits for it, not after all the patience that a running one has. */
const RETRY = { ...defaultRetry, attempts: 2 };

export async function open(options: S3Options, context: OpenContext): Promise<OpenedBackend> {
  const keys = new KeySpace(options.prefix);
  const { signal, log } = context;
  let client = createClient(options, 'WHEN_REQUIRED');
  const bucket = () => ({ client, name: options.bucket });
  try {
    await retrying(() => look(client, options.bucket, keys, signal), RETRY, signal);
    let traits: Traits = unprobedTraits;
    let probed: OpenedBackend['probed'] = { preconditions: 'not asked: the mount is read-only' };
    if (context.writable) {
      let checksums = 'when required';
      try {
        traits = await retrying(() => probe(bucket(), keys, log, signal), RETRY, signal);
      } catch (error) {
        if (!asksForChecksum(error)) throw error;
        client.destroy();
        client = createClient(options, 'WHEN_SUPPORTED');
        checksums = 'always';
        traits = await retrying(() => probe(bucket(), keys, log, signal), RETRY, signal);
      }
      probed = { ...traits, checksums };
    }
    return {
      backend: new S3Backend(bucket(), keys, traits, s3Limits, log),
      identity: `s3:${options.endpoint ?? 'aws'}/${options.bucket}/${keys.base}`,
      probed,
    };
  } catch (error) {
    client.destroy();
    throw error;
  }
}

/** Proves credentials, bucket and the right to list it, with an answer that says which of them is wrong. */
async function look(client: S3Client, bucket: string, keys: KeySpace, signal: AbortSignal): Promise<void> {
  await request({ operation: 'open', subject: bucket, signal }, () =>
    client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: keys.base, MaxKeys: 1 }), {
      abortSignal: signal,
    }),
  );
}
