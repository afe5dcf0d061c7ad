/** `mirage fsck` of the journal: what waits for its store is all there is of it. */
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { Finding } from '../../src/errors/finding.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { checkJournal } from '../../src/vfs/object/journal/check.js';
import { Bucket } from './bucket.js';
import { silent, Tree } from './tree.js';

const LARGE = 'large '.repeat(20_000);

let bucket: Bucket;
let tree: Tree;
let file: string;
let staged: string;
let recovered: string;

/** A daemon that was killed while its store was out of reach, with a small file and a large one on their way. */
beforeEach(async () => {
  bucket = new Bucket();
  bucket.before = (operation) => {
    if (['stat', 'list', 'read'].includes(operation)) return;
    throw new MirageError('out of reach', { errno: 'EHOSTDOWN', retryable: true });
  };
  tree = new Tree(bucket, { writeBack: 'async' });
  await tree.writeFile('large', LARGE);
  await tree.writeFile('small', 'small');
  await tree.crash();
  file = join(tree.folder, 'journal.log');
  staged = join(tree.folder, 'cache', 'journal');
  recovered = join(tree.folder, 'recovered');
  mkdirSync(recovered);
  bucket.before = undefined;
});
afterEach(() => rmSync(tree.folder, { recursive: true, force: true }));

const check = (repair = false): Promise<Finding[]> =>
  checkJournal({ file, staged }, { repair, recovered }, silent);

/** The name of the staged bytes of so many. */
const stagedOf = (size: number): string =>
  join(
    staged,
    readdirSync(staged).find((name) => readFileSync(join(staged, name)).length === size) as string,
  );

/** What the next start brings to the store. */
async function carriedOut(): Promise<string[]> {
  const again = new Tree(bucket, { writeBack: 'async', folder: tree.folder });
  await again.volume.drain();
  await again.close(true);
  return bucket.keys();
}

const kept = (): string[] =>
  readdirSync(recovered).map((name) => readFileSync(join(recovered, name), 'utf8'));

test('what a killed daemon leaves is in order', async () => {
  expect(await check()).toEqual([]);
  expect(await carriedOut()).toEqual(['large', 'small']);
});

test('bytes that are gone are written again where the journal has a copy', async () => {
  rmSync(stagedOf(5));
  expect(await check()).toEqual([
    expect.objectContaining({
      what: 'small',
      problem: expect.stringContaining('of 5 bytes'),
      mended: undefined,
    }),
  ]);
  expect(await check(true)).toEqual([expect.objectContaining({ mended: expect.stringContaining('copy') })]);
  expect(await check()).toEqual([]);
  expect(await carriedOut()).toEqual(['large', 'small']);
  expect(bucket.text('small')).toBe('small');
});

test('bytes that are gone for good are given up, and the rest is carried out', async () => {
  rmSync(stagedOf(LARGE.length));
  expect(await check(true)).toEqual([
    expect.objectContaining({ what: 'large', mended: expect.stringContaining('nothing to send') }),
  ]);
  expect(await check()).toEqual([]);
  expect(await carriedOut()).toEqual(['small']);
});

test('bytes that were cut short are kept, and not sent as if they were all', async () => {
  truncateSync(stagedOf(LARGE.length), 1000);
  expect(await check(true)).toEqual([
    expect.objectContaining({ what: 'large', problem: expect.stringContaining('only 1000') }),
  ]);
  expect(kept()).toEqual([LARGE.slice(0, 1000)]);
  expect(await carriedOut()).toEqual(['small']);
});

test('bytes that no change speaks of are kept', async () => {
  writeFileSync(join(staged, 'nobody'), 'the only copy');
  expect(await check()).toEqual([
    expect.objectContaining({ problem: '13 bytes that the journal does not speak of' }),
  ]);
  await check(true);
  expect(kept()).toEqual(['the only copy']);
  expect(await check()).toEqual([]);
});

test('behind a damaged line nothing is relied on, and the bytes of it are kept', async () => {
  const [header, large, ...rest] = readFileSync(file, 'utf8').split('\n');
  writeFileSync(file, [header, large?.replace('"put"', '"pet"'), ...rest].join('\n'));
  expect(await check()).toEqual([
    expect.objectContaining({ what: file, problem: expect.stringContaining('line 2 is damaged') }),
    expect.objectContaining({ problem: expect.stringContaining('does not speak of') }),
    expect.objectContaining({ problem: expect.stringContaining('does not speak of') }),
  ]);
  expect((await check(true)).every(({ mended }) => mended !== undefined)).toBe(true);
  expect(
    kept()
      .map((text) => text.slice(0, 10))
      .sort(),
  ).toEqual(['large larg', 'small']);
  expect(readdirSync(tree.folder)).toContainEqual(expect.stringMatching(/^journal\.log\.damaged-/));
  expect(await check()).toEqual([]);
});

test('a line that a crash has cut short never counted', async () => {
  appendFileSync(file, '12345678 {"drop":[],"add":[{"seq');
  expect(await check()).toEqual([]);
  expect(await carriedOut()).toEqual(['large', 'small']);
});

test('the journal of a newer version, and all that it may speak of, is left alone', async () => {
  const before = readFileSync(file, 'utf8').replace('"version":1', '"version":2');
  writeFileSync(file, before);
  const [finding, ...others] = await check(true);
  expect(finding).toMatchObject({ problem: expect.stringContaining('newer version') });
  expect(finding?.mended).toBeUndefined();
  expect(others).toEqual([]);
  expect(readFileSync(file, 'utf8')).toBe(before);
  expect(readdirSync(staged)).toHaveLength(2);
});
