/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object/chunks.h"

#include <errno.h>
#include <string.h>

#include "base/encode.h"
#include "base/secret.h"

struct s3c_segment_cipher {
	struct s3c_gcm *gcm;
};

static const char segment_label[] = "s3cryptfs segment";

int s3c_segment_cipher_new(const uint8_t data_key[static S3C_KEY_LEN],
			   const uint8_t file_id[static S3C_FILE_ID_LEN], uint64_t segment,
			   const uint8_t salt[static S3C_SALT_LEN],
			   struct s3c_segment_cipher **ret_cipher)
{
	uint8_t info[sizeof(segment_label) - 1 + S3C_FILE_ID_LEN + 8], key[S3C_KEY_LEN];
	struct s3c_segment_cipher *cipher;
	uint8_t *p = info;
	int r;

	/* Nothing is ever sealed under the salt of a hole: all holes have the same one. */
	if (s3c_salt_is_hole(salt))
		return -EINVAL;
	p = (uint8_t *)mempcpy(p, segment_label, sizeof(segment_label) - 1);
	p = (uint8_t *)mempcpy(p, file_id, S3C_FILE_ID_LEN);
	s3c_put_be64(p, segment);

	cipher = calloc(1, sizeof(*cipher));
	if (!cipher)
		return -ENOMEM;
	r = s3c_hkdf_sha256(data_key, S3C_KEY_LEN, salt, S3C_SALT_LEN, info, sizeof(info), key,
			    sizeof(key));
	if (r == 0)
		r = s3c_gcm_new(key, &cipher->gcm);
	s3c_wipe(key, sizeof(key));
	if (r < 0) {
		s3c_segment_cipher_free(cipher);
		return r;
	}
	*ret_cipher = cipher;
	return 0;
}

void s3c_segment_cipher_free(struct s3c_segment_cipher *cipher)
{
	if (!cipher)
		return;
	s3c_gcm_free(cipher->gcm);
	free(cipher);
}

static void chunk_nonce(unsigned chunk, uint8_t ret_nonce[static S3C_NONCE_LEN])
{
	memset(ret_nonce, 0, S3C_NONCE_LEN);
	s3c_put_be32(ret_nonce + S3C_NONCE_LEN - 4, chunk);
}

int s3c_chunk_seal(struct s3c_segment_cipher *cipher, unsigned chunk, const void *plain,
		   uint32_t len, void *ret_stored)
{
	uint8_t nonce[S3C_NONCE_LEN];

	if (chunk >= S3C_SEGMENT_CHUNKS || !len || len > S3C_CHUNK_SIZE)
		return -EINVAL;
	chunk_nonce(chunk, nonce);
	return s3c_gcm_seal(cipher->gcm, nonce, NULL, 0, plain, len, ret_stored,
			    (uint8_t *)ret_stored + len);
}

int s3c_chunk_open(struct s3c_segment_cipher *cipher, unsigned chunk, const void *stored,
		   uint32_t stored_len, void *ret_plain)
{
	uint8_t nonce[S3C_NONCE_LEN];
	uint32_t len;

	if (chunk >= S3C_SEGMENT_CHUNKS)
		return -EINVAL;
	if (stored_len <= S3C_TAG_LEN || stored_len > S3C_CHUNK_STRIDE)
		return -EBADMSG;
	len = stored_len - S3C_TAG_LEN;
	chunk_nonce(chunk, nonce);
	return s3c_gcm_open(cipher->gcm, nonce, NULL, 0, stored, len, (const uint8_t *)stored + len,
			    ret_plain);
}

void s3c_salt_draw(uint8_t ret_salt[static S3C_SALT_LEN])
{
	do
		s3c_random(ret_salt, S3C_SALT_LEN);
	while (s3c_salt_is_hole(ret_salt));
}

bool s3c_salt_is_hole(const uint8_t salt[static S3C_SALT_LEN])
{
	static const uint8_t zero[S3C_SALT_LEN];

	return memcmp(salt, zero, S3C_SALT_LEN) == 0; /* salts are no secrets */
}
