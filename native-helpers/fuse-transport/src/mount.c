/* Mounting and unmounting: mount(2) where we have the privilege, else fusermount3, which hands the descriptor over. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arguments.h"
#include "transport.h"

extern char **environ;

enum { OPTIONS_SIZE = 2048, MESSAGE_SIZE = 1024, HELPER_SOCKET = 3 };

static napi_value outcome(napi_env env, const char *key, int result, const char *message) {
  napi_value object, text;
  if (napi_create_object(env, &object) != napi_ok || !set_number(env, object, key, result) ||
      napi_create_string_utf8(env, message, NAPI_AUTO_LENGTH, &text) != napi_ok ||
      napi_set_named_property(env, object, "message", text) != napi_ok)
    return NULL;
  return object;
}

static int mount_directly(const char *mountpoint, const char *source, const char *type, const char *options) {
  char all[OPTIONS_SIZE + 128];
  int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fd < 0) return -errno;
  snprintf(all, sizeof all, "fd=%d,rootmode=40000,user_id=%u,group_id=%u%s%s", fd, (unsigned)geteuid(), (unsigned)getegid(),
           *options ? "," : "", options);
  if (mount(source, mountpoint, type, MS_NOSUID | MS_NODEV, all) == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

napi_value transport_mount(napi_env env, napi_callback_info info) {
  napi_value values[4];
  char mountpoint[PATH_MAX], source[256], type[64], options[OPTIONS_SIZE];
  if (!read_arguments(env, info, 4, values, NULL) || !to_text(env, values[0], mountpoint, sizeof mountpoint) ||
      !to_text(env, values[1], source, sizeof source) || !to_text(env, values[2], type, sizeof type) ||
      !to_text(env, values[3], options, sizeof options))
    return NULL;
  return outcome(env, "fd", mount_directly(mountpoint, source, type, options), "");
}

/* The environment plus the number of the socket that fusermount3 answers on. */
static char **helper_environment(void) {
  static char variable[] = "_FUSE_COMMFD=3";
  _Static_assert(HELPER_SOCKET == 3, "the number in the variable");
  size_t count = 0;
  while (environ[count]) count++;
  char **result = malloc((count + 2) * sizeof *result);
  if (!result) return NULL;
  size_t kept = 0;
  for (size_t i = 0; i < count; i++) {
    if (strncmp(environ[i], "_FUSE_COMMFD=", 13) != 0) result[kept++] = environ[i];
  }
  result[kept++] = variable;
  result[kept] = NULL;
  return result;
}

/** Starts the helper with its error output on `output` and, if not -1, its end of the socket; 0 or a negated error number. */
static int spawn_helper(char *const arguments[], int output, int socket, pid_t *pid) {
  posix_spawn_file_actions_t actions;
  char **variables = helper_environment();
  if (!variables) return -ENOMEM;
  int error = posix_spawn_file_actions_init(&actions);
  if (error) {
    free(variables);
    return -error;
  }
  error = posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
  if (!error && socket >= 0) error = posix_spawn_file_actions_adddup2(&actions, socket, HELPER_SOCKET);
  if (!error) error = posix_spawnp(pid, arguments[0], &actions, NULL, arguments, variables);
  posix_spawn_file_actions_destroy(&actions);
  free(variables);
  return -error;
}

/** Reads what the helper says until it ends; 0 when it succeeded, else -EPERM (it tells why only in words). */
static int finish_helper(pid_t pid, int output, char message[MESSAGE_SIZE]) {
  size_t length = 0;
  char rest[256];
  for (;;) {
    bool full = length == MESSAGE_SIZE - 1;
    ssize_t got = read(output, full ? rest : message + length, full ? sizeof rest : MESSAGE_SIZE - 1 - length);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    if (!full) length += (size_t)got;
  }
  while (length && message[length - 1] == '\n') length--;
  message[length] = '\0';
  int status;
  pid_t ended;
  do ended = waitpid(pid, &status, 0);
  while (ended < 0 && errno == EINTR);
  return ended == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

static int mount_by_helper(char *helper, char *mountpoint, char *options, char message[MESSAGE_SIZE]) {
  int sockets[2], output[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0) return -errno;
  if (pipe2(output, O_CLOEXEC) < 0) {
    int error = errno;
    close(sockets[0]);
    close(sockets[1]);
    return -error;
  }
  char *const arguments[] = {helper, "-o", options, "--", mountpoint, NULL};
  pid_t pid;
  int result = spawn_helper(arguments, output[1], sockets[0], &pid);
  close(sockets[0]);
  close(output[1]);
  if (result == 0) {
    int fd = descriptor_receive(sockets[1]);
    result = finish_helper(pid, output[0], message);
    if (result == 0)
      result = fd;
    else if (fd >= 0)
      close(fd);
  }
  close(sockets[1]);
  close(output[0]);
  return result;
}

napi_value transport_mount_by_helper(napi_env env, napi_callback_info info) {
  napi_value values[3];
  char helper[PATH_MAX], mountpoint[PATH_MAX], options[OPTIONS_SIZE], message[MESSAGE_SIZE] = "";
  if (!read_arguments(env, info, 3, values, NULL) || !to_text(env, values[0], helper, sizeof helper) ||
      !to_text(env, values[1], mountpoint, sizeof mountpoint) || !to_text(env, values[2], options, sizeof options))
    return NULL;
  int fd = mount_by_helper(helper, mountpoint, options, message);
  return outcome(env, "fd", fd, message);
}

/* Unmounting may have to wait for requests that the calling thread answers, so it runs on another one. */
struct unmounting {
  napi_deferred deferred;
  napi_async_work work;
  int flags, result;
  bool lazy;
  char helper[PATH_MAX], mountpoint[PATH_MAX], message[MESSAGE_SIZE];
};

static void unmount_directly(napi_env env, void *data) {
  (void)env;
  struct unmounting *unmounting = data;
  unmounting->result = umount2(unmounting->mountpoint, unmounting->flags) < 0 ? -errno : 0;
}

static void unmount_with_helper(napi_env env, void *data) {
  (void)env;
  struct unmounting *unmounting = data;
  int output[2];
  if (pipe2(output, O_CLOEXEC) < 0) {
    unmounting->result = -errno;
    return;
  }
  char *const arguments[] = {unmounting->helper, "-u", unmounting->lazy ? "-z" : "--", unmounting->mountpoint, NULL};
  pid_t pid;
  unmounting->result = spawn_helper(arguments, output[1], -1, &pid);
  close(output[1]);
  if (unmounting->result == 0) unmounting->result = finish_helper(pid, output[0], unmounting->message);
  close(output[0]);
}

static void unmounted(napi_env env, napi_status status, void *data) {
  struct unmounting *unmounting = data;
  napi_value answer = outcome(env, "result", status == napi_ok ? unmounting->result : -ECANCELED, unmounting->message);
  if (answer) napi_resolve_deferred(env, unmounting->deferred, answer);
  napi_delete_async_work(env, unmounting->work);
  free(unmounting);
}

static napi_value unmount_later(napi_env env, struct unmounting *unmounting, napi_async_execute_callback execute) {
  napi_value promise, name;
  if (napi_create_string_utf8(env, "mirage:unmount", NAPI_AUTO_LENGTH, &name) == napi_ok &&
      napi_create_async_work(env, NULL, name, execute, unmounted, unmounting, &unmounting->work) == napi_ok) {
    if (napi_create_promise(env, &unmounting->deferred, &promise) == napi_ok &&
        napi_queue_async_work(env, unmounting->work) == napi_ok)
      return promise;
    napi_delete_async_work(env, unmounting->work);
  }
  free(unmounting);
  napi_throw_error(env, "ENOMEM", "the unmount cannot be started");
  return NULL;
}

napi_value transport_unmount(napi_env env, napi_callback_info info) {
  napi_value values[2];
  struct unmounting *unmounting = calloc(1, sizeof *unmounting);
  if (unmounting && read_arguments(env, info, 2, values, NULL) &&
      to_text(env, values[0], unmounting->mountpoint, sizeof unmounting->mountpoint) &&
      to_int32(env, values[1], &unmounting->flags))
    return unmount_later(env, unmounting, unmount_directly);
  free(unmounting);
  return NULL;
}

napi_value transport_unmount_by_helper(napi_env env, napi_callback_info info) {
  napi_value values[3];
  struct unmounting *unmounting = calloc(1, sizeof *unmounting);
  if (unmounting && read_arguments(env, info, 3, values, NULL) &&
      to_text(env, values[0], unmounting->helper, sizeof unmounting->helper) &&
      to_text(env, values[1], unmounting->mountpoint, sizeof unmounting->mountpoint) &&
      napi_get_value_bool(env, values[2], &unmounting->lazy) == napi_ok)
    return unmount_later(env, unmounting, unmount_with_helper);
  free(unmounting);
  return NULL;
}
