/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * POSIX attributes as user metadata, under the names that s3fs uses, so that its
 * buckets can be read and ours are readable: mode, uid, gid, mtime, atime, ctime
 * (decimal; times as SECONDS[.NNNNNNNNN]), and rdev, MAJOR:MINOR of a device node.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "object/xattrs.h"
#include "store/store.h"

struct s3c_attrs {
	bool known;  /* the metadata had a mode; else the mount's defaults apply */
	mode_t mode; /* type and permission bits */
	uid_t uid;
	gid_t gid;
	int64_t mtime_ns, atime_ns, ctime_ns; /* since 1970, may be negative */
	dev_t rdev;                           /* of a device node */
	struct s3c_xattrs *xattrs;            /* NULL: none */
	/* Of the body of a file with several names: how many, as last counted; else 0. It is stored
	   where the layout has a place for it (object/header.h). */
	unsigned nlink;
};
#define S3C_NLINK_MAX 4095u

/* Who keeps attributes has a reference to their xattrs: copies are made by s3c_attrs_set, which
 * lets go of what *to had. Neither is needed for a copy that ends before its source does. */
void s3c_attrs_set(struct s3c_attrs *to, const struct s3c_attrs *from);
void s3c_attrs_clear(struct s3c_attrs *attrs);
#define cleanup_attrs __attribute__((cleanup(s3c_attrs_clear)))

/* A fifo, a socket, a device node: attributes without content. */
static inline bool s3c_mode_is_special(mode_t mode)
{
	return S_ISFIFO(mode) || S_ISSOCK(mode) || S_ISCHR(mode) || S_ISBLK(mode);
}
static inline bool s3c_mode_is_device(mode_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode);
}

/* All but the xattrs. */
int s3c_attrs_encode(const struct s3c_attrs *attrs, struct s3c_meta *meta);
/* Likewise. Tolerant: what is absent or damaged keeps the value that attrs has on entry. */
void s3c_attrs_decode(const struct s3c_meta *meta, struct s3c_attrs *attrs);
