import { accessSync, constants, existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { MirageError } from '../errors/mirage-error.js';
import { isOurs, mountedAt } from './mount-table.js';

/**
 * Checks that a tree can appear at `mountpoint` and returns its path without symlinks.
 * ENOENT missing, ENOTDIR, ENOTEMPTY, EBUSY something is mounted there, EACCES.
 */
export function checkMountPoint(mountpoint: string): string {
  // The table first: a stat of a dead mount fails or hangs.
  refuseBusy(mountpoint);
  let path: string;
  try {
    path = realpathSync(mountpoint);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') {
      throw new MirageError(`the mount point ${mountpoint} does not exist`, {
        errno: 'ENOENT',
        cause: new Error('a tree is mounted on a folder that is there'),
        hint: `mkdir -p ${mountpoint}`,
      });
    }
    throw new MirageError(`the mount point ${mountpoint} cannot be reached`, {
      errno: code === 'EACCES' ? 'EACCES' : 'EIO',
      cause,
      hint: 'choose a folder that this user can enter',
    });
  }
  refuseBusy(path);
  if (!statSync(path).isDirectory()) {
    throw new MirageError(`the mount point ${mountpoint} is not a folder`, {
      errno: 'ENOTDIR',
      cause: new Error('a tree is mounted on a folder'),
      hint: 'choose another path, or remove the file',
    });
  }
  let entries: string[];
  try {
    entries = readdirSync(path);
  } catch (cause) {
    throw new MirageError(`the mount point ${mountpoint} cannot be read`, {
      errno: 'EACCES',
      cause,
      hint: 'choose a folder of this user',
    });
  }
  if (entries.length > 0) {
    throw new MirageError(`the mount point ${mountpoint} is not empty`, {
      errno: 'ENOTEMPTY',
      cause: new Error(
        `it holds ${entries.slice(0, 3).join(', ')}${entries.length > 3 ? ', …' : ''}, which the mount would hide`,
      ),
      hint: 'choose an empty folder',
    });
  }
  return path;
}

function refuseBusy(path: string): void {
  const busy = mountedAt(path);
  if (busy === undefined) return;
  throw new MirageError(`the mount point ${path} is busy`, {
    errno: 'EBUSY',
    cause: new Error(`${busy.source} (${busy.type}) is mounted there`),
    hint: isOurs(busy)
      ? `unmount it first: mirage unmount ${path}`
      : `choose another folder, or unmount it: umount ${path}`,
  });
}

/** The kernel can be reached: /dev/fuse is there, and for ordinary users the helper that mounts for them. */
export function checkKernelAccess(): void {
  if (process.platform !== 'linux') return;
  if (!existsSync('/dev/fuse')) {
    throw new MirageError('/dev/fuse is missing', {
      errno: 'ENODEV',
      cause: new Error('the fuse module is not loaded, or this container was not given the device'),
      hint: 'sudo modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN',
    });
  }
  if (process.getuid?.() === 0) return;
  if (helperPath() === undefined) {
    throw new MirageError('fusermount3 is missing', {
      errno: 'ENOENT',
      cause: new Error('ordinary users mount with its help'),
      hint: 'sudo apt-get install -y fuse3',
    });
  }
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (cause) {
    throw new MirageError('/dev/fuse may not be opened by this user', {
      errno: 'EACCES',
      cause,
      hint: 'sudo chmod 666 /dev/fuse (udev does so on an ordinary system)',
    });
  }
}

export const helperPath = (): string | undefined =>
  [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/bin']
    .map((folder) => join(folder, 'fusermount3'))
    .find((file) => existsSync(file));

/** `path` is `folder` or lies below it. Compares devices and inodes, so that symlinks and bind mounts cannot hide it. */
export function isWithin(path: string, folder: { dev: number; ino: number }): boolean {
  for (let at = nearestExisting(path); ; at = dirname(at)) {
    const { dev, ino } = statSync(at);
    if (dev === folder.dev && ino === folder.ino) return true;
    if (at === dirname(at)) return false;
  }
}

function nearestExisting(path: string): string {
  let at = path;
  while (!existsSync(at)) at = dirname(at);
  return realpathSync(at);
}

/** The daemon's own folders must not lie in its mount: it would wait for itself. Nor the mount in them: they are the daemon's alone. */
export function refuseInside(mountpoint: string, folders: Readonly<Record<string, string>>): void {
  const mount = statSync(mountpoint);
  for (const [key, folder] of Object.entries(folders)) {
    if (isWithin(folder, mount)) {
      throw new MirageError(`${key} ${folder} lies inside the mount point ${mountpoint}`, {
        errno: 'EINVAL',
        cause: new Error('the daemon would wait for itself'),
        hint: `set ${key} to a folder outside of the mount`,
      });
    }
    if (existsSync(folder) && isWithin(mountpoint, statSync(folder))) {
      throw new MirageError(`the mount point ${mountpoint} lies inside ${key} ${folder}`, {
        errno: 'EINVAL',
        cause: new Error('what the daemon keeps there it also removes'),
        hint: `choose another mount point, or set ${key} to another folder`,
      });
    }
  }
}
