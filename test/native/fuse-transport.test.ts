import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { errno } from '../../src/errors/errno.js';
import { type FuseChannel, fuseTransport } from '../../src/native/fuse-transport.js';
import { run, until } from '../fuse/served.js';

const transport = fuseTransport();
const folder = mkdtempSync(join(tmpdir(), 'mirage-fuse-native-'));
afterAll(() => rmSync(folder, { recursive: true }));

const options = { slots: 4, slotBytes: 16384, replyBytes: 16384, spinMicroseconds: 0, notifications: 4 };

describe('a channel', () => {
  let channel: FuseChannel;
  beforeAll(() => {
    // Open, but mounted nowhere: read(2) and write(2) on it fail with EPERM.
    channel = transport.open(openSync('/dev/fuse', 'r+'), options);
  });

  test('lends arenas of the size that was asked for', () => {
    expect(channel.requests.byteLength).toBe(4 * 16384);
    expect(channel.replies.byteLength).toBe(16384);
    expect(channel.lengths.byteLength).toBe(16);
    new Uint8Array(channel.requests).fill(1);
    new Uint8Array(channel.replies).fill(1);
  });

  test.each([
    ['an end beyond the arena', 16000, 400],
    ['a beginning beyond the arena', 20000, 16],
    ['less than a header', 0, 15],
    ['a sum beyond 32 bits', 16, 0xffff_fff8],
  ])('refuses a reply with %s', (_what, offset, length) => {
    expect(() => channel.reply(offset, length)).toThrow('outside of the arena');
  });

  test('keeps attributes from within the arena only', () => {
    channel.keepAttributes(1, 0, 16384 - 104, 1000);
    expect(() => channel.keepAttributes(1, 0, 16384 - 103, 1000)).toThrow('outside of the arena');
    channel.dropAttributes(1, 0);
    channel.dropAttributes(0, 0);
  });

  test('refuses a reply that is longer than its buffer', () => {
    expect(() => channel.replyBuffer(new Uint8Array(20), 21)).toThrow('outside of the arena');
    expect(() => channel.replyBuffer('text' as unknown as Uint8Array, 4)).toThrow('Uint8Array');
  });

  test.each([
    ['slot', 4, 0, 1],
    ['skip', 0, 16385, 0],
    ['length', 3, 16000, 400],
  ])('refuses a payload with a %s out of bounds', (_what, slot, skip, length) => {
    expect(() => channel.writeFromSlot(slot, skip, length, 1, 0)).toThrow('outside of the arena');
  });

  test('writes payload to a file, at a position and at its end', () => {
    new Uint8Array(channel.requests, 16384, 16).set(Buffer.from('0123456789abcdef'));
    const file = join(folder, 'payload');
    const fd = openSync(file, 'w');
    expect(channel.writeFromSlot(1, 4, 6, fd, 3)).toBe(6);
    closeSync(fd);
    const appending = openSync(file, 'a');
    expect(channel.writeFromSlot(1, 0, 2, appending, -1)).toBe(2);
    closeSync(appending);
    expect(readFileSync(file, 'latin1')).toBe('\0\0\x00456789' + '01');
    expect(channel.writeFromSlot(1, 0, 2, appending, 0)).toBe(-errno.EBADF);
  });

  test('counts replies that the kernel refuses', () => {
    const { rejected } = channel.counters();
    channel.reply(0, 16);
    channel.replyFromFile(1, 0, -1, 0, 10);
    expect(channel.counters().rejected).toBe(rejected + 2);
  });

  test('wrong arguments are errors, not crashes', () => {
    const untyped = channel as unknown as Record<string, (...values: unknown[]) => unknown>;
    for (const name of [
      'reply',
      'replyBuffer',
      'replyFromFile',
      'keepAttributes',
      'dropAttributes',
      'writeFromSlot',
      'backingOpen',
      'notify',
      'start',
    ]) {
      expect(() => untyped[name]?.()).toThrow();
      expect(() => untyped[name]?.({}, 'x', null, undefined, Symbol('s'))).toThrow();
    }
  });

  test('a closed channel says so, and keeps its counters', () => {
    const before = channel.counters();
    channel.close();
    channel.close();
    expect(() => channel.reply(0, 16)).toThrow('closed');
    expect(() => channel.start(() => false)).toThrow('closed');
    expect(channel.counters()).toEqual(before);
    expect(new Uint8Array(channel.replies)[100]).toBe(1);
  });
});

test.each([
  ['slots', 0],
  ['slots', 100_000],
  ['slotBytes', 100],
  ['slotBytes', 16385],
  ['replyBytes', 10],
  ['spinMicroseconds', 1_000_000],
])('a channel with %s = %i is refused, and the descriptor stays open', (name, value) => {
  const fd = openSync('/dev/fuse', 'r+');
  expect(() => transport.open(fd, { ...options, [name]: value })).toThrow('out of range');
  closeSync(fd);
});

test('a descriptor that cannot be polled is refused', () => {
  expect(() => transport.open(9999, options)).toThrow();
});

test('a mount that cannot be made answers with an errno', async () => {
  expect(transport.mount(join(folder, 'missing'), 'test', 'fuse.test', '').fd).toBe(-errno.ENOENT);
  expect(transport.mount('x'.repeat(300), 'test', 'fuse.test', 'nonsense=1').fd).toBeLessThan(0);
  expect(() => transport.mount('/tmp/\0', 'test', 'fuse.test', '')).toThrow('contains a NUL');
  expect(transport.mountByHelper('no-such-helper', folder, '').fd).toBe(-errno.ENOENT);
  const refused = transport.mountByHelper('fusermount3', join(folder, 'missing'), 'fsname=test');
  expect(refused.fd).toBeLessThan(0);
  expect(refused.message).toContain('missing');
  expect(await transport.unmount(folder, 0)).toEqual({ result: -errno.EINVAL, message: '' });
  expect((await transport.unmountByHelper('fusermount3', folder, true)).result).toBeLessThan(0);
});

test('fusermount3 hands a descriptor over and ends the mount', async () => {
  const mountpoint = mkdtempSync(join(folder, 'mount-'));
  const { fd, message } = transport.mountByHelper('fusermount3', mountpoint, 'fsname=helped,subtype=test');
  try {
    expect([fd >= 0, message]).toEqual([true, '']);
    expect(readFileSync('/proc/mounts', 'utf8')).toContain(`helped ${mountpoint} fuse.test`);
  } finally {
    closeSync(fd);
    expect((await transport.unmountByHelper('fusermount3', mountpoint, false)).result).toBe(0);
  }
});

describe('over unix sockets', () => {
  let python: ChildProcess | undefined;
  afterAll(() => {
    python?.kill();
  });

  /** Runs a python program that makes a socket at a path, and waits for the socket. */
  async function listening(program: string): Promise<{ path: string; output: Promise<string> }> {
    const path = join(folder, 'socket');
    rmSync(path, { force: true });
    const child = spawn('python3', ['-c', program, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    python = child;
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += String(chunk);
    });
    const output = new Promise<string>((resolve) => child.on('close', () => resolve(text)));
    await until('the socket is there', async () => (await run('test', '-S', path)).code === 0);
    return { path, output };
  }

  const accept = `
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + '.new')
listener.listen()
os.rename(sys.argv[1] + '.new', sys.argv[1])
connection, _ = listener.accept()
`;

  test('a descriptor is sent', async () => {
    const { path, output } = await listening(
      `${accept}_, descriptors, _, _ = socket.recv_fds(connection, 1, 1)\nprint(os.read(descriptors[0], 100))`,
    );
    const file = join(folder, 'sent');
    writeFileSync(file, 'content');
    const fd = openSync(file, 'r');
    expect(transport.sendDescriptor(path, fd)).toBe(0);
    closeSync(fd);
    expect(await output).toBe("b'content'\n");
  });

  test('a descriptor is received', async () => {
    const file = join(folder, 'received');
    writeFileSync(file, 'content');
    const { path, output } = await listening(
      `${accept}socket.send_fds(connection, [b'x'], [os.open('${file}', os.O_RDONLY)])`,
    );
    const fd = transport.receiveDescriptor(path);
    expect(readFileSync(fd, 'utf8')).toBe('content');
    closeSync(fd);
    await output;
  });

  test('what is no descriptor is a protocol error, a missing socket its errno', async () => {
    const { path, output } = await listening(`${accept}connection.send(b'x')`);
    expect(transport.receiveDescriptor(path)).toBe(-errno.EPROTO);
    await output;
    expect(transport.receiveDescriptor(join(folder, 'nowhere'))).toBe(-errno.ENOENT);
    expect(transport.sendDescriptor(`/${'x'.repeat(150)}`, 1)).toBe(-errno.ENAMETOOLONG);
  });

  test('the service manager is told', async () => {
    const { path, output } = await listening(`
import os, socket, sys
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(sys.argv[1] + '.new')
os.rename(sys.argv[1] + '.new', sys.argv[1])
print(receiver.recv(100).decode())
`);
    expect(transport.serviceNotify(path, 'READY=1\nSTATUS=serving')).toBe(0);
    expect(await output).toBe('READY=1\nSTATUS=serving\n');
  });
});
