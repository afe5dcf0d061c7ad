#include "calls.h"

/* The calls of mount(2)'s successor, which glibc 2.36 names but older ones do not. */
enum { CONFIG_SET_STRING = 1, CONFIG_CREATE = 6, OPEN_CLOEXEC = 1 };

CALL(create_memory_tree) {
  ARGUMENTS;
  char size[24];
  snprintf(size, sizeof size, "%lld", (long long)wide(&a, 0));
  int context = (int)syscall(430 /* fsopen */, "tmpfs", OPEN_CLOEXEC);
  if (context < 0) return number(env, -errno);
  long result = 0;
  if (wide(&a, 0) > 0) result = syscall(431 /* fsconfig */, context, CONFIG_SET_STRING, "size", size, 0);
  if (result == 0) result = syscall(431, context, CONFIG_SET_STRING, "mode", "0755", 0);
  if (result == 0) result = syscall(431, context, CONFIG_CREATE, NULL, NULL, 0);
  if (result == 0) result = syscall(432 /* fsmount */, context, OPEN_CLOEXEC, 0);
  int error = errno;
  close(context);
  return number(env, result < 0 ? -error : result);
}

const Entry memory_calls[] = {
    {"createMemoryTree", create_memory_tree},
    {NULL, NULL},
};
