/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Listings of directories.
 *
 * A directory's listing is loaded by one task, page by page, whoever waits for
 * it. It stays valid for ttl. What we do to names after the LIST began is noted
 * at the child's node (change) and counts more than the listing; the next
 * listing that begins later contains it, and the note goes. Names that exist
 * only here (local) are merged into what callers see.
 *
 *	snap	as the store gave it, with changes folded in from time to time
 *	view	what callers get: snap itself when there is nothing to merge
 */
#include "engine/pending.h"
#include "engine/snapshot.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

static bool dir_valid(const struct s3c_dir_list *dir)
{
	return dir && dir->snap &&
	       (dir->valid_ns > s3c_clock_monotonic_ns() || s3c_pending_fresh(dir->node));
}

static struct s3c_node *parent_node(struct s3c_names *names, const char *path,
				    struct s3c_node *node)
{
	cleanup_free char *parent = NULL;

	if (node)
		return node->parent;
	parent = s3c_path_parent(path);
	return parent ? s3c_node_find(names, parent) : NULL;
}

enum s3c_listed s3c_listed_find(struct s3c_names *names, const char *path,
				struct s3c_detail *ret_detail)
{
	struct s3c_node *node = s3c_node_find(names, path);
	struct s3c_node *parent;
	size_t i;

	if (!*path)
		return S3C_LISTED_UNKNOWN;
	if (ret_detail)
		*ret_detail = (struct s3c_detail){ 0 };
	if (node && s3c_overlay_of(node) != S3C_OVERLAY_NONE)
		return s3c_overlay_of(node) == S3C_OVERLAY_DIR ? S3C_LISTED_DIR : S3C_LISTED_ABSENT;
	parent = parent_node(names, path, node);
	if (!parent || !dir_valid(parent->dir))
		return S3C_LISTED_UNKNOWN;
	switch (node ? node->change : S3C_CHANGE_NONE) {
	case S3C_CHANGE_FILE:
		return S3C_LISTED_FILE;
	case S3C_CHANGE_DIR:
		return S3C_LISTED_DIR;
	case S3C_CHANGE_ABSENT:
		return S3C_LISTED_ABSENT;
	case S3C_CHANGE_NONE:
		break;
	}
	i = s3c_snapshot_find(parent->dir->snap, s3c_path_name(path));
	if (i == SIZE_MAX)
		return S3C_LISTED_ABSENT;
	if (parent->dir->snap->details[i].is_dir)
		return S3C_LISTED_DIR;
	if (ret_detail)
		*ret_detail = parent->dir->snap->details[i];
	return S3C_LISTED_FILE;
}

struct s3c_dir_list *s3c_listed_index(struct s3c_names *names, const char *path, size_t *ret_index)
{
	struct s3c_node *parent;

	if (!*path)
		return NULL;
	parent = parent_node(names, path, s3c_node_find(names, path));
	if (!parent || !dir_valid(parent->dir))
		return NULL;
	*ret_index = s3c_snapshot_find(parent->dir->snap, s3c_path_name(path));
	return parent->dir;
}

static void dir_drop_snap(struct s3c_names *names, struct s3c_dir_list *dir)
{
	s3c_snapshot_put(steal_ptr(dir->view));
	if (!dir->snap)
		return;
	names->listing_bytes -= dir->snap->bytes;
	TAILQ_REMOVE(&names->dir_lru, dir, lru);
	s3c_snapshot_put(steal_ptr(dir->snap));
}

/* Notes at children that are older than serial are in the listing, or no listing needs them. */
static void clear_changes(struct s3c_names *names, struct s3c_node *node, uint64_t serial)
{
	struct s3c_node *child;

	node->pins++;
	for (child = LIST_FIRST(&node->children); child;) {
		struct s3c_node *next = LIST_NEXT(child, sibling);

		if (child->change != S3C_CHANGE_NONE && child->change_serial <= serial) {
			child->change = S3C_CHANGE_NONE;
			s3c_node_prune(names, child);
		}
		child = next;
	}
	node->pins--;
}

void s3c_dir_forget(struct s3c_names *names, struct s3c_node *node)
{
	struct s3c_dir_list *dir = node->dir;

	if (!dir)
		return;
	dir_drop_snap(names, dir);
	clear_changes(names, node, UINT64_MAX);
	if (dir->loading) {
		dir->load_stale = true;
		return;
	}
	node->dir = NULL;
	free(dir);
}

void s3c_dir_changed(struct s3c_node *node)
{
	if (node->dir)
		s3c_snapshot_put(steal_ptr(node->dir->view));
}

static struct s3c_dir_list *dir_make(struct s3c_node *node)
{
	struct s3c_dir_list *dir = node->dir;

	if (dir)
		return dir;
	dir = calloc(1, sizeof(*dir));
	if (!dir)
		return NULL;
	dir->node = node;
	dir->last = SIZE_MAX;
	node->dir = dir;
	return dir;
}

/* Takes the reference. */
static void dir_set(struct s3c_names *names, struct s3c_dir_list *dir, struct s3c_snapshot *snap,
		    int64_t started_ns, uint64_t serial)
{
	struct s3c_dir_list *oldest;

	dir_drop_snap(names, dir);
	dir->snap = snap;
	dir->started_ns = started_ns;
	dir->valid_ns =
		started_ns + (int64_t)(names->engine->config.ttl_s * (double)S3C_NSEC_PER_SEC);
	dir->serial = serial;
	dir->last = SIZE_MAX;
	dir->ahead = 0;
	dir->hits = 0;
	dir->node->lone = 0;
	names->listing_bytes += snap->bytes;
	TAILQ_INSERT_TAIL(&names->dir_lru, dir, lru);
	while (names->listing_bytes > S3C_NAMES_LISTING_BYTES &&
	       (oldest = TAILQ_FIRST(&names->dir_lru)) != dir) {
		struct s3c_node *node = oldest->node;

		node->pins++;
		s3c_dir_forget(names, node);
		node->pins--;
		s3c_node_prune(names, node);
	}
}

void s3c_dir_set_empty(struct s3c_engine *engine, const char *path)
{
	struct s3c_names *names = engine->names;
	struct s3c_draft draft;
	struct s3c_snapshot *snap = NULL;
	struct s3c_node *node;
	struct s3c_dir_list *dir = NULL;

	s3c_draft_init(&draft);
	draft.has_marker = true;
	s3c_draft_finish(&draft, &snap);
	s3c_mutex_lock(&engine->lock);
	node = snap ? s3c_node_make(names, path) : NULL;
	if (node)
		dir = dir_make(node);
	if (dir)
		dir_set(names, dir, steal_ptr(snap), s3c_clock_monotonic_ns(), ++names->serial);
	else if (node)
		s3c_node_prune(names, node);
	s3c_mutex_unlock(&engine->lock);
	s3c_snapshot_put(snap);
	s3c_draft_free(&draft);
}

/* One LIST of a directory, under way. */
struct load {
	struct s3c_job job;
	struct s3c_engine *engine;
	struct s3c_node *node; /* pinned */
	char *path, *prefix;
	unsigned max_pages;
	int64_t started_ns;
	uint64_t serial;
	size_t hidden;    /* keys that are no names of this volume, where names are encrypted */
	char *hidden_key; /* one of them */
};

/* Keys that are no names of files here: nothing that they hold is shown or touched. */
static int note_hidden(struct load *load, const char *key)
{
	if (!s3c_names_encrypted(load->engine) ||
	    strncmp(s3c_rel_key(load->engine, key), S3C_RESERVED_NAME "/",
		    sizeof(S3C_RESERVED_NAME)) == 0) {
		s3c_debug("%s is no name of a file: not shown", key);
		return 0;
	}
	if (!load->hidden++)
		load->hidden_key = strdup(key);
	return load->hidden_key ? 0 : -ENOMEM;
}

/* Once per directory. Lock held. */
static void warn_hidden(const struct load *load)
{
	struct s3c_names *names = load->engine->names;

	if (load->hidden && s3c_ring_first(names->hidden, ARRAY_LEN(names->hidden),
					   &names->hidden_next, s3c_hash_text(load->prefix, 0)))
		s3c_warn("%zu keys like %s are hidden in the directory /%s: they are no encrypted "
			 "names of this volume",
			 load->hidden, load->hidden_key, load->path);
}

/* A listing does not tell links from files, but for what is too large for a link. */
static mode_t listed_type(const struct s3c_detail *detail)
{
	if (detail->is_dir)
		return S_IFDIR;
	return detail->size > S3C_LINK_LEN_MAX + S3C_TAG_LEN ? S_IFREG : 0;
}

static int load_page(struct load *load, const struct s3c_list *list, struct s3c_draft *draft)
{
	size_t prefix_len = strlen(load->prefix);

	for (size_t i = 0; i < list->count; i++) {
		const struct s3c_list_entry *from = &list->entries[i];
		struct s3c_detail detail = { .is_dir = from->is_prefix };
		const char *stored = from->key;
		char name[S3C_NAME_LEN_MAX + 1];
		size_t len;
		int r;

		if (strncmp(stored, load->prefix, prefix_len) != 0)
			continue;
		stored += prefix_len;
		len = strlen(stored);
		if (!len) {
			draft->has_marker = true;
			continue;
		}
		if (from->is_prefix && stored[len - 1] == '/')
			len--;
		r = s3c_key_name(load->engine, load->prefix, stored, len, name);
		if (r == -EBADMSG || r == -ENODATA)
			r = note_hidden(load, from->key);
		else if (r == 0)
			r = 1;
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		if (!detail.is_dir) {
			detail.known_size = true;
			detail.size = from->size;
			detail.etag_hash = s3c_hash_etag(from->etag);
			detail.modified_ns = from->modified_ns;
		}
		r = s3c_draft_add(draft, name, strlen(name), listed_type(&detail), &detail);
		if (r < 0)
			return r;
	}
	return 0;
}

static int load_pages(struct load *load, struct s3c_draft *draft)
{
	struct s3c_engine *engine = load->engine;
	cleanup_free char *token = NULL;
	unsigned page = 0;

	do {
		cleanup_reply struct s3c_store_reply reply = { 0 };
		struct s3c_store_request rq = {
			.op = S3C_STORE_LIST,
			.prefix = load->prefix,
			.delimiter = true,
			.token = token,
			.max_keys = 1000,
		};
		int r = s3c_request(engine, &rq, &engine->names->load_op, &reply);

		if (r < 0)
			return s3c_engine_fail(engine, "list", load->prefix, r, reply.message);
		r = s3c_key_names_ask(engine, &engine->names->load_op, load->prefix, &reply.list);
		if (r == 0)
			r = load_page(load, &reply.list, draft);
		if (r < 0)
			return r;
		free(token);
		token = steal_ptr(reply.list.next_token);
		if (token && ++page == load->max_pages)
			return -EFBIG;
	} while (token);
	return 0;
}

/* An empty LIST is a directory only when something else says so. Lock held. */
static bool is_directory(const struct s3c_node *node, const struct s3c_snapshot *snap)
{
	const struct s3c_node *child;

	if (!node->parent || snap->base.count || snap->has_marker ||
	    s3c_overlay_of(node) == S3C_OVERLAY_DIR)
		return true;
	LIST_FOREACH (child, &node->children, sibling)
		if (child->local || s3c_overlay_of(child) == S3C_OVERLAY_DIR)
			return true;
	return false;
}

static void load_run(struct s3c_job *job)
{
	struct load *load = container_of(job, struct load, job);
	struct s3c_engine *engine = load->engine;
	struct s3c_names *names = engine->names;
	struct s3c_snapshot *snap = NULL;
	struct s3c_node *node = load->node;
	struct s3c_dir_list *dir;
	struct s3c_draft draft;
	int r;

	s3c_draft_init(&draft);
	draft.pairs = engine->config.accept & S3C_ACCEPT_FOREIGN;
	r = load_pages(load, &draft);
	if (r == 0)
		r = s3c_draft_finish(&draft, &snap);
	s3c_draft_free(&draft);

	s3c_mutex_lock(&engine->lock);
	dir = node->dir;
	dir->loading = false;
	dir->loads++;
	if (r == 0 && dir->load_stale)
		r = -EAGAIN;
	if (r == 0 && !is_directory(node, snap))
		r = -ENOENT;
	dir->load_result = r;
	if (r == 0) {
		warn_hidden(load);
		clear_changes(names, node, load->serial);
		dir_set(names, dir, steal_ptr(snap), load->started_ns, load->serial);
	} else if (!dir->snap) {
		clear_changes(names, node, UINT64_MAX);
	}
	dir->load_stale = false;
	s3c_waitq_wake_all(&names->loads);
	node->pins--;
	s3c_node_prune(names, node);
	if (--names->running == 0)
		s3c_waitq_wake_all(&names->idle);
	s3c_mutex_unlock(&engine->lock);
	s3c_snapshot_put(snap);
	free(load->hidden_key);
	free(load->path);
	free(load->prefix);
	free(load);
}

int s3c_dir_load(struct s3c_names *names, struct s3c_node *node, unsigned max_pages)
{
	struct s3c_dir_list *dir = dir_make(node);
	struct load *load;
	int r;

	if (!dir)
		return -ENOMEM;
	if (dir->loading)
		return 0;
	if (names->closing)
		return -ECANCELED;
	load = calloc(1, sizeof(*load));
	if (!load)
		return -ENOMEM;
	load->job.run = load_run;
	load->engine = names->engine;
	load->node = node;
	load->max_pages = max_pages;
	load->path = strdup(node->path);
	r = load->path ? s3c_dir_prefix(names->engine, node->path, &load->prefix) : -ENOMEM;
	if (r < 0) {
		free(load->path);
		free(load);
		return r;
	}
	load->started_ns = s3c_clock_monotonic_ns();
	load->serial = ++names->serial;
	dir->loading = true;
	dir->load_stale = false;
	dir->load_serial = load->serial;
	node->pins++;
	names->running++;
	s3c_pool_submit(names->engine->tasks, &load->job);
	return 0;
}

static int compare_nodes(const void *a, const void *b)
{
	return strcmp(s3c_node_name(*(struct s3c_node *const *)a),
		      s3c_node_name(*(struct s3c_node *const *)b));
}

static bool differs(const struct s3c_node *child, bool locals)
{
	return child->change != S3C_CHANGE_NONE || (locals && child->local) ||
	       s3c_overlay_of(child) != S3C_OVERLAY_NONE;
}

/* Children whose state differs from the listing, sorted by name. The caller frees. */
static int changed_children(const struct s3c_node *node, bool locals,
			    struct s3c_node ***ret_children, size_t *ret_count)
{
	struct s3c_node *child;
	struct s3c_node **list;
	size_t count = 0, i = 0;

	LIST_FOREACH (child, &node->children, sibling)
		count += differs(child, locals);
	list = calloc(count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	LIST_FOREACH (child, &node->children, sibling)
		if (differs(child, locals))
			list[i++] = child;
	qsort(list, count, sizeof(*list), compare_nodes);
	*ret_children = list;
	*ret_count = count;
	return 0;
}

/* Adds what is known of a changed child. */
static int draft_child(struct s3c_draft *draft, struct s3c_node *child, bool locals)
{
	enum s3c_overlay overlay = s3c_overlay_of(child);
	struct s3c_detail detail = {
		.is_dir = overlay == S3C_OVERLAY_DIR || child->change == S3C_CHANGE_DIR,
	};
	const char *name = s3c_node_name(child);
	mode_t type = detail.is_dir ? S_IFDIR : 0;

	if (overlay == S3C_OVERLAY_DIR)
		return s3c_draft_add(draft, name, strlen(name), type, &detail);
	if (overlay == S3C_OVERLAY_ABSENT)
		return 0;
	if (locals && child->local) {
		detail.is_dir = false;
		type = child->local_type;
	} else if (child->change == S3C_CHANGE_ABSENT || child->change == S3C_CHANGE_NONE) {
		return 0;
	} else if (!detail.is_dir && child->known && child->entry && !child->entry->is_dir) {
		type = child->entry->header.attrs.mode & S_IFMT;
		detail.known_size = true;
		detail.size = child->entry->stored_size;
		detail.etag_hash = s3c_hash_etag(child->entry->version.etag);
	}
	return s3c_draft_add(draft, name, strlen(name), type, &detail);
}

/* The listing with what was done since, and with local names if asked for. */
static int merge(const struct s3c_node *node, bool locals, struct s3c_snapshot **ret_snap)
{
	const struct s3c_snapshot *snap = node->dir->snap;
	cleanup_free struct s3c_node **changed = NULL;
	struct s3c_draft draft;
	size_t count, i = 0, c = 0;
	int r = changed_children(node, locals, &changed, &count);

	if (r < 0)
		return r;
	s3c_draft_init(&draft);
	draft.has_marker = snap->has_marker;
	while (r == 0 && (i < snap->base.count || c < count)) {
		const struct s3c_listing_item *item =
			i < snap->base.count ? &snap->base.items[i] : NULL;
		int order = !item        ? 1
			    : c == count ? -1
					 : strcmp(item->name, s3c_node_name(changed[c]));

		if (order < 0) {
			r = s3c_draft_add(&draft, item->name, strlen(item->name), item->type,
					  &snap->details[i]);
		} else {
			r = draft_child(&draft, changed[c++], locals);
		}
		i += order <= 0;
	}
	if (r == 0)
		r = s3c_draft_finish(&draft, ret_snap);
	s3c_draft_free(&draft);
	return r;
}

/* The view of a directory whose listing is valid. */
static int dir_view(const struct s3c_node *node, struct s3c_snapshot **ret_view)
{
	struct s3c_dir_list *dir = node->dir;
	const struct s3c_node *child;
	bool same = true;
	int r;

	if (!dir->view) {
		LIST_FOREACH (child, &node->children, sibling)
			same &= !differs(child, true);
		if (same) {
			dir->view = s3c_snapshot_ref(dir->snap);
		} else {
			r = merge(node, true, &dir->view);
			if (r < 0)
				return r;
		}
	}
	*ret_view = s3c_snapshot_ref(dir->view);
	return 0;
}

int s3c_engine_list(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		    struct s3c_listing **ret_listing)
{
	struct s3c_names *names = engine->names;
	struct s3c_snapshot *view = NULL;
	struct s3c_node *node;
	int64_t called = s3c_clock_monotonic_ns();
	int r = 0;

	s3c_mutex_lock(&engine->lock);
	node = s3c_node_make(names, path);
	if (!node) {
		s3c_mutex_unlock(&engine->lock);
		return -ENOMEM;
	}
	node->pins++;
	/* With ttl 0 a listing counts that began after the call. */
	while (!dir_valid(node->dir) &&
	       !(node->dir && node->dir->snap && node->dir->started_ns >= called)) {
		uint64_t loads;

		if (op == S3C_NOWAIT) {
			r = -EINPROGRESS;
			break;
		}
		r = s3c_dir_load(names, node, 0);
		if (r < 0)
			break;
		loads = node->dir->loads;
		while (r == 0 && node->dir && node->dir->loads == loads)
			r = s3c_waitq_wait(&names->loads, &engine->lock, op);
		if (r == 0 && node->dir && node->dir->load_result < 0 &&
		    node->dir->load_result != -EAGAIN && node->dir->load_result != -EFBIG)
			r = node->dir->load_result;
		if (r < 0)
			break;
	}
	if (r == 0)
		r = dir_view(node, &view);
	node->pins--;
	s3c_node_prune(names, node);
	s3c_mutex_unlock(&engine->lock);
	if (r == 0)
		*ret_listing = &view->base;
	return r;
}

bool s3c_dir_has_others(struct s3c_engine *engine, const char *path, const char *name)
{
	struct s3c_names *names = engine->names;
	const struct s3c_snapshot *snap;
	struct s3c_node *node;
	bool others = false;

	s3c_mutex_lock(&engine->lock);
	node = s3c_node_find(names, path);
	snap = node && dir_valid(node->dir) ? node->dir->snap : NULL;
	/* From the end, where rm -r comes last; few, for a marker too many does no harm. */
	for (size_t n = 0; snap && n < snap->base.count && n < 64 && !others; n++) {
		const char *other = snap->base.items[snap->base.count - 1 - n].name;
		cleanup_free char *full = s3c_asprintf("%s%s%s", path, *path ? "/" : "", other);

		others = full && strcmp(other, name) != 0 &&
			 s3c_listed_find(names, full, NULL) >= S3C_LISTED_FILE;
	}
	s3c_mutex_unlock(&engine->lock);
	return others;
}

int s3c_dir_emptiness(struct s3c_engine *engine, const char *path)
{
	struct s3c_node *node;
	const struct s3c_node *child;
	struct s3c_snapshot *snap = NULL;
	int nonempty = -EAGAIN;

	s3c_mutex_lock(&engine->lock);
	node = s3c_node_find(engine->names, path);
	if (node) {
		LIST_FOREACH (child, &node->children, sibling)
			if (child->local || s3c_overlay_of(child) == S3C_OVERLAY_DIR)
				nonempty = 1;
		if (nonempty < 0 && dir_valid(node->dir) && merge(node, false, &snap) == 0)
			nonempty = snap->base.count > 0;
	}
	s3c_mutex_unlock(&engine->lock);
	s3c_snapshot_put(snap);
	return nonempty;
}

int s3c_dir_known_nonempty(struct s3c_engine *engine, const char *path)
{
	return s3c_dir_emptiness(engine, path) == 1;
}
