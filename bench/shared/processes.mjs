// @ts-check
import { spawn } from 'node:child_process';

/** Children that still run: ended, by their id, when the benchmark ends in whatever way. */
const running = new Set();

/**
 * Starts a child in a process group of its own, so that Ctrl-C reaches the benchmark alone and it can unmount first.
 * @param {readonly string[]} command
 * @param {{ input?: boolean, environment?: Record<string, string> }} [options] `input`: keep a pipe to its standard input
 */
export function start(command, options = {}) {
  const child = spawn(command[0] ?? '', command.slice(1), {
    detached: true,
    stdio: [options.input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...options.environment },
  });
  let output = '';
  let errors = '';
  child.stdout?.on('data', (data) => {
    output += data;
  });
  child.stderr?.on('data', (data) => {
    errors = (errors + data).slice(-4000);
  });
  running.add(child);
  /** @type {Promise<{ code: number | null, signal: NodeJS.Signals | null }>} */
  const ended = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal }));
  });
  const forget = () => running.delete(child);
  ended.then(forget, forget);
  return { child, ended, output: () => output, errors: () => errors.trim() };
}

/**
 * Runs a command to its end and answers what it printed.
 * @param {readonly string[]} command
 * @param {{ seconds?: number, onTimeout?: () => void }} [options] `onTimeout` is called before the command is killed: a program
 * that waits inside a dead mount cannot end before the mount does
 */
export async function run(command, options = {}) {
  const process = start(command);
  const timer = setTimeout(
    () => {
      options.onTimeout?.();
      process.child.kill('SIGKILL');
    },
    (options.seconds ?? 60) * 1000,
  );
  try {
    const { code, signal } = await process.ended;
    if (code !== 0) {
      const end = signal ? `was ended by ${signal}` : `ended with ${code}`;
      throw new Error(`${command.join(' ')} ${end}: ${process.errors()}`);
    }
    return process.output();
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Waits until `condition` holds.
 * @param {() => boolean} condition
 * @param {number} seconds
 */
export async function until(condition, seconds) {
  const deadline = performance.now() + seconds * 1000;
  while (!condition()) {
    if (performance.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return true;
}

/** Ends what still runs. */
export function endChildren() {
  for (const child of running) child.kill('SIGKILL');
}
