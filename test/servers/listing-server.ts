import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const script = join(dirname(fileURLToPath(import.meta.url)), 'many-objects.mjs');

export interface ListingServer {
  readonly endpoint: string;
  /** Sends one of the commands that many-objects.mjs lists, and resolves with its answer. */
  command(line: string): Promise<string>;
  stop(): Promise<void>;
}

/** An S3 endpoint with `count` objects in its folder `many`, in a process of its own. */
export async function startListingServer(count: number): Promise<ListingServer> {
  const child = spawn(process.execPath, [script, '0', String(count)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  const exited = once(child, 'exit');
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const line = await answers.next();
    if (line.done) throw new Error('the listing server has ended');
    return line.value;
  };
  const ready = await answer();
  return {
    endpoint: `http://127.0.0.1:${ready.split(' ')[1]}`,
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
