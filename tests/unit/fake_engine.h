/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * An engine in memory, for tests of fs/ and fuse/ without a store. Included by
 * one file of a program. It keeps files whole in one buffer each; "other
 * machines" act through fake_foreign_write. What must wait, by fake.wait_*, does so
 * until the op is interrupted or late.
 */
#pragma once

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/util.h"
#include "engine/engine.h"

struct s3c_op s3c_op_nowait;

struct s3c_object {
	struct fake_node *node;
	unsigned refs;
	char *data; /* the view */
	size_t len, alloc;
	uint64_t version;
	bool dirty;
};

struct fake_node {
	struct fake_node *next;
	char *path; /* NULL: no name any more */
	struct s3c_attrs attrs;
	char *data; /* what the store holds */
	size_t len;
	uint64_t version; /* 0: not stored yet */
	struct s3c_object *object;
};

static struct {
	struct s3c_mutex lock;
	struct s3c_waitq never;
	struct fake_node *nodes;
	uint64_t version;
	unsigned commits, revalidations, opens;
	bool wait_lookup;      /* NOWAIT lookups give -EINPROGRESS */
	const char *wait_read; /* reads of files with this in their path wait */
	int commit_error;
	bool close_keeps; /* a dirty object outlives its last close as it is */
	double ttl_s;
} fake;

static struct s3c_engine *fake_begin(void)
{
	memset(&fake, 0, sizeof(fake));
	s3c_mutex_init(&fake.lock);
	s3c_waitq_init(&fake.never);
	fake.ttl_s = 60;
	return (struct s3c_engine *)&fake;
}

static struct fake_node *fake_find(const char *path)
{
	for (struct fake_node *n = fake.nodes; n; n = n->next)
		if (n->path && !strcmp(n->path, path))
			return n;
	return NULL;
}

static void fake_drop(struct fake_node *node)
{
	if (node->path || node->object)
		return;
	for (struct fake_node **p = &fake.nodes; *p; p = &(*p)->next)
		if (*p == node) {
			*p = node->next;
			break;
		}
	free(node->data);
	s3c_attrs_clear(&node->attrs);
	free(node);
}

static void fake_free_object(struct s3c_object *o)
{
	o->node->object = NULL;
	fake.opens--;
	free(o->data);
	free(o);
}

static void fake_end(void)
{
	while (fake.nodes) {
		if (fake.nodes->object)
			fake_free_object(fake.nodes->object);
		free(steal_ptr(fake.nodes->path));
		fake_drop(fake.nodes);
	}
	s3c_mutex_destroy(&fake.lock);
}

static struct fake_node *fake_add(const char *path, const struct s3c_attrs *attrs)
{
	struct fake_node *node = calloc(1, sizeof(*node));

	node->path = strdup(path);
	node->attrs = *attrs;
	node->next = fake.nodes;
	fake.nodes = node;
	return node;
}

/* What another machine does. Unused in some programs. */
__attribute__((unused)) static void fake_foreign_write(const char *path, const char *text)
{
	struct s3c_attrs attrs = { .known = true, .mode = S_IFREG | 0644 };
	struct fake_node *node;

	s3c_mutex_lock(&fake.lock);
	node = fake_find(path);
	if (!node)
		node = fake_add(path, &attrs);
	free(node->data);
	node->data = strdup(text);
	node->len = strlen(text);
	node->version = ++fake.version;
	s3c_mutex_unlock(&fake.lock);
}

static void fake_info(const struct fake_node *node, struct s3c_info *ret)
{
	const struct s3c_object *o = node->object && node->object->dirty ? node->object : NULL;
	uint64_t version = o ? o->version : node->version;

	memset(ret, 0, sizeof(*ret));
	ret->mode = node->attrs.mode;
	ret->uid = node->attrs.uid;
	ret->gid = node->attrs.gid;
	ret->size = S_ISDIR(ret->mode) ? 0 : o ? o->len : node->len;
	ret->stored = ret->taken = node->len;
	ret->rdev = node->attrs.rdev;
	ret->mtime_ns = node->attrs.mtime_ns;
	ret->atime_ns = node->attrs.atime_ns;
	ret->ctime_ns = node->attrs.ctime_ns;
	memcpy(ret->content_token, &version, sizeof(version));
	ret->valid_ns = o ? 0 : s3c_clock_monotonic_ns() + (int64_t)(fake.ttl_s * 1e9);
}

static bool fake_is_dir(const char *path)
{
	struct fake_node *node = fake_find(path);

	return !*path || (node && S_ISDIR(node->attrs.mode));
}

int s3c_engine_lookup(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      struct s3c_info *ret_info)
{
	struct fake_node *node;

	(void)engine;
	if (fake.wait_lookup && op == S3C_NOWAIT)
		return -EINPROGRESS;
	s3c_mutex_lock(&fake.lock);
	node = fake_find(path);
	if (node) {
		fake_info(node, ret_info);
	} else if (!*path) {
		memset(ret_info, 0, sizeof(*ret_info));
		ret_info->mode = S_IFDIR | 0755;
	}
	s3c_mutex_unlock(&fake.lock);
	return node || !*path ? 0 : -ENOENT;
}

int s3c_engine_revalidate(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			  struct s3c_info *ret_info)
{
	fake.revalidations++;
	return op == S3C_NOWAIT ? -EINPROGRESS : s3c_engine_lookup(engine, op, path, ret_info);
}

struct fake_listing {
	struct s3c_listing base;
	struct s3c_listing_item items[4096];
};

/* The name in dir, or NULL. */
static const char *fake_child(const char *dir, const char *path)
{
	size_t len = strlen(dir);

	if (!*path || strncmp(dir, path, len) != 0 || (len && path[len] != '/'))
		return NULL;
	path += len ? len + 1 : 0;
	return strchr(path, '/') ? NULL : path;
}

int s3c_engine_list(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		    struct s3c_listing **ret_listing)
{
	struct fake_listing *listing = calloc(1, sizeof(*listing));

	(void)engine;
	(void)op;
	s3c_mutex_lock(&fake.lock);
	for (struct fake_node *n = fake.nodes; n; n = n->next) {
		const char *name = n->path ? fake_child(path, n->path) : NULL;

		if (name && listing->base.count < ARRAY_LEN(listing->items))
			listing->items[listing->base.count++] = (struct s3c_listing_item){
				.name = strdup(name),
				.type = n->attrs.mode & S_IFMT,
			};
	}
	s3c_mutex_unlock(&fake.lock);
	listing->base.items = listing->items;
	*ret_listing = &listing->base;
	return 0;
}

void s3c_listing_put(struct s3c_listing *listing)
{
	for (size_t i = 0; i < listing->count; i++)
		free((char *)listing->items[i].name);
	free(listing);
}

static struct s3c_object *fake_object(struct fake_node *node)
{
	struct s3c_object *o = node->object;

	if (!o) {
		o = calloc(1, sizeof(*o));
		o->node = node;
		o->data = malloc(node->len + 1);
		if (node->len)
			memcpy(o->data, node->data, node->len);
		o->len = node->len;
		o->alloc = node->len + 1;
		o->version = node->version;
		node->object = o;
		fake.opens++;
	}
	o->refs++;
	return o;
}

int s3c_object_open(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		    struct s3c_object **ret_object)
{
	struct fake_node *node;
	int r = -ENOENT;

	(void)engine;
	(void)op;
	s3c_mutex_lock(&fake.lock);
	node = fake_find(path);
	if (node) {
		*ret_object = fake_object(node);
		r = 0;
	}
	s3c_mutex_unlock(&fake.lock);
	return r;
}

int s3c_object_create(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      const struct s3c_attrs *attrs, struct s3c_object **ret_object)
{
	int r = -EEXIST;

	(void)engine;
	(void)op;
	s3c_mutex_lock(&fake.lock);
	if (!fake_find(path)) {
		*ret_object = fake_object(fake_add(path, attrs));
		(*ret_object)->dirty = true;
		(*ret_object)->version = ++fake.version;
		r = 0;
	}
	s3c_mutex_unlock(&fake.lock);
	return r;
}

int s3c_object_create_excl(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			   const struct s3c_attrs *attrs, struct s3c_object **ret_object)
{
	return s3c_object_create(engine, op, path, attrs, ret_object);
}

static void fake_commit(struct s3c_object *o)
{
	struct fake_node *node = o->node;

	free(node->data);
	node->data = malloc(o->len + 1);
	memcpy(node->data, o->data, o->len);
	node->len = o->len;
	node->version = o->version;
	o->dirty = false;
	fake.commits++;
}

void s3c_object_close(struct s3c_object *o)
{
	struct fake_node *node = o->node;

	s3c_mutex_lock(&fake.lock);
	if (--o->refs == 0 && !(fake.close_keeps && o->dirty)) {
		if (o->dirty && node->path)
			fake_commit(o);
		fake_free_object(o);
		fake_drop(node);
	}
	s3c_mutex_unlock(&fake.lock);
}

void s3c_object_info(struct s3c_object *o, struct s3c_info *ret_info)
{
	s3c_mutex_lock(&fake.lock);
	fake_info(o->node, ret_info);
	/* The view keeps the version that was opened. */
	ret_info->size = o->len;
	memcpy(ret_info->content_token, &o->version, sizeof(o->version));
	s3c_mutex_unlock(&fake.lock);
}

int s3c_object_read(struct s3c_object *o, struct s3c_op *op, uint64_t offset, size_t len,
		    struct s3c_readahead *readahead, struct s3c_pages *ret_pages)
{
	char *copy;

	(void)readahead;
	s3c_mutex_lock(&fake.lock);
	if (fake.wait_read && o->node->path && strstr(o->node->path, fake.wait_read)) {
		int r = op == S3C_NOWAIT ? -EINPROGRESS : 0;

		while (r == 0)
			r = s3c_waitq_wait(&fake.never, &fake.lock, op);
		s3c_mutex_unlock(&fake.lock);
		return r;
	}
	len = offset >= o->len ? 0 : S3C_MIN(len, o->len - offset);
	memset(ret_pages, 0, sizeof(*ret_pages));
	if (len) {
		copy = malloc(len);
		memcpy(copy, o->data + offset, len);
		ret_pages->iov[0] = (struct iovec){ copy, len };
		ret_pages->chunks[0] = copy;
		ret_pages->count = 1;
		ret_pages->len = len;
	}
	s3c_mutex_unlock(&fake.lock);
	return 0;
}

void s3c_pages_release(struct s3c_engine *engine, struct s3c_pages *pages)
{
	(void)engine;
	for (unsigned i = 0; i < pages->count; i++)
		free(pages->chunks[i]);
}

static void fake_resize(struct s3c_object *o, size_t len)
{
	if (len > o->alloc) {
		o->alloc = S3C_MAX(len, o->alloc * 2);
		o->data = realloc(o->data, o->alloc);
	}
	if (len > o->len)
		memset(o->data + o->len, 0, len - o->len);
	o->len = len;
}

static void fake_changed(struct s3c_object *o)
{
	o->dirty = true;
	o->version = ++fake.version;
	o->node->attrs.mtime_ns = s3c_clock_realtime_ns();
	o->node->attrs.ctime_ns = o->node->attrs.mtime_ns;
}

int s3c_object_write(struct s3c_object *o, struct s3c_op *op, uint64_t offset, const void *data,
		     size_t len, bool append)
{
	(void)op;
	s3c_mutex_lock(&fake.lock);
	if (append)
		offset = o->len;
	if (offset + len > o->len)
		fake_resize(o, offset + len);
	memcpy(o->data + offset, data, len);
	fake_changed(o);
	s3c_mutex_unlock(&fake.lock);
	return 0;
}

int s3c_object_truncate(struct s3c_object *o, struct s3c_op *op, uint64_t size)
{
	(void)op;
	s3c_mutex_lock(&fake.lock);
	fake_resize(o, size);
	fake_changed(o);
	s3c_mutex_unlock(&fake.lock);
	return 0;
}

int s3c_object_zero(struct s3c_object *o, struct s3c_op *op, uint64_t offset, uint64_t len)
{
	(void)op;
	s3c_mutex_lock(&fake.lock);
	if (offset < o->len)
		memset(o->data + offset, 0, S3C_MIN(len, o->len - offset));
	fake_changed(o);
	s3c_mutex_unlock(&fake.lock);
	return 0;
}

int s3c_object_clone(struct s3c_object *to, struct s3c_object *from, struct s3c_op *op,
		     uint64_t offset, uint64_t len, uint64_t *ret_done)
{
	(void)op;
	if (offset || len < from->len || to->len)
		return -EOPNOTSUPP;
	s3c_mutex_lock(&fake.lock);
	fake_resize(to, from->len);
	memcpy(to->data, from->data, from->len);
	*ret_done = from->len;
	s3c_mutex_unlock(&fake.lock);
	return 0;
}

/* Zeros are holes. */
int s3c_object_seek(struct s3c_object *o, struct s3c_op *op, uint64_t offset, bool data,
		    uint64_t *ret_offset)
{
	(void)op;
	s3c_mutex_lock(&fake.lock);
	while (offset < o->len && (o->data[offset] != 0) != data)
		offset++;
	*ret_offset = offset;
	s3c_mutex_unlock(&fake.lock);
	return data && offset >= o->len ? -ENXIO : 0;
}

int s3c_object_commit(struct s3c_object *o, struct s3c_op *op)
{
	int r = fake.commit_error;

	(void)op;
	s3c_mutex_lock(&fake.lock);
	if (r == 0 && o->dirty && o->node->path)
		fake_commit(o);
	s3c_mutex_unlock(&fake.lock);
	return r;
}

int s3c_object_sync(struct s3c_object *o, struct s3c_op *op, enum s3c_sync what)
{
	(void)what;
	return op == S3C_NOWAIT ? -EINPROGRESS : s3c_object_commit(o, op);
}

int s3c_engine_sync_names(struct s3c_engine *e, struct s3c_op *op)
{
	(void)e;
	(void)op;
	return 0;
}

bool s3c_object_settled(struct s3c_object *o)
{
	return !s3c_object_dirty(o);
}

bool s3c_object_dirty(struct s3c_object *o)
{
	bool dirty;

	s3c_mutex_lock(&fake.lock);
	dirty = o->dirty && o->node->path;
	s3c_mutex_unlock(&fake.lock);
	return dirty;
}

int s3c_engine_setattr(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       struct s3c_object *object, unsigned which, const struct s3c_attrs *attrs,
		       struct s3c_info *ret_info)
{
	static struct fake_node root;
	struct fake_node *node;

	(void)engine;
	(void)op;
	s3c_mutex_lock(&fake.lock);
	root.attrs.mode = S_IFDIR | 0755;
	node = object ? object->node : *path ? fake_find(path) : &root;
	if (node) {
		if (which & S3C_SET_MODE)
			node->attrs.mode = attrs->mode;
		if (which & S3C_SET_UID)
			node->attrs.uid = attrs->uid;
		if (which & S3C_SET_GID)
			node->attrs.gid = attrs->gid;
		if (which & S3C_SET_MTIME)
			node->attrs.mtime_ns = attrs->mtime_ns;
		if (which & S3C_SET_ATIME)
			node->attrs.atime_ns = attrs->atime_ns;
		node->attrs.ctime_ns = attrs->ctime_ns;
		fake_info(node, ret_info);
	}
	s3c_mutex_unlock(&fake.lock);
	return node ? 0 : -ENOENT;
}

int s3c_engine_mkdir(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     const struct s3c_attrs *attrs)
{
	int r = -EEXIST;

	(void)engine;
	(void)op;
	s3c_mutex_lock(&fake.lock);
	if (!fake_find(path)) {
		fake_add(path, attrs)->version = ++fake.version;
		r = 0;
	}
	s3c_mutex_unlock(&fake.lock);
	return r;
}

int s3c_engine_mknod(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     const struct s3c_attrs *attrs)
{
	return s3c_engine_mkdir(engine, op, path, attrs);
}

int s3c_engine_xattrs(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      struct s3c_object *object, struct s3c_xattrs **ret_xattrs)
{
	struct fake_node *node;

	(void)engine;
	(void)op;
	s3c_mutex_lock(&fake.lock);
	node = object ? object->node : fake_find(path);
	if (node)
		*ret_xattrs = s3c_xattrs_ref(node->attrs.xattrs);
	s3c_mutex_unlock(&fake.lock);
	return node ? 0 : -ENOENT;
}

int s3c_engine_setxattr(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			struct s3c_object *object, const char *name, const void *value, size_t len,
			int flags, struct s3c_info *ret_info)
{
	struct s3c_xattrs *changed;
	struct fake_node *node;
	int r = -ENOENT;

	(void)engine;
	(void)op;
	s3c_mutex_lock(&fake.lock);
	node = object ? object->node : fake_find(path);
	if (node)
		r = s3c_xattrs_with(node->attrs.xattrs, name, value, len, flags & S3C_XATTR_CREATE,
				    flags & S3C_XATTR_REPLACE, &changed);
	if (r == 0) {
		s3c_attrs_clear(&node->attrs);
		node->attrs.xattrs = changed;
		fake_info(node, ret_info);
	}
	s3c_mutex_unlock(&fake.lock);
	return r;
}

static bool fake_empty(const char *path)
{
	for (struct fake_node *n = fake.nodes; n; n = n->next)
		if (n->path && fake_child(path, n->path))
			return false;
	return true;
}

static int fake_remove(const char *path, bool dir)
{
	struct fake_node *node;
	int r = 0;

	s3c_mutex_lock(&fake.lock);
	node = fake_find(path);
	if (!node)
		r = -ENOENT;
	else if (fake_is_dir(path) != dir)
		r = dir ? -ENOTDIR : -EISDIR;
	else if (dir && !fake_empty(path))
		r = -ENOTEMPTY;
	if (r == 0) {
		free(steal_ptr(node->path));
		fake_drop(node);
	}
	s3c_mutex_unlock(&fake.lock);
	return r;
}

int s3c_engine_rmdir(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	(void)engine;
	(void)op;
	return fake_remove(path, true);
}

int s3c_engine_unlink(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	(void)engine;
	(void)op;
	return fake_remove(path, false);
}

int s3c_engine_unlink_joined(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			     struct s3c_joined *ret_joined)
{
	*ret_joined = (struct s3c_joined){ 0 };
	return s3c_engine_unlink(engine, op, path);
}

/* Files of several names are tested with the real engine. */
int s3c_engine_link(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to,
		    uint8_t ret_body[static 16])
{
	(void)engine;
	(void)op;
	(void)from;
	(void)to;
	(void)ret_body;
	return -EPERM;
}

int s3c_engine_make_body(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			 uint8_t ret_body[static 16])
{
	(void)engine;
	(void)op;
	(void)path;
	(void)ret_body;
	return -EINVAL;
}

int s3c_engine_exchange(struct s3c_engine *engine, struct s3c_op *op, const char *first,
			const char *second)
{
	(void)engine;
	(void)op;
	(void)first;
	(void)second;
	return -EINVAL;
}

bool s3c_engine_body_known(struct s3c_engine *engine, const char *path, uint8_t ret_body[static 16])
{
	(void)engine;
	(void)path;
	(void)ret_body;
	return false;
}

int s3c_engine_symlink(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       const char *target, const struct s3c_attrs *attrs)
{
	struct fake_node *node;
	int r = -EEXIST;

	(void)engine;
	(void)op;
	s3c_mutex_lock(&fake.lock);
	if (!fake_find(path)) {
		node = fake_add(path, attrs);
		node->data = strdup(target);
		node->len = strlen(target);
		r = 0;
	}
	s3c_mutex_unlock(&fake.lock);
	return r;
}

int s3c_engine_readlink(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			char *ret_target, size_t size)
{
	struct fake_node *node;

	(void)engine;
	(void)op;
	s3c_mutex_lock(&fake.lock);
	node = fake_find(path);
	if (node)
		snprintf(ret_target, size, "%s", node->data);
	s3c_mutex_unlock(&fake.lock);
	return node ? 0 : -ENOENT;
}

int s3c_engine_rename(struct s3c_engine *engine, struct s3c_op *op, const char *from,
		      const char *to, bool noreplace)
{
	struct fake_node *node, *target;
	size_t len = strlen(from);
	int r = 0;

	(void)engine;
	(void)op;
	s3c_mutex_lock(&fake.lock);
	node = fake_find(from);
	target = fake_find(to);
	if (!node)
		r = -ENOENT;
	else if (target && noreplace)
		r = -EEXIST;
	else if (target && fake_is_dir(to) && !fake_empty(to))
		r = -ENOTEMPTY;
	if (r == 0 && target && target != node) {
		free(steal_ptr(target->path));
		fake_drop(target);
	}
	for (struct fake_node *n = fake.nodes; r == 0 && n; n = n->next) {
		char *path = n->path;

		if (!path || strncmp(path, from, len) != 0 || (path[len] && path[len] != '/'))
			continue;
		n->path = s3c_asprintf("%s%s", to, path + len);
		free(path);
	}
	s3c_mutex_unlock(&fake.lock);
	return r;
}

void s3c_engine_stats(struct s3c_engine *engine, struct s3c_engine_stats *ret_stats)
{
	(void)engine;
	memset(ret_stats, 0, sizeof(*ret_stats));
}
