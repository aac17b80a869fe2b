/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "cli/source.h"

#include <errno.h>
#include <string.h>

#include "base/crypto.h"
#include "base/encode.h"
#include "base/util.h"

#define BUCKET_MIN 3 /* S3's limits */
#define BUCKET_MAX 63
#define PREFIX_MAX 512 /* half of what a key may have: the rest is for paths */

/* Wider than today's rules of S3, since older buckets and other servers have capitals and '_'. */
static int check_bucket(const char *name, size_t len, const char *text, struct s3c_err *err)
{
	bool good = len >= BUCKET_MIN && len <= BUCKET_MAX && name[0] != '.' && name[0] != '-';

	for (size_t i = 0; good && i < len; i++)
		good = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
		       (name[i] >= '0' && name[i] <= '9') || strchr("._-", name[i]);
	if (good)
		return 0;
	return s3c_err_set(err, -EINVAL,
			   "'%s' names no bucket: write s3://BUCKET[/PREFIX], BUCKET[:/PREFIX] or "
			   "file:///DIR",
			   text);
}

static int check_prefix(const char *prefix, struct s3c_err *err)
{
	const char *part = prefix;

	if (strlen(prefix) > PREFIX_MAX)
		return s3c_err_set(err, -ENAMETOOLONG, "the prefix is longer than %d bytes",
				   PREFIX_MAX);
	for (const char *p = prefix; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return s3c_err_set(err, -EINVAL, "the prefix holds a control character");
	while (*part) {
		size_t len = strcspn(part, "/");

		if (len == 0 || (len == 1 && part[0] == '.') ||
		    (len == 2 && part[0] == '.' && part[1] == '.'))
			return s3c_err_set(
				err, -EINVAL,
				"the prefix '%s' has an empty part, '.' or '..', which no "
				"path can name",
				prefix);
		if (len == 10 && !strncmp(part, ".s3cryptfs", len))
			return s3c_err_set(
				err, -EINVAL,
				"the prefix lies in .s3cryptfs, which belongs to s3cryptfs "
				"itself");
		part += len;
		part += *part == '/';
	}
	return 0;
}

/* rest begins after the bucket's separator and may have slashes at both ends. */
static int set_prefix(struct s3c_source *source, const char *rest, struct s3c_err *err)
{
	size_t len;

	while (*rest == '/')
		rest++;
	len = strlen(rest);
	while (len && rest[len - 1] == '/')
		len--;
	source->prefix = len ? s3c_asprintf("%.*s/", (int)len, rest) : strdup("");
	if (!source->prefix)
		return -ENOMEM;
	return check_prefix(source->prefix, err);
}

static int parse_bucket(struct s3c_source *source, const char *name, const char *separators,
			struct s3c_err *err)
{
	size_t len = strcspn(name, separators);
	const char *rest = name + len;
	int r = check_bucket(name, len, source->text, err);

	if (r < 0)
		return r;
	if (*rest == ':' && rest[1] != '/' && rest[1])
		return s3c_err_set(err, -EINVAL, "'%s': the prefix begins with a slash: %.*s:/%s",
				   source->text, (int)len, name, rest + 1);
	source->bucket = strndup(name, len);
	if (!source->bucket)
		return -ENOMEM;
	return set_prefix(source, *rest ? rest + 1 : rest, err);
}

static int parse_dir(struct s3c_source *source, const char *path, struct s3c_err *err)
{
	size_t len = strlen(path);

	if (path[0] != '/')
		return s3c_err_set(err, -EINVAL,
				   "'%s': the folder has to be absolute, with three slashes: "
				   "file:///DIR",
				   source->text);
	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len == 1)
		return s3c_err_set(err, -EINVAL, "'%s': the root folder cannot be a store",
				   source->text);
	source->dir = strndup(path, len);
	source->prefix = strdup("");
	return source->dir && source->prefix ? 0 : -ENOMEM;
}

int s3c_source_parse(const char *text, struct s3c_err *err, struct s3c_source *ret_source)
{
	cleanup_source struct s3c_source source = { 0 };
	int r;

	source.text = strdup(text);
	if (!source.text)
		return -ENOMEM;
	if (!strncmp(text, "s3://", 5))
		r = parse_bucket(&source, text + 5, "/", err);
	else if (!strncmp(text, "file://", 7))
		r = parse_dir(&source, text + 7, err);
	else if (strstr(text, "://"))
		r = s3c_err_set(err, -EINVAL,
				"'%s' is no source: write s3://BUCKET[/PREFIX] (and the server as "
				"-o endpoint=URL), BUCKET[:/PREFIX] or file:///DIR",
				text);
	else if (text[0] == '/')
		r = s3c_err_set(err, -EINVAL, "a folder as a store is written file://%s", text);
	else
		r = parse_bucket(&source, text, ":", err);
	if (r < 0)
		return r;
	*ret_source = source;
	memset(&source, 0, sizeof(source));
	return 0;
}

void s3c_source_free(struct s3c_source *source)
{
	free(source->text);
	free(source->bucket);
	free(source->dir);
	free(source->prefix);
	memset(source, 0, sizeof(*source));
}

int s3c_source_id(const char *identity, const char *prefix, char ret_id[static 33])
{
	cleanup_free char *name = s3c_asprintf("%s|%s", identity, prefix);
	uint8_t digest[S3C_SHA256_LEN];
	int r;

	if (!name)
		return -ENOMEM;
	r = s3c_sha256(name, strlen(name), digest);
	if (r < 0)
		return r;
	s3c_hex_encode(digest, 16, ret_id);
	return 0;
}
