/** Attributes as a program sees them ↔ what the store keeps of them. */
import type { StoredAttributes, Timestamp } from '../../backends/contract.js';
import type { EntryRecord, NewEntryRecord } from '../../metadata/contract.js';
import { type Attributes, isRegular, S_IFDIR, S_IFMT, S_IFREG } from '../attributes.js';
import type { VolumeContext } from '../volume.js';

const FILE_MODE = S_IFREG | 0o644;
const DIRECTORY_MODE = S_IFDIR | 0o755;
const EXECUTE = 0o111;
const BLOCK = 512;

/** A 52-bit number of a text, never below 2^10: the st_ino of what was not made here. */
export function inodeNumberOf(text: string): number {
  let low = 0x6a09e667;
  let high = 0xbb67ae85;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    low = Math.imul(low ^ unit, 0x85ebca77);
    high = Math.imul(high ^ unit, 0xc2b2ae3d);
  }
  low = Math.imul(low ^ (low >>> 16), 0x27d4eb2f) ^ Math.imul(high ^ (high >>> 13), 0x165667b1);
  high = Math.imul(high ^ (high >>> 16), 0x27d4eb2f) ^ Math.imul(low ^ (low >>> 13), 0x165667b1);
  return (high & 0xfffff) * 2 ** 32 + (low >>> 0) + 1024;
}

/** The st_ino of what is made here: no location in it, for the location may be made again while the first file lives on. */
export const newInodeNumber = (): number => Math.floor(Math.random() * (2 ** 52 - 1024)) + 1024;

/** 32 bits that tell one version from another; never 0. */
export function versionHash(validator: string | undefined): number {
  if (validator === undefined) return 1;
  let hash = 0x811c9dc5;
  for (let index = 0; index < validator.length; index++) {
    hash = Math.imul(hash ^ validator.charCodeAt(index), 0x01000193);
  }
  return (hash | 1) >>> 0;
}

/** The type and permission bits of an object that says so, or of one that says nothing, under the rule for x bits. */
export function modeOf(
  kind: 'file' | 'directory',
  stored: StoredAttributes | undefined,
  context: VolumeContext,
): number {
  if (kind === 'directory') {
    const mode = stored?.mode;
    return mode === undefined ? DIRECTORY_MODE : S_IFDIR | (mode & 0o7777);
  }
  const mode = stored?.mode ?? FILE_MODE;
  const type = mode & S_IFMT;
  return allowedMode(type === 0 || type === S_IFDIR ? S_IFREG | (mode & 0o7777) : mode, context);
}

/** A volume that is not `exec` shows and keeps no x bit on regular files. */
export const allowedMode = (mode: number, context: VolumeContext): number =>
  isRegular(mode) && context.mode !== 'exec' ? mode & ~EXECUTE : mode;

/** Fills what `stat` shows of a name from what is known of it. */
export function fillFrom(
  attributes: Attributes,
  record: EntryRecord | NewEntryRecord,
  ino: number,
  nlink: number,
  context: VolumeContext,
): void {
  const stored = record.attributes;
  const directory = record.kind === 'directory';
  attributes.ino = ino;
  attributes.mode = modeOf(directory ? 'directory' : 'file', stored, context);
  attributes.nlink = nlink;
  attributes.uid = stored?.uid ?? context.uid;
  attributes.gid = stored?.gid ?? context.gid;
  attributes.rdev = stored?.rdev ?? 0;
  setSize(attributes, directory ? 4096 : record.size);
  const modified = stored?.modified;
  attributes.modifiedSeconds = modified?.seconds ?? record.modifiedSeconds;
  attributes.modifiedNanoseconds = modified?.nanoseconds ?? record.modifiedNanoseconds;
  const changed = stored?.changed;
  attributes.changedSeconds = changed?.seconds ?? attributes.modifiedSeconds;
  attributes.changedNanoseconds = changed?.nanoseconds ?? attributes.modifiedNanoseconds;
  const accessed = stored?.accessed;
  attributes.accessedSeconds = accessed?.seconds ?? attributes.modifiedSeconds;
  attributes.accessedNanoseconds = accessed?.nanoseconds ?? attributes.modifiedNanoseconds;
}

export function setSize(attributes: Attributes, size: number): void {
  attributes.size = size;
  attributes.blocks = Math.ceil(size / BLOCK);
}

/** What the store is to keep; `extra` carries what `stat` does not show. */
export function storedOf(
  attributes: Attributes,
  extra: Pick<StoredAttributes, 'xattrs' | 'linkGroup' | 'writer'>,
): StoredAttributes {
  return {
    mode: attributes.mode,
    uid: attributes.uid,
    gid: attributes.gid,
    ...(attributes.rdev === 0 ? {} : { rdev: attributes.rdev }),
    modified: { seconds: attributes.modifiedSeconds, nanoseconds: attributes.modifiedNanoseconds },
    changed: { seconds: attributes.changedSeconds, nanoseconds: attributes.changedNanoseconds },
    accessed: { seconds: attributes.accessedSeconds, nanoseconds: attributes.accessedNanoseconds },
    ...(extra.xattrs === undefined || Object.keys(extra.xattrs).length === 0 ? {} : { xattrs: extra.xattrs }),
    ...(extra.linkGroup === undefined ? {} : { linkGroup: extra.linkGroup }),
    ...(extra.writer === undefined ? {} : { writer: extra.writer }),
  };
}

/** Wall time in milliseconds as a file time. */
export function timestamp(milliseconds: number): Timestamp {
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanoseconds: Math.floor((milliseconds - seconds * 1000) * 1e6) };
}

export function touchModified(attributes: Attributes, at: Timestamp): void {
  attributes.modifiedSeconds = at.seconds;
  attributes.modifiedNanoseconds = at.nanoseconds;
  touchChanged(attributes, at);
}

export function touchChanged(attributes: Attributes, at: Timestamp): void {
  attributes.changedSeconds = at.seconds;
  attributes.changedNanoseconds = at.nanoseconds;
}

export function copyAttributes(to: Attributes, from: Attributes): void {
  to.ino = from.ino;
  to.size = from.size;
  to.blocks = from.blocks;
  to.mode = from.mode;
  to.nlink = from.nlink;
  to.uid = from.uid;
  to.gid = from.gid;
  to.rdev = from.rdev;
  to.blockSize = from.blockSize;
  to.accessedSeconds = from.accessedSeconds;
  to.accessedNanoseconds = from.accessedNanoseconds;
  to.modifiedSeconds = from.modifiedSeconds;
  to.modifiedNanoseconds = from.modifiedNanoseconds;
  to.changedSeconds = from.changedSeconds;
  to.changedNanoseconds = from.changedNanoseconds;
}
