import type { EntryRecord } from './contract.js';
import type { Directory } from './directory.js';

/** Rows in all pages together; the records themselves are shared with other caches. */
const LIMIT = 60_000;

interface Pages {
  /** The state of the directory that they are of. */
  readonly version: number;
  readonly byStart: Map<string, readonly EntryRecord[]>;
}

/** Runs of entries as they were read last: a directory that nobody changes is walked again without a query. */
export class KeptPages {
  readonly #directories = new Map<Directory, Pages>();
  #rows = 0;

  get(directory: Directory, after: number, limit: number): readonly EntryRecord[] | undefined {
    const pages = this.#directories.get(directory);
    return pages?.version === directory.version ? pages.byStart.get(`${after}/${limit}`) : undefined;
  }

  set(directory: Directory, after: number, limit: number, page: readonly EntryRecord[]): void {
    if (this.#rows + page.length > LIMIT) this.clear();
    let pages = this.#directories.get(directory);
    if (pages?.version !== directory.version) {
      for (const old of pages?.byStart.values() ?? []) this.#rows -= old.length;
      pages = { version: directory.version, byStart: new Map() };
      this.#directories.set(directory, pages);
    }
    pages.byStart.set(`${after}/${limit}`, page);
    this.#rows += page.length;
  }

  clear(): void {
    this.#directories.clear();
    this.#rows = 0;
  }
}
