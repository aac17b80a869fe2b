/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Open directories. Offsets: 0 is ".", 1 is "..", n + 2 the n-th name of the
 * snapshot; they stay true while the snapshot does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/private.h"

#define FIRST_NAME 2

int s3c_fs_opendir(struct s3c_fs *fs, uint64_t nodeid, struct s3c_dir **ret_dir)
{
	struct s3c_inode *inode = s3c_fs_inode(fs, nodeid);
	struct s3c_dir *dir;

	if (!inode)
		return -ESTALE;
	dir = S_ISDIR(inode->mode) ? calloc(1, sizeof(*dir)) : NULL;
	if (!dir) {
		int r = S_ISDIR(inode->mode) ? -ENOMEM : -ENOTDIR;

		s3c_fs_put(fs, inode);
		return r;
	}
	dir->fs = fs;
	dir->inode = inode;
	s3c_mutex_init(&dir->lock);
	s3c_mutex_lock(&fs->inodes.lock);
	LIST_INSERT_HEAD(&fs->dirs, dir, link);
	s3c_mutex_unlock(&fs->inodes.lock);
	*ret_dir = dir;
	return 0;
}

void s3c_fs_releasedir(struct s3c_dir *dir)
{
	struct s3c_fs *fs;

	if (!dir)
		return;
	fs = dir->fs;
	if (dir->listing)
		s3c_listing_put(dir->listing);
	s3c_mutex_lock(&fs->inodes.lock);
	LIST_REMOVE(dir, link);
	s3c_inode_put_locked(&fs->inodes, dir->inode, 0);
	s3c_mutex_unlock(&fs->inodes.lock);
	s3c_mutex_destroy(&dir->lock);
	free(dir);
}

int s3c_fs_readdir_begin(struct s3c_dir *dir, struct s3c_op *op, uint64_t offset)
{
	struct s3c_listing *listing, *old;
	char path[S3C_PATH_MAX];
	struct s3c_use use;
	int r;

	s3c_mutex_lock(&dir->lock);
	if (dir->listing && offset > 0)
		return 0;
	s3c_mutex_unlock(&dir->lock);
	r = s3c_use_begin(dir->fs, op, dir->inode, NULL, &use, path);
	if (r == 0) {
		r = s3c_engine_list(dir->fs->engine, op, path, &listing);
		s3c_use_end(dir->fs, &use);
	}
	/* A directory that was removed has no entries any more. */
	if (r == -ESTALE)
		listing = NULL;
	else if (r < 0)
		return r;
	s3c_mutex_lock(&dir->lock);
	old = dir->listing;
	dir->listing = listing;
	if (old)
		s3c_listing_put(old);
	return 0;
}

void s3c_fs_readdir_end(struct s3c_dir *dir)
{
	s3c_mutex_unlock(&dir->lock);
}

static uint64_t ino_of(struct s3c_dir *dir, const char *name)
{
	struct s3c_fs *fs = dir->fs;
	char path[S3C_PATH_MAX];
	struct s3c_inode *child;
	uint64_t ino = dir->inode->ino;
	uint8_t body[16];

	s3c_mutex_lock(&fs->inodes.lock);
	child = s3c_inode_child_locked(&fs->inodes, dir->inode, name);
	if (child)
		ino = child->ino;
	else if (s3c_inode_path_locked(dir->inode, name, path) == 0) {
		if (s3c_engine_body_known(fs->engine, path, body))
			ino = s3c_inode_body_ino_locked(&fs->inodes, body);
		else
			ino = s3c_inode_ino_locked(&fs->inodes, path);
	}
	s3c_mutex_unlock(&fs->inodes.lock);
	return ino;
}

static void dot_entry(struct s3c_dir *dir, uint64_t offset, struct s3c_fs_dirent *ret_entry)
{
	struct s3c_inode *inode = dir->inode;
	struct s3c_fs *fs = dir->fs;

	s3c_mutex_lock(&fs->inodes.lock);
	if (offset == 1 && inode->parent)
		inode = inode->parent;
	ret_entry->ino = inode->ino;
	s3c_mutex_unlock(&fs->inodes.lock);
	ret_entry->name = offset == 0 ? "." : "..";
	ret_entry->type = S_IFDIR;
	ret_entry->next = offset + 1;
	ret_entry->dot = true;
}

bool s3c_fs_readdir_entry(struct s3c_dir *dir, uint64_t offset, struct s3c_fs_dirent *ret_entry)
{
	const struct s3c_listing *listing = dir->listing;

	s3c_mutex_assert_held(&dir->lock);
	if (offset < FIRST_NAME) {
		dot_entry(dir, offset, ret_entry);
		return true;
	}
	for (; listing && offset - FIRST_NAME < listing->count; offset++) {
		const struct s3c_listing_item *item = &listing->items[offset - FIRST_NAME];

		if (s3c_fs_check_name(dir->inode->nodeid, item->name, -ENOENT) < 0)
			continue;
		ret_entry->name = item->name;
		ret_entry->type = item->type & S_IFMT;
		ret_entry->ino = ino_of(dir, item->name);
		ret_entry->next = offset + 1;
		ret_entry->dot = false;
		return true;
	}
	return false;
}
