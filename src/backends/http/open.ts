import { createHash } from 'node:crypto';
import { MirageError } from '../../errors/mirage-error.js';
import type { OpenContext, OpenedBackend } from '../backend-type.js';
import type { ObjectInfo } from '../contract.js';
import { defaultRetry, retrying } from '../layers/retry.js';
import { header } from '../web/versions.js';
import { HttpBackend } from './backend.js';
import { discard, HttpClient, isWithSlash, resolveUrl } from './client.js';
import type { HttpOptions } from './options.js';
import { identityOf, ManifestPlaces, type Places, singleFile, TreePlaces } from './places.js';

/** A mount should fail while somebody waits for it, not after all the patience that a running one has. */
const RETRY = { ...defaultRetry, attempts: 2 };

export async function open(options: HttpOptions, context: OpenContext): Promise<OpenedBackend> {
  if (context.writable) {
    throw new MirageError('files of a web server can only be read', {
      errno: 'EROFS',
      hint: 'mount it with `mode: read`',
    });
  }
  const client = new HttpClient(options);
  try {
    const { places, kind } = await retrying(
      () => placesOf(options, client, context.signal),
      RETRY,
      context.signal,
    );
    const backend = new HttpBackend({ client, places, webPages: options.webPages, log: context.log });
    const entries = await retrying(() => look(backend, kind, context.signal), RETRY, context.signal);
    return {
      backend,
      identity: identityOf(options, digest),
      probed: { kind, ...(entries !== undefined && { entries }) },
    };
  } catch (error) {
    await client.close();
    throw error;
  }
}

type Kind = 'tree' | 'file' | 'manifest';

async function placesOf(
  { url, files }: HttpOptions,
  client: HttpClient,
  signal: AbortSignal,
): Promise<{ places: Places; kind: Kind }> {
  if (url === undefined) return { places: new ManifestPlaces(files ?? {}), kind: 'manifest' };
  const address = new URL(url);
  address.hash = '';
  if (!address.pathname.endsWith('/')) {
    const answer = await client.ask({ method: 'HEAD', url: address, signal, stopAtSlash: true });
    discard(answer);
    const location = header(answer.headers, 'location');
    const target = location === undefined ? undefined : resolveUrl(location, answer.url);
    if (target === undefined || !isWithSlash(address, target)) {
      return { places: singleFile(address), kind: 'file' };
    }
    address.pathname += '/';
  }
  address.search = '';
  return { places: new TreePlaces(address), kind: 'tree' };
}

/** Proves the address and the credentials. A manifest may name many servers: one that is down must not take the others along. */
async function look(backend: HttpBackend, kind: Kind, signal: AbortSignal): Promise<number | undefined> {
  if (kind === 'manifest') return undefined;
  const { entries } = await backend.list('', undefined, { signal });
  if (kind === 'tree') return entries.length;
  const [file] = entries as [ObjectInfo];
  if ((await backend.stat(file.key, { signal })) === undefined) {
    throw new MirageError(`${file.key}: the server has no such file`, {
      errno: 'ENOENT',
      hint: 'check the URL of the mount',
    });
  }
  return 1;
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16);
