/* READs answered from files. Bytes in the page cache are sent at once (preadv2 with RWF_NOWAIT); for the others a thread waits
 * for the disk and replies itself, so that a slow disk does not stop the file-system thread. The threads are our own: the pool
 * of libuv may be full of calls that wait for this very mount. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport.h"

enum { MAXIMUM_THREADS = 4, REMEMBERED = 4096, RETRY_NOWAIT = 31 };

struct job {
  struct job *next;
  uint64_t unique;
  int64_t position;
  uint32_t length;
  /* A duplicate: the file may be closed before its bytes have come. */
  int fd;
};

struct file_replies {
  struct device *device;
  atomic_int references;
  uint32_t largest;
  char *buffer;
  /* By descriptor number: how often not to try RWF_NOWAIT again, which its file system does not know. */
  uint8_t plain[REMEMBERED];
  pthread_mutex_t mutex;
  pthread_cond_t work;
  struct job *first, **last;
  int threads, idle;
  bool closed;
};

static void release(struct file_replies *replies) {
  if (atomic_fetch_sub(&replies->references, 1) != 1) return;
  pthread_mutex_destroy(&replies->mutex);
  pthread_cond_destroy(&replies->work);
  device_release(replies->device);
  free(replies->buffer);
  free(replies);
}

struct file_replies *file_replies_create(struct device *device, uint32_t largest) {
  struct file_replies *replies = calloc(1, sizeof *replies);
  if (!replies) return NULL;
  replies->buffer = malloc(largest);
  if (!replies->buffer) {
    free(replies);
    return NULL;
  }
  replies->device = device_share(device);
  atomic_init(&replies->references, 1);
  replies->largest = largest;
  replies->last = &replies->first;
  pthread_mutex_init(&replies->mutex, NULL);
  pthread_cond_init(&replies->work, NULL);
  return replies;
}

static void send_bytes(struct device *device, uint64_t unique, char *bytes, size_t length) {
  struct fuse_out_header header = {.len = (uint32_t)(sizeof header + length), .unique = unique};
  struct iovec parts[] = {{&header, sizeof header}, {bytes, length}};
  device_reply(device, parts, length ? 2 : 1);
}

/** Reads until `length` or the end of the file; returns the bytes read or a negated error number. */
static ssize_t read_fully(int fd, char *buffer, size_t length, int64_t position, int flags) {
  size_t done = 0;
  while (done < length) {
    struct iovec part = {buffer + done, length - done};
    ssize_t got = flags ? preadv2(fd, &part, 1, position + (int64_t)done, flags)
                        : pread(fd, part.iov_base, part.iov_len, position + (int64_t)done);
    if (got == 0) break;
    if (got > 0)
      done += (size_t)got;
    else if (errno != EINTR)
      return -errno;
  }
  return (ssize_t)done;
}

static void answer(struct device *device, uint64_t unique, char *buffer, ssize_t length) {
  if (length < 0)
    device_reply_error(device, unique, (int)-length == EBADF ? EIO : (int)-length);
  else
    send_bytes(device, unique, buffer, (size_t)length);
}

static void *serve(void *argument) {
  struct file_replies *replies = argument;
  char *buffer = malloc(replies->largest);
  pthread_mutex_lock(&replies->mutex);
  for (;;) {
    while (!replies->first && !replies->closed) {
      replies->idle++;
      pthread_cond_wait(&replies->work, &replies->mutex);
      replies->idle--;
    }
    struct job *job = replies->first;
    if (!job) break;
    replies->first = job->next;
    if (!replies->first) replies->last = &replies->first;
    pthread_mutex_unlock(&replies->mutex);
    if (buffer)
      answer(replies->device, job->unique, buffer, read_fully(job->fd, buffer, job->length, job->position, 0));
    else
      device_reply_error(replies->device, job->unique, ENOMEM);
    close(job->fd);
    free(job);
    pthread_mutex_lock(&replies->mutex);
  }
  pthread_mutex_unlock(&replies->mutex);
  free(buffer);
  release(replies);
  return NULL;
}

/** Hands the READ to a thread; false when there is none to be had. */
static bool defer(struct file_replies *replies, uint64_t unique, int fd, int64_t position, uint32_t length) {
  struct job *job = malloc(sizeof *job);
  if (!job) return false;
  *job = (struct job){NULL, unique, position, length, fcntl(fd, F_DUPFD_CLOEXEC, 0)};
  if (job->fd < 0) {
    free(job);
    return false;
  }
  pthread_mutex_lock(&replies->mutex);
  if (!replies->idle && replies->threads < MAXIMUM_THREADS) {
    atomic_fetch_add(&replies->references, 1);
    if (thread_start(serve, replies) == 0)
      replies->threads++;
    else
      atomic_fetch_sub(&replies->references, 1);
  }
  bool taken = replies->threads > 0;
  if (taken) {
    *replies->last = job;
    replies->last = &job->next;
    pthread_cond_signal(&replies->work);
  }
  pthread_mutex_unlock(&replies->mutex);
  if (!taken) {
    close(job->fd);
    free(job);
  }
  return taken;
}

void file_replies_send(struct file_replies *replies, uint64_t unique, int fd, int64_t position, uint32_t length) {
  if (length > replies->largest) length = replies->largest;
  uint8_t *plain = &replies->plain[(unsigned)fd % REMEMBERED];
  ssize_t got = -EOPNOTSUPP;
  if (*plain)
    --*plain;
  else if ((got = read_fully(fd, replies->buffer, length, position, RWF_NOWAIT)) == -EOPNOTSUPP)
    *plain = RETRY_NOWAIT;
  if (got == -EAGAIN && defer(replies, unique, fd, position, length)) return;
  if (got == -EAGAIN || got == -EOPNOTSUPP) got = read_fully(fd, replies->buffer, length, position, 0);
  answer(replies->device, unique, replies->buffer, got);
}

void file_replies_close(struct file_replies *replies) {
  pthread_mutex_lock(&replies->mutex);
  replies->closed = true;
  pthread_cond_broadcast(&replies->work);
  pthread_mutex_unlock(&replies->mutex);
  release(replies);
}
