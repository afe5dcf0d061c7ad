/** `mirage fsck` as a user runs it. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { Scratch } from './scratch.js';

jest.setTimeout(120_000);

let scratch: Scratch;
let config: string;
let state: string;
let cache: string;
beforeEach(() => {
  scratch = new Scratch();
  state = scratch.make('state');
  cache = scratch.make('cache');
  const { mountpoint } = scratch;
  config = scratch.write(
    'mirage.yaml',
    JSON.stringify({ mountpoint, state, cache: { directory: cache }, mounts: { '/': { type: 'ram' } } }),
  );
});
afterEach(() => scratch.dispose());

test('says what is wrong, mends it, and keeps what may be the only copy', async () => {
  expect(await scratch.mirage('fsck', '--config', config)).toMatchObject({
    code: 0,
    stdout: 'ok    journal\nok    metadata\nok    content\n',
  });
  mkdirSync(join(cache, 'journal'));
  writeFileSync(join(cache, 'journal', 'lost'), 'bytes of somebody');
  writeFileSync(join(state, 'metadata.db'), 'no database');

  const found = await scratch.mirage('fsck', '--config', config);
  expect(found.code).toBe(1);
  expect(found.stdout).toMatch(/^fail {2}journal: .*17 bytes that the journal does not speak of$/m);
  expect(found.stdout).toMatch(/^fail {2}metadata: .*the database is damaged/m);
  expect(found.stdout).toContain('mirage fsck --repair');
  expect(readFileSync(join(state, 'metadata.db'), 'utf8')).toBe('no database');

  const mended = await scratch.mirage('fsck', '--config', config, '--repair');
  expect(mended.code).toBe(0);
  expect(mended.stdout).toMatch(/^done {2}journal: /m);
  const recovered = join(cache, 'content', 'recovered');
  expect(readdirSync(recovered).map((name) => readFileSync(join(recovered, name), 'utf8'))).toEqual([
    'bytes of somebody',
  ]);
  expect(await scratch.mirage('fsck', scratch.mountpoint, '--config', config)).toMatchObject({ code: 0 });
});

test('waits for no daemon: what is mounted is not checked', async () => {
  expect(await scratch.mirage('mount', '--config', config)).toMatchObject({ code: 0 });
  const { code, stderr } = await scratch.mirage('fsck', '--config', config);
  expect(code).toBe(5);
  expect(stderr).toContain('another daemon uses');
  expect(await scratch.mirage('fsck', scratch.mountpoint)).toMatchObject({
    code: 5,
    stderr: expect.stringContaining(`mirage unmount ${scratch.mountpoint}`),
  });
  expect(await scratch.mirage('unmount', scratch.mountpoint)).toMatchObject({ code: 0 });
  expect(await scratch.mirage('fsck', '--config', config)).toMatchObject({ code: 0 });
});

test('says so where there is nothing to check', async () => {
  const { code, stderr } = await scratch.mirage('fsck', join(scratch.folder, 'never-mounted'));
  expect(code).toBe(3);
  expect(stderr).toContain('there is no state of Mirage');
});

test('a daemon tells of changes whose store is not mounted any more, and keeps them', async () => {
  const intent = {
    kind: 'remove',
    key: 'f',
    precondition: { kind: 'any' },
    at: { seconds: 1, nanoseconds: 0 },
  };
  const change = JSON.stringify({ drop: [], add: [{ sequence: 1, identity: 's3://gone/', intent }] });
  const journal = join(state, 'journal.log');
  const sum = crc32(change).toString(16).padStart(8, '0');
  writeFileSync(journal, `{"journal":"mirage","version":1,"boot":"-"}\n${sum} ${change}\n`);
  expect(await scratch.mirage('mount', '--config', config)).toMatchObject({ code: 0 });
  expect((await scratch.mirage('status', scratch.mountpoint)).stdout).toContain('s3://gone/: 1 change');
  expect(readFileSync(join(state, 'daemon.log'), 'utf8')).toContain('s3://gone/: 1 change');
  expect(await scratch.mirage('unmount', scratch.mountpoint)).toMatchObject({ code: 0 });
  expect(readFileSync(journal, 'utf8')).toContain('s3://gone/');
  expect(await scratch.mirage('fsck', '--config', config)).toMatchObject({ code: 0 });
});
