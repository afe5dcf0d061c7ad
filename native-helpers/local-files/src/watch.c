#include <sys/inotify.h>
#include <uv.h>

#include "calls.h"

CALL(watch_create) { return outcome(env, inotify_init1(IN_NONBLOCK | IN_CLOEXEC)); }

CALL(watch_add) {
  ARGUMENTS;
  ProcPath path = proc_path(integer(&a, 1));
  return outcome(env, inotify_add_watch(integer(&a, 0), path.text, (uint32_t)wide(&a, 2)));
}

CALL(watch_remove) {
  ARGUMENTS;
  return outcome(env, inotify_rm_watch(integer(&a, 0), integer(&a, 1)));
}

typedef struct {
  uv_poll_t poll; /* first: the handle is the record */
  napi_env env;
  napi_ref callback;
  napi_async_context context;
  bool stopped;
} Readable;

static void readable_closed(uv_handle_t *handle) { free(handle); }

static void readable_stop(void *data) {
  Readable *readable = data;
  if (readable->stopped) return;
  readable->stopped = true;
  uv_poll_stop(&readable->poll);
  napi_delete_reference(readable->env, readable->callback);
  napi_async_destroy(readable->env, readable->context);
  uv_close((uv_handle_t *)&readable->poll, readable_closed);
}

static void readable_event(uv_poll_t *poll, int status, int events) {
  Readable *readable = (Readable *)poll;
  napi_handle_scope scope;
  napi_value callback, receiver;
  napi_open_handle_scope(readable->env, &scope);
  napi_get_reference_value(readable->env, readable->callback, &callback);
  napi_get_global(readable->env, &receiver);
  if (napi_make_callback(readable->env, readable->context, receiver, callback, 0, NULL, NULL) == napi_pending_exception) {
    napi_value thrown;
    napi_get_and_clear_last_exception(readable->env, &thrown);
    napi_fatal_exception(readable->env, thrown);
  }
  napi_close_handle_scope(readable->env, scope);
}

/* `stop` may be called again, also after the handle is gone: it empties its own holder. */
typedef struct {
  Readable *readable;
} Holder;

/* The holder behind `this`. */
static Holder *holder_of(napi_env env, napi_callback_info info) {
  napi_value self;
  void *holder = NULL;
  napi_get_cb_info(env, info, NULL, NULL, &self, NULL);
  napi_unwrap(env, self, &holder);
  return holder;
}

CALL(stop_readable) {
  Holder *holder = holder_of(env, info);
  if (holder && holder->readable) {
    napi_remove_env_cleanup_hook(env, readable_stop, holder->readable);
    readable_stop(holder->readable);
    holder->readable = NULL;
  }
  return NULL;
}

CALL(pause_readable) {
  Holder *holder = holder_of(env, info);
  if (holder && holder->readable) uv_poll_stop(&holder->readable->poll);
  return NULL;
}

CALL(resume_readable) {
  Holder *holder = holder_of(env, info);
  if (holder && holder->readable) uv_poll_start(&holder->readable->poll, UV_READABLE, readable_event);
  return NULL;
}

static const Entry readable_calls[] = {
    {"stop", stop_readable},
    {"pause", pause_readable},
    {"resume", resume_readable},
};

static void free_memory(napi_env env, void *data, void *hint) { free(data); }

CALL(on_readable) {
  ARGUMENTS;
  uv_loop_t *loop;
  napi_get_uv_event_loop(env, &loop);
  Readable *readable = calloc(1, sizeof *readable);
  Holder *holder = calloc(1, sizeof *holder);
  int status = readable && holder ? uv_poll_init(loop, &readable->poll, integer(&a, 0)) : UV_ENOMEM;
  if (status < 0) {
    free(readable);
    free(holder);
    napi_throw_error(env, uv_err_name(status), uv_strerror(status));
    return NULL;
  }
  napi_value name, result;
  readable->env = env;
  holder->readable = readable;
  napi_create_string_utf8(env, "mirage.onReadable", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, NULL, name, &readable->context);
  napi_create_reference(env, a.values[1], 1, &readable->callback);
  napi_add_env_cleanup_hook(env, readable_stop, readable);
  uv_poll_start(&readable->poll, UV_READABLE, readable_event);
  napi_create_object(env, &result);
  napi_wrap(env, result, holder, free_memory, NULL, NULL);
  for (size_t i = 0; i < sizeof readable_calls / sizeof *readable_calls; i++) {
    napi_value function;
    napi_create_function(env, readable_calls[i].name, NAPI_AUTO_LENGTH, readable_calls[i].call, NULL, &function);
    napi_set_named_property(env, result, readable_calls[i].name, function);
  }
  return result;
}

const Entry watch_calls[] = {
    {"watchCreate", watch_create},
    {"watchAdd", watch_add},
    {"watchRemove", watch_remove},
    {"onReadable", on_readable},
    {NULL, NULL},
};
