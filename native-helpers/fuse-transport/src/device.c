#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "transport.h"

struct device *device_create(int fd) {
  struct device *device = calloc(1, sizeof *device);
  if (!device) return NULL;
  device->fd = fd;
  atomic_init(&device->references, 1);
  return device;
}

struct device *device_share(struct device *device) {
  atomic_fetch_add(&device->references, 1);
  return device;
}

void device_release(struct device *device) {
  if (atomic_fetch_sub(&device->references, 1) != 1) return;
  close(device->fd);
  free(device);
}

static void count(_Atomic uint64_t *counter) {
  atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void device_reply(struct device *device, struct iovec *parts, int parts_count) {
  ssize_t sent;
  do {
    sent = parts_count == 1 ? write(device->fd, parts->iov_base, parts->iov_len) : writev(device->fd, parts, parts_count);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0)
    count(&device->replies);
  else if (errno == ENOENT || errno == ENODEV)
    count(&device->gone);
  else
    count(&device->rejected);
}

void device_reply_error(struct device *device, uint64_t unique, int error) {
  struct fuse_out_header header = {.len = sizeof header, .error = -error, .unique = unique};
  struct iovec part = {&header, sizeof header};
  device_reply(device, &part, 1);
}

int thread_start(void *(*run)(void *), void *argument) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error) return error;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  error = pthread_create(&thread, &attributes, run, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return error;
}
