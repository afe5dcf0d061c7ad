import type { BlobServiceClient } from '@azure/storage-blob';
import type { OpenContext, OpenedBackend } from '../backend-type.js';
import { defaultRetry, retrying } from '../layers/retry.js';
import { KeySpace } from '../object-store/keys.js';
import { AzureBackend } from './backend.js';
import { createClient } from './client.js';
import { namesBelow } from './listing.js';
import type { AzureOptions } from './options.js';
import { certificate, probe, unprobedTraits } from './probe.js';
import { azureLimits, request, type Traits } from './requests.js';

/** A mount should fail while somebody waits for it, not after all the patience that a running one has. */
const RETRY = { ...defaultRetry, attempts: 2 };

export async function open(options: AzureOptions, context: OpenContext): Promise<OpenedBackend> {
  const { signal, log, certificates } = context;
  const keys = new KeySpace(options.prefix);
  const service = await createClient(options);
  const client = service.getContainerClient(options.container);
  const address = new URL(client.url);
  const identity = `azure:${address.origin}${address.pathname}/${keys.base}`;
  await retrying(() => look(client, keys, signal), RETRY, signal);
  const hierarchicalNamespace = options.hierarchicalNamespace ?? (await hasHierarchy(service, signal));
  let traits: Traits = unprobedTraits;
  let probed: OpenedBackend['probed'] = { preconditions: 'not asked: the mount is read-only' };
  if (context.writable) {
    const known = certificate.safeParse(certificates?.read(identity)).data;
    traits = known ?? (await retrying(() => probe(client, keys, log, signal), RETRY, signal));
    if (known === undefined) certificates?.write(identity, traits);
    probed = { ...traits, ...(known !== undefined && { remembered: true }) };
  }
  return {
    backend: new AzureBackend({ client }, keys, traits, azureLimits, hierarchicalNamespace),
    identity,
    probed: { ...probed, hierarchicalNamespace },
  };
}

/** Proves credentials, container and the right to list it, with an answer that says which of them is wrong. */
function look(
  client: ReturnType<BlobServiceClient['getContainerClient']>,
  keys: KeySpace,
  signal: AbortSignal,
): Promise<string[]> {
  return request({ operation: 'open', subject: client.containerName, signal }, () =>
    namesBelow(client, keys.base, 1, signal),
  );
}

/** Many credentials may use a container and not ask about its account: then it is taken for a flat one, which is what most are. */
async function hasHierarchy(service: BlobServiceClient, signal: AbortSignal): Promise<boolean> {
  try {
    const { isHierarchicalNamespaceEnabled } = await service.getAccountInfo({ abortSignal: signal });
    return isHierarchicalNamespaceEnabled ?? false;
  } catch {
    signal.throwIfAborted();
    return false;
  }
}
