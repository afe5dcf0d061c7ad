import type { LeaseStatus } from '../leases/leases.js';

/** What `mirage status --json` prints: plain data, stable names, never a secret. */
export interface DaemonStatus {
  readonly pid: number;
  readonly version: string;
  readonly mountpoint: string;
  /** The state directory. */
  readonly state: string;
  readonly phase: 'mounting' | 'mounted' | 'draining';
  readonly binding: 'raw' | 'fuse-native';
  /** Milliseconds since 1970. */
  readonly since: number;
  readonly configuration: string | undefined;
  readonly mounts: readonly MountStatus[];
  /** What is not on its store yet, in words. */
  readonly pending: readonly string[];
  /** What the journal holds for stores that are not mounted for writing (any more), or not reached yet, in words. */
  readonly waiting: readonly string[];
  /** Figures of the kernel channel. */
  readonly counters: Readonly<Record<string, number>>;
  /** Bytes resident, of the whole process. */
  readonly memory: number;
}

export interface MountStatus {
  readonly path: string;
  readonly type: string;
  readonly mode: 'read' | 'write' | 'exec';
  readonly reachable: boolean;
  /** Why it is not reachable. */
  readonly error?: string;
  /** What the store was found to honour. */
  readonly probed: Readonly<Record<string, string | number | boolean>>;
  readonly counters?: Readonly<Record<string, number>>;
  /** With `locking: lease`: what is open for writing here, or is waited for. */
  readonly leases?: readonly LeaseStatus[];
}
