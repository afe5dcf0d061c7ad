import type { Clock } from '../clock/clock.js';
import type { Log } from '../log/log.js';
import type { FileSystem, KernelNotifier, NodeId } from './operations.js';

/** Node ids of one volume lie in [index * span, (index + 1) * span): the volume of a node is one division away. */
export const NODE_SPAN = 2 ** 40;

/** The node id of a volume's root directory. The volume with index 0 owns the root of the whole tree, node id 1. */
export const rootOf = (index: number): NodeId => index * NODE_SPAN + 1;

/** `read` ⊂ `write` ⊂ `exec`: whether a subtree may change, and whether its files may carry the x bit. */
export type AccessMode = 'read' | 'write' | 'exec';

/** What every volume is given. */
export interface VolumeContext {
  readonly index: number;
  /** The mount's path below the mount point, for messages: `/s3`. */
  readonly path: string;
  readonly mode: AccessMode;
  /** Owner of what has no owner of its own, and permission bits of it. */
  readonly uid: number;
  readonly gid: number;
  readonly notifier: KernelNotifier;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * One mounted subtree: the file-system operations on its own node ids. A name's parent is always of the same volume.
 * A volume whose mode is not `exec` shows and keeps no x bit on regular files. Changes in a `read` volume are refused before they get here.
 */
export interface Volume extends FileSystem {
  /** Carries out what is still pending (commits, attribute changes). Rejects with what could not be. */
  drain(): Promise<void>;
  /** Names, in words, of what is not committed yet; empty when drained. */
  pending(): readonly string[];
  close(): Promise<void>;
}
