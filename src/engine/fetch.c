/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * One GET for a run of chunks of one object. Bytes are copied from the sink into the pages, a batch
 * of complete chunks is opened in place by a worker and given to the slots that still want it.
 *
 * The cache is asked first. What it lacks comes by one request for [from, end): from the first
 * missing chunk to the last.
 *
 * What a fetch holds: chunks [0, handed) and [end, count) were handed to a job (or installed), the
 * others are being filled by the sink. pages[i] is NULL once chunk i was installed or let go.
 */
#include "engine/content.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define LATE_NS (200 * S3C_NSEC_PER_MSEC) /* no attempt begins so shortly before the deadline */
#define INLINE_MAX 2u                /* chunks from memory that are opened by who asks for them */
#define CACHE_INLINE_MAX S3C_PIN_MAX /* chunks that who asks looks for in the cache itself */

struct open_job {
	struct s3c_job job;
	struct s3c_fetch *fetch;
	unsigned from, count;
};

struct s3c_fetch {
	struct s3c_object *object;
	struct s3c_entry *base;
	struct s3c_crypt *crypt;
	struct s3c_target *target;
	LIST_ENTRY(s3c_fetch) link;
	uint64_t first; /* chunk */
	unsigned count;
	uint64_t offset, length; /* stored */
	uint32_t stride;

	/* Guarded by engine->lock. */
	unsigned refs, pending; /* pending: the request and its jobs */
	bool ended;             /* the request */
	bool late;              /* it failed because its time was over */
	int result;
	struct s3c_store_call *call;

	/* The sink's alone. */
	uint64_t pos;
	unsigned from, end, handed, jobs_used;
	bool here; /* from the entry's tail: no request */

	int64_t deadline_ns; /* constant once submitted */
	struct s3c_job cache_job;
	struct open_job *jobs;
	struct s3c_page *pages[];
};

struct s3c_fetch *s3c_fetch_ref(struct s3c_fetch *fetch)
{
	fetch->refs++;
	return fetch;
}

void s3c_fetch_put(struct s3c_fetch *fetch)
{
	if (!fetch || --fetch->refs)
		return;
	s3c_object_release(fetch->object);
	s3c_entry_put(fetch->base);
	s3c_crypt_put(fetch->crypt);
	s3c_target_put(fetch->target);
	free(fetch->jobs);
	free(fetch);
}

int s3c_fetch_result(const struct s3c_fetch *fetch, const struct s3c_entry **ret_base)
{
	*ret_base = fetch->base;
	return fetch->result;
}

bool s3c_fetch_late(const struct s3c_fetch *fetch)
{
	return fetch->late;
}

/* Stored bytes of the fetch's chunk i. */
static uint32_t chunk_stored(const struct s3c_fetch *fetch, unsigned i)
{
	if (fetch->crypt->body)
		return s3c_s3ec_body_stored_len(fetch->crypt->body, fetch->first + i);
	return s3c_chunk_plain_len(fetch->crypt->size, fetch->first + i) +
	       (fetch->crypt->key ? S3C_TAG_LEN : 0);
}

/* What is asked of the store. */
static void set_range(struct s3c_fetch *fetch, unsigned from, unsigned end)
{
	fetch->from = fetch->handed = from;
	fetch->end = end;
	fetch->offset = s3c_crypt_offset(fetch->crypt, fetch->first + from);
	fetch->length = s3c_crypt_offset(fetch->crypt, fetch->first + end - 1) +
			chunk_stored(fetch, end - 1) - fetch->offset;
}

/* Lets go of chunks that will not come. */
static void give_up(struct s3c_fetch *fetch, unsigned from, unsigned count)
{
	struct s3c_object *object = fetch->object;

	for (unsigned i = from; i < from + count; i++) {
		struct s3c_segment *segment;
		struct s3c_slot *slot = s3c_slot_find(object, fetch->first + i, &segment);

		if (slot && slot->state == S3C_CHUNK_FETCHING && slot->fetch == fetch) {
			s3c_slot_drop(object, segment, slot);
			s3c_segment_prune(object, segment);
		}
		if (fetch->pages[i])
			s3c_page_free(&object->objects->mem, fetch->pages[i]);
		fetch->pages[i] = NULL;
	}
	s3c_waitq_wake_all(&object->waitq);
}

int s3c_fetch_new(struct s3c_object *object, uint64_t first, unsigned count, enum s3c_page_take how,
		  struct s3c_fetch **ret_fetch)
{
	struct s3c_memory *mem = &object->objects->mem;
	int64_t now = s3c_clock_monotonic_ns();
	struct s3c_fetch *fetch;
	int r = 0;

	/* Taking some and giving them back would wake the others who wait, to do the same. */
	if (how == S3C_TAKE_DEMAND && s3c_memory_demand_room(mem) < count)
		return -EAGAIN;
	fetch = calloc(1, sizeof(*fetch) + count * sizeof(fetch->pages[0]));
	if (!fetch)
		return -ENOMEM;
	fetch->refs = 1;
	fetch->first = first;
	fetch->jobs = calloc(count / S3C_BATCH + 1, sizeof(*fetch->jobs));
	if (!fetch->jobs)
		r = -ENOMEM;
	s3c_object_hold(object);
	fetch->object = object;
	fetch->base = s3c_entry_ref(object->base);
	fetch->crypt = s3c_crypt_ref(object->crypt);
	fetch->target = s3c_target_ref(object->target);
	fetch->stride = fetch->crypt->key ? S3C_CHUNK_STRIDE : S3C_CHUNK_SIZE;
	for (; r == 0 && fetch->count < count; fetch->count++) {
		struct s3c_segment *segment;
		struct s3c_slot *slot;

		/* First, for an eviction may prune segments. */
		r = s3c_page_take(mem, how, &fetch->pages[fetch->count]);
		if (r < 0)
			break;
		r = s3c_slot_make(object, first + fetch->count, &segment, &slot);
		if (r < 0) {
			s3c_page_free(mem, steal_ptr(fetch->pages[fetch->count]));
			break;
		}
		fetch->pages[fetch->count]->ahead = how == S3C_TAKE_AHEAD;
		fetch->pages[fetch->count]->stamp_ns = now;
		s3c_slot_set(segment, slot, S3C_CHUNK_FETCHING);
		slot->fetch = fetch;
	}
	if (r < 0) {
		give_up(fetch, 0, fetch->count);
		s3c_fetch_put(fetch);
		return r;
	}
	set_range(fetch, 0, count);
	fetch->pending = 1;
	LIST_INSERT_HEAD(&object->objects->fetches, fetch, link);
	*ret_fetch = s3c_fetch_ref(fetch);
	return 0;
}

void s3c_fetch_disown(struct s3c_object *object, struct s3c_segment *segment, struct s3c_slot *slot)
{
	s3c_slot_drop(object, segment, slot);
	s3c_waitq_wake_all(&object->waitq);
}

/* One of the request and the jobs has ended. */
static void fetch_unpend(struct s3c_fetch *fetch)
{
	if (--fetch->pending)
		return;
	LIST_REMOVE(fetch, link);
	s3c_waitq_wake_all(&fetch->object->waitq);
	s3c_fetch_put(fetch);
}

static void set_result(struct s3c_fetch *fetch, int result)
{
	if (fetch->result == 0)
		fetch->result = result;
}

/* What the object looks like now decides how much of an opened chunk counts. */
static void install_one(struct s3c_fetch *fetch, unsigned i)
{
	struct s3c_object *object = fetch->object;
	uint64_t chunk = fetch->first + i, start = chunk * S3C_CHUNK_SIZE;
	struct s3c_page *page = fetch->pages[i];
	struct s3c_segment *segment;
	struct s3c_slot *slot = s3c_slot_find(object, chunk, &segment);

	fetch->pages[i] = NULL;
	if (!slot || slot->state != S3C_CHUNK_FETCHING || slot->fetch != fetch) {
		s3c_page_free(&object->objects->mem, page);
		return;
	}
	/* Truncation takes away the chunk at the cut and all after it: none is FETCHING then. The
	   rest of this one was zeroed when it was opened, by what was visible then or less. */
	if (object->base_visible < start + S3C_CHUNK_SIZE && object->base_visible > start)
		memset(page->data + (object->base_visible - start), 0,
		       S3C_CHUNK_SIZE - (object->base_visible - start));
	slot->fetch = NULL;
	if (slot->waiters)
		page->ahead = false;
	s3c_slot_set(segment, slot, S3C_CHUNK_CLEAN);
	s3c_slot_set_page(object, chunk, slot, page);
}

static int open_chunks(struct s3c_fetch *fetch, unsigned from, unsigned count)
{
	const struct s3c_crypt *crypt = fetch->crypt;
	struct s3c_segment_cipher *cipher = NULL;
	uint64_t segment = UINT64_MAX;
	int r = 0;

	for (unsigned i = from; i < from + count && r == 0; i++) {
		uint64_t chunk = fetch->first + i;
		uint32_t plain = s3c_chunk_plain_len(crypt->size, chunk);
		uint8_t *data = fetch->pages[i]->data;

		if (crypt->key && segment != chunk / S3C_SEGMENT_CHUNKS) {
			s3c_segment_cipher_free(steal_ptr(cipher));
			segment = chunk / S3C_SEGMENT_CHUNKS;
			r = s3c_segment_cipher_new(crypt->key, crypt->file_id, segment,
						   crypt->salts + segment * S3C_SALT_LEN, &cipher);
		}
		if (crypt->body)
			r = s3c_s3ec_body_open(crypt->body, chunk, data);
		if (crypt->key && r == 0)
			r = s3c_chunk_open(cipher, chunk % S3C_SEGMENT_CHUNKS, data,
					   plain + S3C_TAG_LEN, data);
		if (plain < S3C_CHUNK_SIZE)
			memset(data + plain, 0, S3C_CHUNK_SIZE - plain);
	}
	s3c_segment_cipher_free(cipher);
	return r;
}

static void open_batch(struct s3c_fetch *fetch, unsigned from, unsigned count)
{
	struct s3c_engine *engine = fetch->object->engine;
	int r = open_chunks(fetch, from, count);

	if (r == -EBADMSG)
		r = s3c_object_fail(fetch->object, "read", fetch->target, r,
				    "a chunk is not authentic: it was altered");
	/* As long as the pages are nobody else's. */
	for (unsigned i = from; i < from + count && r == 0; i++)
		s3c_cached_put(engine, fetch->crypt, fetch->base, fetch->target, fetch->first + i,
			       fetch->pages[i]->data);
	s3c_mutex_lock(&engine->lock);
	if (r < 0) {
		set_result(fetch, r);
		give_up(fetch, from, count);
	} else {
		for (unsigned i = from; i < from + count; i++)
			install_one(fetch, i);
		s3c_waitq_wake_all(&fetch->object->waitq);
	}
	fetch_unpend(fetch);
	s3c_mutex_unlock(&engine->lock);
}

static void open_run(struct s3c_job *job)
{
	struct open_job *open = container_of(job, struct open_job, job);

	open_batch(open->fetch, open->from, open->count);
}

/* Chunks [handed, end) are complete. */
static void hand_over(struct s3c_fetch *fetch, unsigned end)
{
	struct s3c_engine *engine = fetch->object->engine;
	struct open_job *open = &fetch->jobs[fetch->jobs_used++];

	*open = (struct open_job){
		.job.run = open_run,
		.fetch = fetch,
		.from = fetch->handed,
		.count = end - fetch->handed,
	};
	fetch->handed = end;
	s3c_mutex_lock(&engine->lock);
	fetch->pending++;
	s3c_mutex_unlock(&engine->lock);
	/* Without decryption there is little to do. */
	if ((!fetch->crypt->key && !fetch->crypt->body) ||
	    (fetch->here && fetch->count <= INLINE_MAX))
		open_run(&open->job);
	else
		s3c_pool_submit(engine->workers, &open->job);
}

static int sink_begin(void *arg, const struct s3c_stat *st, uint64_t offset, uint64_t length,
		      uint64_t total)
{
	struct s3c_fetch *fetch = arg;

	(void)st;
	if (total != fetch->base->stored_size)
		return -ESTALE;
	if (offset != fetch->offset || length != fetch->length)
		return -EPROTO;
	fetch->pos = 0;
	return 0;
}

static int sink_data(void *arg, const void *data, size_t len)
{
	struct s3c_fetch *fetch = arg;
	const uint8_t *from = data;

	while (len) {
		uint64_t i = fetch->from + fetch->pos / fetch->stride;
		uint32_t in = (uint32_t)(fetch->pos % fetch->stride), stored;
		size_t n;

		if (i >= fetch->end)
			return -EPROTO;
		stored = chunk_stored(fetch, (unsigned)i);
		if (in >= stored)
			return -EPROTO;
		n = S3C_MIN(len, stored - in);
		/* Handed ones came with an earlier attempt. */
		if (i >= fetch->handed)
			memcpy(fetch->pages[i]->data + in, from, n);
		fetch->pos += n;
		from += n;
		len -= n;
		if (in + n == stored && i >= fetch->handed &&
		    (i + 1 - fetch->handed == S3C_BATCH || i + 1 == fetch->end))
			hand_over(fetch, (unsigned)i + 1);
	}
	return 0;
}

static void fetch_end(struct s3c_fetch *fetch, int result, const char *message)
{
	struct s3c_engine *engine = fetch->object->engine;
	struct s3c_store *store = engine->store; /* which outlives the engine's other parts */
	struct s3c_store_call *call;

	if (result == 0 && fetch->handed < fetch->end)
		result = -EPROTO;
	/* It was there: the readers look again at what became of it. */
	if (result == -ENOENT)
		result = -ESTALE;
	if (result < 0)
		result = s3c_object_fail(fetch->object, "read", fetch->target, result, message);
	s3c_mutex_lock(&engine->lock);
	if (result < 0) {
		set_result(fetch, result);
		/* The last of several attempts may have failed in another way. */
		fetch->late = s3c_clock_monotonic_ns() >= fetch->deadline_ns - LATE_NS;
		give_up(fetch, fetch->handed, fetch->end - fetch->handed);
	}
	fetch->ended = true;
	call = steal_ptr(fetch->call);
	fetch_unpend(fetch);
	s3c_mutex_unlock(&engine->lock);
	s3c_store_call_put(store, call);
}

static void fetch_done(void *arg, struct s3c_store_reply *reply)
{
	fetch_end(arg, reply->result, reply->message);
}

/* The lookup brought the end of the body. */
static bool fetch_from_tail(struct s3c_fetch *fetch)
{
	const struct s3c_entry *base = fetch->base;
	uint64_t start;

	if (!base->tail || base->tail_len > base->stored_size)
		return false;
	start = base->stored_size - base->tail_len;
	if (fetch->offset < start || fetch->offset + fetch->length > base->stored_size)
		return false;
	fetch->here = true;
	sink_data(fetch, base->tail + (fetch->offset - start), fetch->length);
	fetch_end(fetch, 0, NULL);
	return true;
}

/* Takes what the cache has at both ends; true: that was all. */
static bool fetch_from_cache(struct s3c_fetch *fetch)
{
	struct s3c_engine *engine = fetch->object->engine;
	cleanup_free bool *have = calloc(fetch->count, sizeof(*have));
	unsigned from = 0, end = fetch->count;

	if (!have || !s3c_cached_get(engine, fetch->crypt, fetch->base, fetch->target, fetch->first,
				     fetch->count, fetch->pages, have))
		return false;
	while (from < end && have[from])
		from++;
	while (end > from && have[end - 1])
		end--;
	s3c_mutex_lock(&engine->lock);
	for (unsigned i = 0; i < fetch->count; i++)
		if (i < from || i >= end)
			install_one(fetch, i);
	s3c_waitq_wake_all(&fetch->object->waitq);
	s3c_mutex_unlock(&engine->lock);
	if (from < end) {
		set_range(fetch, from, end);
		return false;
	}
	fetch->from = fetch->handed = fetch->end = fetch->count;
	fetch_end(fetch, 0, NULL);
	return true;
}

static void fetch_request(struct s3c_fetch *fetch);

static void ask(struct s3c_fetch *fetch)
{
	if (!fetch_from_cache(fetch))
		fetch_request(fetch);
}

static void cache_run(struct s3c_job *job)
{
	struct s3c_fetch *fetch = container_of(job, struct s3c_fetch, cache_job);
	struct s3c_engine *engine = fetch->object->engine;

	ask(fetch);
	s3c_mutex_lock(&engine->lock);
	s3c_fetch_put(fetch);
	s3c_mutex_unlock(&engine->lock);
}

void s3c_fetch_submit(struct s3c_fetch *fetch)
{
	struct s3c_engine *engine = fetch->object->engine;

	if (fetch_from_tail(fetch))
		return;
	if (!engine->config.cache) {
		fetch_request(fetch);
	} else if (fetch->count <= CACHE_INLINE_MAX) {
		ask(fetch);
	} else {
		/* The caller's reference ends with this call, the request's with the request. */
		s3c_mutex_lock(&engine->lock);
		s3c_fetch_ref(fetch);
		s3c_mutex_unlock(&engine->lock);
		fetch->cache_job.run = cache_run;
		s3c_pool_submit(engine->tasks, &fetch->cache_job);
	}
}

static void fetch_request(struct s3c_fetch *fetch)
{
	struct s3c_engine *engine = fetch->object->engine;
	const char *etag = fetch->base->version.etag;
	struct s3c_store_request rq = {
		.op = S3C_STORE_GET,
		.deadline_ns = fetch->deadline_ns = s3c_engine_deadline(engine),
		.content = true,
		.key = fetch->target->key,
		.ssec = fetch->target->ssec,
		.offset = fetch->offset,
		.length = fetch->length,
		.condition.if_match = etag[0] ? etag : NULL,
		.sink = { sink_begin, sink_data, fetch },
	};
	struct s3c_store_call *call = NULL;
	int r;

	r = s3c_store_submit(engine->store, &rq, fetch_done, fetch, &call);
	if (r < 0) {
		fetch_end(fetch, r, "refused");
		return;
	}
	s3c_mutex_lock(&engine->lock);
	if (!fetch->ended && !engine->objects->stop)
		fetch->call = steal_ptr(call);
	s3c_mutex_unlock(&engine->lock);
	if (!call)
		return;
	/* It is over, or the engine ends and nobody waits for it. */
	s3c_store_cancel(engine->store, call);
	s3c_store_call_put(engine->store, call);
}

void s3c_fetch_cancel_all(struct s3c_objects *objects)
{
	struct s3c_engine *engine = objects->engine;
	struct s3c_fetch *fetch = LIST_FIRST(&objects->fetches);

	while (fetch) {
		struct s3c_store_call *call = steal_ptr(fetch->call);

		if (!call) {
			fetch = LIST_NEXT(fetch, link);
			continue;
		}
		s3c_mutex_unlock(&engine->lock);
		s3c_store_cancel(engine->store, call);
		s3c_store_call_put(engine->store, call);
		s3c_mutex_lock(&engine->lock);
		/* The list may be another one by now. */
		fetch = LIST_FIRST(&objects->fetches);
	}
}
