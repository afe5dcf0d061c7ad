/*
 * latency FILE… : asks the file system for the attributes of each file in turn (statx with AT_STATX_FORCE_SYNC, so that every
 * call reaches the daemon) until a line or the end comes on standard input, one call a millisecond, and prints in microseconds
 * what the calls took, and how late this program itself was woken after its millisecond: what the machine adds to every answer
 * that somebody has to be woken for. {"calls":N,"p50":…,"p99":…,"max":…,"wakeP99":…}
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CALLS_MAX = 4 << 20 };

static uint64_t now(void) {
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int ascending(const void *left, const void *right) {
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	return (a > b) - (a < b);
}

static uint32_t clamp(uint64_t nanoseconds) {
	return nanoseconds > UINT32_MAX ? UINT32_MAX : (uint32_t)nanoseconds;
}

int main(int count, char **arguments) {
	if (count < 2) {
		fprintf(stderr, "usage: latency FILE...\n");
		return 2;
	}
	int files = count - 1;
	int *descriptors = calloc((size_t)files, sizeof *descriptors);
	uint32_t *taken = malloc(CALLS_MAX * sizeof *taken);
	uint32_t *late = malloc(CALLS_MAX * sizeof *late);
	if (!descriptors || !taken || !late) return 1;
	for (int i = 0; i < files; i++) {
		descriptors[i] = open(arguments[i + 1], O_PATH | O_CLOEXEC);
		if (descriptors[i] < 0) {
			fprintf(stderr, "latency: %s: %s\n", arguments[i + 1], strerror(errno));
			return 1;
		}
	}
	size_t calls = 0;
	struct pollfd end = {.fd = 0, .events = POLLIN};
	for (;;) {
		struct statx attributes;
		uint64_t slept = now();
		if (calls == CALLS_MAX || poll(&end, 1, 1) != 0) break;
		uint64_t start = now();
		late[calls] = clamp(start - slept - 1000000);
		if (statx(descriptors[calls % (size_t)files], "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &attributes)) {
			fprintf(stderr, "latency: statx: %s\n", strerror(errno));
			return 1;
		}
		taken[calls++] = clamp(now() - start);
	}
	if (!calls) {
		fprintf(stderr, "latency: ended before the first call\n");
		return 1;
	}
	qsort(taken, calls, sizeof *taken, ascending);
	qsort(late, calls, sizeof *late, ascending);
	printf("{\"calls\":%zu,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f,\"wakeP99\":%.1f}\n", calls, taken[calls / 2] / 1e3,
	       taken[calls * 99 / 100] / 1e3, taken[calls - 1] / 1e3, late[calls * 99 / 100] / 1e3);
	return 0;
}
