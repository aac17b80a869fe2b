/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * copy_file_range of whole files: the store copies the object, no byte of it comes here.
 *
 * The copy has the data key, file id and content id of its source, as a renamed file has, under a
 * header of its own, sealed for its place. What is written to either later draws fresh salts, so no
 * key meets two plaintexts (doc/format.md).
 *
 * It is a commit of its target whose content happens to be elsewhere: the same conditions, attempts
 * that are known again, records and end as in commit.c; only the view is not what is sent. So the
 * view stays empty until the store has confirmed, and gets size and content in one step. It has no
 * result that anybody sees: where it is not possible, or fails, the caller is to read and write,
 * and meets there whatever it is that fails. A copy whose reply was lost is an attempt by then,
 * which the next commit knows for its own.
 *
 * A file larger than an answer can tell is copied with the first request for it; what was asked for
 * shows, and more of it with each further one (cut, grow).
 *
 * Objects of up to a segment are one GET and one PUT, often only the latter, and attributes go with
 * it: those are not copied.
 */
#include "engine/content.h"
#include "engine/links.h"
#include "engine/names.h"
#include "engine/pending.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

/* What a reply of FUSE can tell, in whole chunks; the kernel asks for no more at a time. */
#define DONE_MAX (UINT64_C(0xffffffff) / S3C_CHUNK_SIZE * S3C_CHUNK_SIZE)

/* Is it wholly what the store has? Lock held. */
static bool is_stored(const struct s3c_object *object)
{
	return object->hashed && object->base && !s3c_object_is_dirty(object) &&
	       object->base_visible == object->size && object->base->header.size == object->size;
}

/* As a new file would be encrypted: a copy must not be under less, or under a former key. */
static bool is_current(const struct s3c_engine *engine, const struct s3c_header *header)
{
	if (!s3c_sealed_mode(engine))
		return header->layout == S3C_LAYOUT_PLAIN;
	return header->layout == S3C_LAYOUT_TRAILER && header->epoch == engine->volume->epoch &&
	       s3c_header_is_current(header, s3c_keyring_in_use(&engine->config));
}

/* Lock held. */
static bool can_give(const struct s3c_object *object)
{
	return is_stored(object) && S_ISREG(object->attrs.mode) && !object->committing &&
	       object->size > S3C_SEGMENT_SIZE && !s3c_path_is_body(object->path) &&
	       is_current(object->engine, &object->base->header);
}

/* Is the outcome of a request that changes it open, or the journal's record to be taken back? Lock
   held. */
static bool is_unsettled(const struct s3c_object *object)
{
	for (unsigned i = 0; i < ARRAY_LEN(object->attempts); i++)
		if (object->attempts[i].used)
			return true;
	return object->committing || object->persisting || object->upload || object->paused ||
	       object->renewing || object->claiming || object->lost || s3c_object_is_frozen(object);
}

/*
 * A file that is set-user-id loses that by a write, of which the kernel tells who does it. Where a
 * base is replaced, a copy of another version than was meant must not take it away: with a
 * condition on the source that cannot be. Lock held.
 */
static bool can_take(const struct s3c_object *object)
{
	const struct s3c_store_caps *caps = &object->engine->store->caps;

	return object->hashed && !object->size && S_ISREG(object->attrs.mode) &&
	       !(object->attrs.mode & (S_ISUID | S_ISGID)) && !s3c_path_is_body(object->path) &&
	       (!object->base || (caps->copy_source_if_match && caps->part_copy_source_if_match)) &&
	       !is_unsettled(object);
}

/* Lock held. */
static bool is_possible(const struct s3c_object *to, const struct s3c_object *from, uint64_t offset,
			uint64_t len)
{
	const struct s3c_engine *engine = to->engine;

	return to != from && !engine->objects->no_clone && !s3c_whole_format(engine) && !offset &&
	       len >= S3C_MIN(from->size, DONE_MAX) && can_give(from) && can_take(to);
}

/*
 * What was asked for of a copy that is larger than that: the rest of base does not show. Nobody can
 * tell it from a copy that was cut, and so it would be stored; but it can grow. -EOPNOTSUPP: it is
 * in use. Lock held.
 */
static int cut(struct s3c_object *to, struct s3c_entry *source)
{
	if (to->size <= DONE_MAX)
		return 0;
	if (s3c_object_is_dirty(to) || to->writing || to->busy)
		return -EOPNOTSUPP;
	to->size = to->base_visible = DONE_MAX;
	/* Whoever read in between. */
	s3c_chunks_drop(to, DONE_MAX / S3C_CHUNK_SIZE);
	to->clone_content_seq = ++to->content_seq;
	to->clone_seq = ++to->seq;
	s3c_entry_put(to->clone_of);
	to->clone_of = s3c_entry_ref(source);
	return 0;
}

/*
 * More of base shows, where what is asked for is what base has there: nothing was written since the
 * cut, and the source is the version that was copied. 0: not so. Lock held.
 */
static uint64_t grow(struct s3c_object *to, const struct s3c_object *from, uint64_t offset,
		     uint64_t len)
{
	uint64_t n;

	if (!to->clone_of || to->clone_of != from->base || !is_stored(from) || !to->hashed ||
	    !to->base || to->jid || is_unsettled(to) || offset != to->size ||
	    to->base_visible != offset || to->content_seq != to->clone_content_seq ||
	    to->base->header.size != from->size)
		return 0;
	n = S3C_MIN(S3C_MIN(len, from->size - offset), DONE_MAX);
	if (offset + n < from->size)
		n -= n % S3C_CHUNK_SIZE;
	to->size = to->base_visible = offset + n;
	if (to->size < from->size)
		return n;
	to->content_clean = to->content_seq;
	if (to->seq == to->clone_seq)
		to->clean_seq = to->seq;
	s3c_entry_put(steal_ptr(to->clone_of));
	return n;
}

/* Nobody takes it for a commit of theirs: snap_seq. Lock held. */
static int begin(struct s3c_commit *c, struct s3c_object *from)
{
	struct s3c_object *to = c->object;
	int r;

	/* A view that the journal does not have: it has the empty one, which an attempt for that
	   would be sent again as, over the copy. */
	to->seq++;
	r = s3c_commit_snapshot(c);
	to->snap_seq = 0;
	if (r < 0)
		return r;
	s3c_crypt_put(c->crypt);
	c->crypt = from->crypt ? s3c_crypt_ref(from->crypt) : NULL;
	c->cloned = c->content = true;
	c->size = from->size;
	c->stored = from->base->stored_size;
	c->attrs.mtime_ns = c->attrs.ctime_ns = s3c_clock_realtime_ns();
	to->committing = true;
	to->commits_begun++;
	s3c_object_hold(to);
	return 0;
}

/* Lock held. */
static void end(struct s3c_object *to, int r)
{
	to->publishing = false;
	if (r == 0)
		s3c_object_record_committed(to, r);
	else
		to->seq++;
	to->committing = false;
	to->commits_ended = to->commits_begun;
	to->commit_result = 0;
	s3c_waitq_wake_all(&to->waitq);
	s3c_waitq_wake_all(&to->objects->mem.dirty_wait);
	s3c_waitq_wake_all(&to->objects->idle);
	s3c_object_release(to);
}

static int copy(struct s3c_commit *c, const struct s3c_entry *source, const char *from_key)
{
	struct s3c_copy copy = {
		.from = from_key,
		.to = c->target->key,
		.path = c->target->path,
		.old = &source->header,
		.header = source->header,
		.source = &source->version,
		.stored_size = source->stored_size,
		.extra = c->entry->extra,
		.op_given = true,
		.guard = true,
		.by_store = true,
		.replaces = c->base ? &c->base->version : NULL,
		.over = c->base ? c->base->header.generation : 0,
	};
	int r;

	s3c_header_set(&c->header, &source->header);
	s3c_commit_draw_op(c);
	r = s3c_commit_attempt(c);
	if (r < 0)
		return r;
	memcpy(copy.header.op_id, c->header.op_id, sizeof(copy.header.op_id));
	copy.header.attrs = c->attrs;
	copy.header.attrs.known = true;
	copy.header.attrs_final = source->header.layout == S3C_LAYOUT_TRAILER;
	r = s3c_copy_object(c->object->engine, &copy, &c->version);
	if (r == 0)
		s3c_header_set(&c->header, &copy.header);
	return r;
}

/*
 * Whoever has frozen the target moves or removes it: then it is not copied. Whoever freezes it from
 * here on waits, as for a commit.
 */
static int do_clone(struct s3c_object *to, struct s3c_object *from, uint64_t len,
		    uint64_t *ret_size)
{
	struct s3c_mutex *lock = &to->engine->lock;
	cleanup_entry struct s3c_entry *source = NULL;
	struct s3c_commit c = { .object = to };
	struct s3c_target *at = NULL;
	int r = -EOPNOTSUPP;

	s3c_mutex_lock(lock);
	if (is_possible(to, from, 0, len))
		r = begin(&c, from);
	if (r == 0) {
		source = s3c_entry_ref(from->base);
		at = s3c_target_ref(from->target);
		*ret_size = source->header.size;
	}
	s3c_mutex_unlock(lock);
	if (r == 0) {
		r = copy(&c, source, at->key);
		if (r == 0)
			s3c_commit_succeed(&c);
		else
			s3c_warn("%s could not be copied by the store (%s): it is read and written",
				 at->path, strerror(-r));
		s3c_mutex_lock(lock);
		/* Ceph copies no parts between customer keys. */
		to->objects->no_clone |= r == -EOPNOTSUPP || r == -EKEYREJECTED;
		end(to, r);
		/* Written to meanwhile, which the kernel does not do. */
		if (r == 0 && to->base_visible != source->header.size)
			r = -EOPNOTSUPP;
		if (r == 0)
			r = cut(to, source);
		s3c_mutex_unlock(lock);
		s3c_target_put(at);
	}
	s3c_commit_clear(&c);
	return r;
}

/* A delete that is under way would be taken for what the new file replaces. */
static int settle(struct s3c_object *to, struct s3c_op *op)
{
	cleanup_free char *path = NULL;

	if (!s3c_writeback(to->engine))
		return 0;
	s3c_mutex_lock(&to->engine->lock);
	path = strdup(to->path);
	s3c_mutex_unlock(&to->engine->lock);
	return path ? s3c_pending_flush(to->engine, op, path) : -ENOMEM;
}

int s3c_object_clone(struct s3c_object *to, struct s3c_object *from, struct s3c_op *op,
		     uint64_t offset, uint64_t len, uint64_t *ret_done)
{
	struct s3c_engine *engine = to->engine;
	bool possible;
	uint64_t size = 0, grown;
	int r = s3c_writable(engine);

	if (r < 0)
		return r;
	s3c_mutex_lock(&engine->lock);
	grown = offset && to != from ? grow(to, from, offset, len) : 0;
	possible = is_possible(to, from, offset, len);
	s3c_mutex_unlock(&engine->lock);
	if (grown) {
		*ret_done = grown;
		return 0;
	}
	if (!possible)
		return -EOPNOTSUPP;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = settle(to, op);
	if (r == 0)
		r = do_clone(to, from, len, &size);
	if (r < 0)
		return r == -EINTR ? r : -EOPNOTSUPP;
	*ret_done = S3C_MIN(size, DONE_MAX);
	return 0;
}
