import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Milliseconds until nginx must answer. */
const DEADLINE = 10_000;

export interface Nginx {
  readonly port: number;
  /** `http://127.0.0.1:port`. */
  readonly origin: string;
  /** What it serves: below each of the paths in `configurationOf`, too. */
  readonly data: string;
  /** Method, path and status of every request that was answered since the last call. */
  requests(): Promise<string[]>;
  stop(): Promise<void>;
}

/**
 * A web server of its own on loopback. The same files are served under several paths, each with another temper: see `configurationOf`. User and
 * password of `/auth/` are `reader` and `secret-word`.
 */
export async function startNginx(): Promise<Nginx> {
  const folder = mkdtempSync(join(tmpdir(), 'mirage-nginx-'));
  // Its workers may run as somebody else.
  chmodSync(folder, 0o755);
  const data = join(folder, 'data');
  for (const name of ['data', 'tmp']) mkdirSync(join(folder, name));
  const hash = execFileSync('openssl', ['passwd', '-apr1', 'secret-word'], { encoding: 'utf8' }).trim();
  writeFileSync(join(folder, 'passwords'), `reader:${hash}\n`);
  const { child, port } = await startOnFreePort(folder);
  const endNow = () => child.kill('SIGTERM');
  // Also when the run is broken off.
  process.once('exit', endNow);
  const log = join(folder, 'access');
  let read = 0;
  let marks = 0;
  return {
    port,
    origin: `http://127.0.0.1:${port}`,
    data,
    async requests() {
      // nginx logs a request when it has been answered, one after the other: what was answered before this one stands before it in the log.
      const mark = `/mark/${++marks}`;
      await fetch(`http://127.0.0.1:${port}${mark}`, { signal: AbortSignal.timeout(DEADLINE) });
      const end = performance.now() + DEADLINE;
      for (;;) {
        const lines = (existsSync(log) ? readFileSync(log, 'utf8') : '').split('\n').slice(read, -1);
        const marked = lines.findIndex((line) => line.includes(`${mark} `));
        if (marked >= 0) {
          read += marked + 1;
          return lines.slice(0, marked);
        }
        if (performance.now() > end) throw new Error('nginx does not log what it is asked');
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    async stop() {
      process.off('exit', endNow);
      endNow();
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function startOnFreePort(folder: string): Promise<{ child: ChildProcess; port: number }> {
  for (let attempt = 0; attempt < 5; attempt++) {
    const port = await freePort();
    writeFileSync(join(folder, 'nginx.conf'), configurationOf(folder, port));
    const child = spawn('nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')], { stdio: 'ignore' });
    const failed = once(child, 'error').then(([error]) => Promise.reject(error));
    if (await Promise.race([answers(port, child), failed])) return { child, port };
  }
  throw new Error(`nginx does not start: ${readFileSync(join(folder, 'errors'), 'utf8')}`);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/** False: it has ended, for its port was taken meanwhile. */
async function answers(port: number, child: ChildProcess): Promise<boolean> {
  const end = performance.now() + DEADLINE;
  while (performance.now() < end && child.exitCode === null) {
    const connected = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('connect', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
    });
    if (connected && child.exitCode === null) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  child.kill('SIGTERM');
  return false;
}

const configurationOf = (folder: string, port: number): string => `
daemon off;
master_process off;
pid ${folder}/pid;
error_log ${folder}/errors;
events { worker_connections 1024; }
http {
  log_format plain '$request_method $request_uri $status';
  access_log ${folder}/access plain;
  sendfile on;
  tcp_nodelay on;
  client_body_temp_path ${folder}/tmp/body;
  proxy_temp_path ${folder}/tmp/proxy;
  fastcgi_temp_path ${folder}/tmp/fastcgi;
  uwsgi_temp_path ${folder}/tmp/uwsgi;
  scgi_temp_path ${folder}/tmp/scgi;
  types { text/html html; text/plain txt; }
  default_type application/octet-stream;
  server {
    listen 127.0.0.1:${port};
    root ${folder}/data;
    location / { autoindex on; autoindex_format json; }
    location /html/ { alias ${folder}/data/; autoindex on; }
    location /rounded/ { alias ${folder}/data/; autoindex on; autoindex_exact_size off; }
    location /bare/ { alias ${folder}/data/; }
    location /no-ranges/ { alias ${folder}/data/; max_ranges 0; autoindex on; autoindex_format json; }
    location /no-etags/ { alias ${folder}/data/; etag off; autoindex on; autoindex_format json; }
    location /slow/ { alias ${folder}/data/; limit_rate 200k; }
    # Encoded whatever the client asks for: x is served from x.gz.
    location /encoded/ { alias ${folder}/data/; gzip_static always; }
    location /auth/ {
      alias ${folder}/data/;
      autoindex on;
      autoindex_format json;
      auth_basic files;
      auth_basic_user_file ${folder}/passwords;
    }
    location /forbidden/ { return 403; }
    location /mark/ { return 204; }
    location ~ ^/moved(/.*) { return 302 $1; }
    location ~ ^/circle(/.*) { return 302 /circle$1; }
  }
}
`;
