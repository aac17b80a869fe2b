/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Operations on extended attributes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/util.h"
#include "fuse/private.h"

#define CONTROL_XATTR "user.s3cryptfs.control"
#define CONTROL_XATTR_SYSTEM "system.s3cryptfs.control" /* the kernel asks for nothing more */

_Static_assert(S3C_XATTR_CREATE == XATTR_CREATE && S3C_XATTR_REPLACE == XATTR_REPLACE,
	       "flags are passed on as they come");

/* Where the daemon can be asked: for those whom it answers. */
static const char *control_of(const struct s3c_call *call)
{
	bool trusted = call->caller.uid == 0 || call->caller.uid == geteuid();
	bool control =
		!strcmp(call->name, CONTROL_XATTR) || !strcmp(call->name, CONTROL_XATTR_SYSTEM);

	return call->ino == FUSE_ROOT_ID && trusted && control ? call->fuse->control : NULL;
}

/* Takes what buf holds over as the reply. Size 0 asks for the length. */
static int reply_with(struct s3c_call *call, struct s3c_buf *buf)
{
	call->reply_len = buf->len;
	call->reply = s3c_buf_steal(buf);
	if (!call->reply && call->reply_len)
		return -ENOMEM;
	return call->size && call->size < call->reply_len ? -ERANGE : 0;
}

static int run_getxattr(struct s3c_call *call, struct s3c_op *op)
{
	cleanup_buf struct s3c_buf value = { .max = S3C_XATTRS_MAX };
	const char *control = control_of(call);
	int r = control ? s3c_buf_append_str(&value, control)
			: s3c_fs_getxattr(call->fuse->fs, op, call->ino, call->name, &value);

	return r < 0 ? r : reply_with(call, &value);
}

static void answer_xattr(struct s3c_call *call)
{
	if (call->size)
		fuse_reply_buf(call->req, call->reply, call->reply_len);
	else
		fuse_reply_xattr(call->req, call->reply_len);
}

void s3c_op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	static const struct s3c_call_type type = {
		.name = "getxattr",
		.run = run_getxattr,
		.answer = answer_xattr,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, ino);
	call.name = name;
	call.size = size;
	s3c_call_start(&call);
}

static int run_listxattr(struct s3c_call *call, struct s3c_op *op)
{
	cleanup_buf struct s3c_buf names = { .max = S3C_XATTRS_MAX };
	int r = s3c_fs_listxattr(call->fuse->fs, op, call->ino, &names);

	return r < 0 ? r : reply_with(call, &names);
}

void s3c_op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	static const struct s3c_call_type type = {
		.name = "listxattr",
		.run = run_listxattr,
		.answer = answer_xattr,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, ino);
	call.size = size;
	s3c_call_start(&call);
}

static int run_setxattr(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_setxattr(call->fuse->fs, op, call->ino, call->name, call->data, call->size,
			       call->flags);
}

static void start_set(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		      size_t size, int flags)
{
	static const struct s3c_call_type type = {
		.name = "setxattr",
		.run = run_setxattr,
		.store = true,
		.goes_on = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, ino);
	call.name = name;
	call.data = value;
	call.size = size;
	call.flags = flags;
	s3c_call_start(&call);
}

void s3c_op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		     size_t size, int flags)
{
	start_set(req, ino, name, value, size, flags);
}

void s3c_op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	start_set(req, ino, name, NULL, 0, 0);
}
