import type Database from 'better-sqlite3';
import type { Validator } from '../backends/contract.js';
import type { Version } from './contract.js';

/** Small objects that lie in packs, and objects that stay. The row of a pack stands among those of the files: location 0 is nobody's. */
export const objectTables = `
  CREATE TABLE object (
    location INTEGER NOT NULL,
    key TEXT NOT NULL,
    validator TEXT NOT NULL,
    size INTEGER NOT NULL,
    pack INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (location, key, validator, size)
  ) WITHOUT ROWID;
  CREATE INDEX object_pack ON object (pack);
  CREATE TABLE pin (location INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (location, key)) WITHOUT ROWID;
`;

export interface SavedObject {
  readonly location: number;
  readonly key: string;
  readonly validator: string;
  readonly size: number;
  readonly pack: number;
  /** In the pack, bytes. */
  readonly offset: number;
  /** CRC-32; 0: not known. */
  readonly checksum: number;
}

export type ObjectPlace = Pick<SavedObject, 'pack' | 'offset' | 'checksum'>;

/** Runs what may find the database damaged, and answers with something else then. */
export type Attempt = <T>(work: () => T, otherwise: T) => T;

/** The index of packed objects. */
export class ObjectRows {
  readonly #attempt: Attempt;
  readonly #find: Database.Statement;
  readonly #ofKey: Database.Statement;
  readonly #save: Database.Statement;
  readonly #remove: Database.Statement;
  readonly #relabel: Database.Statement;
  readonly #removePack: Database.Statement;

  constructor(database: Database.Database, attempt: Attempt) {
    this.#attempt = attempt;
    const prepare = (text: string) => database.prepare(text);
    this.#find = prepare(`SELECT pack, offset, checksum FROM object
      WHERE location = ? AND key = ? AND validator = ? AND size = ?`);
    this.#ofKey = prepare('SELECT * FROM object WHERE location = ? AND key = ?');
    this.#save = prepare('INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?, ?, ?)');
    this.#remove = prepare(
      'DELETE FROM object WHERE location = ? AND key = ? AND validator = ? AND size = ?',
    );
    this.#relabel = prepare(`UPDATE OR REPLACE object SET validator = ?
      WHERE location = ? AND key = ? AND validator = ? AND size = ?`);
    this.#removePack = prepare('DELETE FROM object WHERE pack = ?');
  }

  find(location: number, { key, validator, size }: Version): ObjectPlace | undefined {
    return this.#attempt(() => this.#find.get(location, key, validator, size), undefined) as
      | ObjectPlace
      | undefined;
  }

  ofKey(location: number, key: string): SavedObject[] {
    return this.#attempt(() => this.#ofKey.all(location, key), []) as SavedObject[];
  }

  remove(location: number, { key, validator, size }: Omit<Version, 'mount'>): void {
    this.#attempt(() => this.#remove.run(location, key, validator, size), undefined);
  }

  relabel(location: number, { key, validator, size }: Version, to: Validator): void {
    this.#attempt(() => this.#relabel.run(to, location, key, validator, size), undefined);
  }

  /** Within a transaction of the caller. */
  save(rows: readonly SavedObject[]): void {
    for (const { location, key, validator, size, pack, offset, checksum } of rows) {
      this.#save.run(location, key, validator, size, pack, offset, checksum);
    }
  }

  removePack(pack: number): void {
    this.#attempt(() => this.#removePack.run(pack), undefined);
  }
}
