import { execFile } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { MirageError } from '../errors/mirage-error.js';
import { isDisconnected } from './kernel-answer.js';
import { helperPath } from './mount-point.js';
import { isOurs, mountedAt } from './mount-table.js';

/** How long a mount may take to say that nobody serves it, milliseconds. */
const ANSWER_DEADLINE = 5000;

/** A Mirage mount whose daemon was killed: programs get ENOTCONN, and nothing is in it that could be lost. */
export async function isDeadMount(folder: string): Promise<boolean> {
  const path = mountPath(folder);
  const mount = mountedAt(path);
  return mount !== undefined && isOurs(mount) && (await isDisconnected(path, ANSWER_DEADLINE));
}

/** Takes a dead mount away; programs that still stand in it keep their descriptors. EPERM: it is another user's. */
export function removeDeadMount(folder: string): Promise<void> {
  const path = mountPath(folder);
  const [program, option] =
    process.getuid?.() === 0 ? ['umount', '-l'] : [helperPath() ?? 'fusermount3', '-uz'];
  return new Promise((done, failed) => {
    execFile(program!, [option!, path], (error, _, said) => {
      if (error === null) return done();
      const cause = new Error(said.trim() || error.message);
      failed(
        new MirageError(`cannot unmount ${path}`, { errno: 'EPERM', cause, hint: `sudo umount -l ${path}` }),
      );
    });
  });
}

/** The path of a mount point without symlinks. Never looks at the folder itself, whose mount may be dead. */
export function mountPath(folder: string): string {
  const path = resolve(folder);
  try {
    return join(realpathSync(dirname(path)), basename(path));
  } catch {
    return path;
  }
}
