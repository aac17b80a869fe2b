/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What close and fsync wait for: the store, or the journal (durable.c). */
#include "engine/durable.h"

#include <errno.h>

#include "base/clock.h"
#include "engine/content.h"

#define SMALL_BYTES (64u << 20)                   /* what is journaled whatever is under way */
#define STREAM_GRACE_S 2.0                        /* for a stream to end by itself */
#define CLOSE_DELAY_NS (3 * S3C_NSEC_PER_SEC / 2) /* more may come for the same name */
#define OPEN_DELAY_NS (15 * S3C_NSEC_PER_SEC)     /* of a file that stays open */

void s3c_object_schedule(struct s3c_object *object, bool closed)
{
	int64_t due = s3c_clock_monotonic_ns() + (closed ? CLOSE_DELAY_NS : OPEN_DELAY_NS);

	if (object->hopeless)
		return;
	if (!object->retry_ns || (closed && !object->failures))
		object->retry_ns = due;
}

/* Bytes that the journal lacks, about. */
static uint64_t unsaved_bytes(const struct s3c_object *object)
{
	const struct s3c_segment *segment, *tmp;
	uint64_t bytes = 0;

	HASH_ITER (hh, object->segments, segment, tmp)
		bytes += (uint64_t)(segment->dirty + segment->sent) * S3C_CHUNK_SIZE;
	return bytes;
}

/* A large file whose upload goes well is nearly in the store when it is closed: the rest of it is
   less to write than all of it. */
static int finish_stream(struct s3c_object *object)
{
	struct s3c_op op;
	bool wait;
	int r;

	s3c_mutex_lock(&object->engine->lock);
	wait = object->upload && !object->upload->result && unsaved_bytes(object) > SMALL_BYTES;
	s3c_mutex_unlock(&object->engine->lock);
	if (!wait)
		return -EAGAIN;
	s3c_op_init(&op, s3c_deadline_after(STREAM_GRACE_S));
	r = s3c_object_commit_within(object, &op);
	s3c_op_destroy(&op);
	return r;
}

/* A record whose removal may have failed, or is not on the disk yet. Lock not held. */
static int sync_removal(struct s3c_object *object, uint64_t jid)
{
	struct s3c_engine *engine = object->engine;
	struct s3c_tx *tx = NULL;
	bool again;
	int r;

	s3c_mutex_lock(&engine->lock);
	again = object->jid == jid; /* of a later view by now */
	s3c_mutex_unlock(&engine->lock);
	if (again)
		return s3c_journal_sync(engine->config.journal);
	r = s3c_tx_new(engine->config.journal, &tx);
	if (r == 0)
		r = s3c_tx_delete(tx, S3C_RECORD_OBJECT, jid, 0);
	if (r == 0)
		r = s3c_tx_commit(steal_ptr(tx), S3C_TX_SYNC);
	s3c_tx_free(tx);
	return r;
}

/*
 * The journal cannot take the view: the store is as durable. But an older view that the journal
 * still has would come back after a crash, and be taken for what counts: it has to be gone. A
 * journal that cannot be written at all does not lose it, nor can it be told under which id this
 * one is sent: then nobody is promised anything, and it is sent when it is due.
 */
static int sync_by_store(struct s3c_object *object, struct s3c_op *op, int failure)
{
	struct s3c_engine *engine = object->engine;
	uint64_t jid;
	int r;

	s3c_mutex_lock(&engine->lock);
	jid = object->jid;
	if (jid && failure == -EIO) {
		s3c_object_schedule(object, false);
		s3c_mutex_unlock(&engine->lock);
		return failure;
	}
	s3c_mutex_unlock(&engine->lock);
	r = s3c_object_commit(object, op);
	if (r < 0)
		return r;
	/* The names that were changed before are promised with it. */
	return jid ? sync_removal(object, jid) : s3c_journal_sync(engine->config.journal);
}

int s3c_object_sync(struct s3c_object *object, struct s3c_op *op, enum s3c_sync what)
{
	struct s3c_engine *engine = object->engine;
	int r;

	if (op == S3C_NOWAIT)
		return s3c_object_dirty(object) ? -EINPROGRESS : 0;
	if (s3c_writeback(engine)) {
		/* The store has the content; the names that are to be kept with it are here. */
		if (finish_stream(object) == 0)
			return s3c_journal_sync(engine->config.journal);
		r = s3c_object_persist(object, S3C_TX_SYNC);
		if (r < 0)
			return sync_by_store(object, op, r);
		s3c_mutex_lock(&engine->lock);
		if (s3c_object_is_dirty(object))
			s3c_object_schedule(object, false);
		s3c_mutex_unlock(&engine->lock);
		return 0;
	}
	if (engine->config.commit_fsync && what == S3C_SYNC_CLOSE) {
		s3c_mutex_lock(&engine->lock);
		s3c_commit_start(object);
		s3c_mutex_unlock(&engine->lock);
		return 0;
	}
	return s3c_object_commit(object, op);
}

int s3c_engine_sync_names(struct s3c_engine *engine, struct s3c_op *op)
{
	if (!s3c_writeback(engine))
		return 0;
	return op == S3C_NOWAIT ? -EINPROGRESS : s3c_journal_sync(engine->config.journal);
}
