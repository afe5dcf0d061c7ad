import type { EntryRecord } from './contract.js';
import type { Directory } from './directory.js';

/** Rows in all pages together, some 300 bytes each. */
const LIMIT = 40_000;
/** A directory of more rows than this is not kept: a walk through it would leave nothing of the others. */
const LARGE = 20_000;
/** What a page counts beside its rows. */
const PAGE = 4;

interface Pages {
  /** The state of the directory that they are of. */
  readonly version: number;
  readonly byStart: Map<string, readonly EntryRecord[]>;
  rows: number;
  large: boolean;
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
    const cost = page.length + PAGE;
    if (this.#rows + cost > LIMIT) this.clear();
    let pages = this.#directories.get(directory);
    if (pages?.version !== directory.version) {
      this.#rows -= pages?.rows ?? 0;
      pages = { version: directory.version, byStart: new Map(), rows: 0, large: false };
      this.#directories.set(directory, pages);
    }
    if (pages.rows + cost > LARGE) {
      pages.large = true;
      pages.byStart.clear();
    }
    if (pages.large) return;
    pages.byStart.set(`${after}/${limit}`, page);
    pages.rows += cost;
    this.#rows += cost;
  }

  clear(): void {
    this.#directories.clear();
    this.#rows = 0;
  }
}
