import { errno } from '../errors/errno.js';
import type { ByteString } from './operations.js';

export const isPosixAcl = (name: ByteString): boolean =>
  name === 'system.posix_acl_access' || name === 'system.posix_acl_default';

/**
 * The error for an extended attribute that a file has not, on a volume without ACLs. `ls -l` asks each file for its SELinux label and
 * its ACL, but only one file of a mount where the answer is that there is no such thing here (ls.c of coreutils: `file_has_acl_cache`).
 */
export const absentErrno = (name: ByteString): number =>
  isPosixAcl(name) || name === 'security.selinux' ? errno.EOPNOTSUPP : errno.ENODATA;
