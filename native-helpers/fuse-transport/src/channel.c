/* The life of a channel: its arenas, its handle in the event loop, and its end, by JavaScript or with the environment. */
#include <stdlib.h>
#include <sys/mman.h>

#include "channel.h"

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

static void save_counters(struct channel *channel) {
  struct device *device = channel->device;
  channel->final = (struct device){.requests = device->requests, .replies = device->replies, .batches = device->batches,
                                   .handed_over = device->handed_over, .notified = device->notified,
                                   .dropped = device->dropped, .gone = device->gone, .rejected = device->rejected};
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
  channel_send_queued(channel);
  save_counters(channel);
  channel->closed = true;
  channel->started = false;
  uv_close((uv_handle_t *)&channel->poll, on_poll_closed);
  file_replies_close(channel->file_replies);
  file_writes_close(channel->file_writes);
  notifier_close(channel->notifier);
  attribute_replies_close(channel->attribute_replies);
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
  struct channel *channel = channel_arguments(env, info, 1, values);
  if (!channel) return NULL;
  if (napi_typeof(env, values[0], &type) != napi_ok || type != napi_function) {
    napi_throw_type_error(env, NULL, "a function is expected");
    return NULL;
  }
  if (channel->callback) napi_delete_reference(env, channel->callback);
  channel->callback = NULL;
  int error = uv_poll_start(&channel->poll, UV_READABLE, channel_on_readable);
  if (error || napi_create_reference(env, values[0], 1, &channel->callback) != napi_ok) {
    uv_poll_stop(&channel->poll);
    napi_throw_error(env, uv_err_name(error), "the descriptor cannot be polled");
    return NULL;
  }
  channel->started = true;
  return NULL;
}

static napi_value stop(napi_env env, napi_callback_info info) {
  struct channel *channel = channel_arguments(env, info, 0, NULL);
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
      {"reply", channel_reply},
      {"flush", channel_flush},
      {"replyBuffer", channel_reply_buffer},
      {"replyFromFile", channel_reply_from_file},
      {"keepAttributes", channel_keep_attributes},
      {"dropAttributes", channel_drop_attributes},
      {"writeFromSlot", channel_write_from_slot},
      {"handOver", channel_hand_over},
      {"fetchPayload", channel_fetch_payload},
      {"backingOpen", channel_backing_open},
      {"backingClose", channel_backing_close},
      {"notify", channel_notify},
      {"counters", channel_counters},
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
  if (channel->attribute_replies) attribute_replies_close(channel->attribute_replies);
  if (channel->notifier) notifier_close(channel->notifier);
  if (channel->file_writes) file_writes_close(channel->file_writes);
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
         (channel->file_replies = file_replies_create(channel->device, channel->reply_bytes)) &&
         (channel->file_writes = file_writes_create(channel->device, channel->slot_bytes)) &&
         (channel->notifier = notifier_create(channel->device, notifications)) &&
         (channel->attribute_replies = attribute_replies_create(channel->device)) &&
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
