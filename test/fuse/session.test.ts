import { describe, expect, test } from '@jest/globals';
import { errno } from '../../src/errors/errno.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { Opcode } from '../../src/fuse/protocol.js';
import { Attributes } from '../../src/vfs/attributes.js';
import type { Call, EntryReply, FileSystem, OpenReply, WriteSource } from '../../src/vfs/operations.js';
import { Harness, join, partly, request, text, turn, words } from './harness.js';

/** A promise that is settled by hand. */
function deferred<T = void>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
} {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

const lookup = (unique: number, pid?: number): Buffer =>
  request(Opcode.LOOKUP, { unique, body: text('name'), ...(pid === undefined ? {} : { pid }) });
const interrupt = (unique: number): Buffer =>
  request(Opcode.INTERRUPT, { unique: 900, body: words(unique, 0) });

function found(reply: EntryReply, nodeId: number): void {
  reply.nodeId = nodeId;
  reply.attributes = new Attributes();
}

test('what waits keeps its call and its reply, while others are answered', async () => {
  const gates = [deferred(), deferred()];
  const calls: Call[] = [];
  const harness = new Harness(
    partly({
      lookup(call, _parent, _name, reply) {
        const index = calls.push(call) - 1;
        if (index === 2) {
          found(reply, 30);
          return;
        }
        return gates[index]?.promise.then(() => {
          expect(call.uid).toBe(1000);
          found(reply, 10 + index);
        });
      },
    }),
  );
  const answered = harness.send(lookup(2), lookup(4), lookup(6));
  expect(answered.map(({ unique }) => unique)).toEqual([6]);
  expect(new Set(calls).size).toBe(3);
  gates[1]?.resolve();
  await turn();
  gates[0]?.resolve();
  await turn();
  const nodes = harness.answers().map(({ unique, body }) => [unique, Number(body.readBigUInt64LE(0))]);
  expect(nodes).toEqual([
    [6, 30],
    [4, 11],
    [2, 10],
  ]);
});

test('a synchronous answer reuses the call and the reply', () => {
  const seen = new Set<unknown>();
  const harness = new Harness(
    partly({
      lookup(call, _parent, _name, reply) {
        seen.add(call).add(reply);
        reply.fail(errno.ENOENT);
      },
    }),
  );
  harness.send(lookup(2), lookup(4));
  harness.send(lookup(6));
  expect(seen.size).toBe(2);
});

test('INTERRUPT answers EINTR once, aborts the signal, and takes back what comes late', async () => {
  const gate = deferred();
  const forgotten: [number, number][] = [];
  let signal: AbortSignal | undefined;
  const harness = new Harness(
    partly({
      lookup(call, _parent, _name, reply) {
        signal = call.signal;
        return gate.promise.then(() => found(reply, 77));
      },
      forget: (node, count) => forgotten.push([node, count]),
    }),
  );
  harness.send(lookup(2));
  expect(harness.send(interrupt(2)).map((reply) => [reply.unique, reply.errno])).toEqual([[2, errno.EINTR]]);
  expect(signal?.aborted).toBe(true);
  expect(harness.send(interrupt(2))).toEqual([]);
  gate.resolve();
  await turn();
  expect(harness.answers()).toEqual([]);
  expect(forgotten).toEqual([[77, 1]]);
});

test('a handle that comes after an interrupt is released', async () => {
  const gate = deferred();
  const released: number[] = [];
  const harness = new Harness(
    partly({
      open: (_call, _node, _mode, reply: OpenReply) =>
        gate.promise.then(() => {
          reply.handle = 5;
        }),
      release: (_call, _node, handle) => {
        released.push(handle);
      },
    }),
  );
  harness.send(request(Opcode.OPEN, { unique: 2, body: words(0, 0) }));
  harness.send(interrupt(2));
  gate.resolve();
  await turn();
  expect(released).toEqual([5]);
});

test('an interrupted change answers with what became of it', async () => {
  const gate = deferred();
  let signal: AbortSignal | undefined;
  const harness = new Harness(
    partly({
      rmdir(call) {
        signal = call.signal;
        return gate.promise;
      },
    }),
  );
  harness.send(request(Opcode.RMDIR, { unique: 2, body: text('gone') }));
  expect(harness.send(interrupt(2))).toEqual([]);
  expect(signal?.aborted).toBe(true);
  gate.resolve();
  await turn();
  expect(harness.answers().map((reply) => [reply.unique, reply.errno])).toEqual([[2, 0]]);
});

test('the end of the mount aborts what waits, and nothing is answered after it', async () => {
  const gate = deferred();
  let signal: AbortSignal | undefined;
  const harness = new Harness(
    partly({
      rmdir(call) {
        signal = call.signal;
        return gate.promise;
      },
    }),
  );
  harness.send(request(Opcode.RMDIR, { body: text('gone') }));
  harness.session.end(false);
  gate.resolve();
  await turn();
  expect(signal?.aborted).toBe(true);
  expect(harness.answers()).toEqual([]);
  expect(harness.session.pending).toBe(0);
});

test('a connection that we cut leaves nobody without an answer', () => {
  const harness = new Harness(partly({ lookup: () => new Promise(() => undefined) }));
  harness.send(lookup(2));
  harness.session.end(true);
  expect(harness.answers().map((reply) => [reply.unique, reply.errno])).toEqual([[2, errno.EIO]]);
});

test('a call of this very process that would have to wait gets EDEADLK', () => {
  const harness = new Harness(partly({ lookup: () => new Promise(() => undefined) }));
  const [answer] = harness.send(lookup(2, process.pid));
  expect(answer?.errno).toBe(errno.EDEADLK);
  expect(harness.session.pending).toBe(0);
});

test('errors keep their number, unexpected ones are EIO', async () => {
  const failing = (error: unknown) =>
    new Harness(
      partly({
        rmdir() {
          throw error;
        },
        unlink: () => Promise.reject(error),
      }),
    );
  const full = failing(new MirageError('full', { errno: 'ENOSPC' }));
  expect(full.send(request(Opcode.RMDIR, { body: text('a') }))[0]?.errno).toBe(errno.ENOSPC);
  full.send(request(Opcode.UNLINK, { body: text('a') }));
  await turn();
  expect(full.answers()[0]?.errno).toBe(errno.ENOSPC);
  const broken = failing(new TypeError('a fault of ours'));
  expect(broken.send(request(Opcode.RMDIR, { body: text('a') }))[0]?.errno).toBe(errno.EIO);
});

test('unknown operations are ENOSYS, IOCTL is ENOTTY, a cut one is EINVAL', () => {
  const harness = new Harness(partly({}));
  const answers = harness.send(
    request(99, { unique: 2 }),
    request(Opcode.IOCTL, { unique: 4, body: new Uint8Array(32) }),
    request(Opcode.READ, { unique: 6, body: words(1, 2) }),
  );
  expect(answers.map((reply) => reply.errno)).toEqual([errno.ENOSYS, errno.ENOTTY, errno.EINVAL]);
});

test('the umask is taken from the mode, which stays known', () => {
  const modes: unknown[] = [];
  const harness = new Harness(
    partly({
      mkdir(call, _parent, _name, mode) {
        modes.push(mode, call.requestedMode);
        throw new MirageError('enough', { errno: 'EPERM' });
      },
    }),
  );
  harness.send(request(Opcode.MKDIR, { body: join(words(0o777, 0o027), text('d')) }));
  expect(modes).toEqual([0o750, 0o777]);
});

test('the payload of a WRITE is gone when the operation has returned, unless it was retained', async () => {
  const gate = deferred();
  const sources: WriteSource[] = [];
  const harness = new Harness(
    partly({
      async write(_call, _node, _handle, _offset, source) {
        sources.push(source, source.retain());
        await gate.promise;
        return source.length;
      },
    }),
  );
  const payload = Buffer.from('payload');
  const body = join(words(9, 0, 0, 0, payload.length, 4, 0, 0, 0, 0), payload);
  harness.send(request(Opcode.WRITE, { unique: 2, body }));
  gate.resolve();
  await turn();
  const [direct, retained] = sources as [WriteSource, WriteSource];
  expect(direct.writeTo(1, 0)).toBe(-errno.EBADF);
  expect(retained.length).toBe(payload.length);
  expect(retained.killPrivileges).toBe(true);
  expect(harness.answers().map(({ body: out }) => out.readUInt32LE(0))).toEqual([payload.length]);
});

test('a WRITE that promises more than it brings is refused', () => {
  const harness = new Harness(partly({}));
  const body = join(words(9, 0, 0, 0, 8, 0, 0, 0, 0, 0), Buffer.from('short'));
  expect(harness.send(request(Opcode.WRITE, { body }))[0]?.errno).toBe(errno.EINVAL);
});

test('values of extended attributes: their size, too small a buffer, and no ACL instead of an error', () => {
  const harness = new Harness(
    partly({
      getxattr(_call, _node, name, reply) {
        if (name.startsWith('system.')) reply.fail(errno.EOPNOTSUPP);
        else reply.value = Buffer.from('12345');
      },
    }),
  );
  const ask = (name: string, size: number) =>
    harness.send(request(Opcode.GETXATTR, { body: join(words(size, 0), text(name)) }))[0];
  expect(ask('user.a', 0)?.body.readUInt32LE(0)).toBe(5);
  expect(ask('user.a', 4)?.errno).toBe(errno.ERANGE);
  expect(ask('user.a', 5)?.body.toString()).toBe('12345');
  expect(ask('system.posix_acl_access', 100)?.errno).toBe(errno.ENODATA);
  expect(ask('system.other', 100)?.errno).toBe(errno.EOPNOTSUPP);
});

test('where ACLs are not enforced there are none, and the file system is not asked', async () => {
  const asked: string[] = [];
  const harness = new Harness(
    partly({
      getxattr: (_call, _node, name) => void asked.push(name),
      setxattr: (_call, _node, name) => void asked.push(name),
      removexattr: (_call, _node, name) => void asked.push(name),
      listxattr: () => ['user.a', 'system.posix_acl_access', 'system.posix_acl_default'],
    }),
    { acl: false },
  );
  const errnoOf = (opcode: number, ...body: Uint8Array[]): number | undefined =>
    harness.send(request(opcode, { body: join(...body) }))[0]?.errno;
  for (const name of ['system.posix_acl_access', 'system.posix_acl_default']) {
    expect(errnoOf(Opcode.GETXATTR, words(100, 0), text(name))).toBe(errno.EOPNOTSUPP);
    expect(errnoOf(Opcode.SETXATTR, words(1, 0, 0, 0), text(name), Buffer.from('a'))).toBe(errno.EOPNOTSUPP);
    expect(errnoOf(Opcode.REMOVEXATTR, text(name))).toBe(errno.EOPNOTSUPP);
  }
  expect(asked).toEqual([]);
  const list = harness.send(request(Opcode.LISTXATTR, { body: words(100, 0) }))[0];
  expect(list?.body.toString()).toBe('user.a\0');
});

test('an access ACL set from outside of the group ends the setgid bit', async () => {
  const attributes = new Attributes();
  attributes.mode = 0o102755;
  const changes: unknown[] = [];
  const harness = new Harness(
    partly({
      setxattr() {},
      getattr(_call, _node, _handle, reply) {
        reply.attributes = attributes;
      },
      setattr(_call, _node, change) {
        changes.push(change);
        return { attributes, attributesValid: 0 };
      },
    }),
  );
  const set = (flags: number) =>
    request(Opcode.SETXATTR, {
      body: join(words(4, 0, flags, 0), text('system.posix_acl_access'), Buffer.from('acl!')),
    });
  harness.send(set(0));
  expect(changes).toEqual([]);
  harness.send(set(1));
  await turn();
  expect(changes).toEqual([{ mode: 0o100755 }]);
});

test('directories go out in as many replies as their reader has room for', () => {
  const names = Array.from({ length: 50 }, (_, i) => `entry-${i}`);
  const harness = new Harness(
    partly({
      readdir(_call, _node, _handle, cookie, sink) {
        for (let i = cookie; i < names.length; i++) {
          const name = names[i] as string;
          if (!sink.fits(name.length)) return;
          sink.addName(name, i + 1, 1000 + i, 0o100644);
        }
      },
    }),
  );
  const seen: string[] = [];
  let cookie = 0;
  for (;;) {
    const body = words(1, 0, cookie, 0, 300, 0, 0, 0, 0, 0);
    const entries = harness.send(request(Opcode.READDIR, { body }))[0]?.body as Buffer;
    expect(entries.length).toBeLessThanOrEqual(300);
    if (entries.length === 0) break;
    for (let at = 0; at < entries.length; ) {
      const length = entries.readUInt32LE(at + 16);
      expect(entries.readUInt32LE(at + 20)).toBe(8);
      cookie = Number(entries.readBigUInt64LE(at + 8));
      seen.push(entries.toString('latin1', at + 24, at + 24 + length));
      at += 24 + ((length + 7) & ~7);
    }
  }
  expect(seen).toEqual(names);
});

test('while a node is read by the kernel itself, every open of it shares the backing file', () => {
  const fd = 11;
  let handle = 0;
  const passthrough = [fd, -1, fd];
  const harness = new Harness(
    partly({
      open(_call, _node, _mode, reply) {
        reply.passthroughFd = passthrough[handle] as number;
        reply.handle = ++handle;
        reply.keepCache = true;
      },
      release() {},
    }),
  );
  const open = () => {
    const body = harness.send(request(Opcode.OPEN, { node: 5, body: words(0, 0) }))[0]?.body as Buffer;
    return [body.readUInt32LE(8), body.readUInt32LE(12)];
  };
  const release = (one: number) =>
    harness.send(request(Opcode.RELEASE, { node: 5, body: words(one, 0, 0, 0, 0, 0) }));
  expect([open(), open()]).toEqual([
    [128, 7],
    [128, 7],
  ]);
  release(1);
  expect(harness.channel.backing.closed).toEqual([]);
  release(2);
  expect(harness.channel.backing).toEqual({ opened: [fd], closed: [7], answer: 7 });
  harness.channel.backing.answer = -errno.EPERM;
  expect(open()).toEqual([2, 0]);
  harness.channel.backing.answer = 8;
  handle = 0;
  expect(open()).toEqual([2, 0]);
  expect(harness.channel.backing.opened).toEqual([fd, fd]);
});

test('a node that was refused a backing file is opened the ordinary way until its last handle is closed', () => {
  let handle = 0;
  const harness = new Harness(
    partly({
      open(_call, _node, _mode, reply) {
        reply.passthroughFd = 11;
        reply.handle = ++handle;
      },
      release() {},
    }),
  );
  const open = () => {
    const body = harness.send(request(Opcode.OPEN, { node: 5, body: words(0, 0) }))[0]?.body as Buffer;
    return [body.readUInt32LE(8), body.readUInt32LE(12)];
  };
  const release = (one: number) =>
    harness.send(request(Opcode.RELEASE, { node: 5, body: words(one, 0, 0, 0, 0, 0) }));
  harness.channel.backing.answer = -errno.ENOMEM;
  expect(open()).toEqual([0, 0]);
  harness.channel.backing.answer = 7;
  expect(open()).toEqual([0, 0]);
  release(1);
  release(2);
  expect(open()).toEqual([128, 7]);
  expect(harness.channel.backing.closed).toEqual([]);
});

test('BATCH_FORGET forgets what it brings, not what it claims', () => {
  const forgotten: [number, number][] = [];
  const harness = new Harness(partly({ forget: (node, count) => forgotten.push([node, count]) }));
  harness.send(request(Opcode.BATCH_FORGET, { body: words(1000, 0, 8, 0, 1, 0, 9, 1, 2, 0) }));
  expect(forgotten).toEqual([
    [8, 1],
    [9 + 2 ** 32, 2],
  ]);
});

describe('settled attributes', () => {
  const getattr = (unique: number, node = 2 ** 40 + 7): Buffer =>
    request(Opcode.GETATTR, { unique, node, body: words(0, 0, 0, 0) });
  const answer = (settled: boolean, valid: number): Partial<FileSystem> => ({
    getattr(_call, _node, _handle, reply) {
      reply.attributes = new Attributes();
      reply.attributesValid = valid;
      reply.settled = settled;
    },
  });

  test('are left to the channel for as long as they are valid, a second at most', () => {
    for (const [valid, milliseconds] of [
      [60e9, 1000],
      [250e6, 250],
    ] as const) {
      const { channel, ...harness } = new Harness(partly(answer(true, valid)));
      channel.deliver([getattr(2)], harness.session.batch);
      expect(channel.kept).toEqual([[7, 2 ** 8, 16, milliseconds]]);
    }
  });

  test.each([
    ['that the volume does not call settled', answer(false, 60e9)],
    ['that are not valid for a moment', answer(true, 0)],
  ])('not those %s', (_what, operations) => {
    const harness = new Harness(partly(operations));
    harness.send(getattr(2));
    expect(harness.channel.kept).toEqual([]);
  });

  test('are taken back by a change of anything, by an open of the node, and when the kernel is told', () => {
    const harness = new Harness(
      partly({ ...answer(true, 60e9), unlink() {}, open() {}, lookup() {}, statfs: () => ({}) as never }),
    );
    const { dropped } = harness.channel;
    const dropsOf = (action: () => void): number[][] => {
      harness.send(getattr(2));
      dropped.length = 0;
      action();
      return [...dropped];
    };
    const node = 2 ** 40 + 7;
    expect(dropsOf(() => harness.send(request(Opcode.UNLINK, { body: text('name') })))).toEqual([[0, 0]]);
    expect(dropsOf(() => harness.send(request(Opcode.OPEN, { node, body: words(0, 0) })))).toEqual([
      [7, 2 ** 8],
    ]);
    expect(dropsOf(() => harness.notifier.invalidateNode(node, 0, 0))).toEqual([[7, 2 ** 8]]);
    expect(dropsOf(() => harness.notifier.invalidateEntry(node, 'name'))).toEqual([[0, 0]]);
    expect(dropsOf(() => harness.send(lookup(4)))).toEqual([]);
  });

  test('none while a change goes on, and all are taken back when it has ended', async () => {
    const gate = deferred();
    const harness = new Harness(partly({ ...answer(true, 60e9), unlink: () => gate.promise }));
    harness.send(request(Opcode.UNLINK, { unique: 4, body: text('name') }));
    harness.send(getattr(6));
    expect(harness.channel.kept).toEqual([]);
    gate.resolve();
    await turn();
    expect(harness.channel.dropped).toEqual([[0, 0]]);
    harness.send(getattr(8));
    expect(harness.channel.kept).toHaveLength(1);
  });
});

test('notifications: a name expires, pages of a node from an offset on', () => {
  const { notified, notifier } = new Harness(partly({}));
  notifier.invalidateEntry(2 ** 40 + 1, 'na\xefve');
  notifier.invalidateNode(3, -1, 0);
  expect(notified.map((record) => record.toString('hex'))).toEqual([
    '2600000003000000000000000000000001000000000100000500000001000000' + '6e61ef766500',
    '28000000020000000000000000000000' + '0300000000000000ffffffffffffffff0000000000000000',
  ]);
});

test('replies that do not fit the arena together leave in parts', () => {
  const harness = new Harness(
    partly({
      read(_call, _node, _handle, offset, size, reply) {
        reply.bytes = Buffer.alloc(size, offset);
        reply.length = size;
      },
    }),
  );
  const read = (unique: number) =>
    request(Opcode.READ, { unique, body: words(1, 0, unique, 0, 60_000, 0, 0, 0, 0, 0) });
  const answers = harness.send(read(2), read(4), read(6), read(8));
  expect(answers.map(({ unique, body }) => [unique, body.length, body[0], body[59_999]])).toEqual(
    [2, 4, 6, 8].map((unique) => [unique, 60_000, unique, unique]),
  );
});
