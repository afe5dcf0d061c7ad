import Database from 'better-sqlite3';
import type { StoredAttributes } from '../backends/contract.js';
import type { LocationId } from './contract.js';
import type { Directory, Row } from './directory.js';
import { isCorruption, kindNames } from './schema.js';

export interface DirectoryRow {
  id: number;
  complete_at: number | null;
  floor: number;
  expired: number;
}

/** The columns below, in their order. */
export type EntryRow = readonly [
  name: string,
  position: number,
  sequence: number,
  kind: 0 | 1 | 2,
  size: number,
  validator: string | null,
  modifiedSeconds: number,
  modifiedNanoseconds: number,
  attributes: string | null,
  ino: number | null,
  seenAt: number,
];

export interface LinkRow {
  id: number;
  key: string;
  name: string;
  sequence: number;
}

const columns = `name, position, sequence, kind, size, validator, modified_seconds, modified_nanoseconds, attributes, ino, seen_at`;

/**
 * The read connection. It stands on one state of the database and moves on only in `advance`, so that what memory says is
 * still missing there and what is there never overlap nor leave a gap.
 */
export class Reader {
  readonly #database: Database.Database;
  readonly #corrupt: (error: unknown) => void;
  readonly #applied: Database.Statement;
  readonly #directory: Database.Statement;
  readonly #entry: Database.Statement;
  readonly #position: Database.Statement;
  readonly #entries: Database.Statement;
  readonly #links: Database.Statement;
  readonly #locations: Database.Statement;

  /** `corrupt` is told when the file proves damaged; the query then answers as if there were no row. */
  constructor(file: string, corrupt: (error: unknown) => void) {
    this.#database = new Database(file, { readonly: true, timeout: 1000 });
    this.#corrupt = corrupt;
    const prepare = (text: string) => this.#database.prepare(text);
    this.#applied = prepare('SELECT applied FROM state');
    this.#directory = prepare(
      'SELECT id, complete_at, floor, expired FROM directory WHERE location = ? AND key = ?',
    );
    this.#entry = prepare(
      `SELECT ${columns} FROM entry WHERE directory = ? AND name = ? AND sequence > ?`,
    ).raw();
    this.#position = prepare(
      'SELECT position FROM entry WHERE directory = ? AND name = ? AND sequence > ?',
    ).pluck();
    this.#entries = prepare(`SELECT ${columns} FROM entry
      WHERE directory = ? AND position > ? AND sequence > ? ORDER BY position LIMIT ?`).raw();
    this.#links = prepare(`SELECT directory.id, directory.key, entry.name, entry.sequence
      FROM entry JOIN directory ON directory.id = entry.directory
      WHERE entry.link_group = ? AND directory.location = ? AND entry.kind <> 0`);
    this.#locations = prepare('SELECT id, identity FROM location');
  }

  /** Moves on to the newest state; returns the sequence of the last change in it. */
  advance(): number {
    if (this.#database.inTransaction) this.#database.exec('COMMIT');
    this.#database.exec('BEGIN');
    const row = this.#get(this.#applied) as { applied: number } | undefined;
    return row?.applied ?? 0;
  }

  locations(): { id: LocationId; identity: string }[] {
    return this.#all(this.#locations) as { id: LocationId; identity: string }[];
  }

  directory(location: LocationId, key: string): DirectoryRow | undefined {
    return this.#get(this.#directory, location, key) as DirectoryRow | undefined;
  }

  entry(directory: number, name: string, floor: number): EntryRow | undefined {
    return this.#get(this.#entry, directory, name, floor) as EntryRow | undefined;
  }

  position(directory: number, name: string, floor: number): number | undefined {
    return this.#get(this.#position, directory, name, floor) as number | undefined;
  }

  entries(directory: number, after: number, floor: number, limit: number): EntryRow[] {
    return this.#all(this.#entries, directory, after, floor, limit) as EntryRow[];
  }

  links(location: LocationId, group: string): LinkRow[] {
    return this.#all(this.#links, group, location) as LinkRow[];
  }

  close(): void {
    this.#database.close();
  }

  #get(statement: Database.Statement, ...values: (string | number)[]): unknown {
    try {
      return statement.get(...values);
    } catch (error) {
      this.#failed(error);
      return undefined;
    }
  }

  #all(statement: Database.Statement, ...values: (string | number)[]): unknown[] {
    try {
      return statement.all(...values);
    } catch (error) {
      this.#failed(error);
      return [];
    }
  }

  #failed(error: unknown): void {
    if (!isCorruption(error)) throw error;
    this.#corrupt(error);
  }
}

/** A row of the database as memory holds it. */
export function rowOf(directory: Directory, row: EntryRow): Row {
  const [name, position, sequence, kind, size, validator, seconds, nanoseconds, attributes, ino, seenAt] =
    row;
  return {
    directory,
    name,
    sequence,
    record: {
      name,
      kind: kindNames[kind],
      position,
      size,
      validator: validator ?? undefined,
      modifiedSeconds: seconds,
      modifiedNanoseconds: nanoseconds,
      attributes: attributes === null ? undefined : (JSON.parse(attributes) as StoredAttributes),
      ino: ino ?? undefined,
      seenAt,
    },
  };
}
