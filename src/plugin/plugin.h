/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The plugin: volumes, who uses them, and answers to requests.
 *
 *	STATE/lock		held as long as a plugin runs on STATE
 *	STATE/volumes/NAME.json	see volume.h;  NAME.conf: options for the mount
 *	STATE/mounts/NAME	where it is mounted
 *
 * A volume is mounted before its first user is written down, and unmounted after its last one was
 * struck out: whatever a crash leaves is told apart by the table of mounts, which is asked each
 * time and never remembered. So a plugin that is started again goes on: see
 * s3c_plugin_reconcile.
 *
 * Any thread may call; calls for one volume go one after the other, those for others beside them.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "plugin/mounter.h"

struct s3c_plugin;

struct s3c_plugin_config {
	const char *state_dir; /* absolute */
	const char *program;   /* s3cryptfs, its path or a name that PATH finds */
	double wait_s;         /* how long an unmount waits for uploads; 0: without end */
	const struct s3c_mounter *mounter;
};

/* Who asks: has he gone? NULL: he waits. */
struct s3c_plugin_client {
	bool (*gone)(void *arg);
	void *arg;
};

/* Makes the folders, takes the lock, reads the volumes; borrows config's strings. */
int s3c_plugin_open(const struct s3c_plugin_config *config, struct s3c_err *err,
		    struct s3c_plugin **ret_plugin);
/*
 * Brings mounts in line with what is written down: those with users are mounted, again where their
 * process has died; those without are unmounted. What fails is logged. Waits for the mounts.
 */
void s3c_plugin_reconcile(struct s3c_plugin *plugin);
/* Ends the waiting of all calls, present and later. Mounts stay. */
void s3c_plugin_stop(struct s3c_plugin *plugin);
/* After the last call has returned. NULL is legal. */
void s3c_plugin_close(struct s3c_plugin *plugin);

/*
 * ret_answer is set in any case, unless there is no memory: of an error {"Err": SENTENCE}. 0,
 * -ENOENT (no such request), -EINVAL, -EMSGSIZE (malformed), or another error of the operation. A
 * mount for a client that has gone is undone: nobody would ever unmount it.
 */
int s3c_plugin_answer(struct s3c_plugin *plugin, const char *path, const char *body, size_t len,
		      const struct s3c_plugin_client *client, json_t **ret_answer);
