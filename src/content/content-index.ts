import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { MirageError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';
import { ObjectRows, objectTables, type SavedObject } from './object-rows.js';
import { RangeSet } from './range-set.js';

export const CONTENT_SCHEMA_VERSION = 2;

const tables = `
  CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 0), boot TEXT NOT NULL, clean INTEGER NOT NULL);
  INSERT INTO state VALUES (0, '', 1);
  CREATE TABLE location (id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE);
  CREATE TABLE file (
    id INTEGER PRIMARY KEY,
    location INTEGER NOT NULL,
    key TEXT NOT NULL,
    validator TEXT NOT NULL,
    size INTEGER NOT NULL,
    ranges BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    changed_seconds INTEGER NOT NULL,
    changed_nanoseconds INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    checksums BLOB,
    UNIQUE (location, key, validator, size)
  );
  CREATE INDEX file_used_at ON file (used_at);
  ${objectTables}
`;
/** From version 1. */
const upgrade = `
  ALTER TABLE file ADD COLUMN checksums BLOB;
  ${objectTables}
`;
/** A pack among the files: it belongs to no location. */
export const NOBODY = 0;
const PACK = 'pack';
const NO_RANGES = Buffer.alloc(0);

/** What a cache file looked like when nothing wrote to it any more: whoever else touches it changes at least the change time. */
export interface Signature {
  readonly ino: number;
  readonly changedSeconds: number;
  readonly changedNanoseconds: number;
}

export interface IndexedFile {
  readonly id: number;
  readonly bytes: number;
  readonly ranges: RangeSet;
  readonly signature: Signature;
  readonly checksums: Uint8Array;
}

export interface SavedFile extends IndexedFile {
  readonly location: number;
  readonly key: string;
  readonly validator: string;
  readonly size: number;
}

interface FileRow {
  id: number;
  bytes: number;
  ranges: Buffer;
  ino: number;
  changed_seconds: number;
  changed_nanoseconds: number;
  checksums: Buffer | null;
}

/** Identifies the running kernel: the page cache, and with it every byte written, survives a crash of the program but not this. */
function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return 'unknown';
  }
}

/**
 * Which ranges of which versions are in the cache directory. Rows are written after the bytes and never synced: a crash of the
 * program loses nothing of either, and after a crash of the machine the whole cache is dropped, as neither can be trusted then.
 */
export class ContentIndex {
  /** The last stop was not a clean one: files may lie about that have no row. */
  readonly hasStrays: boolean;
  /** Bytes of all rows when it was opened. */
  readonly bytes: number;
  readonly #log: Log;
  readonly #database: Database.Database;
  readonly #find: Database.Statement;
  readonly #ofKey: Database.Statement;
  readonly #save: Database.Statement;
  readonly #remove: Database.Statement;
  readonly #touch: Database.Statement;
  readonly #oldest: Database.Statement;
  readonly #bytes: Database.Statement;
  readonly objects: ObjectRows;
  #nextId: number;
  #clock: number;
  readonly #locations = new Map<string, number>();
  readonly #pins = new Set<string>();
  #touched = new Map<number, number>();
  #failed = false;

  private constructor(database: Database.Database, boot: string, hasStrays: boolean, log: Log) {
    this.#database = database;
    this.#log = log;
    this.hasStrays = hasStrays;
    const prepare = (text: string) => database.prepare(text);
    this.#find = prepare(`SELECT id, bytes, ranges, ino, changed_seconds, changed_nanoseconds, checksums
      FROM file WHERE location = ? AND key = ? AND validator = ? AND size = ?`);
    this.#ofKey = prepare('SELECT id, bytes FROM file WHERE location = ? AND key = ?');
    this.#save = prepare('INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
    this.#remove = prepare('DELETE FROM file WHERE id = ?');
    this.#touch = prepare('UPDATE file SET used_at = ? WHERE id = ?');
    this.#oldest = prepare(
      `SELECT id, bytes, used_at AS usedAt FROM file WHERE used_at > ? AND NOT EXISTS
        (SELECT 1 FROM pin WHERE pin.location = file.location AND pin.key = file.key) ORDER BY used_at LIMIT 64`,
    );
    this.#bytes = prepare('SELECT bytes FROM file WHERE id = ?').pluck();
    this.objects = new ObjectRows(database, (work, otherwise) => this.#attempt(work, otherwise));
    const last = prepare(
      'SELECT max(id) AS id, max(used_at) AS usedAt, total(bytes) AS bytes FROM file',
    ).get() as { id: number | null; usedAt: number | null; bytes: number };
    this.bytes = last.bytes;
    this.#nextId = (last.id ?? 0) + 1;
    this.#clock = last.usedAt ?? 0;
    const locations = prepare('SELECT id, identity FROM location').all() as {
      id: number;
      identity: string;
    }[];
    for (const { id, identity } of locations) this.#locations.set(identity, id);
    const pins = prepare('SELECT location, key FROM pin').all() as { location: number; key: string }[];
    for (const { location, key } of pins) this.#pins.add(pinOf(location, key));
    prepare('UPDATE state SET boot = ?, clean = 0').run(boot);
  }

  /** Opens `directory/index.db`; drops everything cached in `files` when it cannot be trusted. */
  static open(directory: string, files: string, log: Log): ContentIndex {
    const file = join(directory, 'index.db');
    const boot = bootId();
    let database: Database.Database | undefined;
    try {
      database = connect(file);
      const last = database.prepare('SELECT boot, clean FROM state').get() as {
        boot: string;
        clean: number;
      };
      if (last.clean === 1 || (last.boot === boot && boot !== 'unknown')) {
        return new ContentIndex(database, boot, last.clean === 0, log);
      }
      log.warn('the machine stopped while the cache was in use; cached content is dropped', { directory });
    } catch (error) {
      if (!isDatabaseError(error)) throw error;
      log.warn('the index of cached content is damaged; cached content is dropped', {
        directory,
        error: error.message,
      });
    }
    database?.close();
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true });
    rmSync(files, { recursive: true, force: true });
    mkdirSync(files, { recursive: true, mode: 0o700 });
    return new ContentIndex(connect(file), boot, false, log);
  }

  /** The number of what is mounted, the same at each start. */
  location(identity: string): number {
    const known = this.#locations.get(identity);
    if (known !== undefined) return known;
    const id = Math.max(0, ...this.#locations.values()) + 1;
    this.#locations.set(identity, id);
    this.#attempt(
      () => this.#database.prepare('INSERT INTO location VALUES (?, ?)').run(id, identity),
      undefined,
    );
    return id;
  }

  newId(): number {
    return this.#nextId++;
  }

  find(location: number, key: string, validator: string, size: number): IndexedFile | undefined {
    const row = this.#attempt(() => this.#find.get(location, key, validator, size), undefined) as
      | FileRow
      | undefined;
    return (
      row && {
        id: row.id,
        bytes: row.bytes,
        ranges: decodeRanges(row.ranges),
        signature: {
          ino: row.ino,
          changedSeconds: row.changed_seconds,
          changedNanoseconds: row.changed_nanoseconds,
        },
        checksums: row.checksums ?? NO_RANGES,
      }
    );
  }

  ofKey(location: number, key: string): { id: number; bytes: number }[] {
    return this.#attempt(() => this.#ofKey.all(location, key), []) as { id: number; bytes: number }[];
  }

  has(id: number): boolean {
    return this.#database.prepare('SELECT 1 FROM file WHERE id = ?').get(id) !== undefined;
  }

  /** Writes rows in one transaction; they count as just used. */
  save(files: Iterable<SavedFile>): void {
    this.#inTransaction(() => {
      for (const file of files) {
        const { ino, changedSeconds, changedNanoseconds } = file.signature;
        const usedAt = this.#touched.get(file.id) ?? ++this.#clock;
        this.#touched.delete(file.id);
        this.#save.run(
          file.id,
          file.location,
          file.key,
          file.validator,
          file.size,
          encodeRanges(file.ranges),
          file.bytes,
          ino,
          changedSeconds,
          changedNanoseconds,
          usedAt,
          file.checksums,
        );
      }
    });
  }

  isPinned(location: number, key: string): boolean {
    return this.#pins.has(pinOf(location, key));
  }

  /** A pinned object is not evicted. */
  pin(location: number, key: string, pinned: boolean): void {
    if (pinned) this.#pins.add(pinOf(location, key));
    else this.#pins.delete(pinOf(location, key));
    const text = pinned
      ? 'INSERT OR IGNORE INTO pin VALUES (?, ?)'
      : 'DELETE FROM pin WHERE location = ? AND key = ?';
    this.#attempt(() => this.#database.prepare(text).run(location, key), undefined);
  }

  /** Bytes of a pack; undefined: there is no such pack. */
  packBytes(id: number): number | undefined {
    return this.#attempt(() => this.#bytes.get(id), undefined) as number | undefined;
  }

  /** Writes rows of objects, and those of the packs that hold them, in one transaction. */
  saveObjects(
    rows: readonly SavedObject[],
    packs: readonly { readonly id: number; readonly bytes: number }[],
  ): void {
    this.#inTransaction(() => {
      this.objects.save(rows);
      for (const { id, bytes } of packs) {
        const usedAt = this.#touched.get(id) ?? ++this.#clock;
        this.#touched.delete(id);
        this.#save.run(id, NOBODY, PACK, String(id), 0, NO_RANGES, bytes, 0, 0, 0, usedAt, null);
      }
    });
  }

  remove(id: number): void {
    this.#touched.delete(id);
    this.#attempt(() => this.#remove.run(id), undefined);
    this.objects.removePack(id);
  }

  /** Notes that a file was used; written later, many at a time. */
  touch(id: number): void {
    this.#touched.set(id, ++this.#clock);
    if (this.#touched.size >= 512) this.#writeTouched();
  }

  /** Files from the least recently used one on, until `visit` says enough. */
  fromOldest(visit: (file: { id: number; bytes: number }) => boolean): void {
    this.#writeTouched();
    for (let after = -1; ; ) {
      const rows = this.#attempt(() => this.#oldest.all(after), []) as {
        id: number;
        bytes: number;
        usedAt: number;
      }[];
      for (const row of rows) {
        if (!visit(row)) return;
        after = row.usedAt;
      }
      if (rows.length === 0) return;
    }
  }

  /** `synced`: all bytes of the cache are on the disk, so that it outlives a stop of the machine too. */
  close(synced: boolean): void {
    this.#writeTouched();
    this.#attempt(() => {
      this.#database.pragma('synchronous = FULL');
      const end = this.#database.prepare('UPDATE state SET clean = ?, boot = ?');
      if (this.#failed) end.run(0, '');
      else if (synced) end.run(1, '');
    }, undefined);
    this.#database.close();
  }

  #writeTouched(): void {
    if (this.#touched.size === 0) return;
    this.#inTransaction(() => {
      for (const [id, usedAt] of this.#touched) this.#touch.run(usedAt, id);
    });
    this.#touched.clear();
  }

  #inTransaction(work: () => void): void {
    this.#attempt(() => this.#database.transaction(work)(), undefined);
  }

  /** The cache works on without its index, as if it held nothing; the next start begins with an empty one. */
  #attempt<T>(work: () => T, otherwise: T): T {
    try {
      return work();
    } catch (error) {
      if (!isDatabaseError(error)) throw error;
      if (!this.#failed) {
        this.#log.warn('the index of cached content fails; a restart will fetch again', {
          error: error.message,
        });
      }
      this.#failed = true;
      return otherwise;
    }
  }
}

const pinOf = (location: number, key: string): string => `${location}/${key}`;

function isDatabaseError(error: unknown): error is Error {
  return String((error as { code?: unknown } | undefined)?.code).startsWith('SQLITE_');
}

function connect(file: string): Database.Database {
  const database = new Database(file, { timeout: 5000 });
  try {
    database.pragma('journal_mode = WAL');
    database.pragma('synchronous = OFF');
    const version = database.pragma('user_version', { simple: true }) as number;
    if (version > CONTENT_SCHEMA_VERSION) {
      throw new MirageError(`${file} was written by a newer version of Mirage (schema ${version})`, {
        errno: 'EINVAL',
        hint: 'start the newer version, or choose another cache.directory',
      });
    }
    if (version < CONTENT_SCHEMA_VERSION) {
      database.transaction(() => {
        database.exec(version === 0 ? tables : upgrade);
        database.pragma(`user_version = ${CONTENT_SCHEMA_VERSION}`);
      })();
    }
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

export function encodeRanges(ranges: RangeSet): Buffer {
  return Buffer.from(Float64Array.from(ranges.bounds).buffer);
}

export function decodeRanges(blob: Buffer): RangeSet {
  return new RangeSet(Array.from({ length: blob.length / 8 }, (_, i) => blob.readDoubleLE(i * 8)));
}
