/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What is done to a mountpoint: by the program s3cryptfs, whose process lives on when the plugin
 * ends. A table of functions, so that the counting can be tested without mounts. Any thread.
 */
#pragma once

#include "base/err.h"
#include "base/thread.h"
#include "plugin/volume.h"

enum s3c_place {
	S3C_PLACE_FREE,
	S3C_PLACE_ALIVE, /* ours, and its process answers */
	S3C_PLACE_DEAD,  /* ours, and its process has died */
};

struct s3c_mounter {
	/* Asks the process of the mount, if there is one. */
	enum s3c_place (*look)(const char *mountpoint);
	/* Is ours, alive or not? Waits for nobody. */
	bool (*is_mounted)(const char *mountpoint);
	/* Makes the folder when needed; config: a file with options. Waits until it is mounted. */
	int (*mount)(const char *program, const struct s3c_plugin_volume *volume,
		     const char *config, const char *mountpoint, struct s3c_op *op,
		     struct s3c_err *err);
	/*
	 * Waits until the store has what was left, and the process has ended, as long as op allows:
	 * -ETIMEDOUT, -EINTR then, and it goes on by itself. lazy: only detaches.
	 */
	int (*unmount)(const char *program, const char *mountpoint, bool lazy, struct s3c_op *op,
		       struct s3c_err *err);
};

/* Real mounts. */
extern const struct s3c_mounter s3c_mounter;
