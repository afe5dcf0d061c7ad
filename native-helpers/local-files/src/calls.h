/* What the calls share: arguments from JavaScript, answers to it, and the state of an environment. */
#ifndef LOCAL_FILES_CALLS_H
#define LOCAL_FILES_CALLS_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <node_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAME_BYTES 1025 /* FUSE_NAME_MAX and the NUL */
#define MAX_ARGUMENTS 6
#define MAX_INTEGER 9007199254740992ULL /* 2^53 */
#define STAT_FIELDS 17                   /* of `enum Stat` */

typedef struct {
  napi_ref stat_reference;
  double *stat;
  int proc; /* /proc/self/fd: saves the way to it on each call that needs the magic link of a descriptor */
} Calls;

typedef struct {
  napi_env env;
  napi_value values[MAX_ARGUMENTS];
  Calls *calls;
} Arguments;

/* A call under its name in JavaScript. */
typedef struct {
  const char *name;
  napi_callback call;
} Entry;

/* One list a file, each ended by an entry without a name. */
extern const Entry stat_calls[], descriptor_calls[], name_calls[], attribute_calls[], content_calls[], directory_calls[],
    memory_calls[], watch_calls[], thread_calls[];

Arguments arguments_of(napi_env env, napi_callback_info info);
int32_t integer(const Arguments *a, int i);
/* User and group ids use all 32 bits; -1 stays 2^32 - 1. */
uint32_t id_of(const Arguments *a, int i);
int64_t wide(const Arguments *a, int i);
bool truth(const Arguments *a, int i);
/* A byte string; 0, or a negated error number. */
int bytes_of(const Arguments *a, int i, char *buffer, size_t room);
/* One component: nothing that could lead out of its directory. May be empty. */
int name_of(const Arguments *a, int i, char *buffer);
/* The same, not empty. */
int entry_of(const Arguments *a, int i, char *buffer);
void *buffer_of(const Arguments *a, int i, size_t *length);

napi_value number(napi_env env, int64_t value);
/* The result of a system call, or its negated error number. */
napi_value outcome(napi_env env, int64_t result);

#define CALL(name) static napi_value name(napi_env env, napi_callback_info info)
#define ARGUMENTS Arguments a = arguments_of(env, info)
#define NAME(variable, i)                                    \
  char variable[NAME_BYTES];                                 \
  do {                                                       \
    int name_error = entry_of(&a, i, variable);              \
    if (name_error) return number(env, name_error);          \
  } while (0)

#define PROC "/proc/self/fd/"

typedef struct {
  char text[32];
} ProcPath;

/* The magic link of a descriptor: for calls that refuse O_PATH descriptors. */
static inline ProcPath proc_path(int fd) {
  ProcPath path;
  snprintf(path.text, sizeof path.text, PROC "%d", fd);
  return path;
}

/* The same, relative to `Calls.proc`. */
static inline const char *proc_name(const ProcPath *path) { return path->text + strlen(PROC); }

/* Fills the stat record; 0 or a negated error number. */
int fill_stat(const Calls *calls, int directory, const char *name);

/* Inode numbers of 54 bits and more (overlayfs, some network file systems) are mixed down: equal stays equal. */
double inode_number(uint64_t ino);

#endif
