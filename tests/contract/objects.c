/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "contract.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/crypto.h"

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz";

static void test_put_and_get(void **state)
{
	struct s3c_meta_item items[] = {
		{ (char *)(uintptr_t) "mode", (char *)(uintptr_t) "33188" },
		{ (char *)(uintptr_t) "x-amz-key-v2", (char *)(uintptr_t) "a/b+c== %20" },
	};
	struct s3c_meta meta = { items, 2 };
	struct iovec body[] = {
		{ (void *)(uintptr_t) "two ", 4 },
		{ NULL, 0 },
		{ (void *)(uintptr_t) "pieces", 6 },
	};
	struct s3c_meta_item headers[] = {
		{ (char *)(uintptr_t) "content-type", (char *)(uintptr_t) "text/plain" },
		{ (char *)(uintptr_t) "cache-control", (char *)(uintptr_t) "max-age=60" },
		{ (char *)(uintptr_t) "content-disposition",
		  (char *)(uintptr_t) "attachment; filename=\"a b\"" },
		{ (char *)(uintptr_t) "content-encoding", (char *)(uintptr_t) "gzip" },
		{ (char *)(uintptr_t) "content-language", (char *)(uintptr_t) "en, eo" },
		{ (char *)(uintptr_t) "expires",
		  (char *)(uintptr_t) "Thu, 01 Dec 2033 16:00:00 GMT" },
	};
	struct s3c_meta props = { headers, ARRAY_LEN(headers) };
	struct s3c_store_request rq = request(S3C_STORE_PUT, key_of("put/get"));
	struct s3c_store_reply put, head, get;

	(void)state;
	rq.body = body;
	rq.body_count = 3;
	rq.meta = &meta;
	rq.props = &props;
	expect(&rq, 0, &put);
	assert_int_equal(put.stat.ssec, contract.ssec != NULL);
	expect_text(rq.key, "two pieces");
	rq.op = S3C_STORE_HEAD;
	expect(&rq, 0, &head);
	rq.op = S3C_STORE_GET;
	expect(&rq, 0, &get);
	assert_int_equal(head.stat.size, 10);
	assert_int_equal(get.stat.size, 10);
	assert_string_equal(head.stat.content_type, "text/plain");
	assert_string_equal(head.stat.version.etag, put.stat.version.etag);
	assert_string_equal(get.stat.version.etag, put.stat.version.etag);
	assert_int_equal(head.stat.version.etag[0], '"');
	assert_int_equal(head.stat.version.modified_ns, get.stat.version.modified_ns);
	assert_in_range(head.stat.version.modified_ns,
			s3c_clock_realtime_ns() - 3600 * S3C_NSEC_PER_SEC,
			s3c_clock_realtime_ns() + 3600 * S3C_NSEC_PER_SEC);
	for (int i = 0; i < 2; i++) {
		const struct s3c_meta *seen = i ? &get.stat.meta : &head.stat.meta;

		assert_int_equal(seen->count, 2);
		assert_string_equal(s3c_meta_get(seen, "mode"), "33188");
		assert_string_equal(s3c_meta_get(seen, "x-amz-key-v2"), "a/b+c== %20");
		seen = i ? &get.stat.props : &head.stat.props;
		for (size_t n = 0; n < ARRAY_LEN(headers); n++) {
			const char *value = s3c_meta_get(seen, headers[n].name);

			assert_string_equal(value ? value : "(none)", headers[n].value);
		}
	}
	assert_int_equal(head.stat.ssec, contract.ssec != NULL);
	s3c_store_reply_free(&put);
	s3c_store_reply_free(&head);
	s3c_store_reply_free(&get);
}

static void test_replace(void **state)
{
	struct s3c_store_request rq = request(S3C_STORE_HEAD, NULL);
	struct s3c_store_reply reply;
	char first[S3C_STORE_ETAG_MAX], second[S3C_STORE_ETAG_MAX];
	const char *key = key_of("replace");

	(void)state;
	put_text(key, "one", first);
	put_text(key, "second", second);
	assert_string_not_equal(first, second);
	expect_text(key, "second");
	rq.key = key;
	expect(&rq, 0, &reply);
	assert_string_equal(reply.stat.version.etag, second);
	assert_int_equal(reply.stat.meta.count, 0);
	s3c_store_reply_free(&reply);
}

static void test_metadata_limit(void **state)
{
	struct s3c_store_request rq = request(S3C_STORE_PUT, key_of("metadata"));
	struct s3c_meta meta = { 0 };
	struct s3c_store_reply reply;
	char value[1025];
	char name[16];

	(void)state;
	memset(value, 'v', sizeof(value));
	value[1000] = '\0';
	rq.meta = &meta;
	for (char i = '0'; i < '2'; i++) {
		snprintf(name, sizeof(name), "name-%c", i);
		assert_int_equal(s3c_meta_set(&meta, name, value), 0);
	}
	expect(&rq, 0, NULL);
	rq.op = S3C_STORE_HEAD;
	expect(&rq, 0, &reply);
	assert_int_equal(reply.stat.meta.count, 2);
	assert_string_equal(s3c_meta_get(&reply.stat.meta, "name-1"), value);
	s3c_store_reply_free(&reply);
	rq.op = S3C_STORE_PUT;
	assert_int_equal(s3c_meta_set(&meta, "name-2", "forty characters are more than there are"),
			 0);
	expect(&rq, -E2BIG, NULL);
	s3c_meta_free(&meta);
}

struct seen {
	struct s3c_buf body;
	uint64_t offset, length, total;
	unsigned begun;
	int fail_begin, fail_data;
};

static int seen_begin(void *arg, const struct s3c_stat *st, uint64_t offset, uint64_t length,
		      uint64_t total)
{
	struct seen *seen = arg;

	s3c_buf_reset(&seen->body);
	seen->begun++;
	seen->offset = offset;
	seen->length = length;
	seen->total = total;
	assert_int_equal(st->size, total);
	assert_string_not_equal(st->version.etag, "");
	return seen->fail_begin;
}

static int seen_data(void *arg, const void *data, size_t len)
{
	struct seen *seen = arg;

	return seen->fail_data ? seen->fail_data : s3c_buf_append(&seen->body, data, len);
}

static void test_ranges(void **state)
{
	static const struct {
		uint64_t offset, length, suffix;
		uint64_t want_offset, want_length;
		int result;
	} cases[] = {
		{ 0, UINT64_MAX, 0, 0, 26, 0 },
		{ 0, 1, 0, 0, 1, 0 },
		{ 3, 5, 0, 3, 5, 0 },
		{ 20, 100, 0, 20, 6, 0 },
		{ 25, UINT64_MAX, 0, 25, 1, 0 },
		{ 10, UINT64_MAX, 0, 10, 16, 0 },
		{ 26, 1, 0, 0, 0, -ERANGE },
		{ 1000, UINT64_MAX, 0, 0, 0, -ERANGE },
		{ 0, 0, 4, 22, 4, 0 },
		{ 0, 0, 26, 0, 26, 0 },
		{ 0, 0, 69632, 0, 26, 0 },
		{ 5, 5, 1, 25, 1, 0 },
	};
	const char *key = key_of("ranges");

	(void)state;
	put_text(key, alphabet, NULL);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct seen seen = { 0 };
		struct s3c_store_request rq = request(S3C_STORE_GET, key);

		rq.offset = cases[i].offset;
		rq.length = cases[i].length;
		rq.suffix = cases[i].suffix;
		rq.sink = (struct s3c_store_sink){ seen_begin, seen_data, &seen };
		expect(&rq, cases[i].result, NULL);
		if (cases[i].result == 0) {
			assert_int_equal(seen.begun, 1);
			assert_int_equal(seen.total, 26);
			assert_int_equal(seen.offset, cases[i].want_offset);
			assert_int_equal(seen.length, cases[i].want_length);
			assert_int_equal(seen.body.len, cases[i].want_length);
			assert_memory_equal(seen.body.data, alphabet + cases[i].want_offset,
					    cases[i].want_length);
		} else {
			assert_int_equal(seen.begun, 0);
		}
		s3c_buf_free(&seen.body);
	}
}

static void test_empty_object(void **state)
{
	static const struct {
		uint64_t offset, length, suffix;
	} cases[] = { { 0, UINT64_MAX, 0 }, { 0, 10, 0 }, { 5, 5, 0 }, { 0, 0, 69632 } };
	const char *key = key_of("empty");

	(void)state;
	put_text(key, "", NULL);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct seen seen = { 0 };
		struct s3c_store_request rq = request(S3C_STORE_GET, key);
		struct s3c_store_reply reply;

		rq.offset = cases[i].offset;
		rq.length = cases[i].length;
		rq.suffix = cases[i].suffix;
		rq.sink = (struct s3c_store_sink){ seen_begin, seen_data, &seen };
		expect(&rq, 0, &reply);
		assert_true(seen.begun >= 1);
		assert_int_equal(seen.length, 0);
		assert_int_equal(seen.total, 0);
		assert_int_equal(reply.stat.size, 0);
		s3c_store_reply_free(&reply);
		s3c_buf_free(&seen.body);
	}
}

static void test_sink_errors(void **state)
{
	const char *key = key_of("sink");
	struct s3c_store_request rq = request(S3C_STORE_GET, key);
	struct seen seen = { .fail_begin = -EXDEV };

	(void)state;
	put_text(key, alphabet, NULL);
	rq.sink = (struct s3c_store_sink){ seen_begin, seen_data, &seen };
	expect(&rq, -EXDEV, NULL);
	assert_int_equal(seen.begun, 1);
	seen = (struct seen){ .fail_data = -EUCLEAN };
	expect(&rq, -EUCLEAN, NULL);
	assert_int_equal(seen.begun, 1);
}

static void test_get_all_limit(void **state)
{
	cleanup_buf struct s3c_buf body = { 0 };
	const char *key = key_of("limit");
	char message[256];

	(void)state;
	put_text(key, alphabet, NULL);
	assert_int_equal(s3c_store_get_all(contract.store, key, contract.ssec, 25, NULL, &body,
					   NULL, message, sizeof(message)),
			 -EMSGSIZE);
	assert_int_equal(s3c_store_get_all(contract.store, key, contract.ssec, 26, NULL, &body,
					   NULL, message, sizeof(message)),
			 0);
	assert_int_equal(body.len, 26);
}

static void test_absent(void **state)
{
	struct s3c_store_request rq = request(S3C_STORE_GET, key_of("absent/key"));

	(void)state;
	expect(&rq, -ENOENT, NULL);
	rq.op = S3C_STORE_HEAD;
	expect(&rq, -ENOENT, NULL);
	rq.op = S3C_STORE_DELETE;
	expect(&rq, 0, NULL);
	rq.op = S3C_STORE_COPY;
	rq.source_key = key_of("absent/too");
	rq.source_ssec = contract.ssec;
	expect(&rq, -ENOENT, NULL);
}

static void test_delete(void **state)
{
	const char *key = key_of("delete/me");
	struct s3c_store_request rq = request(S3C_STORE_DELETE, key);

	(void)state;
	put_text(key, "x", NULL);
	expect(&rq, 0, NULL);
	rq.op = S3C_STORE_HEAD;
	expect(&rq, -ENOENT, NULL);
}

static void test_read_conditions(void **state)
{
	const char *key = key_of("read-condition");
	char etag[S3C_STORE_ETAG_MAX];

	(void)state;
	put_text(key, alphabet, etag);
	for (int i = 0; i < 2; i++) {
		struct s3c_store_request rq = request(i ? S3C_STORE_HEAD : S3C_STORE_GET, key);

		rq.condition.if_match = etag;
		expect(&rq, 0, NULL);
		rq.condition.if_match = "\"00000000000000000000000000000000\"";
		expect(&rq, -ESTALE, NULL);
	}
}

static void test_put_conditions(void **state)
{
	const struct s3c_store_caps *caps = &contract.store->caps;
	const char *key = key_of("put-condition");
	struct iovec body = { (void *)(uintptr_t) "new", 3 };
	struct s3c_store_request rq = request(S3C_STORE_PUT, key);
	struct s3c_store_reply reply;
	char etag[S3C_STORE_ETAG_MAX];

	(void)state;
	if (!caps->put_if_none_match)
		skip();
	rq.body = &body;
	rq.body_count = 1;
	rq.condition.if_none_match = true;
	expect(&rq, 0, &reply);
	strcpy(etag, reply.stat.version.etag);
	s3c_store_reply_free(&reply);
	expect(&rq, -EEXIST, NULL);
	if (!caps->put_if_match)
		return;
	rq.condition = (struct s3c_condition){ .if_match = "\"00000000000000000000000000000000\"" };
	expect(&rq, -ESTALE, NULL);
	rq.condition.if_match = etag;
	expect(&rq, 0, NULL);
	rq.key = key_of("put-condition-absent");
	expect(&rq, -ESTALE, NULL);
}

static void test_delete_condition(void **state)
{
	const char *key = key_of("delete-condition");
	struct s3c_store_request rq = request(S3C_STORE_DELETE, key);
	char etag[S3C_STORE_ETAG_MAX];

	(void)state;
	if (!contract.store->caps.delete_if_match)
		skip();
	put_text(key, "x", etag);
	rq.condition.if_match = "\"00000000000000000000000000000000\"";
	expect(&rq, -ESTALE, NULL);
	expect_text(key, "x");
	rq.condition.if_match = etag;
	expect(&rq, 0, NULL);
}

static void test_copy(void **state)
{
	struct s3c_meta_item item = { (char *)(uintptr_t) "mode", (char *)(uintptr_t) "1" };
	struct s3c_meta meta = { &item, 1 };
	struct s3c_store_request rq = request(S3C_STORE_PUT, key_of("copy source +%41?"));
	struct s3c_store_reply reply, head;
	struct iovec body = { (void *)(uintptr_t)alphabet, 26 };
	char etag[S3C_STORE_ETAG_MAX];
	const char *source = rq.key;

	(void)state;
	if (!contract.store->caps.copy)
		skip();
	rq.meta = &meta;
	rq.body = &body;
	rq.body_count = 1;
	expect(&rq, 0, &reply);
	strcpy(etag, reply.stat.version.etag);
	s3c_store_reply_free(&reply);
	item.value = (char *)(uintptr_t) "2";
	rq = request(S3C_STORE_COPY, key_of("copy target"));
	rq.source_key = source;
	rq.source_ssec = contract.ssec;
	rq.meta = &meta;
	rq.content_type = "text/x-copy";
	expect(&rq, 0, &reply);
	assert_int_equal(reply.stat.ssec, contract.ssec != NULL);
	expect_body(rq.key, alphabet, 26);
	rq.op = S3C_STORE_HEAD;
	expect(&rq, 0, &head);
	assert_string_equal(head.stat.version.etag, reply.stat.version.etag);
	assert_string_equal(s3c_meta_get(&head.stat.meta, "mode"), "2");
	assert_string_equal(head.stat.content_type, "text/x-copy");
	assert_int_equal(head.stat.props.count, 1);
	assert_string_equal(s3c_meta_get(&head.stat.props, "content-type"), "text/x-copy");
	s3c_store_reply_free(&head);
	s3c_store_reply_free(&reply);
	rq.op = S3C_STORE_COPY;
	if (contract.store->caps.copy_source_if_match) {
		rq.source_if_match = "\"00000000000000000000000000000000\"";
		expect(&rq, -ESTALE, NULL);
		rq.source_if_match = etag;
		expect(&rq, 0, NULL);
		rq.source_if_match = NULL;
	}
	if (contract.store->caps.copy_if_match) {
		rq.condition.if_match = "\"00000000000000000000000000000000\"";
		expect(&rq, -ESTALE, NULL);
		rq.condition.if_match = NULL;
	}
	if (contract.store->caps.copy_if_none_match) {
		rq.condition.if_none_match = true;
		expect(&rq, -EEXIST, NULL);
		rq.condition.if_none_match = false;
	}
	/* Onto itself: what a change of attributes is. */
	item.value = (char *)(uintptr_t) "3";
	rq.key = source;
	expect(&rq, 0, NULL);
	rq.op = S3C_STORE_HEAD;
	expect(&rq, 0, &head);
	assert_string_equal(s3c_meta_get(&head.stat.meta, "mode"), "3");
	s3c_store_reply_free(&head);
	expect_body(source, alphabet, 26);
}

static void test_customer_keys(void **state)
{
	const char *key = key_of("customer-key");
	struct s3c_store_request rq = request(S3C_STORE_GET, key);
	struct s3c_ssec wrong;

	(void)state;
	if (!contract.ssec)
		skip();
	put_text(key, alphabet, NULL);
	s3c_random(wrong.key, sizeof(wrong.key));
	for (int i = 0; i < 2; i++) {
		rq.op = i ? S3C_STORE_HEAD : S3C_STORE_GET;
		rq.ssec = NULL;
		expect(&rq, -EKEYREJECTED, NULL);
		rq.ssec = &wrong;
		expect(&rq, -EKEYREJECTED, NULL);
		rq.ssec = contract.ssec;
		expect(&rq, 0, NULL);
	}
}

static void test_refused(void **state)
{
	struct s3c_meta_item item = { (char *)(uintptr_t) "name", (char *)(uintptr_t) "v\r\nx: y" };
	struct s3c_meta meta = { &item, 1 };
	struct s3c_store_request rq = request(S3C_STORE_PUT, "");
	char key[S3C_STORE_KEY_MAX + 2];

	(void)state;
	expect(&rq, -EINVAL, NULL);
	memset(key, 'k', sizeof(key));
	key[sizeof(key) - 1] = '\0';
	rq.key = key;
	expect(&rq, -ENAMETOOLONG, NULL);
	rq.key = key_of("refused");
	rq.meta = &meta;
	expect(&rq, -EINVAL, NULL);
	item.value = (char *)(uintptr_t) " blank";
	expect(&rq, -EINVAL, NULL);
	item = (struct s3c_meta_item){ (char *)(uintptr_t) "Upper", (char *)(uintptr_t) "v" };
	expect(&rq, -EINVAL, NULL);
	rq.meta = NULL;
	rq.condition = (struct s3c_condition){ "\"x\"", true };
	expect(&rq, -EINVAL, NULL);
	rq.condition = (struct s3c_condition){ 0 };
	rq.op = S3C_STORE_GET;
	rq.length = 0;
	expect(&rq, -EINVAL, NULL);
	rq.op = S3C_STORE_UPLOAD_PART;
	rq.upload_id = "x";
	expect(&rq, -EINVAL, NULL);
}

const struct CMUnitTest object_tests[] = {
	cmocka_unit_test(test_put_and_get),    cmocka_unit_test(test_replace),
	cmocka_unit_test(test_metadata_limit), cmocka_unit_test(test_ranges),
	cmocka_unit_test(test_empty_object),   cmocka_unit_test(test_sink_errors),
	cmocka_unit_test(test_get_all_limit),  cmocka_unit_test(test_absent),
	cmocka_unit_test(test_delete),         cmocka_unit_test(test_read_conditions),
	cmocka_unit_test(test_put_conditions), cmocka_unit_test(test_delete_condition),
	cmocka_unit_test(test_copy),           cmocka_unit_test(test_customer_keys),
	cmocka_unit_test(test_refused),
};
const size_t object_test_count = ARRAY_LEN(object_tests);
