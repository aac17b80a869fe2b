/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What comes after the close of a file, where closes go to the store (commit=close).
 *
 * A program that copies files writes one under a temporary name, closes it, sets its attributes,
 * call by call, and renames it: a PUT, a copy for each attribute, a copy and a DELETE. All but the
 * PUT and one copy is saved: attributes of a file that was stored a moment ago are in the journal
 * when they are acknowledged (an OBJECT record that differs from its base in attributes alone), and
 * go with the next copy, which a rename makes anyhow; and the old name is one of many that are
 * deleted together, in the journal as a GONE record from before the rename is acknowledged. The
 * latter is also for an old name of which nobody knows whether a DELETE has reached it.
 *
 * Both are for what happens to many files one after the other. A single rename, and attributes of a
 * file that was not just stored here, are in the store when they return.
 */
#include "engine/pending.h"

#include <errno.h>
#include <string.h>

#include "engine/content.h"

#define LATELY_NS (10 * S3C_NSEC_PER_SEC) /* since the store confirmed the file */
#define SERIES_NS (2 * S3C_NSEC_PER_SEC)  /* between two renames of a series */
#define DELETE_NS (5 * S3C_NSEC_PER_SEC)  /* until old names are deleted */

/* The object of path, when it is what the store was given here a moment ago. Lock held. */
static struct s3c_object *find_late(struct s3c_engine *engine, const char *path,
				    const struct s3c_entry *entry)
{
	struct s3c_object *object;

	HASH_FIND_STR(engine->objects->by_path, path, object);
	if (!object || !object->base || !object->stored_ns ||
	    s3c_clock_monotonic_ns() - object->stored_ns > LATELY_NS)
		return NULL;
	return s3c_same_content(object->base, entry) ? object : NULL;
}

static bool attrs_only(const struct s3c_object *object)
{
	return s3c_object_is_dirty(object) && object->base && !object->lost &&
	       object->content_seq == object->content_clean;
}

int s3c_object_take_late(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			 struct s3c_object **ret_object)
{
	struct s3c_object *object = s3c_object_find(engine, path);
	cleanup_entry struct s3c_entry *entry = NULL;
	bool late;
	int r;

	/* Who looks at each open looks for what other machines see, too. */
	if (!s3c_durable(engine) || engine->config.consistency_open)
		goto out;
	if (!object) {
		r = s3c_names_lookup(engine, op, path, false, &entry);
		if (r < 0 || entry->is_dir)
			return S3C_MIN(r, 0);
		s3c_mutex_lock(&engine->lock);
		late = find_late(engine, path, entry);
		s3c_mutex_unlock(&engine->lock);
		if (!late)
			return 0;
		r = s3c_object_open(engine, op, path, &object);
		if (r < 0)
			return r;
	}
	s3c_mutex_lock(&engine->lock);
	late = attrs_only(object) ? object->jid != 0
				  : !s3c_object_is_dirty(object) && object->base &&
					    find_late(engine, path, object->base) == object;
	s3c_mutex_unlock(&engine->lock);
	if (late) {
		*ret_object = object;
		return 1;
	}
out:
	if (object)
		s3c_object_close(object);
	return 0;
}

bool s3c_object_attrs_only(struct s3c_object *object, struct s3c_attrs *ret_attrs,
			   uint64_t *ret_seq)
{
	bool only;

	s3c_mutex_lock(&object->engine->lock);
	only = attrs_only(object);
	if (only) {
		s3c_attrs_set(ret_attrs, &object->attrs);
		*ret_seq = object->seq;
	}
	s3c_mutex_unlock(&object->engine->lock);
	return only;
}

bool s3c_object_recorded(struct s3c_object *object)
{
	bool recorded;

	s3c_mutex_lock(&object->engine->lock);
	recorded = object->jid && !object->detached;
	s3c_mutex_unlock(&object->engine->lock);
	return recorded;
}

void s3c_object_attrs_stored(struct s3c_object *object, uint64_t seq)
{
	s3c_mutex_lock(&object->engine->lock);
	/* What was changed since is not in the copy. */
	if (object->seq == seq) {
		object->clean_seq = seq;
		object->retry_ns = 0;
		object->failures = 0;
	}
	s3c_mutex_unlock(&object->engine->lock);
}

bool s3c_object_is_shut(struct s3c_object *object)
{
	bool shut;

	s3c_mutex_lock(&object->engine->lock);
	shut = object->users == 1 && !object->committing && attrs_only(object);
	s3c_mutex_unlock(&object->engine->lock);
	return shut;
}

void s3c_object_discard(struct s3c_object *object)
{
	s3c_mutex_lock(&object->engine->lock);
	s3c_object_wait_persisted(object);
	s3c_object_record_drop(object);
	s3c_object_unhash(object);
	object->detached = true;
	s3c_mutex_unlock(&object->engine->lock);
}

static bool may_wait(const struct s3c_names *names, const struct s3c_entry *source)
{
	return names->send_runs && !names->send_stop && source->version.etag[0];
}

/* Is it one of a series, of a file that was stored a moment ago? Lock held. */
static bool is_moved(struct s3c_engine *engine, const struct s3c_entry *source)
{
	struct s3c_names *names = engine->names;
	int64_t now = s3c_clock_monotonic_ns(), before = names->moved_ns;

	names->moved_ns = now;
	return may_wait(names, source) && before && now - before <= SERIES_NS &&
	       find_late(engine, source->path, source);
}

/* Bytes that only the journal and this process have: a record of them must not go before there is
   another. */
static bool has_content(const struct s3c_object *object)
{
	return object && object->content_seq != object->content_clean;
}

/* The record goes with the name. What the object knows of it stays: it is to be told that it has
   moved, and writes a new one when it still needs one. */
static int delete_record(struct s3c_object *object, struct s3c_tx *tx)
{
	int r = 0;

	if (object && object->jid) {
		r = s3c_tx_delete(tx, S3C_RECORD_OBJECT, object->jid, 0);
		if (r == 0 && object->cid)
			r = s3c_tx_delete_from(tx, S3C_RECORD_CHUNK, object->cid, 0);
	}
	return r;
}

/* The name is gone, in tx too. Lock held. */
static int moved_begin(struct s3c_engine *engine, struct s3c_entry *source,
		       struct s3c_object *object, struct s3c_tx *tx,
		       struct s3c_pending **ret_pending)
{
	struct s3c_names *names = engine->names;
	struct s3c_node *node = s3c_node_make(names, source->path);
	struct s3c_pending *p;
	int r;

	if (!node)
		return -ENOMEM;
	p = node->pending[S3C_KEY_FILE] || node->pending[S3C_KEY_DIR]
		    ? NULL
		    : s3c_pending_add(names, node, S3C_KEY_FILE);
	if (!p) {
		s3c_node_prune(names, node);
		return -EAGAIN;
	}
	p->moved = true;
	p->commits++;
	p->base = s3c_entry_ref(source);
	s3c_pending_enqueue(names, p, s3c_clock_monotonic_ns() + DELETE_NS);
	r = s3c_pending_put(p, tx);
	if (r == 0)
		r = delete_record(object, tx);
	*ret_pending = p;
	return r;
}

/* Lock held. */
static void moved_undo(struct s3c_engine *engine, struct s3c_pending *p)
{
	struct s3c_node *node = p->node;

	p->commits--;
	node->pins++;
	s3c_pending_lift(engine->names, p);
	s3c_pending_free(p);
	node->pins--;
	s3c_node_prune(engine->names, node);
}

int s3c_pending_moved(struct s3c_engine *engine, struct s3c_entry *source,
		      struct s3c_object *object, bool tried, struct s3c_pending **ret_pending)
{
	struct s3c_pending *p = NULL;
	struct s3c_landing landing;
	struct s3c_tx *tx = NULL;
	bool given = false;
	int r = -EAGAIN;

	if (!s3c_durable(engine) || s3c_tx_new(engine->config.journal, &tx) < 0)
		return r;
	s3c_tx_vital(tx);
	s3c_mutex_lock(&engine->lock);
	s3c_object_wait_persisted(object);
	if ((tried ? may_wait(engine->names, source) : is_moved(engine, source)) &&
	    !has_content(object))
		r = moved_begin(engine, source, object, tx, &p);
	if (r == 0) {
		given = true;
		s3c_landing_submit_as(&landing, steal_ptr(tx),
				      s3c_writeback(engine) ? S3C_TX_LAZY : S3C_TX_SYNC);
		s3c_mutex_unlock(&engine->lock);
		r = s3c_landing_wait(&landing);
		s3c_mutex_lock(&engine->lock);
	}
	if (r < 0 && p)
		moved_undo(engine, p);
	/* What a failed one would have deleted is still there, and has to be written again. */
	if (r < 0 && given && object && object->jid)
		object->record_broken = true;
	s3c_mutex_unlock(&engine->lock);
	s3c_tx_free(tx);
	if (r < 0)
		return -EAGAIN;
	*ret_pending = p;
	return 0;
}

void s3c_pending_moved_end(struct s3c_engine *engine, struct s3c_pending *p)
{
	s3c_mutex_lock(&engine->lock);
	p->commits--;
	s3c_pending_unblock(engine->names, p);
	s3c_mutex_unlock(&engine->lock);
}
