/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * SOURCE of a mount or a command:
 *
 *	s3://BUCKET[/PREFIX]	BUCKET[:/PREFIX]	file:///DIR
 *
 * The forms of S3 mean the same; the second is fstab's. Nothing is decoded:
 * what stands there is the name.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct s3c_source {
	char *text;   /* as given */
	char *bucket; /* NULL: a folder */
	char *dir;    /* absolute, without trailing slashes; NULL: S3 */
	char *prefix; /* "" or ends in '/' */
};

/* A sentence for what is neither form. */
int s3c_source_parse(const char *text, struct s3c_err *err, struct s3c_source *ret_source);
void s3c_source_free(struct s3c_source *source);
#define cleanup_source __attribute__((cleanup(s3c_source_free)))

/*
 * The name of a source in local folders: 32 hexadecimal digits of SHA-256 over the store's
 * identity (endpoint and bucket, or the folder) and the prefix.
 */
int s3c_source_id(const char *identity, const char *prefix, char ret_id[static 33]);
