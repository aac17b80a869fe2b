/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What tests of files with several names share: "a" and "b", of LEN bytes. */
#pragma once

#include "durable_fixture.h"

#include "engine/links.h"

#define LEN ((size_t)3000)

static inline void make_pair(struct fx *fx)
{
	uint8_t id[16];

	create_close(fx, "a", LEN, 1);
	assert_int_equal(s3c_engine_link(fx->engine, NULL, "a", "b", id), 0);
}

static inline void info_of(struct fx *fx, const char *path, struct s3c_info *ret_info)
{
	assert_int_equal(s3c_engine_lookup(fx->engine, NULL, path, ret_info), 0);
}

static inline void one_file(struct fx *fx, const uint8_t *data)
{
	struct s3c_info a, b;

	path_equal(fx, "a", data, LEN);
	path_equal(fx, "b", data, LEN);
	info_of(fx, "a", &a);
	info_of(fx, "b", &b);
	assert_true(a.linked && b.linked);
	assert_memory_equal(a.body, b.body, sizeof(a.body));
	assert_int_equal(a.nlink, 2);
	assert_int_equal(b.nlink, 2);
}
