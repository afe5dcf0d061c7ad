import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import type { Log } from '../../src/log/log.js';
import type { MetadataStore, NewEntryRecord } from '../../src/metadata/contract.js';
import { openMetadata } from '../../src/metadata/open-metadata.js';

let folder: string;
let file: string;
let store: MetadataStore | undefined;
const lines: string[] = [];
const note = (message: string) => void lines.push(message);
const log: Log = { debug() {}, info: note, warn: note, error: note, with: () => log };

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mirage-metadata-'));
  file = join(folder, 'metadata.db');
  lines.length = 0;
});
afterEach(async () => {
  await store?.close();
  store = undefined;
  rmSync(folder, { recursive: true });
});

function open(): MetadataStore {
  store = openMetadata({ file, log, inThread: true });
  return store;
}

async function reopen(): Promise<MetadataStore> {
  await store?.close();
  return open();
}

function record(name: string, fields: Partial<NewEntryRecord> = {}): NewEntryRecord {
  return {
    name,
    kind: 'file',
    size: 1,
    validator: '"v"',
    modifiedSeconds: 1,
    modifiedNanoseconds: 2,
    attributes: undefined,
    ino: undefined,
    seenAt: 3,
    ...fields,
  };
}

const namesOf = (from: MetadataStore, location: number, directory: string): string[] =>
  from.entries(location, directory, 0, 1000).map((entry) => entry.name);

describe('names', () => {
  test('a name that was forgotten and put again within one turn is listed once, at the end', () => {
    const metadata = open();
    const location = metadata.location('one');
    for (const name of ['a', 'b']) metadata.put(location, '', record(name));
    metadata.forget(location, '', 'a');
    metadata.put(location, '', record('a'));
    expect(namesOf(metadata, location, '')).toEqual(['b', 'a']);
  });

  test('a name keeps its place when it is removed and made again, also across a restart', async () => {
    let metadata = open();
    const location = metadata.location('one');
    for (const name of ['a', 'b', 'c']) metadata.put(location, '', record(name));
    metadata.put(location, '', record('b', { kind: 'absent' }));
    metadata = await reopen();
    expect(namesOf(metadata, location, '')).toEqual(['a', 'c']);
    expect(metadata.entry(location, '', 'b')?.kind).toBe('absent');
    metadata.put(location, '', record('b'));
    metadata.put(location, '', record('d'));
    expect(namesOf(metadata, location, '')).toEqual(['a', 'b', 'c', 'd']);
  });

  test('two mounts do not see each other, and one is the same after a restart', async () => {
    let metadata = open();
    const [one, two] = [metadata.location('one'), metadata.location('two')];
    metadata.put(one, 'd', record('a'));
    metadata.put(two, 'd', record('b'));
    metadata = await reopen();
    expect([metadata.location('one'), metadata.location('two')]).toEqual([one, two]);
    expect(namesOf(metadata, one, 'd')).toEqual(['a']);
    metadata.forgetTree(one, '');
    expect(namesOf(metadata, one, 'd')).toEqual([]);
    expect(namesOf(metadata, two, 'd')).toEqual(['b']);
  });

  test('a directory takes everything below along, and not what only begins with its name', async () => {
    const metadata = open();
    const location = metadata.location('one');
    for (const key of ['a', 'a/b', 'a0', 'a-', 'ä']) metadata.put(location, key, record('f'));
    await metadata.settled();
    metadata.moveDirectory(location, 'a', 'ä/c');
    for (let round = 0; round < 2; round++) {
      const held = ['a', 'a/b', 'a0', 'a-', 'ä', 'ä/c', 'ä/c/b'].filter((key) =>
        metadata.entry(location, key, 'f'),
      );
      expect(held).toEqual(['a0', 'a-', 'ä', 'ä/c', 'ä/c/b']);
      await metadata.settled();
    }
  });
});

describe('a listing', () => {
  test('drops what it did not see, keeps what others put meanwhile, and counts from its start', () => {
    const metadata = open();
    const location = metadata.location('one');
    for (const name of ['stays', 'goes']) metadata.put(location, '', record(name));
    const listing = metadata.startListing(location, '', 100);
    listing.page([record('stays'), record('new')]);
    metadata.put(location, '', record('mine'));
    metadata.put(location, '', record('unlinked', { kind: 'absent' }));
    listing.page([record('unlinked')]);
    expect(metadata.listing(location, '').completeAt).toBeUndefined();
    listing.complete();
    expect(metadata.listing(location, '').completeAt).toBe(100);
    expect(namesOf(metadata, location, '')).toEqual(['stays', 'new', 'mine']);
    expect(metadata.entry(location, '', 'goes')).toBeUndefined();
  });

  test('says nothing of a directory that was expired, moved or forgotten meanwhile', () => {
    const metadata = open();
    const location = metadata.location('one');
    const ends = [
      () => metadata.expire(location, 'd'),
      () => metadata.moveDirectory(location, 'd', 'e'),
      () => metadata.forgetTree(location, 'd'),
    ];
    for (const end of ends) {
      const listing = metadata.startListing(location, 'd', 100);
      end();
      listing.page([record('late')]);
      listing.complete();
      for (const key of ['d', 'e']) {
        expect(metadata.listing(location, key).completeAt).toBeUndefined();
        expect(metadata.entry(location, key, 'late')).toBeUndefined();
      }
    }
  });

  test('keeps attributes of the same version and the inode number of the same kind', () => {
    const metadata = open();
    const location = metadata.location('one');
    const attributes = { mode: 0o100600 };
    for (const name of ['same', 'changed']) metadata.put(location, '', record(name, { attributes, ino: 7 }));
    const listing = metadata.startListing(location, '', 100);
    listing.page([record('same'), record('changed', { validator: '"w"' })]);
    listing.complete();
    expect(metadata.entry(location, '', 'same')).toMatchObject({ attributes, ino: 7 });
    expect(metadata.entry(location, '', 'changed')).toMatchObject({ attributes: undefined, ino: 7 });
  });

  test('of many pages is readable page by page while the rows are on their way', async () => {
    const metadata = open();
    const location = metadata.location('one');
    const listing = metadata.startListing(location, '', 100);
    const seen: string[] = [];
    let after = 0;
    for (let page = 0; page < 20; page++) {
      listing.page(Array.from({ length: 500 }, (_, i) => record(`f${page * 500 + i}`)));
      const entries = metadata.entries(location, '', after, 400);
      seen.push(...entries.map((entry) => entry.name));
      after = entries.at(-1)!.position;
      if (page % 3 === 0) await nextTurn();
    }
    listing.complete();
    await metadata.settled();
    for (;;) {
      const entries = metadata.entries(location, '', after, 400);
      if (entries.length === 0) break;
      seen.push(...entries.map((entry) => entry.name));
      after = entries.at(-1)!.position;
    }
    expect(seen).toEqual(Array.from({ length: 10_000 }, (_, i) => `f${i}`));
  });
});

describe('the database file', () => {
  test('of a newer version is refused with a hint and left alone', async () => {
    open();
    await store?.close();
    store = undefined;
    const database = new Database(file);
    database.pragma('user_version = 99');
    database.close();
    expect(() => open()).toThrow(
      expect.objectContaining({ errno: 'EINVAL', hint: expect.stringContaining('newer version') }),
    );
    expect(new Database(file, { readonly: true }).pragma('user_version', { simple: true })).toBe(99);
  });

  test('of an older version is rebuilt', () => {
    const database = new Database(file);
    database.exec('CREATE TABLE entry (something TEXT)');
    database.close();
    const metadata = open();
    metadata.put(metadata.location('one'), '', record('a'));
    expect(lines).toEqual([expect.stringContaining('older schema')]);
  });

  test('that is no database is moved aside and rebuilt', async () => {
    writeFileSync(file, 'not a database, but long enough to look at. '.repeat(100));
    const metadata = open();
    const location = metadata.location('one');
    metadata.put(location, '', record('a'));
    await metadata.settled();
    expect(namesOf(metadata, location, '')).toEqual(['a']);
    expect(existsSync(`${file}.damaged`)).toBe(true);
    expect(lines).toEqual([expect.stringContaining('damaged')]);
  });

  test('that is damaged inside answers as an empty cache does, and works on', async () => {
    let metadata = open();
    const location = metadata.location('one');
    for (let i = 0; i < 2000; i++)
      metadata.put(location, 'd', record(`name-${i}`, { attributes: { mode: i } }));
    await metadata.close();
    const size = new Database(file).pragma('page_count', { simple: true }) as number;
    expect(size).toBeGreaterThan(20);
    truncateSync(file, 12 * 4096);
    metadata = open();
    for (let i = 0; i < 2000; i++) metadata.entry(location, 'd', `name-${i}`);
    expect(lines.some((line) => line.includes('damaged'))).toBe(true);
    expect(metadata.location('one')).toBe(location);
    metadata.put(location, 'd', record('after'));
    await metadata.settled();
    expect(namesOf(metadata, location, 'd')).toEqual(['after']);
    metadata = await reopen();
    expect(namesOf(metadata, location, 'd')).toEqual(['after']);
    expect(readdirSync(folder).filter((name) => name.endsWith('.damaged'))).toEqual(['metadata.db.damaged']);
  });

  test('that cannot be written for a while loses nothing', async () => {
    const metadata = open();
    const location = metadata.location('one');
    await metadata.settled();
    const other = new Database(file);
    other.exec('BEGIN IMMEDIATE');
    metadata.put(location, '', record('a'));
    await expect(metadata.settled()).rejects.toMatchObject({ message: expect.stringContaining('locked') });
    expect(namesOf(metadata, location, '')).toEqual(['a']);
    other.exec('ROLLBACK');
    other.close();
    await metadata.settled();
    expect(namesOf(await reopen(), location, '')).toEqual(['a']);
  });

  test('does not grow with changes: the log is written back and used again', async () => {
    const metadata = open();
    const location = metadata.location('one');
    for (let round = 0; round < 60; round++) {
      for (let i = 0; i < 2000; i++) metadata.put(location, '', record(`name-${i}`, { size: round }));
      await metadata.settled();
    }
    const { size } = statSync(`${file}-wal`);
    expect(size).toBeLessThan(32 * 1024 * 1024);
  });
});
