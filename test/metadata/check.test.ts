/** `mirage fsck` of the metadata database. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import type { Finding } from '../../src/errors/finding.js';
import { checkMetadata } from '../../src/metadata/check.js';
import { openMetadata } from '../../src/metadata/open-metadata.js';
import { silentLog } from './silent-log.js';

let folder: string;
let file: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mirage-metadata-check-'));
  file = join(folder, 'metadata.db');
  const metadata = openMetadata({ file, log: silentLog, inThread: true });
  const location = metadata.location('s3://bucket/');
  for (const [directory, name] of [
    ['', 'a'],
    ['', 'd'],
    ['d', 'b'],
    ['e/f', 'c'],
  ] as const) {
    metadata.put(location, directory, {
      name,
      kind: name === 'd' ? 'directory' : 'file',
      size: 1,
      validator: '"v"',
      modifiedSeconds: 1,
      modifiedNanoseconds: 0,
      attributes: { mode: 0o100644 },
      ino: undefined,
      seenAt: 1,
    });
  }
  metadata.markComplete(location, 'd', 1);
  metadata.moveDirectory(location, 'e', 'g');
  metadata.forgetTree(location, 'g');
  await metadata.settled();
  await metadata.close();
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const check = (repair = false): Finding[] => checkMetadata(file, { repair }, silentLog);

function sql(text: string): unknown {
  const database = new Database(file);
  try {
    return text.startsWith('SELECT') ? database.prepare(text).pluck().all() : database.exec(text);
  } finally {
    database.close();
  }
}

test('a database in use is in order', () => {
  expect(check()).toEqual([]);
});

test('rows that cannot be right are forgotten, and no listing counts as complete', () => {
  sql(`INSERT INTO entry SELECT 999, name, position, sequence, kind, size, validator, 0, 0, NULL, NULL, NULL, 1
    FROM entry WHERE name = 'a'`);
  sql("UPDATE entry SET attributes = 'no json' WHERE name = 'b'");
  expect(check().map(({ problem }) => problem)).toEqual([
    '1 names without the directory that they are in',
    '1 names whose attributes cannot be read',
  ]);
  expect(check(true).every(({ mended }) => mended !== undefined)).toBe(true);
  expect(check()).toEqual([]);
  expect(sql('SELECT name FROM entry ORDER BY name')).toEqual(['a', 'd']);
  expect(sql('SELECT count(*) FROM directory WHERE complete_at IS NOT NULL')).toEqual([0]);
});

test('a damaged database is moved aside and begun anew', () => {
  writeFileSync(file, 'no database');
  expect(check()).toEqual([expect.objectContaining({ problem: expect.stringContaining('damaged') })]);
  expect(check(true)[0]?.mended).toBeDefined();
  expect(readFileSync(`${file}.damaged`, 'utf8')).toBe('no database');
  expect(check()).toEqual([]);
});

test('that of a newer version is left alone', () => {
  sql('PRAGMA user_version = 99');
  const [finding] = check(true);
  expect(finding).toMatchObject({ problem: expect.stringContaining('newer'), remedy: expect.any(String) });
  expect(finding?.mended).toBeUndefined();
});

test('there is nothing to check where there is none', () => {
  rmSync(file);
  expect(check(true)).toEqual([]);
  expect(existsSync(file)).toBe(false);
});
