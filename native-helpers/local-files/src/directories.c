#include <stddef.h>

#include "calls.h"

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

/* Order as in `enum Entry`. */
enum { ENTRY_INO, ENTRY_COOKIE, ENTRY_TYPE, ENTRY_LENGTH, ENTRY_STATUS, ENTRY_FIELDS };

CALL(read_entry) {
  ARGUMENTS;
  size_t length, fields;
  const uint8_t *data = buffer_of(&a, 1, &length);
  int64_t at = wide(&a, 2);
  double *result = buffer_of(&a, 4, &fields);
  const struct directory_entry *entry = (const struct directory_entry *)(data + at);
  size_t header = offsetof(struct directory_entry, name);
  if (fields < ENTRY_FIELDS || at < 0 || at % 8 || (size_t)at + header > length || entry->length < header ||
      entry->length > length - (size_t)at)
    return number(env, -EINVAL);
  size_t room = entry->length - header, name_length = strnlen(entry->name, room);
  if (name_length == room) return number(env, -EINVAL);
  result[ENTRY_INO] = (double)entry->ino;
  result[ENTRY_COOKIE] = (double)entry->position;
  result[ENTRY_TYPE] = entry->type << 12;
  result[ENTRY_LENGTH] = entry->length;
  bool itself = !strcmp(entry->name, ".") || !strcmp(entry->name, "..");
  result[ENTRY_STATUS] = truth(&a, 3) && !itself ? fill_stat(a.calls, integer(&a, 0), entry->name) : 1;
  napi_value name;
  napi_create_string_latin1(env, entry->name, name_length, &name);
  return name;
}

CALL(seek_directory) {
  ARGUMENTS;
  off_t result = lseek(integer(&a, 0), (off_t)from_cookie((uint64_t)wide(&a, 1)), SEEK_SET);
  return number(env, result < 0 ? -errno : 0);
}

const Entry directory_calls[] = {
    {"readDirectory", read_directory},
    {"readEntry", read_entry},
    {"seekDirectory", seek_directory},
    {NULL, NULL},
};
