/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The filesystem as the kernel asks for it: inodes by number, names in
 * directories, handles of open files, POSIX rules. Knows paths and the engine
 * below, nothing of FUSE above.
 *
 * Every function may be called from any thread. With op == S3C_NOWAIT a function
 * never waits: -EINPROGRESS then means that nothing was answered, and that the
 * same call has to be made again with an op on a thread that may wait. Calls
 * that always ask the store give -EINPROGRESS at once.
 *
 * An inode is alive while the kernel counts it (one count for each successful
 * lookup, create, mkdir, mknod or symlink; s3c_fs_forget takes counts away),
 * while it has children that are alive, or while a handle refers to it. Its
 * number (nodeid) is never used again. st_ino is another number, which depends on
 * the path at which the file was first seen, so that it survives forgetting.
 *
 * A regular file whose content was changed by another machine gets a new nodeid
 * (and keeps its st_ino): operations on the old one answer -ESTALE, upon which the
 * kernel looks the name up again. So two versions never meet in one page cache.
 *
 * Errors: -errno as for the system call.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "engine/engine.h"

#define S3C_FS_ROOT 1 /* nodeid of the root; it needs no lookup */

struct s3c_fs;
struct s3c_file; /* handle of an open file */
struct s3c_dir;  /* handle of an open directory */

/* engine: borrowed. ttl_s: longest time for which the kernel may keep a name or attributes. */
int s3c_fs_new(struct s3c_engine *engine, double ttl_s, struct s3c_fs **ret_fs);
/*
 * Commits the files that are still open (op bounds each), closes them and frees everything, handles
 * too. 0, or the first error of a commit. No call may be running. NULL is legal.
 */
int s3c_fs_free(struct s3c_fs *fs, struct s3c_op *op);

/*
 * fn is told when a call changes attributes of an inode that its answer does not contain, before
 * the call returns, with no lock held. To be set before the first call.
 */
void s3c_fs_on_stale(struct s3c_fs *fs, void (*fn)(void *arg, uint64_t nodeid), void *arg);

struct s3c_fs_attr {
	struct stat st;
	double timeout_s; /* for which the attributes may be kept */
};
struct s3c_fs_entry {
	uint64_t nodeid; /* 0: there is no such name, and that may be kept for entry_timeout_s */
	struct s3c_fs_attr attr;
	double entry_timeout_s;
};
struct s3c_fs_caller {
	uid_t uid;
	gid_t gid;
	bool drop_privs; /* a file that it empties loses what s3c_fs_drop_privs takes */
};

/* 0 with nodeid 0 for a name that does not exist. Counts otherwise. */
int s3c_fs_lookup(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name,
		  struct s3c_fs_entry *ret_entry);
void s3c_fs_forget(struct s3c_fs *fs, uint64_t nodeid, uint64_t count);
int s3c_fs_getattr(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid,
		   struct s3c_fs_attr *ret_attr);

/* What to change: those of attrs that `which` names (S3C_SET_*; only permission bits of the mode
   count) and, with set_size, the size. */
struct s3c_fs_change {
	unsigned which;
	struct s3c_attrs attrs;
	bool set_size;
	uint64_t size;
	bool drop_privs; /* along with it, as s3c_fs_drop_privs; unless the mode is set */
};
/* file NULL: a size is committed before the call returns; else it is a matter of the view. */
int s3c_fs_setattr(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, struct s3c_file *file,
		   const struct s3c_fs_change *change, struct s3c_fs_attr *ret_attr);
int s3c_fs_readlink(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, char *ret_target,
		    size_t size);
void s3c_fs_statfs(struct statvfs *ret_st);
/* Extended attributes: the value of one, the names of all, each with a NUL, are appended. */
int s3c_fs_getxattr(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, const char *name,
		    struct s3c_buf *value);
int s3c_fs_listxattr(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, struct s3c_buf *names);
/* value NULL: removes it. flags: S3C_XATTR_*. -ENOSPC: the object has no room for it. */
int s3c_fs_setxattr(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, const char *name,
		    const void *value, size_t len, int flags);

/* Names. mode: permission bits, the umask applied. */
int s3c_fs_mkdir(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name,
		 mode_t mode, const struct s3c_fs_caller *caller, struct s3c_fs_entry *ret_entry);
/* Files and special files; in the store when it returns. rdev counts for device nodes. */
int s3c_fs_mknod(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name,
		 mode_t mode, dev_t rdev, const struct s3c_fs_caller *caller,
		 struct s3c_fs_entry *ret_entry);
int s3c_fs_symlink(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name,
		   const char *target, const struct s3c_fs_caller *caller,
		   struct s3c_fs_entry *ret_entry);
int s3c_fs_unlink(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name);
/* Another name of a file or symlink. -EPERM: a directory, or there are no hard links here. */
int s3c_fs_link(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, uint64_t parent,
		const char *name, struct s3c_fs_entry *ret_entry);
int s3c_fs_rmdir(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name);
int s3c_fs_rename(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name,
		  uint64_t to_parent, const char *to_name, bool noreplace);
/* The two names change places: of files and symlinks; -EINVAL of others. */
int s3c_fs_exchange(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name,
		    uint64_t to_parent, const char *to_name);

/*
 * Files. flags: those of open(2). keep_cache: the pages that the kernel may have of this inode are
 * of the version that was opened.
 */
int s3c_fs_open(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, int flags,
		const struct s3c_fs_caller *caller, struct s3c_file **ret_file,
		bool *ret_keep_cache);
/* Makes and opens; opens what is there already when flags has no O_EXCL. */
int s3c_fs_create(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name,
		  mode_t mode, int flags, const struct s3c_fs_caller *caller,
		  struct s3c_fs_entry *ret_entry, struct s3c_file **ret_file, bool *ret_keep_cache);
/* The caller gives the pages back with s3c_pages_release. */
int s3c_fs_read(struct s3c_file *file, struct s3c_op *op, uint64_t offset, size_t len,
		struct s3c_pages *ret_pages);
/* As s3c_object_write: more than 0 is a short count. */
int s3c_fs_write(struct s3c_file *file, struct s3c_op *op, uint64_t offset, const void *data,
		 size_t len, bool append);
/* mode: S3C_FS_*. Space is not reserved: there is none to reserve. */
#define S3C_FS_KEEP_SIZE 1u
#define S3C_FS_PUNCH_HOLE 2u /* with KEEP_SIZE */
#define S3C_FS_ZERO_RANGE 4u
int s3c_fs_fallocate(struct s3c_file *file, struct s3c_op *op, unsigned mode, uint64_t offset,
		     uint64_t len);
/* copy_file_range: as s3c_object_clone. */
int s3c_fs_copy(struct s3c_file *from, uint64_t from_offset, struct s3c_file *to,
		uint64_t to_offset, struct s3c_op *op, uint64_t len, uint64_t *ret_done);
/* SEEK_DATA (data) and SEEK_HOLE. */
int s3c_fs_seek(struct s3c_file *file, struct s3c_op *op, uint64_t offset, bool data,
		uint64_t *ret_offset);
/* Takes the set-user-id bit away, and of a file that its group may execute the set-group-id bit:
   to be called before a write by one who may not keep them. */
int s3c_fs_drop_privs(struct s3c_file *file, struct s3c_op *op);
/* What was answered of names is durable. */
int s3c_fs_fsyncdir(struct s3c_fs *fs, struct s3c_op *op);
int s3c_fs_fsync(struct s3c_file *file, struct s3c_op *op);
/* close(2): commits what a handle for writing left. */
int s3c_fs_flush(struct s3c_file *file, struct s3c_op *op);
/* Is there something to commit, but nothing that was written through this handle? (A new or
   emptied file whose descriptor was only duplicated so far.) */
bool s3c_fs_file_untouched(struct s3c_file *file);
/* True for the first call alone. */
bool s3c_fs_file_first_read(struct s3c_file *file);
/* The path by now of an inode, or of a name in it (NULL: itself). -ESTALE, -ENAMETOOLONG. Never
   waits. */
int s3c_fs_path_of(struct s3c_fs *fs, uint64_t nodeid, const char *name,
		   char ret_path[static S3C_PATH_MAX]);
/* st_ino of an open file. */
uint64_t s3c_fs_file_ino(struct s3c_file *file);
/*
 * The last use of a handle. Commits what stores through a mapping left after the last flush; a
 * failure is logged and the engine tries again later. -EINPROGRESS (NOWAIT): the handle lives.
 * Otherwise it is gone, whatever is returned.
 */
int s3c_fs_release(struct s3c_file *file, struct s3c_op *op);

/* Directories. */
int s3c_fs_opendir(struct s3c_fs *fs, uint64_t nodeid, struct s3c_dir **ret_dir);
void s3c_fs_releasedir(struct s3c_dir *dir);
/* Takes the snapshot that entries are read from, at the first call and again at offset 0. After 0
   the directory is locked for this thread until readdir_end. */
int s3c_fs_readdir_begin(struct s3c_dir *dir, struct s3c_op *op, uint64_t offset);
void s3c_fs_readdir_end(struct s3c_dir *dir);
/* An entry, valid until readdir_end. */
struct s3c_fs_dirent {
	const char *name;
	mode_t type;   /* S_IFDIR.. */
	uint64_t ino;  /* st_ino */
	uint64_t next; /* offset of the entry behind it */
	bool dot;      /* "." or "..": nothing to look up */
};
/* False: offset is behind the last entry. */
bool s3c_fs_readdir_entry(struct s3c_dir *dir, uint64_t offset, struct s3c_fs_dirent *ret_entry);

/* For tests and status. */
size_t s3c_fs_inode_count(struct s3c_fs *fs);
