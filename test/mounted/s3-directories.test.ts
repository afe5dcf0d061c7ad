/** What docs/semantics.md promises of the names and attributes of S3 mounts, with a walk by real programs. */
import { PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { Mirage } from './mount.js';
import { must, python, run, shell, until } from './process.js';
import { Bucket, s3Mount } from './s3-mount.js';

const DEADLINE = 120_000;
/** What another host, or s3fs, keeps with an object. */
const POSIX = { mode: String(0o100755), uid: '0', gid: '0' };
let server: Radosgw;
let bucket: Bucket;
let mirage: Mirage;

beforeAll(async () => {
  server = await startRadosgw();
  bucket = new Bucket(server, await server.createBucket());
  for (let index = 0; index < 40; index++) await bucket.put(`walk/f${index}`, 'text');
  for (let index = 0; index < 20; index++) await put(`tools/run${index}`, POSIX);
  for (const folder of ['logs', 'data']) await bucket.put(`${folder}/first`, 'text');
  mirage = await Mirage.start({
    mounts: {
      '/s3': s3Mount(server, bucket.name, { ttl: '1h', ttls: { 'logs/': '1s' } }),
      '/other': s3Mount(server, bucket.name, { ttl: '1h', ttls: { 'shared/': '1s' } }),
    },
  });
}, DEADLINE);
afterAll(async () => {
  await mirage?.dispose();
  await server?.stop();
}, DEADLINE);

const put = (key: string, metadata: Record<string, string>): Promise<unknown> =>
  server.client.send(
    new PutObjectCommand({ Bucket: bucket.name, Key: key, Body: 'text', Metadata: metadata }),
  );
/** What the kernel has asked of the daemon. */
const kernelRequests = async (): Promise<number> => {
  const { stdout } = await mirage.mirage('status', '--json');
  return Number(/"replies":\s*(\d+)/.exec(stdout)?.[1]);
};
const requests = async (): Promise<{ list: number; stat: number }> => {
  const { stdout } = await mirage.mirage('status', '--json');
  const counted = (name: string): number => Number(new RegExp(`"${name}":\\s*(\\d+)`).exec(stdout)?.[1] ?? 0);
  return { list: counted('list'), stat: counted('stat') };
};

describe('names and attributes of an S3 mount', () => {
  test(
    'a walk asks for whole directories, never name by name',
    async () => {
      const before = await requests();
      await must('ls', ['-l', mirage.path('s3', 'walk')]);
      await shell(`find walk -printf '%m %s %p\\n'`, mirage.path('s3'));
      const after = await requests();
      expect(after.stat - before.stat).toBeLessThan(3);
      expect(after.list - before.list).toBeLessThan(4);
    },
    DEADLINE,
  );

  test(
    'what a listing does not tell is shown by the first look at a single file',
    async () => {
      const folder = mirage.path('s3', 'tools');
      expect(await shell(`ls | wc -l`, folder)).toBe('20\n');
      const mode = async (name: string): Promise<string> =>
        (await must('stat', ['-c', '%a', `${folder}/${name}`])).trim();
      // The mount is not exec: the x bit of another tool stays where it is, the rest shows.
      await put('tools/secret', { ...POSIX, mode: String(0o100600) });
      await must('setfattr', ['-n', 'user.mirage.refresh', '-v', '1', folder]);
      await until(async () => (await mode('secret')) === '600', 'the mode shows');
      expect(await mode('run7')).toBe('644');
    },
    DEADLINE,
  );

  test(
    'a folder may have a time to live of its own',
    async () => {
      const names = async (folder: string): Promise<string> =>
        (await must('ls', [mirage.path('s3', folder)])).trim();
      expect([await names('logs'), await names('data')]).toEqual(['first', 'first']);
      for (const folder of ['logs', 'data']) await bucket.put(`${folder}/second`, 'text');
      await until(async () => (await names('logs')) === 'first\nsecond', 'the second object appears');
      expect(await names('data')).toBe('first');
    },
    DEADLINE,
  );

  test(
    'a listing is read again without a request until it changes',
    async () => {
      const folder = mirage.path('s3', 'kept');
      await must('mkdir', [folder]);
      // So long that the kernel would ask four times for them.
      await shell("seq -f '%0120g' 300 | xargs -P 16 -n 10 touch", folder);
      const walks = async (count: number): Promise<number> => {
        const before = await kernelRequests();
        const find = `for walk in $(seq ${count}); do find . -type f -printf '%s\\n' | wc -l; done | uniq -c`;
        expect((await shell(find, folder)).trim().split(' ')).toEqual([String(count), '300']);
        return (await kernelRequests()) - before;
      };
      await walks(2);
      // Each opens the directory and closes it; the names would cost four more at least.
      const [few, many] = [await walks(1), await walks(11)];
      expect((many - few) / 10).toBeLessThan(7);

      // It has the directory open all the time, and reads it from the start again and again.
      const program = `
import os
fd = os.open('.', os.O_RDONLY)
def count(): print(len(os.listdir(fd)))
count()
count()
open('made', 'w').close()
count()
os.unlink('made')
os.unlink(f'{1:0120}')
count()
os.rename(f'{2:0120}', f'{3:0120}')
count()
`;
      const counts = await must(python, ['-c', program], { cwd: folder });
      expect(counts.trim().split('\n').map(Number)).toEqual([300, 300, 301, 299, 298]);
      expect(Number(await shell('ls | wc -l', folder))).toBe(298);
    },
    DEADLINE,
  );

  test(
    'who starts over in an open directory sees what another host has made after the time to live',
    async () => {
      const folder = mirage.path('s3', 'logs');
      const before = Number(await shell('ls | wc -l', folder));
      const program = `
import os, sys, time
fd = os.open('.', os.O_RDONLY)
before = len(os.listdir(fd)); os.listdir(fd)
open(sys.argv[1], 'w').close()
end = time.monotonic() + 60
while len(os.listdir(fd)) == before and time.monotonic() < end: time.sleep(0.05)
print(len(os.listdir(fd)))
`;
      const begun = `${mirage.folder}/begun`;
      const watching = must(python, ['-c', program, begun], { cwd: folder });
      await until(
        async () => (await run('test', ['-e', begun])).code === 0,
        'the program has read the directory',
      );
      await bucket.put('logs/third', 'text');
      expect(Number(await watching)).toBe(before + 1);
    },
    DEADLINE,
  );

  test(
    'two mounts of one bucket see each other as other hosts do',
    async () => {
      await must('mkdir', [mirage.path('s3', 'shared')]);
      await shell('printf one > f', mirage.path('s3', 'shared'));
      expect(await shell('cat f', mirage.path('other', 'shared'))).toBe('one');
      // A file that is open and not stored yet is no business of the other mount, whose listing must not take it away here.
      const writing = shell(
        'exec 3> open; printf two >&3; until [ -e go ]; do sleep 0.05; done; exec 3>&-',
        mirage.path('s3', 'shared'),
      );
      await until(
        async () => (await run('test', ['-e', mirage.path('s3', 'shared', 'open')])).code === 0,
        'the writer has opened',
      );
      await must('ls', [mirage.path('other', 'shared')]);
      expect(await shell('ls', mirage.path('s3', 'shared'))).toBe('f\nopen\n');
      await must('touch', [mirage.path('s3', 'shared', 'go')]);
      await writing;
      await until(
        async () => (await must('ls', [mirage.path('other', 'shared')])).includes('open'),
        'the other mount shows it',
      );
      expect(await shell('cat open', mirage.path('other', 'shared'))).toBe('two');
    },
    DEADLINE,
  );
});
