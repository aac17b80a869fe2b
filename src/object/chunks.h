/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Sealing and opening the chunks of a segment.
 *
 * segment key = HKDF-SHA256(data key, segment salt, "s3cryptfs segment" | file id | be64(index))
 * chunk       = AES-256-GCM(segment key, nonce = be96(chunk's index in the segment), no AAD)
 *
 * A salt belongs to one content of one segment: whoever seals other bytes draws
 * a new one first. A cipher is used by one thread at a time.
 */
#pragma once

#include "object/header.h"

struct s3c_segment_cipher;
int s3c_segment_cipher_new(const uint8_t data_key[static S3C_KEY_LEN],
			   const uint8_t file_id[static S3C_FILE_ID_LEN], uint64_t segment,
			   const uint8_t salt[static S3C_SALT_LEN],
			   struct s3c_segment_cipher **ret_cipher);
void s3c_segment_cipher_free(struct s3c_segment_cipher *cipher);
/* chunk: index in the segment, 0..127. ret_stored takes len + 16 bytes; may overlap plain exactly.
 */
int s3c_chunk_seal(struct s3c_segment_cipher *cipher, unsigned chunk, const void *plain,
		   uint32_t len, void *ret_stored);
/* stored_len includes the tag. In place when ret_plain == stored. -EBADMSG: not authentic. */
int s3c_chunk_open(struct s3c_segment_cipher *cipher, unsigned chunk, const void *stored,
		   uint32_t stored_len, void *ret_plain);
/* Random, never all-zero (that is a hole). */
void s3c_salt_draw(uint8_t ret_salt[static S3C_SALT_LEN]);
bool s3c_salt_is_hole(const uint8_t salt[static S3C_SALT_LEN]);

static inline void s3c_segment_cipher_freep(struct s3c_segment_cipher **p)
{
	s3c_segment_cipher_free(*p);
}
