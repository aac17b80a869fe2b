/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Operations on names. */
#include <errno.h>
#include <linux/fs.h>

#include "fuse/private.h"

static int run_lookup(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_lookup(call->fuse->fs, op, call->ino, call->name, &call->entry);
}

void s3c_op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	static const struct s3c_call_type type = {
		.name = "lookup",
		.run = run_lookup,
		.answer = s3c_answer_entry,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, parent);
	call.name = name;
	s3c_call_start(&call);
}

static int run_mknod(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_mknod(call->fuse->fs, op, call->ino, call->name, call->mode, call->rdev,
			    &call->caller, &call->entry);
}

void s3c_op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	static const struct s3c_call_type type = {
		.name = "mknod",
		.run = run_mknod,
		.store = true,
		.answer = s3c_answer_entry,
		.goes_on = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, parent);
	call.name = name;
	call.mode = mode;
	call.rdev = rdev;
	s3c_call_start(&call);
}

static int run_mkdir(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_mkdir(call->fuse->fs, op, call->ino, call->name, call->mode, &call->caller,
			    &call->entry);
}

void s3c_op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	static const struct s3c_call_type type = {
		.name = "mkdir",
		.run = run_mkdir,
		.answer = s3c_answer_entry,
		.direct = true,
		.store = true,
		.goes_on = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, parent);
	call.name = name;
	call.mode = mode;
	s3c_call_start(&call);
}

static int run_symlink(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_symlink(call->fuse->fs, op, call->ino, call->name, call->name2, &call->caller,
			      &call->entry);
}

void s3c_op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	static const struct s3c_call_type type = {
		.name = "symlink",
		.run = run_symlink,
		.answer = s3c_answer_entry,
		.direct = true,
		.store = true,
		.goes_on = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, parent);
	call.name = name;
	call.name2 = target;
	s3c_call_start(&call);
}

static int run_unlink(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_unlink(call->fuse->fs, op, call->ino, call->name);
}

void s3c_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	static const struct s3c_call_type type = {
		.name = "unlink",
		.run = run_unlink,
		.direct = true,
		.store = true,
		.goes_on = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, parent);
	call.name = name;
	s3c_call_start(&call);
}

static int run_rmdir(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_rmdir(call->fuse->fs, op, call->ino, call->name);
}

void s3c_op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	static const struct s3c_call_type type = {
		.name = "rmdir",
		.run = run_rmdir,
		.direct = true,
		.store = true,
		.goes_on = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, parent);
	call.name = name;
	s3c_call_start(&call);
}

static int run_rename(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_rename(call->fuse->fs, op, call->ino, call->name, call->ino2, call->name2,
			     call->flags & RENAME_NOREPLACE);
}

static int run_exchange(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_exchange(call->fuse->fs, op, call->ino, call->name, call->ino2, call->name2);
}

void s3c_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
		   const char *to_name, unsigned int flags)
{
	static const struct s3c_call_type type = {
		.name = "rename",
		.run = run_rename,
		.direct = true,
		.store = true,
		.goes_on = true,
	};
	static const struct s3c_call_type exchange = {
		.name = "exchange",
		.run = run_exchange,
		.direct = true,
		.store = true,
		.goes_on = true,
	};
	struct s3c_call call;

	/* The kernel refuses both at once. */
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) {
		s3c_audit_refused(req, "rename", parent, name, -EINVAL);
		fuse_reply_err(req, EINVAL);
		return;
	}
	s3c_call_init(&call, req, flags & RENAME_EXCHANGE ? &exchange : &type, parent);
	call.name = name;
	call.ino2 = to_parent;
	call.name2 = to_name;
	call.flags = (int)flags;
	s3c_call_start(&call);
}

static int run_link(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_link(call->fuse->fs, op, call->ino2, call->ino, call->name, &call->entry);
}

void s3c_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	static const struct s3c_call_type type = {
		.name = "link",
		.run = run_link,
		.answer = s3c_answer_entry,
		.direct = true,
		.store = true,
		.goes_on = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, parent);
	call.name = name;
	call.ino2 = ino;
	s3c_call_start(&call);
}
