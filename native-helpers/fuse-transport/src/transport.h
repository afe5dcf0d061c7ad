/* What the parts of the transport share. It knows the framing of the protocol (`struct fuse_in_header.len`,
 * `struct fuse_out_header`) and of the operations only how a GETATTR and a WRITE are answered. */
#ifndef TRANSPORT_H
#define TRANSPORT_H

#include <linux/fuse.h>
#include <node_api.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* A /dev/fuse descriptor that the event loop and the threads share; closed with its last reference. */
struct device {
  int fd;
  atomic_int references;
  _Atomic uint64_t requests, replies, batches, handed_over, notified, dropped, gone, rejected;
};

struct device *device_create(int fd);
struct device *device_share(struct device *device);
void device_release(struct device *device);
/** Sends one reply record. A request that is gone meanwhile is counted, and so is a record that the kernel refuses. */
void device_reply(struct device *device, struct iovec *parts, int count);
void device_reply_error(struct device *device, uint64_t unique, int error);

/** Starts a detached thread that takes no signals. */
int thread_start(void *(*run)(void *), void *argument);

/* READs answered from files: at once when the bytes are in the page cache, else by a thread. */
struct file_replies;
struct file_replies *file_replies_create(struct device *device, uint32_t largest);
void file_replies_send(struct file_replies *replies, uint64_t unique, int fd, int64_t position, uint32_t length);
/** Lets the threads finish what is queued; does not wait for them. */
void file_replies_close(struct file_replies *replies);

/* WRITEs into files: their payload is received, put, and perhaps answered, without a copy of it in memory. */
struct file_writes;
struct file_writes *file_writes_create(struct device *device, uint32_t largest);
/** Receives a request as read(2) does. The payload of a large WRITE may stay behind, until the next call. */
ssize_t file_writes_receive(struct file_writes *writes, void *request, size_t size);
/** Brings a payload that stayed behind into the request. False when it is lost. */
bool file_writes_fetch(struct file_writes *writes, void *request);
/** Writes payload to a file at a position, or at its end with -1; the bytes written or a negated error number. */
ssize_t file_writes_put(struct file_writes *writes, void *request, uint32_t skip, uint32_t length, int fd, int64_t position);
/** Lets a thread write the payload and answer the request, where that is the better way; else false. */
bool file_writes_hand_over(struct file_writes *writes, const void *request, int fd, int64_t position);
/** Lets the threads finish what is queued; does not wait for them. */
void file_writes_close(struct file_writes *writes);

/* GETATTRs answered without JavaScript, with what it answered before. */
struct attribute_replies;
struct attribute_replies *attribute_replies_create(struct device *device);
/** `attributes` is a `struct fuse_attr_out`; `duration` is milliseconds. */
void attribute_replies_keep(struct attribute_replies *replies, uint64_t node, const void *attributes, uint32_t duration);
/** Node 0: all. */
void attribute_replies_drop(struct attribute_replies *replies, uint64_t node);
/** Whether the request was such a GETATTR, and is answered. `request` is aligned as its records are. */
bool attribute_replies_answer(struct attribute_replies *replies, const void *request, size_t length);
void attribute_replies_close(struct attribute_replies *replies);

/* The thread that alone sends notifications: they may wait in the kernel for requests that are being answered. */
struct notifier;
struct notifier *notifier_create(struct device *device, uint32_t bound);
void notifier_queue(struct notifier *notifier, const uint8_t *record, size_t length);
/** Drops what is queued; does not wait for the thread. */
void notifier_close(struct notifier *notifier);

napi_value channel_open(napi_env env, napi_callback_info info);
napi_value transport_mount(napi_env env, napi_callback_info info);
napi_value transport_mount_by_helper(napi_env env, napi_callback_info info);
napi_value transport_unmount(napi_env env, napi_callback_info info);
napi_value transport_unmount_by_helper(napi_env env, napi_callback_info info);
napi_value transport_send_descriptor(napi_env env, napi_callback_info info);
napi_value transport_receive_descriptor(napi_env env, napi_callback_info info);
napi_value transport_service_notify(napi_env env, napi_callback_info info);

/** One descriptor out of a unix socket (SCM_RIGHTS), close-on-exec, or a negated error number. */
int descriptor_receive(int socket);

#endif
