/** The volume of a file server, with the faults of servers and connections that a real one does not make on demand. */
import { appendFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { FileServer } from '../../src/backends/file-server.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { connectFileServerPort, serveFileServerPort } from '../../src/ports/message-file-server-port.js';
import { until } from '../mounted/process.js';
import { errorOf } from '../vfs-object/tree.js';
import type { LocalFileServer } from './local-file-server.js';
import { RemoteMount, type RemoteTreeOptions } from './tree.js';

const WRITE = 1;
const READ_WRITE = 2;
const KILOBYTE = 1024;
const MEGABYTE = 1024 * KILOBYTE;

let mount: RemoteMount;
const start = (options: RemoteTreeOptions = {}): RemoteMount => {
  mount = new RemoteMount(options);
  return mount;
};
afterEach(() => mount.close());

const there = (...names: string[]): string => join(mount.there, ...names);
const asked = (operation: string): string[] =>
  mount.server.asked.filter((line) => line.startsWith(`${operation} `));

describe('reading', () => {
  test('a random read asks for the pages it touches, a sequential one runs ahead', async () => {
    start();
    writeFileSync(there('f'), 'x'.repeat(8 * MEGABYTE));
    const open = await mount.open('f');
    await mount.read(open, 5 * MEGABYTE + 100, 4096);
    await mount.read(open, 2 * MEGABYTE, 4096);
    expect(asked('read')).toEqual([
      `read ${5 * MEGABYTE} ${8 * KILOBYTE}`,
      `read ${2 * MEGABYTE} ${4 * KILOBYTE}`,
    ]);
    for (let at = 0; at < MEGABYTE; at += 128 * KILOBYTE)
      await mount.read(open, 2 * MEGABYTE + at, 128 * KILOBYTE);
    await until(() => asked('read').length > 6, 'bytes ahead are asked for');
    const furthest = Math.max(
      ...asked('read')
        .slice(2)
        .map((line) => Number(line.split(' ')[1])),
    );
    expect(furthest).toBeGreaterThan(3 * MEGABYTE);
    mount.release(open);
  });

  test('what was read once is not asked for again while the file is the same', async () => {
    start();
    writeFileSync(there('f'), 'content');
    mount.later = 10_000;
    expect(await mount.readFile('f')).toBe('content');
    expect(await mount.readFile('f')).toBe('content');
    expect(asked('read')).toHaveLength(1);
    appendFileSync(there('f'), ' changed');
    mount.later = 20_000;
    expect(await mount.readFile('f')).toBe('content changed');
  });

  test('a file that is shorter than it was ends where it ends', async () => {
    start();
    writeFileSync(there('f'), 'x'.repeat(100_000));
    const open = await mount.open('f');
    writeFileSync(there('f'), 'short');
    expect(await mount.read(open)).toBe('short');
    mount.release(open);
  });

  test('open files hold no more than the cache may take', async () => {
    start({ limit: 2 * MEGABYTE });
    writeFileSync(there('f'), 'x'.repeat(10 * MEGABYTE));
    const open = await mount.open('f');
    for (let at = 0; at < 10 * MEGABYTE; at += 256 * KILOBYTE) {
      expect(await mount.read(open, at, 256 * KILOBYTE)).toHaveLength(256 * KILOBYTE);
      await until(() => mount.cached <= 2 * MEGABYTE, 'bytes that were read go');
    }
    expect(await mount.read(open, 0, 10)).toBe('x'.repeat(10));
    mount.release(open);
  });
});

describe('writing', () => {
  test('readers see what was written before the server has it', async () => {
    start();
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    mount.server.before = (operation) => (operation === 'write' ? gate : undefined);
    const open = await mount.create('f');
    await mount.write(open, 0, 'hello');
    expect((await mount.stat('f')).size).toBe(5);
    expect(await mount.readFile('f')).toBe('hello');
    expect(readFileSync(there('f'), 'utf8')).toBe('');
    expect(mount.volume.pending()).toEqual(['/remote/f (5 bytes)']);
    go();
    await mount.closeFile(open);
    expect(readFileSync(there('f'), 'utf8')).toBe('hello');
    expect(mount.volume.pending()).toEqual([]);
  });

  test('bytes written twice arrive in their last form', async () => {
    start();
    // The first one is slow: a second one beside it would be overtaken.
    let writes = 0;
    mount.server.before = async (operation) => {
      if (operation === 'write' && writes++ === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    };
    const open = await mount.create('f');
    await mount.write(open, 0, 'first');
    await mount.write(open, 0, 'FINAL');
    await mount.closeFile(open);
    expect(readFileSync(there('f'), 'utf8')).toBe('FINAL');
  });

  test('a writer waits when too much waits for the server', async () => {
    start();
    let go = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    mount.server.before = (operation) => (operation === 'write' ? gate : undefined);
    const open = await mount.create('f');
    const block = 'x'.repeat(MEGABYTE);
    let written = 0;
    const writer = (async () => {
      for (let at = 0; at < 40; at++) {
        await mount.write(open, at * MEGABYTE, block);
        written++;
      }
    })();
    await until(() => written > 10, 'the writer runs ahead');
    await new Promise((resolve) => setImmediate(resolve));
    expect(written).toBeLessThan(20);
    go();
    await writer;
    await mount.closeFile(open);
    expect(statSync(there('f')).size).toBe(40 * MEGABYTE);
  });

  test('a full server fails close once, and programs see what it has', async () => {
    start();
    writeFileSync(there('f'), 'before');
    mount.server.before = (operation) => {
      if (operation === 'write') throw new MirageError('full', { errno: 'ENOSPC' });
    };
    const open = await mount.open('f', WRITE);
    await mount.write(open, 0, 'BEFORE');
    expect(await errorOf(mount.flush(open))).toBe('ENOSPC');
    expect(await errorOf(mount.flush(open))).toBe('success');
    mount.release(open);
    expect(await mount.readFile('f')).toBe('before');
    expect(mount.volume.pending()).toEqual([]);
  });

  test('bytes that a server out of reach did not take are kept, and arrive later', async () => {
    start();
    let down = true;
    mount.server.before = (operation) => {
      if (operation === 'write' && down)
        throw new MirageError('gone', { errno: 'EHOSTDOWN', retryable: true });
    };
    const open = await mount.create('f');
    await mount.write(open, 0, 'kept');
    expect(await errorOf(mount.flush(open))).toBe('EHOSTDOWN');
    mount.release(open);
    expect(mount.volume.pending()).toEqual(['/remote/f (4 bytes)']);
    expect(await mount.readFile('f')).toBe('kept');
    down = false;
    await mount.volume.drain();
    expect(readFileSync(there('f'), 'utf8')).toBe('kept');
    expect(mount.volume.pending()).toEqual([]);
  });

  test('times that programs saw stay when the bytes have arrived', async () => {
    start();
    const open = await mount.create('f');
    await mount.write(open, 0, 'content');
    const before = await mount.stat('f');
    await mount.closeFile(open);
    mount.later = 100_000;
    const after = await mount.stat('f');
    expect([after.modifiedSeconds, after.modifiedNanoseconds]).toEqual([
      before.modifiedSeconds,
      before.modifiedNanoseconds,
    ]);
  });
});

describe('handles of the server', () => {
  test('a lost handle is opened again, and what was not acknowledged is written again', async () => {
    start();
    const open = await mount.create('f');
    await mount.write(open, 0, 'one');
    await mount.flush(open);
    await mount.server.loseHandles();
    await mount.write(open, 3, ' two');
    await mount.closeFile(open);
    expect(readFileSync(there('f'), 'utf8')).toBe('one two');
  });

  test('a removed file that is open is read and written on', async () => {
    start();
    writeFileSync(there('f'), 'content');
    const open = await mount.open('f', READ_WRITE);
    await mount.unlink('f');
    expect(existsSync(there('f'))).toBe(false);
    await mount.write(open, 7, ' more');
    expect(await mount.read(open)).toBe('content more');
    await mount.closeFile(open);
    await until(() => mount.server.openHandles === 0, 'the server may forget the file');
  });

  test('where handles do not outlive names a removed file has a hidden one until it is closed', async () => {
    start({ features: { handlesOutliveNames: false, renameExclusive: true } });
    writeFileSync(there('f'), 'content');
    const open = await mount.open('f');
    await mount.unlink('f');
    expect(await mount.read(open)).toBe('content');
    expect(asked('unlink')).toEqual([]);
    mount.release(open);
    await until(() => asked('unlink').length === 1, 'the hidden name goes');
    expect(asked('unlink')[0]).toMatch(/^unlink \.mirage-hidden-/);
  });

  test('none is left when nothing is open', async () => {
    start();
    for (const name of ['a', 'b', 'c']) await mount.closeFile(await mount.create(name));
    await mount.readFile('a');
    await until(() => mount.server.openHandles === 0, 'handles are closed');
  });
});

describe('names', () => {
  test('an answer that was lost is found out', async () => {
    start();
    writeFileSync(there('f'), 'content');
    writeFileSync(there('g'), 'content');
    mount.server.after = (operation) => {
      if (operation === 'unlink' || operation === 'rename') {
        throw new MirageError('the connection broke', { errno: 'EIO', outcomeUnknown: true });
      }
    };
    await mount.unlink('f');
    await mount.rename('g', 'h');
    expect(await mount.list('')).toEqual(['h']);
  });

  test('links made here are one file with their count, after a restart too', async () => {
    start();
    const open = await mount.create('a');
    await mount.write(open, 0, 'content');
    await mount.link('a', 'b');
    await mount.closeFile(open);
    await mount.remount();
    const [a, b] = [await mount.stat('a'), await mount.stat('b')];
    expect([a.nlink, b.nlink, a.ino === b.ino, a.size]).toEqual([2, 2, true, 7]);
    const again = await mount.open('a', WRITE);
    await mount.write(again, 7, '!');
    await mount.closeFile(again);
    expect((await mount.stat('b')).size).toBe(8);
    expect((await mount.stat('b')).nlink).toBe(2);
    await mount.unlink('a');
    expect((await mount.stat('b')).nlink).toBe(1);
  });

  test('an inode number goes with a renamed folder', async () => {
    start();
    mkdirSync(there('d/e'), { recursive: true });
    writeFileSync(there('d/e/f'), 'content');
    const before = [(await mount.stat('d')).ino, (await mount.stat('d/e/f')).ino];
    await mount.rename('d', 'moved');
    expect([(await mount.stat('moved')).ino, (await mount.stat('moved/e/f')).ino]).toEqual(before);
    expect(await mount.readFile('moved/e/f')).toBe('content');
    expect(await errorOf(mount.stat('d'))).toBe('ENOENT');
  });

  test('walking lists each folder once, ahead of the walker and no further than that', async () => {
    start();
    for (let i = 0; i < 100; i++) {
      mkdirSync(there(`d${i}/e`), { recursive: true });
      writeFileSync(there(`d${i}/f`), '');
    }
    await mount.list('');
    await until(() => asked('list').length >= 17, 'some folders are listed ahead');
    expect(asked('list').length).toBeLessThan(40);
    for (let i = 0; i < 100; i++) expect(await mount.list(`d${i}`)).toEqual(['e', 'f']);
    for (let i = 0; i < 100; i++) await mount.stat(`d${i}/f`);
    const lists = asked('list');
    expect(new Set(lists).size).toBe(lists.length);
    expect(asked('lstat').length).toBeLessThan(10);
  });

  test('names that no file has are not shown, whatever the server says', async () => {
    start({
      around: (server) =>
        new Proxy<FileServer>(server, {
          get: (target: FileServer, name: keyof LocalFileServer & keyof FileServer) =>
            name === 'list'
              ? (path: string, onPage: Parameters<FileServer['list']>[1]) =>
                  (target as LocalFileServer).list(path, (entries) =>
                    onPage(
                      entries.flatMap((entry) =>
                        ['..', '../x', 'a/b', '', '.', 'x'.repeat(300), entry.name].map((called) => ({
                          ...entry,
                          name: called,
                        })),
                      ),
                    ),
                  )
              : typeof target[name] === 'function'
                ? (target[name] as (...values: unknown[]) => unknown).bind(target)
                : target[name],
        }),
    });
    writeFileSync(there('f'), '');
    expect(await mount.list('')).toEqual(['f']);
  });
});

describe('attributes are settled', () => {
  test('while they are valid and nobody has the file open', async () => {
    start();
    writeFileSync(there('f'), 'content');
    expect((await mount.settled('f')).settled).toBe(true);
    mount.later = 30_000;
    const { settled, valid } = await mount.settled('f');
    expect(settled).toBe(true);
    expect(valid).toBeLessThanOrEqual(30_000);
    const open = await mount.open('f');
    expect((await mount.settled('f')).settled).toBe(false);
    mount.release(open);
    await until(async () => (await mount.settled('f')).settled, 'the file is not in use any more');
  });

  test('never where nothing is believed', async () => {
    start({ ttl: 0 });
    writeFileSync(there('f'), 'content');
    expect(await mount.settled('f')).toEqual({ settled: false, valid: 0 });
  });

  test('until an open, a change of another host, or a change here', async () => {
    start();
    mkdirSync(there('d'));
    writeFileSync(there('d', 'f'), 'content');
    const node = await mount.node('d/f');
    const unsettledBy = async (action: () => unknown): Promise<number[]> => {
      expect((await mount.settled('d/f')).settled).toBe(true);
      mount.unsettled.length = 0;
      await action();
      return [...mount.unsettled];
    };
    let open: Awaited<ReturnType<RemoteMount['open']>> | undefined;
    expect(
      await unsettledBy(async () => {
        open = await mount.open('d/f');
      }),
    ).toContain(node);
    if (open !== undefined) mount.release(open);
    await until(async () => (await mount.settled('d/f')).settled, 'the file is not in use any more');
    expect(await unsettledBy(() => mount.change('d/f', { mode: 0o600 }))).toContain(0);
    expect(await unsettledBy(() => mount.mkdir('d/e'))).toContain(0);
    mount.later = 120_000;
    writeFileSync(there('d', 'f'), 'other content');
    mount.later = 0;
    expect((await mount.settled('d/f')).settled).toBe(true);
    mount.unsettled.length = 0;
    mount.later = 120_000;
    await mount.list('d');
    expect(mount.unsettled).toContain(0);
    expect((await mount.stat('d/f')).size).toBe(13);
  });
});

describe('over the thread boundary', () => {
  test('the same calls, in order, with pages and errors', async () => {
    const channel = new MessageChannel();
    let served: { close(): void } | undefined;
    start({
      around: (server) => {
        served = serveFileServerPort(channel.port1, { fileServer: () => server });
        return connectFileServerPort(channel.port2, () => server.features).fileServer(0);
      },
    });
    try {
      mkdirSync(there('d'));
      for (let i = 0; i < 2500; i++) writeFileSync(there('d', `f${i}`), '');
      expect(await mount.list('d')).toHaveLength(2500);
      const open = await mount.create('f');
      await mount.write(open, 0, 'content');
      await mount.closeFile(open);
      expect(readFileSync(there('f'), 'utf8')).toBe('content');
      mount.server.before = () => {
        throw new MirageError('no', { errno: 'EACCES', hint: 'ask' });
      };
      expect(await errorOf(mount.mkdir('e'))).toBe('EACCES');
    } finally {
      mount.server.before = () => undefined;
      await mount.close();
      served?.close();
      channel.port2.close();
    }
  });
});
