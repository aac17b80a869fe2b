/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Lists of headers, and what a reply owns. */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/secret.h"
#include "http/http.h"

int s3c_http_headers_add(struct s3c_http_headers *headers, const char *name, const char *value)
{
	cleanup_free char *n = NULL;
	cleanup_free char *v = NULL;

	/* The capacity is the next power of two, at least 4: no field is needed for it. */
	if (headers->count == 0 ||
	    (headers->count >= 4 && (headers->count & (headers->count - 1)) == 0)) {
		size_t capacity = headers->count == 0 ? 4 : headers->count * 2;
		struct s3c_http_header *items;

		items = reallocarray(headers->items, capacity, sizeof(*items));
		if (items == NULL)
			return -ENOMEM;
		headers->items = items;
	}
	n = strdup(name);
	v = strdup(value);
	if (n == NULL || v == NULL)
		return -ENOMEM;
	headers->items[headers->count].name = steal_ptr(n);
	headers->items[headers->count].value = steal_ptr(v);
	headers->count++;
	return 0;
}

const char *s3c_http_headers_get(const struct s3c_http_headers *headers, const char *name)
{
	for (size_t i = 0; i < headers->count; i++)
		if (strcasecmp(headers->items[i].name, name) == 0)
			return headers->items[i].value;
	return NULL;
}

void s3c_http_headers_free(struct s3c_http_headers *headers)
{
	for (size_t i = 0; i < headers->count; i++) {
		free(headers->items[i].name);
		s3c_wipe(headers->items[i].value, strlen(headers->items[i].value));
		free(headers->items[i].value);
	}
	free(headers->items);
	*headers = (struct s3c_http_headers){ 0 };
}

void s3c_http_reply_free(struct s3c_http_reply *reply)
{
	s3c_http_headers_free(&reply->headers);
	s3c_buf_free_secret(&reply->body);
	*reply = (struct s3c_http_reply){ 0 };
}
