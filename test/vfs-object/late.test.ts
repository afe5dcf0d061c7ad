/** Answers that come late or never: listings that are older than what was made since, copies that nobody knows the outcome of. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type Call, chaos, type Fault } from '../../src/backends/layers/chaos.js';
import { ownChanges } from '../../src/backends/layers/own-changes.js';
import type { Clock } from '../../src/clock/clock.js';
import { systemTimers } from '../../src/clock/timers.js';
import { Bucket } from './bucket.js';
import { Tree } from './tree.js';

let bucket: Bucket;
let tree: Tree;
let faultOf: (call: Call) => Fault;
beforeEach(() => {
  faultOf = () => ({ kind: 'none' });
  bucket = new Bucket();
  const clock: Clock = { wall: Date.now, monotonic: () => performance.now() + tree.later };
  const unreliable = chaos(bucket, { next: (call) => faultOf(call), timers: systemTimers, clock });
  tree = new Tree(bucket, { backend: ownChanges(unreliable, clock), ttl: 1000 });
});
afterEach(() => tree.close());

test('what this host changed within the last minute counts against a listing that comes late', async () => {
  for (const name of ['kept', 'changed', 'removed']) bucket.put(`d/${name}`, 'old');
  expect(await tree.list('d')).toEqual(['changed', 'kept', 'removed']);
  await tree.writeFile('d/changed', 'longer than before');
  await tree.unlink('d/removed');
  await tree.writeFile('d/made', 'new');
  await tree.mkdir('d/folder');
  faultOf = () => ({ kind: 'stale', milliseconds: 60_000 });
  tree.later += 2000;
  expect(await tree.list('d')).toEqual(['changed', 'folder', 'kept', 'made']);
  expect(await tree.readFile('d/changed')).toBe('longer than before');
  expect(await tree.readFile('d/made')).toBe('new');
  tree.later += 2000;
  await tree.rename('d', 'e');
  expect(bucket.keys()).toEqual(['e/', 'e/changed', 'e/folder/', 'e/kept', 'e/made']);
});

test('a directory that became a file does not come back by a listing that comes late', async () => {
  await tree.mkdir('a');
  tree.later += 40_000;
  await tree.rmdir('a');
  await tree.writeFile('a', 'text');
  faultOf = () => ({ kind: 'stale', milliseconds: 30_000 });
  tree.later += 2000;
  expect(await tree.list('')).toEqual(['a']);
  await tree.rename('a', 'b');
  expect(bucket.keys()).toEqual(['b']);
});

test('who reads a directory does not follow a listing that began longer ago than a name is believed', async () => {
  bucket.put('a', 'text');
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  let listings = 0;
  bucket.before = (operation) => {
    if (operation === 'list' && ++listings === 1) return opened;
    return undefined;
  };
  const early = tree.list('');
  expect(await tree.exists('b')).toBe(false);
  bucket.put('b', 'made by another host');
  tree.later += 2000;
  const late = tree.list('');
  open();
  expect(await late).toEqual(['a', 'b']);
  await early;
});

test('a directory is renamed although the answers to some of its copies are lost', async () => {
  for (const name of ['f', 'g', 'h']) bucket.put(`d/${name}`, name);
  const faults: Record<string, Fault[]> = {
    'e/f': [{ kind: 'reset', bytes: 0 }],
    'e/g': [{ kind: 'unavailable' }, { kind: 'reset', bytes: 0 }],
  };
  faultOf = ({ operation, key }) => (operation === 'copy' && faults[key]?.shift()) || { kind: 'none' };
  await tree.rename('d', 'e');
  expect(bucket.keys()).toEqual(['e/', 'e/f', 'e/g', 'e/h']);
  expect(bucket.text('e/g')).toBe('g');
});
