import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { MirageError } from '../../errors/mirage-error.js';
import type { OpenContext, OpenedBackend } from '../backend-type.js';
import { defaultRetry, retrying } from '../layers/retry.js';
import { Addresses } from './addresses.js';
import { WebdavBackend } from './backend.js';
import { Client } from './client.js';
import { ownerOf, removeAbandonedUploads } from './leftovers.js';
import { Locks } from './locks.js';
import type { WebdavOptions } from './options.js';
import { probe } from './probe.js';
import { Resources } from './resources.js';
import { rememberedTraits, type Traits, unprobedTraits } from './traits.js';
import { ChunkedUploads } from './uploads.js';

/** A mount should fail while somebody waits for it, not after all the patience that a running one has. */
const RETRY = { ...defaultRetry, attempts: 2 };

export async function open(options: WebdavOptions, context: OpenContext): Promise<OpenedBackend> {
  const addresses = new Addresses(options.url);
  const { signal, log } = context;
  const client = new Client({
    origin: addresses.origin,
    credentials: options,
    headers: options.headers ?? {},
    ca: options.ca === undefined ? undefined : await certificate(options.ca),
    connectTimeout: options.connectTimeout,
  });
  const identity = `webdav:${addresses.url('', 'directory')}`;
  // What these credentials may do.
  const store = `${identity} ${options.username ?? ''}`;
  const owner = ownerOf(store, context);
  try {
    await retrying(() => look(client, addresses, options, context), RETRY, signal);
    const locks = new Locks(client, owner.name);
    let traits: Traits = unprobedTraits;
    let probed: OpenedBackend['probed'] = { preconditions: 'not asked: the mount is read-only' };
    const known = rememberedTraits.safeParse(context.certificates?.read(store)).data;
    if (context.writable && known !== undefined) {
      traits = known;
      probed = { ...traits, remembered: true };
    } else if (context.writable) {
      traits = await retrying(() => probe(client, addresses, locks, log, signal), RETRY, signal);
      probed = { ...traits };
      context.certificates?.write(store, traits);
    }
    if (context.writable) await removeAbandonedUploads(client, addresses, owner.name, context);
    const product = await productOf(client, addresses, signal);
    const uploads = product && new ChunkedUploads(client, product.uploads);
    return {
      backend: new WebdavBackend({ client, addresses, locks, traits, uploads, owner, log }),
      identity,
      probed: { ...probed, ...(product && { server: product.name, chunkedUpload: true }) },
    };
  } catch (error) {
    owner.done();
    await client.close();
    throw error;
  }
}

/** Proves address, credentials and the right to list the folder, with an answer that says which of them is wrong. */
async function look(
  client: Client,
  addresses: Addresses,
  { url }: WebdavOptions,
  { log, signal }: OpenContext,
): Promise<void> {
  const found = await new Resources(client, addresses, false, log).stat('', signal);
  if (found === undefined) {
    throw new MirageError(`${url}: no such folder`, {
      errno: 'ENOENT',
      hint: 'create the folder on the server, or correct `url` of the mount',
    });
  }
  if (found.kind === 'file') {
    throw new MirageError(`${url} is a file`, { errno: 'ENOTDIR', hint: 'a mount shows a folder' });
  }
}

const status = z.object({ productname: z.string(), versionstring: z.string() });

/** Nextcloud and ownCloud say so themselves, and take large files in chunks: `/remote.php/dav/files/USER` has its `uploads/USER`. */
async function productOf(
  client: Client,
  addresses: Addresses,
  signal: AbortSignal,
): Promise<{ name: string; uploads: string } | undefined> {
  const [, above, user] =
    /^(.*)\/remote\.php\/dav\/files\/([^/]+)/.exec(addresses.path('', 'directory')) ?? [];
  if (above === undefined) return undefined;
  try {
    const answer = await client.request(
      { method: 'GET', path: `${above}/status.php` },
      { operation: 'open', subject: 'status.php', signal },
    );
    const { productname, versionstring } = status.parse(JSON.parse(await answer.body.text()));
    return { name: `${productname} ${versionstring}`, uploads: `${above}/remote.php/dav/uploads/${user}/` };
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

async function certificate(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new MirageError(`the certificate file ${file} cannot be read`, {
      errno: 'EACCES',
      cause,
      hint: 'correct `ca` of the mount',
    });
  }
}
