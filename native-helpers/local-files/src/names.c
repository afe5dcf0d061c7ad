#include "calls.h"

CALL(mkdir_at) {
  ARGUMENTS;
  NAME(name, 1);
  return outcome(env, mkdirat(integer(&a, 0), name, integer(&a, 2)));
}

CALL(mknod_at) {
  ARGUMENTS;
  NAME(name, 1);
  /* mknod(2) takes 32 bits in the form of `rdev`; glibc's wrapper would translate from its own. */
  return outcome(env, syscall(SYS_mknodat, integer(&a, 0), name, integer(&a, 2), (unsigned)wide(&a, 3)));
}

CALL(symlink_at) {
  ARGUMENTS;
  char target[PATH_MAX];
  NAME(name, 2);
  int error = bytes_of(&a, 0, target, sizeof target);
  if (error) return number(env, error);
  return outcome(env, symlinkat(target, integer(&a, 1), name));
}

CALL(link_at) {
  ARGUMENTS;
  NAME(name, 2);
  int fd = integer(&a, 0), directory = integer(&a, 1);
  if (linkat(fd, "", directory, name, AT_EMPTY_PATH) == 0) return number(env, 0);
  if (errno != ENOENT && errno != EPERM) return number(env, -errno);
  /* Without CAP_DAC_READ_SEARCH the magic link has to do. */
  ProcPath path = proc_path(fd);
  return outcome(env, linkat(AT_FDCWD, path.text, directory, name, AT_SYMLINK_FOLLOW));
}

CALL(unlink_at) {
  ARGUMENTS;
  NAME(name, 1);
  return outcome(env, unlinkat(integer(&a, 0), name, integer(&a, 2)));
}

CALL(rename_at) {
  ARGUMENTS;
  NAME(from, 1);
  NAME(to, 3);
  return outcome(env, syscall(SYS_renameat2, integer(&a, 0), from, integer(&a, 2), to, integer(&a, 4)));
}

CALL(read_link) {
  ARGUMENTS;
  char target[PATH_MAX];
  ssize_t length = readlinkat(integer(&a, 0), "", target, sizeof target);
  if (length < 0) return number(env, -errno);
  napi_value result;
  napi_create_string_latin1(env, target, (size_t)length, &result);
  return result;
}

const Entry name_calls[] = {
    {"mkdirAt", mkdir_at},
    {"mknodAt", mknod_at},
    {"symlinkAt", symlink_at},
    {"linkAt", link_at},
    {"unlinkAt", unlink_at},
    {"renameAt", rename_at},
    {"readlink", read_link},
    {NULL, NULL},
};
