/** Rows of the metadata store and what they are made from. */
import type { ObjectInfo } from '../../backends/contract.js';
import type { EntryRecord, NewEntryRecord } from '../../metadata/contract.js';
import type { ByteString } from '../operations.js';
import { newInodeNumber } from './attributes-of.js';

/** Seconds that two tellings of one object's time may differ by. */
const CLOCK_GRAIN = 2;

export function absentRecord(name: ByteString, seenAt: number): NewEntryRecord {
  return {
    name,
    kind: 'absent',
    size: 0,
    validator: undefined,
    modifiedSeconds: 0,
    modifiedNanoseconds: 0,
    attributes: undefined,
    ino: undefined,
    seenAt,
  };
}

/**
 * What the store says of a name, completed by what is known already: a listing has no attributes and never the marker of a
 * directory, an inode number never changes with the content, and the times of a directory are kept here.
 */
export function recordOf(
  info: ObjectInfo,
  name: ByteString,
  previous: EntryRecord | undefined,
  seenAt: number,
): NewEntryRecord {
  const before = previous?.kind === info.kind ? previous : undefined;
  const directory = info.kind === 'directory';
  const same = before !== undefined && (directory || isSameObject(before, info));
  const known = same ? before.attributes : undefined;
  const keepsTimes = directory && before !== undefined;
  const attributes =
    info.attributes === undefined
      ? known
      : directory && known?.modified !== undefined
        ? { ...info.attributes, modified: known.modified, changed: known.changed ?? known.modified }
        : info.attributes;
  // The inode number of hard links is theirs, not that of a file that has taken the place of one.
  const leftGroup =
    before?.attributes?.linkGroup !== undefined && attributes?.linkGroup !== before.attributes.linkGroup;
  return {
    name,
    kind: info.kind,
    size: directory ? 0 : (info.size ?? before?.size ?? 0),
    validator: info.validator ?? (directory ? before?.validator : undefined),
    modifiedSeconds: keepsTimes ? before.modifiedSeconds : info.modified.seconds,
    modifiedNanoseconds: keepsTimes ? before.modifiedNanoseconds : info.modified.nanoseconds,
    attributes,
    ino: leftGroup ? undefined : before?.ino,
    seenAt,
  };
}

/** The version of the object that a row speaks of. */
export const versionOf = (row: EntryRecord | NewEntryRecord): Pick<ObjectInfo, 'validator' | 'modified'> => ({
  validator: row.validator,
  modified: { seconds: row.modifiedSeconds, nanoseconds: row.modifiedNanoseconds },
});

/** The validator may be a hash of the bytes: an object that was written again tells by its time, which a write's answer gives to the second. */
const isSameObject = (before: EntryRecord, info: ObjectInfo): boolean =>
  before.validator === info.validator &&
  Math.abs(info.modified.seconds - before.modifiedSeconds) <= CLOCK_GRAIN;

/** A row of something made here that never reached the store, left over from a daemon that ended without warning: it alone has a mode. */
export const isUnknown = (record: EntryRecord): boolean =>
  record.kind === 'file' && record.validator === undefined && record.attributes?.mode !== undefined;

/** A listing showed the name and no more: its size is to be asked for. */
export const isNameOnly = (record: EntryRecord): boolean =>
  record.kind === 'file' && record.validator === undefined && record.attributes === undefined;

/** A link group starts with its inode number, so that every host shows the same. */
export const newLinkGroup = (ino: number): string =>
  `${ino.toString(16).padStart(13, '0')}-${newInodeNumber().toString(36)}`;

export function inodeNumberOfGroup(group: string): number | undefined {
  const ino = Number.parseInt(group.slice(0, 13), 16);
  return Number.isSafeInteger(ino) && group[13] === '-' ? ino : undefined;
}
