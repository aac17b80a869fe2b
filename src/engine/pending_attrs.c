/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Attribute changes in writeback: of files into the object, whose commit they join, of directories
 * into the marker that is to be written.
 */
#include "engine/pending.h"

#include <errno.h>

#include "engine/content.h"

struct attrs_before {
	struct s3c_attrs attrs;
	uint64_t seq;
	bool was_dirty, recorded;
};

/* Whatever it is, it is not what the store has. */
static void fold(struct s3c_object *object, unsigned which, const struct s3c_attrs *attrs,
		 struct attrs_before *before)
{
	s3c_mutex_lock(&object->engine->lock);
	s3c_object_wait_persisted(object);
	before->attrs = object->attrs;
	before->was_dirty = object->detached || s3c_object_is_dirty(object);
	before->recorded = object->jid != 0;
	s3c_attrs_apply(&object->attrs, which, attrs);
	before->seq = ++object->seq;
	s3c_mutex_unlock(&object->engine->lock);
}

static void unfold(struct s3c_object *object, const struct attrs_before *before)
{
	s3c_mutex_lock(&object->engine->lock);
	if (object->seq == before->seq && !object->committing) {
		object->attrs = before->attrs;
		object->seq--;
	}
	s3c_mutex_unlock(&object->engine->lock);
}

static int set_file(struct s3c_object *object, struct s3c_op *op, unsigned which,
		    const struct s3c_attrs *attrs, struct s3c_info *ret_info)
{
	struct attrs_before before;
	int r;

	fold(object, which, attrs, &before);
	r = s3c_object_persist(object, S3C_TX_LAZY);
	/* Of bytes that nobody was promised yet: with them. Else the store has to do. */
	if (r == -EAGAIN)
		r = before.was_dirty && !before.recorded ? 0 : s3c_object_commit(object, op);
	if (r < 0) {
		unfold(object, &before);
		return r;
	}
	s3c_mutex_lock(&object->engine->lock);
	if (s3c_object_is_dirty(object))
		s3c_object_schedule(object, false);
	s3c_mutex_unlock(&object->engine->lock);
	s3c_object_info(object, ret_info);
	return 0;
}

static int set_dir(struct s3c_engine *engine, const char *path, struct s3c_entry *entry,
		   unsigned which, const struct s3c_attrs *attrs, struct s3c_info *ret_info)
{
	cleanup_entry struct s3c_entry *now = NULL;
	struct s3c_attrs all = entry->header.attrs;
	int r;

	s3c_attrs_apply(&all, which, attrs);
	/* Of one that is pending already it is known what it stands on. */
	r = s3c_pending_dir(engine, path, &all, entry->implicit ? NULL : entry, false, &now);
	if (r == 0)
		s3c_entry_info(engine, now, ret_info);
	return r;
}

static int setattr_held(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			struct s3c_object *object, unsigned which, const struct s3c_attrs *attrs,
			struct s3c_info *ret_info)
{
	struct s3c_object *found = object ? NULL : s3c_object_find(engine, path);
	cleanup_entry struct s3c_entry *entry = NULL;
	int r = 0;

	if (!object && !found) {
		r = s3c_names_lookup(engine, op, path, false, &entry);
		if (r == 0 && entry->is_dir)
			return set_dir(engine, path, entry, which, attrs, ret_info);
		if (r == 0)
			r = s3c_object_open(engine, op, path, &found);
	}
	if (r == 0)
		r = set_file(object ? object : found, op, which, attrs, ret_info);
	if (found)
		s3c_object_close(found);
	return r;
}

int s3c_pending_setattr(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			struct s3c_object *object, unsigned which, const struct s3c_attrs *attrs,
			struct s3c_info *ret_info)
{
	struct s3c_hold hold = { .path = path };
	int r;

	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = s3c_hold_begin(engine, op, &hold, 1);
	if (r < 0)
		return r;
	r = setattr_held(engine, op, path, object, which, attrs, ret_info);
	s3c_hold_end(engine, &hold, 1);
	return r;
}
