import type { OpenContext, OpenedBackend } from '../backend-type.js';
import { defaultRetry, retrying } from '../layers/retry.js';
import { KeySpace } from '../object-store/keys.js';
import { authorizationOf } from './authorization.js';
import { GcsBackend } from './backend.js';
import { GcsClient } from './client.js';
import { Objects } from './objects.js';
import type { GcsOptions } from './options.js';
import { certificate, type Preconditions, probe, unprobed } from './probe.js';
import { pageSchema } from './resources.js';

/** A mount should fail while somebody waits for it, not after all the patience that a running one has. */
const RETRY = { ...defaultRetry, attempts: 2 };
const PATIENCE_MILLISECONDS = 15_000;

export async function open(options: GcsOptions, context: OpenContext): Promise<OpenedBackend> {
  const { bucket, endpoint, kmsKeyName, prefix, storageClass, userProject } = options;
  const { certificates, log, signal, writable } = context;
  const keys = new KeySpace(prefix);
  const client = new GcsClient(bucket, endpoint, await authorizationOf(options), userProject);
  const identity = `gcs:${endpoint ?? 'google'}/${bucket}/${keys.base}`;
  try {
    await retrying(() => look(client, keys, signal), RETRY, signal);
    const objects = new Objects(client, keys, { storageClass, kmsKeyName });
    let preconditions: Preconditions = unprobed;
    let probed: OpenedBackend['probed'] = { preconditions: 'not asked: the mount is read-only' };
    const known = certificate.safeParse(certificates?.read(identity)).data;
    if (writable && known !== undefined) {
      preconditions = known;
      probed = { ...known, remembered: true };
    } else if (writable) {
      preconditions = await retrying(() => probe(objects, log, signal), RETRY, signal);
      probed = { ...preconditions };
      certificates?.write(identity, preconditions);
    }
    return { backend: new GcsBackend(objects, preconditions, log), identity, probed };
  } catch (error) {
    await client.close();
    throw error;
  }
}

/** Proves credentials, bucket and the right to list it, with an answer that says which of them is wrong. */
async function look(client: GcsClient, keys: KeySpace, signal: AbortSignal): Promise<void> {
  await client.json(
    {
      method: 'GET',
      path: client.objects(),
      query: { prefix: keys.base, maxResults: '1', fields: 'nextPageToken' },
      patience: PATIENCE_MILLISECONDS,
      attempt: { operation: 'open', subject: client.bucket, signal },
    },
    pageSchema,
  );
}
