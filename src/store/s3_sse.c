/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Server-side encryption of S3: what is asked for with each new object, and whether the reply says
 * that it was done. After the S3 API reference (2006-03-01): the headers are members of PutObject,
 * CreateMultipartUpload and CopyObject alone. An upload's parts are encrypted as its start said,
 * and a copy never inherits from its source: without headers the bucket's default would hold.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/encode.h"
#include "store/s3_private.h"

#define SSE_HEADER "x-amz-server-side-encryption"
#define KEY_HEADER SSE_HEADER "-aws-kms-key-id"
#define CONTEXT_HEADER SSE_HEADER "-context"
#define BUCKET_KEY_HEADER SSE_HEADER "-bucket-key-enabled"

static const char *const words[] = {
	[S3C_SSE_NONE] = "",
	[S3C_SSE_S3] = "AES256",
	[S3C_SSE_KMS] = "aws:kms",
	[S3C_SSE_DSSE] = "aws:kms:dsse",
};

const char *s3c_sse_word(enum s3c_sse sse)
{
	return words[sse];
}

static bool uses_kms(enum s3c_sse mode)
{
	return mode == S3C_SSE_KMS || mode == S3C_SSE_DSSE;
}

int s3c_s3_sse_init(struct s3c_s3_sse *sse, const struct s3c_store_s3_config *config)
{
	const char *context = config->sse_context;

	sse->mode = config->sse;
	if (!uses_kms(sse->mode))
		return 0;
	sse->bucket_key = config->sse_bucket_key;
	if (config->sse_key_id) {
		sse->key_id = strdup(config->sse_key_id);
		if (!sse->key_id)
			return -ENOMEM;
	}
	if (context) {
		sse->context = malloc(S3C_BASE64_LEN(strlen(context)) + 1);
		if (!sse->context)
			return -ENOMEM;
		s3c_base64_encode((const uint8_t *)context, strlen(context), sse->context);
	}
	return 0;
}

void s3c_s3_sse_free(struct s3c_s3_sse *sse)
{
	free(sse->key_id);
	free(sse->context);
	free(sse->seen_key);
}

int s3c_s3_sse_add(const struct s3c_s3_sse *sse, struct s3c_http_headers *headers)
{
	int r;

	if (!sse->mode)
		return 0;
	r = s3c_http_headers_add(headers, SSE_HEADER, words[sse->mode]);
	if (r == 0 && sse->key_id)
		r = s3c_http_headers_add(headers, KEY_HEADER, sse->key_id);
	if (r == 0 && sse->context)
		r = s3c_http_headers_add(headers, CONTEXT_HEADER, sse->context);
	/* Off is said, too: the bucket's default may be on. There are none for two layers. */
	if (r == 0 && sse->mode == S3C_SSE_KMS)
		r = s3c_http_headers_add(headers, BUCKET_KEY_HEADER,
					 sse->bucket_key ? "true" : "false");
	return r;
}

/* "…:key/ID" of an ARN, or what stands there instead. */
static const char *plain_id(const char *key)
{
	const char *id = strncmp(key, "arn:", 4) == 0 ? strstr(key, ":key/") : NULL;

	return id ? id + strlen(":key/") : key;
}

static bool is_arn(const char *key)
{
	return strncmp(key, "arn:", 4) == 0;
}

static bool is_alias(const char *key)
{
	return strncmp(key, "alias/", 6) == 0 || (is_arn(key) && strstr(key, ":alias/"));
}

/* S3 answers with the key's ARN, whatever way it was named; other stores repeat the name. */
static bool same_key(const char *a, const char *b)
{
	if (is_arn(a) && is_arn(b))
		return strcmp(a, b) == 0;
	return strcmp(plain_id(a), plain_id(b)) == 0;
}

bool s3c_sse_is(enum s3c_sse sse, const char *key_id, const struct s3c_stat *st)
{
	if (sse == S3C_SSE_NONE)
		return !st->sse[0] || strcmp(st->sse, words[S3C_SSE_S3]) == 0;
	if (strcmp(st->sse, words[sse]) != 0)
		return false;
	return !uses_kms(sse) || !key_id || is_alias(key_id) || same_key(key_id, st->sse_key);
}

/*
 * The key of the reply against the one that was asked for. An alias (and the account's own key) has
 * no name that could be compared: the key of the first reply is the one that is wanted from then
 * on.
 */
static bool confirms_key(struct s3c_s3_sse *sse, const char *key, bool required, char *ret_why,
			 size_t size)
{
	bool named = sse->key_id && !is_alias(sse->key_id);
	const char *wanted = named ? sse->key_id : sse->seen_key;

	if (!key) {
		if (required && sse->key_id)
			snprintf(ret_why, size, "no key instead of %s", sse->key_id);
		return !required || !sse->key_id;
	}
	if (wanted && !same_key(wanted, key)) {
		snprintf(ret_why, size, "key %s instead of %s", key, wanted);
		return false;
	}
	if (!wanted)
		sse->seen_key = strdup(key); /* without memory: the next reply's */
	return true;
}

static bool confirms_bucket_key(const struct s3c_s3_sse *sse, const char *text, bool required,
				char *ret_why, size_t size)
{
	bool on = text && strcasecmp(text, "true") == 0;

	if (sse->mode != S3C_SSE_KMS || (!text && !required) || on == sse->bucket_key)
		return true;
	snprintf(ret_why, size, "%s bucket key", on ? "a" : "no");
	return false;
}

bool s3c_s3_sse_confirms(struct s3c_s3_sse *sse, enum s3c_store_opcode op,
			 const struct s3c_http_headers *headers, char *ret_why, size_t size)
{
	const char *word = s3c_http_headers_get(headers, SSE_HEADER);
	/* The start of an upload has confirmed what holds for its parts and their completion. */
	bool required =
		op == S3C_STORE_PUT || op == S3C_STORE_COPY || op == S3C_STORE_UPLOAD_CREATE;

	if (!sse->mode)
		return true;
	if (!word && !required)
		return true;
	if (!word || strcmp(word, words[sse->mode]) != 0) {
		snprintf(ret_why, size, "%s instead of %s", word ? word : "nothing",
			 words[sse->mode]);
		return false;
	}
	if (!uses_kms(sse->mode))
		return true;
	return confirms_key(sse, s3c_http_headers_get(headers, KEY_HEADER), required, ret_why,
			    size) &&
	       confirms_bucket_key(sse, s3c_http_headers_get(headers, BUCKET_KEY_HEADER), required,
				   ret_why, size);
}
