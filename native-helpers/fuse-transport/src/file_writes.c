/* WRITEs into files. While programs write much, requests are received through a pipe: the payload stays in it (the pages of the
 * program's write themselves, no copy of them) until JavaScript has said which file it belongs to, and goes there by splice(2).
 * JavaScript may leave the copy and the answer to us; when more requests wait, a thread of ours does both, so that several
 * writes go on at once and none that waits for its disk holds up the file-system thread. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport.h"

enum {
  MAXIMUM_THREADS = 2,
  /* One for each thread, one that waits for a thread, one to receive into. */
  PIPES = MAXIMUM_THREADS + 2,
  HEAD = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in),
  /* A payload of fewer bytes is copied faster than its pages are passed on. */
  LARGE = 32 * 1024,
  /* So many requests without such a payload, and they are received by read(2) again: that is one call less for each. */
  PATIENCE = 8,
};

struct pipe {
  struct pipe *next;
  int in, out;
  /* What is to become of what is in it, for a thread. `fd` is a duplicate: the file may be closed meanwhile. */
  int fd;
  int64_t position;
  uint64_t unique;
  uint32_t length;
};

struct file_writes {
  struct device *device;
  atomic_int references;
  uint32_t largest;
  /* Requests that are still received through a pipe. */
  int patience;
  bool unable;
  /* What requests are received through, and the one whose payload is in it still; of the file-system thread alone. */
  struct pipe *receiver;
  const void *request;
  struct pipe pipes[PIPES];
  pthread_mutex_t mutex;
  pthread_cond_t work;
  struct pipe *unused, *first, **last;
  int threads, idle;
  bool closed;
  atomic_int working;
};

static void pipe_close(struct pipe *pipe) {
  if (pipe->in >= 0) close(pipe->in);
  if (pipe->out >= 0) close(pipe->out);
  pipe->in = pipe->out = -1;
}

/** Opens it where it is not; false when it cannot hold a whole request (beyond fs.pipe-max-size that takes privilege). */
static bool pipe_open(struct pipe *pipe, uint32_t largest) {
  if (pipe->in >= 0) return true;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return false;
  pipe->out = ends[0];
  pipe->in = ends[1];
  /* Header and payload begin pages of their own. */
  if (fcntl(pipe->in, F_SETPIPE_SZ, largest + 2 * 4096) >= 0) return true;
  pipe_close(pipe);
  return false;
}

static void release(struct file_writes *writes) {
  if (atomic_fetch_sub(&writes->references, 1) != 1) return;
  for (size_t i = 0; i < PIPES; i++) pipe_close(&writes->pipes[i]);
  pthread_mutex_destroy(&writes->mutex);
  pthread_cond_destroy(&writes->work);
  device_release(writes->device);
  free(writes);
}

struct file_writes *file_writes_create(struct device *device, uint32_t largest) {
  struct file_writes *writes = calloc(1, sizeof *writes);
  if (!writes) return NULL;
  writes->device = device_share(device);
  atomic_init(&writes->references, 1);
  writes->largest = largest;
  writes->last = &writes->first;
  for (size_t i = 0; i < PIPES; i++) {
    writes->pipes[i] = (struct pipe){.next = writes->unused, .in = -1, .out = -1, .fd = -1};
    writes->unused = &writes->pipes[i];
  }
  pthread_mutex_init(&writes->mutex, NULL);
  pthread_cond_init(&writes->work, NULL);
  return writes;
}

/* Receiving */

/** Whether there is an empty pipe to receive through. */
static bool has_receiver(struct file_writes *writes) {
  if (!writes->receiver) {
    pthread_mutex_lock(&writes->mutex);
    writes->receiver = writes->unused;
    if (writes->unused) writes->unused = writes->unused->next;
    pthread_mutex_unlock(&writes->mutex);
  }
  if (!writes->receiver) return false;
  if (pipe_open(writes->receiver, writes->largest)) return true;
  writes->unable = true;
  return false;
}

/** Reads exactly so many bytes that are in the pipe. */
static bool drain(struct pipe *pipe, char *buffer, size_t length) {
  while (length) {
    ssize_t got = read(pipe->out, buffer, length);
    if (got > 0) {
      buffer += got;
      length -= (size_t)got;
    } else if (got == 0 || errno != EINTR) {
      return false;
    }
  }
  return true;
}

static bool is_large_write(const void *request, ssize_t length) {
  return length >= HEAD + LARGE && ((const struct fuse_in_header *)request)->opcode == FUSE_WRITE;
}

static ssize_t receive_through(struct file_writes *writes, struct pipe *pipe, void *request, size_t size) {
  ssize_t length = splice(writes->device->fd, NULL, pipe->in, NULL, size, 0);
  if (length <= 0) return length;
  size_t head = length < HEAD + LARGE ? (size_t)length : HEAD;
  bool received = drain(pipe, request, head);
  if (received && is_large_write(request, length)) {
    pipe->length = (uint32_t)((size_t)length - head);
    writes->request = request;
    writes->patience = PATIENCE;
    return length;
  }
  writes->patience--;
  if (received && drain(pipe, (char *)request + head, (size_t)length - head)) return length;
  pipe_close(pipe);
  errno = EIO;
  return -1;
}

ssize_t file_writes_receive(struct file_writes *writes, void *request, size_t size) {
  /* Whoever did not ask for the payload does not want it. */
  if (writes->request) pipe_close(writes->receiver);
  writes->request = NULL;
  if (writes->patience > 0 && !writes->unable && has_receiver(writes))
    return receive_through(writes, writes->receiver, request, size);
  ssize_t length = read(writes->device->fd, request, size);
  if (is_large_write(request, length)) writes->patience = PATIENCE;
  return length;
}

bool file_writes_fetch(struct file_writes *writes, void *request) {
  if (writes->request != request) return true;
  writes->request = NULL;
  if (drain(writes->receiver, (char *)request + HEAD, writes->receiver->length)) return true;
  pipe_close(writes->receiver);
  return false;
}

/* Writing */

static ssize_t write_fully(int fd, const char *bytes, size_t length, int64_t position) {
  size_t done = 0;
  while (done < length) {
    ssize_t put = position < 0 ? write(fd, bytes + done, length - done)
                               : pwrite(fd, bytes + done, length - done, position + (int64_t)done);
    if (put > 0)
      done += (size_t)put;
    else if (put == 0 || errno != EINTR)
      return done ? (ssize_t)done : put ? -errno : -EIO;
  }
  return (ssize_t)done;
}

/** For files that splice(2) does not know. */
static ssize_t copy_from(struct pipe *pipe, int fd, int64_t position) {
  char *buffer = malloc(pipe->length);
  if (!buffer) return -ENOMEM;
  ssize_t written = drain(pipe, buffer, pipe->length) ? write_fully(fd, buffer, pipe->length, position) : -EIO;
  free(buffer);
  return written;
}

/** Writes what is in the pipe; afterwards it is empty, or closed. Returns the bytes written or a negated error number. */
static ssize_t write_from(struct pipe *pipe, int fd, int64_t position) {
  loff_t at = position;
  size_t done = 0;
  while (done < pipe->length) {
    ssize_t put = splice(pipe->out, NULL, fd, &at, pipe->length - done, 0);
    if (put > 0) {
      done += (size_t)put;
      continue;
    }
    if (put < 0 && errno == EINTR) continue;
    ssize_t result = put < 0 ? -errno : -EIO;
    if (!done && result == -EINVAL) return copy_from(pipe, fd, position);
    pipe_close(pipe);
    return done ? (ssize_t)done : result;
  }
  return (ssize_t)done;
}

ssize_t file_writes_put(struct file_writes *writes, void *request, uint32_t skip, uint32_t length, int fd, int64_t position) {
  if (writes->request == request && skip == HEAD && length == writes->receiver->length && position >= 0) {
    writes->request = NULL;
    return write_from(writes->receiver, fd, position);
  }
  if (!file_writes_fetch(writes, request)) return -EIO;
  return write_fully(fd, (const char *)request + skip, length, position);
}

/* Threads */

static void answer(struct device *device, uint64_t unique, ssize_t written) {
  if (written < 0) {
    device_reply_error(device, unique, (int)-written == EBADF ? EIO : (int)-written);
    return;
  }
  struct {
    struct fuse_out_header header;
    struct fuse_write_out out;
  } reply = {{.len = sizeof reply, .unique = unique}, {.size = (uint32_t)written}};
  struct iovec part = {&reply, sizeof reply};
  device_reply(device, &part, 1);
}

static void *serve(void *argument) {
  struct file_writes *writes = argument;
  pthread_mutex_lock(&writes->mutex);
  for (;;) {
    while (!writes->first && !writes->closed) {
      writes->idle++;
      pthread_cond_wait(&writes->work, &writes->mutex);
      writes->idle--;
    }
    struct pipe *pipe = writes->first;
    if (!pipe) break;
    writes->first = pipe->next;
    if (!writes->first) writes->last = &writes->first;
    pthread_mutex_unlock(&writes->mutex);
    ssize_t written = write_from(pipe, pipe->fd, pipe->position);
    close(pipe->fd);
    answer(writes->device, pipe->unique, written);
    atomic_fetch_sub(&writes->working, 1);
    pthread_mutex_lock(&writes->mutex);
    pipe->next = writes->unused;
    writes->unused = pipe;
  }
  pthread_mutex_unlock(&writes->mutex);
  release(writes);
  return NULL;
}

/** Alone, a write is done soonest where it is. */
static bool others_wait(struct file_writes *writes) {
  if (atomic_load(&writes->working)) return true;
  struct pollfd next = {.fd = writes->device->fd, .events = POLLIN};
  return poll(&next, 1, 0) == 1;
}

bool file_writes_hand_over(struct file_writes *writes, const void *request, int fd, int64_t position) {
  const struct fuse_in_header *header = request;
  const struct fuse_write_in *in = (const void *)(header + 1);
  struct pipe *pipe = writes->receiver;
  if (writes->request != request || in->size != pipe->length || position < 0 || !others_wait(writes)) return false;
  pipe->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (pipe->fd < 0) return false;
  pipe->position = position;
  pipe->unique = header->unique;
  pipe->next = NULL;
  pthread_mutex_lock(&writes->mutex);
  if (!writes->idle && writes->threads < MAXIMUM_THREADS) {
    atomic_fetch_add(&writes->references, 1);
    if (thread_start(serve, writes) == 0)
      writes->threads++;
    else
      atomic_fetch_sub(&writes->references, 1);
  }
  bool taken = writes->threads > 0, wake = writes->idle > 0;
  if (taken) {
    *writes->last = pipe;
    writes->last = &pipe->next;
    atomic_fetch_add(&writes->working, 1);
  }
  pthread_mutex_unlock(&writes->mutex);
  if (!taken) {
    close(pipe->fd);
    return false;
  }
  writes->request = NULL;
  writes->receiver = NULL;
  atomic_fetch_add_explicit(&writes->device->handed_over, 1, memory_order_relaxed);
  if (wake) pthread_cond_signal(&writes->work);
  return true;
}

void file_writes_close(struct file_writes *writes) {
  pthread_mutex_lock(&writes->mutex);
  writes->closed = true;
  pthread_cond_broadcast(&writes->work);
  pthread_mutex_unlock(&writes->mutex);
  release(writes);
}
