/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "contract.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Lists page after page and compares; names are below base + "SUB/". */
static void expect_list(const char *sub, const char *prefix, bool delimiter, unsigned max_keys,
			const char *start_after, const char *const *names, size_t count)
{
	cleanup_free char *full_prefix = s3c_asprintf("%s%s/%s", contract.base, sub, prefix);
	cleanup_free char *after =
		start_after ? s3c_asprintf("%s%s/%s", contract.base, sub, start_after) : NULL;
	cleanup_free char *token = NULL;
	size_t skip_len = strlen(contract.base) + strlen(sub) + 1;
	size_t at = 0;
	unsigned pages = 0;

	do {
		struct s3c_store_request rq = request(S3C_STORE_LIST, NULL);
		struct s3c_store_reply reply;

		rq.prefix = full_prefix;
		rq.delimiter = delimiter;
		rq.max_keys = max_keys;
		rq.start_after = after;
		rq.token = token;
		expect(&rq, 0, &reply);
		if (max_keys)
			assert_true(reply.list.count <= max_keys);
		for (size_t i = 0; i < reply.list.count; i++, at++) {
			const struct s3c_list_entry *e = &reply.list.entries[i];

			if (at >= count)
				fail_msg("'%s' is too much", e->key);
			assert_string_equal(e->key + skip_len, names[at]);
			if (e->is_prefix)
				continue;
			assert_string_not_equal(e->etag, "");
			assert_true(e->modified_ns > 0);
			assert_int_equal(e->size, strlen(names[at]));
		}
		free(token);
		token = steal_ptr(reply.list.next_token);
		s3c_store_reply_free(&reply);
		assert_true(++pages < 200);
	} while (token);
	assert_int_equal(at, count);
}

static void put_names(const char *sub, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		cleanup_free char *key = s3c_asprintf("%s%s/%s", contract.base, sub, names[i]);

		/* The size tells the listing test that entries belong to their names. */
		put_text(key, names[i], NULL);
	}
}

static const char *const plain[] = {
	"a-b", "a.txt", "a/1", "a/2", "a/sub/x", "a0", "b/c/d", "b/c/e", "z",
};

static void test_list_flat(void **state)
{
	static const unsigned pages[] = { 0, 1, 2, 3, 9, 10 };

	(void)state;
	put_names("flat", plain, ARRAY_LEN(plain));
	for (size_t i = 0; i < ARRAY_LEN(pages); i++)
		expect_list("flat", "", false, pages[i], NULL, plain, ARRAY_LEN(plain));
	expect_list("flat", "a", false, 2, NULL, plain, 6);
	expect_list("flat", "a/", false, 0, NULL, plain + 2, 3);
	expect_list("flat", "a/s", false, 0, NULL, plain + 4, 1);
	expect_list("flat", "a/1", false, 0, NULL, plain + 2, 1);
	expect_list("flat", "nothing", false, 0, NULL, NULL, 0);
	expect_list("flat", "nothing/at/all", false, 0, NULL, NULL, 0);
	expect_list("flat", "", false, 2, "a/1", plain + 3, ARRAY_LEN(plain) - 3);
	expect_list("flat", "", false, 0, "a/1x", plain + 3, ARRAY_LEN(plain) - 3);
}

static void test_list_folders(void **state)
{
	static const char *const top[] = { "a-b", "a.txt", "a/", "a0", "b/", "z" };
	static const char *const below[] = { "a/1", "a/2", "a/sub/" };
	static const char *const deep[] = { "b/c/" };

	(void)state;
	put_names("folders", plain, ARRAY_LEN(plain));
	for (unsigned max = 0; max < 7; max++)
		expect_list("folders", "", true, max, NULL, top, ARRAY_LEN(top));
	expect_list("folders", "a/", true, 1, NULL, below, ARRAY_LEN(below));
	expect_list("folders", "b/", true, 0, NULL, deep, 1);
	expect_list("folders", "a", true, 2, NULL, top, 4);
	expect_list("folders", "a/sub", true, 0, NULL, below + 2, 1);
}

static void test_list_after_delete(void **state)
{
	static const char *const names[] = { "d/e/f", "g" };
	struct s3c_store_request rq = request(S3C_STORE_DELETE, key_of("gone/d/e/f"));

	(void)state;
	put_names("gone", names, 2);
	expect(&rq, 0, NULL);
	expect_list("gone", "", true, 0, NULL, names + 1, 1);
	expect_list("gone", "", false, 0, NULL, names + 1, 1);
}

/* In the order of their bytes. */
static const char *const odd[] = {
	" blank",
	"!",
	"#hash?query=1&x",
	"%",
	"%41",
	"%zz",
	"'quote\"",
	"(a) {b} [c]",
	"+plus+",
	"<tag>&amp;",
	"=",
	"a+b c",
	"back\\slash",
	"colon:semi;",
	"tilde~^`|",
	"z*?$@,",
	"\xc3\xa9t\xc3\xa9",
	"\xe6\x97\xa5\xe6\x9c\xac",
	"\xf0\x9f\x98\x80",
};

static void test_odd_names(void **state)
{
	(void)state;
	put_names("odd", odd, ARRAY_LEN(odd));
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		cleanup_free char *key = s3c_asprintf("%sodd/%s", contract.base, odd[i]);

		expect_text(key, odd[i]);
	}
	expect_list("odd", "", false, 0, NULL, odd, ARRAY_LEN(odd));
	expect_list("odd", "", true, 3, NULL, odd, ARRAY_LEN(odd));
}

/* Names that no folder can hold as they are. */
static const char *const clashing[] = {
	"%+a", "%-", "%-.", "%=", "%=a", ".",    "..",  "...",  "../x",  "./y",
	"/",   "//", "//b", "a",  "a/",  "a//b", "a/b", "a/b/", "a/b/c",
};

static void test_clashing_names(void **state)
{
	static const char *const top[] = { "%+a", "%-",  "%-.", "%=", "%=a", ".", "..",
					   "...", "../", "./",  "/",  "a",   "a/" };

	(void)state;
	if (is_server("versitygw"))
		skip(); /* its folders hold no such names */
	put_names("clash", clashing, ARRAY_LEN(clashing));
	for (size_t i = 0; i < ARRAY_LEN(clashing); i++) {
		cleanup_free char *key = s3c_asprintf("%sclash/%s", contract.base, clashing[i]);

		expect_text(key, clashing[i]);
	}
	for (unsigned max = 0; max < 5; max++)
		expect_list("clash", "", false, max, NULL, clashing, ARRAY_LEN(clashing));
	for (unsigned max = 0; max < 5; max++)
		expect_list("clash", "", true, max, NULL, top, ARRAY_LEN(top));
	/* The other order of making: the folder is there before the object. */
	for (size_t i = ARRAY_LEN(clashing); i-- > 0;)
		put_names("clash2", clashing + i, 1);
	expect_list("clash2", "", false, 0, NULL, clashing, ARRAY_LEN(clashing));
}

static void test_long_names(void **state)
{
	static const size_t lengths[] = { 200, 201, 251, 252, 253, 255, 256, 400, 452, 453, 900 };
	char names[ARRAY_LEN(lengths) * 2][960];
	const char *sorted[ARRAY_LEN(lengths) * 2];
	size_t count = 0;

	(void)state;
	if (is_server("versitygw"))
		skip();
	/* All share a beginning, so that in order each is followed by what continues it. */
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		memset(names[count], 'n', lengths[i]);
		names[count][lengths[i]] = '\0';
		sorted[count] = names[count];
		count++;
		memset(names[count], 'n', lengths[i]);
		strcpy(names[count] + lengths[i], "/x");
		sorted[count] = names[count];
		count++;
	}
	put_names("long", sorted, count);
	/* "nn/x" comes before "nnn": by bytes, '/' is less than 'n'. */
	expect_list("long", "", false, 3, NULL, sorted, count);
	for (size_t i = 0; i < count; i++) {
		cleanup_free char *key = s3c_asprintf("%slong/%s", contract.base, sorted[i]);

		expect_text(key, sorted[i]);
	}
}

static void test_delete_many(void **state)
{
	static const char *const names[] = { "1", "2/3", "4&<>'\"+ %", "\xc3\xa9", "5" };
	const char *keys[ARRAY_LEN(names) + 2];
	struct s3c_store_request rq = request(S3C_STORE_DELETE_MANY, NULL);
	char buf[ARRAY_LEN(names) + 2][128];
	size_t count = 0;

	(void)state;
	put_names("many", names, ARRAY_LEN(names));
	for (size_t i = 0; i + 1 < ARRAY_LEN(names); i++) {
		snprintf(buf[i], sizeof(buf[i]), "%smany/%s", contract.base, names[i]);
		keys[count++] = buf[i];
	}
	snprintf(buf[count], sizeof(buf[count]), "%smany/absent", contract.base);
	keys[count] = buf[count];
	count++;
	rq.keys = keys;
	rq.key_count = count;
	expect(&rq, 0, NULL);
	expect_list("many", "", false, 0, NULL, names + 4, 1);
}

/* Not in XML 1.0, but in a key. */
static void test_delete_many_control(void **state)
{
	static const char *const names[] = { "\x01x", "line\nfeed\r", "plain" };
	const char *keys[ARRAY_LEN(names)];
	char buf[ARRAY_LEN(names)][128];
	struct s3c_store_request rq = request(S3C_STORE_DELETE_MANY, NULL);

	(void)state;
	if (is_server("versitygw"))
		skip(); /* its listings ignore encoding-type */
	put_names("control", names, ARRAY_LEN(names));
	expect_list("control", "", false, 0, NULL, names, ARRAY_LEN(names));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(buf[i], sizeof(buf[i]), "%scontrol/%s", contract.base, names[i]);
		keys[i] = buf[i];
	}
	rq.keys = keys;
	rq.key_count = ARRAY_LEN(names);
	expect(&rq, 0, NULL);
	expect_list("control", "", false, 0, NULL, NULL, 0);
}

const struct CMUnitTest list_tests[] = {
	cmocka_unit_test(test_list_flat),         cmocka_unit_test(test_list_folders),
	cmocka_unit_test(test_list_after_delete), cmocka_unit_test(test_odd_names),
	cmocka_unit_test(test_clashing_names),    cmocka_unit_test(test_long_names),
	cmocka_unit_test(test_delete_many),       cmocka_unit_test(test_delete_many_control),
};
const size_t list_test_count = ARRAY_LEN(list_tests);
