/* What JavaScript may ask of an open channel: replies, payload, backing files, notifications. */
#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "channel.h"

/* Linux 6.9 */
struct backing_map {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

static void send_record(struct channel *channel, uint32_t offset, uint32_t length) {
  struct iovec part = {channel->replies->base + offset, length};
  device_reply(channel->device, &part, 1);
}

void channel_send_queued(struct channel *channel) {
  for (uint32_t i = 0; i < channel->queued; i++) send_record(channel, channel->queue[i].offset, channel->queue[i].length);
  channel->queued = 0;
}

struct channel *channel_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values) {
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

napi_value channel_reply(napi_env env, napi_callback_info info) {
  napi_value values[2];
  uint32_t offset, length;
  struct channel *channel = channel_arguments(env, info, 2, values);
  if (!channel || !to_uint32(env, values[0], &offset) || !to_uint32(env, values[1], &length)) return NULL;
  if (length < sizeof(struct fuse_out_header) || offset > channel->reply_bytes || length > channel->reply_bytes - offset) {
    out_of_bounds(env);
    return NULL;
  }
  if (!channel->in_batch) {
    send_record(channel, offset, length);
    return NULL;
  }
  if (channel->queued == QUEUED_REPLIES) channel_send_queued(channel);
  channel->queue[channel->queued++] = (struct queued_reply){offset, length};
  return NULL;
}

napi_value channel_flush(napi_env env, napi_callback_info info) {
  struct channel *channel = channel_arguments(env, info, 0, NULL);
  if (channel) channel_send_queued(channel);
  return NULL;
}

napi_value channel_reply_buffer(napi_env env, napi_callback_info info) {
  napi_value values[2];
  const uint8_t *bytes;
  size_t size;
  uint32_t length;
  struct channel *channel = channel_arguments(env, info, 2, values);
  if (!channel || !to_bytes(env, values[0], &bytes, &size) || !to_uint32(env, values[1], &length)) return NULL;
  if (length < sizeof(struct fuse_out_header) || length > size) {
    out_of_bounds(env);
    return NULL;
  }
  struct iovec part = {(void *)bytes, length};
  device_reply(channel->device, &part, 1);
  return NULL;
}

napi_value channel_reply_from_file(napi_env env, napi_callback_info info) {
  napi_value values[5];
  uint32_t low, high, length;
  int32_t fd;
  int64_t position;
  struct channel *channel = channel_arguments(env, info, 5, values);
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

/* Attributes */

static bool to_node(napi_env env, const napi_value *halves, uint64_t *node) {
  uint32_t low, high;
  if (!to_uint32(env, halves[0], &low) || !to_uint32(env, halves[1], &high)) return false;
  *node = (uint64_t)high << 32 | low;
  return true;
}

napi_value channel_keep_attributes(napi_env env, napi_callback_info info) {
  napi_value values[4];
  uint64_t node;
  uint32_t offset, duration;
  struct channel *channel = channel_arguments(env, info, 4, values);
  if (!channel || !to_node(env, values, &node) || !to_uint32(env, values[2], &offset) ||
      !to_uint32(env, values[3], &duration))
    return NULL;
  if (sizeof(struct fuse_attr_out) > channel->reply_bytes || offset > channel->reply_bytes - sizeof(struct fuse_attr_out))
    out_of_bounds(env);
  else
    attribute_replies_keep(channel->attribute_replies, node, channel->replies->base + offset, duration);
  return NULL;
}

napi_value channel_drop_attributes(napi_env env, napi_callback_info info) {
  napi_value values[2];
  uint64_t node;
  struct channel *channel = channel_arguments(env, info, 2, values);
  if (channel && to_node(env, values, &node)) attribute_replies_drop(channel->attribute_replies, node);
  return NULL;
}

/* Payload of a request */

/** The request in a slot, or NULL. */
static char *request_in(struct channel *channel, uint32_t slot) {
  return slot < channel->slots ? channel->requests->base + (size_t)slot * channel->slot_bytes : NULL;
}

napi_value channel_write_from_slot(napi_env env, napi_callback_info info) {
  napi_value values[5];
  uint32_t slot, skip, length;
  int32_t fd;
  int64_t position;
  struct channel *channel = channel_arguments(env, info, 5, values);
  if (!channel || !to_uint32(env, values[0], &slot) || !to_uint32(env, values[1], &skip) ||
      !to_uint32(env, values[2], &length) || !to_int32(env, values[3], &fd) || !to_int64(env, values[4], &position))
    return NULL;
  char *request = request_in(channel, slot);
  if (!request || skip > channel->slot_bytes || length > channel->slot_bytes - skip) {
    out_of_bounds(env);
    return NULL;
  }
  return from_number(env, (double)file_writes_put(channel->file_writes, request, skip, length, fd, position));
}

napi_value channel_hand_over(napi_env env, napi_callback_info info) {
  napi_value values[3], result = NULL;
  uint32_t slot;
  int32_t fd;
  int64_t position;
  struct channel *channel = channel_arguments(env, info, 3, values);
  if (!channel || !to_uint32(env, values[0], &slot) || !to_int32(env, values[1], &fd) || !to_int64(env, values[2], &position))
    return NULL;
  const char *request = request_in(channel, slot);
  if (!request) {
    out_of_bounds(env);
    return NULL;
  }
  napi_get_boolean(env, file_writes_hand_over(channel->file_writes, request, fd, position), &result);
  return result;
}

napi_value channel_fetch_payload(napi_env env, napi_callback_info info) {
  napi_value values[1], result = NULL;
  uint32_t slot;
  struct channel *channel = channel_arguments(env, info, 1, values);
  if (!channel || !to_uint32(env, values[0], &slot)) return NULL;
  char *request = request_in(channel, slot);
  if (!request) {
    out_of_bounds(env);
    return NULL;
  }
  napi_get_boolean(env, file_writes_fetch(channel->file_writes, request), &result);
  return result;
}

/* Backing files, notifications, counters */

napi_value channel_backing_open(napi_env env, napi_callback_info info) {
  napi_value values[1];
  struct backing_map map = {0};
  struct channel *channel = channel_arguments(env, info, 1, values);
  if (!channel || !to_int32(env, values[0], &map.fd)) return NULL;
  int id = ioctl(channel->device->fd, BACKING_OPEN, &map);
  return from_number(env, id < 0 ? -errno : id);
}

napi_value channel_backing_close(napi_env env, napi_callback_info info) {
  napi_value values[1];
  uint32_t id;
  struct channel *channel = channel_arguments(env, info, 1, values);
  if (!channel || !to_uint32(env, values[0], &id)) return NULL;
  return from_number(env, ioctl(channel->device->fd, BACKING_CLOSE, &id) < 0 ? -errno : 0);
}

napi_value channel_notify(napi_env env, napi_callback_info info) {
  napi_value values[1];
  const uint8_t *bytes;
  size_t length;
  struct channel *channel = channel_arguments(env, info, 1, values);
  if (channel && to_bytes(env, values[0], &bytes, &length)) notifier_queue(channel->notifier, bytes, length);
  return NULL;
}

napi_value channel_counters(napi_env env, napi_callback_info info) {
  void *data;
  napi_value object;
  if (!read_arguments(env, info, 0, NULL, &data) || napi_create_object(env, &object) != napi_ok) return NULL;
  struct channel *channel = data;
  const struct device *device = channel->closed ? &channel->final : channel->device;
  set_number(env, object, "requests", (double)device->requests);
  set_number(env, object, "replies", (double)device->replies);
  set_number(env, object, "batches", (double)device->batches);
  set_number(env, object, "handedOver", (double)device->handed_over);
  set_number(env, object, "notified", (double)device->notified);
  set_number(env, object, "dropped", (double)device->dropped);
  set_number(env, object, "gone", (double)device->gone);
  set_number(env, object, "rejected", (double)device->rejected);
  return object;
}
