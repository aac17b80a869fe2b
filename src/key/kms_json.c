/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "key/kms_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/encode.h"
#include "base/secret.h"

#define PLAINTEXT "Plaintext"

void s3c_kms_blob_free(struct s3c_kms_blob *blob)
{
	free(blob->arn);
	free(blob->data);
	*blob = (struct s3c_kms_blob){ 0 };
}

void s3c_kms_answer_free(struct s3c_kms_answer *answer)
{
	s3c_kms_blob_free(&answer->blob);
}

static size_t skip_blanks(const char *text, size_t len, size_t at)
{
	while (at < len && strchr(" \t\r\n", text[at]) && text[at])
		at++;
	return at;
}

/* The quote that ends the string whose first byte is at; len: none. */
static size_t string_end(const char *text, size_t len, size_t at)
{
	while (at < len && text[at] != '"')
		at += text[at] == '\\' ? 2 : 1;
	return S3C_MIN(at, len);
}

/*
 * Where the value of the outermost member Plaintext lies, without its quotes. The parser checks the
 * text afterwards; a text that is no JSON may be misread here and is refused there.
 */
static bool find_plaintext(const char *text, size_t len, size_t *ret_begin, size_t *ret_end)
{
	unsigned depth = 0;

	for (size_t at = 0; at < len; at++) {
		size_t end, next;
		bool named;

		if (text[at] == '{' || text[at] == '[')
			depth++;
		if (text[at] == '}' || text[at] == ']')
			depth--;
		if (text[at] != '"')
			continue;
		end = string_end(text, len, at + 1);
		named = end - at - 1 == strlen(PLAINTEXT) &&
			memcmp(text + at + 1, PLAINTEXT, strlen(PLAINTEXT)) == 0;
		next = skip_blanks(text, len, end + 1);
		at = end;
		if (!named || depth != 1 || next >= len || text[next] != ':')
			continue;
		next = skip_blanks(text, len, next + 1);
		if (next >= len || text[next] != '"')
			continue;
		*ret_begin = next + 1;
		*ret_end = string_end(text, len, next + 1);
		return *ret_end < len;
	}
	return false;
}

/* Base64 of 32 bytes, where JSON may have written a slash as two. Wipes it. */
static int take_plaintext(char *text, size_t begin, size_t end, uint8_t *ret_key)
{
	char base64[S3C_BASE64_LEN(S3C_KEY_LEN) + 1];
	uint8_t key[S3C_KEY_LEN];
	size_t len = 0, got = 0;
	int r = 0;

	for (size_t at = begin; at < end && r == 0; at++) {
		if (text[at] == '\\' && at + 1 < end && text[at + 1] == '/')
			at++;
		if (len + 1 == sizeof(base64))
			r = -EPROTO;
		else
			base64[len++] = text[at];
	}
	base64[len] = '\0';
	if (r == 0 &&
	    (s3c_base64_decode(base64, len, key, sizeof(key), &got) < 0 || got != sizeof(key)))
		r = -EPROTO;
	if (r == 0)
		memcpy(ret_key, key, sizeof(key));
	s3c_wipe(key, sizeof(key));
	s3c_wipe(base64, sizeof(base64));
	s3c_wipe(text + begin, end - begin);
	memset(text + begin, ' ', end - begin);
	return r;
}

static int take_blob(const json_t *root, struct s3c_kms_blob *blob)
{
	const char *text = json_string_value(json_object_get(root, "CiphertextBlob"));
	cleanup_free uint8_t *data = NULL;
	size_t len;

	if (!text)
		return json_object_get(root, "CiphertextBlob") ? -EPROTO : 0;
	if (strlen(text) > S3C_BASE64_LEN(S3C_KMS_BLOB_MAX))
		return -EPROTO;
	data = malloc(S3C_KMS_BLOB_MAX);
	if (!data)
		return -ENOMEM;
	if (s3c_base64_decode(text, strlen(text), data, S3C_KMS_BLOB_MAX, &len) < 0 || !len)
		return -EPROTO;
	blob->data = steal_ptr(data);
	blob->len = len;
	return 0;
}

static int take_arn(const json_t *root, struct s3c_kms_blob *blob)
{
	const json_t *meta = json_object_get(root, "KeyMetadata");
	const char *text = json_string_value(meta ? json_object_get(meta, "Arn")
						  : json_object_get(root, "KeyId"));

	if (!text)
		return 0;
	if (!*text || strlen(text) > S3C_KMS_ID_MAX)
		return -EPROTO;
	blob->arn = strdup(text);
	return blob->arn ? 0 : -ENOMEM;
}

static void copy_member(const json_t *object, const char *name, char *to, size_t size)
{
	const char *text = json_string_value(json_object_get(object, name));

	snprintf(to, size, "%s", text ? text : "");
}

int s3c_kms_answer_parse(char *text, size_t len, uint8_t ret_key[static S3C_KEY_LEN],
			 struct s3c_kms_answer *ret_answer)
{
	struct s3c_kms_answer answer = { 0 };
	uint8_t key[S3C_KEY_LEN];
	size_t begin, end;
	json_t *root, *meta;
	int r = 0;

	if (find_plaintext(text, len, &begin, &end)) {
		r = take_plaintext(text, begin, end, key);
		answer.has_key = r == 0;
	}
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (r == 0 && !json_is_object(root))
		r = -EPROTO;
	meta = json_object_get(root, "KeyMetadata");
	if (r == 0)
		r = take_blob(root, &answer.blob);
	if (r == 0)
		r = take_arn(root, &answer.blob);
	copy_member(meta, "KeyState", answer.state, sizeof(answer.state));
	copy_member(meta, "KeyUsage", answer.usage, sizeof(answer.usage));
	copy_member(meta, "KeySpec", answer.spec, sizeof(answer.spec));
	json_decref(root);
	if (r == 0 && answer.has_key)
		memcpy(ret_key, key, sizeof(key));
	s3c_wipe(key, sizeof(key));
	if (r < 0)
		s3c_kms_answer_free(&answer);
	else
		*ret_answer = answer;
	return r;
}

int s3c_kms_json_string(struct s3c_buf *out, const char *text)
{
	json_t *value = json_string(text);
	char *json = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
	int r = json ? s3c_buf_append_str(out, json) : -EINVAL;

	json_decref(value);
	free(json);
	return r;
}
