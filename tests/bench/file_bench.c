/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * usage: file_bench read FILE
 *        file_bench random FILE COUNT THREADS
 *        file_bench create|apart FOLDER COUNT THREADS
 *
 * The loops whose rates are compared: a file read from its beginning in pieces of 1 MiB; COUNT
 * reads of 64 KiB at places that are the same in each run; COUNT new files of 4 KiB, each written
 * and closed, in one folder (where the kernel lets in one create after the other) or in one for
 * each thread. Prints the seconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"

#define THREADS_MAX 64
#define PIECE (1u << 20)
#define BLOCK 65536u
#define SMALL 4096u

static const char *path;
static uint64_t count, blocks;
static unsigned threads;
static int file = -1;
static bool apart;

static void die(const char *what)
{
	fprintf(stderr, "file_bench: %s: %s: %m\n", what, path);
	exit(1);
}

static void read_all(void)
{
	static uint8_t piece[PIECE];
	ssize_t n;

	while ((n = read(file, piece, sizeof(piece))) > 0)
		;
	if (n < 0)
		die("cannot read");
}

/* splitmix64 */
static uint64_t scatter(uint64_t x)
{
	x = (x + 1) * 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static void *read_some(void *arg)
{
	uint8_t block[BLOCK];

	for (uint64_t i = (uintptr_t)arg; i < count; i += threads)
		if (pread(file, block, BLOCK, (off_t)(scatter(i) % blocks * BLOCK)) != BLOCK)
			die("cannot read");
	return NULL;
}

static void *create_some(void *arg)
{
	uint8_t content[SMALL];
	char name[4096];

	for (uint64_t i = (uintptr_t)arg; i < count; i += threads) {
		int fd;

		memset(content, (int)(i & 0xff), sizeof(content));
		if (apart)
			snprintf(name, sizeof(name), "%s/t%u/f%06llu", path,
				 (unsigned)(uintptr_t)arg, (unsigned long long)i);
		else
			snprintf(name, sizeof(name), "%s/f%06llu", path, (unsigned long long)i);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0 || write(fd, content, SMALL) != SMALL || close(fd) < 0)
			die("cannot create");
	}
	return NULL;
}

static void make_folders(void)
{
	char name[4096];

	for (unsigned i = 0; i < threads; i++) {
		snprintf(name, sizeof(name), "%s/t%u", path, i);
		if (mkdir(name, 0755) < 0 && errno != EEXIST)
			die("cannot make folders");
	}
}

static void run_threads(void *(*run)(void *))
{
	pthread_t thread[THREADS_MAX];

	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, run, (void *)(uintptr_t)i))
			die("no thread");
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
}

int main(int argc, char **argv)
{
	const char *work = argc > 1 ? argv[1] : "";
	bool create = !strcmp(work, "create"), all = !strcmp(work, "read");
	uint64_t wanted = 0;
	struct stat st;
	int64_t start;

	apart = !strcmp(work, "apart");
	create = create || apart;
	if ((!create && !all && strcmp(work, "random") != 0) || argc != (all ? 3 : 5) ||
	    (!all && (s3c_parse_u64(argv[3], UINT32_MAX, &count) < 0 ||
		      s3c_parse_u64(argv[4], THREADS_MAX, &wanted) < 0 || !wanted))) {
		fprintf(stderr, "usage: file_bench read FILE\n"
				"       file_bench random|create|apart PATH COUNT THREADS\n");
		return 2;
	}
	path = argv[2];
	threads = (unsigned)wanted;
	if (apart)
		make_folders();
	start = s3c_clock_monotonic_ns();
	if (!create) {
		file = open(path, O_RDONLY | O_CLOEXEC);
		if (file < 0 || fstat(file, &st) < 0)
			die("cannot open");
		blocks = (uint64_t)st.st_size / BLOCK;
		if (!all && !blocks)
			die("too small");
	}
	if (all)
		read_all();
	else
		run_threads(create ? create_some : read_some);
	printf("%.6f\n", (double)(s3c_clock_monotonic_ns() - start) / 1e9);
	return 0;
}
