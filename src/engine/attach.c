/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What operations on names do with open objects: taking them off their path, and onto others. */
#include "engine/content.h"
#include "engine/durable.h"
#include "engine/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"

/* Chunks [first, first + n), of one segment that is no hole. Lock held, released. */
static int localize_run(struct s3c_object *object, struct s3c_op *op, uint64_t first, unsigned n)
{
	struct s3c_page *pages[S3C_BATCH], *page;
	bool all = true;
	int r;

	for (unsigned i = 0; i < n; i++) {
		struct s3c_slot *slot = s3c_slot_find(object, first + i, NULL);

		all &= slot && slot->state == S3C_CHUNK_DIRTY;
	}
	if (all)
		return 0;
	r = s3c_chunks_pin(object, op, first, n, pages);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n && r == 0; i++) {
		struct s3c_slot *slot = s3c_slot_find(object, first + i, NULL);

		if (!pages[i] || (slot && slot->state == S3C_CHUNK_DIRTY))
			continue;
		r = s3c_chunk_make_dirty(object, op, first + i, &page);
		if (r == 0 && page)
			s3c_chunks_unpin(object, &page, 1);
	}
	s3c_chunks_unpin(object, pages, n);
	return r;
}

int s3c_object_localize(struct s3c_object *object, struct s3c_op *op)
{
	int r = object->base_visible ? s3c_object_prepare(object, op) : 0;

	for (uint64_t chunk = 0; r == 0 && chunk * S3C_CHUNK_SIZE < object->base_visible;) {
		uint64_t end = DIV_ROUND_UP(object->base_visible, S3C_CHUNK_SIZE);
		unsigned n = (unsigned)S3C_MIN(end - chunk, (uint64_t)S3C_BATCH);

		if (object->crypt && s3c_crypt_hole(object->crypt, chunk / S3C_SEGMENT_CHUNKS))
			n = S3C_SEGMENT_CHUNKS;
		else
			r = localize_run(object, op, chunk, n);
		chunk += n;
	}
	return r;
}

/* Neither commit nor upload: what the store has stays as it is. Lock held, released. */
static int quiesce(struct s3c_object *object, struct s3c_op *op)
{
	while (object->committing || object->upload) {
		int r;

		if (op == S3C_NOWAIT)
			return -EINPROGRESS;
		if (object->committing || !object->upload)
			r = s3c_waitq_wait(&object->waitq, &object->engine->lock, op);
		else
			r = s3c_stream_abort(object, op);
		if (r == -EBUSY) {
			s3c_mutex_unlock(&object->engine->lock);
			r = s3c_object_commit(object, op);
			s3c_mutex_lock(&object->engine->lock);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static void thaw(struct s3c_object *object)
{
	if (--object->frozen == 0)
		s3c_waitq_wake_all(&object->waitq);
}

int s3c_object_detach(struct s3c_object *object, struct s3c_op *op)
{
	struct s3c_mutex *lock = &object->engine->lock;
	int r;

	s3c_mutex_lock(lock);
	r = object->detached ? 0 : quiesce(object, op);
	if (r < 0 || object->detached) {
		s3c_mutex_unlock(lock);
		return r;
	}
	object->frozen++;
	object->localizing = true;
	r = s3c_object_localize(object, op);
	object->localizing = false;
	/* What the journal is given is one view, with its base. */
	while (r == 0 && object->persisting)
		s3c_waitq_wait(&object->waitq, lock, NULL);
	if (r == 0) {
		s3c_object_unhash(object);
		object->detached = true;
		object->detached_base = object->base;
		object->base = NULL;
		s3c_crypt_put(object->crypt);
		object->crypt = NULL;
		object->base_visible = 0;
		/* Should it come back, all of it has to be sent. */
		object->seq++;
		object->content_seq++;
		/* In writeback the operation does that, with what else it changes. */
		if (!s3c_writeback(object->engine))
			s3c_object_record_drop(object);
	}
	thaw(object);
	s3c_mutex_unlock(lock);
	return r;
}

int s3c_object_reattach(struct s3c_object *object, const char *path)
{
	struct s3c_engine *engine = object->engine;
	struct s3c_target *target;
	int r = s3c_target_new(engine, path, &target);

	if (r < 0)
		return r;
	s3c_mutex_lock(&engine->lock);
	s3c_object_cache_drop(engine->objects, path, false);
	r = object->detached ? s3c_object_hash(object, path) : 0;
	if (r == 0 && object->detached) {
		s3c_target_put(object->target);
		object->target = s3c_target_ref(target);
		object->detached = false;
		object->base = steal_ptr(object->detached_base);
	}
	s3c_mutex_unlock(&engine->lock);
	s3c_target_put(target);
	return r;
}

/* Lock held. Whoever has the path already has lost it. */
static int take_path(struct s3c_object *object, const char *path, struct s3c_target *target)
{
	struct s3c_objects *objects = object->objects;
	struct s3c_object *other;
	int r;

	if (strcmp(object->path, path) == 0 && object->hashed)
		return 0;
	s3c_object_cache_drop(objects, path, false);
	HASH_FIND_STR(objects->by_path, path, other);
	if (other)
		s3c_object_unhash(other);
	s3c_object_unhash(object);
	r = s3c_object_hash(object, path);
	if (r < 0)
		return r;
	s3c_target_put(object->target);
	object->target = s3c_target_ref(target);
	memset(object->attempts, 0, sizeof(object->attempts));
	return 0;
}

void s3c_object_moved(struct s3c_object *object, struct s3c_entry *entry)
{
	struct s3c_engine *engine = object->engine;
	struct s3c_target *target = NULL;
	int r = s3c_target_new(engine, entry->path, &target);

	s3c_mutex_lock(&engine->lock);
	if (r == 0)
		r = take_path(object, entry->path, target);
	if (r < 0) {
		/* Better without a path than on one that is another's. */
		s3c_error("%s: no memory to follow its rename: changes made to it from now on are "
			  "lost",
			  object->path);
		object->detached = true;
	} else {
		s3c_object_set_base(object, entry);
		if (object->seq == object->clean_seq) {
			s3c_attrs_set(&object->attrs, &entry->header.attrs);
			object->attrs.known = true;
		}
		s3c_object_record_moved(object);
	}
	s3c_mutex_unlock(&engine->lock);
	s3c_object_record_follow(object);
	s3c_target_put(target);
}

int s3c_object_rekey_locked(struct s3c_object *object, const char *to, struct s3c_target *target,
			    struct s3c_entry *base)
{
	uint8_t token[sizeof(object->token)];
	int r = take_path(object, to, target);

	if (r < 0)
		return r;
	/* The base is what is replaced, not what is read. */
	memcpy(token, object->token, sizeof(token));
	s3c_object_set_base(object, base);
	memcpy(object->token, token, sizeof(token));
	object->base_visible = 0;
	return 0;
}

int s3c_object_rekey(struct s3c_object *object, const char *to, struct s3c_entry *base)
{
	struct s3c_engine *engine = object->engine;
	struct s3c_target *target;
	int r = s3c_target_new(engine, to, &target);

	if (r < 0)
		return r;
	s3c_mutex_lock(&engine->lock);
	r = s3c_object_rekey_locked(object, to, target, base);
	if (r == 0 && !s3c_writeback(engine))
		s3c_object_record_moved(object);
	s3c_mutex_unlock(&engine->lock);
	if (r == 0 && !s3c_writeback(engine))
		s3c_object_record_follow(object);
	s3c_target_put(target);
	return r;
}

int s3c_object_freeze(struct s3c_object *object, struct s3c_op *op)
{
	struct s3c_mutex *lock = &object->engine->lock;
	int r;

	s3c_mutex_lock(lock);
	r = quiesce(object, op);
	if (r == 0)
		object->frozen++;
	s3c_mutex_unlock(lock);
	return r;
}

void s3c_object_thaw(struct s3c_object *object)
{
	s3c_mutex_lock(&object->engine->lock);
	thaw(object);
	s3c_mutex_unlock(&object->engine->lock);
}

static bool is_below(const struct s3c_object *object, const char *path)
{
	return !object->detached && object->hashed && s3c_path_is_below(object->path, path);
}

/* One object at or below path for which want is true, held. Lock held. */
static struct s3c_object *find_below(struct s3c_objects *objects, const char *path,
				     bool (*want)(const struct s3c_object *))
{
	struct s3c_object *object;

	LIST_FOREACH (object, &objects->all, all)
		if (is_below(object, path) && want(object)) {
			s3c_object_hold(object);
			return object;
		}
	return NULL;
}

static bool runs(const struct s3c_object *object)
{
	return object->committing || object->upload;
}

int s3c_objects_freeze_below(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_frozen_path *frozen = calloc(1, sizeof(*frozen));
	struct s3c_object *object;
	int r = 0;

	if (!frozen)
		return -ENOMEM;
	frozen->path = strdup(path);
	if (!frozen->path) {
		free(frozen);
		return -ENOMEM;
	}
	s3c_mutex_lock(&engine->lock);
	while (r == 0 && (object = find_below(engine->objects, path, runs))) {
		r = quiesce(object, op);
		s3c_object_release(object);
	}
	if (r == 0) {
		LIST_INSERT_HEAD(&engine->objects->frozen, frozen, link);
		frozen = NULL;
	}
	s3c_mutex_unlock(&engine->lock);
	if (frozen)
		free(frozen->path);
	free(frozen);
	return r;
}

void s3c_objects_thaw_below(struct s3c_engine *engine, const char *path)
{
	struct s3c_frozen_path *frozen;
	struct s3c_object *object;

	s3c_mutex_lock(&engine->lock);
	LIST_FOREACH (frozen, &engine->objects->frozen, link)
		if (strcmp(frozen->path, path) == 0)
			break;
	if (frozen) {
		LIST_REMOVE(frozen, link);
		free(frozen->path);
		free(frozen);
	}
	LIST_FOREACH (object, &engine->objects->all, all)
		s3c_waitq_wake_all(&object->waitq);
	s3c_mutex_unlock(&engine->lock);
}

/* All objects at or below path, held: the list changes while they are worked on. */
static int hold_below(struct s3c_engine *engine, const char *path, bool dirty_only,
		      struct s3c_object ***ret_objects, size_t *ret_count)
{
	struct s3c_object **found = NULL, *object;
	size_t count = 0;

	LIST_FOREACH (object, &engine->objects->all, all) {
		struct s3c_object **more;

		if (!is_below(object, path) || (dirty_only && !s3c_object_is_dirty(object)))
			continue;
		more = reallocarray(found, count + 1, sizeof(*found));
		if (!more) {
			for (size_t i = 0; i < count; i++)
				s3c_object_release(found[i]);
			free(found);
			return -ENOMEM;
		}
		found = more;
		found[count++] = object;
		s3c_object_hold(object);
	}
	*ret_objects = found;
	*ret_count = count;
	return 0;
}

int s3c_objects_commit_below(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_object **found;
	size_t count;
	int r;

	s3c_mutex_lock(&engine->lock);
	r = hold_below(engine, path, true, &found, &count);
	/* Side by side; the waiting is one after the other. */
	for (size_t i = 0; r == 0 && i < count && op != S3C_NOWAIT; i++)
		s3c_commit_start(found[i]);
	s3c_mutex_unlock(&engine->lock);
	if (r < 0)
		return r;
	/* All of them, whatever becomes of the first. */
	for (size_t i = 0; i < count; i++) {
		int result = s3c_object_commit(found[i], op);

		r = r < 0 ? r : result;
		if (result == -EINTR || result == -EINPROGRESS)
			break;
	}
	s3c_mutex_lock(&engine->lock);
	for (size_t i = 0; i < count; i++)
		s3c_object_release(found[i]);
	s3c_mutex_unlock(&engine->lock);
	free(found);
	return r;
}

static void rebase_one(struct s3c_object *object, const char *from, const char *to)
{
	struct s3c_engine *engine = object->engine;
	cleanup_free char *path = NULL;
	const char *rest = object->path + strlen(from);
	struct s3c_target *target = NULL;
	int r = -ENOMEM;

	/* Below the root there is a slash too few or too many. */
	rest += *rest == '/';
	path = s3c_asprintf("%s%s%s", to, *to && *rest ? "/" : "", rest);
	if (path)
		r = s3c_target_new(engine, path, &target);
	s3c_mutex_lock(&engine->lock);
	if (r == 0)
		r = take_path(object, path, target);
	if (r < 0) {
		s3c_error("%s: cannot follow the rename of its directory (%s): changes made to it "
			  "from now on are lost",
			  object->path, strerror(-r));
		s3c_object_unhash(object);
		object->detached = true;
	} else {
		s3c_object_record_moved(object);
	}
	s3c_mutex_unlock(&engine->lock);
	if (r == 0)
		s3c_object_record_follow(object);
	s3c_target_put(target);
}

void s3c_objects_rebase(struct s3c_engine *engine, const char *from, const char *to)
{
	struct s3c_object **found;
	size_t count;
	int r;

	s3c_mutex_lock(&engine->lock);
	s3c_object_cache_drop(engine->objects, from, true);
	s3c_object_cache_drop(engine->objects, to, true);
	r = hold_below(engine, from, false, &found, &count);
	s3c_mutex_unlock(&engine->lock);
	if (r < 0) {
		s3c_error("%s: no memory to follow its rename: open files below it fail", from);
		return;
	}
	for (size_t i = 0; i < count; i++)
		rebase_one(found[i], from, to);
	s3c_mutex_lock(&engine->lock);
	for (size_t i = 0; i < count; i++)
		s3c_object_release(found[i]);
	s3c_mutex_unlock(&engine->lock);
	free(found);
}

bool s3c_object_fold_attrs(struct s3c_object *object, unsigned which, const struct s3c_attrs *attrs)
{
	bool fold;

	s3c_mutex_lock(&object->engine->lock);
	fold = object->detached || s3c_object_is_dirty(object);
	if (fold) {
		s3c_attrs_change(&object->attrs, which, attrs);
		object->seq++;
	}
	s3c_mutex_unlock(&object->engine->lock);
	return fold;
}

void s3c_object_note_attempt(struct s3c_object *object, const uint8_t op_id[static S3C_OP_ID_LEN],
			     uint64_t size)
{
	struct s3c_attempt *attempt;

	s3c_mutex_lock(&object->engine->lock);
	attempt = &object->attempts[object->attempt_next++ % ARRAY_LEN(object->attempts)];
	*attempt = (struct s3c_attempt){ .size = size, .used = true };
	memcpy(attempt->op_id, op_id, S3C_OP_ID_LEN);
	s3c_mutex_unlock(&object->engine->lock);
}

bool s3c_object_tried(struct s3c_object *object)
{
	bool tried = false;

	s3c_mutex_lock(&object->engine->lock);
	for (unsigned i = 0; i < ARRAY_LEN(object->attempts); i++)
		tried |= object->attempts[i].used;
	s3c_mutex_unlock(&object->engine->lock);
	return tried;
}

bool s3c_object_sent_locked(const struct s3c_object *object,
			    const uint8_t op_id[static S3C_OP_ID_LEN])
{
	bool sent = false;

	for (unsigned i = 0; i < ARRAY_LEN(object->attempts); i++)
		sent |= object->attempts[i].used &&
			memcmp(object->attempts[i].op_id, op_id, S3C_OP_ID_LEN) == 0;
	return sent;
}

bool s3c_object_sent(struct s3c_object *object, const uint8_t op_id[static S3C_OP_ID_LEN])
{
	bool sent;

	s3c_mutex_lock(&object->engine->lock);
	sent = s3c_object_sent_locked(object, op_id);
	s3c_mutex_unlock(&object->engine->lock);
	return sent;
}

struct s3c_entry *s3c_object_base(struct s3c_object *object)
{
	struct s3c_entry *base;

	s3c_mutex_lock(&object->engine->lock);
	base = object->base ? s3c_entry_ref(object->base) : NULL;
	s3c_mutex_unlock(&object->engine->lock);
	return base;
}

char *s3c_kept_path(const struct s3c_engine *engine, const char *path, const char *word, int64_t ns)
{
	time_t seconds = (time_t)(ns / S3C_NSEC_PER_SEC);
	unsigned micros = (unsigned)(ns % S3C_NSEC_PER_SEC / 1000);
	char stamp[32];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%S", &tm);
	return s3c_asprintf("%s%s-%s-%s.%06uZ", path, word, engine->host, stamp, micros);
}

/* NAME.conflict-HOST-TIME, which nothing here has: of one file several may be kept in a moment.
   NULL: no memory. Lock held. */
static char *conflict_path(const struct s3c_object *object)
{
	struct s3c_engine *engine = object->engine;
	const struct s3c_object *other;
	char name[S3C_PATH_MAX];

	/* Bodies have no names that a person sees. */
	if (s3c_path_is_body(object->path))
		snprintf(name, sizeof(name), "hardlink-%s", object->path + strlen(S3C_BODY_DIR));
	else
		snprintf(name, sizeof(name), "%s", object->path);
	for (int64_t now = s3c_clock_realtime_ns();; now += 1000) {
		char *path = s3c_kept_path(engine, name, ".conflict", now);

		if (!path)
			return NULL;
		HASH_FIND_STR(object->objects->by_path, path, other);
		if (!other)
			return path;
		free(path);
	}
}

void s3c_object_unlink_failed(struct s3c_object *object)
{
	s3c_mutex_lock(&object->engine->lock);
	object->unlink_failed = true;
	s3c_mutex_unlock(&object->engine->lock);
}

/* All of it is here, and the version that it stood on is gone. Lock held, but for waits. */
static void stand_alone(struct s3c_object *object)
{
	s3c_object_set_base(object, NULL);
	object->base_visible = 0;
	object->seq++;
	object->content_seq++;
	object->attrs.nlink = 0;
	/* What the journal has stands on the version that is gone. */
	object->record_broken = object->jid != 0;
}

int s3c_object_removed(struct s3c_object *object)
{
	struct s3c_engine *engine = object->engine;
	cleanup_entry struct s3c_entry *there = NULL;
	struct s3c_op op;
	bool failed;
	int r;

	s3c_mutex_lock(&engine->lock);
	failed = object->unlink_failed;
	s3c_mutex_unlock(&engine->lock);
	if (!failed || s3c_names_lookup(engine, NULL, object->path, true, &there) != -ENOENT)
		return -ESTALE;
	s3c_op_init(&op, s3c_engine_deadline(engine));
	s3c_mutex_lock(&engine->lock);
	r = object->content_seq == object->content_clean ? -ESTALE
							 : s3c_object_localize(object, &op);
	/* What the journal is given is one view, with its base. */
	while (r == 0 && object->persisting)
		s3c_waitq_wait(&object->waitq, &engine->lock, NULL);
	if (r == 0)
		stand_alone(object);
	s3c_mutex_unlock(&engine->lock);
	s3c_op_destroy(&op);
	if (r < 0)
		return -ESTALE;
	if (object->record_broken)
		s3c_object_persist(object, S3C_TX_SYNC);
	s3c_warn("%s: its unlink, which was told to have failed, was carried out: it is stored "
		 "again",
		 object->path);
	return 0;
}

int s3c_conflict_rename(struct s3c_object *object)
{
	struct s3c_engine *engine = object->engine;
	cleanup_free char *path = NULL, *old = NULL;
	struct s3c_target *target = NULL;
	mode_t type = S_IFREG;
	struct s3c_op op;
	int r;

	/* Part of a commit, which nobody else may be made to wait for without end. */
	s3c_op_init(&op, s3c_engine_deadline(engine));
	s3c_mutex_lock(&engine->lock);
	old = strdup(object->path);
	path = conflict_path(object);
	/* Only what is all here can be kept: the rest was in the version that is gone. */
	r = old && path ? s3c_object_localize(object, &op) : -ENOMEM;
	s3c_mutex_unlock(&engine->lock);
	if (r == 0)
		r = s3c_target_new(engine, path, &target);
	if (r == 0) {
		s3c_mutex_lock(&engine->lock);
		/* What the journal is given is one view, with its base. */
		while (object->persisting)
			s3c_waitq_wait(&object->waitq, &engine->lock, NULL);
		r = take_path(object, path, target);
		if (r == 0) {
			stand_alone(object);
			if (object->attrs.mode & S_IFMT)
				type = object->attrs.mode & S_IFMT;
		}
		s3c_mutex_unlock(&engine->lock);
		if (r == 0 && object->record_broken)
			s3c_object_persist(object, S3C_TX_SYNC);
	}
	s3c_target_put(target);
	s3c_op_destroy(&op);
	if (r == 0)
		s3c_error("%s: was changed by another machine: the version of this one is kept as "
			  "%s",
			  old, path);
	else
		s3c_error("%s: was changed by another machine: the changes made here cannot be "
			  "stored",
			  old ? old : object->path);
	if (old) {
		if (r == 0) {
			s3c_names_drop_local(engine, old);
			s3c_names_add_local(engine, path, type);
		}
		s3c_names_invalidate(engine, old, false);
	}
	return r == 0 ? 0 : -ESTALE;
}
