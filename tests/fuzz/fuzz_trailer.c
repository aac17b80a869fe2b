/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The end of a large object. Input: be64 stored size, a byte of choices, the tail. With bit 0 the
 * footer at its end gets a good seal, with bit 1 the table before it a good MAC.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/encode.h"
#include "object/trailer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t seal_key[32] = { 1, 2, 3 }, data_key[32] = { 4 };
#define FOOTER 40
#define STORED 104

/* The seal of a footer as doc/format.md has it. */
static void seal_footer(const struct s3c_header *header, uint8_t *footer)
{
	static const char label[] = "s3cryptfs footer v1";
	uint8_t in[12 + sizeof(label) - 1 + 16 + FOOTER], *p = in;

	s3c_put_be32(p, sizeof(label) - 1);
	p = (uint8_t *)mempcpy(p + 4, label, sizeof(label) - 1);
	s3c_put_be32(p, 16);
	p = (uint8_t *)mempcpy(p + 4, header->file_id, 16);
	s3c_put_be32(p, FOOTER);
	memcpy(p + 4, footer, FOOTER);
	s3c_hmac_sha256(seal_key, 32, in, sizeof(in), footer + FOOTER + 32);
}

static void mac_table(const struct s3c_header *header, const uint8_t *table, size_t len,
		      uint8_t *mac)
{
	uint8_t info[33], key[32];

	memcpy(info, "s3cryptfs trailer", 17);
	memcpy(info + 17, header->file_id, 16);
	s3c_hkdf_sha256(data_key, 32, NULL, 0, info, sizeof(info), key, sizeof(key));
	s3c_hmac_sha256(key, 32, table, len, mac);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s3c_epoch epoch = { .number = 1, .seal_key = seal_key };
	struct s3c_volume volume = { .family = S3C_FAMILY_CSE, .epoch = 1, .newest = &epoch };
	struct s3c_header header = { .layout = S3C_LAYOUT_TRAILER, .epoch = 1 };
	struct s3c_footer footer;
	cleanup_free uint8_t *tail = NULL;
	uint64_t stored, table_len;
	char why[128];
	size_t len;
	int r;

	if (size < 9)
		return 0;
	stored = s3c_get_be64(data);
	len = size - 9;
	tail = malloc(len + 1);
	if (!tail)
		return 0;
	memcpy(tail, data + 9, len);
	if (data[8] & 1 && len >= STORED)
		seal_footer(&header, tail + len - STORED);
	r = s3c_footer_decode(tail, len, stored, &header, &volume, &footer, why, sizeof(why));
	assert(r == 0 || r == -EBADMSG);
	if (r < 0)
		return 0;
	assert(footer.size <= S3C_FILE_SIZE_MAX && footer.segments >= 2);
	table_len = footer.segments * S3C_SALT_LEN;
	if (table_len > len - STORED)
		return 0; /* a reader fetches the rest */
	if (data[8] & 2)
		mac_table(&header, tail + len - STORED - table_len, table_len + FOOTER,
			  tail + len - STORED + FOOTER);
	r = s3c_table_verify(tail + len - STORED - table_len, tail + len - STORED, &footer, stored,
			     data_key, &header, why, sizeof(why));
	assert(r == 0 || r == -EBADMSG || r == -ENOMEM);
	return 0;
}
