/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Operations on open files. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"
#include "base/util.h"
#include "fuse/private.h"

static struct s3c_file *file_of(const struct fuse_file_info *fi)
{
	return (struct s3c_file *)(uintptr_t)fi->fh;
}

static void fill_open(const struct s3c_call *call, struct fuse_file_info *fi)
{
	memset(fi, 0, sizeof(*fi));
	fi->flags = call->flags;
	fi->fh = (uintptr_t)call->file;
	fi->keep_cache = call->keep_cache;
	fi->direct_io = (call->flags & O_DIRECT) != 0;
	/* Nothing to commit when a handle for reading is closed: saves the request. */
	fi->noflush = (call->flags & O_ACCMODE) == O_RDONLY && !(call->flags & O_TRUNC);
}

/* The kernel did not take the answer: it will not release. */
static void undo_open(struct s3c_call *call)
{
	struct s3c_op op;

	s3c_op_init(&op, INT64_MAX);
	s3c_fs_release(call->file, &op);
	s3c_op_destroy(&op);
}

static int run_open(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_open(call->fuse->fs, op, call->ino, call->flags, &call->caller, &call->file,
			   &call->keep_cache);
}

static void answer_open(struct s3c_call *call)
{
	struct fuse_file_info fi;

	fill_open(call, &fi);
	if (fuse_reply_open(call->req, &fi) < 0)
		undo_open(call);
}

void s3c_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "open",
		.run = run_open,
		.answer = answer_open,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, ino);
	call.flags = fi->flags;
	s3c_call_start(&call);
}

static int run_create(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_create(call->fuse->fs, op, call->ino, call->name, call->mode, call->flags,
			     &call->caller, &call->entry, &call->file, &call->keep_cache);
}

static void answer_create(struct s3c_call *call)
{
	struct fuse_entry_param param = s3c_entry_param(&call->entry);
	struct fuse_file_info fi;

	fill_open(call, &fi);
	if (fuse_reply_create(call->req, &param, &fi) < 0) {
		undo_open(call);
		s3c_fs_forget(call->fuse->fs, param.ino, 1);
	}
}

void s3c_op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		   struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "create",
		.run = run_create,
		.answer = answer_create,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, parent);
	call.name = name;
	call.mode = mode;
	call.flags = fi->flags;
	s3c_call_start(&call);
}

static int run_read(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_read(call->file, op, call->offset, call->size, &call->pages);
}

static void answer_read(struct s3c_call *call)
{
	s3c_count(S3C_COUNT_READ_BYTES, 0, 0, call->pages.len);
	if (call->pages.count)
		fuse_reply_iov(call->req, call->pages.iov, (int)call->pages.count);
	else
		fuse_reply_buf(call->req, NULL, 0);
	s3c_pages_release(call->fuse->engine, &call->pages);
}

void s3c_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		 struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "read",
		.run = run_read,
		.answer = answer_read,
		.data = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, ino);
	call.file = file_of(fi);
	call.size = S3C_MIN(size, S3C_FUSE_IO_MAX);
	call.offset = (uint64_t)offset;
	s3c_call_start(&call);
}

static int run_write(struct s3c_call *call, struct s3c_op *op)
{
	int r = call->caller.drop_privs ? s3c_fs_drop_privs(call->file, op) : 0;

	if (r == 0)
		r = s3c_fs_write(call->file, op, call->offset, call->data, call->size,
				 call->append);
	if (r <= 0)
		return r;
	call->size = (size_t)r;
	return 0;
}

static void answer_write(struct s3c_call *call)
{
	s3c_count(S3C_COUNT_WRITTEN_BYTES, 0, 0, call->size);
	fuse_reply_write(call->req, call->size);
}

void s3c_op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
		  struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "write",
		.run = run_write,
		.store = true,
		.answer = answer_write,
		.data = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, ino);
	call.file = file_of(fi);
	call.data = data;
	call.size = size;
	call.offset = (uint64_t)offset;
	/* Pages of a mapping belong where they are. */
	call.append = (fi->flags & O_APPEND) && !fi->writepage;
	s3c_call_start(&call);
}

/* The kernel does not say whether the caller may keep them, as it does with a write. */
static int run_fallocate(struct s3c_call *call, struct s3c_op *op)
{
	int r = call->caller.uid ? s3c_fs_drop_privs(call->file, op) : 0;

	return r < 0 ? r : s3c_fs_fallocate(call->file, op, call->mode, call->offset, call->length);
}

void s3c_op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		      struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "fallocate",
		.run = run_fallocate,
		.store = true,
		.data = true,
	};
	static const struct {
		int from;
		unsigned to;
	} map[] = {
		{ FALLOC_FL_KEEP_SIZE, S3C_FS_KEEP_SIZE },
		{ FALLOC_FL_PUNCH_HOLE, S3C_FS_PUNCH_HOLE },
		{ FALLOC_FL_ZERO_RANGE, S3C_FS_ZERO_RANGE },
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, ino);
	for (size_t i = 0; i < ARRAY_LEN(map); i++) {
		call.mode |= mode & map[i].from ? map[i].to : 0;
		mode &= ~map[i].from;
	}
	if (mode) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	call.file = file_of(fi);
	call.offset = (uint64_t)offset;
	call.length = (uint64_t)length;
	s3c_call_start(&call);
}

static int run_copy(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_copy(call->from_file, call->from_offset, call->file, call->offset, op,
			   call->length, &call->length);
}

static void answer_copy(struct s3c_call *call)
{
	fuse_reply_write(call->req, call->length);
}

/* At EOPNOTSUPP the kernel reads and writes. */
void s3c_op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset,
			    struct fuse_file_info *from_fi, fuse_ino_t to, off_t to_offset,
			    struct fuse_file_info *to_fi, size_t len, int flags)
{
	static const struct s3c_call_type type = {
		.name = "copy_file_range",
		.run = run_copy,
		.store = true,
		.answer = answer_copy,
		.data = true,
	};
	struct s3c_call call;

	if (flags) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	s3c_call_init(&call, req, &type, from);
	call.ino2 = to;
	call.from_file = file_of(from_fi);
	call.from_offset = (uint64_t)from_offset;
	call.file = file_of(to_fi);
	call.offset = (uint64_t)to_offset;
	call.length = len;
	s3c_call_start(&call);
}

static int run_lseek(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_seek(call->file, op, call->offset, call->flags == SEEK_DATA, &call->length);
}

static void answer_lseek(struct s3c_call *call)
{
	fuse_reply_lseek(call->req, (off_t)call->length);
}

void s3c_op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		  struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "lseek",
		.run = run_lseek,
		.answer = answer_lseek,
		.data = true,
	};
	struct s3c_call call;

	if (whence != SEEK_DATA && whence != SEEK_HOLE) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	s3c_call_init(&call, req, &type, ino);
	call.file = file_of(fi);
	call.offset = (uint64_t)offset;
	call.flags = whence;
	s3c_call_start(&call);
}

static int run_fsync(struct s3c_call *call, struct s3c_op *op)
{
	return s3c_fs_fsync(call->file, op);
}

void s3c_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "fsync",
		.run = run_fsync,
		.store = true,
		.data = true,
	};
	struct s3c_call call;

	(void)datasync;
	s3c_call_init(&call, req, &type, ino);
	call.file = file_of(fi);
	s3c_call_start(&call);
}

/* Is the descriptor, as /proc/PID/fdinfo tells of it, one of the file to write to? Numbers of files
 * repeat on every filesystem: the mount has to be ours. */
static bool is_writer_of(int dir_fd, const char *name, int mount_id, uint64_t ino)
{
	cleanup_close int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	const char *flags_at, *mount_at, *ino_at;
	char text[1024];
	uint64_t number;
	unsigned flags;
	ssize_t len;
	int mount;

	len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (len <= 0)
		return false;
	text[len] = '\0';
	flags_at = strstr(text, "\nflags:");
	mount_at = strstr(text, "\nmnt_id:");
	ino_at = strstr(text, "\nino:");
	return flags_at && mount_at && ino_at && sscanf(flags_at, "\nflags: %o", &flags) == 1 &&
	       sscanf(mount_at, "\nmnt_id: %d", &mount) == 1 &&
	       sscanf(ino_at, "\nino: %" SCNu64, &number) == 1 && mount == mount_id &&
	       number == ino && (flags & O_ACCMODE) != O_RDONLY;
}

/* Does the process still have the file open for writing? Asks nothing of a file system of ours. */
static bool still_open(pid_t pid, int mount_id, uint64_t ino)
{
	char path[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)pid);
	dir = pid > 0 && mount_id >= 0 ? opendir(path) : NULL;
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir)))
		found = entry->d_name[0] != '.' &&
			is_writer_of(dirfd(dir), entry->d_name, mount_id, ino);
	closedir(dir);
	return found;
}

/*
 * A shell's `program >file` opens the file, duplicates the descriptor and closes the first before
 * a byte was written. To commit then would replace the old content by nothing, and cost a request:
 * while nothing was written and the process has the file open otherwise, that close is not the one
 * that counts.
 */
static int run_flush(struct s3c_call *call, struct s3c_op *op)
{
	if (op != S3C_NOWAIT && s3c_fs_file_untouched(call->file) &&
	    still_open(call->pid, __atomic_load_n(&call->fuse->mount_id, __ATOMIC_RELAXED),
		       s3c_fs_file_ino(call->file)))
		return 0;
	return s3c_fs_flush(call->file, op);
}

void s3c_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "flush",
		.run = run_flush,
		.store = true,
		.data = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, ino);
	call.file = file_of(fi);
	s3c_call_start(&call);
}

static int run_release(struct s3c_call *call, struct s3c_op *op)
{
	int r = s3c_fs_release(call->file, op);

	/* No one hears of an error any more: it was logged. */
	return r == -EINPROGRESS && op == S3C_NOWAIT ? r : 0;
}

void s3c_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	static const struct s3c_call_type type = {
		.name = "release",
		.run = run_release,
		.store = true,
		.data = true,
	};
	struct s3c_call call;

	s3c_call_init(&call, req, &type, ino);
	call.file = file_of(fi);
	s3c_call_start(&call);
}
