/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "plugin/mounter.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/process.h"
#include "base/secret.h"
#include "cli/control_wire.h"
#include "fuse/session.h"

#define OUTPUT_MAX 65536u

static bool is_mounted(const char *mountpoint)
{
	return s3c_mountpoint_is_ours(mountpoint);
}

static enum s3c_place look(const char *mountpoint)
{
	char control[PATH_MAX];

	if (!is_mounted(mountpoint))
		return S3C_PLACE_FREE;
	return s3c_control_find(mountpoint, control, sizeof(control)) == -ENOTCONN
		       ? S3C_PLACE_DEAD
		       : S3C_PLACE_ALIVE;
}

/* Without the program's name before its sentence: the plugin has one of its own. */
static int run(const char *program, char *const *argv, struct s3c_op *op, struct s3c_err *err)
{
	struct s3c_err said = { 0 };
	char *text = NULL;
	size_t len;
	int r = s3c_process_run_file(program, argv, OUTPUT_MAX, op, &said, &text, &len);
	const char *sentence = s3c_err_text(&said, r);
	const char *cause = strstr(sentence, ": ");

	s3c_secret_free(text);
	if (r == -EIO && cause) {
		cause += 2;
		if (!strncmp(cause, "s3cryptfs: ", 11))
			cause += 11;
		else if (!strncmp(cause, "umount.fuse.s3cryptfs: ", 23))
			cause += 23;
		sentence = cause;
	}
	return r < 0 ? s3c_err_set(err, r, "%s", sentence) : 0;
}

static bool lets_in(const struct s3c_plugin_volume *volume)
{
	const char *list = json_string_value(json_object_get(volume->options, "o"));

	return json_object_get(volume->options, "allow_root") ||
	       (list && strstr(list, "allow_root"));
}

static int mount_volume(const char *program, const struct s3c_plugin_volume *volume,
			const char *config, const char *mountpoint, struct s3c_op *op,
			struct s3c_err *err)
{
	const char *own = json_string_value(json_object_get(volume->options, "config"));
	const char *list = json_string_value(json_object_get(volume->options, "o"));
	cleanup_free char *own_option = s3c_plugin_volume_option("config", own ? own : "");
	cleanup_free char *option = s3c_plugin_volume_option("config", config);
	const char *argv[16] = { "s3cryptfs", volume->source, mountpoint };
	size_t n = 3;

	if (!own_option || !option)
		return -ENOMEM;
	if (mkdir(mountpoint, 0700) < 0 && errno != EEXIST)
		return s3c_err_set(err, -errno, "%s cannot be made: %s", mountpoint,
				   strerror(errno));
	if (!lets_in(volume)) { /* programs in a container run as anybody */
		argv[n++] = "-o";
		argv[n++] = "allow_other";
	}
	if (own) {
		argv[n++] = "-o";
		argv[n++] = own_option;
	}
	argv[n++] = "-o";
	argv[n++] = option;
	if (list) {
		argv[n++] = "-o";
		argv[n++] = list;
	}
	return run(program, (char *const *)argv, op, err);
}

static int unmount(const char *program, const char *mountpoint, bool lazy, struct s3c_op *op,
		   struct s3c_err *err)
{
	const char *argv[] = { "umount.fuse.s3cryptfs", mountpoint, lazy ? "-l" : NULL, NULL };

	return run(program, (char *const *)argv, op, err);
}

const struct s3c_mounter s3c_mounter = {
	.look = look,
	.is_mounted = is_mounted,
	.mount = mount_volume,
	.unmount = unmount,
};
