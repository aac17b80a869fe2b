/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Links, special files, and files with excl=open: a name is in the store when it is made. */
#include "engine_fixture.h"

#include <stdlib.h>

#include "engine/durable.h"

static int create(struct fx *fx, const char *path, struct s3c_object **ret_object)
{
	return s3c_object_create_excl(fx->engine, NULL, path, &file_attrs, ret_object);
}

static void fault(struct fx *fx, enum s3c_store_opcode op, enum s3c_fault_kind kind, unsigned times)
{
	struct s3c_fault_rule rule = {
		.op = op, .kind = kind, .result = -ECONNRESET, .times = times
	};

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static uint64_t records(struct fx *fx)
{
	uint64_t count, bytes;

	assert_int_equal(s3c_journal_sync(fx->journal), 0);
	assert_int_equal(s3c_journal_pending(fx->journal, &count, &bytes), 0);
	return count;
}

static void test_made_at_open(void **state)
{
	struct fx_options o = { .excl_open = true, .durable = true };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	for (int writeback = 0; writeback < 2; writeback++) {
		o.writeback = writeback;
		fx_new(&fx, &o);
		list(&fx, "");
		fx_requests(&fx);
		assert_int_equal(
			s3c_object_create_excl(fx.engine, S3C_NOWAIT, "f", &file_attrs, &object),
			-EINPROGRESS);
		assert_int_equal(create(&fx, "f", &object), 0);
		assert_requests(&fx, "PUT 1");
		assert_false(s3c_object_dirty(object));
		assert_content(&fx, "f", "");
		assert_int_equal(create(&fx, "f", &object), -EEXIST);
		assert_int_equal(s3c_object_write(object, NULL, 0, "text", 4, false), 0);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		assert_requests(&fx, "PUT 1");
		s3c_object_close(object);
		assert_content(&fx, "f", "text");
		/* One that was removed may be made again, whatever is pending of it. */
		assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "f"), 0);
		assert_int_equal(create(&fx, "f", &object), 0);
		assert_content(&fx, "f", "");
		s3c_object_close(object);
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
}

/* Another machine was first: nothing of ours is left, and nothing of theirs is touched. */
static void test_second(void **state)
{
	struct fx_options o = { .excl_open = true, .durable = true };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	for (int writeback = 0; writeback < 2; writeback++) {
		o.writeback = writeback;
		fx_new(&fx, &o);
		list(&fx, "");
		hand_file(&fx, "f", "theirs");
		assert_int_equal(create(&fx, "f", &object), -EEXIST);
		assert_content(&fx, "f", "theirs");
		assert_reads(&fx, "f", "theirs");
		s3c_names_invalidate(fx.engine, "", true);
		assert_string_equal(list(&fx, ""), "f");
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
}

/* A reply that is lost, a store that is not there: what was sent is not left behind. */
static void test_failed(void **state)
{
	struct fx_options o = { .excl_open = true, .durable = true };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	fx_new(&fx, &o);
	list(&fx, "");
	/* Known again by its operation. */
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_LOST, 1);
	assert_int_equal(create(&fx, "a", &object), 0);
	s3c_object_close(object);
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_LOST, 1);
	fault(&fx, S3C_STORE_GET, S3C_FAULT_FAIL, 1);
	assert_int_equal(create(&fx, "b", &object), -EIO);
	assert_false(hand_exists(&fx, "b"));
	fault(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, 1);
	assert_int_equal(create(&fx, "b", &object), -EIO);
	assert_string_equal(list(&fx, ""), "a");
	assert_int_equal(records(&fx), 0);
	assert_int_equal(create(&fx, "b", &object), 0);
	s3c_object_close(object);
	assert_string_equal(list(&fx, ""), "a b");
	fx_end(&fx);
}

static int make(struct fx *fx, const char *path, bool special)
{
	const struct s3c_attrs fifo = { .mode = S_IFIFO | 0600 };

	return special ? s3c_engine_mknod(fx->engine, NULL, path, &fifo)
		       : s3c_engine_symlink(fx->engine, NULL, path, "target", &file_attrs);
}

/* Something came under the name that was seen to be free, be it what an earlier attempt had sent.
 */
static void test_whole_second(void **state)
{
	struct fx_options o = { .durable = true };
	struct fx fx;

	(void)state;
	for (int special = 0; special < 2; special++) {
		fx_new(&fx, &o);
		list(&fx, "");
		hand_file(&fx, "f", "theirs");
		assert_int_equal(make(&fx, "f", special), -EEXIST);
		assert_content(&fx, "f", "theirs");
		assert_string_equal(list(&fx, ""), "f");
		assert_reads(&fx, "f", "theirs");
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
}

static void test_whole_failed(void **state)
{
	struct fx_options o = { .durable = true };
	struct fx fx;

	(void)state;
	for (int special = 0; special < 2; special++) {
		fx_new(&fx, &o);
		list(&fx, "");
		/* Seen to be ours, and taken away. */
		fault(&fx, S3C_STORE_PUT, S3C_FAULT_LOST, 1);
		fault(&fx, S3C_STORE_GET, S3C_FAULT_FAIL, 1);
		assert_int_equal(make(&fx, "a", special), -EIO);
		assert_false(hand_exists(&fx, "a"));
		assert_string_equal(list(&fx, ""), "");
		/* Nobody can tell: it is there, as who asks again is told. */
		fault(&fx, S3C_STORE_PUT, S3C_FAULT_LOST, 1);
		fault(&fx, S3C_STORE_GET, S3C_FAULT_FAIL, 2);
		fault(&fx, S3C_STORE_HEAD, S3C_FAULT_FAIL, 2);
		assert_int_equal(make(&fx, "a", special), -EIO);
		s3c_store_fault_clear(fx.store);
		assert_int_equal(make(&fx, "a", special), -EEXIST);
		assert_string_equal(list(&fx, ""), "a");
		assert_int_equal(make(&fx, "b", special), 0);
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_made_at_open), cmocka_unit_test(test_second),
		cmocka_unit_test(test_failed),       cmocka_unit_test(test_whole_second),
		cmocka_unit_test(test_whole_failed),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
