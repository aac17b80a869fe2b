/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"
#include "store/fault.h"

static char dir[64];
static struct s3c_store *store;

static int set_up(void **state)
{
	struct s3c_store *inner;

	(void)state;
	strcpy(dir, "/tmp/s3c-test-XXXXXX");
	if (!mkdtemp(dir) || s3c_store_file_new(dir, S3C_FILE_CREATE, NULL, &inner) < 0)
		return -1;
	return s3c_store_fault_new(inner, &store);
}

static int tear_down(void **state)
{
	cleanup_free char *command = s3c_asprintf("rm -rf '%s'", dir);

	(void)state;
	s3c_store_free(store);
	return command ? system(command) : -1;
}

static int put(const char *key)
{
	struct iovec body = { (void *)(uintptr_t) "0123456789", 10 };
	struct s3c_store_request rq = {
		.op = S3C_STORE_PUT,
		.key = key,
		.body = &body,
		.body_count = 1,
	};
	struct s3c_store_reply reply;
	int r = s3c_store_perform(store, &rq, NULL, &reply);

	if (r < 0)
		assert_string_not_equal(reply.message, "");
	s3c_store_reply_free(&reply);
	return r;
}

static int get(const char *key, char ret_text[static 11])
{
	cleanup_buf struct s3c_buf body = { 0 };
	int r = s3c_store_get_all(store, key, NULL, 100, NULL, &body, NULL, NULL, 0);

	if (r == 0)
		strcpy(ret_text, body.data);
	return r;
}

static void add(const struct s3c_fault_rule *rule)
{
	assert_int_equal(s3c_store_fault_add(store, rule), 0);
}

static void test_fail(void **state)
{
	char text[11];

	(void)state;
	add(&(struct s3c_fault_rule){ .op = S3C_STORE_PUT,
				      .key_substring = "bad",
				      .kind = S3C_FAULT_FAIL,
				      .result = -EAGAIN,
				      .after = 1,
				      .times = 2 });
	assert_int_equal(put("good"), 0);
	assert_int_equal(put("a/bad"), 0);
	assert_int_equal(put("a/bad2"), -EAGAIN);
	assert_int_equal(put("a/bad2"), -EAGAIN);
	assert_int_equal(get("a/bad2", text), -ENOENT);
	assert_int_equal(put("a/bad2"), 0);
	assert_int_equal(s3c_store_fault_count(store, S3C_STORE_PUT), 3);
	assert_int_equal(s3c_store_fault_count(store, S3C_STORE_GET), 1);
}

static void test_lost(void **state)
{
	char text[11];

	(void)state;
	add(&(struct s3c_fault_rule){
		.op = S3C_STORE_PUT, .kind = S3C_FAULT_LOST, .result = -ECONNRESET });
	assert_int_equal(put("lost"), -ECONNRESET);
	assert_int_equal(get("lost", text), 0);
	s3c_store_fault_clear(store);
	assert_int_equal(put("lost"), 0);
}

static void test_bodies(void **state)
{
	char text[11] = "";

	(void)state;
	assert_int_equal(put("body"), 0);
	add(&(struct s3c_fault_rule){
		.op = S3C_STORE_GET, .kind = S3C_FAULT_CORRUPT, .offset = 4, .times = 1 });
	add(&(struct s3c_fault_rule){
		.op = S3C_STORE_GET, .kind = S3C_FAULT_CUT, .offset = 9, .times = 1 });
	assert_int_equal(get("body", text), 0);
	assert_string_equal(text, "0123556789");
	assert_int_equal(get("body", text), -ECONNRESET);
	assert_int_equal(get("body", text), 0);
	assert_string_equal(text, "0123456789");
}

struct stalled {
	struct s3c_mutex lock;
	struct s3c_waitq woken;
	bool done;
	int result;
};

static void stalled_done(void *arg, struct s3c_store_reply *reply)
{
	struct stalled *s = arg;

	s3c_mutex_lock(&s->lock);
	s->done = true;
	s->result = reply->result;
	s3c_waitq_wake_all(&s->woken);
	s3c_mutex_unlock(&s->lock);
}

static void start(struct stalled *s, int64_t deadline_ns, struct s3c_store_call **ret_call)
{
	const struct s3c_store_request rq = {
		.op = S3C_STORE_HEAD,
		.key = "stalled",
		.deadline_ns = deadline_ns,
	};

	s3c_mutex_init(&s->lock);
	s3c_waitq_init(&s->woken);
	s->done = false;
	assert_int_equal(s3c_store_submit(store, &rq, stalled_done, s, ret_call), 0);
}

static int finish(struct stalled *s)
{
	s3c_mutex_lock(&s->lock);
	while (!s->done)
		(void)s3c_waitq_wait(&s->woken, &s->lock, NULL);
	s3c_mutex_unlock(&s->lock);
	s3c_mutex_destroy(&s->lock);
	return s->result;
}

static bool is_done(struct stalled *s)
{
	bool done;

	s3c_mutex_lock(&s->lock);
	done = s->done;
	s3c_mutex_unlock(&s->lock);
	return done;
}

static void test_stall(void **state)
{
	struct s3c_store_call *call;
	struct stalled a, b, c;

	(void)state;
	assert_int_equal(put("stalled"), 0);
	add(&(struct s3c_fault_rule){ .op = S3C_STORE_HEAD, .kind = S3C_FAULT_STALL });
	start(&a, 0, NULL);
	start(&b, 0, &call);
	start(&c, s3c_deadline_after(0.05), NULL);
	assert_int_equal(finish(&c), -ETIMEDOUT);
	assert_false(is_done(&a) || is_done(&b));
	s3c_store_cancel(store, call);
	assert_int_equal(finish(&b), -ECANCELED);
	s3c_store_call_put(store, call);
	assert_false(is_done(&a));
	s3c_store_fault_release(store);
	assert_int_equal(finish(&a), 0);
	/* Later ones stall again, and end with the store. */
	start(&a, 0, NULL);
	s3c_store_free(store);
	store = NULL;
	assert_int_equal(finish(&a), -ECANCELED);
}

/* A write that was not confirmed to be encrypted is the last one. */
static void test_distrust(void **state)
{
	static const char *const keys[] = { "old" };
	static const enum s3c_store_opcode changes[] = {
		S3C_STORE_PUT,           S3C_STORE_COPY,
		S3C_STORE_DELETE,        S3C_STORE_DELETE_MANY,
		S3C_STORE_UPLOAD_PART,   S3C_STORE_UPLOAD_PART_COPY,
		S3C_STORE_UPLOAD_CREATE, S3C_STORE_UPLOAD_COMPLETE,
	};
	static const struct s3c_store_part part = { .number = 1, .etag = "\"e\"" };
	char text[11];

	(void)state;
	assert_int_equal(put("old"), 0);
	add(&(struct s3c_fault_rule){
		.op = S3C_STORE_PUT, .kind = S3C_FAULT_LOST, .result = -EBADE, .times = 1 });
	assert_int_equal(put("new"), -EBADE);
	assert_true(store->distrusted);
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		struct s3c_store_request rq = {
			.op = changes[i],
			.key = "old",
			.source_key = "old",
			.length = 1,
			.keys = keys,
			.key_count = 1,
			.upload_id = "x",
			.part_number = 1,
			.parts = &part,
			.part_count = 1,
		};
		struct s3c_store_reply reply;

		assert_int_equal(s3c_store_perform(store, &rq, NULL, &reply), -EROFS);
		s3c_store_reply_free(&reply);
	}
	assert_int_equal(get("old", text), 0);
	assert_int_equal(get("new", text), 0); /* it was stored, as it is */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fail, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lost, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bodies, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_stall, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_distrust, set_up, tear_down),
	};

	if (s3c_secret_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
