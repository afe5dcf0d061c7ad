#include "calls.h"

CALL(allocate) {
  ARGUMENTS;
  return outcome(env, fallocate(integer(&a, 0), integer(&a, 1), wide(&a, 2), wide(&a, 3)));
}

CALL(seek) {
  ARGUMENTS;
  return outcome(env, lseek(integer(&a, 0), wide(&a, 1), integer(&a, 2)));
}

CALL(copy_range) {
  ARGUMENTS;
  off64_t from = wide(&a, 1), to = wide(&a, 3);
  return outcome(env, copy_file_range(integer(&a, 0), &from, integer(&a, 2), &to, (size_t)wide(&a, 4), 0));
}

CALL(read_at) {
  ARGUMENTS;
  size_t length;
  void *data = buffer_of(&a, 1, &length);
  return outcome(env, pread(integer(&a, 0), data, length, wide(&a, 2)));
}

CALL(write_at) {
  ARGUMENTS;
  size_t length;
  void *data = buffer_of(&a, 1, &length);
  return outcome(env, pwrite(integer(&a, 0), data, length, wide(&a, 2)));
}

CALL(sync_fd) {
  ARGUMENTS;
  int fd = integer(&a, 0);
  return outcome(env, truth(&a, 1) ? fdatasync(fd) : fsync(fd));
}

CALL(read_fd) {
  ARGUMENTS;
  size_t length;
  void *data = buffer_of(&a, 1, &length);
  return outcome(env, read(integer(&a, 0), data, length));
}

const Entry content_calls[] = {
    {"fallocate", allocate},
    {"lseek", seek},
    {"copyFileRange", copy_range},
    {"pread", read_at},
    {"pwrite", write_at},
    {"fsync", sync_fd},
    {"read", read_fd},
    {NULL, NULL},
};
