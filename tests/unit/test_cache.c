/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/util.h"
#include "db/cache_private.h"

#define MIB (1u << 20)
#define MARKER "PLAINTEXT-MARKER"

struct fixture {
	char dir[48], cache[64], db[80];
	struct s3c_cache_config config;
	struct s3c_cache_tuning tuning;
	struct s3c_cache *open;
};

static const uint8_t key_one[32] = { 1 }, key_two[32] = { 2 };

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/s3cryptfs-cache-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->cache, sizeof(f->cache), "%s/cache", f->dir);
	snprintf(f->db, sizeof(f->db), "%s/cache.db", f->cache);
	f->config = (struct s3c_cache_config){
		.dir = f->cache, .size = 64 * MIB, .key = S3C_CACHE_KEY_WRAPPED, .wrap_key = key_one
	};
	s3c_log_set_level(S3C_LOG_ERROR);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[80];
	int r;

	s3c_cache_close(f->open);
	snprintf(command, sizeof(command), "rm -rf %s", f->dir);
	r = system(command);
	free(f);
	return r;
}

static struct s3c_cache *open_cache(struct fixture *f)
{
	struct s3c_err err = { 0 };

	s3c_cache_close(steal_ptr(f->open));
	if (s3c_cache_open_tuned(&f->config, &f->tuning, &err, &f->open) < 0)
		fail_msg("%s", err.text);
	return f->open;
}

static void close_cache(struct fixture *f)
{
	s3c_cache_close(steal_ptr(f->open));
}

static void make_id(uint8_t id[static S3C_CACHE_ID_LEN], unsigned n)
{
	memset(id, 0, S3C_CACHE_ID_LEN);
	memcpy(id, &n, sizeof(n));
}

/* Bytes that tell where they belong, with the marker among them. */
static void make_chunk(uint8_t *data, unsigned file, uint64_t chunk, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		data[i] = (uint8_t)(file * 31 + chunk * 7 + i * 13 + (i >> 8));
	if (len > 200)
		memcpy(data + 100, MARKER, sizeof(MARKER) - 1);
}

static bool write_chunk(struct s3c_cache *cache, unsigned file, uint64_t chunk, uint32_t len)
{
	static __thread uint8_t data[S3C_CACHE_CHUNK];
	uint8_t id[S3C_CACHE_ID_LEN];

	make_id(id, file);
	make_chunk(data, file, chunk, len);
	return s3c_cache_write(cache, id, chunk, data, len);
}

/* Waits for room in the queue. */
static void write_file(struct s3c_cache *cache, unsigned file, unsigned chunks)
{
	for (unsigned i = 0; i < chunks; i++)
		while (!write_chunk(cache, file, i, S3C_CACHE_CHUNK))
			s3c_cache_flush(cache);
}

/* How many are there; those must be right. */
static unsigned read_chunks(struct s3c_cache *cache, unsigned file, uint64_t first, unsigned count,
			    uint32_t len)
{
	static __thread uint8_t page[64][S3C_CACHE_CHUNK], want[S3C_CACHE_CHUNK];
	uint8_t *pages[64] = { NULL }, id[S3C_CACHE_ID_LEN];
	unsigned got, seen = 0;
	uint32_t lens[64] = { 0 };
	bool have[64];

	make_id(id, file);
	for (unsigned i = 0; i < count; i++) {
		pages[i] = page[i];
		lens[i] = len;
	}
	got = s3c_cache_read(cache, id, first, count, lens, pages, have);
	for (unsigned i = 0; i < count; i++) {
		if (!have[i])
			continue;
		seen++;
		make_chunk(want, file, first + i, len);
		if (memcmp(page[i], want, len))
			abort(); /* also in threads, where cmocka cannot fail */
	}
	if (seen != got)
		abort();
	return got;
}

static struct s3c_cache_stats stats_of(struct s3c_cache *cache)
{
	struct s3c_cache_stats stats;

	s3c_cache_stats(cache, &stats);
	return stats;
}

static void sql(struct fixture *f, const char *text)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(f->db, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", text, sqlite3_errmsg(db));
	sqlite3_close(db);
}

static void test_chunks(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache = open_cache(f);
	static const uint32_t lens[] = { 1, 17, 4096, 65535, 65536 };
	uint8_t id[S3C_CACHE_ID_LEN];

	for (unsigned i = 0; i < ARRAY_LEN(lens); i++)
		assert_true(write_chunk(cache, 10 + i, UINT64_C(1) << 40, lens[i]));
	write_file(cache, 1, 100);
	s3c_cache_flush(cache);
	for (int again = 0; again < 2; again++) {
		for (unsigned i = 0; i < ARRAY_LEN(lens); i++)
			assert_int_equal(read_chunks(cache, 10 + i, UINT64_C(1) << 40, 1, lens[i]),
					 1);
		assert_int_equal(read_chunks(cache, 1, 0, 64, S3C_CACHE_CHUNK), 64);
		assert_int_equal(read_chunks(cache, 1, 60, 64, S3C_CACHE_CHUNK), 40);
		assert_int_equal(read_chunks(cache, 1, 31, 2, S3C_CACHE_CHUNK), 2);
		assert_int_equal(read_chunks(cache, 2, 0, 64, S3C_CACHE_CHUNK), 0);
		make_id(id, 1);
		assert_int_equal(s3c_cache_count(cache, id, 0, 1000), 100);
		assert_int_equal(s3c_cache_count(cache, id, 99, 7), 1);
		assert_int_equal(s3c_cache_count(cache, id, 40, 20), 20);
		assert_int_equal(s3c_cache_count(cache, id, 0, 32), 32);
		assert_int_equal(stats_of(cache).chunks, 100 + ARRAY_LEN(lens));
		cache = open_cache(f);
	}
	assert_int_equal(stats_of(cache).damaged, 0);
	assert_false(write_chunk(cache, 1, 0, 0));
	/* Of another length than asked for: not this chunk, and gone. */
	assert_int_equal(read_chunks(cache, 10, UINT64_C(1) << 40, 1, 2), 0);
	s3c_cache_flush(cache);
	assert_int_equal(read_chunks(cache, 10, UINT64_C(1) << 40, 1, 1), 0);
	assert_true(write_chunk(cache, 10, UINT64_C(1) << 40, 1));
	s3c_cache_flush(cache);
	assert_int_equal(read_chunks(cache, 10, UINT64_C(1) << 40, 1, 1), 1);
	s3c_cache_close(NULL);
}

static void test_not_asked_for(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache = open_cache(f);
	static uint8_t page[S3C_CACHE_CHUNK], want[S3C_CACHE_CHUNK];
	uint8_t *pages[3] = { NULL, page, NULL }, id[S3C_CACHE_ID_LEN];
	const uint32_t lens[3] = { S3C_CACHE_CHUNK, S3C_CACHE_CHUNK, S3C_CACHE_CHUNK };
	bool have[3];

	write_file(cache, 1, 3);
	s3c_cache_flush(cache);
	make_id(id, 1);
	assert_int_equal(s3c_cache_read(cache, id, 0, 3, lens, pages, have), 1);
	assert_true(!have[0] && have[1] && !have[2]);
	make_chunk(want, 1, 1, S3C_CACHE_CHUNK);
	assert_memory_equal(page, want, S3C_CACHE_CHUNK);
}

static void assert_record(struct s3c_cache *cache, const char *name, const char *text)
{
	uint8_t *data = NULL;
	size_t len = 0;
	int r = s3c_cache_get(cache, S3C_CACHE_ENTRY, name, &data, &len);

	if (!text) {
		assert_int_equal(r, -ENOENT);
		assert_null(data);
		return;
	}
	assert_int_equal(r, 0);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(data, text, len);
	free(data);
}

static bool put(struct s3c_cache *cache, const char *name, const char *text)
{
	return s3c_cache_put(cache, S3C_CACHE_ENTRY, name, text, text ? strlen(text) : 0);
}

static void test_records(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache = open_cache(f);
	uint8_t *large = calloc(1, MIB + 1), *data;
	char *name = calloc(1, 5000);
	size_t len;

	memset(name, 'n', 4999);
	for (int flush = 0; flush < 2; flush++) {
		assert_true(put(cache, "a/b", "one"));
		assert_true(put(cache, "a/b", "two"));
		assert_true(put(cache, name, "long"));
		assert_true(put(cache, "a/", ""));
		assert_true(put(cache, "gone", "x"));
		assert_true(put(cache, "gone", NULL));
		assert_true(s3c_cache_put(cache, S3C_CACHE_LISTING, "a/b", large, MIB));
		if (flush)
			s3c_cache_flush(cache);
		assert_record(cache, "a/b", "two");
		assert_record(cache, name, "long");
		assert_record(cache, "a/", "");
		assert_record(cache, "gone", NULL);
		assert_record(cache, "other", NULL);
		assert_int_equal(s3c_cache_get(cache, S3C_CACHE_LISTING, "a/b", &data, &len), 0);
		assert_int_equal(len, MIB);
		assert_memory_equal(data, large, MIB);
		free(data);
	}
	cache = open_cache(f);
	assert_record(cache, "a/b", "two");
	assert_record(cache, name, "long");
	/* Too large to be kept: what was there before must not be found either. */
	assert_false(s3c_cache_put(cache, S3C_CACHE_ENTRY, "a/b", large, MIB + 1));
	assert_record(cache, "a/b", NULL);
	cache = open_cache(f);
	assert_record(cache, "a/b", NULL);
	free(large);
	free(name);
}

/* A queue that is full drops, and never leaves a record of before to be found. */
static void test_dropped(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache;
	static uint8_t data[400 << 10];
	unsigned refused = 0;

	f->tuning.queue_max = MIB;
	cache = open_cache(f);
	assert_true(put(cache, "x", "old"));
	s3c_cache_flush(cache);
	for (int i = 0; i < 200 && !refused; i++) {
		refused += !s3c_cache_put(cache, S3C_CACHE_LISTING, "big", data, sizeof(data));
		refused += !s3c_cache_put(cache, S3C_CACHE_ENTRY, "x", data, sizeof(data));
		if (refused && !put(cache, "x", NULL))
			assert_record(cache, "x", NULL);
	}
	for (unsigned i = 0; i < 2000; i++)
		write_chunk(cache, 1, i, S3C_CACHE_CHUNK);
	s3c_cache_flush(cache);
	assert_true(stats_of(cache).dropped > 0);
	assert_int_equal(stats_of(cache).inserts + stats_of(cache).dropped - refused, 2000);
}

static void test_wrong_key(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache = open_cache(f), *none = NULL;
	struct s3c_err err = { 0 };

	write_file(cache, 1, 40);
	put(cache, "a", "one");
	close_cache(f);
	f->config.wrap_key = key_two;
	assert_int_equal(s3c_cache_open(&f->config, &err, &none), -EKEYREJECTED);
	assert_non_null(strstr(err.text, "another cache_dir"));
	err.text[0] = '\0';
	f->config.key = S3C_CACHE_KEY_FILE;
	assert_int_equal(s3c_cache_open(&f->config, &err, &none), -EKEYREJECTED);
	assert_null(none);
	f->config.key = S3C_CACHE_KEY_WRAPPED;
	f->config.wrap_key = key_one;
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 0, 40, S3C_CACHE_CHUNK), 40);
	assert_record(cache, "a", "one");
}

static void test_key_file(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache;
	char path[100];
	struct stat st;

	f->config.key = S3C_CACHE_KEY_FILE;
	snprintf(path, sizeof(path), "%s/cache.key", f->cache);
	cache = open_cache(f);
	write_file(cache, 1, 3);
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 3);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 32);
	assert_int_equal(stat(f->db, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(stat(f->cache, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	close_cache(f);
	/* Open to others, then gone: what it opened is begun anew. */
	assert_int_equal(chmod(path, 0644), 0);
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 0);
	write_file(cache, 1, 3);
	close_cache(f);
	assert_int_equal(unlink(path), 0);
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 0);
	write_file(cache, 1, 3);
	s3c_cache_flush(cache);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 3);
}

static void test_ephemeral(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache = open_cache(f);
	struct stat st;

	write_file(cache, 1, 3);
	close_cache(f);
	f->config.key = S3C_CACHE_KEY_EPHEMERAL;
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 0);
	write_file(cache, 2, 3);
	s3c_cache_flush(cache);
	assert_int_equal(read_chunks(cache, 2, 0, 3, S3C_CACHE_CHUNK), 3);
	close_cache(f);
	assert_int_equal(stat(f->db, &st), -1);
	f->config.key = S3C_CACHE_KEY_WRAPPED;
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 0);
}

static void test_busy(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *second = NULL;
	struct s3c_err err = { 0 };
	char pid[32];

	open_cache(f);
	snprintf(pid, sizeof(pid), "process %ld:", (long)getpid());
	assert_int_equal(s3c_cache_open(&f->config, &err, &second), -EBUSY);
	assert_null(second);
	assert_non_null(strstr(err.text, pid));
	assert_non_null(strstr(err.text, "unmount"));
}

/* Overwrites bytes of the file every `step`. */
static void scribble(struct fixture *f, off_t from, off_t step)
{
	int fd = open(f->db, O_RDWR);
	struct stat st;

	/* After damage twice in a minute there is none for a while. */
	if (fd < 0 && errno == ENOENT)
		return;
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	for (off_t at = from; at < st.st_size; at += step)
		assert_int_equal(pwrite(fd, "\x5a\xa5\x5a\xa5\x5a\xa5\x5a", 7, at), 7);
	close(fd);
}

static void test_damaged_rows(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache = open_cache(f);
	unsigned got;

	write_file(cache, 1, 64);
	put(cache, "a", "one");
	s3c_cache_flush(cache);
	close_cache(f);
	sql(f, "UPDATE chunk SET value = CAST(substr(value, 1, 5000) || x'00ff00ff' || "
	       "substr(value, 5005) AS BLOB) WHERE id % 32 = 7;"
	       "DELETE FROM chunk WHERE id % 32 = 9;"
	       "UPDATE chunk SET value = substr(value, 1, 20) WHERE id % 32 = 11;"
	       "UPDATE record SET value = CAST(substr(value, 1, 14) || x'ffffff' || "
	       "substr(value, 18) AS BLOB);");
	cache = open_cache(f);
	assert_record(cache, "a", NULL);
	assert_int_equal(read_chunks(cache, 1, 0, 64, S3C_CACHE_CHUNK), 58);
	s3c_cache_flush(cache);
	assert_int_equal(stats_of(cache).damaged, 5);
	assert_int_equal(read_chunks(cache, 1, 0, 64, S3C_CACHE_CHUNK), 58);
	assert_int_equal(stats_of(cache).damaged, 5);
	write_file(cache, 1, 64);
	s3c_cache_flush(cache);
	assert_int_equal(read_chunks(cache, 1, 0, 64, S3C_CACHE_CHUNK), 64);
	/* A chunk in another's place. */
	close_cache(f);
	sql(f,
	    "UPDATE chunk SET value = (SELECT value FROM chunk c WHERE c.id = 33) WHERE id = 34");
	cache = open_cache(f);
	got = read_chunks(cache, 1, 0, 64, S3C_CACHE_CHUNK);
	assert_int_equal(got, 63);
}

/* Damage anywhere in the file, found at open or later: never a wrong byte, and it goes on. */
static void test_damaged_file(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache;

	for (unsigned round = 0; round < 24; round++) {
		cache = open_cache(f);
		write_file(cache, round, 200);
		for (unsigned i = 0; i < 50; i++) {
			char name[32];

			snprintf(name, sizeof(name), "dir/%u", i);
			put(cache, name, "value");
		}
		s3c_cache_flush(cache);
		if (round % 2)
			close_cache(f); /* else under a running cache */
		scribble(f, round == 3 ? 0 : 100 + 977 * round, 5000 + 3571 * (off_t)round);
		if (round % 2)
			cache = open_cache(f);
		for (unsigned i = 0; i < 200; i += 50)
			read_chunks(cache, round, i, 50, S3C_CACHE_CHUNK);
		write_file(cache, round + 1000, 100);
		s3c_cache_flush(cache);
		read_chunks(cache, round + 1000, 0, 64, S3C_CACHE_CHUNK);
		read_chunks(cache, round + 1000, 64, 36, S3C_CACHE_CHUNK);
		s3c_cache_flush(cache);
	}
	close_cache(f);
	assert_int_equal(unlink(f->db), 0);
	cache = open_cache(f);
	write_file(cache, 1, 64);
	s3c_cache_flush(cache);
	assert_int_equal(read_chunks(cache, 1, 0, 64, S3C_CACHE_CHUNK), 64);
}

static void test_truncated(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache;
	struct stat st;

	for (int round = 0; round < 4; round++) {
		cache = open_cache(f);
		write_file(cache, 1, 200);
		s3c_cache_flush(cache);
		if (round < 3)
			close_cache(f);
		assert_int_equal(stat(f->db, &st), 0);
		assert_int_equal(truncate(f->db, round ? st.st_size / 2 : 50), 0);
		if (round == 2)
			assert_int_equal(truncate(f->db, 0), 0);
		if (round < 3)
			cache = open_cache(f);
		for (unsigned i = 0; i < 200; i += 50)
			read_chunks(cache, 1, i, 50, S3C_CACHE_CHUNK);
		s3c_cache_flush(cache);
		s3c_cache_flush(cache);
		write_file(cache, 2, 64);
		s3c_cache_flush(cache);
		assert_int_equal(read_chunks(cache, 2, 0, 64, S3C_CACHE_CHUNK), 64);
		close_cache(f);
		unlink(f->db);
	}
}

static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void test_foreign(void **state)
{
	struct fixture *f = *state;
	char aside[100], text[32] = "";
	struct s3c_cache *cache;
	sqlite3 *db;
	FILE *file;

	assert_int_equal(mkdir(f->cache, 0700), 0);
	snprintf(aside, sizeof(aside), "%s.aside", f->db);
	write_text(f->db, "no database");
	cache = open_cache(f);
	write_file(cache, 1, 3);
	s3c_cache_flush(cache);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 3);
	file = fopen(aside, "r");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	assert_string_equal(text, "no database");
	fclose(file);
	close_cache(f);

	assert_int_equal(unlink(f->db), 0);
	sql(f, "CREATE TABLE mine (x); INSERT INTO mine VALUES (1)");
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 0);
	assert_int_equal(sqlite3_open(aside, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "SELECT x FROM mine", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	write_file(cache, 1, 3);
	close_cache(f);

	sql(f, "PRAGMA user_version = 999");
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 0);
	write_file(cache, 1, 3);
	close_cache(f);
	/* A table is missing. */
	sql(f, "DROP TABLE run");
	cache = open_cache(f);
	write_file(cache, 1, 3);
	s3c_cache_flush(cache);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 3);
}

/* Open when the machine stopped: not to be believed. kill -9 in the same boot: kept. */
static void test_boot(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache;
	char lock[100];
	int status;
	pid_t pid;

	snprintf(lock, sizeof(lock), "%s/cache.lock", f->cache);
	cache = open_cache(f);
	write_file(cache, 1, 3);
	close_cache(f);
	write_text(lock, "12\nanother-boot\nclosed\n");
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 3);
	close_cache(f);
	write_text(lock, "12\nanother-boot\nopen\n");
	f->config.wrap_key = key_two; /* whoever may not open it does not drop it */
	struct s3c_err err = { 0 };
	struct s3c_cache *none = NULL;
	assert_int_equal(s3c_cache_open(&f->config, &err, &none), -EKEYREJECTED);
	f->config.wrap_key = key_one;
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 0, 3, S3C_CACHE_CHUNK), 0);
	close_cache(f);

	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		cache = open_cache(f);
		write_file(cache, 1, 40);
		put(cache, "a", "one");
		s3c_cache_flush(cache);
		_exit(0); /* closes nothing */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 0, 40, S3C_CACHE_CHUNK), 40);
	assert_record(cache, "a", "one");
}

static uint64_t files_size(struct fixture *f)
{
	static const char *const ends[] = { "", "-wal" };
	uint64_t bytes = 0;

	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		char path[100];
		struct stat st;

		snprintf(path, sizeof(path), "%s%s", f->db, ends[i]);
		if (stat(path, &st) == 0)
			bytes += (uint64_t)st.st_size;
	}
	return bytes;
}

static void test_limit(void **state)
{
	static const struct {
		uint32_t mib;
		unsigned page_size;
	} cases[] = { { 4, 0 }, { 16, 0 }, { 64, 0 }, { 48, 65536 } };
	struct fixture *f = *state;

	for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
		unsigned files = cases[c].mib * 3, hot = cases[c].mib < 32 ? 1 : 2;
		uint8_t id[S3C_CACHE_ID_LEN];
		uint64_t largest = 0;
		struct s3c_cache *cache;

		f->config.size = (uint64_t)cases[c].mib * MIB;
		f->tuning.page_size = cases[c].page_size;
		cache = open_cache(f);
		for (unsigned i = 0; i < hot; i++)
			write_file(cache, 9000 + i, 16);
		/* Files of 1 MiB, three times the limit; a few old ones are read all the time. */
		for (unsigned i = 0; i < files; i++) {
			char name[32];

			write_file(cache, i, 16);
			snprintf(name, sizeof(name), "folder/%u", i);
			put(cache, name, "record");
			s3c_cache_flush(cache);
			for (unsigned h = 0; h < hot; h++)
				assert_int_equal(
					read_chunks(cache, 9000 + h, 0, 16, S3C_CACHE_CHUNK), 16);
			largest = S3C_MAX(largest, files_size(f));
			assert_true(files_size(f) <= f->config.size);
			/* Not read, which would make it as young as those. */
			make_id(id, i);
			assert_int_equal(s3c_cache_count(cache, id, 0, 16), 16);
		}
		assert_true(stats_of(cache).evicted > 0);
		assert_int_equal(read_chunks(cache, 0, 0, 16, S3C_CACHE_CHUNK), 0);
		assert_record(cache, "folder/0", NULL);
		/* It is filled, not just kept small. */
		assert_true(stats_of(cache).chunks * S3C_CACHE_CHUNK > f->config.size * 2 / 5);
		assert_true(largest > f->config.size * 3 / 5);
		assert_true(stats_of(cache).bytes <= stats_of(cache).limit);
		close_cache(f);
		unlink(f->db);
	}
}

/* A reader that never ends a transaction would hold the WAL for ever; many that overlap may not. */
static void *reader_main(void *arg)
{
	struct fixture *f = arg;
	unsigned seed = (unsigned)(uintptr_t)&seed;

	while (!__atomic_load_n(&f->config.wrap_key, __ATOMIC_ACQUIRE))
		read_chunks(f->open, (unsigned)rand_r(&seed) % 48, (unsigned)rand_r(&seed) % 16, 16,
			    S3C_CACHE_CHUNK);
	return NULL;
}

static void test_threads(void **state)
{
	struct fixture *f = *state;
	const uint8_t *wrap_key;
	struct s3c_cache *cache;
	pthread_t threads[4];

	f->config.size = 24 * MIB;
	cache = open_cache(f);
	wrap_key = f->config.wrap_key;
	f->config.wrap_key = NULL;
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(s3c_thread_start(&threads[i], "reader", reader_main, f), 0);
	for (unsigned round = 0; round < 4; round++)
		for (unsigned i = 0; i < 48; i++) {
			uint8_t id[S3C_CACHE_ID_LEN];
			char name[32];

			snprintf(name, sizeof(name), "f/%u", i);
			put(cache, name, name);
			for (unsigned k = 0; k < 32; k++)
				write_chunk(cache, i, k, S3C_CACHE_CHUNK);
			assert_record(cache, name, name);
			assert_true(files_size(f) <= f->config.size);
			make_id(id, i / 2);
			if (i % 8 == 0)
				s3c_cache_forget(cache, id);
			s3c_cache_count(cache, id, 0, 64);
		}
	/* And a database that is lost under all of them. */
	scribble(f, 0, 4096);
	for (unsigned i = 0; i < 48; i++)
		for (unsigned k = 0; k < 32; k++)
			write_chunk(cache, i, k, S3C_CACHE_CHUNK);
	s3c_cache_flush(cache);
	__atomic_store_n(&f->config.wrap_key, wrap_key, __ATOMIC_RELEASE);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	assert_true(stats_of(cache).hits > 0);
}

static void test_forget(void **state)
{
	struct fixture *f = *state;
	uint8_t id[S3C_CACHE_ID_LEN];
	struct s3c_cache *cache;
	unsigned kept = 0;

	f->config.size = 16 * MIB;
	cache = open_cache(f);
	write_file(cache, 1, 64); /* older than what is forgotten */
	write_file(cache, 2, 64);
	s3c_cache_flush(cache);
	make_id(id, 2);
	s3c_cache_forget(cache, id);
	s3c_cache_flush(cache);
	for (unsigned i = 0; i < 6; i++)
		write_file(cache, 10 + i, 16);
	s3c_cache_flush(cache);
	assert_true(s3c_cache_count(cache, id, 0, 64) < 64);
	kept = read_chunks(cache, 1, 0, 64, S3C_CACHE_CHUNK);
	assert_int_equal(kept, 64);
}

/* A lowered limit: it is smaller from the opening on. */
static void test_lowered(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache = open_cache(f);

	write_file(cache, 1, 600);
	s3c_cache_flush(cache);
	close_cache(f);
	f->config.size = 128 * MIB;
	cache = open_cache(f);
	assert_int_equal(read_chunks(cache, 1, 536, 64, S3C_CACHE_CHUNK), 64);
	close_cache(f);
	f->config.size = 8 * MIB;
	cache = open_cache(f);
	assert_true(files_size(f) <= 8 * MIB);
	write_file(cache, 1, 32);
	s3c_cache_flush(cache);
	assert_int_equal(read_chunks(cache, 1, 0, 32, S3C_CACHE_CHUNK), 32);
	close_cache(f);
	f->config.size = 1000;
	cache = open_cache(f);
	assert_false(write_chunk(cache, 1, 0, 100));
	assert_int_equal(read_chunks(cache, 1, 0, 1, S3C_CACHE_CHUNK), 0);
	assert_record(cache, "a", NULL);
	s3c_cache_flush(cache);
}

static bool holds(const char *path, const char *text)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	uint8_t *data;
	bool found;

	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	data = malloc((size_t)st.st_size + 1);
	assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
	found = memmem(data, (size_t)st.st_size, text, strlen(text)) != NULL;
	free(data);
	close(fd);
	return found;
}

static void test_no_plaintext(void **state)
{
	struct fixture *f = *state;
	unsigned files = 0;
	struct s3c_cache *cache;

	f->config.size = 16 * MIB;
	cache = open_cache(f);
	for (unsigned i = 0; i < 40; i++) {
		char name[64];

		write_file(cache, i, 16);
		snprintf(name, sizeof(name), "MARKER-DIR/MARKER-NAME%u", i);
		put(cache, name, "record " MARKER);
	}
	for (int closed = 0; closed < 2; closed++) {
		struct dirent *entry;
		DIR *dir;

		s3c_cache_flush(cache);
		if (closed)
			close_cache(f);
		dir = opendir(f->cache);
		while ((entry = readdir(dir))) {
			char path[400];

			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", f->cache, entry->d_name);
			files++;
			assert_false(holds(path, MARKER));
			assert_false(holds(path, "MARKER-"));
		}
		closedir(dir);
	}
	assert_true(files >= 6); /* database, WAL, shm, lock; database, lock */
}

static void test_unusable_folder(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache;

	f->tuning.retry_ns = 100 * S3C_NSEC_PER_MSEC;
	write_text(f->cache, "a file where the folder should be");
	cache = open_cache(f);
	assert_false(write_chunk(cache, 1, 0, 100));
	assert_false(put(cache, "a", "one"));
	assert_record(cache, "a", NULL);
	s3c_cache_flush(cache);
	assert_int_equal(stats_of(cache).bytes, 0);
	assert_int_equal(unlink(f->cache), 0);
	for (int i = 0; i < 100 && !write_chunk(cache, 1, 0, 100); i++)
		usleep(50000);
	s3c_cache_flush(cache);
	assert_int_equal(read_chunks(cache, 1, 0, 1, 100), 1);
}

static void test_full_disk(void **state)
{
	struct fixture *f = *state;
	struct s3c_cache *cache;
	char ballast[100];
	unsigned got;

	assert_int_equal(mkdir(f->cache, 0700), 0);
	if (mount("tmpfs", f->cache, "tmpfs", 0, "size=8m") < 0) {
		print_message("# no right to mount a tmpfs: skipped\n");
		skip();
	}
	snprintf(ballast, sizeof(ballast), "%s/ballast", f->cache);
	f->tuning.retry_ns = 100 * S3C_NSEC_PER_MSEC;
	f->config.size = 40 * MIB;
	cache = open_cache(f);
	put(cache, "a", "one");
	write_file(cache, 1, 8);
	s3c_cache_flush(cache);
	assert_record(cache, "a", "one");
	for (unsigned i = 0; i < 800; i++)
		write_chunk(cache, 2 + i / 16, i % 16, S3C_CACHE_CHUNK);
	s3c_cache_flush(cache);
	put(cache, "a", "two"); /* may be lost; "one" may not come back */
	s3c_cache_flush(cache);
	uint8_t *data = NULL;
	size_t len;
	if (s3c_cache_get(cache, S3C_CACHE_ENTRY, "a", &data, &len) == 0)
		assert_memory_equal(data, "two", 3);
	free(data);
	assert_true(stats_of(cache).dropped > 0);
	got = read_chunks(cache, 1, 0, 8, S3C_CACHE_CHUNK);
	assert_true(got == 8 || got == 0);
	close_cache(f);

	/* Full before it is opened; then there is room. */
	unlink(f->db);
	int fd = open(ballast, O_WRONLY | O_CREAT, 0600);
	static const uint8_t zeros[65536];
	while (write(fd, zeros, sizeof(zeros)) > 0)
		;
	close(fd);
	cache = open_cache(f);
	write_chunk(cache, 1, 0, S3C_CACHE_CHUNK);
	s3c_cache_flush(cache);
	read_chunks(cache, 1, 0, 1, S3C_CACHE_CHUNK);
	assert_int_equal(unlink(ballast), 0);
	got = 0;
	for (int i = 0; i < 100 && !got; i++) {
		usleep(50000);
		write_chunk(cache, 1, 0, S3C_CACHE_CHUNK);
		s3c_cache_flush(cache);
		got = read_chunks(cache, 1, 0, 1, S3C_CACHE_CHUNK);
	}
	assert_int_equal(got, 1);
	close_cache(f);
	assert_int_equal(umount(f->cache), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_chunks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_asked_for, setup, teardown),
		cmocka_unit_test_setup_teardown(test_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_key_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ephemeral, setup, teardown),
		cmocka_unit_test_setup_teardown(test_busy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_foreign, setup, teardown),
		cmocka_unit_test_setup_teardown(test_boot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lowered, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_plaintext, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unusable_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
	};

	if (s3c_secret_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
