import { execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from '@jest/globals';

const root = fileURLToPath(new URL('../..', import.meta.url));
const MINUTES = 60_000;
const PARTS = ['fuse-transport', 'local-files'];

/** A copy of the project in which both native parts are built with AddressSanitizer. */
const tree = mkdtempSync(join(tmpdir(), 'mirage-asan-'));
afterAll(() => rmSync(tree, { recursive: true }));

function build(): void {
  for (const name of [
    'package.json',
    'jest.config.js',
    'src',
    'test/fast-check.ts',
    'test/fuse',
    'test/native',
    'test/scratch',
  ]) {
    mkdirSync(dirname(join(tree, name)), { recursive: true });
    cpSync(join(root, name), join(tree, name), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
  const gyp = join(root, 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
  const prefix = dirname(dirname(process.execPath));
  const headers = existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? [`--nodedir=${prefix}`] : [];
  for (const part of PARTS) {
    const source = join(root, 'native-helpers', part);
    const folder = join(tree, 'native-helpers', part);
    cpSync(source, folder, {
      recursive: true,
      filter: (path) => !/^(build|prebuilds)(\/|$)/.test(relative(source, path)),
    });
    execFileSync(process.execPath, [gyp, 'rebuild', '--asan=1', ...headers], { cwd: folder, stdio: 'pipe' });
  }
}

/** Runs jest in the instrumented tree; libasan has to come before everything else that Node loads. */
function instrumented(...args: string[]): Promise<{ code: number | null; output: string }> {
  const library = execFileSync('cc', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
  const jest = join(root, 'node_modules', 'jest', 'bin', 'jest.js');
  const child = spawn(
    process.execPath,
    [jest, '--runInBand', '--testTimeout', String(2 * MINUTES), '--rootDir', tree, ...args],
    {
      cwd: tree,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        LD_PRELOAD: library,
        // Node itself does not free what it holds at its end.
        ASAN_OPTIONS: 'detect_leaks=0',
        NODE_OPTIONS: '--experimental-vm-modules',
      },
    },
  );
  let output = '';
  const keep = (chunk: unknown): void => {
    output += String(chunk);
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, output })));
}

test(
  'both native parts do nothing that AddressSanitizer objects to',
  async () => {
    build();
    const own = ['test/native/fuse-transport', 'test/native/local-files'];
    const mounted = [
      'test/fuse/mounted',
      '-t',
      'every operation, answered|interrupted|in two threads|several large writes',
    ];
    for (const args of [own, mounted]) {
      const { code, output } = await instrumented(...args);
      expect(output).not.toContain('AddressSanitizer');
      if (code !== 0) throw new Error(output);
      expect(output).toMatch(/Tests:.* passed/);
    }
  },
  8 * MINUTES,
);
