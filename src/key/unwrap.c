/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "key/unwrap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "base/err.h"
#include "base/secret.h"

#define KW_WRAPPED_LEN (S3C_KEY_LEN + 8)
#define ECB_WRAPPED_LEN (S3C_KEY_LEN + S3C_AES_BLOCK)
#define KMS_CONTEXT_ALG "aws:x-amz-cek-alg"

static const struct {
	const char *name;
	bool legacy, rsa, kms;
	bool blind; /* a wrong key cannot be told from the right one */
} algs[] = {
	[S3C_UNWRAP_AES_GCM] = { .name = "AES/GCM" },
	[S3C_UNWRAP_RSA_OAEP_SHA1] = { .name = "RSA-OAEP-SHA1", .rsa = true },
	[S3C_UNWRAP_KMS_CONTEXT] = { .name = "kms+context", .kms = true },
	[S3C_UNWRAP_KMS] = { .name = "kms", .legacy = true, .kms = true },
	[S3C_UNWRAP_AES_KW] = { .name = "AESWrap", .legacy = true },
	[S3C_UNWRAP_RSA_OAEP_SHA256] = { .name = "RSA/ECB/OAEPWithSHA-256AndMGF1Padding",
					 .legacy = true,
					 .rsa = true },
	[S3C_UNWRAP_AES_ECB] = { .name = "AES/ECB", .legacy = true, .blind = true },
	[S3C_UNWRAP_RSA_PKCS1] = { .name = "RSA/PKCS1",
				   .legacy = true,
				   .rsa = true,
				   .blind = true },
};

const char *s3c_unwrap_alg_name(enum s3c_unwrap_alg alg)
{
	return algs[alg].name;
}

bool s3c_unwrap_is_legacy(enum s3c_unwrap_alg alg)
{
	return algs[alg].legacy;
}

/* Empties the thread's error queue, which libcurl's TLS would misread later. */
static int not_opened(void)
{
	ERR_clear_error();
	return -EBADMSG;
}

static const EVP_CIPHER *sized(size_t key_len, const EVP_CIPHER *c128, const EVP_CIPHER *c192,
			       const EVP_CIPHER *c256)
{
	return key_len == 16 ? c128 : key_len == 24 ? c192 : key_len == 32 ? c256 : NULL;
}

static bool gcm_open(EVP_CIPHER_CTX *ctx, const struct s3c_master_key *key,
		     const struct s3c_wrapped_key *wrapped, uint8_t *ret_key)
{
	const EVP_CIPHER *cipher =
		sized(key->secret_len, EVP_aes_128_gcm(), EVP_aes_192_gcm(), EVP_aes_256_gcm());
	const uint8_t *ct = wrapped->wrapped + S3C_NONCE_LEN;
	uint8_t tag[S3C_TAG_LEN];
	int n;

	if (!cipher || wrapped->wrapped_len != S3C_WRAP_GCM_LEN)
		return false;
	memcpy(tag, ct + S3C_KEY_LEN, sizeof(tag));
	return EVP_DecryptInit_ex(ctx, cipher, NULL, key->secret, wrapped->wrapped) == 1 &&
	       EVP_DecryptUpdate(ctx, NULL, &n, (const uint8_t *)wrapped->content_alg,
				 (int)strlen(wrapped->content_alg)) == 1 &&
	       EVP_DecryptUpdate(ctx, ret_key, &n, ct, S3C_KEY_LEN) == 1 && n == S3C_KEY_LEN &&
	       EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) == 1 &&
	       EVP_DecryptFinal_ex(ctx, ret_key, &n) == 1;
}

static bool kw_open(EVP_CIPHER_CTX *ctx, const struct s3c_master_key *key,
		    const struct s3c_wrapped_key *wrapped, uint8_t *ret_key)
{
	const EVP_CIPHER *cipher =
		sized(key->secret_len, EVP_aes_128_wrap(), EVP_aes_192_wrap(), EVP_aes_256_wrap());
	uint8_t out[KW_WRAPPED_LEN];
	bool good;
	int n;

	EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
	good = cipher && wrapped->wrapped_len == KW_WRAPPED_LEN &&
	       EVP_DecryptInit_ex(ctx, cipher, NULL, key->secret, NULL) == 1 &&
	       EVP_DecryptUpdate(ctx, out, &n, wrapped->wrapped, KW_WRAPPED_LEN) == 1 &&
	       n == S3C_KEY_LEN;
	if (good)
		memcpy(ret_key, out, S3C_KEY_LEN);
	s3c_wipe(out, sizeof(out));
	return good;
}

static bool ecb_open(EVP_CIPHER_CTX *ctx, const struct s3c_master_key *key,
		     const struct s3c_wrapped_key *wrapped, uint8_t *ret_key)
{
	const EVP_CIPHER *cipher =
		sized(key->secret_len, EVP_aes_128_ecb(), EVP_aes_192_ecb(), EVP_aes_256_ecb());
	uint8_t out[ECB_WRAPPED_LEN + S3C_AES_BLOCK];
	int n = 0, last = 0;
	bool good;

	good = cipher && wrapped->wrapped_len == ECB_WRAPPED_LEN &&
	       EVP_DecryptInit_ex(ctx, cipher, NULL, key->secret, NULL) == 1 &&
	       EVP_DecryptUpdate(ctx, out, &n, wrapped->wrapped, ECB_WRAPPED_LEN) == 1 &&
	       EVP_DecryptFinal_ex(ctx, out + n, &last) == 1 && n + last == S3C_KEY_LEN;
	if (good)
		memcpy(ret_key, out, S3C_KEY_LEN);
	s3c_wipe(out, sizeof(out));
	return good;
}

static int aes_open(const struct s3c_master_key *key, const struct s3c_wrapped_key *wrapped,
		    uint8_t *ret_key)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	bool good;

	if (!ctx)
		return -ENOMEM;
	if (wrapped->alg == S3C_UNWRAP_AES_GCM)
		good = gcm_open(ctx, key, wrapped, ret_key);
	else if (wrapped->alg == S3C_UNWRAP_AES_KW)
		good = kw_open(ctx, key, wrapped, ret_key);
	else
		good = ecb_open(ctx, key, wrapped, ret_key);
	EVP_CIPHER_CTX_free(ctx);
	return good ? 0 : not_opened();
}

static bool rsa_setup(EVP_PKEY_CTX *ctx, enum s3c_unwrap_alg alg)
{
	if (EVP_PKEY_decrypt_init(ctx) != 1)
		return false;
	if (alg == S3C_UNWRAP_RSA_PKCS1)
		return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
	/* Java's default for the name with SHA-256 leaves MGF1 at SHA-1. */
	return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
	       EVP_PKEY_CTX_set_rsa_oaep_md(
		       ctx, alg == S3C_UNWRAP_RSA_OAEP_SHA1 ? EVP_sha1() : EVP_sha256()) == 1 &&
	       EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha1()) == 1;
}

/* What was wrapped: the key, or length, key and algorithm. */
static bool rsa_take(const struct s3c_wrapped_key *wrapped, const uint8_t *out, size_t len,
		     uint8_t *ret_key)
{
	if (wrapped->alg == S3C_UNWRAP_RSA_OAEP_SHA1) {
		size_t name = strlen(wrapped->content_alg);

		if (len != 1 + S3C_KEY_LEN + name || out[0] != S3C_KEY_LEN ||
		    memcmp(out + 1 + S3C_KEY_LEN, wrapped->content_alg, name) != 0)
			return false;
		out++;
	} else if (len != S3C_KEY_LEN) {
		return false;
	}
	memcpy(ret_key, out, S3C_KEY_LEN);
	return true;
}

static int rsa_decrypt(EVP_PKEY *pkey, const struct s3c_wrapped_key *wrapped, uint8_t *ret_key)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
	uint8_t *out = s3c_secret_alloc(S3C_UNWRAP_RSA_MAX);
	size_t len = S3C_UNWRAP_RSA_MAX;
	int r = ctx && out ? 0 : -ENOMEM;

	if (r == 0 &&
	    (!rsa_setup(ctx, wrapped->alg) ||
	     EVP_PKEY_decrypt(ctx, out, &len, wrapped->wrapped, wrapped->wrapped_len) != 1 ||
	     !rsa_take(wrapped, out, len, ret_key)))
		r = not_opened();
	s3c_secret_free(out);
	EVP_PKEY_CTX_free(ctx);
	return r;
}

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return 0; /* never asks the terminal */
}

static int rsa_open(const struct s3c_master_key *key, const struct s3c_wrapped_key *wrapped,
		    uint8_t *ret_key, char *why, size_t why_size)
{
	cleanup_secret char *pem = NULL;
	struct s3c_err err = { 0 };
	EVP_PKEY *pkey = NULL;
	BIO *bio = NULL;
	size_t len;
	int r = s3c_keyring_rsa_pem(key, &err, &pem, &len);

	if (r == -ENOMEM)
		return r;
	if (r < 0)
		return s3c_say(why, why_size, -EACCES, "the RSA key %s: %s", key->id, err.text);
	bio = BIO_new_mem_buf(pem, (int)len);
	if (bio)
		pkey = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	if (!pkey || EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA) {
		ERR_clear_error();
		EVP_PKEY_free(pkey);
		return s3c_say(
			why, why_size, -EACCES,
			"the RSA key %s: %s holds no RSA private key in PEM without passphrase",
			key->id, key->rsa_private_key);
	}
	if ((size_t)EVP_PKEY_get_size(pkey) != wrapped->wrapped_len)
		r = -EBADMSG;
	else
		r = rsa_decrypt(pkey, wrapped, ret_key);
	EVP_PKEY_free(pkey);
	return r;
}

static const char *desc_get(const struct s3c_wrapped_key *wrapped, const char *name)
{
	for (size_t i = 0; i < wrapped->desc_count; i++)
		if (strcmp(wrapped->desc[i].name, name) == 0)
			return wrapped->desc[i].value;
	return NULL;
}

static const char *key_id(const struct s3c_wrapped_key *wrapped)
{
	return wrapped->key_id ? wrapped->key_id : desc_get(wrapped, S3C_MATDESC_KEY_ID);
}

static bool matches(const struct s3c_master_key *key, const struct s3c_wrapped_key *wrapped)
{
	const char *id = key_id(wrapped);

	if (key->ssec_shared || !(algs[wrapped->alg].rsa ? !!key->rsa_private_key : !!key->secret))
		return false;
	if (id)
		return strcmp(id, key->id) == 0;
	if (key->desc_count != wrapped->desc_count)
		return false;
	/* Names are unique on both sides. */
	for (size_t i = 0; i < key->desc_count; i++) {
		const char *value = desc_get(wrapped, key->desc[i].name);

		if (!value || strcmp(value, key->desc[i].value) != 0)
			return false;
	}
	return true;
}

static int no_key(const struct s3c_wrapped_key *wrapped, char *why, size_t why_size)
{
	const char *kind = algs[wrapped->alg].rsa ? "RSA" : "AES";
	const char *id = key_id(wrapped);

	if (id)
		return s3c_say(why, why_size, -EACCES, "the keyring has no %s key %.64s", kind, id);
	if (!wrapped->desc_count)
		return s3c_say(
			why, why_size, -EACCES,
			"it has no material description, and the keyring has no %s key without "
			"desc pairs",
			kind);
	return s3c_say(why, why_size, -EACCES,
		       "the keyring has no %s key with the desc pairs of its material description "
		       "(%.64s = %.64s%s)",
		       kind, wrapped->desc[0].name, wrapped->desc[0].value,
		       wrapped->desc_count > 1 ? ", .." : "");
}

static int try_key(const struct s3c_master_key *key, const struct s3c_wrapped_key *wrapped,
		   uint8_t *ret_key, char *why, size_t why_size)
{
	return algs[wrapped->alg].rsa ? rsa_open(key, wrapped, ret_key, why, why_size)
				      : aes_open(key, wrapped, ret_key);
}

static int try_keys(const struct s3c_wrapped_key *wrapped, const struct s3c_keyring *keyring,
		    uint8_t *ret_key, char *why, size_t why_size)
{
	size_t count = 0;
	int result = -EBADMSG;

	for (size_t i = 0; i < keyring->count; i++)
		count += matches(&keyring->keys[i], wrapped);
	if (!count)
		return no_key(wrapped, why, why_size);
	if (count > 1 && algs[wrapped->alg].blind)
		return s3c_say(why, why_size, -EACCES,
			       "%zu keys of the keyring match its material description, and a key "
			       "wrapped by %s does not tell the right one: tell them apart by desc "
			       "pairs",
			       count, algs[wrapped->alg].name);
	s3c_say(why, why_size, 0,
		"its wrapped key does not open: it was altered, or the keyring has "
		"another key of that description");
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < keyring->count; i++) {
			const struct s3c_master_key *key = &keyring->keys[i];
			int r;

			if (key->active != (pass == 0) || !matches(key, wrapped))
				continue;
			r = try_key(key, wrapped, ret_key, why, why_size);
			if (r == 0 || r == -ENOMEM)
				return r;
			if (r != -EBADMSG)
				result = r;
		}
	}
	return result;
}

static int try_kms(const struct s3c_wrapped_key *wrapped, const struct s3c_kms_unwrap *kms,
		   uint8_t *ret_key, char *why, size_t why_size)
{
	const char *alg = desc_get(wrapped, KMS_CONTEXT_ALG);

	if (wrapped->alg == S3C_UNWRAP_KMS_CONTEXT &&
	    (!alg || strcmp(alg, wrapped->content_alg) != 0))
		return s3c_say(why, why_size, -EBADMSG,
			       "its encryption context is that of another content algorithm");
	if (!kms || !kms->decrypt)
		return s3c_say(
			why, why_size, -EACCES,
			"a KMS key wraps its data key, and none is named: give kms_key_id= or "
			"kms_read_keys=");
	return kms->decrypt(kms->arg, wrapped, ret_key, why, why_size);
}

int s3c_unwrap_data_key(const struct s3c_wrapped_key *wrapped, const struct s3c_keyring *keyring,
			const struct s3c_kms_unwrap *kms, uint8_t ret_data_key[static S3C_KEY_LEN],
			char *why, size_t why_size)
{
	uint8_t key[S3C_KEY_LEN];
	int r;

	if (!wrapped->wrapped_len || wrapped->wrapped_len > S3C_UNWRAP_MAX)
		return s3c_say(why, why_size, -EBADMSG, "its wrapped key has an impossible length");
	if (algs[wrapped->alg].kms)
		r = try_kms(wrapped, kms, key, why, why_size);
	else if (!keyring)
		r = no_key(wrapped, why, why_size);
	else
		r = try_keys(wrapped, keyring, key, why, why_size);
	if (r == 0)
		memcpy(ret_data_key, key, sizeof(key));
	s3c_wipe(key, sizeof(key));
	return r;
}

int s3c_wrap_gcm(const struct s3c_master_key *key, const char *content_alg,
		 const uint8_t data_key[static S3C_KEY_LEN],
		 uint8_t ret_wrapped[static S3C_WRAP_GCM_LEN])
{
	uint8_t wrapped[S3C_WRAP_GCM_LEN];
	cleanup_gcm struct s3c_gcm *gcm = NULL;
	int r;

	if (!key || !key->secret || key->secret_len != S3C_KEY_LEN || key->ssec_shared)
		return -EINVAL;
	s3c_random(wrapped, S3C_NONCE_LEN);
	r = s3c_gcm_new(key->secret, &gcm);
	if (r == 0)
		r = s3c_gcm_seal(gcm, wrapped, content_alg, strlen(content_alg), data_key,
				 S3C_KEY_LEN, wrapped + S3C_NONCE_LEN,
				 wrapped + S3C_NONCE_LEN + S3C_KEY_LEN);
	if (r == 0)
		memcpy(ret_wrapped, wrapped, sizeof(wrapped));
	return r;
}
