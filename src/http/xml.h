/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Reading S3's XML replies with expat: a bounded event interface, no tree.
 * Namespaces are dropped. DTDs and entities other than the five are refused.
 */
#pragma once

#include <stddef.h>

struct s3c_xml_handler {
	/* path: names from the root joined with '/', e.g. "ListBucketResult/Contents". < 0 stops.
	 */
	int (*open)(void *arg, const char *path);
	/* The element's own text (may be ""), NUL-terminated, len bytes. */
	int (*close)(void *arg, const char *path, const char *text, size_t len);
	void *arg;
};

/* 0, what a handler returned, -EBADMSG for text that is not well-formed, -EMSGSIZE for depth or
 * text past bounds. */
int s3c_xml_parse(const char *text, size_t len, const struct s3c_xml_handler *handler);
/* The same; what the parser copies of the text is wiped before it is freed. */
int s3c_xml_parse_secret(const char *text, size_t len, const struct s3c_xml_handler *handler);
