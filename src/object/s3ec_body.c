/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "object/s3ec_body.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "base/encode.h"
#include "base/secret.h"

#define MAC_LEN 16u
#define COUNTER_FIRST 2u /* GCM: block 1 belongs to the tag */

/* Of the committing suite, and what its info strings and AAD are. */
static const uint8_t suite_id[2] = { 0x00, 0x73 };

struct s3c_s3ec_body {
	enum s3c_s3ec_suite suite;
	uint64_t size, chunks;
	uint8_t iv[S3C_AES_BLOCK]; /* GCM: the counter block without its counter */
	uint8_t *keys;             /* secret memory: content key, MAC key */
	uint8_t *macs;             /* MAC_LEN bytes a chunk */
	uint8_t *ivs;              /* CBC: the block before each chunk */
};

struct s3c_s3ec_pass {
	struct s3c_s3ec_body *body; /* what it will be */
	EVP_CIPHER_CTX *ctx;
	s3c_s3ec_chunk_fn fn;
	void *arg;
	uint64_t cipher_len; /* stored bytes before the tag */
	uint64_t pos;        /* stored bytes that were fed */
	uint64_t chunk;      /* of what is in the buffer */
	bool size_known;
	uint8_t tag[S3C_TAG_LEN];
	uint32_t filled;
	uint8_t in[S3C_CHUNK_SIZE], out[S3C_CHUNK_SIZE];
};

/* Empties the thread's error queue, which libcurl's TLS would misread later. */
static int openssl_failed(int code)
{
	ERR_clear_error();
	return code;
}

static int hkdf_sha512(const uint8_t *key, const uint8_t *salt, const char *label, uint8_t *ret_out,
		       size_t len)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	uint8_t info[sizeof(suite_id) + 16];
	char name[] = "SHA512";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, name, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key, S3C_KEY_LEN),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt,
						  S3C_S3EC_MESSAGE_ID_LEN),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info,
						  sizeof(suite_id) + strlen(label)),
		OSSL_PARAM_construct_end(),
	};
	int r = 0;

	memcpy(info, suite_id, sizeof(suite_id));
	memcpy(info + sizeof(suite_id), label, strlen(label));
	if (!ctx || EVP_KDF_derive(ctx, ret_out, len, params) != 1)
		r = openssl_failed(-EIO);
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	return r;
}

int s3c_s3ec_commit(const uint8_t data_key[static S3C_KEY_LEN],
		    const uint8_t message_id[static S3C_S3EC_MESSAGE_ID_LEN],
		    uint8_t ret_commitment[static S3C_S3EC_COMMITMENT_LEN])
{
	return hkdf_sha512(data_key, message_id, "COMMITKEY", ret_commitment,
			   S3C_S3EC_COMMITMENT_LEN);
}

int s3c_s3ec_check_commitment(const struct s3c_s3ec *s3ec,
			      const uint8_t data_key[static S3C_KEY_LEN])
{
	uint8_t commitment[S3C_S3EC_COMMITMENT_LEN];
	int r = s3c_s3ec_commit(data_key, s3ec->message_id, commitment);

	if (r == 0 && !s3c_equal_ct(commitment, s3ec->commitment, sizeof(commitment)))
		r = -EBADMSG;
	s3c_wipe(commitment, sizeof(commitment));
	return r;
}

void s3c_s3ec_body_free(struct s3c_s3ec_body *body)
{
	if (!body)
		return;
	s3c_secret_free(body->keys);
	free(body->macs);
	free(body->ivs);
	free(body);
}

void s3c_s3ec_pass_free(struct s3c_s3ec_pass *pass)
{
	if (!pass)
		return;
	s3c_s3ec_body_free(pass->body);
	EVP_CIPHER_CTX_free(pass->ctx);
	s3c_wipe(pass->out, sizeof(pass->out));
	free(pass);
}

/* Content key and IV, after the commitment was checked. */
static int body_keys(const struct s3c_s3ec *s3ec, const uint8_t *data_key,
		     struct s3c_s3ec_body *body)
{
	int r;

	s3c_random(body->keys + S3C_KEY_LEN, S3C_KEY_LEN);
	if (s3ec->suite != S3C_S3EC_COMMIT) {
		memcpy(body->keys, data_key, S3C_KEY_LEN);
		memcpy(body->iv, s3ec->iv, sizeof(body->iv));
		return 0;
	}
	r = s3c_s3ec_check_commitment(s3ec, data_key);
	if (r == 0)
		r = hkdf_sha512(data_key, s3ec->message_id, "DERIVEKEY", body->keys, S3C_KEY_LEN);
	memset(body->iv, 0x01, S3C_NONCE_LEN);
	return r;
}

static int body_new(const struct s3c_s3ec *s3ec, const uint8_t *data_key,
		    struct s3c_s3ec_body **ret_body)
{
	cleanup_s3ec_body struct s3c_s3ec_body *body = NULL;
	uint64_t most = s3ec->stored_size;
	int r;

	if (most < S3C_TAG_LEN || most - S3C_TAG_LEN > S3C_S3EC_SIZE_MAX)
		return -EBADMSG;
	body = calloc(1, sizeof(*body));
	if (!body)
		return -ENOMEM;
	body->suite = s3ec->suite;
	body->chunks = s3c_chunk_count(most);
	body->keys = s3c_secret_alloc(2 * S3C_KEY_LEN);
	body->macs = calloc(body->chunks, MAC_LEN);
	if (s3ec->suite == S3C_S3EC_CBC)
		body->ivs = calloc(body->chunks, S3C_AES_BLOCK);
	if (!body->keys || !body->macs || (s3ec->suite == S3C_S3EC_CBC && !body->ivs))
		return -ENOMEM;
	r = body_keys(s3ec, data_key, body);
	if (r == 0)
		*ret_body = steal_ptr(body);
	return r;
}

static bool pass_start(struct s3c_s3ec_pass *pass)
{
	const struct s3c_s3ec_body *body = pass->body;
	const EVP_CIPHER *cipher =
		body->suite == S3C_S3EC_CBC ? EVP_aes_256_cbc() : EVP_aes_256_gcm();
	int n;

	return EVP_DecryptInit_ex(pass->ctx, cipher, NULL, body->keys, body->iv) == 1 &&
	       EVP_CIPHER_CTX_set_padding(pass->ctx, 0) == 1 &&
	       (body->suite != S3C_S3EC_COMMIT ||
		EVP_DecryptUpdate(pass->ctx, NULL, &n, suite_id, sizeof(suite_id)) == 1);
}

int s3c_s3ec_pass_new(const struct s3c_s3ec *s3ec, const uint8_t data_key[static S3C_KEY_LEN],
		      s3c_s3ec_chunk_fn fn, void *arg, struct s3c_s3ec_pass **ret_pass)
{
	cleanup_s3ec_pass struct s3c_s3ec_pass *pass = calloc(1, sizeof(*pass));
	int r;

	if (!pass)
		return -ENOMEM;
	r = body_new(s3ec, data_key, &pass->body);
	if (r < 0)
		return r;
	pass->fn = fn;
	pass->arg = arg;
	pass->size_known = s3ec->size_known;
	pass->body->size = s3ec->size;
	pass->cipher_len = s3ec->stored_size;
	if (s3ec->suite != S3C_S3EC_CBC)
		pass->cipher_len -= S3C_TAG_LEN;
	else
		memcpy(pass->body->ivs, s3ec->iv, S3C_AES_BLOCK);
	pass->ctx = EVP_CIPHER_CTX_new();
	if (!pass->ctx)
		return -ENOMEM;
	if (!pass_start(pass))
		return openssl_failed(-EIO);
	*ret_pass = steal_ptr(pass);
	return 0;
}

static int mac(const struct s3c_s3ec_body *body, const void *data, uint32_t len,
	       uint8_t ret_mac[static MAC_LEN])
{
	uint8_t whole[S3C_SHA256_LEN];
	int r = s3c_hmac_sha256(body->keys + S3C_KEY_LEN, S3C_KEY_LEN, data, len, whole);

	if (r == 0)
		memcpy(ret_mac, whole, MAC_LEN);
	return r;
}

/* Notes what is in out as the next chunk. */
static int note_chunk(struct s3c_s3ec_pass *pass, uint32_t len)
{
	int r;

	if (!len)
		return 0;
	r = mac(pass->body, pass->out, len, pass->body->macs + pass->chunk * MAC_LEN);
	if (r == 0 && pass->fn)
		pass->fn(pass->arg, pass->chunk, pass->out, len);
	return r;
}

/* Decrypts what is in the buffer. */
static int decrypt_buffer(struct s3c_s3ec_pass *pass)
{
	struct s3c_s3ec_body *body = pass->body;
	int n = 0;

	if (body->ivs && pass->filled == S3C_CHUNK_SIZE && pass->chunk + 1 < body->chunks)
		memcpy(body->ivs + (pass->chunk + 1) * S3C_AES_BLOCK,
		       pass->in + S3C_CHUNK_SIZE - S3C_AES_BLOCK, S3C_AES_BLOCK);
	if (EVP_DecryptUpdate(pass->ctx, pass->out, &n, pass->in, (int)pass->filled) != 1 ||
	    (uint32_t)n != pass->filled)
		return openssl_failed(-EIO);
	return 0;
}

/* Where the tag stands there is no ciphertext. */
static int feed_cipher(struct s3c_s3ec_pass *pass, const uint8_t *data, size_t len)
{
	while (len) {
		size_t n;

		/* Only when more comes: the last chunk ends otherwise. */
		if (pass->filled == S3C_CHUNK_SIZE) {
			int r = decrypt_buffer(pass);

			if (r == 0)
				r = note_chunk(pass, pass->filled);
			if (r < 0)
				return r;
			pass->filled = 0;
			pass->chunk++;
		}
		n = S3C_MIN(len, (size_t)(S3C_CHUNK_SIZE - pass->filled));
		memcpy(pass->in + pass->filled, data, n);
		pass->filled += (uint32_t)n;
		data += n;
		len -= n;
	}
	return 0;
}

int s3c_s3ec_pass_feed(struct s3c_s3ec_pass *pass, const void *stored, size_t len)
{
	uint64_t all = pass->cipher_len + (pass->body->ivs ? 0 : S3C_TAG_LEN);
	const uint8_t *data = stored;
	size_t cipher = 0;
	int r = 0;

	if (len > all - pass->pos)
		return -EBADMSG;
	if (pass->pos < pass->cipher_len) {
		cipher = (size_t)S3C_MIN((uint64_t)len, pass->cipher_len - pass->pos);
		r = feed_cipher(pass, data, cipher);
	}
	if (r == 0 && len > cipher)
		memcpy(pass->tag + (pass->pos + cipher - pass->cipher_len), data + cipher,
		       len - cipher);
	pass->pos += len;
	return r;
}

/* PKCS#7; 0: none. */
static uint32_t padding(const uint8_t *end)
{
	uint8_t pad = end[-1];

	if (!pad || pad > S3C_AES_BLOCK)
		return 0;
	for (unsigned i = 1; i <= pad; i++)
		if (end[-(int)i] != pad)
			return 0;
	return pad;
}

static bool tag_right(struct s3c_s3ec_pass *pass)
{
	int n;

	return EVP_CIPHER_CTX_ctrl(pass->ctx, EVP_CTRL_AEAD_SET_TAG, S3C_TAG_LEN, pass->tag) == 1 &&
	       EVP_DecryptFinal_ex(pass->ctx, pass->out, &n) == 1;
}

int s3c_s3ec_pass_end(struct s3c_s3ec_pass *pass, struct s3c_s3ec_body **ret_body)
{
	struct s3c_s3ec_body *body = pass->body;
	bool cbc = body->ivs;
	uint32_t pad = 0;
	uint64_t size;
	int r = 0;

	if (pass->pos != pass->cipher_len + (cbc ? 0 : S3C_TAG_LEN))
		return -EBADMSG;
	if (pass->filled)
		r = decrypt_buffer(pass);
	if (r == 0 && cbc) {
		pad = padding(pass->out + pass->filled);
		r = pad ? 0 : -EBADMSG;
	}
	size = pass->cipher_len - pad;
	if (r == 0 && pass->size_known && size != body->size)
		r = -EBADMSG;
	if (r == 0)
		r = note_chunk(pass, pass->filled - pad);
	if (r == 0 && !cbc && !tag_right(pass))
		r = openssl_failed(-EBADMSG);
	if (r < 0)
		return r;
	body->size = size;
	body->chunks = s3c_chunk_count(size);
	*ret_body = steal_ptr(pass->body);
	return 0;
}

uint64_t s3c_s3ec_body_size(const struct s3c_s3ec_body *body)
{
	return body->size;
}

size_t s3c_s3ec_body_memory(const struct s3c_s3ec_body *body)
{
	return sizeof(*body) + 2 * S3C_KEY_LEN +
	       (size_t)body->chunks * (MAC_LEN + (body->ivs ? S3C_AES_BLOCK : 0));
}

uint32_t s3c_s3ec_body_stored_len(const struct s3c_s3ec_body *body, uint64_t chunk)
{
	uint32_t len = s3c_chunk_plain_len(body->size, chunk);

	return body->ivs ? DIV_ROUND_UP(len, S3C_AES_BLOCK) * S3C_AES_BLOCK : len;
}

static bool decrypt_chunk(const struct s3c_s3ec_body *body, uint64_t chunk, uint8_t *data,
			  uint32_t len)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8_t iv[S3C_AES_BLOCK];
	bool good;
	int n = 0;

	if (body->ivs) {
		memcpy(iv, body->ivs + chunk * S3C_AES_BLOCK, sizeof(iv));
	} else {
		memcpy(iv, body->iv, S3C_NONCE_LEN);
		s3c_put_be32(iv + S3C_NONCE_LEN,
			     (uint32_t)(COUNTER_FIRST + chunk * (S3C_CHUNK_SIZE / S3C_AES_BLOCK)));
	}
	good = ctx &&
	       EVP_DecryptInit_ex(ctx, body->ivs ? EVP_aes_256_cbc() : EVP_aes_256_ctr(), NULL,
				  body->keys, iv) == 1 &&
	       EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
	       EVP_DecryptUpdate(ctx, data, &n, data, (int)len) == 1 && (uint32_t)n == len;
	EVP_CIPHER_CTX_free(ctx);
	return good;
}

int s3c_s3ec_body_check(const struct s3c_s3ec_body *body, uint64_t chunk, const uint8_t *data)
{
	uint8_t found[MAC_LEN];
	int r;

	if (chunk >= body->chunks)
		return -EBADMSG;
	r = mac(body, data, s3c_chunk_plain_len(body->size, chunk), found);
	if (r == 0 && !s3c_equal_ct(found, body->macs + chunk * MAC_LEN, MAC_LEN))
		r = -EBADMSG;
	return r;
}

int s3c_s3ec_body_open(const struct s3c_s3ec_body *body, uint64_t chunk, uint8_t *data)
{
	uint32_t len;
	int r = 0;

	if (chunk >= body->chunks)
		return -EBADMSG;
	len = s3c_s3ec_body_stored_len(body, chunk);
	if (!decrypt_chunk(body, chunk, data, len))
		r = openssl_failed(-EIO);
	if (r == 0)
		r = s3c_s3ec_body_check(body, chunk, data);
	if (r < 0)
		s3c_wipe(data, len);
	return r;
}

int s3c_s3ec_cbc_size(const struct s3c_s3ec *s3ec, const uint8_t data_key[static S3C_KEY_LEN],
		      const uint8_t *tail, size_t tail_len, uint64_t *ret_size)
{
	EVP_CIPHER_CTX *ctx;
	uint8_t block[S3C_AES_BLOCK];
	const uint8_t *last, *iv = s3ec->iv;
	uint32_t pad = 0;
	bool good;
	int n = 0;

	if (tail_len < S3C_AES_BLOCK || s3ec->stored_size % S3C_AES_BLOCK ||
	    tail_len > s3ec->stored_size)
		return -EBADMSG;
	last = tail + tail_len - S3C_AES_BLOCK;
	if (s3ec->stored_size > S3C_AES_BLOCK) {
		if (tail_len < 2 * S3C_AES_BLOCK)
			return -EBADMSG;
		iv = last - S3C_AES_BLOCK;
	}
	ctx = EVP_CIPHER_CTX_new();
	if (!ctx)
		return -ENOMEM;
	good = EVP_DecryptInit_ex(ctx, EVP_aes_256_cbc(), NULL, data_key, iv) == 1 &&
	       EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
	       EVP_DecryptUpdate(ctx, block, &n, last, sizeof(block)) == 1 && n == sizeof(block);
	EVP_CIPHER_CTX_free(ctx);
	if (good)
		pad = padding(block + sizeof(block));
	s3c_wipe(block, sizeof(block));
	if (!good)
		return openssl_failed(-EIO);
	if (!pad)
		return -EBADMSG;
	*ret_size = s3ec->stored_size - pad;
	return 0;
}

int s3c_s3ec_verify(const struct s3c_s3ec *s3ec, const uint8_t data_key[static S3C_KEY_LEN],
		    const void *stored, size_t len, struct s3c_s3ec_body **ret_body)
{
	cleanup_s3ec_pass struct s3c_s3ec_pass *pass = NULL;
	int r;

	if (len != s3ec->stored_size)
		return -EBADMSG;
	r = s3c_s3ec_pass_new(s3ec, data_key, NULL, NULL, &pass);
	if (r == 0)
		r = s3c_s3ec_pass_feed(pass, stored, len);
	return r < 0 ? r : s3c_s3ec_pass_end(pass, ret_body);
}

struct s3c_s3ec_seal {
	struct s3c_s3ec_body *body;
	EVP_CIPHER_CTX *ctx;
	uint64_t chunk; /* the next one */
};

void s3c_s3ec_seal_free(struct s3c_s3ec_seal *seal)
{
	if (!seal)
		return;
	s3c_s3ec_body_free(seal->body);
	EVP_CIPHER_CTX_free(seal->ctx);
	free(seal);
}

static bool seal_start(struct s3c_s3ec_seal *seal)
{
	const struct s3c_s3ec_body *body = seal->body;
	int n;

	return EVP_EncryptInit_ex(seal->ctx, EVP_aes_256_gcm(), NULL, body->keys, body->iv) == 1 &&
	       (body->suite != S3C_S3EC_COMMIT ||
		EVP_EncryptUpdate(seal->ctx, NULL, &n, suite_id, sizeof(suite_id)) == 1);
}

int s3c_s3ec_seal_new(const struct s3c_s3ec *s3ec, const uint8_t data_key[static S3C_KEY_LEN],
		      struct s3c_s3ec_seal **ret_seal)
{
	cleanup_s3ec_seal struct s3c_s3ec_seal *seal = NULL;
	int r;

	if (s3ec->suite == S3C_S3EC_CBC)
		return -EINVAL;
	seal = calloc(1, sizeof(*seal));
	if (!seal)
		return -ENOMEM;
	r = body_new(s3ec, data_key, &seal->body);
	if (r < 0)
		return r;
	seal->body->size = s3ec->size;
	seal->body->chunks = s3c_chunk_count(s3ec->size);
	seal->ctx = EVP_CIPHER_CTX_new();
	if (!seal->ctx)
		return -ENOMEM;
	if (!seal_start(seal))
		return openssl_failed(-EIO);
	*ret_seal = steal_ptr(seal);
	return 0;
}

int s3c_s3ec_seal_chunk(struct s3c_s3ec_seal *seal, const void *data, uint32_t len, uint8_t *out)
{
	struct s3c_s3ec_body *body = seal->body;
	int n = 0, r;

	if (seal->chunk >= body->chunks || len != s3c_chunk_plain_len(body->size, seal->chunk))
		return -EINVAL;
	r = mac(body, data, len, body->macs + seal->chunk * MAC_LEN);
	if (r < 0)
		return r;
	if (EVP_EncryptUpdate(seal->ctx, out, &n, data, (int)len) != 1 || (uint32_t)n != len)
		return openssl_failed(-EIO);
	seal->chunk++;
	return 0;
}

int s3c_s3ec_seal_end(struct s3c_s3ec_seal *seal, uint8_t ret_tag[static S3C_TAG_LEN],
		      struct s3c_s3ec_body **ret_body)
{
	uint8_t none[S3C_AES_BLOCK], tag[S3C_TAG_LEN];
	int n = 0;

	if (seal->chunk != seal->body->chunks)
		return -EINVAL;
	if (EVP_EncryptFinal_ex(seal->ctx, none, &n) != 1 || n ||
	    EVP_CIPHER_CTX_ctrl(seal->ctx, EVP_CTRL_AEAD_GET_TAG, sizeof(tag), tag) != 1)
		return openssl_failed(-EIO);
	memcpy(ret_tag, tag, sizeof(tag));
	*ret_body = steal_ptr(seal->body);
	return 0;
}
