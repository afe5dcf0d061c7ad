/** What a server says of a name, made into a row: completed by what the server cannot keep and is kept here. */
import type { StoredAttributes, Timestamp } from '../../backends/contract.js';
import type { ServerAttributes } from '../../backends/file-server.js';
import type { EntryRecord, NewEntryRecord } from '../../metadata/contract.js';
import { isDirectory, isRegular, S_IFLNK, S_IFMT } from '../attributes.js';
import { timestamp } from '../inodes/attributes-of.js';
import type { ByteString } from '../operations.js';

const PERMISSIONS = 0o7777;

/** The last answer of a server about a file, for equality: its size and modification time as the server tells them. */
export const versionOf = (attributes: ServerAttributes): string =>
  `${attributes.size}:${attributes.modifiedSeconds}.${attributes.modifiedNanoseconds}`;

export const versionOfRow = (row: EntryRecord | NewEntryRecord): string =>
  `${row.size}:${row.modifiedSeconds}.${row.modifiedNanoseconds}`;

/** Types that a server of files cannot make: an empty file stands for them. */
export function isSpecial(mode: number): boolean {
  const type = mode & S_IFMT;
  return type !== 0 && !isRegular(mode) && !isDirectory(mode) && type !== S_IFLNK;
}

/** The server still tells of the content what the row was made from. */
const isUnchanged = (row: EntryRecord | NewEntryRecord, said: ServerAttributes): boolean =>
  (row.kind === 'directory' || row.size === said.size) &&
  row.modifiedSeconds === said.modifiedSeconds &&
  row.modifiedNanoseconds === said.modifiedNanoseconds;

/**
 * The row of a name. A server keeps whole seconds and knows no device numbers, extended attributes nor change times: `previous`, what was known of the
 * name, has them, and they hold for as long as the server's own answer is the one they were kept beside.
 */
export function rowOf(
  name: ByteString,
  said: ServerAttributes,
  previous: EntryRecord | NewEntryRecord | undefined,
  seenAt: number,
): NewEntryRecord {
  const kind = isDirectory(said.mode) ? 'directory' : 'file';
  const before = previous?.kind === kind ? previous : undefined;
  const kept = before?.attributes;
  const unchanged = before !== undefined && isUnchanged(before, said);
  const mode = modeOf(said, unchanged ? kept : undefined);
  const sameType = kept?.mode === undefined || (kept.mode & S_IFMT) === (mode & S_IFMT);
  const attributes: StoredAttributes = {
    mode,
    uid: said.uid,
    gid: said.gid,
    modified: (unchanged ? kept?.modified : undefined) ?? {
      seconds: said.modifiedSeconds,
      nanoseconds: said.modifiedNanoseconds,
    },
    accessed: accessedOf(said, kept),
    changed: changedOf(said, mode, unchanged ? kept : undefined, before === undefined, seenAt),
    ...(unchanged && kept?.rdev !== undefined && { rdev: kept.rdev }),
    ...(sameType && kept?.xattrs !== undefined && { xattrs: kept.xattrs }),
    ...(sameType && kept?.linkGroup !== undefined && { linkGroup: kept.linkGroup }),
  };
  return {
    name,
    kind,
    size: kind === 'directory' ? 0 : said.size,
    validator: undefined,
    modifiedSeconds: said.modifiedSeconds,
    modifiedNanoseconds: said.modifiedNanoseconds,
    attributes,
    ino: sameType ? before?.ino : undefined,
    seenAt,
  };
}

function modeOf(said: ServerAttributes, kept: StoredAttributes | undefined): number {
  const special = kept?.mode !== undefined && isSpecial(kept.mode) && isRegular(said.mode) && said.size === 0;
  return special ? ((kept.mode as number) & S_IFMT) | (said.mode & PERMISSIONS) : said.mode;
}

function accessedOf(said: ServerAttributes, kept: StoredAttributes | undefined): Timestamp {
  const same = said.accessedNanoseconds === 0 && kept?.accessed?.seconds === said.accessedSeconds;
  return same
    ? (kept?.accessed as Timestamp)
    : { seconds: said.accessedSeconds, nanoseconds: said.accessedNanoseconds };
}

/** Where the server does not tell: when something was seen to have changed, and the modification time of what was never seen before. */
function changedOf(
  said: ServerAttributes,
  mode: number,
  kept: StoredAttributes | undefined,
  first: boolean,
  seenAt: number,
): Timestamp {
  if (said.changedSeconds !== undefined) {
    return { seconds: said.changedSeconds, nanoseconds: said.changedNanoseconds ?? 0 };
  }
  const same = kept?.mode === mode && kept.uid === said.uid && kept.gid === said.gid;
  if (same && kept.changed !== undefined) return kept.changed;
  return first ? { seconds: said.modifiedSeconds, nanoseconds: said.modifiedNanoseconds } : timestamp(seenAt);
}
