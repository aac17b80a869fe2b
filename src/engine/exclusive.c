/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Names that are made exclusively, and are in the store when they are made: links and special
 * files, and with excl=open files, empty ones.
 *
 * What would else be done at close is done at once: the commit of the new object, which must not
 * exist (If-None-Match). While the object is `claiming`, a commit that meets something else under
 * the name is no conflict whose loser is kept: nobody was told that this one is there. What it
 * meets may be another machine's, or what an earlier attempt left whose reply was lost: EEXIST for
 * both.
 */
#include "engine/pending.h"

#include <errno.h>

#include "engine/content.h"

static void set_claiming(struct s3c_object *object, bool claiming)
{
	s3c_mutex_lock(&object->engine->lock);
	object->claiming = claiming;
	s3c_mutex_unlock(&object->engine->lock);
}

/* What became of the request may not be known, and nobody wants the file any more. */
static void remove_sent(struct s3c_object *object, const char *path)
{
	struct s3c_engine *engine = object->engine;
	cleanup_entry struct s3c_entry *base = s3c_object_base(object);
	cleanup_free char *key = NULL;

	if (!base)
		s3c_delete_sent(engine, path, object);
	else if (s3c_key_of(engine, path, false, &key) == 0)
		s3c_delete_key(engine, key, base->version.etag);
}

static void give_up(struct s3c_object *object, const char *path, int result)
{
	struct s3c_engine *engine = object->engine;
	bool local;

	/* The commit goes on when its waiter was interrupted. */
	s3c_object_freeze(object, NULL);
	if (result != -EEXIST)
		remove_sent(object, path);
	s3c_object_discard(object);
	s3c_object_thaw(object);
	local = !object->base;
	if (local)
		s3c_names_drop_local(engine, path);
	s3c_names_invalidate(engine, path, false);
}

/* Refused with another word than that of a condition: is it for somebody else's file? */
static int explain(struct s3c_engine *engine, struct s3c_op *op, const char *path, int result)
{
	cleanup_entry struct s3c_entry *entry = NULL;

	if (result == -EEXIST || result == -EINTR)
		return result;
	return s3c_names_lookup(engine, op, path, true, &entry) == 0 ? -EEXIST : result;
}

int s3c_object_claim(struct s3c_object *object, struct s3c_op *op, const char *path)
{
	int r;

	set_claiming(object, true);
	r = s3c_object_commit(object, op);
	if (r < 0)
		give_up(object, path, r);
	set_claiming(object, false);
	return r;
}

int s3c_object_create_excl(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			   const struct s3c_attrs *attrs, struct s3c_object **ret_object)
{
	struct s3c_object *object;
	int r = 0;

	if (!engine->config.excl_open || engine->config.read_only)
		return s3c_object_create(engine, op, path, attrs, ret_object);
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	/* A delete that is under way would be taken for what the new file replaces. */
	if (s3c_writeback(engine))
		r = s3c_pending_flush(engine, op, path);
	if (r == 0)
		r = s3c_object_create(engine, op, path, attrs, &object);
	if (r < 0)
		return r;
	r = s3c_object_claim(object, op, path);
	if (r == 0) {
		*ret_object = object;
		return 0;
	}
	s3c_object_close(object);
	return explain(engine, op, path, r);
}
