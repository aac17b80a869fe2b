/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The envelope of an object of another client, and a little content behind it. Input: a byte of
 * choices, NAME NUL VALUE NUL pairs, an empty name, and the rest as instruction file or, with bit
 * 0, as body. Whatever the envelope says, a data key is had by a KMS that takes all.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "object/s3ec_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int any_key(void *arg, const struct s3c_wrapped_key *wrapped, uint8_t *ret_data_key,
		   char *why, size_t why_size)
{
	(void)arg;
	(void)wrapped;
	(void)why;
	(void)why_size;
	memset(ret_data_key, 7, S3C_KEY_LEN);
	return 0;
}

/* The items; where they end. */
static const char *take_items(const char *p, const char *end, struct s3c_meta *meta)
{
	while (p < end && *p && meta->count < 32) {
		const char *value = p + strlen(p) + 1;

		if (value > end)
			return end;
		s3c_meta_set(meta, p, value);
		p = value + strlen(value) + 1;
	}
	return p < end ? p + 1 : end;
}

static void read_body(const struct s3c_s3ec *s3ec, const uint8_t *key, const char *rest, size_t len)
{
	cleanup_s3ec_body struct s3c_s3ec_body *body = NULL;
	uint8_t chunk[S3C_CHUNK_SIZE];
	uint64_t size;
	int r = s3c_s3ec_verify(s3ec, key, rest, len, &body);

	assert(r == 0 || r == -EBADMSG || r == -ENOMEM);
	/* GCM under a key that the input does not know. */
	assert(r < 0 || s3ec->suite == S3C_S3EC_CBC);
	if (s3ec->suite == S3C_S3EC_CBC)
		s3c_s3ec_cbc_size(s3ec, key, (const uint8_t *)rest, len, &size);
	if (r < 0 || !s3c_s3ec_body_size(body))
		return;
	memcpy(chunk, rest, s3c_s3ec_body_stored_len(body, 0));
	assert(s3c_s3ec_body_open(body, 0, chunk) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	const struct s3c_kms_unwrap kms = { .decrypt = any_key };
	cleanup_s3ec struct s3c_s3ec *s3ec = NULL;
	cleanup_free char *text = NULL;
	struct s3c_keyring ring = { 0 };
	struct s3c_meta meta = { 0 };
	uint8_t key[S3C_KEY_LEN] = { 7 };
	char why[128];
	const char *rest, *end;
	bool file;
	int r;

	if (!ready)
		s3c_secret_init();
	ready = true;
	if (!size)
		return 0;
	file = !(data[0] & 1);
	text = malloc(size + 1);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = text[size] = '\0';
	end = text + size - 1;
	rest = take_items(text, end, &meta);
	r = s3c_s3ec_parse(&meta, file ? rest : NULL, file ? (size_t)(end - rest) : 0,
			   file ? size * 16 : (uint64_t)(end - rest), &s3ec, why, sizeof(why));
	assert(r == 0 || r == -EBADMSG || r == -EPROTO || r == -ENODATA || r == -EREMOTE ||
	       r == -ENOMEM);
	if (r == 0) {
		char words[256];

		s3c_s3ec_describe(s3ec, words, sizeof(words));
		r = s3c_s3ec_unwrap(s3ec, &ring, &kms, key, why, sizeof(why));
		assert(r == 0 || r == -EACCES || r == -EBADMSG || r == -ENOMEM);
		if (!file && s3ec->size <= S3C_CHUNK_SIZE)
			read_body(s3ec, key, rest, (size_t)(end - rest));
	}
	s3c_meta_free(&meta);
	return 0;
}
