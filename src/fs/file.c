/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Open files. An inode has at most one object; who uses it is counted in opens.
 *
 *	opens  object  content of the inode
 *	0      NULL    as token says, when that is known
 *	> 0    set     as the object says: every change of it is ours
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"
#include "fs/private.h"

#define OPEN_TRIES 4

/* The inode begins to use an object that was just opened. -ESTALE: of a version that the kernel
 * has no pages of. */
static int attach_locked(struct s3c_inode *inode, struct s3c_object *object)
{
	struct s3c_info info;

	s3c_object_info(object, &info);
	if (!S_ISREG(info.mode)) {
		inode->stale = true;
		return -ESTALE;
	}
	if (inode->token_known && !s3c_object_dirty(object) &&
	    memcmp(inode->token, info.content_token, sizeof(inode->token)) != 0) {
		/* Once is enough: a program must not be told the same for ever, and of an inode
		   that was never opened the kernel has no pages. */
		if (!inode->replacement) {
			inode->stale = true;
			return -ESTALE;
		}
		inode->drop_cache = true;
	}
	inode->replacement = false;
	inode->object = object;
	inode->object_seq++;
	return 0;
}

/* Uses the object of the inode if it has one. */
static bool share_locked(struct s3c_inode *inode, struct s3c_object **ret_object,
			 bool *ret_keep_cache)
{
	if (!inode->object)
		return false;
	inode->opens++;
	*ret_object = inode->object;
	*ret_keep_cache = !inode->drop_cache;
	inode->drop_cache = false;
	return true;
}

/* Opens under the present path. -EAGAIN: the path changed meanwhile. */
static int open_object(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
		       struct s3c_object **ret_object, bool *ret_keep_cache)
{
	struct s3c_object *object = NULL, *unused = NULL;
	char path[S3C_PATH_MAX];
	int r = 0;

	s3c_mutex_lock(&fs->inodes.lock);
	if (share_locked(inode, ret_object, ret_keep_cache)) {
		s3c_mutex_unlock(&fs->inodes.lock);
		return 0;
	}
	r = inode->stale ? -ESTALE : s3c_inode_path_locked(inode, NULL, path);
	s3c_mutex_unlock(&fs->inodes.lock);
	if (r < 0)
		return r;

	r = s3c_object_open(fs->engine, op, path, &object);
	if ((r == 0 || r == -ENOENT) && s3c_fs_path_changed(fs, inode, path)) {
		if (r == 0)
			s3c_object_close(object);
		return -EAGAIN;
	}
	if (r < 0)
		return r;
	s3c_mutex_lock(&fs->inodes.lock);
	if (inode->object)
		unused = object; /* someone was faster */
	else
		r = attach_locked(inode, object);
	if (r == 0)
		share_locked(inode, ret_object, ret_keep_cache);
	else
		unused = object;
	s3c_mutex_unlock(&fs->inodes.lock);
	if (unused)
		s3c_object_close(unused);
	return r;
}

int s3c_fs_object_acquire(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
			  struct s3c_object **ret_object, bool *ret_keep_cache)
{
	int r = -EAGAIN;

	for (int i = 0; r == -EAGAIN && i < OPEN_TRIES; i++)
		r = open_object(fs, op, inode, ret_object, ret_keep_cache);
	return r == -EAGAIN ? -ENOENT : r;
}

struct s3c_object *s3c_fs_object_hold(struct s3c_fs *fs, struct s3c_inode *inode)
{
	struct s3c_object *object;

	s3c_mutex_lock(&fs->inodes.lock);
	object = inode->object;
	if (object)
		inode->opens++;
	s3c_mutex_unlock(&fs->inodes.lock);
	return object;
}

void s3c_fs_object_release(struct s3c_fs *fs, struct s3c_inode *inode)
{
	struct s3c_object *last = NULL;
	struct s3c_info info;

	s3c_mutex_lock(&fs->inodes.lock);
	if (--inode->opens == 0) {
		last = steal_ptr(inode->object);
		inode->object_seq++;
		/* What is not stored yet may get another token when it is. */
		inode->token_known = !s3c_object_dirty(last);
		s3c_object_info(last, &info);
		memcpy(inode->token, info.content_token, sizeof(inode->token));
		if (!inode->token_known)
			inode->drop_cache = true;
	}
	s3c_mutex_unlock(&fs->inodes.lock);
	if (last)
		s3c_object_close(last);
}

/* Linux's FMODE_EXEC (include/linux/fs.h), which FUSE passes on with the flags of an open: the
   handle of a program lasts as long as it runs. */
#define OPEN_EXEC 0x20

/*
 * For an open that writes the kernel itself sees to that no program runs from the file. O_TRUNC
 * with O_RDONLY it refuses as well, but only after it has asked us to truncate.
 */
static int check_busy(struct s3c_fs *fs, const struct s3c_inode *inode, int flags)
{
	bool busy;

	if (!(flags & O_TRUNC) || (flags & O_ACCMODE) != O_RDONLY)
		return 0;
	s3c_mutex_lock(&fs->inodes.lock);
	busy = inode->execs > 0;
	s3c_mutex_unlock(&fs->inodes.lock);
	return busy ? -ETXTBSY : 0;
}

static bool wants_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

/* Fills a handle for an object that was acquired: takes over inode's reference and the use. */
static void file_init(struct s3c_fs *fs, struct s3c_inode *inode, struct s3c_object *object,
		      int flags, struct s3c_file *file)
{
	file->fs = fs;
	file->inode = inode;
	file->object = object;
	file->writable = wants_write(flags);
	file->exec = flags & OPEN_EXEC;
	s3c_mutex_lock(&fs->inodes.lock);
	inode->writers += file->writable;
	inode->execs += file->exec;
	LIST_INSERT_HEAD(&fs->files, file, link);
	s3c_mutex_unlock(&fs->inodes.lock);
}

/* Of the view alone: the store keeps the old content until the new one is there. */
static int empty_view(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
		      struct s3c_object *object, const struct s3c_fs_caller *caller)
{
	int r = 0;

	if (caller->drop_privs)
		r = s3c_fs_object_drop_privs(fs, op, inode, object);
	return r < 0 ? r : s3c_object_truncate(object, op, 0);
}

int s3c_fs_open(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, int flags,
		const struct s3c_fs_caller *caller, struct s3c_file **ret_file,
		bool *ret_keep_cache)
{
	cleanup_free struct s3c_file *file = calloc(1, sizeof(*file));
	struct s3c_inode *inode = s3c_fs_inode(fs, nodeid);
	struct s3c_object *object;
	bool keep = false;
	int r;

	if (!inode)
		return -ESTALE;
	if (!file)
		r = -ENOMEM;
	else if (S_ISDIR(inode->mode))
		r = -EISDIR;
	else
		r = check_busy(fs, inode, flags);
	if (r == 0)
		r = s3c_fs_object_acquire(fs, op, inode, &object, &keep);
	if (r == 0 && (flags & O_TRUNC)) {
		r = empty_view(fs, op, inode, object, caller);
		if (r < 0)
			s3c_fs_object_release(fs, inode);
	}
	if (r < 0) {
		s3c_fs_put(fs, inode);
		return r;
	}
	file_init(fs, inode, object, flags, file);
	*ret_file = steal_ptr(file);
	*ret_keep_cache = keep;
	return 0;
}

void s3c_fs_new_attrs(struct s3c_fs *fs, struct s3c_inode *parent, mode_t mode,
		      const struct s3c_fs_caller *caller, struct s3c_attrs *ret_attrs)
{
	int64_t now = s3c_clock_realtime_ns();

	*ret_attrs = (struct s3c_attrs){
		.known = true,
		.mode = mode,
		.uid = caller->uid,
		.gid = caller->gid,
		.mtime_ns = now,
		.atime_ns = now,
		.ctime_ns = now,
	};
	s3c_mutex_lock(&fs->inodes.lock);
	if (parent->mode & S_ISGID) {
		ret_attrs->gid = parent->gid;
		if (S_ISDIR(mode))
			ret_attrs->mode |= S_ISGID;
	}
	s3c_mutex_unlock(&fs->inodes.lock);
}

/* The name exists already: opens it. */
static int open_existing(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name,
			 int flags, const struct s3c_fs_caller *caller,
			 struct s3c_fs_entry *ret_entry, struct s3c_file **ret_file,
			 bool *ret_keep_cache)
{
	struct s3c_fs_entry entry;
	int r;

	r = s3c_fs_lookup(fs, op, parent, name, &entry);
	if (r < 0)
		return r;
	if (!entry.nodeid)
		return -ESTALE;
	r = s3c_fs_open(fs, op, entry.nodeid, flags, caller, ret_file, ret_keep_cache);
	if (r < 0) {
		s3c_fs_forget(fs, entry.nodeid, 1);
		return r;
	}
	if (flags & O_TRUNC) {
		struct s3c_info info;

		s3c_object_info((*ret_file)->object, &info);
		entry.attr.st.st_mode = info.mode;
		entry.attr.st.st_size = 0;
		entry.attr.st.st_blocks = 0;
	}
	*ret_entry = entry;
	return 0;
}

/* Enters a file that the engine has made; takes over inode (new) with its reference. */
static void link_new(struct s3c_fs *fs, struct s3c_inode *parent, const char *path,
		     struct s3c_object *object, struct s3c_inode *inode,
		     struct s3c_fs_entry *ret_entry)
{
	struct s3c_info info;

	s3c_object_info(object, &info);
	s3c_mutex_lock(&fs->inodes.lock);
	s3c_inode_link_locked(&fs->inodes, parent, path, 0, inode);
	inode->nlookup = 1;
	inode->object = object;
	inode->opens = 1;
	inode->object_seq++;
	s3c_fs_learn_locked(inode, &info);
	s3c_fs_touch_dir_locked(parent);
	s3c_fs_fill_entry_locked(fs, inode, &info, ret_entry);
	s3c_mutex_unlock(&fs->inodes.lock);
}

int s3c_fs_create(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent_id, const char *name,
		  mode_t mode, int flags, const struct s3c_fs_caller *caller,
		  struct s3c_fs_entry *ret_entry, struct s3c_file **ret_file, bool *ret_keep_cache)
{
	cleanup_free struct s3c_file *file = NULL;
	struct s3c_inode *parent, *inode = NULL;
	struct s3c_object *object;
	struct s3c_attrs attrs;
	struct s3c_use use;
	char path[S3C_PATH_MAX];
	bool used;
	int r;

	r = s3c_fs_check_name(parent_id, name, -EACCES);
	if (r < 0)
		return r;
	parent = s3c_fs_inode(fs, parent_id);
	if (!parent)
		return -ESTALE;
	r = s3c_use_begin(fs, op, parent, name, &use, path);
	used = r == 0;
	if (r == 0) {
		/* Beforehand: what the engine has made cannot be taken back quietly. */
		file = calloc(1, sizeof(*file));
		inode = s3c_inode_alloc(name);
		if (!file || !inode)
			r = -ENOMEM;
	}
	if (r == 0) {
		s3c_fs_new_attrs(fs, parent, S_IFREG | (mode & 07777), caller, &attrs);
		r = flags & O_EXCL ? s3c_object_create_excl(fs->engine, op, path, &attrs, &object)
				   : s3c_object_create(fs->engine, op, path, &attrs, &object);
	}
	if (r == 0) {
		link_new(fs, parent, path, object, inode, ret_entry);
		file_init(fs, inode, object, flags, file);
		*ret_file = steal_ptr(file);
		*ret_keep_cache = false;
	} else {
		s3c_inode_discard(inode);
	}
	if (used)
		s3c_use_end(fs, &use);
	s3c_fs_put(fs, parent);
	/* Made elsewhere since the kernel looked. */
	if (r == -EEXIST && !(flags & O_EXCL))
		r = open_existing(fs, op, parent_id, name, flags, caller, ret_entry, ret_file,
				  ret_keep_cache);
	return r;
}

int s3c_fs_read(struct s3c_file *file, struct s3c_op *op, uint64_t offset, size_t len,
		struct s3c_pages *ret_pages)
{
	return s3c_object_read(file->object, op, offset, len, &file->readahead, ret_pages);
}

int s3c_fs_write(struct s3c_file *file, struct s3c_op *op, uint64_t offset, const void *data,
		 size_t len, bool append)
{
	int r = s3c_object_write(file->object, op, offset, data, len, append);

	if (r >= 0)
		__atomic_store_n(&file->touched, true, __ATOMIC_RELAXED);
	return r;
}

int s3c_fs_fallocate(struct s3c_file *file, struct s3c_op *op, unsigned mode, uint64_t offset,
		     uint64_t len)
{
	const unsigned zero = S3C_FS_PUNCH_HOLE | S3C_FS_ZERO_RANGE;
	struct s3c_info info;
	int r = 0;

	if (mode & ~(zero | S3C_FS_KEEP_SIZE) || (mode & zero) == zero ||
	    (mode & (S3C_FS_PUNCH_HOLE | S3C_FS_KEEP_SIZE)) == S3C_FS_PUNCH_HOLE)
		return -EOPNOTSUPP;
	if (offset > INT64_MAX || len > INT64_MAX - offset)
		return -EFBIG;
	if (mode & zero)
		r = s3c_object_zero(file->object, op, offset, len);
	s3c_object_info(file->object, &info);
	if (r == 0 && !(mode & S3C_FS_KEEP_SIZE) && offset + len > info.size)
		r = s3c_object_truncate(file->object, op, offset + len);
	if (r == 0)
		__atomic_store_n(&file->touched, true, __ATOMIC_RELAXED);
	return r;
}

int s3c_fs_copy(struct s3c_file *from, uint64_t from_offset, struct s3c_file *to,
		uint64_t to_offset, struct s3c_op *op, uint64_t len, uint64_t *ret_done)
{
	int r;

	if (from_offset != to_offset)
		return -EOPNOTSUPP;
	r = s3c_object_clone(to->object, from->object, op, to_offset, len, ret_done);
	if (r == 0)
		__atomic_store_n(&to->touched, true, __ATOMIC_RELAXED);
	return r;
}

int s3c_fs_seek(struct s3c_file *file, struct s3c_op *op, uint64_t offset, bool data,
		uint64_t *ret_offset)
{
	return s3c_object_seek(file->object, op, offset, data, ret_offset);
}

int s3c_fs_drop_privs(struct s3c_file *file, struct s3c_op *op)
{
	return s3c_fs_object_drop_privs(file->fs, op, file->inode, file->object);
}

int s3c_fs_fsyncdir(struct s3c_fs *fs, struct s3c_op *op)
{
	return s3c_engine_sync_names(fs->engine, op);
}

int s3c_fs_fsync(struct s3c_file *file, struct s3c_op *op)
{
	if (!s3c_object_dirty(file->object))
		return s3c_engine_sync_names(file->fs->engine, op);
	return s3c_object_sync(file->object, op, S3C_SYNC_FSYNC);
}

int s3c_fs_flush(struct s3c_file *file, struct s3c_op *op)
{
	struct s3c_fs *fs = file->fs;
	bool detached;

	if (!file->writable)
		return 0;
	if (s3c_object_dirty(file->object))
		return s3c_object_sync(file->object, op, S3C_SYNC_CLOSE);
	s3c_mutex_lock(&fs->inodes.lock);
	detached = file->inode->detached;
	s3c_mutex_unlock(&fs->inodes.lock);
	/* Stored already, for a rename or because it was time; its name may wait still. */
	return detached ? 0 : s3c_engine_sync_names(fs->engine, op);
}

bool s3c_fs_file_untouched(struct s3c_file *file)
{
	return !__atomic_load_n(&file->touched, __ATOMIC_RELAXED) && s3c_object_dirty(file->object);
}

bool s3c_fs_file_first_read(struct s3c_file *file)
{
	return !__atomic_load_n(&file->read, __ATOMIC_RELAXED) &&
	       !__atomic_exchange_n(&file->read, true, __ATOMIC_RELAXED);
}

uint64_t s3c_fs_file_ino(struct s3c_file *file)
{
	return file->inode->ino;
}

/* Is this the last handle for writing, with something left to commit? In writeback a close before
   has mostly seen to it. */
static bool left_dirty(struct s3c_file *file)
{
	struct s3c_fs *fs = file->fs;
	bool last;

	if (!file->writable)
		return false;
	s3c_mutex_lock(&fs->inodes.lock);
	last = file->inode->writers == 1;
	s3c_mutex_unlock(&fs->inodes.lock);
	return last && !s3c_object_settled(file->object);
}

/* A failure that no one hears of: it is tried again at the end of the session. */
static void keep_unstored(struct s3c_file *file, int r)
{
	struct s3c_inode *inode = file->inode;
	struct s3c_fs *fs = file->fs;
	char path[S3C_PATH_MAX];

	s3c_mutex_lock(&fs->inodes.lock);
	if (s3c_inode_path_locked(inode, NULL, path) < 0)
		path[0] = '\0';
	if (!inode->unstored) {
		inode->unstored = true;
		s3c_inode_ref_locked(&fs->inodes, inode);
	}
	s3c_mutex_unlock(&fs->inodes.lock);
	s3c_error("%s: not stored after its last close, kept to be tried again: %s", path,
		  strerror(-r));
}

int s3c_fs_store_rest(struct s3c_fs *fs, struct s3c_op *op)
{
	struct s3c_inode *inode, *next;
	int first = 0;

	/* No one else is left: the table need not be locked while commits wait. */
	HASH_ITER (by_id, fs->inodes.by_id, inode, next) {
		struct s3c_object *object;
		char path[S3C_PATH_MAX];
		int r;

		/* Unlinked meanwhile: nothing is left to be stored. */
		if (!inode->unstored || s3c_fs_path(fs, inode, NULL, path) < 0)
			continue;
		r = s3c_object_open(fs->engine, op, path, &object);
		if (r == 0) {
			r = s3c_object_commit(object, op);
			s3c_object_close(object);
		}
		if (r < 0 && r != -ENOENT && !first)
			first = r;
	}
	return first;
}

int s3c_fs_release(struct s3c_file *file, struct s3c_op *op)
{
	struct s3c_fs *fs = file->fs;
	int r = 0;

	if (left_dirty(file)) {
		if (op == S3C_NOWAIT)
			return -EINPROGRESS;
		r = s3c_object_sync(file->object, op, S3C_SYNC_CLOSE);
		if (r < 0)
			keep_unstored(file, r);
	}
	s3c_mutex_lock(&fs->inodes.lock);
	file->inode->writers -= file->writable;
	file->inode->execs -= file->exec;
	LIST_REMOVE(file, link);
	if (file->inode->unstored && !s3c_object_dirty(file->object)) {
		file->inode->unstored = false;
		s3c_inode_put_locked(&fs->inodes, file->inode, 0);
	}
	s3c_mutex_unlock(&fs->inodes.lock);
	s3c_fs_object_release(fs, file->inode);
	s3c_fs_put(fs, file->inode);
	free(file);
	return r;
}
