// @ts-check
/** The store under test: a real radosgw on loopback, also behind a proxy that makes every round trip longer, and its own word on what it served. */
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { freePort } from '../shared/measure.mjs';
import { run, start, until } from '../shared/processes.mjs';

const servers = fileURLToPath(new URL('../../test/servers', import.meta.url));

export const credentials = { accessKeyId: 'testkey', secretAccessKey: 'testsecret' };
export const BUCKET = 'bench';
/** Ports that the server takes behind its first. */
export const SERVER_PORTS = 60;

/** @typedef {{ requests: number, sent: number, received: number }} Served requests, and bytes of objects sent and received */

export class Store {
  #directory;
  #port = 0;
  /** @type {ReturnType<typeof start> | undefined} */
  #proxy;
  /** @type {Map<number, string>} milliseconds of a round trip → endpoint */
  #endpoints = new Map();
  /** @type {S3Client[]} */
  #clients = [];

  /** @param {string} folder */
  constructor(folder) {
    this.#directory = join(folder, 'ceph');
  }

  async open() {
    this.#port = await freePort(SERVER_PORTS);
    await run([join(servers, 'radosgw.sh'), 'start', this.#directory, String(this.#port)], { seconds: 120 });
    this.#endpoints.set(0, `http://127.0.0.1:${this.#port}`);
    await this.client(0).send(new CreateBucketCommand({ Bucket: BUCKET }));
  }

  /**
   * Where the store is that many milliseconds of round trip away.
   * @param {number} milliseconds
   */
  async endpoint(milliseconds) {
    const known = this.#endpoints.get(milliseconds);
    if (known) return known;
    const script = join(servers, 'delay-proxy.mjs');
    const proxy = start([process.execPath, script, '0', String(this.#port), String(milliseconds / 2)], {
      input: true,
    });
    this.#proxy = proxy;
    await until(() => proxy.output().includes('\n'), 10);
    const port = /^ready (\d+)/.exec(proxy.output())?.[1];
    if (!port) throw new Error(`the proxy did not start: ${proxy.errors()}`);
    this.#endpoints.set(milliseconds, `http://127.0.0.1:${port}`);
    return `http://127.0.0.1:${port}`;
  }

  /**
   * The SDK itself, the yardstick. Its endpoint must have been asked for before.
   * @param {number} milliseconds
   * @param {number} [sockets] connections at most
   */
  client(milliseconds, sockets = 64) {
    const client = new S3Client({
      endpoint: this.#endpoints.get(milliseconds) ?? '',
      credentials,
      region: 'us-east-1',
      forcePathStyle: true,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: { httpAgent: { keepAlive: true, maxSockets: sockets } },
    });
    this.#clients.push(client);
    return client;
  }

  /**
   * Puts many objects, 32 at a time, without the proxy.
   * @param {readonly { key: string, body: Buffer }[]} objects
   */
  async put(objects) {
    const client = this.client(0);
    const left = [...objects];
    const worker = async () => {
      for (let next = left.pop(); next; next = left.pop()) {
        await client.send(new PutObjectCommand({ Bucket: BUCKET, Key: next.key, Body: next.body }));
      }
    };
    await Promise.all(Array.from({ length: 32 }, worker));
  }

  /** What radosgw has counted so far. @returns {Promise<Served>} */
  served() {
    return new Promise((resolve, reject) => {
      const socket = connect(join(this.#directory, 'run', 'ceph-client.rgw.asok'));
      /** @type {Buffer[]} */
      const chunks = [];
      socket.on('error', reject);
      socket.on('data', (chunk) => chunks.push(chunk));
      socket.on('end', () => {
        // The answer is JSON behind its length in four bytes.
        const { rgw } = JSON.parse(Buffer.concat(chunks).subarray(4).toString());
        resolve({ requests: rgw.req, sent: rgw.get_b, received: rgw.put_b });
      });
      socket.write('{"prefix":"perf dump"}\0');
    });
  }

  async close() {
    for (const client of this.#clients) client.destroy();
    this.#proxy?.child.stdin?.end();
    await run([join(servers, 'radosgw.sh'), 'stop', this.#directory], { seconds: 60 }).catch((error) =>
      console.error(String(error)),
    );
  }
}
