/** Requests and answers on the control socket: one JSON object a line. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Explanation } from './explanation.js';
import type { DaemonStatus } from './status.js';

export type ControlRequest =
  | { readonly request: 'status' }
  /** Brings everything to its store; the mount stays. */
  | { readonly request: 'drain' }
  | { readonly request: 'unmount'; readonly force: boolean };

export type ControlAnswer =
  | { readonly status: DaemonStatus }
  /** Still at it: what is left. */
  | { readonly pending: readonly string[] }
  /** Drained; what could not be stored now. */
  | { readonly drained: true; readonly left: readonly string[] }
  /** Unmounted; `lost` is what was given up (only with force). */
  | { readonly done: true; readonly lost: readonly string[] }
  | { readonly error: Explanation };

/** The socket of the daemon with this state directory. Its name is a hash: a socket's path is at most 107 bytes long. */
export const socketPath = (runtimeDirectory: string, stateDirectory: string): string =>
  join(runtimeDirectory, `${createHash('sha256').update(stateDirectory).digest('hex').slice(0, 16)}.sock`);
