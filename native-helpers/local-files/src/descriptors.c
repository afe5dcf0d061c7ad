#include <sys/resource.h>
#include <sys/socket.h>

#include "calls.h"

CALL(open_at) {
  ARGUMENTS;
  char name[NAME_BYTES];
  int error = name_of(&a, 1, name);
  int flags = integer(&a, 2);
  if (error) return number(env, error);
  if (!name[0]) {
    if (!(flags & O_DIRECTORY)) return number(env, -ENOENT);
    strcpy(name, ".");
  }
  return outcome(env, openat(integer(&a, 0), name, flags | O_CLOEXEC | O_NOFOLLOW, integer(&a, 3)));
}

CALL(open_path) {
  ARGUMENTS;
  char path[PATH_MAX];
  int error = bytes_of(&a, 0, path, sizeof path);
  if (error) return number(env, error);
  return outcome(env, open(path, integer(&a, 1) | O_CLOEXEC));
}

CALL(reopen) {
  ARGUMENTS;
  ProcPath path = proc_path(integer(&a, 0));
  return outcome(env, openat(a.calls->proc, proc_name(&path), (integer(&a, 1) & ~O_NOFOLLOW) | O_CLOEXEC));
}

CALL(close_fd) {
  ARGUMENTS;
  return outcome(env, close(integer(&a, 0)));
}

typedef struct {
  napi_async_work work;
  int fd;
} Closing;

static void closing_run(napi_env env, void *data) {
  (void)env;
  close(((Closing *)data)->fd);
}

static void closing_done(napi_env env, napi_status status, void *data) {
  Closing *closing = data;
  if (status == napi_cancelled) close(closing->fd);
  napi_delete_async_work(env, closing->work);
  free(closing);
}

/* On a thread of the pool: ext4 begins to write a file that was truncated or replaced when it is closed. */
CALL(close_later) {
  ARGUMENTS;
  napi_value name;
  int fd = integer(&a, 0);
  Closing *closing = malloc(sizeof *closing);
  if (closing) *closing = (Closing){NULL, fd};
  if (closing && napi_create_string_utf8(env, "mirage.close", NAPI_AUTO_LENGTH, &name) == napi_ok &&
      napi_create_async_work(env, NULL, name, closing_run, closing_done, closing, &closing->work) == napi_ok) {
    if (napi_queue_async_work(env, closing->work) == napi_ok) return number(env, 0);
    napi_delete_async_work(env, closing->work);
  }
  free(closing);
  return outcome(env, close(fd));
}

/* What close(2) of a program reports: closing a duplicate runs the file system's flush. */
CALL(flush_fd) {
  ARGUMENTS;
  int copy = fcntl(integer(&a, 0), F_DUPFD_CLOEXEC, 0);
  return outcome(env, copy < 0 ? -1 : close(copy));
}

/* The first end is ours and never waits; the second is for a child process, which expects to. */
CALL(socket_pair) {
  ARGUMENTS;
  size_t length;
  int32_t *ends = buffer_of(&a, 0, &length);
  if (length < 2) return number(env, -EINVAL);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return number(env, -errno);
  return outcome(env, fcntl(ends[0], F_SETFL, O_NONBLOCK));
}

CALL(lock_file) {
  ARGUMENTS;
  struct flock lock = {.l_type = truth(&a, 1) ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
  return outcome(env, fcntl(integer(&a, 0), F_OFD_SETLK, &lock));
}

CALL(raise_descriptor_limit) {
  ARGUMENTS;
  struct rlimit limit;
  int64_t asked = wide(&a, 0);
  rlim_t wanted = asked < 0 ? 0 : (rlim_t)asked;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return number(env, -errno);
  if (limit.rlim_cur < wanted) {
    struct rlimit raised = {wanted, wanted > limit.rlim_max ? wanted : limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) < 0) {
      raised = (struct rlimit){wanted < limit.rlim_max ? wanted : limit.rlim_max, limit.rlim_max};
      setrlimit(RLIMIT_NOFILE, &raised);
    }
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  return number(env, limit.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)limit.rlim_cur);
}

const Entry descriptor_calls[] = {
    {"openAt", open_at},
    {"openPath", open_path},
    {"reopen", reopen},
    {"close", close_fd},
    {"closeLater", close_later},
    {"flush", flush_fd},
    {"socketPair", socket_pair},
    {"lockFile", lock_file},
    {"raiseDescriptorLimit", raise_descriptor_limit},
    {NULL, NULL},
};
