import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import type { FileServer, OpenHow } from '../../src/backends/file-server.js';
import { type DelayProxy, startDelayProxy } from '../servers/proxy.js';
import { type Sshd, startSshd } from '../servers/sshd.js';
import { calm, fileServerOf, LocalFile, openSftp, refusal } from './sftp-harness.js';

const MEGABYTE = 2 ** 20;
const TIMEOUT_SECONDS = 2;

describe.each(['ssh', 'ssh2'])('transport %s', (transport) => {
  let server: Sshd;
  let proxy: DelayProxy;
  let opened: OpenedBackend;
  let files: FileServer;
  const at = (name: string): string => join(server.data, name);
  const open = (path: string, how: Partial<OpenHow> = {}) =>
    files.open(path, { read: true, write: false, ...how }, calm());

  beforeAll(async () => {
    server = await startSshd();
  });
  afterAll(() => server?.stop());
  beforeEach(async () => {
    proxy = await startDelayProxy(server.port);
    opened = await openSftp(server, {
      transport,
      port: proxy.port,
      knownHosts: server.knownHostsFor(proxy.port),
      timeout: `${TIMEOUT_SECONDS}s`,
      connections: 1,
    });
    files = fileServerOf(opened);
  });
  afterEach(async () => {
    await opened?.backend.close?.();
    await proxy?.stop();
  });

  test('what only asks is asked again after the connection was lost', async () => {
    writeFileSync(at('file'), 'content');
    expect(await files.lstat('file', calm())).toMatchObject({ size: 7 });
    await proxy.command('drop');
    expect(await files.lstat('file', calm())).toMatchObject({ size: 7 });
    await proxy.command('drop');
    const [found, usage, missing] = await Promise.all([
      files.lstat('file', calm()),
      files.statfs('', calm()),
      files.lstat('missing', calm()),
    ]);
    expect([found?.size, usage.nameLength, missing]).toEqual([7, 255, undefined]);
  });

  test('a listing that is broken off goes on with every name once', async () => {
    mkdirSync(at('many'));
    const names = Array.from({ length: 2000 }, (_, i) => `name ${i}`);
    for (const name of names) writeFileSync(join(at('many'), name), '');
    const found: string[] = [];
    let pages = 0;
    await files.list(
      'many',
      async (entries) => {
        found.push(...entries.map(({ name }) => name));
        if (++pages === 2) await proxy.command('drop');
      },
      calm(),
    );
    expect(found.sort()).toEqual(names.sort());
  });

  test('a read that is broken off says that its handle is gone, and is read again through a new one', async () => {
    using here = new LocalFile();
    const content = randomBytes(30 * MEGABYTE);
    writeFileSync(at('large'), content);
    const { handle } = await open('large');
    const range = { offset: 0, length: content.length, fd: here.fd, position: 0 };
    const reading = refusal(files.read(handle, range, calm()));
    await files.read(handle, { ...range, length: 1 }, calm());
    await proxy.command('drop');
    expect((await reading).errno).toBe('EBADF');
    expect((await refusal(files.read(handle, range, calm()))).errno).toBe('EBADF');
    await files.close(handle, calm());
    const again = await open('large');
    expect(await files.read(again.handle, range, calm())).toBe(content.length);
    expect(readFileSync(here.path).equals(content)).toBe(true);
  });

  test('a write that is broken off has not lost what was acknowledged', async () => {
    using here = new LocalFile();
    const content = randomBytes(30 * MEGABYTE);
    writeSync(here.fd, content);
    const range = { offset: 0, length: MEGABYTE, fd: here.fd, position: 0 };
    const { handle } = await open('written', { write: true, create: true });
    await files.write(handle, range, calm());
    const rest = { offset: MEGABYTE, length: 29 * MEGABYTE, fd: here.fd, position: MEGABYTE };
    const writing = refusal(files.write(handle, rest, calm()));
    await proxy.command('dropAfter 5000000');
    expect((await writing).errno).toBe('EBADF');
    expect(readFileSync(at('written')).subarray(0, MEGABYTE).equals(content.subarray(0, MEGABYTE))).toBe(
      true,
    );
    const again = await open('written', { write: true });
    expect(again.attributes.size).toBeGreaterThanOrEqual(MEGABYTE);
    await files.write(again.handle, rest, calm());
    expect(readFileSync(at('written')).equals(content)).toBe(true);
  });

  test('a change whose answer is lost has an unknown outcome, and what may be repeated is', async () => {
    await proxy.command('dropAfter 1');
    const making = await refusal(files.mkdir('made', 0o755, calm()));
    expect([making.errno, making.outcomeUnknown]).toEqual(['EHOSTDOWN', true]);
    // The request has reached the server, or will have in a moment; the next call is on a new connection.
    const deadline = Date.now() + 10_000;
    while (!existsSync(at('made')) && Date.now() < deadline) await files.lstat('made', calm());
    expect(existsSync(at('made'))).toBe(true);

    await proxy.command('dropAfter 1');
    expect(await files.setAttributes('made', { mode: 0o700 }, calm())).toMatchObject({ mode: 0o40700 });
    await proxy.command('dropAfter 1');
    const { handle } = await open('new', { write: true, create: true });
    await files.close(handle, calm());
    await proxy.command('dropAfter 1');
    const exclusive = await refusal(open('exclusive', { write: true, exclusive: true }));
    expect(exclusive.outcomeUnknown).toBe(true);
  });

  test('a server that falls silent: ETIMEDOUT within the deadline, and all goes on when it speaks again', async () => {
    writeFileSync(at('file'), 'content');
    using here = new LocalFile();
    const { handle } = await open('file');
    await proxy.command('stall');
    const started = Date.now();
    const range = { offset: 0, length: 7, fd: here.fd, position: 0 };
    const errors = await Promise.all([
      refusal(files.lstat('file', calm())),
      refusal(files.read(handle, range, calm())),
      refusal(files.mkdir('silent', 0o755, calm())),
    ]);
    expect(errors.map(({ errno }) => errno)).toEqual(['ETIMEDOUT', 'ETIMEDOUT', 'ETIMEDOUT']);
    expect(errors.map(({ outcomeUnknown }) => outcomeUnknown)).toEqual([false, false, true]);
    expect(Date.now() - started).toBeLessThan(TIMEOUT_SECONDS * 1000 * 5);
    // Also a new connection gets no answer.
    const aborted = new AbortController();
    const waiting = refusal(files.lstat('file', { signal: aborted.signal }));
    aborted.abort();
    expect((await waiting).errno).toBe('EINTR');
    await proxy.command('resume');
    const deadline = Date.now() + 20_000;
    let found: unknown;
    while (found === undefined && Date.now() < deadline) {
      found = await files.lstat('file', calm()).catch(() => undefined);
    }
    expect(found).toMatchObject({ size: 7 });
    expect((await refusal(files.read(handle, range, calm()))).errno).toBe('EBADF');
  });

  test('a pause that is shorter than the deadline is no error', async () => {
    writeFileSync(at('file'), 'content');
    await proxy.command('stall');
    const found = files.lstat('file', calm());
    const resumed = new Promise((resolve) => setTimeout(resolve, 500));
    await resumed;
    await proxy.command('resume');
    expect(await found).toMatchObject({ size: 7 });
  });

  test('a server that cannot be reached: calls wait while it may come back, then fail at once', async () => {
    writeFileSync(at('file'), 'content');
    await proxy.command('refuse');
    await proxy.command('drop');
    const waiting = files.lstat('file', calm());
    await proxy.command('accept');
    expect(await waiting).toMatchObject({ size: 7 });

    await proxy.command('refuse');
    await proxy.command('drop');
    const first = await refusal(files.lstat('file', calm()));
    expect([first.errno, first.retryable]).toEqual(['EHOSTDOWN', true]);
    const errors = await Promise.all(
      Array.from({ length: 20 }, (_, i) => refusal(files.lstat(`${i}`, calm()))),
    );
    expect(new Set(errors.map(({ errno }) => errno))).toEqual(new Set(['EHOSTDOWN']));
    await proxy.command('accept');
    const deadline = Date.now() + 20_000;
    let found: unknown;
    while (found === undefined && Date.now() < deadline) {
      found = await files.lstat('file', calm()).catch(() => undefined);
    }
    expect(found).toMatchObject({ size: 7 });
  });

  test('another host key after the connection was lost is refused', async () => {
    // Behind its own proxy: a connection outlives the server that took it.
    const changed = await startSshd();
    const line = await startDelayProxy(changed.port);
    const other = await openSftp(changed, {
      transport,
      port: line.port,
      knownHosts: changed.knownHostsFor(line.port),
      timeout: `${TIMEOUT_SECONDS}s`,
      connections: 1,
    });
    try {
      const theirs = fileServerOf(other);
      expect(await theirs.lstat('', calm())).toBeDefined();
      await changed.changeHostKey();
      await line.command('drop');
      const error = await refusal(theirs.lstat('', calm()));
      expect([error.errno, error.message.includes('has changed')]).toEqual(['EACCES', true]);
    } finally {
      await other.backend.close?.();
      await line.stop();
      await changed.stop();
    }
  });
});
