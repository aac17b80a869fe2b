/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/crc.h"
#include "base/util.h"

static uint8_t noise[70000];

static int setup(void **state)
{
	uint32_t x = 1;

	(void)state;
	for (size_t i = 0; i < sizeof(noise); i++) {
		x = x * 1664525 + 1013904223;
		noise[i] = (uint8_t)(x >> 24);
	}
	return 0;
}

/* RFC 3720 B.4, and the check value of the catalogue of parametrised CRC algorithms. */
static void crc32c_known(void **state)
{
	static const struct {
		uint8_t first;
		int step;
		uint32_t want;
	} cases[] = {
		{ 0, 0, 0x8a9136aa },
		{ 0xff, 0, 0x62a8ab43 },
		{ 0, 1, 0x46dd794e },
		{ 31, -1, 0x113fdb5c },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t data[32];

		for (int j = 0; j < 32; j++)
			data[j] = (uint8_t)(cases[i].first + j * cases[i].step);
		assert_int_equal(s3c_crc32c(0, data, sizeof(data)), cases[i].want);
		assert_int_equal(s3c_crc32c_portable(0, data, sizeof(data)), cases[i].want);
	}
	assert_int_equal(s3c_crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(s3c_crc32c_portable(0, "123456789", 9), 0xe3069283);
	assert_int_equal(s3c_crc32c(0, "", 0), 0);
}

/* Bit by bit: what the tables have to agree with. */
static uint64_t crc64_slow(const uint8_t *p, size_t len)
{
	uint64_t crc = UINT64_MAX;

	while (len--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc & 1 ? crc >> 1 ^ 0x9a6c9329ac4bc9b5u : crc >> 1;
	}
	return ~crc;
}

static void crc64nvme_known(void **state)
{
	(void)state;
	assert_true(s3c_crc64nvme(0, "123456789", 9) == 0xae8b14860a799888u);
	assert_true(s3c_crc64nvme(0, "", 0) == 0);
	for (size_t len = 0; len < 300; len++)
		assert_true(s3c_crc64nvme(0, noise + len % 7, len) ==
			    crc64_slow(noise + len % 7, len));
}

static void continued(void **state)
{
	const size_t len = 1000;
	uint32_t c32 = s3c_crc32c(0, noise, len);
	uint64_t c64 = s3c_crc64nvme(0, noise, len);

	(void)state;
	for (size_t cut = 0; cut <= len; cut++) {
		assert_int_equal(s3c_crc32c(s3c_crc32c(0, noise, cut), noise + cut, len - cut),
				 c32);
		assert_int_equal(
			s3c_crc32c_portable(s3c_crc32c(0, noise, cut), noise + cut, len - cut),
			c32);
		assert_true(s3c_crc64nvme(s3c_crc64nvme(0, noise, cut), noise + cut, len - cut) ==
			    c64);
	}
}

static void paths_agree(void **state)
{
	(void)state;
	for (size_t len = 0; len < 600; len++)
		for (size_t off = 0; off < 9; off++)
			assert_int_equal(s3c_crc32c(0x12345678, noise + off, len),
					 s3c_crc32c_portable(0x12345678, noise + off, len));
	assert_int_equal(s3c_crc32c(0, noise, sizeof(noise)),
			 s3c_crc32c_portable(0, noise, sizeof(noise)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crc32c_known),
		cmocka_unit_test(crc64nvme_known),
		cmocka_unit_test(continued),
		cmocka_unit_test(paths_agree),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
