import type { EntryRecord, LocationId, MetadataStore, NewEntryRecord } from '../../metadata/contract.js';
import { Remembered } from './remembered.js';

/** Entries above which directories are not counted. */
const COUNTED_ROWS = 4096;

/** Link counts of a mount whose store tells none, from what the rows say. Directories are named by their key. */
export class LinkCounts {
  readonly #metadata: MetadataStore;
  readonly #location: LocationId;
  #directories = new Remembered<number>();

  constructor(metadata: MetadataStore, location: LocationId) {
    this.#metadata = metadata;
    this.#location = location;
  }

  /** 2 and one for each directory in it; 1, which means unknown, where it was not listed or holds very much. */
  ofDirectory(directory: string): number {
    const known = this.#directories.get(directory);
    if (known !== undefined) return known;
    if (this.#metadata.listing(this.#location, directory).completeAt === undefined) return 1;
    const rows = this.#metadata.entries(this.#location, directory, 0, COUNTED_ROWS);
    const links =
      rows.length === COUNTED_ROWS ? 1 : 2 + rows.filter(({ kind }) => kind === 'directory').length;
    this.#directories.set(directory, links);
    return links;
  }

  /** How many names a file has: those with its link group. */
  ofFile(record: EntryRecord | NewEntryRecord): number {
    const group = record.attributes?.linkGroup;
    if (group === undefined) return 1;
    const names = new Set<string>();
    for (const { directory, name } of this.#metadata.linkNames(this.#location, group)) {
      const row = this.#metadata.entry(this.#location, directory, name);
      if (row?.kind === 'file' && row.attributes?.linkGroup === group) names.add(`${directory}/${name}`);
    }
    return Math.max(1, names.size);
  }

  /** A directory came, went, or was listed: what is in that one is to be counted again. */
  recount(directory: string): void {
    this.#directories.delete(directory);
  }

  /** Keys are others now. */
  clear(): void {
    this.#directories = new Remembered();
  }
}
