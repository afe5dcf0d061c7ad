import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { errno, errnoName } from '../../src/errors/errno.js';
import { errnoOf } from '../../src/errors/mirage-error.js';
import { daemon, Host, openRoot, outcome, ROOT, temporaryFolder } from './host-harness.js';

const SECRET = 'outside of the root';
/** Rounds that were not lost, and rounds at most. */
const SERVED = 100;
const ROUNDS = 300_000;
/** What a lost race may answer; everything else is a defect. */
const LOST = [
  errno.ENOENT,
  errno.ESTALE,
  errno.ENOTDIR,
  errno.ELOOP,
  errno.EEXIST,
  errno.EISDIR,
  errno.EACCES,
];

/** Nothing that is done to the tree below leads out of it. */
describe('a host volume is confined to its root', () => {
  let folder: ReturnType<typeof temporaryFolder>;
  let host: Host;
  let attacker: ChildProcess | undefined;
  const at = (name: string): string => join(folder.path, name);

  beforeEach(() => {
    folder = temporaryFolder();
    mkdirSync(at('outside'));
    writeFileSync(at('outside/secret'), SECRET);
    mkdirSync(at('root/inside'), { recursive: true });
    writeFileSync(at('root/inside/secret'), 'inside');
    host = new Host(openRoot(at('root')), false);
  });
  afterEach(async () => {
    attacker?.kill('SIGKILL');
    attacker = undefined;
    await host.close();
    folder.remove();
  });

  /** Runs a script in a child process over and over, until the test ends. */
  async function attack(script: string): Promise<void> {
    const code = `const fs = require('node:fs'); process.stdout.write('ready'); for (;;) { try { ${script} } catch {} }`;
    const child = spawn(process.execPath, ['-e', code], {
      cwd: at('root'),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    attacker = child;
    await new Promise((resolve) => child.stdout.once('data', resolve));
  }

  /** Runs an operation that may lose the race; false if it did. */
  function tries(action: () => void): boolean {
    try {
      action();
      return true;
    } catch (error) {
      if (error instanceof Error && LOST.some((code) => error.message.includes(errnoName(code))))
        return false;
      expect(LOST).toContain(errnoOf(error));
      return false;
    }
  }

  test('through symlinks that stand there', () => {
    symlinkSync(at('outside'), at('root/absolute'));
    symlinkSync('../outside', at('root/relative'));
    symlinkSync('../outside/secret', at('root/file'));
    for (const link of ['absolute', 'relative']) {
      const { node, attributes } = host.lookup(ROOT, link);
      expect(attributes.mode & 0o170000).toBe(0o120000);
      expect(outcome(() => host.lookup(node, 'secret'))).toBe('ENOTDIR');
      expect(outcome(() => host.create(node, 'new'))).toBe('ENOTDIR');
      expect(outcome(() => host.opendir(node))).toBe('ENOTDIR');
    }
    expect(outcome(() => host.open(host.node('file')))).toMatch(/ELOOP|ESTALE/);
    expect(outcome(() => host.create(ROOT, 'file'))).toBe('ESTALE');
    expect(readFileSync(at('outside/secret'), 'utf8')).toBe(SECRET);
  });

  test('while a directory is swapped for a symlink to the outside', async () => {
    symlinkSync(at('outside'), at('root/swap'));
    await attack(`
      fs.renameSync('inside', 'aside'); fs.renameSync('swap', 'inside');
      fs.renameSync('inside', 'swap'); fs.renameSync('aside', 'inside');`);
    let served = 0;
    for (let round = 0; served < SERVED && round < ROUNDS; round++) {
      tries(() => {
        const inside = host.node('inside');
        const file = host.lookup(inside, 'secret');
        if (file.errno !== 0) return;
        const reply = host.open(file.node);
        if (reply.errno !== 0) return;
        expect(host.read(file.node, reply.handle)).toBe('inside');
        host.release(file.node, reply.handle);
        served++;
        host.file(inside, `made ${round % 10}`, 'x');
        host.volume.unlink(daemon, inside, `made ${round % 10}`);
      });
    }
    expect(served).toBe(SERVED);
    expect(readdirSync(at('outside'))).toEqual(['secret']);
    expect(readFileSync(at('outside/secret'), 'utf8')).toBe(SECRET);
  });

  test('while a file is swapped for a symlink to the outside', async () => {
    symlinkSync(at('outside/secret'), at('root/inside/link'));
    await attack(`
      fs.renameSync('inside/secret', 'inside/aside'); fs.renameSync('inside/link', 'inside/secret');
      fs.renameSync('inside/secret', 'inside/link'); fs.renameSync('inside/aside', 'inside/secret');`);
    const inside = host.node('inside');
    let served = 0;
    for (let round = 0; served < SERVED && round < ROUNDS; round++) {
      tries(() => {
        const file = host.lookup(inside, 'secret');
        if (file.errno !== 0) return;
        const reply = host.open(file.node, 2);
        if (reply.errno !== 0) return;
        expect(host.read(file.node, reply.handle)).toBe('inside');
        host.write(file.node, reply.handle, 0, 'inside');
        host.release(file.node, reply.handle);
        host.volume.setattr(daemon, file.node, { mode: 0o600 });
        served++;
      });
    }
    expect(served).toBe(SERVED);
    expect(readFileSync(at('outside/secret'), 'utf8')).toBe(SECRET);
  });

  test('while a directory is moved out of the root and back', async () => {
    mkdirSync(at('root/inside/deep'));
    writeFileSync(at('root/inside/deep/file'), 'inside');
    await attack(`
      fs.renameSync('inside/deep', '../outside/deep'); fs.renameSync('../outside/deep', 'inside/deep');`);
    let served = 0;
    // What was inside stays served by its descriptor; nothing above it can be reached from it.
    for (let round = 0; served < SERVED && round < ROUNDS; round++) {
      tries(() => {
        const deep = host.node('inside/deep');
        expect(outcome(() => host.lookup(deep, '..'))).toBe('EINVAL');
        expect(outcome(() => host.lookup(deep, '../secret'))).toBe('EINVAL');
        const file = host.lookup(deep, 'file');
        if (file.errno !== 0) return;
        expect(file.attributes.size).toBe(6);
        served++;
      });
    }
    expect(served).toBe(SERVED);
    expect(readFileSync(at('outside/secret'), 'utf8')).toBe(SECRET);
  });
});
