import { MirageError } from '../../errors/mirage-error.js';
import type { StoredAttributes, Timestamp } from '../contract.js';

/**
 * Attributes as user metadata, in the convention of s3fs: `mode` (decimal, with the type bits), `uid`, `gid`, `mtime`, `ctime`,
 * `atime` (seconds; newer s3fs and rclone append a fraction, which is read too), `xattr` (URL-encoded JSON of base64
 * values). What s3fs has no word for stands in keys that begin with `mirage-`.
 */
type Metadata = Record<string, string>;

const NUMBERS = { mode: 'mode', uid: 'uid', gid: 'gid', rdev: 'mirage-rdev' } as const;
const TIMES = { modified: 'mtime', changed: 'ctime', accessed: 'atime' } as const;
const TEXTS = { linkGroup: 'mirage-link', writer: 'mirage-writer' } as const;
const XATTR = 'xattr';
const nanosecondsKey = (seconds: string): string => `mirage-${seconds}-ns`;

/** Every name that attributes may take. */
export const attributeNames: ReadonlySet<string> = new Set([
  ...Object.values(NUMBERS),
  ...Object.values(TEXTS),
  ...Object.values(TIMES).flatMap((key) => [key, nanosecondsKey(key)]),
  XATTR,
]);

/** Bytes of names and values that a store keeps with an object. */
export interface MetadataRoom {
  readonly store: string;
  readonly bytes: number;
}

const S3_ROOM: MetadataRoom = { store: 'S3', bytes: 2048 };

export function encodeAttributes(
  attributes: StoredAttributes,
  foreign: Metadata = {},
  room: MetadataRoom = S3_ROOM,
): Metadata {
  const metadata: Metadata = { ...foreign };
  for (const [field, key] of entries(NUMBERS)) {
    const value = attributes[field];
    if (value !== undefined) metadata[key] = String(value);
  }
  for (const [field, key] of entries(TIMES)) {
    const time = attributes[field];
    if (time === undefined) continue;
    metadata[key] = String(time.seconds);
    if (time.nanoseconds !== 0) metadata[nanosecondsKey(key)] = String(time.nanoseconds);
  }
  for (const [field, key] of entries(TEXTS)) {
    const value = attributes[field];
    if (value !== undefined) metadata[key] = encodeURIComponent(value);
  }
  if (attributes.xattrs !== undefined && Object.keys(attributes.xattrs).length > 0) {
    metadata[XATTR] = encodeURIComponent(JSON.stringify(attributes.xattrs));
  }
  let bytes = 0;
  for (const [key, value] of Object.entries(metadata))
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value);
  if (bytes > room.bytes) {
    throw new MirageError(`${bytes} bytes of attributes do not fit beside an object of ${room.store}`, {
      errno: 'ENOSPC',
      hint: `${room.store} keeps ${room.bytes} bytes of metadata per object: set fewer or smaller extended attributes`,
    });
  }
  return metadata;
}

export function decodeAttributes(metadata: Metadata | undefined): StoredAttributes {
  const attributes: { -readonly [K in keyof StoredAttributes]: StoredAttributes[K] } = {};
  if (metadata === undefined) return attributes;
  for (const [field, key] of entries(NUMBERS)) {
    const value = wholeNumber(metadata[key]);
    if (value !== undefined) attributes[field] = value;
  }
  for (const [field, key] of entries(TIMES)) {
    const time = decodeTime(metadata[key], metadata[nanosecondsKey(key)]);
    if (time !== undefined) attributes[field] = time;
  }
  for (const [field, key] of entries(TEXTS)) {
    const value = decodeText(metadata[key]);
    if (value !== undefined) attributes[field] = value;
  }
  const xattrs = decodeExtended(metadata[XATTR]);
  if (xattrs !== undefined) attributes.xattrs = xattrs;
  return attributes;
}

/** Metadata that is not ours and has to survive a change of ours. */
export function foreignMetadata(metadata: Metadata | undefined): Metadata {
  return Object.fromEntries(Object.entries(metadata ?? {}).filter(([key]) => !attributeNames.has(key)));
}

function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}

function decodeTime(text: string | undefined, nanoseconds: string | undefined): Timestamp | undefined {
  const parts = text === undefined ? null : /^(-?\d{1,12})(?:\.(\d{1,9})\d*)?$/.exec(text);
  if (parts === null) return undefined;
  const fraction = parts[2] === undefined ? 0 : Number(parts[2].padEnd(9, '0'));
  const own = wholeNumber(nanoseconds);
  return { seconds: Number(parts[1]), nanoseconds: own !== undefined && own < 1e9 ? own : fraction };
}

function decodeText(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** What another program damaged is as good as not there: the object itself must stay readable. */
function decodeExtended(text: string | undefined): Record<string, string> | undefined {
  const json = decodeText(text);
  if (json === undefined) return undefined;
  try {
    const values: unknown = JSON.parse(json);
    if (typeof values !== 'object' || values === null) return undefined;
    const pairs = Object.entries(values).filter(
      (pair): pair is [string, string] => typeof pair[1] === 'string',
    );
    return Object.fromEntries(pairs);
  } catch {
    return undefined;
  }
}

function entries<T extends object>(object: T): [keyof T, T[keyof T]][] {
  return Object.entries(object) as [keyof T, T[keyof T]][];
}
