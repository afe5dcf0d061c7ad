// @ts-check
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListObjectsV2Command,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { run } from '../shared/processes.mjs';
import { mirageCommand, mountStore } from './mounts.mjs';
import { BUCKET } from './store.mjs';

/** @typedef {import('./mounts.mjs').Name} Name */
/** @typedef {import('./store.mjs').Store} Store */

const PART = 64_000_000;

/** What every work is given: the store at one distance, mounts of it, and where figures go. */
export class Bench {
  /** @type {Record<string, Record<string, number[]>>} row → variant → values */
  figures = {};
  #counter = 0;
  /** @type {Map<string, unknown>} */
  #made;
  #endpoint;
  #program;

  /**
   * @param {object} parts
   * @param {Store} parts.store
   * @param {string} parts.folder scratch on a disk
   * @param {number} parts.trip milliseconds of a round trip to the store
   * @param {string} parts.endpoint
   * @param {readonly Name[]} parts.peers Mirage first
   * @param {string} parts.program the compiled files.c
   * @param {Map<string, unknown>} parts.made what was made once for all distances
   */
  constructor({ store, folder, trip, endpoint, peers, program, made }) {
    this.store = store;
    this.folder = folder;
    this.trip = trip;
    this.peers = peers;
    this.#endpoint = endpoint;
    this.#program = program;
    this.#made = made;
  }

  /** A folder name that no work used before. @param {string} prefix */
  unique(prefix) {
    return `${prefix}-${this.trip}-${this.#counter++}`;
  }

  /**
   * Makes something once for all distances.
   * @template T
   * @param {string} key
   * @param {() => Promise<T>} make
   * @returns {Promise<T>}
   */
  async once(key, make) {
    if (!this.#made.has(key)) this.#made.set(key, await make());
    return /** @type {T} */ (this.#made.get(key));
  }

  client() {
    return this.store.client(this.trip);
  }

  /** @param {string} row @param {string} variant @param {number} value milliseconds, where the row says nothing else */
  record(row, variant, value) {
    this.figures[row] ??= {};
    const variants = /** @type {Record<string, number[]>} */ (this.figures[row]);
    variants[variant] ??= [];
    /** @type {number[]} */ (variants[variant]).push(value);
    process.stderr.write(`  ${this.trip} ms  ${row}  ${variant}  ${value.toFixed(2)}\n`);
  }

  /** Milliseconds of a run of files.c. @param {...string} command */
  async files(...command) {
    const [nanoseconds] = (await run([this.#program, ...command], { seconds: 900 })).split(' ');
    return Number(nanoseconds) / 1e6;
  }

  /** The command line of Mirage. @param {...string} command */
  mirage(...command) {
    return run([...mirageCommand, ...command], { seconds: 300 });
  }

  /**
   * Mounts, works, unmounts. Answers the folders whose caches a later mount may use again.
   * @param {readonly Name[]} peers
   * @param {Omit<import('./mounts.mjs').Options, 'endpoint'>} options
   * @param {(trees: Record<string, string>, pids: Record<string, number>, drain: (peer: Name) => Promise<void>) => Promise<void>} work
   */
  async mounted(peers, options, work) {
    /** @type {Record<string, import('./mounts.mjs').Mounted>} */
    const mounts = {};
    const of = (/** @type {(mount: import('./mounts.mjs').Mounted) => unknown} */ part) =>
      Object.fromEntries(Object.entries(mounts).map(([name, mount]) => [name, part(mount)]));
    try {
      for (const name of peers) {
        mounts[name] = await mountStore(name, this.folder, { ...options, endpoint: this.#endpoint });
      }
      await work(
        /** @type {Record<string, string>} */ (of(({ tree }) => tree)),
        /** @type {Record<string, number>} */ (of(({ pid }) => pid)),
        async (peer) => mounts[peer]?.drain(),
      );
    } finally {
      for (const mount of Object.values(mounts)) await mount.close();
    }
    return /** @type {Record<string, string>} */ (of(({ place }) => place));
  }

  /**
   * Does `work` and holds it against what the store itself says it served: at least so many bytes, or exactly so many requests.
   * @template T
   * @param {{ sent?: number, received?: number, requests?: number }} expected
   * @param {() => Promise<T>} work
   */
  async transferred(expected, work) {
    const before = await this.store.served();
    const result = await work();
    const after = await this.store.served();
    for (const what of /** @type {const} */ (['sent', 'received'])) {
      // radosgw counts the last byte of a GET as its offset.
      const bytes = after[what] - before[what] + after.requests - before.requests;
      if (bytes < (expected[what] ?? 0)) {
        throw new Error(`invalid run: the store ${what} ${bytes} bytes of ${expected[what]}`);
      }
    }
    const requests = after.requests - before.requests;
    if (expected.requests !== undefined && requests !== expected.requests) {
      throw new Error(`invalid run: ${requests} requests reached the store instead of ${expected.requests}`);
    }
    return result;
  }

  /** Waits until the store has so many bytes more. @param {import('./store.mjs').Served} before @param {number} bytes @param {number} seconds */
  async received(before, bytes, seconds) {
    const deadline = performance.now() + seconds * 1000;
    for (;;) {
      const { received } = await this.store.served();
      if (received - before.received >= bytes) return;
      if (performance.now() > deadline)
        throw new Error(`the store has only ${received - before.received} bytes of ${bytes}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Throws when the store still has objects below a prefix, directory markers too. @param {string} prefix */
  async empty(prefix) {
    const { Contents = [] } = await this.store
      .client(0)
      .send(new ListObjectsV2Command({ Bucket: BUCKET, Prefix: prefix, MaxKeys: 3 }));
    if (Contents.length > 0) throw new Error(`the store still has ${Contents[0]?.Key}`);
  }

  /** @param {string} key @param {number} bytes */
  async putLarge(key, bytes) {
    const client = this.store.client(0);
    const target = { Bucket: BUCKET, Key: key };
    const { UploadId } = await client.send(new CreateMultipartUploadCommand(target));
    const parts = [];
    for (let offset = 0, number = 1; offset < bytes; offset += PART, number++) {
      const body = Buffer.alloc(Math.min(PART, bytes - offset), `${key} ${number}`);
      const { ETag } = await client.send(
        new UploadPartCommand({ ...target, UploadId, PartNumber: number, Body: body }),
      );
      parts.push({ ETag, PartNumber: number });
    }
    await client.send(
      new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload: { Parts: parts } }),
    );
  }

  /** Megabytes, since the counter was cleared. @param {number} pid */
  peakResident(pid) {
    const status = readFileSync(join('/proc', String(pid), 'status'), 'utf8');
    return (Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024) / 1e6;
  }
}
