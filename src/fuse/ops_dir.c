/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Operations on open directories. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fuse/private.h"

static struct s3c_dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct s3c_dir *)(uintptr_t)fi->fh;
}

void s3c_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct s3c_fuse *fuse = fuse_req_userdata(req);
	struct s3c_dir *dir;
	int r;

	r = s3c_fs_opendir(fuse->fs, ino, &dir);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = (uintptr_t)dir;
	if (fuse_reply_open(req, fi) < 0)
		s3c_fs_releasedir(dir);
}

void s3c_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	s3c_fs_releasedir(dir_of(fi));
	fuse_reply_err(req, 0);
}

static int run_fsyncdir(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_fsyncdir(call->fuse->fs, op);
}

void s3c_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "fsyncdir",
		.run = run_fsyncdir,
		.store = true,
	};
	struct s3c_call call;

	(void)datasync;
	(void)fi;
	s3c_call_init(&call, req, &type, ino);
	s3c_call_start(&call);
}

/* What READDIRPLUS says of an entry. Without a nodeid the kernel looks the name up itself. */
static void plus_param(struct s3c_call *call, const struct s3c_fs_dirent *entry,
		       struct fuse_entry_param *ret_param)
{
	struct s3c_fs_entry found;

	if (!entry->dot &&
	    s3c_fs_lookup(call->fuse->fs, S3C_NOWAIT, call->ino, entry->name, &found) == 0 &&
	    found.nodeid) {
		*ret_param = s3c_entry_param(&found);
		return;
	}
	memset(ret_param, 0, sizeof(*ret_param));
	ret_param->attr.st_ino = entry->ino;
	ret_param->attr.st_mode = entry->type;
}

/* Bytes of one entry, 0 when it does not fit into what is left. */
static size_t add_entry(struct s3c_call *call, const struct s3c_fs_dirent *entry)
{
	size_t left = call->size - call->reply_len;
	char *at = call->reply + call->reply_len;
	struct fuse_entry_param param;
	struct stat st;

	if (!call->plus) {
		size_t len = fuse_add_direntry(call->req, NULL, 0, entry->name, NULL, 0);

		if (len > left)
			return 0;
		memset(&st, 0, sizeof(st));
		st.st_ino = entry->ino;
		st.st_mode = entry->type;
		return fuse_add_direntry(call->req, at, left, entry->name, &st, (off_t)entry->next);
	}
	/* Measured first: a lookup counts. */
	if (fuse_add_direntry_plus(call->req, NULL, 0, entry->name, NULL, 0) > left)
		return 0;
	plus_param(call, entry, &param);
	return fuse_add_direntry_plus(call->req, at, left, entry->name, &param, (off_t)entry->next);
}

static int run_readdir(struct s3c_call *call, struct s3c_op *op)
{
	struct s3c_fs_dirent entry;
	uint64_t offset = call->offset;
	int r;

	if (!call->reply)
		call->reply = malloc(call->size ? call->size : 1);
	if (!call->reply)
		return -ENOMEM;
	r = s3c_fs_readdir_begin(call->dir, op, offset);
	if (r < 0)
		return r;
	while (s3c_fs_readdir_entry(call->dir, offset, &entry)) {
		size_t len = add_entry(call, &entry);

		if (!len)
			break;
		call->reply_len += len;
		offset = entry.next;
	}
	s3c_fs_readdir_end(call->dir);
	return 0;
}

static void answer_readdir(struct s3c_call *call)
{
	fuse_reply_buf(call->req, call->reply, call->reply_len);
}

static void start_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			  const struct fuse_file_info *fi, bool plus)
{
	static const struct s3c_call_type type = {
		.name = "readdir",
		.run = run_readdir,
		.answer = answer_readdir,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, ino);
	call.dir = dir_of(fi);
	call.size = S3C_MIN(size, S3C_FUSE_IO_MAX);
	call.offset = (uint64_t)offset;
	call.plus = plus;
	s3c_call_start(&call);
}

void s3c_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	start_readdir(req, ino, size, offset, fi, false);
}

void s3c_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			struct fuse_file_info *fi)
{
	start_readdir(req, ino, size, offset, fi, true);
}
