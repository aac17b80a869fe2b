/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object/s3ec_keys.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/secret.h"

static bool kms_writes(const struct s3c_keyring *keyring)
{
	return keyring->kms && s3c_kms_keys_writes(keyring->kms);
}

/* What goes into an envelope; pointers of *ret_wrap are into kms and *ret_desc. */
static int wrap_of_kms(const struct s3c_kms_wrap *kms, const char *alg,
		       struct s3c_s3ec_wrap *ret_wrap, char **ret_desc, char *why, size_t why_size)
{
	int r;

	if (strlen(kms->arn) > S3C_SEALED_ID_MAX)
		return s3c_say(why, why_size, -EMSGSIZE,
			       "the KMS names its key by %zu bytes, and the seal of an object in "
			       "this format has room for %u",
			       strlen(kms->arn), S3C_SEALED_ID_MAX);
	r = s3c_kms_context(NULL, NULL, alg, kms->pairs, ret_desc);
	if (r == 0)
		*ret_wrap = (struct s3c_s3ec_wrap){
			.alg = S3C_UNWRAP_KMS_CONTEXT,
			.wrapped = kms->data,
			.wrapped_len = kms->len,
			.desc = *ret_desc,
		};
	return r;
}

static int wrap_by_master(const struct s3c_master_key *key, const char *alg,
			  const uint8_t *data_key, uint8_t wrapped[static S3C_WRAP_GCM_LEN],
			  struct s3c_s3ec_wrap *ret_wrap, char **ret_desc)
{
	int r = s3c_wrap_gcm(key, alg, data_key, wrapped);

	if (r == 0)
		r = s3c_keyring_desc(key, ret_desc);
	if (r == 0)
		*ret_wrap = (struct s3c_s3ec_wrap){
			.alg = S3C_UNWRAP_AES_GCM,
			.wrapped = wrapped,
			.wrapped_len = S3C_WRAP_GCM_LEN,
			.desc = *ret_desc,
		};
	return r;
}

/* kms NULL: by the master key of that id. */
static void set_wrapper(struct s3c_header *header, const char *key_id, struct s3c_kms_wrap *kms)
{
	memset(header->key_id, 0, sizeof(header->key_id));
	if (!kms)
		memcpy(header->key_id, key_id, strlen(key_id));
	s3c_kms_wrap_put(header->kms);
	header->kms = kms;
}

int s3c_s3ec_draw(unsigned version, const struct s3c_keyring *keyring, struct s3c_op *op,
		  struct s3c_header *header, uint8_t ret_data_key[static S3C_KEY_LEN],
		  struct s3c_meta *meta, char *why, size_t why_size)
{
	const struct s3c_master_key *active = s3c_keyring_active(keyring);
	const char *alg = s3c_s3ec_content_alg(version);
	cleanup_kms_wrap struct s3c_kms_wrap *kms = NULL;
	uint8_t wrapped[S3C_WRAP_GCM_LEN];
	cleanup_free char *desc = NULL;
	struct s3c_s3ec_wrap wrap;
	int r;

	if (kms_writes(keyring)) {
		r = s3c_kms_keys_draw(keyring->kms, op, NULL, alg, header->file_id, ret_data_key,
				      NULL, &kms, why, why_size);
		if (r == 0)
			r = wrap_of_kms(kms, alg, &wrap, &desc, why, why_size);
	} else if (active) {
		s3c_random(header->file_id, sizeof(header->file_id));
		s3c_random(ret_data_key, S3C_KEY_LEN);
		r = wrap_by_master(active, alg, ret_data_key, wrapped, &wrap, &desc);
	} else {
		r = -EKEYREJECTED;
	}
	if (r == 0)
		r = s3c_s3ec_encode(version, ret_data_key, &wrap, meta);
	if (r == 0) {
		header->kms = NULL;
		set_wrapper(header, active ? active->id : "", steal_ptr(kms));
	}
	return r;
}

static int open_kms(const struct s3c_s3ec *s3ec, const struct s3c_header *header,
		    const struct s3c_keyring *keyring, struct s3c_op *op, uint8_t *ret_data_key,
		    char *why, size_t why_size)
{
	if (!keyring->kms)
		return s3c_say(why, why_size, -EACCES,
			       "needs the KMS key %.256s: mount with kms_key_id= or kms_read_keys=",
			       header->kms->arn);
	return s3c_kms_keys_open(keyring->kms, op, header->kms, NULL, NULL, NULL,
				 s3c_s3ec_content_alg(s3ec->version), ret_data_key, why, why_size);
}

int s3c_s3ec_open(const struct s3c_s3ec *s3ec, const struct s3c_header *header,
		  const struct s3c_keyring *keyring, struct s3c_op *op,
		  uint8_t ret_data_key[static S3C_KEY_LEN], char *why, size_t why_size)
{
	uint8_t key[S3C_KEY_LEN], commitment[S3C_COMMITMENT_LEN];
	int r;

	if (header->layout != S3C_LAYOUT_S3EC)
		return -EINVAL;
	if (header->kms) {
		r = open_kms(s3ec, header, keyring, op, key, why, why_size);
		if (r == 0)
			r = s3c_s3ec_check_key(s3ec, key, why, why_size);
	} else {
		r = s3c_s3ec_unwrap_by(s3ec, keyring, header->key_id, NULL, key, why, why_size);
	}
	if (r == 0)
		r = s3c_header_commitment(key, header->file_id, commitment);
	if (r == 0 && !s3c_equal_ct(commitment, header->commitment, sizeof(commitment)))
		r = s3c_say(why, why_size, -EBADMSG, "its key does not fit its commitment");
	if (r == 0)
		memcpy(ret_data_key, key, sizeof(key));
	s3c_wipe(key, sizeof(key));
	return r;
}

/* Under the active KMS key, by the KMS alone or by way of here. */
static int seal_kms(const struct s3c_s3ec *s3ec, const struct s3c_header *header,
		    const struct s3c_keyring *keyring, struct s3c_op *op,
		    struct s3c_kms_wrap **ret_kms, char *why, size_t why_size)
{
	const char *alg = s3c_s3ec_content_alg(s3ec->version);
	uint8_t key[S3C_KEY_LEN];
	int r;

	if (header->kms)
		return s3c_kms_keys_reencrypt(keyring->kms, op, header->kms, NULL, NULL, alg,
					      ret_kms, why, why_size);
	r = s3c_s3ec_open(s3ec, header, keyring, op, key, why, why_size);
	if (r == 0)
		r = s3c_kms_keys_seal(keyring->kms, op, NULL, NULL, alg, key, NULL, ret_kms, why,
				      why_size);
	s3c_wipe(key, sizeof(key));
	return r;
}

int s3c_s3ec_renew(struct s3c_header *header, uint64_t stored_size,
		   const struct s3c_keyring *keyring, const struct s3c_master_key *key,
		   struct s3c_op *op, struct s3c_meta *envelope, char *why, size_t why_size)
{
	cleanup_kms_wrap struct s3c_kms_wrap *kms = NULL;
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	uint8_t wrapped[S3C_WRAP_GCM_LEN], data_key[S3C_KEY_LEN];
	struct s3c_meta meta = { 0 };
	cleanup_free char *desc = NULL;
	struct s3c_s3ec_wrap wrap;
	const char *alg;
	int r = s3c_s3ec_parse(envelope, NULL, 0, stored_size, &s3ec, why, why_size);

	if (r < 0)
		return r;
	if (!key && !kms_writes(keyring))
		return -EINVAL;
	alg = s3c_s3ec_content_alg(s3ec->version);
	if (key) {
		r = s3c_s3ec_open(s3ec, header, keyring, op, data_key, why, why_size);
		if (r == 0)
			r = wrap_by_master(key, alg, data_key, wrapped, &wrap, &desc);
		s3c_wipe(data_key, sizeof(data_key));
	} else {
		r = seal_kms(s3ec, header, keyring, op, &kms, why, why_size);
		if (r == 0)
			r = wrap_of_kms(kms, alg, &wrap, &desc, why, why_size);
	}
	if (r == 0)
		r = s3c_s3ec_rewrap(envelope, &wrap, &meta);
	if (r < 0) {
		s3c_meta_free(&meta);
		return r;
	}
	s3c_meta_free(envelope);
	*envelope = meta;
	set_wrapper(header, key ? key->id : "", steal_ptr(kms));
	return 0;
}

static bool says(const struct s3c_meta *meta, const char *name, const char *value)
{
	const char *text = s3c_meta_get(meta, name);

	return text && strcmp(text, value) == 0;
}

int s3c_s3ec_key_named(const struct s3c_meta *meta, uint64_t stored_size, const char *id,
		       struct s3c_header *header, char *why, size_t why_size)
{
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	cleanup_free char *pairs = NULL;
	bool v3 = says(meta, "x-amz-w", "12");
	int r;

	if (!v3 && !says(meta, "x-amz-wrap-alg", "kms+context")) {
		if (!s3c_key_id_valid(id))
			return s3c_say(why, why_size, -EBADMSG, "it names no key");
		memcpy(header->key_id, id, strlen(id) + 1);
		return 0;
	}
	r = s3c_s3ec_parse(meta, NULL, 0, stored_size, &s3ec, why, why_size);
	if (r == 0 &&
	    (s3ec->wrap != S3C_UNWRAP_KMS_CONTEXT || !*id || s3ec->wrapped_len > S3C_KMS_WRAP_MAX))
		r = -EBADMSG;
	if (r == 0)
		r = s3c_kms_context_pairs(s3c_meta_get(meta, v3 ? "x-amz-t" : "x-amz-matdesc"),
					  s3c_s3ec_content_alg(s3ec->version), &pairs);
	if (r == 0)
		return s3c_kms_wrap_new(false, id, pairs, s3ec->wrapped, s3ec->wrapped_len,
					&header->kms);
	return r == -ENOMEM ? r
			    : s3c_say(why, why_size, -EBADMSG,
				      "its envelope is not as this program writes it under a KMS "
				      "key");
}
