/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "contract.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/crypto.h"

#define PARALLEL 48

struct batch {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned left;
	unsigned good;
};

static void batch_done(void *arg, struct s3c_store_reply *reply)
{
	struct batch *batch = arg;

	pthread_mutex_lock(&batch->lock);
	if (reply->result == 0)
		batch->good++;
	else
		fprintf(stderr, "# %s\n", reply->message);
	batch->left--;
	pthread_cond_signal(&batch->changed);
	pthread_mutex_unlock(&batch->lock);
}

static void test_parallel(void **state)
{
	struct batch batch = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PARALLEL, 0 };
	char keys[PARALLEL][128];
	struct iovec body[PARALLEL];

	(void)state;
	for (unsigned i = 0; i < PARALLEL; i++) {
		struct s3c_store_request rq = request(S3C_STORE_PUT, keys[i]);

		snprintf(keys[i], sizeof(keys[i]), "%sparallel/%u/x", contract.base, i);
		body[i] = (struct iovec){ keys[i], strlen(keys[i]) };
		rq.body = &body[i];
		rq.body_count = 1;
		rq.content = i & 1;
		assert_int_equal(s3c_store_submit(contract.store, &rq, batch_done, &batch, NULL),
				 0);
	}
	pthread_mutex_lock(&batch.lock);
	while (batch.left)
		pthread_cond_wait(&batch.changed, &batch.lock);
	pthread_mutex_unlock(&batch.lock);
	assert_int_equal(batch.good, PARALLEL);
	for (unsigned i = 0; i < PARALLEL; i++)
		expect_text(keys[i], keys[i]);
}

static void test_one_winner(void **state)
{
	struct batch batch = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 16, 0 };
	struct s3c_store_request rq = request(S3C_STORE_PUT, key_of("winner"));

	(void)state;
	if (!contract.store->caps.put_if_none_match || is_server("versitygw"))
		skip(); /* it looks and then writes */
	rq.condition.if_none_match = true;
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(s3c_store_submit(contract.store, &rq, batch_done, &batch, NULL),
				 0);
	pthread_mutex_lock(&batch.lock);
	while (batch.left)
		pthread_cond_wait(&batch.changed, &batch.lock);
	pthread_mutex_unlock(&batch.lock);
	assert_int_equal(batch.good, 1);
}

static void test_late(void **state)
{
	struct s3c_store_request rq = request(S3C_STORE_HEAD, key_of("late"));

	(void)state;
	rq.deadline_ns = s3c_clock_monotonic_ns() - 1;
	expect(&rq, -ETIMEDOUT, NULL);
}

static void *interrupt_soon(void *arg)
{
	usleep(20000);
	s3c_op_interrupt(arg);
	return NULL;
}

static void test_interrupted(void **state)
{
	struct s3c_store_request rq = request(S3C_STORE_PUT, key_of("interrupted"));
	size_t len = 256u << 20;
	char *data = calloc(1, len);
	struct iovec body = { data, len };
	struct s3c_store_reply reply;
	struct s3c_op op;
	pthread_t thread;
	int r;

	(void)state;
	assert_non_null(data);
	rq.body = &body;
	rq.body_count = 1;
	rq.content = true;
	s3c_op_init(&op, INT64_MAX);
	assert_int_equal(s3c_thread_start(&thread, "interrupter", interrupt_soon, &op), 0);
	r = s3c_store_perform(contract.store, &rq, &op, &reply);
	pthread_join(thread, NULL);
	assert_int_equal(r, -EINTR);
	s3c_store_reply_free(&reply);
	s3c_op_destroy(&op);
	free(data);
	rq = request(S3C_STORE_HEAD, key_of("interrupted"));
	expect(&rq, -ENOENT, NULL);
}

/* Readers see one version whole, whatever writers do. */
static void test_whole_versions(void **state)
{
	const char *key = key_of("versions");
	cleanup_free char *data = malloc(300000);
	struct batch batch = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0 };

	(void)state;
	assert_non_null(data);
	memset(data, 'a', 300000);
	put_bytes(key, data, 300000, NULL);
	for (unsigned i = 0; i < 10; i++) {
		cleanup_free char *next = malloc(300000);
		struct iovec iov = { next, 300000 };
		struct s3c_store_request rq = request(S3C_STORE_PUT, key);
		cleanup_buf struct s3c_buf body = { 0 };
		char message[256];

		assert_non_null(next);
		memset(next, (int)('b' + i), 300000);
		rq.body = &iov;
		rq.body_count = 1;
		batch.left = 1;
		assert_int_equal(s3c_store_submit(contract.store, &rq, batch_done, &batch, NULL),
				 0);
		assert_int_equal(s3c_store_get_all(contract.store, key, contract.ssec, 1u << 20,
						   NULL, &body, NULL, message, sizeof(message)),
				 0);
		assert_int_equal(body.len, 300000);
		for (size_t j = 1; j < body.len; j++)
			assert_int_equal(body.data[j], body.data[0]);
		pthread_mutex_lock(&batch.lock);
		while (batch.left)
			pthread_cond_wait(&batch.changed, &batch.lock);
		pthread_mutex_unlock(&batch.lock);
	}
}

const struct CMUnitTest call_tests[] = {
	cmocka_unit_test(test_parallel),       cmocka_unit_test(test_one_winner),
	cmocka_unit_test(test_late),           cmocka_unit_test(test_interrupted),
	cmocka_unit_test(test_whole_versions),
};
const size_t call_test_count = ARRAY_LEN(call_tests);
