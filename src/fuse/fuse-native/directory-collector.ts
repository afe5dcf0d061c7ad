import type { Attributes } from '../../vfs/attributes.js';
import type { ByteString, DirectorySink, EntryReply } from '../../vfs/operations.js';
import { toText } from './names.js';
import { inodeNumber, type StatRecord, toNameOnly } from './records.js';

/** Entries that the file system is asked for at once. */
const BATCH = 4096;

/** A whole directory, which fuse-native wants in one answer: names with their types and inode numbers. */
export class DirectoryCollector implements DirectorySink {
  readonly wantsAttributes = false;
  readonly names: string[] = ['.', '..'];
  readonly stats: StatRecord[] = [directory(), directory()];
  /** Names that fuse-native cannot carry. */
  unreadable = 0;
  cookie = 0;
  #room = BATCH;

  fits(): boolean {
    return this.#room > 0;
  }

  add(name: ByteString, cookie: number, entry: EntryReply): void {
    const { ino, mode } = entry.attributes as Attributes;
    this.addName(name, cookie, ino, mode);
  }

  addName(name: ByteString, cookie: number, ino: number, mode: number): void {
    this.cookie = cookie;
    this.#room--;
    if (name === '.' || name === '..') return;
    const text = toText(name);
    if (text === undefined) {
      this.unreadable++;
      return;
    }
    this.names.push(text);
    this.stats.push(toNameOnly(inodeNumber(ino), mode));
  }

  /** False when the last batch was empty: the directory has ended. */
  startNext(): boolean {
    const more = this.#room < BATCH;
    this.#room = BATCH;
    return more;
  }
}

function directory(): StatRecord {
  return toNameOnly(1, 0o040000);
}
