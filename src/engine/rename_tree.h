/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The tree of a directory that is being renamed: its objects as the last LIST showed them, and what
 * became of each. Private to rename_dir.c, which has the rounds and deletes, and rename_copy.c,
 * which copies.
 */
#pragma once

#include "engine/pending.h"

#define S3C_TREE_BATCH 1000u

/* One object of the tree. */
struct s3c_tree_item {
	char *key;
	char *path; /* below the directory; NULL where names are plain: the key tells */
	UT_hash_handle hh;
	uint64_t size, etag_hash;
	uint64_t copied_etag;          /* etag_hash of the version that was copied */
	char *copy_etag;               /* of the copy; NULL: unknown */
	int64_t free_ns;               /* when nothing was seen at the new key; 0: never */
	bool stays;                    /* resumed: it is not part of the rename */
	bool listed, copied, doubtful; /* doubtful: it was in a DELETE whose reply was lost */
	enum s3c_layout layout;        /* of the source as copied, for the journal */
	uint64_t generation;
	struct s3c_entry *entry; /* of the copy; NULL: not known well enough */
};

struct s3c_tree {
	struct s3c_engine *engine;
	const char *from, *to;         /* paths */
	char *from_prefix, *to_prefix; /* keys: end in '/' */
	struct s3c_tree_item *by_key;
	size_t count;
	bool deleting; /* some are gone from the old tree */
	unsigned lost; /* replies of DELETEs */
	bool target_marker;
	struct s3c_entry *marker; /* of the target, made for this; NULL: none */
	bool resumed;
	int64_t started_ns; /* resumed: wall clock when the rename began */
};

/* The path of an item at root: that of the old or the new tree; the caller frees. NULL: none. */
char *s3c_tree_path(const struct s3c_tree *tree, const struct s3c_tree_item *item,
		    const char *root);
/* The key of an item in the new tree; the caller frees. */
int s3c_tree_new_key(const struct s3c_tree *tree, const struct s3c_tree_item *item, char **ret_key);
/* What stands at a key of either; -ENOENT without a word in the log. */
int s3c_tree_head(struct s3c_engine *engine, const char *key, struct s3c_header *ret_header,
		  struct s3c_version *ret_version, uint64_t *ret_size,
		  struct s3c_extra **ret_extra);
/* Is it there in a version that was not copied, and to be? */
bool s3c_tree_needs_copy(const struct s3c_tree_item *item);
/* Copies all that needs it, on threads of the pool besides the caller's. */
int s3c_tree_copy_round(struct s3c_tree *tree);
