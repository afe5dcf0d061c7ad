import type { DentryCache, HeldNode } from './dentry-cache.js';

/**
 * libfuse cannot remove a file that is open: it renames it to `.fuse_hidden<node><counter>` and removes that name after the
 * last close. Here the name is removed at once, as POSIX says, and the hidden path is an alias of the node that lives in
 * memory only: directories list no hidden files and can be removed, and nothing is left behind in the store.
 */
const HIDDEN = /\/\.fuse_hidden[0-9a-f]{8}([0-9a-f]{8})$/;

/** libfuse counts its hidden names from 1; several threads may swap neighbours. */
const NEIGHBOURS = 64;

export class HiddenFiles {
  readonly #aliases = new Map<string, HeldNode>();
  readonly #dentries: DentryCache;
  #counter = 0;

  constructor(dentries: DentryCache) {
    this.#dentries = dentries;
  }

  get(path: string): HeldNode | undefined {
    return this.#aliases.get(path);
  }

  /** Whether `path` is the name that libfuse would make up next: a program's own rename to such a name stays a rename. */
  expects(path: string): boolean {
    const match = HIDDEN.exec(path);
    if (match === null) return false;
    return Math.abs(Number.parseInt(match[1] as string, 16) - this.#counter) <= NEIGHBOURS;
  }

  /** `held` passes to the alias. */
  add(path: string, held: HeldNode): void {
    const match = HIDDEN.exec(path);
    if (match !== null) this.#counter = Math.max(this.#counter, Number.parseInt(match[1] as string, 16));
    this.#aliases.set(path, held);
  }

  /** True if there was such an alias. */
  remove(path: string): boolean {
    const held = this.#aliases.get(path);
    if (held === undefined) return false;
    this.#aliases.delete(path);
    this.#dentries.release(held);
    return true;
  }

  clear(): void {
    for (const path of [...this.#aliases.keys()]) this.remove(path);
  }
}
