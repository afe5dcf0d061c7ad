import { S_IFMT } from '../vfs/attributes.js';
import type { ByteString, DirectorySink, EntryReply, NodeId } from '../vfs/operations.js';
import { DIRENT_SIZE, ENTRY_OUT_SIZE, OUT_HEADER_SIZE } from './protocol.js';
import { put64, putEntry } from './records.js';

const padded = (length: number): number => (length + 7) & ~7;

/**
 * Writes the entries of a READDIR or READDIRPLUS behind each other into a buffer of its own, which belongs to one request until
 * it is answered.
 */
export class DirectoryWriter implements DirectorySink {
  wantsAttributes = false;
  bytes = Buffer.alloc(0);
  words = new Uint32Array(0);
  /** Bytes in use, the reply header included. */
  length = 0;
  #limit = 0;
  /** Nodes whose lookup count went up. */
  #nodes: NodeId[] = [];

  /** Begins anew, for `size` bytes of entries. */
  reset(size: number, wantsAttributes: boolean): void {
    const needed = padded(OUT_HEADER_SIZE + size);
    if (this.bytes.length < needed) {
      const memory = new ArrayBuffer(needed);
      this.bytes = Buffer.from(memory);
      this.words = new Uint32Array(memory);
    }
    this.wantsAttributes = wantsAttributes;
    this.length = OUT_HEADER_SIZE;
    this.#limit = OUT_HEADER_SIZE + size;
    this.#nodes.length = 0;
  }

  /** The nodes whose lookup count the entries have raised. */
  get nodes(): readonly NodeId[] {
    return this.#nodes;
  }

  fits(nameLength: number): boolean {
    const entry = this.wantsAttributes ? ENTRY_OUT_SIZE : 0;
    return this.length + entry + DIRENT_SIZE + padded(nameLength) <= this.#limit;
  }

  add(name: ByteString, cookie: number, entry: EntryReply): void {
    const { attributes } = entry;
    this.#reserve(name);
    if (this.wantsAttributes) {
      putEntry(this.words, this.length >>> 2, entry);
      this.length += ENTRY_OUT_SIZE;
      if (entry.nodeId !== 0) this.#nodes.push(entry.nodeId);
    }
    this.#name(name, cookie, attributes?.ino ?? 0, attributes?.mode ?? 0);
  }

  addName(name: ByteString, cookie: number, ino: number, mode: number): void {
    this.#reserve(name);
    if (this.wantsAttributes) {
      // Node id 0: the kernel takes the name only.
      this.words.fill(0, this.length >>> 2, (this.length + ENTRY_OUT_SIZE) >>> 2);
      this.length += ENTRY_OUT_SIZE;
    }
    this.#name(name, cookie, ino, mode);
  }

  #reserve(name: ByteString): void {
    if (!this.fits(name.length)) throw new RangeError('the directory reply is full');
  }

  /** fuse_dirent */
  #name(name: ByteString, cookie: number, ino: number, mode: number): void {
    const { words, bytes } = this;
    const at = this.length >>> 2;
    put64(words, at, ino);
    put64(words, at + 2, cookie);
    words[at + 4] = name.length;
    words[at + 5] = (mode & S_IFMT) >>> 12;
    const start = this.length + DIRENT_SIZE;
    this.length = start + padded(name.length);
    // The padding, together with what the name then covers.
    words[(this.length >>> 2) - 2] = 0;
    words[(this.length >>> 2) - 1] = 0;
    for (let i = 0; i < name.length; i++) bytes[start + i] = name.charCodeAt(i);
  }
}
