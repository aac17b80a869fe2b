/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "base/crypto.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "base/log.h"
#include "base/secret.h"

#define HKDF_INFO_MAX 2048 /* OpenSSL 3.0 keeps info in an array of this size */

/*
 * Fetched once and kept for the life of the process: an implicit fetch by name in every call
 * costs more than hashing a small message. NULL where the library has no such algorithm.
 */
static struct {
	EVP_MD *sha256, *md5;
	EVP_CIPHER *aes256gcm, *aes256siv;
	EVP_MAC *hmac;
	EVP_KDF *hkdf;
	EVP_KDF *scrypt;
} alg;
static pthread_once_t alg_once = PTHREAD_ONCE_INIT;

static void alg_init(void)
{
	alg.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	alg.md5 = EVP_MD_fetch(NULL, "MD5", NULL);
	alg.aes256gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	alg.aes256siv = EVP_CIPHER_fetch(NULL, "AES-256-SIV", NULL);
	alg.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	alg.hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	alg.scrypt = EVP_KDF_fetch(NULL, "SCRYPT", NULL);
	ERR_clear_error();
}

/* Empties the thread's error queue, which libcurl's TLS would misread later. */
static int openssl_failed(void)
{
	ERR_clear_error();
	return -EIO;
}

void s3c_random(void *ret_bytes, size_t len)
{
	uint8_t *p = ret_bytes;

	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			s3c_error("the kernel gives no random bytes: %m");
			abort();
		}
		p += n;
		len -= (size_t)n;
	}
}

static int digest(const EVP_MD *md, const void *data, size_t len, uint8_t *ret_digest)
{
	if (!md || EVP_Digest(data, len, ret_digest, NULL, md, NULL) != 1)
		return openssl_failed();
	return 0;
}

int s3c_sha256(const void *data, size_t len, uint8_t ret_digest[static S3C_SHA256_LEN])
{
	pthread_once(&alg_once, alg_init);
	return digest(alg.sha256, data, len, ret_digest);
}

int s3c_md5(const void *data, size_t len, uint8_t ret_digest[static S3C_MD5_LEN])
{
	pthread_once(&alg_once, alg_init);
	return digest(alg.md5, data, len, ret_digest);
}

int s3c_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
		    uint8_t ret_mac[static S3C_SHA256_LEN])
{
	char name[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
		OSSL_PARAM_construct_end(),
	};
	uint8_t mac[S3C_SHA256_LEN];
	EVP_MAC_CTX *ctx = NULL;
	size_t mac_len = 0;
	int r = 0;

	pthread_once(&alg_once, alg_init);
	if (alg.hmac)
		ctx = EVP_MAC_CTX_new(alg.hmac);
	/* A NULL key would mean the key of before. */
	if (!ctx || EVP_MAC_init(ctx, key_len ? key : (const void *)"", key_len, params) != 1 ||
	    (len && EVP_MAC_update(ctx, data, len) != 1) ||
	    EVP_MAC_final(ctx, mac, &mac_len, sizeof(mac)) != 1 || mac_len != sizeof(mac))
		r = openssl_failed();
	else
		memcpy(ret_mac, mac, sizeof(mac));
	EVP_MAC_CTX_free(ctx);
	s3c_wipe(mac, sizeof(mac)); /* may be a derived key */
	return r;
}

int s3c_hkdf_sha256(const void *key, size_t key_len, const void *salt, size_t salt_len,
		    const void *info, size_t info_len, void *ret_out, size_t out_len)
{
	char name[] = "SHA256";
	OSSL_PARAM params[5], *p = params;
	EVP_KDF_CTX *ctx = NULL;
	int r = 0;

	if (!key_len || !out_len || out_len > 255 * S3C_SHA256_LEN || info_len > HKDF_INFO_MAX)
		return -EINVAL;
	pthread_once(&alg_once, alg_init);
	/* OSSL_PARAM is for both ways and has no const; these are only read. */
	*p++ = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, name, 0);
	*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key, key_len);
	if (salt_len)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt,
							 salt_len);
	if (info_len)
		*p++ = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info,
							 info_len);
	*p = OSSL_PARAM_construct_end();

	if (alg.hkdf)
		ctx = EVP_KDF_CTX_new(alg.hkdf);
	if (!ctx || EVP_KDF_derive(ctx, ret_out, out_len, params) != 1) {
		s3c_wipe(ret_out, out_len);
		r = openssl_failed();
	}
	EVP_KDF_CTX_free(ctx);
	return r;
}

int s3c_scrypt(const void *passphrase, size_t len, const void *salt, size_t salt_len, uint64_t n,
	       uint32_t r, uint32_t p, void *ret_out, size_t out_len)
{
	uint64_t memory = 128 * (uint64_t)r * (n + p + 2); /* what OpenSSL counts, and a little */
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, (void *)passphrase, len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, salt_len),
		OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
		OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
		OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
		OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory),
		OSSL_PARAM_construct_end(),
	};
	EVP_KDF_CTX *ctx = NULL;
	int result = 0;

	if (!len || !salt_len || !out_len)
		return -EINVAL;
	pthread_once(&alg_once, alg_init);
	if (alg.scrypt)
		ctx = EVP_KDF_CTX_new(alg.scrypt);
	if (!ctx || EVP_KDF_derive(ctx, ret_out, out_len, params) != 1) {
		s3c_wipe(ret_out, out_len);
		result = openssl_failed();
	}
	EVP_KDF_CTX_free(ctx);
	return result;
}

bool s3c_equal_ct(const void *a, const void *b, size_t len)
{
	return !len || CRYPTO_memcmp(a, b, len) == 0;
}

struct s3c_gcm {
	EVP_CIPHER_CTX *ctx; /* has the key schedule, which serves both directions */
};

int s3c_gcm_new(const uint8_t key[static S3C_KEY_LEN], struct s3c_gcm **ret_gcm)
{
	cleanup_gcm struct s3c_gcm *gcm = calloc(1, sizeof(*gcm));

	if (!gcm)
		return -ENOMEM;
	pthread_once(&alg_once, alg_init);
	gcm->ctx = EVP_CIPHER_CTX_new();
	if (!gcm->ctx)
		return -ENOMEM;
	if (!alg.aes256gcm || EVP_CipherInit_ex2(gcm->ctx, alg.aes256gcm, key, NULL, 1, NULL) != 1)
		return openssl_failed();
	*ret_gcm = steal_ptr(gcm);
	return 0;
}

void s3c_gcm_free(struct s3c_gcm *gcm)
{
	if (!gcm)
		return;
	EVP_CIPHER_CTX_free(gcm->ctx); /* wipes the key schedule */
	free(gcm);
}

/* All but the tag; false when OpenSSL fails. EVP counts in int, which the callers have checked. */
static bool gcm_run(EVP_CIPHER_CTX *ctx, bool enc, const uint8_t *nonce, const void *aad,
		    size_t aad_len, const void *in, size_t len, void *out)
{
	int n;

	if (EVP_CipherInit_ex2(ctx, NULL, NULL, nonce, enc, NULL) != 1)
		return false;
	if (aad_len && EVP_CipherUpdate(ctx, NULL, &n, aad, (int)aad_len) != 1)
		return false;
	return !len || (EVP_CipherUpdate(ctx, out, &n, in, (int)len) == 1 && n == (int)len);
}

int s3c_gcm_seal(struct s3c_gcm *gcm, const uint8_t nonce[static S3C_NONCE_LEN], const void *aad,
		 size_t aad_len, const void *plain, size_t len, void *ret_ct,
		 uint8_t ret_tag[static S3C_TAG_LEN])
{
	uint8_t none[S3C_AES_BLOCK];
	int n;

	if (len > INT_MAX - S3C_AES_BLOCK || aad_len > INT_MAX)
		return -EINVAL;
	if (!gcm_run(gcm->ctx, true, nonce, aad, aad_len, plain, len, ret_ct) ||
	    EVP_CipherFinal_ex(gcm->ctx, none, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(gcm->ctx, EVP_CTRL_AEAD_GET_TAG, S3C_TAG_LEN, ret_tag) != 1) {
		if (len)
			s3c_wipe(ret_ct, len);
		return openssl_failed();
	}
	return 0;
}

int s3c_gcm_open(struct s3c_gcm *gcm, const uint8_t nonce[static S3C_NONCE_LEN], const void *aad,
		 size_t aad_len, const void *ct, size_t len, const uint8_t tag[static S3C_TAG_LEN],
		 void *ret_plain)
{
	uint8_t none[S3C_AES_BLOCK];
	int n, r = 0;

	if (len > INT_MAX - S3C_AES_BLOCK || aad_len > INT_MAX)
		return -EINVAL;
	if (!gcm_run(gcm->ctx, false, nonce, aad, aad_len, ct, len, ret_plain) ||
	    EVP_CIPHER_CTX_ctrl(gcm->ctx, EVP_CTRL_AEAD_SET_TAG, S3C_TAG_LEN, (void *)tag) != 1)
		r = openssl_failed();
	else if (EVP_CipherFinal_ex(gcm->ctx, none, &n) != 1) {
		openssl_failed();
		r = -EBADMSG;
	}
	if (r < 0 && len)
		s3c_wipe(ret_plain, len);
	return r;
}

/* Both directions; opening, the tag stands before the text. */
static int siv_run(bool enc, const uint8_t *key, const void *aad, size_t aad_len, const void *in,
		   size_t len, void *out, uint8_t *tag)
{
	EVP_CIPHER_CTX *ctx;
	int n, r = 0;

	if (!aad_len || !len || aad_len > INT_MAX || len > INT_MAX)
		return -EINVAL;
	pthread_once(&alg_once, alg_init);
	ctx = EVP_CIPHER_CTX_new();
	if (!ctx)
		return -ENOMEM;
	if (!alg.aes256siv || EVP_CipherInit_ex2(ctx, alg.aes256siv, key, NULL, enc, NULL) != 1 ||
	    (!enc && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, S3C_TAG_LEN, tag) != 1) ||
	    EVP_CipherUpdate(ctx, NULL, &n, aad, (int)aad_len) != 1)
		r = openssl_failed();
	/* Opening, this is where the tag is compared. */
	else if (EVP_CipherUpdate(ctx, out, &n, in, (int)len) != 1)
		r = enc ? openssl_failed() : -EBADMSG;
	else if (n != (int)len ||
		 (enc && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, S3C_TAG_LEN, tag) != 1))
		r = openssl_failed();
	ERR_clear_error();
	EVP_CIPHER_CTX_free(ctx);
	if (r < 0)
		s3c_wipe(out, len);
	return r;
}

int s3c_siv_seal(const uint8_t key[static S3C_SIV_KEY_LEN], const void *aad, size_t aad_len,
		 const void *plain, size_t len, uint8_t *ret_siv)
{
	return siv_run(true, key, aad, aad_len, plain, len, ret_siv + S3C_TAG_LEN, ret_siv);
}

int s3c_siv_open(const uint8_t key[static S3C_SIV_KEY_LEN], const void *aad, size_t aad_len,
		 const uint8_t *siv, size_t siv_len, void *ret_plain)
{
	if (siv_len <= S3C_TAG_LEN)
		return -EBADMSG;
	return siv_run(false, key, aad, aad_len, siv + S3C_TAG_LEN, siv_len - S3C_TAG_LEN,
		       ret_plain, (uint8_t *)siv);
}
