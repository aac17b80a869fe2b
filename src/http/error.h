/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The bodies of error replies: S3's and STS's XML, KMS's JSON. Pure functions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each "" when the body does not tell; what is too long is cut. */
struct s3c_http_error {
	char code[64];
	char message[256];
	char request_id[64];
	char region[64];
	char endpoint[256];
	char server_time[64];
};

/* Never fails: a body of another kind gives empty fields. */
void s3c_http_error_parse(const char *body, size_t len, struct s3c_http_error *ret_error);
/* Whether the root element is <Error>: what a 200 reply must not be. */
bool s3c_http_error_is_error(const char *body, size_t len);
/* "Fri, 24 May 2013 00:00:00 GMT", "2013-05-24T00:00:00[.000]Z" or "20130524T000000Z"; seconds
 * since 1970. -EINVAL for anything else. */
int s3c_http_parse_time(const char *text, int64_t *ret_seconds);
