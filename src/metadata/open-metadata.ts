import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Log } from '../log/log.js';
import type { MetadataStore } from './contract.js';
import { SqliteMetadata } from './sqlite-metadata.js';

export interface MetadataOptions {
  /** The database file; its folder is made. */
  readonly file: string;
  readonly log: Log;
  /** Write on the calling thread, between its turns, instead of on one of its own. */
  readonly inThread?: boolean;
}

/** Opens the metadata cache. Throws EINVAL when the file belongs to a newer version; a damaged one is replaced. */
export function openMetadata(options: MetadataOptions): MetadataStore {
  mkdirSync(dirname(options.file), { recursive: true, mode: 0o700 });
  return new SqliteMetadata(options.file, options.log, options.inThread ?? false);
}
