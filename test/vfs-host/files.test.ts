import { execFileSync } from 'node:child_process';
import { constants, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { CACHED_SIZE } from '../../src/vfs/host/host-files.js';
import { OpenReply, Reply } from '../../src/vfs/operations.js';
import { callOf, daemon, Host, outcome, ROOT, source, temporaryFolder, until } from './host-harness.js';

const asRoot = process.getuid!() === 0 ? test : test.skip;
const { O_APPEND, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } = constants;

describe('open files of a host volume', () => {
  let folder: ReturnType<typeof temporaryFolder>;
  let host: Host;
  let wall: number;
  const at = (name: string): string => join(folder.path, name);

  beforeEach(() => {
    folder = temporaryFolder();
    // Long after every change, unless a test says otherwise.
    wall = Date.now() + 60_000;
    host = new Host(folder.root(), false, {}, { clock: { monotonic: () => 0, wall: () => wall } });
  });
  afterEach(async () => {
    await host.close();
    folder.remove();
  });

  test('what is written is read, at once, by everybody', () => {
    const { entry, open } = host.create(ROOT, 'file');
    host.write(entry.nodeId, open.handle, 0, 'hello');
    host.write(entry.nodeId, open.handle, 5, ' world');
    const reader = host.open(entry.nodeId);
    expect(host.read(entry.nodeId, reader.handle)).toBe('hello world');
    expect(host.read(entry.nodeId, reader.handle, 6, 3)).toBe('wor');
    expect(host.read(entry.nodeId, reader.handle, 100)).toBe('');
    expect(readFileSync(at('file'), 'utf8')).toBe('hello world');
    expect(host.attributes(entry.nodeId).size).toBe(11);
  });

  test('a handle is good until it is released', () => {
    const node = host.file(ROOT, 'file', 'x');
    const { handle } = host.open(node);
    host.release(node, handle);
    expect(() => host.read(node, handle)).toThrow('EBADF');
    expect(outcome(() => host.write(node, handle, 0, 'x'))).toBe('EBADF');
    host.release(node, handle);
  });

  describe('the pages that the kernel holds', () => {
    test('stay right while nobody writes', () => {
      const node = host.file(ROOT, 'file', 'x');
      expect(host.open(node).keepCache).toBe(false);
      expect(host.open(node).keepCache).toBe(true);
      execFileSync('sh', ['-c', 'printf y > "$1"', 'sh', at('file')]);
      expect(host.open(node).keepCache).toBe(false);
      expect(host.open(node).keepCache).toBe(true);
    });

    test('are not trusted when the file may change within the same tick of the clock', () => {
      const node = host.file(ROOT, 'file', 'x');
      const stat = statSync(at('file'));
      wall = stat.ctimeMs + 1;
      expect(host.open(node).keepCache).toBe(false);
      expect(host.open(node).keepCache).toBe(false);
      wall = stat.ctimeMs + 1000;
      expect(host.open(node).keepCache).toBe(false);
      expect(host.open(node).keepCache).toBe(true);
    });
  });

  describe('how the kernel does the I/O of a node', () => {
    const big = 'x'.repeat(CACHED_SIZE + 1);

    test('small files that are read go through the page cache, large ones and written ones do not', () => {
      const small = host.file(ROOT, 'small', 'x');
      const large = host.file(ROOT, 'large', big);
      expect(host.open(small).passthroughFd).toBe(-1);
      expect(host.open(large).passthroughFd).toBeGreaterThanOrEqual(0);
      const written = host.open(host.file(ROOT, 'written', 'x'), O_RDWR);
      expect(written.passthroughFd).toBeGreaterThanOrEqual(0);
    });

    test('is decided by the first open, for all until the last close', () => {
      const node = host.file(ROOT, 'file', 'x');
      const reader = host.open(node);
      const writer = host.open(node, O_WRONLY);
      expect(writer.passthroughFd).toBe(-1);
      host.release(node, reader.handle);
      expect(host.open(node, O_RDWR).passthroughFd).toBe(-1);
      const large = host.file(ROOT, 'large', big);
      const first = host.open(large);
      expect(host.open(large, O_RDWR).passthroughFd).toBe(first.passthroughFd);
      expect(host.open(large).passthroughFd).toBe(first.passthroughFd);
    });

    test('never passes us by where writing must end suid', () => {
      const node = host.file(ROOT, 'file', 'x', 0o4755);
      const { handle, passthroughFd } = host.open(node, O_WRONLY);
      expect(passthroughFd).toBe(-1);
      host.write(node, handle, 0, 'y');
      expect(host.attributes(node).mode & 0o7777).toBe(0o4755);
      host.write(node, handle, 0, 'z', true);
      expect(host.attributes(node).mode & 0o7777).toBe(0o755);
    });

    asRoot('ends suid at the open where it does pass us by', () => {
      const node = host.file(ROOT, 'file', big, 0o6755);
      const reader = host.open(node);
      expect(reader.passthroughFd).toBeGreaterThanOrEqual(0);
      host.open(node, O_WRONLY);
      expect(host.attributes(node).mode & 0o7777).toBe(0o6755);
      host.open(node, O_WRONLY, callOf(1234));
      expect(host.attributes(node).mode & 0o7777).toBe(0o755);
    });

    describe('a chmod to suid while others may write past us', () => {
      let node: number;
      let handle: number;
      const mode = () => host.attributes(node).mode & 0o7777;
      const chmod = () => host.volume.setattr(daemon, node, { mode: 0o4755 });

      beforeEach(() => {
        node = host.file(ROOT, 'file', 'content', 0o777);
        handle = host.open(node, O_WRONLY, callOf(1234)).handle;
      });

      asRoot('holds when they have closed the file', () => {
        chmod();
        expect(mode()).toBe(0o755);
        host.release(node, handle);
        expect(mode()).toBe(0o4755);
      });

      asRoot('is void when they have written', () => {
        chmod();
        writeFileSync(join(folder.path, 'file'), 'something else');
        host.release(node, handle);
        expect(mode()).toBe(0o755);
      });

      asRoot('is void after a chown, and after another chmod', () => {
        chmod();
        host.volume.setattr(daemon, node, { uid: 1234 });
        host.release(node, handle);
        expect(mode()).toBe(0o755);
        const again = host.open(node, O_WRONLY, callOf(1234));
        chmod();
        host.volume.setattr(daemon, node, { mode: 0o700 });
        host.release(node, again.handle);
        expect(mode()).toBe(0o700);
      });

      asRoot('holds at once where only root writes', () => {
        host.release(node, handle);
        host.open(node, O_WRONLY);
        chmod();
        expect(mode()).toBe(0o4755);
      });
    });
  });

  test('O_TRUNC truncates, and ends suid when told to', () => {
    const node = host.file(ROOT, 'file', 'content', 0o4755);
    const reply = new OpenReply();
    host.volume.open(daemon, node, { flags: O_WRONLY | O_TRUNC, killPrivileges: true }, reply);
    expect(reply.errno).toBe(0);
    expect(host.attributes(node)).toMatchObject({ size: 0, mode: 0o100755 });
  });

  test('many that append lose nothing, nor what is appended outside', () => {
    const node = host.file(ROOT, 'log', '');
    const { handle } = host.open(node);
    const appenders = [0, 1, 2, 3].map(() => host.open(node, O_WRONLY | O_APPEND).handle);
    let size = 0;
    for (let line = 0; line < 50; line++) {
      for (const [i, appender] of appenders.entries()) {
        host.write(node, appender, size, `${i}`);
        size++;
      }
    }
    // The kernel does not know of these yet when it sends the next append.
    execFileSync('sh', ['-c', 'printf outside >> "$1"', 'sh', at('log')]);
    host.write(node, appenders[0]!, size + 7, 'end');
    expect(host.read(node, handle)).toBe(`${'0123'.repeat(50)}outsideend`);
  });

  test('pages of a mapping are written back in place through an appending handle', () => {
    const node = host.file(ROOT, 'file', 'abc');
    const { handle } = host.open(node, O_RDWR | O_APPEND);
    host.write(node, handle, 1, 'X');
    expect(host.read(node, handle)).toBe('aXc');
  });

  test('files larger than 32 bits, and their holes', () => {
    const { entry, open } = host.create(ROOT, 'sparse');
    const { nodeId } = entry;
    const far = 5 * 2 ** 30;
    host.write(nodeId, open.handle, far, 'end');
    expect(host.attributes(nodeId).size).toBe(far + 3);
    expect(host.read(nodeId, open.handle, far)).toBe('end');
    expect(host.volume.lseek(daemon, nodeId, open.handle, 0, 3)).toBe(far);
    expect(host.volume.lseek(daemon, nodeId, open.handle, 0, 4)).toBe(0);
    expect(outcome(() => host.volume.lseek(daemon, nodeId, open.handle, far + 3, 3))).toBe('ENXIO');
    host.volume.fallocate(daemon, nodeId, open.handle, 3, far, 3);
    expect(host.read(nodeId, open.handle, far)).toBe('\0\0\0');
  });

  test('bytes are copied between files', () => {
    const from = host.file(ROOT, 'from', 'copy this');
    const to = host.file(ROOT, 'to', '');
    const source = { node: from, handle: host.open(from).handle, offset: 5 };
    const target = { node: to, handle: host.open(to, O_WRONLY).handle, offset: 2 };
    expect(host.volume.copyFileRange(daemon, source, target, 100)).toBe(4);
    expect(host.read(to, host.open(to).handle)).toBe('\0\0this');
  });

  test('fsync of files and directories', async () => {
    const { entry, open } = host.create(ROOT, 'file');
    await host.volume.fsync(daemon, entry.nodeId, open.handle, true);
    await host.volume.fsync(daemon, entry.nodeId, open.handle, false);
    await host.volume.fsyncdir(daemon, ROOT, host.opendir(ROOT).handle, false);
  });

  test('a close has nothing to report on a local disk', () => {
    const { entry, open } = host.create(ROOT, 'file');
    expect(open.noFlush).toBe(true);
    const reply = new Reply();
    host.volume.flush(daemon, entry.nodeId, open.handle, reply);
    expect(reply.errno).toBe(0);
  });

  test('a failed write says why', () => {
    const node = host.file(ROOT, 'file', 'x');
    const { handle } = host.open(node, O_WRONLY);
    const full = { ...source('x'), writeTo: () => -28 };
    expect(outcome(() => host.volume.write(daemon, node, handle, 0, full))).toBe('ENOSPC');
  });

  test('more nodes than descriptors: those used last stay open, the others are opened again', async () => {
    await host.close();
    host = new Host(folder.root(), false, { descriptors: 16 });
    const before = openDescriptors();
    const nodes = Array.from({ length: 200 }, (_, i) => {
      const { nodeId } = host.volume.mkdir(daemon, ROOT, `d${i}`, 0o755);
      return [nodeId, host.file(nodeId, 'file', `${i}`)] as const;
    });
    for (const [directory, file] of nodes) {
      expect(host.attributes(directory).nlink).toBe(2);
      expect(host.attributes(file).size).toBeGreaterThan(0);
    }
    await until('descriptors are closed', () => openDescriptors() - before <= 17);
    for (const [i, [directory, file]] of nodes.entries()) {
      expect(host.lookup(directory, 'file').node).toBe(file);
      const { handle } = host.open(file);
      expect(host.read(file, handle)).toBe(`${i}`);
      host.release(file, handle);
    }
    // Closed meanwhile, and replaced by another file of the same name.
    const [directory, file] = nodes[0]!;
    writeFileSync(at('other'), 'other');
    execFileSync('mv', [at('other'), at('d0/file')]);
    await until('descriptors are closed', () => openDescriptors() - before <= 17);
    expect(outcome(() => host.getattr(file))).toBe('ESTALE');
    expect(host.lookup(directory, 'file').node).not.toBe(file);
    // A node that lost its name keeps its descriptor.
    const [, kept] = nodes[1]!;
    host.volume.unlink(daemon, nodes[1]![0], 'file');
    for (const [other] of nodes) host.attributes(other);
    await until('descriptors are closed', () => openDescriptors() - before <= 18);
    expect(host.attributes(kept)).toMatchObject({ nlink: 0, size: 1 });
  });

  test('an open for reading only opens no writer', () => {
    const node = host.file(ROOT, 'file', 'x');
    const { handle } = host.open(node, O_RDONLY);
    const modes = descriptorsOf(at('file'));
    expect(modes).toContain(O_RDONLY);
    expect(modes).not.toContain(O_RDWR);
    expect(modes).not.toContain(O_WRONLY);
    host.release(node, handle);
  });
});

const openDescriptors = (): number =>
  Number(execFileSync('sh', ['-c', `ls /proc/${process.pid}/fd | wc -l`], { encoding: 'utf8' }));

/** Access modes of our descriptors of a file, O_PATH ones left out. */
function descriptorsOf(path: string): number[] {
  const script = `for fd in /proc/${process.pid}/fd/*; do
    [ "$(readlink $fd)" = "$1" ] && sed -n 's/^flags:\\t*//p' /proc/${process.pid}/fdinfo/\${fd##*/}; done; true`;
  const output = execFileSync('sh', ['-c', script, 'sh', path], { encoding: 'utf8' });
  return output
    .split('\n')
    .filter((line) => line !== '')
    .map((flags) => Number.parseInt(flags, 8))
    .filter((flags) => (flags & 0o10000000) === 0)
    .map((flags) => flags & 3);
}
