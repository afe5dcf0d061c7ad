#include "calls.h"

Arguments arguments_of(napi_env env, napi_callback_info info) {
  Arguments a = {.env = env};
  size_t count = MAX_ARGUMENTS;
  napi_get_cb_info(env, info, &count, a.values, NULL, (void **)&a.calls);
  return a;
}

int32_t integer(const Arguments *a, int i) {
  int32_t value = -1;
  napi_get_value_int32(a->env, a->values[i], &value);
  return value;
}

uint32_t id_of(const Arguments *a, int i) {
  int64_t value = -1;
  napi_get_value_int64(a->env, a->values[i], &value);
  return (uint32_t)value;
}

int64_t wide(const Arguments *a, int i) {
  int64_t value = 0;
  napi_get_value_int64(a->env, a->values[i], &value);
  return value;
}

bool truth(const Arguments *a, int i) {
  bool value = false;
  napi_get_value_bool(a->env, a->values[i], &value);
  return value;
}

int bytes_of(const Arguments *a, int i, char *buffer, size_t room) {
  size_t length = 0;
  if (napi_get_value_string_latin1(a->env, a->values[i], NULL, 0, &length) != napi_ok) return -EINVAL;
  if (length >= room) return -ENAMETOOLONG;
  napi_get_value_string_latin1(a->env, a->values[i], buffer, room, &length);
  return memchr(buffer, 0, length) ? -EINVAL : 0;
}

int name_of(const Arguments *a, int i, char *buffer) {
  int error = bytes_of(a, i, buffer, NAME_BYTES);
  if (error) return error;
  if (strchr(buffer, '/') || !strcmp(buffer, ".") || !strcmp(buffer, "..")) return -EINVAL;
  return 0;
}

int entry_of(const Arguments *a, int i, char *buffer) {
  int error = name_of(a, i, buffer);
  return error ? error : buffer[0] ? 0 : -ENOENT;
}

void *buffer_of(const Arguments *a, int i, size_t *length) {
  napi_typedarray_type type;
  void *data = NULL;
  *length = 0;
  napi_get_typedarray_info(a->env, a->values[i], &type, length, &data, NULL, NULL);
  return data;
}

napi_value number(napi_env env, int64_t value) {
  napi_value result;
  if (value >= INT32_MIN && value <= INT32_MAX)
    napi_create_int32(env, (int32_t)value, &result);
  else
    napi_create_int64(env, value, &result);
  return result;
}

napi_value outcome(napi_env env, int64_t result) { return number(env, result < 0 ? -errno : result); }
