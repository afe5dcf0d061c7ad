/** kill -9 under load: what was acknowledged is in the store after the daemon came back once, seen by somebody who has no cache. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type DelayProxy, startDelayProxy } from '../servers/proxy.js';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { Mirage } from './mount.js';
import { must, python, run, shell, until } from './process.js';
import { Bucket, s3Mount } from './s3-mount.js';

const LONG = process.env.MIRAGE_TEST_LONG !== undefined;
const DEADLINE = LONG ? 3_600_000 : 300_000;
const WORKERS = 3;
/** How often the daemon is killed; `MIRAGE_TEST_KILLS` takes another number. */
const times = (short: number, long: number): number =>
  Number(process.env.MIRAGE_TEST_KILLS ?? (LONG ? long : short));
const script = fileURLToPath(new URL('./worker.py', import.meta.url));

let server: Radosgw;
let proxy: DelayProxy;

beforeAll(async () => {
  server = await startRadosgw();
  // Far enough away that there is always something under way.
  proxy = await startDelayProxy(server.port, 5);
}, 120_000);
afterAll(async () => {
  await proxy?.stop();
  await server?.stop();
}, 60_000);

type Files = Map<string, string>;
type Operation = Record<string, string>;

function apply(files: Files, operation: Operation): Files {
  const after = new Map(files);
  if (operation.write !== undefined) after.set(operation.write, operation.text as string);
  else if (operation.remove !== undefined) after.delete(operation.remove);
  else if (operation.rename !== undefined) {
    after.set(operation.to as string, files.get(operation.rename) as string);
    after.delete(operation.rename);
  } else if (operation.moveDirectory !== undefined) {
    for (const [name, text] of files) {
      if (!name.startsWith(`${operation.moveDirectory}/`)) continue;
      after.set((operation.to as string) + name.slice(operation.moveDirectory.length), text);
      after.delete(name);
    }
  }
  return after;
}

/** What a worker was told is done, and what it may be if its last operation came about. */
function expected(log: string): { acknowledged: Files; perhaps: Files; operations: number } {
  let acknowledged: Files = new Map();
  let perhaps = acknowledged;
  let operations = 0;
  for (const line of log.split('\n').slice(0, -1)) {
    const entry = JSON.parse(line) as Operation | 'ok';
    if (entry === 'ok') {
      acknowledged = perhaps;
      operations++;
    } else if (entry.ended === undefined) perhaps = apply(acknowledged, entry);
  }
  return { acknowledged, perhaps, operations };
}

async function inBucket(bucket: Bucket, folder: string): Promise<Files> {
  const files: Files = new Map();
  const keys = (await bucket.keys()).filter((key) => key.startsWith(`${folder}/`) && !key.endsWith('/'));
  await Promise.all(keys.map(async (key) => files.set(key.slice(folder.length + 1), await bucket.text(key))));
  return files;
}

const sorted = (files: Files): [string, string][] =>
  [...files].map(([name, text]): [string, string] => [name, `${text.length} ${text.slice(0, 20)}`]).sort();

async function killedUnderLoad(writeBack: 'async' | 'close', kills: number): Promise<void> {
  const bucket = new Bucket(server, await server.createBucket());
  const logs = mkdtempSync(join(tmpdir(), 'mirage-crash-'));
  const mirage = await Mirage.start({
    mounts: {
      '/s3': s3Mount(server, bucket.name, { writeBack, endpoint: `http://127.0.0.1:${proxy.port}` }),
    },
  });
  let operations = 0;
  try {
    for (let kill = 1; kill <= kills; kill++) {
      const folders = Array.from({ length: WORKERS }, (_, worker) => `${kill}-${worker}`);
      await must(
        'mkdir',
        folders.map((folder) => mirage.path('s3', folder)),
      );
      const workers = folders.map((folder) =>
        run(python, [script, mirage.path('s3', folder), join(logs, folder), folder], { deadline: 60_000 }),
      );
      // A moment that has nothing to do with what is going on.
      await new Promise((resolve) => setTimeout(resolve, 300 + ((kill * 7919) % 1700)));
      await mirage.crash();
      await Promise.all(workers);
      mirage.kill();
      await mirage.restart();
      let drained = '';
      // The mount answers a moment before the control socket does.
      const isDrained = async (): Promise<boolean> => {
        const { code, stdout, stderr } = await mirage.mirage('drain', mirage.mountpoint);
        drained = `${code} ${stdout}${stderr}${mirage.log()}`;
        return code !== 3;
      };
      await until(isDrained, 'the daemon answers', 30_000);
      expect(drained).toMatch(/^0 /);
      for (const folder of folders) {
        const {
          acknowledged,
          perhaps,
          operations: done,
        } = expected(readFileSync(join(logs, folder), 'utf8'));
        const found = sorted(await inBucket(bucket, folder));
        const states = [sorted(acknowledged), sorted(perhaps)];
        if (!states.some((state) => JSON.stringify(state) === JSON.stringify(found))) {
          expect({ kill, folder, found }).toEqual({ kill, folder, found: states[0] });
        }
        operations += done;
      }
      expect(await shell('cat .mirage/conflicts/*.json 2>/dev/null || true', mirage.mountpoint)).toBe('');
    }
    expect(operations).toBeGreaterThan(kills);
    if (kills > 10)
      process.stdout.write(`${writeBack}: ${kills} kills, ${operations} acknowledged operations\n`);
  } finally {
    await mirage.dispose();
    rmSync(logs, { recursive: true, force: true });
  }
}

describe('a daemon that is killed', () => {
  test(
    'what was acknowledged survives a kill of the daemon',
    () => killedUnderLoad('async', times(10, 200)),
    DEADLINE,
  );
  test(
    'with writeBack close a killed daemon leaves no change half done',
    () => killedUnderLoad('close', times(3, 50)),
    DEADLINE,
  );
});
