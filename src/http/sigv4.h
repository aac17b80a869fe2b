/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Signature Version 4 (AWS General Reference, "Create a signed request").
 * For S3 the path is encoded once and never normalised. Pure functions.
 */
#pragma once

#include "base/buf.h"
#include "http/credentials.h"
#include "http/http.h"

#define S3C_SIGV4_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define S3C_SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"

struct s3c_sigv4_input {
	const char *method;
	const char *path; /* not encoded */
	const struct s3c_http_headers *query;
	const struct s3c_http_headers
		*headers; /* all of these are signed; must hold host and x-amz-date */
	const char *payload_hash;
	const char *date; /* YYYYMMDDTHHMMSSZ */
	const char *region;
	const char *service;
	const struct s3c_credential *credential;
};

/* Each appends text; signing them step by step keeps every step testable. */
int s3c_sigv4_canonical_request(const struct s3c_sigv4_input *in, struct s3c_buf *out);
int s3c_sigv4_string_to_sign(const struct s3c_sigv4_input *in, const char *canonical_request,
			     struct s3c_buf *out);
/* The value of the Authorization header. */
int s3c_sigv4_authorization(const struct s3c_sigv4_input *in, struct s3c_buf *out);
/* Canonical query string, also used for the URL. */
int s3c_sigv4_query(const struct s3c_http_headers *query, struct s3c_buf *out);
/* Query form (presigned): appends the X-Amz-* parameters and the signature to *query. */
int s3c_sigv4_presign(const struct s3c_sigv4_input *in, unsigned expires_s,
		      struct s3c_http_headers *query);

/* The signature of any string to sign, in hex with a NUL. */
int s3c_sigv4_signature(const struct s3c_sigv4_input *in, const char *string_to_sign,
			char ret_signature[static 65]);

/*
 * Bodies in signed chunks (aws-chunked): each chunk's signature follows from the one before, the
 * first from the request's own; the trailer's text is its "name:value\n" lines. Of in only date,
 * region, service and credential count.
 */
int s3c_sigv4_chunk_string_to_sign(const struct s3c_sigv4_input *in, const char *previous,
				   const void *data, size_t len, struct s3c_buf *out);
int s3c_sigv4_trailer_string_to_sign(const struct s3c_sigv4_input *in, const char *previous,
				     const char *trailer, struct s3c_buf *out);
