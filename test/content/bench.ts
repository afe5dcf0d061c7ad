import { mkdtempSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../src/clock/clock.js';
import type { ContentStore } from '../../src/content/contract.js';
import { openContent } from '../../src/content/open-content.js';
import type { Log, LogFields } from '../../src/log/log.js';
import { MemoryStore } from './memory-store.js';

export const MIB = 1024 * 1024;
export const never: AbortSignal = new AbortController().signal;

const fixedClock: Clock = { monotonic: () => 0, wall: () => Date.UTC(2026, 0, 2, 3, 4, 5) };

/** A cache directory with a store behind it, and what it logged. */
export class ContentBench {
  readonly directory: string;
  readonly store = new MemoryStore();
  readonly lines: string[] = [];
  limit: number;
  content: ContentStore;
  #isOpen = false;

  constructor(limit = 1024 * MIB, directory = mkdtempSync(join(tmpdir(), 'mirage-content-'))) {
    this.directory = directory;
    this.limit = limit;
    this.content = this.open();
  }

  open(): ContentStore {
    const write = (message: string, _fields?: LogFields) => void this.lines.push(message);
    const log: Log = { debug() {}, info: write, warn: write, error: write, with: () => log };
    const { directory, limit, store } = this;
    this.content = openContent({ directory, limit, port: store, log, clock: fixedClock });
    this.#isOpen = true;
    this.content.identify(0, 's3://bucket/');
    return this.content;
  }

  async close(): Promise<void> {
    const { content } = this;
    this.#isOpen = false;
    await content.close();
  }

  async reopen(): Promise<ContentStore> {
    await this.close();
    return this.open();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOpen) await this.content.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export function readFrom(fd: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const read = readSync(fd, bytes, 0, length, offset);
  return bytes.subarray(0, read);
}

/** Did the promise settle by now, after everything that was ready to run has run? */
export async function isPending(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = () => {
    settled = true;
  };
  promise.then(note, note);
  for (let i = 0; i < 5; i++) await new Promise(setImmediate);
  return !settled;
}
