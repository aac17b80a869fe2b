/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A volume: what is mounted, how, and who uses it. Each is one file, DIR/NAME.json (0600), which
 * is replaced as a whole and synced:
 *
 *	{"version": 1, "source": SOURCE, "options": {NAME: VALUE}, "created": SECONDS,
 *	 "boot": ID OF THE BOOT, "users": [ID...]}
 *
 * Options are mount options, "" for those without a value; "o" is a list of them as after -o.
 * Secrets are no options: whatever could be one is refused when the volume is made. Users of
 * another boot count no more, as nothing of theirs runs. Not shared between threads by itself.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct s3c_plugin_volume {
	char *name, *source;
	json_t *options; /* an object of strings, without source */
	int64_t created_s;
	json_t *users; /* an array of strings, none twice */
};

/*
 * From the options of a request, which are checked by the parser of the mount: source= and mount
 * options. A sentence for what is wrong.
 */
int s3c_plugin_volume_new(const char *name, const json_t *options, struct s3c_err *err,
			  struct s3c_plugin_volume **ret_volume);
void s3c_plugin_volume_free(struct s3c_plugin_volume *volume);

/* Same source and options? */
bool s3c_plugin_volume_is_same(const struct s3c_plugin_volume *a,
			       const struct s3c_plugin_volume *b);

size_t s3c_plugin_volume_users(const struct s3c_plugin_volume *volume);
bool s3c_plugin_volume_has_user(const struct s3c_plugin_volume *volume, const char *id);
int s3c_plugin_volume_add_user(struct s3c_plugin_volume *volume, const char *id);
void s3c_plugin_volume_drop_user(struct s3c_plugin_volume *volume, const char *id);

/* name has been checked. -EBADMSG with a sentence: the file is damaged or of a newer version. */
int s3c_plugin_volume_load(const char *dir, const char *name, struct s3c_err *err,
			   struct s3c_plugin_volume **ret_volume);
int s3c_plugin_volume_save(const char *dir, const struct s3c_plugin_volume *volume,
			   struct s3c_err *err);
/* Is there such a file, readable or not? */
bool s3c_plugin_volume_exists(const char *dir, const char *name);
int s3c_plugin_volume_erase(const char *dir, const char *name, struct s3c_err *err);

/*
 * Writes the options to DIR/NAME.conf (0600), which config= names, but for those that cannot stand
 * in such a file: "config" and "o". The caller frees ret_path.
 */
int s3c_plugin_volume_write_config(const char *dir, const struct s3c_plugin_volume *volume,
				   struct s3c_err *err, char **ret_path);
/* One option as -o takes it, its value ("": none) escaped; the caller frees. NULL: no memory. */
char *s3c_plugin_volume_option(const char *name, const char *value);
