/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Commits: the store is brought up to the view of an object.
 *
 * A commit takes a snapshot of size, attributes and sequence numbers. What is written later does
 * not belong to it: writers go on, but for the moment in which their chunk is sealed; truncation
 * waits for its end. What was changed meanwhile leaves the object dirty.
 *
 *	what changed                       what is sent
 *	attributes alone                   a copy onto itself with new metadata
 *	the view has at most one segment   one PUT with everything
 *	larger                             a multipart upload: plan.c, upload.c
 *	content, in a format of one message  all of it: whole.c
 *
 * timeout= bounds each request of a commit, not the commit, which may have to send terabytes.
 */
#include "engine/epochs.h"
#include "engine/upload_journal.h"
#include "engine/durable.h"
#include "engine/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"

#define RETRY_NS (30 * S3C_NSEC_PER_SEC)
#define RETRY_MAX_NS (60 * S3C_NSEC_PER_SEC)

int s3c_commit_snapshot(struct s3c_commit *c)
{
	struct s3c_object *object = c->object;
	int r;

	c->size = object->size;
	c->base_visible = object->base_visible;
	c->seq = object->snap_seq = object->seq;
	c->content_seq = object->content_seq;
	c->content = !object->base || object->content_seq != object->content_clean;
	c->renewing = object->renewing && object->base;
	s3c_attrs_set(&c->attrs, &object->attrs);
	c->base = object->base ? s3c_entry_ref(object->base) : NULL;
	c->crypt = s3c_crypt_ref(object->crypt);
	c->target = s3c_target_ref(object->target);
	c->sealed = s3c_sealed_mode(object->engine);
	r = s3c_entry_local(object->engine, object->path, false, &(struct s3c_header){ 0 },
			    &(struct s3c_version){ 0 }, 0, NULL, &c->entry);
	if (r == 0 && c->content && !c->sealed && c->base)
		c->entry->extra = s3c_extra_of_content(c->base->extra);
	return r;
}

void s3c_commit_clear(struct s3c_commit *c)
{
	s3c_entry_put(c->base);
	s3c_entry_put(c->entry);
	s3c_crypt_put(c->crypt);
	s3c_target_put(c->target);
	s3c_secret_free(c->key);
	s3c_header_clear(&c->header);
	s3c_attrs_clear(&c->attrs);
	free(c->salts);
	s3c_s3ec_body_free(c->body);
	*c = (struct s3c_commit){ .object = c->object };
}

int s3c_commit_attrs(struct s3c_commit *c, const struct s3c_entry *entry)
{
	struct s3c_copy copy = {
		.from = c->target->key,
		.to = c->target->key,
		.path = c->target->path,
		.old = &entry->header,
		.header = entry->header,
		.source = &entry->version,
		.stored_size = entry->stored_size,
		.extra = entry->extra,
		.op_given = true,
	};
	int r = s3c_commit_attempt(c);

	if (r < 0)
		return r;
	memcpy(copy.header.op_id, c->header.op_id, sizeof(copy.header.op_id));
	copy.header.attrs = c->attrs;
	copy.header.attrs_final = entry->header.layout == S3C_LAYOUT_TRAILER;
	r = s3c_copy_object(c->object->engine, &copy, &c->version);
	if (r < 0)
		return r;
	s3c_header_set(&c->header, &copy.header);
	c->stored = entry->stored_size;
	if (entry != c->entry) {
		c->entry->extra = s3c_extra_ref(entry->extra);
		c->entry->s3ec = s3c_s3ec_ref(entry->s3ec);
	}
	return 0;
}

/* A base from the journal, whose own metadata a copy would lose. */
static bool lacks_extra(const struct s3c_object *object)
{
	return object->base && object->base->header.layout == S3C_LAYOUT_PLAIN &&
	       object->base->fetched_ns < 0 && object->content_seq == object->content_clean;
}

/* One attempt. S3C_AGAIN: look at the object again, base is another entry by now. */
static int commit_try(struct s3c_commit *c)
{
	struct s3c_object *object = c->object;
	struct s3c_mutex *lock = &object->engine->lock;
	int r;

	s3c_mutex_lock(lock);
	r = object->base_visible ? s3c_object_prepare(object, NULL) : 0;
	if (r == 0 && lacks_extra(object))
		r = s3c_object_refresh(object, NULL);
	if (r == 0)
		r = s3c_commit_snapshot(c);
	if (r == 0 && object->upload && c->content && c->size <= S3C_SEGMENT_SIZE)
		r = s3c_stream_abort(object, NULL);
	s3c_mutex_unlock(lock);
	if (r < 0)
		return r;
	if (c->content)
		r = s3c_commit_settle(c);
	else
		s3c_commit_draw_op(c);
	if (r < 0)
		; /* as below */
	else if (!c->content)
		r = s3c_commit_attrs(c, c->base);
	else if (s3c_whole_format(object->engine) && !s3c_mode_is_special(c->attrs.mode))
		r = s3c_commit_whole(c);
	else if (c->size <= S3C_SEGMENT_SIZE)
		r = s3c_commit_small(c);
	else
		r = s3c_commit_large(c);
	if (r == 0)
		return 0;
	s3c_mutex_lock(lock);
	object->publishing = false;
	s3c_waitq_wake_all(&object->waitq);
	s3c_mutex_unlock(lock);
	if (r != -ESTALE || !c->base)
		return r;
	/* A metadata copy by somebody else is no conflict. */
	s3c_mutex_lock(lock);
	r = object->base == c->base ? s3c_object_refresh(object, NULL) : 0;
	s3c_mutex_unlock(lock);
	/* When nobody can tell, it is none either. */
	return r == 0 ? S3C_AGAIN : r;
}

static struct s3c_crypt *new_crypt(struct s3c_commit *c)
{
	struct s3c_crypt *crypt = NULL;

	if (c->cloned)
		return c->crypt ? s3c_crypt_ref(c->crypt) : NULL;
	if (c->content && c->body) {
		s3c_crypt_new_whole(c->header.layout, c->entry->s3ec, &c->body, &crypt);
		return crypt;
	}
	if (c->content && !(c->sealed && !c->salts) &&
	    s3c_crypt_new(c->header.layout, c->size, c->header.file_id, c->key, c->salts, &crypt) ==
		    0)
		c->key = c->salts = NULL;
	return crypt;
}

/* The view has what was sent; of a clone only where nobody wrote to it meanwhile. Lock held. */
static void commit_show(struct s3c_commit *c)
{
	struct s3c_object *object = c->object;

	object->base_visible = c->size;
	if (c->cloned && object->content_seq == c->content_seq)
		object->size = c->size;
	else if (c->cloned)
		object->base_visible = 0;
}

void s3c_commit_succeed(struct s3c_commit *c)
{
	struct s3c_object *object = c->object;
	struct s3c_engine *engine = object->engine;
	struct s3c_crypt *crypt = new_crypt(c);
	struct s3c_entry *entry = c->entry;

	s3c_header_set(&entry->header, &c->header);
	entry->version = c->version;
	entry->stored_size = c->stored;
	entry->fetched_ns = s3c_clock_monotonic_ns();
	s3c_note_generation(engine, c->target->key, &c->header, false);
	s3c_names_set(engine, entry);

	s3c_mutex_lock(&engine->lock);
	object->publishing = false;
	s3c_object_set_base(object, entry);
	object->stored_ns = entry->fetched_ns;
	if (crypt) {
		s3c_crypt_put(object->crypt);
		object->crypt = crypt;
	}
	if (c->content) {
		commit_show(c);
		s3c_sent_end(object, 0, UINT64_MAX, true);
		object->content_clean = c->content_seq;
		object->stream_off = false;
		/* Chunks that are clean now are not looked at when the record is written again,
		   and it may have older bytes of them. */
		object->record_anew = true;
	}
	object->clean_seq = c->seq;
	s3c_paused_drop(object);
	/* What still turns up of earlier ones is not what the chunks were compared with. */
	memset(object->attempts, 0, sizeof(object->attempts));
	if (object->seq == c->seq)
		s3c_attrs_set(&object->attrs, &c->header.attrs);
	s3c_waitq_wake_all(&object->waitq);
	s3c_mutex_unlock(&engine->lock);
}

/* The whole of it, with the repeats that a changed base asks for. */
static int commit_do(struct s3c_object *object)
{
	struct s3c_commit c = { .object = object };
	int r = S3C_AGAIN;

	for (unsigned i = 0; i <= S3C_STALE_TRIES && r == S3C_AGAIN; i++) {
		r = commit_try(&c);
		if (r == 0)
			r = s3c_epochs_confirm(object->engine, &c.header);
		if (r == 0)
			s3c_commit_succeed(&c);
		s3c_commit_clear(&c);
		if (r < 0) {
			s3c_mutex_lock(&object->engine->lock);
			if (!object->upload)
				s3c_sent_end(object, 0, UINT64_MAX, false);
			s3c_mutex_unlock(&object->engine->lock);
		}
	}
	/* Base was another one each time, but never somebody else's: later. */
	return r == S3C_AGAIN ? -EIO : r;
}

/* Writeback has promised to send it: soon again at first. Others wait for who asks. */
static int64_t retry_delay(const struct s3c_object *object)
{
	if (!s3c_writeback(object->engine))
		return RETRY_NS;
	return S3C_MIN(S3C_NSEC_PER_SEC << S3C_MIN(object->failures, 6u), (int64_t)RETRY_MAX_NS);
}

static void commit_run(struct s3c_job *job)
{
	struct s3c_object *object = container_of(job, struct s3c_object, commit_job);
	struct s3c_engine *engine = object->engine;
	struct s3c_objects *objects = object->objects;
	int r = commit_do(object);

	if (r == -ESTALE && !object->renewing && !object->claiming &&
	    s3c_object_removed(object) == 0)
		r = commit_do(object);
	if (r == -ESTALE && !object->renewing)
		r = s3c_commit_attrs_elsewhere(object);
	if ((r == -ESTALE || r == -EEXIST) && object->claiming) {
		r = -EEXIST;
	} else if (object->renewing) {
		; /* nothing of it is ours: what another machine wrote stays */
	} else if (r == -ESTALE || r == -EEXIST) {
		/* A machine of the same name may have the name of the conflict as well. */
		for (unsigned i = 0; i < S3C_STALE_TRIES && (r == -ESTALE || r == -EEXIST); i++) {
			r = s3c_conflict_rename(object);
			if (r < 0)
				break;
			r = commit_do(object);
		}
		/* Stored, but not as what was asked for. */
		r = r == 0 ? -ESTALE : r;
	}
	s3c_mutex_lock(&engine->lock);
	s3c_object_record_committed(object, r);
	object->unlink_failed &= r < 0;
	object->committing = false;
	object->commits_ended = object->commits_begun;
	object->commit_result = r;
	if (r < 0 && s3c_object_is_dirty(object)) {
		object->failures++;
		/* Parked, where the journal keeps it until somebody says what to do. */
		object->hopeless =
			r == -ESTALE || object->lost || (object->jid && s3c_failure_is_final(r));
		object->retry_ns = s3c_clock_monotonic_ns() + retry_delay(object);
	} else {
		object->retry_ns = 0;
		object->failures = 0;
		if (s3c_writeback(engine) && s3c_object_is_dirty(object))
			s3c_object_schedule(object, !object->users);
	}
	if (object->lost)
		s3c_error("%s: bytes of it that were sent are lost with the upload that failed",
			  object->path);
	s3c_waitq_wake_all(&object->waitq);
	s3c_waitq_wake_all(&objects->mem.dirty_wait);
	s3c_waitq_wake_all(&objects->idle);
	/* Closed while this ran: what was written meanwhile has nobody else. */
	if (r == 0 && !object->users && !object->retry_ns)
		s3c_commit_start(object);
	s3c_object_release(object);
	s3c_mutex_unlock(&engine->lock);
}

void s3c_commit_start(struct s3c_object *object)
{
	if (object->committing || object->lost || !s3c_object_is_dirty(object) ||
	    s3c_object_is_frozen(object))
		return;
	object->committing = true;
	object->commits_begun++;
	object->snap_seq = object->seq;
	object->commit_job.run = commit_run;
	s3c_object_hold(object);
	s3c_pool_submit(object->engine->tasks, &object->commit_job);
}

/* Waits until the store has what the object was when this was called. Lock held, released. */
static int commit_wait(struct s3c_object *object, struct s3c_op *op)
{
	uint64_t target = object->seq, mine = 0;

	for (;;) {
		bool running = mine && object->commits_ended < mine;
		int r;

		/* First: what was stored under the name of a conflict is clean as well. */
		if (mine && !running && object->commit_result < 0)
			return object->commit_result;
		if (!running && (!s3c_object_is_dirty(object) || object->clean_seq >= target))
			return 0;
		if (!running && object->lost)
			return -EIO;
		if (op == S3C_NOWAIT)
			return -EINPROGRESS;
		s3c_commit_start(object);
		if (!mine && object->committing && object->snap_seq >= target)
			mine = object->commits_begun;
		r = s3c_waitq_wait(&object->waitq, &object->engine->lock, op);
		if (r < 0)
			return r;
	}
}

int s3c_object_commit_within(struct s3c_object *object, struct s3c_op *op)
{
	int r;

	s3c_mutex_lock(&object->engine->lock);
	r = commit_wait(object, op);
	s3c_mutex_unlock(&object->engine->lock);
	return r;
}

static void pass_interrupt(void *arg)
{
	s3c_op_interrupt(arg);
}

int s3c_object_commit(struct s3c_object *object, struct s3c_op *op)
{
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_op unbounded;
	bool bounded = op && op != S3C_NOWAIT && op->deadline_ns != INT64_MAX;
	int r;

	/* Each request has its deadline; how many are needed depends on the size. */
	if (bounded) {
		s3c_op_init(&unbounded, INT64_MAX);
		r = s3c_op_set_interrupt_hook(op, pass_interrupt, &unbounded);
		if (r < 0) {
			s3c_op_destroy(&unbounded);
			return r;
		}
	}
	s3c_mutex_lock(lock);
	r = commit_wait(object, bounded ? &unbounded : op);
	s3c_mutex_unlock(lock);
	if (bounded) {
		s3c_op_set_interrupt_hook(op, NULL, NULL);
		s3c_op_destroy(&unbounded);
	}
	return r;
}
