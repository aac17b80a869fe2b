/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * mount -o remount: makes a mount that is there read-only or writable, in the kernel and in its
 * daemon. The kernel refuses while files are open for writing, so it goes first on the way to ro,
 * and last on the way back. To ro waits for the store, as the kernel's own filesystems wait for
 * their disk.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/util.h"
#include "cli/cli.h"
#include "cli/control_ask.h"
#include "cli/options.h"
#include "cli/remount.h"
#include "fuse/session.h"

#define FIND_S 20

static int connect_daemon(const char *mountpoint, struct s3c_err *err, int *ret_fd)
{
	char path[PATH_MAX];
	int r = s3c_control_find_within(mountpoint, FIND_S, path, sizeof(path));

	if (r == 0)
		r = s3c_control_connect(path, ret_fd);
	if (r < 0)
		return s3c_err_set(
			err, r, "the process of the mount on %s cannot be asked: %s", mountpoint,
			r == -ENOTCONN                  ? "it has died; unmount it and mount again"
			: r == -ENODATA || r == -EACCES ? "it answers its user and root only"
							: strerror(-r));
	return 0;
}

/* The daemon's part. A sentence of its own when it refuses. */
static int tell_daemon(int fd, bool read_only, struct s3c_err *err)
{
	json_t *request = json_pack("{s:s, s:b}", "command", "remount", "read_only", read_only);
	const char *why;
	json_t *answer = NULL;
	int r = s3c_control_ask(fd, request, INT64_MAX, NULL, &answer);

	if (r < 0) {
		s3c_err_set(err, r, "the process of the mount did not answer: %s", strerror(-r));
	} else if (!json_is_true(json_object_get(answer, "ok"))) {
		why = json_string_value(json_object_get(answer, "error"));
		r = s3c_err_set(err, -EROFS, "%s", why ? why : "the process of the mount refuses");
	}
	json_decref(request);
	json_decref(answer);
	return r;
}

/* What was written before reaches the store, or it is said that it has not yet. */
static void await_store(int fd, const char *mountpoint)
{
	json_t *request = json_pack("{s:s}", "command", "sync"), *answer = NULL;
	struct s3c_progress progress;
	const char *why;
	int r;

	s3c_progress_begin(&progress);
	r = s3c_control_ask(fd, request, INT64_MAX, &progress, &answer);
	s3c_progress_end(&progress);
	if (r < 0 || !json_is_true(json_object_get(answer, "ok"))) {
		why = json_string_value(json_object_get(answer, "error"));
		fprintf(stderr,
			"s3cryptfs: warning: %s is read-only, but the store does not have all of "
			"it yet (%s); s3cryptfsctl status %s tells what\n",
			mountpoint, why ? why : strerror(-r), mountpoint);
	}
	json_decref(request);
	json_decref(answer);
}

static int remount(const struct s3c_options *options, const char *mountpoint, struct s3c_err *err)
{
	cleanup_close int fd = -1;
	int r;

	if (!s3c_mountpoint_is_ours(mountpoint))
		return s3c_err_set(err, -EINVAL, "nothing of s3cryptfs is mounted on %s",
				   mountpoint);
	if (geteuid() != 0)
		return s3c_err_set(err, -EPERM, "%s cannot be remounted: only root can",
				   mountpoint);
	r = connect_daemon(mountpoint, err, &fd);
	if (r == 0 && !options->read_only)
		r = tell_daemon(fd, false, err);
	if (r < 0)
		return s3c_err_prefix(err, r, "%s cannot be remounted", mountpoint);
	r = s3c_mountpoint_remount(mountpoint, options->read_only, options->nosymfollow,
				   (const char *const *)options->fuse, err);
	if (r < 0 || !options->read_only)
		return r;
	await_store(fd, mountpoint);
	return tell_daemon(fd, true, err);
}

int s3c_cli_remount(const struct s3c_options *options, const char *mountpoint)
{
	cleanup_free char *path = realpath(mountpoint, NULL);
	struct s3c_err err = { 0 };
	int r;

	signal(SIGPIPE, SIG_IGN);
	r = path ? remount(options, path, &err)
		 : s3c_err_set(&err, -errno, "mountpoint %s: %s", mountpoint, strerror(errno));
	if (r == 0)
		return S3C_EXIT_OK;
	fprintf(stderr, "s3cryptfs: %s\n", s3c_err_text(&err, r));
	return S3C_EXIT_FAILED;
}
