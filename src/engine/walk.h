/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Every object of a source, or of some paths in it, for commands that look at all of them: listed
 * in the order of the store by the calling thread, visited side by side.
 */
#pragma once

#include "engine/private.h"

#define S3C_WALK_PARALLEL_MAX 512u

struct s3c_walk {
	const char *name;         /* of the threads */
	const char *const *paths; /* of files or directories, at or below which; NULL ends them.
				     NULL, or none: all */
	unsigned parallel;        /* objects at once, 1 to S3C_WALK_PARALLEL_MAX */
	/* In order, the caller's thread. 0: it is visited; 1: it is not; -errno ends the walk. */
	int (*listed)(void *arg, const struct s3c_list_entry *entry);
	void (*all_listed)(void *arg); /* what was listed is all; NULL: none */
	void (*visit)(void *arg, const struct s3c_list_entry *entry); /* any thread */
	void *arg;
};
/* Returns when all visits have ended. Errors: -EINVAL (parallel), a listing failed, listed, op. */
int s3c_walk_run(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_walk *walk);

/* Does the key lie where the filesystem keeps what is its own? Not so the root's attributes. */
bool s3c_key_is_reserved(struct s3c_engine *engine, const char *key);
/*
 * The path that a key stands for, asking the store for long encrypted names on the way. -EBADMSG:
 * it is no name of a file here; -ENODATA: a long one that nobody knows. The caller frees.
 */
int s3c_walk_path(struct s3c_engine *engine, const char *key, char **ret_path);
