import { MirageError } from '../../errors/mirage-error.js';
import type { Handle } from '../../vfs/operations.js';
import type { HeldNode } from './dentry-cache.js';

export interface OpenFile {
  readonly held: HeldNode;
  readonly handle: Handle;
}

const LAST = 2 ** 32 - 1;

/** fuse-native keeps 32 bits of a file handle and cannot store 0, so open files get numbers of their own, 1..2^32-1. */
export class HandleTable {
  readonly #files = new Map<number, OpenFile>();
  #last = 0;

  get size(): number {
    return this.#files.size;
  }

  add(file: OpenFile): number {
    do {
      this.#last = this.#last === LAST ? 1 : this.#last + 1;
    } while (this.#files.has(this.#last));
    this.#files.set(this.#last, file);
    return this.#last;
  }

  get(number: number): OpenFile {
    const file = this.#files.get(number >>> 0);
    if (file === undefined) throw new MirageError('no such open file', { errno: 'EBADF' });
    return file;
  }

  take(number: number): OpenFile {
    const file = this.get(number);
    this.#files.delete(number >>> 0);
    return file;
  }

  /** Whether any open file is of this node. */
  isOpen(held: HeldNode): boolean {
    for (const file of this.#files.values()) if (file.held.node === held.node) return true;
    return false;
  }

  *takeAll(): Generator<OpenFile> {
    for (const [number, file] of [...this.#files]) {
      this.#files.delete(number);
      yield file;
    }
  }
}
