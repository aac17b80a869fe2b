/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Requests of Docker's protocol for volume plugins: POST /VERB with a JSON object.
 *
 *	/Plugin.Activate  /VolumeDriver.Capabilities  /VolumeDriver.List	nothing
 *	/VolumeDriver.Get  .Path  .Remove	Name
 *	/VolumeDriver.Create			Name, Opts (an object of strings)
 *	/VolumeDriver.Mount  .Unmount		Name, ID
 *
 * Members that are not known are skipped. Names become names of files and of folders, which is
 * why they are checked here. No state; any thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define S3C_PLUGIN_BODY_MAX 65536u /* bytes of a request */
#define S3C_PLUGIN_NAME_MAX 128u   /* bytes of a volume's name */
#define S3C_PLUGIN_ID_MAX 256u     /* bytes of an ID of a mount */
#define S3C_PLUGIN_OPTIONS_MAX 128u

enum s3c_plugin_verb {
	S3C_PLUGIN_ACTIVATE,
	S3C_PLUGIN_CAPABILITIES,
	S3C_PLUGIN_LIST,
	S3C_PLUGIN_GET,
	S3C_PLUGIN_PATH,
	S3C_PLUGIN_CREATE,
	S3C_PLUGIN_REMOVE,
	S3C_PLUGIN_MOUNT,
	S3C_PLUGIN_UNMOUNT,
	S3C_PLUGIN_VERBS, /* how many */
};

struct s3c_plugin_request {
	enum s3c_plugin_verb verb;
	const char *verb_name; /* for the log; static */
	char *name, *id;       /* NULL where the verb has none */
	json_t *options;       /* Create: an object, its values are strings without control bytes */
};

/* -ENOENT: no such verb; -EINVAL with a sentence: not what the verb wants. */
int s3c_plugin_request_parse(const char *path, const char *body, size_t len, struct s3c_err *err,
			     struct s3c_plugin_request *ret_request);
void s3c_plugin_request_free(struct s3c_plugin_request *request);
#define cleanup_plugin_request __attribute__((cleanup(s3c_plugin_request_free)))

/* A letter or digit, then also '_', '.', '-'; S3C_PLUGIN_NAME_MAX bytes at most. */
bool s3c_plugin_name_is_good(const char *name);
/* No byte below a blank, no DEL: it can stand in a line of a file. */
bool s3c_plugin_text_is_plain(const char *text);
