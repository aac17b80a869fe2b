/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "http/sigv4.h"

#ifndef S3C_TEST_DATA
#define S3C_TEST_DATA getenv("S3C_TEST_DATA")
#endif

static json_t *vectors;

static int load_vectors(void **state)
{
	const char *dir = S3C_TEST_DATA;
	char path[PATH_MAX];

	(void)state;
	if (dir == NULL)
		dir = getenv("S3C_TEST_DATA");
	snprintf(path, sizeof(path), "%s/vectors/sigv4.json", dir != NULL ? dir : "tests");
	vectors = json_load_file(path, 0, NULL);
	if (vectors == NULL)
		fail_msg("%s cannot be read", path);
	return 0;
}

static int free_vectors(void **state)
{
	(void)state;
	json_decref(vectors);
	return 0;
}

static const char *text(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

static void read_pairs(json_t *object, struct s3c_http_headers *ret_headers)
{
	const char *name;
	json_t *value;

	json_object_foreach(object, name, value)
	{
		assert_int_equal(s3c_http_headers_add(ret_headers, name, json_string_value(value)),
				 0);
	}
}

static struct s3c_credential credential;

static struct s3c_sigv4_input input_of(json_t *example, struct s3c_http_headers *query,
				       struct s3c_http_headers *headers)
{
	json_t *keys = json_object_get(vectors, "credentials");

	credential.access_key_id = text(keys, "access_key_id");
	credential.secret_access_key = text(keys, "secret_access_key");
	read_pairs(json_object_get(example, "query"), query);
	read_pairs(json_object_get(example, "headers"), headers);
	return (struct s3c_sigv4_input){
		.method = text(example, "method"),
		.path = text(example, "path_unencoded"),
		.query = query,
		.headers = headers,
		.payload_hash = text(example, "payload_hash"),
		.date = text(vectors, "date"),
		.region = text(vectors, "region"),
		.service = text(vectors, "service"),
		.credential = &credential,
	};
}

/* Every step of every example, whatever its form. */
static void test_steps(void **state)
{
	size_t index;
	json_t *example;

	(void)state;
	assert_true(json_array_size(json_object_get(vectors, "examples")) >= 7);
	json_array_foreach(json_object_get(vectors, "examples"), index, example)
	{
		struct s3c_http_headers query = { 0 }, headers = { 0 };
		struct s3c_sigv4_input in = input_of(example, &query, &headers);
		cleanup_buf struct s3c_buf request = { 0 };
		cleanup_buf struct s3c_buf to_sign = { 0 };
		char signature[65];

		assert_int_equal(s3c_sigv4_canonical_request(&in, &request), 0);
		assert_string_equal(request.data, text(example, "canonical_request"));
		assert_int_equal(s3c_sigv4_string_to_sign(&in, request.data, &to_sign), 0);
		assert_string_equal(to_sign.data, text(example, "string_to_sign"));
		assert_int_equal(s3c_sigv4_signature(&in, to_sign.data, signature), 0);
		assert_string_equal(signature, text(example, "signature"));
		s3c_http_headers_free(&query);
		s3c_http_headers_free(&headers);
	}
}

static void test_header_form(void **state)
{
	size_t index, checked = 0;
	json_t *example;

	(void)state;
	json_array_foreach(json_object_get(vectors, "examples"), index, example)
	{
		struct s3c_http_headers query = { 0 }, headers = { 0 };
		struct s3c_sigv4_input in = input_of(example, &query, &headers);
		cleanup_buf struct s3c_buf authorization = { 0 };

		if (strcmp(text(example, "form"), "header") == 0) {
			assert_int_equal(s3c_sigv4_authorization(&in, &authorization), 0);
			assert_string_equal(authorization.data, text(example, "authorization"));
			checked++;
		}
		s3c_http_headers_free(&query);
		s3c_http_headers_free(&headers);
	}
	assert_true(checked >= 6);
}

static void test_query_form(void **state)
{
	size_t index, checked = 0;
	json_t *example;

	(void)state;
	json_array_foreach(json_object_get(vectors, "examples"), index, example)
	{
		struct s3c_http_headers query = { 0 }, headers = { 0 }, none = { 0 };
		struct s3c_sigv4_input in = input_of(example, &query, &headers);
		const char *expires = s3c_http_headers_get(&query, "X-Amz-Expires");

		if (strcmp(text(example, "form"), "query") == 0) {
			assert_int_equal(
				s3c_sigv4_presign(&in, (unsigned)strtoul(expires, NULL, 10), &none),
				0);
			assert_int_equal(none.count, query.count + 1);
			for (size_t i = 0; i < query.count; i++)
				assert_string_equal(
					s3c_http_headers_get(&none, query.items[i].name),
					query.items[i].value);
			assert_string_equal(s3c_http_headers_get(&none, "X-Amz-Signature"),
					    text(example, "signature"));
			checked++;
		}
		s3c_http_headers_free(&none);
		s3c_http_headers_free(&query);
		s3c_http_headers_free(&headers);
	}
	assert_true(checked >= 1);
}

static void check_chunks(const struct s3c_sigv4_input *in, json_t *example, char previous[65])
{
	static char data[65536];
	json_t *chunk;
	size_t index;

	memset(data, 'a', sizeof(data));
	json_array_foreach(json_object_get(example, "chunks"), index, chunk)
	{
		size_t len = (size_t)json_integer_value(json_object_get(chunk, "length"));
		cleanup_buf struct s3c_buf to_sign = { 0 };

		assert_true(len <= sizeof(data));
		assert_int_equal(s3c_sigv4_chunk_string_to_sign(in, previous, data, len, &to_sign),
				 0);
		assert_string_equal(to_sign.data, text(chunk, "string_to_sign"));
		assert_int_equal(s3c_sigv4_signature(in, to_sign.data, previous), 0);
		assert_string_equal(previous, text(chunk, "signature"));
	}
}

static void test_chunks(void **state)
{
	size_t index, chunked = 0, trailers = 0;
	json_t *example;

	(void)state;
	json_array_foreach(json_object_get(vectors, "examples"), index, example)
	{
		struct s3c_http_headers query = { 0 }, headers = { 0 };
		struct s3c_sigv4_input in = input_of(example, &query, &headers);
		json_t *trailer = json_object_get(example, "trailer");
		cleanup_buf struct s3c_buf to_sign = { 0 };
		char previous[65];

		snprintf(previous, sizeof(previous), "%s", text(example, "signature"));
		check_chunks(&in, example, previous);
		chunked += json_object_get(example, "chunks") != NULL;
		if (trailer != NULL) {
			assert_int_equal(
				s3c_sigv4_trailer_string_to_sign(
					&in, previous, text(trailer, "hashed_text"), &to_sign),
				0);
			assert_string_equal(to_sign.data, text(trailer, "string_to_sign"));
			assert_int_equal(s3c_sigv4_signature(&in, to_sign.data, previous), 0);
			assert_string_equal(previous, text(trailer, "signature"));
			trailers++;
		}
		s3c_http_headers_free(&query);
		s3c_http_headers_free(&headers);
	}
	assert_int_equal(chunked, 2);
	assert_int_equal(trailers, 1);
}

static void test_query_order(void **state)
{
	struct s3c_http_headers query = { 0 };
	cleanup_buf struct s3c_buf out = { 0 };

	(void)state;
	assert_int_equal(s3c_http_headers_add(&query, "prefix", "a b/c+\xc3\xa4"), 0);
	assert_int_equal(s3c_http_headers_add(&query, "uploads", ""), 0);
	assert_int_equal(s3c_http_headers_add(&query, "list-type", "2"), 0);
	assert_int_equal(s3c_http_headers_add(&query, "a", "2"), 0);
	assert_int_equal(s3c_http_headers_add(&query, "a", "1"), 0);
	assert_int_equal(s3c_http_headers_add(&query, "A", "\n"), 0);
	assert_int_equal(s3c_sigv4_query(&query, &out), 0);
	assert_string_equal(out.data,
			    "A=%0A&a=1&a=2&list-type=2&prefix=a%20b%2Fc%2B%C3%A4&uploads=");
	s3c_http_headers_free(&query);
}

/* S3's path is encoded once and never normalised; the others' is encoded twice. */
static void test_canonical_forms(void **state)
{
	struct s3c_http_headers headers = { 0 }, query = { 0 };
	const struct s3c_credential key = { .access_key_id = "A", .secret_access_key = "S" };
	struct s3c_sigv4_input in = {
		.method = "GET",
		.path = "/b//../a b%",
		.query = &query,
		.headers = &headers,
		.payload_hash = S3C_SIGV4_UNSIGNED,
		.date = "20130524T000000Z",
		.region = "us-east-1",
		.service = "s3",
		.credential = &key,
	};
	cleanup_buf struct s3c_buf once = { 0 };
	cleanup_buf struct s3c_buf twice = { 0 };

	(void)state;
	assert_int_equal(s3c_http_headers_add(&headers, "X-Amz-Meta-B", "  two   words\t x "), 0);
	assert_int_equal(s3c_http_headers_add(&headers, "Host", "h:9000"), 0);
	assert_int_equal(s3c_http_headers_add(&headers, "x-amz-meta-b", "again"), 0);
	assert_int_equal(s3c_sigv4_canonical_request(&in, &once), 0);
	assert_string_equal(once.data, "GET\n/b//../a%20b%25\n\nhost:h:9000\n"
				       "x-amz-meta-b:two words x,again\n\n"
				       "host;x-amz-meta-b\nUNSIGNED-PAYLOAD");
	in.service = "kms";
	assert_int_equal(s3c_sigv4_canonical_request(&in, &twice), 0);
	assert_non_null(strstr(twice.data, "\n/b//../a%2520b%2525\n"));
	s3c_http_headers_free(&headers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps),       cmocka_unit_test(test_header_form),
		cmocka_unit_test(test_query_form),  cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_query_order), cmocka_unit_test(test_canonical_forms),
	};

	return cmocka_run_group_tests(tests, load_vectors, free_vectors);
}
