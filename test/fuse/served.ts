/** A child process that serves a mount, and programs that use it: nothing here waits longer than its deadline. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { ServerOptions } from './server.js';

const here = fileURLToPath(new URL('.', import.meta.url));
const DEADLINE = 60_000;

export interface Outcome {
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, at most `DEADLINE` milliseconds. */
export function run(command: string, ...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(command, args, { timeout: DEADLINE, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      resolve({ code: error ? (error.code ?? error.signal ?? 'failed') : 0, stdout, stderr });
    });
  });
}

export const python = (program: string, ...args: string[]): Promise<Outcome> =>
  run('python3', '-c', program, ...args);
export const everyOperation = (mountpoint: string): Promise<Outcome> =>
  run('python3', join(here, 'every_operation.py'), mountpoint);

/** Waits until a condition holds. */
export async function until(what: string, condition: () => Promise<boolean> | boolean): Promise<void> {
  const end = Date.now() + DEADLINE;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`${what}: not within ${DEADLINE} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

type Message = { ready?: true; ended?: true; answer?: unknown };

export class Served implements AsyncDisposable {
  readonly mountpoint = mkdtempSync(join(tmpdir(), 'mirage-fuse-'));
  readonly #child: ChildProcess;
  readonly #messages: Message[] = [];
  readonly #waiting: ((message: Message) => void)[] = [];
  /** Exit code of the process, once it has ended. */
  readonly exited: Promise<number | NodeJS.Signals | null>;
  stderr = '';

  constructor(options: ServerOptions = {}, program = 'server.ts') {
    const loader = join(here, 'typescript.mjs');
    this.#child = spawn(
      process.execPath,
      ['--no-warnings', '--import', loader, join(here, program), this.mountpoint, JSON.stringify(options)],
      { stdio: ['pipe', 'pipe', 'pipe'] },
    );
    this.exited = new Promise((resolve) => {
      this.#child.on('exit', (code, signal) => resolve(code ?? signal));
    });
    this.#child.stderr?.on('data', (chunk) => {
      this.stderr += String(chunk);
    });
    this.#child.stdin?.on('error', () => undefined);
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      const message = JSON.parse(line) as Message;
      const next = this.#waiting.shift();
      if (next) next(message);
      else this.#messages.push(message);
    });
  }

  static async start(options: ServerOptions = {}, program?: string): Promise<Served> {
    const served = new Served(options, program);
    const first = await Promise.race([served.next(), served.exited]);
    if (typeof first === 'object' && first?.ready) return served;
    await served[Symbol.asyncDispose]();
    throw new Error(`the server did not start: ${served.stderr}`);
  }

  path(name: string): string {
    return join(this.mountpoint, name);
  }

  /** The next line that the server says. */
  next(): Promise<Message> {
    const message = this.#messages.shift();
    return message ? Promise.resolve(message) : new Promise((resolve) => this.#waiting.push(resolve));
  }

  async ask<T>(...command: string[]): Promise<T> {
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    return (await this.next()).answer as T;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await run('umount', '-f', '-l', this.mountpoint);
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await this.exited;
    clearTimeout(timer);
    rmdirSync(this.mountpoint);
  }
}
