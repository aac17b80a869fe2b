/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Encrypted names: the worked example of doc/format.md, both ways, and what is no name. */
#include "object_fixture.h"

#include "object/names.h"

static uint8_t names_key[S3C_SIV_KEY_LEN];

static int setup(void **state)
{
	if (fixture_setup(state) < 0)
		return -1;
	count_up(names_key, sizeof(names_key), 0);
	return 0;
}

static char *numbered(const char *block, const char *what, unsigned number)
{
	cleanup_free char *name = s3c_asprintf("%s-%u", what, number);

	return example_value(block, name);
}

static int decrypt(const char *parent, const char *stored, const char *item, char ret_name[256])
{
	return s3c_name_decrypt(names_key, parent, stored, strlen(stored), item, ret_name);
}

static struct s3c_stored_name encrypt(const char *parent, const char *name)
{
	struct s3c_stored_name stored;

	assert_int_equal(s3c_name_encrypt(names_key, parent, name, strlen(name), &stored), 0);
	return stored;
}

static void test_example(void **state)
{
	cleanup_free char *doc = format_doc();
	cleanup_free char *block = example_block(doc, "names");
	cleanup_free char *volume = example_block(doc, "volume");
	uint8_t name_key[S3C_KEY_LEN], key[S3C_SIV_KEY_LEN], want[S3C_SIV_KEY_LEN];
	unsigned n;

	(void)state;
	example_fixed(volume, "name-key", name_key, sizeof(name_key));
	example_fixed(block, "names-key", want, sizeof(want));
	assert_int_equal(s3c_hkdf_sha256(name_key, sizeof(name_key), NULL, 0, "s3cryptfs names", 15,
					 key, sizeof(key)),
			 0);
	assert_memory_equal(key, want, sizeof(key));
	for (n = 1;; n++) {
		cleanup_free char *parent = numbered(block, "parent", n);
		cleanup_free char *stored = numbered(block, "stored", n);
		cleanup_free char *item = numbered(block, "item", n);
		cleanup_free char *field = s3c_asprintf("name-%u", n);
		cleanup_free char *name = NULL;
		char got[S3C_NAME_LEN_MAX + 1];
		struct s3c_stored_name made;
		size_t len;

		if (!stored)
			break;
		name = (char *)example_bytes(block, field, &len);
		assert_int_equal(s3c_name_encrypt(key, parent, name, len, &made), 0);
		assert_string_equal(made.text, stored);
		assert_string_equal(made.item, item ? item : "");
		assert_int_equal(s3c_name_is_long(stored), item != NULL);
		assert_int_equal(s3c_name_decrypt(key, parent, stored, strlen(stored), item, got),
				 0);
		assert_int_equal(strlen(got), len);
		assert_memory_equal(got, name, len);
	}
	assert_int_equal(n, 10);
}

/* Every length, there and back; the limits of the two forms. */
static void test_lengths(void **state)
{
	char name[S3C_NAME_LEN_MAX + 2], got[S3C_NAME_LEN_MAX + 1];
	struct s3c_stored_name stored;

	(void)state;
	for (size_t len = 1; len <= S3C_NAME_LEN_MAX; len++) {
		for (size_t i = 0; i < len; i++)
			name[i] = (char)(1 + (len * 7 + i * 31) % 255);
		for (size_t i = 0; i < len; i++)
			name[i] = name[i] == '/' ? '_' : name[i];
		name[len] = '\0';
		stored = encrypt("d/", name);
		assert_int_equal(s3c_name_is_long(stored.text), len > 109);
		assert_int_equal(!stored.item[0], len <= 109);
		assert_int_equal(strlen(stored.text),
				 len > 109 ? 53 : S3C_BASE32_LEN(len + S3C_TAG_LEN));
		assert_int_equal(decrypt("d/", stored.text, stored.item, got), 0);
		assert_string_equal(got, name);
	}
	memset(name, 'x', sizeof(name));
	assert_int_equal(s3c_name_encrypt(names_key, "", name, 256, &stored), -EINVAL);
	assert_int_equal(s3c_name_encrypt(names_key, "", name, 0, &stored), -EINVAL);
	assert_int_equal(s3c_name_encrypt(names_key, "", ".", 1, &stored), -EINVAL);
	assert_int_equal(s3c_name_encrypt(names_key, "", "..", 2, &stored), -EINVAL);
	assert_int_equal(s3c_name_encrypt(names_key, "", "a/b", 3, &stored), -EINVAL);
	assert_int_equal(s3c_name_encrypt(names_key, "", "a\0b", 3, &stored), -EINVAL);
	assert_int_equal(s3c_name_encrypt(names_key, "", "...", 3, &stored), 0);
}

/* Nothing in common: other directories, other case, longer names. */
static void test_distinct(void **state)
{
	static const char *const parents[] = { "", "a/", "b/", "a/b/" };
	static const char *const names[] = { "name", "Name", "name2", "nam" };
	struct s3c_stored_name all[16];
	size_t n = 0;

	(void)state;
	for (size_t p = 0; p < ARRAY_LEN(parents); p++)
		for (size_t i = 0; i < ARRAY_LEN(names); i++)
			all[n++] = encrypt(parents[p], names[i]);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(all[i].text, all[k].text, 12);
}

/* Every other character at every place, every other length: refused. */
static void test_altered(void **state)
{
	static const char *const bad[] = {
		"",      "a",  ".s3cryptfs", "%",  "photo.jpg",
		"0",     "00", "000",        "0=", "00000000000000000000000000",
		"v0\xff"
	};
	struct s3c_stored_name stored = encrypt("d/", "some name");
	size_t len = strlen(stored.text);
	char got[S3C_NAME_LEN_MAX + 1] = "untouched", text[S3C_STORED_NAME_MAX + 2];

	(void)state;
	for (size_t at = 0; at < len; at++) {
		for (unsigned c = 1; c < 256; c++) {
			strcpy(text, stored.text);
			text[at] = (char)c;
			if (strcmp(text, stored.text) != 0)
				assert_int_equal(decrypt("d/", text, NULL, got), -EBADMSG);
		}
		strcpy(text, stored.text);
		text[at] = '\0';
		assert_int_equal(decrypt("d/", text, NULL, got), -EBADMSG);
		assert_int_equal(decrypt("d/", stored.text + at + 1, NULL, got), -EBADMSG);
	}
	snprintf(text, sizeof(text), "%s0", stored.text);
	assert_int_equal(decrypt("d/", text, NULL, got), -EBADMSG);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(decrypt("d/", bad[i], NULL, got), -EBADMSG);
	assert_int_equal(decrypt("", stored.text, NULL, got), -EBADMSG);
	assert_int_equal(decrypt("d", stored.text, NULL, got), -EBADMSG);
	assert_int_equal(decrypt("e/", stored.text, NULL, got), -EBADMSG);
	assert_string_equal(got, "untouched");
}

static void test_long_altered(void **state)
{
	char name[111], got[S3C_NAME_LEN_MAX + 1] = "untouched";
	char item[S3C_BASE64_LEN(S3C_NAME_LEN_MAX + S3C_TAG_LEN) + 1];
	uint8_t ct[S3C_NAME_LEN_MAX + S3C_TAG_LEN], digest[S3C_SHA256_LEN];
	char text[S3C_STORED_NAME_MAX + 1] = "%";
	struct s3c_stored_name stored, other;
	size_t len;

	(void)state;
	memset(name, 'n', 110);
	name[110] = '\0';
	stored = encrypt("", name);
	name[0] = 'm';
	other = encrypt("", name);
	assert_int_equal(decrypt("", stored.text, NULL, got), -ENODATA);
	assert_int_equal(decrypt("", stored.text, "", got), -EBADMSG);
	assert_int_equal(decrypt("", stored.text, other.item, got), -EBADMSG);
	assert_int_equal(decrypt("e/", stored.text, stored.item, got), -EBADMSG);
	for (size_t at = 0; stored.item[at]; at++) {
		strcpy(item, stored.item);
		item[at] = item[at] == 'A' ? 'B' : 'A';
		assert_int_equal(decrypt("", stored.text, item, got), -EBADMSG);
	}
	assert_int_equal(s3c_name_decrypt(names_key, "", stored.text, 52, stored.item, got),
			 -EBADMSG);
	assert_string_equal(got, "untouched");
	/* A short name in the form of a long one, right in all else: there is one form for each. */
	name[109] = '\0';
	stored = encrypt("", name);
	assert_int_equal(s3c_base32_decode(stored.text, strlen(stored.text), ct, sizeof(ct), &len),
			 0);
	assert_int_equal(s3c_sha256(ct, len, digest), 0);
	s3c_base32_encode(digest, sizeof(digest), text + 1);
	s3c_base64_encode(ct, len, item);
	assert_int_equal(decrypt("", text, item, got), -EBADMSG);
}

static void test_escapes(void **state)
{
	static const struct {
		const char *name, *stored;
	} cases[] = {
		{ "plain name %41~", "plain name %41~" },
		{ "%", "%" },
		{ "\xc3\xa4\xf0\x9f\x98\x80\t\r\n", "\xc3\xa4\xf0\x9f\x98\x80\t\r\n" },
		{ "%~", "%~%25~" },
		{ "\xff", "%~%FF" },
		{ "a%\x01\xc3", "%~a%25%01%C3" },
		{ "\xed\xa0\x80", "%~%ED%A0%80" },          /* a surrogate */
		{ "\xc0\xaf\xc3\xa4", "%~%C0%AF\xc3\xa4" }, /* not the shortest form */
		{ "\xf4\x90\x80\x80", "%~%F4%90%80%80" },   /* past U+10FFFF */
		{ "\xef\xbf\xbf", "%~%EF%BF%BF" },          /* U+FFFF */
	};
	static const char *const none[] = { "\xff",  "\x01",  "%~",     "%~%",   "%~a",
					    "%~%61", "%~%ff", "%~%FF/", "%~%00", "%~%C3%A4",
					    "%~%2F", "..",    "" };
	char text[S3C_ESCAPED_MAX + 1], name[S3C_NAME_LEN_MAX + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		s3c_name_escape(cases[i].name, text);
		assert_string_equal(text, cases[i].stored);
		assert_int_equal(s3c_name_unescape(text, strlen(text), name), 0);
		assert_string_equal(name, cases[i].name);
	}
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		assert_int_equal(s3c_name_unescape(none[i], strlen(none[i]), name), -EBADMSG);
	memset(name, 0xff, S3C_NAME_LEN_MAX);
	name[S3C_NAME_LEN_MAX] = '\0';
	s3c_name_escape(name, text);
	assert_int_equal(strlen(text), S3C_ESCAPED_MAX);
	assert_int_equal(s3c_name_unescape(text, strlen(text), name), 0);
	/* One byte more is no name. */
	memset(text, 'n', S3C_NAME_LEN_MAX + 1);
	assert_int_equal(s3c_name_unescape(text, S3C_NAME_LEN_MAX + 1, name), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example),      cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_distinct),     cmocka_unit_test(test_altered),
		cmocka_unit_test(test_long_altered), cmocka_unit_test(test_escapes),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
