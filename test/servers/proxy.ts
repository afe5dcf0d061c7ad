import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const script = join(dirname(fileURLToPath(import.meta.url)), 'delay-proxy.mjs');

export interface DelayProxy {
  readonly port: number;
  /** Sends one of the commands that delay-proxy.mjs lists, and resolves with its answer when it is in force. */
  command(line: string): Promise<string>;
  stop(): Promise<void>;
}

/** Puts a proxy in front of a local server, in a process of its own. `delay`: milliseconds one way. */
export async function startDelayProxy(targetPort: number, delay = 0): Promise<DelayProxy> {
  const child = spawn(process.execPath, [script, '0', String(targetPort), String(delay)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  const exited = once(child, 'exit');
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const line = await answers.next();
    if (line.done) throw new Error('the delay proxy has ended');
    return line.value;
  };
  const ready = await answer();
  return {
    port: Number(ready.split(' ')[1]),
    command(line) {
      child.stdin.write(`${line}\n`);
      return answer();
    },
    async stop() {
      child.stdin.end();
      await exited;
    },
  };
}
