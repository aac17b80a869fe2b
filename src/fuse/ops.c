/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The table of operations, the handshake, and operations on inodes. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "fuse/private.h"

/* Requests of read-ahead that the kernel may have under way: RELEASE counts among them, and must
 * not queue behind reads that wait for the store. */
#define MAX_BACKGROUND 512
#define CONGESTION_THRESHOLD 384

struct fuse_entry_param s3c_entry_param(const struct s3c_fs_entry *entry)
{
	return (struct fuse_entry_param){
		.ino = entry->nodeid,
		.attr = entry->attr.st,
		.attr_timeout = entry->attr.timeout_s,
		.entry_timeout = entry->entry_timeout_s,
	};
}

void s3c_answer_entry(struct s3c_call *call)
{
	struct fuse_entry_param param = s3c_entry_param(&call->entry);

	if (fuse_reply_entry(call->req, &param) < 0 && param.ino)
		s3c_fs_forget(call->fuse->fs, param.ino, 1);
}

void s3c_answer_attr(struct s3c_call *call)
{
	fuse_reply_attr(call->req, &call->attr.st, call->attr.timeout_s);
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	const unsigned wanted = FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
				FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
				FUSE_CAP_READDIRPLUS_AUTO;
	/*
	 * Splicing: a write has to be copied into our memory anyway, straight from the buffer that
	 * it was received in. AUTO_INVAL_DATA: versions have inodes of their own. KILLPRIV: its
	 * second version is better, and wire.c accepts it.
	 */
	const unsigned unwanted = FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				  FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE |
				  FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_HANDLE_KILLPRIV |
				  FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS;
	struct s3c_fuse *fuse = userdata;

	if (!(conn->capable & FUSE_CAP_ATOMIC_O_TRUNC)) {
		s3c_error("this kernel's FUSE cannot truncate a file as it is opened; it is too "
			  "old");
		fuse->rejected = true;
		fuse_session_exit(fuse->session);
		return;
	}
	conn->want |= wanted & conn->capable;
	conn->want &= ~unwanted;
	conn->max_write = S3C_FUSE_IO_MAX;
	conn->max_read = S3C_FUSE_IO_MAX;
	conn->max_readahead = S3C_FUSE_IO_MAX;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = CONGESTION_THRESHOLD;
	conn->time_gran = 1;
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	struct s3c_fuse *fuse = fuse_req_userdata(req);

	s3c_fs_forget(fuse->fs, ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct s3c_fuse *fuse = fuse_req_userdata(req);

	for (size_t i = 0; i < count; i++)
		s3c_fs_forget(fuse->fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static int run_getattr(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_getattr(call->fuse->fs, op, call->ino, &call->attr);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "getattr",
		.run = run_getattr,
		.answer = s3c_answer_attr,
	};
	struct s3c_call call;

	(void)fi;
	s3c_call_init(&call, req, &type, ino);
	s3c_call_start(&call);
}

static int run_setattr(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_setattr(call->fuse->fs, op, call->ino, call->file, &call->change,
			      &call->attr);
}

static int64_t time_ns(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * S3C_NSEC_PER_SEC + ts->tv_nsec;
}

static void change_of(const struct stat *st, int to_set, struct s3c_fs_change *ret_change)
{
	int64_t now = s3c_clock_realtime_ns();
	struct s3c_fs_change change = {
		.attrs = {
			.known = true,
			.mode = st->st_mode,
			.uid = st->st_uid,
			.gid = st->st_gid,
			.mtime_ns = to_set & FUSE_SET_ATTR_MTIME_NOW ? now : time_ns(&st->st_mtim),
			.atime_ns = to_set & FUSE_SET_ATTR_ATIME_NOW ? now : time_ns(&st->st_atim),
			.ctime_ns = now,
		},
		.set_size = (to_set & FUSE_SET_ATTR_SIZE) != 0,
		.size = (uint64_t)st->st_size,
	};
	static const struct {
		int from;
		unsigned to;
	} map[] = {
		{ FUSE_SET_ATTR_MODE, S3C_SET_MODE },
		{ FUSE_SET_ATTR_UID, S3C_SET_UID },
		{ FUSE_SET_ATTR_GID, S3C_SET_GID },
		{ FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW, S3C_SET_MTIME },
		{ FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW, S3C_SET_ATIME },
	};

	for (size_t i = 0; i < ARRAY_LEN(map); i++)
		if (to_set & map[i].from)
			change.which |= map[i].to;
	*ret_change = change;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
		       struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "setattr",
		.run = run_setattr,
		.store = true,
		.goes_on = true,
		.answer = s3c_answer_attr,
	};
	/* A truncation by path uploads. */
	static const struct s3c_call_type data_type = {
		.name = "truncate",
		.run = run_setattr,
		.store = true,
		.answer = s3c_answer_attr,
		.data = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, to_set & FUSE_SET_ATTR_SIZE ? &data_type : &type, ino);
	call.file = fi ? (struct s3c_file *)(uintptr_t)fi->fh : NULL;
	change_of(st, to_set, &call.change);
	call.change.drop_privs = call.caller.drop_privs;
	s3c_call_start(&call);
}

static int run_readlink(struct s3c_call *call, struct s3c_op *op)
{
	if (!call->reply)
		call->reply = malloc(PATH_MAX + 1);
	if (!call->reply)
		return -ENOMEM;
	return s3c_fs_readlink(call->fuse->fs, op, call->ino, call->reply, PATH_MAX + 1);
}

static void answer_readlink(struct s3c_call *call)
{
	fuse_reply_readlink(call->req, call->reply);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	static const struct s3c_call_type type = {
		.name = "readlink",
		.run = run_readlink,
		.answer = answer_readlink,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, ino);
	s3c_call_start(&call);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;

	(void)ino;
	s3c_fs_statfs(&st);
	fuse_reply_statfs(req, &st);
}

const struct fuse_lowlevel_ops s3c_fuse_ops = {
	.init = op_init,
	.lookup = s3c_op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = s3c_op_mknod,
	.mkdir = s3c_op_mkdir,
	.unlink = s3c_op_unlink,
	.rmdir = s3c_op_rmdir,
	.symlink = s3c_op_symlink,
	.rename = s3c_op_rename,
	.link = s3c_op_link,
	.open = s3c_op_open,
	.create = s3c_op_create,
	.read = s3c_op_read,
	.write = s3c_op_write,
	.flush = s3c_op_flush,
	.fsync = s3c_op_fsync,
	.fallocate = s3c_op_fallocate,
	.copy_file_range = s3c_op_copy_file_range,
	.lseek = s3c_op_lseek,
	.release = s3c_op_release,
	.opendir = s3c_op_opendir,
	.readdir = s3c_op_readdir,
	.readdirplus = s3c_op_readdirplus,
	.releasedir = s3c_op_releasedir,
	.fsyncdir = s3c_op_fsyncdir,
	.statfs = op_statfs,
	.getxattr = s3c_op_getxattr,
	.listxattr = s3c_op_listxattr,
	.setxattr = s3c_op_setxattr,
	.removexattr = s3c_op_removexattr,
};
