/** What docs/semantics.md promises of S3 mounts with `writeBack: async`. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type DelayProxy, startDelayProxy } from '../servers/proxy.js';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { Mirage } from './mount.js';
import { must, python, shell, until } from './process.js';
import { Bucket, s3Mount } from './s3-mount.js';

const DEADLINE = 120_000;
let server: Radosgw;
let proxy: DelayProxy;
let bucket: Bucket;
let mirage: Mirage;

beforeAll(async () => {
  server = await startRadosgw();
  proxy = await startDelayProxy(server.port, 5);
  bucket = new Bucket(server, await server.createBucket());
  mirage = await Mirage.start({
    mounts: {
      '/s3': s3Mount(server, bucket.name, {
        mode: 'exec',
        writeBack: 'async',
        endpoint: `http://127.0.0.1:${proxy.port}`,
      }),
    },
  });
}, DEADLINE);
afterAll(async () => {
  await mirage?.dispose();
  await proxy?.stop();
  await server?.stop();
}, DEADLINE);

const inside = (script: string): Promise<string> => shell(script, mirage.path('s3'), { deadline: DEADLINE });
const drained = async (): Promise<void> => {
  const isDrained = async (): Promise<boolean> =>
    (await mirage.mirage('drain', mirage.mountpoint)).code === 0;
  await until(isDrained, 'everything is stored', DEADLINE);
};

describe('an S3 mount with writeBack async', () => {
  test(
    'with writeBack async the journal answers, and the store follows',
    async () => {
      await inside('mkdir here; echo old > here/removed');
      await drained();
      await inside('ls . here');
      await proxy.command('stall');
      try {
        await inside(`
mkdir there
echo content > there/f
mv there/f there/g
ln -s g there/link
rm here/removed
rmdir here
mv there elsewhere
test "$(cat elsewhere/link)" = content
test "$(ls)" = elsewhere
`);
      } finally {
        await proxy.command('resume');
      }
      await drained();
      expect(await bucket.keys()).toEqual(['elsewhere/', 'elsewhere/g', 'elsewhere/link']);
      expect(await bucket.text('elsewhere/g')).toBe('content\n');
    },
    DEADLINE,
  );

  test(
    'mirage drain and user.mirage.commit return when the store has it',
    async () => {
      await inside('mkdir barrier; for i in $(seq 50); do echo $i > barrier/$i; done');
      await must(python, ['-c', "import os; os.setxattr('barrier/50', 'user.mirage.commit', b'')"], {
        cwd: mirage.path('s3'),
      });
      expect(await bucket.text('barrier/50')).toBe('50\n');
      const { code, stdout } = await mirage.mirage('drain', mirage.mountpoint);
      expect({ code, stdout }).toMatchObject({ code: 0 });
      expect((await bucket.keys()).filter((key) => /^barrier\/\d/.test(key))).toHaveLength(50);
    },
    DEADLINE,
  );

  test(
    'git and sqlite keep their data on an async mount',
    async () => {
      await inside(`
mkdir repository
cd repository
git init -q .
git config user.email a@example.org
git config user.name A
mkdir -p a/b
for i in $(seq 60); do echo "line $i" > a/b/$i; done
git add .
git commit -qm first
git mv a c
git commit -qm second
cd ..
git clone -q repository clone
cd clone
git fsck --strict
test "$(git status --porcelain)" = ""
`);
      await must(
        python,
        [
          '-c',
          `import sqlite3
db = sqlite3.connect('rows.db')
db.execute('CREATE TABLE rows (n INTEGER)')
for n in range(100):
    db.execute('INSERT INTO rows VALUES (?)', (n,))
    db.commit()
db.execute('DELETE FROM rows WHERE n % 2 = 0')
db.commit()
db.close()`,
        ],
        { cwd: mirage.path('s3'), deadline: DEADLINE },
      );
      await drained();
      // Another host, with nothing cached.
      const other = await Mirage.start({ mounts: { '/s3': s3Mount(server, bucket.name, { mode: 'exec' }) } });
      try {
        const there = (script: string) => shell(script, other.path('s3'), { deadline: DEADLINE });
        await there('cd clone; git fsck --strict; test "$(git status --porcelain)" = ""');
        const count =
          'import sqlite3; print(sqlite3.connect("rows.db").execute("SELECT count(*), sum(n) FROM rows").fetchone())';
        expect(await must(python, ['-c', count], { cwd: other.path('s3') })).toBe('(50, 2500)\n');
        expect((await bucket.keys()).filter((key) => key.startsWith('rows.db'))).toEqual(['rows.db']);
      } finally {
        await other.dispose();
      }
    },
    DEADLINE,
  );
});
