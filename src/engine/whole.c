/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Commits in the formats of the Amazon S3 Encryption Clients (format=s3ec-v2, s3ec-v3): one GCM
 * message for a whole object, so that every change of content writes all of it, under a new data
 * key.
 *
 * The chunks go through one cipher in order. Up to a segment they are one PUT; else each segment is
 * a part of a multipart upload, and the tag follows in the last one. A part is sent from the buffer
 * into which it was encrypted, however often; when it fails for good the upload is aborted, and the
 * next commit draws another key. So nothing is ever encrypted twice under one key: such an upload
 * is neither begun before the size is known nor gone on with after a failure.
 *
 * Encryption waits for nobody but memory: while one part is encrypted the ones before it are sent.
 */
#include "engine/upload_journal.h"
#include "engine/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"
#include "object/s3ec_keys.h"

struct sending {
	struct s3c_store_part done;
	struct s3c_whole *whole;
	struct iovec iov;
};

struct s3c_whole {
	struct s3c_commit *c;
	struct s3c_s3ec_seal *seal;
	uint8_t *at; /* where the next chunk is encrypted to */
	struct s3c_upload *upload;
	struct sending *parts;
	unsigned count;

	/* Guarded by engine->lock. */
	unsigned running;
	int result;
	char message[560];
};

bool s3c_whole_format(const struct s3c_engine *engine)
{
	return engine->config.format != S3C_FORMAT_CHUNKED && s3c_sealed_mode(engine);
}

/* Data key and header; the envelope becomes the entry's, as if the store had told it. */
static int draw_header(struct s3c_commit *c)
{
	struct s3c_engine *engine = c->object->engine;
	struct s3c_header *header = &c->header;
	struct s3c_stat st = { .size = c->size + S3C_TAG_LEN };
	char why[512] = "";
	int r;

	s3c_header_clear(header);
	*header = (struct s3c_header){
		.layout = S3C_LAYOUT_S3EC,
		.epoch = engine->volume->epoch,
		.size = c->size,
	};
	s3c_attrs_set(&header->attrs, &c->attrs);
	header->attrs.known = true;
	header->generation = s3c_next_generation(engine, c->target->key,
						 c->base ? c->base->header.generation : 0);
	s3c_random(header->content_id, sizeof(header->content_id));
	s3c_commit_draw_op(c);
	c->key = s3c_objects_secret(c->object->objects);
	if (!c->key)
		return -ENOMEM;
	r = s3c_s3ec_draw(engine->config.format, s3c_keyring_in_use(&engine->config), NULL, header,
			  c->key, &st.meta, why, sizeof(why));
	if (r < 0) {
		s3c_meta_free(&st.meta);
		return s3c_object_fail(c->object, "get a data key for", c->target, r, why);
	}
	if (r == 0)
		r = s3c_header_commitment(c->key, header->file_id, header->commitment);
	if (r == 0)
		r = s3c_s3ec_parse(&st.meta, NULL, 0, st.size, &c->entry->s3ec, NULL, 0);
	if (r == 0)
		r = s3c_extra_make(header, false, &st, &c->entry->extra);
	s3c_meta_free(&st.meta);
	return r;
}

static int encrypt_one(void *arg, uint64_t chunk, const uint8_t *data, uint32_t len)
{
	struct s3c_whole *whole = arg;
	const struct s3c_commit *c = whole->c;
	int r = s3c_s3ec_seal_chunk(whole->seal, data, len, whole->at);

	if (r < 0)
		return r;
	whole->at += len;
	/* Under the envelope's id: it can be found from when the store has the object on. */
	if (data != s3c_zero_chunk)
		s3c_cached_put_foreign(c->object->engine, c->entry->s3ec->id, chunk, data, len);
	return 0;
}

/* The next segment and, after the last, the tag. */
static int encrypt_segment(struct s3c_whole *whole, uint64_t segment, uint8_t *body, size_t len)
{
	struct s3c_commit *c = whole->c;
	uint64_t segments = s3c_segment_count(c->size);
	int r = 0;

	whole->at = body;
	if (c->size)
		r = s3c_segment_each(c->object, segment, c->size, encrypt_one, whole);
	if (r == 0 && segment + 1 >= segments) {
		r = s3c_s3ec_seal_end(whole->seal, whole->at, &c->body);
		whole->at += S3C_TAG_LEN;
	}
	return r == 0 && whole->at != body + len ? -EIO : r;
}

static int buffer_take(struct s3c_commit *c, size_t len, uint8_t **ret_body)
{
	struct s3c_objects *objects = c->object->objects;
	struct s3c_mutex *lock = &objects->engine->lock;
	int r;

	s3c_mutex_lock(lock);
	objects->uploading++;
	r = s3c_transfer_begin(&objects->mem, lock, len, ret_body);
	if (r < 0)
		objects->uploading--;
	s3c_mutex_unlock(lock);
	return r;
}

/* Lock held. */
static void buffer_give(struct s3c_objects *objects, uint8_t *body, size_t len)
{
	s3c_transfer_end(&objects->mem, body, len);
	objects->uploading--;
	s3c_waitq_wake_all(&objects->mem.dirty_wait);
}

static int commit_at_once(struct s3c_whole *whole)
{
	struct s3c_commit *c = whole->c;
	struct s3c_objects *objects = c->object->objects;
	size_t len = (size_t)c->size + S3C_TAG_LEN;
	uint8_t *body;
	int r = buffer_take(c, len, &body);

	if (r < 0)
		return r;
	r = encrypt_segment(whole, 0, body, len);
	if (r == 0)
		r = s3c_commit_put(c, body, len);
	s3c_mutex_lock(&objects->engine->lock);
	buffer_give(objects, body, len);
	s3c_mutex_unlock(&objects->engine->lock);
	return r;
}

static int create(struct s3c_whole *whole)
{
	struct s3c_commit *c = whole->c;
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_meta meta;
	struct s3c_store_request rq = { .op = S3C_STORE_UPLOAD_CREATE, .meta = &meta };
	int r = s3c_commit_meta(c, &meta);

	if (r < 0)
		return r;
	r = s3c_commit_request(c, &rq, "begin to upload", &reply);
	s3c_meta_free(&meta);
	if (r == 0 && !reply.upload_id)
		r = -EPROTO;
	if (r < 0)
		return s3c_object_fail(c->object, "begin to upload", c->target, r, reply.message);
	whole->upload->id = steal_ptr(reply.upload_id);
	/* For the next mount, should this one end: to be aborted. */
	s3c_upload_record(whole->upload);
	return 0;
}

/* On a thread of the store. */
static void on_part(void *arg, struct s3c_store_reply *reply)
{
	struct sending *part = arg;
	struct s3c_whole *whole = part->whole;
	struct s3c_object *object = whole->c->object;
	struct s3c_mutex *lock = &object->engine->lock;
	unsigned number = part->done.number;

	s3c_mutex_lock(lock);
	if (reply->result == 0) {
		part->done = reply->part;
		part->done.number = number;
	} else if (!whole->result) {
		whole->result = reply->result;
		snprintf(whole->message, sizeof(whole->message), "part %u: %s", number,
			 reply->message);
	}
	buffer_give(object->objects, part->iov.iov_base, part->iov.iov_len);
	whole->running--;
	s3c_waitq_wake_all(&object->waitq);
	s3c_mutex_unlock(lock);
}

/* Until at most so many parts are on their way. The first failure of one, or 0. */
static int wait_parts(struct s3c_whole *whole, unsigned most)
{
	struct s3c_object *object = whole->c->object;
	struct s3c_mutex *lock = &object->engine->lock;
	int r;

	s3c_mutex_lock(lock);
	while (whole->running > most)
		s3c_waitq_wait(&object->waitq, lock, NULL);
	r = whole->result;
	s3c_mutex_unlock(lock);
	return r;
}

static int send_part(struct s3c_whole *whole, unsigned i, uint8_t *body, size_t len)
{
	struct s3c_commit *c = whole->c;
	struct s3c_engine *engine = c->object->engine;
	struct sending *part = &whole->parts[i];
	const struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_PART,
		.deadline_ns = s3c_engine_deadline(engine),
		.content = true,
		.key = c->target->key,
		.ssec = c->target->ssec,
		.upload_id = whole->upload->id,
		.part_number = i + 1,
		.body = &part->iov,
		.body_count = 1,
	};
	int r;

	part->whole = whole;
	part->done.number = i + 1;
	part->iov = (struct iovec){ body, len };
	s3c_mutex_lock(&engine->lock);
	whole->running++;
	s3c_mutex_unlock(&engine->lock);
	r = s3c_store_submit(engine->store, &rq, on_part, part, NULL);
	if (r < 0) {
		s3c_mutex_lock(&engine->lock);
		whole->running--;
		s3c_mutex_unlock(&engine->lock);
	}
	return r;
}

static int send_parts(struct s3c_whole *whole)
{
	struct s3c_commit *c = whole->c;
	struct s3c_objects *objects = c->object->objects;
	unsigned most = S3C_MAX(objects->engine->config.parallel, 2u);
	int r = 0;

	for (unsigned i = 0; i < whole->count && r == 0; i++) {
		size_t len = s3c_segment_plain_len(c->size, i) +
			     (i + 1 == whole->count ? S3C_TAG_LEN : 0);
		uint8_t *body;

		r = wait_parts(whole, most - 1);
		if (r == 0)
			r = buffer_take(c, len, &body);
		if (r < 0)
			break;
		r = encrypt_segment(whole, i, body, len);
		if (r == 0)
			r = send_part(whole, i, body, len);
		if (r < 0) {
			s3c_mutex_lock(&objects->engine->lock);
			buffer_give(objects, body, len);
			s3c_mutex_unlock(&objects->engine->lock);
		}
	}
	/* None may be on its way when its buffer's owner goes, or the upload is aborted. */
	return S3C_MIN(wait_parts(whole, 0), r);
}

static int complete(struct s3c_whole *whole)
{
	struct s3c_commit *c = whole->c;
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_free struct s3c_store_part *parts = calloc(whole->count, sizeof(*parts));
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_COMPLETE,
		.upload_id = whole->upload->id,
		.parts = parts,
		.part_count = whole->count,
		.condition = s3c_commit_condition(c, true),
	};
	int r;

	if (!parts)
		return -ENOMEM;
	for (unsigned i = 0; i < whole->count; i++)
		parts[i] = whole->parts[i].done;
	r = s3c_commit_guard(c, &rq.condition);
	if (r == 0)
		r = s3c_commit_attempt(c);
	if (r < 0)
		return r;
	r = s3c_commit_request(c, &rq, "complete the upload of", &reply);
	c->version = reply.stat.version;
	c->stored = c->size + S3C_TAG_LEN;
	if (r < 0)
		r = s3c_commit_resolve(c, r);
	/* Somebody aborted it, or the store forgot it. */
	if (r == -ENXIO)
		return S3C_AGAIN;
	return r < 0 && r != S3C_AGAIN && r != -EEXIST
		       ? s3c_object_fail(c->object, "complete the upload of", c->target, r,
					 reply.message)
		       : r;
}

static int commit_in_parts(struct s3c_whole *whole)
{
	struct s3c_commit *c = whole->c;
	int r = s3c_upload_new(c->object, &whole->upload);

	if (r < 0)
		return r;
	s3c_header_set(&whole->upload->header, &c->header);
	whole->count = (unsigned)s3c_segment_count(c->size);
	whole->parts = calloc(whole->count, sizeof(*whole->parts));
	r = whole->parts ? create(whole) : -ENOMEM;
	if (r == 0) {
		r = send_parts(whole);
		if (r < 0)
			r = s3c_object_fail(c->object, "write", c->target, r, whole->message);
		else
			r = complete(whole);
		if (r == 0)
			s3c_upload_unrecord(whole->upload);
		else
			s3c_upload_abort(whole->upload);
	}
	free(whole->parts);
	s3c_upload_free(whole->upload);
	return r;
}

int s3c_commit_whole(struct s3c_commit *c)
{
	struct s3c_whole whole = { .c = c };
	int r;

	if (c->size > S3C_S3EC_SIZE_MAX)
		return s3c_object_fail(c->object, "write", c->target, -EFBIG,
				       "files of this format have at most 64 GiB less 32 bytes");
	r = draw_header(c);
	if (r == 0)
		r = s3c_s3ec_seal_new(c->entry->s3ec, c->key, &whole.seal);
	if (r == 0)
		r = c->size <= S3C_SEGMENT_SIZE ? commit_at_once(&whole) : commit_in_parts(&whole);
	s3c_s3ec_seal_free(whole.seal);
	/* Also what was only half encrypted. */
	if (r < 0)
		s3c_s3ec_body_free(steal_ptr(c->body));
	return r;
}
