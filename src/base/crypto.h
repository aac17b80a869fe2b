/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Thin wrappers around OpenSSL EVP: the only primitives that the project uses.
 *
 * All return 0 or -errno: -EBADMSG for a failed authentication (the output is
 * then wiped), -EIO when OpenSSL itself fails. All are thread-safe; contexts
 * are per call or, where named, owned by one thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

#define S3C_KEY_LEN 32   /* AES-256 and HMAC keys */
#define S3C_NONCE_LEN 12 /* GCM, 96 bits: NIST SP 800-38D 8.2 */
#define S3C_TAG_LEN 16
#define S3C_SHA256_LEN 32
#define S3C_MD5_LEN 16
#define S3C_AES_BLOCK 16

/* Bytes straight from the kernel (getrandom); aborts the process when the kernel has none. */
void s3c_random(void *ret_bytes, size_t len);

int s3c_sha256(const void *data, size_t len, uint8_t ret_digest[static S3C_SHA256_LEN]);
/* MD5 is what the SSE-C headers ask for; it protects nothing here. */
int s3c_md5(const void *data, size_t len, uint8_t ret_digest[static S3C_MD5_LEN]);
int s3c_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
		    uint8_t ret_mac[static S3C_SHA256_LEN]);
/*
 * RFC 5869; info and salt may be empty. -EINVAL: key_len or out_len is 0, out_len is over 255 * 32,
 * or info_len over 2,048 (a limit of OpenSSL 3.0).
 */
int s3c_hkdf_sha256(const void *key, size_t key_len, const void *salt, size_t salt_len,
		    const void *info, size_t info_len, void *ret_out, size_t out_len);
/* RFC 7914: n a power of two; takes 128 * n * r bytes of memory. -EINVAL: a length is 0. */
int s3c_scrypt(const void *passphrase, size_t len, const void *salt, size_t salt_len, uint64_t n,
	       uint32_t r, uint32_t p, void *ret_out, size_t out_len);
/* Constant-time; lengths are public. */
bool s3c_equal_ct(const void *a, const void *b, size_t len);

/*
 * AES-256-GCM with one key for many messages (the chunks of a segment): the key
 * schedule is done once. ct and plain may be the same buffer, and NULL when len
 * is 0. aad may be NULL when aad_len is 0. -EINVAL: a length of 2 GiB or more.
 * One thread at a time per context.
 */
struct s3c_gcm;
int s3c_gcm_new(const uint8_t key[static S3C_KEY_LEN], struct s3c_gcm **ret_gcm);
void s3c_gcm_free(struct s3c_gcm *gcm);
int s3c_gcm_seal(struct s3c_gcm *gcm, const uint8_t nonce[static S3C_NONCE_LEN], const void *aad,
		 size_t aad_len, const void *plain, size_t len, void *ret_ct,
		 uint8_t ret_tag[static S3C_TAG_LEN]);
int s3c_gcm_open(struct s3c_gcm *gcm, const uint8_t nonce[static S3C_NONCE_LEN], const void *aad,
		 size_t aad_len, const void *ct, size_t len, const uint8_t tag[static S3C_TAG_LEN],
		 void *ret_plain);

/*
 * AES-256-SIV (RFC 5297) with one item of associated data: deterministic, equal inputs give equal
 * outputs. ret_siv: the synthetic IV (16), then len bytes. The buffers may not overlap. aad and
 * text have at least one byte (-EINVAL: OpenSSL before 3.0.10 passes over empty ones).
 */
#define S3C_SIV_KEY_LEN 64
int s3c_siv_seal(const uint8_t key[static S3C_SIV_KEY_LEN], const void *aad, size_t aad_len,
		 const void *plain, size_t len, uint8_t *ret_siv);
/* siv_len: S3C_TAG_LEN more than what comes out. */
int s3c_siv_open(const uint8_t key[static S3C_SIV_KEY_LEN], const void *aad, size_t aad_len,
		 const uint8_t *siv, size_t siv_len, void *ret_plain);

static inline void s3c_gcm_freep(struct s3c_gcm **p)
{
	s3c_gcm_free(*p);
}
#define cleanup_gcm __attribute__((cleanup(s3c_gcm_freep)))
