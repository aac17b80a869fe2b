/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What changes names. The engine does it first; then the table of inodes follows.
 * The kernel keeps others away from the two names meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "fs/private.h"

#define EXCHANGE_TRIES 4 /* when others change the names meanwhile */

/* The parent with a reference, for a name in it. */
static int find_parent(struct s3c_fs *fs, uint64_t parent_id, const char *name, int hidden,
		       struct s3c_inode **ret_parent)
{
	struct s3c_inode *parent;
	int r;

	r = s3c_fs_check_name(parent_id, name, hidden);
	if (r < 0)
		return r;
	parent = s3c_fs_inode(fs, parent_id);
	if (!parent)
		return -ESTALE;
	*ret_parent = parent;
	return 0;
}

/* And the path of the name, which stays what it is until s3c_use_end. */
static int begin(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent_id, const char *name,
		 int hidden, struct s3c_inode **ret_parent, struct s3c_use *use,
		 char ret_path[static S3C_PATH_MAX])
{
	struct s3c_inode *parent;
	int r = find_parent(fs, parent_id, name, hidden, &parent);

	if (r < 0)
		return r;
	r = s3c_use_begin(fs, op, parent, name, use, ret_path);
	if (r < 0) {
		s3c_fs_put(fs, parent);
		return r;
	}
	*ret_parent = parent;
	return 0;
}

/* A name was made: what it is, is looked up. Drops the parent. */
static int end_new(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *parent, const char *name,
		   struct s3c_fs_entry *ret_entry)
{
	struct s3c_inode *old;
	struct s3c_fs_entry entry;
	int r;

	s3c_mutex_lock(&fs->inodes.lock);
	s3c_fs_touch_dir_locked(parent);
	/* One that was removed elsewhere. */
	old = s3c_inode_child_locked(&fs->inodes, parent, name);
	if (old)
		s3c_inode_detach_locked(&fs->inodes, old);
	s3c_mutex_unlock(&fs->inodes.lock);
	r = s3c_fs_lookup(fs, op, parent->nodeid, name, &entry);
	s3c_fs_put(fs, parent);
	if (r < 0)
		return r;
	if (!entry.nodeid)
		return -ESTALE;
	*ret_entry = entry;
	return 0;
}

int s3c_fs_mkdir(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent_id, const char *name,
		 mode_t mode, const struct s3c_fs_caller *caller, struct s3c_fs_entry *ret_entry)
{
	struct s3c_inode *parent;
	struct s3c_attrs attrs;
	struct s3c_use use;
	char path[S3C_PATH_MAX];
	int r;

	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = begin(fs, op, parent_id, name, -EACCES, &parent, &use, path);
	if (r < 0)
		return r;
	s3c_fs_new_attrs(fs, parent, S_IFDIR | (mode & 07777), caller, &attrs);
	r = s3c_engine_mkdir(fs->engine, op, path, &attrs);
	s3c_use_end(fs, &use);
	if (r < 0) {
		s3c_fs_put(fs, parent);
		return r;
	}
	return end_new(fs, op, parent, name, ret_entry);
}

int s3c_fs_symlink(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent_id, const char *name,
		   const char *target, const struct s3c_fs_caller *caller,
		   struct s3c_fs_entry *ret_entry)
{
	struct s3c_inode *parent;
	struct s3c_attrs attrs;
	struct s3c_use use;
	char path[S3C_PATH_MAX];
	int r;

	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = begin(fs, op, parent_id, name, -EACCES, &parent, &use, path);
	if (r < 0)
		return r;
	s3c_fs_new_attrs(fs, parent, S_IFLNK | 0777, caller, &attrs);
	r = s3c_engine_symlink(fs->engine, op, path, target, &attrs);
	s3c_use_end(fs, &use);
	if (r < 0) {
		s3c_fs_put(fs, parent);
		return r;
	}
	return end_new(fs, op, parent, name, ret_entry);
}

static int make_special(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent_id, const char *name,
			mode_t mode, dev_t rdev, const struct s3c_fs_caller *caller,
			struct s3c_fs_entry *ret_entry)
{
	struct s3c_inode *parent;
	struct s3c_attrs attrs;
	struct s3c_use use;
	char path[S3C_PATH_MAX];
	int r;

	r = begin(fs, op, parent_id, name, -EACCES, &parent, &use, path);
	if (r < 0)
		return r;
	s3c_fs_new_attrs(fs, parent, mode, caller, &attrs);
	attrs.rdev = s3c_mode_is_device(mode) ? rdev : 0;
	r = s3c_engine_mknod(fs->engine, op, path, &attrs);
	s3c_use_end(fs, &use);
	if (r < 0) {
		s3c_fs_put(fs, parent);
		return r;
	}
	return end_new(fs, op, parent, name, ret_entry);
}

int s3c_fs_mknod(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent_id, const char *name,
		 mode_t mode, dev_t rdev, const struct s3c_fs_caller *caller,
		 struct s3c_fs_entry *ret_entry)
{
	struct s3c_fs_entry entry;
	struct s3c_file *file;
	bool keep;
	int r;

	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	if (s3c_mode_is_special(mode))
		return make_special(fs, op, parent_id, name, mode, rdev, caller, ret_entry);
	if (!S_ISREG(mode))
		return -EINVAL;
	r = s3c_fs_create(fs, op, parent_id, name, mode, O_WRONLY | O_EXCL, caller, &entry, &file,
			  &keep);
	if (r < 0)
		return r;
	r = s3c_fs_fsync(file, op);
	/* Nothing that mknod(2) calls failed should appear later. */
	if (r < 0)
		s3c_fs_unlink(fs, op, parent_id, name);
	s3c_fs_release(file, op);
	if (r < 0)
		s3c_fs_forget(fs, entry.nodeid, 1);
	else
		*ret_entry = entry;
	return r;
}

/* Of the file of that body only one name is left, and it is not the one that was removed. */
static void rejoin_locked(struct s3c_fs *fs, const struct s3c_inode *parent, const char *name,
			  const struct s3c_joined *joined)
{
	struct s3c_inode *inode;

	if (joined->joined && s3c_inode_body_locked(&fs->inodes, joined->id, &inode) == 0)
		s3c_inode_join_locked(&fs->inodes, inode, parent, name);
}

static int remove_name(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent_id, const char *name,
		       bool dir)
{
	struct s3c_inode *parent, *child;
	struct s3c_joined joined = { 0 };
	struct s3c_use use;
	char path[S3C_PATH_MAX];
	int r;

	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = begin(fs, op, parent_id, name, -ENOENT, &parent, &use, path);
	if (r < 0)
		return r;
	r = dir ? s3c_engine_rmdir(fs->engine, op, path)
		: s3c_engine_unlink_joined(fs->engine, op, path, &joined);
	s3c_mutex_lock(&fs->inodes.lock);
	/* -ENOENT: removed elsewhere. */
	if (r == 0 || r == -ENOENT) {
		child = s3c_inode_child_locked(&fs->inodes, parent, name);
		if (child)
			s3c_inode_detach_locked(&fs->inodes, child);
		rejoin_locked(fs, parent, name, &joined);
		s3c_fs_touch_dir_locked(parent);
	}
	s3c_use_end_locked(fs, &use);
	s3c_inode_put_locked(&fs->inodes, parent, 0);
	s3c_mutex_unlock(&fs->inodes.lock);
	return r;
}

int s3c_fs_unlink(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name)
{
	return remove_name(fs, op, parent, name, false);
}

int s3c_fs_rmdir(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name)
{
	return remove_name(fs, op, parent, name, true);
}

/* Has it to become that of the body, which its file has from now on? Lock held. */
static bool lacks_body_locked(struct s3c_fs *fs, struct s3c_inode *inode,
			      const uint8_t body[static 16])
{
	struct s3c_inode *other;

	/* Removed meanwhile, or known as such already. */
	if (!inode->parent || s3c_inode_is_body_locked(&fs->inodes, inode))
		return false;
	if (s3c_inode_body_locked(&fs->inodes, body, &other) < 0)
		return true;
	s3c_inode_detach_locked(&fs->inodes, inode);
	return false;
}

/* The inode of a file that has got another name. Lock held. */
static void give_name_locked(struct s3c_fs *fs, struct s3c_inode *inode, struct s3c_inode *parent,
			     const char *name, const uint8_t body[static 16])
{
	cleanup_free char *first = NULL;

	if (!lacks_body_locked(fs, inode, body))
		return;
	first = strdup(s3c_inode_name(inode));
	if (first)
		s3c_inode_pair_locked(&fs->inodes, inode, inode->parent, first, parent, name);
	s3c_inode_to_body_locked(&fs->inodes, inode, body);
}

/* As s3c_use_begin, for both names. */
static int begin_link(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
		      struct s3c_inode *parent, const char *name, struct s3c_use *use,
		      char ret_path[static S3C_PATH_MAX], char ret_to[static S3C_PATH_MAX])
{
	int r;

	s3c_mutex_lock(&fs->inodes.lock);
	*use = (struct s3c_use){ .parent = parent, .to_parent = inode };
	r = s3c_use_begin_locked(fs, op, use);
	if (r == 0) {
		/* -ESTALE, at which the kernel looks the name up again: it may be that of a newer
		   inode. Of a file without a name it knows so itself. */
		r = s3c_inode_path_locked(inode, NULL, ret_path);
		if (r == 0)
			r = s3c_inode_path_locked(parent, name, ret_to);
		if (r < 0)
			s3c_use_end_locked(fs, use);
	}
	s3c_mutex_unlock(&fs->inodes.lock);
	return r;
}

int s3c_fs_link(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, uint64_t parent_id,
		const char *name, struct s3c_fs_entry *ret_entry)
{
	char path[S3C_PATH_MAX], to[S3C_PATH_MAX];
	struct s3c_inode *inode, *parent;
	uint8_t body[16];
	struct s3c_use use;
	int r;

	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = find_parent(fs, parent_id, name, -EACCES, &parent);
	if (r < 0)
		return r;
	inode = s3c_fs_inode(fs, nodeid);
	if (!inode) {
		s3c_fs_put(fs, parent);
		return -ESTALE;
	}
	r = S_ISDIR(inode->mode) ? -EPERM : begin_link(fs, op, inode, parent, name, &use, path, to);
	if (r == 0) {
		r = s3c_engine_link(fs->engine, op, path, to, body);
		s3c_mutex_lock(&fs->inodes.lock);
		if (r == 0)
			give_name_locked(fs, inode, parent, name, body);
		s3c_use_end_locked(fs, &use);
		s3c_mutex_unlock(&fs->inodes.lock);
	}
	s3c_fs_put(fs, inode);
	if (r == 0)
		return end_new(fs, op, parent, name, ret_entry);
	s3c_fs_put(fs, parent);
	return r;
}

/*
 * A copy may have given the content another token (where that is an ETag): what the engine knows
 * about it now is taken over.
 */
static void relearn(struct s3c_fs *fs, struct s3c_inode *inode, const char *path)
{
	struct s3c_info info;

	if (s3c_engine_lookup(fs->engine, S3C_NOWAIT, path, &info) < 0)
		return;
	s3c_mutex_lock(&fs->inodes.lock);
	if ((inode->mode & S_IFMT) == (info.mode & S_IFMT))
		s3c_fs_learn_locked(inode, &info);
	s3c_mutex_unlock(&fs->inodes.lock);
}

/* Both parents have references; *ret_moved, a directory, with one, or NULL. */
static int begin_rename(struct s3c_fs *fs, struct s3c_op *op, const char *name, const char *to_name,
			struct s3c_use *use, struct s3c_inode **ret_moved,
			char ret_path[static S3C_PATH_MAX], char ret_to[static S3C_PATH_MAX])
{
	struct s3c_inode *moved;
	int r;

	s3c_mutex_lock(&fs->inodes.lock);
	moved = s3c_inode_child_locked(&fs->inodes, use->parent, name);
	if (moved && !S_ISDIR(moved->mode))
		moved = NULL;
	if (moved)
		s3c_inode_ref_locked(&fs->inodes, moved);
	use->moved = moved;
	r = s3c_use_begin_locked(fs, op, use);
	if (r == 0) {
		r = s3c_inode_path_locked(use->parent, name, ret_path);
		if (r == 0)
			r = s3c_inode_path_locked(use->to_parent, to_name, ret_to);
		if (r < 0)
			s3c_use_end_locked(fs, use);
	}
	if (r < 0)
		s3c_inode_put_locked(&fs->inodes, moved, 0);
	else
		*ret_moved = moved;
	s3c_mutex_unlock(&fs->inodes.lock);
	return r;
}

int s3c_fs_rename(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent_id, const char *name,
		  uint64_t to_parent_id, const char *to_name, bool noreplace)
{
	char path[S3C_PATH_MAX], to_path[S3C_PATH_MAX];
	struct s3c_inode *parent, *to_parent, *inode, *target, *moved;
	struct s3c_use use;
	int r;

	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = find_parent(fs, parent_id, name, -ENOENT, &parent);
	if (r < 0)
		return r;
	r = find_parent(fs, to_parent_id, to_name, -EACCES, &to_parent);
	if (r < 0) {
		s3c_fs_put(fs, parent);
		return r;
	}
	use = (struct s3c_use){ .parent = parent, .to_parent = to_parent };
	r = begin_rename(fs, op, name, to_name, &use, &moved, path, to_path);
	if (r < 0) {
		s3c_fs_put(fs, parent);
		s3c_fs_put(fs, to_parent);
		return r;
	}
	r = s3c_engine_rename(fs->engine, op, path, to_path, noreplace);

	s3c_mutex_lock(&fs->inodes.lock);
	inode = s3c_inode_child_locked(&fs->inodes, parent, name);
	target = s3c_inode_child_locked(&fs->inodes, to_parent, to_name);
	if (inode)
		s3c_inode_ref_locked(&fs->inodes, inode);
	/* Neither is known of names of a body. */
	if (r == 0 && (inode != target || !inode)) {
		if (inode)
			s3c_inode_move_locked(&fs->inodes, inode, to_parent, to_name);
		else if (target)
			s3c_inode_detach_locked(&fs->inodes, target);
		s3c_fs_touch_dir_locked(parent);
		s3c_fs_touch_dir_locked(to_parent);
	}
	s3c_use_end_locked(fs, &use);
	s3c_inode_put_locked(&fs->inodes, moved, 0);
	s3c_inode_put_locked(&fs->inodes, parent, 0);
	s3c_inode_put_locked(&fs->inodes, to_parent, 0);
	s3c_mutex_unlock(&fs->inodes.lock);

	if (r == 0 && inode)
		relearn(fs, inode, to_path);
	s3c_fs_put(fs, inode);
	return r;
}

/* Of two names in two directories. */
struct exchange {
	struct s3c_fs *fs;
	struct s3c_inode *parents[2]; /* references */
	const char *names[2];
	struct s3c_inode *files[2]; /* references; NULL: not known */
	char paths[2][S3C_PATH_MAX];
	struct s3c_use use;
};

/* Who works on one of the files by its path has ended, and who comes later waits, as does who
   looks one of the names up. */
static int exchange_begin(struct exchange *ex, struct s3c_op *op)
{
	struct s3c_fs *fs = ex->fs;
	int r;

	s3c_mutex_lock(&fs->inodes.lock);
	for (unsigned i = 0; i < ARRAY_LEN(ex->files); i++) {
		ex->files[i] = s3c_inode_child_locked(&fs->inodes, ex->parents[i], ex->names[i]);
		if (ex->files[i])
			s3c_inode_ref_locked(&fs->inodes, ex->files[i]);
	}
	ex->use = (struct s3c_use){
		.parent = ex->parents[0],
		.to_parent = ex->parents[1],
		.moved = ex->files[0],
		.also = ex->files[1],
		.names = { ex->names[0], ex->names[1] },
	};
	r = s3c_use_begin_locked(fs, op, &ex->use);
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(ex->paths); i++) {
		r = s3c_inode_path_locked(ex->parents[i], ex->names[i], ex->paths[i]);
		if (r < 0)
			s3c_use_end_locked(fs, &ex->use);
	}
	s3c_mutex_unlock(&fs->inodes.lock);
	return r;
}

/* Names of bodies have no inodes of their own in the table: from here on no path of an inode is
   that of one of the two names. */
static int exchange_prepare(struct exchange *ex, struct s3c_op *op)
{
	struct s3c_fs *fs = ex->fs;
	struct s3c_info info;
	uint8_t body[16];
	int r = 0;

	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(ex->paths); i++) {
		r = s3c_engine_lookup(fs->engine, op, ex->paths[i], &info);
		if (r == 0 && !S_ISREG(info.mode) && !S_ISLNK(info.mode))
			r = -EINVAL;
	}
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(ex->paths); i++) {
		struct s3c_inode *child;

		r = s3c_engine_make_body(fs->engine, op, ex->paths[i], body);
		if (r < 0)
			break;
		s3c_mutex_lock(&fs->inodes.lock);
		child = s3c_inode_child_locked(&fs->inodes, ex->parents[i], ex->names[i]);
		if (child && lacks_body_locked(fs, child, body))
			s3c_inode_to_body_locked(&fs->inodes, child, body);
		s3c_mutex_unlock(&fs->inodes.lock);
	}
	return r;
}

static void exchange_end(struct exchange *ex, bool done)
{
	struct s3c_fs *fs = ex->fs;

	s3c_mutex_lock(&fs->inodes.lock);
	/* Lookups that had begun look once more. */
	fs->inodes.exchanges++;
	for (unsigned i = 0; done && i < ARRAY_LEN(ex->parents); i++)
		s3c_fs_touch_dir_locked(ex->parents[i]);
	s3c_use_end_locked(fs, &ex->use);
	s3c_mutex_unlock(&fs->inodes.lock);
}

static int exchange(struct exchange *ex, struct s3c_op *op)
{
	int r = exchange_begin(ex, op);

	if (r < 0)
		return r;
	for (unsigned tries = 0; tries < EXCHANGE_TRIES; tries++) {
		r = exchange_prepare(ex, op);
		if (r == 0)
			r = s3c_engine_exchange(ex->fs->engine, op, ex->paths[0], ex->paths[1]);
		if (r != -EAGAIN)
			break;
	}
	exchange_end(ex, r == 0);
	return r == -EAGAIN ? -EBUSY : r;
}

int s3c_fs_exchange(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent_id, const char *name,
		    uint64_t to_parent_id, const char *to_name)
{
	struct exchange *ex;
	int r;

	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	ex = calloc(1, sizeof(*ex));
	if (!ex)
		return -ENOMEM;
	ex->fs = fs;
	ex->names[0] = name;
	ex->names[1] = to_name;
	r = find_parent(fs, parent_id, name, -ENOENT, &ex->parents[0]);
	if (r == 0)
		r = find_parent(fs, to_parent_id, to_name, -ENOENT, &ex->parents[1]);
	if (r == 0)
		r = exchange(ex, op);
	for (unsigned i = 0; i < ARRAY_LEN(ex->parents); i++) {
		s3c_fs_put(fs, ex->files[i]);
		s3c_fs_put(fs, ex->parents[i]);
	}
	free(ex);
	return r;
}
