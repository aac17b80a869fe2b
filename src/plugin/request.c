/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "plugin/request.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

static const struct verb {
	const char *path;
	enum s3c_plugin_verb verb;
	bool name, id, options;
} verbs[] = {
	{ "/Plugin.Activate", S3C_PLUGIN_ACTIVATE, false, false, false },
	{ "/VolumeDriver.Capabilities", S3C_PLUGIN_CAPABILITIES, false, false, false },
	{ "/VolumeDriver.List", S3C_PLUGIN_LIST, false, false, false },
	{ "/VolumeDriver.Get", S3C_PLUGIN_GET, true, false, false },
	{ "/VolumeDriver.Path", S3C_PLUGIN_PATH, true, false, false },
	{ "/VolumeDriver.Create", S3C_PLUGIN_CREATE, true, false, true },
	{ "/VolumeDriver.Remove", S3C_PLUGIN_REMOVE, true, false, false },
	{ "/VolumeDriver.Mount", S3C_PLUGIN_MOUNT, true, true, false },
	{ "/VolumeDriver.Unmount", S3C_PLUGIN_UNMOUNT, true, true, false },
};

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool s3c_plugin_name_is_good(const char *name)
{
	size_t len = strlen(name);

	if (!is_alnum(name[0]) || len > S3C_PLUGIN_NAME_MAX)
		return false;
	for (size_t i = 1; i < len; i++)
		if (!is_alnum(name[i]) && !strchr("_.-", name[i]))
			return false;
	return true;
}

bool s3c_plugin_text_is_plain(const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

static int take_name(const json_t *body, char **ret_name, struct s3c_err *err)
{
	const char *name = json_string_value(json_object_get(body, "Name"));

	if (!name || !s3c_plugin_name_is_good(name))
		return s3c_err_set(err, -EINVAL,
				   "a volume needs a name of letters, digits, '_', '.' and '-', "
				   "with a letter or digit first and %u at most",
				   S3C_PLUGIN_NAME_MAX);
	*ret_name = strdup(name);
	return *ret_name ? 0 : -ENOMEM;
}

static int take_id(const json_t *body, char **ret_id, struct s3c_err *err)
{
	const char *id = json_string_value(json_object_get(body, "ID"));

	if (!id || !id[0] || strlen(id) > S3C_PLUGIN_ID_MAX || !s3c_plugin_text_is_plain(id))
		return s3c_err_set(err, -EINVAL,
				   "the request has no ID that tells who mounts: 1 to %u bytes",
				   S3C_PLUGIN_ID_MAX);
	*ret_id = strdup(id);
	return *ret_id ? 0 : -ENOMEM;
}

static int take_options(json_t *body, json_t **ret_options, struct s3c_err *err)
{
	json_t *options = json_object_get(body, "Opts"), *value;
	const char *key;

	if (!options || json_is_null(options)) {
		*ret_options = json_object();
		return *ret_options ? 0 : -ENOMEM;
	}
	if (!json_is_object(options))
		return s3c_err_set(err, -EINVAL, "Opts of the request is no object");
	if (json_object_size(options) > S3C_PLUGIN_OPTIONS_MAX)
		return s3c_err_set(err, -EINVAL, "a volume has %u options at most",
				   S3C_PLUGIN_OPTIONS_MAX);
	json_object_foreach(options, key, value)
	{
		if (!json_is_string(value) || !s3c_plugin_text_is_plain(key) ||
		    !s3c_plugin_text_is_plain(json_string_value(value)))
			return s3c_err_set(err, -EINVAL,
					   "the options of a volume are words and values of one "
					   "line, without control characters");
	}
	*ret_options = json_incref(options);
	return 0;
}

/* An object, also for what says nothing at all where nothing is needed. */
static int load(const char *text, size_t len, bool needed, struct s3c_err *err, json_t **ret_body)
{
	json_error_t error;
	json_t *body;

	if (len > S3C_PLUGIN_BODY_MAX)
		return s3c_err_set(err, -EMSGSIZE, "the request is larger than %u bytes",
				   S3C_PLUGIN_BODY_MAX);
	body = len ? json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error) : NULL;
	if (!needed && (!len || json_is_null(body))) {
		json_decref(body);
		body = json_object();
		if (!body)
			return -ENOMEM;
	}
	if (!json_is_object(body)) {
		json_decref(body);
		return s3c_err_set(err, -EINVAL, "the request is no JSON object");
	}
	*ret_body = body;
	return 0;
}

int s3c_plugin_request_parse(const char *path, const char *text, size_t len, struct s3c_err *err,
			     struct s3c_plugin_request *ret_request)
{
	cleanup_plugin_request struct s3c_plugin_request request = { 0 };
	const struct verb *verb = NULL;
	json_t *body = NULL;
	int r;

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (!strcmp(verbs[i].path, path))
			verb = &verbs[i];
	if (!verb)
		return s3c_err_set(err, -ENOENT, "this plugin serves volumes: there is no %.64s",
				   s3c_plugin_text_is_plain(path) ? path : "such request");
	request.verb = verb->verb;
	request.verb_name = verb->path + 1;
	r = load(text, len, verb->name, err, &body);
	if (r == 0 && verb->name)
		r = take_name(body, &request.name, err);
	if (r == 0 && verb->id)
		r = take_id(body, &request.id, err);
	if (r == 0 && verb->options)
		r = take_options(body, &request.options, err);
	json_decref(body);
	if (r < 0)
		return r;
	*ret_request = request;
	memset(&request, 0, sizeof(request));
	return 0;
}

void s3c_plugin_request_free(struct s3c_plugin_request *request)
{
	free(request->name);
	free(request->id);
	json_decref(request->options);
	memset(request, 0, sizeof(*request));
}
