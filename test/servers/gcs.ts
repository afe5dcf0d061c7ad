import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const script = join(dirname(fileURLToPath(import.meta.url)), 'gcs', 'server.mjs');

export interface FakeGcs {
  readonly port: number;
  readonly endpoint: string;
  /** A request of the administrator, for what a test does behind the back of the mount. `path` is below the endpoint. */
  request(method: string, path: string, body?: string): Promise<Response>;
  /** Makes an empty bucket and returns its name. */
  createBucket(settings?: Record<string, unknown>): Promise<string>;
  stop(): Promise<void>;
}

/** Starts the fake of Google Cloud Storage in a process of its own. With `token` it answers nobody else. */
export async function startFakeGcs({ token }: { token?: string } = {}): Promise<FakeGcs> {
  const child = spawn(process.execPath, [script, '0', ...(token === undefined ? [] : [token])], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  const exited = once(child, 'exit');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const first = await lines.next();
  if (first.done) throw new Error('the fake of Google Cloud Storage did not start');
  const port = Number(first.value.split(' ')[1]);
  const endpoint = `http://127.0.0.1:${port}`;
  const request = (method: string, path: string, body?: string) =>
    fetch(`${endpoint}${path}`, {
      method,
      headers: {
        'content-type': 'application/json',
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
      ...(body !== undefined && { body }),
    });
  return {
    port,
    endpoint,
    request,
    async createBucket(settings = {}) {
      const name = `test-${randomUUID()}`;
      const made = await request('POST', '/storage/v1/b?project=test', JSON.stringify({ name, ...settings }));
      if (!made.ok) throw new Error(await made.text());
      return name;
    },
    async stop() {
      child.stdin.end();
      await exited;
    },
  };
}
