#include <linux/stat.h>
#include <sys/statfs.h>

#include "calls.h"

/* Order as in `enum Stat`. */
enum {
  INO, SIZE, BLOCKS, MODE, NLINK, UID, GID, RDEV, BLOCK_SIZE,
  ACCESSED, ACCESSED_NS, MODIFIED, MODIFIED_NS, CHANGED, CHANGED_NS,
  DEVICE, BIRTH
};

double inode_number(uint64_t ino) {
  if (ino >= MAX_INTEGER) {
    ino ^= ino >> 31;
    ino *= 0x7fb5d329728ea185ULL;
    ino ^= ino >> 27;
    ino *= 0x81dadef4bc2dd44dULL;
    ino ^= ino >> 33;
    ino >>= 11;
  }
  return (double)ino;
}

int fill_stat(const Calls *calls, int directory, const char *name) {
  struct statx x;
  int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_SYNC_AS_STAT | (name[0] ? 0 : AT_EMPTY_PATH);
  if (statx(directory, name, flags, STATX_BASIC_STATS | STATX_BTIME, &x) < 0) return -errno;
  double *s = calls->stat;
  uint32_t minor = x.stx_rdev_minor;
  s[INO] = inode_number(x.stx_ino);
  s[SIZE] = (double)x.stx_size;
  s[BLOCKS] = (double)x.stx_blocks;
  s[MODE] = x.stx_mode;
  s[NLINK] = x.stx_nlink;
  s[UID] = x.stx_uid;
  s[GID] = x.stx_gid;
  s[RDEV] = (double)((minor & 0xff) | (x.stx_rdev_major << 8) | ((minor & ~0xffU) << 12));
  s[BLOCK_SIZE] = x.stx_blksize;
  s[ACCESSED] = (double)x.stx_atime.tv_sec;
  s[ACCESSED_NS] = x.stx_atime.tv_nsec;
  s[MODIFIED] = (double)x.stx_mtime.tv_sec;
  s[MODIFIED_NS] = x.stx_mtime.tv_nsec;
  s[CHANGED] = (double)x.stx_ctime.tv_sec;
  s[CHANGED_NS] = x.stx_ctime.tv_nsec;
  s[DEVICE] = x.stx_dev_major * 4294967296.0 + x.stx_dev_minor;
  s[BIRTH] = x.stx_mask & STATX_BTIME
                 ? (double)(uint32_t)((uint32_t)x.stx_btime.tv_sec * 2654435761U ^ x.stx_btime.tv_nsec)
                 : 0;
  return 0;
}

CALL(stat_fd) {
  ARGUMENTS;
  return number(env, fill_stat(a.calls, integer(&a, 0), ""));
}

CALL(stat_at) {
  ARGUMENTS;
  NAME(name, 1);
  return number(env, fill_stat(a.calls, integer(&a, 0), name));
}

CALL(lookup_at) {
  ARGUMENTS;
  NAME(name, 1);
  int fd = openat(integer(&a, 0), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return number(env, -errno);
  int error = fill_stat(a.calls, fd, "");
  if (error) {
    close(fd);
    return number(env, error);
  }
  return number(env, fd);
}

CALL(stat_file_system) {
  ARGUMENTS;
  struct statfs s;
  size_t length;
  double *result = buffer_of(&a, 1, &length);
  if (length < 8) return number(env, -EINVAL);
  if (fstatfs(integer(&a, 0), &s) < 0) return number(env, -errno);
  result[0] = s.f_frsize ? s.f_frsize : s.f_bsize;
  result[1] = s.f_blocks;
  result[2] = s.f_bfree;
  result[3] = s.f_bavail;
  result[4] = s.f_files;
  result[5] = s.f_ffree;
  result[6] = s.f_namelen;
  result[7] = (uint32_t)s.f_type;
  return number(env, 0);
}

const Entry stat_calls[] = {
    {"statFd", stat_fd},
    {"statAt", stat_at},
    {"lookupAt", lookup_at},
    {"statfs", stat_file_system},
    {NULL, NULL},
};
