/** Programs as children with a deadline: a call that hangs in the kernel fails its test instead of hanging jest. */
import { spawn } from 'node:child_process';

export interface Ended {
  /** Exit code; undefined when the program was killed. */
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
  /** It did not end within its deadline. */
  readonly hung: boolean;
}

export interface RunOptions {
  cwd?: string;
  env?: Record<string, string | undefined>;
  input?: string | Buffer;
  /** Milliseconds. */
  deadline?: number;
  uid?: number;
}

/** Runs a program to its end; never rejects because of what it did. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Ended> {
  const { cwd, input = '', deadline = 60_000, uid } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: 'pipe',
      env: { ...process.env, ...options.env },
      // A group of its own, so that what it started ends with it.
      detached: true,
      ...(cwd === undefined ? {} : { cwd }),
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    let hung = false;
    const timer = setTimeout(() => {
      hung = true;
      end('the deadline passed');
    }, deadline);
    const finish = (code: number | undefined): void => {
      clearTimeout(timer);
      resolve({ code, hung, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() });
    };
    function end(why: string): void {
      err.push(Buffer.from(`\n[killed: ${why}]`));
      try {
        process.kill(-(child.pid as number), 'SIGKILL');
      } catch {
        // It has just ended.
      }
      // A process that the kernel does not let go must not hold the test.
      setTimeout(() => finish(undefined), 2000).unref();
    }
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.on('error', reject);
    child.on('close', (code) => finish(code ?? undefined));
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

/** Runs a program that must succeed; returns its output. */
export async function must(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const ended = await run(command, args, options);
  if (ended.code !== 0) {
    const why = ended.hung ? 'hung' : `ended with ${ended.code}`;
    throw new Error(`${why}\n${ended.stderr}\n${ended.stdout}\n${command} ${args.join(' ')}`.slice(0, 6000));
  }
  return ended.stdout;
}

/** A shell script that must succeed, in `cwd`. */
export const shell = (script: string, cwd: string, options: RunOptions = {}): Promise<string> =>
  must('bash', ['-euo', 'pipefail', '-c', script], { ...options, cwd });

/** The system's own interpreter: a version manager's may be slow to start. */
export const python = '/usr/bin/python3';

/** Waits until `condition` holds; throws when it does not within `deadline` milliseconds. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  deadline = 20_000,
): Promise<void> {
  const end = performance.now() + deadline;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`it did not happen within ${deadline} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
