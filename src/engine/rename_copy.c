/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Renaming a directory: its objects are copied, several side by side. What it is a part of, and
 * which promises it keeps, stands in rename_dir.c.
 */
#include "engine/rename_tree.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define COPIES_MAX 32u
#define ENTRIES_KEPT 50000u
#define FRESH_NS (5 * S3C_NSEC_PER_SEC) /* so long a look at a free key counts */

/* Copies under way. Reference-counted: a job that starts late finds it closed. */
struct work {
	struct s3c_tree *tree;
	struct s3c_tree_item **items;
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

/* The path of an item at root: that of the old or the new tree. NULL: none. */
char *s3c_tree_path(const struct s3c_tree *tree, const struct s3c_tree_item *item, const char *root)
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
int s3c_tree_new_key(const struct s3c_tree *tree, const struct s3c_tree_item *item, char **ret_key)
{
	cleanup_free char *path = NULL;

	if (item->path) {
		path = s3c_tree_path(tree, item, tree->to);
		return path ? s3c_key_of(tree->engine, path, s3c_key_is_dir(item->key), ret_key)
			    : -ENOMEM;
	}
	if (strlen(item->key) - strlen(tree->from_prefix) + strlen(tree->to_prefix) >
	    S3C_STORE_KEY_MAX)
		return -ENAMETOOLONG;
	*ret_key = s3c_asprintf("%s%s", tree->to_prefix, item->key + strlen(tree->from_prefix));
	return *ret_key ? 0 : -ENOMEM;
}

/* What is cached about the object, when that is the version that was listed. */
static struct s3c_entry *cached_entry(struct s3c_tree *tree, const struct s3c_tree_item *item)
{
	struct s3c_engine *engine = tree->engine;
	cleanup_free char *path = s3c_tree_path(tree, item, tree->from);
	bool is_dir = s3c_key_is_dir(item->key);
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

/* With its bytes as well, the last of them when they are more than body takes; NULL: without. */
static int tree_look(struct s3c_engine *engine, const char *key, struct s3c_buf *body,
		     struct s3c_header *ret_header, struct s3c_version *ret_version,
		     uint64_t *ret_size, struct s3c_extra **ret_extra)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_ssec struct s3c_ssec ssec;
	struct s3c_store_request rq = { .op = S3C_STORE_HEAD, .key = key };
	int r = s3c_ssec_of(engine, key, &ssec, &rq.ssec);

	if (body) {
		rq.op = S3C_STORE_GET;
		rq.content = true;
		rq.suffix = body->max;
		rq.sink = s3c_store_buf_sink(body);
	}
	if (r == 0)
		r = s3c_request(engine, &rq, NULL, &reply);
	if (r == -ENOENT)
		return r;
	if (r < 0)
		return s3c_engine_fail(engine, "look up", key, r, reply.message);
	*ret_version = reply.stat.version;
	*ret_size = reply.stat.size;
	r = s3c_header_of(engine, key, &reply.stat, ret_header);
	return r < 0 ? r : s3c_extra_make(ret_header, s3c_key_is_dir(key), &reply.stat, ret_extra);
}

int s3c_tree_head(struct s3c_engine *engine, const char *key, struct s3c_header *ret_header,
		  struct s3c_version *ret_version, uint64_t *ret_size, struct s3c_extra **ret_extra)
{
	return tree_look(engine, key, NULL, ret_header, ret_version, ret_size, ret_extra);
}

/* The entry of the copy, when all of it is known: then it is kept. */
static int keep_entry(struct s3c_tree *tree, struct s3c_tree_item *item,
		      const struct s3c_copy *copy, const struct s3c_version *version,
		      const struct s3c_entry *source, struct s3c_extra *extra)
{
	int r;
	bool whole = source || copy->header.layout != S3C_LAYOUT_TRAILER;
	bool is_dir = s3c_key_is_dir(item->key);
	cleanup_free char *path = s3c_tree_path(tree, item, tree->to);

	s3c_entry_put(steal_ptr(item->entry));
	if (!path || !whole || tree->count > ENTRIES_KEPT)
		return 0;
	r = s3c_entry_local(tree->engine, path, is_dir, &copy->header, version, item->size, source,
			    &item->entry);
	if (r == 0 && !source)
		item->entry->extra = s3c_extra_ref(extra);
	return r;
}

/* Resumed: is the copy there? 1: yes; 0: nothing is there; -EEXIST: something else. */
static int find_copy(struct s3c_tree *tree, const char *to, const struct s3c_header *source,
		     uint64_t size)
{
	cleanup_extra struct s3c_extra *extra = NULL;
	struct s3c_version version;
	cleanup_header struct s3c_header header = { 0 };
	uint64_t found;
	int r = s3c_tree_head(tree->engine, to, &header, &version, &found, &extra);

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
		return s3c_key_is_dir(to) ? 1 : -EEXIST;
	return memcmp(header.content_id, source->content_id, S3C_CONTENT_ID_LEN) == 0 ? 1 : -EEXIST;
}

static int stays(struct s3c_tree_item *item, const char *to)
{
	s3c_warn("%s stays where it is: its directory was being renamed, and %s is another file",
		 item->key, to);
	item->stays = true;
	return 0;
}

/* Not a copy of ours, nor the target itself, whose attributes are replaced. */
static bool wants_free(const struct s3c_tree *tree, const struct s3c_tree_item *item)
{
	return !item->copied && !tree->resumed && item->key[strlen(tree->from_prefix)];
}

/* Which of the new keys are free. Those that this does not find free are asked for alone. */
static int look_at_targets(struct s3c_tree *tree, struct s3c_tree_item **items, size_t count)
{
	cleanup_free struct s3c_gone *looks = calloc(count, sizeof(*looks));
	int64_t now = s3c_clock_monotonic_ns();
	size_t wanted = 0;
	int r = looks ? 0 : -ENOMEM;

	for (size_t i = 0; i < count && r == 0; i++) {
		char *key = NULL;

		if (!wants_free(tree, items[i]))
			continue;
		r = s3c_tree_new_key(tree, items[i], &key);
		looks[wanted].owner = items[i];
		looks[wanted].key = key;
		wanted += r == 0;
	}
	if (r == 0 && wanted)
		r = s3c_keys_look(tree->engine, looks, wanted);
	for (size_t i = 0; i < wanted; i++) {
		struct s3c_tree_item *item = looks[i].owner;

		if (r == 0 && looks[i].state == S3C_GONE_DONE)
			item->free_ns = now;
		free((char *)looks[i].key);
	}
	return r < 0 ? s3c_engine_fail(tree->engine, "list", tree->to_prefix, r, "") : 0;
}

/* What may be replaced at the new key: nothing, or what was copied there before. */
static void guard(struct s3c_tree *tree, struct s3c_tree_item *item, struct s3c_version *replaces,
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

static int taken(const struct s3c_tree *tree, const char *key)
{
	s3c_error("%s is not renamed to %s: another machine has written %s", tree->from, tree->to,
		  key);
	return -ENOTEMPTY;
}

static void copied_is(struct s3c_tree_item *item, const struct s3c_header *header,
		      const struct s3c_version *version)
{
	item->copied = true;
	item->copied_etag = s3c_hash_etag(version->etag);
	item->layout = header->layout;
	item->generation = header->generation;
}

static int copy_item(struct s3c_tree *tree, struct s3c_tree_item *item)
{
	cleanup_entry struct s3c_entry *source = cached_entry(tree, item);
	cleanup_extra struct s3c_extra *extra = NULL;
	cleanup_free char *to = NULL, *path = s3c_tree_path(tree, item, tree->to);
	cleanup_buf struct s3c_buf body = { .max = S3C_COPY_FEW };
	bool sends = !tree->engine->store->caps.copy_source_if_match && item->size &&
		     item->size <= S3C_COPY_FEW;
	struct s3c_version version, copied, replaces = { 0 };
	struct s3c_copy copy = { .from = item->key, .path = path, .source = &version };
	cleanup_header struct s3c_header header = { 0 };
	int r = s3c_tree_new_key(tree, item, &to);

	if (r < 0)
		return r;
	copy.to = to;
	if (source) {
		s3c_header_set(&header, &source->header);
		version = source->version;
		copy.stored_size = source->stored_size;
		copy.body = s3c_entry_body(source);
		extra = s3c_extra_ref(source->extra);
	} else {
		r = tree_look(tree->engine, item->key, sends ? &body : NULL, &header, &version,
			      &copy.stored_size, &extra);
		copy.body = sends && body.len == copy.stored_size ? (uint8_t *)body.data : NULL;
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
static int copy_items(struct s3c_tree *tree, struct s3c_tree_item **items, size_t count)
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

bool s3c_tree_needs_copy(const struct s3c_tree_item *item)
{
	return item->listed && !item->stays &&
	       (!item->copied || item->copied_etag != item->etag_hash);
}

static int copy_batch(struct s3c_tree *tree, struct s3c_tree_item **batch, size_t count)
{
	struct s3c_tree_item **items = calloc(count, sizeof(struct s3c_tree_item *));
	int r = items ? 0 : -ENOMEM;

	if (r == 0 && !tree->engine->store->caps.copy_if_none_match)
		r = look_at_targets(tree, batch, count);
	if (r < 0) {
		free(items);
		return r;
	}
	memcpy(items, batch, count * sizeof(struct s3c_tree_item *));
	return copy_items(tree, items, count);
}

int s3c_tree_copy_round(struct s3c_tree *tree)
{
	struct s3c_tree_item *batch[S3C_TREE_BATCH], *item, *next;
	size_t count = 0;
	int r = 0;

	HASH_ITER (hh, tree->by_key, item, next) {
		if (s3c_tree_needs_copy(item))
			batch[count++] = item;
		if (count == S3C_TREE_BATCH) {
			r = copy_batch(tree, batch, count);
			count = 0;
		}
		if (r < 0)
			return r;
	}
	return count ? copy_batch(tree, batch, count) : 0;
}
