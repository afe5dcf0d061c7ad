import type { ReadCursor } from '../../content/contract.js';
import { MirageError } from '../../errors/mirage-error.js';
import type { Handle } from '../operations.js';
import type { Inode } from './inode.js';

export interface OpenFile {
  readonly inode: Inode;
  readonly writable: boolean;
  readonly append: boolean;
  readonly cursor: ReadCursor;
}

/** The open files of a mount by their handles. */
export class OpenHandles {
  readonly #open = new Map<Handle, OpenFile>();
  #next: Handle = 1;

  /** Throws EBADF for a handle that is not open. */
  get(handle: Handle): OpenFile {
    const file = this.#open.get(handle);
    if (file === undefined) throw new MirageError(`no open file ${handle}`, { errno: 'EBADF' });
    return file;
  }

  has(handle: Handle): boolean {
    return this.#open.has(handle);
  }

  add(file: OpenFile): Handle {
    const handle = this.#next++;
    this.#open.set(handle, file);
    return handle;
  }

  remove(handle: Handle): void {
    this.#open.delete(handle);
  }
}
