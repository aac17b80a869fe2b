/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The registry of counters, and its text; tests/e2e/test_observe.py reads that with a strict
 * parser. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "store/store.h"

static bool has_line(const struct s3c_buf *text, const char *line)
{
	const char *at = strstr(text->data, line);

	return at && (at == text->data || at[-1] == '\n') && at[strlen(line)] == '\n';
}

static void write_all(struct s3c_buf *text)
{
	s3c_buf_reset(text);
	assert_int_equal(s3c_metrics_write(text), 0);
}

/* The words of the table stand in the order of the enum. */
static void test_store_words(void **state)
{
	static const struct {
		enum s3c_store_opcode op;
		const char *word;
	} ops[] = {
		{ S3C_STORE_GET, "get" },
		{ S3C_STORE_HEAD, "head" },
		{ S3C_STORE_PUT, "put" },
		{ S3C_STORE_LIST, "list" },
		{ S3C_STORE_COPY, "copy" },
		{ S3C_STORE_DELETE, "delete" },
		{ S3C_STORE_DELETE_MANY, "delete_many" },
		{ S3C_STORE_LIST_UPLOADS, "list_uploads" },
		{ S3C_STORE_UPLOAD_CREATE, "upload_create" },
		{ S3C_STORE_UPLOAD_PART, "upload_part" },
		{ S3C_STORE_UPLOAD_PART_COPY, "upload_part_copy" },
		{ S3C_STORE_UPLOAD_COMPLETE, "upload_complete" },
		{ S3C_STORE_UPLOAD_PARTS, "upload_parts" },
		{ S3C_STORE_UPLOAD_ABORT, "upload_abort" },
	};
	cleanup_buf struct s3c_buf text = { 0 };

	(void)state;
	assert_int_equal(ARRAY_LEN(ops), S3C_STORE_UPLOAD_ABORT + 1);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		s3c_count(S3C_COUNT_STORE_REQUESTS, ops[i].op, s3c_label_result(0), 1000 + i);
	write_all(&text);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		char line[256];

		snprintf(line, sizeof(line),
			 "s3cryptfs_store_requests_total{operation=\"%s\",result=\"ok\"} %zu",
			 ops[i].word, 1000 + i);
		assert_true(has_line(&text, line));
	}
}

static void test_levels(void **state)
{
	cleanup_buf struct s3c_buf text = { 0 };

	(void)state;
	s3c_count(S3C_COUNT_LOG_MESSAGES, S3C_LOG_DEBUG, 0, 7);
	write_all(&text);
	assert_true(has_line(&text, "s3cryptfs_log_messages_total{level=\"debug\"} 7"));
	assert_true(has_line(&text, "s3cryptfs_log_messages_total{level=\"error\"} 0"));
}

static void test_results(void **state)
{
	static const struct {
		int result;
		const char *word;
	} cases[] = {
		{ 0, "ok" },
		{ 5, "ok" },
		{ -ENOENT, "not_found" },
		{ -EEXIST, "exists" },
		{ -ESTALE, "changed" },
		{ -EACCES, "denied" },
		{ -EAGAIN, "throttled" },
		{ -ETIMEDOUT, "timeout" },
		{ -ECONNRESET, "connection" },
		{ -EBADMSG, "integrity" },
		{ -ENOSPC, "no_space" },
		{ -EIO, "other" },
	};
	cleanup_buf struct s3c_buf text = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		s3c_count(S3C_COUNT_KMS_REQUESTS, s3c_label_kms("Decrypt"),
			  s3c_label_result(cases[i].result), 1);
	write_all(&text);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char line[256];

		snprintf(line, sizeof(line),
			 "s3cryptfs_kms_requests_total{operation=\"Decrypt\",result=\"%s\"} %d",
			 cases[i].word, i < 2 ? 2 : 1);
		assert_true(has_line(&text, line));
	}
	/* What is not known has a word too. */
	s3c_count(S3C_COUNT_KMS_REQUESTS, s3c_label_kms("Sign"), 0, 3);
	s3c_count(S3C_COUNT_HTTP_ATTEMPTS, s3c_label_service("imds"), s3c_label_status(0), 1);
	s3c_count(S3C_COUNT_HTTP_ATTEMPTS, s3c_label_service("s3"), s3c_label_status(503), 1);
	s3c_count(S3C_COUNT_HTTP_ATTEMPTS, s3c_label_service("s3"), s3c_label_status(999), 1);
	write_all(&text);
	assert_true(has_line(&text,
			     "s3cryptfs_kms_requests_total{operation=\"other\",result=\"ok\"} 3"));
	assert_true(has_line(&text,
			     "s3cryptfs_http_attempts_total{service=\"other\",status=\"none\"} 1"));
	assert_true(
		has_line(&text, "s3cryptfs_http_attempts_total{service=\"s3\",status=\"5xx\"} 1"));
	assert_true(
		has_line(&text, "s3cryptfs_http_attempts_total{service=\"s3\",status=\"none\"} 1"));
}

static void test_times(void **state)
{
	const unsigned get = s3c_label_operation("getattr");
	cleanup_buf struct s3c_buf text = { 0 };

	(void)state;
	s3c_time(S3C_TIME_OPERATIONS, get, 50 * 1000); /* on the bound */
	s3c_time(S3C_TIME_OPERATIONS, get, 51 * 1000); /* past it */
	s3c_time(S3C_TIME_OPERATIONS, get, 3 * S3C_NSEC_PER_SEC);
	s3c_time(S3C_TIME_OPERATIONS, get, 1000 * S3C_NSEC_PER_SEC);
	s3c_time(S3C_TIME_OPERATIONS, get, -5); /* a clock that went back */
	write_all(&text);
#define BUCKET(le)                                                                                 \
	"s3cryptfs_operation_duration_seconds_bucket{operation=\"getattr\",le=\"" le "\"} "
	assert_true(has_line(&text, BUCKET("5e-05") "2"));
	assert_true(has_line(&text, BUCKET("0.0001") "3"));
	assert_true(has_line(&text, BUCKET("2.5") "3"));
	assert_true(has_line(&text, BUCKET("5.0") "4"));
	assert_true(has_line(&text, BUCKET("120.0") "4"));
	assert_true(has_line(&text, BUCKET("+Inf") "5"));
	assert_true(has_line(
		&text, "s3cryptfs_operation_duration_seconds_count{operation=\"getattr\"} 5"));
	assert_true(has_line(&text, "s3cryptfs_operation_duration_seconds_sum{operation="
				    "\"getattr\"} 1003.000101000"));
	assert_null(strstr(text.data, "operation=\"rmdir\""));
}

static void test_values(void **state)
{
	static const struct s3c_metric_value gauge = { "g", "A gauge", "bytes", S3C_METRIC_GAUGE,
						       1099511627776.0 };
	static const struct s3c_metric_value counter = { "c", "A counter", "", S3C_METRIC_COUNTER,
							 3 };
	static const char *const pairs[] = { "a", "q\"b\\s\nl\x1b\xff", "b", "", NULL };
	cleanup_buf struct s3c_buf text = { 0 };

	(void)state;
	assert_int_equal(s3c_metrics_put(&text, &gauge), 0);
	assert_int_equal(s3c_metrics_put(&text, &counter), 0);
	assert_int_equal(s3c_metrics_put_info(&text, "i", "An info", pairs), 0);
	assert_string_equal(text.data, "# TYPE s3cryptfs_g gauge\n"
				       "# UNIT s3cryptfs_g bytes\n"
				       "# HELP s3cryptfs_g A gauge.\n"
				       "s3cryptfs_g 1099511627776\n"
				       "# TYPE s3cryptfs_c counter\n"
				       "# HELP s3cryptfs_c A counter.\n"
				       "s3cryptfs_c_total 3\n"
				       "# TYPE s3cryptfs_i info\n"
				       "# HELP s3cryptfs_i An info.\n"
				       "s3cryptfs_i_info{a=\"q\\\"b\\\\s\\nl??\",b=\"\"} 1\n");
}

#define THREADS 4
#define TIMES 100000u

static void *count_main(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < TIMES; i++)
		s3c_count(S3C_COUNT_READ_BYTES, 0, 0, 3);
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_main, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(s3c_count_sum(S3C_COUNT_READ_BYTES), 3ull * THREADS * TIMES);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store_words), cmocka_unit_test(test_levels),
		cmocka_unit_test(test_results),     cmocka_unit_test(test_times),
		cmocka_unit_test(test_values),      cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
