/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Snapshots: names of a directory in order, each once, that never change once they are made; and
 * the drafts that they are made from. Private to src/engine/.
 *
 * A snapshot is reference-counted (atomically) and read by any thread; a draft belongs to one.
 */
#pragma once

#include "engine/names.h"

struct s3c_draft_item;
struct s3c_draft {
	struct s3c_draft_item *items;
	size_t count, alloc;
	struct s3c_buf names;
	bool has_marker;
	bool pairs; /* instruction files are not shown beside their objects */
};

void s3c_draft_init(struct s3c_draft *draft);
void s3c_draft_free(struct s3c_draft *draft);
/* Copies the name. In any order; of a directory and a file of one name the directory stays. */
int s3c_draft_add(struct s3c_draft *draft, const char *name, size_t len, mode_t type,
		  const struct s3c_detail *detail);
/* The draft is empty afterwards, and has to be freed all the same. */
int s3c_draft_finish(struct s3c_draft *draft, struct s3c_snapshot **ret_snap);

struct s3c_snapshot *s3c_snapshot_ref(struct s3c_snapshot *snap);
void s3c_snapshot_put(struct s3c_snapshot *snap); /* NULL is legal */
/* SIZE_MAX: it has no such name. */
size_t s3c_snapshot_find(const struct s3c_snapshot *snap, const char *name);
