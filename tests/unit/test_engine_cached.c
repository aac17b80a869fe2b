/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Contents and entries out of the cache database: which requests they save, and what is never
   served from it. */
#include "engine_fixture.h"

#include <stdlib.h>

#include "base/secret.h"

#define SEG ((size_t)S3C_SEGMENT_SIZE)
#define KIB ((size_t)1024)

static const struct s3c_attrs made_attrs = { .known = true, .mode = S_IFREG | 0644 };

static uint8_t *pattern(size_t len, unsigned seed)
{
	uint8_t *data = malloc(len + 1);

	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)((i * 167 + (i >> 8) * 13 + (i >> 16) * 71 + seed * 29) ^
				    (i >> 23));
	return data;
}

static void put(struct fx *fx, const char *path, const uint8_t *data, size_t len)
{
	struct s3c_object *object;

	assert_int_equal(s3c_object_create(fx->engine, NULL, path, &made_attrs, &object), 0);
	for (size_t at = 0; at < len; at += 1u << 20)
		assert_int_equal(s3c_object_write(object, NULL, at, data + at,
						  S3C_MIN(len - at, (size_t)1 << 20), false),
				 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
}

static void get(struct fx *fx, const char *path, const uint8_t *expect, size_t len)
{
	struct s3c_readahead ra = { 0 };
	struct s3c_object *object;
	struct s3c_info info;

	assert_int_equal(s3c_object_open(fx->engine, NULL, path, &object), 0);
	s3c_object_info(object, &info);
	assert_int_equal(info.size, len);
	for (size_t at = 0; at < len;) {
		struct s3c_pages pages;
		size_t part = S3C_MIN(len - at, (size_t)128 * KIB);

		assert_int_equal(s3c_object_read(object, NULL, at, part, &ra, &pages), 0);
		for (unsigned i = 0; i < pages.count; i++) {
			if (memcmp(pages.iov[i].iov_base, expect + at, pages.iov[i].iov_len) != 0)
				fail_msg("%s: wrong bytes at %zu", path, at);
			at += pages.iov[i].iov_len;
		}
		s3c_pages_release(fx->engine, &pages);
	}
	s3c_object_close(object);
}

/* Another daemon with the same folders, or with those of another machine. */
static void again(struct fx *fx, struct fx_options *o)
{
	static char dir[sizeof(fx->dir)];

	strcpy(dir, fx->dir);
	if (fx->cache)
		s3c_cache_flush(fx->cache);
	fx_stop(fx);
	o->dir = dir;
	fx_open(fx, o);
	fx_start(fx, o);
	fx_requests(fx);
}

static void run(enum s3c_enc enc)
{
	struct fx_options o = { .enc = enc, .cache = true };
	struct fx_options other = { .enc = enc, .state = "other" };
	size_t big = 2 * SEG + 300 * KIB;
	cleanup_free uint8_t *data = pattern(big, 1);
	cleanup_free uint8_t *small = pattern(300 * KIB, 2);
	struct s3c_cache_stats stats;
	struct s3c_object *object;
	struct fx fx;

	fx_open(&fx, &o);
	fx_start(&fx, &o);
	put(&fx, "big", data, big);
	put(&fx, "small", small, 300 * KIB);
	/* Sealed content was kept when it was written, a plain version is known whole after a look
	   only; and a writer that is behind drops what comes. */
	for (int tries = 0; tries < 20; tries++) {
		again(&fx, &o);
		get(&fx, "big", data, big);
		get(&fx, "small", small, 300 * KIB);
		s3c_cache_stats(fx.cache, &stats);
		if (stats.hits >= (big + 300 * KIB) / S3C_CHUNK_SIZE - 2)
			break;
	}
	assert_true(stats.hits >= (big + 300 * KIB) / S3C_CHUNK_SIZE - 2);
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_GET) <= 6, 1);
	/* Somebody else changes both: none of the old bytes shows. */
	again(&fx, &other);
	memcpy(data + SEG + 77, "changed", 7);
	memcpy(small, "new", 3);
	assert_int_equal(s3c_object_open(fx.engine, NULL, "big", &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, SEG + 77, "changed", 7, false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	assert_int_equal(s3c_object_open(fx.engine, NULL, "small", &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, "new", 3, false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	again(&fx, &o);
	get(&fx, "big", data, big);
	get(&fx, "small", small, 300 * KIB);
	fx_end(&fx);
}

static void test_sealed(void **state)
{
	(void)state;
	run(S3C_ENC_CSE_KEY);
}

static void test_plain(void **state)
{
	(void)state;
	run(S3C_ENC_NONE);
}

/* Of a large file that is changed at one place the other segments stay warm. */
static void test_other_segments_stay(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .cache = true };
	size_t big = 4 * SEG;
	cleanup_free uint8_t *data = pattern(big, 3);
	struct s3c_cache_stats before, after;
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	put(&fx, "big", data, big);
	/* Until the writer of the cache has not dropped any. */
	for (int tries = 0; tries < 20; tries++) {
		again(&fx, &o);
		s3c_cache_stats(fx.cache, &before);
		get(&fx, "big", data, big);
		s3c_cache_stats(fx.cache, &after);
		if (after.hits - before.hits >= big / S3C_CHUNK_SIZE)
			break;
	}
	again(&fx, &o);
	assert_int_equal(s3c_object_open(fx.engine, NULL, "big", &object), 0);
	data[SEG + 5] ^= 1;
	assert_int_equal(s3c_object_write(object, NULL, SEG + 5, data + SEG + 5, 1, false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	again(&fx, &o);
	s3c_cache_stats(fx.cache, &before);
	get(&fx, "big", data, big);
	s3c_cache_stats(fx.cache, &after);
	/* Of the changed segment some may have been dropped. */
	assert_true(after.hits - before.hits >= 3 * S3C_SEGMENT_CHUNKS);
	fx_end(&fx);
}

/* Attributes after a restart: one LIST of the directory, none of each file. */
static void test_entries(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .cache = true };
	cleanup_free uint8_t *data = pattern(1000, 4);
	struct s3c_listing *list;
	struct s3c_info info;
	char name[32];
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "f%02d", i);
		put(&fx, name, data, 100 + (size_t)i);
	}
	sleep(3);
	for (int round = 0; round < 3; round++) {
		again(&fx, &o);
		assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &list), 0);
		assert_int_equal(list->count, 40);
		for (size_t i = 0; i < list->count; i++) {
			assert_int_equal(
				s3c_engine_lookup(fx.engine, NULL, list->items[i].name, &info), 0);
			assert_int_equal(info.size, 100 + i);
			assert_int_equal(info.mode, S_IFREG | 0644);
		}
		s3c_listing_put(list);
		if (round > 0)
			assert_string_equal(fx_requests(&fx), "LIST 1");
	}
	/* Somebody else changed one: it shows, and only that one is asked for. */
	o.state = "other";
	o.cache = false;
	again(&fx, &o);
	assert_int_equal(s3c_engine_setattr(fx.engine, NULL, "f07", NULL, S3C_SET_MODE,
					    &(struct s3c_attrs){ .mode = 0600 }, &info),
			 0);
	o.state = NULL;
	o.cache = true;
	again(&fx, &o);
	assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &list), 0);
	s3c_listing_put(list);
	assert_int_equal(s3c_engine_lookup(fx.engine, NULL, "f06", &info), 0);
	assert_string_equal(fx_requests(&fx), "LIST 1");
	assert_int_equal(s3c_engine_lookup(fx.engine, NULL, "f07", &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0600);
	fx_end(&fx);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_other_segments_stay),
		cmocka_unit_test(test_entries),
	};

	assert_int_equal(s3c_secret_init(), 0);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
