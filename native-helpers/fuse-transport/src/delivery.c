/* Requests are drained from the descriptor in batches when the event loop says that it is readable, JavaScript is called once
 * per batch, and the replies that it queued leave after that call. Before going back to the event loop it looks a few
 * microseconds longer for the next request, as long as that pays. */
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "channel.h"

enum {
  /* Other events of the loop wait at most so long (and one batch). */
  TURN_NANOSECONDS = 500 * 1000,
  /* How many spins are skipped when they do not pay. */
  SPIN_PROBE = 32,
  /* With one client at a time, looking for a second request costs a system call and finds nothing. */
  EAGER = 8,
  /* A request of so many bytes (a WRITE) ends its batch: its payload goes on at once, from the processor's cache or a pipe. */
  BULKY = 32 * 1024,
  /* So many requests are answered without JavaScript before the time is looked at. */
  ANSWERED = 32,
};

/** Bytes of the request now in the slot, 0 when there is none, or a negated error number: the connection has ended. */
static ssize_t receive(struct channel *channel, uint32_t slot) {
  for (;;) {
    char *request = channel->requests->base + (size_t)slot * channel->slot_bytes;
    ssize_t length = file_writes_receive(channel->file_writes, request, channel->slot_bytes);
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
    const char *request = channel->requests->base + (size_t)count * channel->slot_bytes;
    if (attribute_replies_answer(channel->attribute_replies, request, (size_t)length)) {
      if (++channel->answered % ANSWERED == 0) break;
      continue;
    }
    lengths[count++] = (int32_t)length;
    if (length >= BULKY) break;
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

static void count_requests(struct channel *channel, uint32_t count) {
  atomic_fetch_add_explicit(&channel->device->requests, count, memory_order_relaxed);
  atomic_fetch_add_explicit(&channel->device->batches, 1, memory_order_relaxed);
}

/** Requests in the slots; it ends, too, when one came that needed no JavaScript. */
static int spin(struct channel *channel) {
  if (!channel->spin_microseconds) return 0;
  if (channel->spin_credit == 0 && ++channel->spins_skipped < SPIN_PROBE) return 0;
  channel->spins_skipped = 0;
  uint64_t end = uv_hrtime() + (uint64_t)channel->spin_microseconds * 1000;
  do {
    sched_yield();
    int count = fill(channel, 0);
    if (count || channel->answered) {
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
  if (!channel->closed) channel_send_queued(channel);
  napi_close_handle_scope(env, scope);
  return promises;
}

void channel_on_readable(uv_poll_t *poll, int status, int events) {
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
    note_load(channel, count + (int)channel->answered, follows);
    if (count == 0 && !channel->answered) count = spin(channel);
    if (channel->answered) {
      count_requests(channel, channel->answered);
      channel->answered = 0;
      follows = true;
      if (count == 0) continue;
    }
    if (count == 0) break;
    if (!callbacks && (napi_get_reference_value(env, channel->resource, &resource) != napi_ok ||
                       napi_open_callback_scope(env, resource, channel->context, &callbacks) != napi_ok))
      break;
    if (count > 0) {
      count_requests(channel, (uint32_t)count);
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
