/*
 * Thin file calls for src/native/local-files.ts: each is one system call or two and answers with its result or the negated
 * error number. No policy here, and no state beyond the stat record that the caller lends.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/stat.h>
#include <node_api.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <uv.h>

/* Newer than the headers of Debian 12. */
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_getxattrat
#define SYS_getxattrat 464
#endif

#define NAME_BYTES 1025 /* FUSE_NAME_MAX and the NUL */
#define MAX_ARGUMENTS 6
#define MAX_INTEGER 9007199254740992ULL /* 2^53 */

typedef struct {
  napi_ref stat_reference;
  double *stat;
  int proc; /* /proc/self/fd: saves the way to it on each call that needs the magic link of a descriptor */
} Calls;

/* Order as in `enum Stat`. */
enum {
  INO, SIZE, BLOCKS, MODE, NLINK, UID, GID, RDEV, BLOCK_SIZE,
  ACCESSED, ACCESSED_NS, MODIFIED, MODIFIED_NS, CHANGED, CHANGED_NS,
  DEVICE, BIRTH, STAT_FIELDS
};

typedef struct {
  napi_env env;
  napi_value values[MAX_ARGUMENTS];
  Calls *calls;
} Arguments;

static Arguments arguments_of(napi_env env, napi_callback_info info) {
  Arguments a = {.env = env};
  size_t count = MAX_ARGUMENTS;
  napi_get_cb_info(env, info, &count, a.values, NULL, (void **)&a.calls);
  return a;
}

static int32_t integer(const Arguments *a, int i) {
  int32_t value = -1;
  napi_get_value_int32(a->env, a->values[i], &value);
  return value;
}

/* User and group ids use all 32 bits; -1 stays 2^32 - 1. */
static uint32_t id_of(const Arguments *a, int i) {
  int64_t value = -1;
  napi_get_value_int64(a->env, a->values[i], &value);
  return (uint32_t)value;
}

static int64_t wide(const Arguments *a, int i) {
  int64_t value = 0;
  napi_get_value_int64(a->env, a->values[i], &value);
  return value;
}

static bool truth(const Arguments *a, int i) {
  bool value = false;
  napi_get_value_bool(a->env, a->values[i], &value);
  return value;
}

/* A byte string; 0, or a negated error number. */
static int bytes_of(const Arguments *a, int i, char *buffer, size_t room) {
  size_t length = 0;
  if (napi_get_value_string_latin1(a->env, a->values[i], NULL, 0, &length) != napi_ok) return -EINVAL;
  if (length >= room) return -ENAMETOOLONG;
  napi_get_value_string_latin1(a->env, a->values[i], buffer, room, &length);
  return memchr(buffer, 0, length) ? -EINVAL : 0;
}

/* One component: nothing that could lead out of its directory. */
static int name_of(const Arguments *a, int i, char *buffer) {
  int error = bytes_of(a, i, buffer, NAME_BYTES);
  if (error) return error;
  if (strchr(buffer, '/') || !strcmp(buffer, ".") || !strcmp(buffer, "..")) return -EINVAL;
  return 0;
}

static int entry_of(const Arguments *a, int i, char *buffer) {
  int error = name_of(a, i, buffer);
  return error ? error : buffer[0] ? 0 : -ENOENT;
}

static void *buffer_of(const Arguments *a, int i, size_t *length) {
  napi_typedarray_type type;
  void *data = NULL;
  *length = 0;
  napi_get_typedarray_info(a->env, a->values[i], &type, length, &data, NULL, NULL);
  return data;
}

static napi_value number(napi_env env, int64_t value) {
  napi_value result;
  if (value >= INT32_MIN && value <= INT32_MAX)
    napi_create_int32(env, (int32_t)value, &result);
  else
    napi_create_int64(env, value, &result);
  return result;
}

static napi_value outcome(napi_env env, int64_t result) { return number(env, result < 0 ? -errno : result); }

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
static ProcPath proc_path(int fd) {
  ProcPath path;
  snprintf(path.text, sizeof path.text, PROC "%d", fd);
  return path;
}

/* The same, relative to `Calls.proc`. */
static const char *proc_name(const ProcPath *path) { return path->text + strlen(PROC); }

/* ---- stat ---- */

/* Inode numbers of 54 bits and more (overlayfs, some network file systems) are mixed down: equal stays equal. */
static double inode_number(uint64_t ino) {
  if (ino >= MAX_INTEGER) {
    ino ^= ino >> 31;
    ino *= 0x7fb5d329728ea185ULL;
    ino ^= ino >> 27;
    ino *= 0x81dadef4bc2dd44dULL;
    ino ^= ino >> 33;
    ino >>= 11;
  }
  return (double)ino;
}

static int fill_stat(const Calls *calls, int directory, const char *name) {
  struct statx x;
  int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_SYNC_AS_STAT | (name[0] ? 0 : AT_EMPTY_PATH);
  if (statx(directory, name, flags, STATX_BASIC_STATS | STATX_BTIME, &x) < 0) return -errno;
  double *s = calls->stat;
  uint32_t minor = x.stx_rdev_minor;
  s[INO] = inode_number(x.stx_ino);
  s[SIZE] = (double)x.stx_size;
  s[BLOCKS] = (double)x.stx_blocks;
  s[MODE] = x.stx_mode;
  s[NLINK] = x.stx_nlink;
  s[UID] = x.stx_uid;
  s[GID] = x.stx_gid;
  s[RDEV] = (double)((minor & 0xff) | (x.stx_rdev_major << 8) | ((minor & ~0xffU) << 12));
  s[BLOCK_SIZE] = x.stx_blksize;
  s[ACCESSED] = (double)x.stx_atime.tv_sec;
  s[ACCESSED_NS] = x.stx_atime.tv_nsec;
  s[MODIFIED] = (double)x.stx_mtime.tv_sec;
  s[MODIFIED_NS] = x.stx_mtime.tv_nsec;
  s[CHANGED] = (double)x.stx_ctime.tv_sec;
  s[CHANGED_NS] = x.stx_ctime.tv_nsec;
  s[DEVICE] = x.stx_dev_major * 4294967296.0 + x.stx_dev_minor;
  s[BIRTH] = x.stx_mask & STATX_BTIME
                 ? (double)(uint32_t)((uint32_t)x.stx_btime.tv_sec * 2654435761U ^ x.stx_btime.tv_nsec)
                 : 0;
  return 0;
}

CALL(stat_fd) {
  ARGUMENTS;
  return number(env, fill_stat(a.calls, integer(&a, 0), ""));
}

CALL(stat_at) {
  ARGUMENTS;
  NAME(name, 1);
  return number(env, fill_stat(a.calls, integer(&a, 0), name));
}

CALL(lookup_at) {
  ARGUMENTS;
  NAME(name, 1);
  int fd = openat(integer(&a, 0), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return number(env, -errno);
  int error = fill_stat(a.calls, fd, "");
  if (error) {
    close(fd);
    return number(env, error);
  }
  return number(env, fd);
}

CALL(stat_file_system) {
  ARGUMENTS;
  struct statfs s;
  size_t length;
  double *result = buffer_of(&a, 1, &length);
  if (length < 8) return number(env, -EINVAL);
  if (fstatfs(integer(&a, 0), &s) < 0) return number(env, -errno);
  result[0] = s.f_frsize ? s.f_frsize : s.f_bsize;
  result[1] = s.f_blocks;
  result[2] = s.f_bfree;
  result[3] = s.f_bavail;
  result[4] = s.f_files;
  result[5] = s.f_ffree;
  result[6] = s.f_namelen;
  result[7] = (uint32_t)s.f_type;
  return number(env, 0);
}

/* ---- descriptors ---- */

CALL(open_at) {
  ARGUMENTS;
  char name[NAME_BYTES];
  int error = name_of(&a, 1, name);
  int flags = integer(&a, 2);
  if (error) return number(env, error);
  if (!name[0]) {
    if (!(flags & O_DIRECTORY)) return number(env, -ENOENT);
    strcpy(name, ".");
  }
  return outcome(env, openat(integer(&a, 0), name, flags | O_CLOEXEC | O_NOFOLLOW, integer(&a, 3)));
}

CALL(open_path) {
  ARGUMENTS;
  char path[PATH_MAX];
  int error = bytes_of(&a, 0, path, sizeof path);
  if (error) return number(env, error);
  return outcome(env, open(path, integer(&a, 1) | O_CLOEXEC));
}

CALL(reopen) {
  ARGUMENTS;
  ProcPath path = proc_path(integer(&a, 0));
  return outcome(env, openat(a.calls->proc, proc_name(&path), (integer(&a, 1) & ~O_NOFOLLOW) | O_CLOEXEC));
}

CALL(close_fd) {
  ARGUMENTS;
  return outcome(env, close(integer(&a, 0)));
}

/* What close(2) of a program reports: closing a duplicate runs the file system's flush. */
CALL(flush_fd) {
  ARGUMENTS;
  int copy = fcntl(integer(&a, 0), F_DUPFD_CLOEXEC, 0);
  return outcome(env, copy < 0 ? -1 : close(copy));
}

CALL(lock_file) {
  ARGUMENTS;
  struct flock lock = {.l_type = truth(&a, 1) ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};
  return outcome(env, fcntl(integer(&a, 0), F_OFD_SETLK, &lock));
}

CALL(raise_descriptor_limit) {
  ARGUMENTS;
  struct rlimit limit;
  int64_t asked = wide(&a, 0);
  rlim_t wanted = asked < 0 ? 0 : (rlim_t)asked;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return number(env, -errno);
  if (limit.rlim_cur < wanted) {
    struct rlimit raised = {wanted, wanted > limit.rlim_max ? wanted : limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) < 0) {
      raised = (struct rlimit){wanted < limit.rlim_max ? wanted : limit.rlim_max, limit.rlim_max};
      setrlimit(RLIMIT_NOFILE, &raised);
    }
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  return number(env, limit.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)limit.rlim_cur);
}

/* ---- names ---- */

CALL(mkdir_at) {
  ARGUMENTS;
  NAME(name, 1);
  return outcome(env, mkdirat(integer(&a, 0), name, integer(&a, 2)));
}

CALL(mknod_at) {
  ARGUMENTS;
  NAME(name, 1);
  /* mknod(2) takes 32 bits in the form of `rdev`; glibc's wrapper would translate from its own. */
  return outcome(env, syscall(SYS_mknodat, integer(&a, 0), name, integer(&a, 2), (unsigned)wide(&a, 3)));
}

CALL(symlink_at) {
  ARGUMENTS;
  char target[PATH_MAX];
  NAME(name, 2);
  int error = bytes_of(&a, 0, target, sizeof target);
  if (error) return number(env, error);
  return outcome(env, symlinkat(target, integer(&a, 1), name));
}

CALL(link_at) {
  ARGUMENTS;
  NAME(name, 2);
  int fd = integer(&a, 0), directory = integer(&a, 1);
  if (linkat(fd, "", directory, name, AT_EMPTY_PATH) == 0) return number(env, 0);
  if (errno != ENOENT && errno != EPERM) return number(env, -errno);
  /* Without CAP_DAC_READ_SEARCH the magic link has to do. */
  ProcPath path = proc_path(fd);
  return outcome(env, linkat(AT_FDCWD, path.text, directory, name, AT_SYMLINK_FOLLOW));
}

CALL(unlink_at) {
  ARGUMENTS;
  NAME(name, 1);
  return outcome(env, unlinkat(integer(&a, 0), name, integer(&a, 2)));
}

CALL(rename_at) {
  ARGUMENTS;
  NAME(from, 1);
  NAME(to, 3);
  return outcome(env, syscall(SYS_renameat2, integer(&a, 0), from, integer(&a, 2), to, integer(&a, 4)));
}

CALL(read_link) {
  ARGUMENTS;
  char target[PATH_MAX];
  ssize_t length = readlinkat(integer(&a, 0), "", target, sizeof target);
  if (length < 0) return number(env, -errno);
  napi_value result;
  napi_create_string_latin1(env, target, (size_t)length, &result);
  return result;
}

/* ---- attributes ---- */

CALL(chmod_fd) {
  ARGUMENTS;
  int fd = integer(&a, 0), mode = integer(&a, 1);
  if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0) return number(env, 0);
  if (errno != ENOSYS) return number(env, -errno);
  ProcPath path = proc_path(fd);
  return outcome(env, chmod(path.text, (mode_t)mode));
}

CALL(chown_fd) {
  ARGUMENTS;
  return outcome(env, fchownat(integer(&a, 0), "", id_of(&a, 1), id_of(&a, 2), AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

CALL(truncate_fd) {
  ARGUMENTS;
  int fd = integer(&a, 0);
  int64_t size = wide(&a, 1);
  if (ftruncate(fd, size) == 0) return number(env, 0);
  if (errno != EBADF && errno != EINVAL) return number(env, -errno);
  ProcPath path = proc_path(fd);
  return outcome(env, truncate(path.text, size));
}

CALL(utimes_fd) {
  ARGUMENTS;
  int fd = integer(&a, 0);
  struct timespec times[2] = {{wide(&a, 1), wide(&a, 2)}, {wide(&a, 3), wide(&a, 4)}};
  if (syscall(SYS_utimensat, fd, "", times, AT_EMPTY_PATH) == 0) return number(env, 0);
  if (errno != EINVAL && errno != ENOENT) return number(env, -errno);
  ProcPath path = proc_path(fd);
  return outcome(env, utimensat(AT_FDCWD, path.text, times, 0));
}

/* struct xattr_args of Linux 6.13 */
struct value_of {
  uint64_t value;
  uint32_t size;
  uint32_t flags;
};

CALL(get_xattr) {
  ARGUMENTS;
  NAME(name, 1);
  size_t length;
  void *value = buffer_of(&a, 2, &length);
  ProcPath path = proc_path(integer(&a, 0));
  struct value_of into = {.value = (uintptr_t)value, .size = length > UINT32_MAX ? UINT32_MAX : (uint32_t)length};
  long result = syscall(SYS_getxattrat, a.calls->proc, proc_name(&path), 0, name, &into, sizeof into);
  if (result < 0 && errno == ENOSYS) result = getxattr(path.text, name, value, length);
  return outcome(env, result);
}

CALL(set_xattr) {
  ARGUMENTS;
  NAME(name, 1);
  size_t length;
  void *value = buffer_of(&a, 2, &length);
  ProcPath path = proc_path(integer(&a, 0));
  return outcome(env, setxattr(path.text, name, value, length, integer(&a, 3)));
}

CALL(list_xattr) {
  ARGUMENTS;
  size_t length;
  void *value = buffer_of(&a, 1, &length);
  ProcPath path = proc_path(integer(&a, 0));
  return outcome(env, listxattr(path.text, value, length));
}

CALL(remove_xattr) {
  ARGUMENTS;
  NAME(name, 1);
  ProcPath path = proc_path(integer(&a, 0));
  return outcome(env, removexattr(path.text, name));
}

/* ---- content ---- */

CALL(allocate) {
  ARGUMENTS;
  return outcome(env, fallocate(integer(&a, 0), integer(&a, 1), wide(&a, 2), wide(&a, 3)));
}

CALL(seek) {
  ARGUMENTS;
  return outcome(env, lseek(integer(&a, 0), wide(&a, 1), integer(&a, 2)));
}

CALL(copy_range) {
  ARGUMENTS;
  off64_t from = wide(&a, 1), to = wide(&a, 3);
  return outcome(env, copy_file_range(integer(&a, 0), &from, integer(&a, 2), &to, (size_t)wide(&a, 4), 0));
}

CALL(read_at) {
  ARGUMENTS;
  size_t length;
  void *data = buffer_of(&a, 1, &length);
  return outcome(env, pread(integer(&a, 0), data, length, wide(&a, 2)));
}

CALL(write_at) {
  ARGUMENTS;
  size_t length;
  void *data = buffer_of(&a, 1, &length);
  return outcome(env, pwrite(integer(&a, 0), data, length, wide(&a, 2)));
}

CALL(sync_fd) {
  ARGUMENTS;
  int fd = integer(&a, 0);
  return outcome(env, truth(&a, 1) ? fdatasync(fd) : fsync(fd));
}

/* ---- directories ---- */

/*
 * A 63-bit position (hashed directories of ext4) does not fit into a JavaScript number. Such a one loses its lowest 11 bits:
 * it still lies behind the entry it follows, and the next entry's hash differs in the upper 52 bits.
 */
#define EXACT_POSITIONS (1ULL << 52)
#define LOST_BITS 11

static uint64_t to_cookie(uint64_t position) {
  return position < EXACT_POSITIONS ? position : EXACT_POSITIONS + (position >> LOST_BITS);
}

static uint64_t from_cookie(uint64_t cookie) {
  return cookie < EXACT_POSITIONS ? cookie : (cookie - EXACT_POSITIONS) << LOST_BITS;
}

struct directory_entry {
  uint64_t ino;
  uint64_t position;
  uint16_t length;
  uint8_t type;
  char name[];
};

CALL(read_directory) {
  ARGUMENTS;
  size_t length;
  uint8_t *data = buffer_of(&a, 1, &length);
  long used = syscall(SYS_getdents64, integer(&a, 0), data, length);
  if (used < 0) return number(env, -errno);
  for (long at = 0; at < used;) {
    struct directory_entry *entry = (struct directory_entry *)(data + at);
    entry->position = to_cookie(entry->position);
    entry->ino = (uint64_t)inode_number(entry->ino);
    at += entry->length;
  }
  return number(env, used);
}

CALL(seek_directory) {
  ARGUMENTS;
  off_t result = lseek(integer(&a, 0), (off_t)from_cookie((uint64_t)wide(&a, 1)), SEEK_SET);
  return number(env, result < 0 ? -errno : 0);
}

/* ---- a memory tree: the calls of mount(2)'s successor, which glibc 2.36 names but older ones do not ---- */

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

/* ---- inotify ---- */

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

CALL(read_fd) {
  ARGUMENTS;
  size_t length;
  void *data = buffer_of(&a, 1, &length);
  return outcome(env, read(integer(&a, 0), data, length));
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

CALL(stop_readable) {
  Holder *holder;
  napi_get_cb_info(env, info, NULL, NULL, NULL, (void **)&holder);
  if (holder->readable) {
    napi_remove_env_cleanup_hook(env, readable_stop, holder->readable);
    readable_stop(holder->readable);
    holder->readable = NULL;
  }
  return NULL;
}

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
  napi_value name, result, stop;
  readable->env = env;
  holder->readable = readable;
  napi_create_string_utf8(env, "mirage.onReadable", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, NULL, name, &readable->context);
  napi_create_reference(env, a.values[1], 1, &readable->callback);
  napi_add_env_cleanup_hook(env, readable_stop, readable);
  uv_poll_start(&readable->poll, UV_READABLE, readable_event);
  napi_create_object(env, &result);
  napi_create_function(env, "stop", NAPI_AUTO_LENGTH, stop_readable, holder, &stop);
  napi_add_finalizer(env, stop, holder, free_memory, NULL, NULL);
  napi_set_named_property(env, result, "stop", stop);
  return result;
}

/* ---- the thread ---- */

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

static const struct {
  const char *name;
  napi_callback call;
} calls_table[] = {
    {"openAt", open_at},
    {"openPath", open_path},
    {"lookupAt", lookup_at},
    {"reopen", reopen},
    {"close", close_fd},
    {"flush", flush_fd},
    {"statFd", stat_fd},
    {"statAt", stat_at},
    {"mkdirAt", mkdir_at},
    {"mknodAt", mknod_at},
    {"symlinkAt", symlink_at},
    {"linkAt", link_at},
    {"unlinkAt", unlink_at},
    {"renameAt", rename_at},
    {"readlink", read_link},
    {"chmodFd", chmod_fd},
    {"chownFd", chown_fd},
    {"truncateFd", truncate_fd},
    {"utimesFd", utimes_fd},
    {"getxattr", get_xattr},
    {"setxattr", set_xattr},
    {"listxattr", list_xattr},
    {"removexattr", remove_xattr},
    {"fallocate", allocate},
    {"lseek", seek},
    {"copyFileRange", copy_range},
    {"pread", read_at},
    {"pwrite", write_at},
    {"fsync", sync_fd},
    {"readDirectory", read_directory},
    {"seekDirectory", seek_directory},
    {"statfs", stat_file_system},
    {"lockFile", lock_file},
    {"createMemoryTree", create_memory_tree},
    {"raiseDescriptorLimit", raise_descriptor_limit},
    {"watchCreate", watch_create},
    {"watchAdd", watch_add},
    {"watchRemove", watch_remove},
    {"read", read_fd},
    {"onReadable", on_readable},
    {"threadUmask", thread_umask},
    {"setFileIds", set_file_ids},
    {"setGroups", set_groups},
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
  for (size_t i = 0; i < sizeof calls_table / sizeof *calls_table; i++) {
    napi_value function;
    napi_create_function(env, calls_table[i].name, NAPI_AUTO_LENGTH, calls_table[i].call, calls, &function);
    napi_set_named_property(env, result, calls_table[i].name, function);
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
