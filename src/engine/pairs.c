/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Pairs of names that are not stored under both yet: the table of them, their records, their
 * thread.
 *
 *	LINK	= version(1) id(16) first second		texts length-prefixed
 *
 * The record is there from before the link is acknowledged until both names are in the store, or
 * one of them is gone. A daemon that finds it makes a pair of it again, with what is in the store by
 * then: each step of what was under way (links_store.c, a rename) is found done or not done.
 */
#include "engine/links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/content.h"
#include "engine/pending.h"
#include "engine/record.h"

#define RECORD_VERSION 1
#define RETRY_MAX_S 60
#define MOVED_WAIT_S 1.0

int s3c_links_new(struct s3c_engine *engine, struct s3c_links **ret_links)
{
	struct s3c_links *links = calloc(1, sizeof(*links));

	(void)engine;
	if (!links)
		return -ENOMEM;
	TAILQ_INIT(&links->pairs);
	TAILQ_INIT(&links->exchanges);
	TAILQ_INIT(&links->late);
	TAILQ_INIT(&links->counting);
	s3c_waitq_init(&links->changed);
	s3c_waitq_init(&links->counted);
	s3c_waitq_init(&links->work);
	*ret_links = links;
	return 0;
}

void s3c_pair_free(struct s3c_pair *pair)
{
	if (!pair)
		return;
	free(pair->first);
	free(pair->second);
	free(pair);
}

void s3c_links_free(struct s3c_links *links)
{
	struct s3c_pair *pair;

	if (!links)
		return;
	HASH_CLEAR(by_first, links->by_first);
	HASH_CLEAR(by_second, links->by_second);
	HASH_CLEAR(by_id, links->by_id);
	while ((pair = TAILQ_FIRST(&links->pairs))) {
		TAILQ_REMOVE(&links->pairs, pair, all);
		s3c_pair_free(pair);
	}
	s3c_exchanges_free(links);
	s3c_late_renames_free(links);
	free(links);
}

/* Lock held. */
static struct s3c_pair *find_first(struct s3c_links *links, const char *path)
{
	struct s3c_pair *pair;

	HASH_FIND(by_first, links->by_first, path, strlen(path), pair);
	return pair;
}

static struct s3c_pair *find_second(struct s3c_links *links, const char *path)
{
	struct s3c_pair *pair;

	HASH_FIND(by_second, links->by_second, path, strlen(path), pair);
	return pair;
}

static struct s3c_pair *find_id(struct s3c_links *links, const uint8_t *id)
{
	struct s3c_pair *pair;

	HASH_FIND(by_id, links->by_id, id, S3C_FILE_ID_LEN, pair);
	return pair;
}

/* By the second name, or the path of the body. Lock held. */
static struct s3c_pair *find_led(struct s3c_links *links, const char *path)
{
	uint8_t id[S3C_FILE_ID_LEN];

	if (TAILQ_EMPTY(&links->pairs))
		return NULL;
	return s3c_body_id(path, id) ? find_id(links, id) : find_second(links, path);
}

static struct s3c_pair *find_any(struct s3c_links *links, const char *path)
{
	struct s3c_pair *pair = find_led(links, path);

	return pair || TAILQ_EMPTY(&links->pairs) ? pair : find_first(links, path);
}

/* Lock held. */
static bool map_locked(struct s3c_engine *engine, const char *path,
		       char ret_path[static S3C_PATH_MAX])
{
	const struct s3c_pair *pair = find_led(engine->links, path);

	if (pair)
		strcpy(ret_path, pair->first);
	return pair || s3c_exchange_map_locked(engine->links, path, ret_path);
}

bool s3c_links_map(struct s3c_engine *engine, const char *path, char ret_path[static S3C_PATH_MAX])
{
	bool mapped;

	s3c_mutex_lock(&engine->lock);
	mapped = map_locked(engine, path, ret_path);
	s3c_mutex_unlock(&engine->lock);
	return mapped;
}

bool s3c_links_moved(struct s3c_engine *engine, struct s3c_op *op, const char *path, const char *at)
{
	int64_t until_ns = s3c_clock_monotonic_ns() + (int64_t)(MOVED_WAIT_S * S3C_NSEC_PER_SEC);
	const struct s3c_pair *pair;
	char now[S3C_PATH_MAX];
	bool moved;

	s3c_mutex_lock(&engine->lock);
	/* Between the end of a rename and that of the pair there is a moment. */
	while ((pair = find_led(engine->links, path)) && pair->joining && op != S3C_NOWAIT)
		if (s3c_waitq_wait_until(&engine->links->changed, &engine->lock, op, until_ns) < 0)
			break;
	/* It leads elsewhere now, or nowhere: to itself. */
	moved = strcmp(map_locked(engine, path, now) ? now : path, at) != 0;
	s3c_mutex_unlock(&engine->lock);
	return moved;
}

int s3c_links_resolve(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      struct s3c_object *object, char ret_path[static S3C_PATH_MAX])
{
	cleanup_entry struct s3c_entry *entry = NULL;
	int r;

	if (strlen(path) >= S3C_PATH_MAX)
		return -ENAMETOOLONG;
	s3c_mutex_lock(&engine->lock);
	if (object && !object->detached)
		strcpy(ret_path, object->path);
	else if (!map_locked(engine, path, ret_path))
		strcpy(ret_path, path);
	s3c_mutex_unlock(&engine->lock);
	if (object || s3c_path_is_body(ret_path))
		return 0;
	object = s3c_object_find(engine, ret_path);
	if (object) {
		s3c_object_close(object);
		return 0;
	}
	r = s3c_names_lookup(engine, op, ret_path, false, &entry);
	if (r == -EINPROGRESS || r == -EINTR)
		return r;
	if (r == 0 && s3c_layout_is_reference(entry->header.layout))
		s3c_body_path(entry->header.file_id, ret_path);
	return 0;
}

void s3c_links_mark_locked(struct s3c_engine *engine, const char *path, struct s3c_info *info)
{
	const struct s3c_pair *pair =
		TAILQ_EMPTY(&engine->links->pairs) ? NULL : find_first(engine->links, path);

	if (!pair || S_ISDIR(info->mode))
		return;
	info->linked = true;
	info->nlink = 2;
	info->ctime_ns = S3C_MAX(info->ctime_ns, pair->made_ns);
	memcpy(info->body, pair->id, sizeof(info->body));
}

void s3c_links_mark(struct s3c_engine *engine, const char *path, struct s3c_info *info)
{
	s3c_mutex_lock(&engine->lock);
	s3c_links_mark_locked(engine, path, info);
	s3c_mutex_unlock(&engine->lock);
}

bool s3c_links_taken(struct s3c_engine *engine, const char *path)
{
	bool taken;

	s3c_mutex_lock(&engine->lock);
	taken = find_second(engine->links, path);
	s3c_mutex_unlock(&engine->lock);
	return taken;
}

bool s3c_links_same_pair(struct s3c_engine *engine, const char *a, const char *b)
{
	const struct s3c_pair *pair;

	s3c_mutex_lock(&engine->lock);
	pair = find_any(engine->links, a);
	pair = pair && pair == find_any(engine->links, b) ? pair : NULL;
	s3c_mutex_unlock(&engine->lock);
	return pair;
}

bool s3c_engine_body_known(struct s3c_engine *engine, const char *path, uint8_t ret_body[static 16])
{
	const struct s3c_pair *pair;
	const struct s3c_node *node;
	const uint8_t *id = NULL;
	uint8_t mapped[S3C_FILE_ID_LEN];
	char body[S3C_PATH_MAX];

	s3c_mutex_lock(&engine->lock);
	pair = find_any(engine->links, path);
	node = s3c_node_find(engine->names, path);
	if (pair)
		id = pair->id;
	else if (s3c_exchange_map_locked(engine->links, path, body) && s3c_body_id(body, mapped))
		id = mapped;
	else if (node && node->known && node->entry &&
		 s3c_layout_is_reference(node->entry->header.layout))
		id = node->entry->header.file_id;
	if (id)
		memcpy(ret_body, id, S3C_FILE_ID_LEN);
	s3c_mutex_unlock(&engine->lock);
	return id;
}

/* Takes over. Lock held. false: no memory, or there is one of these names. */
bool s3c_pair_enter(struct s3c_engine *engine, struct s3c_pair *pair)
{
	struct s3c_links *links = engine->links;

	if (find_any(links, pair->first) || find_any(links, pair->second))
		return false;
	HASH_ADD_KEYPTR(by_first, links->by_first, pair->first, strlen(pair->first), pair);
	if (pair->by_first.tbl)
		HASH_ADD_KEYPTR(by_second, links->by_second, pair->second, strlen(pair->second),
				pair);
	if (pair->by_second.tbl)
		HASH_ADD(by_id, links->by_id, id, sizeof(pair->id), pair);
	if (!pair->by_id.tbl) {
		if (pair->by_second.tbl)
			HASH_DELETE(by_second, links->by_second, pair);
		if (pair->by_first.tbl)
			HASH_DELETE(by_first, links->by_first, pair);
		return false;
	}
	TAILQ_INSERT_TAIL(&links->pairs, pair, all);
	s3c_waitq_wake_all(&links->work);
	return true;
}

/* Lock held. */
void s3c_pair_leave(struct s3c_links *links, struct s3c_pair *pair)
{
	HASH_DELETE(by_first, links->by_first, pair);
	HASH_DELETE(by_second, links->by_second, pair);
	if (pair->by_id.tbl)
		HASH_DELETE(by_id, links->by_id, pair);
	TAILQ_REMOVE(&links->pairs, pair, all);
	s3c_waitq_wake_all(&links->changed);
}

static int record_text(const struct s3c_pair *pair, struct s3c_buf *text)
{
	int r = s3c_record_put_u8(text, RECORD_VERSION);

	r = r < 0 ? r : s3c_buf_append(text, pair->id, sizeof(pair->id));
	r = r < 0 ? r : s3c_record_put_text(text, pair->first);
	return r < 0 ? r : s3c_record_put_text(text, pair->second);
}

/* On the disk when names are acknowledged by it, else when it has to do without the store. */
enum s3c_tx_mode s3c_pair_tx_mode(const struct s3c_engine *engine)
{
	return s3c_writeback(engine) ? S3C_TX_LAZY : S3C_TX_SYNC;
}

static int put_record(struct s3c_engine *engine, const struct s3c_pair *pair, enum s3c_tx_mode mode)
{
	cleanup_buf struct s3c_buf text = { 0 };
	int r = record_text(pair, &text);

	return r < 0 ? r : s3c_durable_put(engine, S3C_RECORD_LINK, pair->record, &text, mode);
}

int s3c_pair_record(struct s3c_engine *engine, struct s3c_pair *pair)
{
	pair->record = s3c_durable_id(engine);
	return put_record(engine, pair, s3c_pair_tx_mode(engine));
}

int s3c_pair_unrecord(struct s3c_engine *engine, const struct s3c_pair *pair, enum s3c_tx_mode mode)
{
	return s3c_durable_drop(engine, S3C_RECORD_LINK, pair->record, mode);
}

struct s3c_pair *s3c_pair_new(const char *first, const char *second)
{
	struct s3c_pair *pair = calloc(1, sizeof(*pair));

	if (!pair)
		return NULL;
	pair->first = strdup(first);
	pair->second = strdup(second);
	if (!pair->first || !pair->second) {
		s3c_pair_free(pair);
		return NULL;
	}
	return pair;
}

/* Lock not held. */
static void set_id(struct s3c_engine *engine, struct s3c_pair *pair,
		   const uint8_t id[static S3C_FILE_ID_LEN])
{
	struct s3c_links *links = engine->links;
	bool entered = pair->by_id.tbl;

	s3c_mutex_lock(&engine->lock);
	if (entered)
		HASH_DELETE(by_id, links->by_id, pair);
	memcpy(pair->id, id, sizeof(pair->id));
	if (entered)
		HASH_ADD(by_id, links->by_id, id, sizeof(pair->id), pair);
	s3c_mutex_unlock(&engine->lock);
}

/*
 * The first name is no reference yet. Where the second one is, of an attempt that was broken off,
 * the file goes on to the body of that. Else to a new one, which nothing that is still under way of
 * such an attempt can meet; the record has its id before anything else does.
 */
static int choose_body(struct s3c_engine *engine, struct s3c_pair *pair)
{
	cleanup_entry struct s3c_entry *there = NULL;
	uint8_t id[S3C_FILE_ID_LEN];
	int r = s3c_names_lookup(engine, NULL, pair->second, true, &there);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && s3c_refers_to(there, pair->id))
		return 0;
	s3c_random(id, sizeof(id));
	set_id(engine, pair, id);
	return put_record(engine, pair, S3C_TX_SYNC);
}

/* Of an earlier daemon: is the first name still there? Then what is missing can be made. 1: it is
   not. */
static int look_at(struct s3c_engine *engine, struct s3c_pair *pair, mode_t *ret_type)
{
	struct s3c_object *object = s3c_object_find(engine, pair->first);
	cleanup_entry struct s3c_entry *entry = NULL;
	int r = 0;

	if (object) {
		s3c_object_close(object);
	} else {
		r = s3c_names_lookup(engine, NULL, pair->first, true, &entry);
		if (r == -ENOENT || (r == 0 && entry->is_dir))
			return 1;
		if (r < 0)
			return r;
		*ret_type = entry->header.attrs.mode & S_IFMT;
	}
	if (!entry || !s3c_layout_is_reference(entry->header.layout))
		return choose_body(engine, pair);
	set_id(engine, pair, entry->header.file_id);
	return 0;
}

/* Stores one whose names are held. It is gone when this returns 0. */
int s3c_pair_store(struct s3c_engine *engine, struct s3c_op *op, struct s3c_pair *pair)
{
	enum s3c_linking how = pair->tried ? S3C_LINKING_AGAIN : S3C_LINKING_FIRST;
	mode_t type;
	bool drop;
	int r = pair->unseen ? look_at(engine, pair, &type) : 0;

	if (r < 0)
		return r;
	pair->unseen = false;
	pair->tried = true;
	if (r == 1)
		r = -ENOENT;
	if (r == 0 && s3c_writeback(engine)) {
		r = s3c_pending_flush(engine, op, pair->first);
		if (r == 0)
			r = s3c_pending_flush(engine, op, pair->second);
	}
	if (r == 0)
		r = s3c_links_store(engine, op, pair->first, pair->second, pair->id, how);
	drop = r == -EEXIST || r == -ENOENT;
	if (drop)
		s3c_error("%s: is no other name of %s any more: another machine has %s",
			  pair->second, pair->first,
			  r == -EEXIST ? "made a file there" : "removed that");
	if (r < 0 && !drop)
		return r;
	s3c_mutex_lock(&engine->lock);
	/* From here on the store tells of it; what exists here only is never asked for. */
	s3c_names_drop_local_locked(engine->names, pair->second);
	if (drop)
		s3c_names_invalidate_locked(engine->names, pair->second, false);
	s3c_pair_leave(engine->links, pair);
	s3c_mutex_unlock(&engine->lock);
	/* Found later it would make a name anew that was removed since. */
	s3c_pair_unrecord(engine, pair, s3c_pair_tx_mode(engine));
	s3c_pair_free(pair);
	return 0;
}

static void pair_failed(struct s3c_engine *engine, struct s3c_pair *pair)
{
	unsigned wait_s = 1u << S3C_MIN(pair->failures, 6u);

	s3c_mutex_lock(&engine->lock);
	pair->failures++;
	pair->due_ns = s3c_clock_monotonic_ns() +
		       S3C_MIN(wait_s, (unsigned)RETRY_MAX_S) * S3C_NSEC_PER_SEC;
	s3c_mutex_unlock(&engine->lock);
}

/* path: of any kind. *ret_pair NULL, without holds: there is none (any more). */
int s3c_pair_hold(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		  struct s3c_pair_hold *held, struct s3c_pair **ret_pair)
{
	const struct s3c_pair *pair;
	struct s3c_pair *now;
	int r;

	*ret_pair = NULL;
	s3c_mutex_lock(&engine->lock);
	pair = find_any(engine->links, path);
	if (pair) {
		strcpy(held->first, pair->first);
		strcpy(held->second, pair->second);
	}
	s3c_mutex_unlock(&engine->lock);
	if (!pair)
		return 0;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	held->holds[0] = (struct s3c_hold){ .path = held->first, .removes = true };
	held->holds[1] = (struct s3c_hold){ .path = held->second };
	r = s3c_hold_begin(engine, op, held->holds, 2);
	if (r < 0)
		return r;
	s3c_mutex_lock(&engine->lock);
	now = find_first(engine->links, held->first);
	if (now && strcmp(now->second, held->second) != 0)
		now = NULL;
	s3c_mutex_unlock(&engine->lock);
	if (now)
		*ret_pair = now;
	else
		s3c_hold_end(engine, held->holds, 2);
	return 0;
}

int s3c_pair_store_at(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_pair_hold *held = malloc(sizeof(*held));
	struct s3c_pair *pair;
	int r = held ? s3c_pair_hold(engine, op, path, held, &pair) : -ENOMEM;

	if (r == 0 && pair) {
		r = s3c_pair_store(engine, op, pair);
		if (r < 0)
			pair_failed(engine, pair);
		s3c_hold_end(engine, held->holds, 2);
	}
	free(held);
	return r;
}

void s3c_links_each(struct s3c_engine *engine,
		    void (*fn)(void *arg, const struct s3c_unsent *unsent), void *arg)
{
	const struct s3c_pair *pair;

	TAILQ_FOREACH (pair, &engine->links->pairs, all) {
		struct s3c_unsent unsent = {
			.path = pair->second,
			.what = S3C_UNSENT_FILE,
			.failures = pair->failures,
			.state = pair->failures ? S3C_UNSENT_FAILED : S3C_UNSENT_WAITING,
		};

		fn(arg, &unsent);
	}
	s3c_exchanges_each(engine, fn, arg);
}

static bool pair_below(const struct s3c_pair *pair, const char *path)
{
	return s3c_path_below(pair->first, path) || s3c_path_below(pair->second, path);
}

/* Copies the first name of one at or below path. */
static bool find_below(struct s3c_engine *engine, const char *path,
		       char ret_first[static S3C_PATH_MAX])
{
	const struct s3c_pair *pair;

	s3c_mutex_lock(&engine->lock);
	TAILQ_FOREACH (pair, &engine->links->pairs, all)
		if (pair_below(pair, path))
			break;
	if (pair)
		strcpy(ret_first, pair->first);
	s3c_mutex_unlock(&engine->lock);
	return pair;
}

bool s3c_links_any(struct s3c_engine *engine, const char *path)
{
	char first[S3C_PATH_MAX];

	return find_below(engine, path, first) || s3c_exchanges_any(engine, path);
}

int s3c_links_settle(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	char first[S3C_PATH_MAX];
	int r = 0;

	while (r == 0 && find_below(engine, path, first))
		r = op == S3C_NOWAIT ? -EINPROGRESS : s3c_pair_store_at(engine, op, first);
	return r < 0 ? r : s3c_exchanges_settle(engine, op, path);
}

/* The thread */

/* The first that is due, or until when to wait. Lock held. */
static const struct s3c_pair *find_due(const struct s3c_links *links, int64_t *ret_due_ns)
{
	const struct s3c_pair *pair, *next = NULL;

	TAILQ_FOREACH (pair, &links->pairs, all)
		if (!next || pair->due_ns < next->due_ns)
			next = pair;
	*ret_due_ns = next ? next->due_ns : INT64_MAX;
	return next && next->due_ns <= s3c_clock_monotonic_ns() ? next : NULL;
}

static void *links_run(void *arg)
{
	struct s3c_engine *engine = arg;
	struct s3c_links *links = engine->links;
	char first[S3C_PATH_MAX] = "";

	s3c_mutex_lock(&engine->lock);
	while (!links->stop) {
		int64_t pair_due_ns, due_ns = s3c_exchanges_due(links, first);
		const struct s3c_pair *pair = find_due(links, &pair_due_ns);
		struct s3c_op op;

		due_ns = S3C_MIN(due_ns, pair_due_ns);
		if (!pair && due_ns > s3c_clock_monotonic_ns()) {
			s3c_waitq_wait_until(&links->work, &engine->lock, NULL, due_ns);
			continue;
		}
		if (pair)
			strcpy(first, pair->first);
		s3c_mutex_unlock(&engine->lock);
		s3c_op_init(&op, s3c_engine_deadline(engine));
		if (pair)
			s3c_pair_store_at(engine, &op, first);
		else
			s3c_exchanges_settle(engine, &op, first);
		s3c_op_destroy(&op);
		s3c_mutex_lock(&engine->lock);
	}
	s3c_mutex_unlock(&engine->lock);
	return NULL;
}

int s3c_links_start(struct s3c_engine *engine)
{
	struct s3c_links *links = engine->links;
	int r = 0;

	s3c_mutex_lock(&engine->lock);
	if (!links->runs && !links->stop) {
		r = s3c_thread_start(&links->thread, "s3c-links", links_run, engine);
		links->runs = r == 0;
	}
	s3c_mutex_unlock(&engine->lock);
	return r;
}

void s3c_links_stop(struct s3c_engine *engine)
{
	struct s3c_links *links = engine->links;
	const struct s3c_pair *pair;

	if (!links)
		return;
	s3c_mutex_lock(&engine->lock);
	links->stop = true;
	s3c_waitq_wake_all(&links->work);
	s3c_mutex_unlock(&engine->lock);
	if (links->runs)
		pthread_join(links->thread, NULL);
	links->runs = false;
	/* One that fails is the last: the store is not there. */
	s3c_links_settle(engine, NULL, "");
	s3c_mutex_lock(&engine->lock);
	TAILQ_FOREACH (pair, &links->pairs, all)
		s3c_warn("%s: another name of %s, kept in the journal for the next mount",
			 pair->second, pair->first);
	s3c_mutex_unlock(&engine->lock);
	s3c_exchanges_warn(engine);
}

/* Taking up */

struct loaded {
	struct s3c_engine *engine;
	struct s3c_pair_list pairs;
};

static struct s3c_pair *record_read(const uint8_t *data, size_t len)
{
	struct s3c_record_reader reader = { .at = data, .left = len };
	char first[S3C_PATH_MAX], second[S3C_PATH_MAX];
	uint8_t id[S3C_FILE_ID_LEN];
	struct s3c_pair *pair;

	if (s3c_record_get_u8(&reader) != RECORD_VERSION)
		return NULL;
	s3c_record_take(&reader, id, sizeof(id));
	s3c_record_get_text(&reader, first, sizeof(first));
	s3c_record_get_text(&reader, second, sizeof(second));
	if (reader.failed || reader.left || !*first || !*second || s3c_path_check(first) < 0 ||
	    s3c_path_check(second) < 0 || s3c_path_is_body(first) || s3c_path_is_body(second))
		return NULL;
	pair = s3c_pair_new(first, second);
	if (pair)
		memcpy(pair->id, id, sizeof(id));
	return pair;
}

static int on_record(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
		     size_t len)
{
	struct loaded *loaded = arg;
	struct s3c_pair *pair = result < 0 ? NULL : record_read(data, len);

	(void)sub;
	if (!pair) {
		s3c_error("journal: the record of a second name cannot be read and stays where it "
			  "is");
		return 0;
	}
	pair->record = id;
	pair->tried = true;
	TAILQ_INSERT_TAIL(&loaded->pairs, pair, all);
	return 0;
}

static void on_loaded(struct s3c_engine *engine, struct s3c_pair *pair, mode_t type)
{
	s3c_mutex_lock(&engine->lock);
	if (s3c_pair_enter(engine, pair))
		s3c_names_add_local_locked(engine->names, pair->second, type);
	else
		s3c_pair_free(pair);
	s3c_mutex_unlock(&engine->lock);
}

/* Takes over. */
static void take_up(struct s3c_engine *engine, struct s3c_pair *pair, bool partly)
{
	mode_t type = S_IFREG;
	int r = look_at(engine, pair, &type);

	if (r && partly) {
		s3c_error("journal: %s, another name of %s, which could not be taken up, stays in "
			  "the "
			  "journal",
			  pair->second, pair->first);
		s3c_pair_free(pair);
		return;
	}
	if (r == 1) {
		s3c_pair_unrecord(engine, pair, S3C_TX_LAZY);
		s3c_pair_free(pair);
		return;
	}
	if (r < 0) {
		s3c_warn("journal: %s, another name of %s, is looked at later: %s", pair->second,
			 pair->first, strerror(-r));
		pair->unseen = true;
		pair->due_ns = s3c_clock_monotonic_ns() + S3C_NSEC_PER_SEC;
	}
	on_loaded(engine, pair, type);
}

int s3c_links_load(struct s3c_engine *engine, bool partly)
{
	struct loaded loaded = { .engine = engine };
	struct s3c_pair *pair;
	int r = s3c_exchanges_load(engine);
	bool any = r > 0;

	TAILQ_INIT(&loaded.pairs);
	r = r < 0 ? r
		  : s3c_record_each(engine->config.journal, S3C_RECORD_LINK, on_record, &loaded);
	while ((pair = TAILQ_FIRST(&loaded.pairs))) {
		TAILQ_REMOVE(&loaded.pairs, pair, all);
		if (r < 0)
			s3c_pair_free(pair);
		else
			take_up(engine, pair, partly);
		any = true;
	}
	return r < 0 || !any ? r : s3c_links_start(engine);
}
