/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/upload_journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "engine/links.h"
#include "engine/pending.h"

#define CACHED_MAX 4096u /* closed objects that are kept */

bool s3c_same_content(const struct s3c_entry *a, const struct s3c_entry *b)
{
	if (s3c_entry_renewed(a, b))
		return true;
	if (a->is_dir != b->is_dir || a->implicit != b->implicit ||
	    a->header.layout != b->header.layout || a->stored_size != b->stored_size)
		return false;
	if (a->header.layout == S3C_LAYOUT_PLAIN)
		return strcmp(a->version.etag, b->version.etag) == 0;
	return memcmp(a->header.content_id, b->header.content_id, S3C_CONTENT_ID_LEN) == 0;
}

bool s3c_path_is_below(const char *path, const char *root)
{
	size_t len = strlen(root);

	return !len || (strncmp(path, root, len) == 0 && (path[len] == '/' || !path[len]));
}

static void object_free(struct s3c_object *object)
{
	struct s3c_objects *objects = object->objects;

	/* Bytes of a file that was never stored are lost, and nothing of it is left. */
	if (object->hashed && !object->base && object->lost && !objects->closing)
		s3c_names_drop_local_locked(object->engine->names, object->path);
	s3c_object_unhash(object);
	s3c_paused_drop(object);
	if (object->cached) {
		TAILQ_REMOVE(&objects->cached, object, cached_link);
		objects->cached_count--;
	}
	s3c_chunks_drop(object, 0);
	LIST_REMOVE(object, all);
	s3c_entry_put(object->base);
	s3c_entry_put(object->detached_base);
	s3c_entry_put(object->clone_of);
	s3c_entry_put(object->saved.base);
	s3c_entry_put(object->refused);
	s3c_crypt_put(object->crypt);
	s3c_target_put(object->target);
	s3c_attrs_clear(&object->attrs);
	s3c_attrs_clear(&object->saved.attrs);
	free(object->path);
	free(object);
	s3c_waitq_wake_all(&objects->idle);
}

/* With a reference of a user. entry NULL: created here. */
static int object_new(struct s3c_engine *engine, const char *path, struct s3c_target *target,
		      struct s3c_entry *entry, const struct s3c_attrs *attrs,
		      struct s3c_object **ret_object)
{
	struct s3c_objects *objects = engine->objects;
	struct s3c_object *object = calloc(1, sizeof(*object));
	struct s3c_info info;
	int r;

	if (!object)
		return -ENOMEM;
	object->engine = engine;
	object->objects = objects;
	s3c_waitq_init(&object->waitq);
	r = s3c_object_hash(object, path);
	if (r < 0) {
		free(object->path);
		free(object);
		return r;
	}
	LIST_INSERT_HEAD(&objects->all, object, all);
	object->target = s3c_target_ref(target);
	s3c_attrs_set(&object->attrs, attrs);
	object->attrs.known = true;
	object->cut = UINT64_MAX;
	if (entry) {
		object->base = s3c_entry_ref(entry);
		object->size = object->base_visible = entry->header.size;
		s3c_entry_info(engine, entry, &info);
		memcpy(object->token, info.content_token, sizeof(object->token));
	} else {
		s3c_random(object->token, sizeof(object->token));
		object->seq = object->content_seq = 1;
	}
	object->users = 1;
	objects->open++;
	*ret_object = object;
	return 0;
}

bool s3c_object_is_dirty(const struct s3c_object *object)
{
	return !object->detached && object->seq != object->clean_seq;
}

bool s3c_object_is_frozen(const struct s3c_object *object)
{
	const struct s3c_frozen_path *frozen;

	if (object->frozen)
		return true;
	LIST_FOREACH (frozen, &object->objects->frozen, link)
		if (s3c_path_is_below(object->path, frozen->path))
			return true;
	return false;
}

void s3c_object_unhash(struct s3c_object *object)
{
	if (!object->hashed)
		return;
	HASH_DEL(object->objects->by_path, object);
	object->hashed = false;
}

static struct s3c_object *find_hashed(struct s3c_objects *objects, const char *path)
{
	struct s3c_object *object;

	HASH_FIND_STR(objects->by_path, path, object);
	return object;
}

int s3c_object_hash(struct s3c_object *object, const char *path)
{
	cleanup_free char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	if (find_hashed(object->objects, path))
		return -EEXIST;
	free(object->path);
	object->path = steal_ptr(copy);
	HASH_ADD_KEYPTR(hh, object->objects->by_path, object->path, strlen(object->path), object);
	if (!object->hh.tbl)
		return -ENOMEM;
	object->hashed = true;
	return 0;
}

void s3c_object_hold(struct s3c_object *object)
{
	object->refs++;
}

static bool is_idle(const struct s3c_object *object)
{
	return !object->users && !object->refs;
}

/* Nobody has it open: kept for the next open, or freed. */
static void object_settle(struct s3c_object *object)
{
	struct s3c_objects *objects = object->objects;
	/* What could not be sent is not thrown away before the end. */
	bool keep = s3c_object_is_dirty(object) && !object->lost && !objects->stop;

	if (!is_idle(object) || keep)
		return;
	/* A change that was taken back: nobody else knows of its record. */
	if (object->jid && !object->detached && !s3c_object_is_dirty(object))
		s3c_object_record_drop(object);
	if (object->hashed && object->base && !object->lost && !objects->closing) {
		if (!object->cached) {
			object->cached = true;
			/* Keys of a KMS are kept for a time that is set, by key/kms_kept.c. */
			if (object->base->header.kms)
				s3c_crypt_put(steal_ptr(object->crypt));
			TAILQ_INSERT_TAIL(&objects->cached, object, cached_link);
			if (++objects->cached_count > CACHED_MAX)
				s3c_cache_shrink(objects);
			else if (object->crypt && object->crypt->body)
				s3c_foreign_trim(objects);
		}
		return;
	}
	object_free(object);
}

void s3c_object_release(struct s3c_object *object)
{
	if (--object->refs == 0)
		s3c_waitq_wake_all(&object->objects->idle);
	object_settle(object);
}

bool s3c_cache_shrink(struct s3c_objects *objects)
{
	struct s3c_object *object;

	TAILQ_FOREACH (object, &objects->cached, cached_link)
		if (is_idle(object) && !s3c_object_is_dirty(object)) {
			object_free(object);
			return true;
		}
	return false;
}

void s3c_object_cache_drop(struct s3c_objects *objects, const char *path, bool below)
{
	struct s3c_object *object, *next;

	for (object = TAILQ_FIRST(&objects->cached); object; object = next) {
		bool hit = below ? s3c_path_is_below(object->path, path)
				 : strcmp(object->path, path) == 0;

		next = TAILQ_NEXT(object, cached_link);
		if (!hit)
			continue;
		s3c_object_unhash(object);
		if (is_idle(object))
			object_free(object);
	}
}

static void object_use(struct s3c_object *object)
{
	struct s3c_objects *objects = object->objects;

	if (object->cached) {
		TAILQ_REMOVE(&objects->cached, object, cached_link);
		objects->cached_count--;
		object->cached = false;
	}
	if (object->users++ == 0)
		objects->open++;
}

void s3c_object_set_base(struct s3c_object *object, struct s3c_entry *entry)
{
	struct s3c_entry *old = object->base;

	if (old == entry)
		return;
	if (!old || !entry || !s3c_same_content(old, entry) || s3c_entry_renewed(old, entry)) {
		s3c_crypt_put(object->crypt);
		object->crypt = NULL;
	}
	object->base = entry ? s3c_entry_ref(entry) : NULL;
	if (entry) {
		struct s3c_info info;

		/* The content is the view's: from here on a lookup shows it under this token. */
		s3c_entry_info(object->engine, entry, &info);
		memcpy(object->token, info.content_token, sizeof(object->token));
	}
	s3c_entry_put(old);
}

/* An object that is known here: what it holds itself counts more than what the store says. */
static struct s3c_object *find_current(struct s3c_objects *objects, const char *path)
{
	struct s3c_object *object = find_hashed(objects, path);

	if (object && (s3c_object_is_dirty(object) || object->committing || !object->base))
		return object;
	return NULL;
}

/* Is what the object holds the content of entry? Takes entry over as its base then. */
static bool object_accept(struct s3c_object *object, struct s3c_entry *entry)
{
	const struct s3c_header *ours = &object->base->header, *theirs = &entry->header;

	if (s3c_same_content(object->base, entry)) {
		if (!s3c_layout_is_sealed(ours->layout) || theirs->generation >= ours->generation) {
			s3c_object_set_base(object, entry);
			s3c_attrs_set(&object->attrs, &theirs->attrs);
			object->attrs.known = true;
		}
		return true;
	}
	/* A look that ended before our own last commit, not an older version that was restored. */
	return s3c_layout_is_sealed(ours->layout) && s3c_layout_is_sealed(theirs->layout) &&
	       theirs->generation < ours->generation &&
	       entry->fetched_ns < object->base->fetched_ns;
}

static int open_entry(struct s3c_engine *engine, const char *path, struct s3c_entry *entry,
		      struct s3c_target *target, struct s3c_object **ret_object)
{
	struct s3c_object *object = find_current(engine->objects, path);

	if (!object) {
		object = find_hashed(engine->objects, path);
		if (object && !object_accept(object, entry)) {
			s3c_object_unhash(object);
			object_settle(object);
			object = NULL;
		}
	}
	if (object) {
		object_use(object);
		*ret_object = object;
		return 0;
	}
	return object_new(engine, path, target, entry, &entry->header.attrs, ret_object);
}

int s3c_object_restore(struct s3c_engine *engine, const char *path, struct s3c_target *target,
		       const struct s3c_saved *saved, struct s3c_object **ret_object)
{
	int r = object_new(engine, path, target, saved->base, &saved->attrs, ret_object);

	if (r < 0)
		return r;
	(*ret_object)->size = saved->size;
	(*ret_object)->base_visible = saved->base_visible;
	(*ret_object)->seq = (*ret_object)->content_seq = 1;
	return 0;
}

/* 1: the file that was looked at may be gone: once more. S3C_IS_REFERENCE: of ret_id. */
static int open_once(struct s3c_engine *engine, struct s3c_op *op, const char *path, bool refresh,
		     struct s3c_object **ret_object, struct s3c_entry **ret_reference)
{
	struct s3c_opening opening = { .path = path };
	struct s3c_target *target = NULL;
	struct s3c_object *object;
	struct s3c_entry *entry = NULL;
	int r = 0;

	s3c_mutex_lock(&engine->lock);
	object = find_current(engine->objects, path);
	if (object)
		object_use(object);
	else
		r = s3c_opening_begin(engine->names, op, &opening);
	s3c_mutex_unlock(&engine->lock);
	if (object) {
		*ret_object = object;
		return 0;
	}
	if (r < 0)
		return r;
	r = s3c_names_lookup(engine, op, path, refresh || engine->config.consistency_open, &entry);
	if (r == 0 && s3c_layout_is_reference(entry->header.layout)) {
		*ret_reference = s3c_entry_ref(entry);
		r = S3C_IS_REFERENCE;
	} else if (r == 0) {
		r = entry->is_dir ? -EISDIR : s3c_target_new(engine, path, &target);
	}
	s3c_mutex_lock(&engine->lock);
	if (s3c_opening_end(engine->names, &opening) && r == 0)
		r = 1;
	if (r == 0)
		r = open_entry(engine, path, entry, target, ret_object);
	s3c_mutex_unlock(&engine->lock);
	s3c_target_put(target);
	s3c_entry_put(entry);
	return r;
}

int s3c_object_open(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		    struct s3c_object **ret_object)
{
	bool refresh = false;
	int r = -ENOENT;

	for (unsigned tries = 0; tries < S3C_RESOLVE_TRIES; tries++) {
		cleanup_entry struct s3c_entry *reference = NULL, *none = NULL;
		char mapped[S3C_PATH_MAX], body[S3C_BODY_PATH];
		const char *at = s3c_links_map(engine, path, mapped) ? mapped : path;

		r = open_once(engine, op, at, refresh, ret_object, &reference);
		if (r == S3C_IS_REFERENCE) {
			s3c_body_path(reference->header.file_id, body);
			do
				r = open_once(engine, op, body, refresh, ret_object, &none);
			while (r > 0);
			if (r == -ENOENT || r == S3C_IS_REFERENCE)
				r = s3c_links_broken(engine, reference);
			/* The name may be that of another file by now. */
			if (r != -ENOLINK || refresh || op == S3C_NOWAIT)
				return r == -ENOLINK ? -EIO : r;
			refresh = true;
		} else if (r <= 0 && (r != -ENOENT || !s3c_links_moved(engine, op, path, at))) {
			return r;
		} else if (r > 0) {
			tries = 0;
		}
	}
	return r > 0 ? -EIO : r;
}

int s3c_object_create_locked(struct s3c_engine *engine, const char *path, struct s3c_target *target,
			     const struct s3c_attrs *attrs, struct s3c_object **ret_object)
{
	/* Whatever is still kept under this name is gone from the store. */
	struct s3c_object *object = find_hashed(engine->objects, path);

	if (object && !find_current(engine->objects, path)) {
		s3c_object_unhash(object);
		object_settle(object);
	}
	return object_new(engine, path, target, NULL, attrs, ret_object);
}

/* 1: the name was removed meanwhile, and that is not done: once more. */
static int create_once(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       const struct s3c_attrs *attrs, struct s3c_object **ret_object)
{
	struct s3c_target *target;
	struct s3c_object *object;
	struct s3c_entry *entry;
	int r = 0;

	s3c_mutex_lock(&engine->lock);
	object = find_current(engine->objects, path);
	/* A name that is to be deleted has to be gone before. */
	if (!object)
		r = s3c_pending_settle(engine->names, op, path);
	s3c_mutex_unlock(&engine->lock);
	if (object)
		return -EEXIST;
	if (r < 0)
		return r;
	if (s3c_links_taken(engine, path))
		return -EEXIST;
	r = s3c_names_lookup(engine, op, path, false, &entry);
	if (r == 0) {
		s3c_entry_put(entry);
		return -EEXIST;
	}
	if (r != -ENOENT)
		return r;
	r = s3c_target_new(engine, path, &target);
	if (r < 0)
		return r;
	s3c_mutex_lock(&engine->lock);
	r = s3c_pending_any(engine->names, path)
		    ? 1
		    : s3c_object_create_locked(engine, path, target, attrs, &object);
	s3c_mutex_unlock(&engine->lock);
	s3c_target_put(target);
	if (r)
		return r;
	s3c_names_add_local(engine, path, attrs->mode & S_IFMT ? attrs->mode & S_IFMT : S_IFREG);
	*ret_object = object;
	return 0;
}

int s3c_object_create(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      const struct s3c_attrs *attrs, struct s3c_object **ret_object)
{
	int r;

	if (s3c_engine_read_only(engine))
		return -EROFS;
	if (s3c_writeback(engine))
		return s3c_pending_create(engine, op, path, attrs, ret_object);
	do
		r = create_once(engine, op, path, attrs, ret_object);
	while (r > 0);
	return r;
}

struct s3c_object *s3c_object_find(struct s3c_engine *engine, const char *path)
{
	struct s3c_object *object;

	s3c_mutex_lock(&engine->lock);
	object = find_hashed(engine->objects, path);
	/* One that is only kept for the next open is none: that compares it with the store. */
	if (object && !object->users && !s3c_object_is_dirty(object) && !object->committing)
		object = NULL;
	if (object)
		object_use(object);
	s3c_mutex_unlock(&engine->lock);
	return object;
}

void s3c_object_ref(struct s3c_object *object)
{
	s3c_mutex_lock(&object->engine->lock);
	object_use(object);
	s3c_mutex_unlock(&object->engine->lock);
}

void s3c_object_close(struct s3c_object *object)
{
	struct s3c_engine *engine = object->engine;

	s3c_mutex_lock(&engine->lock);
	if (--object->users == 0) {
		engine->objects->open--;
		s3c_object_hold(object);
		/* One that failed waits for its time, whoever looks at it meanwhile. What the
		   journal has can wait for what comes after it. */
		if (s3c_object_is_dirty(object) && object->jid && !object->upload &&
		    s3c_writeback(engine))
			s3c_object_schedule(object, true);
		/* One whose upload has begun goes on: the delay of a file that stays open, set by
		   the sync of this close, is not for it. */
		else if (!object->hopeless &&
			 (!object->retry_ns || (object->upload && !object->failures)))
			s3c_commit_start(object);
		s3c_object_release(object);
	}
	s3c_mutex_unlock(&engine->lock);
}

/* Bytes that the view takes, roughly: what the store has, and what is only here. Lock held. */
static uint64_t taken(const struct s3c_object *object)
{
	uint64_t bytes = object->base ? object->base->stored_size : 0;
	struct s3c_segment *segment, *tmp;

	if (!s3c_object_is_dirty(object) && !object->detached)
		return bytes;
	if (object->base && object->base_visible < object->base->header.size)
		bytes = S3C_MIN(bytes, object->base_visible);
	HASH_ITER (hh, object->segments, segment, tmp)
		bytes += (uint64_t)(segment->dirty + segment->sent) * S3C_CHUNK_SIZE;
	return bytes;
}

void s3c_object_info(struct s3c_object *object, struct s3c_info *ret_info)
{
	struct s3c_engine *engine = object->engine;
	const struct s3c_attrs *attrs = &object->attrs;
	struct s3c_info info;

	s3c_mutex_lock(&engine->lock);
	info = (struct s3c_info){
		.mode = attrs->mode & S_IFMT ? attrs->mode : attrs->mode | S_IFREG,
		.uid = attrs->uid,
		.gid = attrs->gid,
		.rdev = attrs->rdev,
		.size = object->size,
		.stored = object->base ? object->base->stored_size : 0,
		.taken = taken(object),
		.mtime_ns = attrs->mtime_ns,
		.atime_ns = attrs->atime_ns,
		.ctime_ns = attrs->ctime_ns,
	};
	if (object->base && !s3c_object_is_dirty(object))
		info.valid_ns = object->base->fetched_ns +
				(int64_t)(engine->config.ttl_s * S3C_NSEC_PER_SEC);
	memcpy(info.content_token, object->token, sizeof(info.content_token));
	info.unstored = s3c_object_is_dirty(object);
	info.nlink = 1;
	info.linked = !object->detached && s3c_body_id(object->path, info.body);
	if (info.linked)
		info.nlink = attrs->nlink;
	s3c_links_mark_locked(engine, object->path, &info);
	s3c_mutex_unlock(&engine->lock);
	*ret_info = info;
}

bool s3c_object_dirty(struct s3c_object *object)
{
	bool dirty;

	s3c_mutex_lock(&object->engine->lock);
	dirty = s3c_object_is_dirty(object);
	s3c_mutex_unlock(&object->engine->lock);
	return dirty;
}

int s3c_objects_new(struct s3c_engine *engine, struct s3c_objects **ret_objects)
{
	const struct s3c_engine_config *config = &engine->config;
	struct s3c_objects *objects = calloc(1, sizeof(*objects));
	int r;

	if (!objects)
		return -ENOMEM;
	objects->engine = engine;
	LIST_INIT(&objects->all);
	LIST_INIT(&objects->fetches);
	LIST_INIT(&objects->passes);
	LIST_INIT(&objects->frozen);
	TAILQ_INIT(&objects->cached);
	s3c_waitq_init(&objects->thaw_wait);
	s3c_waitq_init(&objects->idle);
	s3c_waitq_init(&objects->retry_wait);
	s3c_memory_init(&objects->mem, config->memory, s3c_slot_evict);
	r = s3c_spill_new(config->cache_dir, config->cache_size, &objects->spill);
	if (r == 0)
		r = s3c_pool_new("s3c-parts", 1, S3C_MAX(config->parallel, 2u), &objects->parts);
	if (r == 0 && !config->read_only)
		r = s3c_retrier_start(objects);
	if (r < 0) {
		s3c_pool_free(objects->parts);
		s3c_spill_free(objects->spill);
		s3c_memory_destroy(&objects->mem);
		free(objects);
		return r;
	}
	*ret_objects = objects;
	return 0;
}

static bool any_committing(struct s3c_objects *objects)
{
	struct s3c_object *object;

	LIST_FOREACH (object, &objects->all, all)
		if (object->committing)
			return true;
	return false;
}

static bool any_held(struct s3c_objects *objects)
{
	struct s3c_object *object;

	LIST_FOREACH (object, &objects->all, all)
		if (object->refs)
			return true;
	return false;
}

static void commit_all(struct s3c_objects *objects)
{
	struct s3c_object *object;

	LIST_FOREACH (object, &objects->all, all)
		if (!object->retry_ns && !object->hopeless && !s3c_object_kept(object))
			s3c_commit_start(object);
}

/* Every object that only this process has is committed until it is clean or has failed once more.
   Lock held, released. */
static void finish_all(struct s3c_objects *objects)
{
	struct s3c_object *object;

	LIST_FOREACH (object, &objects->all, all)
		object->retry_ns = 0;
	commit_all(objects);
	while (any_committing(objects)) {
		s3c_waitq_wait(&objects->idle, &objects->engine->lock, NULL);
		commit_all(objects);
	}
	/* What is still being read nobody waits for. */
	objects->stop = true;
	s3c_fetch_cancel_all(objects);
	s3c_foreign_cancel_all(objects);
	while (any_held(objects))
		s3c_waitq_wait(&objects->idle, &objects->engine->lock, NULL);
}

void s3c_objects_free(struct s3c_engine *engine, struct s3c_objects *objects)
{
	struct s3c_object *object;

	if (!objects)
		return;
	s3c_retrier_stop(objects);
	s3c_mutex_lock(&engine->lock);
	objects->closing = true;
	while (!LIST_EMPTY(&objects->frozen)) {
		struct s3c_frozen_path *frozen = LIST_FIRST(&objects->frozen);

		LIST_REMOVE(frozen, link);
		free(frozen->path);
		free(frozen);
	}
	finish_all(objects);
	while ((object = LIST_FIRST(&objects->all))) {
		if (s3c_object_kept(object))
			s3c_warn("%s: not stored yet, kept in the journal for the next mount",
				 object->path);
		else if (s3c_object_is_dirty(object) &&
			 object->content_seq != object->content_clean)
			s3c_error("%s: changes could not be stored and are lost", object->path);
		object_free(object);
	}
	s3c_paused_free_all(objects);
	s3c_mutex_unlock(&engine->lock);
	s3c_pool_free(objects->parts);
	s3c_spill_free(objects->spill);
	s3c_memory_destroy(&objects->mem);
	free(objects);
}

void s3c_objects_stats(struct s3c_engine *engine, struct s3c_engine_stats *ret_stats)
{
	struct s3c_objects *objects = engine->objects;
	struct s3c_object *object;

	s3c_mutex_lock(&engine->lock);
	ret_stats->dirty_bytes = (uint64_t)objects->mem.used[S3C_PAGE_DIRTY] * S3C_CHUNK_SIZE;
	ret_stats->clean_bytes = (uint64_t)objects->mem.used[S3C_PAGE_READ] * S3C_CHUNK_SIZE;
	ret_stats->spilled_bytes = s3c_spill_used(objects->spill);
	ret_stats->transfer_bytes = objects->mem.transfer_used;
	ret_stats->objects_open = objects->open;
	ret_stats->objects_dirty = 0;
	LIST_FOREACH (object, &objects->all, all)
		ret_stats->objects_dirty += s3c_object_is_dirty(object);
	s3c_mutex_unlock(&engine->lock);
}
