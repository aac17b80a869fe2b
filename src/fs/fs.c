/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "fs/fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/util.h"
#include "fs/private.h"

#define BLOCK_SIZE (128u << 10) /* what programs are told to read and write at once */
#define STAT_BLOCK 512          /* unit of st_blocks */
#define NEGATIVE_TTL_S 1.0      /* at most: a name made elsewhere must not stay away for long */

int s3c_fs_new(struct s3c_engine *engine, double ttl_s, struct s3c_fs **ret_fs)
{
	struct s3c_fs *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs)
		return -ENOMEM;
	fs->engine = engine;
	fs->ttl_s = ttl_s;
	LIST_INIT(&fs->files);
	LIST_INIT(&fs->dirs);
	LIST_INIT(&fs->uses);
	s3c_waitq_init(&fs->use_wait);
	r = s3c_inodes_init(&fs->inodes);
	if (r < 0) {
		free(fs);
		return r;
	}
	*ret_fs = fs;
	return 0;
}

int s3c_fs_free(struct s3c_fs *fs, struct s3c_op *op)
{
	struct s3c_file *file;
	struct s3c_dir *dir;
	int first;

	if (!fs)
		return 0;
	/* No one else is left: what follows the lists need not be locked. */
	while ((file = LIST_FIRST(&fs->files)))
		s3c_fs_release(file, op);
	first = s3c_fs_store_rest(fs, op);
	while ((dir = LIST_FIRST(&fs->dirs)))
		s3c_fs_releasedir(dir);
	s3c_inodes_free(&fs->inodes);
	free(fs);
	return first;
}

void s3c_fs_on_stale(struct s3c_fs *fs, void (*fn)(void *arg, uint64_t nodeid), void *arg)
{
	fs->stale_fn = fn;
	fs->stale_arg = arg;
}

size_t s3c_fs_inode_count(struct s3c_fs *fs)
{
	size_t count;

	s3c_mutex_lock(&fs->inodes.lock);
	count = HASH_CNT(by_id, fs->inodes.by_id);
	s3c_mutex_unlock(&fs->inodes.lock);
	return count;
}

struct s3c_inode *s3c_fs_inode(struct s3c_fs *fs, uint64_t nodeid)
{
	struct s3c_inode *inode;

	s3c_mutex_lock(&fs->inodes.lock);
	inode = s3c_inode_get_locked(&fs->inodes, nodeid);
	s3c_mutex_unlock(&fs->inodes.lock);
	return inode;
}

int s3c_fs_check_name(uint64_t parent, const char *name, int hidden)
{
	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	if (parent == S3C_FS_ROOT && !strcmp(name, S3C_HIDDEN_NAME))
		return hidden;
	return 0;
}

int s3c_fs_path(struct s3c_fs *fs, struct s3c_inode *inode, const char *child,
		char ret_path[static S3C_PATH_MAX])
{
	int r;

	s3c_mutex_lock(&fs->inodes.lock);
	r = s3c_inode_path_locked(inode, child, ret_path);
	s3c_mutex_unlock(&fs->inodes.lock);
	return r;
}

int s3c_fs_path_of(struct s3c_fs *fs, uint64_t nodeid, const char *name,
		   char ret_path[static S3C_PATH_MAX])
{
	struct s3c_inode *inode = s3c_fs_inode(fs, nodeid);
	int r;

	if (!inode)
		return -ESTALE;
	r = s3c_fs_path(fs, inode, name, ret_path);
	s3c_fs_put(fs, inode);
	return r;
}

bool s3c_fs_path_changed(struct s3c_fs *fs, struct s3c_inode *inode, const char *path)
{
	char now[S3C_PATH_MAX];

	return s3c_fs_path(fs, inode, NULL, now) == 0 && strcmp(now, path) != 0;
}

void s3c_sight_take_locked(const struct s3c_inode *inode, struct s3c_sight *ret_sight)
{
	struct s3c_info info;

	memset(ret_sight, 0, sizeof(*ret_sight));
	ret_sight->inode = inode;
	if (!inode)
		return;
	ret_sight->seq = inode->object_seq;
	if (!inode->object)
		return;
	s3c_object_info(inode->object, &info);
	memcpy(ret_sight->token, info.content_token, sizeof(ret_sight->token));
}

bool s3c_sight_foreign_locked(const struct s3c_sight *sight, const struct s3c_inode *inode,
			      const struct s3c_info *info)
{
	const size_t len = sizeof(inode->token);
	struct s3c_info mine;

	if (sight->inode != inode || sight->seq != inode->object_seq || !S_ISREG(info->mode))
		return false;
	if (!inode->object)
		return inode->token_known && memcmp(inode->token, info->content_token, len) != 0;
	if (s3c_object_dirty(inode->object))
		return false;
	s3c_object_info(inode->object, &mine);
	return !memcmp(mine.content_token, sight->token, len) &&
	       memcmp(mine.content_token, info->content_token, len) != 0;
}

void s3c_fs_learn_locked(struct s3c_inode *inode, const struct s3c_info *info)
{
	inode->mode = info->mode;
	inode->uid = info->uid;
	inode->gid = info->gid;
	if (inode->object || info->unstored || !S_ISREG(info->mode))
		return;
	if (inode->token_known && memcmp(inode->token, info->content_token, sizeof(inode->token)))
		inode->drop_cache = true;
	memcpy(inode->token, info->content_token, sizeof(inode->token));
	inode->token_known = true;
}

static struct timespec timespec_of(int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / S3C_NSEC_PER_SEC, .tv_nsec = ns % S3C_NSEC_PER_SEC };

	if (ts.tv_nsec < 0) {
		ts.tv_sec--;
		ts.tv_nsec += S3C_NSEC_PER_SEC;
	}
	return ts;
}

void s3c_fs_fill_locked(struct s3c_fs *fs, const struct s3c_inode *inode,
			const struct s3c_info *info, struct s3c_fs_attr *ret_attr)
{
	double left = (double)(info->valid_ns - s3c_clock_monotonic_ns()) / S3C_NSEC_PER_SEC;
	struct stat *st = &ret_attr->st;
	bool dir = S_ISDIR(info->mode);

	memset(st, 0, sizeof(*st));
	st->st_ino = inode->ino;
	st->st_mode = info->mode;
	st->st_nlink = inode->detached && !inode->stale ? 0
		       : dir                            ? 2
		       : info->linked                   ? info->nlink
							: 1;
	st->st_uid = info->uid;
	st->st_gid = info->gid;
	st->st_rdev = info->rdev;
	st->st_size = (off_t)info->size;
	st->st_blksize = BLOCK_SIZE;
	/* Holes take no room in the store: du and cp see that a file is sparse. */
	st->st_blocks = (blkcnt_t)DIV_ROUND_UP(S3C_MIN(info->taken, info->size), STAT_BLOCK);
	st->st_atim = timespec_of(info->atime_ns);
	st->st_mtim =
		timespec_of(dir ? S3C_MAX(info->mtime_ns, inode->changed_ns) : info->mtime_ns);
	st->st_ctim =
		timespec_of(dir ? S3C_MAX(info->ctime_ns, inode->changed_ns) : info->ctime_ns);
	ret_attr->timeout_s = S3C_MAX(0.0, S3C_MIN(left, fs->ttl_s));
}

void s3c_fs_fill_entry_locked(struct s3c_fs *fs, const struct s3c_inode *inode,
			      const struct s3c_info *info, struct s3c_fs_entry *ret_entry)
{
	s3c_fs_fill_locked(fs, inode, info, &ret_entry->attr);
	ret_entry->nodeid = inode->nodeid;
	ret_entry->entry_timeout_s = ret_entry->attr.timeout_s;
	/* A name that is only here cannot be changed by others. */
	if (inode->object && s3c_object_dirty(inode->object))
		ret_entry->entry_timeout_s = fs->ttl_s;
}

void s3c_fs_touch_dir_locked(struct s3c_inode *dir)
{
	dir->changed_ns = s3c_clock_realtime_ns();
}

/* How often happened what can give a name another inode while the engine is asked for it. */
struct changes {
	unsigned joins, exchanges;
};

/* What is known of a name before the engine is asked. */
static int begin_lookup(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent_id, const char *name,
			struct s3c_inode **ret_parent, char ret_path[static S3C_PATH_MAX],
			struct s3c_sight *ret_sight, bool *ret_stale, struct changes *ret_changes)
{
	struct s3c_inode *parent, *child = NULL;
	int r = -ESTALE;

	s3c_mutex_lock(&fs->inodes.lock);
	parent = s3c_inode_get_locked(&fs->inodes, parent_id);
	if (parent)
		r = s3c_use_wait_name_locked(fs, op, parent, name);
	if (r == 0)
		r = s3c_inode_path_locked(parent, name, ret_path);
	if (r == 0) {
		child = s3c_inode_child_locked(&fs->inodes, parent, name);
		s3c_sight_take_locked(child, ret_sight);
		*ret_stale = child && child->stale;
		*ret_changes = (struct changes){ fs->inodes.joins, fs->inodes.exchanges };
		*ret_parent = parent;
	} else {
		s3c_inode_put_locked(&fs->inodes, parent, 0);
	}
	s3c_mutex_unlock(&fs->inodes.lock);
	return r;
}

/* The same for a name of a file that has several; spare is named as the body is. */
static int settle_body_locked(struct s3c_fs *fs, struct s3c_inode *parent, const char *name,
			      const struct s3c_info *info, struct s3c_inode **spare,
			      struct s3c_inode **ret_inode)
{
	struct s3c_inodes *table = &fs->inodes;
	struct s3c_inode *named = s3c_inode_child_locked(table, parent, name);
	struct s3c_inode *inode = NULL;
	uint64_t ino = 0;
	int r;

	s3c_inode_body_locked(table, info->body, &inode);
	/* Known by the one name that it had. */
	if (named && !inode && !named->stale && (named->mode & S_IFMT) == (info->mode & S_IFMT)) {
		*ret_inode = named;
		return s3c_inode_to_body_locked(table, named, info->body);
	}
	if (named)
		s3c_inode_detach_locked(table, named);
	if (inode && !inode->stale) {
		*ret_inode = inode;
		return 0;
	}
	if (inode)
		ino = inode->ino;
	(*spare)->replacement = ino != 0;
	r = s3c_inode_link_body_locked(table, info->body, ino, *spare);
	if (r == 0)
		*ret_inode = steal_ptr(*spare);
	return r;
}

/* The inode that the name has from now on; spare is linked when it needs a new one. */
static struct s3c_inode *settle_locked(struct s3c_fs *fs, struct s3c_inode *parent,
				       const char *name, const char *path,
				       const struct s3c_sight *sight, const struct s3c_info *info,
				       struct s3c_inode **spare)
{
	struct s3c_inode *child = s3c_inode_child_locked(&fs->inodes, parent, name);
	struct s3c_inode *inode;
	uint64_t ino = 0;

	if (child && (child->mode & S_IFMT) == (info->mode & S_IFMT)) {
		if (!child->stale && !s3c_sight_foreign_locked(sight, child, info))
			return child;
		/* The same file, a new version: it keeps its st_ino. */
		child->stale = true;
		ino = child->ino;
	}
	inode = steal_ptr(*spare);
	inode->replacement = ino != 0;
	s3c_inode_link_locked(&fs->inodes, parent, path, ino, inode);
	return inode;
}

/* Nothing has the path: is it still the name's? 1: no more. Lock held, released. */
static int path_moved(struct s3c_fs *fs, struct s3c_op *op, const struct s3c_inode *parent,
		      const char *name, const char *path)
{
	char now[S3C_PATH_MAX];
	int r = s3c_use_wait_locked(fs, op, parent);

	if (r == 0)
		r = s3c_inode_path_locked(parent, name, now);
	return r < 0 ? r : strcmp(now, path) != 0;
}

/* A name that was found. 1: once more, it is that of one file again. Lock held. */
static int found_locked(struct s3c_fs *fs, struct s3c_inode *parent, const char *name,
			const char *path, unsigned joins, const struct s3c_sight *sight,
			const struct s3c_info *info, struct s3c_inode **spare,
			struct s3c_fs_entry *ret_entry)
{
	struct s3c_inode *inode = NULL;
	int r = 0;

	if (!info->linked)
		inode = settle_locked(fs, parent, name, path, sight, info, spare);
	else if (joins != fs->inodes.joins)
		return 1;
	else
		r = settle_body_locked(fs, parent, name, info, spare, &inode);
	if (r < 0)
		return r;
	inode->nlookup++;
	s3c_fs_learn_locked(inode, info);
	s3c_fs_fill_entry_locked(fs, inode, info, ret_entry);
	/* A new inode came with a reference. */
	if (!*spare)
		s3c_inode_put_locked(&fs->inodes, inode, 0);
	return 0;
}

/* And one that was not. 1: once more, a directory above has another name now. Lock held, released.
 */
static int missing_locked(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *parent,
			  const char *name, const char *path, const struct s3c_sight *sight,
			  struct s3c_fs_entry *ret_entry)
{
	struct s3c_inode *inode;
	int r = path_moved(fs, op, parent, name, path);

	if (r != 0)
		return r;
	inode = s3c_inode_child_locked(&fs->inodes, parent, name);
	if (inode && inode == sight->inode)
		s3c_inode_detach_locked(&fs->inodes, inode);
	memset(ret_entry, 0, sizeof(*ret_entry));
	ret_entry->entry_timeout_s = S3C_MIN(fs->ttl_s, NEGATIVE_TTL_S);
	return 0;
}

/* 1: once more. */
static int lookup_once(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent_id, const char *name,
		       struct s3c_fs_entry *ret_entry)
{
	struct s3c_inode *parent = NULL, *spare;
	char path[S3C_PATH_MAX], body[S3C_BODY_NAME_LEN];
	struct s3c_sight sight;
	struct s3c_info info;
	bool stale = false;
	struct changes changes = { 0, 0 };
	int r;

	r = s3c_fs_check_name(parent_id, name, -ENOENT);
	if (r < 0)
		return r;
	r = begin_lookup(fs, op, parent_id, name, &parent, path, &sight, &stale, &changes);
	if (r < 0)
		return r;
	if (stale)
		r = s3c_engine_revalidate(fs->engine, op, path, &info);
	else
		r = s3c_engine_lookup(fs->engine, op, path, &info);
	if (r == 0 && info.linked)
		s3c_inode_body_name(info.body, body);
	spare = r == 0 ? s3c_inode_alloc(info.linked ? body : name) : NULL;
	if (r == 0 && !spare)
		r = -ENOMEM;

	s3c_mutex_lock(&fs->inodes.lock);
	if ((r == 0 || r == -ENOENT) && (changes.exchanges != fs->inodes.exchanges ||
					 s3c_use_exchanges_locked(fs, parent, name)))
		r = 1;
	else if (r == 0)
		r = found_locked(fs, parent, name, path, changes.joins, &sight, &info, &spare,
				 ret_entry);
	else if (r == -ENOENT)
		r = missing_locked(fs, op, parent, name, path, &sight, ret_entry);
	s3c_inode_put_locked(&fs->inodes, parent, 0);
	s3c_mutex_unlock(&fs->inodes.lock);
	s3c_inode_discard(spare);
	return r;
}

int s3c_fs_lookup(struct s3c_fs *fs, struct s3c_op *op, uint64_t parent, const char *name,
		  struct s3c_fs_entry *ret_entry)
{
	int r;

	do
		r = lookup_once(fs, op, parent, name, ret_entry);
	while (r > 0);
	return r;
}

void s3c_fs_forget(struct s3c_fs *fs, uint64_t nodeid, uint64_t count)
{
	struct s3c_inode *inode;

	s3c_mutex_lock(&fs->inodes.lock);
	inode = s3c_inode_get_locked(&fs->inodes, nodeid);
	s3c_inode_put_locked(&fs->inodes, inode, count);
	s3c_mutex_unlock(&fs->inodes.lock);
}

void s3c_fs_statfs(struct statvfs *ret_st)
{
	/* 1 PiB, all of it free: a bucket has no size. */
	memset(ret_st, 0, sizeof(*ret_st));
	ret_st->f_bsize = 4096;
	ret_st->f_frsize = 4096;
	ret_st->f_blocks = 1ull << 38;
	ret_st->f_bfree = ret_st->f_blocks;
	ret_st->f_bavail = ret_st->f_blocks;
	ret_st->f_files = 1ull << 32;
	ret_st->f_ffree = ret_st->f_files;
	ret_st->f_favail = ret_st->f_files;
	ret_st->f_namemax = NAME_MAX;
}
