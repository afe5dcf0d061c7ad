/* Replies to GETATTR that JavaScript has given once and allows to be given again for a while. A table of one slot for each hash: what
 * does not fit takes the place of another, and is asked of JavaScript again. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "transport.h"

enum { SLOTS = 1 << 14 };

struct slot {
  uint64_t node;
  /* CLOCK_MONOTONIC_COARSE, milliseconds */
  uint64_t kept;
  uint64_t expires;
  uint64_t generation;
  struct fuse_attr_out attributes;
};

struct attribute_replies {
  struct device *device;
  /* Slots of an older one are void. */
  uint64_t generation;
  struct slot slots[SLOTS];
};

static uint64_t milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct slot *slot_of(struct attribute_replies *replies, uint64_t node) {
  return &replies->slots[node * 0x9e3779b97f4a7c15u >> 50];
}

struct attribute_replies *attribute_replies_create(struct device *device) {
  struct attribute_replies *replies = calloc(1, sizeof *replies);
  if (!replies) return NULL;
  replies->device = device_share(device);
  replies->generation = 1;
  return replies;
}

void attribute_replies_close(struct attribute_replies *replies) {
  device_release(replies->device);
  free(replies);
}

void attribute_replies_keep(struct attribute_replies *replies, uint64_t node, const void *attributes, uint32_t duration) {
  struct slot *slot = slot_of(replies, node);
  slot->node = node;
  slot->kept = milliseconds();
  slot->expires = slot->kept + duration;
  slot->generation = replies->generation;
  memcpy(&slot->attributes, attributes, sizeof slot->attributes);
}

void attribute_replies_drop(struct attribute_replies *replies, uint64_t node) {
  struct slot *slot = slot_of(replies, node);
  if (!node)
    replies->generation++;
  else if (slot->node == node)
    slot->generation = 0;
}

/* The kernel may believe them as long as whoever heard them first, not longer. */
static void age(struct fuse_attr_out *attributes, uint64_t elapsed) {
  uint64_t valid = attributes->attr_valid * 1000 + attributes->attr_valid_nsec / 1000000;
  uint64_t left = valid > elapsed ? valid - elapsed : 0;
  attributes->attr_valid = left / 1000;
  attributes->attr_valid_nsec = (uint32_t)(left % 1000) * 1000000;
}

bool attribute_replies_answer(struct attribute_replies *replies, const void *request, size_t length) {
  const struct fuse_in_header *header = request;
  if (length != sizeof *header + sizeof(struct fuse_getattr_in) || header->opcode != FUSE_GETATTR) return false;
  struct slot *slot = slot_of(replies, header->nodeid);
  if (slot->node != header->nodeid || slot->generation != replies->generation) return false;
  uint64_t now = milliseconds();
  if (slot->expires < now) return false;
  struct {
    struct fuse_out_header header;
    struct fuse_attr_out attributes;
  } reply = {{.len = sizeof reply, .unique = header->unique}, slot->attributes};
  if (now != slot->kept) age(&reply.attributes, now - slot->kept);
  struct iovec part = {&reply, sizeof reply};
  device_reply(replies->device, &part, 1);
  return true;
}
