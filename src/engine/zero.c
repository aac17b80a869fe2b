/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Holes: making them, finding them. What reads as zeros and has no bytes here costs nothing: chunks
 * past what base shows, and segments that are holes of base. Anything else becomes chunks of zeros;
 * a commit makes a hole of a segment that has no others (plan.c).
 */
#include "engine/content.h"

#include <errno.h>
#include <string.h>

/* Nothing of the chunk is here, and the store has none of it. Lock held. */
static bool is_hole(struct s3c_object *object, uint64_t chunk, bool *ret_segment)
{
	struct s3c_segment *segment = NULL;
	const struct s3c_slot *slot = s3c_slot_find(object, chunk, &segment);

	*ret_segment = slot != NULL;
	return (!slot || slot->state == S3C_CHUNK_ABSENT) && s3c_chunk_is_zero(object, chunk) == 1;
}

/* What is_hole has to know of base. Lock held, released. */
static int prepare(struct s3c_object *object, struct s3c_op *op)
{
	if (object->lost)
		return -EIO;
	if (!object->base_visible || object->crypt)
		return 0;
	return op == S3C_NOWAIT ? -EINPROGRESS : s3c_object_prepare(object, op);
}

/* Bytes [offset, end), which the file has, with others behind them. */
static int zero_middle(struct s3c_object *object, struct s3c_op *op, uint64_t offset, uint64_t end)
{
	struct s3c_mutex *lock = &object->engine->lock;
	int r = 0;

	while (offset < end && r == 0) {
		uint64_t in = offset % S3C_CHUNK_SIZE;
		size_t part = (size_t)S3C_MIN(end - offset, S3C_CHUNK_SIZE - in);
		bool hole, segment;

		s3c_mutex_lock(lock);
		r = prepare(object, op);
		hole = r == 0 && is_hole(object, offset / S3C_CHUNK_SIZE, &segment);
		s3c_mutex_unlock(lock);
		if (r == 0 && !hole)
			r = s3c_object_write(object, op, offset, s3c_zero_chunk, part, false);
		/* The next write meets the error. */
		if (r > 0) {
			part = (size_t)r;
			r = 0;
		}
		offset += part;
	}
	return r;
}

int s3c_object_zero(struct s3c_object *object, struct s3c_op *op, uint64_t offset, uint64_t len)
{
	struct s3c_mutex *lock = &object->engine->lock;
	uint64_t size;

	if (s3c_engine_read_only(object->engine))
		return -EROFS;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	s3c_mutex_lock(lock);
	size = object->size;
	s3c_mutex_unlock(lock);
	if (offset >= size || !len)
		return 0;
	if (len >= size - offset)
		return s3c_object_cut(object, op, offset, size);
	return zero_middle(object, op, offset, offset + len);
}

int s3c_object_seek(struct s3c_object *object, struct s3c_op *op, uint64_t offset, bool data,
		    uint64_t *ret_offset)
{
	struct s3c_mutex *lock = &object->engine->lock;
	uint64_t chunk = offset / S3C_CHUNK_SIZE, found = UINT64_MAX;
	int r;

	s3c_mutex_lock(lock);
	r = prepare(object, op);
	if (r == 0 && offset >= object->size)
		r = -ENXIO;
	while (r == 0 && found == UINT64_MAX && chunk * S3C_CHUNK_SIZE < object->size) {
		uint64_t next = (chunk / S3C_SEGMENT_CHUNKS + 1) * S3C_SEGMENT_CHUNKS;
		uint64_t shown = DIV_ROUND_UP(object->base_visible, S3C_CHUNK_SIZE);
		bool segment, hole = is_hole(object, chunk, &segment);

		if (hole != data)
			found = S3C_MAX(offset, chunk * S3C_CHUNK_SIZE);
		else if (segment)
			chunk++;
		else
			/* All of it is like that, but where base ends within. */
			chunk = hole ? next : S3C_MIN(next, S3C_MAX(shown, chunk + 1));
	}
	if (r == 0 && found == UINT64_MAX) {
		/* Behind the end everything is a hole. */
		found = object->size;
		r = data ? -ENXIO : 0;
	}
	s3c_mutex_unlock(lock);
	if (r == 0)
		*ret_offset = found;
	return r;
}

/* Lock held. Has what is here of the segment no byte but zeros, and is all of it here? */
static bool all_zero(struct s3c_object *object, const struct s3c_segment *segment)
{
	for (unsigned i = 0; i < S3C_SEGMENT_CHUNKS; i++) {
		const struct s3c_slot *slot = &segment->slots[i];
		bool ours = slot->state == S3C_CHUNK_DIRTY || slot->state == S3C_CHUNK_SENT;

		if (slot->state == S3C_CHUNK_ABSENT) {
			if (s3c_chunk_is_zero(object, segment->index * S3C_SEGMENT_CHUNKS + i) != 1)
				return false;
			continue;
		}
		if (!ours || slot->busy || !slot->page || slot->page->writing ||
		    slot->page->fresh || slot->page->spilling ||
		    memcmp(slot->page->data, s3c_zero_chunk, S3C_CHUNK_SIZE) != 0)
			return false;
	}
	return true;
}

bool s3c_segment_make_hole(struct s3c_object *object, struct s3c_segment *segment)
{
	if (segment->dropped || segment->uploaded || !all_zero(object, segment))
		return false;
	for (unsigned i = 0; i < S3C_SEGMENT_CHUNKS; i++)
		if (segment->slots[i].state == S3C_CHUNK_DIRTY)
			s3c_slot_set(segment, &segment->slots[i], S3C_CHUNK_SENT);
	return true;
}
