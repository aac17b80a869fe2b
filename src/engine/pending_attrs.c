/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Attribute changes in writeback: of files into the object, whose commit they join, of directories
 * into the marker that is to be written. Otherwise those of files that were stored a moment ago
 * (pending_moved.c): they are on the disk when they are answered.
 */
#include "engine/links.h"
#include "engine/pending.h"

#include <errno.h>

#include "engine/content.h"

#define LATE_NS (3 * S3C_NSEC_PER_SEC / 2) /* until attributes that wait are sent by themselves */

struct attrs_before {
	struct s3c_attrs attrs;
	uint64_t seq;
	bool was_dirty, recorded;
};

static void before_clear(struct attrs_before *before)
{
	s3c_attrs_clear(&before->attrs);
}
#define cleanup_before __attribute__((cleanup(before_clear)))

/* Whatever it is, it is not what the store has. */
static void fold(struct s3c_object *object, unsigned which, const struct s3c_attrs *attrs,
		 struct attrs_before *before)
{
	s3c_mutex_lock(&object->engine->lock);
	s3c_object_wait_persisted(object);
	s3c_attrs_set(&before->attrs, &object->attrs);
	before->was_dirty = object->detached || s3c_object_is_dirty(object);
	before->recorded = object->jid != 0;
	s3c_attrs_change(&object->attrs, which, attrs);
	before->seq = ++object->seq;
	s3c_mutex_unlock(&object->engine->lock);
}

static void unfold(struct s3c_object *object, const struct attrs_before *before)
{
	s3c_mutex_lock(&object->engine->lock);
	if (object->seq == before->seq && !object->committing) {
		s3c_attrs_set(&object->attrs, &before->attrs);
		object->seq--;
	}
	s3c_mutex_unlock(&object->engine->lock);
}

static int set_file(struct s3c_object *object, struct s3c_op *op, unsigned which,
		    const struct s3c_attrs *attrs, struct s3c_info *ret_info)
{
	cleanup_before struct attrs_before before = { .seq = 0 };
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

/* What the view has changed of base. */
static unsigned changed_attrs(const struct s3c_attrs *now, const struct s3c_attrs *before)
{
	return (now->mode != before->mode ? S3C_SET_MODE : 0) |
	       (now->uid != before->uid ? S3C_SET_UID : 0) |
	       (now->gid != before->gid ? S3C_SET_GID : 0) |
	       (now->mtime_ns != before->mtime_ns ? S3C_SET_MTIME : 0) |
	       (now->atime_ns != before->atime_ns ? S3C_SET_ATIME : 0) |
	       (now->nlink != before->nlink ? S3C_SET_NLINK : 0) |
	       (s3c_xattrs_equal(now->xattrs, before->xattrs) ? 0 : S3C_SET_XATTRS);
}

/* Of the file that the name stands for by now. */
static int store_attrs(struct s3c_engine *engine, const char *path, unsigned which,
		       const struct s3c_attrs *attrs)
{
	cleanup_entry struct s3c_entry *entry = NULL;
	char body[S3C_BODY_PATH];
	int r = s3c_attrs_store(engine, path, which, attrs);

	if (r != S3C_IS_REFERENCE)
		return r;
	r = s3c_names_lookup(engine, NULL, path, false, &entry);
	if (r < 0)
		return r;
	if (entry->is_dir || !s3c_layout_is_reference(entry->header.layout))
		return -EIO;
	s3c_body_path(entry->header.file_id, body);
	r = s3c_attrs_store(engine, body, which, attrs);
	return r == S3C_IS_REFERENCE ? -EIO : r;
}

int s3c_commit_attrs_elsewhere(struct s3c_object *object)
{
	struct s3c_engine *engine = object->engine;
	cleanup_entry struct s3c_entry *base = s3c_object_base(object);
	cleanup_attrs struct s3c_attrs attrs = { 0 };
	uint64_t seq;
	int r;

	if (!base || !s3c_object_attrs_only(object, &attrs, &seq))
		return -ESTALE;
	r = store_attrs(engine, object->path, changed_attrs(&attrs, &base->header.attrs), &attrs);
	if (r < 0 && r != -ENOENT)
		return r == -ESTALE ? -EIO : r;
	s3c_warn("%s: another machine has %s it before its attributes, which were changed here, "
		 "were stored",
		 object->path, r == 0 ? "replaced" : "removed");
	s3c_object_attrs_stored(object, seq);
	/* What it was is not what the name means any more. */
	s3c_mutex_lock(&engine->lock);
	s3c_object_unhash(object);
	s3c_mutex_unlock(&engine->lock);
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

static void send_soon(struct s3c_object *object)
{
	s3c_mutex_lock(&object->engine->lock);
	if (s3c_object_is_dirty(object) && !object->retry_ns) {
		object->retry_ns = s3c_clock_monotonic_ns() + LATE_NS;
		s3c_waitq_wake_all(&object->objects->retry_wait);
	}
	s3c_mutex_unlock(&object->engine->lock);
}

/* Directories have nothing but attributes: all changes of them within a moment are one PUT.
   -EAGAIN: no directory, or it has to be done at once. */
static int late_dir(struct s3c_engine *engine, struct s3c_op *op, const char *path, unsigned which,
		    const struct s3c_attrs *attrs, struct s3c_info *ret_info)
{
	struct s3c_names *names = engine->names;
	cleanup_entry struct s3c_entry *entry = NULL;
	const struct s3c_node *node;
	bool waits, late;
	int r;

	if (s3c_names_lookup(engine, op, path, false, &entry) < 0 || !entry->is_dir)
		return -EAGAIN;
	s3c_mutex_lock(&engine->lock);
	node = s3c_node_find(names, path);
	waits = node && node->pending[S3C_KEY_DIR];
	late = names->send_runs && (waits || !engine->config.consistency_open);
	s3c_mutex_unlock(&engine->lock);
	if (!late)
		return -EAGAIN;
	r = set_dir(engine, path, entry, which, attrs, ret_info);
	if (r < 0)
		return waits ? r : -EAGAIN;
	return s3c_journal_sync(engine->config.journal);
}

int s3c_late_setattr(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     const struct s3c_object *opened, unsigned which, const struct s3c_attrs *attrs,
		     struct s3c_info *ret_info)
{
	struct s3c_object *object;
	cleanup_before struct attrs_before before = { .seq = 0 };
	int r = opened ? -EAGAIN : late_dir(engine, op, path, which, attrs, ret_info);

	if (r != -EAGAIN)
		return r;
	r = s3c_object_take_late(engine, op, path, &object);
	if (r <= 0)
		return r < 0 ? r : -EAGAIN;
	r = opened && opened != object ? -EAGAIN : s3c_object_freeze(object, op);
	if (r < 0) {
		s3c_object_close(object);
		return r;
	}
	fold(object, which, attrs, &before);
	r = s3c_object_persist(object, S3C_TX_SYNC);
	s3c_object_thaw(object);
	/* What the journal does not take the store has to. */
	if (r < 0) {
		r = s3c_object_commit(object, op);
		if (r < 0)
			unfold(object, &before);
	}
	if (r == 0) {
		send_soon(object);
		s3c_object_info(object, ret_info);
	}
	s3c_object_close(object);
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
