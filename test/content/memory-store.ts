import { writeSync } from 'node:fs';
import { crc32 } from 'node:zlib';
import type { Capabilities, ListPage, ObjectInfo } from '../../src/backends/contract.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import type { Fetched, FetchRequest, StoreFeatures, StorePort } from '../../src/ports/store-port.js';

interface StoredObject {
  bytes: Buffer;
  validator: string;
}

/** A fetch under way, which the test lets go on. */
export interface HeldFetch {
  readonly offset: number;
  readonly length: number;
  readonly aborted: boolean;
  /** Lets so many more bytes through; all of them when not given. */
  pass(bytes?: number): void;
}

/** A small, honest store: objects in memory, ranged reads into descriptors, versions. Fetches wait for the test when `hold` is set. */
export class MemoryStore implements StorePort {
  readonly objects = new Map<string, StoredObject>();
  /** Every range that was asked for: [offset, length]. */
  readonly asked: [number, number][] = [];
  readonly held: HeldFetch[] = [];
  hold = false;
  #version = 0;

  put(key: string, bytes: Buffer): { mount: number; key: string; validator: string; size: number } {
    const validator = `"v${++this.#version}"`;
    this.objects.set(key, { bytes, validator });
    return { mount: 0, key, validator, size: bytes.length };
  }

  async fetch(_mount: number, request: FetchRequest, signal?: AbortSignal): Promise<Fetched> {
    const { offset, length } = request.range;
    const { position = offset, checksumBlock = length } = request;
    this.asked.push([offset, length]);
    const gate = this.#gate(offset, length, signal);
    for (let done = 0; done < length; ) {
      const allowed = await gate.next(done);
      if (signal?.aborted) throw new MirageError('interrupted', { errno: 'EINTR' });
      const object = this.#object(request.key, request.match);
      if (done === 0) request.onBegin?.(info(request.key, object.bytes.length, object.validator));
      const end = Math.min(done + Math.min(allowed, 1024 * 1024), length, object.bytes.length - offset);
      if (end <= done) break;
      writeSync(request.fd, object.bytes, offset + done, end - done, position + done);
      done = end;
      request.onProgress?.(offset + done);
    }
    const { bytes, validator } = this.#object(request.key, request.match);
    const checksums: number[] = [];
    for (let at = offset; at < Math.min(offset + length, bytes.length); at += checksumBlock) {
      checksums.push(crc32(bytes.subarray(at, Math.min(at + checksumBlock, offset + length))));
    }
    return { ...info(request.key, bytes.length, validator), checksums };
  }

  #object(key: string, match: string | undefined): StoredObject {
    const object = this.objects.get(key);
    if (!object) throw new MirageError('no such object', { errno: 'ENOENT' });
    if (match !== undefined && object.validator !== match)
      throw new MirageError('another version', { errno: 'ESTALE' });
    return object;
  }

  /** Says how many bytes may follow, once the test or the lack of `hold` allows any. */
  #gate(offset: number, length: number, signal: AbortSignal | undefined) {
    let passed = this.hold ? 0 : length;
    let wake = () => {};
    signal?.addEventListener('abort', () => wake());
    this.held.push({
      offset,
      length,
      get aborted() {
        return signal?.aborted ?? false;
      },
      pass(bytes = length) {
        passed += bytes;
        wake();
      },
    });
    return {
      async next(done: number): Promise<number> {
        while (passed <= done && !signal?.aborted) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
        return passed - done;
      },
    };
  }

  capabilities(): Capabilities {
    throw new Error('not asked here');
  }
  features(): StoreFeatures {
    throw new Error('not asked here');
  }
  async stat(): Promise<ObjectInfo | undefined> {
    throw new Error('not asked here');
  }
  async list(): Promise<ListPage> {
    throw new Error('not asked here');
  }
  async commit(): Promise<ObjectInfo> {
    throw new Error('not asked here');
  }
  async remove(): Promise<void> {
    throw new Error('not asked here');
  }
  async removeMany(): Promise<readonly undefined[]> {
    throw new Error('not asked here');
  }
  async abandonUploads(): Promise<void> {
    throw new Error('not asked here');
  }
  async createDirectory(): Promise<ObjectInfo> {
    throw new Error('not asked here');
  }
  async removeDirectory(): Promise<void> {
    throw new Error('not asked here');
  }
  async copy(): Promise<ObjectInfo> {
    throw new Error('not asked here');
  }
  async setAttributes(): Promise<ObjectInfo> {
    throw new Error('not asked here');
  }
  async rename(): Promise<void> {
    throw new Error('not asked here');
  }
  async usage(): Promise<object> {
    throw new Error('not asked here');
  }
}

export function info(key: string, size: number, validator: string): ObjectInfo {
  const modified = { seconds: 1, nanoseconds: 0 };
  return { key, kind: 'file', size, modified, validator, attributes: undefined };
}

/** Bytes whose place shows in their value. */
export function patterned(size: number, seed = 1): Buffer {
  const { imul, ceil } = Math;
  const words = new Uint32Array(ceil(size / 4));
  const count = words.length;
  for (let i = 0; i < count; i++) words[i] = imul(i + seed, 2654435761);
  return Buffer.from(words.buffer, 0, size);
}
