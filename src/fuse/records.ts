/** The records inside replies, written into 32-bit words from `at` on. */
import type { Attributes } from '../vfs/attributes.js';
import type { EntryAnswer, EntryReply, FileSystemUsage } from '../vfs/operations.js';
import { STATX_BASIC } from './protocol.js';

const HIGH = 0x1_0000_0000;
const SECOND = 1e9;

/** A whole number below 2^53, or a negative one in two's complement. */
export function put64(words: Uint32Array, at: number, value: number): void {
  words[at] = value;
  words[at + 1] = Math.floor(value / HIGH);
}

/** A timeout: whole seconds into two words at `seconds`, the rest into one at `nanoseconds`. */
function putTimeout(words: Uint32Array, seconds: number, nanoseconds: number, timeout: number): void {
  const whole = Math.min(Math.floor(timeout / SECOND), 0xffff_ffff);
  words[seconds] = whole;
  words[seconds + 1] = 0;
  words[nanoseconds] = whole === 0xffff_ffff ? 0 : timeout - whole * SECOND;
}

/** fuse_attr: 22 words */
export function putAttributes(words: Uint32Array, at: number, attributes: Attributes): void {
  put64(words, at, attributes.ino);
  put64(words, at + 2, attributes.size);
  put64(words, at + 4, attributes.blocks);
  put64(words, at + 6, attributes.accessedSeconds);
  put64(words, at + 8, attributes.modifiedSeconds);
  put64(words, at + 10, attributes.changedSeconds);
  words[at + 12] = attributes.accessedNanoseconds;
  words[at + 13] = attributes.modifiedNanoseconds;
  words[at + 14] = attributes.changedNanoseconds;
  words[at + 15] = attributes.mode;
  words[at + 16] = attributes.nlink;
  words[at + 17] = attributes.uid;
  words[at + 18] = attributes.gid;
  words[at + 19] = attributes.rdev;
  words[at + 20] = attributes.blockSize;
  words[at + 21] = 0;
}

/** fuse_entry_out: 32 words. The generation is 0, as node ids are never used again. */
export function putEntry(words: Uint32Array, at: number, entry: EntryReply | EntryAnswer): void {
  put64(words, at, entry.nodeId);
  words[at + 2] = 0;
  words[at + 3] = 0;
  putTimeout(words, at + 4, at + 8, entry.entryValid);
  putTimeout(words, at + 6, at + 9, entry.attributesValid);
  if (entry.attributes === undefined) words.fill(0, at + 10, at + 32);
  else putAttributes(words, at + 10, entry.attributes);
}

/** fuse_attr_out: 26 words */
export function putAttributesOut(
  words: Uint32Array,
  at: number,
  valid: number,
  attributes: Attributes,
): void {
  putTimeout(words, at, at + 2, valid);
  words[at + 3] = 0;
  putAttributes(words, at + 4, attributes);
}

/** fuse_statx_out with the basic fields: 72 words */
export function putStatxOut(words: Uint32Array, at: number, valid: number, attributes: Attributes): void {
  words.fill(0, at, at + 72);
  putTimeout(words, at, at + 2, valid);
  const stat = at + 8;
  words[stat] = STATX_BASIC;
  words[stat + 1] = attributes.blockSize;
  words[stat + 4] = attributes.nlink;
  words[stat + 5] = attributes.uid;
  words[stat + 6] = attributes.gid;
  words[stat + 7] = attributes.mode & 0xffff;
  put64(words, stat + 8, attributes.ino);
  put64(words, stat + 10, attributes.size);
  put64(words, stat + 12, attributes.blocks);
  put64(words, stat + 16, attributes.accessedSeconds);
  words[stat + 18] = attributes.accessedNanoseconds;
  put64(words, stat + 24, attributes.changedSeconds);
  words[stat + 26] = attributes.changedNanoseconds;
  put64(words, stat + 28, attributes.modifiedSeconds);
  words[stat + 30] = attributes.modifiedNanoseconds;
  // rdev comes in the kernel's 32-bit form: minor 0-7 and 20-31, major 8-19.
  words[stat + 32] = (attributes.rdev >>> 8) & 0xfff;
  words[stat + 33] = (attributes.rdev & 0xff) | ((attributes.rdev >>> 12) & 0xfff00);
}

/** fuse_statfs_out: 20 words */
export function putUsage(words: Uint32Array, at: number, usage: FileSystemUsage): void {
  words.fill(0, at, at + 20);
  put64(words, at, usage.blocks);
  put64(words, at + 2, usage.blocksFree);
  put64(words, at + 4, usage.blocksAvailable);
  put64(words, at + 6, usage.files);
  put64(words, at + 8, usage.filesFree);
  words[at + 10] = usage.blockSize;
  words[at + 11] = usage.nameLength;
  words[at + 12] = usage.blockSize;
}
