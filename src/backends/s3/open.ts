import { ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3';
import type { OpenContext, OpenedBackend } from '../backend-type.js';
import { defaultRetry, retrying } from '../layers/retry.js';
import { KeySpace } from '../object-store/keys.js';
import { S3Backend } from './backend.js';
import { createClient } from './client.js';
import { asksForChecksum } from './errors.js';
import { type S3Options, withPreset } from './options.js';
import { certificate, probe, unprobedTraits } from './probe.js';
import { request, s3Limits, type Traits } from './requests.js';

/** A mount should fail while somebody waits for it, not after all the patience that a running one has. */
const RETRY = { ...defaultRetry, attempts: 2 };

export async function open(given: S3Options, context: OpenContext): Promise<OpenedBackend> {
  const options = withPreset(given);
  const keys = new KeySpace(options.prefix);
  const { signal, log } = context;
  let checksums = options.checksums ?? 'auto';
  let client = createClient(options, checksums);
  const bucket = () => ({ client, name: options.bucket });
  const identity = `s3:${options.endpoint ?? 'aws'}/${options.bucket}/${keys.base}`;
  try {
    await retrying(() => look(client, options.bucket, keys, signal), RETRY, signal);
    let traits: Traits = unprobedTraits;
    let probed: OpenedBackend['probed'] = { preconditions: 'not asked: the mount is read-only' };
    const known = certificate.safeParse(context.certificates?.read(identity)).data;
    if (context.writable && known !== undefined && (known.checksums === checksums || checksums === 'auto')) {
      ({ checksums, ...traits } = known);
      if (checksums === 'always') {
        client.destroy();
        client = createClient(options, checksums);
      }
      probed = { ...traits, checksums, remembered: true };
    } else if (context.writable) {
      try {
        traits = await retrying(() => probe(bucket(), keys, log, signal), RETRY, signal);
      } catch (error) {
        if (!asksForChecksum(error)) throw error;
        client.destroy();
        checksums = 'always';
        client = createClient(options, checksums);
        traits = await retrying(() => probe(bucket(), keys, log, signal), RETRY, signal);
      }
      probed = { ...traits, checksums };
      context.certificates?.write(identity, probed);
    }
    return {
      backend: new S3Backend(bucket(), keys, traits, s3Limits, log),
      identity,
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
