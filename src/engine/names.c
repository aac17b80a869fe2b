/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* The tree of what is known of names: see names.h for what a node holds and when it goes. */
#include "engine/pending.h"

#include <errno.h>
#include <string.h>

uint64_t s3c_hash_text(const char *text, uint64_t seed)
{
	/* FNV-1a, 64 bits: nothing depends on it being hard to collide. */
	uint64_t h = 0xcbf29ce484222325u ^ seed;

	for (; *text; text++)
		h = (h ^ (uint8_t)*text) * 0x100000001b3u;
	return h;
}

/* The opaque part of an ETag, without weak mark and quotes. */
static size_t etag_core(const char **etag)
{
	size_t len;

	if (strncmp(*etag, "W/", 2) == 0)
		*etag += 2;
	len = strlen(*etag);
	if (len >= 2 && (*etag)[0] == '"' && (*etag)[len - 1] == '"') {
		(*etag)++;
		len -= 2;
	}
	return len;
}

uint64_t s3c_hash_etag(const char *etag)
{
	size_t len = etag_core(&etag);
	uint64_t h = 0xcbf29ce484222325u;

	if (!len)
		return 0;
	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)etag[i]) * 0x100000001b3u;
	return h ? h : 1;
}

bool s3c_etag_equal(const char *a, const char *b)
{
	size_t a_len = etag_core(&a);
	size_t b_len = etag_core(&b);

	return a_len && a_len == b_len && memcmp(a, b, a_len) == 0;
}

bool s3c_ring_first(uint64_t *ring, size_t count, unsigned *next, uint64_t hash)
{
	for (size_t i = 0; i < count; i++)
		if (ring[i] == hash)
			return false;
	ring[*next] = hash;
	*next = (unsigned)((*next + 1) % count);
	return true;
}

bool s3c_path_below(const char *path, const char *root)
{
	size_t len = strlen(root);

	if (!len)
		return true;
	return strncmp(path, root, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

char *s3c_path_parent(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? strndup(path, (size_t)(slash - path)) : strdup("");
}

const char *s3c_path_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

const char *s3c_node_name(const struct s3c_node *node)
{
	return s3c_path_name(node->path);
}

struct s3c_node *s3c_node_find(struct s3c_names *names, const char *path)
{
	struct s3c_node *node;

	s3c_mutex_assert_held(&names->engine->lock);
	HASH_FIND(hh, names->by_path, path, strlen(path), node);
	return node;
}

static struct s3c_node *node_new(struct s3c_names *names, const char *path, struct s3c_node *parent)
{
	struct s3c_node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->path = strdup(path);
	if (!node->path) {
		free(node);
		return NULL;
	}
	LIST_INIT(&node->children);
	HASH_ADD_KEYPTR(hh, names->by_path, node->path, strlen(node->path), node);
	if (!node->hh.tbl) {
		free(node->path);
		free(node);
		return NULL;
	}
	node->parent = parent;
	if (parent)
		LIST_INSERT_HEAD(&parent->children, node, sibling);
	return node;
}

struct s3c_node *s3c_node_make(struct s3c_names *names, const char *path)
{
	struct s3c_node *node = s3c_node_find(names, path);
	struct s3c_node *at = names->root;
	cleanup_free char *part = NULL;

	if (node)
		return node;
	part = strdup(path);
	if (!part)
		return NULL;
	/* The root exists: path has a byte at least. */
	for (size_t i = 1;; i++) {
		if (path[i] && path[i] != '/')
			continue;
		part[i] = '\0';
		node = s3c_node_find(names, part);
		if (!node)
			node = node_new(names, part, at);
		if (!node) {
			s3c_node_prune(names, at);
			return NULL;
		}
		at = node;
		if (!path[i])
			return node;
		part[i] = '/';
	}
}

static bool node_idle(const struct s3c_node *node)
{
	return !node->pins && !node->known && !node->local && node->change == S3C_CHANGE_NONE &&
	       !node->pending[S3C_KEY_FILE] && !node->pending[S3C_KEY_DIR] &&
	       (!node->dir || (!node->dir->snap && !node->dir->loading)) && !node->flight &&
	       LIST_EMPTY(&node->children);
}

void s3c_node_prune(struct s3c_names *names, struct s3c_node *node)
{
	while (node && node->parent && node_idle(node)) {
		struct s3c_node *parent = node->parent;

		free(node->dir);
		HASH_DEL(names->by_path, node);
		LIST_REMOVE(node, sibling);
		free(node->path);
		free(node);
		node = parent;
	}
}

static void tail_drop(struct s3c_names *names, struct s3c_node *node)
{
	if (!node->in_tails)
		return;
	TAILQ_REMOVE(&names->tails, node, tails);
	node->in_tails = false;
	names->tail_bytes -= node->entry->tail_len;
}

void s3c_node_forget(struct s3c_names *names, struct s3c_node *node)
{
	if (!node->known)
		return;
	tail_drop(names, node);
	TAILQ_REMOVE(&names->lru, node, lru);
	names->entry_bytes -= node->bytes;
	names->entries--;
	node->known = false;
	free(steal_ptr(node->refusal));
	s3c_entry_put(steal_ptr(node->entry));
}

/* The oldest go until the bounds hold. node is kept, whatever its age. */
static void shrink(struct s3c_names *names, struct s3c_node *keep)
{
	struct s3c_node *node;

	while (names->tail_bytes > names->tail_max && (node = TAILQ_FIRST(&names->tails)) &&
	       node != keep) {
		struct s3c_entry *entry = s3c_entry_without_tail(node->entry);

		tail_drop(names, node);
		if (!entry) {
			s3c_node_forget(names, node);
			s3c_node_prune(names, node);
			continue;
		}
		s3c_entry_put(node->entry);
		node->entry = entry;
	}
	while (names->entry_bytes > S3C_NAMES_ENTRY_BYTES && (node = TAILQ_FIRST(&names->lru)) &&
	       node != keep) {
		s3c_node_forget(names, node);
		s3c_node_prune(names, node);
	}
}

void s3c_node_know(struct s3c_names *names, struct s3c_node *node, struct s3c_entry *entry,
		   int64_t fetched_ns)
{
	double ttl = names->engine->config.ttl_s;

	s3c_node_forget(names, node);
	node->known = true;
	node->entry = entry;
	node->fetched_ns = fetched_ns;
	node->valid_ns = fetched_ns + (int64_t)(ttl * (double)S3C_NSEC_PER_SEC);
	node->agreed = 0;
	node->bytes = sizeof(*node) + 2 * strlen(node->path) + (entry ? sizeof(*entry) : 0);
	if (entry && entry->extra)
		node->bytes += entry->extra->bytes;
	names->entry_bytes += node->bytes;
	names->entries++;
	TAILQ_INSERT_TAIL(&names->lru, node, lru);
	if (entry && entry->tail) {
		TAILQ_INSERT_TAIL(&names->tails, node, tails);
		node->in_tails = true;
		names->tail_bytes += entry->tail_len;
	}
	shrink(names, node);
}

void s3c_node_refuse(struct s3c_names *names, struct s3c_node *node,
		     const struct s3c_refusal *refusal, int64_t fetched_ns)
{
	struct s3c_refusal *copy = malloc(sizeof(*copy));

	if (!copy) {
		s3c_node_forget(names, node);
		return;
	}
	*copy = *refusal;
	s3c_node_know(names, node, NULL, fetched_ns);
	node->refusal = copy;
}

static bool refusal_agrees(const struct s3c_refusal *refusal, enum s3c_listed listed,
			   const struct s3c_detail *detail)
{
	if (listed == S3C_LISTED_DIR)
		return refusal->is_dir;
	return listed == S3C_LISTED_FILE && !refusal->is_dir && detail->known_size &&
	       detail->size == refusal->size && detail->etag_hash == refusal->etag_hash;
}

/* Does the listing, which is newer than the entry, show the same? */
static bool agrees(struct s3c_names *names, struct s3c_node *node)
{
	struct s3c_detail detail;
	enum s3c_listed listed = s3c_listed_find(names, node->path, &detail);

	if (node->refusal && listed != S3C_LISTED_UNKNOWN)
		return refusal_agrees(node->refusal, listed, &detail);
	switch (listed) {
	case S3C_LISTED_UNKNOWN:
		return true;
	case S3C_LISTED_ABSENT:
		return !node->entry;
	case S3C_LISTED_DIR:
		return node->entry && node->entry->is_dir;
	case S3C_LISTED_FILE:
		break;
	}
	if (!node->entry || node->entry->is_dir)
		return false;
	if (!detail.known_size)
		return true;
	if (detail.size != node->entry->stored_size)
		return false;
	return !detail.etag_hash || !node->entry->version.etag[0] ||
	       detail.etag_hash == s3c_hash_etag(node->entry->version.etag);
}

bool s3c_node_valid(struct s3c_names *names, struct s3c_node *node)
{
	struct s3c_dir_list *dir = node->parent ? node->parent->dir : NULL;

	if (!node->known)
		return false;
	if (dir && dir->snap && node->agreed != dir->serial && node->change == S3C_CHANGE_NONE &&
	    node->fetched_ns < dir->started_ns) {
		if (!agrees(names, node)) {
			s3c_node_forget(names, node);
			return false;
		}
		node->agreed = dir->serial;
	}
	if (node->valid_ns <= s3c_clock_monotonic_ns())
		return false;
	TAILQ_REMOVE(&names->lru, node, lru);
	TAILQ_INSERT_TAIL(&names->lru, node, lru);
	return true;
}

void s3c_node_change(struct s3c_names *names, struct s3c_node *node, enum s3c_change change)
{
	struct s3c_dir_list *dir = node->parent ? node->parent->dir : NULL;

	if (!dir || (!dir->snap && !dir->loading))
		change = S3C_CHANGE_NONE;
	node->change = change;
	node->change_serial = ++names->serial;
	if (node->parent)
		s3c_dir_changed(node->parent);
}

/* All that is cached of the node and those below; what exists only here stays if locals is set. */
static void clear_below(struct s3c_names *names, struct s3c_node *node, bool keep_locals)
{
	struct s3c_node *child;

	node->pins++;
	for (child = LIST_FIRST(&node->children); child;) {
		struct s3c_node *next = LIST_NEXT(child, sibling);

		clear_below(names, child, keep_locals);
		child = next;
	}
	s3c_dir_forget(names, node);
	s3c_node_forget(names, node);
	if (!keep_locals)
		node->local = false;
	node->pins--;
	s3c_node_prune(names, node);
}

static void clear_children(struct s3c_names *names, struct s3c_node *node, bool keep_locals)
{
	struct s3c_node *child;

	node->pins++;
	for (child = LIST_FIRST(&node->children); child;) {
		struct s3c_node *next = LIST_NEXT(child, sibling);

		clear_below(names, child, keep_locals);
		child = next;
	}
	node->pins--;
}

void s3c_names_set_locked(struct s3c_names *names, struct s3c_entry *entry)
{
	struct s3c_node *node;

	s3c_flights_stale(names, entry->path, false);
	node = s3c_node_make(names, entry->path);
	if (node) {
		node->pins++;
		node->local = false;
		s3c_node_know(names, node, s3c_entry_ref(entry), s3c_clock_monotonic_ns());
		s3c_node_change(names, node, entry->is_dir ? S3C_CHANGE_DIR : S3C_CHANGE_FILE);
		node->pins--;
	}
}

void s3c_names_set(struct s3c_engine *engine, struct s3c_entry *entry)
{
	s3c_mutex_lock(&engine->lock);
	s3c_names_set_locked(engine->names, entry);
	s3c_mutex_unlock(&engine->lock);
}

void s3c_names_remove_locked(struct s3c_names *names, const char *path)
{
	struct s3c_node *node;

	s3c_flights_stale(names, path, true);
	node = s3c_node_make(names, path);
	if (node) {
		node->pins++;
		clear_children(names, node, false);
		s3c_dir_forget(names, node);
		node->local = false;
		s3c_node_know(names, node, NULL, s3c_clock_monotonic_ns());
		s3c_node_change(names, node, S3C_CHANGE_ABSENT);
		node->pins--;
	}
}

void s3c_names_remove(struct s3c_engine *engine, const char *path)
{
	s3c_mutex_lock(&engine->lock);
	s3c_names_remove_locked(engine->names, path);
	s3c_mutex_unlock(&engine->lock);
}

void s3c_names_add_local_locked(struct s3c_names *names, const char *path, mode_t type)
{
	struct s3c_node *node = s3c_node_make(names, path);

	if (!node) {
		s3c_warn("no memory to list the new file %s before it is stored", path);
		return;
	}
	node->local = true;
	node->local_type = type & S_IFMT;
	if (node->parent)
		s3c_dir_changed(node->parent);
}

void s3c_names_add_local(struct s3c_engine *engine, const char *path, mode_t type)
{
	s3c_mutex_lock(&engine->lock);
	s3c_names_add_local_locked(engine->names, path, type);
	s3c_mutex_unlock(&engine->lock);
}

void s3c_names_drop_local_locked(struct s3c_names *names, const char *path)
{
	struct s3c_node *node = s3c_node_find(names, path);

	if (node && node->local) {
		node->local = false;
		if (node->parent)
			s3c_dir_changed(node->parent);
		s3c_node_prune(names, node);
	}
}

void s3c_names_drop_local(struct s3c_engine *engine, const char *path)
{
	s3c_mutex_lock(&engine->lock);
	s3c_names_drop_local_locked(engine->names, path);
	s3c_mutex_unlock(&engine->lock);
}

void s3c_names_invalidate_locked(struct s3c_names *names, const char *path, bool below)
{
	struct s3c_node *node;

	s3c_flights_stale(names, path, below);
	node = s3c_node_make(names, path);
	if (node) {
		node->pins++;
		if (below) {
			clear_children(names, node, true);
			s3c_dir_forget(names, node);
		}
		s3c_node_forget(names, node);
		/* What the parent's listing says of it does not count either. */
		if (node->parent)
			s3c_dir_forget(names, node->parent);
		node->pins--;
		s3c_node_prune(names, node);
	}
}

void s3c_names_invalidate(struct s3c_engine *engine, const char *path, bool below)
{
	s3c_mutex_lock(&engine->lock);
	s3c_names_invalidate_locked(engine->names, path, below);
	s3c_mutex_unlock(&engine->lock);
}

void s3c_names_taken(struct s3c_engine *engine, const char *path)
{
	s3c_mutex_lock(&engine->lock);
	s3c_names_drop_local_locked(engine->names, path);
	s3c_names_invalidate_locked(engine->names, path, false);
	s3c_mutex_unlock(&engine->lock);
}

struct local_list {
	struct local_name {
		char *path;
		mode_t type;
	} * names;
	size_t count;
};

/* Collects what exists only here below node, as it will be called. */
static void locals_collect(const struct s3c_node *node, const char *from, const char *to,
			   struct local_list *list)
{
	const struct s3c_node *child;
	struct local_name *names;

	LIST_FOREACH (child, &node->children, sibling)
		locals_collect(child, from, to, list);
	if (!node->local)
		return;
	names = reallocarray(list->names, list->count + 1, sizeof(*names));
	if (!names)
		return;
	list->names = names;
	names += list->count;
	names->type = node->local_type;
	names->path = s3c_asprintf("%s%s", to, node->path + strlen(from));
	if (names->path)
		list->count++;
}

void s3c_names_rebase(struct s3c_engine *engine, const char *from, const char *to)
{
	struct local_list list = { 0 };
	struct s3c_node *node;

	s3c_mutex_lock(&engine->lock);
	node = s3c_node_find(engine->names, from);
	if (node)
		locals_collect(node, from, to, &list);
	s3c_mutex_unlock(&engine->lock);
	s3c_names_remove(engine, from);
	s3c_names_invalidate(engine, to, true);
	for (size_t i = 0; i < list.count; i++) {
		s3c_names_add_local(engine, list.names[i].path, list.names[i].type);
		free(list.names[i].path);
	}
	free(list.names);
}

static bool hold_conflict(const struct s3c_hold *a, const struct s3c_hold *b)
{
	return strcmp(a->path, b->path) == 0 || (a->below && s3c_path_below(b->path, a->path)) ||
	       (b->below && s3c_path_below(a->path, b->path));
}

static bool holds_free(struct s3c_names *names, const struct s3c_hold *holds, unsigned count)
{
	const struct s3c_hold *other;

	TAILQ_FOREACH (other, &names->holds, link)
		for (unsigned i = 0; i < count; i++)
			if (hold_conflict(&holds[i], other))
				return false;
	return true;
}

/* Operations that work on the store, and a name that is ahead of it. */
static const char *find_unsettled(struct s3c_names *names, const struct s3c_hold *holds,
				  unsigned count)
{
	for (unsigned i = 0; i < count && !s3c_writeback(names->engine); i++)
		if (!holds[i].ahead && s3c_pending_any(names, holds[i].path))
			return holds[i].path;
	return NULL;
}

static void overtake(struct s3c_names *names, const struct s3c_hold *hold)
{
	struct s3c_opening *opening;

	TAILQ_FOREACH (opening, &names->openings, link)
		opening->overtaken |= hold->removes && strcmp(opening->path, hold->path) == 0;
}

static bool being_removed(const struct s3c_names *names, const char *path)
{
	const struct s3c_hold *hold;

	TAILQ_FOREACH (hold, &names->holds, link)
		if (hold->removes && strcmp(hold->path, path) == 0)
			return true;
	return false;
}

int s3c_opening_begin(struct s3c_names *names, struct s3c_op *op, struct s3c_opening *opening)
{
	while (being_removed(names, opening->path)) {
		int r = op == S3C_NOWAIT
				? -EINPROGRESS
				: s3c_waitq_wait(&names->holds_free, &names->engine->lock, op);

		if (r < 0)
			return r;
	}
	opening->overtaken = false;
	TAILQ_INSERT_TAIL(&names->openings, opening, link);
	return 0;
}

bool s3c_opening_end(struct s3c_names *names, struct s3c_opening *opening)
{
	TAILQ_REMOVE(&names->openings, opening, link);
	return opening->overtaken;
}

int s3c_hold_begin(struct s3c_engine *engine, struct s3c_op *op, struct s3c_hold *holds,
		   unsigned count)
{
	struct s3c_names *names = engine->names;
	int r = 0;

	s3c_mutex_lock(&engine->lock);
	while (r == 0) {
		const char *unsettled = find_unsettled(names, holds, count);

		/* Whoever had the names may have left something to be done to them. */
		if (!holds_free(names, holds, count))
			r = op == S3C_NOWAIT
				    ? -EINPROGRESS
				    : s3c_waitq_wait(&names->holds_free, &engine->lock, op);
		else if (unsettled)
			r = s3c_pending_settle(names, op, unsettled);
		else
			break;
	}
	for (unsigned i = 0; r == 0 && i < count; i++) {
		TAILQ_INSERT_TAIL(&names->holds, &holds[i], link);
		overtake(names, &holds[i]);
	}
	s3c_mutex_unlock(&engine->lock);
	return r;
}

void s3c_hold_end(struct s3c_engine *engine, struct s3c_hold *holds, unsigned count)
{
	struct s3c_names *names = engine->names;

	s3c_mutex_lock(&engine->lock);
	for (unsigned i = 0; i < count; i++)
		TAILQ_REMOVE(&names->holds, &holds[i], link);
	s3c_waitq_wake_all(&names->holds_free);
	s3c_mutex_unlock(&engine->lock);
}

int s3c_names_new(struct s3c_engine *engine, struct s3c_names **ret_names)
{
	struct s3c_names *names = calloc(1, sizeof(*names));

	if (!names)
		return -ENOMEM;
	names->engine = engine;
	names->tail_max = (size_t)(engine->config.memory / 16);
	names->born_ns = s3c_clock_realtime_ns();
	TAILQ_INIT(&names->lru);
	TAILQ_INIT(&names->tails);
	TAILQ_INIT(&names->dir_lru);
	TAILQ_INIT(&names->holds);
	TAILQ_INIT(&names->openings);
	TAILQ_INIT(&names->flights);
	s3c_pending_init(names);
	s3c_waitq_init(&names->holds_free);
	s3c_waitq_init(&names->lookups);
	s3c_waitq_init(&names->loads);
	s3c_waitq_init(&names->idle);
	names->root = node_new(names, "", NULL);
	if (!names->root) {
		free(names);
		return -ENOMEM;
	}
	s3c_op_init(&names->load_op, INT64_MAX);
	*ret_names = names;
	return 0;
}

void s3c_names_free(struct s3c_engine *engine, struct s3c_names *names)
{
	struct s3c_node *root;

	if (!names)
		return;
	s3c_pending_stop(engine);
	s3c_op_interrupt(&names->load_op);
	s3c_mutex_lock(&engine->lock);
	names->closing = true;
	s3c_flights_close(names);
	while (names->running)
		s3c_waitq_wait(&names->idle, &engine->lock, NULL);
	root = names->root;
	s3c_pending_free_all(names);
	clear_children(names, root, false);
	s3c_dir_forget(names, root);
	s3c_node_forget(names, root);
	HASH_DEL(names->by_path, root);
	s3c_mutex_unlock(&engine->lock);
	s3c_op_destroy(&names->load_op);
	free(root->path);
	free(root);
	free(names);
}
