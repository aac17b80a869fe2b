/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Attributes of inodes. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "fs/private.h"

#define PATH_TRIES 4 /* lookups under a path that a rename takes away meanwhile */

/* What can still be said of a file that has neither name nor content here. */
static int info_of_removed_locked(const struct s3c_inode *inode, struct s3c_info *ret_info)
{
	if (inode->stale || !S_ISDIR(inode->mode))
		return -ESTALE;
	memset(ret_info, 0, sizeof(*ret_info));
	ret_info->mode = inode->mode;
	ret_info->uid = inode->uid;
	ret_info->gid = inode->gid;
	return 0;
}

/* Without the store: of an open file, or of what was removed. -EAGAIN: has to be looked up. */
static int info_here_locked(const struct s3c_inode *inode, char ret_path[static S3C_PATH_MAX],
			    struct s3c_sight *ret_sight, struct s3c_info *ret_info)
{
	int r;

	if (inode->object) {
		s3c_object_info(inode->object, ret_info);
		return 0;
	}
	if (inode->detached)
		return info_of_removed_locked(inode, ret_info);
	r = s3c_inode_path_locked(inode, NULL, ret_path);
	if (r < 0)
		return r;
	s3c_sight_take_locked(inode, ret_sight);
	return -EAGAIN;
}

int s3c_fs_info(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
		struct s3c_info *ret_info)
{
	struct s3c_info info;
	int r = -ESTALE;

	for (int i = 0; i < PATH_TRIES; i++) {
		char path[S3C_PATH_MAX];
		struct s3c_sight sight;

		s3c_mutex_lock(&fs->inodes.lock);
		r = info_here_locked(inode, path, &sight, &info);
		s3c_mutex_unlock(&fs->inodes.lock);
		if (r != -EAGAIN)
			break;
		r = s3c_engine_lookup(fs->engine, op, path, &info);
		/* Not there any more, or another file by now. */
		if ((r == 0 || r == -ENOENT) && s3c_fs_path_changed(fs, inode, path)) {
			r = -ESTALE;
			continue;
		}
		if (r < 0)
			break;
		s3c_mutex_lock(&fs->inodes.lock);
		/* Another version, another kind of file: for the kernel that is another inode. */
		if (inode->nodeid != S3C_FS_ROOT &&
		    ((inode->mode & S_IFMT) != (info.mode & S_IFMT) ||
		     s3c_sight_foreign_locked(&sight, inode, &info))) {
			inode->stale = true;
			r = -ESTALE;
		}
		s3c_mutex_unlock(&fs->inodes.lock);
		break;
	}
	if (r == 0)
		*ret_info = info;
	return r;
}

int s3c_fs_getattr(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid,
		   struct s3c_fs_attr *ret_attr)
{
	struct s3c_inode *inode = s3c_fs_inode(fs, nodeid);
	struct s3c_info info;
	int r;

	if (!inode)
		return -ESTALE;
	r = s3c_fs_info(fs, op, inode, &info);
	s3c_mutex_lock(&fs->inodes.lock);
	if (r == 0) {
		s3c_fs_learn_locked(inode, &info);
		s3c_fs_fill_locked(fs, inode, &info, ret_attr);
	}
	s3c_inode_put_locked(&fs->inodes, inode, 0);
	s3c_mutex_unlock(&fs->inodes.lock);
	return r;
}

/* Changes attributes; object is the inode's, or NULL. */
static int set_attrs(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
		     struct s3c_object *object, const struct s3c_fs_change *change,
		     struct s3c_info *ret_info)
{
	struct s3c_attrs attrs = change->attrs;
	char path[S3C_PATH_MAX];
	struct s3c_use use;
	int r, named;

	named = s3c_use_begin(fs, op, inode, NULL, &use, path);
	/* An open file without a name is its object alone. */
	if (named == -ESTALE && object)
		path[0] = '\0';
	else if (named < 0)
		return named;
	s3c_mutex_lock(&fs->inodes.lock);
	attrs.known = true;
	attrs.mode = (inode->mode & S_IFMT) | (attrs.mode & 07777);
	s3c_mutex_unlock(&fs->inodes.lock);
	r = s3c_engine_setattr(fs->engine, op, path, object, change->which, &attrs, ret_info);
	if (named == 0)
		s3c_use_end(fs, &use);
	return r;
}

static mode_t without_privs(mode_t mode)
{
	if (!S_ISREG(mode))
		return mode;
	/* Without execution by the group the bit says something else: mandatory locks, once. */
	if (mode & S_IXGRP)
		mode &= ~(mode_t)S_ISGID;
	return mode & ~(mode_t)S_ISUID;
}

int s3c_fs_object_drop_privs(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
			     struct s3c_object *object)
{
	struct s3c_fs_change change = { .which = S3C_SET_MODE };
	struct s3c_info info;
	int r;

	s3c_object_info(object, &info);
	change.attrs.mode = without_privs(info.mode);
	if (change.attrs.mode == info.mode)
		return 0;
	r = set_attrs(fs, op, inode, object, &change, &info);
	if (r < 0)
		return r;
	s3c_mutex_lock(&fs->inodes.lock);
	s3c_fs_learn_locked(inode, &info);
	s3c_mutex_unlock(&fs->inodes.lock);
	if (fs->stale_fn)
		fs->stale_fn(fs->stale_arg, inode->nodeid);
	return 0;
}

/* A change of attributes, not of the size. */
static int set_plain(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
		     const struct s3c_fs_change *change, struct s3c_info *ret_info)
{
	struct s3c_fs_change all = *change;
	struct s3c_object *object;
	int r;

	if (change->drop_privs && !(change->which & S3C_SET_MODE)) {
		struct s3c_info info;

		r = s3c_fs_info(fs, op, inode, &info);
		if (r < 0)
			return r;
		all.attrs.mode = without_privs(info.mode);
		if (all.attrs.mode != info.mode)
			all.which |= S3C_SET_MODE;
	}
	if (!all.which)
		return s3c_fs_info(fs, op, inode, ret_info);
	object = s3c_fs_object_hold(fs, inode);
	r = set_attrs(fs, op, inode, object, &all, ret_info);
	if (object)
		s3c_fs_object_release(fs, inode);
	return r;
}

/* A change of size, with or without other attributes. by_path: committed at the end. */
static int set_size(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
		    const struct s3c_fs_change *change, bool by_path, struct s3c_info *ret_info)
{
	struct s3c_object *object;
	bool keep;
	int r;

	if (S_ISDIR(inode->mode))
		return -EISDIR;
	if (!S_ISREG(inode->mode))
		return -EINVAL;
	if (change->size > INT64_MAX)
		return -EFBIG;
	if (by_path && op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = s3c_fs_object_acquire(fs, op, inode, &object, &keep);
	if (r < 0)
		return r;
	if (change->drop_privs)
		r = s3c_fs_object_drop_privs(fs, op, inode, object);
	if (r == 0)
		r = s3c_object_truncate(object, op, change->size);
	if (r == 0 && change->which)
		r = set_attrs(fs, op, inode, object, change, ret_info);
	if (r == 0 && by_path)
		r = s3c_object_sync(object, op, S3C_SYNC_FSYNC);
	if (r == 0)
		s3c_object_info(object, ret_info);
	s3c_fs_object_release(fs, inode);
	return r;
}

int s3c_fs_setattr(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, struct s3c_file *file,
		   const struct s3c_fs_change *change, struct s3c_fs_attr *ret_attr)
{
	struct s3c_inode *inode = s3c_fs_inode(fs, nodeid);
	struct s3c_info info;
	int r;

	if (!inode)
		return -ESTALE;
	if (change->set_size) {
		r = set_size(fs, op, inode, change, !file, &info);
		if (r == 0 && file)
			__atomic_store_n(&file->touched, true, __ATOMIC_RELAXED);
	} else {
		r = set_plain(fs, op, inode, change, &info);
	}

	s3c_mutex_lock(&fs->inodes.lock);
	if (r == 0) {
		/* Times that were set count, until an entry changes again. */
		if (change->which & S3C_SET_MTIME)
			inode->changed_ns = INT64_MIN;
		s3c_fs_learn_locked(inode, &info);
		s3c_fs_fill_locked(fs, inode, &info, ret_attr);
	}
	s3c_inode_put_locked(&fs->inodes, inode, 0);
	s3c_mutex_unlock(&fs->inodes.lock);
	return r;
}

int s3c_fs_readlink(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, char *ret_target,
		    size_t size)
{
	struct s3c_inode *inode = s3c_fs_inode(fs, nodeid);
	char path[S3C_PATH_MAX];
	struct s3c_use use;
	int r;

	if (!inode)
		return -ESTALE;
	r = s3c_use_begin(fs, op, inode, NULL, &use, path);
	if (r == 0) {
		r = s3c_engine_readlink(fs->engine, op, path, ret_target, size);
		s3c_use_end(fs, &use);
	}
	s3c_fs_put(fs, inode);
	return r;
}
