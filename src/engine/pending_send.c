/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Bringing pending names to the store. A thread watches the clock; who waits (flush) helps
 * itself. `parallel` requests at once, on the engine's tasks.
 *
 *	GONE	the store honours If-Match on DELETE, and all that may stand there is base: one
 *		conditional DELETE; else a look, and a DELETE of what was seen or made here. Another
 *		version stays, and the name shows it again
 *		Of many, as far as that loses no condition: in batches (pending_batch.c)
 *	MAKE	PUT of the marker, of a directory that was made here with If-None-Match: one that
 *		somebody else has made meanwhile is as good, and its attributes count
 *
 * What fails for now is repeated after 1, 2, 4 .. 60 s for ever; what is refused is parked.
 */
#include "engine/pending.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MAX_NS (60 * S3C_NSEC_PER_SEC)
#define BATCH_MIN 4u /* fewer go one by one: their DELETEs have conditions */
#define BATCH_AHEAD_NS (1 * S3C_NSEC_PER_SEC) /* what is due by then goes with a batch */

/* A request under way, with copies of what it is about. */
struct sending {
	struct s3c_job job;
	struct s3c_engine *engine;
	struct s3c_pending *p;
	uint64_t seq;
	bool make, exclusive;
	enum s3c_slot_key key;
	char *path;
	struct s3c_entry *base, *entry;
	struct s3c_sent sent[S3C_SENT_MAX];
	unsigned sent_count;
	/* The outcome. */
	bool kept;                /* another version stands there and stays */
	bool forgotten;           /* its record is gone */
	struct s3c_entry *stored; /* MAKE: the marker as it is now */
	char message[512];
};

static void sending_free(struct sending *s)
{
	s3c_entry_put(s->base);
	s3c_entry_put(s->entry);
	s3c_entry_put(s->stored);
	free(s->path);
	free(s);
}

void s3c_pending_enqueue(struct s3c_names *names, struct s3c_pending *p, int64_t due_ns)
{
	struct s3c_pending *at;

	if (p->queued)
		TAILQ_REMOVE(&names->queue, p, queue);
	p->queued = true;
	p->state = S3C_PENDING_WAITING;
	p->due_ns = due_ns;
	TAILQ_FOREACH_REVERSE(at, &names->queue, s3c_pending_queue, queue)
	if (at->due_ns <= p->due_ns)
		break;
	if (at)
		TAILQ_INSERT_AFTER(&names->queue, at, p, queue);
	else
		TAILQ_INSERT_HEAD(&names->queue, p, queue);
	if (TAILQ_FIRST(&names->queue) == p)
		s3c_waitq_wake_all(&names->send_work);
}

static bool is_blocked(const struct s3c_pending *p)
{
	if (p->commits)
		return true;
	if (p->make)
		return p->node->pending[S3C_KEY_FILE];
	return p->key == S3C_KEY_DIR && p->node->pending_below;
}

void s3c_pending_unblock(struct s3c_names *names, struct s3c_pending *p)
{
	if (p->state != S3C_PENDING_BLOCKED || is_blocked(p))
		return;
	s3c_pending_enqueue(names, p, p->due_ns);
	s3c_pending_dispatch(names);
}

void s3c_pending_ended(struct s3c_names *names, struct s3c_node *node)
{
	for (; node; node = node->parent)
		if (node->pending[S3C_KEY_DIR])
			s3c_pending_unblock(names, node->pending[S3C_KEY_DIR]);
}

/* What stands at the marker's key. 1: it is what this operation wrote, perhaps earlier. */
static int look_at_marker(struct sending *s, struct s3c_entry **ret_entry)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_entry struct s3c_entry *entry = NULL;
	cleanup_free char *key = NULL;
	int r = s3c_key_of(s->engine, s->path, true, &key);

	if (r == 0)
		r = s3c_key_head(s->engine, key, &reply);
	if (r < 0) {
		snprintf(s->message, sizeof(s->message), "%s", reply.message);
		return r;
	}
	r = s3c_entry_build(s->engine, s->path, true, &reply.stat, NULL, 0, NULL, 0, &entry);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	r = memcmp(entry->header.op_id, s->entry->header.op_id, S3C_OP_ID_LEN) == 0;
	*ret_entry = steal_ptr(entry);
	return r;
}

static int send_make(struct sending *s)
{
	cleanup_entry struct s3c_entry *found = NULL;
	int r = s3c_marker_send(s->engine, s->entry, s->base, s->exclusive, &s->stored, s->message,
				sizeof(s->message));

	if (r != -EEXIST)
		return r;
	r = look_at_marker(s, &found);
	if (r == 0)
		s->kept = true;
	if (r <= 0)
		return r == -ENOENT ? -EAGAIN : r;
	if (s3c_attrs_same(&found->header.attrs, &s->entry->header.attrs)) {
		s->stored = steal_ptr(found);
		return 0;
	}
	return s3c_marker_send(s->engine, s->entry, found, false, &s->stored, s->message,
			       sizeof(s->message));
}

/* Is what stands at the key a version that may go? */
static bool may_go(const struct sending *s, const char *key, const struct s3c_stat *st)
{
	cleanup_header struct s3c_header header = { 0 };

	if (s->base && s3c_etag_equal(st->version.etag, s->base->version.etag))
		return true;
	if (s3c_header_of(s->engine, key, st, &header) < 0)
		return false;
	/* The same content under other attributes is the file that was deleted. */
	if (s->base && header.layout != S3C_LAYOUT_PLAIN &&
	    header.layout == s->base->header.layout &&
	    memcmp(header.content_id, s->base->header.content_id, S3C_CONTENT_ID_LEN) == 0)
		return true;
	for (unsigned i = 0; i < s->sent_count; i++)
		if (memcmp(header.op_id, s->sent[i].op_id, S3C_OP_ID_LEN) == 0)
			return true;
	return false;
}

static int look_and_delete(struct sending *s, const char *key)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	int r = s3c_overdue_settle(s->engine, key, S3C_OVERDUE_DELETE);

	if (r == 0)
		r = s3c_key_head(s->engine, key, &reply);
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		snprintf(s->message, sizeof(s->message), "%s", reply.message);
		return r;
	}
	if (!may_go(s, key, &reply.stat)) {
		s->kept = true;
		return 0;
	}
	r = s3c_delete_quiet(s->engine, key, reply.stat.version.etag, s->message,
			     sizeof(s->message));
	/* Changed between the look and the delete: the next attempt looks again. */
	return r == -ESTALE ? -EAGAIN : r;
}

static int send_gone(struct sending *s)
{
	const char *etag = s->base ? s->base->version.etag : "";
	cleanup_free char *key = NULL;
	int r;

	if (!s->base && !s->sent_count)
		return 0;
	r = s3c_key_of(s->engine, s->path, s->key == S3C_KEY_DIR, &key);
	if (r < 0)
		return r;
	r = -ESTALE;
	if (*etag && !s->sent_count && s->engine->store->caps.delete_if_match)
		r = s3c_delete_quiet(s->engine, key, etag, s->message, sizeof(s->message));
	if (r == -ESTALE)
		r = look_and_delete(s, key);
	if (r == -EREMCHG) {
		s->kept = true;
		r = 0;
	}
	if (r == 0 && !s->kept && s->base)
		s3c_note_generation(s->engine, key, &s->base->header, true);
	return r;
}

static bool is_final(int result)
{
	switch (result) {
	case -EACCES:
	case -EPERM:
	case -EKEYREJECTED:
	case -ENAMETOOLONG:
	case -EROFS:
	case -EBADE:
	case -EINVAL:
	case -E2BIG:
	case -EOPNOTSUPP:
		return true;
	default:
		return false;
	}
}

int s3c_pending_error(int result)
{
	switch (result) {
	case -EPERM:
	case -EKEYREJECTED:
		return -EACCES;
	case -EACCES:
	case -ENAMETOOLONG:
	case -EROFS:
	case -EKEYREVOKED:
	case -EKEYEXPIRED:
	case -ENOKEY:
	case -ETIMEDOUT:
	case -ENOSPC:
	case -EDQUOT:
	case -ENOMEM:
	case -EINTR:
	case -EINPROGRESS:
		return result;
	default:
		return -EIO;
	}
}

static int64_t backoff(unsigned failures)
{
	return S3C_MIN(S3C_NSEC_PER_SEC << S3C_MIN(failures - 1, 6u), RETRY_MAX_NS);
}

/* Lock held. */
static void failed(struct s3c_names *names, struct sending *s, int r)
{
	struct s3c_pending *p = s->p;
	const char *what = s->make ? "write the directory" : "delete";

	p->failures++;
	p->result = r;
	names->pending_failures++;
	if (is_final(r)) {
		p->state = S3C_PENDING_PARKED;
		s3c_error("cannot %s %s: %s%s%s: it waits for s3cryptfsctl retry or discard", what,
			  s->path, strerror(-r), s->message[0] ? ": " : "", s->message);
		return;
	}
	/* One line for an outage, not one for each name. */
	s3c_log(names->send_failed ? S3C_LOG_DEBUG : S3C_LOG_WARN,
		"cannot %s %s: %s%s%s: it is tried again", what, s->path, strerror(-r),
		s->message[0] ? ": " : "", s->message);
	names->send_failed = true;
	s3c_pending_enqueue(names, p, s3c_clock_monotonic_ns() + backoff(p->failures));
}

/* It was changed while it was sent: what the store has by now is what the change stands on. */
static void rebase(struct s3c_names *names, struct sending *s, int r)
{
	struct s3c_pending *p = s->p;

	if (r == 0) {
		s3c_entry_put(p->base);
		p->base = s->stored ? s3c_entry_ref(s->stored) : NULL;
		p->tried = false;
		p->sent_count = 0;
	}
	p->failures = 0;
	s3c_pending_enqueue(names, p, s3c_clock_monotonic_ns());
}

/* Lock held. */
static void done(struct s3c_names *names, struct sending *s)
{
	struct s3c_pending *p = s->p;
	struct s3c_node *node = p->node;

	names->send_failed = false;
	if (!s->forgotten)
		s3c_pending_forget(names->engine, p);
	node->pins++;
	s3c_pending_lift(names, p);
	s3c_pending_free(p);
	if (s->kept && !s->make)
		s3c_warn(
			"%s was deleted here, and another machine has written a new version of it: "
			"that one stays",
			s->path);
	if (s->kept) {
		s3c_names_invalidate_locked(names, s->path, false);
	} else if (s->stored) {
		s3c_names_set_locked(names, s->stored);
	} else if (s3c_overlay_of(node) == S3C_OVERLAY_NONE) {
		s3c_node_know(names, node, NULL, s3c_clock_monotonic_ns());
		s3c_node_change(names, node, S3C_CHANGE_ABSENT);
	}
	node->pins--;
	s3c_node_prune(names, node);
}

/* Lock held. Frees it. */
static void sending_end(struct s3c_names *names, struct sending *s, int r)
{
	if (s->p->seq != s->seq)
		rebase(names, s, r);
	else if (r < 0)
		failed(names, s, r);
	else
		done(names, s);
	sending_free(s);
}

/*
 * Outside of writeback what is written under the name next is in the store at once, and no record
 * tells of it: a name is free only when the one of what was done is gone from the disk, or it would
 * be done again after a power cut. Those of items, or s alone. Lock held, released.
 */
static void forget_first(struct s3c_names *names, struct sending *s, const struct s3c_gone *items,
			 size_t count)
{
	struct s3c_engine *engine = names->engine;
	struct s3c_landing landing;
	struct s3c_tx *tx;
	int r = 0;

	if (s3c_writeback(engine) || s3c_tx_new(engine->config.journal, &tx) < 0)
		return;
	s3c_tx_vital(tx);
	for (size_t i = 0; i < (s ? 1 : count) && r == 0; i++) {
		struct sending *one = s ? s : items[i].owner;

		/* One that was changed meanwhile has its record anew. */
		if (one->p->seq != one->seq || (!s && items[i].state != S3C_GONE_DONE))
			continue;
		one->forgotten = true;
		r = s3c_pending_unput(one->p, tx);
	}
	s3c_landing_submit_as(&landing, tx, S3C_TX_SYNC);
	s3c_mutex_unlock(&engine->lock);
	s3c_landing_wait(&landing);
	s3c_mutex_lock(&engine->lock);
}

static void sending_run(struct s3c_job *job)
{
	struct sending *s = container_of(job, struct sending, job);
	struct s3c_engine *engine = s->engine;
	struct s3c_names *names = engine->names;
	int r = s->make ? send_make(s) : send_gone(s);

	s3c_mutex_lock(&engine->lock);
	if (r == 0)
		forget_first(names, s, NULL, 0);
	names->sending--;
	sending_end(names, s, r);
	s3c_waitq_wake_all(&names->pending_done);
	s3c_pending_dispatch(names);
	s3c_mutex_unlock(&engine->lock);
}

/* NULL: no memory, it is put off. Lock held. */
static struct sending *sending_new(struct s3c_names *names, struct s3c_pending *p)
{
	struct sending *s = calloc(1, sizeof(*s));

	if (s)
		s->path = strdup(p->node->path);
	if (!s || !s->path) {
		free(s);
		s3c_pending_enqueue(names, p, s3c_clock_monotonic_ns() + S3C_NSEC_PER_SEC);
		return NULL;
	}
	s->job.run = sending_run;
	s->engine = names->engine;
	s->p = p;
	s->seq = p->seq;
	s->make = p->make;
	s->key = p->key;
	s->exclusive = p->make && p->fresh && !p->base;
	s->base = p->base ? s3c_entry_ref(p->base) : NULL;
	s->entry = p->entry ? s3c_entry_ref(p->entry) : NULL;
	memcpy(s->sent, p->sent, sizeof(s->sent));
	s->sent_count = p->sent_count;
	p->state = S3C_PENDING_RUNNING;
	p->attempt = ++names->pending_attempts;
	p->tried |= p->make;
	return s;
}

/* Lock held. */
static void start(struct s3c_names *names, struct s3c_pending *p)
{
	struct sending *s = sending_new(names, p);

	if (!s)
		return;
	names->sending++;
	s3c_pool_submit(names->engine->tasks, &s->job);
}

/* Deletes that go together: one task. */
struct batch {
	struct s3c_job job;
	struct s3c_engine *engine;
	struct s3c_gone items[S3C_GONE_BATCH]; /* owner: its sending; key: to be freed */
	size_t count;
};

/* Those in that state, or all: their outcome. Lock held. */
static void batch_end(struct batch *batch, enum s3c_gone_state state, int r)
{
	for (size_t i = 0; i < batch->count; i++) {
		struct s3c_gone *item = &batch->items[i];

		if (!item->owner || (r == 0 && item->state != state))
			continue;
		sending_end(batch->engine->names, steal_ptr(item->owner), r);
	}
	s3c_waitq_wake_all(&batch->engine->names->pending_done);
}

/* One by one. */
static void batch_rest(struct batch *batch)
{
	struct s3c_engine *engine = batch->engine;

	for (size_t i = 0; i < batch->count; i++) {
		struct sending *s = steal_ptr(batch->items[i].owner);
		int r;

		if (!s)
			continue;
		r = send_gone(s);
		s3c_mutex_lock(&engine->lock);
		if (r == 0)
			forget_first(engine->names, s, NULL, 0);
		sending_end(engine->names, s, r);
		s3c_waitq_wake_all(&engine->names->pending_done);
		s3c_mutex_unlock(&engine->lock);
	}
}

static int batch_keys(struct batch *batch)
{
	int r = 0;

	for (size_t i = 0; i < batch->count && r == 0; i++) {
		const struct sending *s = batch->items[i].owner;
		char *key;

		r = s3c_key_of(batch->engine, s->path, s->key == S3C_KEY_DIR, &key);
		if (r == 0)
			batch->items[i].key = key;
	}
	return r;
}

static void batch_run(struct s3c_job *job)
{
	struct batch *batch = container_of(job, struct batch, job);
	struct s3c_engine *engine = batch->engine;
	const char *what = "batch";
	int r = batch_keys(batch);

	if (r == 0)
		r = s3c_gone_batch(engine, batch->items, batch->count, &what);
	for (size_t i = 0; i < batch->count; i++) {
		struct sending *s = batch->items[i].owner;

		if (r < 0)
			snprintf(s->message, sizeof(s->message), "in the %s for %zu names", what,
				 batch->count);
		else if (batch->items[i].state == S3C_GONE_DONE)
			s3c_note_generation(engine, batch->items[i].key, &s->base->header, true);
	}
	s3c_mutex_lock(&engine->lock);
	if (r == 0)
		forget_first(engine->names, NULL, batch->items, batch->count);
	batch_end(batch, S3C_GONE_DONE, r);
	s3c_mutex_unlock(&engine->lock);
	batch_rest(batch);
	s3c_mutex_lock(&engine->lock);
	engine->names->sending--;
	s3c_waitq_wake_all(&engine->names->pending_done);
	s3c_pending_dispatch(engine->names);
	s3c_mutex_unlock(&engine->lock);
	for (size_t i = 0; i < batch->count; i++)
		free((void *)batch->items[i].key);
	free(batch);
}

/* A batch has a look instead of a condition: for what has no condition alone either, and what no
   other machine has reason to write to. */
static bool batchable(const struct s3c_names *names, const struct s3c_pending *p)
{
	return !p->make && !p->sent_count && p->base && p->base->version.etag[0] &&
	       (p->moved || !names->engine->store->caps.delete_if_match);
}

static bool joins(const struct s3c_names *names, const struct s3c_pending *p, int64_t now)
{
	return batchable(names, p) && !is_blocked(p) &&
	       (p->moved || p->due_ns <= now + BATCH_AHEAD_NS) &&
	       !(p->key == S3C_KEY_FILE && s3c_object_waits_at(names->engine, p->node->path));
}

/* False: first has to go alone. Lock held. */
static bool start_batch(struct s3c_names *names, struct s3c_pending *first, int64_t now)
{
	struct s3c_pending *p, *next;
	struct batch *batch;
	size_t count = 0;

	if (!joins(names, first, now))
		return false;
	TAILQ_FOREACH (p, &names->queue, queue)
		if (joins(names, p, now) && ++count == S3C_GONE_BATCH)
			break;
	batch = count < BATCH_MIN ? NULL : calloc(1, sizeof(*batch));
	if (!batch)
		return false;
	batch->job.run = batch_run;
	batch->engine = names->engine;
	for (p = TAILQ_FIRST(&names->queue); p && batch->count < count; p = next) {
		struct sending *s;

		next = TAILQ_NEXT(p, queue);
		if (!joins(names, p, now))
			continue;
		TAILQ_REMOVE(&names->queue, p, queue);
		p->queued = false;
		s = sending_new(names, p);
		if (!s)
			break;
		batch->items[batch->count].base = s->base;
		batch->items[batch->count++].owner = s;
	}
	if (!batch->count) {
		free(batch);
		return true;
	}
	names->sending++;
	s3c_pool_submit(names->engine->tasks, &batch->job);
	return true;
}

/* A file was made anew before the record of its deletion went: it replaces what is there. */
static bool superseded(struct s3c_names *names, struct s3c_pending *p)
{
	struct s3c_node *node = p->node;

	if (p->make || p->key != S3C_KEY_FILE || p->commits ||
	    !s3c_object_waits_at(names->engine, node->path))
		return false;
	s3c_pending_forget(names->engine, p);
	node->pins++;
	s3c_pending_lift(names, p);
	s3c_pending_free(p);
	node->pins--;
	s3c_node_prune(names, node);
	return true;
}

void s3c_pending_dispatch(struct s3c_names *names)
{
	unsigned most = S3C_MAX(names->engine->config.parallel, 1u);
	int64_t now = s3c_clock_monotonic_ns();
	struct s3c_pending *p;

	while (names->sending < most && !names->send_stop && (p = TAILQ_FIRST(&names->queue)) &&
	       p->due_ns <= now) {
		if (superseded(names, p) || start_batch(names, p, now))
			continue;
		TAILQ_REMOVE(&names->queue, p, queue);
		p->queued = false;
		p->state = S3C_PENDING_BLOCKED;
		if (!is_blocked(p))
			start(names, p);
	}
}

static void *sender(void *arg)
{
	struct s3c_names *names = arg;
	struct s3c_mutex *lock = &names->engine->lock;

	s3c_mutex_lock(lock);
	while (!names->send_stop) {
		unsigned most = S3C_MAX(names->engine->config.parallel, 1u);
		struct s3c_pending *p;
		struct s3c_op op;

		s3c_pending_dispatch(names);
		p = names->sending < most ? TAILQ_FIRST(&names->queue) : NULL;
		s3c_op_init(&op, p ? p->due_ns : INT64_MAX);
		s3c_waitq_wait(&names->send_work, lock, &op);
		s3c_op_destroy(&op);
	}
	s3c_mutex_unlock(lock);
	return NULL;
}

int s3c_pending_start(struct s3c_engine *engine)
{
	struct s3c_names *names = engine->names;
	struct s3c_pending *p;
	int r;

	if (!s3c_durable(engine) || names->send_runs)
		return 0;
	s3c_mutex_lock(&engine->lock);
	for (p = TAILQ_FIRST(&names->pendings); p;)
		p = superseded(names, p) ? TAILQ_FIRST(&names->pendings) : TAILQ_NEXT(p, all);
	s3c_mutex_unlock(&engine->lock);
	r = s3c_thread_start(&names->sender, "s3c-names", sender, names);
	names->send_runs = r == 0;
	return r;
}

void s3c_pending_stop(struct s3c_engine *engine)
{
	struct s3c_names *names = engine->names;

	s3c_mutex_lock(&engine->lock);
	names->send_stop = true;
	s3c_waitq_wake_all(&names->send_work);
	s3c_waitq_wake_all(&names->pending_done);
	while (names->sending)
		s3c_waitq_wait(&names->pending_done, &engine->lock, NULL);
	s3c_mutex_unlock(&engine->lock);
	if (names->send_runs)
		pthread_join(names->sender, NULL);
	names->send_runs = false;
}

int s3c_pending_wait(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_names *names = engine->names;

	for (;;) {
		struct s3c_node *node = s3c_node_find(names, path);
		struct s3c_pending *file = node ? node->pending[S3C_KEY_FILE] : NULL;
		struct s3c_pending *dir = node ? node->pending[S3C_KEY_DIR] : NULL;
		int r;

		if (op == S3C_NOWAIT)
			return -EINPROGRESS;
		if (dir && !dir->make)
			r = s3c_pending_settle(names, op, path);
		else if (file && (file->state == S3C_PENDING_RUNNING || file->commits))
			r = s3c_waitq_wait(&names->pending_done, &engine->lock, op);
		else
			return 0;
		if (r < 0)
			return r;
	}
}

/* What a flush waits for. */
static bool counts(const struct s3c_pending *p, const char *path, uint64_t born)
{
	return p->born <= born && s3c_path_below(p->node->path, path);
}

/* Lock held, released. */
static int flush(struct s3c_names *names, struct s3c_op *op, const char *path)
{
	uint64_t born = names->pending_born, attempts = names->pending_attempts;
	struct s3c_pending *p;
	int r = 0;

	TAILQ_FOREACH (p, &names->pendings, all) {
		if (!counts(p, path, born))
			continue;
		if (p->state == S3C_PENDING_WAITING)
			s3c_pending_enqueue(names, p, 0);
		else if (p->state == S3C_PENDING_BLOCKED)
			p->due_ns = 0;
	}
	while (r == 0) {
		uint64_t failures = names->pending_failures;
		bool left = false;

		s3c_pending_dispatch(names);
		TAILQ_FOREACH (p, &names->pendings, all) {
			bool waits = p->state == S3C_PENDING_WAITING;

			if (!counts(p, path, born))
				continue;
			left = true;
			if (p->state == S3C_PENDING_PARKED ||
			    (waits && p->failures && p->attempt > attempts)) {
				r = s3c_pending_error(p->result);
				break;
			}
			/* What ran when this began has failed: once more. */
			if (waits && p->failures)
				s3c_pending_enqueue(names, p, 0);
		}
		s3c_pending_dispatch(names);
		if (!left || r < 0)
			break;
		if (names->send_stop)
			return -EIO;
		/* As long as none fails, it is enough to look at whether any is left. */
		do {
			r = op == S3C_NOWAIT ? -EINPROGRESS
					     : s3c_waitq_wait(&names->pending_done,
							      &names->engine->lock, op);
			left = false;
			for (p = TAILQ_FIRST(&names->pendings); p && !left; p = TAILQ_NEXT(p, all))
				left = counts(p, path, born);
		} while (r == 0 && left && failures == names->pending_failures &&
			 !names->send_stop);
	}
	return r;
}

bool s3c_pending_any(struct s3c_names *names, const char *path)
{
	const struct s3c_node *node = names->pending_count ? s3c_node_find(names, path) : NULL;

	return node &&
	       (node->pending[S3C_KEY_FILE] || node->pending[S3C_KEY_DIR] || node->pending_below);
}

int s3c_pending_settle(struct s3c_names *names, struct s3c_op *op, const char *path)
{
	return s3c_pending_any(names, path) ? flush(names, op, path) : 0;
}

int s3c_pending_flush(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	int r;

	s3c_mutex_lock(&engine->lock);
	r = flush(engine->names, op, path);
	s3c_mutex_unlock(&engine->lock);
	return r;
}
