import type { z } from 'zod';
import type { Clock } from '../clock/clock.js';
import type { Log } from '../log/log.js';
import type { Backend } from './contract.js';

/** What opening a backend is given besides its own options. */
export interface OpenContext {
  readonly log: Log;
  readonly clock: Clock;
  /** False for a mount of mode `read`: then nothing is ever written to the store, not even to probe it. */
  readonly writable: boolean;
  /** Gives up opening. */
  readonly signal: AbortSignal;
  /** What earlier mounts found out about stores; undefined: nothing is remembered. */
  readonly certificates?: Certificates;
}

/** Remembers what a store was found to honour, so that not every mount has to probe it. Names say which store, never a secret. */
export interface Certificates {
  /** As it was written; undefined: unknown, or too old to be believed. */
  read(store: string): unknown;
  write(store: string, value: unknown): void;
}

export interface OpenedBackend {
  readonly backend: Backend;
  /** What is mounted, the same after a restart, never a secret: the metadata cache is kept under it. */
  readonly identity: string;
  /** What the store was found to honour, for `mirage status`. */
  readonly probed: Readonly<Record<string, string | number | boolean>>;
  /** Figures since the opening (operations, errors, bytes), where they are counted. */
  counters?(): Record<string, number>;
}

/** The code of a backend, loaded when the first mount of its type is made. */
export interface BackendModule {
  /**
   * `options` are what the schema of the type returned. Proves the credentials and probes the store; throws MirageError:
   * `EACCES` wrong credentials, `ENOENT` no such bucket or folder, `EHOSTDOWN` or `ETIMEDOUT` not reachable.
   */
  open(options: unknown, context: OpenContext): Promise<OpenedBackend>;
}

/** A kind of store that a mount can name. Its options are known without loading its code. */
export interface BackendType {
  /** The configuration keys of this type alone; refuses unknown ones. */
  readonly options: z.ZodObject;
  /** `inline` is local and fast: it may be served on the file-system thread. */
  readonly placement: 'inline' | 'remote';
  /** Changes reach the store one by one, as programs make them: nothing is there to be carried out behind. */
  readonly writesThrough?: true;
  load(): Promise<BackendModule>;
}
