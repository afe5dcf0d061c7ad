/* A channel, as its parts see it. */
#ifndef CHANNEL_H
#define CHANNEL_H

#include <uv.h>

#include "arguments.h"
#include "transport.h"

enum {
  MAXIMUM_SLOTS = 1024,
  QUEUED_REPLIES = 512,
  /* Spins that may fail in a row before most are skipped. */
  SPIN_CREDIT = 16,
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
  struct file_writes *file_writes;
  struct notifier *notifier;
  struct attribute_replies *attribute_replies;
  struct region *requests, *replies, *lengths;
  uint32_t slots, slot_bytes, reply_bytes;

  bool in_batch;
  /* Batches in a row that followed the one before at once: from some on, a batch is more than one request. */
  uint32_t eagerness;
  uint32_t spin_microseconds;
  int spin_credit, spins_skipped;
  /* Requests answered without JavaScript since it was last asked how many. */
  uint32_t answered;
  uint32_t queued;
  struct queued_reply queue[QUEUED_REPLIES];
  /* Counters of a closed channel. */
  struct device final;
};

/** Sends the replies that JavaScript has queued. */
void channel_send_queued(struct channel *channel);
/** A poll callback: drains, delivers and looks again, for a while. */
void channel_on_readable(uv_poll_t *poll, int status, int events);

/** The arguments of a call on an open channel; throws otherwise. */
struct channel *channel_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values);
napi_value channel_reply(napi_env env, napi_callback_info info);
napi_value channel_flush(napi_env env, napi_callback_info info);
napi_value channel_reply_buffer(napi_env env, napi_callback_info info);
napi_value channel_reply_from_file(napi_env env, napi_callback_info info);
napi_value channel_keep_attributes(napi_env env, napi_callback_info info);
napi_value channel_drop_attributes(napi_env env, napi_callback_info info);
napi_value channel_write_from_slot(napi_env env, napi_callback_info info);
napi_value channel_hand_over(napi_env env, napi_callback_info info);
napi_value channel_fetch_payload(napi_env env, napi_callback_info info);
napi_value channel_backing_open(napi_env env, napi_callback_info info);
napi_value channel_backing_close(napi_env env, napi_callback_info info);
napi_value channel_notify(napi_env env, napi_callback_info info);
napi_value channel_counters(napi_env env, napi_callback_info info);

#endif
