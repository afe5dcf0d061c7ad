import type { ContainerClient } from '@azure/storage-blob';
import { z } from 'zod';
import { MirageError } from '../../errors/mirage-error.js';
import type { ListPage, ObjectInfo } from '../contract.js';
import { implicitDirectory } from '../object-store/info.js';
import type { KeySpace } from '../object-store/keys.js';
import { isFolder } from './attributes.js';
import { infoOf, request } from './requests.js';

const PAGE = 5000;

const cursorShape = z.object({ marker: z.string(), markers: z.array(z.string()) });

/**
 * One page of a level, with the attributes of everything in it. A directory may show twice: as the blob `a` that marks it and as the prefix `a/`
 * of what lies in it. Names are ordered, and others may stand between the two (`a.txt`), even a page break: so markers whose prefix can
 * still come travel in the cursor. They are no more than the last name has letters, for each of them begins it.
 * Source: https://learn.microsoft.com/rest/api/storageservices/list-blobs
 */
export async function listPage(
  client: ContainerClient,
  keys: KeySpace,
  directory: string,
  cursor: string | undefined,
  signal: AbortSignal,
): Promise<ListPage> {
  const from = cursor === undefined ? undefined : readCursor(cursor);
  const pages = client
    .listBlobsByHierarchy('/', { prefix: directory, includeMetadata: true, abortSignal: signal })
    .byPage({ maxPageSize: PAGE, ...(from !== undefined && { continuationToken: from.marker }) });
  const { value: page } = await request({ operation: 'list', subject: directory, signal }, () =>
    pages.next(),
  );
  if (page === undefined) return { entries: [], cursor: undefined };
  const { blobItems, blobPrefixes = [] } = page.segment;
  const entries: ObjectInfo[] = [];
  const markers = new Set(from?.markers);
  let last = '';
  for (const { name, properties, metadata, versionId } of blobItems) {
    if (name > last) last = name;
    if (name === directory) continue;
    const folder = isFolder(metadata);
    if (folder) markers.add(name);
    const { contentLength, lastModified, etag } = properties;
    entries.push(
      infoOf(keys.fromObject(name), folder ? 'directory' : 'file', {
        lastModified,
        etag,
        ...(contentLength !== undefined && { contentLength }),
        ...(metadata !== undefined && { metadata }),
        ...(versionId !== undefined && { versionId }),
      }),
    );
  }
  for (const { name } of blobPrefixes) {
    if (name > last) last = name;
    const key = keys.fromPrefix(name);
    // A name that begins with a slash would be the root.
    if (key === undefined || markers.delete(name.slice(0, -1))) continue;
    entries.push(implicitDirectory(key));
  }
  const marker = page.continuationToken;
  if (marker === undefined || marker === '') return { entries, cursor: undefined };
  const pending = [...markers].filter((name) => last.startsWith(name));
  return { entries, cursor: JSON.stringify({ marker, markers: pending }) };
}

function readCursor(cursor: string): z.output<typeof cursorShape> {
  try {
    return cursorShape.parse(JSON.parse(cursor));
  } catch (cause) {
    throw new MirageError('list: not a cursor of this listing', { errno: 'EINVAL', cause });
  }
}

/** The first up to two blobs below a prefix, as a flat listing shows them; a page may be empty although more follow. */
export async function namesBelow(
  client: ContainerClient,
  prefix: string,
  limit: number,
  signal: AbortSignal,
): Promise<string[]> {
  return request({ operation: 'list', subject: prefix, signal }, async () => {
    const names: string[] = [];
    const pages = client.listBlobsFlat({ prefix, abortSignal: signal }).byPage({ maxPageSize: limit });
    for await (const page of pages) {
      for (const { name } of page.segment.blobItems) names.push(name);
      if (names.length >= limit) break;
    }
    return names.slice(0, limit);
  });
}
