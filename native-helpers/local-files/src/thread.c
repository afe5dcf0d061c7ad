#include <sched.h>

#include "calls.h"

/* umask belongs to what CLONE_FS shares, which is the whole process unless the thread leaves it. */
CALL(thread_umask) {
  ARGUMENTS;
  unshare(CLONE_FS);
  return number(env, umask((mode_t)integer(&a, 0)));
}

/* fsuid and fsgid are a thread's own; leaving fsuid 0 takes the file-system capabilities away until it comes back. */
CALL(set_file_ids) {
  ARGUMENTS;
  uint32_t uid = id_of(&a, 0), gid = id_of(&a, 1);
  syscall(SYS_setfsgid, gid);
  syscall(SYS_setfsuid, uid);
  return number(env, (uint32_t)syscall(SYS_setfsuid, uid) == uid && (uint32_t)syscall(SYS_setfsgid, gid) == gid ? 0 : -EPERM);
}

/* The raw call changes this thread alone; glibc's would change them all. */
CALL(set_groups) {
  ARGUMENTS;
  size_t length;
  void *groups = buffer_of(&a, 0, &length);
  return outcome(env, syscall(SYS_setgroups, length, groups));
}

const Entry thread_calls[] = {
    {"threadUmask", thread_umask},
    {"setFileIds", set_file_ids},
    {"setGroups", set_groups},
    {NULL, NULL},
};
