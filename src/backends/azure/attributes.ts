import type { StoredAttributes } from '../contract.js';
import * as s3fs from '../object-store/attributes.js';

/**
 * Attributes as blob metadata: the convention of s3fs, as on S3. Azure wants names that are identifiers of C#, so `mirage-link` is `mirage_link`
 * here, and keeps 8 KiB: https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources
 */
export type Metadata = Record<string, string>;

const ROOM = { bytes: 8192, store: 'Azure' };

/**
 * The name that blobfuse, Hadoop, rclone, the portal and accounts with a hierarchical namespace give to a directory: an empty blob with this metadata.
 * https://hadoop.apache.org/docs/stable/hadoop-azure/index.html
 */
const FOLDER = 'hdi_isfolder';

/** No metadata at all would mean "that of the source" to a copy, so a copy that shall have none has this. */
const NOTHING: Metadata = { mirage_none: 'true' };

export function encodeAttributes(attributes: StoredAttributes, foreign: Metadata = {}): Metadata {
  const encoded = s3fs.encodeAttributes(attributes, foreign, ROOM);
  return Object.fromEntries(Object.entries(encoded).map(([key, value]) => [key.replaceAll('-', '_'), value]));
}

export function encodeFolder(attributes: StoredAttributes, foreign: Metadata = {}): Metadata {
  return { ...encodeAttributes(attributes, foreign), [FOLDER]: 'true' };
}

/** Of a copy: with `attributes` in place of what the source has. */
export function encodeForCopy(attributes: StoredAttributes, foreign: Metadata): Metadata {
  const encoded = encodeAttributes(attributes, foreign);
  return Object.keys(encoded).length === 0 ? NOTHING : encoded;
}

export function decodeAttributes(metadata: Metadata | undefined): StoredAttributes {
  return s3fs.decodeAttributes(named(metadata));
}

/** Metadata that is not ours and has to survive a change of ours. */
export function foreignMetadata(metadata: Metadata | undefined): Metadata {
  return s3fs.foreignMetadata(named(metadata));
}

export function isFolder(metadata: Metadata | undefined): boolean {
  return named(metadata)[FOLDER]?.toLowerCase() === 'true';
}

/** Names are compared without case by Azure, and a listing shows them as they were written. */
function named(metadata: Metadata = {}): Metadata {
  return Object.fromEntries(
    Object.entries(metadata).map(([key, value]) => {
      const name = key.toLowerCase();
      return [name.startsWith('mirage_') ? name.replaceAll('_', '-') : name, value];
    }),
  );
}
