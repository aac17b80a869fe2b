/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object_fixture.h"

#include "object/geometry.h"

#define MIB8 UINT64_C(8388608)

static void test_known(void **state)
{
	static const struct {
		uint64_t size, segments, chunks, stored; /* stored: as one run of chunks */
	} cases[] = {
		{ 0, 0, 0, 0 },
		{ 1, 1, 1, 17 },
		{ 15, 1, 1, 31 },
		{ 16, 1, 1, 32 },
		{ 65535, 1, 1, 65551 },
		{ 65536, 1, 1, 65552 },
		{ 65537, 1, 2, 65569 },
		{ MIB8 - 1, 1, 128, 8390655 },
		{ MIB8, 1, 128, 8390656 },
		{ MIB8 + 1, 2, 129, 8390673 },
		{ 2 * MIB8, 2, 256, 16781312 },
		{ S3C_FILE_SIZE_MAX, 2097152, 268435456,
		  S3C_FILE_SIZE_MAX + UINT64_C(268435456) * 16 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t size = UINT64_MAX;

		assert_int_equal(s3c_segment_count(cases[i].size), cases[i].segments);
		assert_int_equal(s3c_chunk_count(cases[i].size), cases[i].chunks);
		assert_int_equal(s3c_chunks_stored_len(cases[i].size), cases[i].stored);
		assert_true(s3c_chunks_plain_len(cases[i].stored, &size));
		assert_int_equal(size, cases[i].size);
	}
}

static void test_pieces(void **state)
{
	uint64_t size = 2 * MIB8 + 70000;

	(void)state;
	assert_int_equal(s3c_segment_plain_len(size, 0), MIB8);
	assert_int_equal(s3c_segment_plain_len(size, 1), MIB8);
	assert_int_equal(s3c_segment_plain_len(size, 2), 70000);
	assert_int_equal(s3c_segment_plain_len(size, 3), 0);
	assert_int_equal(s3c_segment_plain_len(size, UINT64_MAX), 0);
	assert_int_equal(s3c_segment_plain_len(MIB8, 1), 0);
	assert_int_equal(s3c_segment_plain_len(0, 0), 0);
	assert_int_equal(s3c_segment_stored_len(size, 1), S3C_SEGMENT_STRIDE);
	assert_int_equal(s3c_segment_stored_len(size, 2), 70032);
	assert_int_equal(s3c_segment_stored_len(size, 3), 0);
	assert_int_equal(s3c_chunk_plain_len(size, 256), 65536);
	assert_int_equal(s3c_chunk_plain_len(size, 257), 4464);
	assert_int_equal(s3c_chunk_plain_len(size, 258), 0);
	assert_int_equal(s3c_chunk_plain_len(S3C_FILE_SIZE_MAX, UINT64_MAX), 0);
	assert_int_equal(S3C_SEGMENT_STRIDE, 8390656);
	assert_int_equal(S3C_CHUNK_STRIDE, 65552);
}

/* Every stored size of up to three strides belongs to one plaintext size or to none. */
static void test_stored_sizes(void **state)
{
	uint64_t next = 0;

	(void)state;
	for (uint64_t stored = 0; stored <= 3 * S3C_CHUNK_STRIDE; stored++) {
		uint64_t size = UINT64_MAX;
		bool possible = s3c_chunks_plain_len(stored, &size);
		uint64_t rest = stored % S3C_CHUNK_STRIDE;

		assert_int_equal(possible, rest == 0 || rest > 16);
		if (!possible) {
			assert_int_equal(size, UINT64_MAX);
			continue;
		}
		assert_int_equal(size, next++);
		assert_int_equal(s3c_chunks_stored_len(size), stored);
	}
	assert_int_equal(next, 3 * S3C_CHUNK_SIZE + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_stored_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
