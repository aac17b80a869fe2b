/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/util.h"
#include "cli/source.h"

static void test_good(void **state)
{
	static const struct {
		const char *text, *bucket, *dir, *prefix;
	} cases[] = {
		{ "s3://bucket", "bucket", NULL, "" },
		{ "s3://bucket/", "bucket", NULL, "" },
		{ "s3://bucket/a", "bucket", NULL, "a/" },
		{ "s3://bucket/a/b/", "bucket", NULL, "a/b/" },
		{ "s3://bucket//a//", "bucket", NULL, "a/" },
		{ "s3://my.bucket_A-1/x y:z", "my.bucket_A-1", NULL, "x y:z/" },
		{ "bucket", "bucket", NULL, "" },
		{ "bucket:", "bucket", NULL, "" },
		{ "bucket:/", "bucket", NULL, "" },
		{ "bucket:/a/b", "bucket", NULL, "a/b/" },
		{ "file:///srv/store", NULL, "/srv/store", "" },
		{ "file:///srv/store//", NULL, "/srv/store", "" },
		{ "file:///srv/with space%20", NULL, "/srv/with space%20", "" },
		{ "s3://bucket/%41", "bucket", NULL, "%41/" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_source struct s3c_source source = { 0 };
		struct s3c_err err = { 0 };

		if (s3c_source_parse(cases[i].text, &err, &source) < 0)
			fail_msg("%s: %s", cases[i].text, err.text);
		assert_string_equal(source.text, cases[i].text);
		assert_string_equal(source.prefix, cases[i].prefix);
		assert_int_equal(source.bucket == NULL, cases[i].bucket == NULL);
		assert_int_equal(source.dir == NULL, cases[i].dir == NULL);
		if (cases[i].bucket)
			assert_string_equal(source.bucket, cases[i].bucket);
		if (cases[i].dir)
			assert_string_equal(source.dir, cases[i].dir);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *text;
		const char *words;
	} cases[] = {
		{ "", "names no bucket" },
		{ "s3://", "names no bucket" },
		{ "s3://ab", "names no bucket" },
		{ "s3:///x", "names no bucket" },
		{ "s3://a b c/x", "names no bucket" },
		{ "s3://bücket", "names no bucket" },
		{ ":/prefix", "names no bucket" },
		{ "bucket:prefix", "begins with a slash: bucket:/prefix" },
		{ "bucket/prefix", "names no bucket" },
		{ "/srv/store", "file:///srv/store" },
		{ "./store", "names no bucket" },
		{ "file://srv/store", "three slashes" },
		{ "file:///", "root folder" },
		{ "https://h/bucket", "endpoint=URL" },
		{ "s3://bucket/a//b", "empty part" },
		{ "s3://bucket/a/../b", "'..'" },
		{ "s3://bucket/./b", "'.'" },
		{ "s3://bucket/a\nb", "control character" },
		{ "s3://bucket/.s3cryptfs", "belongs to s3cryptfs" },
		{ "bucket:/a/.s3cryptfs/open", "belongs to s3cryptfs" },
	};
	char longest[600];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_source struct s3c_source source = { 0 };
		struct s3c_err err = { 0 };

		if (s3c_source_parse(cases[i].text, &err, &source) >= 0)
			fail_msg("'%s' was accepted", cases[i].text);
		if (!strstr(err.text, cases[i].words))
			fail_msg("'%s': '%s' lacks '%s'", cases[i].text, err.text, cases[i].words);
		assert_null(source.text);
	}
	memset(longest, 'x', sizeof(longest));
	longest[599] = '\0';
	memcpy(longest, "s3://bucket/", 12);
	{
		struct s3c_source source = { 0 };
		struct s3c_err err = { 0 };

		assert_true(s3c_source_parse(longest, &err, &source) < 0);
	}
}

static void test_id(void **state)
{
	char a[33], b[33];

	(void)state;
	/* printf 'https://s3.example|bucket|a/' | sha256sum | cut -c 1-32 */
	assert_int_equal(s3c_source_id("https://s3.example|bucket", "a/", a), 0);
	assert_string_equal(a, "39c77cbbccfdabbe285dfb3ad960ac16");
	assert_int_equal(s3c_source_id("https://s3.example|bucket", "b/", b), 0);
	assert_string_not_equal(a, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
