/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Requests that may be carried out later: completions of uploads (engine/unsettled.h), and others
   (engine/overdue.h). */
#include "engine_fixture.h"

#include <errno.h>

static void fail_completions(struct fx *fx, enum s3c_fault_kind kind, unsigned times)
{
	struct s3c_fault_rule rule = {
		.op = S3C_STORE_UPLOAD_COMPLETE, .kind = kind, .result = -ETIMEDOUT, .times = times
	};

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static int set_mode(struct fx *fx, const char *path, mode_t mode)
{
	const struct s3c_attrs attrs = { .known = true, .mode = mode };
	struct s3c_info info;

	return s3c_engine_setattr(fx->engine, NULL, path, NULL, S3C_SET_MODE, &attrs, &info);
}

static mode_t mode_of(struct fx *fx, const char *path)
{
	struct s3c_info info;

	assert_int_equal(s3c_engine_revalidate(fx->engine, NULL, path, &info), 0);
	return info.mode & 07777;
}

static uint64_t aborts(struct fx *fx)
{
	return s3c_store_fault_count(fx->store, S3C_STORE_UPLOAD_ABORT);
}

/* "a" is there, and a change of its attributes is an upload. */
static void begin(struct fx *fx)
{
	struct fx_options options = { .prefix = "p/", .no_caps = true };

	fx_new(fx, &options);
	hand_file(fx, "p/a", "hello");
	assert_string_equal(list(fx, ""), "a");
	assert_int_equal(set_mode(fx, "a", 0644), 0);
	assert_int_equal(s3c_store_fault_count(fx->store, S3C_STORE_UPLOAD_COMPLETE), 1);
	fx_requests(fx);
}

/* Not made yet, or made: it is asked for once more. */
static void test_again(void **state)
{
	struct fx fx;

	(void)state;
	for (int made = 0; made < 2; made++) {
		begin(&fx);
		fail_completions(&fx, made ? S3C_FAULT_LOST : S3C_FAULT_FAIL, 1);
		assert_int_equal(set_mode(&fx, "a", 0600), 0);
		assert_int_equal(mode_of(&fx, "a"), 0600);
		assert_content(&fx, "p/a", "hello");
		assert_int_equal(aborts(&fx), 0);
		fx_end(&fx);
	}
}

/* While nothing is known nothing else is done with the key, and the upload is not aborted. */
static void test_nothing_before(void **state)
{
	struct fx fx;

	(void)state;
	begin(&fx);
	fail_completions(&fx, S3C_FAULT_FAIL, 0);
	assert_int_equal(set_mode(&fx, "a", 0600), -ETIMEDOUT);
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "a"), -ETIMEDOUT);
	assert_int_equal(s3c_engine_rename(fx.engine, NULL, "a", "b", false), -ETIMEDOUT);
	assert_true(hand_exists(&fx, "p/a"));
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_DELETE), 0);
	assert_int_equal(aborts(&fx), 0);
	s3c_store_fault_clear(fx.store);
	assert_int_equal(mode_of(&fx, "a"), 0644);
	/* It comes to be before the name goes, and not after that. */
	assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "a"), 0);
	assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_COMPLETE), 2);
	assert_false(hand_exists(&fx, "p/a"));
	assert_int_equal(aborts(&fx), 0);
	fx_end(&fx);
}

/* One that was refused is known: its upload is aborted, and its key is free, also when that was
   told to the second request. */
static void test_refused(void **state)
{
	struct s3c_fault_rule refuse = { .op = S3C_STORE_UPLOAD_COMPLETE,
					 .kind = S3C_FAULT_FAIL,
					 .times = 1 };
	/* -EACCES: by who asks, which tells nothing of a request before it. */
	static const int results[] = { -EINVAL, -ENOSPC, -ENXIO, -EACCES };
	struct fx fx;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(results); i++) {
		refuse.result = results[i];
		for (unsigned lost = 0; lost < (results[i] == -EACCES ? 1 : 2); lost++) {
			begin(&fx);
			if (lost)
				fail_completions(&fx, S3C_FAULT_FAIL, 1);
			assert_int_equal(s3c_store_fault_add(fx.store, &refuse), 0);
			assert_true(set_mode(&fx, "a", 0600) < 0);
			/* Of one that is not there nothing is left to abort. */
			assert_int_equal(aborts(&fx), !lost || results[i] != -ENXIO);
			assert_int_equal(mode_of(&fx, "a"), 0644);
			assert_int_equal(s3c_engine_unlink(fx.engine, NULL, "a"), 0);
			assert_int_equal(s3c_store_fault_count(fx.store, S3C_STORE_UPLOAD_COMPLETE),
					 1);
			fx_end(&fx);
		}
	}
}

/* The next such request is held until it is given up, after a second. */
static void hold_next(struct fx *fx, enum s3c_store_opcode op)
{
	const struct s3c_fault_rule rule = { .op = op, .kind = S3C_FAULT_STALL, .times = 1 };

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static bool waits(struct fx *fx, int (*call)(struct fx *fx, const char *path), const char *path)
{
	int64_t begun_ns = s3c_clock_monotonic_ns();

	assert_int_equal(call(fx, path), 0);
	return s3c_clock_monotonic_ns() - begun_ns > S3C_NSEC_PER_SEC / 2;
}

static int make(struct fx *fx, const char *path)
{
	return s3c_engine_mkdir(fx->engine, NULL, path, &dir_attrs);
}

static int drop(struct fx *fx, const char *path)
{
	return s3c_engine_rmdir(fx->engine, NULL, path);
}

/* Of two DELETEs the first was given up: what is made anew waits for it; other names do not. */
static void test_overdue_delete(void **state)
{
	struct fx_options options = { .prefix = "p/", .no_caps = true, .timeout_s = 1 };
	struct fx fx;

	(void)state;
	fx_new(&fx, &options);
	assert_int_equal(make(&fx, "d"), 0);
	hold_next(&fx, S3C_STORE_DELETE);
	assert_int_equal(drop(&fx, "d"), 0);
	assert_int_equal(s3c_store_fault_stalled(fx.store), 1);
	assert_false(waits(&fx, make, "e"));
	assert_true(waits(&fx, make, "d"));
	assert_true(hand_exists(&fx, "p/d/"));
	fx_end(&fx);
}

/* A PUT that was given up: with a condition it can only bring back what was removed. */
static void test_overdue_put(void **state)
{
	struct fx_options options = { .prefix = "p/", .timeout_s = 1 };
	struct fx fx;

	(void)state;
	for (int conditional = 0; conditional < 2; conditional++) {
		options.no_caps = !conditional;
		fx_new(&fx, &options);
		hold_next(&fx, S3C_STORE_PUT);
		assert_int_equal(make(&fx, "d"), -ETIMEDOUT);
		assert_int_equal(waits(&fx, make, "d"), !conditional);
		hold_next(&fx, S3C_STORE_PUT);
		assert_int_equal(make(&fx, "e"), -ETIMEDOUT);
		assert_false(waits(&fx, drop, "d"));
		fx_end(&fx);
	}
	fx_new(&fx, &options);
	hold_next(&fx, S3C_STORE_PUT);
	assert_int_equal(make(&fx, "d"), -ETIMEDOUT);
	assert_int_equal(make(&fx, "d"), 0);
	assert_true(waits(&fx, drop, "d"));
	fx_end(&fx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_again),       cmocka_unit_test(test_nothing_before),
		cmocka_unit_test(test_refused),     cmocka_unit_test(test_overdue_delete),
		cmocka_unit_test(test_overdue_put),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
