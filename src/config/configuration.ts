import type { MountType } from './schema.js';

/** A configuration that has been read and checked: plain data, as the daemon gets it. Sizes in bytes, times in milliseconds. */
export interface Configuration {
  /** Where it came from; undefined for a source on the command line. */
  readonly file: string | undefined;
  readonly mountpoint: string;
  readonly state: string;
  readonly cache: { readonly directory: string; readonly size: number };
  readonly allowOther: boolean;
  /** The kernel may read and write host files by itself. */
  readonly passthrough: boolean;
  /** Names of one remote mount that reading folders makes known to the kernel. */
  readonly listedNodes: number;
  readonly binding: 'auto' | 'raw' | 'fuse-native';
  readonly mounts: readonly MountConfiguration[];
  /** Values that must not be shown. */
  readonly secrets: readonly string[];
}

export interface MountConfiguration {
  /** `/s3`, `/a/b`; `/` for a mount that is the whole tree. */
  readonly path: string;
  readonly type: string;
  readonly placement: MountType['placement'];
  readonly mode: 'read' | 'write' | 'exec';
  readonly ttl: number;
  /** Folders with a ttl of their own: path below the mount, without slashes around it → milliseconds. */
  readonly ttls: Readonly<Record<string, number>>;
  readonly freshness: 'ttl' | 'open' | 'offline' | 'now' | 'inotify';
  /** POSIX ACLs of the files count. */
  readonly acl: boolean;
  readonly writeBack: 'close' | 'async';
  readonly conflicts: 'sidecar' | 'reject' | 'lastWriterWins';
  /** `locking: lease`: how long a lease lasts that is not renewed, and how long an open waits for one; milliseconds. */
  readonly lease?: { readonly term: number; readonly wait: number };
  /** What the schema of the type returned; may hold secrets. */
  readonly options: Readonly<Record<string, unknown>>;
}
