/** A place for one test: folders of its own, the command line, and the end of whatever was mounted. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));
/** The build to test: this one, or the one that the environment names. */
export const cli = join(process.env.MIRAGE_TEST_BUILD ?? join(root, 'dist'), 'cli', 'main.js');

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; one that hangs is killed, and its code is null. */
export function run(
  program: string,
  options: readonly string[],
  {
    env,
    deadline = 30_000,
    cwd,
  }: { env?: Record<string, string | undefined>; deadline?: number; cwd?: string } = {},
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(
      program,
      options,
      { env: { ...process.env, ...env }, timeout: deadline, killSignal: 'SIGKILL', ...(cwd && { cwd }) },
      (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

/** Waits for a condition; throws after `deadline` milliseconds. */
export async function until(what: string, condition: () => boolean, deadline = 15_000): Promise<void> {
  const end = performance.now() + deadline;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited ${deadline} ms for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export class Scratch {
  readonly folder = mkdtempSync(join(tmpdir(), 'mirage-cli-'));
  readonly mountpoint = this.make('mnt');
  readonly #children: ChildProcess[] = [];
  readonly #mountpoints = [this.mountpoint];
  env: Record<string, string | undefined>;

  constructor() {
    chmodSync(this.folder, 0o755);
    this.env = {
      HOME: this.make('home'),
      MIRAGE_RUNTIME: join(this.folder, 'run'),
      MIRAGE_CONFIG: undefined,
      XDG_CONFIG_HOME: undefined,
      XDG_STATE_HOME: undefined,
      XDG_CACHE_HOME: undefined,
      NO_COLOR: undefined,
    };
  }

  /** A folder in here. */
  make(...names: string[]): string {
    const path = join(this.folder, ...names);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** Another mount point, unmounted at the end too. */
  makeMountPoint(name: string): string {
    const path = this.make(name);
    this.#mountpoints.push(path);
    return path;
  }

  write(name: string, text: string, mode = 0o600): string {
    const path = join(this.folder, name);
    writeFileSync(path, text, { mode });
    chmodSync(path, mode);
    return path;
  }

  mirage(...options: string[]): Promise<Ended> {
    return run(process.execPath, [cli, ...options], { env: this.env, cwd: this.folder, deadline: 60_000 });
  }

  /** `mirage mount --foreground`, which runs until it is ended. */
  start(...options: string[]): { child: ChildProcess; output: () => string; ended: Promise<number | null> } {
    const child = spawn(process.execPath, [cli, ...options], {
      env: { ...process.env, ...this.env },
      cwd: this.folder,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.push(child);
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (text += chunk));
    return { child, output: () => text, ended: new Promise((resolve) => child.once('exit', resolve)) };
  }

  /** A program that stays in a folder. */
  startProgram(program: string, options: readonly string[], cwd: string): ChildProcess {
    const child = spawn(program, options, { cwd, stdio: 'ignore' });
    this.#children.push(child);
    return child;
  }

  /** A shell command inside the mount, from another process. */
  inside(command: string, mountpoint = this.mountpoint): Promise<Ended> {
    return run('sh', ['-c', `cd "$0" && { ${command}\n}`, mountpoint], { deadline: 20_000 });
  }

  isMounted(mountpoint = this.mountpoint): boolean {
    return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${mountpoint} `);
  }

  async dispose(): Promise<void> {
    for (const mountpoint of this.#mountpoints) {
      if (this.isMounted(mountpoint)) await this.mirage('unmount', '--force', mountpoint);
      if (this.isMounted(mountpoint)) execFileSync('umount', ['-l', mountpoint]);
    }
    for (const child of this.#children) {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

if (!existsSync(cli)) throw new Error('dist/ is missing: npm run build');
