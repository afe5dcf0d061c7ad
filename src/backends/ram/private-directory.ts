import { randomBytes } from 'node:crypto';
import { chmodSync, constants, existsSync, lstatSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MirageError } from '../../errors/mirage-error.js';
import { localFiles } from '../../native/local-files.js';

const O_PATH = 0o10000000;
const NAME = /^mirage-ram-(\d+)-[0-9a-f]+$/;

export interface PrivateDirectory {
  readonly path: string;
  /** O_PATH descriptor. */
  readonly root: number;
  remove(): void;
}

/** A directory in memory that only this user may enter. Removes what processes that have died left behind. */
export function createPrivateDirectory(
  parent = existsSync('/dev/shm') ? '/dev/shm' : tmpdir(),
): PrivateDirectory {
  removeStale(parent);
  const path = join(parent, `mirage-ram-${process.pid}-${randomBytes(6).toString('hex')}`);
  mkdirSync(path, { mode: 0o700 });
  chmodSync(path, 0o700);
  const root = localFiles().openPath(path, O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  if (root < 0) throw MirageError.system(`open ${path}`, -root);
  return { path, root, remove: () => rmSync(path, { recursive: true, force: true }) };
}

function removeStale(parent: string): void {
  const uid = process.getuid?.();
  for (const name of readdirSync(parent)) {
    const pid = NAME.exec(name)?.[1];
    const path = join(parent, name);
    if (pid === undefined || isAlive(Number(pid)) || lstatSync(path).uid !== uid) continue;
    rmSync(path, { recursive: true, force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
