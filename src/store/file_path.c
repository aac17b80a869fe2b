/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * How a key becomes a path and back.
 *
 * A key is cut at '/' into components; each is a name of the file system as it is, unless
 *   - it is "", "." or "..", begins with "%-", "%+" or "%=", or is one of the store's own names at
 *     the top: then it is "%-" and the component ("a/" is the file a/%-, "a//b" is a/%-/b);
 *   - it is longer than NAME_BYTES: then it is a chain of folders, "%+" and PIECE_BYTES of it each,
 *     that ends in "%-" and the rest.
 * This is a function of the key alone, and reversible. One thing depends on what else there is:
 * "a" and "a/b" may both be objects. A folder keeps the name; the object whose name is taken by a
 * folder is found under "%=" and the component (for the last of a chain: "%=" and the rest). An
 * object that was moved so stays where it is until it is deleted, so that never both names are
 * objects, and whoever looks at the plain name first and at the other one second finds it.
 */
#include "store/file_private.h"

#include <errno.h>
#include <string.h>

#define NAME_BYTES 252 /* with its escape it has to fit 255 */
#define PIECE_BYTES 200

static bool is_escape(const char *name, size_t len)
{
	return len >= 2 && name[0] == '%' && (name[1] == '-' || name[1] == '+' || name[1] == '=');
}

static bool equals(const char *name, size_t len, const char *text)
{
	return len == strlen(text) && memcmp(name, text, len) == 0;
}

static bool needs_escape(const char *name, size_t len, bool at_top)
{
	if (!len || equals(name, len, ".") || equals(name, len, "..") || is_escape(name, len))
		return true;
	return at_top && (equals(name, len, S3C_FILE_TMP) || equals(name, len, S3C_FILE_META));
}

static int put(char *path, size_t *len, const char *data, size_t data_len)
{
	if (data_len >= S3C_FILE_PATH_MAX - *len)
		return -ENAMETOOLONG;
	memcpy(path + *len, data, data_len);
	*len += data_len;
	path[*len] = '\0';
	return 0;
}

static int put_component(char *path, size_t *len, const char *name, size_t name_len, bool at_top)
{
	bool escape = needs_escape(name, name_len, at_top);
	int r;

	if (name_len > NAME_BYTES) {
		escape = true;
		for (; name_len > NAME_BYTES; name += PIECE_BYTES, name_len -= PIECE_BYTES) {
			r = put(path, len, "%+", 2);
			if (r == 0)
				r = put(path, len, name, PIECE_BYTES);
			if (r == 0)
				r = put(path, len, "/", 1);
			if (r < 0)
				return r;
		}
	}
	r = escape ? put(path, len, "%-", 2) : 0;
	return r < 0 ? r : put(path, len, name, name_len);
}

int s3c_file_path(const char *key, char ret_path[static S3C_FILE_PATH_MAX])
{
	const char *component = key;
	size_t len = 0;
	int r;

	ret_path[0] = '\0';
	for (;;) {
		const char *end = strchrnul(component, '/');

		r = put_component(ret_path, &len, component, (size_t)(end - component),
				  component == key);
		if (r < 0 || !*end)
			return r;
		r = put(ret_path, &len, "/", 1);
		if (r < 0)
			return r;
		component = end + 1;
	}
}

int s3c_file_path_clash(const char *path, char ret_path[static S3C_FILE_PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	size_t len = 0;
	int r;

	ret_path[0] = '\0';
	r = put(ret_path, &len, path, (size_t)(name - path));
	if (r == 0)
		r = put(ret_path, &len, "%=", 2);
	if (strncmp(name, "%-", 2) == 0)
		name += 2;
	return r < 0 ? r : put(ret_path, &len, name, strlen(name));
}

enum s3c_file_name_kind s3c_file_name_decode(const char *name, bool is_dir,
					     enum s3c_file_place place, const char **ret_name)
{
	bool at_top = place == S3C_FILE_AT_TOP;
	bool in_piece = place == S3C_FILE_IN_PIECE;
	size_t len = strlen(name);
	bool good;

	if (!is_escape(name, len)) {
		*ret_name = name;
		good = !in_piece && len <= NAME_BYTES && !needs_escape(name, len, at_top);
		return good ? S3C_FILE_NAME_WHOLE : S3C_FILE_NAME_FOREIGN;
	}
	*ret_name = name + 2;
	len -= 2;
	if (name[1] == '+')
		return is_dir && len == PIECE_BYTES ? S3C_FILE_NAME_PIECE : S3C_FILE_NAME_FOREIGN;
	/* What is left of a long component is never shorter: else it would have been one name. */
	good = len <= NAME_BYTES && (!in_piece || len > NAME_BYTES - PIECE_BYTES);
	if (name[1] == '=')
		good = good && !is_dir;
	else
		good = good && (in_piece || needs_escape(name + 2, len, at_top));
	return good ? S3C_FILE_NAME_WHOLE : S3C_FILE_NAME_FOREIGN;
}
