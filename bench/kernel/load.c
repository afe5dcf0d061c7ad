/*
 * Load generator of the kernel benchmark: so many clients (threads) put one kind of work on a directory and print what they got
 * as one line of JSON. It knows nothing of the file system under it.
 *
 *   load create  DIR FILES LARGE BYTES           make the tree: files/f00000…, large-00…; every 4 KiB block stamped with its place
 *   load getattr DIR CLIENTS SECONDS             statx on O_PATH descriptors with AT_STATX_FORCE_SYNC: one GETATTR a call
 *   load stat    DIR CLIENTS SECONDS             the same by path: what revalidating the name costs is in it
 *   load open    DIR CLIENTS SECONDS             open, read 4 KiB, close
 *   load random  DIR CLIENTS SECONDS KEEP        pread of 4 KiB blocks in random order, one large file a client
 *   load read    DIR CLIENTS SECONDS KEEP CHUNK  sequential, one large file a client
 *   load write   DIR CLIENTS SECONDS BYTES CHUNK sequential into an empty file, close included, one file a client
 *   load verify  DIR CLIENTS BYTES CHUNK         the files of `write` hold what was written (run on the source directory)
 *   load run     TIMES PAUSE COMMAND…            seconds that a command takes, its output thrown away; PAUSE seconds before each
 *
 * `random` and `read` work in passes. Before each, outside the timed part, the pages that this mount holds of the file are
 * dropped (KEEP 0) and a pass reads no block twice, so the page cache of the mount never answers. KEEP 1 leaves them: for the
 * native directory, whose pages are the source's own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, FILES_USED = 1000, CLIENTS_MAX = 64, PATH_BYTES = 4096 };

struct client {
	pthread_t thread;
	int number;
	int fd;
	uint64_t random;
	uint64_t size;
	uint32_t *order;
	uint32_t next;
	char *buffer;
	/* Operations, or bytes for `read` and `write`. */
	uint64_t count;
	double started;
	double ended;
};

typedef void (*step)(struct client *);

/* What the clients share: set before they start, but for `deadline` and `over`, which change between passes. */
static struct {
	const char *directory;
	int clients;
	double seconds;
	bool keep;
	size_t chunk;
	uint64_t bytes;
	step prepare;
	step work;
	pthread_barrier_t barrier;
	double deadline;
	bool over;
	int descriptors[FILES_USED];
} job;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
	int error = errno;
	va_list arguments;
	va_start(arguments, format);
	fprintf(stderr, "load: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, ": %s\n", error ? strerror(error) : "wrong content");
	va_end(arguments);
	exit(1);
}

static double clock_seconds(clockid_t clock) {
	struct timespec time;
	clock_gettime(clock, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double now(void) {
	return clock_seconds(CLOCK_MONOTONIC);
}

/* Asked at every operation, so the cheap clock: milliseconds are enough. */
static bool in_time(void) {
	return clock_seconds(CLOCK_MONOTONIC_COARSE) < job.deadline;
}

static void *aligned(size_t bytes) {
	void *memory = aligned_alloc(BLOCK, bytes);
	if (!memory) fail("memory");
	return memset(memory, 0, bytes);
}

/* A random order of 0 … length-1; xorshift64 scatters well enough. */
static uint32_t *shuffled(struct client *client, uint32_t length) {
	uint32_t *order = malloc(length * sizeof *order);
	if (!order) fail("memory");
	for (uint32_t i = 0; i < length; i++) order[i] = i;
	for (uint32_t i = length; i > 1; i--) {
		client->random ^= client->random << 13;
		client->random ^= client->random >> 7;
		client->random ^= client->random << 17;
		uint32_t other = (uint32_t)(client->random % i);
		uint32_t held = order[i - 1];
		order[i - 1] = order[other];
		order[other] = held;
	}
	return order;
}

static void small_path(char *path, uint32_t index) {
	snprintf(path, PATH_BYTES, "%s/files/f%05u", job.directory, index);
}

static void large_path(char *path, const char *kind, int index) {
	snprintf(path, PATH_BYTES, "%s/%s-%02d", job.directory, kind, index);
}

/* The first word of a block says where it belongs: an answer from the wrong place, or of zeros, is noticed. */
static uint64_t stamp(uint64_t file, uint64_t offset) {
	return (file + 1) << 48 | (offset / BLOCK + 1);
}

static void put_stamp(char *block, uint64_t file, uint64_t offset) {
	uint64_t word = stamp(file, offset);
	memcpy(block, &word, sizeof word);
}

static void check_stamp(const char *block, uint64_t file, uint64_t offset) {
	uint64_t word;
	memcpy(&word, block, sizeof word);
	errno = 0;
	if (word != stamp(file, offset)) fail("file %lu, offset %lu", file, offset);
}

static void create_file(const char *path, uint64_t file, uint64_t bytes, char *buffer, size_t chunk) {
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0) fail("%s", path);
	for (uint64_t offset = 0; offset < bytes; offset += chunk) {
		for (size_t i = 0; i < chunk; i += BLOCK) put_stamp(buffer + i, file, offset + i);
		if (write(fd, buffer, chunk) != (ssize_t)chunk) fail("%s", path);
	}
	if (close(fd)) fail("%s", path);
}

static void create_tree(uint32_t files, int large, uint64_t bytes) {
	enum { CHUNK = 1 << 20 };
	char path[PATH_BYTES];
	char *buffer = aligned(CHUNK);
	snprintf(path, sizeof path, "%s/files", job.directory);
	if (mkdir(path, 0755)) fail("%s", path);
	for (uint32_t i = 0; i < files; i++) {
		small_path(path, i);
		create_file(path, i, BLOCK, buffer, BLOCK);
	}
	for (int i = 0; i < large; i++) {
		large_path(path, "large", i);
		create_file(path, (uint64_t)i, bytes, buffer, CHUNK);
	}
	free(buffer);
}

static void order_files(struct client *client) {
	if (!client->order) client->order = shuffled(client, FILES_USED);
}

static uint32_t next_file(struct client *client) {
	if (client->next == FILES_USED) client->next = 0;
	return client->order[client->next++];
}

static void open_paths(void) {
	char path[PATH_BYTES];
	for (uint32_t i = 0; i < FILES_USED; i++) {
		small_path(path, i);
		job.descriptors[i] = open(path, O_PATH | O_CLOEXEC);
		if (job.descriptors[i] < 0) fail("%s", path);
	}
}

static void work_getattr(struct client *client) {
	struct statx result;
	for (; in_time(); client->count++) {
		int fd = job.descriptors[next_file(client)];
		if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &result)) fail("statx");
	}
}

static void work_stat(struct client *client) {
	struct statx result;
	char path[PATH_BYTES];
	for (; in_time(); client->count++) {
		small_path(path, next_file(client));
		if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &result)) fail("%s", path);
	}
}

static void open_read_close(struct client *client, uint32_t index) {
	char path[PATH_BYTES];
	small_path(path, index);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) fail("%s", path);
	if (read(fd, client->buffer, BLOCK) != BLOCK) fail("%s", path);
	check_stamp(client->buffer, index, 0);
	close(fd);
}

/* Every file was opened once before, outside the timed part. */
static void prepare_open(struct client *client) {
	order_files(client);
	for (int i = client->number; i < FILES_USED; i += job.clients) open_read_close(client, (uint32_t)i);
}

static void work_open(struct client *client) {
	for (; in_time(); client->count++) open_read_close(client, next_file(client));
}

static void drop_pages(struct client *client) {
	if (client->fd < 0) {
		char path[PATH_BYTES];
		struct stat status;
		large_path(path, "large", client->number);
		client->fd = open(path, O_RDONLY | O_CLOEXEC);
		if (client->fd < 0 || fstat(client->fd, &status)) fail("%s", path);
		client->size = (uint64_t)status.st_size;
	}
	if (!job.keep && posix_fadvise(client->fd, 0, 0, POSIX_FADV_DONTNEED)) fail("posix_fadvise");
}

static void prepare_random(struct client *client) {
	drop_pages(client);
	if (client->order) return;
	client->order = shuffled(client, (uint32_t)(client->size / BLOCK));
	/* Without read-ahead: a block that nobody asked for would be an answer of the page cache later. */
	if (posix_fadvise(client->fd, 0, 0, POSIX_FADV_RANDOM)) fail("posix_fadvise");
}

static void work_random(struct client *client) {
	uint32_t blocks = (uint32_t)(client->size / BLOCK);
	for (uint32_t i = 0; i < blocks && in_time(); i++, client->count++) {
		uint64_t offset = (uint64_t)client->order[i] * BLOCK;
		if (pread(client->fd, client->buffer, BLOCK, (off_t)offset) != BLOCK) fail("pread");
		check_stamp(client->buffer, (uint64_t)client->number, offset);
	}
}

static void work_read(struct client *client) {
	for (uint64_t offset = 0; offset < client->size; offset += job.chunk) {
		if (pread(client->fd, client->buffer, job.chunk, (off_t)offset) != (ssize_t)job.chunk) fail("pread");
		check_stamp(client->buffer, (uint64_t)client->number, offset);
		client->count += job.chunk;
	}
}

static void prepare_write(struct client *client) {
	char path[PATH_BYTES];
	large_path(path, "written", client->number);
	client->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (client->fd < 0) fail("%s", path);
}

static void work_write(struct client *client) {
	for (uint64_t offset = 0; offset < job.bytes; offset += job.chunk) {
		put_stamp(client->buffer, (uint64_t)client->number, offset);
		if (write(client->fd, client->buffer, job.chunk) != (ssize_t)job.chunk) fail("write");
		client->count += job.chunk;
	}
	if (close(client->fd)) fail("close");
}

static void verify_written(void) {
	char path[PATH_BYTES];
	char *buffer = aligned(job.chunk);
	for (int i = 0; i < job.clients; i++) {
		struct stat status;
		large_path(path, "written", i);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &status)) fail("%s", path);
		errno = EMSGSIZE;
		if ((uint64_t)status.st_size != job.bytes) fail("%s has %ld bytes", path, status.st_size);
		for (uint64_t offset = 0; offset < job.bytes; offset += job.chunk) {
			if (pread(fd, buffer, BLOCK, (off_t)offset) != BLOCK) fail("%s", path);
			check_stamp(buffer, (uint64_t)i, offset);
		}
		close(fd);
	}
	free(buffer);
}

static void *client_main(void *argument) {
	struct client *client = argument;
	do {
		job.prepare(client);
		pthread_barrier_wait(&job.barrier);
		pthread_barrier_wait(&job.barrier);
		client->started = now();
		job.work(client);
		client->ended = now();
		pthread_barrier_wait(&job.barrier);
		pthread_barrier_wait(&job.barrier);
	} while (!job.over);
	return NULL;
}

/* Passes until the time is used up. What lies between the first start and the last end of a pass is the time that counts. */
static void run_clients(step prepare, step work) {
	static struct client clients[CLIENTS_MAX];
	double timed = 0;
	uint64_t count = 0;
	job.prepare = prepare;
	job.work = work;
	if (pthread_barrier_init(&job.barrier, NULL, (unsigned)job.clients + 1)) fail("barrier");
	for (int i = 0; i < job.clients; i++) {
		struct client *client = &clients[i];
		client->number = i;
		client->fd = -1;
		client->random = 0x9e3779b97f4a7c15u * (uint64_t)(i + 1);
		client->buffer = aligned(job.chunk);
		if (pthread_create(&client->thread, NULL, client_main, client)) fail("thread");
	}
	do {
		pthread_barrier_wait(&job.barrier);
		job.deadline = now() + job.seconds - timed;
		pthread_barrier_wait(&job.barrier);
		pthread_barrier_wait(&job.barrier);
		double started = clients[0].started, ended = clients[0].ended;
		for (int i = 1; i < job.clients; i++) {
			if (clients[i].started < started) started = clients[i].started;
			if (clients[i].ended > ended) ended = clients[i].ended;
		}
		timed += ended - started;
		/* A pass that ran into its deadline may end within the grain of the cheap clock. */
		job.over = timed >= job.seconds - 0.01;
		pthread_barrier_wait(&job.barrier);
	} while (!job.over);
	for (int i = 0; i < job.clients; i++) {
		pthread_join(clients[i].thread, NULL);
		count += clients[i].count;
		free(clients[i].order);
		free(clients[i].buffer);
	}
	printf("{\"count\":%lu,\"seconds\":%.6f}\n", count, timed);
}

static void run_command(int times, double pause, char **command) {
	extern char **environ;
	posix_spawn_file_actions_t actions;
	if (posix_spawn_file_actions_init(&actions) ||
	    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0))
		fail("posix_spawn");
	printf("{\"seconds\":[");
	for (int i = 0; i < times; i++) {
		pid_t child;
		int status;
		struct timespec rest = {.tv_sec = (time_t)pause, .tv_nsec = (long)((pause - (double)(time_t)pause) * 1e9)};
		nanosleep(&rest, NULL);
		double started = now();
		errno = posix_spawnp(&child, command[0], &actions, NULL, command, environ);
		if (errno || waitpid(child, &status, 0) != child) fail("%s", command[0]);
		double ended = now();
		errno = ECHILD;
		if (!WIFEXITED(status) || WEXITSTATUS(status)) fail("%s", command[0]);
		printf("%s%.6f", i ? "," : "", ended - started);
	}
	printf("]}\n");
	posix_spawn_file_actions_destroy(&actions);
}

int main(int count, char **arguments) {
	static char *none = "";
	char *argument[8];
	for (int i = 0; i < 8; i++) argument[i] = i < count ? arguments[i] : none;
	const char *kind = argument[1];
	if (!strcmp(kind, "run") && count > 4) {
		run_command(atoi(argument[2]), atof(argument[3]), arguments + 4);
		return 0;
	}
	job.directory = argument[2];
	job.clients = atoi(argument[3]);
	job.seconds = atof(argument[4]);
	job.chunk = BLOCK;
	if (!strcmp(kind, "create") && count == 6) {
		create_tree((uint32_t)atoi(argument[3]), atoi(argument[4]), strtoull(argument[5], NULL, 10));
		return 0;
	}
	errno = EINVAL;
	if (job.clients < 1 || job.clients > CLIENTS_MAX) fail("%s clients", argument[3]);
	if (!strcmp(kind, "getattr") && count == 5) {
		open_paths();
		run_clients(order_files, work_getattr);
	} else if (!strcmp(kind, "stat") && count == 5) {
		run_clients(order_files, work_stat);
	} else if (!strcmp(kind, "open") && count == 5) {
		run_clients(prepare_open, work_open);
	} else if (!strcmp(kind, "random") && count == 6) {
		job.keep = atoi(argument[5]);
		run_clients(prepare_random, work_random);
	} else if (!strcmp(kind, "read") && count == 7) {
		job.keep = atoi(argument[5]);
		job.chunk = strtoull(argument[6], NULL, 10);
		run_clients(drop_pages, work_read);
	} else if (!strcmp(kind, "write") && count == 7) {
		job.bytes = strtoull(argument[5], NULL, 10);
		job.chunk = strtoull(argument[6], NULL, 10);
		run_clients(prepare_write, work_write);
	} else if (!strcmp(kind, "verify") && count == 6) {
		job.bytes = strtoull(argument[4], NULL, 10);
		job.chunk = strtoull(argument[5], NULL, 10);
		verify_written();
	} else {
		errno = EINVAL;
		fail("arguments");
	}
	return 0;
}
