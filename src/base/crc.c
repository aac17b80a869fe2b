/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/crc.h"

#include <endian.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define CRC32C_POLY 0x82f63b78u /* reflected */
#define CRC64NVME_POLY 0x9a6c9329ac4bc9b5u

/*
 * Slicing by 8: table[k][b] is the CRC of byte b followed by k zero bytes, so that eight bytes are
 * eight look-ups that do not wait for one another.
 */
static uint32_t crc32c_table[8][256];
static uint64_t crc64_table[8][256];
static bool have_sse42;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init(void)
{
	for (unsigned b = 0; b < 256; b++) {
		uint32_t c32 = b;
		uint64_t c64 = b;

		for (int i = 0; i < 8; i++) {
			c32 = c32 & 1 ? c32 >> 1 ^ CRC32C_POLY : c32 >> 1;
			c64 = c64 & 1 ? c64 >> 1 ^ CRC64NVME_POLY : c64 >> 1;
		}
		crc32c_table[0][b] = c32;
		crc64_table[0][b] = c64;
	}
	for (unsigned k = 1; k < 8; k++) {
		for (unsigned b = 0; b < 256; b++) {
			uint32_t c32 = crc32c_table[k - 1][b];
			uint64_t c64 = crc64_table[k - 1][b];

			crc32c_table[k][b] = c32 >> 8 ^ crc32c_table[0][c32 & 255];
			crc64_table[k][b] = c64 >> 8 ^ crc64_table[0][c64 & 255];
		}
	}
#if defined(__x86_64__)
	have_sse42 = __builtin_cpu_supports("sse4.2");
#endif
}

static uint64_t load_le64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *p,
							       size_t len)
{
	uint64_t c = (uint32_t)~crc;

	for (; len >= 8; p += 8, len -= 8)
		c = __builtin_ia32_crc32di(c, load_le64(p));
	for (; len; p++, len--)
		c = __builtin_ia32_crc32qi((uint32_t)c, *p);
	return ~(uint32_t)c;
}
#endif

uint32_t s3c_crc32c_portable(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	pthread_once(&once, init);
	crc = ~crc;
	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v = load_le64(p) ^ crc;

		crc = crc32c_table[7][v & 255] ^ crc32c_table[6][v >> 8 & 255] ^
		      crc32c_table[5][v >> 16 & 255] ^ crc32c_table[4][v >> 24 & 255] ^
		      crc32c_table[3][v >> 32 & 255] ^ crc32c_table[2][v >> 40 & 255] ^
		      crc32c_table[1][v >> 48 & 255] ^ crc32c_table[0][v >> 56];
	}
	for (; len; p++, len--)
		crc = crc >> 8 ^ crc32c_table[0][(crc ^ *p) & 255];
	return ~crc;
}

uint32_t s3c_crc32c(uint32_t crc, const void *data, size_t len)
{
	pthread_once(&once, init);
#if defined(__x86_64__)
	if (have_sse42)
		return crc32c_sse42(crc, data, len);
#endif
	return s3c_crc32c_portable(crc, data, len);
}

uint64_t s3c_crc64nvme(uint64_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	pthread_once(&once, init);
	crc = ~crc;
	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v = load_le64(p) ^ crc;

		crc = crc64_table[7][v & 255] ^ crc64_table[6][v >> 8 & 255] ^
		      crc64_table[5][v >> 16 & 255] ^ crc64_table[4][v >> 24 & 255] ^
		      crc64_table[3][v >> 32 & 255] ^ crc64_table[2][v >> 40 & 255] ^
		      crc64_table[1][v >> 48 & 255] ^ crc64_table[0][v >> 56];
	}
	for (; len; p++, len--)
		crc = crc >> 8 ^ crc64_table[0][(crc ^ *p) & 255];
	return ~crc;
}
