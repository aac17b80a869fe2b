/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Wrapping data keys under a master key (wrap-alg "s3cryptfs/HKDF-AES-GCM"), and
 * keys that are derived from others. The grammar is in doc/format.md.
 *
 *	wrapped   = salt(32) ciphertext(32) tag(16)
 *	wrapping key = HKDF-SHA256(master key, salt, "s3cryptfs wrap")
 *	AES-256-GCM, nonce zero, AAD = content algorithm, 0x00, file id
 *
 * The salt is new for every wrap: no limit on the number of objects.
 */
#pragma once

#include "key/keyring.h"

#define S3C_WRAP_LEN 80
#define S3C_FILE_ID_LEN 16
#define S3C_WRAP_ALG "s3cryptfs/HKDF-AES-GCM"
#define S3C_VOLUME_ID_LEN 16

int s3c_wrap_seal(const struct s3c_master_key *key, const char *content_alg,
		  const uint8_t file_id[static S3C_FILE_ID_LEN],
		  const uint8_t data_key[static S3C_KEY_LEN],
		  uint8_t ret_wrapped[static S3C_WRAP_LEN]);
/* -EBADMSG: wrong key or altered. The output goes to secret memory of the caller. */
int s3c_wrap_open(const struct s3c_master_key *key, const char *content_alg,
		  const uint8_t file_id[static S3C_FILE_ID_LEN],
		  const uint8_t wrapped[static S3C_WRAP_LEN],
		  uint8_t ret_data_key[static S3C_KEY_LEN]);

/* HKDF-SHA256(master, salt = volume id, info = "s3cryptfs ssec" | object key). */
int s3c_derive_ssec_key(const struct s3c_master_key *key,
			const uint8_t volume_id[static S3C_VOLUME_ID_LEN], const char *object_key,
			uint8_t ret_key[static S3C_KEY_LEN]);
/* HMAC-SHA256 under HKDF(master, "s3cryptfs ssec check") of the volume id. */
int s3c_derive_ssec_check(const struct s3c_master_key *key,
			  const uint8_t volume_id[static S3C_VOLUME_ID_LEN],
			  uint8_t ret_check[static S3C_SHA256_LEN]);
