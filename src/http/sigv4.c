/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "http/sigv4.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/crypto.h"
#include "base/encode.h"
#include "base/secret.h"

#define ALGORITHM "AWS4-HMAC-SHA256"
#define SECRET_MAX 256 /* bytes of a secret access key; the vendor's have 40 */

static int sha256_hex(const void *data, size_t len, char ret_hex[static 65])
{
	uint8_t digest[S3C_SHA256_LEN];
	int r = s3c_sha256(data, len, digest);

	if (r < 0)
		return r;
	s3c_hex_encode(digest, sizeof(digest), ret_hex);
	return 0;
}

struct pair {
	char *name;
	char *value;
};

static int compare_pairs(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order != 0 ? order : strcmp(x->value, y->value);
}

static void free_pairs(struct pair *pairs, size_t count)
{
	for (size_t i = 0; pairs != NULL && i < count; i++) {
		free(pairs[i].name);
		/* A header's value may be a customer key. */
		if (pairs[i].value != NULL)
			s3c_wipe(pairs[i].value, strlen(pairs[i].value));
		free(pairs[i].value);
	}
	free(pairs);
}

static char *encode(const char *text)
{
	struct s3c_buf buf = { 0 };

	if (s3c_uri_encode(&buf, text, strlen(text), false) < 0) {
		s3c_buf_free(&buf);
		return NULL;
	}
	return s3c_buf_steal(&buf);
}

int s3c_sigv4_query(const struct s3c_http_headers *query, struct s3c_buf *out)
{
	struct pair *pairs;
	size_t count = query != NULL ? query->count : 0;
	int r = 0;

	if (count == 0)
		return 0;
	pairs = calloc(count, sizeof(*pairs));
	if (pairs == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		pairs[i].name = encode(query->items[i].name);
		pairs[i].value = encode(query->items[i].value);
		if (pairs[i].name == NULL || pairs[i].value == NULL) {
			r = -ENOMEM;
			goto out;
		}
	}
	qsort(pairs, count, sizeof(*pairs), compare_pairs);
	for (size_t i = 0; i < count && r == 0; i++)
		r = s3c_buf_printf(out, "%s%s=%s", i > 0 ? "&" : "", pairs[i].name, pairs[i].value);
out:
	free_pairs(pairs, count);
	return r;
}

/* Lower case in place; only ASCII, whatever the locale. */
static void lower(char *text)
{
	for (; *text != '\0'; text++)
		if (*text >= 'A' && *text <= 'Z')
			*text = (char)(*text - 'A' + 'a');
}

/* Trims and turns inner runs of blanks into one, in place. */
static void squeeze(char *text)
{
	char *to = text;
	const char *from = text;

	while (*from == ' ' || *from == '\t')
		from++;
	while (*from != '\0') {
		if (*from == ' ' || *from == '\t') {
			while (*from == ' ' || *from == '\t')
				from++;
			if (*from != '\0')
				*to++ = ' ';
		} else {
			*to++ = *from++;
		}
	}
	*to = '\0';
}

/* Stable for equal names: values of a repeated header keep their order. */
static void sort_by_name(struct pair *pairs, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		struct pair p = pairs[i];
		size_t j = i;

		for (; j > 0 && strcmp(pairs[j - 1].name, p.name) > 0; j--)
			pairs[j] = pairs[j - 1];
		pairs[j] = p;
	}
}

static int canonical_headers(const struct s3c_http_headers *headers, struct pair **ret_pairs)
{
	struct pair *pairs = calloc(headers->count + 1, sizeof(*pairs));

	if (pairs == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < headers->count; i++) {
		pairs[i].name = strdup(headers->items[i].name);
		pairs[i].value = strdup(headers->items[i].value);
		if (pairs[i].name == NULL || pairs[i].value == NULL) {
			free_pairs(pairs, headers->count);
			return -ENOMEM;
		}
		lower(pairs[i].name);
		squeeze(pairs[i].value);
	}
	sort_by_name(pairs, headers->count);
	*ret_pairs = pairs;
	return 0;
}

static int append_signed_names(const struct pair *pairs, size_t count, struct s3c_buf *out)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++) {
		if (i > 0 && strcmp(pairs[i].name, pairs[i - 1].name) == 0)
			continue;
		r = s3c_buf_printf(out, "%s%s", i > 0 ? ";" : "", pairs[i].name);
	}
	return r;
}

static int signed_names(const struct s3c_http_headers *headers, struct s3c_buf *out)
{
	struct pair *pairs;
	int r = canonical_headers(headers, &pairs);

	if (r < 0)
		return r;
	r = append_signed_names(pairs, headers->count, out);
	free_pairs(pairs, headers->count);
	return r;
}

/* S3 encodes once; the other services encode the encoded path again. */
static int append_path(const struct s3c_sigv4_input *in, struct s3c_buf *out)
{
	cleanup_buf struct s3c_buf once = { 0 };
	int r;

	if (strcmp(in->service, "s3") == 0)
		return s3c_uri_encode(out, in->path, strlen(in->path), true);
	r = s3c_uri_encode(&once, in->path, strlen(in->path), true);
	if (r < 0)
		return r;
	return s3c_uri_encode(out, once.data, once.len, true);
}

int s3c_sigv4_canonical_request(const struct s3c_sigv4_input *in, struct s3c_buf *out)
{
	struct pair *pairs;
	size_t count = in->headers->count;
	int r;

	r = canonical_headers(in->headers, &pairs);
	if (r < 0)
		return r;
	r = s3c_buf_printf(out, "%s\n", in->method);
	if (r == 0)
		r = append_path(in, out);
	if (r == 0)
		r = s3c_buf_append_char(out, '\n');
	if (r == 0)
		r = s3c_sigv4_query(in->query, out);
	if (r == 0)
		r = s3c_buf_append_char(out, '\n');
	for (size_t i = 0; i < count && r == 0; i++) {
		bool again = i > 0 && strcmp(pairs[i].name, pairs[i - 1].name) == 0;
		bool more = i + 1 < count && strcmp(pairs[i].name, pairs[i + 1].name) == 0;

		r = s3c_buf_printf(out, "%s%s%s%s", again ? "" : pairs[i].name, again ? "," : ":",
				   pairs[i].value, more ? "" : "\n");
	}
	if (r == 0)
		r = s3c_buf_append_char(out, '\n');
	if (r == 0)
		r = append_signed_names(pairs, count, out);
	if (r == 0)
		r = s3c_buf_printf(out, "\n%s", in->payload_hash);
	free_pairs(pairs, count);
	return r;
}

static int append_scope(const struct s3c_sigv4_input *in, struct s3c_buf *out)
{
	return s3c_buf_printf(out, "%.8s/%s/%s/aws4_request", in->date, in->region, in->service);
}

/* The three lines that every string to sign begins with. */
static int append_preamble(const struct s3c_sigv4_input *in, const char *algorithm,
			   struct s3c_buf *out)
{
	int r = s3c_buf_printf(out, "%s\n%s\n", algorithm, in->date);

	if (r == 0)
		r = append_scope(in, out);
	if (r == 0)
		r = s3c_buf_append_char(out, '\n');
	return r;
}

int s3c_sigv4_string_to_sign(const struct s3c_sigv4_input *in, const char *canonical_request,
			     struct s3c_buf *out)
{
	char hash[65];
	int r = sha256_hex(canonical_request, strlen(canonical_request), hash);

	if (r == 0)
		r = append_preamble(in, ALGORITHM, out);
	if (r == 0)
		r = s3c_buf_append_str(out, hash);
	return r;
}

int s3c_sigv4_chunk_string_to_sign(const struct s3c_sigv4_input *in, const char *previous,
				   const void *data, size_t len, struct s3c_buf *out)
{
	char hash[65];
	int r = sha256_hex(data, len, hash);

	if (r == 0)
		r = append_preamble(in, ALGORITHM "-PAYLOAD", out);
	if (r == 0)
		r = s3c_buf_printf(out, "%s\n%s\n%s", previous, S3C_SIGV4_EMPTY_SHA256, hash);
	return r;
}

int s3c_sigv4_trailer_string_to_sign(const struct s3c_sigv4_input *in, const char *previous,
				     const char *trailer, struct s3c_buf *out)
{
	char hash[65];
	int r = sha256_hex(trailer, strlen(trailer), hash);

	if (r == 0)
		r = append_preamble(in, ALGORITHM "-TRAILER", out);
	if (r == 0)
		r = s3c_buf_printf(out, "%s\n%s", previous, hash);
	return r;
}

int s3c_sigv4_signature(const struct s3c_sigv4_input *in, const char *string_to_sign,
			char ret_signature[static 65])
{
	const char *steps[] = { in->region, in->service, "aws4_request" };
	size_t secret_len = strlen(in->credential->secret_access_key);
	char first[4 + SECRET_MAX];
	uint8_t key[S3C_SHA256_LEN], mac[S3C_SHA256_LEN];
	int r;

	if (secret_len > SECRET_MAX)
		return -EINVAL;
	memcpy(first, "AWS4", 4);
	memcpy(first + 4, in->credential->secret_access_key, secret_len);
	r = s3c_hmac_sha256(first, 4 + secret_len, in->date, strnlen(in->date, 8), key);
	s3c_wipe(first, sizeof(first));
	for (size_t i = 0; i < ARRAY_LEN(steps) && r == 0; i++) {
		r = s3c_hmac_sha256(key, sizeof(key), steps[i], strlen(steps[i]), mac);
		if (r == 0)
			memcpy(key, mac, sizeof(key));
	}
	if (r == 0)
		r = s3c_hmac_sha256(key, sizeof(key), string_to_sign, strlen(string_to_sign), mac);
	if (r == 0)
		s3c_hex_encode(mac, sizeof(mac), ret_signature);
	s3c_wipe(key, sizeof(key));
	s3c_wipe(mac, sizeof(mac));
	return r;
}

static int sign(const struct s3c_sigv4_input *in, char ret_signature[static 65])
{
	/* Canonical headers may hold a customer key: wiped. */
	struct s3c_buf request = { 0 };
	cleanup_buf struct s3c_buf text = { 0 };
	int r = s3c_sigv4_canonical_request(in, &request);

	if (r == 0)
		r = s3c_sigv4_string_to_sign(in, request.data, &text);
	s3c_buf_free_secret(&request);
	if (r == 0)
		r = s3c_sigv4_signature(in, text.data, ret_signature);
	return r;
}

int s3c_sigv4_authorization(const struct s3c_sigv4_input *in, struct s3c_buf *out)
{
	cleanup_buf struct s3c_buf scope = { 0 };
	cleanup_buf struct s3c_buf names = { 0 };
	char signature[65];
	int r = sign(in, signature);

	if (r == 0)
		r = append_scope(in, &scope);
	if (r == 0)
		r = signed_names(in->headers, &names);
	if (r < 0)
		return r;
	return s3c_buf_printf(out, ALGORITHM " Credential=%s/%s,SignedHeaders=%s,Signature=%s",
			      in->credential->access_key_id, scope.data,
			      names.data != NULL ? names.data : "", signature);
}

int s3c_sigv4_presign(const struct s3c_sigv4_input *in, unsigned expires_s,
		      struct s3c_http_headers *query)
{
	cleanup_buf struct s3c_buf who = { 0 };
	cleanup_buf struct s3c_buf names = { 0 };
	struct s3c_sigv4_input copy = *in;
	char signature[65], expires[16];
	int r;

	snprintf(expires, sizeof(expires), "%u", expires_s);
	r = s3c_buf_printf(&who, "%s/", in->credential->access_key_id);
	if (r == 0)
		r = append_scope(in, &who);
	if (r == 0)
		r = signed_names(in->headers, &names);
	if (r == 0)
		r = s3c_http_headers_add(query, "X-Amz-Algorithm", ALGORITHM);
	if (r == 0)
		r = s3c_http_headers_add(query, "X-Amz-Credential", who.data);
	if (r == 0)
		r = s3c_http_headers_add(query, "X-Amz-Date", in->date);
	if (r == 0)
		r = s3c_http_headers_add(query, "X-Amz-Expires", expires);
	if (r == 0 && in->credential->session_token != NULL)
		r = s3c_http_headers_add(query, "X-Amz-Security-Token",
					 in->credential->session_token);
	if (r == 0)
		r = s3c_http_headers_add(query, "X-Amz-SignedHeaders",
					 names.data != NULL ? names.data : "");
	if (r < 0)
		return r;
	copy.query = query;
	r = sign(&copy, signature);
	if (r < 0)
		return r;
	return s3c_http_headers_add(query, "X-Amz-Signature", signature);
}
