/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Objects in the journal: see durable.h for what and when. The text of an OBJECT record is
 * record.c's; taking records up again is recover.c's.
 *
 * States of an object's record:
 *
 *	none	jid == 0
 *	current	jid, saved.seq == seq: it is the present view
 *	behind	jid, saved.seq < seq: an earlier view, which was acknowledged
 *	broken	record_broken: a transaction failed; the journal has the view before it, and so
 *		has saved again; which chunks are in it is not known from their slots any more
 *
 *	none -> current (persist)       current -> behind (write)    behind -> current (persist)
 *	any -> none (the store has it, or the name is gone)          broken -> current (persist)
 *
 * A view is copied while writers wait (persisting): the pages are what they are at one moment. The
 * disk is waited for after that, and writers go on. Of one object there is one such transaction at
 * a time (recording): each has only what the one before lacks, and must not count without it.
 */
#include "engine/durable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "engine/content.h"
#include "engine/record.h"

#define TX_CHUNKS 128u /* chunks of one transaction */

bool s3c_durable(const struct s3c_engine *engine)
{
	return engine->config.durable && engine->config.journal && !engine->config.read_only;
}

bool s3c_writeback(const struct s3c_engine *engine)
{
	return engine->config.writeback && s3c_durable(engine);
}

uint64_t s3c_durable_id(struct s3c_engine *engine)
{
	uint64_t id;

	(void)engine;
	/* Drawn, not counted: nothing has to be read to know which are taken. */
	do
		s3c_random(&id, sizeof(id));
	while ((id &= INT64_MAX) == 0);
	return id;
}

int s3c_durable_put(struct s3c_engine *engine, enum s3c_record_kind kind, uint64_t id,
		    const struct s3c_buf *text, enum s3c_tx_mode mode)
{
	struct s3c_tx *tx;
	int r = s3c_tx_new(engine->config.journal, &tx);

	if (r < 0)
		return r;
	s3c_tx_vital(tx);
	r = s3c_tx_put(tx, kind, id, 0, text->data, text->len);
	if (r == 0)
		return s3c_tx_commit(tx, mode);
	s3c_tx_free(tx);
	return r;
}

int s3c_durable_drop(struct s3c_engine *engine, enum s3c_record_kind kind, uint64_t id,
		     enum s3c_tx_mode mode)
{
	struct s3c_tx *tx;
	int r = s3c_tx_new(engine->config.journal, &tx);

	if (r < 0)
		return r;
	s3c_tx_vital(tx);
	r = s3c_tx_delete(tx, kind, id, 0);
	if (r == 0)
		return s3c_tx_commit(tx, mode);
	s3c_tx_free(tx);
	return r;
}

/* What the journal has of an object while it is not certain that it takes something else. */
struct before {
	uint64_t jid, cid;
	struct s3c_saved saved;
	uint8_t next_op[S3C_OP_ID_LEN];
	bool next_op_unused, next_op_synced;
};

static void before_keep(const struct s3c_object *object, struct before *before)
{
	*before = (struct before){
		.jid = object->jid,
		.cid = object->cid,
		.saved = object->saved,
		.next_op_unused = object->next_op_unused,
		.next_op_synced = object->next_op_synced,
	};
	if (before->saved.base)
		s3c_entry_ref(before->saved.base);
	s3c_xattrs_ref(before->saved.attrs.xattrs);
	memcpy(before->next_op, object->next_op, sizeof(before->next_op));
}

static void before_restore(struct s3c_object *object, struct before *before)
{
	s3c_entry_put(object->saved.base);
	s3c_attrs_clear(&object->saved.attrs);
	object->jid = before->jid;
	object->cid = before->cid;
	object->saved = before->saved;
	before->saved.base = NULL;
	before->saved.attrs.xattrs = NULL;
	memcpy(object->next_op, before->next_op, sizeof(object->next_op));
	object->next_op_unused = before->next_op_unused;
	object->next_op_synced = before->next_op_synced;
}

/* Somebody who waits for a transaction. */
struct waiter {
	struct s3c_object *object; /* held */
	uint64_t jid, cid, seq;    /* of the record that it writes */
	struct before *before;     /* NULL: the same view */
	bool synced, done;
	int result;
};

static void on_done(void *arg, int result)
{
	struct waiter *w = arg;
	struct s3c_object *object = w->object;
	struct s3c_engine *engine = object->engine;

	s3c_mutex_lock(&engine->lock);
	w->result = result;
	w->done = true;
	object->recording = false;
	object->old_cid = 0;
	if (result == 0) {
		object->record_seq = S3C_MAX(object->record_seq, w->seq);
		object->next_op_synced |= w->synced;
	} else if (w->before)
		object->record_broken = true;
	/* Unless the record has gone meanwhile. */
	if (result < 0 && w->before && object->jid == w->jid && object->cid == w->cid)
		before_restore(object, w->before);
	s3c_waitq_wake_all(&object->waitq);
	s3c_mutex_unlock(&engine->lock);
}

/* Lock held, released. */
static int submit_wait(struct s3c_object *object, struct s3c_tx *tx, enum s3c_tx_mode mode,
		       struct before *before)
{
	struct waiter w = {
		.object = object,
		.jid = object->jid,
		.cid = object->cid,
		.seq = object->saved.seq,
		.before = before,
		.synced = mode == S3C_TX_SYNC,
	};

	s3c_object_hold(object);
	object->recording = true;
	if (before && before->cid != object->cid)
		object->old_cid = before->cid;
	s3c_tx_submit(tx, mode, on_done, &w);
	while (!w.done)
		s3c_waitq_wait(&object->waitq, &object->engine->lock, NULL);
	s3c_object_release(object);
	return w.result;
}

/* Lock held, released. */
static void wait_recorded(struct s3c_object *object)
{
	while (object->persisting || object->recording)
		s3c_waitq_wait(&object->waitq, &object->engine->lock, NULL);
}

/* Nobody waits; what is lost of it shows when the record is read again. */
static void on_late(void *arg, int result)
{
	(void)arg;
	if (result < 0)
		s3c_warn("journal: a record could not be brought up to date: %s",
			 strerror(-result));
}

static int put_record(struct s3c_object *object, struct s3c_tx *tx)
{
	cleanup_buf struct s3c_buf text = { 0 };
	int r = s3c_record_encode(object, &text);

	return r < 0 ? r : s3c_tx_put(tx, S3C_RECORD_OBJECT, object->jid, 0, text.data, text.len);
}

static void saved_clear(struct s3c_object *object)
{
	s3c_entry_put(object->saved.base);
	s3c_attrs_clear(&object->saved.attrs);
	object->saved = (struct s3c_saved){ 0 };
}

static void saved_take(struct s3c_object *object)
{
	saved_clear(object);
	object->saved = (struct s3c_saved){
		.seq = object->seq,
		.size = object->size,
		.base_visible = object->base_visible,
		.content = !object->base || object->content_seq != object->content_clean,
		.base = object->base ? s3c_entry_ref(object->base) : NULL,
	};
	s3c_attrs_set(&object->saved.attrs, &object->attrs);
	s3c_random(object->next_op, sizeof(object->next_op));
	object->next_op_unused = true;
	object->next_op_synced = false;
}

/* The chunks that the record needs. all: those that it has as well, for another cid. */
struct work {
	uint64_t *chunks;
	size_t count, alloc;
	bool lost; /* one is neither in memory nor in the spill file */
};

static int work_add(struct work *work, uint64_t chunk)
{
	if (work->count == work->alloc) {
		size_t alloc = work->alloc ? work->alloc * 2 : 64;
		uint64_t *chunks = reallocarray(work->chunks, alloc, sizeof(*chunks));

		if (!chunks)
			return -ENOMEM;
		work->chunks = chunks;
		work->alloc = alloc;
	}
	work->chunks[work->count++] = chunk;
	return 0;
}

static int work_collect(struct s3c_object *object, bool all, struct work *work)
{
	struct s3c_segment *segment, *tmp;
	int r = 0;

	work->count = 0;
	HASH_ITER (hh, object->segments, segment, tmp)
		for (unsigned i = 0; r == 0 && i < S3C_SEGMENT_CHUNKS; i++) {
			const struct s3c_slot *slot = &segment->slots[i];

			if (slot->state != S3C_CHUNK_DIRTY && slot->state != S3C_CHUNK_SENT)
				continue;
			if (!all && slot->journaled)
				continue;
			if (!slot->page && !slot->spill)
				work->lost = true;
			r = work_add(work, segment->index * S3C_SEGMENT_CHUNKS + i);
		}
	return work->lost ? -EAGAIN : r;
}

/* One chunk into the transaction. Nobody writes to it meanwhile. Lock held, released. */
static int put_chunk(struct s3c_object *object, struct s3c_tx *tx, uint64_t cid, uint64_t chunk)
{
	struct s3c_mutex *lock = &object->engine->lock;
	uint32_t len = s3c_chunk_plain_len(object->size, chunk);
	const struct s3c_slot *slot = s3c_slot_find(object, chunk, NULL);
	struct s3c_page *page = NULL;
	int r;

	if (!len)
		return 0;
	/* Stored since it was collected: base is what has it now, and nothing else is to. */
	if (!slot || (slot->state != S3C_CHUNK_DIRTY && slot->state != S3C_CHUNK_SENT))
		return s3c_tx_delete(tx, S3C_RECORD_CHUNK, cid, chunk);
	r = s3c_chunks_pin(object, NULL, chunk, 1, &page);
	if (r < 0)
		return r;
	s3c_mutex_unlock(lock);
	r = s3c_tx_put(tx, S3C_RECORD_CHUNK, cid, chunk, page ? page->data : s3c_zero_chunk, len);
	s3c_mutex_lock(lock);
	s3c_chunks_unpin(object, &page, 1);
	return r;
}

/* The chunks of a large view, ahead of the transaction that makes them count. Lock held, released.
 */
static int put_ahead(struct s3c_object *object, uint64_t cid, const struct work *work)
{
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_tx *tx = NULL;
	int r = 0;

	for (size_t i = 0; i < work->count && r == 0; i++) {
		if (!tx)
			r = s3c_tx_new(object->engine->config.journal, &tx);
		if (r == 0)
			r = put_chunk(object, tx, cid, work->chunks[i]);
		if (r < 0 || ((i + 1) % TX_CHUNKS && i + 1 < work->count))
			continue;
		s3c_mutex_unlock(lock);
		r = s3c_tx_commit(steal_ptr(tx), S3C_TX_LAZY);
		s3c_mutex_lock(lock);
	}
	s3c_tx_free(tx);
	return r;
}

static void drop_chunks(struct s3c_object *object, uint64_t cid)
{
	struct s3c_tx *tx;

	if (s3c_tx_new(object->engine->config.journal, &tx) < 0)
		return;
	if (s3c_tx_delete_from(tx, S3C_RECORD_CHUNK, cid, 0) == 0)
		s3c_tx_submit(tx, S3C_TX_LAZY, on_late, NULL);
	else
		s3c_tx_free(tx);
}

static void mark_journaled(struct s3c_object *object, const struct work *work)
{
	for (size_t i = 0; i < work->count; i++) {
		struct s3c_slot *slot = s3c_slot_find(object, work->chunks[i], NULL);

		if (slot && (slot->state == S3C_CHUNK_DIRTY || slot->state == S3C_CHUNK_SENT))
			slot->journaled = true;
	}
}

/* The last transaction of a view: gives it to the writer. Lock held, released for the chunks. */
static int put_view(struct s3c_object *object, const struct work *work, uint64_t cid, bool ahead,
		    struct s3c_tx **ret_tx)
{
	struct s3c_tx *tx;
	int r = s3c_tx_new(object->engine->config.journal, &tx);

	if (r < 0)
		return r;
	if (object->cid && object->cid != cid)
		r = s3c_tx_delete_from(tx, S3C_RECORD_CHUNK, object->cid, 0);
	else if (object->cid && object->cut != UINT64_MAX)
		r = s3c_tx_delete_from(tx, S3C_RECORD_CHUNK, cid,
				       DIV_ROUND_UP(object->cut, S3C_CHUNK_SIZE));
	for (size_t i = 0; !ahead && i < work->count && r == 0; i++)
		r = put_chunk(object, tx, cid, work->chunks[i]);
	if (r < 0) {
		s3c_tx_free(tx);
		return r;
	}
	*ret_tx = tx;
	return 0;
}

/* Copies the view: the transaction is given to the writer when this returns 0. Lock held, released;
   persisting is set. */
static int copy_view(struct s3c_object *object, struct s3c_tx **ret_tx)
{
	struct s3c_record_stats stats;
	struct work work = { 0 };
	const bool broken = object->record_broken, anew = object->record_anew;
	bool fresh = !object->cid || broken || anew, ahead = false;
	struct s3c_tx *tx = NULL;
	uint64_t cid;
	int r;

	/* What comes up while this copies is for the next one. */
	object->record_broken = object->record_anew = false;
	while (object->writing)
		s3c_waitq_wait(&object->waitq, &object->engine->lock, NULL);
	r = work_collect(object, fresh, &work);
	if (r == 0 && work.count > TX_CHUNKS) {
		ahead = fresh = true;
		r = work_collect(object, true, &work);
	}
	s3c_record_stats(object->engine->config.journal, &stats);
	if (r == 0 && stats.limit && stats.bytes + work.count * S3C_CHUNK_SIZE > stats.limit)
		r = -EAGAIN;
	cid = fresh ? s3c_durable_id(object->engine) : object->cid;
	if (r == 0 && ahead)
		r = put_ahead(object, cid, &work);
	if (r == 0)
		r = put_view(object, &work, cid, ahead, &tx);
	/* Its name went meanwhile: nothing is to come back under it. */
	if (r == 0 && object->detached)
		r = -ECANCELED;
	if (r == 0) {
		object->jid = object->jid ?: s3c_durable_id(object->engine);
		object->cid = cid;
		saved_take(object);
		r = put_record(object, tx);
	}
	if (r == 0) {
		mark_journaled(object, &work);
		object->cut = UINT64_MAX;
		*ret_tx = steal_ptr(tx);
	} else {
		/* Nothing was given, or under another cid. */
		object->record_broken |= broken;
		object->record_anew |= anew;
		if (ahead)
			drop_chunks(object, cid);
	}
	s3c_tx_free(tx);
	free(work.chunks);
	return r;
}

/* Is what the saved view stands on what the present one stands on? */
static bool saved_stands(const struct s3c_object *object)
{
	const struct s3c_entry *old = object->saved.base, *now = object->base;

	return object->saved.base_visible == object->base_visible &&
	       (old == now || (old && now && s3c_same_content(old, now)));
}

bool s3c_object_settled(struct s3c_object *object)
{
	struct s3c_engine *engine = object->engine;
	bool settled;

	s3c_mutex_lock(&engine->lock);
	settled = !s3c_object_is_dirty(object) ||
		  (s3c_writeback(engine) && s3c_object_kept(object) && object->next_op_synced &&
		   !object->persisting && !object->recording && !object->lost &&
		   saved_stands(object));
	s3c_mutex_unlock(&engine->lock);
	return settled;
}

/* Lock held, released. */
static int persist_locked(struct s3c_object *object, enum s3c_tx_mode mode)
{
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_tx *tx = NULL;
	struct before before;
	uint64_t cid;
	bool current;
	int r;

	wait_recorded(object);
	if (object->detached || !s3c_object_is_dirty(object))
		return 0;
	if (object->lost)
		return -EAGAIN;
	current = object->jid && object->saved.seq == object->seq && !object->record_broken &&
		  saved_stands(object);
	if (current && mode == S3C_TX_LAZY && object->record_seq >= object->seq)
		return 0;
	if (current) {
		s3c_mutex_unlock(lock);
		r = s3c_journal_sync(object->engine->config.journal);
		s3c_mutex_lock(lock);
		return r;
	}
	before_keep(object, &before);
	object->persisting = true;
	r = copy_view(object, &tx);
	cid = object->cid;
	if (r < 0)
		before_restore(object, &before);
	object->persisting = false;
	s3c_waitq_wake_all(&object->waitq);
	if (r == 0) {
		r = submit_wait(object, tx, mode, &before);
		/* Those that went ahead. */
		if (r < 0 && cid != before.cid)
			drop_chunks(object, cid);
	}
	s3c_entry_put(before.saved.base);
	s3c_attrs_clear(&before.saved.attrs);
	return r == -ECANCELED ? 0 : r;
}

int s3c_object_persist(struct s3c_object *object, enum s3c_tx_mode mode)
{
	struct s3c_engine *engine = object->engine;
	int r;

	if (!s3c_durable(engine))
		return 0;
	s3c_mutex_lock(&engine->lock);
	s3c_object_hold(object);
	r = persist_locked(object, mode);
	s3c_object_release(object);
	s3c_mutex_unlock(&engine->lock);
	return r;
}

/* Does the saved view stand on what is base now? */
static bool saved_fits(const struct s3c_object *object)
{
	const struct s3c_entry *old = object->saved.base, *now = object->base;

	return !object->saved.base_visible || old == now ||
	       (old && now && s3c_same_content(old, now));
}

int s3c_object_record(struct s3c_object *object, struct s3c_tx *tx)
{
	if (!s3c_durable(object->engine) || object->detached)
		return 0;
	if (object->jid && !s3c_object_is_dirty(object))
		return s3c_object_unrecord(object, tx);
	/* Should that one fail, this must not count. */
	if (object->recording)
		return -EAGAIN;
	if (!object->jid) {
		if (!s3c_writeback(object->engine) || !s3c_object_is_dirty(object))
			return 0;
		/* There is no view yet: only one without bytes needs nothing else. */
		if (object->segments)
			return -EAGAIN;
		object->jid = s3c_durable_id(object->engine);
		object->cid = s3c_durable_id(object->engine);
		object->cut = UINT64_MAX;
		saved_take(object);
	}
	if (!saved_fits(object))
		return -EAGAIN;
	if (object->saved.base != object->base) {
		s3c_entry_put(object->saved.base);
		object->saved.base = object->base ? s3c_entry_ref(object->base) : NULL;
	}
	return put_record(object, tx);
}

static void forget(struct s3c_object *object)
{
	object->jid = object->cid = 0;
	object->cut = UINT64_MAX;
	object->record_broken = object->record_anew = object->next_op_unused = false;
	saved_clear(object);
}

int s3c_object_unrecord(struct s3c_object *object, struct s3c_tx *tx)
{
	int r;

	if (!object->jid)
		return 0;
	r = s3c_tx_delete(tx, S3C_RECORD_OBJECT, object->jid, 0);
	if (r == 0 && object->cid)
		r = s3c_tx_delete_from(tx, S3C_RECORD_CHUNK, object->cid, 0);
	if (r == 0 && object->old_cid)
		r = s3c_tx_delete_from(tx, S3C_RECORD_CHUNK, object->old_cid, 0);
	if (r == 0) {
		forget(object);
		object->objects->drops++;
	}
	return r;
}

void s3c_object_record_drop(struct s3c_object *object)
{
	struct s3c_tx *tx;

	if (!object->jid || s3c_tx_new(object->engine->config.journal, &tx) < 0)
		return;
	if (s3c_object_unrecord(object, tx) == 0)
		s3c_tx_submit(tx, S3C_TX_LAZY, on_late, NULL);
	else
		s3c_tx_free(tx);
}

void s3c_object_record_moved(struct s3c_object *object)
{
	struct s3c_tx *tx;
	int r;

	if (!object->jid)
		return;
	r = s3c_tx_new(object->engine->config.journal, &tx);
	if (r < 0)
		return;
	/* Small, and as good as what it replaces. */
	s3c_tx_vital(tx);
	r = s3c_object_record(object, tx);
	if (r == 0) {
		s3c_tx_submit(tx, S3C_TX_LAZY, on_late, NULL);
		return;
	}
	s3c_tx_free(tx);
	object->record_broken = true;
}

void s3c_object_record_follow(struct s3c_object *object)
{
	bool behind;

	s3c_mutex_lock(&object->engine->lock);
	behind = object->jid && object->record_broken;
	s3c_mutex_unlock(&object->engine->lock);
	if (behind && s3c_object_persist(object, S3C_TX_LAZY) < 0)
		s3c_warn("%s: the journal has it under its former name", object->path);
}

/* The first attempt is in the record since the view is. Lock held, released. */
static int sync_first_attempt(struct s3c_object *object)
{
	struct s3c_mutex *lock = &object->engine->lock;
	uint8_t op[S3C_OP_ID_LEN];
	int r;

	if (object->next_op_synced)
		return 0;
	memcpy(op, object->next_op, sizeof(op));
	s3c_mutex_unlock(lock);
	r = s3c_journal_sync(object->engine->config.journal);
	s3c_mutex_lock(lock);
	if (r == 0 && memcmp(op, object->next_op, sizeof(op)) == 0)
		object->next_op_synced = true;
	return r;
}

static int put_attempt(struct s3c_object *object)
{
	struct s3c_tx *tx;
	int r = s3c_tx_new(object->engine->config.journal, &tx);

	if (r < 0)
		return r;
	/* Small, and the way to a smaller backlog. */
	s3c_tx_vital(tx);
	r = put_record(object, tx);
	if (r == 0)
		return submit_wait(object, tx, S3C_TX_SYNC, NULL);
	s3c_tx_free(tx);
	return r;
}

/*
 * What has no record is sent under an id that no record tells of. A former record of that name must
 * not come back then: it would be taken for what counts, and what was sent for somebody else's. So
 * removals are on the disk first. Lock held, released.
 */
static void sync_drops(struct s3c_engine *engine)
{
	struct s3c_objects *objects = engine->objects;
	struct s3c_mutex *lock = &engine->lock;
	uint64_t drops = objects->drops;
	int r;

	if (objects->drops_synced == drops)
		return;
	s3c_mutex_unlock(lock);
	r = s3c_journal_sync(engine->config.journal);
	s3c_mutex_lock(lock);
	if (r == 0)
		objects->drops_synced = S3C_MAX(objects->drops_synced, drops);
	else
		s3c_warn("journal: it cannot be synced (%s): should this end now, an earlier "
			 "view of a file may come back beside the one that is sent",
			 strerror(-r));
}

void s3c_records_sync_drops(struct s3c_engine *engine)
{
	if (!s3c_durable(engine))
		return;
	s3c_mutex_lock(&engine->lock);
	sync_drops(engine);
	s3c_mutex_unlock(&engine->lock);
}

int s3c_object_record_attempt(struct s3c_object *object, const uint8_t op_id[static S3C_OP_ID_LEN])
{
	struct s3c_mutex *lock = &object->engine->lock;
	int r = 0;

	if (!s3c_durable(object->engine))
		return 0;
	s3c_mutex_lock(lock);
	wait_recorded(object);
	if (!object->jid)
		sync_drops(object->engine);
	/* Or since that was waited for. */
	if (object->jid)
		r = memcmp(op_id, object->next_op, S3C_OP_ID_LEN) == 0 ? sync_first_attempt(object)
								       : put_attempt(object);
	s3c_mutex_unlock(lock);
	if (r < 0)
		s3c_error("%s is not sent: the journal, which has an earlier view of it, cannot "
			  "note the attempt (%s)",
			  object->path, strerror(-r));
	return r;
}

bool s3c_failure_is_final(int result)
{
	switch (result) {
	case -EACCES:
	case -EPERM:
	case -EROFS:
	case -EBADE:
	case -EFBIG:
	case -ENAMETOOLONG:
	case -EINVAL:
	case -ESTALE:
	case -EEXIST:
	case -EISDIR:
	case -ENOTDIR:
		return true;
	default:
		return false;
	}
}

void s3c_object_record_committed(struct s3c_object *object, int r)
{
	while (object->persisting)
		s3c_waitq_wait(&object->waitq, &object->engine->lock, NULL);
	if (!s3c_durable(object->engine) || object->detached)
		return;
	/* Who makes it is told, and it must not come up later. */
	if (r < 0 && object->claiming)
		return;
	/* The store has what was acknowledged; nobody was promised the rest. */
	if (!s3c_object_is_dirty(object) || (r == 0 && object->saved.seq <= object->clean_seq)) {
		s3c_object_record_drop(object);
		return;
	}
	/* What it stands on is another version by now, or the caller learns of the failure and the
	   bytes are kept. */
	if (r == 0 && !object->jid)
		return;
	if (r < 0 && object->lost)
		return;
	r = persist_locked(object, r == 0 ? S3C_TX_LAZY : S3C_TX_SYNC);
	if (r < 0)
		s3c_error("%s: what could not be stored is not in the journal either (%s): it is "
			  "kept in memory and in cache_dir alone",
			  object->path, strerror(-r));
}
