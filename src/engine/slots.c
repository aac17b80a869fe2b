/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/content.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct s3c_segment *s3c_segment_find(struct s3c_object *object, uint64_t index)
{
	struct s3c_segment *segment;

	HASH_FIND(hh, object->segments, &index, sizeof(index), segment);
	return segment;
}

struct s3c_slot *s3c_slot_find(struct s3c_object *object, uint64_t chunk,
			       struct s3c_segment **ret_segment)
{
	struct s3c_segment *segment = s3c_segment_find(object, chunk / S3C_SEGMENT_CHUNKS);

	if (!segment)
		return NULL;
	if (ret_segment)
		*ret_segment = segment;
	return &segment->slots[chunk % S3C_SEGMENT_CHUNKS];
}

int s3c_slot_make(struct s3c_object *object, uint64_t chunk, struct s3c_segment **ret_segment,
		  struct s3c_slot **ret_slot)
{
	uint64_t index = chunk / S3C_SEGMENT_CHUNKS;
	struct s3c_segment *segment = s3c_segment_find(object, index);

	if (!segment) {
		segment = calloc(1, sizeof(*segment));
		if (!segment)
			return -ENOMEM;
		segment->index = index;
		HASH_ADD(hh, object->segments, index, sizeof(segment->index), segment);
		if (!segment->hh.tbl) {
			free(segment);
			return -ENOMEM;
		}
	}
	*ret_segment = segment;
	*ret_slot = &segment->slots[chunk % S3C_SEGMENT_CHUNKS];
	return 0;
}

static void count(struct s3c_segment *segment, uint8_t state, unsigned by)
{
	if (state != S3C_CHUNK_ABSENT)
		segment->used += by;
	if (state == S3C_CHUNK_DIRTY)
		segment->dirty += by;
	if (state == S3C_CHUNK_SENT)
		segment->sent += by;
}

void s3c_slot_set(struct s3c_segment *segment, struct s3c_slot *slot, enum s3c_chunk_state state)
{
	count(segment, slot->state, -1u);
	slot->state = (uint8_t)state;
	count(segment, slot->state, 1);
	if (state != S3C_CHUNK_DIRTY && state != S3C_CHUNK_SENT)
		slot->journaled = false;
	if (state == S3C_CHUNK_FETCHING || state == S3C_CHUNK_ABSENT || !slot->page)
		return;
	slot->page->sent = state == S3C_CHUNK_SENT;
	if (slot->page->listed)
		s3c_page_relist(&slot->page->object->objects->mem, slot->page);
}

void s3c_slot_set_page(struct s3c_object *object, uint64_t chunk, struct s3c_slot *slot,
		       struct s3c_page *page)
{
	slot->page = page;
	page->object = object;
	page->chunk = chunk;
	page->sent = slot->state == S3C_CHUNK_SENT;
	s3c_page_relist(&object->objects->mem, page);
}

void s3c_slot_unspill(struct s3c_object *object, struct s3c_slot *slot)
{
	if (!slot->spill)
		return;
	s3c_spill_give(object->objects->spill, slot->spill - 1);
	slot->spill = 0;
	/* Writers wait there for the spill file as well. */
	s3c_waitq_wake_all(&object->objects->mem.dirty_wait);
}

/* The page loses its slot; freed at once, or with its last pin. */
static void page_orphan(struct s3c_object *object, struct s3c_page *page)
{
	struct s3c_memory *mem = &object->objects->mem;

	page->object = NULL;
	s3c_page_relist(mem, page);
	if (!page->pins)
		s3c_page_free(mem, page);
}

void s3c_slot_drop(struct s3c_object *object, struct s3c_segment *segment, struct s3c_slot *slot)
{
	if (slot->state == S3C_CHUNK_FETCHING) {
		slot->fetch = NULL;
	} else if (slot->page) {
		page_orphan(object, slot->page);
		slot->page = NULL;
	}
	s3c_slot_unspill(object, slot);
	slot->busy = false;
	s3c_slot_set(segment, slot, S3C_CHUNK_ABSENT);
}

void s3c_segment_prune(struct s3c_object *object, struct s3c_segment *segment)
{
	if (segment->used || segment->waiters)
		return;
	HASH_DEL(object->segments, segment);
	free(segment);
}

void s3c_chunks_drop(struct s3c_object *object, uint64_t from)
{
	struct s3c_segment *segment, *tmp;

	HASH_ITER (hh, object->segments, segment, tmp) {
		uint64_t first = segment->index * S3C_SEGMENT_CHUNKS;

		for (unsigned i = 0; i < S3C_SEGMENT_CHUNKS; i++)
			if (first + i >= from && segment->slots[i].state != S3C_CHUNK_ABSENT)
				s3c_slot_drop(object, segment, &segment->slots[i]);
		s3c_segment_prune(object, segment);
	}
}

static void slot_sent_end(struct s3c_object *object, struct s3c_segment *segment,
			  struct s3c_slot *slot, bool done)
{
	struct s3c_memory *mem = &object->objects->mem;

	if (!done) {
		if (!slot->page && !slot->spill)
			object->lost = true;
		s3c_slot_set(segment, slot, S3C_CHUNK_DIRTY);
		return;
	}
	s3c_slot_unspill(object, slot);
	if (!slot->page) {
		slot->busy = false;
		s3c_slot_set(segment, slot, S3C_CHUNK_ABSENT);
		return;
	}
	s3c_slot_set(segment, slot, S3C_CHUNK_CLEAN);
	s3c_page_to_read(mem, slot->page);
}

void s3c_sent_end(struct s3c_object *object, uint64_t first, uint64_t count, bool done)
{
	struct s3c_segment *segment, *tmp;

	HASH_ITER (hh, object->segments, segment, tmp) {
		if (segment->index < first || segment->index - first >= count)
			continue;
		segment->uploaded = segment->dropped = false;
		for (unsigned i = 0; i < S3C_SEGMENT_CHUNKS && segment->sent; i++)
			if (segment->slots[i].state == S3C_CHUNK_SENT)
				slot_sent_end(object, segment, &segment->slots[i], done);
		s3c_segment_prune(object, segment);
	}
	s3c_memory_trim(&object->objects->mem);
}

bool s3c_slot_evict(struct s3c_page *page)
{
	struct s3c_object *object = page->object;
	struct s3c_segment *segment;
	struct s3c_slot *slot = s3c_slot_find(object, page->chunk, &segment);

	if (slot->waiters)
		return false;
	page_orphan(object, page);
	slot->page = NULL;
	/* Others have their bytes in the spill file. */
	if (slot->state == S3C_CHUNK_CLEAN) {
		s3c_slot_set(segment, slot, S3C_CHUNK_ABSENT);
		s3c_segment_prune(object, segment);
	}
	return true;
}

static const char *check_slot(const struct s3c_object *object, uint64_t chunk,
			      const struct s3c_slot *slot)
{
	const struct s3c_page *page = slot->page;
	bool dirty = slot->state == S3C_CHUNK_DIRTY || slot->state == S3C_CHUNK_SENT;

	if (slot->state == S3C_CHUNK_FETCHING)
		return slot->spill || slot->busy ? "fetched and spilled" : NULL;
	if (slot->state == S3C_CHUNK_ABSENT)
		return page || slot->spill || slot->busy ? "absent, but has something" : NULL;
	if (slot->spill && !dirty)
		return "spilled, but clean";
	if (slot->busy && (page || !slot->spill))
		return "busy without being loaded";
	if (slot->state == S3C_CHUNK_CLEAN && !page)
		return "clean without a page";
	if (slot->state == S3C_CHUNK_DIRTY && !page && !slot->spill && !object->lost)
		return "dirty and nowhere";
	if (!page)
		return NULL;
	if (page->object != object || page->chunk != chunk)
		return "page of another chunk";
	if (page->sent != (slot->state == S3C_CHUNK_SENT))
		return "page and state differ about sent";
	if ((page->pool == S3C_PAGE_DIRTY) != (dirty && !slot->spill))
		return "page in the wrong pool";
	if (page->listed != (page->pins == 0))
		return "page listed while in use, or not listed";
	if (page->writing && page->sealing)
		return "written and sealed at once";
	if (page->writing + page->sealing + page->spilling > page->pins)
		return "in use without a pin";
	return NULL;
}

int s3c_object_check(struct s3c_object *object, char *why, size_t why_size)
{
	struct s3c_segment *segment, *tmp;

	s3c_mutex_assert_held(&object->engine->lock);
	HASH_ITER (hh, object->segments, segment, tmp) {
		unsigned used = 0, dirty = 0, sent = 0, waiters = 0;

		for (unsigned i = 0; i < S3C_SEGMENT_CHUNKS; i++) {
			const struct s3c_slot *slot = &segment->slots[i];
			uint64_t chunk = segment->index * S3C_SEGMENT_CHUNKS + i;
			const char *what = check_slot(object, chunk, slot);

			used += slot->state != S3C_CHUNK_ABSENT;
			dirty += slot->state == S3C_CHUNK_DIRTY;
			sent += slot->state == S3C_CHUNK_SENT;
			waiters += slot->waiters;
			if (what) {
				snprintf(why, why_size, "%s: chunk %ju: %s", object->path,
					 (uintmax_t)chunk, what);
				return -EINVAL;
			}
		}
		if (used != segment->used || dirty != segment->dirty || sent != segment->sent ||
		    waiters != segment->waiters || (!used && !waiters)) {
			snprintf(why, why_size, "%s: segment %ju: counters are wrong", object->path,
				 (uintmax_t)segment->index);
			return -EINVAL;
		}
		if ((dirty || sent) && object->seq == object->clean_seq) {
			snprintf(why, why_size, "%s: segment %ju: dirty chunks of a clean object",
				 object->path, (uintmax_t)segment->index);
			return -EINVAL;
		}
	}
	return 0;
}

int s3c_objects_check(struct s3c_engine *engine, char *why, size_t why_size)
{
	struct s3c_memory *mem = &engine->objects->mem;
	struct s3c_object *object;
	int r = 0;

	s3c_mutex_lock(&engine->lock);
	LIST_FOREACH (object, &engine->objects->all, all) {
		r = s3c_object_check(object, why, why_size);
		if (r < 0)
			break;
	}
	if (r == 0 && mem->used[S3C_PAGE_DIRTY] > mem->limit[S3C_PAGE_DIRTY]) {
		snprintf(why, why_size, "dirty pool: %zu pages of %zu", mem->used[S3C_PAGE_DIRTY],
			 mem->limit[S3C_PAGE_DIRTY]);
		r = -EINVAL;
	}
	s3c_mutex_unlock(&engine->lock);
	return r;
}
