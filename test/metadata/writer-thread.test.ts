import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { openMetadata } from '../../src/metadata/open-metadata.js';
import { packageRoot } from '../../src/native/load.js';
import { silentLog } from './silent-log.js';

/** The compiled sources: plain Node cannot start a thread from a TypeScript file. */
const compiled = join(packageRoot(), 'dist', 'metadata', 'open-metadata.js');

const program = `
  const { openMetadata } = await import(process.env.MODULE);
  const log = { debug() {}, info() {}, warn: console.log, error: console.log, with: () => log };
  const metadata = openMetadata({ file: process.env.FILE, log });
  const location = metadata.location('one');
  const record = (name) => ({ name, kind: 'file', size: 1, validator: undefined, modifiedSeconds: 0,
    modifiedNanoseconds: 0, attributes: {}, ino: undefined, seenAt: 0 });
  console.log('threads ' + process.getActiveResourcesInfo().filter((name) => name === 'MessagePort').length);
  const listing = metadata.startListing(location, 'd', 5);
  for (let page = 0; page < 10; page++) {
    listing.page(Array.from({ length: 1000 }, (_, i) => record('n' + (page * 1000 + i))));
  }
  listing.complete();
  console.log('at once ' + metadata.entries(location, 'd', 0, 100000).length);
  await metadata.settled();
  console.log('settled ' + metadata.entries(location, 'd', 0, 100000).length);
  if (process.env.END === 'close') await metadata.close();
  else setInterval(() => metadata.put(location, 'd', record('more' + Math.random())), 1);
`;

let folder: string;
let child: ChildProcess | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mirage-metadata-'));
  if (!existsSync(compiled)) throw new Error('run `npm run build` first');
});
afterEach(() => {
  child?.kill('SIGKILL');
  rmSync(folder, { recursive: true });
});

function start(end: 'close' | 'kill'): ChildProcess {
  child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    env: { ...process.env, MODULE: pathToFileURL(compiled).href, FILE: join(folder, 'm.db'), END: end },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return child;
}

test('a thread of its own writes; what is put shows at once and the program ends when the cache is closed', async () => {
  const running = start('close');
  const lines: string[] = [];
  createInterface({ input: running.stdout! }).on('line', (line) => lines.push(line));
  const [code] = await once(running, 'close');
  expect(code).toBe(0);
  expect(lines).toEqual(['threads 1', 'at once 10000', 'settled 10000']);
});

test('what was settled is there after the program was killed', async () => {
  const running = start('kill');
  for await (const line of createInterface({ input: running.stdout! })) {
    if (line.startsWith('settled')) break;
  }
  running.kill('SIGKILL');
  await once(running, 'close');
  const metadata = openMetadata({ file: join(folder, 'm.db'), log: silentLog, inThread: true });
  try {
    const location = metadata.location('one');
    expect(metadata.listing(location, 'd').completeAt).toBe(5);
    const names = metadata.entries(location, 'd', 0, 100_000).map((entry) => entry.name);
    expect(names.slice(0, 10_000)).toEqual(Array.from({ length: 10_000 }, (_, i) => `n${i}`));
  } finally {
    await metadata.close();
  }
});
