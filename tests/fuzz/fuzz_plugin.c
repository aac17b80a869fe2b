/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* A request to the volume plugin: a line with its path, then its body. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "plugin/request.h"
#include "plugin/volume.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct s3c_plugin_request *request)
{
	struct s3c_plugin_volume *volume;
	struct s3c_err err = { 0 };

	assert(request->verb < S3C_PLUGIN_VERBS);
	assert(!request->name || (s3c_plugin_name_is_good(request->name) &&
				  !strpbrk(request->name, "/\n") && request->name[0] != '.'));
	assert(!request->id || (request->id[0] && s3c_plugin_text_is_plain(request->id)));
	assert((request->verb == S3C_PLUGIN_CREATE) == json_is_object(request->options));
	if (!request->options)
		return;
	/* A file that it names would be read. */
	json_object_del(request->options, "config");
	if (strstr(json_string_value(json_object_get(request->options, "o"))
			   ? json_string_value(json_object_get(request->options, "o"))
			   : "",
		   "config"))
		return;
	if (s3c_plugin_volume_new(request->name, request->options, &err, &volume) == 0) {
		assert(volume->source[0] && s3c_plugin_text_is_plain(volume->source));
		s3c_plugin_volume_free(volume);
	} else {
		assert(!strchr(err.text, '\n'));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s3c_plugin_request request;
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	char path[256];
	size_t len;
	int r;

	if (!end || (size_t)(end - data) >= sizeof(path))
		return 0;
	len = (size_t)(end - data);
	memcpy(path, data, len);
	path[len] = '\0';
	r = s3c_plugin_request_parse(path, (const char *)end + 1, size - len - 1, NULL, &request);
	assert(r == 0 || r == -ENOENT || r == -EINVAL || r == -EMSGSIZE || r == -ENOMEM);
	if (r == 0) {
		check(&request);
		s3c_plugin_request_free(&request);
	}
	return 0;
}
