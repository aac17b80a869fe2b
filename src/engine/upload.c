/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Multipart uploads: parts, and streams.
 *
 * States of a part (guarded by engine->lock)
 *	NEW      has its segments and salts
 *	RUNNING  a job builds its body in a transfer buffer and sends it (check: compares it with
 *		 what was sent before); its chunks become SENT
 *	DONE     the store has it; its ETag is known
 *	FAILED   to be sent again, under new salts
 * NEW -> RUNNING -> DONE | FAILED; DONE, FAILED -> NEW (plan.c, when it has to be sent again);
 * with check: NEW -> RUNNING -> DONE | NEW.
 *
 * An object has at most one upload. A stream makes one while the file is still being written: as
 * soon as a segment is complete and the writer is past it, it is sent, so that little is left to
 * do at close. Its parts cover segments [0, sent_end). The commit takes the upload over, sends
 * again what was changed since, adds the rest and completes it. A truncation into what was sent, or
 * the loss of the object's path, aborts it.
 */
#include "engine/upload_journal.h"
#include "engine/durable.h"
#include "engine/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"

#define PARTS_MAX 10000u
#define PARTS_GROW 1000u /* the size of parts doubles after so many */
#define STREAM_STALL_NS                                                                            \
	S3C_NSEC_PER_SEC /* a stream that brings nothing there for so long stands still */

/*
 * Segments in a part: 1 for the first 1,000, then doubling every 1,000, up to half of the memory
 * for transfers. With memory=256M that is 3 segments and files of 210 GiB; with memory=4G 63
 * segments and 2.4 TiB. Parts that are copied do not count.
 */
uint64_t s3c_part_segments(const struct s3c_objects *objects, unsigned number)
{
	uint64_t most = objects->mem.transfer_limit / 2 / S3C_SEGMENT_STRIDE;
	unsigned shift = S3C_MIN((number - 1) / PARTS_GROW, 30u);

	return S3C_MIN(UINT64_C(1) << shift, S3C_MAX(most, UINT64_C(1)));
}

static atomic_uint_fast64_t last_serial;

bool s3c_upload_is(const struct s3c_object *object, uint64_t serial)
{
	return object->upload && object->upload->serial == serial;
}

int s3c_upload_new(struct s3c_object *object, struct s3c_upload **ret_upload)
{
	struct s3c_upload *upload = calloc(1, sizeof(*upload));

	if (!upload)
		return -ENOMEM;
	upload->serial = atomic_fetch_add(&last_serial, 1) + 1;
	upload->object = object;
	upload->target = s3c_target_ref(object->target);
	upload->size = UINT64_MAX;
	s3c_op_init(&upload->op, INT64_MAX);
	s3c_buf_init(&upload->trailer, 64u << 20);
	*ret_upload = upload;
	return 0;
}

void s3c_upload_free(struct s3c_upload *upload)
{
	if (!upload)
		return;
	for (unsigned i = 0; i < upload->count; i++) {
		free(upload->parts[i]->marks);
		free(upload->parts[i]);
	}
	s3c_header_clear(&upload->header);
	free(upload->parts);
	free(upload->salts);
	free(upload->kinds);
	free(upload->id);
	s3c_buf_free(&upload->trailer);
	s3c_crypt_put(upload->source);
	s3c_target_put(upload->target);
	s3c_secret_free(upload->key);
	s3c_op_destroy(&upload->op);
	free(upload);
}

int s3c_upload_grow_salts(struct s3c_upload *upload, uint64_t count)
{
	uint64_t alloc = upload->salt_count;
	uint8_t *salts;

	if (count <= alloc)
		return 0;
	alloc = S3C_MAX(count, alloc * 2);
	salts = reallocarray(upload->salts, alloc, S3C_SALT_LEN);
	if (!salts)
		return -ENOMEM;
	memset(salts + upload->salt_count * S3C_SALT_LEN, 0,
	       (alloc - upload->salt_count) * S3C_SALT_LEN);
	upload->salts = salts;
	upload->salt_count = alloc;
	return 0;
}

int s3c_upload_draw_salts(struct s3c_upload *upload, uint64_t first, uint64_t count)
{
	int r = s3c_upload_grow_salts(upload, first + count);

	for (uint64_t i = first; r == 0 && i < first + count; i++)
		s3c_salt_draw(upload->salts + i * S3C_SALT_LEN);
	return r;
}

int s3c_upload_add_part(struct s3c_upload *upload, uint64_t first, uint64_t count,
			struct s3c_part **ret_part)
{
	unsigned last = upload->count ? upload->parts[upload->count - 1]->done.number : 0;
	struct s3c_part *part;

	if (last >= PARTS_MAX)
		return -EFBIG;
	if (upload->count == upload->alloc) {
		unsigned alloc = S3C_MAX(upload->alloc * 2, 16u);
		struct s3c_part **parts =
			reallocarray(upload->parts, alloc, sizeof(struct s3c_part *));

		if (!parts)
			return -ENOMEM;
		upload->parts = parts;
		upload->alloc = alloc;
	}
	part = calloc(1, sizeof(*part));
	if (!part)
		return -ENOMEM;
	part->upload = upload;
	part->first = first;
	part->count = count;
	upload->parts[upload->count++] = part;
	part->done.number = last + 1;
	*ret_part = part;
	return 0;
}

static uint32_t segment_len(const struct s3c_upload *upload, uint64_t segment)
{
	bool plain = !upload->key;

	if (upload->size == UINT64_MAX)
		return plain ? S3C_SEGMENT_SIZE : S3C_SEGMENT_STRIDE;
	return plain ? s3c_segment_plain_len(upload->size, segment)
		     : s3c_segment_stored_len(upload->size, segment);
}

static bool is_sent(const struct s3c_upload *upload, uint64_t segment)
{
	return !upload->kinds || upload->kinds[segment] == S3C_KIND_SEND;
}

uint64_t s3c_part_len(const struct s3c_part *part)
{
	const struct s3c_upload *upload = part->upload;
	uint64_t len = part->trailer ? upload->trailer.len : 0;

	for (uint64_t i = part->first; i < part->first + part->count; i++)
		if (part->copy ? upload->kinds[i] == S3C_KIND_COPY : is_sent(upload, i))
			len += segment_len(upload, i);
	return len;
}

static int part_request(struct s3c_part *part, struct s3c_store_request *rq)
{
	struct s3c_upload *upload = part->upload;
	struct s3c_engine *engine = upload->object->engine;
	cleanup_reply struct s3c_store_reply reply = { 0 };
	unsigned number = part->done.number;
	int r;

	rq->deadline_ns = s3c_engine_deadline(engine);
	rq->content = true;
	rq->key = upload->target->key;
	rq->ssec = upload->target->ssec;
	rq->upload_id = upload->id;
	rq->part_number = number;
	r = s3c_store_perform(engine->store, rq, &upload->op, &reply);
	reply.part.number = number;
	s3c_mutex_lock(&engine->lock);
	/* The next part is numbered by this one. */
	if (r == 0)
		part->done = reply.part;
	else if (!upload->result)
		snprintf(upload->message, sizeof(upload->message), "part %u: %s", number,
			 reply.message);
	s3c_mutex_unlock(&engine->lock);
	return r;
}

static int part_copy(struct s3c_part *part)
{
	struct s3c_upload *upload = part->upload;
	const struct s3c_crypt *source = upload->source;
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_PART_COPY,
		.source_key = upload->target->key,
		.source_ssec = upload->target->ssec,
		.source_if_match = upload->source_etag[0] ? upload->source_etag : NULL,
		.offset = s3c_crypt_offset(source, part->first * S3C_SEGMENT_CHUNKS),
		.length = s3c_part_len(part),
	};
	int r = part_request(part, &rq);

	/* The object is gone, or it is another one: not the upload. */
	return r == -ENOENT ? -ESTALE : r;
}

/* Room for what is noted of each segment. Without it, it is not noted. */
static void marks_begin(struct s3c_part *part)
{
	unsigned count = 0;

	if (part->check || !s3c_durable(part->upload->object->engine))
		return;
	for (uint64_t i = part->first; i < part->first + part->count; i++)
		count += is_sent(part->upload, i);
	free(part->marks);
	part->marks = count ? calloc(count, sizeof(*part->marks)) : NULL;
	part->mark_count = part->marks ? count : 0;
}

/* One segment as it was built. 1: it is not what it was. */
static int mark_segment(struct s3c_part *part, unsigned n, uint64_t segment, const uint8_t *salt,
			const uint8_t *stored, size_t len)
{
	struct s3c_mark mark = { .segment = segment };
	int r;

	if (n >= part->mark_count)
		return part->check;
	memcpy(mark.salt, salt, sizeof(mark.salt));
	r = s3c_mark_digest(part->upload->key != NULL, stored, len, mark.digest);
	if (r < 0)
		return r;
	if (part->check)
		return memcmp(&mark, &part->marks[n], sizeof(mark)) != 0;
	part->marks[n] = mark;
	return 0;
}

static int part_build(struct s3c_part *part, uint8_t *body, size_t len)
{
	struct s3c_upload *upload = part->upload;
	uint8_t salt[S3C_SALT_LEN] = { 0 };
	unsigned sent = 0;
	size_t at = 0, got;
	int r = 0;

	marks_begin(part);
	for (uint64_t i = part->first; i < part->first + part->count && r == 0; i++) {
		uint64_t size = upload->size;

		if (!is_sent(upload, i))
			continue;
		/* The array may grow and move while a stream goes on. */
		s3c_mutex_lock(&upload->object->engine->lock);
		if (upload->key)
			memcpy(salt, upload->salts + i * S3C_SALT_LEN, S3C_SALT_LEN);
		s3c_mutex_unlock(&upload->object->engine->lock);
		if (size == UINT64_MAX)
			size = (i + 1) * S3C_SEGMENT_SIZE;
		r = s3c_seal_segment(upload->object, upload->key, upload->header.file_id, i, salt,
				     size, body + at, &got);
		if (r == 0)
			r = mark_segment(part, sent++, i, salt, body + at, got);
		if (r == 0)
			at += got;
	}
	if (r == 0 && part->trailer) {
		memcpy(body + at, upload->trailer.data, upload->trailer.len);
		at += upload->trailer.len;
	}
	return r == 0 && at != len ? -EIO : r;
}

static int part_send(struct s3c_part *part)
{
	struct s3c_upload *upload = part->upload;
	struct s3c_objects *objects = upload->object->objects;
	struct s3c_mutex *lock = &upload->object->engine->lock;
	size_t len = (size_t)s3c_part_len(part);
	struct iovec iov = { .iov_len = len };
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_PART,
		.body = &iov,
		.body_count = 1,
	};
	uint8_t *body;
	bool stop;
	int r;

	s3c_mutex_lock(lock);
	r = s3c_transfer_begin(&objects->mem, lock, len, &body);
	stop = upload->cancel || upload->result < 0;
	s3c_mutex_unlock(lock);
	if (r < 0)
		return r;
	iov.iov_base = body;
	r = stop ? -ECANCELED : part_build(part, body, len);
	if (r == 0 && !part->check)
		r = part_request(part, &rq);
	s3c_mutex_lock(lock);
	s3c_transfer_end(&objects->mem, body, len);
	s3c_mutex_unlock(lock);
	return r;
}

/* What a stream has in the store may be dropped when there is no other room for it. */
static void mark_uploaded(struct s3c_part *part)
{
	for (uint64_t i = part->first; i < part->first + part->count; i++) {
		struct s3c_segment *segment = s3c_segment_find(part->upload->object, i);

		if (segment && segment->sent == S3C_SEGMENT_CHUNKS)
			segment->uploaded = true;
	}
}

static void part_run(struct s3c_job *job)
{
	struct s3c_part *part = container_of(job, struct s3c_part, job);
	struct s3c_upload *upload = part->upload;
	struct s3c_object *object = upload->object;
	struct s3c_objects *objects = object->objects;
	struct s3c_mutex *lock = &object->engine->lock;
	bool stop;
	int r;

	s3c_mutex_lock(lock);
	stop = upload->cancel || upload->result < 0;
	s3c_mutex_unlock(lock);
	r = stop ? -ECANCELED : part->copy ? part_copy(part) : part_send(part);

	s3c_mutex_lock(lock);
	part->state = r == 0 ? S3C_PART_DONE : part->check ? S3C_PART_NEW : S3C_PART_FAILED;
	if (r < 0 && !part->check && !upload->result)
		upload->result = r;
	if (r == 0 && !part->check)
		s3c_upload_record_part(part);
	part->check = false;
	if (r != 0 && !part->copy)
		s3c_sent_end(object, part->first, part->count, false);
	else if (r == 0 && upload->size == UINT64_MAX)
		mark_uploaded(part);
	if (r == 0)
		upload->moved_ns = s3c_clock_monotonic_ns();
	upload->running--;
	objects->uploading--;
	s3c_stream_advance(object);
	s3c_waitq_wake_all(&object->waitq);
	s3c_waitq_wake_all(&objects->mem.dirty_wait);
	s3c_object_release(object);
	s3c_mutex_unlock(lock);
}

void s3c_part_start(struct s3c_part *part)
{
	struct s3c_object *object = part->upload->object;

	part->state = S3C_PART_RUNNING;
	part->job.run = part_run;
	part->upload->running++;
	object->objects->uploading++;
	s3c_object_hold(object);
	s3c_pool_submit(object->objects->parts, &part->job);
}

void s3c_upload_wait(struct s3c_upload *upload)
{
	struct s3c_object *object = upload->object;
	uint64_t serial = upload->serial;

	while (s3c_upload_is(object, serial) && (upload->running || upload->creating))
		s3c_waitq_wait(&object->waitq, &object->engine->lock, NULL);
}

int s3c_upload_create(struct s3c_upload *upload)
{
	struct s3c_object *object = upload->object;
	struct s3c_commit c = {
		.object = object,
		.target = upload->target,
		.header = upload->header,
		.sealed = upload->key != NULL,
	};
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_extra *extra = NULL;
	struct s3c_meta meta;
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_CREATE,
		.meta = &meta,
		.copies = upload->keep,
	};
	int r = s3c_commit_meta(&c, &meta);

	if (r < 0)
		return r;
	s3c_mutex_lock(&object->engine->lock);
	if (!c.sealed && object->base)
		extra = s3c_extra_of_content(object->base->extra);
	s3c_mutex_unlock(&object->engine->lock);
	if (extra)
		rq.props = &extra->props;
	r = s3c_commit_request(&c, &rq, "begin to upload", &reply);
	s3c_extra_put(extra);
	s3c_meta_free(&meta);
	if (r == 0 && !reply.upload_id)
		r = -EPROTO;
	if (r < 0)
		return s3c_object_fail(object, "begin to upload", upload->target, r, reply.message);
	upload->id = steal_ptr(reply.upload_id);
	s3c_upload_record(upload);
	return 0;
}

void s3c_upload_abort(struct s3c_upload *upload)
{
	struct s3c_commit c = { .object = upload->object, .target = upload->target };
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_store_request rq = { .op = S3C_STORE_UPLOAD_ABORT, .upload_id = upload->id };

	int r;

	/* What fails here is a matter of cost, not of data: the next mount tries again. */
	if (!upload->id)
		return;
	r = s3c_commit_request(&c, &rq, "abort the upload of", &reply);
	if (r == 0 || r == -ENXIO)
		s3c_upload_unrecord(upload);
}

int s3c_stream_abort(struct s3c_object *object, struct s3c_op *op)
{
	struct s3c_upload *upload = object->upload;
	struct s3c_mutex *lock = &object->engine->lock;
	uint64_t serial;

	if (!upload)
		return 0;
	serial = upload->serial;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	if (upload->dropped)
		return -EBUSY;
	if (!upload->cancel) {
		upload->cancel = true;
		/* A commit that begins meanwhile finds it busy, and does not let go of it. */
		upload->running++;
		s3c_mutex_unlock(lock);
		s3c_op_interrupt(&upload->op);
		s3c_mutex_lock(lock);
		upload->running--;
		s3c_waitq_wake_all(&object->waitq);
	}
	while (s3c_upload_is(object, serial) && (upload->running || upload->creating)) {
		int r = s3c_waitq_wait(&object->waitq, lock, op);

		if (r < 0)
			return r;
	}
	if (!s3c_upload_is(object, serial))
		return 0;
	object->upload = NULL;
	s3c_sent_end(object, 0, UINT64_MAX, false);
	s3c_object_hold(object);
	s3c_mutex_unlock(lock);
	s3c_upload_abort(upload);
	s3c_upload_free(upload);
	s3c_mutex_lock(lock);
	s3c_object_release(object);
	return 0;
}

/* Can parts be copied from base into an upload that keeps its data key? */
static bool can_keep(const struct s3c_object *object)
{
	return object->base && object->base_visible && object->crypt &&
	       object->base->header.layout == S3C_LAYOUT_TRAILER &&
	       object->engine->store->caps.part_copy && !object->objects->no_part_copy;
}

/* Fills the upload of a stream and makes it in the store. */
static int stream_create(struct s3c_upload *upload)
{
	struct s3c_object *object = upload->object;
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_commit c = { .object = object, .target = upload->target };
	int r;

	s3c_mutex_lock(lock);
	r = object->base_visible ? s3c_object_prepare(object, NULL) : 0;
	s3c_attrs_set(&c.attrs, &object->attrs);
	c.base = object->base ? s3c_entry_ref(object->base) : NULL;
	c.crypt = s3c_crypt_ref(object->crypt);
	c.sealed = s3c_sealed_mode(object->engine);
	upload->keep = c.sealed && can_keep(object);
	s3c_mutex_unlock(lock);
	if (r == 0)
		r = s3c_commit_header(&c, S3C_LAYOUT_TRAILER, upload->keep);
	if (r == 0) {
		s3c_header_set(&upload->header, &c.header);
		upload->key = steal_ptr(c.key);
		r = s3c_upload_create(upload);
	}
	s3c_secret_free(c.key);
	s3c_header_clear(&c.header);
	s3c_attrs_clear(&c.attrs);
	s3c_crypt_put(c.crypt);
	s3c_entry_put(c.base);
	return r;
}

static void stream_run(struct s3c_job *job)
{
	struct s3c_upload *upload = container_of(job, struct s3c_upload, job);
	struct s3c_object *object = upload->object;
	struct s3c_objects *objects = object->objects;
	int r = stream_create(upload);

	s3c_mutex_lock(&objects->engine->lock);
	upload->creating = false;
	upload->moved_ns = s3c_clock_monotonic_ns();
	if (r < 0) {
		/* The commit tries again, and says what is wrong. */
		object->upload = NULL;
		object->stream_off = true;
		s3c_upload_free(upload);
	}
	s3c_stream_advance(object);
	s3c_waitq_wake_all(&object->waitq);
	/* Writers without room wait for it to send something; perhaps it does not. */
	s3c_waitq_wake_all(&objects->mem.dirty_wait);
	s3c_object_release(object);
	s3c_mutex_unlock(&objects->engine->lock);
}

/* All chunks of segments [first, first + count) were written and not sent yet. */
static bool complete(struct s3c_object *object, uint64_t first, uint64_t count)
{
	/* The writer may come back to the segment in which it is; past the last one there is more,
	   so that all of these are full, unless the file was cut meanwhile. */
	if ((first + count) * S3C_SEGMENT_SIZE >= S3C_MIN(object->seq_end, object->size))
		return false;
	for (uint64_t i = first; i < first + count; i++) {
		struct s3c_segment *segment = s3c_segment_find(object, i);

		if (!segment || segment->dirty != S3C_SEGMENT_CHUNKS)
			return false;
	}
	return true;
}

static void stream_begin(struct s3c_object *object)
{
	struct s3c_upload *upload;

	/* The next commit goes on with what there is; formats of one message are written at once.
	 */
	if (object->paused || s3c_whole_format(object->engine) || object->seq_end > object->size ||
	    !complete(object, 0, 1) || s3c_upload_new(object, &upload) < 0)
		return;
	upload->stream = upload->creating = true;
	upload->moved_ns = s3c_clock_monotonic_ns();
	upload->job.run = stream_run;
	object->upload = upload;
	s3c_object_hold(object);
	s3c_pool_submit(object->engine->tasks, &upload->job);
}

void s3c_stream_advance(struct s3c_object *object)
{
	struct s3c_objects *objects = object->objects;
	struct s3c_upload *upload = object->upload;
	unsigned most = S3C_MAX(objects->engine->config.parallel, 2u);

	if (object->stream_off || object->committing || object->detached || object->lost ||
	    s3c_object_is_frozen(object))
		return;
	if (!upload) {
		stream_begin(object);
		return;
	}
	if (upload->creating || upload->cancel || upload->result < 0)
		return;
	most = (unsigned)S3C_MIN((uint64_t)most,
				 objects->mem.transfer_limit / S3C_SEGMENT_STRIDE + 1);
	while (upload->running < most) {
		uint64_t n = s3c_part_segments(objects, upload->count + 1);
		struct s3c_part *part;

		/* One part is left for what the commit adds. */
		if (upload->count + 1 >= PARTS_MAX || !complete(object, upload->sent_end, n) ||
		    s3c_upload_draw_salts(upload, upload->sent_end, n) < 0 ||
		    s3c_upload_add_part(upload, upload->sent_end, n, &part) < 0)
			return;
		upload->sent_end += n;
		s3c_part_start(part);
	}
}

bool s3c_stream_due(struct s3c_object *object, uint64_t chunk, int64_t *ret_until_ns)
{
	struct s3c_upload *upload = object->upload;
	uint64_t segment = chunk / S3C_SEGMENT_CHUNKS;
	int64_t until_ns;

	if (!upload || !upload->stream || upload->cancel || upload->result < 0 ||
	    (!upload->creating && !upload->running) ||
	    (segment >= upload->sent_end && !complete(object, segment, 1)))
		return false;
	until_ns = upload->moved_ns + STREAM_STALL_NS;
	if (s3c_clock_monotonic_ns() >= until_ns)
		return false;
	*ret_until_ns = until_ns;
	return true;
}
