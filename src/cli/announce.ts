import type { BackendType } from '../backends/backend-type.js';
import type { Configuration } from '../config/configuration.js';
import type { MountStatus } from '../daemon/status.js';
import { MirageError } from '../errors/mirage-error.js';
import type { Redaction } from '../log/redaction.js';
import { exitCodes } from './exit-codes.js';
import type { Output } from './output.js';

export interface MountContext {
  readonly output: Output;
  readonly types: Readonly<Record<string, BackendType>>;
  readonly version: string;
  /** Told what must not be shown, as soon as it is known. */
  readonly conceal: (redaction: Redaction) => void;
}

/** How long the first getattr through the kernel may take, milliseconds. */
export const PROOF_DEADLINE = 15_000;

export const noAnswer = (configuration: Configuration): MirageError =>
  new MirageError(`${configuration.mountpoint} was mounted but does not answer`, {
    errno: 'EIO',
    cause: new Error(`no getattr within ${PROOF_DEADLINE / 1000} s; it is unmounted again`),
    hint: `look at daemon.log in ${configuration.state}, and try: mirage doctor`,
  });

/** Says what is mounted, and what is not. */
export function announce(
  mountpoint: string,
  mounts: readonly MountStatus[],
  configuration: Configuration,
  output: Output,
): number {
  output.line(`Mounted at ${mountpoint}`);
  for (const { path, type, mode, reachable } of mounts) {
    const where = path === '/' ? mountpoint : `${mountpoint}${path}`;
    const access = {
      read: 'read only (mode: write changes that, where the store can be written)',
      write: 'read and write',
      exec: 'read, write, execute',
    };
    output.line(`  ${where}  ${type}, ${reachable ? access[mode] : 'not reachable'}`);
  }
  const missing = mounts.filter((mount) => !mount.reachable);
  for (const { path, error } of missing) {
    output.problem({
      what: `${path} is not there yet: programs get EHOSTDOWN`,
      why: error ?? 'its store cannot be reached',
      remedy: `check its endpoint${configuration.file ? ` in ${configuration.file}` : ''}; it is tried again when a program looks into it`,
    });
  }
  return missing.length > 0 ? exitCodes.partial : exitCodes.ok;
}
