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

CALL(seek_directory) {
  ARGUMENTS;
  off_t result = lseek(integer(&a, 0), (off_t)from_cookie((uint64_t)wide(&a, 1)), SEEK_SET);
  return number(env, result < 0 ? -errno : 0);
}

const Entry directory_calls[] = {
    {"readDirectory", read_directory},
    {"seekDirectory", seek_directory},
    {NULL, NULL},
};
