/* A channel: requests are drained from the descriptor in batches when the event loop says that it is readable, JavaScript is
 * called once per batch, and the replies that it queued leave after that call. Before going back to the event loop it looks a
 * few microseconds longer for the next request, as long as that pays. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uv.h>

#include "arguments.h"
#include "transport.h"

/* Linux 6.9 */
struct backing_map {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

enum {
  MAXIMUM_SLOTS = 1024,
  QUEUED_REPLIES = 512,
  /* Other events of the loop wait at most so long (and one batch). */
  TURN_NANOSECONDS = 500 * 1000,
  /* Spins that may fail in a row before most are skipped, and how many are skipped then. */
  SPIN_CREDIT = 16,
  SPIN_PROBE = 32,
  /* With one client at a time, looking for a second request costs a system call and finds nothing. */
  EAGER = 8,
};

/* Memory that JavaScript sees as an ArrayBuffer and that outlives the channel as long as that does. */
struct region {
  char *base;
  size_t size;
  int references;
};

struct queued_reply {
  uint32_t offset, length;
};

/* Lives until its environment ends, so that a call on a closed channel finds it closed. */
struct channel {
  napi_env env;
  napi_async_cleanup_hook_handle cleanup;
  napi_async_context context;
  napi_ref callback, resource;
  uv_poll_t poll;
  bool poll_open, started, closed, environment_ends;

  struct device *device;
  struct file_replies *file_replies;
  struct notifier *notifier;
  struct region *requests, *replies, *lengths;
  uint32_t slots, slot_bytes, reply_bytes;

  bool in_batch;
  /* Batches in a row that followed the one before at once: from some on, a batch is more than one request. */
  uint32_t eagerness;
  uint32_t spin_microseconds;
  int spin_credit, spins_skipped;
  uint32_t queued;
  struct queued_reply queue[QUEUED_REPLIES];
  /* Counters of a closed channel. */
  struct device final;
};

static struct region *region_create(size_t size) {
  struct region *region = malloc(sizeof *region);
  if (!region) return NULL;
  void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) {
    free(region);
    return NULL;
  }
  *region = (struct region){base, size, 1};
  return region;
}

static void region_release(struct region *region) {
  if (!region || --region->references) return;
  munmap(region->base, region->size);
  free(region);
}

static void region_finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)data;
  region_release(hint);
}

static bool set_region(napi_env env, napi_value object, const char *name, struct region *region) {
  napi_value buffer;
  if (napi_create_external_arraybuffer(env, region->base, region->size, region_finalize, region, &buffer) != napi_ok)
    return false;
  region->references++;
  return napi_set_named_property(env, object, name, buffer) == napi_ok;
}

/* Replies */

static void send_record(struct channel *channel, uint32_t offset, uint32_t length) {
  struct iovec part = {channel->replies->base + offset, length};
  device_reply(channel->device, &part, 1);
}

static void send_queued(struct channel *channel) {
  for (uint32_t i = 0; i < channel->queued; i++) send_record(channel, channel->queue[i].offset, channel->queue[i].length);
  channel->queued = 0;
}

/* The arguments of a call on an open channel; throws otherwise. */
static struct channel *open_channel(napi_env env, napi_callback_info info, size_t count, napi_value *values) {
  void *data;
  if (!read_arguments(env, info, count, values, &data)) return NULL;
  struct channel *channel = data;
  if (!channel->closed) return channel;
  napi_throw_error(env, "EBADF", "the channel is closed");
  return NULL;
}

static bool out_of_bounds(napi_env env) {
  napi_throw_range_error(env, "EINVAL", "outside of the arena");
  return false;
}

static napi_value reply(napi_env env, napi_callback_info info) {
  napi_value values[2];
  uint32_t offset, length;
  struct channel *channel = open_channel(env, info, 2, values);
  if (!channel || !to_uint32(env, values[0], &offset) || !to_uint32(env, values[1], &length)) return NULL;
  if (length < sizeof(struct fuse_out_header) || offset > channel->reply_bytes || length > channel->reply_bytes - offset) {
    out_of_bounds(env);
    return NULL;
  }
  if (!channel->in_batch) {
    send_record(channel, offset, length);
    return NULL;
  }
  if (channel->queued == QUEUED_REPLIES) send_queued(channel);
  channel->queue[channel->queued++] = (struct queued_reply){offset, length};
  return NULL;
}

static napi_value flush(napi_env env, napi_callback_info info) {
  struct channel *channel = open_channel(env, info, 0, NULL);
  if (channel) send_queued(channel);
  return NULL;
}

static napi_value reply_buffer(napi_env env, napi_callback_info info) {
  napi_value values[2];
  const uint8_t *bytes;
  size_t size;
  uint32_t length;
  struct channel *channel = open_channel(env, info, 2, values);
  if (!channel || !to_bytes(env, values[0], &bytes, &size) || !to_uint32(env, values[1], &length)) return NULL;
  if (length < sizeof(struct fuse_out_header) || length > size) {
    out_of_bounds(env);
    return NULL;
  }
  struct iovec part = {(void *)bytes, length};
  device_reply(channel->device, &part, 1);
  return NULL;
}

static napi_value reply_from_file(napi_env env, napi_callback_info info) {
  napi_value values[5];
  uint32_t low, high, length;
  int32_t fd;
  int64_t position;
  struct channel *channel = open_channel(env, info, 5, values);
  if (!channel || !to_uint32(env, values[0], &low) || !to_uint32(env, values[1], &high) ||
      !to_int32(env, values[2], &fd) || !to_int64(env, values[3], &position) || !to_uint32(env, values[4], &length))
    return NULL;
  uint64_t unique = (uint64_t)high << 32 | low;
  if (fd < 0 || position < 0)
    device_reply_error(channel->device, unique, EIO);
  else
    file_replies_send(channel->file_replies, unique, fd, position, length);
  return NULL;
}

/* Payload of a request */

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

static napi_value write_from_slot(napi_env env, napi_callback_info info) {
  napi_value values[5];
  uint32_t slot, skip, length;
  int32_t fd;
  int64_t position;
  struct channel *channel = open_channel(env, info, 5, values);
  if (!channel || !to_uint32(env, values[0], &slot) || !to_uint32(env, values[1], &skip) ||
      !to_uint32(env, values[2], &length) || !to_int32(env, values[3], &fd) || !to_int64(env, values[4], &position))
    return NULL;
  if (slot >= channel->slots || skip > channel->slot_bytes || length > channel->slot_bytes - skip) {
    out_of_bounds(env);
    return NULL;
  }
  const char *payload = channel->requests->base + (size_t)slot * channel->slot_bytes + skip;
  return from_number(env, (double)write_fully(fd, payload, length, position));
}

/* Backing files, notifications, counters */

static napi_value backing_open(napi_env env, napi_callback_info info) {
  napi_value values[1];
  struct backing_map map = {0};
  struct channel *channel = open_channel(env, info, 1, values);
  if (!channel || !to_int32(env, values[0], &map.fd)) return NULL;
  int id = ioctl(channel->device->fd, BACKING_OPEN, &map);
  return from_number(env, id < 0 ? -errno : id);
}

static napi_value backing_close(napi_env env, napi_callback_info info) {
  napi_value values[1];
  uint32_t id;
  struct channel *channel = open_channel(env, info, 1, values);
  if (!channel || !to_uint32(env, values[0], &id)) return NULL;
  return from_number(env, ioctl(channel->device->fd, BACKING_CLOSE, &id) < 0 ? -errno : 0);
}

static napi_value notify(napi_env env, napi_callback_info info) {
  napi_value values[1];
  const uint8_t *bytes;
  size_t length;
  struct channel *channel = open_channel(env, info, 1, values);
  if (channel && to_bytes(env, values[0], &bytes, &length)) notifier_queue(channel->notifier, bytes, length);
  return NULL;
}

static napi_value counters(napi_env env, napi_callback_info info) {
  void *data;
  napi_value object;
  if (!read_arguments(env, info, 0, NULL, &data) || napi_create_object(env, &object) != napi_ok) return NULL;
  struct channel *channel = data;
  const struct device *device = channel->closed ? &channel->final : channel->device;
  set_number(env, object, "requests", (double)device->requests);
  set_number(env, object, "replies", (double)device->replies);
  set_number(env, object, "batches", (double)device->batches);
  set_number(env, object, "notified", (double)device->notified);
  set_number(env, object, "dropped", (double)device->dropped);
  set_number(env, object, "gone", (double)device->gone);
  set_number(env, object, "rejected", (double)device->rejected);
  return object;
}

/* Delivery */

/** Bytes of the request now in the slot, 0 when there is none, or a negated error number: the connection has ended. */
static ssize_t receive(struct channel *channel, uint32_t slot) {
  for (;;) {
    ssize_t length =
        read(channel->device->fd, channel->requests->base + (size_t)slot * channel->slot_bytes, channel->slot_bytes);
    if (length > 0) return length;
    if (length == 0) return -ENODEV;
    if (errno == EAGAIN) return 0;
    /* ENOENT: the request was interrupted before it was read. */
    if (errno != EINTR && errno != ENOENT) return -errno;
  }
}

/** Fills slots from `count` on; returns how many are filled, or a negated error number when none is. */
static int fill(struct channel *channel, uint32_t count) {
  int32_t *lengths = (int32_t *)channel->lengths->base;
  while (count < channel->slots && (channel->eagerness >= EAGER || count == 0)) {
    ssize_t length = receive(channel, count);
    if (length < 0 && count == 0) return (int)length;
    if (length <= 0) break;
    lengths[count++] = (int32_t)length;
  }
  return (int)count;
}

static void note_load(struct channel *channel, int count, bool follows) {
  if (channel->eagerness >= EAGER) {
    if (count <= 1) channel->eagerness = 0;
  } else if (follows) {
    channel->eagerness = count > 0 ? channel->eagerness + 1 : 0;
  }
}

static int spin(struct channel *channel) {
  if (!channel->spin_microseconds) return 0;
  if (channel->spin_credit == 0 && ++channel->spins_skipped < SPIN_PROBE) return 0;
  channel->spins_skipped = 0;
  uint64_t end = uv_hrtime() + (uint64_t)channel->spin_microseconds * 1000;
  do {
    sched_yield();
    int count = fill(channel, 0);
    if (count) {
      channel->spin_credit = SPIN_CREDIT;
      return count;
    }
  } while (uv_hrtime() < end);
  if (channel->spin_credit) channel->spin_credit--;
  return 0;
}

/** Calls JavaScript; says whether it left promises behind, whose continuations run when the callback scope is closed. */
static bool deliver(struct channel *channel, int count) {
  napi_env env = channel->env;
  napi_handle_scope scope;
  napi_value callback, receiver, argument, result;
  bool promises = false;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return false;
  channel->in_batch = true;
  if (napi_get_reference_value(env, channel->callback, &callback) == napi_ok && callback &&
      napi_get_global(env, &receiver) == napi_ok && napi_create_int32(env, count, &argument) == napi_ok) {
    napi_status status = napi_call_function(env, receiver, callback, 1, &argument, &result);
    if (status == napi_ok) {
      napi_get_value_bool(env, result, &promises);
    } else if (status == napi_pending_exception) {
      napi_value exception;
      napi_get_and_clear_last_exception(env, &exception);
      napi_fatal_exception(env, exception);
    }
  }
  channel->in_batch = false;
  if (!channel->closed) send_queued(channel);
  napi_close_handle_scope(env, scope);
  return promises;
}

static void on_readable(uv_poll_t *poll, int status, int events) {
  /* An error of the descriptor shows in read(2) too. */
  (void)status;
  (void)events;
  struct channel *channel = poll->data;
  napi_env env = channel->env;
  napi_handle_scope scope;
  napi_value resource;
  napi_callback_scope callbacks = NULL;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  uint64_t end = uv_hrtime() + TURN_NANOSECONDS;
  bool follows = false;
  do {
    int count = fill(channel, 0);
    note_load(channel, count, follows);
    if (count == 0) count = spin(channel);
    if (count == 0) break;
    if (!callbacks && (napi_get_reference_value(env, channel->resource, &resource) != napi_ok ||
                       napi_open_callback_scope(env, resource, channel->context, &callbacks) != napi_ok))
      break;
    if (count > 0) {
      atomic_fetch_add_explicit(&channel->device->requests, (uint64_t)count, memory_order_relaxed);
      atomic_fetch_add_explicit(&channel->device->batches, 1, memory_order_relaxed);
    } else {
      channel->started = false;
      uv_poll_stop(poll);
    }
    if (deliver(channel, count)) {
      napi_close_callback_scope(env, callbacks);
      callbacks = NULL;
    }
    follows = true;
  } while (channel->started && uv_hrtime() < end);
  if (callbacks) napi_close_callback_scope(env, callbacks);
  napi_close_handle_scope(env, scope);
}

/* Life */

static void save_counters(struct channel *channel) {
  struct device *device = channel->device;
  channel->final = (struct device){.requests = device->requests, .replies = device->replies, .batches = device->batches,
                                   .notified = device->notified, .dropped = device->dropped, .gone = device->gone,
                                   .rejected = device->rejected};
}

static void on_poll_closed(uv_handle_t *handle) {
  struct channel *channel = handle->data;
  channel->poll_open = false;
  if (channel->environment_ends) {
    napi_remove_async_cleanup_hook(channel->cleanup);
    free(channel);
    return;
  }
  napi_handle_scope scope;
  if (napi_open_handle_scope(channel->env, &scope) != napi_ok) return;
  if (channel->callback) napi_delete_reference(channel->env, channel->callback);
  napi_delete_reference(channel->env, channel->resource);
  napi_async_destroy(channel->env, channel->context);
  napi_close_handle_scope(channel->env, scope);
}

static void close_channel(struct channel *channel) {
  if (channel->closed) return;
  send_queued(channel);
  save_counters(channel);
  channel->closed = true;
  channel->started = false;
  uv_close((uv_handle_t *)&channel->poll, on_poll_closed);
  file_replies_close(channel->file_replies);
  notifier_close(channel->notifier);
  device_release(channel->device);
  region_release(channel->requests);
  region_release(channel->replies);
  region_release(channel->lengths);
  channel->device = NULL;
}

static void on_environment_end(napi_async_cleanup_hook_handle handle, void *data) {
  struct channel *channel = data;
  channel->environment_ends = true;
  close_channel(channel);
  if (channel->poll_open) return;
  napi_remove_async_cleanup_hook(handle);
  free(channel);
}

static napi_value start(napi_env env, napi_callback_info info) {
  napi_value values[1];
  napi_valuetype type;
  struct channel *channel = open_channel(env, info, 1, values);
  if (!channel) return NULL;
  if (napi_typeof(env, values[0], &type) != napi_ok || type != napi_function) {
    napi_throw_type_error(env, NULL, "a function is expected");
    return NULL;
  }
  if (channel->callback) napi_delete_reference(env, channel->callback);
  channel->callback = NULL;
  int error = uv_poll_start(&channel->poll, UV_READABLE, on_readable);
  if (error || napi_create_reference(env, values[0], 1, &channel->callback) != napi_ok) {
    uv_poll_stop(&channel->poll);
    napi_throw_error(env, uv_err_name(error), "the descriptor cannot be polled");
    return NULL;
  }
  channel->started = true;
  return NULL;
}

static napi_value stop(napi_env env, napi_callback_info info) {
  struct channel *channel = open_channel(env, info, 0, NULL);
  if (!channel) return NULL;
  channel->started = false;
  uv_poll_stop(&channel->poll);
  return NULL;
}

static napi_value close_call(napi_env env, napi_callback_info info) {
  void *data;
  if (read_arguments(env, info, 0, NULL, &data)) close_channel(data);
  return NULL;
}

/** The object that JavaScript sees. */
static napi_value describe(napi_env env, struct channel *channel) {
  static const struct {
    const char *name;
    napi_callback function;
  } functions[] = {
      {"start", start},
      {"stop", stop},
      {"reply", reply},
      {"flush", flush},
      {"replyBuffer", reply_buffer},
      {"replyFromFile", reply_from_file},
      {"writeFromSlot", write_from_slot},
      {"backingOpen", backing_open},
      {"backingClose", backing_close},
      {"notify", notify},
      {"counters", counters},
      {"close", close_call},
  };
  napi_value object;
  if (napi_create_object(env, &object) != napi_ok || !set_region(env, object, "requests", channel->requests) ||
      !set_region(env, object, "replies", channel->replies) || !set_region(env, object, "lengths", channel->lengths))
    return NULL;
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    if (!set_function(env, object, functions[i].name, functions[i].function, channel)) return NULL;
  }
  return object;
}

static bool read_options(napi_env env, napi_value options, struct channel *channel, uint32_t *notifications) {
  if (!to_option(env, options, "slots", &channel->slots) ||
      !to_option(env, options, "slotBytes", &channel->slot_bytes) ||
      !to_option(env, options, "replyBytes", &channel->reply_bytes) ||
      !to_option(env, options, "spinMicroseconds", &channel->spin_microseconds) ||
      !to_option(env, options, "notifications", notifications))
    return false;
  if (channel->slots && channel->slots <= MAXIMUM_SLOTS && channel->slot_bytes >= FUSE_MIN_READ_BUFFER &&
      channel->slot_bytes % 8 == 0 && channel->slot_bytes <= 1u << 28 &&
      channel->reply_bytes >= FUSE_MIN_READ_BUFFER && channel->spin_microseconds <= 1000)
    return true;
  napi_throw_range_error(env, "EINVAL", "channel options out of range");
  return false;
}

/** Frees a channel that has no poll handle yet; its descriptor stays with the caller. */
static void discard(struct channel *channel) {
  if (channel->notifier) notifier_close(channel->notifier);
  if (channel->file_replies) file_replies_close(channel->file_replies);
  if (channel->device) {
    channel->device->fd = -1;
    device_release(channel->device);
  }
  region_release(channel->requests);
  region_release(channel->replies);
  region_release(channel->lengths);
  free(channel);
}

static bool allocate(struct channel *channel, int fd, uint32_t notifications) {
  return (channel->device = device_create(fd)) &&
         (channel->file_replies = file_replies_create(channel->device, channel->slot_bytes)) &&
         (channel->notifier = notifier_create(channel->device, notifications)) &&
         (channel->requests = region_create((size_t)channel->slots * channel->slot_bytes)) &&
         (channel->replies = region_create(channel->reply_bytes)) &&
         (channel->lengths = region_create(channel->slots * sizeof(int32_t)));
}

/** open(fd, options): the channel owns the descriptor from here on. */
napi_value channel_open(napi_env env, napi_callback_info info) {
  napi_value values[2], object, name;
  int32_t fd;
  uint32_t notifications;
  uv_loop_t *loop;
  struct channel *channel = calloc(1, sizeof *channel);
  if (!channel) {
    napi_throw_error(env, "ENOMEM", "out of memory");
    return NULL;
  }
  channel->env = env;
  channel->spin_credit = SPIN_CREDIT;
  if (!read_arguments(env, info, 2, values, NULL) || !to_int32(env, values[0], &fd) ||
      !read_options(env, values[1], channel, &notifications)) {
    discard(channel);
    return NULL;
  }
  int error = 0;
  if (!allocate(channel, fd, notifications)) error = UV_ENOMEM;
  if (!error && napi_get_uv_event_loop(env, &loop) != napi_ok) error = UV_EINVAL;
  /* Makes the descriptor non-blocking. */
  if (!error) error = uv_poll_init(loop, &channel->poll, fd);
  if (error) {
    discard(channel);
    napi_throw_error(env, uv_err_name(error), "the channel cannot be opened");
    return NULL;
  }
  channel->poll_open = true;
  channel->poll.data = channel;
  if (napi_add_async_cleanup_hook(env, on_environment_end, channel, &channel->cleanup) != napi_ok ||
      napi_create_object(env, &object) != napi_ok || napi_create_reference(env, object, 1, &channel->resource) != napi_ok ||
      napi_create_string_utf8(env, "mirage:fuse", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_async_init(env, object, name, &channel->context) != napi_ok)
    return NULL;
  return describe(env, channel);
}
