/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The wraps of other S3 encryption clients: unwrapping all of them, wrapping with AES_GCM.
 *
 *	AES_GCM		nonce(12) ciphertext(32) tag(16), AAD = content algorithm
 *	RSA_OAEP_SHA1	OAEP, SHA-1: length(1) = 32, key(32), content algorithm
 *	KMS_CONTEXT	Decrypt with the description as encryption context, which names the content
 *			algorithm as aws:x-amz-cek-alg
 *	legacy:
 *	KMS		Decrypt with the description as encryption context
 *	AES_KW		RFC 3394, 40 bytes
 *	RSA_OAEP_SHA256	OAEP, SHA-256 with MGF1 of SHA-1, over the key alone
 *	AES_ECB		PKCS#7 padding, 48 bytes: no authentication
 *	RSA_PKCS1	PKCS#1 v1.5: hardly any authentication
 *
 * Formats as the Amazon S3 Encryption Client for Java writes and reads them.
 */
#pragma once

#include "key/keyring.h"

#define S3C_UNWRAP_MAX 6144u /* bytes of a wrapped key; KMS's limit on a CiphertextBlob */
#define S3C_UNWRAP_RSA_MIN 128u
#define S3C_UNWRAP_RSA_MAX 1024u

enum s3c_unwrap_alg {
	S3C_UNWRAP_AES_GCM,
	S3C_UNWRAP_RSA_OAEP_SHA1,
	S3C_UNWRAP_KMS_CONTEXT,
	S3C_UNWRAP_KMS,
	S3C_UNWRAP_AES_KW,
	S3C_UNWRAP_RSA_OAEP_SHA256,
	S3C_UNWRAP_AES_ECB,
	S3C_UNWRAP_RSA_PKCS1,
};
/* As the object names it (those of metadata V1 have no name there). */
const char *s3c_unwrap_alg_name(enum s3c_unwrap_alg alg);
/* Only read when the user asks for it. */
bool s3c_unwrap_is_legacy(enum s3c_unwrap_alg alg);

struct s3c_wrapped_key {
	enum s3c_unwrap_alg alg;
	const char *content_alg; /* what the wrap names: "AES/GCM/NoPadding" or "115" */
	const uint8_t *wrapped;
	size_t wrapped_len;
	/* Material description, or encryption context: a map, in any order. */
	const struct s3c_key_desc *desc;
	size_t desc_count;
	/* The master key, where something that was authenticated names it; NULL: desc picks. */
	const char *key_id;
};

#define S3C_WRAP_GCM_LEN (S3C_NONCE_LEN + S3C_KEY_LEN + S3C_TAG_LEN)
/*
 * Wraps as AES_GCM, under a nonce that is drawn: NIST allows 2^32 of them under one master key.
 * -EINVAL: a key that may not wrap (32 bytes, without 'use = sse-c').
 */
int s3c_wrap_gcm(const struct s3c_master_key *key, const char *content_alg,
		 const uint8_t data_key[static S3C_KEY_LEN],
		 uint8_t ret_wrapped[static S3C_WRAP_GCM_LEN]);

/*
 * Who asks a KMS to decrypt. It has to refuse keys that the user did not name, whatever the object
 * says, and contexts that are not what the user expects. Returns 0 with 32 bytes in ret_data_key
 * (secret memory of the caller), or -errno with words in why.
 */
struct s3c_kms_unwrap {
	int (*decrypt)(void *arg, const struct s3c_wrapped_key *wrapped, uint8_t *ret_data_key,
		       char *why, size_t why_size);
	void *arg;
};

/*
 * Which master key: the description picks those whose desc pairs are equal to it as maps, empty
 * equals empty; a member s3cryptfs-key-id picks that key alone. Several are tried, the active one
 * first, then in the order of the file; for AES_ECB and RSA_PKCS1, which cannot tell a wrong key,
 * exactly one may match. Keys that are sent to a store (use = sse-c) never match.
 *
 * kms may be NULL: there is none. -EACCES: no key for it (why says which is needed); -EBADMSG: it
 * does not open. Waits only for the file of an RSA key and for kms.
 */
int s3c_unwrap_data_key(const struct s3c_wrapped_key *wrapped, const struct s3c_keyring *keyring,
			const struct s3c_kms_unwrap *kms, uint8_t ret_data_key[static S3C_KEY_LEN],
			char *why, size_t why_size);
