/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What an audit log is told: changes of names, attributes and sizes (and holes), opens, the first
 * read of each open, and copies by the store, as reads of the source. Writes are not told one by
 * one: an open for writing was.
 *
 * The path is that of the inode when the call ends; what the kernel refuses by itself
 * (default_permissions) never comes here.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/util.h"
#include "fuse/private.h"

/* Names of call types; key: the file's key is told as well. */
static const struct {
	const char *name;
	bool key;
} told[] = {
	{ "open", true },         { "create", true },          { "read", true },
	{ "unlink", false },      { "rename", false },         { "exchange", false },
	{ "mkdir", false },       { "rmdir", false },          { "mknod", false },
	{ "symlink", false },     { "link", false },           { "setattr", false },
	{ "truncate", true },     { "fallocate", true },       { "setxattr", false },
	{ "removexattr", false }, { "copy_file_range", true },
};

static bool is_told(const char *name, bool *ret_key)
{
	for (size_t i = 0; i < ARRAY_LEN(told); i++)
		if (!strcmp(told[i].name, name)) {
			*ret_key = told[i].key;
			return true;
		}
	return false;
}

static const char *access_of(int flags)
{
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
		return "read";
	case O_WRONLY:
		return "write";
	default:
		return "read-write";
	}
}

/* An xattr's name is none of a file. */
static const char *name_in_path(const struct s3c_call *call)
{
	return strstr(call->type->name, "xattr") ? NULL : call->name;
}

void s3c_call_audit(struct s3c_call *call, int r)
{
	struct s3c_fuse *fuse = call->fuse;
	char path[S3C_PATH_MAX], to[S3C_PATH_MAX], key_id[S3C_AUDIT_KEY_MAX];
	struct s3c_fuse_audit event = {
		.operation = call->type->name,
		.result = r,
		.uid = call->caller.uid,
		.gid = call->caller.gid,
		.pid = call->pid,
		.path = path,
	};
	bool copy = !strcmp(call->type->name, "copy_file_range"), wants_key;

	if (!is_told(call->type->name, &wants_key))
		return;
	if (!strcmp(call->type->name, "read") && !s3c_fs_file_first_read(call->file))
		return;
	/* Then it is read and written. */
	if (copy && r == -EOPNOTSUPP)
		return;
	if (s3c_fs_path_of(fuse->fs, call->ino, name_in_path(call), path) < 0)
		strcpy(path, "?");
	if (!strcmp(call->type->name, "rename") || !strcmp(call->type->name, "exchange") || copy)
		event.to = s3c_fs_path_of(fuse->fs, call->ino2, call->name2, to) == 0 ? to : "?";
	if (!strcmp(call->type->name, "open") || !strcmp(call->type->name, "create"))
		event.access = access_of(call->flags);
	if (wants_key && s3c_engine_key_id(fuse->engine, path, key_id, sizeof(key_id)) == 0)
		event.key_id = key_id;
	fuse->audit(fuse->audit_arg, &event);
}

void s3c_audit_refused(fuse_req_t req, const char *operation, uint64_t ino, const char *name, int r)
{
	struct s3c_fuse *fuse = fuse_req_userdata(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	char path[S3C_PATH_MAX];
	const struct s3c_fuse_audit event = {
		.operation = operation,
		.result = r,
		.uid = ctx->uid,
		.gid = ctx->gid,
		.pid = ctx->pid,
		.path = path,
	};

	if (!fuse->audit)
		return;
	if (s3c_fs_path_of(fuse->fs, ino, name, path) < 0)
		strcpy(path, "?");
	fuse->audit(fuse->audit_arg, &event);
}
