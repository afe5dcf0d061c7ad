#include "arguments.h"

#include <string.h>

static bool refuse(napi_env env, const char *message) {
  napi_throw_type_error(env, NULL, message);
  return false;
}

bool read_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values, void **data) {
  size_t given = count;
  if (napi_get_cb_info(env, info, &given, values, NULL, data) != napi_ok) return refuse(env, "no call information");
  return given >= count || refuse(env, "too few arguments");
}

bool to_int32(napi_env env, napi_value value, int32_t *result) {
  return napi_get_value_int32(env, value, result) == napi_ok || refuse(env, "an integer is expected");
}

bool to_uint32(napi_env env, napi_value value, uint32_t *result) {
  return napi_get_value_uint32(env, value, result) == napi_ok || refuse(env, "an unsigned integer is expected");
}

bool to_int64(napi_env env, napi_value value, int64_t *result) {
  return napi_get_value_int64(env, value, result) == napi_ok || refuse(env, "an integer is expected");
}

bool to_text(napi_env env, napi_value value, char *buffer, size_t size) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) return refuse(env, "a string is expected");
  if (length < size && napi_get_value_string_utf8(env, value, buffer, size, &length) == napi_ok &&
      strlen(buffer) == length)
    return true;
  napi_throw_range_error(env, "ENAMETOOLONG", "the string is too long or contains a NUL");
  return false;
}

bool to_bytes(napi_env env, napi_value value, const uint8_t **bytes, size_t *length) {
  napi_typedarray_type type;
  void *data;
  if (napi_get_typedarray_info(env, value, &type, length, &data, NULL, NULL) != napi_ok || type != napi_uint8_array)
    return refuse(env, "a Uint8Array is expected");
  *bytes = data;
  return true;
}

bool to_option(napi_env env, napi_value object, const char *name, uint32_t *result) {
  napi_value value;
  if (napi_get_named_property(env, object, name, &value) != napi_ok) return refuse(env, "an options object is expected");
  return to_uint32(env, value, result);
}

napi_value from_number(napi_env env, double value) {
  napi_value result = NULL;
  napi_create_double(env, value, &result);
  return result;
}

bool set_number(napi_env env, napi_value object, const char *name, double value) {
  return napi_set_named_property(env, object, name, from_number(env, value)) == napi_ok;
}

bool set_function(napi_env env, napi_value object, const char *name, napi_callback function, void *data) {
  napi_value value;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, function, data, &value) == napi_ok &&
         napi_set_named_property(env, object, name, value) == napi_ok;
}
