/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The shared credentials and configuration files: sections of name = value
 * lines.
 *
 *   file    = *( section / pair / nested / comment / blank line )
 *   section = "[" name "]"                       ; "profile NAME" in the config file
 *   pair    = name "=" value                     ; begins in the first column
 *   nested  = blank name "=" value               ; belongs to the pair before: "s3.name"
 *   comment = ( "#" / ";" ) text                 ; whole lines only, as botocore reads it
 *
 * Not inih: it cuts a line at 200 bytes unless variables of the whole process
 * are changed, and session tokens are longer. Names compare without case.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"

struct s3c_profile_item {
	char *section; /* "default", "profile x", ... with inner blanks squeezed */
	char *name;    /* "region", or "s3.endpoint_url" for a nested pair */
	char *value;
};
struct s3c_profile_file {
	struct s3c_profile_item *items;
	size_t count;
	size_t alloc;
};

/*
 * Reads a file; one that does not exist gives no items. -EINVAL with a sentence naming file and
 * line for text that is not of this form, other -errno when it cannot be read.
 */
int s3c_profile_read(const char *filename, struct s3c_err *err, struct s3c_profile_file *ret_file);
/* The same of a text with a NUL behind its len bytes, which are changed; filename is for errors. */
int s3c_profile_parse(char *text, size_t len, const char *filename, struct s3c_err *err,
		      struct s3c_profile_file *ret_file);
/* Adds a pair; strings are copied. */
int s3c_profile_add(struct s3c_profile_file *file, const char *section, const char *name,
		    const char *value);
/* Wipes the values. */
void s3c_profile_free(struct s3c_profile_file *file);
/* The last value, NULL when there is none or it is empty. Owned by file. */
const char *s3c_profile_get(const struct s3c_profile_file *file, const char *section,
			    const char *name);
#define cleanup_profile __attribute__((cleanup(s3c_profile_free)))
