/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Renaming a directory: every object below it is copied to its new key, sealed
 * for it, and deleted under the old one.
 *
 *	round 1		LIST, copy all (in parallel)
 *	round 2		LIST, delete in batches what still has the version that was copied,
 *			copy what is new or has changed
 *	...		until a LIST is empty; it also tells what became of a DELETE whose
 *			reply was lost
 *
 * Nothing is deleted before all that the first LIST showed is copied; a failure
 * until then takes the copies back. After that both trees hold whole objects,
 * and a log line says so. Objects are handled by key: names that the mount does
 * not show move as well.
 *
 * The new keys have to be free, as another machine may have made the target since it was looked at:
 * by a condition of the copy where the store honours one, else by a LIST right before each batch of
 * copies. What stands there is never replaced; the rename ends with ENOTEMPTY.
 *
 * Where there is a journal it knows of it meanwhile (rename_journal.c). What a daemon that died has
 * left is moved by the next one: copies that are there already are taken for what they are, and
 * what another machine has written since, in the old tree or the new one, stays where it is.
 */
#include "engine/rename_tree.h"

#include <errno.h>
#include <string.h>

#define ROUNDS_MAX 16
#define LOST_MAX 3u
#define CLOCKS_APART_NS (300 * S3C_NSEC_PER_SEC) /* of the store and of this machine */

static void tree_free(struct s3c_tree *tree)
{
	struct s3c_tree_item *item, *next;

	HASH_ITER (hh, tree->by_key, item, next) {
		HASH_DEL(tree->by_key, item);
		s3c_entry_put(item->entry);
		free(item->copy_etag);
		free(item->path);
		free(item->key);
		free(item);
	}
	s3c_entry_put(tree->marker);
	free(tree->from_prefix);
	free(tree->to_prefix);
}

/* What has no name cannot have a new one. */
static int item_name(struct s3c_tree *tree, struct s3c_tree_item *item)
{
	int r;

	if (!s3c_names_encrypted(tree->engine))
		return 0;
	r = s3c_key_path(tree->engine, tree->from_prefix, item->key, &item->path);
	if (r != -EBADMSG && r != -ENODATA)
		return r;
	if (tree->resumed) {
		s3c_warn("%s stays where it is: its directory was being renamed, and its name is "
			 "none of this volume",
			 item->key);
		item->stays = true;
		return 0;
	}
	s3c_error("%s is not renamed: %s lies there, whose name is none of this volume", tree->from,
		  item->key);
	return -EIO;
}

static int item_check(struct s3c_tree *tree, struct s3c_tree_item *item)
{
	cleanup_free char *key = NULL;
	int r = item_name(tree, item);

	return r < 0 || item->stays ? r : s3c_tree_new_key(tree, item, &key);
}

static int item_add(struct s3c_tree *tree, const struct s3c_list_entry *from)
{
	size_t len = strlen(from->key);
	struct s3c_tree_item *item;
	int r;

	HASH_FIND(hh, tree->by_key, from->key, len, item);
	if (!item) {
		item = calloc(1, sizeof(*item));
		if (!item)
			return -ENOMEM;
		item->key = strdup(from->key);
		if (item->key)
			HASH_ADD_KEYPTR(hh, tree->by_key, item->key, len, item);
		if (!item->key || !item->hh.tbl) {
			free(item->key);
			free(item);
			return -ENOMEM;
		}
		tree->count++;
		r = item_check(tree, item);
		if (r < 0)
			return r;
	}
	item->listed = true;
	item->size = from->size;
	item->etag_hash = s3c_hash_etag(from->etag);
	if (tree->resumed && from->modified_ns > tree->started_ns + CLOCKS_APART_NS)
		item->stays = true;
	return 0;
}

/* What is below a directory comes before it. */
static int last_key_first(const struct s3c_tree_item *a, const struct s3c_tree_item *b)
{
	return -strcmp(a->key, b->key);
}

static int list_tree(struct s3c_tree *tree, size_t *ret_listed)
{
	struct s3c_engine *engine = tree->engine;
	cleanup_free char *token = NULL;
	struct s3c_tree_item *item, *next;
	size_t listed = 0;

	HASH_ITER (hh, tree->by_key, item, next)
		item->listed = false;
	do {
		cleanup_reply struct s3c_store_reply reply = { 0 };
		struct s3c_store_request rq = {
			.op = S3C_STORE_LIST,
			.prefix = tree->from_prefix,
			.token = token,
			.max_keys = S3C_TREE_BATCH,
		};
		int r = s3c_request(engine, &rq, NULL, &reply);

		if (r < 0)
			return s3c_engine_fail(engine, "list", tree->from_prefix, r, reply.message);
		r = s3c_key_names_ask(engine, NULL, tree->from_prefix, &reply.list);
		for (size_t i = 0; r == 0 && i < reply.list.count; i++)
			r = item_add(tree, &reply.list.entries[i]);
		if (r < 0)
			return r;
		listed += reply.list.count;
		free(token);
		token = steal_ptr(reply.list.next_token);
	} while (token);
	HASH_SRT(hh, tree->by_key, last_key_first);
	HASH_ITER (hh, tree->by_key, item, next)
		listed -= item->listed && item->stays;
	*ret_listed = listed;
	return 0;
}

/* Not before it is gone: what is still there would count as a deleted object that came back. */
static void note_deleted(struct s3c_tree *tree, struct s3c_tree_item *item)
{
	struct s3c_header gone = { .layout = item->layout, .generation = item->generation };

	s3c_note_generation(tree->engine, item->key, &gone, true);
	item->doubtful = false;
}

static int delete_batch(struct s3c_tree *tree, struct s3c_tree_item **items, size_t count)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	const char *keys[S3C_TREE_BATCH];
	struct s3c_store_request rq = {
		.op = S3C_STORE_DELETE_MANY,
		.keys = keys,
		.key_count = count,
	};
	int r;

	for (size_t i = 0; i < count; i++)
		keys[i] = items[i]->key;
	tree->deleting = true;
	r = s3c_request(tree->engine, &rq, NULL, &reply);
	if (s3c_result_lost(r) && tree->lost++ < LOST_MAX) {
		s3c_debug("delete below %s: %s", tree->from, reply.message);
		for (size_t i = 0; i < count; i++)
			items[i]->doubtful = true;
		return 0;
	}
	if (r < 0)
		return s3c_engine_fail(tree->engine, "delete",
				       keys[reply.failed_index < count ? reply.failed_index : 0], r,
				       reply.message);
	for (size_t i = 0; i < count; i++)
		note_deleted(tree, items[i]);
	return 0;
}

/* A directory with a long name goes when all below it is gone: without its marker nobody could tell
   the path of what is left. */
static bool goes_later(const struct s3c_tree *tree, const struct s3c_tree_item *item,
		       const struct s3c_tree_item *before)
{
	return s3c_names_encrypted(tree->engine) && s3c_key_is_dir(item->key) &&
	       s3c_key_is_long(item->key) &&
	       strncmp(before->key, item->key, strlen(item->key)) == 0;
}

/* Deletes what the last LIST showed in the version that was copied. */
static int delete_round(struct s3c_tree *tree)
{
	struct s3c_tree_item *batch[S3C_TREE_BATCH], *item, *next,
		*kept = NULL; /* kept: the last that does not go */
	size_t count = 0;
	int r = 0;

	HASH_ITER (hh, tree->by_key, item, next) {
		if (item->doubtful && !item->listed)
			note_deleted(tree, item);
		if (!item->listed)
			continue;
		if (kept && goes_later(tree, item, kept)) {
			/* Until the next round, or for good. */
			item->stays = item->stays || kept->stays;
			kept = item;
			continue;
		}
		if (item->stays || !item->copied || s3c_tree_needs_copy(item)) {
			kept = item;
			continue;
		}
		if (count == S3C_TREE_BATCH ||
		    (count && goes_later(tree, item, batch[count - 1]))) {
			r = delete_batch(tree, batch, count);
			if (r < 0)
				return r;
			count = 0;
		}
		batch[count++] = item;
	}
	return count ? delete_batch(tree, batch, count) : 0;
}

/* May be deleted by a condition, or by a look where the store honours none. */
static bool is_copy(struct s3c_tree *tree, const char *key, const char *etag)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };

	if (tree->engine->store->caps.delete_if_match)
		return true;
	return s3c_key_head(tree->engine, key, &reply) == 0 && etag &&
	       s3c_etag_equal(reply.stat.version.etag, etag);
}

/* Takes the copies back: nothing was deleted yet, and the target held no names. */
static void undo(struct s3c_tree *tree)
{
	struct s3c_tree_item *item, *next;

	HASH_ITER (hh, tree->by_key, item, next) {
		cleanup_free char *key = NULL;

		if (item->copied)
			s3c_tree_new_key(tree, item, &key);
		/* What another machine wrote over a copy is its file, and stays. */
		if (key && (item->key[strlen(tree->from_prefix)] || !tree->target_marker) &&
		    is_copy(tree, key, item->copy_etag))
			s3c_delete_key(tree->engine, key, item->copy_etag);
	}
	if (tree->marker)
		s3c_delete_key(tree->engine, tree->to_prefix, tree->marker->version.etag);
}

/* A long name needs an object that has it: a directory without one gets one at its new place. */
static int mark_target(struct s3c_tree *tree)
{
	cleanup_extra struct s3c_extra *extra = NULL;
	struct s3c_engine *engine = tree->engine;
	cleanup_entry struct s3c_entry *dir = NULL;
	cleanup_header struct s3c_header header = { 0 };
	struct s3c_version version;
	struct s3c_tree_item *marker;
	uint64_t size;
	int r;

	HASH_FIND(hh, tree->by_key, tree->from_prefix, strlen(tree->from_prefix), marker);
	if (marker || tree->target_marker || !s3c_names_encrypted(engine) ||
	    !s3c_key_is_long(tree->to_prefix))
		return 0;
	r = s3c_tree_head(engine, tree->to_prefix, &header, &version, &size, &extra);
	if (r != -ENOENT)
		return r;
	r = s3c_entry_implicit(engine, tree->to, &dir);
	return r < 0 ? r
		     : s3c_marker_put(engine, tree->to, &dir->header.attrs, NULL, true,
				      &tree->marker);
}

/* Before the LIST that tells what is to be deleted, which is to follow at once. */
static int settle_overdue(struct s3c_tree *tree)
{
	struct s3c_tree_item *item, *next;
	int r = 0;

	HASH_ITER (hh, tree->by_key, item, next) {
		if (r == 0 && item->copied)
			r = s3c_overdue_settle(tree->engine, item->key, S3C_OVERDUE_DELETE);
	}
	return r;
}

static int move_tree(struct s3c_tree *tree)
{
	size_t listed = 1;
	int r = 0;

	for (int round = 0; r == 0 && listed; round++) {
		r = settle_overdue(tree);
		if (r == 0)
			r = list_tree(tree, &listed);
		if (r == 0 && round == ROUNDS_MAX && listed)
			r = -EBUSY;
		if (r == 0)
			r = round ? delete_round(tree) : mark_target(tree);
		if (r == 0)
			r = s3c_tree_copy_round(tree);
	}
	if (r < 0 && tree->resumed)
		s3c_error("the renaming of %s to %s, which had been begun, is not finished: both "
			  "exist, and together they hold all files",
			  tree->from, tree->to);
	else if (r < 0 && tree->deleting)
		s3c_error("renaming %s to %s stopped half-way: both exist, and together they hold "
			  "all files",
			  tree->from, tree->to);
	else if (r < 0)
		undo(tree);
	return r;
}

/* The store is done: caches and open files follow. */
static void follow(struct s3c_tree *tree, const struct s3c_entry *source)
{
	struct s3c_engine *engine = tree->engine;
	cleanup_entry struct s3c_entry *dir = NULL;
	struct s3c_tree_item *item, *next;

	s3c_names_rebase(engine, tree->from, tree->to);
	if (tree->marker)
		s3c_names_set(engine, tree->marker);
	else if (source->implicit && !tree->target_marker &&
		 s3c_entry_implicit(engine, tree->to, &dir) == 0)
		s3c_names_set(engine, dir);
	HASH_ITER (hh, tree->by_key, item, next) {
		cleanup_free char *path = s3c_tree_path(tree, item, tree->from);
		struct s3c_object *object = path ? s3c_object_find(engine, path) : NULL;

		if (item->entry)
			s3c_names_set(engine, item->entry);
		if (object && item->entry && !item->entry->is_dir)
			s3c_object_moved(object, item->entry);
		if (object)
			s3c_object_close(object);
	}
	s3c_objects_rebase(engine, tree->from, tree->to);
}

static int prepare(struct s3c_tree *tree, struct s3c_op *op, bool target_exists)
{
	struct s3c_engine *engine = tree->engine;
	int r = s3c_dir_prefix(engine, tree->from, &tree->from_prefix);

	if (r == 0)
		r = s3c_dir_prefix(engine, tree->to, &tree->to_prefix);
	if (r == 0 && target_exists) {
		r = s3c_dir_check_empty(engine, tree->to, &tree->target_marker);
		if (r == -ENOENT)
			r = 0;
	}
	if (r == 0)
		r = s3c_keep_parent(engine, op, tree->from);
	return r;
}

int s3c_rename_dir(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to,
		   const struct s3c_entry *source, bool target_exists)
{
	__attribute__((cleanup(tree_free))) struct s3c_tree tree = {
		.engine = engine,
		.from = from,
		.to = to,
	};
	uint64_t record = 0;
	int r = prepare(&tree, op, target_exists);

	if (r == 0)
		r = s3c_objects_commit_below(engine, op, from);
	if (r == 0)
		r = s3c_objects_freeze_below(engine, op, from);
	if (r < 0)
		return r;
	if (s3c_durable(engine))
		r = s3c_rename_record(engine, from, to, NULL, &record);
	if (r == 0)
		r = move_tree(&tree);
	if (r == 0) {
		follow(&tree, source);
	} else {
		s3c_names_invalidate(engine, from, true);
		s3c_names_invalidate(engine, to, true);
	}
	if (record)
		s3c_rename_unrecord(engine, record, NULL);
	s3c_objects_thaw_below(engine, from);
	return r;
}

int s3c_rename_tree_resume(struct s3c_engine *engine, const char *from, const char *to,
			   int64_t started_ns)
{
	__attribute__((cleanup(tree_free))) struct s3c_tree tree = {
		.engine = engine,
		.from = from,
		.to = to,
		.resumed = true,
		.started_ns = started_ns,
	};
	int r = s3c_dir_prefix(engine, from, &tree.from_prefix);

	if (r == 0)
		r = s3c_dir_prefix(engine, to, &tree.to_prefix);
	return r < 0 ? r : move_tree(&tree);
}
