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
#include "engine/pending.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define ROUNDS_MAX 16
#define LOST_MAX 3u
#define COPIES_MAX 32u
#define BATCH 1000u
#define ENTRIES_KEPT 50000u
#define FRESH_NS (5 * S3C_NSEC_PER_SEC)          /* so long a look at a free key counts */
#define CLOCKS_APART_NS (300 * S3C_NSEC_PER_SEC) /* of the store and of this machine */

/* One object of the tree. */
struct item {
	char *key;
	char *path; /* below the directory; NULL where names are plain: the key tells */
	UT_hash_handle hh;
	uint64_t size, etag_hash;
	uint64_t copied_etag;          /* etag_hash of the version that was copied */
	char *copy_etag;               /* of the copy; NULL: unknown */
	int64_t free_ns;               /* when nothing was seen at the new key; 0: never */
	bool stays;                    /* resumed: it is not part of the rename */
	bool listed, copied, doubtful; /* doubtful: it was in a DELETE whose reply was lost */
	enum s3c_layout layout;        /* of the source as copied, for the journal */
	uint64_t generation;
	struct s3c_entry *entry; /* of the copy; NULL: not known well enough */
};

struct tree {
	struct s3c_engine *engine;
	const char *from, *to;         /* paths */
	char *from_prefix, *to_prefix; /* keys: end in '/' */
	struct item *by_key;
	size_t count;
	bool deleting; /* some are gone from the old tree */
	unsigned lost; /* replies of DELETEs */
	bool target_marker;
	struct s3c_entry *marker; /* of the target, made for this; NULL: none */
	bool resumed;
	int64_t started_ns; /* resumed: wall clock when the rename began */
};

/* Copies under way. Reference-counted: a job that starts late finds it closed. */
struct work {
	struct tree *tree;
	struct item **items;
	size_t count;
	atomic_size_t next;
	atomic_int result;

	struct s3c_mutex lock;
	unsigned refs, running; /* guarded by lock, as the rest */
	bool closed;
	struct s3c_waitq idle;
};

struct work_job {
	struct s3c_job job;
	struct work *work;
};

static void tree_free(struct tree *tree)
{
	struct item *item, *next;

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

static bool is_dir_key(const char *key)
{
	return key[strlen(key) - 1] == '/';
}

/* The path of an item at root: that of the old or the new tree. NULL: none. */
static char *path_of(const struct tree *tree, const struct item *item, const char *root)
{
	const char *rest = item->key + strlen(tree->from_prefix);
	size_t len = strlen(rest);

	if (item->path)
		return s3c_asprintf("%s%s%s", root, *item->path ? "/" : "", item->path);
	for (const char *p = rest; *p;) {
		size_t part = strcspn(p, "/");

		if (!s3c_name_valid(p, part, false))
			return NULL;
		p += part + (p[part] == '/');
	}
	if (!len)
		return strdup(root);
	return s3c_asprintf("%s/%.*s", root, (int)(len - (rest[len - 1] == '/')), rest);
}

/* Every key below a directory changes wholly where names are encrypted. */
static int new_key(const struct tree *tree, const struct item *item, char **ret_key)
{
	cleanup_free char *path = NULL;

	if (item->path) {
		path = path_of(tree, item, tree->to);
		return path ? s3c_key_of(tree->engine, path, is_dir_key(item->key), ret_key)
			    : -ENOMEM;
	}
	if (strlen(item->key) - strlen(tree->from_prefix) + strlen(tree->to_prefix) >
	    S3C_STORE_KEY_MAX)
		return -ENAMETOOLONG;
	*ret_key = s3c_asprintf("%s%s", tree->to_prefix, item->key + strlen(tree->from_prefix));
	return *ret_key ? 0 : -ENOMEM;
}

/* What has no name cannot have a new one. */
static int item_name(struct tree *tree, struct item *item)
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

static int item_check(struct tree *tree, struct item *item)
{
	cleanup_free char *key = NULL;
	int r = item_name(tree, item);

	return r < 0 || item->stays ? r : new_key(tree, item, &key);
}

static int item_add(struct tree *tree, const struct s3c_list_entry *from)
{
	size_t len = strlen(from->key);
	struct item *item;
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
static int last_key_first(const struct item *a, const struct item *b)
{
	return -strcmp(a->key, b->key);
}

static int list_tree(struct tree *tree, size_t *ret_listed)
{
	struct s3c_engine *engine = tree->engine;
	cleanup_free char *token = NULL;
	struct item *item, *next;
	size_t listed = 0;

	HASH_ITER (hh, tree->by_key, item, next)
		item->listed = false;
	do {
		cleanup_reply struct s3c_store_reply reply = { 0 };
		struct s3c_store_request rq = {
			.op = S3C_STORE_LIST,
			.prefix = tree->from_prefix,
			.token = token,
			.max_keys = BATCH,
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

/* What is cached about the object, when that is the version that was listed. */
static struct s3c_entry *cached_entry(struct tree *tree, const struct item *item)
{
	struct s3c_engine *engine = tree->engine;
	cleanup_free char *path = path_of(tree, item, tree->from);
	bool is_dir = is_dir_key(item->key);
	struct s3c_entry *entry = NULL;
	struct s3c_node *node;

	if (!path)
		return NULL;
	s3c_mutex_lock(&engine->lock);
	node = s3c_node_find(engine->names, path);
	if (node && s3c_node_valid(engine->names, node) && node->entry &&
	    node->entry->is_dir == is_dir && !node->entry->implicit &&
	    node->entry->stored_size == item->size &&
	    s3c_hash_etag(node->entry->version.etag) == item->etag_hash)
		entry = s3c_entry_ref(node->entry);
	s3c_mutex_unlock(&engine->lock);
	return entry;
}

static int head_object(struct s3c_engine *engine, const char *key, struct s3c_header *ret_header,
		       struct s3c_version *ret_version, uint64_t *ret_size,
		       struct s3c_extra **ret_extra)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_ssec struct s3c_ssec ssec;
	struct s3c_store_request rq = { .op = S3C_STORE_HEAD, .key = key };
	int r = s3c_ssec_of(engine, key, &ssec, &rq.ssec);

	if (r == 0)
		r = s3c_request(engine, &rq, NULL, &reply);
	if (r == -ENOENT)
		return r;
	if (r < 0)
		return s3c_engine_fail(engine, "look up", key, r, reply.message);
	*ret_version = reply.stat.version;
	*ret_size = reply.stat.size;
	r = s3c_header_of(engine, key, &reply.stat, ret_header);
	return r < 0 ? r : s3c_extra_make(ret_header, is_dir_key(key), &reply.stat, ret_extra);
}

/* The entry of the copy, when all of it is known: then it is kept. */
static int keep_entry(struct tree *tree, struct item *item, const struct s3c_copy *copy,
		      const struct s3c_version *version, const struct s3c_entry *source,
		      struct s3c_extra *extra)
{
	int r;
	bool whole = source || copy->header.layout != S3C_LAYOUT_TRAILER;
	bool is_dir = is_dir_key(item->key);
	cleanup_free char *path = path_of(tree, item, tree->to);

	s3c_entry_put(steal_ptr(item->entry));
	if (!path || !whole || tree->count > ENTRIES_KEPT)
		return 0;
	r = s3c_entry_local(tree->engine, path, is_dir, &copy->header, version, item->size, source,
			    &item->entry);
	if (r == 0 && !source)
		item->entry->extra = s3c_extra_ref(extra);
	return r;
}

static void extra_putp(struct s3c_extra **p)
{
	s3c_extra_put(*p);
}

/* Resumed: is the copy there? 1: yes; 0: nothing is there; -EEXIST: something else. */
static int find_copy(struct tree *tree, const char *to, const struct s3c_header *source,
		     uint64_t size)
{
	__attribute__((cleanup(extra_putp))) struct s3c_extra *extra = NULL;
	struct s3c_version version;
	cleanup_header struct s3c_header header = { 0 };
	uint64_t found;
	int r = head_object(tree->engine, to, &header, &version, &found, &extra);

	if (r == -ENOENT)
		return 0;
	if (r == -EIO || r == -EACCES)
		return -EEXIST;
	if (r < 0)
		return r;
	if (header.layout != source->layout || found != size)
		return -EEXIST;
	/* Without an envelope the size is all there is to go by: not for files. */
	if (header.layout == S3C_LAYOUT_PLAIN)
		return is_dir_key(to) ? 1 : -EEXIST;
	return memcmp(header.content_id, source->content_id, S3C_CONTENT_ID_LEN) == 0 ? 1 : -EEXIST;
}

static int stays(struct item *item, const char *to)
{
	s3c_warn("%s stays where it is: its directory was being renamed, and %s is another file",
		 item->key, to);
	item->stays = true;
	return 0;
}

/* Not a copy of ours, nor the target itself, whose attributes are replaced. */
static bool wants_free(const struct tree *tree, const struct item *item)
{
	return !item->copied && !tree->resumed && item->key[strlen(tree->from_prefix)];
}

/* Which of the new keys are free. Those that this does not find free are asked for alone. */
static int look_at_targets(struct tree *tree, struct item **items, size_t count)
{
	cleanup_free struct s3c_gone *looks = calloc(count, sizeof(*looks));
	int64_t now = s3c_clock_monotonic_ns();
	size_t wanted = 0;
	int r = looks ? 0 : -ENOMEM;

	for (size_t i = 0; i < count && r == 0; i++) {
		char *key = NULL;

		if (!wants_free(tree, items[i]))
			continue;
		r = new_key(tree, items[i], &key);
		looks[wanted].owner = items[i];
		looks[wanted].key = key;
		wanted += r == 0;
	}
	if (r == 0 && wanted)
		r = s3c_keys_look(tree->engine, looks, wanted);
	for (size_t i = 0; i < wanted; i++) {
		struct item *item = looks[i].owner;

		if (r == 0 && looks[i].state == S3C_GONE_DONE)
			item->free_ns = now;
		free((char *)looks[i].key);
	}
	return r < 0 ? s3c_engine_fail(tree->engine, "list", tree->to_prefix, r, "") : 0;
}

/* What may be replaced at the new key: nothing, or what was copied there before. */
static void guard(struct tree *tree, struct item *item, struct s3c_version *replaces,
		  struct s3c_copy *copy)
{
	if (wants_free(tree, item)) {
		copy->guard = true;
		copy->looked = item->free_ns && s3c_clock_monotonic_ns() - item->free_ns < FRESH_NS;
	} else if (item->copied && item->copy_etag &&
		   strlen(item->copy_etag) < sizeof(replaces->etag)) {
		strcpy(replaces->etag, item->copy_etag);
		copy->guard = true;
		copy->replaces = replaces;
	}
}

static int taken(const struct tree *tree, const char *key)
{
	s3c_error("%s is not renamed to %s: another machine has written %s", tree->from, tree->to,
		  key);
	return -ENOTEMPTY;
}

static void copied_is(struct item *item, const struct s3c_header *header,
		      const struct s3c_version *version)
{
	item->copied = true;
	item->copied_etag = s3c_hash_etag(version->etag);
	item->layout = header->layout;
	item->generation = header->generation;
}

static int copy_item(struct tree *tree, struct item *item)
{
	cleanup_entry struct s3c_entry *source = cached_entry(tree, item);
	__attribute__((cleanup(extra_putp))) struct s3c_extra *extra = NULL;
	cleanup_free char *to = NULL, *path = path_of(tree, item, tree->to);
	struct s3c_version version, copied, replaces = { 0 };
	struct s3c_copy copy = { .from = item->key, .path = path, .source = &version };
	cleanup_header struct s3c_header header = { 0 };
	int r = new_key(tree, item, &to);

	if (r < 0)
		return r;
	copy.to = to;
	if (source) {
		s3c_header_set(&header, &source->header);
		version = source->version;
		copy.stored_size = source->stored_size;
		extra = s3c_extra_ref(source->extra);
	} else {
		r = head_object(tree->engine, item->key, &header, &version, &copy.stored_size,
				&extra);
	}
	if (r == -ENOENT)
		return 0; /* gone meanwhile: the next LIST tells */
	if (r < 0)
		return r;
	copy.extra = extra;
	copy.old = &header;
	copy.header = header;
	if (tree->resumed) {
		r = find_copy(tree, to, &header, copy.stored_size);
		if (r == 1)
			copied_is(item, &header, &version);
		if (r)
			return r == -EEXIST ? stays(item, to) : S3C_MIN(r, 0);
		copy.guard = copy.looked = true;
	} else {
		guard(tree, item, &replaces, &copy);
	}
	/* Without the footer the copy's mtime stays the footer's. */
	if (source)
		copy.header.attrs_final = header.layout == S3C_LAYOUT_TRAILER;
	r = s3c_copy_object(tree->engine, &copy, &copied);
	if (r == -ESTALE)
		return 0; /* changed meanwhile: the next round copies what it is then */
	if (r == -EEXIST && tree->resumed)
		return stays(item, to);
	if (r == -EEXIST || r == -EREMCHG)
		return taken(tree, to);
	if (r < 0)
		return r;
	copied_is(item, &header, &version);
	free(item->copy_etag);
	item->copy_etag = copied.etag[0] ? strdup(copied.etag) : NULL;
	return keep_entry(tree, item, &copy, &copied, source, extra);
}

static void work_unref(struct work *work)
{
	bool last;

	s3c_mutex_lock(&work->lock);
	last = --work->refs == 0;
	s3c_mutex_unlock(&work->lock);
	if (!last)
		return;
	s3c_mutex_destroy(&work->lock);
	free(work->items);
	free(work);
}

static void work_do(struct work *work)
{
	size_t i;

	while (!atomic_load(&work->result) &&
	       (i = atomic_fetch_add(&work->next, 1)) < work->count) {
		int none = 0;
		int r = copy_item(work->tree, work->items[i]);

		if (r < 0)
			atomic_compare_exchange_strong(&work->result, &none, r);
	}
}

static void work_run(struct s3c_job *job)
{
	struct work_job *wj = container_of(job, struct work_job, job);
	struct work *work = wj->work;
	bool closed;

	free(wj);
	s3c_mutex_lock(&work->lock);
	closed = work->closed;
	work->running += !closed;
	s3c_mutex_unlock(&work->lock);
	if (!closed) {
		work_do(work);
		s3c_mutex_lock(&work->lock);
		if (--work->running == 0)
			s3c_waitq_wake_all(&work->idle);
		s3c_mutex_unlock(&work->lock);
	}
	work_unref(work);
}

/* Copies all items, on threads of the pool besides the caller's as far as there are any. */
static int copy_items(struct tree *tree, struct item **items, size_t count)
{
	struct work *work = calloc(1, sizeof(*work));
	int r;

	if (!work) {
		free(items);
		return -ENOMEM;
	}
	work->tree = tree;
	work->items = items;
	work->count = count;
	work->refs = 1;
	s3c_mutex_init(&work->lock);
	s3c_waitq_init(&work->idle);
	for (size_t i = 1; i < S3C_MIN(count, (size_t)COPIES_MAX); i++) {
		struct work_job *wj = calloc(1, sizeof(*wj));

		if (!wj)
			break;
		wj->job.run = work_run;
		wj->work = work;
		s3c_mutex_lock(&work->lock);
		work->refs++;
		s3c_mutex_unlock(&work->lock);
		s3c_pool_submit(tree->engine->tasks, &wj->job);
	}
	work_do(work);
	s3c_mutex_lock(&work->lock);
	work->closed = true;
	while (work->running)
		s3c_waitq_wait(&work->idle, &work->lock, NULL);
	s3c_mutex_unlock(&work->lock);
	r = atomic_load(&work->result);
	work_unref(work);
	return r;
}

static bool needs_copy(const struct item *item)
{
	return item->listed && !item->stays &&
	       (!item->copied || item->copied_etag != item->etag_hash);
}

static int copy_batch(struct tree *tree, struct item **batch, size_t count)
{
	struct item **items = calloc(count, sizeof(struct item *));
	int r = items ? 0 : -ENOMEM;

	if (r == 0 && !tree->engine->store->caps.copy_if_none_match)
		r = look_at_targets(tree, batch, count);
	if (r < 0) {
		free(items);
		return r;
	}
	memcpy(items, batch, count * sizeof(struct item *));
	return copy_items(tree, items, count);
}

static int copy_round(struct tree *tree)
{
	struct item *batch[BATCH], *item, *next;
	size_t count = 0;
	int r = 0;

	HASH_ITER (hh, tree->by_key, item, next) {
		if (needs_copy(item))
			batch[count++] = item;
		if (count == BATCH) {
			r = copy_batch(tree, batch, count);
			count = 0;
		}
		if (r < 0)
			return r;
	}
	return count ? copy_batch(tree, batch, count) : 0;
}

/* Not before it is gone: what is still there would count as a deleted object that came back. */
static void note_deleted(struct tree *tree, struct item *item)
{
	struct s3c_header gone = { .layout = item->layout, .generation = item->generation };

	s3c_note_generation(tree->engine, item->key, &gone, true);
	item->doubtful = false;
}

static int delete_batch(struct tree *tree, struct item **items, size_t count)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	const char *keys[BATCH];
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
static bool goes_later(const struct tree *tree, const struct item *item, const struct item *before)
{
	return s3c_names_encrypted(tree->engine) && is_dir_key(item->key) &&
	       s3c_key_is_long(item->key) &&
	       strncmp(before->key, item->key, strlen(item->key)) == 0;
}

/* Deletes what the last LIST showed in the version that was copied. */
static int delete_round(struct tree *tree)
{
	struct item *batch[BATCH], *item, *next, *kept = NULL; /* kept: the last that does not go */
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
		if (item->stays || !item->copied || needs_copy(item)) {
			kept = item;
			continue;
		}
		if (count == BATCH || (count && goes_later(tree, item, batch[count - 1]))) {
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
static bool is_copy(struct tree *tree, const char *key, const char *etag)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };

	if (tree->engine->store->caps.delete_if_match)
		return true;
	return s3c_key_head(tree->engine, key, &reply) == 0 && etag &&
	       s3c_etag_equal(reply.stat.version.etag, etag);
}

/* Takes the copies back: nothing was deleted yet, and the target held no names. */
static void undo(struct tree *tree)
{
	struct item *item, *next;

	HASH_ITER (hh, tree->by_key, item, next) {
		cleanup_free char *key = NULL;

		if (item->copied)
			new_key(tree, item, &key);
		/* What another machine wrote over a copy is its file, and stays. */
		if (key && (item->key[strlen(tree->from_prefix)] || !tree->target_marker) &&
		    is_copy(tree, key, item->copy_etag))
			s3c_delete_key(tree->engine, key, item->copy_etag);
	}
	if (tree->marker)
		s3c_delete_key(tree->engine, tree->to_prefix, tree->marker->version.etag);
}

/* A long name needs an object that has it: a directory without one gets one at its new place. */
static int mark_target(struct tree *tree)
{
	__attribute__((cleanup(extra_putp))) struct s3c_extra *extra = NULL;
	struct s3c_engine *engine = tree->engine;
	cleanup_entry struct s3c_entry *dir = NULL;
	cleanup_header struct s3c_header header = { 0 };
	struct s3c_version version;
	struct item *marker;
	uint64_t size;
	int r;

	HASH_FIND(hh, tree->by_key, tree->from_prefix, strlen(tree->from_prefix), marker);
	if (marker || tree->target_marker || !s3c_names_encrypted(engine) ||
	    !s3c_key_is_long(tree->to_prefix))
		return 0;
	r = head_object(engine, tree->to_prefix, &header, &version, &size, &extra);
	if (r != -ENOENT)
		return r;
	r = s3c_entry_implicit(engine, tree->to, &dir);
	return r < 0 ? r
		     : s3c_marker_put(engine, tree->to, &dir->header.attrs, NULL, true,
				      &tree->marker);
}

static int move_tree(struct tree *tree)
{
	size_t listed = 1;
	int r = 0;

	for (int round = 0; r == 0 && listed; round++) {
		r = list_tree(tree, &listed);
		if (r == 0 && round == ROUNDS_MAX && listed)
			r = -EBUSY;
		if (r == 0)
			r = round ? delete_round(tree) : mark_target(tree);
		if (r == 0)
			r = copy_round(tree);
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
static void follow(struct tree *tree, const struct s3c_entry *source)
{
	struct s3c_engine *engine = tree->engine;
	cleanup_entry struct s3c_entry *dir = NULL;
	struct item *item, *next;

	s3c_names_rebase(engine, tree->from, tree->to);
	if (tree->marker)
		s3c_names_set(engine, tree->marker);
	else if (source->implicit && !tree->target_marker &&
		 s3c_entry_implicit(engine, tree->to, &dir) == 0)
		s3c_names_set(engine, dir);
	HASH_ITER (hh, tree->by_key, item, next) {
		cleanup_free char *path = path_of(tree, item, tree->from);
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

static int prepare(struct tree *tree, struct s3c_op *op, bool target_exists)
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
	__attribute__((cleanup(tree_free))) struct tree tree = {
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
	__attribute__((cleanup(tree_free))) struct tree tree = {
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
