import { runtimeDirectory } from '../config/directories.js';
import { type RunningDaemon, runningDaemons } from '../daemon/control-client.js';
import { isDeadMount, mountPath } from '../daemon/dead-mount.js';
import { MirageError } from '../errors/mirage-error.js';

/** The daemon of this user with this mount point, if there is one. */
export async function findDaemon(mountpoint: string): Promise<RunningDaemon | undefined> {
  const path = mountPath(mountpoint);
  const daemons = await runningDaemons(runtimeDirectory(process.env));
  return daemons.find(({ status }) => status.mountpoint === path);
}

/** The same; ENOENT where nobody serves the folder, EIO where somebody did. */
export async function daemonAt(mountpoint: string): Promise<RunningDaemon> {
  const daemon = await findDaemon(mountpoint);
  if (daemon !== undefined) return daemon;
  if (await isDeadMount(mountpoint)) {
    throw new MirageError(`the daemon of ${mountpoint} is gone`, {
      errno: 'EIO',
      cause: new Error('it was killed, and left its mount ("Transport endpoint is not connected")'),
      hint: 'mount it again, which also stores what it had promised; or: mirage unmount',
    });
  }
  throw new MirageError(`nothing of Mirage is mounted at ${mountpoint}`, {
    errno: 'ENOENT',
    cause: new Error('no daemon of this user serves it'),
    hint: 'see what is mounted: mirage status',
  });
}
