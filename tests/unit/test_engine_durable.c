/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the journal keeps of contents. Daemons that die are child processes which end by SIGKILL;
 * what they had acknowledged stands in shared memory.
 */
#include "durable_fixture.h"

#include <pthread.h>
#include <sys/mman.h>

#include "base/secret.h"

static void die_after_close(struct fx *fx, struct fx_options *o)
{
	(void)o;
	/* However slow this machine is, none of it is in the store. */
	fault(fx, S3C_STORE_PUT, S3C_FAULT_STALL, 0);
	fault(fx, S3C_STORE_UPLOAD_CREATE, S3C_FAULT_STALL, 0);
	create_close(fx, "small", 100 * KIB + 5, 1);
	create_close(fx, "empty", 0, 2);
	create_close(fx, "large", SEG + 70 * KIB, 3);
}

static void test_close(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *small = pattern(100 * KIB + 5, 1);
	cleanup_free uint8_t *large = pattern(SEG + 70 * KIB, 3);
	struct s3c_info info;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(die_after_close, &o);
	begin(&fx, &o);
	assert_int_equal(fx.recovery.objects, 3);
	assert_int_equal(fx.recovery.failed, 0);
	assert_string_equal(fx_requests(&fx), "");
	assert_int_equal(s3c_engine_lookup(fx.engine, NULL, "small", &info), 0);
	assert_int_equal(info.size, 100 * KIB + 5);
	assert_int_equal(info.mode, S_IFREG | 0644);
	assert_int_equal(info.uid, 7);
	path_equal(&fx, "small", small, 100 * KIB + 5);
	path_equal(&fx, "large", large, SEG + 70 * KIB);
	path_equal(&fx, "empty", small, 0);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_int_equal(records(&fx), 0);
	fx_stop(&fx);
	/* Another machine sees it. */
	o.state = "state2";
	begin(&fx, &o);
	assert_int_equal(fx.recovery.objects, 0);
	path_equal(&fx, "small", small, 100 * KIB + 5);
	path_equal(&fx, "large", large, SEG + 70 * KIB);
	fx_end(&fx);
}

/* What a release need not see to: the present view on the disk, and nothing less. */
static void test_settled(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	struct s3c_object *object;
	struct s3c_op op;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	begin(&fx, &o);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "f", &made_attrs, &object), 0);
	assert_false(s3c_object_settled(object));
	assert_int_equal(s3c_object_write(object, NULL, 0, "abc", 3, false), 0);
	assert_false(s3c_object_settled(object));
	/* The journal has it, but not on the disk. */
	assert_int_equal(s3c_object_persist(object, S3C_TX_LAZY), 0);
	assert_false(s3c_object_settled(object));
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	assert_int_equal(s3c_object_write(object, NULL, 3, "d", 1, false), 0);
	assert_false(s3c_object_settled(object));
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	assert_true(s3c_object_settled(object));
	assert_int_equal(s3c_object_truncate(object, NULL, 2), 0);
	assert_false(s3c_object_settled(object));
	s3c_op_init(&op, INT64_MAX);
	assert_int_equal(s3c_object_commit(object, &op), 0);
	s3c_op_destroy(&op);
	assert_true(s3c_object_settled(object));
	s3c_object_close(object);
	fx_stop(&fx);
	/* Without writeback the store alone settles. */
	o.writeback = false;
	begin(&fx, &o);
	assert_int_equal(s3c_object_open(fx.engine, NULL, "f", &object), 0);
	assert_true(s3c_object_settled(object));
	assert_int_equal(s3c_object_write(object, NULL, 0, "x", 1, false), 0);
	assert_false(s3c_object_settled(object));
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_true(s3c_object_settled(object));
	s3c_object_close(object);
	fx_end(&fx);
}

#define CHANGED_SIZE (3 * SEG + 12345)

static void store_changed(struct fx *fx, struct fx_options *o)
{
	struct s3c_object *object;

	(void)o;
	create_close(fx, "f", CHANGED_SIZE, 9);
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
	assert_int_equal(records(fx), 0);
	assert_int_equal(s3c_object_open(fx->engine, NULL, "f", &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 5, "abc", 3, false), 0);
	assert_int_equal(s3c_object_write(object, NULL, SEG + 65535, "XY", 2, false), 0);
	assert_int_equal(s3c_object_truncate(object, NULL, 2 * SEG + 100), 0);
	assert_int_equal(s3c_object_write(object, NULL, 2 * SEG + 200000, "end", 3, false), 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	/* Not acknowledged: none of it may show. */
	assert_int_equal(s3c_object_write(object, NULL, 0, "zzzzzzzz", 8, false), 0);
	assert_int_equal(s3c_object_write(object, NULL, SEG, "zzzzzzzz", 8, false), 0);
	assert_int_equal(s3c_object_truncate(object, NULL, 100), 0);
}

static void test_change(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	size_t size = 2 * SEG + 200003;
	cleanup_free uint8_t *expect = pattern(CHANGED_SIZE, 9);
	char dir[64];
	struct fx fx;

	(void)state;
	memcpy(expect + 5, "abc", 3);
	memcpy(expect + SEG + 65535, "XY", 2);
	memset(expect + 2 * SEG + 100, 0, size - (2 * SEG + 100));
	memcpy(expect + size - 3, "end", 3);
	fresh_dir(&o, dir);
	killed(store_changed, &o);
	begin(&fx, &o);
	path_equal(&fx, "f", expect, size);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	path_equal(&fx, "f", expect, size);
	assert_int_equal(records(&fx), 0);
	fx_stop(&fx);
	o.state = "state2";
	begin(&fx, &o);
	path_equal(&fx, "f", expect, size);
	fx_end(&fx);
}

/* commit=close: the error is told, the bytes are kept. */
static void fail_close(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(200 * KIB, 4);
	struct s3c_object *object;

	(void)o;
	fault(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EAGAIN);
	assert_int_equal(s3c_object_create(fx->engine, NULL, "kept", &made_attrs, &object), 0);
	write_all(object, 0, data, 200 * KIB);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), -EIO);
	s3c_object_close(object);
	path_equal(fx, "kept", data, 200 * KIB);
	assert_true(records(fx) > 0);
}

static void test_failed_close(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .durable = true };
	cleanup_free uint8_t *data = pattern(200 * KIB, 4);
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(fail_close, &o);
	begin(&fx, &o);
	assert_int_equal(fx.recovery.objects, 1);
	path_equal(&fx, "kept", data, 200 * KIB);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_int_equal(records(&fx), 0);
	fx_stop(&fx);
	begin(&fx, &o);
	path_equal(&fx, "kept", data, 200 * KIB);
	fx_end(&fx);
}

/* The store has it, and nobody was told. */
static void lose_reply(struct fx *fx, struct fx_options *o)
{
	(void)o;
	create_close(fx, "lost", 70 * KIB, 5);
	fault(fx, S3C_STORE_PUT, S3C_FAULT_LOST, -ECONNRESET);
	fault(fx, S3C_STORE_GET, S3C_FAULT_FAIL, -ECONNRESET);
	assert_true(s3c_engine_sync(fx->engine, NULL) < 0);
}

static void test_lost_reply(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = pattern(70 * KIB, 5);
	struct s3c_listing *list;
	char dir[64];
	struct fx fx;

	(void)state;
	for (int caps = 0; caps < 2; caps++) {
		o.no_caps = caps == 1;
		o.state = NULL;
		fresh_dir(&o, dir);
		killed(lose_reply, &o);
		begin(&fx, &o);
		assert_int_equal(fx.recovery.failed, 0);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		path_equal(&fx, "lost", data, 70 * KIB);
		assert_int_equal(records(&fx), 0);
		/* No second file as after a conflict. */
		assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &list), 0);
		assert_int_equal(list->count, 1);
		s3c_listing_put(list);
		fx_end(&fx);
	}
}

/* Somebody else wrote the name while we were away. */
static void test_conflict(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	struct fx_options other = { .enc = S3C_ENC_CSE_KEY, .state = "other" };
	cleanup_free uint8_t *small = pattern(100 * KIB + 5, 1);
	cleanup_free uint8_t *theirs = pattern(40 * KIB, 8);
	struct s3c_listing *list;
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(die_after_close, &o);
	other.dir = dir;
	begin(&fx, &other);
	create_close(&fx, "small", 40 * KIB, 8);
	fx_stop(&fx);
	begin(&fx, &o);
	/* -ESTALE, unless it was sent before this asked. */
	s3c_engine_sync(fx.engine, NULL);
	path_equal(&fx, "small", theirs, 40 * KIB);
	assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &list), 0);
	assert_int_equal(list->count, 4);
	for (size_t i = 0; i < list->count; i++)
		if (strstr(list->items[i].name, "small.conflict-"))
			path_equal(&fx, list->items[i].name, small, 100 * KIB + 5);
	s3c_listing_put(list);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* A commit publishes what the journal has not, while the writer goes on. */

static void *commit_thread(void *arg)
{
	s3c_object_commit(arg, NULL);
	return NULL;
}

static void stale_chunks(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(300 * KIB, 11);
	struct s3c_object *object;
	pthread_t thread;

	(void)o;
	assert_int_equal(s3c_object_create(fx->engine, NULL, "f", &made_attrs, &object), 0);
	write_all(object, 0, data, 300 * KIB);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	assert_int_equal(s3c_object_write(object, NULL, 10, "second", 6, false), 0);
	fault(fx, S3C_STORE_PUT, S3C_FAULT_STALL, 0);
	assert_int_equal(pthread_create(&thread, NULL, commit_thread, object), 0);
	usleep(300000);
	assert_int_equal(s3c_object_write(object, NULL, 200 * KIB, "third", 5, false), 0);
	if (o->state) /* acknowledged on what is about to be replaced */
		assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	s3c_store_fault_clear(fx->store);
	s3c_store_fault_release(fx->store);
	pthread_join(thread, NULL);
	assert_int_equal(s3c_object_write(object, NULL, 130 * KIB, "fourth", 6, false), 0);
	fault(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EAGAIN);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
}

static void test_stale_chunks(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *expect = pattern(300 * KIB, 11);
	char dir[64];
	struct fx fx;

	(void)state;
	memcpy(expect + 10, "second", 6);
	memcpy(expect + 130 * KIB, "fourth", 6);
	memcpy(expect + 200 * KIB, "third", 5);
	for (int i = 0; i < 2; i++) {
		o.state = i ? "state" : NULL;
		fresh_dir(&o, dir);
		killed(stale_chunks, &o);
		begin(&fx, &o);
		path_equal(&fx, "f", expect, 300 * KIB);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		path_equal(&fx, "f", expect, 300 * KIB);
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
}

/* The journal refuses a view: what it has stays as it was. */

static uint64_t *measured; /* bytes of records, shared */

static void fill_journal(struct fx *fx, struct fx_options *o)
{
	struct s3c_record_stats stats;

	(void)o;
	fault(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EAGAIN);
	create_close(fx, "f", 128 * KIB, 12);
	s3c_record_stats(fx->journal, &stats);
	*measured = stats.bytes;
}

static void overfill_journal(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(64 * KIB, 13);
	struct s3c_object *object;

	(void)o;
	fault(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EAGAIN);
	assert_int_equal(s3c_object_open(fx->engine, NULL, "f", &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 128 * KIB, data, 64 * KIB, false), 0);
	/* Neither the journal nor the store takes it. */
	assert_true(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC) < 0);
	assert_true(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC) < 0);
}

static void test_refused(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *expect = pattern(128 * KIB, 12);
	char dir[64];
	struct fx fx;

	(void)state;
	measured = mmap(NULL, sizeof(*measured), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	assert_ptr_not_equal(measured, MAP_FAILED);
	fresh_dir(&o, dir);
	killed(fill_journal, &o);
	/* The chunk fits, what comes with it does not. */
	o.journal_size = *measured + 64 * KIB + 10;
	killed(overfill_journal, &o);
	begin(&fx, &o);
	path_equal(&fx, "f", expect, 128 * KIB);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	path_equal(&fx, "f", expect, 128 * KIB);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
	munmap(measured, sizeof(*measured));
}

/* Killed between the chunks of a large view and the transaction that makes them count. */
static void leave_orphans(struct fx *fx, struct fx_options *o)
{
	struct s3c_tx *tx;

	(void)o;
	fault(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -EAGAIN);
	create_close(fx, "f", 70 * KIB, 14);
	for (uint64_t i = 0; i < 5; i++) {
		assert_int_equal(s3c_tx_new(fx->journal, &tx), 0);
		assert_int_equal(s3c_tx_put(tx, S3C_RECORD_CHUNK, 4711 + i % 2, i, "x", 1), 0);
		assert_int_equal(s3c_tx_commit(tx, S3C_TX_SYNC), 0);
	}
}

static void test_orphans(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *expect = pattern(70 * KIB, 14);
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(leave_orphans, &o);
	begin(&fx, &o);
	path_equal(&fx, "f", expect, 70 * KIB);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* The store took a view that is later than the acknowledged one: all of it, or nothing. */
static void publish_later(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(300 * KIB, 15);
	struct s3c_object *object;
	pthread_t thread;

	create_close(fx, "f", 300 * KIB, 15);
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
	assert_int_equal(s3c_object_open(fx->engine, NULL, "f", &object), 0);
	/* All of it is here: the commit needs no GET. */
	assert_int_equal(differs(fx, object, data, 300 * KIB), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, "one", 3, false), 0);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, "two", 3, false), 0);
	assert_int_equal(s3c_object_write(object, NULL, 100 * KIB, "two", 3, false), 0);
	assert_int_equal(s3c_object_write(object, NULL, 300 * KIB, "more", 4, false), 0);
	fault(fx, S3C_STORE_PUT, o->state ? S3C_FAULT_FAIL : S3C_FAULT_LOST, -ECONNRESET);
	/* Killed while it asks what became of it. */
	fault(fx, S3C_STORE_GET, S3C_FAULT_STALL, 0);
	assert_int_equal(pthread_create(&thread, NULL, commit_thread, object), 0);
	usleep(300000);
}

static void test_later_view(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *one = pattern(300 * KIB, 15), *two = pattern(300 * KIB + 4, 15);
	char dir[64];
	struct fx fx;

	(void)state;
	memcpy(one, "one", 3);
	memcpy(two, "two", 3);
	memcpy(two + 100 * KIB, "two", 3);
	memcpy(two + 300 * KIB, "more", 4);
	for (int i = 0; i < 4; i++) {
		o.state = i & 1 ? "state" : NULL;
		o.no_caps = i & 2;
		fresh_dir(&o, dir);
		killed(publish_later, &o);
		for (int k = 0; k < 2; k++) {
			struct s3c_object *object;

			begin(&fx, &o);
			assert_int_equal(s3c_object_open(fx.engine, NULL, "f", &object), 0);
			if (differs(&fx, object, one, 300 * KIB) &&
			    differs(&fx, object, two, 300 * KIB + 4))
				fail_msg("neither of the views");
			s3c_object_close(object);
			assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
			assert_int_equal(records(&fx), 0);
			fx_stop(&fx);
		}
		begin(&fx, &o);
		fx_end(&fx);
	}
}

/* A long outage begins with a reply that is lost: the write is known again after any number of
   attempts. */
static void test_outage(void **state)
{
	struct s3c_fault_rule lost = {
		.op = S3C_STORE_PUT,
		.kind = S3C_FAULT_LOST,
		.result = -ECONNRESET,
		.times = 1,
	};
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = pattern(70 * KIB, 16);
	struct s3c_object *object;
	struct s3c_listing *listing;
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	assert_int_equal(s3c_object_create(fx.engine, NULL, "f", &made_attrs, &object), 0);
	write_all(object, 0, data, 70 * KIB);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
	assert_int_equal(s3c_store_fault_add(fx.store, &lost), 0);
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -ECONNRESET);
	fault(&fx, S3C_STORE_GET, S3C_FAULT_FAIL, -ECONNRESET);
	for (int i = 0; i < 7; i++)
		assert_true(s3c_object_commit(object, NULL) < 0);
	s3c_store_fault_clear(fx.store);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	assert_int_equal(differs(&fx, object, data, 70 * KIB), 0);
	s3c_object_close(object);
	assert_int_equal(s3c_engine_list(fx.engine, NULL, "", &listing), 0);
	assert_int_equal(listing->count, 1);
	s3c_listing_put(listing);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

/* A stored file that is cut, and gets more than a transaction takes. */

static void replace_large(struct fx *fx, struct fx_options *o)
{
	cleanup_free uint8_t *data = pattern(SEG + 70 * KIB, 18);
	struct s3c_object *object;

	(void)o;
	create_close(fx, "f", 100 * KIB, 17);
	assert_int_equal(s3c_engine_sync(fx->engine, NULL), 0);
	assert_int_equal(records(fx), 0);
	assert_int_equal(s3c_object_open(fx->engine, NULL, "f", &object), 0);
	assert_int_equal(s3c_object_truncate(object, NULL, 0), 0);
	write_all(object, 0, data, SEG + 70 * KIB);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_FSYNC), 0);
}

static void test_replace_large(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *data = pattern(SEG + 70 * KIB, 18);
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(replace_large, &o);
	begin(&fx, &o);
	path_equal(&fx, "f", data, SEG + 70 * KIB);
	fx_end(&fx);
}

static void die_with_much(struct fx *fx, struct fx_options *o)
{
	(void)o;
	fault(fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -ETIMEDOUT);
	fault(fx, S3C_STORE_UPLOAD_CREATE, S3C_FAULT_FAIL, -ETIMEDOUT);
	create_close(fx, "large", 3 * SEG, 1);
	create_close(fx, "small", 5000, 2);
}

/* More than memory and cache_size have room for, with the store away: all of it is there, before
   the store has any of it. */
static void test_larger_than_memory(void **state)
{
	struct fx_options o = { .enc = S3C_ENC_CSE_KEY, .writeback = true };
	cleanup_free uint8_t *large = pattern(3 * SEG, 1);
	cleanup_free uint8_t *small = pattern(5000, 2);
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(die_with_much, &o);
	o.memory = 16u << 20;
	o.cache_size = 1u << 20;
	fx_open(&fx, &o);
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -ETIMEDOUT);
	fault(&fx, S3C_STORE_UPLOAD_CREATE, S3C_FAULT_FAIL, -ETIMEDOUT);
	fx_start(&fx, &o);
	assert_int_equal(fx.recovery.failed, 0);
	assert_int_equal(fx.recovery.objects, 2);
	path_equal(&fx, "large", large, 3 * SEG);
	path_equal(&fx, "small", small, 5000);
	s3c_store_fault_clear(fx.store);
	assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
	path_equal(&fx, "large", large, 3 * SEG);
	fx_end(&fx);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_settled),
		cmocka_unit_test(test_change),
		cmocka_unit_test(test_failed_close),
		cmocka_unit_test(test_lost_reply),
		cmocka_unit_test(test_conflict),
		cmocka_unit_test(test_stale_chunks),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_orphans),
		cmocka_unit_test(test_later_view),
		cmocka_unit_test(test_outage),
		cmocka_unit_test(test_replace_large),
		cmocka_unit_test(test_larger_than_memory),
	};

	assert_int_equal(s3c_secret_init(), 0);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
