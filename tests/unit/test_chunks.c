/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object_fixture.h"

#include "object/chunks.h"

static const uint8_t data_key[32] = { 9 }, file_id[16] = { 8 }, salt[16] = { 7 };

static struct s3c_segment_cipher *cipher_new(const uint8_t *key, const uint8_t *id,
					     uint64_t segment, const uint8_t *s)
{
	struct s3c_segment_cipher *cipher;

	assert_int_equal(s3c_segment_cipher_new(key, id, segment, s, &cipher), 0);
	return cipher;
}

/* A whole segment of each size, chunk by chunk, in place. */
static void test_round_trip(void **state)
{
	static const uint32_t sizes[] = { 0, 1, 15, 16, 65535, 65536, 65537, 8388607, 8388608 };
	static uint8_t plain[S3C_SEGMENT_SIZE], stored[S3C_SEGMENT_STRIDE];
	struct s3c_segment_cipher *cipher = cipher_new(data_key, file_id, 3, salt);

	(void)state;
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i % 251);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint64_t chunks = s3c_chunk_count(sizes[i]), total = 0;

		for (unsigned c = 0; c < chunks; c++) {
			uint32_t len = s3c_chunk_plain_len(sizes[i], c);
			uint8_t *at = stored + (size_t)c * S3C_CHUNK_STRIDE;

			memcpy(at, plain + (size_t)c * S3C_CHUNK_SIZE, len);
			assert_int_equal(s3c_chunk_seal(cipher, c, at, len, at), 0);
			total += len + S3C_TAG_LEN;
		}
		assert_int_equal(total, s3c_chunks_stored_len(sizes[i]));
		for (unsigned c = 0; c < chunks; c++) {
			uint32_t len = s3c_chunk_plain_len(sizes[i], c);
			uint8_t *at = stored + (size_t)c * S3C_CHUNK_STRIDE;

			assert_int_equal(s3c_chunk_open(cipher, c, at, len + S3C_TAG_LEN, at), 0);
			assert_memory_equal(at, plain + (size_t)c * S3C_CHUNK_SIZE, len);
		}
	}
	s3c_segment_cipher_free(cipher);
}

static void test_refused(void **state)
{
	static const uint8_t other_key[32] = { 10 }, other_id[16] = { 9 }, other_salt[16] = { 8 };
	uint8_t stored[40 + S3C_TAG_LEN], plain[40 + S3C_TAG_LEN];
	struct s3c_segment_cipher *cipher = cipher_new(data_key, file_id, 3, salt);
	struct s3c_segment_cipher *others[] = {
		cipher_new(other_key, file_id, 3, salt),
		cipher_new(data_key, other_id, 3, salt),
		cipher_new(data_key, file_id, 4, salt),
		cipher_new(data_key, file_id, 3 << 8, salt),
		cipher_new(data_key, file_id, 3, other_salt),
	};

	(void)state;
	memset(plain, 0x5a, sizeof(plain));
	assert_int_equal(s3c_chunk_seal(cipher, 5, plain, 40, stored), 0);
	for (size_t bit = 0; bit < 8 * sizeof(stored); bit++) {
		flip_bit(stored, bit);
		assert_int_equal(s3c_chunk_open(cipher, 5, stored, sizeof(stored), plain),
				 -EBADMSG);
		flip_bit(stored, bit);
	}
	for (uint32_t len = 0; len < sizeof(stored); len++)
		assert_int_equal(s3c_chunk_open(cipher, 5, stored, len, plain), -EBADMSG);
	for (unsigned c = 0; c < S3C_SEGMENT_CHUNKS; c++)
		if (c != 5)
			assert_int_equal(s3c_chunk_open(cipher, c, stored, sizeof(stored), plain),
					 -EBADMSG);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		assert_int_equal(s3c_chunk_open(others[i], 5, stored, sizeof(stored), plain),
				 -EBADMSG);
		s3c_segment_cipher_free(others[i]);
	}
	assert_int_equal(s3c_chunk_open(cipher, 5, stored, sizeof(stored), plain), 0);
	s3c_segment_cipher_free(cipher);
}

/* What a caller must never do is refused before a key is used. */
static void test_arguments(void **state)
{
	static uint8_t buf[S3C_CHUNK_STRIDE + 1], zero[16];
	struct s3c_segment_cipher *cipher = cipher_new(data_key, file_id, 0, salt), *none = NULL;

	(void)state;
	assert_int_equal(s3c_chunk_seal(cipher, 128, buf, 1, buf), -EINVAL);
	assert_int_equal(s3c_chunk_seal(cipher, 0, buf, 0, buf), -EINVAL);
	assert_int_equal(s3c_chunk_seal(cipher, 0, buf, S3C_CHUNK_SIZE + 1, buf), -EINVAL);
	assert_int_equal(s3c_chunk_open(cipher, 128, buf, 20, buf), -EINVAL);
	assert_int_equal(s3c_chunk_open(cipher, 0, buf, S3C_CHUNK_STRIDE + 1, buf), -EBADMSG);
	assert_int_equal(s3c_segment_cipher_new(data_key, file_id, 0, zero, &none), -EINVAL);
	assert_null(none);
	s3c_segment_cipher_free(cipher);
	s3c_segment_cipher_free(NULL);
}

static void test_salts(void **state)
{
	uint8_t a[16], b[16], zero[16] = { 0 };

	(void)state;
	s3c_salt_draw(a);
	s3c_salt_draw(b);
	assert_memory_not_equal(a, b, 16);
	assert_false(s3c_salt_is_hole(a));
	assert_true(s3c_salt_is_hole(zero));
	zero[15] = 1;
	assert_false(s3c_salt_is_hole(zero));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_salts),
	};

	return cmocka_run_group_tests(tests, fixture_setup, NULL);
}
