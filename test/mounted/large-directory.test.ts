/** Directories of very many objects: served by a listing server, so that nobody has to store them. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type ListingServer, startListingServer } from '../servers/listing-server.js';
import { Mirage } from './mount.js';
import { must, python, shell } from './process.js';

const ENTRIES = process.env.MIRAGE_TEST_LONG === undefined ? 50_000 : 1_000_000;
const DEADLINE = process.env.MIRAGE_TEST_LONG === undefined ? 120_000 : 900_000;
/** MiB, whatever is read or walked. */
const MEMORY = 250;

let server: ListingServer;
let mirage: Mirage;

beforeAll(async () => {
  server = await startListingServer(ENTRIES);
  mirage = await Mirage.start({
    mounts: {
      '/s3': {
        type: 's3',
        bucket: 'endless',
        endpoint: server.endpoint,
        accessKeyId: 'any',
        secretAccessKey: 'any',
        ttl: '1h',
      },
    },
  });
}, DEADLINE);
afterAll(async () => {
  await mirage?.dispose();
  await server?.stop();
}, DEADLINE);

const peak = (): number =>
  Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${mirage.pid}/status`, 'utf8'))?.[1]) / 1024;

describe('a directory of very many objects', () => {
  test(
    'a reader of a directory gets entries while the listing is under way',
    async () => {
      await server.command('hold 3');
      const code = `
import os
names = [entry.name for _, entry in zip(range(2000), os.scandir('many'))]
print(len(names), names[0], names[-1])`;
      const first = await must(python, ['-c', code], { cwd: mirage.path('s3'), deadline: DEADLINE });
      expect(first).toBe('2000 entry-0000000 entry-0001999\n');
      await server.command('release');
    },
    DEADLINE,
  );

  test(
    'a walk shows every entry once, with its size, in bounded memory',
    async () => {
      const script = `find many -type f -printf '%f %s\\n' | sort | tee >(wc -l) >(uniq -d | wc -l) >(tail -1) > /dev/null | cat`;
      const said = (await shell(script, mirage.path('s3'), { deadline: DEADLINE })).trim().split('\n').sort();
      const last = `entry-${String(ENTRIES - 1).padStart(7, '0')} ${String(ENTRIES - 1).length}`;
      expect(said).toEqual(['0', String(ENTRIES), last].sort());
      expect(peak()).toBeLessThan(MEMORY);
    },
    DEADLINE,
  );

  test(
    'a second walk asks the store nothing, nor does one after a restart',
    async () => {
      const before = await server.command('stats');
      const count = () => shell('find many -type f | wc -l', mirage.path('s3'), { deadline: DEADLINE });
      expect((await count()).trim()).toBe(String(ENTRIES));
      expect(await server.command('stats')).toBe(before);
      await mirage.stop(DEADLINE);
      await mirage.restart();
      const asked = JSON.parse(await server.command('stats')) as { pages: number; head: number };
      expect((await count()).trim()).toBe(String(ENTRIES));
      const after = JSON.parse(await server.command('stats')) as { pages: number; head: number };
      expect({ pages: after.pages, head: after.head }).toEqual({ pages: asked.pages, head: asked.head });
      expect(peak()).toBeLessThan(MEMORY);
    },
    DEADLINE,
  );
});
