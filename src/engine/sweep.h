/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the bodies of files with several names are referred to by, beside live mounts: counts that
 * are wrong are put right, and bodies without a name go, after a time.
 *
 * One LIST of the whole volume, a HEAD of each body and of each object that has the size of a
 * reference, which nothing else has that is sealed.
 *
 *	names	count		what is done
 *	n > 0	n		nothing
 *	n > 0	other		set to n
 *	0	> 0		set to 0, once nothing has touched the body for `grace`
 *	0	0		deleted, once nothing has touched it for `grace`, the last unlink
 *				included, and a second look at the volume finds no name either
 *
 * A body of count 0 gets no new names from anybody.
 */
#pragma once

#include "engine/engine.h"

struct s3c_sweep_request {
	bool dry_run;
	double grace_s;
	/* What is done, or would be, and what is wrong; the key is of a body or of a reference. */
	void (*tell)(void *arg, const char *key, const char *what);
	void *arg;
};
struct s3c_sweep_counts {
	uint64_t objects, bodies, names;
	uint64_t counted; /* counts that were wrong */
	uint64_t removed;
	uint64_t waiting; /* without a name, and grace is not over */
	uint64_t broken;  /* names without a body */
	uint64_t failed;  /* could not be looked at, or changed: each was told */
};
/*
 * -EXDEV: the engine's prefix is not that of the volume: names may be elsewhere. Errors of LISTs.
 * In a dry run the counts say what would be done.
 */
int s3c_engine_sweep_links(struct s3c_engine *engine, struct s3c_op *op,
			   const struct s3c_sweep_request *request,
			   struct s3c_sweep_counts *ret_counts);
