/** A daemon as a child process, started through the command line as a user does, and its mount. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Ended, run, until } from './process.js';

export const projectRoot = fileURLToPath(new URL('../..', import.meta.url));
/** The build to test: this one, or an installed one that the environment names. */
const cli = join(process.env.MIRAGE_TEST_BUILD ?? join(projectRoot, 'dist'), 'cli', 'main.js');

/** What Node runs as `mirage`. */
export const mirageCommand: readonly string[] = [cli];

export interface MountOptions {
  /** Mount table of the configuration: path below the mount point → mount. */
  mounts: Record<string, Record<string, unknown>>;
  binding?: 'raw' | 'fuse-native';
  /** Further top-level keys. */
  configuration?: Record<string, unknown>;
  env?: Record<string, string>;
  /** Gives the cache directory a disk of its own, so large (as tmpfs says it); needs root. */
  cacheDisk?: string;
  /** Milliseconds until the mount must answer. */
  deadline?: number;
}

export const isRoot = process.getuid?.() === 0;

/** Mounts that this process has to end, whatever happens to its tests. */
const running = new Set<Mirage>();
process.on('exit', () => {
  for (const mirage of running) mirage.kill();
});

export class Mirage {
  /** Everything of this daemon: configuration, state, cache, log, mount point. */
  readonly folder: string;
  readonly mountpoint: string;
  readonly #options: MountOptions;
  readonly #env: Record<string, string>;
  #daemon: ChildProcess | undefined;

  private constructor(options: MountOptions) {
    this.#options = options;
    this.folder = mkdtempSync(join(tmpdir(), 'mirage-mounted-'));
    // Other users must be able to reach the mount.
    chmodSync(this.folder, 0o755);
    this.mountpoint = join(this.folder, 'mnt');
    for (const name of ['mnt', 'state', 'cache', 'run']) mkdirSync(join(this.folder, name));
    if (options.cacheDisk !== undefined) {
      const size = `size=${options.cacheDisk}`;
      execFileSync('mount', ['-t', 'tmpfs', '-o', size, 'mirage-test', join(this.folder, 'cache')]);
    }
    this.#env = { MIRAGE_RUNTIME: join(this.folder, 'run'), ...options.env };
    const configuration = {
      mountpoint: this.mountpoint,
      state: join(this.folder, 'state'),
      cache: { directory: join(this.folder, 'cache') },
      allowOther: isRoot,
      binding: options.binding ?? 'raw',
      ...options.configuration,
      mounts: options.mounts,
    };
    // JSON is YAML.
    writeFileSync(this.#file('mirage.yaml'), JSON.stringify(configuration, null, 2), { mode: 0o600 });
  }

  /** Starts a daemon; resolves when its mount answers. */
  static async start(options: MountOptions): Promise<Mirage> {
    const mirage = new Mirage(options);
    running.add(mirage);
    try {
      await mirage.#start();
    } catch (error) {
      await mirage.dispose();
      throw error;
    }
    return mirage;
  }

  path(...names: string[]): string {
    return join(this.mountpoint, ...names);
  }

  /** Process id of the daemon. */
  get pid(): number {
    return this.#daemon?.pid as number;
  }

  /** What the daemon has written so far. */
  log(): string {
    return readFileSync(this.#file('log'), 'utf8');
  }

  /** Runs the command line against this daemon. */
  mirage(...args: string[]): Promise<Ended> {
    return run(process.execPath, [cli, ...args], { env: this.#env });
  }

  /** Ends the daemon as a service manager does: what is pending is stored first. Resolves with its exit code. */
  async stop(deadline = 30_000): Promise<number | null> {
    this.#daemon?.kill('SIGTERM');
    return this.ended(deadline);
  }

  /** Waits for the daemon to end by itself; resolves with its exit code. */
  async ended(deadline = 30_000): Promise<number | null> {
    await this.#exited(deadline);
    return this.#daemon?.exitCode ?? null;
  }

  /** Starts it again on the same state. */
  async restart(): Promise<void> {
    await this.#start();
  }

  /** Ends the daemon without warning; the mount stays behind. */
  async crash(): Promise<void> {
    this.#daemon?.kill('SIGKILL');
    await this.#exited(10_000);
  }

  /** Unmounts, ends the daemon and removes its folder. */
  async dispose(): Promise<void> {
    if (this.#daemon !== undefined && !this.#hasExited()) {
      this.#daemon.kill('SIGTERM');
      await this.#exited(20_000).catch(() => undefined);
    }
    this.kill();
    running.delete(this);
    if (this.#options.cacheDisk !== undefined) await run('umount', [join(this.folder, 'cache')]);
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** The last means: never waits for the daemon. */
  kill(): void {
    if (isMounted(this.mountpoint)) {
      try {
        const [command, options] = isRoot ? ['umount', ['-f', '-l']] : ['fusermount3', ['-u', '-z']];
        execFileSync(command, [...options, this.mountpoint], { stdio: 'ignore', timeout: 10_000 });
      } catch {
        // The end of the daemon ends what is left.
      }
    }
    this.#daemon?.kill('SIGKILL');
  }

  async #start(): Promise<void> {
    const log = openSync(this.#file('log'), 'a');
    const daemon = spawn(
      process.execPath,
      [cli, 'mount', '--foreground', '--config', this.#file('mirage.yaml')],
      { stdio: ['ignore', log, log], env: { ...process.env, ...this.#env } },
    );
    const before = fstatSync(log).size;
    closeSync(log);
    this.#daemon = daemon;
    const deadline = this.#options.deadline ?? 30_000;
    await until(
      () => {
        if (this.#hasExited()) throw new Error(`the daemon ended with ${daemon.exitCode}:\n${this.log()}`);
        // The mount table would also show what a daemon that was killed has left.
        return readFileSync(this.#file('log')).subarray(before).includes('Mounted at');
      },
      `the mount appears\n${this.log()}`,
      deadline,
    );
  }

  #hasExited(): boolean {
    return this.#daemon?.exitCode !== null || this.#daemon.signalCode !== null;
  }

  #exited(deadline: number): Promise<void> {
    return until(() => this.#hasExited(), 'the daemon ends', deadline);
  }

  #file(name: string): string {
    return join(this.folder, name);
  }
}

/** Whether something is mounted at this path. Reads the mount table: a dead mount is not touched. */
export const isMounted = (path: string): boolean =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[4] === path);
