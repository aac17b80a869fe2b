/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The record that a folder store keeps with an object, as anyone can write it: decoded, and what
   was understood is the same after it was written again. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "store/file_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct s3c_meta *a, const struct s3c_meta *b)
{
	assert(a->count == b->count);
	for (size_t i = 0; i < a->count; i++) {
		assert(strcmp(a->items[i].name, b->items[i].name) == 0);
		assert(strcmp(a->items[i].value, b->items[i].value) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_buf struct s3c_buf text = { 0 };
	struct s3c_stat info = { 0 }, again = { 0 };
	int r = s3c_file_record_decode((const char *)data, size, &info);

	assert(r == 0 || r == -EBADMSG || r == -ENOMEM || r == -EIO || r == -EPROTO);
	if (r < 0)
		return 0;
	if (s3c_file_record_encode(&info, &text) == 0) {
		assert(s3c_file_record_decode(text.data, text.len, &again) == 0);
		assert(strcmp(info.version.etag, again.version.etag) == 0);
		assert(strcmp(info.content_type, again.content_type) == 0);
		check_same(&info.meta, &again.meta);
		check_same(&info.props, &again.props);
		s3c_stat_free(&again);
	}
	s3c_stat_free(&info);
	return 0;
}
