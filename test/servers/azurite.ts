import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { BlobServiceClient, type ContainerClient, StorageSharedKeyCredential } from '@azure/storage-blob';

const program = fileURLToPath(new URL('../../node_modules/.bin/azurite-blob', import.meta.url));

const FIRST_PORT = 21_700;
const PORTS = 100;
/** Milliseconds until it must listen; the machine may be busy. */
const DEADLINE = 60_000;

/** The account that every Azurite has, and its key, which Microsoft publishes: https://learn.microsoft.com/azure/storage/common/storage-use-azurite */
const account = 'devstoreaccount1';
const accountKey = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

export interface Azurite {
  readonly port: number;
  readonly endpoint: string;
  readonly credentials: { readonly account: string; readonly accountKey: string };
  /** Makes an empty container; the client is for what a test does behind the back of the mount. */
  createContainer(): Promise<ContainerClient>;
  stop(): Promise<void>;
}

/** Starts an Azurite of its own that keeps nothing. */
export async function startAzurite(): Promise<Azurite> {
  const { child, port } = await startOnFreePort();
  const endNow = () => child.kill('SIGKILL');
  // Also when the run is broken off.
  process.once('exit', endNow);
  const endpoint = `http://127.0.0.1:${port}/${account}`;
  const service = new BlobServiceClient(endpoint, new StorageSharedKeyCredential(account, accountKey), {
    retryOptions: { maxTries: 1 },
  });
  return {
    port,
    endpoint,
    credentials: { account, accountKey },
    async createContainer() {
      const container = service.getContainerClient(`test-${randomUUID()}`);
      await container.create();
      return container;
    },
    async stop() {
      process.off('exit', endNow);
      endNow();
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    },
  };
}

/** Several test processes look at the same time: each begins elsewhere, and goes on where another was faster. */
async function startOnFreePort(): Promise<{ child: ChildProcess; port: number }> {
  for (let attempt = 0; attempt < 10; attempt++) {
    const port = FIRST_PORT + ((process.pid + attempt * 7) % PORTS);
    if (await listens(port)) continue;
    const child = spawn(
      process.execPath,
      [
        program,
        '--silent',
        '--inMemoryPersistence',
        '--disableTelemetry',
        '--skipApiVersionCheck',
        '--blobHost',
        '127.0.0.1',
        '--blobPort',
        String(port),
      ],
      { stdio: 'ignore' },
    );
    const started = Date.now();
    while (child.exitCode === null && Date.now() - started < DEADLINE) {
      if (await listens(port)) return { child, port };
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    child.kill('SIGKILL');
  }
  throw new Error('Azurite does not start: it comes with `npm ci`');
}

const listens = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
