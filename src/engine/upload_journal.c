/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/upload_journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "engine/durable.h"
#include "engine/names.h"
#include "engine/record.h"

void s3c_paused_free(struct s3c_paused *paused)
{
	if (!paused)
		return;
	for (size_t i = 0; i < paused->count; i++)
		free(paused->parts[i].marks);
	s3c_header_clear(&paused->header);
	free(paused->parts);
	free(paused->path);
	free(paused->key);
	free(paused->upload_id);
	free(paused);
}

int s3c_paused_add(struct s3c_paused *paused, const struct s3c_paused_part *part)
{
	if (paused->count == paused->alloc) {
		size_t alloc = paused->alloc ? paused->alloc * 2 : 16;
		struct s3c_paused_part *parts = reallocarray(paused->parts, alloc, sizeof(*parts));

		if (!parts)
			return -ENOMEM;
		paused->parts = parts;
		paused->alloc = alloc;
	}
	paused->parts[paused->count++] = *part;
	return 0;
}

static void on_late(void *arg, int result)
{
	(void)arg;
	if (result < 0)
		s3c_debug("journal: what became of an upload is not noted: %s", strerror(-result));
}

/* One that stays is found without its upload by the next mount. */
static void drop_record(struct s3c_engine *engine, uint64_t id)
{
	struct s3c_tx *tx;

	if (!id || s3c_tx_new(engine->config.journal, &tx) < 0)
		return;
	if (s3c_tx_delete_from(tx, S3C_RECORD_UPLOAD, id, 0) == 0)
		s3c_tx_submit(tx, S3C_TX_LAZY, on_late, NULL);
	else
		s3c_tx_free(tx);
}

void s3c_paused_forget(struct s3c_paused *paused)
{
	drop_record(paused->engine, paused->record);
	s3c_paused_free(paused);
}

static void abort_run(struct s3c_job *job)
{
	struct s3c_paused *paused = container_of(job, struct s3c_paused, job);
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_ABORT,
		.key = paused->key,
		.upload_id = paused->upload_id,
	};
	int r = paused->upload_id ? s3c_request(paused->engine, &rq, NULL, &reply) : 0;

	if (r == 0 || r == -ENXIO) {
		s3c_paused_forget(paused);
		return;
	}
	s3c_debug("abort the upload of %s: %s", rq.key, reply.message);
	s3c_paused_free(paused);
}

void s3c_paused_abort(struct s3c_paused *paused)
{
	paused->job.run = abort_run;
	s3c_pool_submit(paused->engine->tasks, &paused->job);
}

void s3c_paused_drop(struct s3c_object *object)
{
	struct s3c_paused *paused = steal_ptr(object->paused);

	/* At the end of the mount, the next one has the file, and goes on with it. */
	if (paused && object->objects->closing && s3c_object_is_dirty(object))
		s3c_paused_free(paused);
	else if (paused)
		s3c_paused_abort(paused);
}

void s3c_paused_free_all(struct s3c_objects *objects)
{
	struct s3c_paused *paused;

	while ((paused = objects->paused)) {
		objects->paused = paused->next;
		s3c_paused_free(paused);
	}
}

/* The parts follow what they are parts of. */
struct loading {
	struct s3c_engine *engine;
	struct s3c_paused *last;
	uint64_t foreign; /* of a version that is not known: it stays as it is */
};

static int on_record(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
		     size_t len)
{
	struct loading *loading = arg;
	struct s3c_engine *engine = loading->engine;
	struct s3c_paused *last = loading->last;
	struct s3c_paused_part part;
	int r = result;

	if (id == loading->foreign)
		return 0;
	if (!last || last->record != id) {
		last = calloc(1, sizeof(*last));
		if (!last)
			return -ENOMEM;
		last->engine = engine;
		last->record = id;
		last->next = engine->objects->paused;
		engine->objects->paused = loading->last = last;
		if (r == 0 && sub == 0)
			r = s3c_record_decode_upload(engine, data, len, last);
		if (r == -EPROTO) {
			loading->foreign = id;
			engine->objects->paused = last->next;
			s3c_paused_free(last);
			loading->last = NULL;
		}
		return r == -ENOMEM ? r : 0;
	}
	if (r == 0 && last->upload_id)
		r = s3c_record_decode_part(data, len, sub, &part);
	/* A part that cannot be read is sent again. */
	if (r < 0 || !last->upload_id)
		return r == -ENOMEM ? r : 0;
	r = s3c_paused_add(last, &part);
	if (r < 0)
		free(part.marks);
	return r;
}

int s3c_paused_load(struct s3c_engine *engine)
{
	struct loading loading = { .engine = engine };

	return s3c_record_each(engine->config.journal, S3C_RECORD_UPLOAD, on_record, &loading);
}

static bool note_left(struct s3c_engine *engine, struct s3c_paused *paused)
{
	if (paused->key && paused->upload_id)
		paused->asked = s3c_unsettled_left_locked(engine, paused);
	return paused->asked || !paused->upload_id;
}

void s3c_paused_attach(struct s3c_object *object)
{
	struct s3c_paused **at = &object->objects->paused;
	struct s3c_paused *paused;

	while (*at && !((*at)->path && strcmp((*at)->path, object->path) == 0))
		at = &(*at)->next;
	if (!*at || object->paused)
		return;
	paused = *at;
	/* What cannot be noted now stays as it is, and the next mount has it. */
	if (s3c_object_sent_locked(object, paused->header.op_id) &&
	    !note_left(object->engine, paused))
		return;
	*at = paused->next;
	paused->next = NULL;
	object->paused = paused;
}

void s3c_paused_abort_rest(struct s3c_engine *engine)
{
	struct s3c_paused *paused;

	s3c_mutex_lock(&engine->lock);
	while ((paused = engine->objects->paused)) {
		engine->objects->paused = paused->next;
		if (note_left(engine, paused))
			s3c_paused_abort(paused);
		else
			s3c_paused_free(paused);
	}
	s3c_mutex_unlock(&engine->lock);
}

int s3c_mark_digest(bool sealed, const uint8_t *stored, size_t len,
		    uint8_t ret_digest[static S3C_SHA256_LEN])
{
	uint8_t tags[S3C_SEGMENT_CHUNKS * S3C_TAG_LEN];
	size_t n = 0;

	if (!sealed)
		return s3c_sha256(stored, len, ret_digest);
	for (size_t at = 0; at < len && n < sizeof(tags); n += S3C_TAG_LEN) {
		at += S3C_MIN(len - at, (size_t)S3C_CHUNK_STRIDE);
		memcpy(tags + n, stored + at - S3C_TAG_LEN, S3C_TAG_LEN);
	}
	return s3c_sha256(tags, n, ret_digest);
}

static void put_late(struct s3c_engine *engine, uint64_t id, uint64_t sub,
		     const struct s3c_buf *text)
{
	struct s3c_tx *tx;

	if (s3c_tx_new(engine->config.journal, &tx) < 0)
		return;
	if (s3c_tx_put(tx, S3C_RECORD_UPLOAD, id, sub, text->data, text->len) == 0)
		s3c_tx_submit(tx, S3C_TX_LAZY, on_late, NULL);
	else
		s3c_tx_free(tx);
}

void s3c_upload_record(struct s3c_upload *upload)
{
	struct s3c_object *object = upload->object;
	struct s3c_engine *engine = object->engine;
	cleanup_buf struct s3c_buf text = { 0 };

	if (!s3c_durable(engine))
		return;
	s3c_mutex_lock(&engine->lock);
	upload->record = s3c_durable_id(engine);
	if (upload->keep && object->base)
		memcpy(upload->source_etag, object->base->version.etag,
		       sizeof(upload->source_etag));
	if (s3c_record_encode_upload(upload, &text) == 0)
		put_late(engine, upload->record, 0, &text);
	s3c_mutex_unlock(&engine->lock);
}

/* Shares the part's marks. */
static void describe(const struct s3c_part *part, struct s3c_paused_part *ret_part)
{
	*ret_part = (struct s3c_paused_part){
		.done = part->done,
		.first = part->first,
		.count = part->count,
		.copy = part->copy,
		.marks = part->marks,
		.mark_count = part->mark_count,
	};
	ret_part->done.size = s3c_part_len(part);
}

/* One with the trailer is never of use again. */
static bool is_worth(const struct s3c_part *part)
{
	return part->state == S3C_PART_DONE && !part->trailer && (part->copy || part->marks);
}

void s3c_upload_record_part(const struct s3c_part *part)
{
	const struct s3c_upload *upload = part->upload;
	cleanup_buf struct s3c_buf text = { 0 };
	struct s3c_paused_part paused;

	if (!upload->record || !is_worth(part))
		return;
	describe(part, &paused);
	if (s3c_record_encode_part(&paused, &text) == 0 && text.len <= S3C_RECORD_MAX)
		put_late(upload->object->engine, upload->record, part->done.number, &text);
}

void s3c_upload_unrecord(struct s3c_upload *upload)
{
	drop_record(upload->object->engine, upload->record);
	upload->record = 0;
}

/* What a later commit may have another answer to, with the same upload. */
static bool is_passing(int r)
{
	return r < 0 && r != S3C_AGAIN && !s3c_failure_is_final(r);
}

static int pause_parts(const struct s3c_upload *upload, struct s3c_paused *paused)
{
	int r = 0;

	for (unsigned i = 0; i < upload->count && r == 0; i++) {
		struct s3c_part *part = upload->parts[i];
		struct s3c_paused_part one;

		if (!is_worth(part))
			continue;
		describe(part, &one);
		r = s3c_paused_add(paused, &one);
		if (r == 0)
			part->marks = NULL;
	}
	return r;
}

bool s3c_upload_pause(struct s3c_upload *upload, int r)
{
	struct s3c_object *object = upload->object;
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_paused *paused;

	if (!upload->record || !is_passing(r) || upload->dropped)
		return false;
	paused = calloc(1, sizeof(*paused));
	if (!paused)
		return false;
	paused->engine = object->engine;
	paused->record = upload->record;
	paused->sealed = upload->key != NULL;
	paused->keep = upload->keep;
	s3c_header_set(&paused->header, &upload->header);
	memcpy(paused->source_etag, upload->source_etag, sizeof(paused->source_etag));
	paused->key = strdup(upload->target->key);
	paused->upload_id = strdup(upload->id);
	s3c_mutex_lock(lock);
	if (paused->key && paused->upload_id && !upload->cancel && !object->detached &&
	    !object->paused && pause_parts(upload, paused) == 0 && paused->count)
		object->paused = steal_ptr(paused);
	s3c_mutex_unlock(lock);
	s3c_paused_free(paused);
	return paused == NULL;
}
