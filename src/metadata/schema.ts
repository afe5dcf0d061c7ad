import { existsSync, renameSync, rmSync } from 'node:fs';
import Database from 'better-sqlite3';
import { MirageError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';

/**
 * Version of the tables, kept in `PRAGMA user_version`. The database is a cache: a file of an older version is rebuilt from the
 * stores, one of a newer version belongs to a newer program and is left alone.
 */
export const SCHEMA_VERSION = 1;

/**
 * All numbers that identify something come from one counter, the sequence of changes: ids of locations and directories, the
 * position of a name (the change that first named it), and `sequence`, the change that wrote a row last. `floor` and `expired` of
 * a directory are sequences too: rows up to `floor` are gone, rows up to `expired` are to be asked again.
 */
const tables = `
  CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 0), applied INTEGER NOT NULL);
  INSERT INTO state VALUES (0, 0);
  CREATE TABLE location (id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE);
  CREATE TABLE directory (
    id INTEGER PRIMARY KEY,
    location INTEGER NOT NULL,
    key TEXT NOT NULL,
    complete_at REAL,
    floor INTEGER NOT NULL,
    expired INTEGER NOT NULL,
    UNIQUE (location, key)
  );
  CREATE TABLE entry (
    directory INTEGER NOT NULL,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    size INTEGER NOT NULL,
    validator TEXT,
    modified_seconds INTEGER NOT NULL,
    modified_nanoseconds INTEGER NOT NULL,
    attributes TEXT,
    link_group TEXT,
    ino INTEGER,
    seen_at REAL NOT NULL,
    PRIMARY KEY (directory, name)
  ) WITHOUT ROWID;
  CREATE INDEX entry_position ON entry (directory, position);
  CREATE INDEX entry_link_group ON entry (link_group) WHERE link_group IS NOT NULL;
`;

/** `entry.kind` */
export const kindCodes = { absent: 0, file: 1, directory: 2 } as const;
export const kindNames = ['absent', 'file', 'directory'] as const;

/**
 * A directory and all below it; takes the location and four times the key. '0' is the character after '/': the keys that start
 * with `key/` lie between.
 */
const below = `location = ? AND (? = '' OR key = ? OR (key > ? || '/' AND key < ? || '0'))`;

/** Every change that the file-system side asks for, as one statement with plain values. */
export const changes = {
  location: 'INSERT INTO location VALUES (?, ?)',
  directory: `INSERT INTO directory VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
    complete_at = excluded.complete_at, floor = excluded.floor, expired = excluded.expired`,
  put: 'INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
  forget: 'DELETE FROM entry WHERE directory = ? AND name = ?',
  sweep: 'DELETE FROM entry WHERE directory = ? AND sequence <= ?',
  forgetEntriesBelow: `DELETE FROM entry WHERE directory IN (SELECT id FROM directory WHERE ${below})`,
  forgetDirectoriesBelow: `DELETE FROM directory WHERE ${below}`,
  moveDirectories: `UPDATE directory SET key = ? || substr(key, length(?) + 1) WHERE ${below}`,
} as const;

export type ChangeName = keyof typeof changes;
export type Change = readonly [ChangeName, ...(string | number | null)[]];

/** SQLite says that the file is damaged, or no database at all. */
export function isCorruption(error: unknown): boolean {
  const code = String((error as { code?: unknown } | undefined)?.code);
  return code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB';
}

/** Opens for writing, with tables of this version; rebuilds a file that is older or damaged. Throws EINVAL for a newer one. */
export function openDatabase(file: string, log: Log): Database.Database {
  try {
    return prepare(file, log);
  } catch (error) {
    if (!isCorruption(error)) throw error;
    moveAside(file, log, error);
    return prepare(file, log);
  }
}

function prepare(file: string, log: Log): Database.Database {
  const database = connect(file);
  try {
    const version = database.pragma('user_version', { simple: true }) as number;
    const filled = database.prepare('SELECT count(*) FROM sqlite_schema').pluck().get() as number;
    if (version > SCHEMA_VERSION) {
      throw new MirageError(`${file} was written by a newer version of Mirage (schema ${version})`, {
        errno: 'EINVAL',
        hint: 'start the newer version, or remove the file: it is a cache and will be filled again',
      });
    }
    if (version < SCHEMA_VERSION) {
      if (filled > 0) {
        log.info('metadata cache has an older schema and is rebuilt', { file, schema: version });
        database.close();
        removeDatabase(file);
        return prepare(file, log);
      }
      database.transaction(() => {
        database.exec(tables);
        database.pragma(`user_version = ${SCHEMA_VERSION}`);
      })();
    }
    // Touches each table's root page, so that a file damaged there is found now.
    database.exec(
      'SELECT 1 FROM entry LIMIT 1; SELECT 1 FROM directory LIMIT 1; SELECT 1 FROM location LIMIT 1',
    );
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** The write connection. Checkpoints are the writer's decision, not a side effect of a commit. */
export function connect(file: string): Database.Database {
  const database = new Database(file, { timeout: 1000 });
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = NORMAL');
  database.pragma('wal_autocheckpoint = 0');
  database.pragma('journal_size_limit = 16777216');
  return database;
}

/** Keeps a damaged database for whoever wants to look, at most one per file. */
export function moveAside(file: string, log: Log, error: unknown): void {
  const damaged = `${file}.damaged`;
  log.warn('metadata cache is damaged; it is moved aside and filled again', {
    file,
    damaged,
    error: error instanceof Error ? error.message : String(error),
  });
  if (existsSync(file)) renameSync(file, damaged);
  removeDatabase(file);
}

function removeDatabase(file: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true });
}
