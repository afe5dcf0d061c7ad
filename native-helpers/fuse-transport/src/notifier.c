/* Notifications leave from one thread that answers no request: in the kernel they may wait for a lock that is held until a
 * request has been answered. The queue is bounded; a record that is queued already is not queued again, and when it is full
 * the oldest goes. Nobody waits for this thread, the end of the process included. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport.h"

struct record {
  /* In the order of arrival. */
  struct record *next;
  /* In the bucket of its hash. */
  struct record *sibling;
  size_t length;
  uint32_t hash;
  uint8_t bytes[];
};

struct notifier {
  struct device *device;
  atomic_int references;
  pthread_mutex_t mutex;
  pthread_cond_t work;
  struct record *first, **last;
  uint32_t queued, bound, buckets_mask;
  struct record **buckets;
  bool started, closed;
};

static void release(struct notifier *notifier) {
  if (atomic_fetch_sub(&notifier->references, 1) != 1) return;
  pthread_mutex_destroy(&notifier->mutex);
  pthread_cond_destroy(&notifier->work);
  device_release(notifier->device);
  free(notifier->buckets);
  free(notifier);
}

struct notifier *notifier_create(struct device *device, uint32_t bound) {
  struct notifier *notifier = calloc(1, sizeof *notifier);
  if (!notifier) return NULL;
  uint32_t buckets = 16;
  while (buckets < bound && buckets < 1u << 20) buckets *= 2;
  notifier->buckets = calloc(buckets, sizeof *notifier->buckets);
  if (!notifier->buckets) {
    free(notifier);
    return NULL;
  }
  notifier->device = device_share(device);
  atomic_init(&notifier->references, 1);
  notifier->bound = bound ? bound : 1;
  notifier->buckets_mask = buckets - 1;
  notifier->last = &notifier->first;
  pthread_mutex_init(&notifier->mutex, NULL);
  pthread_cond_init(&notifier->work, NULL);
  return notifier;
}

/** FNV-1a */
static uint32_t hash_of(const uint8_t *bytes, size_t length) {
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 16777619u;
  return hash;
}

/** Takes the oldest record out of both lists. */
static struct record *take(struct notifier *notifier) {
  struct record *record = notifier->first;
  if (!record) return NULL;
  notifier->first = record->next;
  if (!notifier->first) notifier->last = &notifier->first;
  struct record **link = &notifier->buckets[record->hash & notifier->buckets_mask];
  while (*link != record) link = &(*link)->sibling;
  *link = record->sibling;
  notifier->queued--;
  return record;
}

static void *serve(void *argument) {
  struct notifier *notifier = argument;
  struct device *device = notifier->device;
  pthread_mutex_lock(&notifier->mutex);
  while (!notifier->closed) {
    struct record *record = take(notifier);
    if (!record) {
      pthread_cond_wait(&notifier->work, &notifier->mutex);
      continue;
    }
    pthread_mutex_unlock(&notifier->mutex);
    ssize_t sent;
    do sent = write(device->fd, record->bytes, record->length);
    while (sent < 0 && errno == EINTR);
    /* ENOENT: the kernel does not have that node or name in its caches. */
    if (sent >= 0 || errno == ENOENT)
      atomic_fetch_add_explicit(&device->notified, 1, memory_order_relaxed);
    else
      atomic_fetch_add_explicit(&device->dropped, 1, memory_order_relaxed);
    free(record);
    pthread_mutex_lock(&notifier->mutex);
  }
  struct record *record;
  while ((record = take(notifier))) free(record);
  pthread_mutex_unlock(&notifier->mutex);
  release(notifier);
  return NULL;
}

void notifier_queue(struct notifier *notifier, const uint8_t *bytes, size_t length) {
  struct record *record = malloc(sizeof *record + length);
  struct record *old = NULL;
  if (!record) {
    atomic_fetch_add_explicit(&notifier->device->dropped, 1, memory_order_relaxed);
    return;
  }
  *record = (struct record){.length = length, .hash = hash_of(bytes, length)};
  memcpy(record->bytes, bytes, length);
  pthread_mutex_lock(&notifier->mutex);
  struct record **bucket = &notifier->buckets[record->hash & notifier->buckets_mask];
  for (struct record *other = *bucket; other && !old; other = other->sibling) {
    if (other->hash == record->hash && other->length == length && memcmp(other->bytes, bytes, length) == 0) old = record;
  }
  if (!old) {
    if (notifier->queued == notifier->bound) {
      old = take(notifier);
      atomic_fetch_add_explicit(&notifier->device->dropped, 1, memory_order_relaxed);
    }
    record->sibling = *bucket;
    *bucket = record;
    *notifier->last = record;
    notifier->last = &record->next;
    notifier->queued++;
    if (!notifier->started) {
      atomic_fetch_add(&notifier->references, 1);
      notifier->started = thread_start(serve, notifier) == 0;
      if (!notifier->started) atomic_fetch_sub(&notifier->references, 1);
    }
    pthread_cond_signal(&notifier->work);
  }
  pthread_mutex_unlock(&notifier->mutex);
  free(old);
}

void notifier_close(struct notifier *notifier) {
  pthread_mutex_lock(&notifier->mutex);
  notifier->closed = true;
  struct record *record;
  while ((record = take(notifier))) free(record);
  pthread_cond_signal(&notifier->work);
  pthread_mutex_unlock(&notifier->mutex);
  release(notifier);
}
