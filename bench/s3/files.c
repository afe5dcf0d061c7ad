/*
 * Reads and writes whole files and says how long it took, so that neither the start of a program nor the benchmark's own threads are measured.
 *
 * usage: files read FILE...            every file by a thread of its own, all at once, in blocks of 128 KiB
 *        files random COUNT SEED FILE  COUNT reads of 4 KiB at random places of one file, one after the other
 *        files write BYTES FILE        one new file, in blocks of 128 KiB, until close has returned
 *
 * Prints the nanoseconds from the first open to the last close, and the bytes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 128 * 1024, PAGE = 4096 };

static _Noreturn void fail(const char *what, const char *file) {
    fprintf(stderr, "files: %s %s: %s\n", what, file, strerror(errno));
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static pthread_barrier_t barrier;

static void *read_whole(void *argument) {
    const char *file = argument;
    char *block = malloc(BLOCK);
    if (block == NULL) fail("malloc", file);
    pthread_barrier_wait(&barrier);
    int fd = open(file, O_RDONLY);
    if (fd < 0) fail("open", file);
    intptr_t total = 0;
    for (ssize_t got; (got = read(fd, block, BLOCK)) != 0; total += got) {
        if (got < 0) fail("read", file);
    }
    if (close(fd) != 0) fail("close", file);
    free(block);
    return (void *)total;
}

static int64_t read_all(int count, char **files) {
    pthread_t threads[count];
    int64_t total = 0;
    pthread_barrier_init(&barrier, NULL, (unsigned)count + 1);
    for (int i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, read_whole, files[i]) != 0) fail("thread", files[i]);
    }
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < count; i++) {
        void *bytes;
        pthread_join(threads[i], &bytes);
        total += (intptr_t)bytes;
    }
    return total;
}

static int64_t read_random(int count, unsigned seed, const char *file) {
    char block[PAGE];
    int fd = open(file, O_RDONLY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) fail("open", file);
    for (int i = 0; i < count; i++) {
        off_t offset = (off_t)(rand_r(&seed) % (unsigned)(status.st_size / PAGE)) * PAGE;
        if (pread(fd, block, PAGE, offset) != PAGE) fail("read", file);
    }
    if (close(fd) != 0) fail("close", file);
    return (int64_t)count * PAGE;
}

static int64_t write_whole(int64_t bytes, const char *file) {
    char *block = malloc(BLOCK);
    if (block == NULL) fail("malloc", file);
    for (int i = 0; i < BLOCK; i++) block[i] = (char)(i * 31 + i / 4096);
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL, 0644);
    if (fd < 0) fail("create", file);
    for (int64_t done = 0; done < bytes;) {
        int64_t left = bytes - done;
        ssize_t put = write(fd, block, (size_t)(left < BLOCK ? left : BLOCK));
        if (put < 0) fail("write", file);
        done += put;
    }
    if (close(fd) != 0) fail("close", file);
    free(block);
    return bytes;
}

int main(int argc, char **argv) {
    int64_t bytes;
    int64_t start = now();
    if (argc >= 3 && strcmp(argv[1], "read") == 0) {
        bytes = read_all(argc - 2, argv + 2);
    } else if (argc == 5 && strcmp(argv[1], "random") == 0) {
        bytes = read_random(atoi(argv[2]), (unsigned)atoi(argv[3]), argv[4]);
    } else if (argc == 4 && strcmp(argv[1], "write") == 0) {
        bytes = write_whole(atoll(argv[2]), argv[3]);
    } else {
        fprintf(stderr, "usage: files read FILE... | random COUNT SEED FILE | write BYTES FILE\n");
        return 2;
    }
    printf("%" PRId64 " %" PRId64 "\n", now() - start, bytes);
    return 0;
}
