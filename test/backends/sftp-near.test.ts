/** A connection that was lent: files of a real sshd, read on the thread that borrowed it. */
import { renameSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import type { LentConnection, NearFiles } from '../../src/backends/file-server.js';
import { nearFiles } from '../../src/backends/sftp/near-files.js';
import { type DelayProxy, startDelayProxy } from '../servers/proxy.js';
import { type Sshd, startSshd } from '../servers/sshd.js';
import { calm, fileServerOf, openSftp, refusal } from './sftp-harness.js';

let server: Sshd;
beforeAll(async () => {
  server = await startSshd();
});
afterAll(() => server?.stop());

let proxy: DelayProxy;
let opened: OpenedBackend | undefined;
let files: NearFiles | undefined;
beforeEach(async () => {
  proxy = await startDelayProxy(server.port);
  const { port } = proxy;
  const knownHosts = server.knownHostsFor(port);
  opened = await openSftp(server, { transport: 'ssh', port, knownHosts });
  files = await nearFiles(await lend(opened));
});
afterEach(async () => {
  files?.end();
  await opened?.backend.close?.();
  await proxy?.stop();
});

async function lend(from: OpenedBackend): Promise<LentConnection> {
  const lent = await fileServerOf(from).lend?.(calm());
  if (lent === undefined) throw new Error('nothing was lent');
  return lent;
}
const put = (name: string, text: string): void => writeFileSync(join(server.data, name), text);
const text = async (handle: number, offset: number, length: number): Promise<string> =>
  Buffer.from(await files!.read(handle, offset, length)).toString();

test('bytes of a file, fewer at its end, none behind it', async () => {
  put('numbers', '0123456789');
  const { handle, attributes } = await files!.open('numbers');
  expect(attributes.size).toBe(10);
  expect(await text(handle, 2, 4)).toBe('2345');
  expect(await text(handle, 8, 4)).toBe('89');
  expect(await text(handle, 10, 4)).toBe('');
  files!.close(handle);
  expect((await refusal(files!.read(handle, 0, 1))).errno).toBe('EBADF');
});

test('many reads at a time get their own bytes', async () => {
  put('many', Array.from({ length: 4096 }, (_, line) => line.toString().padStart(15)).join('\n'));
  const { handle } = await files!.open('many');
  const lines = Array.from({ length: 64 }, (_, read) => (read * 61) % 4096);
  const read = await Promise.all(lines.map((line) => text(handle, line * 16, 15)));
  expect(read.map(Number)).toEqual(lines);
});

test('an open file stays itself when its name goes to another', async () => {
  put('first', 'first');
  put('second', 'second');
  const { handle } = await files!.open('first');
  renameSync(join(server.data, 'second'), join(server.data, 'first'));
  expect(await text(handle, 0, 10)).toBe('first');
  truncateSync(join(server.data, 'first'), 0);
  expect(await text(handle, 0, 10)).toBe('first');
});

test('a file that is not there is ENOENT, and the connection goes on', async () => {
  expect((await refusal(files!.open('nothing'))).errno).toBe('ENOENT');
  put('something', 'x');
  expect((await files!.open('something')).attributes.size).toBe(1);
});

test('it ends with the mount that lent it', async () => {
  put('left', 'left');
  const { handle } = await files!.open('left');
  await opened!.backend.close?.();
  await refusal(files!.read(handle, 0, 4));
  expect(files!.lost).toBe(true);
});

test('a connection that breaks fails what waits', async () => {
  put('broken', 'broken');
  const { handle } = await files!.open('broken');
  await proxy.command('drop');
  expect((await refusal(files!.read(handle, 0, 4))).errno).toBe('EHOSTDOWN');
  expect(files!.lost).toBe(true);
});

test('a server that falls silent is given up after the timeout', async () => {
  put('silent', 'silent');
  const impatient = { ...(await lend(opened!)), timeout: 2000 };
  files!.end();
  files = await nearFiles(impatient);
  const { handle } = await files.open('silent');
  await proxy.command('stall');
  expect((await refusal(files.read(handle, 0, 4))).errno).toBe('ETIMEDOUT');
});

test('ssh2 lends nothing: its encryption would run on the borrowing thread', async () => {
  const other = await openSftp(server, { transport: 'ssh2' });
  try {
    expect(fileServerOf(other).features.lends).toBe(false);
    expect((await refusal(lend(other))).errno).toBe('ENOTSUP');
  } finally {
    await other.backend.close?.();
  }
});
