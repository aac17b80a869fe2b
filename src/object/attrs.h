/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * POSIX attributes as user metadata, under the names that s3fs uses, so that its
 * buckets can be read and ours are readable: mode, uid, gid, mtime, atime, ctime
 * (decimal; times as SECONDS[.NNNNNNNNN]).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/store.h"

struct s3c_attrs {
	bool known;  /* the metadata had a mode; else the mount's defaults apply */
	mode_t mode; /* type and permission bits */
	uid_t uid;
	gid_t gid;
	int64_t mtime_ns, atime_ns, ctime_ns; /* since 1970, may be negative */
};

int s3c_attrs_encode(const struct s3c_attrs *attrs, struct s3c_meta *meta);
/* Tolerant: what is absent or damaged keeps the value that attrs has on entry. */
void s3c_attrs_decode(const struct s3c_meta *meta, struct s3c_attrs *attrs);
