import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { packageRoot } from '../../src/native/load.js';
import { ContentBench, MIB, never, readFrom } from './bench.js';
import { patterned } from './memory-store.js';

/** The compiled sources, for a process that can be killed. */
const compiled = join(packageRoot(), 'dist', 'content', 'open-content.js');

/** Reads objects one after the other and writes one; says what is done, and never ends. The bytes of an object are its letter. */
const program = `
  import { writeSync } from 'node:fs';
  const { openContent } = await import(process.env.MODULE);
  const log = { debug() {}, info() {}, warn: console.error, error: console.error, with: () => log };
  const port = {
    async fetch(mount, { key, range, fd, onProgress }) {
      const chunk = Buffer.alloc(1024 * 1024, key[0]);
      const end = range.offset + range.length;
      for (let at = range.offset; at < end; at += chunk.length) {
        await new Promise(setImmediate);
        const length = Math.min(chunk.length, end - at);
        writeSync(fd, chunk, 0, length, at);
        onProgress(at + length);
      }
      return { key, kind: 'file', size: undefined, validator: undefined, modified: { seconds: 0, nanoseconds: 0 } };
    },
  };
  const clock = { wall: () => 0, monotonic: () => 0 };
  const content = openContent({ directory: process.env.DIRECTORY, limit: 2 ** 40, port, log, clock });
  content.identify(0, 's3://bucket/');
  const never = new AbortController().signal;
  const staged = content.stage();
  writeSync(staged.fd, 'unsaved', 0);
  staged.wrote(0, 7);
  for (let i = 0; ; i++) {
    const key = 'abcdefgh'[i % 8] + i;
    const file = content.acquire({ mount: 0, key, validator: 'v', size: (1 + (i % 3) * 5) * 1024 * 1024 });
    await file.ensureAll(never);
    file.release();
    console.log(key + ' ' + file.version.size);
  }
`;

/** Complete files in the index of a cache. */
function noted(cache: string): number {
  const index = new Database(join(cache, 'index.db'), { readonly: true });
  const count = index.prepare('SELECT count(*) FROM file WHERE bytes = size').pluck().get() as number;
  index.close();
  return count;
}

let directory: string;
let child: ChildProcess | undefined;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'mirage-content-'));
  if (!existsSync(compiled)) throw new Error('run `npm run build` first');
});
afterEach(() => {
  child?.kill('SIGKILL');
  rmSync(directory, { recursive: true, force: true });
});

test('after a kill the cache serves what it had, fetches the rest, and keeps unsaved writes', async () => {
  const running = spawn(process.execPath, ['--input-type=module', '-e', program], {
    env: { ...process.env, MODULE: pathToFileURL(compiled).href, DIRECTORY: directory },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  child = running;
  const done: { key: string; size: number }[] = [];
  const lines = createInterface({ input: running.stdout });
  for await (const line of lines) {
    const [key, size] = line.split(' ');
    done.push({ key: key!, size: Number(size) });
    // What has come is noted a little later.
    if (done.length >= 10 && noted(directory) >= 10) running.kill('SIGKILL');
  }
  if (running.exitCode === null && running.signalCode === null) await once(running, 'exit');

  await using bench = new ContentBench(1024 * MIB, directory);
  expect(bench.content.used).toBeGreaterThan(0);
  const served = [];
  // The one that was being read when the program died is asked for too.
  const index = done.length;
  const last = { key: `${'abcdefgh'[index % 8]}${index}`, size: (1 + (index % 3) * 5) * MIB };
  for (const { key, size } of [...done, last]) {
    const expected = Buffer.alloc(size, key[0]);
    bench.store.objects.set(key, { bytes: expected, validator: 'v' });
    const file = bench.content.acquire({ mount: 0, key, validator: 'v', size });
    const { length } = bench.store.asked;
    await file.ensureAll(never);
    if (bench.store.asked.length === length) served.push(key);
    expect(readFrom(file.fd, 0, size).equals(expected)).toBe(true);
    file.release();
  }
  expect(served.length).toBeGreaterThanOrEqual(10);
  const recovered = readdirSync(join(directory, 'recovered'));
  expect(recovered.map((name) => readFileSync(join(directory, 'recovered', name), 'utf8'))).toEqual([
    'unsaved',
  ]);
});

test('after the machine stopped in the middle nothing of the cache is trusted', async () => {
  const bench = new ContentBench(1024 * MIB, directory);
  const version = bench.store.put('key', patterned(5000));
  const file = bench.content.acquire(version);
  await file.ensureAll(never);
  file.release();
  await bench.close();
  const index = new Database(join(directory, 'index.db'));
  index.exec(`UPDATE state SET clean = 0, boot = 'another'`);
  index.close();
  bench.open();
  const again = bench.content.acquire(version);
  expect(again.complete).toBe(false);
  again.release();
  expect(bench.content.used).toBe(0);
  await bench.close();
});
