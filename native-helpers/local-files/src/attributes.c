#include <sys/xattr.h>

#include "calls.h"

/* Newer than the headers of Debian 12. */
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_getxattrat
#define SYS_getxattrat 464
#endif

CALL(chmod_fd) {
  ARGUMENTS;
  int fd = integer(&a, 0), mode = integer(&a, 1);
  if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0) return number(env, 0);
  if (errno != ENOSYS) return number(env, -errno);
  ProcPath path = proc_path(fd);
  return outcome(env, chmod(path.text, (mode_t)mode));
}

CALL(chown_fd) {
  ARGUMENTS;
  return outcome(env, fchownat(integer(&a, 0), "", id_of(&a, 1), id_of(&a, 2), AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

CALL(truncate_fd) {
  ARGUMENTS;
  int fd = integer(&a, 0);
  int64_t size = wide(&a, 1);
  if (ftruncate(fd, size) == 0) return number(env, 0);
  if (errno != EBADF && errno != EINVAL) return number(env, -errno);
  ProcPath path = proc_path(fd);
  return outcome(env, truncate(path.text, size));
}

CALL(utimes_fd) {
  ARGUMENTS;
  int fd = integer(&a, 0);
  struct timespec times[2] = {{wide(&a, 1), wide(&a, 2)}, {wide(&a, 3), wide(&a, 4)}};
  if (syscall(SYS_utimensat, fd, "", times, AT_EMPTY_PATH) == 0) return number(env, 0);
  if (errno != EINVAL && errno != ENOENT) return number(env, -errno);
  ProcPath path = proc_path(fd);
  return outcome(env, utimensat(AT_FDCWD, path.text, times, 0));
}

/* struct xattr_args of Linux 6.13 */
struct value_of {
  uint64_t value;
  uint32_t size;
  uint32_t flags;
};

CALL(get_xattr) {
  ARGUMENTS;
  NAME(name, 1);
  size_t length;
  void *value = buffer_of(&a, 2, &length);
  ProcPath path = proc_path(integer(&a, 0));
  struct value_of into = {.value = (uintptr_t)value, .size = length > UINT32_MAX ? UINT32_MAX : (uint32_t)length};
  long result = syscall(SYS_getxattrat, a.calls->proc, proc_name(&path), 0, name, &into, sizeof into);
  if (result < 0 && errno == ENOSYS) result = getxattr(path.text, name, value, length);
  return outcome(env, result);
}

CALL(set_xattr) {
  ARGUMENTS;
  NAME(name, 1);
  size_t length;
  void *value = buffer_of(&a, 2, &length);
  ProcPath path = proc_path(integer(&a, 0));
  return outcome(env, setxattr(path.text, name, value, length, integer(&a, 3)));
}

CALL(list_xattr) {
  ARGUMENTS;
  size_t length;
  void *value = buffer_of(&a, 1, &length);
  ProcPath path = proc_path(integer(&a, 0));
  return outcome(env, listxattr(path.text, value, length));
}

CALL(remove_xattr) {
  ARGUMENTS;
  NAME(name, 1);
  ProcPath path = proc_path(integer(&a, 0));
  return outcome(env, removexattr(path.text, name));
}

const Entry attribute_calls[] = {
    {"chmodFd", chmod_fd},
    {"chownFd", chown_fd},
    {"truncateFd", truncate_fd},
    {"utimesFd", utimes_fd},
    {"getxattr", get_xattr},
    {"setxattr", set_xattr},
    {"listxattr", list_xattr},
    {"removexattr", remove_xattr},
    {NULL, NULL},
};
