/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of fsck share.
 *
 *	fsck.c	       objects: those of files, and the order of their keys
 *	fsck_repair.c  what is left over, and what is repaired
 */
#pragma once

#include "engine/fsck.h"
#include "engine/verify.h"
#include "engine/walk.h"

struct fsck_names;
struct fsck {
	struct s3c_engine *engine;
	const struct s3c_fsck_request *rq;
	struct s3c_verify how;
	struct fsck_names *names; /* the listing's thread only */

	struct s3c_mutex lock; /* guards what follows */
	struct s3c_fsck_counts counts;

	struct s3c_mutex told; /* one callback at a time; before lock */
};

/* Counts it and tells it. */
void s3c_fsck_tell(struct fsck *f, const struct s3c_finding *finding);
/* A directory (its prefix, which ends in '/') without an object. */
void s3c_fsck_no_marker(struct fsck *f, const char *prefix);
/* A key below .s3cryptfs/. */
void s3c_fsck_reserved(struct fsck *f, const struct s3c_list_entry *entry);
/* Uploads at or below each path. */
int s3c_fsck_uploads(struct fsck *f);
