/* Handing a descriptor to another process over a unix socket, and telling the service manager about our state. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "arguments.h"
#include "transport.h"

union control {
  struct cmsghdr header;
  char space[CMSG_SPACE(sizeof(int))];
};

int descriptor_receive(int socket) {
  char byte;
  struct iovec part = {&byte, 1};
  union control control;
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t got;
  do got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got < 0) return -errno;
  struct cmsghdr *header = got ? CMSG_FIRSTHDR(&message) : NULL;
  if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len != CMSG_LEN(sizeof(int)))
    return -EPROTO;
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

static int descriptor_send(int socket, int fd) {
  char byte = 0;
  struct iovec part = {&byte, 1};
  union control control;
  memset(&control, 0, sizeof control);
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  ssize_t sent;
  do sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : 0;
}

/** A socket of that type connected to a path ('@' = abstract), or a negated error number. */
static int connect_to(const char *path, int type) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(path);
  if (length == 0 || length >= sizeof address.sun_path) return -ENAMETOOLONG;
  memcpy(address.sun_path, path, length);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
  if (*path == '@') {
    address.sun_path[0] = '\0';
    size--;
  }
  int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int result;
  do result = connect(fd, (struct sockaddr *)&address, size);
  while (result < 0 && errno == EINTR);
  if (result == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

napi_value transport_send_descriptor(napi_env env, napi_callback_info info) {
  napi_value values[2];
  char path[256];
  int32_t fd;
  if (!read_arguments(env, info, 2, values, NULL) || !to_text(env, values[0], path, sizeof path) ||
      !to_int32(env, values[1], &fd))
    return NULL;
  int result = connect_to(path, SOCK_STREAM);
  if (result >= 0) {
    int socket = result;
    result = descriptor_send(socket, fd);
    close(socket);
  }
  return from_number(env, result);
}

napi_value transport_receive_descriptor(napi_env env, napi_callback_info info) {
  napi_value values[1];
  char path[256];
  if (!read_arguments(env, info, 1, values, NULL) || !to_text(env, values[0], path, sizeof path)) return NULL;
  int result = connect_to(path, SOCK_STREAM);
  if (result >= 0) {
    int socket = result;
    result = descriptor_receive(socket);
    close(socket);
  }
  return from_number(env, result);
}

napi_value transport_service_notify(napi_env env, napi_callback_info info) {
  napi_value values[2];
  char path[256], state[1024];
  if (!read_arguments(env, info, 2, values, NULL) || !to_text(env, values[0], path, sizeof path) ||
      !to_text(env, values[1], state, sizeof state))
    return NULL;
  int result = connect_to(path, SOCK_DGRAM);
  if (result >= 0) {
    int socket = result;
    ssize_t sent;
    do sent = send(socket, state, strlen(state), MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    result = sent < 0 ? -errno : 0;
    close(socket);
  }
  return from_number(env, result);
}
