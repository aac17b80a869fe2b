/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/content.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"

#define READ_MAX (1u << 20)
#define AHEAD_GET S3C_SEGMENT_SIZE         /* smallest GET of a sequence */
#define AHEAD_FIRST S3C_SEGMENT_SIZE       /* smallest window */
#define AHEAD_MAX (12u * S3C_SEGMENT_SIZE) /* largest window */
#define AHEAD_GROWTH 8u                    /* the window is so many times what was read */
#define AHEAD_SLACK (4u << 20)          /* reads of a sequence come out of order within so much */
#define AHEAD_SHORT_NS S3C_NSEC_PER_SEC /* a reader found no memory: all take less so long */

const uint8_t s3c_zero_chunk[S3C_CHUNK_SIZE];

int s3c_chunk_is_zero(const struct s3c_object *object, uint64_t chunk)
{
	if (!object->base || chunk * S3C_CHUNK_SIZE >= object->base_visible)
		return 1;
	if (object->base->header.layout != S3C_LAYOUT_TRAILER)
		return 0;
	if (!object->crypt)
		return -EAGAIN;
	return s3c_crypt_hole(object->crypt, chunk / S3C_SEGMENT_CHUNKS);
}

/* One call of s3c_chunks_pin. */
struct pinning {
	struct s3c_object *object;
	struct s3c_op *op;
	uint64_t first;
	unsigned n;
	struct s3c_page **pages;
	bool done[S3C_PIN_MAX], waits[S3C_PIN_MAX];
	struct s3c_fetch *fetches[S3C_PIN_MAX]; /* who was to bring the chunk */
	bool own[S3C_PIN_MAX];                  /* begun by this call */
	bool admitted, need_commit;
	unsigned stale;
};

static void stop_waiting(struct pinning *p, unsigned i)
{
	struct s3c_segment *segment;
	struct s3c_slot *slot;

	if (!p->waits[i])
		return;
	p->waits[i] = false;
	slot = s3c_slot_find(p->object, p->first + i, &segment);
	slot->waiters--;
	segment->waiters--;
	/* The page, if there is one, can be evicted again. */
	if (!slot->waiters)
		s3c_waitq_wake_all(&p->object->objects->mem.read_wait);
	s3c_segment_prune(p->object, segment);
}

static void start_waiting(struct pinning *p, unsigned i)
{
	struct s3c_segment *segment;
	struct s3c_slot *slot = s3c_slot_find(p->object, p->first + i, &segment);

	/* ABSENT without a segment: it has failed in between, the next look shows it. */
	if (p->waits[i] || !slot || slot->waiters == UINT16_MAX)
		return;
	slot->waiters++;
	segment->waiters++;
	p->waits[i] = true;
}

static bool time_left(const struct s3c_op *op)
{
	return !op || s3c_clock_monotonic_ns() < op->deadline_ns;
}

static int fetch_failed(struct pinning *p, unsigned i)
{
	const struct s3c_entry *base;
	int r;

	if (!p->fetches[i])
		return 0;
	r = s3c_fetch_result(p->fetches[i], &base);
	/* Base is another one by now: our own commit, or somebody has looked already. */
	if (r == -ESTALE && base != p->object->base)
		r = 0;
	/* Begun by somebody else, earlier, its time was over before ours is. */
	if (r < 0 && !p->own[i] && s3c_fetch_late(p->fetches[i]) && time_left(p->op))
		r = 0;
	s3c_fetch_put(steal_ptr(p->fetches[i]));
	return r;
}

/* 1: pinned (or zeros); 0: not there. */
static int pin_one(struct pinning *p, unsigned i)
{
	struct s3c_object *object = p->object;
	uint64_t chunk = p->first + i;
	struct s3c_slot *slot = s3c_slot_find(object, chunk, NULL);
	int r;

	if (!slot || slot->state == S3C_CHUNK_ABSENT) {
		r = fetch_failed(p, i);
		if (r < 0)
			return r;
		return s3c_chunk_is_zero(object, chunk) == 1;
	}
	if (slot->state == S3C_CHUNK_FETCHING) {
		if (p->fetches[i] != slot->fetch) {
			s3c_fetch_put(p->fetches[i]);
			p->fetches[i] = s3c_fetch_ref(slot->fetch);
			p->own[i] = false;
		}
		return 0;
	}
	if (!slot->page) {
		p->need_commit |= !slot->spill;
		return 0;
	}
	if (slot->page->fresh)
		return 0;
	s3c_page_pin(&object->objects->mem, slot->page);
	slot->page->ahead = false;
	p->pages[i] = slot->page;
	return 1;
}

/* 0: all are pinned; 1: some are missing. */
static int pin_present(struct pinning *p)
{
	bool missing = false;

	p->need_commit = false;
	for (unsigned i = 0; i < p->n; i++) {
		int r;

		if (p->done[i])
			continue;
		r = pin_one(p, i);
		if (r < 0)
			return r;
		if (r == 0) {
			missing = true;
			continue;
		}
		p->done[i] = true;
		stop_waiting(p, i);
	}
	return missing;
}

/* The chunk is in the spill file and not being loaded. */
static int load_spilled(struct pinning *p, uint64_t chunk)
{
	struct s3c_object *object = p->object;
	struct s3c_objects *objects = object->objects;
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_segment *segment;
	struct s3c_slot *slot;
	struct s3c_page *page;
	struct s3c_spill_seal seal;
	uint32_t spill;
	int r;

	r = s3c_page_take(&objects->mem, S3C_TAKE_DEMAND, &page);
	if (r == -EAGAIN)
		return s3c_waitq_wait(&objects->mem.read_wait, lock, p->op);
	if (r < 0)
		return r;
	slot = s3c_slot_find(object, chunk, &segment);
	slot->busy = true;
	object->busy++;
	spill = slot->spill;
	seal = s3c_spill_seal(objects->spill, spill - 1);
	s3c_mutex_unlock(lock);
	r = s3c_spill_read(objects->spill, spill - 1, &seal, page->data);
	s3c_mutex_lock(lock);
	if (r == 0)
		page->used = seal.len;
	object->busy--;
	/* Its upload may have been completed meanwhile: then the chunk is ABSENT. */
	slot = s3c_slot_find(object, chunk, &segment);
	if (slot && slot->busy && slot->spill == spill &&
	    s3c_spill_seal(objects->spill, spill - 1).nonce == seal.nonce) {
		slot->busy = false;
		if (r == 0)
			s3c_slot_set_page(object, chunk, slot, steal_ptr(page));
	} else {
		r = 0;
	}
	if (page)
		s3c_page_free(&objects->mem, page);
	s3c_waitq_wake_all(&object->waitq);
	/* Writers without room wait for the end of whatever runs. */
	s3c_waitq_wake_all(&objects->mem.dirty_wait);
	return r;
}

/* The length of the run of chunks from i on that one GET can bring. */
static unsigned run_length(struct pinning *p, unsigned i)
{
	unsigned n = 0;

	for (; i + n < p->n; n++) {
		struct s3c_slot *slot = s3c_slot_find(p->object, p->first + i + n, NULL);

		if (p->done[i + n] || (slot && slot->state != S3C_CHUNK_ABSENT) ||
		    s3c_chunk_is_zero(p->object, p->first + i + n))
			break;
	}
	return n;
}

/* 1: some were started, 0: there is nothing to start. */
static int start_fetches(struct pinning *p)
{
	struct s3c_objects *objects = p->object->objects;
	struct s3c_mutex *lock = &p->object->engine->lock;
	struct s3c_fetch *started[S3C_PIN_MAX];
	unsigned count = 0;
	int r = 0;

	for (unsigned i = 0; i < p->n && r == 0; i++) {
		unsigned run = run_length(p, i);

		if (!run)
			continue;
		r = s3c_fetch_new(p->object, p->first + i, run, S3C_TAKE_DEMAND, &started[count]);
		if (r < 0)
			break;
		for (unsigned k = i; k < i + run; k++) {
			s3c_fetch_put(p->fetches[k]);
			p->fetches[k] = s3c_fetch_ref(started[count]);
			p->own[k] = true;
			start_waiting(p, k);
		}
		i += run - 1;
		count++;
	}
	if (r == -EAGAIN && !count)
		return s3c_waitq_wait(&objects->mem.read_wait, lock, p->op) ?: 1;
	if (!count)
		return r;
	s3c_mutex_unlock(lock);
	for (unsigned i = 0; i < count; i++)
		s3c_fetch_submit(started[i]);
	s3c_mutex_lock(lock);
	for (unsigned i = 0; i < count; i++)
		s3c_fetch_put(started[i]);
	return r < 0 && r != -EAGAIN ? r : 1;
}

static int commit_first(struct pinning *p)
{
	struct s3c_mutex *lock = &p->object->engine->lock;
	int r;

	s3c_mutex_unlock(lock);
	r = s3c_object_commit(p->object, p->op);
	s3c_mutex_lock(lock);
	return r;
}

/* Does one thing that brings the missing chunks nearer; then the caller looks again. */
static int pin_progress(struct pinning *p)
{
	struct s3c_object *object = p->object;
	struct s3c_objects *objects = object->objects;
	struct s3c_mutex *lock = &object->engine->lock;
	int r;

	if (object->lost)
		return -EIO;
	if (!p->admitted) {
		/* Whoever waits to be admitted must not hold what the admitted ones need. */
		s3c_chunks_unpin(object, p->pages, p->n);
		memset(p->pages, 0, p->n * sizeof(p->pages[0]));
		memset(p->done, 0, sizeof(p->done));
		r = s3c_memory_admit(&objects->mem, lock, p->op, p->n);
		p->admitted = r == 0;
		return r;
	}
	for (unsigned i = 0; i < p->n; i++) {
		struct s3c_slot *slot = s3c_slot_find(object, p->first + i, NULL);

		if (!p->done[i] && s3c_chunk_is_zero(object, p->first + i) != 1 && !object->crypt &&
		    (!slot || slot->state == S3C_CHUNK_ABSENT))
			return s3c_object_prepare(object, p->op);
		if (!p->done[i] && slot && !slot->busy && !slot->page && slot->spill &&
		    slot->state != S3C_CHUNK_FETCHING)
			return load_spilled(p, p->first + i);
	}
	r = start_fetches(p);
	if (r)
		return r < 0 ? r : 0;
	if (p->need_commit)
		return commit_first(p);
	for (unsigned i = 0; i < p->n; i++)
		if (!p->done[i])
			start_waiting(p, i);
	return s3c_waitq_wait(&object->waitq, lock, p->op);
}

int s3c_chunks_pin(struct s3c_object *object, struct s3c_op *op, uint64_t first, unsigned n,
		   struct s3c_page **ret_pages)
{
	struct pinning p = { .object = object, .op = op, .first = first, .n = n };
	int r;

	memset(ret_pages, 0, n * sizeof(ret_pages[0]));
	p.pages = ret_pages;
	for (;;) {
		r = pin_present(&p);
		if (r == -ESTALE && op != S3C_NOWAIT && p.stale++ < S3C_STALE_TRIES) {
			r = s3c_object_refresh(object, op);
			if (r == 0)
				continue;
		}
		if (r <= 0)
			break;
		if (op == S3C_NOWAIT) {
			r = -EINPROGRESS;
			break;
		}
		r = pin_progress(&p);
		if (r < 0)
			break;
	}
	for (unsigned i = 0; i < n; i++) {
		stop_waiting(&p, i);
		s3c_fetch_put(p.fetches[i]);
	}
	if (p.admitted)
		s3c_memory_leave(&object->objects->mem, n);
	if (r < 0)
		s3c_chunks_unpin(object, ret_pages, n);
	return r;
}

void s3c_chunks_unpin(struct s3c_object *object, struct s3c_page **pages, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (pages[i])
			s3c_page_unpin(&object->objects->mem, pages[i]);
}

/* Starts a GET for the ABSENT chunks at the beginning of [chunk, end); the number of chunks that
   were passed, 0: no memory. */
static unsigned ahead_one(struct s3c_object *object, uint64_t chunk, uint64_t end,
			  struct s3c_fetch **ret_fetch)
{
	struct s3c_fetch *fetch = NULL;
	uint64_t at = chunk, from = chunk;

	for (; at < end; at++) {
		struct s3c_slot *slot = s3c_slot_find(object, at, NULL);

		if ((!slot || slot->state == S3C_CHUNK_ABSENT) && !s3c_chunk_is_zero(object, at))
			break;
	}
	*ret_fetch = NULL;
	if (at == end)
		return (unsigned)(end - chunk);
	chunk = at;
	for (; at < end; at++) {
		struct s3c_slot *slot = s3c_slot_find(object, at, NULL);

		if ((slot && slot->state != S3C_CHUNK_ABSENT) || s3c_chunk_is_zero(object, at))
			break;
	}
	if (s3c_memory_ahead_room(&object->objects->mem) < at - chunk ||
	    s3c_fetch_new(object, chunk, (unsigned)(at - chunk), S3C_TAKE_AHEAD, &fetch) < 0)
		return 0;
	*ret_fetch = fetch;
	return (unsigned)(at - from);
}

void s3c_chunks_prefetch(struct s3c_object *object, uint64_t first, uint64_t end)
{
	struct s3c_fetch *started[8];
	unsigned count = 0;

	if (!object->crypt)
		return;
	while (first < end && count < ARRAY_LEN(started)) {
		unsigned n = ahead_one(object, first, end, &started[count]);

		if (!n)
			break;
		count += started[count] != NULL;
		first += n;
	}
	s3c_mutex_unlock(&object->engine->lock);
	for (unsigned i = 0; i < count; i++)
		s3c_fetch_submit(started[i]);
	s3c_mutex_lock(&object->engine->lock);
	for (unsigned i = 0; i < count; i++)
		s3c_fetch_put(started[i]);
}

/* Every GET of a sequence ends at the end of a segment (or of a smaller step, where memory is
   short) and has 8 MiB at least. */
static uint64_t ahead_end(uint64_t from, uint64_t step, uint64_t visible)
{
	uint64_t end = (from + step + step - 1) / step * step;

	return S3C_MIN(end, visible);
}

/* Bytes that one sequence may have ahead, and how much of it one GET brings. A reader alone gets
   most of the pool: a store needs many GETs under way to be busy, and the next one can only begin
   when memory is free. Who finds none left makes all take less for a while. */
static uint64_t ahead_most(const struct s3c_memory *mem, uint64_t *ret_step)
{
	uint64_t limit = (uint64_t)mem->limit[S3C_PAGE_READ] * S3C_CHUNK_SIZE;
	uint64_t most = S3C_MIN(limit / 4 * 3, (uint64_t)AHEAD_MAX), step = AHEAD_GET;

	if (mem->ahead_short_ns && s3c_clock_monotonic_ns() - mem->ahead_short_ns < AHEAD_SHORT_NS)
		most = S3C_MIN(most, S3C_MAX(limit / 4, (uint64_t)AHEAD_GET));
	while (step > S3C_CHUNK_SIZE && step > most / 2)
		step /= 2;
	*ret_step = step;
	return most;
}

#define AHEAD_GETS 16u
/* Sees to it that what follows at is on its way. Lock held, released. */
static void ahead_advance(struct s3c_object *object, struct s3c_readahead *ra, uint64_t at)
{
	struct s3c_memory *mem = &object->objects->mem;
	struct s3c_mutex *lock = &object->engine->lock;
	uint64_t read = at > ra->start ? at - ra->start : 0;
	struct s3c_fetch *started[AHEAD_GETS];
	uint64_t window, step, from;
	unsigned count = 0;

	if (!object->base || !object->crypt || at >= object->base_visible)
		return;
	window = ahead_most(mem, &step);
	window = S3C_MIN(window, S3C_MAX(read * AHEAD_GROWTH, (uint64_t)AHEAD_FIRST));
	from = S3C_MAX(ra->ahead, at) / S3C_CHUNK_SIZE * S3C_CHUNK_SIZE;
	while (from < object->base_visible && count < AHEAD_GETS) {
		uint64_t end = ahead_end(from, step, object->base_visible);
		unsigned n;

		/* Only whole GETs; where nothing is ahead one is begun at any rate. */
		if (from > at && end - at > window)
			break;
		n = ahead_one(object, from / S3C_CHUNK_SIZE, DIV_ROUND_UP(end, S3C_CHUNK_SIZE),
			      &started[count]);
		if (!n) {
			mem->ahead_short_ns = s3c_clock_monotonic_ns();
			ra->start = at;
			break;
		}
		count += started[count] != NULL;
		from += (uint64_t)n * S3C_CHUNK_SIZE;
	}
	ra->ahead = from;
	if (!count)
		return;
	s3c_mutex_unlock(lock);
	for (unsigned i = 0; i < count; i++)
		s3c_fetch_submit(started[i]);
	s3c_mutex_lock(lock);
	for (unsigned i = 0; i < count; i++)
		s3c_fetch_put(started[i]);
}

/* A first read that begins at the start and asks for more than a chunk is the kernel reading ahead
   for a program that reads on: a file of one segment then comes whole, by one GET. One that asks
   for all that a read can is the same for a file of any size. */
static bool ahead_at_once(const struct s3c_object *object, uint64_t offset, uint64_t len)
{
	return offset == 0 && (len >= READ_MAX ||
			       (len > S3C_CHUNK_SIZE && object->base_visible <= S3C_SEGMENT_SIZE));
}

static void ahead_note(const struct s3c_object *object, struct s3c_readahead *ra, uint64_t offset,
		       uint64_t len)
{
	bool near = ra->hits > 1 && offset + AHEAD_SLACK >= ra->next &&
		    offset <= ra->next + AHEAD_SLACK;

	if ((offset == ra->next && ra->next) || near) {
		ra->hits++;
		ra->next = S3C_MAX(ra->next, offset + len);
		return;
	}
	*ra = (struct s3c_readahead){
		.hits = ahead_at_once(object, offset, len) ? 2 : 1,
		.start = offset,
		.next = offset + len,
	};
}

static void pages_fill(struct s3c_pages *pages, struct s3c_page **pinned, uint64_t offset,
		       size_t len)
{
	unsigned n = 0;

	pages->len = len;
	while (len) {
		size_t in = offset % S3C_CHUNK_SIZE, part = S3C_MIN(len, S3C_CHUNK_SIZE - in);
		const uint8_t *data = pinned[n] ? pinned[n]->data : s3c_zero_chunk;

		pages->iov[n] = (struct iovec){ (void *)(data + in), part };
		pages->chunks[n] = pinned[n];
		offset += part;
		len -= part;
		n++;
	}
	pages->count = n;
}

int s3c_object_read(struct s3c_object *object, struct s3c_op *op, uint64_t offset, size_t len,
		    struct s3c_readahead *readahead, struct s3c_pages *ret_pages)
{
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_page *pinned[S3C_PIN_MAX];
	uint64_t first = offset / S3C_CHUNK_SIZE;
	unsigned n;
	int r = 0;

	if (len > READ_MAX)
		return -EINVAL;
	s3c_mutex_lock(lock);
	if (object->lost) {
		s3c_mutex_unlock(lock);
		return -EIO;
	}
	if (offset >= object->size || !len) {
		s3c_mutex_unlock(lock);
		memset(ret_pages, 0, sizeof(*ret_pages));
		return 0;
	}
	len = (size_t)S3C_MIN((uint64_t)len, object->size - offset);
	n = (unsigned)((offset + len - 1) / S3C_CHUNK_SIZE - first + 1);
	if (readahead && op != S3C_NOWAIT) {
		ahead_note(object, readahead, offset, len);
		/* A base that shows no byte may be one that cannot be opened: a reference. */
		if (readahead->hits > 1 && object->base_visible)
			r = s3c_object_prepare(object, op);
		if (r == 0 && readahead->hits > 1)
			ahead_advance(object, readahead, offset);
	}
	if (r == 0)
		r = s3c_chunks_pin(object, op, first, n, pinned);
	if (r == 0 && readahead && op == S3C_NOWAIT) {
		ahead_note(object, readahead, offset, len);
		if (readahead->hits > 1)
			ahead_advance(object, readahead, offset);
	}
	s3c_mutex_unlock(lock);
	if (r == 0)
		pages_fill(ret_pages, pinned, offset, len);
	return r;
}

void s3c_pages_release(struct s3c_engine *engine, struct s3c_pages *pages)
{
	bool any = false;

	for (unsigned i = 0; i < pages->count; i++)
		any |= pages->chunks[i] != NULL;
	if (any) {
		s3c_mutex_lock(&engine->lock);
		for (unsigned i = 0; i < pages->count; i++)
			if (pages->chunks[i])
				s3c_page_unpin(&engine->objects->mem, pages->chunks[i]);
		s3c_mutex_unlock(&engine->lock);
	}
	*pages = (struct s3c_pages){ 0 };
}
