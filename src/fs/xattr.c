/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Extended attributes. Programs have the namespace user., of which user.s3cryptfs. tells about the
 * file and is neither listed nor changed: what copies attributes would try to. The other
 * namespaces are refused, access control lists (system.) among them; their absence is told where
 * the kernel asks at each use of a file.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/encode.h"
#include "base/util.h"
#include "fs/private.h"

#define NAMESPACE "user."
#define ABOUT_PREFIX "user.s3cryptfs."
#define ABOUT_MAX 128

static bool begins_with(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* -EOPNOTSUPP: of a namespace that there is not. */
static int check_name(const char *name)
{
	if (begins_with(name, ABOUT_PREFIX))
		return -EPERM;
	return begins_with(name, NAMESPACE) && name[strlen(NAMESPACE)] ? 0 : -EOPNOTSUPP;
}

/* What user.s3cryptfs.NAME tells. */
static int about(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode, const char *name,
		 char ret_value[static ABOUT_MAX])
{
	struct s3c_object *object;
	struct s3c_info info;
	char token[2 * sizeof(info.content_token) + 1];
	bool dirty = false;
	int r = s3c_fs_info(fs, op, inode, &info);

	if (r < 0)
		return r;
	object = s3c_fs_object_hold(fs, inode);
	if (object) {
		dirty = s3c_object_dirty(object);
		s3c_fs_object_release(fs, inode);
	}
	s3c_hex_encode(info.content_token, sizeof(info.content_token), token);
	if (!strcmp(name, "stored"))
		snprintf(ret_value, ABOUT_MAX, "%" PRIu64, info.stored);
	else if (!strcmp(name, "state"))
		snprintf(ret_value, ABOUT_MAX, "%s", dirty ? "dirty" : "stored");
	else if (!strcmp(name, "version") && S_ISREG(info.mode))
		snprintf(ret_value, ABOUT_MAX, "%s", token);
	else
		return -ENODATA;
	return 0;
}

/* Where an operation on an inode works: its object while it is open, else its path. */
struct place {
	struct s3c_fs *fs;
	struct s3c_inode *inode;
	struct s3c_object *object;
	struct s3c_use use;
	bool named;
	char path[S3C_PATH_MAX];
};

static int place_begin(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
		       struct place *place)
{
	int r;

	place->fs = fs;
	place->inode = inode;
	place->object = s3c_fs_object_hold(fs, inode);
	r = s3c_use_begin(fs, op, inode, NULL, &place->use, place->path);
	place->named = r == 0;
	/* An open file without a name is its object alone. */
	if (r == -ESTALE && place->object) {
		place->path[0] = '\0';
		r = 0;
	}
	if (r < 0 && place->object)
		s3c_fs_object_release(fs, inode);
	return r;
}

static void place_end(struct place *place)
{
	if (place->named)
		s3c_use_end(place->fs, &place->use);
	if (place->object)
		s3c_fs_object_release(place->fs, place->inode);
}

static int get_xattrs(struct s3c_fs *fs, struct s3c_op *op, struct s3c_inode *inode,
		      struct s3c_xattrs **ret_xattrs)
{
	struct place place;
	int r = place_begin(fs, op, inode, &place);

	if (r < 0)
		return r;
	r = s3c_engine_xattrs(fs->engine, op, place.path, place.object, ret_xattrs);
	place_end(&place);
	return r;
}

int s3c_fs_getxattr(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, const char *name,
		    struct s3c_buf *value)
{
	cleanup_xattrs struct s3c_xattrs *xattrs = NULL;
	struct s3c_inode *inode;
	char text[ABOUT_MAX];
	const void *found;
	size_t len;
	int r;

	if (!begins_with(name, NAMESPACE))
		return begins_with(name, "system.") ? -EOPNOTSUPP : -ENODATA;
	inode = s3c_fs_inode(fs, nodeid);
	if (!inode)
		return -ESTALE;
	if (begins_with(name, ABOUT_PREFIX)) {
		r = about(fs, op, inode, name + strlen(ABOUT_PREFIX), text);
		found = text;
		len = r == 0 ? strlen(text) : 0;
	} else {
		r = get_xattrs(fs, op, inode, &xattrs);
		if (r == 0)
			r = s3c_xattrs_get(xattrs, name, &found, &len);
	}
	s3c_fs_put(fs, inode);
	return r < 0 ? r : s3c_buf_append(value, found, len);
}

int s3c_fs_listxattr(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, struct s3c_buf *names)
{
	struct s3c_inode *inode = s3c_fs_inode(fs, nodeid);
	cleanup_xattrs struct s3c_xattrs *xattrs = NULL;
	int r;

	if (!inode)
		return -ESTALE;
	r = get_xattrs(fs, op, inode, &xattrs);
	s3c_fs_put(fs, inode);
	return r < 0 ? r : s3c_xattrs_names(xattrs, names);
}

int s3c_fs_setxattr(struct s3c_fs *fs, struct s3c_op *op, uint64_t nodeid, const char *name,
		    const void *value, size_t len, int flags)
{
	struct s3c_inode *inode;
	struct s3c_info info;
	struct place place;
	int r = check_name(name);

	if (r < 0)
		return r;
	inode = s3c_fs_inode(fs, nodeid);
	if (!inode)
		return -ESTALE;
	r = place_begin(fs, op, inode, &place);
	if (r == 0) {
		r = s3c_engine_setxattr(fs->engine, op, place.path, place.object, name, value, len,
					flags, &info);
		place_end(&place);
	}
	if (r == 0) {
		s3c_mutex_lock(&fs->inodes.lock);
		s3c_fs_learn_locked(inode, &info);
		s3c_mutex_unlock(&fs->inodes.lock);
	}
	s3c_fs_put(fs, inode);
	return r;
}
