/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * usage: cache_bench [DIR [MIB [only]]]
 *
 * What cache.db does, through its own interface: inserts, inserts that evict as much (from a file
 * that the kernel has dropped), reads of what the kernel has in memory and of what it has not; for
 * several page sizes, or with "only" for the tuning of large caches. Payload. What comes from
 * memory is told per second of the reading thread's processor time ("per core"), all else per
 * second of the clock.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/util.h"
#include "db/cache_private.h"

#define READ_RUN 16u
#define USUAL 3 /* of the tunings: what a cache of 512 MiB or more has */

static uint8_t page[READ_RUN][S3C_CACHE_CHUNK];

struct bench {
	char dir[200];
	uint64_t mib;
	struct s3c_cache *cache;
};

static double since(int64_t start_ns)
{
	return (double)(s3c_clock_monotonic_ns() - start_ns) / 1e9;
}

static void open_cache(struct bench *b, const struct s3c_cache_tuning *tuning, uint64_t size)
{
	const struct s3c_cache_config config = { .dir = b->dir,
						 .size = size,
						 .key = S3C_CACHE_KEY_FILE };
	struct s3c_err err = { 0 };
	int r = s3c_cache_open_tuned(&config, tuning, &err, &b->cache);

	if (r < 0) {
		fprintf(stderr, "cache_bench: %s\n", s3c_err_text(&err, r));
		exit(1);
	}
}

static void file_id(uint8_t id[static S3C_CACHE_ID_LEN], uint64_t n)
{
	memset(id, 0, S3C_CACHE_ID_LEN);
	memcpy(id, &n, sizeof(n));
}

/* Files of 64 MiB from number `from` on; MB/s of what was not dropped. A full queue is waited for,
   which the filesystem would not do. */
static double insert(struct bench *b, uint64_t from)
{
	int64_t start = s3c_clock_monotonic_ns();
	uint8_t id[S3C_CACHE_ID_LEN];

	for (uint64_t n = 0; n < b->mib * 16; n++) {
		file_id(id, from + n / 1024);
		while (!s3c_cache_write(b->cache, id, n % 1024, page[n % READ_RUN],
					S3C_CACHE_CHUNK))
			usleep(500);
	}
	s3c_cache_flush(b->cache);
	return (double)(b->mib << 20) / 1e6 / since(start);
}

static int64_t thread_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * S3C_NSEC_PER_SEC + ts.tv_nsec;
}

static double read_back(struct bench *b, uint64_t from, bool random, bool hot)
{
	uint64_t runs = b->mib * 16 / READ_RUN, got = 0;
	uint8_t *pages[READ_RUN], id[S3C_CACHE_ID_LEN];
	int64_t start = s3c_clock_monotonic_ns(), start_cpu = thread_ns();
	double seconds;
	uint32_t lens[READ_RUN];
	bool have[READ_RUN];

	for (unsigned i = 0; i < READ_RUN; i++) {
		pages[i] = page[i];
		lens[i] = S3C_CACHE_CHUNK;
	}
	for (uint64_t n = 0; n < runs; n++) {
		uint64_t run = random ? (uint64_t)rand() % runs : n;

		file_id(id, from + run * READ_RUN / 1024);
		got += s3c_cache_read(b->cache, id, run * READ_RUN % 1024, READ_RUN, lens, pages,
				      have);
	}
	if (got != runs * READ_RUN)
		printf("(%llu of %llu found) ", (unsigned long long)got,
		       (unsigned long long)(runs * READ_RUN));
	seconds = hot ? (double)(thread_ns() - start_cpu) / 1e9 : since(start);
	return (double)got * S3C_CACHE_CHUNK / 1e9 / seconds;
}

/* Opened anew, and the kernel has forgotten the file. */
static void reopen_cold(struct bench *b, const struct s3c_cache_tuning *tuning, uint64_t size)
{
	char path[256];
	int fd;

	s3c_cache_close(b->cache);
	snprintf(path, sizeof(path), "%s/cache.db", b->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	open_cache(b, tuning, size);
}

/* What the disk gives: the same file, read by nothing but read(2). */
static double read_plain(struct bench *b)
{
	int64_t start = s3c_clock_monotonic_ns();
	uint64_t bytes = 0;
	char path[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/cache.db", b->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (n = read(fd, page, sizeof(page))) > 0)
		bytes += (uint64_t)n;
	close(fd);
	return (double)bytes / 1e9 / since(start);
}

static void wipe(struct bench *b)
{
	static const char *const names[] = { "cache.db", "cache.db-wal", "cache.db-shm",
					     "cache.key", "cache.lock" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char path[256];

		snprintf(path, sizeof(path), "%s/%s", b->dir, names[i]);
		unlink(path);
	}
}

/* 512 bytes each, by all threads. */
static long blocks_read(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_inblock;
}

static void bench(struct bench *b, const struct s3c_cache_tuning *tuning)
{
	uint64_t files = DIV_ROUND_UP(b->mib, 64), size = (b->mib << 20) * 2;
	struct s3c_cache_stats stats;
	long read_before;

	open_cache(b, tuning, size);
	printf("%6u %-5s %-6s", tuning->page_size, tuning->mmap_size ? "mmap" : "pread",
	       tuning->sync ? "NORMAL" : "OFF");
	printf(" %8.0f", insert(b, 0));
	s3c_cache_stats(b->cache, &stats);
	printf(" %7.3f", (double)stats.bytes / (double)(b->mib << 20));
	read_back(b, 0, false, true);
	printf(" %9.2f", read_back(b, 0, false, true));
	printf(" %9.2f", read_back(b, 0, true, true));
	fflush(stdout);
	reopen_cold(b, tuning, size);
	printf(" %9.2f", read_back(b, 0, false, false));
	reopen_cold(b, tuning, size);
	printf(" %9.2f", read_back(b, 0, true, false));
	reopen_cold(b, tuning, size);
	printf(" %9.2f", read_plain(b));
	fflush(stdout);
	/* The second of these is full before its end and evicts the oldest. */
	insert(b, files);
	reopen_cold(b, tuning, size);
	read_before = blocks_read();
	printf(" %9.0f", insert(b, 2 * files));
	printf(" %7.2f", (double)(blocks_read() - read_before) * 512 / (double)(b->mib << 20));
	printf(" %9.2f", read_back(b, 2 * files, false, true));
	reopen_cold(b, tuning, size);
	printf(" %9.2f\n", read_back(b, 2 * files, false, false));
	fflush(stdout);
	s3c_cache_close(b->cache);
	wipe(b);
}

int main(int argc, char **argv)
{
	static const struct s3c_cache_tuning tunings[] = {
		{ .page_size = 4096 },
		{ .page_size = 16384 },
		{ .page_size = 32768 },
		{ .page_size = 65536 },
		{ .page_size = 65536, .mmap_size = INT64_C(1) << 40 },
		{ .page_size = 65536, .sync = true },
	};
	struct bench b = { .mib = 512 };
	uint64_t state = 0x9e3779b97f4a7c15;

	snprintf(b.dir, sizeof(b.dir), "%s/s3cryptfs-cache-XXXXXX",
		 argc > 1 ? argv[1] : "/var/tmp");
	if ((argc > 2 && s3c_parse_u64(argv[2], 1u << 20, &b.mib) < 0) ||
	    (argc > 3 && strcmp(argv[3], "only") != 0) || argc > 4 || b.mib < 64) {
		fprintf(stderr, "usage: cache_bench [DIR [MIB [only]]]\n");
		return 2;
	}
	if (!mkdtemp(b.dir) || s3c_secret_init() < 0) {
		perror("cache_bench");
		return 1;
	}
	for (size_t i = 0; i < READ_RUN * (size_t)S3C_CACHE_CHUNK; i++) {
		state = state * 6364136223846793005 + 1442695040888963407;
		page[i / S3C_CACHE_CHUNK][i % S3C_CACHE_CHUNK] = (uint8_t)(state >> 56);
	}
	printf("                     insert  file /     GB/s from memory        GB/s from the disk "
	       "    "
	       "     evicting: MB/s, MB read for each; GB/s\n"
	       "  page reads sync      MB/s payload  in order    random  in order    random   "
	       "read(2)    insert    read    memory      disk\n");
	for (size_t i = 0; i < ARRAY_LEN(tunings); i++)
		if (argc <= 3 || i == USUAL)
			bench(&b, &tunings[i]);
	rmdir(b.dir);
	return 0;
}
