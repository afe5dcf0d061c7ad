/*
 * latency FILE… : until a line or the end comes on standard input, one call a millisecond, each on a file chosen at random, by turns
 *   stat    stat(2) of the path, as programs call it: the kernel answers what it was told and may believe
 *   forced  statx(2) with AT_STATX_FORCE_SYNC on a descriptor: a request to the daemon, whatever the kernel knows
 * and prints in microseconds what they took, and how late this program itself was woken after its millisecond: what the machine adds to every
 * answer that somebody has to be woken for.
 * {"stat":{"calls":N,"p50":…,"p99":…,"max":…},"forced":{…},"late":{…}}
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

enum { STAT, FORCED, LATE, KINDS };
enum { CALLS_MAX = 1 << 20 };

static const char *const names[KINDS] = {"stat", "forced", "late"};
static uint32_t taken[KINDS][CALLS_MAX];
static size_t calls[KINDS];

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

/* xorshift64 */
static uint64_t random_number(void) {
	static uint64_t state = 88172645463325252u;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void note(int kind, uint64_t nanoseconds) {
	taken[kind][calls[kind]++] = clamp(nanoseconds);
}

static void print(int kind) {
	const uint32_t *sorted = taken[kind];
	size_t count = calls[kind];
	qsort(taken[kind], count, sizeof *sorted, ascending);
	printf("%s\"%s\":{\"calls\":%zu,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f}", kind ? "," : "{", names[kind], count, sorted[count / 2] / 1e3,
	       sorted[count * 99 / 100] / 1e3, sorted[count - 1] / 1e3);
}

int main(int count, char **arguments) {
	if (count < 2) {
		fprintf(stderr, "usage: latency FILE...\n");
		return 2;
	}
	int files = count - 1;
	int *descriptors = calloc((size_t)files, sizeof *descriptors);
	if (!descriptors) return 1;
	for (int i = 0; i < files; i++) {
		descriptors[i] = open(arguments[i + 1], O_PATH | O_CLOEXEC);
		if (descriptors[i] < 0) {
			fprintf(stderr, "latency: %s: %s\n", arguments[i + 1], strerror(errno));
			return 1;
		}
	}
	struct pollfd end = {.fd = 0, .events = POLLIN};
	while (calls[LATE] < CALLS_MAX) {
		uint64_t slept = now();
		if (poll(&end, 1, 1) != 0) break;
		int chosen = (int)(random_number() % (uint64_t)files);
		int kind = calls[LATE] % 2 ? FORCED : STAT;
		struct stat status;
		struct statx attributes;
		uint64_t start = now();
		note(LATE, start - slept - 1000000);
		if (kind == STAT ? stat(arguments[chosen + 1], &status)
		                 : statx(descriptors[chosen], "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &attributes)) {
			fprintf(stderr, "latency: %s: %s\n", arguments[chosen + 1], strerror(errno));
			return 1;
		}
		note(kind, now() - start);
	}
	if (!calls[FORCED]) {
		fprintf(stderr, "latency: ended before the second call\n");
		return 1;
	}
	for (int kind = 0; kind < KINDS; kind++) print(kind);
	printf("}\n");
	return 0;
}
