/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Looking names up: what is known answers; else the store is asked, by a flight (flight.c) that all
 * who ask for the same name at the same time share. Lookups that follow the order of a listing
 * start flights for the names to come.
 */
#include "engine/flight.h"
#include "engine/links.h"

#include <errno.h>
#include <string.h>

#define COPY_PAUSE_NS (50 * S3C_NSEC_PER_MSEC)

/* Which requests to begin with. Lock held. */
static unsigned plan(struct s3c_names *names, struct s3c_node *node, bool opened)
{
	struct s3c_flight *f = node->flight;
	bool sealed = s3c_sealed_mode(names->engine) && names->engine->volume;
	unsigned whole = f->dir_key ? ASK_TAIL | ASK_LIST : ASK_TAIL;
	struct s3c_detail detail;

	if (!*node->path)
		return ASK_MARKER;
	if (node->known && node->entry)
		return !node->entry->is_dir ? ASK_HEAD : node->entry->implicit ? whole : ASK_MARKER;
	switch (s3c_listed_find(names, node->path, &detail)) {
	case S3C_LISTED_DIR:
		return ASK_MARKER;
	case S3C_LISTED_FILE:
		break;
	default:
		return whole;
	}
	if (!detail.known_size)
		return ASK_TAIL;
	if (!detail.size)
		return ASK_HEAD;
	if (detail.size > S3C_SEGMENT_STRIDE)
		return sealed ? ASK_TAIL : ASK_HEAD;
	return detail.size > S3C_TAIL_LEN || (f->prefetch && !opened) ? ASK_HEAD : ASK_TAIL;
}

/* A flight for the node, with what it asks first. Lock held. */
static int flight_begin(struct s3c_names *names, struct s3c_node *node, bool prefetch, bool opened,
			struct s3c_flight **ret_flight, unsigned *ret_asks)
{
	int r = s3c_flight_new(names, node, prefetch, ret_flight);

	if (r < 0)
		return r;
	*ret_asks = plan(names, node, opened);
	return 0;
}

struct batch {
	struct s3c_flight *flights[S3C_PREFETCH_AHEAD];
	unsigned asks[S3C_PREFETCH_AHEAD];
	unsigned count;
};

/* Lock held. */
static void prefetch_one(struct s3c_names *names, struct s3c_dir_list *dir, const char *name,
			 struct batch *batch)
{
	const char *parent = dir->node->path;
	cleanup_free char *path = s3c_asprintf("%s%s%s", parent, *parent ? "/" : "", name);
	struct s3c_node *node = path ? s3c_node_make(names, path) : NULL;

	if (!node)
		return;
	if (!s3c_node_valid(names, node) && !node->flight && !node->local &&
	    s3c_overlay_of(node) == S3C_OVERLAY_NONE &&
	    s3c_listed_find(names, path, NULL) >= S3C_LISTED_FILE &&
	    flight_begin(names, node, true, dir->opened, &batch->flights[batch->count],
			 &batch->asks[batch->count]) == 0)
		batch->count++;
	else
		s3c_node_prune(names, node);
}

/*
 * Notes a lookup in listing order, and fills batch with flights for the names to come. miss: the
 * name was not known. Lock held.
 */
static void follow(struct s3c_names *names, const char *path, bool miss, bool opened,
		   struct batch *batch)
{
	size_t i, from, to;
	struct s3c_dir_list *dir = s3c_listed_index(names, path, &i);

	if (!dir || i == SIZE_MAX)
		return;
	dir->opened |= opened;
	if (i == dir->last)
		return;
	if (dir->last != SIZE_MAX && i > dir->last && i - dir->last <= 4) {
		dir->hits++;
	} else {
		dir->hits = 0;
		dir->ahead = 0;
		dir->opened = opened;
	}
	dir->last = i;
	if ((!miss && !dir->ahead) || !dir->hits || dir->ahead > i + S3C_PREFETCH_AHEAD / 2)
		return;
	from = S3C_MAX(dir->ahead, i + 1);
	to = S3C_MIN(i + 1 + S3C_PREFETCH_AHEAD, dir->snap->base.count);
	dir->node->pins++;
	while (from < to && names->prefetching < S3C_PREFETCH_MAX)
		prefetch_one(names, dir, dir->snap->base.items[from++].name, batch);
	dir->node->pins--;
	dir->ahead = from;
}

static void batch_send(struct batch *batch)
{
	for (unsigned i = 0; i < batch->count; i++)
		s3c_flight_ask(batch->flights[i], batch->asks[i]);
}

/* What the name is that is ahead of the store: 0 with an entry, -ENOENT, -EINPROGRESS. Lock held.
 */
static int overlaid(const struct s3c_node *node, struct s3c_entry **ret_entry)
{
	switch (node ? s3c_overlay_of(node) : S3C_OVERLAY_NONE) {
	case S3C_OVERLAY_DIR:
		*ret_entry = s3c_entry_ref(node->pending[S3C_KEY_DIR]->entry);
		return 0;
	case S3C_OVERLAY_ABSENT:
		return -ENOENT;
	case S3C_OVERLAY_NONE:
		break;
	}
	return -EINPROGRESS;
}

/* From what is known: 0 with an entry, -ENOENT, or -EINPROGRESS. Lock held. */
static int known(struct s3c_names *names, struct s3c_node *node, const char *path,
		 struct s3c_entry **ret_entry)
{
	int r = overlaid(node, ret_entry);

	if (r != -EINPROGRESS)
		return r;
	if (node && s3c_node_valid(names, node)) {
		if (!node->entry)
			return node->refusal ? node->refusal->result : -ENOENT;
		*ret_entry = s3c_entry_ref(node->entry);
		return 0;
	}
	if (node && node->local)
		return -ENOENT;
	return s3c_listed_find(names, path, NULL) == S3C_LISTED_ABSENT ? -ENOENT : -EINPROGRESS;
}

/* Waits for the flight, which the caller has a reference to and is counted at. Lock held. */
static int flight_wait(struct s3c_flight *f, struct s3c_op *op)
{
	int r = 0;

	while (r == 0 && !f->done)
		r = s3c_waitq_wait(&f->waiters, &f->engine->lock, op);
	f->waiting--;
	return r;
}

/* Does the end of a flight that was under way count for one who joined it at since_ns? */
static bool answers(const struct s3c_flight *f, int64_t since_ns)
{
	if (f->started_ns < since_ns)
		return false;
	/* Nobody was told of the first; the time of the second began before ours. */
	return !(f->prefetch && f->result < 0 && !f->refusal.result) && f->result != -ETIMEDOUT;
}

/*
 * One round: 0 or an error with the answer; -EAGAIN: the name was changed meanwhile; -EBUSY: a
 * flight that does not count ended: it began before since_ns. Lock held.
 */
static int ask_store(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     int64_t since_ns, struct s3c_entry **ret_entry)
{
	struct s3c_names *names = engine->names;
	struct s3c_node *node = s3c_node_make(names, path);
	struct s3c_flight *f;
	unsigned asks = 0;
	bool before;
	int r = 0;

	if (!node)
		return -ENOMEM;
	f = node->flight;
	before = f;
	if (!f) {
		r = flight_begin(names, node, false, true, &f, &asks);
		if (r < 0) {
			s3c_node_prune(names, node);
			return r;
		}
	}
	f->refs++;
	f->waiting++;
	if (asks) {
		s3c_mutex_unlock(&engine->lock);
		s3c_flight_ask(f, asks);
		s3c_mutex_lock(&engine->lock);
	}
	r = flight_wait(f, op);
	if (r == 0 && f->stale)
		r = -EAGAIN;
	else if (r == 0 && before && !answers(f, since_ns))
		r = -EBUSY;
	else if (r == 0)
		r = f->result;
	if (r == 0)
		*ret_entry = s3c_entry_ref(f->entry);
	s3c_mutex_unlock(&engine->lock);
	s3c_flight_unref(f);
	s3c_mutex_lock(&engine->lock);
	return r;
}

static bool is_read(const struct s3c_node *node)
{
	return node && node->entry;
}

static bool is_refused(struct s3c_names *names, const char *path)
{
	const struct s3c_node *node = s3c_node_find(names, path);

	return node && node->refusal;
}

/*
 * What could be read before is refused. A store that keeps metadata beside the content (versitygw)
 * takes the old away before it sets the new when an object is copied onto itself, and shows what is
 * between: one look more tells. -EINPROGRESS, or the end of the wait. Lock held, released.
 */
static int pause_for_copy(struct s3c_names *names, struct s3c_op *op)
{
	struct s3c_waitq nobody;
	int r;

	s3c_waitq_init(&nobody);
	r = s3c_waitq_wait_until(&nobody, &names->engine->lock, op,
				 s3c_clock_monotonic_ns() + COPY_PAUSE_NS);
	return r == -EAGAIN ? -EINPROGRESS : r;
}

static int lookup(struct s3c_engine *engine, struct s3c_op *op, const char *path, bool refresh,
		  bool opened, struct s3c_entry **ret_entry)
{
	struct s3c_names *names = engine->names;
	struct batch batch = { .count = 0 };
	int64_t since_ns = refresh ? s3c_clock_monotonic_ns() : 0;
	bool was_read, doubted = false;
	int r = s3c_path_check(path);

	if (r < 0)
		return r == -EPERM ? -ENOENT : r;
	s3c_mutex_lock(&engine->lock);
	was_read = is_read(s3c_node_find(names, path));
	r = overlaid(s3c_node_find(names, path), ret_entry);
	if (!refresh && r == -EINPROGRESS)
		r = known(names, s3c_node_find(names, path), path, ret_entry);
	if (r == -EINPROGRESS && op != S3C_NOWAIT && engine->config.cache) {
		s3c_cached_recall(engine, path);
		if (!refresh)
			r = known(names, s3c_node_find(names, path), path, ret_entry);
	}
	if (r != -EINPROGRESS || op != S3C_NOWAIT)
		follow(names, path, r == -EINPROGRESS, opened, &batch);
	if (batch.count) {
		s3c_mutex_unlock(&engine->lock);
		batch_send(&batch);
		s3c_mutex_lock(&engine->lock);
		/* It may have been answered meanwhile. */
		if (r == -EINPROGRESS && !refresh)
			r = known(names, s3c_node_find(names, path), path, ret_entry);
	}
	for (unsigned tries = 0; r == -EINPROGRESS && op != S3C_NOWAIT; tries++) {
		r = ask_store(engine, op, path, since_ns, ret_entry);
		if (r == -EAGAIN || r == -EBUSY) {
			/* Changed by ourselves: what we know now is newer than any answer. */
			bool know = r == -EAGAIN;

			r = tries > 16 ? -EIO : -EINPROGRESS;
			if (know && r == -EINPROGRESS)
				r = known(names, s3c_node_find(names, path), path, ret_entry);
		} else if (r < 0 && was_read && !doubted && is_refused(names, path)) {
			doubted = true;
			r = pause_for_copy(names, op);
			since_ns = s3c_clock_monotonic_ns();
		} else {
			break;
		}
	}
	s3c_mutex_unlock(&engine->lock);
	return r;
}

int s3c_names_lookup(struct s3c_engine *engine, struct s3c_op *op, const char *path, bool refresh,
		     struct s3c_entry **ret_entry)
{
	return lookup(engine, op, path, refresh, true, ret_entry);
}

/*
 * An open object answers for its name while it has changes of its own, or while what it was opened
 * with is fresh; then the store is asked, and a newer version shows.
 */
static int file_info(struct s3c_engine *engine, struct s3c_op *op, const char *path, bool refresh,
		     struct s3c_info *ret_info, struct s3c_entry **ret_reference)
{
	struct s3c_object *object = s3c_object_find(engine, path);
	cleanup_entry struct s3c_entry *entry = NULL;
	struct s3c_info info;
	int r;

	if (object) {
		bool ours = s3c_object_dirty(object);

		s3c_object_info(object, &info);
		s3c_object_close(object);
		if (ours || (!refresh && info.valid_ns > s3c_clock_monotonic_ns())) {
			*ret_info = info;
			return 0;
		}
	}
	r = lookup(engine, op, path, refresh, false, &entry);
	if (r == 0 && s3c_layout_is_reference(entry->header.layout))
		*ret_reference = steal_ptr(entry);
	else if (r == 0)
		s3c_entry_info(engine, entry, ret_info);
	return r;
}

/* Of what a name refers to. */
static int body_info(struct s3c_engine *engine, struct s3c_op *op,
		     const struct s3c_entry *reference, bool refresh, struct s3c_info *ret_info)
{
	cleanup_entry struct s3c_entry *none = NULL;
	char body[S3C_BODY_PATH];
	struct s3c_info named;
	int r;

	s3c_body_path(reference->header.file_id, body);
	r = file_info(engine, op, body, refresh, ret_info, &none);
	if (r == -ENOENT || (r == 0 && none))
		return s3c_links_broken(engine, reference);
	if (r < 0)
		return r;
	s3c_entry_info(engine, reference, &named);
	ret_info->valid_ns = S3C_MIN(ret_info->valid_ns, named.valid_ns);
	/* This one at least, whatever was counted. */
	ret_info->nlink = S3C_MAX(ret_info->nlink, 1u);
	return 0;
}

static int lookup_info(struct s3c_engine *engine, struct s3c_op *op, const char *path, bool refresh,
		       struct s3c_info *ret_info)
{
	int r = -ENOENT;

	for (unsigned tries = 0; tries < S3C_RESOLVE_TRIES; tries++) {
		cleanup_entry struct s3c_entry *reference = NULL;
		char mapped[S3C_PATH_MAX];
		const char *at = s3c_links_map(engine, path, mapped) ? mapped : path;

		r = file_info(engine, op, at, refresh, ret_info, &reference);
		if (r == 0 && reference) {
			r = s3c_late_rename_finish(engine, op, reference);
			if (r < 0)
				return r;
			r = body_info(engine, op, reference, refresh, ret_info);
			/* The name may be that of another file by now. */
			if (r == -ENOLINK && !refresh && op != S3C_NOWAIT) {
				refresh = true;
				continue;
			}
			return r == -ENOLINK ? -EIO : r;
		}
		if (r == 0)
			s3c_links_mark(engine, at, ret_info);
		if (r != -ENOENT || !s3c_links_moved(engine, op, path, at))
			break;
	}
	return r;
}

int s3c_engine_lookup(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      struct s3c_info *ret_info)
{
	return lookup_info(engine, op, path, false, ret_info);
}

int s3c_engine_revalidate(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			  struct s3c_info *ret_info)
{
	return lookup_info(engine, op, path, true, ret_info);
}
