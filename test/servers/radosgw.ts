import { execFile, execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';

const script = join(dirname(fileURLToPath(import.meta.url)), 'radosgw.sh');

/** Ports that one server takes, and the range that servers are looked for in. */
const PORTS = 64;
const FIRST_PORT = 20_096;
const SLOTS = 14;

export interface Radosgw {
  readonly port: number;
  readonly endpoint: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** A client of the administrator, for what a test does behind the back of the mount. */
  readonly client: S3Client;
  /** Makes an empty bucket and returns its name. */
  createBucket(): Promise<string>;
  stop(): Promise<void>;
}

/** Starts a Ceph object store of its own (two seconds, no data kept). Fails with the packages to install when it is not there. */
export async function startRadosgw(): Promise<Radosgw> {
  const folder = await mkdtemp(join(tmpdir(), 'mirage-radosgw-'));
  const directory = join(folder, 'ceph');
  const port = await startOnFreePorts(directory).catch(async (error) => {
    await rm(folder, { recursive: true, force: true });
    throw error;
  });
  const stopNow = () => execFileSync(script, ['stop', directory]);
  // Also when the run is broken off.
  process.once('exit', stopNow);
  const endpoint = `http://127.0.0.1:${port}`;
  const credentials = { accessKeyId: 'testkey', secretAccessKey: 'testsecret' };
  const client = new S3Client({
    endpoint,
    credentials,
    region: 'us-east-1',
    forcePathStyle: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
  });
  return {
    port,
    endpoint,
    credentials,
    client,
    async createBucket() {
      const Bucket = `test-${randomUUID()}`;
      await client.send(new CreateBucketCommand({ Bucket }));
      return Bucket;
    },
    async stop() {
      process.off('exit', stopNow);
      client.destroy();
      await promisify(execFile)(script, ['stop', directory]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Several test processes look at the same time: each begins elsewhere, and goes on where another was faster. */
async function startOnFreePorts(directory: string): Promise<number> {
  let failure = '';
  for (let slot = 0; slot < SLOTS; slot++) {
    const port = FIRST_PORT + ((process.pid + slot) % SLOTS) * PORTS;
    const taken = await Promise.all([port, port + 1, port + 2].map(isTaken));
    if (taken.includes(true)) continue;
    try {
      await promisify(execFile)(script, ['start', directory, String(port)]);
      return port;
    } catch (error) {
      failure = (error as { stderr?: string }).stderr ?? String(error);
      if (!/Address already in use/.test(failure)) break;
    }
  }
  throw new Error(failure || `no free ports for radosgw from ${FIRST_PORT} to ${FIRST_PORT + SLOTS * PORTS}`);
}

function isTaken(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
