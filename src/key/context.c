/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "key/context.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/util.h"

#define CONTEXT_MAX 8192u /* of KMS; the JSON of S3's header */

static int add_pair(json_t *object, char *pair, struct s3c_err *err)
{
	/* s3cryptfs-key-id is the ARN's place beside the pairs: one that is given would be lost
	 * there, and without it the KMS opens nothing. */
	static const char *const reserved[] = { "s3cryptfs:", "s3cryptfs-key-id", "aws:" };
	char *value = strchr(pair, '=');

	if (!value || value == pair)
		return s3c_err_set(err, -EINVAL,
				   "kms_context wants NAME=VALUE;NAME=VALUE, not '%s'", pair);
	*value++ = '\0';
	for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
		if (strncmp(pair, reserved[i], strlen(reserved[i])) == 0)
			return s3c_err_set(err, -EINVAL,
					   "kms_context: names that begin with '%s' are taken: use "
					   "another instead of '%s'",
					   reserved[i], pair);
	if (json_object_get(object, pair))
		return s3c_err_set(err, -EINVAL, "kms_context names '%s' twice", pair);
	if (json_object_set_new(object, pair, json_string(value)) < 0)
		return s3c_err_set(err, -EINVAL, "kms_context: '%s' is not UTF-8", pair);
	return 0;
}

int s3c_kms_context_parse(const char *text, struct s3c_err *err, char **ret_json)
{
	cleanup_free char *copy = strdup(text);
	json_t *object = json_object();
	char *rest = copy, *json = NULL;
	int r = copy && object ? 0 : -ENOMEM;

	for (char *pair; r == 0 && (pair = strsep(&rest, ";"));)
		r = add_pair(object, pair, err);
	if (r == 0) {
		json = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
		r = json ? 0 : -ENOMEM;
	}
	json_decref(object);
	if (r == 0 && strlen(json) > CONTEXT_MAX) {
		free(json);
		return s3c_err_set(err, -E2BIG, "kms_context is longer than %u bytes", CONTEXT_MAX);
	}
	if (r == 0)
		*ret_json = json;
	return r;
}
