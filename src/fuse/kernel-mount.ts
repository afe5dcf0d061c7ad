/** The kernel's end of a mount: made and ended by mount(2) and umount2(2) where we may, else by fusermount3. */
import { existsSync } from 'node:fs';
import { type ErrnoName, errno, errnoName } from '../errors/errno.js';
import { MirageError } from '../errors/mirage-error.js';
import type { FuseTransportModule, Unmounted } from '../native/fuse-transport.js';
import { MAX_TRANSFER } from './negotiation.js';

const DEVICE = '/dev/fuse';
const HELPER = 'fusermount3';
const SUBTYPE = 'mirage';
const MNT_DETACH = 2;

export interface KernelMountOptions {
  readonly mountpoint: string;
  /** What the first column of /proc/mounts shows. */
  readonly source: string;
  readonly allowOther: boolean;
}

/** The kernel checks permissions by itself, from the attributes that it is given. */
function mountOptions(options: KernelMountOptions): string {
  const list = ['default_permissions', `max_read=${MAX_TRANSFER}`];
  if (options.allowOther) list.push('allow_other');
  return list.join(',');
}

const isRoot = (): boolean => process.geteuid?.() === 0;

/** Mounts; returns the descriptor of the connection. Throws MirageError with what to do. */
export function mountKernel(transport: FuseTransportModule, options: KernelMountOptions): number {
  const { mountpoint, source } = options;
  if (!existsSync(DEVICE)) {
    throw new MirageError(`${DEVICE} is missing`, {
      errno: 'ENODEV',
      hint: 'load the module (modprobe fuse); in a container add --device /dev/fuse --cap-add SYS_ADMIN',
    });
  }
  if (isRoot()) {
    const { fd } = transport.mount(mountpoint, source, `fuse.${SUBTYPE}`, mountOptions(options));
    if (fd >= 0) return fd;
    // Root without the privilege, as in a container: the helper may have it.
    if (-fd !== errno.EPERM) throw refused(`mounting ${mountpoint}`, -fd);
  }
  const names = `fsname=${source},subtype=${SUBTYPE}`;
  const { fd, message } = transport.mountByHelper(HELPER, mountpoint, `${names},${mountOptions(options)}`);
  if (fd >= 0) return fd;
  if (-fd === errno.ENOENT) {
    throw new MirageError(`${HELPER} is missing`, { errno: 'ENOENT', hint: 'apt-get install fuse3' });
  }
  throw refused(`mounting ${mountpoint}`, -fd, message);
}

/** Ends the mount. In use: it is detached, programs that have files open keep them until they close them. */
export async function unmountKernel(transport: FuseTransportModule, mountpoint: string): Promise<void> {
  const unmount = (lazy: boolean): Promise<Unmounted> =>
    isRoot()
      ? transport.unmount(mountpoint, lazy ? MNT_DETACH : 0)
      : transport.unmountByHelper(HELPER, mountpoint, lazy);
  let outcome = await unmount(false);
  if (outcome.result !== 0 && -outcome.result !== errno.EINVAL) outcome = await unmount(true);
  // EINVAL, ENOENT: no mount (any more).
  if (outcome.result === 0 || -outcome.result === errno.EINVAL || -outcome.result === errno.ENOENT) return;
  throw refused(`unmounting ${mountpoint}`, -outcome.result, outcome.message);
}

const HINTS: Partial<Record<ErrnoName, string>> = {
  EPERM:
    'run as root, or let users open the device (chmod 666 /dev/fuse); for them allowOther needs user_allow_other in /etc/fuse.conf',
  EACCES: 'the mount point must belong to you',
  ENOENT: 'make the mount point first: mkdir -p',
  ENOTDIR: 'the mount point must be a directory',
  EBUSY: 'something is mounted there: mirage unmount',
};

function refused(what: string, number: number, message = ''): MirageError {
  const name = errnoName(number) as ErrnoName;
  const hint = HINTS[name];
  return new MirageError(`${what}: ${message || name}`, { errno: name, ...(hint ? { hint } : {}) });
}
