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

/* `struct sched_attr` of sched_setattr(2), which glibc 2.36 does not declare, in its first form. */
struct scheduling {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

/*
 * Linux 6.12: a thread of the ordinary policy may ask for a shorter slice (`runtime`, 0.1 to 100 ms) and is run the sooner for it when it wakes, with
 * no greater share. Older kernels ignore the field.
 */
CALL(thread_slice) {
  ARGUMENTS;
  struct scheduling now;
  if (syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) < 0) return number(env, -errno);
  now.size = sizeof now;
  now.runtime = (uint64_t)wide(&a, 0);
  return outcome(env, syscall(SYS_sched_setattr, 0, &now, 0));
}

const Entry thread_calls[] = {
    {"threadUmask", thread_umask},
    {"threadSlice", thread_slice},
    {"setFileIds", set_file_ids},
    {"setGroups", set_groups},
    {NULL, NULL},
};
