/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What tests of contents and of the journal share: patterns, and looks at files. */
#pragma once

#include "killed_fixture.h"

#include "engine/content.h"
#include "engine/durable.h"

#define SEG ((size_t)S3C_SEGMENT_SIZE)
#define KIB ((size_t)1024)

static const struct s3c_attrs made_attrs = { .known = true, .mode = S_IFREG | 0644, .uid = 7 };

static inline void fill(uint8_t *data, uint64_t offset, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		uint64_t at = offset + i;

		data[i] = (uint8_t)((at * 167 + (at >> 8) * 13 + (at >> 16) * 71 + seed * 29) ^
				    (at >> 23));
	}
}

static inline uint8_t *pattern(size_t len, unsigned seed)
{
	uint8_t *data = malloc(len + 1);

	assert_non_null(data);
	fill(data, 0, len, seed);
	return data;
}

static inline void write_all(struct s3c_object *object, uint64_t offset, const uint8_t *data,
			     size_t len)
{
	for (size_t at = 0; at < len; at += 1u << 20)
		assert_int_equal(s3c_object_write(object, NULL, offset + at, data + at,
						  S3C_MIN(len - at, (size_t)1 << 20), false),
				 0);
}

/* 0, or the offset + 1 of the first byte that differs. */
static inline uint64_t differs(struct fx *fx, struct s3c_object *object, const uint8_t *expect,
			       size_t len)
{
	struct s3c_info info;

	s3c_object_info(object, &info);
	if (info.size != len)
		return UINT64_MAX;
	for (size_t at = 0; at < len;) {
		struct s3c_pages pages;
		size_t part = S3C_MIN(len - at, (size_t)1 << 20), done = 0;

		assert_int_equal(s3c_object_read(object, NULL, at, part, NULL, &pages), 0);
		for (unsigned i = 0; i < pages.count; i++) {
			if (memcmp(pages.iov[i].iov_base, expect + at + done,
				   pages.iov[i].iov_len) != 0) {
				s3c_pages_release(fx->engine, &pages);
				return at + done + 1;
			}
			done += pages.iov[i].iov_len;
		}
		s3c_pages_release(fx->engine, &pages);
		at += part;
	}
	return 0;
}

static inline void path_equal(struct fx *fx, const char *path, const uint8_t *expect, size_t len)
{
	struct s3c_object *object;

	assert_int_equal(s3c_object_open(fx->engine, NULL, path, &object), 0);
	if (differs(fx, object, expect, len))
		fail_msg("%s is not what was acknowledged", path);
	s3c_object_close(object);
}

static inline void begin(struct fx *fx, struct fx_options *o)
{
	fx_open(fx, o);
	fx_start(fx, o);
}

static inline void fault(struct fx *fx, enum s3c_store_opcode op, enum s3c_fault_kind kind,
			 int result)
{
	struct s3c_fault_rule rule = { .op = op, .kind = kind, .result = result };

	assert_int_equal(s3c_store_fault_add(fx->store, &rule), 0);
}

static inline void create_close(struct fx *fx, const char *path, size_t len, unsigned seed)
{
	cleanup_free uint8_t *data = pattern(len, seed);
	struct s3c_object *object;

	assert_int_equal(s3c_object_create(fx->engine, NULL, path, &made_attrs, &object), 0);
	write_all(object, 0, data, len);
	assert_int_equal(s3c_object_sync(object, NULL, S3C_SYNC_CLOSE), 0);
	s3c_object_close(object);
}
