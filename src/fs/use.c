/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <errno.h>
#include <string.h>

#include "fs/private.h"

static bool is_below(const struct s3c_inode *inode, const struct s3c_inode *top)
{
	while (inode && inode != top)
		inode = inode->parent;
	return inode != NULL;
}

/* Is a directory at or above it being moved by another? */
static bool is_moving(const struct s3c_fs *fs, const struct s3c_use *self,
		      const struct s3c_inode *inode)
{
	const struct s3c_use *use;

	LIST_FOREACH (use, &fs->uses, link)
		if (use != self && ((use->moved && is_below(inode, use->moved)) ||
				    (use->also && is_below(inode, use->also))))
			return true;
	return false;
}

/* Does another work on a name in it, or below it? */
static bool is_used(const struct s3c_fs *fs, const struct s3c_use *self,
		    const struct s3c_inode *top)
{
	const struct s3c_use *use;

	LIST_FOREACH (use, &fs->uses, link)
		if (use != self && (is_below(use->parent, top) ||
				    (use->to_parent && is_below(use->to_parent, top))))
			return true;
	return false;
}

static int wait(struct s3c_fs *fs, struct s3c_op *op)
{
	return op == S3C_NOWAIT ? -EINPROGRESS
				: s3c_waitq_wait(&fs->use_wait, &fs->inodes.lock, op);
}

int s3c_use_wait_locked(struct s3c_fs *fs, struct s3c_op *op, const struct s3c_inode *inode)
{
	int r = 0;

	while (r == 0 && is_moving(fs, NULL, inode))
		r = wait(fs, op);
	return r;
}

bool s3c_use_exchanges_locked(const struct s3c_fs *fs, const struct s3c_inode *parent,
			      const char *name)
{
	const struct s3c_use *use;

	LIST_FOREACH (use, &fs->uses, link)
		if (use->names[0] &&
		    ((use->parent == parent && strcmp(use->names[0], name) == 0) ||
		     (use->to_parent == parent && strcmp(use->names[1], name) == 0)))
			return true;
	return false;
}

int s3c_use_wait_name_locked(struct s3c_fs *fs, struct s3c_op *op, const struct s3c_inode *parent,
			     const char *name)
{
	int r = 0;

	while (r == 0 && s3c_use_exchanges_locked(fs, parent, name))
		r = wait(fs, op);
	return r;
}

int s3c_use_begin_locked(struct s3c_fs *fs, struct s3c_op *op, struct s3c_use *use)
{
	int r = 0;

	while (r == 0 && (is_moving(fs, use, use->parent) ||
			  (use->to_parent && is_moving(fs, use, use->to_parent))))
		r = wait(fs, op);
	if (r < 0)
		return r;
	LIST_INSERT_HEAD(&fs->uses, use, link);
	/* New ones below it wait from here on. */
	while (r == 0 && ((use->moved && is_used(fs, use, use->moved)) ||
			  (use->also && is_used(fs, use, use->also))))
		r = wait(fs, op);
	if (r < 0)
		s3c_use_end_locked(fs, use);
	return r;
}

void s3c_use_end_locked(struct s3c_fs *fs, struct s3c_use *use)
{
	LIST_REMOVE(use, link);
	s3c_waitq_wake_all(&fs->use_wait);
}

int s3c_use_begin(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *parent, const char *name,
		  struct s3c_use *use, char ret_path[static S3C_PATH_MAX])
{
	int r;

	*use = (struct s3c_use){ .parent = parent };
	s3c_mutex_lock(&fs->inodes.lock);
	r = s3c_use_begin_locked(fs, op, use);
	if (r == 0) {
		r = s3c_inode_path_locked(parent, name, ret_path);
		if (r < 0)
			s3c_use_end_locked(fs, use);
	}
	s3c_mutex_unlock(&fs->inodes.lock);
	return r;
}

void s3c_use_end(struct s3c_fs *fs, struct s3c_use *use)
{
	s3c_mutex_lock(&fs->inodes.lock);
	s3c_use_end_locked(fs, use);
	s3c_mutex_unlock(&fs->inodes.lock);
}
