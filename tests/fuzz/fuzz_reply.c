/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What a store answers. The first byte chooses: '0' list, '1' parts, '2' deleted keys, '3' upload
 * id, '4' result of a copy, '5' error, '6' headers (NAME NUL VALUE NUL pairs), '7' time, '8'
 * range; the rest is the text.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "http/error.h"
#include "store/s3_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_result(int r)
{
	assert(r == 0 || r == -EPROTO || r == -ENOMEM || r == -EIO || r == -EACCES ||
	       r == -EAGAIN || r == -ENOENT || r == -ESTALE || r == -EEXIST || r == -ENXIO ||
	       r == -EFBIG || r == -ENOSPC || r == -EOPNOTSUPP || r == -EINVAL || r == -ENOKEY ||
	       r == -EKEYREJECTED || r == -EKEYEXPIRED || r == -EKEYREVOKED || r == -ENODEV ||
	       r == -ERANGE || r == -ETIMEDOUT || r == -ENAMETOOLONG || r == -E2BIG ||
	       r == -EDQUOT || r == -EPERM || r == -EBADMSG);
}

static void check_list(const struct s3c_s3_call *call)
{
	const struct s3c_list *list = &call->reply.list;

	for (size_t i = 0; i < list->count; i++) {
		assert(list->entries[i].key);
		assert(strncmp(list->entries[i].key, "p/", 2) == 0);
		assert(strlen(list->entries[i].etag) < S3C_STORE_ETAG_MAX);
		assert(list->entries[i].size <= INT64_MAX);
	}
}

static void fuzz_body(char choice, char *text, size_t len)
{
	static const char *const keys[] = { "a", "b" };
	struct s3c_s3_call call = { .rq = { .op = S3C_STORE_LIST, .prefix = "p/", .key = "k" } };
	struct s3c_http_reply http = { .status = 200, .body = { .data = text, .len = len } };
	int r = 0;

	switch (choice) {
	case '0':
		r = s3c_s3_read_list(&call, &http);
		if (r == 0)
			check_list(&call);
		break;
	case '1':
		call.rq.op = S3C_STORE_UPLOAD_PARTS;
		r = s3c_s3_read_parts(&call, &http);
		break;
	case '2':
		call.rq.op = S3C_STORE_DELETE_MANY;
		call.rq.keys = keys;
		call.rq.key_count = 2;
		r = s3c_s3_read_deleted(&call, &http);
		assert(call.reply.failed_index < 2);
		break;
	case '3':
		call.rq.op = S3C_STORE_UPLOAD_CREATE;
		r = s3c_s3_read_upload_id(&call, &http);
		assert(r < 0 || call.reply.upload_id);
		break;
	case '9':
		call.rq.op = S3C_STORE_LIST_UPLOADS;
		r = s3c_s3_read_uploads(&call, &http);
		for (size_t i = 0; i < call.reply.uploads.count; i++)
			assert(strncmp(call.reply.uploads.items[i].key, "p/", 2) == 0 &&
			       call.reply.uploads.items[i].id[0]);
		break;
	default:
		call.rq.op = S3C_STORE_COPY;
		r = s3c_s3_read_result(&call, &http);
	}
	check_result(r);
	s3c_store_reply_free(&call.reply);
}

static void fuzz_error(const char *text, size_t len)
{
	struct s3c_s3_call call = { .rq = { .op = S3C_STORE_GET, .key = "k" } };
	struct s3c_http_reply http = { .status = 400 };
	struct s3c_http_error error;
	char words[512];
	int64_t seconds;
	int r;

	s3c_http_error_parse(text, len, &error);
	(void)s3c_http_error_is_error(text, len);
	(void)s3c_http_parse_time(error.server_time, &seconds);
	memcpy(http.error_code, error.code, sizeof(http.error_code));
	memcpy(http.error_message, error.message, sizeof(http.error_message));
	memcpy(http.request_id, error.request_id, sizeof(http.request_id));
	r = s3c_s3_error(&call, &http);
	check_result(r);
	assert(r < 0);
	s3c_s3_describe(&call, &http, r, words, sizeof(words));
	assert(strlen(words) < sizeof(words));
}

static void fuzz_headers(const char *p, const char *end)
{
	const struct s3c_ssec ssec = { .key = { 1 } };
	struct s3c_http_headers headers = { 0 };
	struct s3c_stat st;
	int r;

	while (p < end && *p && headers.count < 64) {
		const char *value = p + strlen(p) + 1;

		if (value > end)
			break;
		assert(s3c_http_headers_add(&headers, p, value) == 0);
		p = value + strlen(value) + 1;
	}
	r = s3c_s3_read_stat(&ssec, &headers, &st);
	check_result(r);
	if (r == 0) {
		assert(st.size <= INT64_MAX);
		s3c_stat_free(&st);
	}
	s3c_http_headers_free(&headers);
}

static void fuzz_range(const char *text)
{
	uint64_t first, last, total;

	if (s3c_s3_parse_range(text, &first, &last, &total) == 0)
		assert(first <= last && last < total);
}

static void fuzz_time(const char *text)
{
	int64_t ns;

	if (s3c_s3_parse_time(text, &ns) == 0)
		assert(ns >= -S3C_NSEC_PER_SEC && ns / S3C_NSEC_PER_SEC < 7289654400);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (!size)
		return 0;
	text = malloc(size);
	assert(text);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] <= '4' || data[0] == '9')
		fuzz_body((char)data[0], text, size - 1);
	else if (data[0] == '5')
		fuzz_error(text, size - 1);
	else if (data[0] == '6')
		fuzz_headers(text, text + size - 1);
	else if (data[0] == '7')
		fuzz_time(text);
	else
		fuzz_range(text);
	free(text);
	return 0;
}
