/* Arguments and results of Node-API functions. A wrong argument throws a TypeError and makes the getter return false. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Reads exactly `count` arguments and the data that the function was made with (which may be NULL). */
bool read_arguments(napi_env env, napi_callback_info info, size_t count, napi_value *values, void **data);

bool to_int32(napi_env env, napi_value value, int32_t *result);
bool to_uint32(napi_env env, napi_value value, uint32_t *result);
/** A whole number within ±2^53. */
bool to_int64(napi_env env, napi_value value, int64_t *result);
/** UTF-8 with a terminating NUL; throws a RangeError when it does not fit or contains a NUL. */
bool to_text(napi_env env, napi_value value, char *buffer, size_t size);
/** The bytes behind a Uint8Array, valid until control returns to JavaScript. */
bool to_bytes(napi_env env, napi_value value, const uint8_t **bytes, size_t *length);
/** An unsigned property of an options object. */
bool to_option(napi_env env, napi_value object, const char *name, uint32_t *result);

napi_value from_number(napi_env env, double value);
bool set_number(napi_env env, napi_value object, const char *name, double value);
bool set_function(napi_env env, napi_value object, const char *name, napi_callback function, void *data);

#endif
