/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Which parts make the next version of a large object, and the commit that sends them.
 *
 *	a segment ...                                        is
 *	without chunks of its own, past what base shows      a hole (plain: zeros are sent)
 *	likewise, a hole of base                             a hole
 *	all of it written here, as zeros (not by a stream)   a hole
 *	unchanged, of base, whose data key is kept           copied, in runs of up to 5 GiB
 *	any other                                            sent, under a new salt
 *
 * An unchanged last segment under 5 MiB is sent all the same: only the last part may be so short,
 * and that has the trailer. The trailer goes with the last segment when that is sent, else alone.
 */
#include "engine/upload_journal.h"
#include "engine/names.h"
#include "engine/ssec_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define PARTS_MAX 10000u
#define COPY_MAX (UINT64_C(5) << 30)

static bool is_unchanged(const struct s3c_commit *c, uint64_t segment)
{
	uint64_t start = segment * S3C_SEGMENT_SIZE;
	uint32_t had = s3c_segment_plain_len(c->crypt->size, segment);

	return start + had <= c->base_visible && had == s3c_segment_plain_len(c->size, segment);
}

static enum s3c_segment_kind kind_of(const struct s3c_upload *upload, const struct s3c_commit *c,
				     uint64_t segment)
{
	bool in_base = c->crypt && segment * S3C_SEGMENT_SIZE < c->base_visible &&
		       !s3c_crypt_hole(c->crypt, segment);

	if (segment < upload->sent_end && !upload->resumed)
		return S3C_KIND_SEND;
	if (!in_base)
		return c->sealed ? S3C_KIND_HOLE : S3C_KIND_SEND;
	return upload->keep && is_unchanged(c, segment) ? S3C_KIND_COPY : S3C_KIND_SEND;
}

static bool becomes_hole(const struct s3c_upload *upload, const struct s3c_commit *c,
			 struct s3c_segment *segment)
{
	return c->sealed && segment->index >= upload->sent_end &&
	       (segment->index + 1) * S3C_SEGMENT_SIZE <= c->size &&
	       s3c_segment_make_hole(c->object, segment);
}

int s3c_plan_kinds(struct s3c_upload *upload, const struct s3c_commit *c, uint64_t segments)
{
	struct s3c_segment *segment, *tmp;
	uint64_t last = segments - 1;

	upload->kinds = malloc(segments);
	if (!upload->kinds)
		return -ENOMEM;
	for (uint64_t i = 0; i < segments; i++)
		upload->kinds[i] = (uint8_t)kind_of(upload, c, i);
	HASH_ITER (hh, c->object->segments, segment, tmp)
		if (segment->index < segments && (segment->dirty || segment->sent))
			upload->kinds[segment->index] =
				becomes_hole(upload, c, segment) ? S3C_KIND_HOLE : S3C_KIND_SEND;
	if (c->sealed && upload->kinds[last] == S3C_KIND_COPY &&
	    s3c_segment_stored_len(c->size, last) < S3C_STORE_PART_MIN)
		upload->kinds[last] = S3C_KIND_SEND;
	return 0;
}

void s3c_plan_salt(struct s3c_upload *upload, const struct s3c_commit *c, uint64_t segment)
{
	uint8_t *salt = upload->salts + segment * S3C_SALT_LEN;

	if (upload->kinds[segment] == S3C_KIND_SEND)
		s3c_salt_draw(salt);
	else if (upload->kinds[segment] == S3C_KIND_COPY)
		memcpy(salt, c->crypt->salts + segment * S3C_SALT_LEN, S3C_SALT_LEN);
	else
		memset(salt, 0, S3C_SALT_LEN);
}

/* A stream's segments were written whole; of others, bytes of base may be part of what was sent. */
static bool is_intact(const struct s3c_upload *upload, const struct s3c_part *part)
{
	if (part->state != S3C_PART_DONE)
		return false;
	for (uint64_t i = part->first; !part->copy && i < part->first + part->count; i++) {
		const struct s3c_segment *segment = s3c_segment_find(upload->object, i);

		if (upload->resumed ? segment && segment->dirty
				    : !segment || segment->sent != S3C_SEGMENT_CHUNKS)
			return false;
	}
	return true;
}

/* Parts that are there and have what the view has are kept; the others are sent again. */
static void plan_streamed(struct s3c_upload *upload, const struct s3c_commit *c)
{
	for (unsigned n = 0; n < upload->count; n++) {
		struct s3c_part *part = upload->parts[n];

		if (is_intact(upload, part))
			continue;
		part->state = S3C_PART_NEW;
		for (uint64_t i = part->first; c->sealed && i < part->first + part->count; i++)
			s3c_plan_salt(upload, c, i);
	}
}

/* From i on, how many segments one part copies. */
static uint64_t copy_run(const struct s3c_upload *upload, const struct s3c_commit *c, uint64_t i,
			 uint64_t segments)
{
	uint64_t last = i, stride = c->sealed ? S3C_SEGMENT_STRIDE : S3C_SEGMENT_SIZE, n = 1;

	/* Over holes of both, so long as the stored bytes follow one another. */
	for (uint64_t at = i + 1; at < segments && (n + 1) * stride <= COPY_MAX; at++) {
		if (upload->kinds[at] == S3C_KIND_HOLE)
			continue;
		if (upload->kinds[at] != S3C_KIND_COPY ||
		    s3c_crypt_rank(c->crypt, at) != s3c_crypt_rank(c->crypt, last) + 1)
			break;
		last = at;
		n++;
	}
	return last - i + 1;
}

static uint64_t send_run(const struct s3c_upload *upload, uint64_t i, uint64_t segments,
			 uint64_t most)
{
	uint64_t last = i, n = 1;

	for (uint64_t at = i + 1; at < segments && n < most; at++) {
		if (upload->kinds[at] == S3C_KIND_HOLE)
			continue;
		if (upload->kinds[at] != S3C_KIND_SEND)
			break;
		last = at;
		n++;
	}
	return last - i + 1;
}

int s3c_plan_range(struct s3c_upload *upload, const struct s3c_commit *c, uint64_t from,
		   uint64_t to, uint64_t most, unsigned *ret_count)
{
	unsigned count = 0;

	for (uint64_t i = from; i < to;) {
		enum s3c_segment_kind kind = upload->kinds[i];
		struct s3c_part *part;
		uint64_t run;
		int r;

		if (kind == S3C_KIND_HOLE) {
			i++;
			continue;
		}
		run = kind == S3C_KIND_COPY ? copy_run(upload, c, i, to)
					    : send_run(upload, i, to, most);
		count++;
		if (!ret_count) {
			r = s3c_upload_add_part(upload, i, run, &part);
			if (r < 0)
				return r;
			part->copy = kind == S3C_KIND_COPY;
		}
		i += run;
	}
	if (ret_count)
		*ret_count = count;
	return 0;
}

static int plan_salts(struct s3c_upload *upload, const struct s3c_commit *c, uint64_t segments)
{
	int r = s3c_upload_grow_salts(upload, segments);

	for (uint64_t i = upload->sent_end; r == 0 && i < segments; i++)
		s3c_plan_salt(upload, c, i);
	return r;
}

int s3c_plan_make(struct s3c_upload *upload, const struct s3c_commit *c)
{
	struct s3c_objects *objects = c->object->objects;
	uint64_t segments = s3c_segment_count(c->size), most = 1;
	uint64_t cap = s3c_part_segments(objects, PARTS_MAX);
	unsigned count, used;
	struct s3c_part *part;
	int r = upload->kinds ? 0 : s3c_plan_kinds(upload, c, segments);

	if (r < 0)
		return r;
	plan_streamed(upload, c);
	used = upload->count ? upload->parts[upload->count - 1]->done.number : 0;
	for (;; most++) {
		s3c_plan_range(upload, c, upload->sent_end, segments, most, &count);
		if (used + count + 1 <= PARTS_MAX)
			break;
		if (most >= cap)
			return -EFBIG;
	}
	r = s3c_plan_range(upload, c, upload->sent_end, segments, most, NULL);
	if (r == 0 && c->sealed)
		r = plan_salts(upload, c, segments);
	if (r < 0)
		return r;
	upload->size = c->size;
	if (!c->sealed)
		return 0;
	part = upload->count ? upload->parts[upload->count - 1] : NULL;
	if (!part || part->copy || part->state != S3C_PART_NEW)
		r = s3c_upload_add_part(upload, segments, 0, &part);
	if (r == 0)
		part->trailer = true;
	return r;
}

/* Plain objects are copied from where they lie, whatever wrote them. */
static bool keeps(const struct s3c_commit *c)
{
	const struct s3c_objects *objects = c->object->objects;
	enum s3c_layout layout;
	struct s3c_segment *segment;

	if (!c->base || !c->base_visible || !c->crypt || c->renewing ||
	    !c->object->engine->store->caps.part_copy || objects->no_part_copy)
		return false;
	/* Ceph decrypts what a part copies with the key of the target. */
	if (s3c_ssec_store_index(c->object->engine->store, c->target->key))
		return false;
	layout = c->base->header.layout;
	if (!c->sealed)
		return layout == S3C_LAYOUT_PLAIN && c->crypt->size >= S3C_SEGMENT_SIZE;
	if (layout == S3C_LAYOUT_TRAILER)
		return true;
	/* Growing from one full segment that has not changed. */
	segment = s3c_segment_find(c->object, 0);
	return layout == S3C_LAYOUT_CHUNKS && c->crypt->size == S3C_SEGMENT_SIZE &&
	       c->base_visible == S3C_SEGMENT_SIZE && !(segment && segment->dirty);
}

/* The upload of the stream, if it can be taken over, one that goes on, or a new one. 1: none is
   needed, see s3c_upload_resume. */
static int take_upload(struct s3c_commit *c, struct s3c_upload **ret_upload)
{
	struct s3c_object *object = c->object;
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_upload *upload = NULL;
	bool keep;
	int r = 0;

	s3c_mutex_lock(lock);
	if (object->upload)
		s3c_upload_wait(object->upload);
	if (object->upload && object->upload->cancel)
		r = s3c_stream_abort(object, NULL);
	upload = object->upload;
	keep = keeps(c);
	if (upload)
		upload->result = 0;
	s3c_mutex_unlock(lock);
	if (r == 0 && !upload)
		r = s3c_upload_resume(c, &upload);
	if (r == 0 && !upload)
		r = s3c_upload_new(object, &upload);
	if (r == 0 && !upload->id) {
		r = s3c_commit_header(c, S3C_LAYOUT_TRAILER, keep && c->sealed);
		if (r == 0) {
			upload->keep = keep;
			s3c_header_set(&upload->header, &c->header);
			upload->key = steal_ptr(c->key);
			r = s3c_upload_create(upload);
		}
		if (r < 0) {
			s3c_upload_free(upload);
			return r;
		}
		s3c_mutex_lock(lock);
		object->upload = upload;
		s3c_mutex_unlock(lock);
	}
	if (r == 0)
		*ret_upload = upload;
	return r;
}

static int make_trailer(struct s3c_upload *upload, const struct s3c_commit *c)
{
	struct s3c_footer footer = {
		.size = c->size,
		.mtime_ns = c->attrs.mtime_ns,
		.segments = s3c_segment_count(c->size),
	};

	memcpy(footer.content_id, upload->header.content_id, sizeof(footer.content_id));
	return s3c_trailer_encode(&footer, upload->salts, upload->key, &upload->header,
				  c->object->engine->volume, &upload->trailer);
}

static int send_parts(struct s3c_upload *upload, const struct s3c_commit *c)
{
	struct s3c_object *object = upload->object;
	struct s3c_mutex *lock = &object->engine->lock;
	int r;

	s3c_mutex_lock(lock);
	if (upload->keep && c->crypt) {
		upload->source = s3c_crypt_ref(c->crypt);
		memcpy(upload->source_etag, c->base->version.etag, sizeof(upload->source_etag));
	}
	r = s3c_plan_make(upload, c);
	s3c_mutex_unlock(lock);
	if (r == 0 && c->sealed)
		r = make_trailer(upload, c);
	if (r < 0)
		return r;
	s3c_mutex_lock(lock);
	for (unsigned i = 0; i < upload->count; i++)
		if (upload->parts[i]->state == S3C_PART_NEW)
			s3c_part_start(upload->parts[i]);
	s3c_upload_wait(upload);
	r = upload->result;
	s3c_mutex_unlock(lock);
	return r;
}

static bool copies(const struct s3c_upload *upload)
{
	for (unsigned i = 0; i < upload->count; i++)
		if (upload->parts[i]->copy)
			return true;
	return false;
}

/* Where nothing else sees to it that all copies are of one version: a look before the end. */
static int check_source(struct s3c_commit *c, const struct s3c_upload *upload)
{
	const struct s3c_store_caps *caps = &c->object->engine->store->caps;
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_store_request rq = { .op = S3C_STORE_HEAD };
	int r;

	if (!copies(upload) || caps->part_copy_source_if_match || caps->complete_if_match)
		return 0;
	r = s3c_commit_request(c, &rq, "look at", &reply);
	if (r == -ENOENT ||
	    (r == 0 && !s3c_etag_equal(reply.stat.version.etag, c->base->version.etag)))
		return -ESTALE;
	return r;
}

static int complete(struct s3c_commit *c, struct s3c_upload *upload)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_free struct s3c_store_part *parts = calloc(upload->count, sizeof(*parts));
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_COMPLETE,
		.upload_id = upload->id,
		.parts = parts,
		.part_count = upload->count,
		.condition = s3c_commit_condition(c, true),
	};
	int r;

	if (!parts)
		return -ENOMEM;
	for (unsigned i = 0; i < upload->count; i++) {
		parts[i] = upload->parts[i]->done;
		c->stored += s3c_part_len(upload->parts[i]);
	}
	s3c_header_set(&c->header, &upload->header);
	c->header.size = c->size;
	r = s3c_commit_guard(c, &rq.condition);
	if (r < 0)
		return r;
	r = s3c_commit_attempt(c);
	/* Chunks that are only in the parts would be lost with them. */
	if (r < 0 && !upload->dropped)
		return r;
	r = s3c_commit_request(c, &rq, "complete the upload of", &reply);
	c->version = reply.stat.version;
	if (r < 0)
		r = s3c_commit_resolve(c, r);
	if (r == -ENXIO)
		return r;
	return r < 0 && r != S3C_AGAIN && r != -EEXIST
		       ? s3c_object_fail(c->object, "complete the upload of", c->target, r,
					 reply.message)
		       : r;
}

/*
 * The metadata was fixed when the stream began. Sealed: size and mtime stand at the end, ctime and
 * atime stay as they were then. Plain: mtime is corrected where the store can do that by itself.
 */
static void correct_attrs(struct s3c_commit *c)
{
	struct s3c_attrs *stored = &c->header.attrs;
	uint8_t op[S3C_OP_ID_LEN];
	bool access = stored->mode != c->attrs.mode || stored->uid != c->attrs.uid ||
		      stored->gid != c->attrs.gid ||
		      !s3c_xattrs_equal(stored->xattrs, c->attrs.xattrs);
	bool times = !c->sealed && stored->mtime_ns != c->attrs.mtime_ns &&
		     c->object->engine->store->caps.copy;

	if (c->sealed)
		stored->mtime_ns = c->attrs.mtime_ns;
	if (!access && !times)
		return;
	s3c_header_set(&c->entry->header, &c->header);
	c->entry->version = c->version;
	c->entry->stored_size = c->stored;
	/* Another operation: what has the id of the upload has other attributes. */
	memcpy(op, c->header.op_id, sizeof(op));
	s3c_random(c->header.op_id, sizeof(c->header.op_id));
	if (s3c_commit_attrs(c, c->entry) == 0)
		return;
	/* The content is stored: what is left to do is left to the next commit. */
	memcpy(c->header.op_id, op, sizeof(op));
	c->seq--;
}

static int carry_out(struct s3c_commit *c, struct s3c_upload *upload)
{
	struct s3c_object *object = c->object;
	int r = send_parts(upload, c);

	if (r == 0)
		r = check_source(c, upload);
	if (r == -EOPNOTSUPP && copies(upload)) {
		s3c_info("the store cannot copy parts: changed files are written whole");
		s3c_mutex_lock(&object->engine->lock);
		object->objects->no_part_copy = true;
		s3c_mutex_unlock(&object->engine->lock);
		return S3C_AGAIN;
	}
	if (r == 0)
		r = complete(c, upload);
	else if (r != -ENXIO)
		r = s3c_object_fail(object, "write", c->target, r, upload->message);
	if (r != -ENXIO)
		return r;
	/* Somebody aborted it, or the store forgot it: another one can have all but what was
	   dropped. */
	return upload->dropped ? s3c_object_fail(object, "complete the upload of", c->target, r,
						 "it is gone")
			       : S3C_AGAIN;
}

int s3c_commit_large(struct s3c_commit *c)
{
	struct s3c_object *object = c->object;
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_upload *upload = NULL;
	int r = take_upload(c, &upload);

	if (r < 0)
		return r;
	if (r == 1) {
		correct_attrs(c);
		return 0;
	}
	r = carry_out(c, upload);
	if (r == 0 && upload->stream)
		correct_attrs(c);
	if (r == 0) {
		s3c_upload_unrecord(upload);
		c->key = steal_ptr(upload->key);
		c->salts = steal_ptr(upload->salts);
	} else if (!s3c_upload_pause(upload, r)) {
		s3c_upload_abort(upload);
	}
	s3c_mutex_lock(lock);
	object->upload = NULL;
	if (r < 0)
		s3c_sent_end(object, 0, UINT64_MAX, false);
	s3c_mutex_unlock(lock);
	s3c_upload_free(upload);
	return r;
}
