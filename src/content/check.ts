/**
 * Checks the cache directory while no daemon has it: every row of the index against its file, every byte that has a checksum against that,
 * and every file against the rows. Cached content is fetched again; what programs wrote and nobody has stored is kept.
 */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import Database from 'better-sqlite3';
import type { CheckOptions, Finding } from '../errors/finding.js';
import { localFiles } from '../native/local-files.js';
import { BlockChecksums, blockEnd, blockStart } from './block-checksums.js';
import { verifyBlocks } from './block-verification.js';
import { cacheFile } from './cache-folder.js';
import { CONTENT_SCHEMA_VERSION, decodeRanges, encodeRanges, NOBODY } from './content-index.js';
import type { SavedObject } from './object-rows.js';
import { RangeSet } from './range-set.js';

interface Row {
  readonly id: number;
  readonly location: number;
  readonly key: string;
  readonly size: number;
  readonly ranges: Buffer;
  readonly ino: number;
  readonly changed_seconds: number;
  readonly changed_nanoseconds: number;
  readonly checksums: Buffer | null;
}

/** `directory`: that of `openContent`. */
export async function checkContent(directory: string, options: CheckOptions): Promise<Finding[]> {
  if (!existsSync(directory)) return [];
  return [...(await new ContentCheck(directory, options).run()), ...leftovers(directory, options)];
}

class ContentCheck {
  readonly #index: string;
  readonly #files: string;
  readonly #options: CheckOptions;
  readonly #findings: Finding[] = [];

  constructor(directory: string, options: CheckOptions) {
    this.#index = join(directory, 'index.db');
    this.#files = join(directory, 'files');
    this.#options = options;
  }

  #path(id: number): string {
    return cacheFile(this.#files, id);
  }

  async run(): Promise<Finding[]> {
    if (!existsSync(this.#index)) return this.#findings;
    let database: Database.Database | undefined;
    try {
      database = new Database(this.#index, { fileMustExist: true });
      const version = database.pragma('user_version', { simple: true }) as number;
      if (version > CONTENT_SCHEMA_VERSION) {
        this.#found(
          this.#index,
          `it was written by a newer version of Mirage (schema ${version})`,
          undefined,
          {
            remedy: 'start the newer version, or choose another cache.directory',
          },
        );
        return this.#findings;
      }
      // An older one is brought up to date by the next start.
      if (version < CONTENT_SCHEMA_VERSION) return this.#findings;
      const [first] = database.pragma('integrity_check(1)') as { integrity_check: string }[];
      if (first?.integrity_check !== 'ok') this.#indexDamaged(first?.integrity_check ?? '', database);
      else await this.#rows(database);
    } catch (error) {
      if (!String((error as { code?: unknown }).code).startsWith('SQLITE_')) throw error;
      this.#indexDamaged((error as Error).message, database);
    } finally {
      if (database?.open) database.close();
    }
    return this.#findings;
  }

  #indexDamaged(why: string, database: Database.Database | undefined): void {
    this.#found(this.#index, `the index of cached content is damaged: ${why}`, () => {
      database?.close();
      for (const suffix of ['', '-wal', '-shm']) rmSync(`${this.#index}${suffix}`, { force: true });
      rmSync(this.#files, { recursive: true, force: true });
      return 'cached content is dropped, and fetched again when it is read';
    });
  }

  async #rows(database: Database.Database): Promise<void> {
    const rows = database.prepare('SELECT * FROM file').all() as Row[];
    const known = new Set<string>();
    for (const row of rows) {
      known.add(this.#path(row.id));
      if (row.location === NOBODY) this.#pack(database, row);
      else await this.#file(database, row);
    }
    const lost = database
      .prepare('SELECT count(*) FROM object WHERE pack NOT IN (SELECT id FROM file)')
      .pluck()
      .get() as number;
    if (lost > 0) {
      this.#found(this.#index, `${lost} objects lie in packs that are gone`, () => {
        database.exec('DELETE FROM object WHERE pack NOT IN (SELECT id FROM file)');
        return FORGOTTEN;
      });
    }
    this.#strays(known);
  }

  async #file(database: Database.Database, row: Row): Promise<void> {
    const drop = () => {
      database.prepare('DELETE FROM file WHERE id = ?').run(row.id);
      rmSync(this.#path(row.id), { force: true });
      return FORGOTTEN;
    };
    const ranges = rangesOf(row);
    if (ranges === undefined)
      return this.#found(row.key, 'the index says nothing sensible of its ranges', drop);
    const fd = this.#open(row.id);
    if (fd === undefined) return this.#found(row.key, `its cache file ${this.#path(row.id)} is gone`, drop);
    try {
      const { size, ino, ctimeNs } = fstatSync(fd, { bigint: true });
      if (Number(size) !== row.size) {
        return this.#found(row.key, `its cache file has ${size} bytes, and not ${row.size}`, drop);
      }
      const changed = BigInt(row.changed_seconds) * 1_000_000_000n + BigInt(row.changed_nanoseconds);
      if (Number(ino) !== row.ino || ctimeNs !== changed) {
        return this.#found(row.key, 'its cache file was changed from outside', drop);
      }
      await this.#blocks(database, row, fd, ranges);
    } finally {
      closeSync(fd);
    }
  }

  async #blocks(database: Database.Database, row: Row, fd: number, ranges: RangeSet): Promise<void> {
    const checksums = new BlockChecksums(row.size, row.checksums ?? undefined);
    const right = new RangeSet();
    for (const [start, end] of ranges.ranges()) {
      await verifyBlocks(fd, start, end, checksums, (offset, length, isRight) => {
        if (isRight) right.add(offset, offset + length);
      });
    }
    const wrong = ranges.bytes - right.bytes;
    if (wrong === 0) return;
    this.#found(row.key, `${wrong} of its ${ranges.bytes} cached bytes are damaged`, () => {
      database.prepare('UPDATE file SET ranges = ? WHERE id = ?').run(encodeRanges(right), row.id);
      return 'forgotten; they are fetched again when they are read';
    });
  }

  #pack(database: Database.Database, { id }: Row): void {
    const objects = database.prepare('SELECT * FROM object WHERE pack = ?').all(id) as SavedObject[];
    const fd = this.#open(id);
    if (fd === undefined) {
      this.#found(this.#path(id), `a pack with ${objects.length} objects is gone`, () => {
        database.prepare('DELETE FROM object WHERE pack = ?').run(id);
        database.prepare('DELETE FROM file WHERE id = ?').run(id);
        return FORGOTTEN;
      });
      return;
    }
    try {
      for (const object of objects) {
        const { location, key, validator, size, offset, checksum } = object;
        const bytes = Buffer.allocUnsafe(size);
        const whole = localFiles().pread(fd, bytes, offset) === size;
        if (whole && (checksum === 0 || crc32(bytes) === checksum)) continue;
        this.#found(key, 'its cached bytes are damaged', () => {
          database
            .prepare('DELETE FROM object WHERE location = ? AND key = ? AND validator = ? AND size = ?')
            .run(location, key, validator, size);
          return FORGOTTEN;
        });
      }
    } finally {
      closeSync(fd);
    }
  }

  /** Files that no row speaks of: of ours the content is in a store, of others nobody knows. */
  #strays(known: ReadonlySet<string>): void {
    for (const folder of namesIn(this.#files)) {
      for (const name of namesIn(join(this.#files, folder))) {
        const path = join(this.#files, folder, name);
        if (known.has(path)) continue;
        if (/^\d+$/.test(name) && this.#path(Number(name)) === path) {
          this.#found(path, 'the index does not know this cache file', () => {
            rmSync(path, { force: true });
            return 'removed';
          });
        } else {
          this.#found(path, 'no file of Mirage', () => keep(path, this.#options.recovered));
        }
      }
    }
  }

  #open(id: number): number | undefined {
    try {
      return openSync(this.#path(id), constants.O_RDONLY | constants.O_NOFOLLOW);
    } catch {
      return undefined;
    }
  }

  #found(what: string, problem: string, mend?: () => string, more: Pick<Finding, 'remedy'> = {}): void {
    const mended = this.#options.repair ? mend?.() : undefined;
    this.#findings.push({ what, problem, mended, ...more });
  }
}

/** What was being written when a daemon was killed. Where the bytes have another name the journal brings them to their store. */
function leftovers(directory: string, { repair, recovered }: CheckOptions): Finding[] {
  const staging = join(directory, 'staging');
  const findings: Finding[] = [];
  for (const name of namesIn(staging)) {
    const path = join(staging, name);
    const { blocks, nlink, size } = statSync(path);
    if (blocks === 0 || nlink > 1) {
      if (repair) unlinkSync(path);
      continue;
    }
    findings.push({
      what: path,
      problem: `${size} bytes that a program was writing when the daemon ended`,
      mended: repair ? keep(path, recovered) : undefined,
    });
  }
  return findings;
}

/** Moves a file to where nobody looks for anything but lost bytes. */
export function keep(path: string, recovered: string): string {
  const name = path.split('/').slice(-2).join('-');
  const kept = join(recovered, `${new Date().toISOString().replaceAll(':', '')}-${name}`);
  renameSync(path, kept);
  return `moved to ${kept}`;
}

const FORGOTTEN = 'forgotten; it is fetched again when it is read';

function rangesOf({ ranges, size }: Row): RangeSet | undefined {
  if (ranges.length % 16 !== 0) return undefined;
  const set = decodeRanges(ranges);
  let last = -1;
  for (const [start, end] of set.ranges()) {
    const whole = start === blockStart(start) && (end === size || end === blockEnd(end));
    if (!(start > last && end > start && end <= size && whole)) return undefined;
    last = end;
  }
  return set;
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return [];
    throw error;
  }
}
