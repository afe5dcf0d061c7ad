import { spawn } from 'node:child_process';
import { release } from 'node:os';
import { createInterface } from 'node:readline';
import { expect, test } from '@jest/globals';
import { errno } from '../../src/errors/errno.js';
import { everyOperation, python, run, Served, until } from './served.js';
import type { ServerOptions } from './server.js';

const variants: [string, ServerOptions][] = [
  ['answered at once', {}],
  ['answered by promises', { asynchronous: true }],
  ['read from memory', { bytes: true }],
  ['with passthrough where the kernel lends it', { passthrough: true }],
  ['nothing cached by the kernel', { ttl: 0 }],
  ['without a spin', { spinMicroseconds: 0 }],
  ['with settled attributes', { settled: true, ttl: 3600e9 }],
];

test.each(variants)('every operation, %s', async (_name, options) => {
  await using served = await Served.start(options);
  expect(await everyOperation(served.mountpoint)).toEqual({
    code: 0,
    stdout: 'every operation\n',
    stderr: '',
  });
  const counters = await served.ask<Record<string, number>>('counters');
  expect(counters).toMatchObject({ rejected: 0, pending: 0, passthrough: 0 });
  expect(await served.ask('nodes')).toBeLessThanOrEqual(2);
});

const roundTrip = `
import hashlib, os, sys
path, size, block = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = os.urandom(size)
fd = os.open(path, os.O_CREAT | os.O_RDWR)
for at in range(0, size, block):
    assert os.write(fd, data[at:at + block]) == len(data[at:at + block])
os.fsync(fd)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
assert os.pread(fd, size + 1, 0) == data
assert os.pread(fd, 100, size - 50) == data[-50:]
assert os.pread(fd, 100, size + 50) == b''
print(hashlib.sha256(data).hexdigest())
`;
const digest = 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())';

test.each(variants)('large reads and writes, %s', async (_name, options) => {
  await using served = await Served.start(options);
  const written = await python(roundTrip, served.path('large'), String(9 * 1024 * 1024 + 13), '3000000');
  expect(written).toMatchObject({ code: 0, stderr: '' });
  // Bytes that are not in the page cache are read by a thread: out of it with them, and out of the mount's.
  const pid = await served.ask<number>('pid');
  const fd = await served.ask<number>('content', 'large');
  const evict =
    'import os, sys; [os.posix_fadvise(os.open(p, os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED) for p in sys.argv[1:]]';
  expect((await python(evict, `/proc/${pid}/fd/${fd}`, served.path('large'))).code).toBe(0);
  const read = await python(digest, served.path('large'));
  expect(read).toEqual(written);
});

test('a directory of many entries, in several replies, with attributes and without', async () => {
  await using served = await Served.start();
  const program = `
import os, sys
root, count = sys.argv[1], 3000
names = {f'entry-{number:05}-with-a-rather-long-name' for number in range(count)}
for name in names:
    os.close(os.open(os.path.join(root, name), os.O_CREAT | os.O_WRONLY))
assert sorted(os.listdir(root)) == sorted(names)
with os.scandir(root) as entries:
    assert {entry.name: entry.stat().st_size for entry in entries} == {name: 0 for name in names}
fd = os.open(root, os.O_RDONLY)
assert len(os.listdir(fd)) == count and len(os.listdir(fd)) == count
for name in names:
    os.unlink(os.path.join(root, name))
`;
  expect(await python(program, served.mountpoint)).toMatchObject({ code: 0, stderr: '' });
  expect((await served.ask<Record<string, number>>('counters')).rejected).toBe(0);
});

test('where the kernel lends passthrough, it reads and writes by itself', async () => {
  await using served = await Served.start({ passthrough: true });
  const [major, minor] = release().split('.').map(Number) as [number, number];
  const lent = process.getuid?.() === 0 && (major > 6 || (major === 6 && minor >= 9));
  const program = `
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
print('open', flush=True)
sys.stdin.readline()
for at in range(100):
    assert os.pwrite(fd, b'x' * 4096, at * 4096) == 4096
for at in range(100):
    assert os.pread(fd, 4096, at * 4096) == b'x' * 4096
print('done', flush=True)
sys.stdin.readline()
`;
  const child = spawn('python3', ['-c', program, served.path('file')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const said = async () => (await lines.next()).value;
  expect(await said()).toBe('open');
  const before = await served.ask<Record<string, number>>('counters');
  child.stdin.write('go\n');
  expect(await said()).toBe('done');
  const after = await served.ask<Record<string, number>>('counters');
  child.stdin.end('end\n');
  const silent = (after.requests ?? 0) - (before.requests ?? 0) < 20;
  expect([before.passthrough, silent]).toEqual(lent ? [1, true] : [0, false]);
});

test('an interrupted program does not wait for its answer', async () => {
  await using served = await Served.start();
  const child = spawn('stat', [served.path('hang')], { stdio: 'ignore' });
  const ended = new Promise<unknown>((resolve) =>
    child.on('exit', (code, signal) => resolve(signal ?? code)),
  );
  await until('the lookup hangs', async () => (await served.ask<{ hung: number }>('calls')).hung === 1);
  expect(await served.ask<{ pending: number }>('counters')).toMatchObject({ pending: 1 });
  child.kill('SIGINT');
  expect(await ended).toBe('SIGINT');
  await until(
    'the call is told',
    async () => (await served.ask<{ interrupted: number }>('calls')).interrupted === 1,
  );
  expect(await served.ask<{ pending: number }>('counters')).toMatchObject({ pending: 0, rejected: 0 });
});

test('a signal that the program handles does not end its call; one that ends it later does', async () => {
  await using served = await Served.start();
  const program = `
import errno, os, signal, sys
signals = []
signal.signal(signal.SIGALRM, lambda number, frame: signals.append(number))
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
try:
    os.stat(os.path.join(sys.argv[1], 'slow'))
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
assert signals
signal.setitimer(signal.ITIMER_REAL, 0.05)
os.stat(os.path.join(sys.argv[1], 'hang'))
`;
  const child = spawn('python3', ['-c', program, served.mountpoint], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise<unknown>((resolve) =>
    child.on('exit', (code, signal) => resolve(signal ?? code)),
  );
  let said = '';
  child.stdout.on('data', (chunk) => {
    said += String(chunk);
  });
  await until('the lookup hangs', async () => (await served.ask<{ hung: number }>('calls')).hung === 1);
  await until('the first call has ended', () => said.endsWith('\n'));
  expect(said).toBe('ENOENT\n');
  // The timer's signal is pending by then, or comes before this one.
  const signalPending = /^ShdPnd:\s*0*2000$/m;
  await until('the timer has gone off', async () =>
    signalPending.test((await run('cat', `/proc/${child.pid}/status`)).stdout),
  );
  child.kill('SIGTERM');
  expect(await ended).toBe('SIGTERM');
});

test('many programs at once', async () => {
  await using served = await Served.start({ asynchronous: true });
  const program = `
import os, sys
folder = os.path.join(sys.argv[1], sys.argv[2])
os.mkdir(folder)
for number in range(100):
    path = os.path.join(folder, str(number))
    with open(path, 'w') as file:
        file.write(path)
for number in range(100):
    path = os.path.join(folder, str(number))
    with open(path) as file:
        assert file.read() == path
`;
  const outcomes = await Promise.all(
    [1, 2, 3, 4, 5, 6].map((id) => python(program, served.mountpoint, String(id))),
  );
  expect(outcomes.map(({ code, stderr }) => [code, stderr])).toEqual(outcomes.map(() => [0, '']));
  expect(await served.ask<Record<string, number>>('counters')).toMatchObject({ rejected: 0, pending: 0 });
});

const writers = `
import errno, os, sys, threading
root, count, block, blocks = sys.argv[1], 6, 300000, 20
failures = []
def write(number):
    data = bytes([number]) * block
    path = os.path.join(root, f'{os.getpid()}-{number}')
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        for at in range(blocks):
            assert os.write(fd, data) == block
            assert os.fstat(fd).st_size == (at + 1) * block
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for at in range(blocks):
            assert os.pread(fd, block, at * block) == data
    except OSError as error:
        failures.append(errno.errorcode[error.errno])
    except AssertionError:
        failures.append('wrong')
    finally:
        os.close(fd)
threads = [threading.Thread(target=write, args=[number]) for number in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*failures)
`;

test.each([
  ['on time and in full', {}, ''],
  ['with the error of its file', { full: true }, 'ENOSPC ENOSPC ENOSPC ENOSPC ENOSPC ENOSPC'],
])('of several large writes at once each is answered, %s', async (_name, options, failures) => {
  await using served = await Served.start(options);
  await until('threads of the channel have written', async () => {
    expect(await python(writers, served.mountpoint)).toEqual({
      code: 0,
      stdout: `${failures}\n`,
      stderr: '',
    });
    return (await served.ask<{ handedOver: number }>('counters')).handedOver > 0;
  });
  expect(await served.ask('counters')).toMatchObject({ rejected: 0, pending: 0 });
});

const hour = 3600e9;

test('what changed behind the kernel shows when it is told', async () => {
  await using served = await Served.start({ ttl: hour });
  const read = async () => (await run('cat', served.path('file'))).stdout;
  expect(
    (await python('open(__import__("sys").argv[1], "w").write("before")', served.path('file'))).code,
  ).toBe(0);
  expect(await read()).toBe('before');
  await served.ask('put', 'file', 'after!');
  expect(await read()).toBe('before');
  await served.ask('invalidateNode', 'file');
  await until('the new content shows', async () => (await read()) === 'after!');
});

test('settled attributes are answered without the file system, until something changes', async () => {
  await using served = await Served.start({ ttl: hour, settled: true });
  const file = served.path('file');
  const asked = async () => (await served.ask<{ getattr: number }>('calls')).getattr;
  // AT_STATX_FORCE_SYNC: past the cache of the kernel.
  const mode = async () => (await run('stat', '--cached=never', '-c', '%a', file)).stdout.trim();
  expect((await run('touch', file)).code).toBe(0);
  expect((await run('chmod', '640', file)).code).toBe(0);
  expect(await mode()).toBe('640');
  const before = await asked();
  await until('one is not asked for', async () => {
    const earlier = await asked();
    return (await mode()) === '640' && (await asked()) === earlier;
  });
  expect(before).toBeGreaterThan(0);
  expect((await run('chmod', '600', file)).code).toBe(0);
  expect(await mode()).toBe('600');
});

test('a name that means something else is looked up again when the kernel is told', async () => {
  await using served = await Served.start({ ttl: hour });
  const inode = async () => (await run('stat', '-c', '%i', served.path('one'))).stdout.trim();
  expect((await run('mkdir', served.path('one'), served.path('other'))).code).toBe(0);
  const before = await inode();
  await served.ask('swap', 'one', 'other');
  expect(await inode()).toBe(before);
  await served.ask('invalidateEntry', 'one');
  await until('the new meaning shows', async () => (await inode()) !== before);
  const counters = await served.ask<Record<string, number>>('counters');
  expect(counters).toMatchObject({ notified: 1, dropped: 0 });
});

test('unmounted from outside, the process ends by itself', async () => {
  await using served = await Served.start();
  expect((await run('umount', served.mountpoint)).code).toBe(0);
  expect(await served.next()).toEqual({ ended: true });
  expect(await served.exited).toBe(0);
});

test('unmounted by its process while in use, it ends with the last user', async () => {
  await using served = await Served.start();
  const holder = spawn('sh', ['-c', 'exec 3>"$0/held"; echo held; read line', served.mountpoint], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  await served.ask('unmount');
  await until(
    'the mount is detached',
    async () => !(await run('cat', '/proc/mounts')).stdout.includes(served.mountpoint),
  );
  holder.stdin.end('done\n');
  expect(await served.next()).toEqual({ ended: true });
  expect(await served.exited).toBe(0);
});

test('a mount that is given up while a notification waits for a hanging call ends all the same', async () => {
  await using served = await Served.start();
  const child = run('stat', served.path('hang'));
  await until('the lookup hangs', async () => (await served.ask<{ hung: number }>('calls')).hung === 1);
  // Waits in the kernel for the folder that the lookup has locked.
  await served.ask('invalidateEntry', 'other');
  await served.ask('unmount');
  expect((await child).stderr).toContain('Input/output error');
  expect(await served.next()).toEqual({ ended: true });
  expect(await served.exited).toBe(0);
});

test('a process that uses its own mount is told so instead of hanging', async () => {
  await using served = await Served.start();
  expect(await served.ask('visit', 'hang')).toBe(errno.EDEADLK);
  expect(await served.ask('visit', 'nothing')).toBe(errno.ENOENT);
  expect((await served.ask<string[]>('log')).filter((line) => line.startsWith('warn'))).toHaveLength(1);
});

test('two mounts in two threads of one process; a thread that is ended takes its mount along', async () => {
  await using served = await Served.start({}, 'workers.ts');
  const outcomes = await Promise.all([everyOperation(served.path('a')), everyOperation(served.path('b'))]);
  expect(outcomes.map(({ code, stderr }) => [code, stderr])).toEqual([
    [0, ''],
    [0, ''],
  ]);
  await served.ask('terminate', '0');
  expect((await run('stat', served.path('a'))).stderr).toContain('not connected');
  expect((await everyOperation(served.path('b'))).code).toBe(0);
  expect((await run('umount', served.path('a'))).code).toBe(0);
  expect((await run('umount', served.path('b'))).code).toBe(0);
  expect(await served.next()).toEqual({ ended: true });
  expect(await served.exited).toBe(0);
});
