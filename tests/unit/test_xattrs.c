/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Extended attributes as a value, sealed, and in the clear. */
#include "object_fixture.h"

static const uint8_t file_id[S3C_FILE_ID_LEN] = { 7 };

static struct s3c_volume *new_volume(struct s3c_keyring **ret_keyring)
{
	struct s3c_buf body = { .max = 1 << 16 };
	struct s3c_volume *volume = NULL;
	struct s3c_err err = { 0 };

	*ret_keyring = keyring_a();
	assert_int_equal(
		s3c_volume_create(S3C_FAMILY_CSE, false, false, *ret_keyring, &err, &volume, &body),
		0);
	s3c_buf_free(&body);
	return volume;
}

/* Takes *xattrs and gives what it is with the name set, or taken away. */
static int change(struct s3c_xattrs **xattrs, const char *name, const void *value, size_t len,
		  int flags)
{
	struct s3c_xattrs *next = NULL;
	int r = s3c_xattrs_with(*xattrs, name, value, len, flags & 1, flags & 2, &next);

	if (r == 0) {
		s3c_xattrs_put(*xattrs);
		*xattrs = next;
	}
	return r;
}

static void assert_value(const struct s3c_xattrs *xattrs, const char *name, const void *want,
			 size_t want_len)
{
	const void *value;
	size_t len;

	assert_int_equal(s3c_xattrs_get(xattrs, name, &value, &len), 0);
	assert_int_equal(len, want_len);
	assert_memory_equal(value, want, len);
}

static void test_changes(void **state)
{
	cleanup_buf struct s3c_buf names = { .max = 100 };
	cleanup_xattrs struct s3c_xattrs *x = NULL;
	const void *value;
	size_t len;

	(void)state;
	assert_int_equal(s3c_xattrs_get(x, "user.a", &value, &len), -ENODATA);
	assert_int_equal(change(&x, "user.b", "2", 1, 0), 0);
	assert_int_equal(change(&x, "user.a", "\0\xff", 2, 1), 0);
	assert_int_equal(change(&x, "user.ab", "", 0, 0), 0);
	assert_int_equal(change(&x, "user.a", "x", 1, 1), -EEXIST);
	assert_int_equal(change(&x, "user.c", "x", 1, 2), -ENODATA);
	assert_int_equal(change(&x, "user.b", "22", 2, 2), 0);
	assert_value(x, "user.a", "\0\xff", 2);
	assert_value(x, "user.b", "22", 2);
	assert_value(x, "user.ab", "", 0);
	assert_int_equal(s3c_xattrs_names(x, &names), 0);
	assert_int_equal(names.len, 22);
	assert_memory_equal(names.data, "user.a\0user.ab\0user.b\0", 22);
	assert_int_equal(change(&x, "user.c", NULL, 0, 0), -ENODATA);
	assert_int_equal(change(&x, "user.a", NULL, 0, 0), 0);
	assert_int_equal(s3c_xattrs_get(x, "user.a", &value, &len), -ENODATA);
	assert_int_equal(change(&x, "user.ab", NULL, 0, 0), 0);
	assert_int_equal(change(&x, "user.b", NULL, 0, 0), 0);
	assert_null(x);
}

static void test_bounds(void **state)
{
	cleanup_xattrs struct s3c_xattrs *x = NULL;
	static const char big[S3C_XATTRS_MAX + 1];
	char name[S3C_XATTR_NAME_MAX + 2];

	(void)state;
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(change(&x, name, "", 0, 0), -ERANGE);
	assert_int_equal(change(&x, "", "", 0, 0), -ERANGE);
	name[S3C_XATTR_NAME_MAX] = '\0';
	assert_int_equal(change(&x, name, "", 0, 0), 0);
	assert_int_equal(change(&x, "a", big, sizeof(big), 0), -ENOSPC);
	/* 258 bytes are taken; an item has 3 besides its name and value. */
	assert_int_equal(change(&x, "a", big, S3C_XATTRS_MAX - 258 - 3, 0), -ENOSPC);
	assert_int_equal(change(&x, "a", big, S3C_XATTRS_MAX - 258 - 4, 0), 0);
	assert_int_equal(change(&x, "b", "", 0, 0), -ENOSPC);
}

static void test_no_texts(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} cases[] = {
		{ "\1", 1 },
		{ "\0\0\0", 3 },
		{ "\1a\0", 3 },
		{ "\1a\0\1", 4 },
		{ "\1a\0\1xx", 6 },
		{ "\1\0\0\0", 4 },
		{ "\1b\0\0\1a\0\0", 8 },
		{ "\1a\0\0\1a\0\0", 8 },
		{ "\377abc", 4 },
	};
	struct s3c_xattrs *x = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(s3c_xattrs_parse(cases[i].text, cases[i].len, &x), -EBADMSG);
	assert_int_equal(s3c_xattrs_parse("\1a\0\0\1b\0\1x", 9, &x), 0);
	assert_value(x, "b", "x", 1);
	s3c_xattrs_put(x);
}

static void test_sealed(void **state)
{
	__attribute__((cleanup(s3c_meta_free))) struct s3c_meta meta = { 0 }, again = { 0 };
	cleanup_xattrs struct s3c_xattrs *x = NULL;
	const uint8_t other_id[S3C_FILE_ID_LEN] = { 8 };
	struct s3c_keyring *keyring;
	struct s3c_volume *volume = new_volume(&keyring);
	struct s3c_xattrs *got = NULL;
	char *item;

	(void)state;
	assert_int_equal(s3c_xattrs_encode(NULL, volume, 1, file_id, &meta), 0);
	assert_null(s3c_meta_get(&meta, "xattr"));
	assert_int_equal(change(&x, "user.secret", "plaintext", 9, 0), 0);
	assert_int_equal(s3c_xattrs_encode(x, volume, 1, file_id, &meta), 0);
	assert_int_equal(s3c_xattrs_encode(x, volume, 1, file_id, &again), 0);
	item = (char *)s3c_meta_get(&meta, "xattr");
	assert_string_not_equal(item, s3c_meta_get(&again, "xattr"));
	assert_int_equal(strlen(item) + strlen("xattr"), s3c_xattrs_stored_len(x, true));
	assert_int_equal(s3c_xattrs_decode(&meta, volume, 1, file_id, &got), 0);
	assert_true(s3c_xattrs_equal(x, got));
	s3c_xattrs_put(got);
	assert_int_equal(s3c_xattrs_decode(&meta, volume, 1, other_id, &got), -EBADMSG);
	for (size_t bit = 0; bit < 8 * strlen(item); bit++) {
		flip_bit(item, bit);
		assert_int_equal(s3c_xattrs_decode(&meta, volume, 1, file_id, &got), -EBADMSG);
		flip_bit(item, bit);
	}
	s3c_volume_free(volume);
	s3c_keyring_free(keyring);
}

/* In a header: sealed with it, and a reference of each copy. */
static void test_header(void **state)
{
	__attribute__((cleanup(s3c_meta_free))) struct s3c_meta meta = { 0 };
	cleanup_header struct s3c_header got = { 0 }, copy = { 0 };
	struct s3c_header header = { .layout = S3C_LAYOUT_NONE, .epoch = 1 };
	cleanup_xattrs struct s3c_xattrs *x = NULL;
	struct s3c_keyring *keyring;
	struct s3c_volume *volume = new_volume(&keyring);

	(void)state;
	assert_int_equal(change(&x, "user.a", "1", 1, 0), 0);
	header.attrs = (struct s3c_attrs){ .mode = S_IFBLK | 0600, .rdev = 0x10203, .xattrs = x };
	assert_int_equal(s3c_header_encode(&header, keyring, volume, "k", &meta), 0);
	assert_string_equal(s3c_meta_get(&meta, "rdev"), "258:3");
	assert_int_equal(s3c_header_decode(&meta, volume, "k", 0, &got, NULL, 0), 0);
	assert_int_equal(got.attrs.rdev, 0x10203);
	assert_true(s3c_xattrs_equal(got.attrs.xattrs, x));
	s3c_header_set(&copy, &got);
	s3c_header_clear(&got);
	assert_value(copy.attrs.xattrs, "user.a", "1", 1);
	s3c_meta_remove(&meta, "xattr");
	assert_int_equal(s3c_header_decode(&meta, volume, "k", 0, &got, NULL, 0), -EBADMSG);
	s3c_volume_free(volume);
	s3c_keyring_free(keyring);
}

static void test_plain(void **state)
{
	__attribute__((cleanup(s3c_meta_free))) struct s3c_meta meta = { 0 };
	cleanup_xattrs struct s3c_xattrs *x = NULL;
	static const char *const damaged[] = { "",
					       "%",
					       "%7b",
					       "[]",
					       "{\"user.a\":1}",
					       "{\"user.a\":\"*\"}",
					       "{\"trusted.a\":\"YQ==\"}" };
	struct s3c_xattrs *got;

	(void)state;
	assert_int_equal(change(&x, "user.a\"\xc3\xa4", "v", 1, 0), 0);
	assert_int_equal(change(&x, "user.b", "", 0, 0), 0);
	assert_int_equal(s3c_xattrs_encode(x, NULL, 0, file_id, &meta), 0);
	assert_string_equal(s3c_meta_get(&meta, "xattr"),
			    "%7B%22user.a%5C%22%C3%A4%22%3A%22dg%3D%3D%22%2C%22user.b%22%3A%22%22"
			    "%7D");
	assert_int_equal(s3c_meta_bytes(&meta), s3c_xattrs_stored_len(x, false));
	assert_int_equal(s3c_xattrs_decode_plain(&meta, &got), 0);
	assert_true(s3c_xattrs_equal(x, got));
	s3c_xattrs_put(got);
	for (size_t i = 0; i < ARRAY_LEN(damaged); i++) {
		s3c_meta_set(&meta, "xattr", damaged[i]);
		assert_int_equal(s3c_xattrs_decode_plain(&meta, &got), 0);
		assert_null(got);
	}
	/* What JSON has no text for. */
	assert_int_equal(change(&x, "user.\xff", "", 0, 0), 0);
	assert_int_equal(s3c_xattrs_encode(x, NULL, 0, file_id, &meta), -EOPNOTSUPP);
	assert_true(s3c_xattrs_stored_len(x, false) > S3C_STORE_META_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes),  cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_no_texts), cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_header),   cmocka_unit_test(test_plain),
	};

	return cmocka_run_group_tests_name("xattrs", tests, fixture_setup, NULL);
}
