/** What docs/semantics.md promises of S3 mounts: against the bucket itself, as other hosts see it. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { isRoot, Mirage } from './mount.js';
import { must, python, run, shell, until } from './process.js';
import { Bucket, s3Mount } from './s3-mount.js';

const DEADLINE = 120_000;
let server: Radosgw;
let bucket: Bucket;
let mirage: Mirage;
/** Each test works below a prefix of its own. */
let folder: string;
let made = 0;

beforeAll(async () => {
  server = await startRadosgw();
  bucket = new Bucket(server, await server.createBucket());
  mirage = await Mirage.start({
    mounts: {
      '/s3': s3Mount(server, bucket.name),
      '/fresh': s3Mount(server, bucket.name, { ttl: '1s' }),
      '/open': s3Mount(server, bucket.name, { freshness: 'open' }),
    },
  });
}, DEADLINE);
afterAll(async () => {
  await mirage?.dispose();
  await server?.stop();
}, DEADLINE);
beforeEach(async () => {
  folder = `test-${++made}`;
  await must('mkdir', [mirage.path('s3', folder)]);
});

const inside = (script: string): Promise<string> =>
  shell(script, mirage.path('s3', folder), { deadline: DEADLINE });
const py = (code: string): Promise<string> =>
  must(python, ['-c', `import os, errno\n${code}`], { cwd: mirage.path('s3', folder), deadline: DEADLINE });

/** Waits until the mount with the short time to live shows an object that another host has made. */
const shows = (path: string): Promise<void> =>
  until(async () => (await run('stat', [mirage.path('fresh', path)])).code === 0, `${path} appears`, 10_000);

describe('an S3 mount and its bucket', () => {
  test('close and fsync mean that the bytes are on the store', async () => {
    await inside('printf closed > f');
    expect(await bucket.text(`${folder}/f`)).toBe('closed');
    const writer = py(`
fd = os.open('g', os.O_CREAT | os.O_WRONLY)
os.write(fd, b'synced')
os.fsync(fd)
open('done', 'w').close()
os.close(fd)
`);
    await until(async () => (await bucket.keys()).includes(`${folder}/done`), 'the writer has synced');
    expect(await bucket.text(`${folder}/g`)).toBe('synced');
    await writer;
  });

  test('names change on the store when the call returns', async () => {
    await inside('echo 1 > a; mkdir d; echo 2 > d/b; mv a c; mv d e; rm c');
    const keys = (await bucket.keys()).filter((key) => key.startsWith(`${folder}/`));
    expect(keys.filter((key) => !key.endsWith('/'))).toEqual([`${folder}/e/b`]);
    expect(await bucket.text(`${folder}/e/b`)).toBe('2\n');
  });

  test('a file that did not change is not stored again', async () => {
    await inside('echo content > f');
    const before = await bucket.etag(`${folder}/f`);
    await bucket.put(`${folder}/f`, 'changed behind the mount');
    const after = await bucket.etag(`${folder}/f`);
    await py("os.close(os.open('f', os.O_RDWR))");
    expect(await bucket.etag(`${folder}/f`)).toBe(after);
    expect(after).not.toBe(before);
  });

  test('an object written elsewhere shows within the time to live', async () => {
    const see = async (): Promise<string> => (await run('cat', [mirage.path('fresh', folder, 'f')])).stdout;
    expect(await see()).toBe('');
    for (const content of ['one', 'another one']) {
      await bucket.put(`${folder}/f`, content);
      await until(async () => (await see()) === content, 'the mount shows it', 10_000);
    }
    await bucket.remove(`${folder}/f`);
    await until(async () => (await see()) === '', 'it is gone', 10_000);
  });

  test('with freshness open every open sees the newest object', async () => {
    const place = mirage.path('open', `${folder}-open`);
    await shell(`mkdir ${place}; echo first > ${place}/f`, '/');
    for (const content of ['second', 'a third one', '4']) {
      await bucket.put(`${folder}-open/f`, content);
      expect(await shell('cat f', place)).toBe(content);
    }
  });

  test('a writing open begins with the newest object', async () => {
    await inside('printf old > f; cat f');
    await bucket.put(`${folder}/f`, 'written by another host, ');
    await inside('printf appended >> f');
    expect(await bucket.text(`${folder}/f`)).toBe('written by another host, appended');
  });

  test('a lost race ends in ESTALE and keeps the bytes', async () => {
    await inside('printf base > f');
    const writer = py(`
fd = os.open('f', os.O_RDWR)
os.pwrite(fd, b'LOST BYTES', 0)
open('opened', 'w').close()
import time
deadline = time.monotonic() + 60
while not os.path.exists('go'):
    assert time.monotonic() < deadline
    time.sleep(0.05)
try:
    os.fsync(fd)
    print('none')
except OSError as e:
    print(errno.errorcode[e.errno])
try:
    os.close(fd)
except OSError as e:
    pass
`);
    await until(async () => (await bucket.keys()).includes(`${folder}/opened`), 'the writer has opened');
    await bucket.put(`${folder}/f`, 'the other host won');
    await inside('touch go');
    expect((await writer).trim()).toBe('ESTALE');
    expect(await bucket.text(`${folder}/f`)).toBe('the other host won');
    const kept = await shell('grep -rl "LOST BYTES" .mirage/conflicts/', mirage.mountpoint);
    expect(kept.trim().split('\n')).toHaveLength(1);
  });

  test('objects of other programs are files of the mount', async () => {
    const content = randomBytes(100_000);
    await bucket.put(`${folder}/deep/er/object`, content);
    await shows(`${folder}/deep`);
    const listed = await shell(`find ${folder} -printf '%y %m %s %P\\n' | sort`, mirage.path('fresh'));
    expect(listed).toMatch(/^d 7\d\d \d+ deep$/m);
    expect(listed).toMatch(/^f 6\d\d 100000 deep\/er\/object$/m);
    const hash = await shell(`sha256sum < ${folder}/deep/er/object`, mirage.path('fresh'));
    expect(hash.slice(0, 64)).toBe(createHash('sha256').update(content).digest('hex'));
  });

  test(
    'every key appears, whatever it is called',
    async () => {
      const long = 'x'.repeat(300);
      const keys = [
        'a//b',
        '../x',
        './y',
        'd/./e',
        'd/../f',
        long,
        'ü',
        'nl\n',
        'x',
        'x/y',
        'p%41',
        ' ',
        '%mirage-key-2e',
      ];
      const other = new Bucket(server, await server.createBucket());
      for (const key of keys) await other.put(key, `content of ${key}`);
      await other.put('marker/', '');
      const odd = await Mirage.start({ mounts: { '/s3': s3Mount(server, other.name, { mode: 'read' }) } });
      try {
        const contents = await must(
          python,
          [
            '-c',
            `import os, sys, json
found = []
for place, folders, files in os.walk(os.fsencode(sys.argv[1])):
    for name in files:
        assert len(name) <= 255
        with open(os.path.join(place, name), 'rb') as file: found.append(file.read().decode())
print(json.dumps(found))`,
            odd.path('s3'),
          ],
          { deadline: DEADLINE },
        );
        expect((JSON.parse(contents) as string[]).sort()).toEqual(
          keys.map((key) => `content of ${key}`).sort(),
        );
        expect(await shell('cat x/y; ls -A marker; find . | wc -l', odd.path('s3'))).toMatch(
          /^content of x\/y\d+\n$/,
        );
      } finally {
        await odd.dispose();
      }
    },
    DEADLINE,
  );

  test(
    'a large object reads back as it is, in bounded memory',
    async () => {
      const megabytes = 300;
      const block = randomBytes(1 << 20);
      const content = Buffer.alloc(megabytes << 20);
      for (let i = 0; i < megabytes; i++) {
        block.writeUInt32LE(i, 0);
        block.copy(content, i << 20);
      }
      await bucket.put(`${folder}/large`, content);
      const hash = createHash('sha256').update(content).digest('hex');
      let peak = 0;
      const watch = setInterval(() => {
        peak = Math.max(peak, memoryOf(mirage.pid));
      }, 50);
      try {
        const place = mirage.path('fresh', folder);
        const read = await shell('sha256sum < large', place, { deadline: DEADLINE });
        expect(read.slice(0, 64)).toBe(hash);
      } finally {
        clearInterval(watch);
      }
      expect(peak).toBeGreaterThan(0);
      expect(peak).toBeLessThan(300);
      const at = 123_456_789;
      const large = mirage.path('fresh', folder, 'large');
      const piece = await py(`print(os.pread(os.open('${large}', os.O_RDONLY), 50, ${at}).hex())`);
      expect(piece.trim()).toBe(content.subarray(at, at + 50).toString('hex'));
    },
    DEADLINE,
  );

  test(
    'a large file written is stored whole',
    async () => {
      await inside('head -c 40000000 /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 > large 2>/dev/null');
      const here = (await inside('sha256sum < large')).slice(0, 64);
      const stored = createHash('sha256')
        .update(await bucket.get(`${folder}/large`))
        .digest('hex');
      expect(stored).toBe(here);
    },
    DEADLINE,
  );
});

describe('an S3 mount that starts again', () => {
  /** Name by name: a listing alone does not ask the store for attributes. */
  const describeFolder = (place: string, inodes: string): Promise<string> =>
    shell(
      `stat a b hard soft pipe d d/empty d/g > /dev/null
       for name in a b hard soft pipe d/g; do stat -c '%n %F %a %u:%g %h %s %.Y ${inodes}' $name; done
       for name in d d/empty; do stat -c '%n %F %a %u:%g %.Y ${inodes}' $name; done
       readlink soft
       getfattr -d -m user. a b
       test b -ef hard`,
      place,
    );
  let own: Mirage;
  beforeAll(async () => {
    const name = await server.createBucket();
    own = await Mirage.start({ mounts: { '/s3': s3Mount(server, name, { mode: 'exec' }) } });
    await shell(
      `echo 1 > a; chown 12:34 a; chmod 4751 a; touch -d '2001-02-03 04:05:06.123456789' a
       setfattr -n user.colour -v blue a
       echo 2 > b; ln b hard; ln -s a soft; mkdir -p d/empty; chmod 750 d; mkfifo pipe; echo 3 > d/f; mv d/f d/g`,
      own.path('s3'),
    );
  }, DEADLINE);
  afterAll(() => own?.dispose(), DEADLINE);

  test(
    'attributes, links and inode numbers survive a restart',
    async () => {
      const before = await describeFolder(own.path('s3'), '%i');
      expect(before).toContain('a regular file 4751 12:34 1 2 981173106.123456789');
      expect(await own.stop()).toBe(0);
      await own.restart();
      expect(await describeFolder(own.path('s3'), '%i')).toBe(before);
    },
    DEADLINE,
  );

  test(
    'attributes and links survive the loss of state and cache',
    async () => {
      const before = await describeFolder(own.path('s3'), '');
      expect(await own.stop()).toBe(0);
      for (const name of ['state', 'cache']) rmSync(join(own.folder, name), { recursive: true });
      await own.restart();
      expect(await describeFolder(own.path('s3'), '')).toBe(before);
    },
    DEADLINE,
  );
});

describe('an S3 mount in trouble', () => {
  // A small disk of its own takes root to make.
  (isRoot ? test : test.skip)(
    'a full cache disk answers ENOSPC and damages nothing',
    async () => {
      const own = new Bucket(server, await server.createBucket());
      const full = await Mirage.start({
        mounts: { '/s3': s3Mount(server, own.name) },
        cacheDisk: '24m',
      });
      try {
        const place = full.path('s3');
        await shell('head -c 3000000 /dev/urandom > kept; sha256sum kept > sum', place);
        const attempt = await run('bash', ['-c', 'head -c 64000000 /dev/zero > large'], { cwd: place });
        expect(attempt.code).not.toBe(0);
        expect(attempt.stderr).toContain('No space left on device');
        expect(await shell('sha256sum -c sum', place)).toBe('kept: OK\n');
        await shell('rm -f large; echo again > small; cat small', place);
        expect(await own.text('small')).toBe('again\n');
      } finally {
        await full.dispose();
      }
    },
    DEADLINE,
  );

  test(
    'an unreachable store fails in its subtree alone',
    async () => {
      const half = await Mirage.start({
        mounts: {
          '/ram': { type: 'ram', mode: 'write' },
          '/s3': s3Mount(server, 'any', { endpoint: 'http://127.0.0.1:9' }),
        },
      });
      try {
        expect(await shell('echo works > ram/f; cat ram/f; ls', half.mountpoint)).toBe('works\nram\ns3\n');
        const attempt = await run('ls', [half.path('s3')], { deadline: DEADLINE });
        expect(attempt.stderr).toMatch(/Host is down|timed out/);
        expect(await shell('cat ram/f', half.mountpoint)).toBe('works\n');
      } finally {
        await half.dispose();
      }
    },
    DEADLINE,
  );
});

/** Resident memory of a process, MiB. */
function memoryOf(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024;
}
