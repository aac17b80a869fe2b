/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/content.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"

#define PIECE (1u << 20) /* bytes that are written under one hold of the chunks */

void s3c_object_changed(struct s3c_object *object, bool content)
{
	int64_t now = s3c_clock_realtime_ns();

	object->seq++;
	object->content_seq += content;
	object->attrs.mtime_ns = object->attrs.ctime_ns = now;
	object->retry_ns = 0;
	object->hopeless = false;
}

/* A piece of a chunk that is to be written, and what has to be done for it. */
struct piece {
	uint64_t chunk;
	uint32_t from, to;
	struct s3c_page *page;
	bool zero; /* a new page: what is not written is zero */
};
enum {
	NEED_DATA = -ENODATA, /* its other bytes have to be brought first */
	NEED_TURN = -EBUSY,   /* wait for what is done with it */
	NEED_ROOM = -EAGAIN,  /* wait for a page of the dirty pool */
};

/* Do the written bytes cover all that the chunk has? */
static bool covers(const struct piece *piece, uint64_t end)
{
	uint64_t start = piece->chunk * S3C_CHUNK_SIZE;
	uint64_t have = end > start ? S3C_MIN(end - start, (uint64_t)S3C_CHUNK_SIZE) : 0;

	return piece->from == 0 && piece->to >= have;
}

/* 0: can be taken at once; ret_room: takes a page of the dirty pool for it. */
static int piece_look(struct s3c_object *object, const struct piece *piece, bool *ret_room)
{
	struct s3c_segment *segment;
	struct s3c_slot *slot = s3c_slot_find(object, piece->chunk, &segment);
	bool all = covers(piece, object->size);

	*ret_room = true;
	if (object->persisting)
		return NEED_TURN;
	if (slot && segment->dropped)
		return NEED_DATA;
	if (!slot || slot->state == S3C_CHUNK_ABSENT || slot->state == S3C_CHUNK_FETCHING) {
		all |= covers(piece, S3C_MIN(object->size, object->base_visible));
		if (!all && s3c_chunk_is_zero(object, piece->chunk) != 1)
			return NEED_DATA;
		return 0;
	}
	if (!slot->page)
		return slot->busy ? NEED_TURN : all ? 0 : NEED_DATA;
	/* A fresh one is still being zeroed around what is written. */
	if (slot->page->sealing || slot->page->spilling || slot->page->fresh)
		return NEED_TURN;
	*ret_room = slot->page->pool != S3C_PAGE_DIRTY;
	return 0;
}

static int piece_take(struct s3c_object *object, struct piece *piece)
{
	struct s3c_memory *mem = &object->objects->mem;
	struct s3c_segment *segment;
	struct s3c_slot *slot;
	struct s3c_page *page;
	bool room;
	int r = piece_look(object, piece, &room);

	if (r < 0)
		return r;
	slot = s3c_slot_find(object, piece->chunk, &segment);
	if (!slot || slot->state == S3C_CHUNK_FETCHING || !slot->page) {
		r = s3c_page_take(mem, S3C_TAKE_DIRTY, &page);
		if (r < 0)
			return r;
		if (slot && slot->state == S3C_CHUNK_FETCHING)
			s3c_fetch_disown(object, segment, slot);
		r = s3c_slot_make(object, piece->chunk, &segment, &slot);
		if (r < 0) {
			s3c_page_free(mem, page);
			return r;
		}
		page->fresh = piece->zero = true;
		s3c_slot_set(segment, slot, S3C_CHUNK_DIRTY);
		s3c_slot_set_page(object, piece->chunk, slot, page);
	} else {
		page = slot->page;
		r = s3c_page_to_dirty(mem, page);
		if (r < 0)
			return r;
		s3c_slot_set(segment, slot, S3C_CHUNK_DIRTY);
	}
	s3c_slot_unspill(object, slot);
	slot->journaled = false;
	s3c_page_pin(mem, page);
	page->writing++;
	piece->page = page;
	return 0;
}

static int commit_and_relock(struct s3c_object *object, struct s3c_op *op)
{
	int r;

	s3c_mutex_unlock(&object->engine->lock);
	r = s3c_object_commit(object, op);
	s3c_mutex_lock(&object->engine->lock);
	return r;
}

/* The chunk cannot be taken: does what may change that. Brought chunks stay pinned meanwhile. */
static int piece_wait(struct s3c_object *object, struct s3c_op *op, struct piece *piece, int need)
{
	struct s3c_segment *segment;
	struct s3c_page *page = NULL;
	int r;

	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	if (need == NEED_ROOM)
		return s3c_room_wait(object, op);
	if (need == NEED_TURN)
		return s3c_waitq_wait(&object->waitq, &object->engine->lock, op);
	if (need != NEED_DATA)
		return need;
	if (s3c_slot_find(object, piece->chunk, &segment) && segment->dropped)
		return commit_and_relock(object, op);
	r = s3c_chunks_pin(object, op, piece->chunk, 1, &page);
	if (r < 0)
		return r;
	for (;;) {
		r = piece_take(object, piece);
		if (r != NEED_ROOM && r != NEED_TURN)
			break;
		r = piece_wait(object, op, piece, r);
		if (r < 0)
			break;
	}
	s3c_chunks_unpin(object, &page, 1);
	return r == NEED_DATA ? 0 : r;
}

int s3c_chunk_make_dirty(struct s3c_object *object, struct s3c_op *op, uint64_t chunk,
			 struct s3c_page **ret_page)
{
	struct piece piece = { .chunk = chunk };
	struct s3c_page *page;
	int r;

	do {
		r = s3c_chunks_pin(object, op, chunk, 1, &page);
		if (r < 0)
			return r;
		while (page) {
			r = piece_take(object, &piece);
			if (r != NEED_ROOM && r != NEED_TURN)
				break;
			r = piece_wait(object, op, &piece, r);
			if (r < 0)
				break;
		}
		s3c_chunks_unpin(object, &page, 1);
		/* It was let go of while this waited. */
	} while (r == NEED_DATA);
	if (r < 0)
		return r;
	/* The pin for writing stays with the page, as the caller's. */
	if (piece.page)
		piece.page->writing--;
	*ret_page = piece.page;
	return 0;
}

static unsigned pieces_make(struct piece *pieces, uint64_t offset, size_t len)
{
	unsigned n = 0;

	while (len) {
		uint32_t in = (uint32_t)(offset % S3C_CHUNK_SIZE);
		uint32_t part = (uint32_t)S3C_MIN(len, (size_t)(S3C_CHUNK_SIZE - in));

		pieces[n++] = (struct piece){
			.chunk = offset / S3C_CHUNK_SIZE,
			.from = in,
			.to = in + part,
		};
		offset += part;
		len -= part;
	}
	return n;
}

/* Can all of it be taken without waiting? */
static int pieces_look(struct s3c_object *object, const struct piece *pieces, unsigned n)
{
	size_t pages = 0;

	for (unsigned i = 0; i < n; i++) {
		bool room;

		if (piece_look(object, &pieces[i], &room) < 0)
			return -EINPROGRESS;
		pages += room;
	}
	return s3c_memory_dirty_room(&object->objects->mem, pages) ? 0 : -EINPROGRESS;
}

static const uint8_t *pieces_copy(struct piece *pieces, unsigned n, const uint8_t *data)
{
	for (unsigned i = 0; i < n; i++) {
		struct piece *piece = &pieces[i];
		uint8_t *to = piece->page->data;
		uint32_t used = piece->page->used; /* of a fresh page: nobody else has it */

		if (piece->zero) {
			memset(to, 0, S3C_MIN(piece->from, used));
			if (used > piece->to)
				memset(to + piece->to, 0, used - piece->to);
		}
		memcpy(to + piece->from, data, piece->to - piece->from);
		data += piece->to - piece->from;
	}
	return data;
}

static void pieces_done(struct s3c_object *object, struct piece *pieces, unsigned n)
{
	const struct piece *last = &pieces[n - 1];

	for (unsigned i = 0; i < n; i++) {
		struct s3c_page *page = pieces[i].page;

		page->writing--;
		/* What was there before is cleared. */
		page->used = pieces[i].zero ? pieces[i].to : S3C_MAX(page->used, pieces[i].to);
		if (pieces[i].zero)
			page->fresh = false;
		s3c_page_unpin(&object->objects->mem, page);
	}
	object->size = S3C_MAX(object->size, last->chunk * S3C_CHUNK_SIZE + last->to);
	s3c_object_changed(object, true);
	s3c_waitq_wake_all(&object->waitq);
}

/* At most PIECE bytes. */
static int write_pieces(struct s3c_object *object, struct s3c_op *op, uint64_t offset,
			const uint8_t *data, size_t len, size_t *done)
{
	const uint8_t *begin = data;
	struct s3c_mutex *lock = &object->engine->lock;
	struct piece pieces[S3C_PIN_MAX];
	unsigned n = pieces_make(pieces, offset, len), from = 0;
	int r = 0;

	if (op == S3C_NOWAIT)
		r = pieces_look(object, pieces, n);
	while (from < n && r == 0) {
		unsigned to = from;

		/* As many as can be had without waiting: nobody waits while it writes. */
		while (to < n && (pieces[to].page || (r = piece_take(object, &pieces[to])) == 0))
			to++;
		if (to > from) {
			object->writing++;
			s3c_mutex_unlock(lock);
			data = pieces_copy(pieces + from, to - from, data);
			s3c_mutex_lock(lock);
			object->writing--;
			pieces_done(object, pieces + from, to - from);
			from = to;
			*done = (size_t)(data - begin);
		}
		if (r < 0)
			r = piece_wait(object, op, &pieces[to], r);
	}
	return r;
}

/* Of what is written, whatever format the file has in the store. */
static uint64_t size_max(const struct s3c_object *object)
{
	return s3c_whole_format(object->engine) ? S3C_S3EC_SIZE_MAX : S3C_FILE_SIZE_MAX;
}

int s3c_object_write(struct s3c_object *object, struct s3c_op *op, uint64_t offset,
		     const void *data, size_t len, bool append)
{
	struct s3c_mutex *lock = &object->engine->lock;
	const uint8_t *from = data;
	int r = 0;

	if (s3c_engine_read_only(object->engine))
		return -EROFS;
	if (!len)
		return 0;
	if (op == S3C_NOWAIT && len > PIECE)
		return -EINPROGRESS;
	s3c_mutex_lock(lock);
	if (append)
		offset = object->size;
	if (object->lost)
		r = -EIO;
	else if (offset > size_max(object) || len > size_max(object) - offset)
		r = -EFBIG;
	while (len && r == 0) {
		size_t part = S3C_MIN(len, (size_t)PIECE), done = 0;

		r = write_pieces(object, op, offset, from, part, &done);
		offset += done;
		from += done;
		len -= done;
		if (r < 0)
			break;
		object->seq_end = offset;
		s3c_stream_advance(object);
	}
	s3c_mutex_unlock(lock);
	/* The next write meets the error. */
	return r < 0 && r != -EINPROGRESS && from != data ? (int)(from - (const uint8_t *)data) : r;
}

/* 0: nothing that a cut at size touches is in use; 1: look again. */
static int cut_wait(struct s3c_object *object, struct s3c_op *op, uint64_t size)
{
	struct s3c_upload *upload = object->upload;
	bool streamed = upload && size <= upload->sent_end * S3C_SEGMENT_SIZE && upload->sent_end;
	int r;

	if (!object->committing && !streamed && !object->writing && !object->busy &&
	    !object->persisting)
		return 0;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	if (object->committing || !streamed)
		r = s3c_waitq_wait(&object->waitq, &object->engine->lock, op);
	else if (upload->dropped)
		r = commit_and_relock(object, op);
	else
		r = s3c_stream_abort(object, op);
	return r < 0 ? r : 1;
}

/* The chunk that the cut divides keeps its first bytes; the rest must be zero. */
static int cut_chunk(struct s3c_object *object, struct s3c_op *op, uint64_t size)
{
	uint64_t chunk = size / S3C_CHUNK_SIZE;
	uint32_t keep = (uint32_t)(size % S3C_CHUNK_SIZE);
	struct s3c_segment *segment;
	struct s3c_slot *slot = s3c_slot_find(object, chunk, &segment);
	struct s3c_page *page;
	int r;

	if (!keep || !slot || slot->state == S3C_CHUNK_ABSENT)
		return 0;
	/* What comes from base is cut when it is brought again. */
	if (slot->state == S3C_CHUNK_FETCHING) {
		s3c_fetch_disown(object, segment, slot);
		return 0;
	}
	if (slot->page && (slot->state == S3C_CHUNK_CLEAN ||
			   (slot->page->pool == S3C_PAGE_DIRTY && !slot->page->fresh))) {
		memset(slot->page->data + keep, 0, S3C_CHUNK_SIZE - keep);
		slot->journaled = false;
		return 0;
	}
	r = s3c_chunk_make_dirty(object, op, chunk, &page);
	if (r < 0)
		return r;
	if (page)
		s3c_chunks_unpin(object, &page, 1);
	return 1;
}

int s3c_object_truncate(struct s3c_object *object, struct s3c_op *op, uint64_t size)
{
	return s3c_object_cut(object, op, size, size);
}

int s3c_object_cut(struct s3c_object *object, struct s3c_op *op, uint64_t from, uint64_t size)
{
	struct s3c_mutex *lock = &object->engine->lock;
	bool content;
	int r = 0;

	if (s3c_engine_read_only(object->engine))
		return -EROFS;
	if (size > size_max(object))
		return -EFBIG;
	s3c_mutex_lock(lock);
	if (object->lost)
		r = -EIO;
	while (r == 0 && from < object->size) {
		r = cut_wait(object, op, from);
		if (r == 0)
			r = cut_chunk(object, op, from);
		if (r <= 0)
			break;
		r = 0;
	}
	if (r < 0) {
		s3c_mutex_unlock(lock);
		return r;
	}
	content = size != object->size || from < object->size;
	if (from < object->size) {
		s3c_chunks_drop(object, DIV_ROUND_UP(from, S3C_CHUNK_SIZE));
		object->base_visible = S3C_MIN(object->base_visible, from);
		object->cut = S3C_MIN(object->cut, from);
		for (unsigned i = 0; i < ARRAY_LEN(object->attempts); i++)
			object->attempts[i].visible = S3C_MIN(object->attempts[i].visible, from);
		s3c_waitq_wake_all(&object->waitq);
	}
	object->size = size;
	s3c_object_changed(object, content);
	s3c_mutex_unlock(lock);
	return 0;
}
