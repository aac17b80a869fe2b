/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "http/error.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "http/xml.h"

static void copy(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from);
}

struct xml_state {
	struct s3c_http_error *error;
	bool only_root;
	bool is_error;
};

static int on_open(void *arg, const char *path)
{
	struct xml_state *state = arg;

	if (strchr(path, '/') == NULL)
		state->is_error = strcmp(path, "Error") == 0;
	return state->only_root ? -ECANCELED : 0;
}

static int on_close(void *arg, const char *path, const char *text, size_t len)
{
	struct xml_state *state = arg;
	struct s3c_http_error *error = state->error;
	const struct {
		const char *name;
		char *to;
		size_t size;
	} fields[] = {
		{ "Code", error->code, sizeof(error->code) },
		{ "Message", error->message, sizeof(error->message) },
		{ "RequestId", error->request_id, sizeof(error->request_id) },
		{ "Region", error->region, sizeof(error->region) },
		{ "Endpoint", error->endpoint, sizeof(error->endpoint) },
		{ "ServerTime", error->server_time, sizeof(error->server_time) },
	};
	const char *name;

	(void)len;
	/* S3: Error/Code; STS: ErrorResponse/Error/Code and ErrorResponse/RequestId. */
	if (strncmp(path, "ErrorResponse/Error/", 20) == 0)
		name = path + 20;
	else if (strncmp(path, "ErrorResponse/", 14) == 0)
		name = path + 14;
	else if (strncmp(path, "Error/", 6) == 0)
		name = path + 6;
	else
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (strcmp(name, fields[i].name) == 0)
			copy(fields[i].to, fields[i].size, text);
	return 0;
}

static void parse_json(const char *body, size_t len, struct s3c_http_error *error)
{
	json_t *root = json_loadb(body, len, 0, NULL);
	const char *type = json_string_value(json_object_get(root, "__type"));
	const char *message = json_string_value(json_object_get(root, "message"));
	const char *hash;

	if (message == NULL)
		message = json_string_value(json_object_get(root, "Message"));
	if (type != NULL) {
		hash = strchr(type, '#');
		copy(error->code, sizeof(error->code), hash != NULL ? hash + 1 : type);
	}
	if (message != NULL)
		copy(error->message, sizeof(error->message), message);
	json_decref(root);
}

static char first_char(const char *body, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (body[i] != ' ' && body[i] != '\t' && body[i] != '\r' && body[i] != '\n')
			return body[i];
	return '\0';
}

void s3c_http_error_parse(const char *body, size_t len, struct s3c_http_error *ret_error)
{
	struct xml_state state = { .error = ret_error };
	const struct s3c_xml_handler handler = { on_open, on_close, &state };

	*ret_error = (struct s3c_http_error){ 0 };
	switch (first_char(body, len)) {
	case '<':
	case '\xef': /* a byte order mark */
		/* What was read before the text broke off counts. */
		(void)s3c_xml_parse(body, len, &handler);
		break;
	case '{':
		parse_json(body, len, ret_error);
		break;
	default:
		break;
	}
}

bool s3c_http_error_is_error(const char *body, size_t len)
{
	struct xml_state state = { .only_root = true };
	const struct s3c_xml_handler handler = { on_open, NULL, &state };

	if (first_char(body, len) == '\0')
		return false;
	(void)s3c_xml_parse(body, len, &handler);
	return state.is_error;
}

int s3c_http_parse_time(const char *text, int64_t *ret_seconds)
{
	static const char *const formats[] = { "%Y-%m-%dT%H:%M:%S", "%Y%m%dT%H%M%S" };
	time_t seconds;

	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		struct tm tm = { 0 };
		const char *end = strptime(text, formats[i], &tm);

		if (end == NULL)
			continue;
		if (*end == '.')
			end += 1 + strspn(end + 1, "0123456789");
		if (strcmp(end, "Z") != 0)
			return -EINVAL;
		*ret_seconds = timegm(&tm);
		return 0;
	}
	/* curl's reader of HTTP dates does not depend on the locale. */
	seconds = curl_getdate(text, NULL);
	if (seconds == -1)
		return -EINVAL;
	*ret_seconds = seconds;
	return 0;
}
