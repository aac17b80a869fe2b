/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "key/wrap.h"

#include <errno.h>
#include <string.h>

#include "base/secret.h"

#define WRAP_SALT_LEN 32
#define ALG_MAX 64
#define OBJECT_KEY_MAX 1024 /* S3's limit on object keys, in bytes */

static const char wrap_label[] = "s3cryptfs wrap";
static const char ssec_label[] = "s3cryptfs ssec";
static const char ssec_check_label[] = "s3cryptfs ssec check";
/* Each wrap has a key of its own, which the salt makes; so the nonce may be constant. */
static const uint8_t zero_nonce[S3C_NONCE_LEN];

/* A key that is sent to the store as it is protects nothing from the store. */
static bool may_wrap(const struct s3c_master_key *key)
{
	return key && key->secret && key->secret_len == S3C_KEY_LEN && !key->ssec_shared;
}

/* Content algorithm, 0x00, file id; 0 when the name is too long. */
static size_t wrap_aad(const char *content_alg, const uint8_t *file_id,
		       uint8_t ret_aad[static ALG_MAX + 1 + S3C_FILE_ID_LEN])
{
	size_t len = strlen(content_alg);

	if (len > ALG_MAX)
		return 0;
	memcpy(ret_aad, content_alg, len + 1);
	memcpy(ret_aad + len + 1, file_id, S3C_FILE_ID_LEN);
	return len + 1 + S3C_FILE_ID_LEN;
}

static int wrapping_gcm(const struct s3c_master_key *key, const uint8_t *salt,
			struct s3c_gcm **ret_gcm)
{
	uint8_t wrapping_key[S3C_KEY_LEN];
	int r;

	r = s3c_hkdf_sha256(key->secret, key->secret_len, salt, WRAP_SALT_LEN, wrap_label,
			    strlen(wrap_label), wrapping_key, sizeof(wrapping_key));
	if (r == 0)
		r = s3c_gcm_new(wrapping_key, ret_gcm);
	s3c_wipe(wrapping_key, sizeof(wrapping_key));
	return r;
}

int s3c_wrap_seal(const struct s3c_master_key *key, const char *content_alg,
		  const uint8_t file_id[static S3C_FILE_ID_LEN],
		  const uint8_t data_key[static S3C_KEY_LEN],
		  uint8_t ret_wrapped[static S3C_WRAP_LEN])
{
	uint8_t aad[ALG_MAX + 1 + S3C_FILE_ID_LEN];
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	uint8_t wrapped[S3C_WRAP_LEN];
	size_t aad_len = wrap_aad(content_alg, file_id, aad);
	int r;

	if (!may_wrap(key) || !aad_len)
		return -EINVAL;
	s3c_random(wrapped, WRAP_SALT_LEN);
	r = wrapping_gcm(key, wrapped, &gcm);
	if (r < 0)
		return r;
	r = s3c_gcm_seal(gcm, zero_nonce, aad, aad_len, data_key, S3C_KEY_LEN,
			 wrapped + WRAP_SALT_LEN, wrapped + WRAP_SALT_LEN + S3C_KEY_LEN);
	if (r < 0)
		return r;
	memcpy(ret_wrapped, wrapped, sizeof(wrapped));
	return 0;
}

int s3c_wrap_open(const struct s3c_master_key *key, const char *content_alg,
		  const uint8_t file_id[static S3C_FILE_ID_LEN],
		  const uint8_t wrapped[static S3C_WRAP_LEN],
		  uint8_t ret_data_key[static S3C_KEY_LEN])
{
	uint8_t aad[ALG_MAX + 1 + S3C_FILE_ID_LEN];
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	uint8_t data_key[S3C_KEY_LEN];
	size_t aad_len = wrap_aad(content_alg, file_id, aad);
	int r;

	if (!may_wrap(key) || !aad_len)
		return -EINVAL;
	r = wrapping_gcm(key, wrapped, &gcm);
	if (r < 0)
		return r;
	r = s3c_gcm_open(gcm, zero_nonce, aad, aad_len, wrapped + WRAP_SALT_LEN, S3C_KEY_LEN,
			 wrapped + WRAP_SALT_LEN + S3C_KEY_LEN, data_key);
	if (r == 0)
		memcpy(ret_data_key, data_key, sizeof(data_key));
	s3c_wipe(data_key, sizeof(data_key));
	return r;
}

int s3c_derive_ssec_key(const struct s3c_master_key *key,
			const uint8_t volume_id[static S3C_VOLUME_ID_LEN], const char *object_key,
			uint8_t ret_key[static S3C_KEY_LEN])
{
	uint8_t info[sizeof(ssec_label) - 1 + OBJECT_KEY_MAX];
	size_t label_len = strlen(ssec_label), len = strlen(object_key);

	/* A shared key is known to the store; what is derived from it would be too. */
	if (!may_wrap(key))
		return -EINVAL;
	if (len > OBJECT_KEY_MAX)
		return -ENAMETOOLONG;
	memcpy(info, ssec_label, label_len);
	memcpy(info + label_len, object_key, len);
	return s3c_hkdf_sha256(key->secret, key->secret_len, volume_id, S3C_VOLUME_ID_LEN, info,
			       label_len + len, ret_key, S3C_KEY_LEN);
}

int s3c_derive_ssec_check(const struct s3c_master_key *key,
			  const uint8_t volume_id[static S3C_VOLUME_ID_LEN],
			  uint8_t ret_check[static S3C_SHA256_LEN])
{
	uint8_t check_key[S3C_KEY_LEN];
	int r;

	if (!key || !key->secret || key->secret_len != S3C_KEY_LEN)
		return -EINVAL;
	r = s3c_hkdf_sha256(key->secret, key->secret_len, NULL, 0, ssec_check_label,
			    strlen(ssec_check_label), check_key, sizeof(check_key));
	if (r == 0)
		r = s3c_hmac_sha256(check_key, sizeof(check_key), volume_id, S3C_VOLUME_ID_LEN,
				    ret_check);
	s3c_wipe(check_key, sizeof(check_key));
	return r;
}
