/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Second names that are stored by a later attempt, while others are at work on the file: its open
 * object, another machine, a mount that begins while the store is away.
 */
#include "links_fixture.h"

#include <errno.h>

static void fail_once(struct fx *fx, enum s3c_store_opcode op, enum s3c_fault_kind kind, int result,
		      unsigned after)
{
	const struct s3c_fault_rule rule = {
		.op = op, .kind = kind, .result = result, .after = after, .times = 1
	};

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static void write_to(struct fx *fx, const char *path, const char *text)
{
	struct s3c_object *object;

	assert_int_equal(s3c_object_open(fx->engine, NULL, path, &object), 0);
	assert_int_equal(s3c_object_write(object, NULL, 0, text, strlen(text), false), 0);
	assert_int_equal(s3c_object_commit(object, NULL), 0);
	s3c_object_close(object);
}

static void begins_with(struct fx *fx, const char *path, const char *text)
{
	cleanup_free uint8_t *data = pattern(LEN, 1);

	memcpy(data, text, strlen(text));
	path_equal(fx, path, data, LEN);
}

static void set_mode(struct fx *fx, const char *path, mode_t mode)
{
	const struct s3c_attrs attrs = { .known = true, .mode = mode };
	struct s3c_info info;

	assert_int_equal(
		s3c_engine_setattr(fx->engine, NULL, path, NULL, S3C_SET_MODE, &attrs, &info), 0);
}

static mode_t mode_of(struct fx *fx, const char *path)
{
	struct s3c_info info;

	assert_int_equal(s3c_engine_revalidate(fx->engine, NULL, path, &info), 0);
	return info.mode & 07777;
}

/* The same store, seen by another machine. */
static void other_machine(struct fx *fx, void (*call)(struct fx *other))
{
	struct fx_options o = { .dir = fx->dir, .state = "state of another" };
	struct fx other;

	begin(&other, &o);
	call(&other);
	fx_stop(&other);
}

static void write_b(struct fx *other)
{
	write_to(other, "b", "by another machine");
}

/* The second name leads to the body already, and somebody writes there: that is not taken back. */
static void test_written_meanwhile(void **state)
{
	struct fx_options o = { .durable = true, .ttl_s = -1 };
	struct fx fx;

	(void)state;
	begin(&fx, &o);
	make_pair(&fx);
	fail_once(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -ENOSPC, 1);
	assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), -ENOSPC);
	other_machine(&fx, write_b);
	begins_with(&fx, "a", "");
	assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
	begins_with(&fx, "a", "");
	begins_with(&fx, "b", "by another machine");
	fx_end(&fx);
}

/* The reference in the place of the file came to be, and nobody was told, while the file is open,
   and is written to: the pair ends, and what is written goes to the body. */
static void test_open_meanwhile(void **state)
{
	struct fx_options o = { .durable = true };
	struct s3c_object *object;
	struct s3c_info info;

	(void)state;
	for (int dirty = 0; dirty < 2; dirty++) {
		struct fx fx;

		begin(&fx, &o);
		make_pair(&fx);
		assert_int_equal(s3c_object_open(fx.engine, NULL, "a", &object), 0);
		/* Before there is a body, which was looked for in vain then. */
		fail_once(&fx, S3C_STORE_COPY, S3C_FAULT_FAIL, -ENOSPC, 0);
		assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), -ENOSPC);
		fail_once(&fx, S3C_STORE_PUT, S3C_FAULT_LOST, -ETIMEDOUT, 1);
		fail_once(&fx, S3C_STORE_HEAD, S3C_FAULT_FAIL, -ETIMEDOUT, 1);
		assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), -ETIMEDOUT);
		s3c_store_fault_clear(fx.store);
		if (dirty)
			assert_int_equal(s3c_object_write(object, NULL, 0, "later", 5, false), 0);
		assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
		if (!dirty)
			assert_int_equal(s3c_object_write(object, NULL, 0, "later", 5, false), 0);
		assert_int_equal(s3c_object_commit(object, NULL), 0);
		s3c_object_close(object);
		begins_with(&fx, "a", "later");
		begins_with(&fx, "b", "later");
		info_of(&fx, "a", &info);
		assert_int_equal(info.nlink, 2);
		assert_string_equal(list(&fx, ""), "a b");
		fx_end(&fx);
	}
}

static void link_c(struct fx *other)
{
	uint8_t id[16];

	assert_int_equal(s3c_engine_link(other->engine, NULL, "a", "c", id), 0);
}

static void link_and_write_c(struct fx *other)
{
	link_c(other);
	write_to(other, "c", "by another machine");
}

/* Attributes that wait while another machine makes a file with several names of it. */
static void test_attributes_wait(void **state)
{
	struct fx_options o = { .writeback = true, .ttl_s = -1 };
	struct fx fx;

	(void)state;
	for (int written = 0; written < 2; written++) {
		begin(&fx, &o);
		create_close(&fx, "a", LEN, 1);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		set_mode(&fx, "a", 0600);
		other_machine(&fx, written ? link_and_write_c : link_c);
		assert_int_equal(s3c_engine_sync(fx.engine, NULL), 0);
		assert_int_equal(mode_of(&fx, "a"), 0600);
		assert_int_equal(mode_of(&fx, "c"), 0600);
		begins_with(&fx, "a", written ? "by another machine" : "");
		begins_with(&fx, "c", written ? "by another machine" : "");
		assert_int_equal(records(&fx), 0);
		fx_end(&fx);
	}
}

static struct s3c_store *away(struct s3c_store *inner)
{
	static const struct s3c_fault_rule rule = { .op = S3C_STORE_GET,
						    .key_substring = "p/a",
						    .kind = S3C_FAULT_FAIL,
						    .result = -ETIMEDOUT,
						    .times = 1 };
	struct s3c_store *store;

	assert_int_equal(s3c_store_fault_new(inner, &store), 0);
	assert_int_equal(s3c_store_fault_add(store, &rule), 0);
	return store;
}

static void pair_only(struct fx *fx, struct fx_options *o)
{
	(void)o;
	make_pair(fx);
}

/* A mount that cannot look at a pair when it begins does so later. */
static void test_begun_without_store(void **state)
{
	cleanup_free uint8_t *data = pattern(LEN, 1);
	struct fx_options o = { .prefix = "p/", .durable = true };
	char dir[64];
	struct fx fx;

	(void)state;
	fresh_dir(&o, dir);
	killed(pair_only, &o);
	o.wrap = away;
	begin(&fx, &o);
	one_file(&fx, data);
	assert_int_equal(s3c_links_settle(fx.engine, NULL, ""), 0);
	one_file(&fx, data);
	assert_int_equal(records(&fx), 0);
	fx_end(&fx);
}

static void make_x(struct fx *other)
{
	create_close(other, "x", LEN, 2);
}

/* A file that was never stored is removed, or renamed, and the store has another of that name: from
   then on that one is seen. */
static void test_name_is_taken(void **state)
{
	cleanup_free uint8_t *data = pattern(LEN, 2);
	struct fx_options o = { .durable = true, .ttl_s = -1 };
	struct s3c_object *object;
	struct fx fx;

	(void)state;
	for (int renamed = 0; renamed < 2; renamed++) {
		begin(&fx, &o);
		assert_int_equal(s3c_object_create(fx.engine, NULL, "x", &made_attrs, &object), 0);
		assert_int_equal(s3c_object_write(object, NULL, 0, "mine", 4, false), 0);
		fail_once(&fx, S3C_STORE_PUT, S3C_FAULT_FAIL, -ETIMEDOUT, 0);
		assert_int_equal(s3c_object_commit(object, NULL), -ETIMEDOUT);
		other_machine(&fx, make_x);
		if (renamed)
			assert_int_equal(s3c_engine_rename(fx.engine, NULL, "x", "y", false), 0);
		else
			assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "x"), 0);
		s3c_object_close(object);
		path_equal(&fx, "x", data, LEN);
		fx_end(&fx);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written_meanwhile),
		cmocka_unit_test(test_open_meanwhile),
		cmocka_unit_test(test_attributes_wait),
		cmocka_unit_test(test_begun_without_store),
		cmocka_unit_test(test_name_is_taken),
	};

	assert_int_equal(s3c_secret_init(), 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
