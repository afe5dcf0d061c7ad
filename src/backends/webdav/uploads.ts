/**
 * Chunked upload, version 2, of Nextcloud and ownCloud: a folder below `uploads/`, one PUT per chunk, one MOVE that puts them together.
 * https://docs.nextcloud.com/server/latest/developer_manual/client_apis/WebDAV/chunking.html
 */
import { randomUUID } from 'node:crypto';
import type { ByteSource } from '../contract.js';
import { sendBody } from './body.js';
import type { Answer, Client } from './client.js';
import type { Attempt } from './errors.js';

const MiB = 2 ** 20;
/** Bytes from which a file travels in chunks, and bytes of a chunk: 5 MB to 5 GB, 10,000 at most. */
const THRESHOLD = 64 * MiB;
const CHUNK = 32 * MiB;
const CHUNKS = 10_000;
const AT_ONCE = 3;

type Head = Omit<Answer, 'body'>;

export interface ChunkedTarget {
  /** URL of the file. */
  readonly destination: string;
  /** Conditions on the file, for the request that makes it. */
  readonly headers: Readonly<Record<string, string>>;
}

export class ChunkedUploads {
  readonly #client: Client;
  /** Path of the user's upload folder, with a slash at the end. */
  readonly #folder: string;
  readonly #chunk: number;
  /** Files below this size, in bytes, go in one piece. */
  readonly threshold: number;

  constructor(client: Client, folder: string, chunk = CHUNK, threshold = THRESHOLD) {
    this.#client = client;
    this.#folder = folder;
    this.#chunk = chunk;
    this.threshold = threshold;
  }

  /** Sends the file. What was sent of one that fails is removed again. */
  async upload(target: ChunkedTarget, source: ByteSource, attempt: Attempt): Promise<Head> {
    const folder = `${this.#folder}mirage-${randomUUID()}/`;
    const common = { destination: target.destination, 'oc-total-length': String(source.size) };
    const request = (method: string, path: string, headers: Record<string, string>) =>
      this.#client.head({ method, path, headers }, attempt);
    await request('MKCOL', folder, { destination: target.destination });
    try {
      const length = Math.max(this.#chunk, Math.ceil(source.size / CHUNKS));
      const count = Math.ceil(source.size / length);
      let next = 0;
      const sendNext = async (): Promise<void> => {
        while (next < count) {
          const index = next++;
          const range = { offset: index * length, length: Math.min(length, source.size - index * length) };
          // Put together in the order of their names.
          const path = `${folder}${String(index + 1).padStart(5, '0')}`;
          await sendBody(source, range, (body, headers) =>
            this.#client.head({ method: 'PUT', path, headers: { ...common, ...headers }, body }, attempt),
          );
        }
      };
      const senders = Array.from({ length: Math.min(AT_ONCE, count) }, sendNext);
      const results = await Promise.allSettled(senders);
      for (const result of results) if (result.status === 'rejected') throw result.reason;
      return await request('MOVE', `${folder}.file`, { ...common, ...target.headers });
    } catch (error) {
      await this.#client
        .head(
          { method: 'DELETE', path: folder },
          { ...attempt, operation: 'clean up', signal: AbortSignal.timeout(10_000) },
        )
        .catch(() => undefined);
      throw error;
    }
  }
}
