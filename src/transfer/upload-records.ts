/**
 * The uploads that are under way, a small file for each: what the next daemon needs to go on with them, or to tell the store to forget their
 * parts. A record is on the disk before the store hears of the upload, so there is none at the store that nobody remembers.
 */

import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fdatasyncSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

const recordSchema = z.object({
  /** What is mounted: endpoint, bucket, prefix. */
  identity: z.string(),
  key: z.string(),
  /** The nonce that the object will carry. */
  writer: z.string(),
  /** The store's name of the upload; undefined: it was about to be asked for one. */
  id: z.string().optional(),
  /** Bytes that the object will have, and what else makes one upload another. */
  size: z.number(),
  attributes: z.string(),
  /** Milliseconds since 1970. */
  begun: z.number(),
});

export type UploadRecord = z.infer<typeof recordSchema>;

export class UploadRecords {
  readonly #directory: string;
  /** Names of the records that this run has written, or found and used. */
  readonly #kept = new Set<string>();

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    // Drafts that a crash left never counted.
    for (const name of readdirSync(directory)) if (name.endsWith('.new')) rmSync(join(directory, name));
  }

  find(identity: string, key: string, writer: string): UploadRecord | undefined {
    const name = nameOf({ identity, key, writer });
    this.#kept.add(name);
    return this.#read(name);
  }

  /** What earlier runs left, and nobody has gone on with in this one. */
  left(identity: string): UploadRecord[] {
    const names = readdirSync(this.#directory).filter((name) => !this.#kept.has(name));
    return names.flatMap((name) => this.#read(name) ?? []).filter((record) => record.identity === identity);
  }

  /** On the disk when this returns. */
  keep(record: UploadRecord): void {
    const path = join(this.#directory, nameOf(record));
    const draft = `${path}.new`;
    const fd = openSync(draft, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600);
    try {
      writeSync(fd, JSON.stringify(record));
      fdatasyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(draft, path);
    const folder = openSync(this.#directory, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  }

  drop(record: Pick<UploadRecord, 'identity' | 'key' | 'writer'>): void {
    rmSync(join(this.#directory, nameOf(record)), { force: true });
  }

  #read(name: string): UploadRecord | undefined {
    try {
      return recordSchema.safeParse(JSON.parse(readFileSync(join(this.#directory, name), 'utf8'))).data;
    } catch {
      // None, or a draft that a crash cut short: the store has not heard of it.
      return undefined;
    }
  }
}

const nameOf = ({ identity, key, writer }: Pick<UploadRecord, 'identity' | 'key' | 'writer'>): string =>
  createHash('sha256').update(`${identity}\0${key}\0${writer}`).digest('hex').slice(0, 40);
