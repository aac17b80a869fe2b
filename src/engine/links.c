/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What makes and removes names of files: link and unlink. */
#include "engine/links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/content.h"
#include "engine/pending.h"

#define DELAY_NS (2 * S3C_NSEC_PER_SEC)
#define YOUNG_NS (10 * S3C_NSEC_PER_SEC) /* since the store confirmed the file */

/* Was it made or stored here a moment ago? Then it may lose its first name as soon. */
static bool is_young(struct s3c_engine *engine, const char *path)
{
	struct s3c_object *object;
	bool young;

	s3c_mutex_lock(&engine->lock);
	HASH_FIND_STR(engine->objects->by_path, path, object);
	young = object && !object->lost && !object->hopeless &&
		(!object->base ||
		 (object->stored_ns && s3c_clock_monotonic_ns() - object->stored_ns <= YOUNG_NS));
	s3c_mutex_unlock(&engine->lock);
	return young && s3c_durable(engine);
}

/* The names are held. -EAGAIN: it has to be done by the store. */
static int make_pair(struct s3c_engine *engine, const char *from, const char *to,
		     uint8_t ret_body[static 16])
{
	struct s3c_pair *pair;
	struct s3c_object *object;
	mode_t type = S_IFREG;
	bool entered;

	if (!is_young(engine, from) || s3c_links_start(engine) < 0)
		return -EAGAIN;
	pair = s3c_pair_new(from, to);
	if (!pair)
		return -ENOMEM;
	s3c_random(pair->id, sizeof(pair->id));
	pair->made_ns = s3c_clock_realtime_ns();
	pair->due_ns = s3c_clock_monotonic_ns() + DELAY_NS;
	if (s3c_pair_record(engine, pair) < 0) {
		s3c_pair_free(pair);
		return -EAGAIN;
	}
	memcpy(ret_body, pair->id, sizeof(pair->id));
	s3c_mutex_lock(&engine->lock);
	HASH_FIND_STR(engine->objects->by_path, from, object);
	if (object && object->attrs.mode & S_IFMT)
		type = object->attrs.mode & S_IFMT;
	entered = !engine->links->stop && s3c_pair_enter(engine, pair);
	if (entered)
		s3c_names_add_local_locked(engine->names, to, type);
	s3c_mutex_unlock(&engine->lock);
	if (!entered) {
		s3c_pair_unrecord(engine, pair, S3C_TX_LAZY);
		s3c_pair_free(pair);
		return -EAGAIN;
	}
	return 0;
}

static int check_free(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_object *object = s3c_object_find(engine, path);
	cleanup_entry struct s3c_entry *entry = NULL;
	int r;

	if (object)
		s3c_object_close(object);
	if (object || s3c_links_taken(engine, path))
		return -EEXIST;
	r = s3c_names_lookup(engine, op, path, false, &entry);
	return r == 0 ? -EEXIST : r == -ENOENT ? 0 : r;
}

/* -EAGAIN: from has become something else. */
static int link_held(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to,
		     uint8_t ret_body[static 16])
{
	struct s3c_object *object;
	uint8_t id[S3C_FILE_ID_LEN];
	cleanup_entry struct s3c_entry *entry = NULL;
	int r = check_free(engine, op, to);

	if (r < 0)
		return r;
	if (s3c_body_id(from, id)) {
		r = s3c_writeback(engine) ? s3c_pending_flush(engine, op, to) : 0;
		if (r == 0)
			r = s3c_links_add(engine, op, to, id);
		memcpy(ret_body, id, sizeof(id));
		return r;
	}
	object = s3c_object_find(engine, from);
	if (object)
		s3c_object_close(object);
	else
		r = s3c_names_lookup(engine, op, from, false, &entry);
	if (r < 0)
		return r;
	if (entry && entry->is_dir)
		return -EPERM;
	if (entry && s3c_layout_is_reference(entry->header.layout))
		return -EAGAIN;
	if (s3c_writeback(engine)) {
		r = s3c_pending_flush(engine, op, to);
		if (r < 0)
			return r;
	}
	r = make_pair(engine, from, to, ret_body);
	if (r != -EAGAIN)
		return r;
	if (s3c_writeback(engine)) {
		r = s3c_pending_flush(engine, op, from);
		if (r < 0)
			return r;
	}
	s3c_random(id, sizeof(id));
	r = s3c_links_store(engine, op, from, to, id, S3C_LINKING_ONCE);
	memcpy(ret_body, id, sizeof(id));
	return r == -ESTALE ? -EAGAIN : r;
}

/* -EAGAIN: it has become something else. */
static int make_body_held(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			  uint8_t ret_body[static 16])
{
	struct s3c_object *object;
	cleanup_entry struct s3c_entry *entry = NULL;
	struct s3c_info info;
	mode_t mode;
	int r = s3c_writeback(engine) ? s3c_pending_flush(engine, op, path) : 0;

	if (r < 0)
		return r;
	object = s3c_object_find(engine, path);
	if (object) {
		s3c_object_info(object, &info);
		s3c_object_close(object);
		mode = info.mode;
	} else {
		r = s3c_names_lookup(engine, op, path, false, &entry);
		if (r < 0)
			return r;
		mode = entry->is_dir ? S_IFDIR : entry->header.attrs.mode;
	}
	if (!S_ISREG(mode) && !S_ISLNK(mode))
		return -EINVAL;
	if (entry && s3c_layout_is_reference(entry->header.layout)) {
		memcpy(ret_body, entry->header.file_id, S3C_FILE_ID_LEN);
		return 0;
	}
	s3c_random(ret_body, S3C_FILE_ID_LEN);
	r = s3c_links_store(engine, op, path, NULL, ret_body, S3C_LINKING_ONCE);
	return r == -ESTALE ? -EAGAIN : r;
}

int s3c_engine_make_body(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			 uint8_t ret_body[static 16])
{
	struct s3c_hold hold = { .path = path, .removes = true };
	int r = s3c_writable(engine);

	if (r < 0)
		return r;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	/* A request that was given up may arrive late: conditions have to keep it off. */
	if (engine->config.no_hardlinks || !s3c_durable(engine) ||
	    !engine->store->caps.put_if_match || !*path)
		return -EINVAL;
	r = -EAGAIN;
	for (unsigned tries = 0; r == -EAGAIN && tries < S3C_RESOLVE_TRIES; tries++) {
		r = s3c_links_settle(engine, op, path);
		if (r == 0)
			r = s3c_hold_begin(engine, op, &hold, 1);
		if (r < 0)
			return r;
		r = s3c_links_any(engine, path) ? -EAGAIN
						: make_body_held(engine, op, path, ret_body);
		s3c_hold_end(engine, &hold, 1);
	}
	return r == -EAGAIN ? -EBUSY : r;
}

static int link_once(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to,
		     uint8_t ret_body[static 16])
{
	char at[S3C_PATH_MAX];
	struct s3c_hold holds[] = { { .path = at, .removes = true }, { .path = to } };
	int r = s3c_links_settle(engine, op, from);

	/* One that has two names already gets its body. */
	if (r == 0 && s3c_path_is_body(from))
		r = s3c_pair_store_at(engine, op, from);
	if (r == 0)
		r = s3c_links_resolve(engine, op, from, NULL, at);
	if (r < 0)
		return r;
	/* Of a body nothing is moved. */
	holds[0].removes = !s3c_path_is_body(at);
	r = holds[0].removes ? s3c_hold_begin(engine, op, holds, 2)
			     : s3c_hold_begin(engine, op, &holds[1], 1);
	if (r < 0)
		return r;
	r = s3c_links_any(engine, at) ? -EAGAIN : link_held(engine, op, at, to, ret_body);
	s3c_hold_end(engine, holds[0].removes ? holds : &holds[1], holds[0].removes ? 2 : 1);
	return r;
}

int s3c_engine_link(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to,
		    uint8_t ret_body[static 16])
{
	cleanup_free char *key = NULL;
	int r = s3c_writable(engine);

	if (r < 0)
		return r;
	if (engine->config.no_hardlinks || !*from)
		return -EPERM;
	if (!*to)
		return -EEXIST;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = s3c_path_is_body(to) ? -EPERM : s3c_key_of(engine, to, false, &key);
	for (unsigned tries = 0; r == 0 || r == -EAGAIN; tries++) {
		if (tries == S3C_RESOLVE_TRIES)
			return -EBUSY;
		r = link_once(engine, op, from, to, ret_body);
		if (r == 0)
			break;
	}
	return r;
}

/* The names of the pair are held. */
static int unlink_of_pair(struct s3c_engine *engine, struct s3c_op *op, struct s3c_pair *pair,
			  bool first)
{
	int r;

	if (first) {
		s3c_mutex_lock(&engine->lock);
		pair->joining = true;
		s3c_mutex_unlock(&engine->lock);
		r = s3c_rename_held(engine, op, pair->first, pair->second);
		if (r < 0) {
			s3c_mutex_lock(&engine->lock);
			pair->joining = false;
			/* The copy may be there, or come yet. */
			pair->tried = true;
			s3c_names_add_local_locked(engine->names, pair->second, S_IFREG);
			s3c_waitq_wake_all(&engine->links->changed);
			s3c_mutex_unlock(&engine->lock);
			return r;
		}
		/* One that was found later, when first is the name of another file, would make a
		   link of that. */
		s3c_pair_unrecord(engine, pair, s3c_pair_tx_mode(engine));
	} else {
		/* That the name is gone is what is acknowledged. */
		r = s3c_pair_unrecord(engine, pair, s3c_pair_tx_mode(engine));
		if (r < 0)
			return r;
	}
	s3c_mutex_lock(&engine->lock);
	if (!first)
		s3c_names_drop_local_locked(engine->names, pair->second);
	s3c_pair_leave(engine->links, pair);
	s3c_mutex_unlock(&engine->lock);
	return 0;
}

/* A file that has lost a name has changed: its ctime alone, which nobody fails for. */
static void touch(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	const struct s3c_attrs none = { .known = true };
	struct s3c_info info;

	s3c_engine_setattr(engine, op, path, NULL, 0, &none, &info);
}

/* 1: it is no name of a pair. */
static int unlink_pair(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       struct s3c_joined *ret_joined)
{
	struct s3c_pair_hold *held = malloc(sizeof(*held));
	struct s3c_pair *pair;
	struct s3c_joined joined = { .joined = true };
	int r = held ? s3c_pair_hold(engine, op, path, held, &pair) : -ENOMEM;

	if (r == 0 && !pair) {
		r = 1;
	} else if (r == 0 && pair->tried) {
		/* Some of it is in the store: all of it has to be, first. */
		r = s3c_pair_store(engine, op, pair);
		s3c_hold_end(engine, held->holds, 2);
		r = r < 0 ? r : 1;
	} else if (r == 0) {
		bool first = strcmp(path, held->first) == 0;

		memcpy(joined.id, pair->id, sizeof(joined.id));
		r = unlink_of_pair(engine, op, pair, first);
		s3c_hold_end(engine, held->holds, 2);
		if (r == 0) {
			*ret_joined = joined;
			s3c_pair_free(pair);
			if (!first)
				touch(engine, op, held->first);
		}
	}
	free(held);
	return r;
}

int s3c_engine_unlink_joined(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			     struct s3c_joined *ret_joined)
{
	int r = s3c_writable(engine);

	*ret_joined = (struct s3c_joined){ 0 };
	if (r < 0)
		return r;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	do {
		r = s3c_exchanges_settle(engine, op, path);
		if (r == 0)
			r = unlink_pair(engine, op, path, ret_joined);
		if (r == 1)
			r = s3c_unlink_name(engine, op, path);
	} while (r == S3C_IS_REFERENCE);
	return r;
}

int s3c_engine_unlink(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_joined joined;

	return s3c_engine_unlink_joined(engine, op, path, &joined);
}
