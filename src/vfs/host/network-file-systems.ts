/** NFS, SMB, SMB2, Ceph, FUSE, 9P, AFS (statfs(2) magics). */
const MAGICS = new Set([
  0x6969, 0x517b, 0xfe534d42, 0xff534d42, 0x00c36400, 0x65735546, 0x01021997, 0x6b414653,
]);

/**
 * Whether a file system with this `f_type` may be changed by others than this kernel. Such a one reports failed writes when a file is closed, and
 * inotify(7) does not see what others change.
 */
export const isNetworked = (type: number): boolean => MAGICS.has(type);
