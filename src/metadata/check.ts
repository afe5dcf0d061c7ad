/** Checks the metadata database while no daemon has it. It is a cache: what is wrong in it is forgotten, and asked of the stores again. */
import { existsSync } from 'node:fs';
import Database from 'better-sqlite3';
import type { CheckOptions, Finding } from '../errors/finding.js';
import type { Log } from '../log/log.js';
import { isCorruption, moveAside, openDatabase, SCHEMA_VERSION } from './schema.js';

/** Rows that cannot be right: which they are, and what to call so many of them. */
const impossible = [
  {
    table: 'directory',
    which: 'location NOT IN (SELECT id FROM location)',
    problem: 'directories of a mount that the database does not know',
  },
  {
    table: 'entry',
    which: 'directory NOT IN (SELECT id FROM directory)',
    problem: 'names without the directory that they are in',
  },
  { table: 'entry', which: 'kind NOT IN (0, 1, 2)', problem: 'names of no known kind' },
  {
    table: 'entry',
    which: 'attributes IS NOT NULL AND NOT json_valid(attributes)',
    problem: 'names whose attributes cannot be read',
  },
] as const;

export function checkMetadata(file: string, { repair }: Pick<CheckOptions, 'repair'>, log: Log): Finding[] {
  if (!existsSync(file)) return [];
  let database: Database.Database | undefined;
  try {
    database = new Database(file, { fileMustExist: true });
    const version = database.pragma('user_version', { simple: true }) as number;
    if (version > SCHEMA_VERSION) {
      const problem = `it was written by a newer version of Mirage (schema ${version})`;
      return [{ what: file, problem, remedy: 'start the newer version, or remove the file: it is a cache' }];
    }
    // An older one is filled anew by the next start.
    if (version < SCHEMA_VERSION) return [];
    const [first] = database.pragma('integrity_check(1)') as { integrity_check: string }[];
    if (first?.integrity_check !== 'ok') {
      return [begunAnew(file, repair, log, database, first?.integrity_check ?? 'it cannot be checked')];
    }
    return rows(file, database, repair);
  } catch (error) {
    if (!isCorruption(error)) throw error;
    return [begunAnew(file, repair, log, database, (error as Error).message)];
  } finally {
    if (database?.open) database.close();
  }
}

function begunAnew(
  file: string,
  repair: boolean,
  log: Log,
  database: Database.Database | undefined,
  why: string,
): Finding {
  const problem = `the database is damaged: ${why}`;
  if (!repair) return { what: file, problem };
  database?.close();
  moveAside(file, log, why);
  openDatabase(file, log).close();
  return {
    what: file,
    problem,
    mended: 'moved aside, and begun anew; names are listed again when asked for',
  };
}

function rows(file: string, database: Database.Database, repair: boolean): Finding[] {
  const findings: Finding[] = [];
  for (const { table, which, problem } of impossible) {
    const count = database.prepare(`SELECT count(*) FROM ${table} WHERE ${which}`).pluck().get() as number;
    if (count === 0) continue;
    if (repair) {
      // Of a listing that lacks a name nobody may believe that it is complete.
      database.exec(`UPDATE directory SET complete_at = NULL; DELETE FROM ${table} WHERE ${which}`);
    }
    findings.push({
      what: file,
      problem: `${count} ${problem}`,
      mended: repair ? 'forgotten; the stores are asked again' : undefined,
    });
  }
  return findings;
}
