/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The end of an object of two segments or more: table of segment salts, footer,
 * HMAC under a key from the data key over both, HMAC under the volume's seal key
 * over file id and footer. Grammar in doc/format.md.
 */
#pragma once

#include "object/chunks.h"

struct s3c_footer {
	uint64_t size; /* plaintext */
	int64_t mtime_ns;
	uint8_t content_id[S3C_CONTENT_ID_LEN];
	uint64_t segments; /* == s3c_segment_count(size), >= 2 */
};
/* Bytes of footer and both HMACs: fixed for the version. */
extern const uint32_t s3c_footer_stored_len;

/* segments * 16 + s3c_footer_stored_len. */
uint64_t s3c_trailer_len(uint64_t segments);
/* salts: segments * 16 bytes. Appends exactly s3c_trailer_len bytes. */
int s3c_trailer_encode(const struct s3c_footer *footer, const uint8_t *salts,
		       const uint8_t data_key[static S3C_KEY_LEN], const struct s3c_header *header,
		       const struct s3c_volume *volume, struct s3c_buf *out);
/*
 * Reads the footer at the end of tail (the last tail_len bytes of an object of stored_size) and
 * checks the seal HMAC, the content id against the header, the segment count, and that the sizes
 * can be. Needs no data key. -EBADMSG with words in why.
 */
int s3c_footer_decode(const void *tail, size_t tail_len, uint64_t stored_size,
		      const struct s3c_header *header, const struct s3c_volume *volume,
		      struct s3c_footer *ret_footer, char *why, size_t why_size);
/*
 * Checks table and footer under the data key: table points to segments * 16 bytes, footer_stored
 * to the s3c_footer_stored_len bytes after it; and that stored_size is that of the segments which
 * are no holes plus the trailer.
 */
int s3c_table_verify(const uint8_t *table, const uint8_t *footer_stored,
		     const struct s3c_footer *footer, uint64_t stored_size,
		     const uint8_t data_key[static S3C_KEY_LEN], const struct s3c_header *header,
		     char *why, size_t why_size);
