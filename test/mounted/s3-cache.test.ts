/** What docs/semantics.md promises of cached content: an S3 mount, its bucket, and the disk of its cache. */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, openSync, readdirSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import Database from 'better-sqlite3';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { Mirage, type MountOptions } from './mount.js';
import { must, python, run, until } from './process.js';
import { Bucket, s3Mount } from './s3-mount.js';

const DEADLINE = 120_000;
const MIB = 2 ** 20;
let server: Radosgw;
let bucket: Bucket;
let mirage: Mirage | undefined;

beforeAll(async () => {
  server = await startRadosgw();
}, DEADLINE);
afterAll(() => server?.stop(), DEADLINE);
beforeEach(async () => {
  bucket = new Bucket(server, await server.createBucket());
}, DEADLINE);
afterEach(async () => {
  await mirage?.dispose();
  mirage = undefined;
}, DEADLINE);

async function mounted(
  options: Partial<MountOptions> = {},
  keys: Record<string, unknown> = {},
): Promise<Mirage> {
  mirage = await Mirage.start({
    mounts: { '/s3': s3Mount(server, bucket.name, { ttl: '1h', ...keys }) },
    ...options,
  });
  return mirage;
}

interface Status {
  readonly daemons: readonly { readonly mounts: readonly { readonly counters?: Record<string, number> }[] }[];
}

/** What the mount has asked of the store since it was mounted. */
async function counters(mount: Mirage): Promise<Record<string, number>> {
  const { stdout } = await mount.mirage('status', '--json');
  return (JSON.parse(stdout) as Status).daemons[0]?.mounts[0]?.counters ?? {};
}

/** SHA-256 of a file, by a program that reads it from its start to its end. */
const sumOf = async (path: string): Promise<string> =>
  (await must('sha256sum', [path], { deadline: DEADLINE })).slice(0, 64);

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

const xattr = (code: string, path: string): Promise<string> =>
  must(python, ['-c', `import os, sys\n${code}`, path], { deadline: DEADLINE });

/** Files with content in the cache directory. */
const cacheFiles = (mount: Mirage): string[] =>
  readdirSync(join(mount.folder, 'cache'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /files\/[0-9a-f]{2}$/.test(entry.parentPath))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0);

test(
  'a small file that was listed costs one request, and the next ones of its directory none that wait',
  async () => {
    const names = Array.from({ length: 40 }, (_, index) => `f${String(index).padStart(2, '0')}`);
    await Promise.all(names.map((name) => bucket.put(`d/${name}`, `content of ${name}`)));
    const mount = await mounted();
    await must('ls', ['-l', mount.path('s3', 'd')]);
    const before = await counters(mount);
    const text = await must(
      'cat',
      names.map((name) => mount.path('s3', 'd', name)),
    );
    expect(text).toBe(names.map((name) => `content of ${name}`).join(''));
    const after = await counters(mount);
    const more = (name: string): number => (after[name] ?? 0) - (before[name] ?? 0);
    expect(more('read')).toBe(names.length);
    // The kernel may ask for single names again while the first ones come.
    expect(more('stat')).toBeLessThanOrEqual(8);
  },
  DEADLINE,
);

test(
  'looking for a small file and reading it is one request over a connection that is there',
  async () => {
    await bucket.put('d/e/f', 'content');
    const mount = await mounted();
    await must('ls', ['-lR', mount.path('s3')]);
    // The kernel may keep for a second what a listing does not tell for certain.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    const before = await counters(mount);
    expect(await must('cat', [mount.path('s3', 'd', 'e', 'f')])).toBe('content');
    const after = await counters(mount);
    const more = (name: string): number => (after[name] ?? 0) - (before[name] ?? 0);
    expect({ read: more('read'), stat: more('stat'), list: more('list') }).toEqual({
      read: 1,
      stat: 0,
      list: 0,
    });
  },
  DEADLINE,
);

test(
  'the second reading of a folder asks the daemon for nothing that is in the files',
  async () => {
    const names = Array.from({ length: 40 }, (_, index) => `f${index}`);
    await Promise.all(names.map((name) => bucket.put(`d/${name}`, `content of ${name}`)));
    const mount = await mounted();
    const paths = names.map((name) => mount.path('s3', 'd', name));
    const content = names.map((name) => `content of ${name}`).join('');
    expect(await must('cat', paths)).toBe(content);
    // What the daemon would read shows: it has no checksum for what it has read once already.
    for (const path of cacheFiles(mount)) {
      const fd = openSync(path, 'r+');
      writeSync(fd, Buffer.alloc(statSync(path).size, '!'), 0, undefined, 0);
      closeSync(fd);
    }
    expect(await must('cat', paths)).toBe(content);
  },
  DEADLINE,
);

test(
  'what is cached is there after a restart, without a request',
  async () => {
    const large = randomBytes(20 * MIB);
    await bucket.put('large', large);
    await bucket.put('small', 'small');
    const mount = await mounted();
    await must('ls', ['-l', mount.path('s3')]);
    expect(await sumOf(mount.path('s3', 'large'))).toBe(sha256(large));
    expect(await must('cat', [mount.path('s3', 'small')])).toBe('small');
    expect(await mount.stop()).toBe(0);
    await mount.restart();
    expect(await sumOf(mount.path('s3', 'large'))).toBe(sha256(large));
    expect(await must('cat', [mount.path('s3', 'small')])).toBe('small');
    expect((await counters(mount)).read ?? 0).toBe(0);
  },
  DEADLINE,
);

test(
  'a cached block that rots on the disk is fetched again',
  async () => {
    const content = randomBytes(4 * MIB);
    await bucket.put('f', content);
    const mount = await mounted();
    expect(await sumOf(mount.path('s3', 'f'))).toBe(sha256(content));
    expect(await mount.stop()).toBe(0);
    const [file] = cacheFiles(mount);
    const fd = openSync(file as string, 'r+');
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, 2 * MIB);
    byte[0]! ^= 1;
    writeSync(fd, byte, 0, 1, 2 * MIB);
    closeSync(fd);
    // A bad disk would not have touched the time of change.
    const { ctimeNs } = statSync(file as string, { bigint: true });
    const index = new Database(join(mount.folder, 'cache', 'content', 'index.db'));
    index
      .prepare('UPDATE file SET changed_seconds = ?, changed_nanoseconds = ? WHERE size > 0')
      .run(Number(ctimeNs / 1_000_000_000n), Number(ctimeNs % 1_000_000_000n));
    index.close();
    await mount.restart();
    expect(await sumOf(mount.path('s3', 'f'))).toBe(sha256(content));
    expect((await counters(mount)).bytesRead).toBeLessThan(100_000);
    expect(mount.log()).toContain('damaged');
  },
  DEADLINE,
);

test(
  'an object larger than the cache is read within the size of the cache',
  async () => {
    const content = randomBytes(60 * MIB);
    await bucket.put('f', content);
    const mount = await mounted({
      configuration: { cache: { size: 16 * MIB } },
    });
    const cache = (): number => cacheFiles(mount).reduce((sum, path) => sum + statSync(path).blocks * 512, 0);
    let largest = 0;
    const watching = setInterval(() => {
      largest = Math.max(largest, cache());
    }, 20);
    try {
      expect(await sumOf(mount.path('s3', 'f'))).toBe(sha256(content));
    } finally {
      clearInterval(watching);
    }
    expect(Math.max(largest, cache())).toBeLessThanOrEqual(17 * MIB);
  },
  DEADLINE,
);

test(
  'a reader that jumps about fetches no more than eight times what it reads',
  async () => {
    await bucket.put('f', randomBytes(64 * MIB));
    const mount = await mounted();
    await must('ls', ['-l', mount.path('s3')]);
    const reads = 300;
    await xattr(
      `
import random
random.seed(1)
fd = os.open(sys.argv[1], os.O_RDONLY)
for _ in range(${reads}):
    assert len(os.pread(fd, 4096, random.randrange(64 * 256) * 4096)) == 4096
`,
      mount.path('s3', 'f'),
    );
    const { bytesRead, readErrors = 0 } = await counters(mount);
    expect(bytesRead).toBeLessThan(8 * reads * 4096);
    // What is given up after it was asked for is sent all the same.
    expect(readErrors).toBeLessThan(reads / 10);
  },
  DEADLINE,
);

test(
  'a reader sees one version of an object or ESTALE, never two',
  async () => {
    const [old, young] = ['o', 'y'].map((letter) => Buffer.alloc(40 * MIB, letter)) as [Buffer, Buffer];
    await bucket.put('f', old);
    const mount = await mounted();
    const reader = xattr(
      `
import errno, time
fd = os.open(sys.argv[1], os.O_RDONLY)
seen = {os.pread(fd, 4096, 0)[:1]}
open('${mount.folder}/begun', 'w').close()
while not os.path.exists('${mount.folder}/replaced'): time.sleep(0.01)
try:
    for offset in range(0, ${40 * MIB}, 1 << 20):
        seen.update(bytes([b]) for b in set(os.pread(fd, 1 << 20, offset)))
except OSError as error:
    assert error.errno == errno.ESTALE, error
    seen.add(b'ESTALE')
print(sorted(seen))
`,
      mount.path('s3', 'f'),
    );
    await until(() => readdirSync(mount.folder).includes('begun'), 'the reader has begun');
    await bucket.put('f', young);
    closeSync(openSync(join(mount.folder, 'replaced'), 'w'));
    expect(["[b'ESTALE', b'o']\n", "[b'o']\n"]).toContain(await reader);
  },
  DEADLINE,
);

test(
  'mirage cache warms a tree, says what is cached and drops it',
  async () => {
    const large = randomBytes(10 * MIB);
    await bucket.put('d/large', large);
    await Promise.all([1, 2, 3].map((number) => bucket.put(`d/e/small-${number}`, `small ${number}`)));
    const mount = await mounted();
    const tree = mount.path('s3', 'd');
    const stat = async (): Promise<Record<string, unknown>> =>
      JSON.parse((await mount.mirage('cache', 'stat', '--json', tree)).stdout);
    const bytes = large.length + 3 * 7;
    expect(await stat()).toMatchObject({ files: 4, bytes, cachedFiles: 0, cachedBytes: 0 });
    expect(await mount.mirage('cache', 'warm', tree)).toMatchObject({
      code: 0,
      stdout: '4 files, 10.0 MiB fetched\n',
    });
    expect(await stat()).toMatchObject({ files: 4, cachedFiles: 4, cachedBytes: bytes });
    const { read } = await counters(mount);
    expect(await sumOf(join(tree, 'large'))).toBe(sha256(large));
    expect((await counters(mount)).read).toBe(read);
    expect(await mount.mirage('cache', 'drop', tree)).toMatchObject({
      code: 0,
      stdout: '4 files, 10.0 MiB dropped\n',
    });
    expect(await stat()).toMatchObject({ cachedFiles: 0, cachedBytes: 0 });
    expect(await sumOf(join(tree, 'large'))).toBe(sha256(large));
    expect((await mount.mirage('cache', 'stat', join(tree, 'none'))).code).toBe(3);
  },
  DEADLINE,
);

test(
  'user.mirage attributes tell of a file and steer its cache',
  async () => {
    await bucket.put('f', 'old');
    const mount = await mounted({}, { mode: 'read' });
    const file = mount.path('s3', 'f');
    const told = await xattr(
      `
path = sys.argv[1]
get = lambda name: os.getxattr(path, 'user.mirage.' + name).decode()
print(get('etag'), get('backend'), get('url'), get('cached'), get('pin'))
os.setxattr(path, 'user.mirage.pin', b'1')
print(get('cached'), get('pin'), os.listxattr(path))
`,
      file,
    );
    const etag = (await bucket.etag('f'))?.replaceAll('"', '');
    const [first, second] = told.trim().split('\n');
    expect(first).toMatch(new RegExp(`^${etag} /s3 \\S+/${bucket.name}/f 0 0$`));
    expect(second).toBe('3 1 []');
    await bucket.put('f', 'newer');
    expect(await must('cat', [file])).toBe('old');
    expect(await must('stat', ['--cached=never', '-c', '%s', file])).toBe('3\n');
    await xattr(`os.setxattr(sys.argv[1], 'user.mirage.refresh', b'1')`, file);
    expect(await must('stat', ['--cached=never', '-c', '%s', file])).toBe('5\n');
    expect(await must('cat', [file])).toBe('newer');
    const refused = await run(python, [
      '-c',
      `import os\nos.setxattr(${JSON.stringify(file)}, 'user.mirage.etag', b'x')`,
    ]);
    expect(refused.stderr).toMatch(/Operation not permitted/);
  },
  DEADLINE,
);
