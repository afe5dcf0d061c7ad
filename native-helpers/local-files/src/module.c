/*
 * Thin file calls for src/native/local-files.ts: each is one system call or two and answers with its result or the negated
 * error number. No policy here, and no state beyond the stat record that the caller lends.
 */
#include "calls.h"

static const Entry *const lists[] = {
    stat_calls,      descriptor_calls, name_calls,  attribute_calls, content_calls,
    directory_calls, memory_calls,     watch_calls, thread_calls,
};

static void free_calls(napi_env env, void *data, void *hint) {
  Calls *calls = data;
  napi_delete_reference(env, calls->stat_reference);
  if (calls->proc >= 0) close(calls->proc);
  free(calls);
}

CALL(create) {
  ARGUMENTS;
  size_t length;
  double *stat = buffer_of(&a, 0, &length);
  Calls *calls = length < STAT_FIELDS ? NULL : calloc(1, sizeof *calls);
  if (!calls) {
    napi_throw_range_error(env, NULL, "the stat record is too short");
    return NULL;
  }
  napi_value result;
  calls->stat = stat;
  calls->proc = open(PROC, O_PATH | O_DIRECTORY | O_CLOEXEC);
  napi_create_reference(env, a.values[0], 1, &calls->stat_reference);
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "stat", a.values[0]);
  for (size_t list = 0; list < sizeof lists / sizeof *lists; list++) {
    for (const Entry *entry = lists[list]; entry->name; entry++) {
      napi_value function;
      napi_create_function(env, entry->name, NAPI_AUTO_LENGTH, entry->call, calls, &function);
      napi_set_named_property(env, result, entry->name, function);
    }
  }
  /* The calls live as long as the environment: a function may outlive the object it came with. */
  napi_set_instance_data(env, calls, free_calls, NULL);
  return result;
}

NAPI_MODULE_INIT(/* env, exports */) {
  napi_value function;
  napi_create_function(env, "create", NAPI_AUTO_LENGTH, create, NULL, &function);
  napi_set_named_property(env, exports, "create", function);
  return exports;
}
