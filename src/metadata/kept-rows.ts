import type { Directory, Row } from './directory.js';

/** Rows of one generation; memory holds two of them, some 350 bytes a row. */
const GENERATION = 10_000;

/** Rows as the database has them, those used last: what is asked for again and again costs no query. */
export class KeptRows {
  #young = new Map<Directory, Map<string, Row>>();
  #old = new Map<Directory, Map<string, Row>>();
  #count = 0;

  get(directory: Directory, name: string): Row | undefined {
    const row = this.#young.get(directory)?.get(name);
    if (row !== undefined) return row;
    const older = this.#old.get(directory)?.get(name);
    if (older !== undefined) this.set(older);
    return older;
  }

  set(row: Row): void {
    let rows = this.#young.get(row.directory);
    if (rows === undefined) {
      rows = new Map();
      this.#young.set(row.directory, rows);
    }
    const before = rows.size;
    rows.set(row.name, row);
    if (rows.size === before) return;
    if (++this.#count < GENERATION) return;
    this.#old = this.#young;
    this.#young = new Map();
    this.#count = 0;
  }

  delete(directory: Directory, name: string): void {
    if (this.#young.get(directory)?.delete(name) === true) this.#count--;
    this.#old.get(directory)?.delete(name);
  }

  clear(): void {
    this.#young.clear();
    this.#old.clear();
    this.#count = 0;
  }
}
