/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine_fixture.h"

#include <pthread.h>

#include "engine/content.h"

#define CHUNK ((size_t)S3C_CHUNK_SIZE)
#define SEG ((size_t)S3C_SEGMENT_SIZE)
#define MIB ((size_t)1 << 20)

static const struct s3c_attrs new_attrs = {
	.known = true, .mode = S_IFREG | 0644, .uid = 1, .gid = 2
};

static uint64_t rng_state = 1;
static uint64_t rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

/* Bytes that tell where they belong. */
static void fill(uint8_t *data, uint64_t offset, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		uint64_t at = offset + i;

		data[i] = (uint8_t)((at * 167 + (at >> 8) * 13 + (at >> 16) * 71 + seed * 29) ^
				    (at >> 23));
	}
}

static uint8_t *pattern(size_t len, unsigned seed)
{
	uint8_t *data = malloc(len + 1);

	assert_non_null(data);
	fill(data, 0, len, seed);
	return data;
}

static void check(struct fx *fx)
{
	char why[256] = "";

	if (s3c_objects_check(fx->engine, why, sizeof(why)) < 0)
		fail_msg("%s", why);
}

static struct s3c_object *create(struct fx *fx, const char *path)
{
	struct s3c_object *object;

	assert_int_equal(s3c_object_create(fx->engine, NULL, path, &new_attrs, &object), 0);
	return object;
}

static struct s3c_object *open_path(struct fx *fx, const char *path)
{
	struct s3c_object *object;

	assert_int_equal(s3c_object_open(fx->engine, NULL, path, &object), 0);
	return object;
}

static void write_all(struct s3c_object *object, uint64_t offset, const uint8_t *data, size_t len,
		      size_t step)
{
	while (len) {
		size_t part = S3C_MIN(len, step);

		assert_int_equal(s3c_object_write(object, NULL, offset, data, part, false), 0);
		offset += part;
		data += part;
		len -= part;
	}
}

static void read_equal(struct fx *fx, struct s3c_object *object, uint64_t offset,
		       const uint8_t *expect, size_t len, struct s3c_readahead *ra)
{
	struct s3c_pages pages;
	size_t done = 0;

	assert_int_equal(s3c_object_read(object, NULL, offset, len, ra, &pages), 0);
	for (unsigned i = 0; i < pages.count; i++) {
		if (memcmp(pages.iov[i].iov_base, expect + done, pages.iov[i].iov_len) != 0)
			fail_msg("wrong bytes in [%ju, +%zu)", (uintmax_t)(offset + done),
				 pages.iov[i].iov_len);
		done += pages.iov[i].iov_len;
	}
	assert_int_equal(done, pages.len);
	assert_int_equal(pages.len, len);
	s3c_pages_release(fx->engine, &pages);
}

static void content_equal(struct fx *fx, struct s3c_object *object, const uint8_t *expect,
			  size_t len, size_t step)
{
	struct s3c_readahead ra = { 0 };
	struct s3c_pages pages;
	struct s3c_info info;

	s3c_object_info(object, &info);
	assert_int_equal(info.size, len);
	for (size_t at = 0; at < len; at += step)
		read_equal(fx, object, at, expect + at, S3C_MIN(step, len - at), &ra);
	assert_int_equal(s3c_object_read(object, NULL, len, 100, &ra, &pages), 0);
	assert_int_equal(pages.len, 0);
}

/* The same store with another engine, which knows nothing. */
static void reopen(struct fx *fx, struct fx_options *o)
{
	char dir[sizeof(fx->dir)];

	strcpy(dir, fx->dir);
	fx_stop(fx);
	o->dir = dir;
	fx_open(fx, o);
	fx_start(fx, o);
	o->dir = NULL;
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = {
		0,   1,       CHUNK - 1,   CHUNK,       CHUNK + 1, 2 * CHUNK,   SEG - 1,
		SEG, SEG + 1, SEG + CHUNK, 2 * SEG - 1, 2 * SEG,   2 * SEG + 1, 3 * SEG + 12345
	};
	static const enum s3c_enc modes[] = { S3C_ENC_CSE_KEY, S3C_ENC_NONE };
	cleanup_free uint8_t *data = pattern(4 * SEG, 1);

	(void)state;
	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		struct fx_options o = { .enc = modes[m] };
		struct fx fx;

		fx_open(&fx, &o);
		fx_start(&fx, &o);
		for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
			cleanup_free char *path = s3c_asprintf("f%u", i);
			struct s3c_object *object = create(&fx, path);

			write_all(object, 0, data, sizes[i], 131072);
			content_equal(&fx, object, data, sizes[i], MIB);
			assert_true(s3c_object_dirty(object));
			assert_int_equal(s3c_object_commit(object, NULL), 0);
			assert_false(s3c_object_dirty(object));
			check(&fx);
			content_equal(&fx, object, data, sizes[i], 100000);
			s3c_object_close(object);
		}
		reopen(&fx, &o);
		for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
			cleanup_free char *path = s3c_asprintf("f%u", i);
			struct s3c_object *object = open_path(&fx, path);

			content_equal(&fx, object, data, sizes[i], 131072);
			check(&fx);
			s3c_object_close(object);
		}
		fx_end(&fx);
	}
}

static void test_small_requests(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct s3c_listing *listing;
	struct s3c_object *object;
	struct s3c_pages pages;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &listing), 0);
	s3c_listing_put(listing);
	fx_requests(&fx);
	object = create(&fx, "a");
	write_all(object, 0, (const uint8_t *)"hello", 5, 5);
	assert_requests(&fx, "");
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_requests(&fx, "PUT 1");
	s3c_object_close(object);
	/* Warm: the closed object is still there. */
	object = open_path(&fx, "a");
	read_equal(&fx, object, 0, (const uint8_t *)"hello", 5, NULL);
	s3c_object_close(object);
	assert_requests(&fx, "");
	reopen(&fx, &o);
	assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &listing), 0);
	s3c_listing_put(listing);
	fx_requests(&fx);
	object = open_path(&fx, "a");
	assert_int_equal(s3c_object_read(object, S3C_NOWAIT, 0, 5, NULL, &pages), -EINPROGRESS);
	read_equal(&fx, object, 0, (const uint8_t *)"hello", 5, NULL);
	assert_requests(&fx, "GET 1");
	assert_int_equal(s3c_object_read(object, S3C_NOWAIT, 0, 5, NULL, &pages), 0);
	assert_int_equal(pages.len, 5);
	s3c_pages_release(fx.engine, &pages);
	s3c_object_close(object);
	fx_end(&fx);
}

static void test_sequential_and_random(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .memory = 256 * MIB };
	cleanup_free uint8_t *data = pattern(8 * SEG, 2);
	struct s3c_readahead ra = { 0 };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "big");
	write_all(object, 0, data, 8 * SEG, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "big");
	fx_requests(&fx);
	/* Random: one small GET each, and no more. */
	read_equal(&fx, object, 5 * SEG + 100000, data + 5 * SEG + 100000, 4096, &ra);
	assert_requests(&fx, "GET 1");
	read_equal(&fx, object, 2 * SEG + 300, data + 2 * SEG + 300, 4096, &ra);
	assert_requests(&fx, "GET 1");
	assert_true(fx.engine->objects->mem.used[S3C_PAGE_READ] <= 2);
	ra = (struct s3c_readahead){ 0 };
	/* In sequence: the first small, the second to the end of segment 1, with the two chunks
	   that are there already 8 more. */
	content_equal(&fx, object, data, 8 * SEG, 131072);
	assert_true(s3c_store_fault_count(fx.store, S3C_STORE_GET) - fx.seen[S3C_STORE_GET] <= 12);
	fx_requests(&fx);
	s3c_object_close(object);
	/* The kernel asks in order, threads take it out of order: still one sequence, in whole
	   segments from its start. */
	reopen(&fx, &o);
	object = open_path(&fx, "big");
	fx_requests(&fx);
	ra = (struct s3c_readahead){ 0 };
	read_equal(&fx, object, 0, data, MIB, &ra);
	for (size_t at = MIB; at + 3 * MIB <= 8 * SEG; at += 3 * MIB)
		for (unsigned i = 3; i-- > 0;)
			read_equal(&fx, object, at + i * MIB, data + at + i * MIB, MIB, &ra);
	assert_requests(&fx, "GET 8");
	s3c_object_close(object);
	fx_end(&fx);
}

static void test_sparse(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	cleanup_free uint8_t *data = pattern(CHUNK, 3);
	cleanup_free uint8_t *zero = calloc(1, CHUNK);
	uint64_t size = UINT64_C(1) << 40, at = (UINT64_C(1) << 39) + 12345;
	struct s3c_object *object;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "sparse");
	assert_int_equal(s3c_object_truncate(object, NULL, size), 0);
	assert_int_equal(s3c_object_write(object, NULL, at, data, CHUNK, false), 0);
	fx_requests(&fx);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_requests(&fx, "CREATE 1 PART 1 COMPLETE 1");
	s3c_object_info(object, &info);
	assert_true(info.stored <= 8 * MIB + 512 * 1024 + (UINT64_C(1) << 40) / SEG * 16 + 4096);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "sparse");
	read_equal(&fx, object, at, data, CHUNK, NULL);
	read_equal(&fx, object, 4096, zero, CHUNK, NULL);
	read_equal(&fx, object, size - 100, zero, 100, NULL);
	/* More of it, in another hole. */
	assert_int_equal(s3c_object_write(object, NULL, size - 150, data, 100, false), 0);
	fx_requests(&fx);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_requests(&fx, "CREATE 1 PART 1 PARTCOPY 1 COMPLETE 1");
	read_equal(&fx, object, at, data, CHUNK, NULL);
	read_equal(&fx, object, size - 150, data, 100, NULL);
	check(&fx);
	s3c_object_close(object);
	fx_end(&fx);
}

/* A salt belongs to one content of one segment. */
static void salts_equal(struct s3c_object *object, const uint8_t *before, unsigned changed,
			bool copied)
{
	const struct s3c_crypt *crypt = object->crypt;

	assert_non_null(crypt);
	for (unsigned i = 0; i < crypt->segments; i++) {
		bool same = memcmp(crypt->salts + i * S3C_SALT_LEN, before + i * S3C_SALT_LEN,
				   S3C_SALT_LEN) == 0;

		/* The last one is sent with the trailer. */
		assert_int_equal(same, copied && i != changed && i != crypt->segments - 1);
	}
}

static void test_partial(void **state)
{
	static const bool caps[] = { true, false };
	size_t size = 5 * SEG + 777;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(caps); i++) {
		struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .memory = 256 * MIB };
		cleanup_free uint8_t *data = pattern(size, 4);
		uint8_t before[6 * S3C_SALT_LEN];
		struct s3c_object *object;
		struct fx fx;

		fx_open(&fx, &o);
		fx_start(&fx, &o);
		object = create(&fx, "f");
		write_all(object, 0, data, size, MIB);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		s3c_object_close(object);
		reopen(&fx, &o);
		fx.store->caps.part_copy = caps[i];
		object = open_path(&fx, "f");
		fill(data + 2 * SEG + 5000, 1, 4096, 99);
		fx_requests(&fx);
		assert_int_equal(s3c_object_write(object, NULL, 2 * SEG + 5000,
						  data + 2 * SEG + 5000, 4096, false),
				 0);
		assert_requests(&fx, "GET 1");
		memcpy(before, object->crypt->salts, sizeof(before));
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		salts_equal(object, before, 2, caps[i]);
		/* The rest of the segment; the last one from the tail of the lookup. */
		if (caps[i])
			assert_requests(&fx, "GET 1 CREATE 1 PART 2 PARTCOPY 2 COMPLETE 1");
		check(&fx);
		s3c_object_close(object);
		reopen(&fx, &o);
		object = open_path(&fx, "f");
		content_equal(&fx, object, data, size, MIB);
		/* Growing over the end of a segment, shrinking into one. */
		assert_int_equal(s3c_object_truncate(object, NULL, 3 * SEG + 10), 0);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		assert_int_equal(s3c_object_truncate(object, NULL, size), 0);
		memset(data + 3 * SEG + 10, 0, size - 3 * SEG - 10);
		content_equal(&fx, object, data, size, MIB);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		content_equal(&fx, object, data, size, MIB);
		assert_int_equal(s3c_object_truncate(object, NULL, SEG), 0);
		fx_requests(&fx);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		s3c_object_close(object);
		reopen(&fx, &o);
		fx.store->caps.part_copy = caps[i];
		object = open_path(&fx, "f");
		content_equal(&fx, object, data, SEG, MIB);
		/* From one full segment to two: it is copied. */
		assert_int_equal(s3c_object_write(object, NULL, SEG, data, 5, false), 0);
		fx_requests(&fx);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		if (caps[i])
			assert_requests(&fx, "CREATE 1 PART 1 PARTCOPY 1 COMPLETE 1");
		s3c_object_close(object);
		reopen(&fx, &o);
		object = open_path(&fx, "f");
		memcpy(data + SEG, data, 5);
		content_equal(&fx, object, data, SEG + 5, MIB);
		s3c_object_close(object);
		fx_end(&fx);
	}
}

static void stream_test(enum s3c_enc enc, uint64_t memory, uint64_t cache_size, size_t size)
{
	struct fx_options o = { .enc = enc, .memory = memory, .cache_size = cache_size };
	cleanup_free uint8_t *data = pattern(size, 5);
	struct s3c_object *object;
	char expect[128];
	struct fx fx;

	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "stream");
	fx_requests(&fx);
	for (size_t at = 0; at < size; at += 131072) {
		size_t len = S3C_MIN(size - at, (size_t)131072);

		assert_int_equal(s3c_object_write(object, NULL, at, data + at, len, false), 0);
		if (at % (4 * MIB) == 0)
			check(&fx);
	}
	/* It begins by itself. */
	for (unsigned i = 0; s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_PART) == 0; i++) {
		assert_true(i < 10000);
		usleep(1000);
	}
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	/* Plain: mtime was fixed when it began, and is corrected. */
	snprintf(expect, sizeof(expect), "%sCREATE 1 PART %zu COMPLETE 1",
		 enc == S3C_ENC_NONE ? "COPY 1 " : "", DIV_ROUND_UP(size, SEG));
	assert_requests(&fx, expect);
	check(&fx);
	content_equal(&fx, object, data, size, MIB);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "stream");
	content_equal(&fx, object, data, size, MIB);
	s3c_object_close(object);
	fx_end(&fx);
}

static void test_stream(void **state)
{
	(void)state;
	stream_test(S3C_ENC_CSE_KEY, 16 * MIB, 512 * MIB, 100 * MIB + 5);
	stream_test(S3C_ENC_CSE_KEY, 512 * MIB, 512 * MIB, 40 * MIB);
	stream_test(S3C_ENC_NONE, 16 * MIB, 512 * MIB, 50 * MIB + 5);
	/* The spill file is far too small: sent chunks are dropped. */
	stream_test(S3C_ENC_CSE_KEY, 16 * MIB, 12 * MIB, 100 * MIB + 5);
}

/* What was streamed is written again, read, and cut. */
static void test_stream_changes(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	size_t size = 4 * SEG + 100;
	cleanup_free uint8_t *data = pattern(size, 6);
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "s");
	write_all(object, 0, data, size, MIB);
	fill(data + SEG + 10, 3, 1000, 44);
	assert_int_equal(s3c_object_write(object, NULL, SEG + 10, data + SEG + 10, 1000, false), 0);
	content_equal(&fx, object, data, size, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	content_equal(&fx, object, data, size, MIB);
	/* From the start again, over what is there. */
	fill(data, 7, 3 * SEG + 50, 45);
	write_all(object, 0, data, 3 * SEG + 50, MIB);
	content_equal(&fx, object, data, size, MIB);
	assert_int_equal(s3c_object_truncate(object, NULL, 2 * SEG + 9), 0);
	content_equal(&fx, object, data, 2 * SEG + 9, MIB);
	check(&fx);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	/* Emptied, and streamed again. */
	assert_int_equal(s3c_object_truncate(object, NULL, 0), 0);
	fill(data, 9, size, 46);
	write_all(object, 0, data, size, MIB);
	fx_requests(&fx);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "s");
	content_equal(&fx, object, data, size, MIB);
	s3c_object_close(object);
	fx_end(&fx);
}

/* Attributes that are set after a stream has begun are there at the end. */
static void test_stream_attrs(void **state)
{
	struct s3c_attrs attrs = { .mode = 0755, .mtime_ns = INT64_C(1234567890123456789) };
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	cleanup_free uint8_t *data = pattern(3 * SEG, 7);
	struct s3c_object *object;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "s");
	write_all(object, 0, data, 3 * SEG, MIB);
	while (s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_CREATE) == 0)
		usleep(1000);
	assert_true(s3c_object_fold_attrs(object, S3C_SET_MODE | S3C_SET_MTIME, &attrs));
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_info(object, &info);
	assert_int_equal(info.mode, S_IFREG | 0755);
	assert_int_equal(info.mtime_ns, attrs.mtime_ns);
	s3c_object_close(object);
	reopen(&fx, &o);
	assert_int_equal(s3c_engine_lookup(fx.engine, NULL, "s", &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0755);
	assert_int_equal(info.mtime_ns, attrs.mtime_ns);
	object = open_path(&fx, "s");
	content_equal(&fx, object, data, 3 * SEG, MIB);
	s3c_object_close(object);
	fx_end(&fx);
}

static bool due(struct s3c_object *object, uint64_t chunk, int64_t moved_ns)
{
	int64_t until_ns = 0;
	bool is;

	s3c_mutex_lock(&object->engine->lock);
	object->upload->moved_ns = s3c_clock_monotonic_ns() - moved_ns;
	is = s3c_stream_due(object, chunk, &until_ns);
	s3c_mutex_unlock(&object->engine->lock);
	return is && until_ns > s3c_clock_monotonic_ns() - S3C_NSEC_PER_SEC;
}

/* Memory is full: who waits for a stream that moves, and who does not wait for one that stands. */
static void test_stream_room(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .timeout_s = 100 };
	static const struct s3c_fault_rule stall = {
		.op = S3C_STORE_UPLOAD_PART,
		.kind = S3C_FAULT_STALL,
	};
	size_t size = 5 * SEG + 100;
	cleanup_free uint8_t *data = pattern(size, 46);
	struct s3c_engine_stats stats;
	struct s3c_object *object;
	struct fx fx;
	bool runs = false;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	s3c_store_fault_add(fx.store, &stall);
	object = create(&fx, "s");
	write_all(object, 0, data, 2 * SEG + MIB, MIB);
	for (unsigned i = 0; !runs; i++) {
		assert_true(i < 10000);
		usleep(1000);
		s3c_mutex_lock(&fx.engine->lock);
		runs = object->upload && object->upload->running;
		s3c_mutex_unlock(&fx.engine->lock);
	}
	assert_true(due(object, 0, 0));
	assert_true(due(object, S3C_SEGMENT_CHUNKS, 0));
	assert_false(due(object, 0, 2 * S3C_NSEC_PER_SEC));
	/* The writer is still there. */
	assert_false(due(object, 2 * S3C_SEGMENT_CHUNKS, 0));
	write_all(object, 2 * SEG + MIB, data + 2 * SEG + MIB, size - 2 * SEG - MIB, MIB);
	s3c_engine_stats(fx.engine, &stats);
	assert_true(stats.spilled_bytes > 10 * MIB);
	check(&fx);
	s3c_store_fault_clear(fx.store);
	s3c_store_fault_release(fx.store);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	content_equal(&fx, object, data, size, MIB);
	check(&fx);
	s3c_object_close(object);
	fx_end(&fx);
}

/* More changes than memory holds, in an order that no stream has. */
static void test_spill(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .memory = 16 * MIB };
	size_t size = 5 * SEG, chunks = size / CHUNK;
	cleanup_free uint8_t *data = pattern(size, 8);
	struct s3c_engine_stats stats;
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "s");
	for (size_t i = 0; i < chunks; i++) {
		size_t at = (i * 237) % chunks * CHUNK;

		write_all(object, at, data + at, CHUNK, CHUNK);
	}
	check(&fx);
	s3c_engine_stats(fx.engine, &stats);
	assert_true(stats.spilled_bytes > 20 * MIB);
	assert_true(stats.dirty_bytes <= 8 * MIB);
	content_equal(&fx, object, data, size, MIB);
	/* Parts of spilled chunks. */
	for (unsigned i = 0; i < 200; i++) {
		size_t at = rng() % (size - 5000);

		fill(data + at, i, 5000, i);
		write_all(object, at, data + at, 5000, 5000);
	}
	check(&fx);
	content_equal(&fx, object, data, size, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	check(&fx);
	s3c_engine_stats(fx.engine, &stats);
	assert_int_equal(stats.spilled_bytes, 0);
	assert_int_equal(stats.dirty_bytes, 0);
	content_equal(&fx, object, data, size, MIB);
	/* Without room in the spill file the writer's own object is committed. */
	s3c_object_close(object);
	o.cache_size = 4 * MIB;
	reopen(&fx, &o);
	object = open_path(&fx, "s");
	fill(data, 77, size, 9);
	for (size_t i = 0; i < chunks; i++) {
		size_t at = (i * 237) % chunks * CHUNK;

		write_all(object, at, data + at, CHUNK, CHUNK);
	}
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	content_equal(&fx, object, data, size, MIB);
	check(&fx);
	s3c_object_close(object);
	fx_end(&fx);
}

/* Small files on pages that had others' bytes, most of them in the spill file. */
static void test_small_pages(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .memory = 16 * MIB };
	cleanup_free uint8_t *data = pattern(SEG, 8);
	struct s3c_object *objects[200], *large;
	struct s3c_engine_stats stats;
	char name[16];
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	for (unsigned round = 0; round < 2; round++) {
		snprintf(name, sizeof(name), "large%u", round);
		large = create(&fx, name);
		write_all(large, 0, data, SEG, MIB);
		assert_int_equal(s3c_object_commit(large, NULL), 0);
		s3c_object_close(large);
		for (unsigned i = 0; i < ARRAY_LEN(objects); i++) {
			snprintf(name, sizeof(name), "%u-%u", round, i);
			objects[i] = create(&fx, name);
			/* In two pieces, the second before the first for every other one. */
			for (unsigned n = 0; n < 2; n++) {
				size_t at = (n ^ (i & 1)) ? 300 + i * 97 % 60000 : i % 7;

				write_all(objects[i], at, data + at, 200, 200);
			}
		}
		check(&fx);
		s3c_engine_stats(fx.engine, &stats);
		assert_true(stats.spilled_bytes > 4 * MIB);
		for (unsigned i = 0; i < ARRAY_LEN(objects); i++) {
			cleanup_free uint8_t *wanted = calloc(1, CHUNK);

			assert_non_null(wanted);
			for (unsigned n = 0; n < 2; n++) {
				size_t at = n ? 300 + i * 97 % 60000 : i % 7;

				memcpy(wanted + at, data + at, 200);
			}
			assert_int_equal(s3c_object_truncate(objects[i], NULL, CHUNK), 0);
			content_equal(&fx, objects[i], wanted, CHUNK, CHUNK);
			/* From the spill file into memory, and changed there. */
			memset(wanted + 62000, 9, 100);
			write_all(objects[i], 62000, wanted + 62000, 100, 100);
			content_equal(&fx, objects[i], wanted, CHUNK, CHUNK);
		}
		check(&fx);
		for (unsigned i = 0; i < ARRAY_LEN(objects); i++) {
			assert_int_equal(s3c_object_commit(objects[i], NULL), 0);
			s3c_object_close(objects[i]);
		}
	}
	fx_end(&fx);
}

static void fault(struct fx *fx, enum s3c_store_opcode op, enum s3c_fault_kind kind, int result,
		  uint64_t offset, unsigned after, unsigned times)
{
	struct s3c_fault_rule rule = { .op = op,
				       .kind = kind,
				       .result = result,
				       .offset = offset,
				       .after = after,
				       .times = times };

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static void test_failures(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	size_t size = 4 * SEG + 100;
	cleanup_free uint8_t *data = pattern(size, 10);
	struct s3c_object *object;
	struct fx fx;
	int r;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	/* A part of a stream fails once: it is sent again. */
	object = create(&fx, "a");
	fault(&fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_FAIL, -ECONNRESET, 0, 1, 1);
	write_all(object, 0, data, size, MIB);
	/* Where the writer was so fast that the part went with the commit, that one tells. */
	r = s3c_object_commit(object, NULL);
	if (r == -EIO)
		r = s3c_object_commit(object, NULL);
	assert_int_equal(r, 0);
	s3c_store_fault_clear(fx.store);
	content_equal(&fx, object, data, size, MIB);
	s3c_object_close(object);
	/* Parts fail for good: an error, nothing is lost, and the next commit does it. */
	object = create(&fx, "b");
	fault(&fx, S3C_STORE_UPLOAD_PART, S3C_FAULT_FAIL, -ECONNRESET, 0, 0, 0);
	write_all(object, 0, data, size, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), -EIO);
	assert_true(s3c_object_dirty(object));
	check(&fx);
	content_equal(&fx, object, data, size, MIB);
	s3c_store_fault_clear(fx.store);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	/* An upload that somebody aborted is begun again. */
	object = create(&fx, "e");
	fault(&fx, S3C_STORE_UPLOAD_COMPLETE, S3C_FAULT_FAIL, -ENXIO, 0, 0, 1);
	write_all(object, 0, data, size, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_store_fault_clear(fx.store);
	content_equal(&fx, object, data, size, MIB);
	s3c_object_close(object);
	/* A store that cannot copy parts, and says so late. */
	object = create(&fx, "h");
	write_all(object, 0, data, size, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	fault(&fx, S3C_STORE_UPLOAD_PART_COPY, S3C_FAULT_FAIL, -EOPNOTSUPP, 0, 0, 0);
	write_all(object, 2 * SEG + 1, data, 1, 1);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_store_fault_clear(fx.store);
	write_all(object, 2 * SEG + 1, data + 2 * SEG + 1, 1, 1);
	content_equal(&fx, object, data, size, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	/* So does the one PUT of a small file. */
	object = create(&fx, "c");
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EAGAIN, 0, 0, 0);
	write_all(object, 0, data, 100000, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), -EIO);
	assert_true(s3c_object_dirty(object));
	s3c_store_fault_clear(fx.store);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	/* Replies that are lost: what was done counts. */
	object = create(&fx, "d");
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_LOST, -ECONNRESET, 0, 0, 1);
	write_all(object, 0, data, 100000, MIB);
	fx_requests(&fx);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_requests(&fx, "GET 1 PUT 1");
	assert_false(s3c_object_dirty(object));
	s3c_store_fault_clear(fx.store);
	fault(&fx, S3C_STORE_UPLOAD_COMPLETE, S3C_FAULT_LOST, -ETIMEDOUT, 0, 0, 1);
	write_all(object, 0, data, size, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_store_fault_clear(fx.store);
	/* A lost reply and a failed look: the next commit finds its own earlier one. */
	read_equal(&fx, object, 0, data, 1000, NULL);
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_LOST, -ECONNRESET, 0, 0, 1);
	fault(&fx, S3C_STORE_GET, S3C_FAULT_FAIL, -ECONNRESET, 0, 0, 1);
	assert_int_equal(s3c_object_truncate(object, NULL, 1000), 0);
	assert_int_equal(s3c_object_commit(object, NULL), -EIO);
	s3c_store_fault_clear(fx.store);
	assert_int_equal(s3c_object_write(object, NULL, 5, "x", 1, false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "b");
	content_equal(&fx, object, data, size, MIB);
	s3c_object_close(object);
	object = open_path(&fx, "d");
	data[5] = 'x';
	content_equal(&fx, object, data, 1000, MIB);
	s3c_object_close(object);
	fx_end(&fx);
}

static void test_corruption(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	size_t size = 3 * SEG;
	cleanup_free uint8_t *data = pattern(size, 11);
	struct s3c_object *object;
	struct s3c_pages pages;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	write_all(object, 0, data, size, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "f");
	for (unsigned i = 0; i < 40; i++) {
		uint64_t at = (uint64_t)i * 9 % 384 * CHUNK;

		fault(&fx, S3C_STORE_GET, S3C_FAULT_CORRUPT, 0, rng() % S3C_CHUNK_STRIDE, 0, 1);
		assert_int_equal(s3c_object_read(object, NULL, at, 4096, NULL, &pages), -EIO);
		s3c_store_fault_clear(fx.store);
		read_equal(&fx, object, at, data + at, 4096, NULL);
	}
	/* A body that ends early. */
	fault(&fx, S3C_STORE_GET, S3C_FAULT_CUT, -ECONNRESET, 100000, 0, 1);
	assert_int_equal(s3c_object_read(object, NULL, 2 * SEG, 900000, NULL, &pages), -EIO);
	s3c_store_fault_clear(fx.store);
	read_equal(&fx, object, 2 * SEG, data + 2 * SEG, 900000, NULL);
	check(&fx);
	s3c_object_close(object);
	fx_end(&fx);
}

struct reader {
	struct fx *fx;
	struct s3c_object *object;
	const uint8_t *data;
	struct s3c_op op;
	int result;
};

static void *reader_run(void *arg)
{
	struct reader *reader = arg;
	struct s3c_pages pages;

	reader->result = s3c_object_read(reader->object, &reader->op, 0, 65536, NULL, &pages);
	if (reader->result == 0) {
		if (pages.len != 65536 || memcmp(pages.iov[0].iov_base, reader->data, 65536) != 0)
			reader->result = -1;
		s3c_pages_release(reader->fx->engine, &pages);
	}
	return NULL;
}

static void test_waiting(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .timeout_s = 3 };
	cleanup_free uint8_t *data = pattern(2 * SEG, 12);
	struct reader readers[4];
	pthread_t threads[4];
	struct s3c_object *object;
	struct fx fx;
	int64_t start;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	write_all(object, 0, data, 2 * SEG, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "f");
	fx_requests(&fx);
	fault(&fx, S3C_STORE_GET, S3C_FAULT_STALL, 0, 0, 0, 1);
	start = s3c_clock_monotonic_ns();
	for (unsigned i = 0; i < 4; i++) {
		readers[i] = (struct reader){ .fx = &fx, .object = object, .data = data };
		s3c_op_init(&readers[i].op, i == 3 ? s3c_deadline_after(0.3) : INT64_MAX);
		pthread_create(&threads[i], NULL, reader_run, &readers[i]);
	}
	usleep(100000);
	s3c_op_interrupt(&readers[2].op);
	pthread_join(threads[2], NULL);
	assert_int_equal(readers[2].result, -EINTR);
	pthread_join(threads[3], NULL);
	assert_int_equal(readers[3].result, -ETIMEDOUT);
	assert_true(s3c_clock_monotonic_ns() - start < 2 * S3C_NSEC_PER_SEC);
	s3c_store_fault_clear(fx.store);
	s3c_store_fault_release(fx.store);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(readers[i].result, 0);
	}
	assert_requests(&fx, "GET 1");
	s3c_store_fault_clear(fx.store);
	/* Nobody lets it go: the request's own deadline ends it. */
	fault(&fx, S3C_STORE_GET, S3C_FAULT_STALL, 0, 0, 0, 1);
	readers[0].op.deadline_ns = INT64_MAX;
	{
		struct s3c_pages pages;

		assert_int_equal(s3c_object_read(object, &readers[0].op, SEG, 100, NULL, &pages),
				 -ETIMEDOUT);
	}
	s3c_store_fault_clear(fx.store);
	check(&fx);
	for (unsigned i = 0; i < 4; i++)
		s3c_op_destroy(&readers[i].op);
	s3c_object_close(object);
	fx_end(&fx);
}

/* Who joins a fetch does not end with its deadline, but asks anew. */
static void test_joined_late(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .timeout_s = 1 };
	cleanup_free uint8_t *data = pattern(2 * SEG, 13);
	struct reader readers[2];
	pthread_t threads[2];
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	write_all(object, 0, data, 2 * SEG, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "f");
	fx_requests(&fx);
	fault(&fx, S3C_STORE_GET, S3C_FAULT_STALL, 0, 0, 0, 1);
	for (unsigned i = 0; i < 2; i++) {
		readers[i] = (struct reader){ .fx = &fx, .object = object, .data = data };
		s3c_op_init(&readers[i].op, s3c_deadline_after(i ? 8 : 1));
		pthread_create(&threads[i], NULL, reader_run, &readers[i]);
		usleep(300000);
	}
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		s3c_op_destroy(&readers[i].op);
	}
	assert_int_equal(readers[0].result, -ETIMEDOUT);
	assert_int_equal(readers[1].result, 0);
	assert_requests(&fx, "GET 1");
	check(&fx);
	s3c_object_close(object);
	fx_end(&fx);
}

static void *abort_run(void *arg)
{
	struct s3c_object *object = arg;

	s3c_mutex_lock(&object->engine->lock);
	assert_int_equal(s3c_stream_abort(object, NULL), 0);
	s3c_mutex_unlock(&object->engine->lock);
	return NULL;
}

/* A new upload at the address of the one that is being aborted is another upload. */
static void test_abort_the_right_one(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct s3c_upload *upload, *other;
	struct s3c_object *object;
	pthread_t thread;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	s3c_mutex_lock(&fx.engine->lock);
	assert_int_equal(s3c_upload_new(object, &upload), 0);
	upload->running = 1;
	object->upload = upload;
	s3c_mutex_unlock(&fx.engine->lock);
	pthread_create(&thread, NULL, abort_run, object);
	for (bool waits = false; !waits; usleep(1000)) {
		s3c_mutex_lock(&fx.engine->lock);
		waits = upload->cancel;
		s3c_mutex_unlock(&fx.engine->lock);
	}
	usleep(100000);
	/* As if it had ended, and malloc gave the same address again. */
	s3c_mutex_lock(&fx.engine->lock);
	assert_int_equal(s3c_upload_new(object, &other), 0);
	assert_int_not_equal(upload->serial, other->serial);
	upload->serial = other->serial;
	upload->cancel = false;
	upload->running = 0;
	s3c_waitq_wake_all(&object->waitq);
	s3c_mutex_unlock(&fx.engine->lock);
	pthread_join(thread, NULL);
	assert_ptr_equal(object->upload, upload);
	object->upload = NULL;
	s3c_upload_free(other);
	s3c_upload_free(upload);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	fx_end(&fx);
}

/* What is written while the commit of a closed file runs is committed after it. */
static void test_close_twice(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct s3c_engine_stats stats;
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_STALL, 0, 0, 0, 1);
	object = create(&fx, "f");
	write_all(object, 0, (const uint8_t *)"one", 3, 3);
	s3c_object_close(object);
	object = open_path(&fx, "f");
	usleep(50000);
	write_all(object, 0, (const uint8_t *)"two", 3, 3);
	s3c_object_close(object);
	s3c_store_fault_clear(fx.store);
	s3c_store_fault_release(fx.store);
	for (unsigned i = 0; i < 3000; i++) {
		s3c_engine_stats(fx.engine, &stats);
		if (!stats.objects_dirty)
			break;
		usleep(1000);
	}
	assert_int_equal(stats.objects_dirty, 0);
	assert_content(&fx, "f", "two");
	fx_end(&fx);
}

static void test_detach(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .memory = 16 * MIB };
	size_t size = 2 * SEG + 5;
	cleanup_free uint8_t *data = pattern(size, 13);
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	write_all(object, 0, data, size, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "f");
	memset(data + 70000, 1, 100);
	write_all(object, 70000, data + 70000, 100, 100);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "f"), 0);
	assert_false(hand_exists(&fx, "f"));
	content_equal(&fx, object, data, size, MIB);
	memset(data + SEG, 2, 100);
	write_all(object, SEG, data + SEG, 100, 100);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	content_equal(&fx, object, data, size, MIB);
	check(&fx);
	s3c_object_close(object);
	assert_false(hand_exists(&fx, "f"));
	/* Back again, when the delete did not happen. */
	object = create(&fx, "g");
	write_all(object, 0, data, 100000, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_int_equal(s3c_object_detach(object, NULL), 0);
	assert_int_equal(s3c_object_reattach(object, "g"), 0);
	write_all(object, 50, data, 50, 50);
	memcpy(data + 50, data, 50);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "g");
	content_equal(&fx, object, data, 100000, MIB);
	s3c_object_close(object);
	fx_end(&fx);
}

static void test_rename_open(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	size_t size = 2 * SEG + 5;
	cleanup_free uint8_t *data = pattern(size, 14);
	struct s3c_attrs attrs = { .mode = 0600 };
	struct s3c_object *object, *other;
	struct s3c_info info;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	write_all(object, 0, data, size, MIB);
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "f", "g", false), 0);
	memset(data + 100, 7, 100);
	write_all(object, 100, data + 100, 100, 100);
	other = open_path(&fx, "g");
	assert_ptr_equal(object, other);
	s3c_object_close(other);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_int_equal(
		s3c_engine_setattr(fx.engine, NULL, "g", object, S3C_SET_MODE, &attrs, &info), 0);
	assert_int_equal(info.mode, S_IFREG | 0600);
	content_equal(&fx, object, data, size, MIB);
	assert_int_equal(
		s3c_engine_mkdir(fx.engine, NULL, "d",
				 &(struct s3c_attrs){ .known = true, .mode = S_IFDIR | 0755 }),
		0);
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "g", "d/h", false), 0);
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "d", "e", false), 0);
	memset(data + 200, 8, 100);
	write_all(object, 200, data + 200, 100, 100);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	check(&fx);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "e/h");
	content_equal(&fx, object, data, size, MIB);
	s3c_object_close(object);
	fx_end(&fx);
}

/* Another machine changes a file that is open here. */
static void test_conflict(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY }, o2 = { .enc = S3C_ENC_CSE_KEY };
	cleanup_free uint8_t *data = pattern(3 * SEG, 15);
	struct s3c_object *object, *other;
	struct s3c_listing *listing;
	struct s3c_pages pages;
	bool found = false;
	struct fx fx, fx2;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	write_all(object, 0, data, 3 * SEG, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "f");
	read_equal(&fx, object, 0, data, 100, NULL);
	o2.dir = fx.dir;
	o2.state = "state2";
	fx_open(&fx2, &o2);
	fx_start(&fx2, &o2);
	/* New metadata is no new content: reading goes on. */
	assert_int_equal(s3c_engine_setattr(fx2.engine, NULL, "f", NULL, S3C_SET_MODE,
					    &(struct s3c_attrs){ .mode = 0600 },
					    &(struct s3c_info){ 0 }),
			 0);
	read_equal(&fx, object, 100000, data + 100000, 100, NULL);
	assert_int_equal(s3c_object_write(object, NULL, 0, "mine", 4, false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	other = open_path(&fx2, "f");
	assert_int_equal(s3c_object_truncate(other, NULL, 0), 0);
	assert_int_equal(s3c_object_write(other, NULL, 0, "other", 5, false), 0);
	s3c_names_invalidate(fx2.engine, "f", false);
	/* fx2 has an old base by now: its commit is the one that is refused. */
	assert_int_equal(s3c_object_commit(other, NULL), -ESTALE);
	s3c_object_close(other);
	assert_int_equal(s3c_engine_list(fx2.engine, NULL, "", &listing), 0);
	for (size_t i = 0; i < listing->count; i++)
		found |= strncmp(listing->items[i].name, "f.conflict-", 11) == 0;
	s3c_listing_put(listing);
	assert_true(found);
	/* Replaced for good: what was not read yet cannot be read any more. */
	other = open_path(&fx2, "f");
	assert_int_equal(s3c_object_truncate(other, NULL, 0), 0);
	assert_int_equal(s3c_object_write(other, NULL, 0, "other", 5, false), 0);
	assert_int_equal(s3c_object_commit(other, NULL), 0);
	s3c_object_close(other);
	assert_int_equal(s3c_object_read(object, NULL, 2 * SEG, 100, NULL, &pages), -ESTALE);
	check(&fx);
	s3c_object_close(object);
	fx_stop(&fx2);
	fx_end(&fx);
}

static void test_nowait(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .memory = 16 * MIB };
	cleanup_free uint8_t *data = pattern(MIB, 16);
	struct s3c_pages pages, other;
	struct s3c_object *object;
	struct s3c_page *page;
	unsigned n = 0;
	struct fx fx;
	int r;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	while ((r = s3c_object_write(object, S3C_NOWAIT, n * MIB, data, MIB, false)) == 0)
		n++;
	assert_int_equal(r, -EINPROGRESS);
	assert_true(n >= 2);
	check(&fx);
	assert_int_equal(s3c_object_commit(object, S3C_NOWAIT), -EINPROGRESS);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_int_equal(s3c_object_commit(object, S3C_NOWAIT), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "f");
	/* What is being sealed, or filled for the first time, keeps writers out. */
	assert_int_equal(s3c_object_read(object, NULL, 5 * CHUNK, 10, NULL, &pages), 0);
	page = pages.chunks[0];
	s3c_mutex_lock(&fx.engine->lock);
	page->sealing = 1;
	s3c_mutex_unlock(&fx.engine->lock);
	assert_int_equal(s3c_object_write(object, S3C_NOWAIT, 5 * CHUNK, data, 10, false),
			 -EINPROGRESS);
	s3c_mutex_lock(&fx.engine->lock);
	page->sealing = 0;
	page->fresh = true;
	s3c_mutex_unlock(&fx.engine->lock);
	assert_int_equal(s3c_object_write(object, S3C_NOWAIT, 5 * CHUNK, data, 10, false),
			 -EINPROGRESS);
	assert_int_equal(s3c_object_read(object, S3C_NOWAIT, 5 * CHUNK, 10, NULL, &other),
			 -EINPROGRESS);
	s3c_mutex_lock(&fx.engine->lock);
	page->fresh = false;
	s3c_mutex_unlock(&fx.engine->lock);
	s3c_pages_release(fx.engine, &pages);
	/* A part of a chunk that is not here; a whole one needs nothing. */
	assert_int_equal(s3c_object_write(object, S3C_NOWAIT, 10, data, 10, false), -EINPROGRESS);
	assert_int_equal(s3c_object_write(object, S3C_NOWAIT, CHUNK, data, CHUNK, false), 0);
	assert_int_equal(s3c_object_write(object, S3C_NOWAIT, n * MIB + 10, data, 10, true), 0);
	assert_int_equal(s3c_object_truncate(object, S3C_NOWAIT, 0), 0);
	assert_int_equal(s3c_object_write(object, NULL, S3C_FILE_SIZE_MAX, data, 1, false), -EFBIG);
	assert_int_equal(s3c_object_truncate(object, NULL, S3C_FILE_SIZE_MAX + 1), -EFBIG);
	check(&fx);
	s3c_object_close(object);
	fx_end(&fx);
}

static size_t near_boundary(size_t max)
{
	static const size_t units[] = { 1, 4096, CHUNK, SEG };
	size_t unit = units[rng() % 4], at = rng() % (max / unit + 1) * unit;

	at += rng() % 3 ? 0 : rng() % 5;
	at -= at && rng() % 3 == 0 ? 1 : 0;
	return S3C_MIN(at, max);
}

/* Nothing but zeros where it says that there is a hole. */
static void seek_true(struct s3c_object *object, const uint8_t *shadow, size_t size, size_t at)
{
	uint64_t data = size, hole;
	int r = s3c_object_seek(object, NULL, at, true, &data);

	assert_int_equal(s3c_object_seek(object, NULL, at, false, &hole), at < size ? 0 : -ENXIO);
	if (at >= size)
		return;
	assert_true(r == 0 || r == -ENXIO);
	assert_in_range(hole, at, size);
	assert_in_range(data, at, size);
	assert_true(data == at || hole == at);
	for (; at < data; at++)
		assert_int_equal(shadow[at], 0);
}

static void fuzz(unsigned ops, size_t max, struct fx_options o)
{
	uint64_t seed = getenv("S3C_TEST_SEED") ? strtoull(getenv("S3C_TEST_SEED"), NULL, 0)
						: (uint64_t)s3c_clock_realtime_ns() | 1;
	cleanup_free uint8_t *shadow = calloc(1, max + MIB);
	cleanup_free uint8_t *data = malloc(MIB);
	struct s3c_readahead ra = { 0 };
	struct s3c_object *object;
	size_t size = 0, at, len;
	struct fx fx;

	printf("# seed %ju, %u operations, files of up to %zu bytes\n", (uintmax_t)seed, ops, max);
	rng_state = seed;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	for (unsigned i = 0; i < ops; i++) {
		unsigned what = (unsigned)(rng() % 1000);

		at = near_boundary(max);
		len = rng() % 4 ? rng() % 9000 : rng() % 4 ? rng() % 200000 : rng() % MIB;
		if (what < 400) {
			len = S3C_MIN(len, max - at);
			fill(data, at, len, i);
			assert_int_equal(s3c_object_write(object, NULL, at, data, len, false), 0);
			memcpy(shadow + at, data, len);
			size = len ? S3C_MAX(size, at + len) : size;
		} else if (what < 440) {
			/* In sequence from the start: streams. */
			size_t end = at;

			for (at = 0; at < end; at += len) {
				len = S3C_MIN(end - at, (size_t)131072);
				fill(data, at, len, i);
				assert_int_equal(
					s3c_object_write(object, NULL, at, data, len, false), 0);
				memcpy(shadow + at, data, len);
			}
			size = S3C_MAX(size, end);
		} else if (what < 470) {
			/* Up to whole segments, which a commit makes holes of. */
			len = rng() % 3 ? len : near_boundary(2 * SEG);
			assert_int_equal(s3c_object_zero(object, NULL, at, len), 0);
			if (at < size)
				memset(shadow + at, 0, S3C_MIN(len, size - at));
		} else if (what < 475) {
			seek_true(object, shadow, size, at);
		} else if (what < 500) {
			assert_int_equal(s3c_object_truncate(object, NULL, at), 0);
			if (at < size)
				memset(shadow + at, 0, size - at);
			size = at;
		} else if (what < 960) {
			at = size ? rng() % size : 0;
			if (size)
				read_equal(&fx, object, at, shadow + at, S3C_MIN(len, size - at),
					   rng() % 2 ? &ra : NULL);
		} else if (what < 980) {
			assert_int_equal(s3c_object_commit(object, NULL), 0);
		} else if (what < 990) {
			s3c_object_close(object);
			object = open_path(&fx, "f");
		} else if (what < 995 && size <= max / 4) {
			content_equal(&fx, object, shadow, size, MIB);
		} else if (what >= 998) {
			s3c_object_close(object);
			reopen(&fx, &o);
			object = open_path(&fx, "f");
		}
		if (i % 50 == 0)
			check(&fx);
	}
	content_equal(&fx, object, shadow, size, MIB);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "f");
	content_equal(&fx, object, shadow, size, MIB);
	s3c_object_close(object);
	fx_end(&fx);
}

static unsigned fuzz_ops(unsigned ops)
{
	return getenv("S3C_TEST_OPS") ? (unsigned)atoi(getenv("S3C_TEST_OPS")) : ops;
}

static void test_fuzz(void **state)
{
	(void)state;
	fuzz(fuzz_ops(12000), 5 * CHUNK, (struct fx_options){ .enc = S3C_ENC_CSE_KEY });
	fuzz(fuzz_ops(4000), 3 * SEG, (struct fx_options){ .enc = S3C_ENC_CSE_KEY });
	fuzz(fuzz_ops(3000), 5 * SEG / 2,
	     (struct fx_options){ .enc = S3C_ENC_CSE_KEY, .memory = 16 * MIB });
	fuzz(fuzz_ops(1000), 5 * SEG / 2,
	     (struct fx_options){ .enc = S3C_ENC_NONE, .memory = 16 * MIB });
}

/* Several threads at once on one object: each has bytes of its own. */
struct worker {
	struct fx *fx;
	struct s3c_object *object;
	unsigned id;
	int failed; /* a line; asserts are for the main thread alone */
};
#define WORKERS 4u
#define STRIPE 50000u
#define STRIPES 80u

static bool stripe_equal(struct worker *w, uint64_t at, const uint8_t *expect)
{
	struct s3c_pages pages;
	size_t done = 0;
	bool equal = true;

	if (s3c_object_read(w->object, NULL, at, STRIPE, NULL, &pages) != 0)
		return false;
	for (unsigned i = 0; i < pages.count; i++) {
		equal &= memcmp(pages.iov[i].iov_base, expect + done, pages.iov[i].iov_len) == 0;
		done += pages.iov[i].iov_len;
	}
	s3c_pages_release(w->fx->engine, &pages);
	return equal && done == STRIPE;
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	uint8_t *mine = calloc(STRIPES, STRIPE), *data = malloc(STRIPE);
	bool written[STRIPES] = { false };
	unsigned seed = w->id;

	for (unsigned i = 0; i < 300 && !w->failed; i++) {
		unsigned k = (unsigned)rand_r(&seed) % STRIPES, what = (unsigned)rand_r(&seed) % 8;
		uint64_t at = ((uint64_t)k * WORKERS + w->id) * STRIPE;

		if (what == 0 && i % 8 == 0) {
			if (s3c_object_commit(w->object, NULL) != 0)
				w->failed = __LINE__;
		} else if (what <= 3) {
			fill(data, at, STRIPE, i);
			memcpy(mine + (size_t)k * STRIPE, data, STRIPE);
			written[k] = true;
			if (s3c_object_write(w->object, NULL, at, data, STRIPE, false) != 0)
				w->failed = __LINE__;
		} else if (written[k] && !stripe_equal(w, at, mine + (size_t)k * STRIPE)) {
			w->failed = __LINE__;
		}
	}
	free(mine);
	free(data);
	return NULL;
}

static void test_threads(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY,
				.memory = 16 * MIB,
				.cache_size = 128 * MIB };
	struct worker workers[WORKERS];
	pthread_t threads[WORKERS];
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	for (unsigned i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){ .fx = &fx, .object = object, .id = i };
		pthread_create(&threads[i], NULL, worker_run, &workers[i]);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < WORKERS; i++)
		assert_int_equal(workers[i].failed, 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	check(&fx);
	s3c_object_close(object);
	fx_end(&fx);
}

/* Far more readers than the smallest memory has room for, while somebody writes. */
struct crowd {
	struct fx *fx;
	struct s3c_object *object;
	const uint8_t *data;
	size_t size;
	unsigned id;
	int failed;
};
#define CROWD 24u

static void *crowd_run(void *arg)
{
	struct crowd *w = arg;
	struct s3c_readahead ra = { 0 };
	unsigned seed = w->id;
	uint64_t at = 0;

	for (unsigned i = 0; i < 60 && !w->failed; i++) {
		size_t len = w->id % 2 ? MIB : 1 + (size_t)rand_r(&seed) % MIB, done = 0;
		struct s3c_pages pages;

		if (w->id % 3 || at + len > w->size)
			at = (uint64_t)rand_r(&seed) % (w->size - len);
		if (s3c_object_read(w->object, NULL, at, len, &ra, &pages) != 0) {
			w->failed = __LINE__;
			break;
		}
		for (unsigned n = 0; n < pages.count; n++) {
			if (memcmp(pages.iov[n].iov_base, w->data + at + done,
				   pages.iov[n].iov_len) != 0)
				w->failed = __LINE__;
			done += pages.iov[n].iov_len;
		}
		if (done != len)
			w->failed = __LINE__;
		s3c_pages_release(w->fx->engine, &pages);
		at += len;
	}
	return NULL;
}

static void test_crowd(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .memory = 16 * MIB };
	size_t size = 5 * SEG + 12345;
	cleanup_free uint8_t *data = pattern(size, 17);
	struct s3c_object *object, *other;
	struct crowd crowd[CROWD];
	pthread_t threads[CROWD];
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	write_all(object, 0, data, size, MIB);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "f");
	for (unsigned i = 0; i < CROWD; i++) {
		crowd[i] = (struct crowd){
			.fx = &fx, .object = object, .data = data, .size = size, .id = i
		};
		pthread_create(&threads[i], NULL, crowd_run, &crowd[i]);
	}
	other = create(&fx, "g");
	write_all(other, 0, data, size, 100000);
	assert_int_equal(s3c_object_commit(other, NULL), 0);
	/* Parts of chunks that have to be fetched, by the side. */
	for (unsigned i = 0; i < 20; i++)
		write_all(other, i * SEG / 4 + 100, data + i * SEG / 4 + 100, 300, 300);
	assert_int_equal(s3c_object_commit(other, NULL), 0);
	content_equal(&fx, other, data, size, MIB);
	for (unsigned i = 0; i < CROWD; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(crowd[i].failed, 0);
	check(&fx);
	s3c_object_close(other);
	s3c_object_close(object);
	fx_end(&fx);
}

/* A plain object that is changed becomes a sealed one. */
static void test_migration(void **state)
{
	static const size_t sizes[] = { 0, 5, 3 * CHUNK + 7, SEG + 100 };
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY,
				.accept = S3C_ACCEPT_SEALED | S3C_ACCEPT_PLAIN };
	cleanup_free uint8_t *data = pattern(2 * SEG, 18);
	struct s3c_meta meta = { 0 };
	struct s3c_header header;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		cleanup_free char *path = s3c_asprintf("p%u", i);

		hand_put(&fx, path, &meta, data, sizes[i]);
	}
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		cleanup_free char *path = s3c_asprintf("p%u", i);
		cleanup_free uint8_t *want = malloc(sizes[i] + 1);
		struct s3c_object *object = open_path(&fx, path);

		content_equal(&fx, object, data, sizes[i], MIB);
		memcpy(want, data, sizes[i]);
		want[sizes[i]] = '!';
		write_all(object, sizes[i], (const uint8_t *)"!", 1, 1);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		content_equal(&fx, object, want, sizes[i] + 1, MIB);
		s3c_object_close(object);
		hand_open(&fx, path, &header, NULL, 0);
		assert_int_not_equal(header.layout, S3C_LAYOUT_PLAIN);
	}
	check(&fx);
	fx_end(&fx);
}

/* A call that runs beside the test. */
struct aside {
	struct fx *fx;
	struct s3c_object *object;
	const uint8_t *data;
	const char *from, *to;
	pthread_t thread;
	int result;
	bool done;
};

static void aside_start(struct aside *a, void *(*fn)(void *))
{
	a->done = false;
	assert_int_equal(pthread_create(&a->thread, NULL, fn, a), 0);
	usleep(200000);
}

static int aside_end(struct aside *a)
{
	for (unsigned i = 0; i < 1500 && !__atomic_load_n(&a->done, __ATOMIC_ACQUIRE); i++)
		usleep(10000);
	if (!__atomic_load_n(&a->done, __ATOMIC_ACQUIRE))
		fail_msg("it hangs");
	pthread_join(a->thread, NULL);
	return a->result;
}

static void *aside_commit(void *arg)
{
	struct aside *a = arg;

	a->result = s3c_object_commit(a->object, NULL);
	__atomic_store_n(&a->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void *aside_rename(void *arg)
{
	struct aside *a = arg;

	a->result = s3c_engine_rename(a->fx->engine, NULL, a->from, a->to, false);
	__atomic_store_n(&a->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void *aside_chmod(void *arg)
{
	struct aside *a = arg;
	struct s3c_attrs attrs = { .mode = 0600 };
	struct s3c_info info;

	a->result = s3c_engine_setattr(a->fx->engine, NULL, a->from, a->object, S3C_SET_MODE,
				       &attrs, &info);
	__atomic_store_n(&a->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void *aside_write(void *arg)
{
	struct aside *a = arg;

	for (size_t at = 0; at < 3 * SEG && a->result == 0; at += MIB)
		a->result = s3c_object_write(a->object, NULL, at, a->data + at, MIB, false);
	__atomic_store_n(&a->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void evict_all(struct fx *fx)
{
	struct s3c_memory *mem = &fx->engine->objects->mem;
	size_t limit;

	s3c_mutex_lock(&fx->engine->lock);
	limit = mem->limit[S3C_PAGE_READ];
	mem->limit[S3C_PAGE_READ] = 0;
	s3c_memory_trim(mem);
	mem->limit[S3C_PAGE_READ] = limit;
	s3c_mutex_unlock(&fx->engine->lock);
}

/* The last chunk grows after the commit has its size and before it is sealed. */
static void test_append_while_committing(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	cleanup_free uint8_t *data = pattern(100, 21);
	struct s3c_object *object;
	struct s3c_memory *mem;
	struct aside a;
	uint8_t *buffer;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	mem = &fx.engine->objects->mem;
	object = create(&fx, "f");
	write_all(object, 0, data, 10, 10);
	s3c_mutex_lock(&fx.engine->lock);
	assert_int_equal(s3c_transfer_begin(mem, &fx.engine->lock, mem->transfer_limit, &buffer),
			 0);
	s3c_mutex_unlock(&fx.engine->lock);
	a = (struct aside){ .object = object };
	aside_start(&a, aside_commit);
	write_all(object, 10, data + 10, 90, 90);
	s3c_mutex_lock(&fx.engine->lock);
	s3c_transfer_end(mem, buffer, mem->transfer_limit);
	s3c_mutex_unlock(&fx.engine->lock);
	assert_int_equal(aside_end(&a), 0);
	check(&fx);
	evict_all(&fx);
	content_equal(&fx, object, data, 100, 100);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "f");
	content_equal(&fx, object, data, 100, 100);
	s3c_object_close(object);
	fx_end(&fx);
}

/* A stream that is behind the writer, and a cut into the last chunk of a segment not sent yet. */
static void test_cut_before_stream(void **state)
{
	struct s3c_fault_rule stall = { .op = S3C_STORE_UPLOAD_PART,
					.kind = S3C_FAULT_STALL,
					.times = 2 };
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	cleanup_free uint8_t *data = pattern(5 * SEG, 22);
	size_t size = 3 * SEG - 100;
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	s3c_store_fault_add(fx.store, &stall);
	write_all(object, 0, data, 5 * SEG, MIB);
	assert_int_equal(s3c_object_truncate(object, NULL, size), 0);
	/* A part that comes late is not held any more. */
	s3c_store_fault_clear(fx.store);
	s3c_store_fault_release(fx.store);
	usleep(300000);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	content_equal(&fx, object, data, size, MIB);
	s3c_object_close(object);
	reopen(&fx, &o);
	object = open_path(&fx, "f");
	content_equal(&fx, object, data, size, MIB);
	s3c_object_close(object);
	fx_end(&fx);
}

/* A segment that was sent and changed since has to be sent again: nothing of it may be dropped. */
static void test_changed_segment_is_kept(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .memory = 32 * MIB, .cache_size = MIB };
	cleanup_free uint8_t *data = pattern(5 * SEG, 23);
	struct s3c_object *object;
	struct aside a;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	write_all(object, 0, data, SEG + MIB, MIB);
	usleep(300000);
	memset(data + 5 * CHUNK, 7, CHUNK);
	write_all(object, 5 * CHUNK, data + 5 * CHUNK, CHUNK, CHUNK);
	write_all(object, SEG + MIB, data + SEG + MIB, 3 * SEG, MIB);
	a = (struct aside){ .object = object };
	aside_start(&a, aside_commit);
	assert_int_equal(aside_end(&a), 0);
	content_equal(&fx, object, data, 4 * SEG + MIB, MIB);
	s3c_object_close(object);
	fx_end(&fx);
}

/* Who waits for room while a stream begins goes on when it cannot. */
static void test_room_without_stream(void **state)
{
	struct s3c_fault_rule stall = { .op = S3C_STORE_UPLOAD_CREATE,
					.kind = S3C_FAULT_STALL,
					.times = 1 };
	struct fx_options o = {
		.enc = S3C_ENC_CSE_KEY, .memory = 32 * MIB, .cache_size = MIB, .timeout_s = 3
	};
	cleanup_free uint8_t *data = pattern(4 * SEG, 24);
	struct s3c_object *object;
	struct aside a;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	object = create(&fx, "f");
	s3c_store_fault_add(fx.store, &stall);
	a = (struct aside){ .object = object, .data = data };
	aside_start(&a, aside_write);
	assert_int_equal(aside_end(&a), 0);
	s3c_object_close(object);
	fx_end(&fx);
}

/* The reply is lost, so is the look after it; the file is cut before the next commit. */
static void test_lost_then_cut(void **state)
{
	(void)state;
	for (unsigned large = 0; large < 2; large++) {
		struct s3c_fault_rule lost = { .op = large ? S3C_STORE_UPLOAD_COMPLETE
							   : S3C_STORE_PUT,
					       .kind = S3C_FAULT_LOST,
					       .result = -ECONNRESET,
					       .times = 1 };
		struct s3c_fault_rule blind = { .op = S3C_STORE_GET,
						.kind = S3C_FAULT_FAIL,
						.result = -ETIMEDOUT,
						.times = 1 };
		struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
		size_t size = large ? 2 * SEG + CHUNK + 5 : 2 * CHUNK + 5;
		size_t cut = size - CHUNK - 1;
		cleanup_free uint8_t *data = pattern(size, 25);
		struct s3c_object *object;
		struct fx fx;

		fx_open(&fx, &o);
		fx_start(&fx, &o);
		object = create(&fx, "f");
		write_all(object, 0, data, size, MIB);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		memset(data + 10, 1, 20);
		write_all(object, 10, data + 10, 20, 20);
		s3c_store_fault_add(fx.store, &lost);
		s3c_store_fault_add(fx.store, &blind);
		assert_int_not_equal(s3c_object_commit(object, NULL), 0);
		assert_int_equal(s3c_object_truncate(object, NULL, cut), 0);
		memset(data + cut, 0, size - cut);
		assert_int_equal(s3c_object_truncate(object, NULL, size - 7), 0);
		memset(data + 20, 2, 20);
		write_all(object, 20, data + 20, 20, 20);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		check(&fx);
		content_equal(&fx, object, data, size - 7, MIB);
		s3c_object_close(object);
		reopen(&fx, &o);
		object = open_path(&fx, "f");
		content_equal(&fx, object, data, size - 7, MIB);
		s3c_object_close(object);
		fx_end(&fx);
	}
}

/* A new file whose reply was lost is in the store all the same: it goes with its name. */
static void test_lost_then_gone(void **state)
{
	(void)state;
	for (unsigned rename = 0; rename < 2; rename++) {
		struct s3c_fault_rule lost = { .op = S3C_STORE_PUT,
					       .kind = S3C_FAULT_LOST,
					       .result = -ETIMEDOUT,
					       .times = 1 };
		struct s3c_fault_rule blind = { .op = S3C_STORE_GET,
						.kind = S3C_FAULT_FAIL,
						.result = -ETIMEDOUT,
						.times = 1 };
		struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
		struct s3c_object *object;
		struct fx fx;

		fx_open(&fx, &o);
		fx_start(&fx, &o);
		object = create(&fx, "f");
		write_all(object, 0, (const uint8_t *)"hello", 5, 5);
		s3c_store_fault_add(fx.store, &lost);
		s3c_store_fault_add(fx.store, &blind);
		assert_int_equal(s3c_object_commit(object, NULL), -ETIMEDOUT);
		if (rename)
			assert_int_equal(move(&fx, "f", "g"), 0);
		else
			assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "f"), 0);
		assert_false(hand_exists(&fx, "f"));
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		assert_int_equal(hand_exists(&fx, "g"), rename);
		s3c_object_close(object);
		fx_end(&fx);
	}
}

/* Written while a chmod is on its way. */
static void test_chmod_and_write(void **state)
{
	struct s3c_fault_rule stall = { .op = S3C_STORE_COPY, .kind = S3C_FAULT_STALL, .times = 1 };
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
	struct s3c_object *object;
	struct s3c_info info;
	struct aside a;
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	make_file(&fx, "f", "hello");
	object = open_path(&fx, "f");
	set(&fx, "f", S3C_SET_MODE, &(struct s3c_attrs){ .mode = 0644 }, 0);
	s3c_store_fault_add(fx.store, &stall);
	a = (struct aside){ .fx = &fx, .object = object, .from = "f" };
	aside_start(&a, aside_chmod);
	write_all(object, 5, (const uint8_t *)"world", 5, 5);
	s3c_store_fault_clear(fx.store);
	s3c_store_fault_release(fx.store);
	assert_int_equal(aside_end(&a), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_info(object, &info);
	assert_int_equal(info.mode & 07777, 0600);
	s3c_object_close(object);
	fx_end(&fx);
}

/* Opened and written under its old name while it is renamed: it goes along. */
static void test_opened_while_renamed(void **state)
{
	static const enum s3c_store_opcode when[] = { S3C_STORE_COPY, S3C_STORE_DELETE };

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(when); i++) {
		struct s3c_fault_rule stall = { .op = when[i],
						.kind = S3C_FAULT_STALL,
						.times = 1 };
		struct fx_options o = { .enc = S3C_ENC_CSE_KEY };
		struct s3c_object *object;
		struct aside a;
		struct fx fx;

		fx_open(&fx, &o);
		fx_start(&fx, &o);
		make_file(&fx, "a", "one");
		s3c_store_fault_add(fx.store, &stall);
		a = (struct aside){ .fx = &fx, .from = "a", .to = "b" };
		aside_start(&a, aside_rename);
		object = open_path(&fx, "a");
		write_all(object, 3, (const uint8_t *)"two", 3, 3);
		s3c_store_fault_clear(fx.store);
		s3c_store_fault_release(fx.store);
		assert_int_equal(aside_end(&a), 0);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		s3c_object_close(object);
		assert_string_equal(list(&fx, ""), "b");
		assert_content(&fx, "b", "onetwo");
		fx_end(&fx);
	}
}

/* An older version that somebody brought back is shown as what it is. */
static void test_restored_version(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .ttl_s = -1 };
	struct fx fx;

	(void)state;
	fx_open(&fx, &o);
	fx_start(&fx, &o);
	s3c_journal_generation_note(fx.journal, "f",
				    s3c_generation_next(0) + 3600 * S3C_NSEC_PER_SEC, false);
	make_file(&fx, "f", "newer");
	assert_reads(&fx, "f", "newer");
	hand_file(&fx, "f", "older one");
	assert_reads(&fx, "f", "older one");
	fx_end(&fx);
}

/* An argument chooses tests by a pattern. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_small_requests),
		cmocka_unit_test(test_sequential_and_random),
		cmocka_unit_test(test_sparse),
		cmocka_unit_test(test_partial),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_stream_changes),
		cmocka_unit_test(test_stream_attrs),
		cmocka_unit_test(test_stream_room),
		cmocka_unit_test(test_spill),
		cmocka_unit_test(test_small_pages),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_corruption),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_joined_late),
		cmocka_unit_test(test_abort_the_right_one),
		cmocka_unit_test(test_close_twice),
		cmocka_unit_test(test_detach),
		cmocka_unit_test(test_rename_open),
		cmocka_unit_test(test_conflict),
		cmocka_unit_test(test_nowait),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_crowd),
		cmocka_unit_test(test_migration),
		cmocka_unit_test(test_append_while_committing),
		cmocka_unit_test(test_cut_before_stream),
		cmocka_unit_test(test_changed_segment_is_kept),
		cmocka_unit_test(test_room_without_stream),
		cmocka_unit_test(test_lost_then_cut),
		cmocka_unit_test(test_lost_then_gone),
		cmocka_unit_test(test_chmod_and_write),
		cmocka_unit_test(test_opened_while_renamed),
		cmocka_unit_test(test_restored_version),
		cmocka_unit_test(test_fuzz),
	};

	assert_int_equal(s3c_secret_init(), 0);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
