/** Two hosts and one bucket: programs of both read, change and write one file, each through one open. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';
import { Mirage } from './mount.js';
import { must, python, run, shell, until } from './process.js';
import { Bucket, s3Mount } from './s3-mount.js';

const long = process.env.MIRAGE_TEST_LONG !== undefined;
const ROUNDS = long ? 200 : 20;
const WRITERS = 8;
const DEADLINE = long ? 1_800_000 : 240_000;

let server: Radosgw;
let bucket: Bucket;
const hosts: Mirage[] = [];

beforeAll(async () => {
  server = await startRadosgw();
}, DEADLINE);
afterEach(async () => {
  for (const host of hosts.splice(0)) await host.dispose();
}, DEADLINE);
afterAll(() => server?.stop(), DEADLINE);

/** Hosts of their own, with state and cache of their own, on an empty bucket. */
async function start(count: number, keys: Record<string, unknown>): Promise<void> {
  bucket = new Bucket(server, await server.createBucket());
  for (let host = 0; host < count; host++) {
    hosts.push(await Mirage.start({ mounts: { '/s3': s3Mount(server, bucket.name, keys) } }));
  }
}

/**
 * Adds one to the number in the first line of a file, and a line of its own; programs of one host keep each other out by flock. Says what
 * became of each update, and at which call it failed.
 */
const WRITER = `
import errno, fcntl, os, sys
path, writer, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(rounds):
    mine = '%s-%d' % (writer, number)
    fd, step = -1, 'open'
    try:
        fd = os.open(path, os.O_RDWR)
        step = 'flock'
        fcntl.flock(fd, fcntl.LOCK_EX)
        step = 'read'
        content = b''
        while chunk := os.pread(fd, 1 << 20, len(content)):
            content += chunk
        count, _, lines = content.decode().partition('\\n')
        step = 'write'
        os.pwrite(fd, ('%d\\n%s%s\\n' % (int(count) + 1, lines, mine)).encode(), 0)
        closing, fd, step = fd, -1, 'close'
        os.close(closing)
        print('stored', 'whole', mine, flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], step, mine, flush=True)
    finally:
        if fd >= 0:
            try: os.close(fd)
            except OSError: pass
`;

interface Update {
  readonly result: string;
  readonly step: string;
  readonly line: string;
}

async function update(file: string): Promise<Update[]> {
  await bucket.put(file, '0\n');
  const outputs = await Promise.all(
    Array.from({ length: WRITERS }, (_, writer) => {
      const path = (hosts[writer % hosts.length] as Mirage).path('s3', file);
      return must(python, ['-c', WRITER, path, `writer${writer}`, String(ROUNDS)], { deadline: DEADLINE });
    }),
  );
  return outputs.flatMap((output) =>
    output
      .trim()
      .split('\n')
      .map((text) => {
        const [result = '', step = '', line = ''] = text.split(' ');
        return { result, step, line };
      }),
  );
}

/** Everything that was kept of lost races, at either host. */
function conflicts(): { records: number; bytes: string } {
  const files = hosts.flatMap((host) => {
    const folder = join(host.folder, 'state', 'conflicts');
    return readdirSync(folder).map((name) => join(folder, name));
  });
  const bytes = files.filter((name) => name.endsWith('.bytes')).map((name) => readFileSync(name, 'utf8'));
  return { records: files.filter((name) => name.endsWith('.json')).length, bytes: bytes.join('') };
}

/** What the bucket has in the end: the number, and the line of each update. */
async function stored(file: string): Promise<{ count: number; lines: string[] }> {
  const [count = '', ...lines] = (await bucket.text(file)).trim().split('\n');
  return { count: Number(count), lines };
}

const tell = (what: string, updates: readonly Update[], records: number): void => {
  const good = updates.filter(({ result }) => result === 'stored').length;
  const text = `${what}: ${updates.length} updates, ${good} stored, ${updates.length - good} refused, ${records} conflict records\n`;
  if (long) process.stdout.write(text);
};

describe('two hosts that change one file', () => {
  test(
    'two hosts that change one file lose no update that was stored',
    async () => {
      await start(2, {});
      await loseNothing();
    },
    DEADLINE,
  );

  test(
    'with writeBack async what lost its race later is kept as a conflict',
    async () => {
      await start(2, { writeBack: 'async' });
      await loseNothingBehind();
    },
    DEADLINE,
  );

  async function loseNothing(): Promise<void> {
    const updates = await update('counter');
    const { count, lines } = await stored('counter');
    const kept = conflicts();
    tell('without locking', updates, kept.records);
    expect(updates).toHaveLength(WRITERS * ROUNDS);
    expect(count).toBe(lines.length);
    const acknowledged = updates.filter(({ result }) => result === 'stored').map(({ line }) => line);
    expect(acknowledged.filter((line) => !lines.includes(line))).toEqual([]);
    expect(acknowledged.length).toBeGreaterThan(0);
    // Whoever wrote and was refused has a record of it.
    const refused = updates.filter(({ result, step }) => result !== 'stored' && step === 'close');
    expect(new Set(refused.map(({ result }) => result)).size).toBeLessThan(2);
    for (const { result, line } of refused) {
      expect(result).toBe('ESTALE');
      expect(lines.includes(line) || kept.bytes.includes(`${line}\n`)).toBe(true);
    }
  }

  /** What is answered before the store has it may lose its race later: then its bytes are kept. */
  async function loseNothingBehind(): Promise<void> {
    const updates = await update('counter');
    for (const host of hosts) await host.mirage('drain', host.mountpoint);
    const { lines } = await stored('counter');
    const kept = conflicts();
    tell('without locking, async', updates, kept.records);
    const acknowledged = updates.filter(({ result }) => result === 'stored').map(({ line }) => line);
    const missing = acknowledged.filter((line) => !lines.includes(line) && !kept.bytes.includes(`${line}\n`));
    expect(missing).toEqual([]);
  }

  test(
    'with locking lease two hosts that change one file meet no conflict',
    () => meetNoConflict('close'),
    DEADLINE,
  );

  test(
    'with locking lease and writeBack async they meet none either',
    () => meetNoConflict('async'),
    DEADLINE,
  );

  async function meetNoConflict(writeBack: string): Promise<void> {
    await start(2, { writeBack, locking: 'lease', leaseTerm: '15s', leaseWait: '600s' });
    const updates = await update('counter');
    for (const host of hosts) expect((await host.mirage('drain', host.mountpoint)).code).toBe(0);
    const { count, lines } = await stored('counter');
    tell(`with leases, ${writeBack}`, updates, conflicts().records);
    expect(updates.filter(({ result }) => result !== 'stored')).toEqual([]);
    expect(count).toBe(WRITERS * ROUNDS);
    expect(new Set(lines).size).toBe(WRITERS * ROUNDS);
    expect(conflicts().records).toBe(0);
  }
});

describe('a file that another host has changed', () => {
  test.each([{}, { locking: 'lease' }])(
    'is read to its end by who opens it for writing (%j)',
    async (keys) => {
      await start(2, keys);
      const [here, there] = hosts as [Mirage, Mirage];
      // One program asks each time right after the other host has written: within any time to live.
      const talk = `
import os, sys
here, there = sys.argv[1:]
for path in here, there:
    with open(path, 'w') as f: f.write('first')
for length in (9, 10, 500, 4095, 4097, 3, 10000, 1):
    content = (b'%d' % (length % 10)) * length
    fd = os.open(there, os.O_RDWR | os.O_TRUNC)
    os.write(fd, content)
    os.close(fd)
    fd = os.open(here, os.O_RDWR)
    found = b''
    while chunk := os.pread(fd, 100000, len(found)): found += chunk
    size, end = os.fstat(fd).st_size, os.lseek(fd, 0, os.SEEK_END)
    os.close(fd)
    print(length, found == content, size == length, end == length)
`;
      const said = await must(python, ['-c', talk, here.path('s3', 'f'), there.path('s3', 'f')], {
        deadline: DEADLINE,
      });
      const lines = said.trim().split('\n');
      expect(lines).toHaveLength(8);
      expect(lines.filter((line) => !line.endsWith(' True True True'))).toEqual([]);
    },
    DEADLINE,
  );
});

/** Opens a file for writing and holds it until its input ends; says when it has it. */
const HOLD = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
open(sys.argv[2], 'w').close()
while not os.path.exists(sys.argv[3]): __import__('time').sleep(0.02)
os.write(fd, b'held')
os.close(fd)
`;

/** A program that has the file open for writing until `end` is called. */
async function holding(host: Mirage, file: string): Promise<{ end(): Promise<string> }> {
  const begun = join(host.folder, `begun-${file}`);
  const end = join(host.folder, `end-${file}`);
  const program = must(python, ['-c', HOLD, host.path('s3', file), begun, end], { deadline: DEADLINE });
  program.catch(() => undefined);
  await until(async () => (await run('test', ['-e', begun])).code === 0, 'the holder has it', 60_000);
  return {
    async end() {
      await shell(`touch ${end}`, host.folder);
      return program;
    },
  };
}

const leaseStatus = async (host: Mirage): Promise<unknown> => {
  const { stdout } = await host.mirage('status', '--json');
  return JSON.parse(stdout).daemons[0].mounts[0].leases;
};

describe('with locking lease', () => {
  test(
    'with locking lease one host at a time has a file open for writing',
    async () => {
      await start(2, { locking: 'lease', leaseTerm: '20s' });
      const [here, there] = hosts as [Mirage, Mirage];
      const holder = await holding(here, 'f');
      expect(await leaseStatus(here)).toMatchObject([{ name: 'f', epoch: 1, holders: 1, waiting: 0 }]);
      // Another program of this host, and readers anywhere, go on.
      await shell('exec 3<>f; exec 3>&-', here.path('s3'));
      const attempt = await run(
        python,
        [
          '-c',
          `import os; os.open(${JSON.stringify(there.path('s3', 'f'))}, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK)`,
        ],
        { deadline: DEADLINE },
      );
      expect(attempt.stderr).toContain('Resource temporarily unavailable');
      let done = false;
      const waiting = shell('printf " and then" >> f', there.path('s3'), { deadline: DEADLINE }).then(() => {
        done = true;
      });
      await until(
        async () => JSON.stringify(await leaseStatus(there)).includes('"waiting":1'),
        'the other host waits',
      );
      expect(done).toBe(false);
      await holder.end();
      await waiting;
      expect(await bucket.text('f')).toBe('held and then');
      // Truncating by path is writing.
      await until(async () => JSON.stringify(await leaseStatus(there)) === '[]', 'the other host is done');
      await must(python, ['-c', 'import os; os.truncate("f", 4)'], { cwd: here.path('s3') });
      expect(await bucket.text('f')).toBe('held');
      for (const host of hosts)
        await until(async () => JSON.stringify(await leaseStatus(host)) === '[]', 'it is given back');
    },
    DEADLINE,
  );

  test(
    'a host that died keeps others waiting for its term and itself not at all',
    async () => {
      await start(2, { locking: 'lease', leaseTerm: '5s' });
      const [here, there] = hosts as [Mirage, Mirage];
      await holding(here, 'f');
      await holding(here, 'g');
      await here.crash();
      here.kill();
      await here.restart();
      // Its own lease, at once: another host would wait for it.
      const nonblocking = `import os; os.open(${JSON.stringify(here.path('s3', 'f'))}, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK)`;
      await must(python, ['-c', nonblocking], { deadline: DEADLINE });
      await shell('printf taken > g', there.path('s3'), { deadline: DEADLINE });
      expect(await bucket.text('g')).toBe('taken');
    },
    DEADLINE,
  );

  test(
    'the folder .mirage of a bucket is not seen',
    async () => {
      await start(1, { locking: 'lease' });
      const [host] = hosts as [Mirage];
      await shell('mkdir d; echo 1 > d/f', host.path('s3'));
      expect((await bucket.keys()).filter((key) => key.startsWith('.mirage/locks/'))).toHaveLength(1);
      expect(await shell('ls -A; find . -type f', host.path('s3'))).toBe('d\n./d/f\n');
      expect((await run('ls', [host.path('s3', '.mirage')])).stderr).toContain('No such file');
      expect((await run('mkdir', [host.path('s3', '.mirage')])).stderr).toContain('not permitted');
    },
    DEADLINE,
  );
});
