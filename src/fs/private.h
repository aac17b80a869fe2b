/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of fs/ share.
 *
 *	inode.c   the table of inodes        attr.c  getattr, setattr
 *	fs.c      life, lookup, versions     names.c mkdir, unlink, rename...
 *	file.c    open files                 dir.c   open directories
 *	use.c     names that are worked on	  xattr.c extended attributes
 */
#pragma once

#include <sys/queue.h>

#include "fs/fs.h"
#include "fs/inode.h"

#define S3C_HIDDEN_NAME ".s3cryptfs" /* in the root: belongs to the volume */

/*
 * An operation that works on a name by its path. The kernel lets names in a directory be changed
 * while that directory, or one above it, gets another name; the path would be that of nothing, or
 * of something else, by the time the engine has it. So a rename of a directory waits for those that
 * work below it, and those that come later wait for the rename; likewise an exchange of two files
 * and those that work on these, or look their names up. All is guarded by the lock of inodes.
 */
struct s3c_use {
	LIST_ENTRY(s3c_use) link;
	/* With references of the caller; to_parent and moved may be NULL. */
	const struct s3c_inode *parent, *to_parent;
	const struct s3c_inode *moved; /* the directory that gets another name */
	/* Of two files that are exchanged, moved is one; their names in parent and to_parent. */
	const struct s3c_inode *also;
	const char *names[2];
};

struct s3c_fs {
	struct s3c_engine *engine;
	double ttl_s;
	void (*stale_fn)(void *arg, uint64_t nodeid); /* may be NULL */
	void *stale_arg;
	struct s3c_inodes inodes;
	/* Handles, guarded by the lock of inodes: a connection may end without their release. */
	LIST_HEAD(, s3c_file) files;
	LIST_HEAD(, s3c_dir) dirs;
	LIST_HEAD(, s3c_use) uses;
	struct s3c_waitq use_wait;
};

struct s3c_dir {
	struct s3c_fs *fs;
	LIST_ENTRY(s3c_dir) link;
	struct s3c_inode *inode; /* a reference */
	struct s3c_mutex lock;
	struct s3c_listing *listing; /* guarded by lock; NULL before the first read */
};

/* A handle. What is not constant is a flag that is only ever set, with atomics. */
struct s3c_file {
	struct s3c_fs *fs;
	LIST_ENTRY(s3c_file) link;
	struct s3c_inode *inode;   /* a reference and one of its opens */
	struct s3c_object *object; /* the inode's */
	bool writable;
	bool exec;    /* a program that runs */
	bool touched; /* atomic: written or truncated through this handle */
	bool read;    /* atomic: s3c_fs_file_first_read was asked */
	struct s3c_readahead readahead;
};

/* An inode with a reference, or NULL; put with s3c_inode_put. */
struct s3c_inode *s3c_fs_inode(struct s3c_fs *fs, uint64_t nodeid);
static inline void s3c_fs_put(struct s3c_fs *fs, struct s3c_inode *inode)
{
	s3c_inode_put(&fs->inodes, inode);
}

/* -ENAMETOOLONG, or `hidden` for a name that belongs to the volume. */
int s3c_fs_check_name(uint64_t parent, const char *name, int hidden);
/* Paths under the lock of the table. child NULL: of the inode itself. */
int s3c_fs_path(struct s3c_fs *fs, struct s3c_inode *inode, const char *child,
		char ret_path[static S3C_PATH_MAX]);
/* Has a rename given the inode another path than the one that was tried? */
bool s3c_fs_path_changed(struct s3c_fs *fs, struct s3c_inode *inode, const char *path);

/* use.c. Its fields are set; waits until it may begin: -EINTR, -ETIMEDOUT, -EINPROGRESS for
   S3C_NOWAIT. */
int s3c_use_begin_locked(struct s3c_fs *fs, struct s3c_op *op, struct s3c_use *use);
void s3c_use_end_locked(struct s3c_fs *fs, struct s3c_use *use);
/* Of a name in parent, or of parent itself (NULL): its path stays what it is until the end. Takes
   the lock. */
int s3c_use_begin(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *parent, const char *name,
		  struct s3c_use *use, char ret_path[static S3C_PATH_MAX]);
void s3c_use_end(struct s3c_fs *fs, struct s3c_use *use);
/* Until the inode's path is not about to change. Lock held, released. */
int s3c_use_wait_locked(struct s3c_fs *fs, struct s3c_op *op, const struct s3c_inode *inode);
/* Is the name about to be that of another file? And until it is not: lock held, released. */
bool s3c_use_exchanges_locked(const struct s3c_fs *fs, const struct s3c_inode *parent,
			      const char *name);
int s3c_use_wait_name_locked(struct s3c_fs *fs, struct s3c_op *op, const struct s3c_inode *parent,
			     const char *name);

/* What was known of an inode's content before the engine was asked, to tell changes by others
 * from changes that were made here in between. */
struct s3c_sight {
	const struct s3c_inode *inode; /* NULL: there was none. Only compared */
	unsigned seq;
	uint8_t token[16];
};
void s3c_sight_take_locked(const struct s3c_inode *inode, struct s3c_sight *ret_sight);
/* Is info another version than the inode's, made elsewhere? */
bool s3c_sight_foreign_locked(const struct s3c_sight *sight, const struct s3c_inode *inode,
			      const struct s3c_info *info);
/* Takes over what info says. Content that changed by our own doing: the kernel's pages go at the
   next open. */
void s3c_fs_learn_locked(struct s3c_inode *inode, const struct s3c_info *info);
/* Attributes as of info; how long they may be kept. */
void s3c_fs_fill_locked(struct s3c_fs *fs, const struct s3c_inode *inode,
			const struct s3c_info *info, struct s3c_fs_attr *ret_attr);
void s3c_fs_fill_entry_locked(struct s3c_fs *fs, const struct s3c_inode *inode,
			      const struct s3c_info *info, struct s3c_fs_entry *ret_entry);
/* An entry of a directory came or went. */
void s3c_fs_touch_dir_locked(struct s3c_inode *dir);

/*
 * The object of an inode, shared while anyone uses it; given back with s3c_fs_object_release.
 * -ESTALE: it is another version than the kernel knows. keep_cache as in s3c_fs_open.
 */
int s3c_fs_object_acquire(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
			  struct s3c_object **ret_object, bool *ret_keep_cache);
/* Only when it is in use already; NULL. */
struct s3c_object *s3c_fs_object_hold(struct s3c_fs *fs, struct s3c_inode *inode);
void s3c_fs_object_release(struct s3c_fs *fs, struct s3c_inode *inode);
/* What the engine knows of an inode, or is told by the store. */
int s3c_fs_info(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
		struct s3c_info *ret_info);
/* s3c_fs_drop_privs of the inode's object, which the caller uses. */
int s3c_fs_object_drop_privs(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
			     struct s3c_object *object);
/* At the end: tries again what could not be stored when it was closed. The first error. */
int s3c_fs_store_rest(struct s3c_fs *fs, struct s3c_op *op);
/* Attributes for a new file: owner, group by the rules of a set-group-id directory, times. */
void s3c_fs_new_attrs(struct s3c_fs *fs, struct s3c_inode *parent, mode_t mode,
		      const struct s3c_fs_caller *caller, struct s3c_attrs *ret_attrs);
