/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Making room for dirty chunks, giving memory back, and trying again what could not be stored. */
#include "engine/content.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/durable.h"

#define RETRY_TICK_S 5.0
#define WRITEBACK_TICK_S 0.5
#define GIVE_BACK_NS (30 * S3C_NSEC_PER_SEC)

static struct s3c_page *oldest(struct s3c_memory *mem)
{
	/* Chunks in parts that wait for Complete are needed again only if that fails. */
	struct s3c_page *page = TAILQ_FIRST(&mem->lists[S3C_LIST_SENT]);

	return page ? page : TAILQ_FIRST(&mem->lists[S3C_LIST_DIRTY]);
}

/* All chunks of an uploaded segment that nobody uses; the rest of them stays. */
static bool drop_segment(struct s3c_object *object, struct s3c_segment *segment)
{
	bool any = false;

	for (unsigned i = 0; i < S3C_SEGMENT_CHUNKS; i++) {
		struct s3c_slot *slot = &segment->slots[i];

		if (slot->state != S3C_CHUNK_SENT || slot->waiters || slot->busy ||
		    (slot->page && slot->page->pins) || (!slot->page && !slot->spill))
			continue;
		if (slot->page)
			s3c_slot_evict(slot->page);
		s3c_slot_unspill(object, slot);
		any = true;
	}
	return any;
}

/* Only while the part has all that its segments have: what is sent again is sent whole. */
static bool drop_part(struct s3c_object *object, const struct s3c_part *part)
{
	struct s3c_segment *segment;
	bool any = false;

	for (uint64_t i = part->first; i < part->first + part->count; i++) {
		segment = s3c_segment_find(object, i);
		if (!segment || !segment->uploaded || segment->dropped ||
		    segment->sent != S3C_SEGMENT_CHUNKS)
			return false;
	}
	for (uint64_t i = part->first; i < part->first + part->count; i++)
		any |= drop_segment(object, s3c_segment_find(object, i));
	if (!any)
		return false;
	object->upload->dropped = true;
	for (uint64_t i = part->first; i < part->first + part->count; i++)
		s3c_segment_find(object, i)->dropped = true;
	return true;
}

/* The spill file is full: a stream goes on without the chunks that are in the store. */
static bool drop_sent(struct s3c_objects *objects)
{
	struct s3c_object *object;

	LIST_FOREACH (object, &objects->all, all) {
		/* Who copies chunks into the journal would have to wait for a commit, which waits
		   for that. */
		if (!object->upload || object->upload->cancel || object->committing ||
		    object->persisting)
			continue;
		for (unsigned i = 0; i < object->upload->count; i++)
			if (drop_part(object, object->upload->parts[i]))
				return true;
	}
	return false;
}

/* After the write: the page can go, unless somebody uses it. */
static int spilled(struct s3c_page *page, uint32_t spill, uint32_t len, const uint8_t *tag, int r)
{
	struct s3c_object *object = page->object;
	struct s3c_objects *objects = object->objects;
	struct s3c_segment *segment;
	struct s3c_slot *slot = s3c_slot_find(object, page->chunk, &segment);
	bool dirty = slot->state == S3C_CHUNK_DIRTY || slot->state == S3C_CHUNK_SENT;

	object->busy--;
	page->spilling = false;
	if (r < 0 || !dirty) {
		s3c_spill_give(objects->spill, spill);
		s3c_page_unpin(&objects->mem, page);
	} else {
		s3c_spill_set_tag(objects->spill, spill, len, tag);
		slot->spill = spill + 1;
		s3c_page_to_read(&objects->mem, page);
		s3c_page_unpin(&objects->mem, page);
		if (!page->pins)
			s3c_slot_evict(page);
	}
	s3c_waitq_wake_all(&object->waitq);
	s3c_waitq_wake_all(&objects->mem.dirty_wait);
	s3c_object_release(object);
	return r;
}

/*
 * 0: a page of the dirty pool became free; -EAGAIN: none is idle, or one becomes free by itself,
 * until ret_until_ns; -ENOSPC.
 */
static int spill_one(struct s3c_objects *objects, int64_t *ret_until_ns)
{
	struct s3c_page *page = oldest(&objects->mem);
	struct s3c_object *object;
	uint8_t tag[S3C_TAG_LEN];
	uint32_t spill, len;
	uint64_t nonce;
	int r;

	if (!page)
		return -EAGAIN;
	/* What is sent next would be written to the disk, only to be read again at once. */
	if (!page->sent && s3c_stream_due(page->object, page->chunk, ret_until_ns))
		return -EAGAIN;
	r = s3c_spill_take(objects->spill, &spill, &nonce);
	if (r == -ENOSPC && drop_sent(objects))
		return 0;
	if (r < 0)
		return r;
	object = page->object;
	s3c_object_hold(object);
	object->busy++;
	s3c_page_pin(&objects->mem, page);
	page->spilling = true;
	len = s3c_spill_len(page->used);
	s3c_mutex_unlock(&objects->engine->lock);
	r = s3c_spill_write(objects->spill, spill, nonce, page->data, len, tag);
	s3c_mutex_lock(&objects->engine->lock);
	r = spilled(page, spill, len, tag, r);
	if (r == -ENOSPC && drop_sent(objects))
		return 0;
	return r;
}

/* Somebody's commit makes room: the writer's own object, or the one with the oldest chunk. */
static struct s3c_object *commit_victim(struct s3c_object *object)
{
	struct s3c_page *page = oldest(&object->objects->mem);

	if (s3c_object_is_dirty(object) && !s3c_object_is_frozen(object))
		return object;
	if (page && s3c_object_is_dirty(page->object) && !s3c_object_is_frozen(page->object))
		return page->object;
	return NULL;
}

static bool anything_runs(const struct s3c_objects *objects)
{
	const struct s3c_object *object;

	if (objects->uploading)
		return true;
	LIST_FOREACH (object, &objects->all, all)
		if (object->committing || object->writing || object->busy ||
		    (object->upload && object->upload->creating))
			return true;
	return false;
}

int s3c_room_wait(struct s3c_object *object, struct s3c_op *op)
{
	struct s3c_objects *objects = object->objects;
	struct s3c_mutex *lock = &objects->engine->lock;
	int64_t until_ns = INT64_MAX;
	struct s3c_object *victim;
	int r;

	if (s3c_memory_dirty_room(&objects->mem, 1))
		return 0;
	r = spill_one(objects, &until_ns);
	if (r == 0)
		return 0;
	if (r != -ENOSPC && r != -EAGAIN)
		return r;
	if (r == -EAGAIN || anything_runs(objects)) {
		r = s3c_waitq_wait_until(&objects->mem.dirty_wait, lock, op, until_ns);
		return r == -EAGAIN ? 0 : r;
	}
	/* Memory and spill file are full of changes that nobody sends yet. */
	victim = commit_victim(object);
	if (!victim)
		return -ENOSPC;
	s3c_object_hold(victim);
	s3c_mutex_unlock(lock);
	r = s3c_object_commit(victim, op);
	s3c_mutex_lock(lock);
	s3c_object_release(victim);
	if (r < 0 && r != -EINTR && r != -ETIMEDOUT) {
		s3c_error("%s: there is no room for more changes in memory and cache_dir: raise "
			  "cache_size",
			  object->path);
		r = -ENOSPC;
	}
	return r;
}

/* Is it sent while it is open? Content waits for its close, where that is what stores it. */
static bool sends_open(const struct s3c_object *object)
{
	return s3c_writeback(object->engine) || object->content_seq == object->content_clean;
}

static void retry_due(struct s3c_objects *objects)
{
	int64_t now = s3c_clock_monotonic_ns();
	struct s3c_object *object;

	LIST_FOREACH (object, &objects->all, all)
		if ((!object->users || (object->retry_ns && sends_open(object))) &&
		    object->retry_ns <= now && s3c_object_is_dirty(object) && !object->hopeless)
			s3c_commit_start(object);
}

static double tick(const struct s3c_objects *objects)
{
	const struct s3c_object *object;

	if (s3c_writeback(objects->engine))
		return WRITEBACK_TICK_S;
	LIST_FOREACH (object, &objects->all, all)
		if (object->retry_ns && sends_open(object) && s3c_object_is_dirty(object))
			return WRITEBACK_TICK_S;
	return RETRY_TICK_S;
}

/*
 * Requests of every size by tens of threads leave free pages between what lives longer, in an arena
 * for each few threads, and glibc gives back what is at the end of one alone: in hours that is a
 * multiple of what is in use.
 */
static void give_back(int64_t *given_ns)
{
#ifdef __GLIBC__
	int64_t now = s3c_clock_monotonic_ns();

	if (now - *given_ns < GIVE_BACK_NS)
		return;
	malloc_trim(0);
	*given_ns = now;
#else
	(void)given_ns;
#endif
}

static void *retrier(void *arg)
{
	struct s3c_objects *objects = arg;
	struct s3c_mutex *lock = &objects->engine->lock;
	int64_t given_ns = 0;

	s3c_mutex_lock(lock);
	while (!objects->retrier_ends) {
		struct s3c_op op;

		s3c_op_init(&op, s3c_deadline_after(tick(objects)));
		s3c_waitq_wait(&objects->retry_wait, lock, &op);
		s3c_op_destroy(&op);
		if (objects->retrier_ends)
			break;
		retry_due(objects);
		if (s3c_spill_shrink_begin(objects->spill)) {
			s3c_mutex_unlock(lock);
			s3c_spill_shrink(objects->spill);
			s3c_mutex_lock(lock);
			s3c_spill_shrink_end(objects->spill);
			s3c_waitq_wake_all(&objects->mem.dirty_wait);
		}
		s3c_mutex_unlock(lock);
		give_back(&given_ns);
		s3c_mutex_lock(lock);
	}
	s3c_mutex_unlock(lock);
	return NULL;
}

int s3c_retrier_start(struct s3c_objects *objects)
{
	int r = s3c_thread_start(&objects->retrier, "s3c-retry", retrier, objects);

	objects->retrier_runs = r == 0;
	return r;
}

void s3c_retrier_stop(struct s3c_objects *objects)
{
	if (!objects->retrier_runs)
		return;
	s3c_mutex_lock(&objects->engine->lock);
	objects->retrier_ends = true;
	s3c_waitq_wake_all(&objects->retry_wait);
	s3c_mutex_unlock(&objects->engine->lock);
	pthread_join(objects->retrier, NULL);
}
