/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The FUSE session: mounts, answers the kernel with low-level operations until
 * it is unmounted or told to end, and commits what is left.
 */
#pragma once

#include "base/err.h"
#include "engine/engine.h"

struct s3c_fuse_config {
	struct s3c_engine *engine; /* borrowed */
	const char *source;        /* fsname, verbatim */
	const char *mountpoint;    /* absolute */
	const char *const
		*fuse_options; /* NULL-terminated: "allow_other", "nosuid"... passed to libfuse */
	const char *control;   /* value of user.s3cryptfs.control on the root; NULL: none */
	bool read_only;
	double ttl_s;     /* entry and attribute timeouts */
	double timeout_s; /* deadline of an operation */
	bool debug;       /* libfuse prints every request */
};

/*
 * What s3c_fuse_mount checks of the place before it mounts, for callers that want to know early:
 * source is not mounted there already, the folder is there and empty (unless nonempty), this
 * machine and this user can mount.
 */
int s3c_mountpoint_check(const char *mountpoint, const char *source, bool nonempty,
			 bool allow_other, struct s3c_err *err);

/* Is the topmost mount right there one of s3cryptfs? Looks into the table of mounts only. */
bool s3c_mountpoint_is_ours(const char *mountpoint);

struct s3c_fuse;
/* Mounts. A sentence for a missing, non-empty or busy mountpoint, no /dev/fuse, no permission. */
int s3c_fuse_mount(const struct s3c_fuse_config *config, struct s3c_err *err,
		   struct s3c_fuse **ret_fuse);
/*
 * Serves until unmount, SIGTERM, SIGINT or SIGHUP-less death of the connection; then commits what
 * is dirty. 0: everything reached the store; else the first error.
 */
int s3c_fuse_run(struct s3c_fuse *fuse);
/* Unmounts when still mounted, frees. NULL is legal. */
void s3c_fuse_free(struct s3c_fuse *fuse);
