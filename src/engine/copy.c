/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * One object onto another key, or onto itself with other metadata: the stored
 * bytes stay as they are, the header is sealed anew.
 *
 *	the store copies, up to 5 GiB	COPY
 *	larger, or it copies parts only	multipart with part copies
 *	neither, or not between keys	read and written again, whole or in parts
 *
 * A sealed header over the bytes of another version would destroy that version
 * for good. So the source carries a condition.
 *
 * A request may be made by the store when nobody waits for it any more: it had no
 * reply in time and was asked for again, or given up. A COPY without that condition
 * takes the bytes then that stand at the source by then, and puts them over what
 * stands at the target. So where the store ignores it nothing is copied by one
 * request, but in a way that a late one cannot spoil (fenced):
 *
 *	few bytes onto another key	PUT if nothing, or what was seen, is there
 *	attributes of a plain object	PUT if it is that; of many bytes COPY onto itself:
 *		they fit any content
 *	else	multipart: the bytes, or part copies; look at the source; complete, which
 *		is done once only, and known before anything else is (unsettled.h)
 *
 * What is replaced was seen by whoever asks for that: the target carries a
 * condition too, or is looked at right before (guard).
 */
#include "engine/epochs.h"
#include "engine/names.h"

#include <errno.h>
#include <string.h>

#define COPY_MAX (UINT64_C(5) << 30) /* CopyObject and UploadPartCopy, S3's limit */
#define COPY_PART (UINT64_C(512) << 20)
#define WHOLE_MAX (16u << 20) /* read and written again in one piece */
#define BODY_PART (16u << 20)
#define PARTS_MAX 10000u

struct copying {
	struct s3c_engine *engine;
	struct s3c_copy *copy;
	struct s3c_ssec from_ssec, to_ssec;
	const struct s3c_ssec *from_key, *to_key;
	struct s3c_meta meta;
	const struct s3c_meta *props;
	const char *content_type;
	bool same;
	const char *source_etag;
	struct s3c_extra *envelope; /* when the caller had none */
};

static void copying_free(struct copying *c)
{
	s3c_meta_free(&c->meta);
	s3c_extra_put(c->envelope);
	s3c_wipe(&c->from_ssec, sizeof(c->from_ssec));
	s3c_wipe(&c->to_ssec, sizeof(c->to_ssec));
}

static int request(struct copying *c, struct s3c_store_request *rq, struct s3c_store_reply *reply,
		   const char *what)
{
	int r = s3c_request(c->engine, rq, NULL, reply);

	if (r < 0)
		s3c_debug("%s %s: %s", what, c->copy->to, reply->message);
	/* There are fewer bytes than the version had that is copied. */
	return r == -ERANGE ? -ESTALE : r;
}

static int head(struct copying *c, const char *key, const struct s3c_ssec *ssec,
		struct s3c_store_reply *reply)
{
	struct s3c_store_request rq = { .op = S3C_STORE_HEAD, .key = key, .ssec = ssec };
	int r = s3c_unsettled_settle(c->engine, key, reply);

	return r < 0 ? r : request(c, &rq, reply, "look at");
}

/* 0: what may be replaced stands there; -ENOENT: nothing, any more; -EEXIST; -EREMCHG. */
static int look_at_target(struct copying *c)
{
	const struct s3c_version *replaces = c->copy->replaces;
	cleanup_reply struct s3c_store_reply reply = { 0 };
	int r = head(c, c->copy->to, c->to_key, &reply);

	if (r == -ENOENT)
		return replaces ? -ENOENT : 0;
	/* Under a key that is not ours it is nothing that we have seen. */
	if (r < 0 && r != -EKEYREJECTED)
		return r;
	if (!replaces)
		return -EEXIST;
	return r == 0 && s3c_etag_equal(reply.stat.version.etag, replaces->etag) ? 0 : -EREMCHG;
}

/* 0: the version stands there that the header belongs to. -ESTALE. */
static int look_at_source(struct copying *c)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	int r = head(c, c->copy->from, c->from_key, &reply);

	if (r == -ENOENT || (r == 0 && !s3c_etag_equal(reply.stat.version.etag, c->source_etag)))
		return -ESTALE;
	return r;
}

/*
 * The condition on the target, of those that the operation's kind honours; or a look, when there is
 * none. Right before the request that changes the target. sure: what is written are the bytes that
 * belong to the header; else an object that is copied onto itself could be the version of another
 * machine, which nobody could read under that header.
 */
static int guard_target(struct copying *c, bool if_match, bool if_none_match, bool sure,
			struct s3c_condition *ret_condition)
{
	const struct s3c_copy *copy = c->copy;
	const char *etag = copy->replaces ? copy->replaces->etag : "";
	int r;

	*ret_condition = (struct s3c_condition){ 0 };
	if (c->same && if_match)
		ret_condition->if_match = c->source_etag;
	if (c->same && !ret_condition->if_match && !sure)
		return look_at_source(c);
	if (!copy->guard)
		return 0;
	if (!copy->replaces)
		ret_condition->if_none_match = if_none_match;
	else if (if_match && *etag)
		ret_condition->if_match = etag;
	if (ret_condition->if_match || ret_condition->if_none_match || copy->looked)
		return 0;
	r = look_at_target(c);
	return r == -ENOENT ? 0 : r;
}

/* A condition was refused: which one? */
static int explain_refusal(struct copying *c, int result)
{
	int r = c->copy->guard ? look_at_target(c) : 0;

	if (r == -ENOENT)
		return -EREMCHG;
	return r == 0 ? -ESTALE : r == -EEXIST || r == -EREMCHG ? r : result;
}

static int copy_whole(struct copying *c, struct s3c_store_reply *reply)
{
	const struct s3c_store_caps *caps = &c->engine->store->caps;
	struct s3c_store_request rq = {
		.op = S3C_STORE_COPY,
		.key = c->copy->to,
		.ssec = c->to_key,
		.source_key = c->copy->from,
		.source_ssec = c->from_key,
		.source_if_match = c->source_etag,
		.meta = &c->meta,
		.props = c->props,
		.content_type = c->content_type,
	};
	int r = guard_target(c, caps->copy_if_match && !c->same, caps->copy_if_none_match,
			     caps->copy_source_if_match, &rq.condition);

	return r < 0 ? r : request(c, &rq, reply, "copy to");
}

static int put_whole(struct copying *c, const void *body, size_t len, struct s3c_store_reply *reply)
{
	const struct s3c_store_caps *caps = &c->engine->store->caps;
	struct iovec iov = { .iov_base = (void *)body, .iov_len = len };
	struct s3c_store_request rq = {
		.op = S3C_STORE_PUT,
		.key = c->copy->to,
		.ssec = c->to_key,
		.content = len > 0,
		.body = &iov,
		.body_count = len ? 1 : 0,
		.meta = &c->meta,
		.props = c->props,
		.content_type = c->content_type,
	};
	/* Bytes were read right before. */
	int r = guard_target(c, caps->put_if_match, caps->put_if_none_match, len > 0,
			     &rq.condition);

	return r < 0 ? r : request(c, &rq, reply, "write");
}

struct range_sink {
	struct s3c_buf *body;
	uint64_t total;
	uint64_t expected; /* size of the whole object */
};

static int range_begin(void *arg, const struct s3c_stat *st, uint64_t offset, uint64_t length,
		       uint64_t total)
{
	struct range_sink *sink = arg;

	(void)st;
	(void)offset;
	s3c_buf_reset(sink->body);
	sink->total = total;
	if (total != sink->expected || length > sink->body->max)
		return -ESTALE;
	return s3c_buf_reserve(sink->body, (size_t)length);
}

static int range_data(void *arg, const void *data, size_t len)
{
	struct range_sink *sink = arg;

	return s3c_buf_append(sink->body, data, len);
}

static int read_range(struct copying *c, uint64_t offset, uint64_t len, struct s3c_buf *body)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct range_sink sink = { .body = body, .expected = c->copy->stored_size };
	struct s3c_store_request rq = {
		.op = S3C_STORE_GET,
		.key = c->copy->from,
		.ssec = c->from_key,
		.content = true,
		.offset = offset,
		.length = len,
		.condition.if_match = c->source_etag,
		.sink = { range_begin, range_data, &sink },
	};
	int r = request(c, &rq, &reply, "read for");

	if (r < 0)
		return r;
	/* Stores that ignore If-Match still tell which version they gave. */
	if (!s3c_etag_equal(reply.stat.version.etag, c->source_etag))
		return -ESTALE;
	return body->len == len ? 0 : -ESTALE;
}

static int rewrite_whole(struct copying *c, struct s3c_store_reply *reply)
{
	cleanup_buf struct s3c_buf body = { .max = WHOLE_MAX };
	uint64_t size = c->copy->stored_size;
	int r = size ? read_range(c, 0, size, &body) : 0;

	return r < 0 ? r : put_whole(c, body.data, (size_t)size, reply);
}

static int send_part(struct copying *c, const char *upload_id, unsigned number, uint64_t offset,
		     uint64_t len, bool by_copy, struct s3c_store_part *ret_part)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_buf struct s3c_buf body = { .max = (size_t)len };
	struct iovec iov;
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_PART_COPY,
		.key = c->copy->to,
		.ssec = c->to_key,
		.content = true,
		.source_key = c->copy->from,
		.source_ssec = c->from_key,
		.source_if_match = c->source_etag,
		.offset = offset,
		.length = len,
		.upload_id = upload_id,
		.part_number = number,
	};
	int r;

	if (!by_copy) {
		r = c->copy->body || !len ? 0 : read_range(c, offset, len, &body);
		if (r < 0)
			return r;
		iov = (struct iovec){ .iov_base = body.data, .iov_len = len };
		if (c->copy->body)
			iov.iov_base = (void *)(c->copy->body + offset);
		rq.op = S3C_STORE_UPLOAD_PART;
		rq.body = &iov;
		rq.body_count = len ? 1 : 0;
	}
	r = request(c, &rq, &reply, "part of");
	if (r == 0) {
		*ret_part = reply.part;
		ret_part->number = number;
	}
	return r;
}

static void abort_upload(struct copying *c, const char *upload_id)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_ABORT,
		.key = c->copy->to,
		.upload_id = upload_id,
	};

	request(c, &rq, &reply, "abort the upload of");
}

/* The parts of the object, one after the other; of an empty one an empty part. */
static int send_parts(struct copying *c, const char *upload_id, bool by_copy,
		      struct s3c_store_part **ret_parts, size_t *ret_count)
{
	uint64_t size = c->copy->stored_size;
	uint64_t part = S3C_MAX(by_copy ? COPY_PART : (uint64_t)BODY_PART,
				DIV_ROUND_UP(size, (uint64_t)PARTS_MAX));
	cleanup_free struct s3c_store_part *parts = NULL;
	size_t count = 0;

	parts = calloc((size_t)S3C_MAX(DIV_ROUND_UP(size, part), 1), sizeof(*parts));
	if (!parts)
		return -ENOMEM;
	for (uint64_t offset = 0; !count || offset < size; offset += part) {
		uint64_t len = S3C_MIN(part, size - offset);
		int r = send_part(c, upload_id, (unsigned)count + 1, offset, len, by_copy,
				  &parts[count]);

		if (r < 0)
			return r;
		count++;
	}
	*ret_parts = steal_ptr(parts);
	*ret_count = count;
	return 0;
}

static int complete(struct copying *c, const char *upload_id, const struct s3c_store_part *parts,
		    size_t count, bool by_copy, struct s3c_store_reply *reply)
{
	const struct s3c_store_caps *caps = &c->engine->store->caps;
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_COMPLETE,
		.key = c->copy->to,
		.ssec = c->to_key,
		.upload_id = upload_id,
		.parts = parts,
		.part_count = count,
	};
	int r = by_copy && !c->same && !caps->part_copy_source_if_match ? look_at_source(c) : 0;

	if (r == 0)
		r = guard_target(c, caps->complete_if_match, caps->complete_if_none_match, false,
				 &rq.condition);
	return r < 0 ? r : request(c, &rq, reply, "complete");
}

static int copy_parts(struct copying *c, bool by_copy, struct s3c_store_reply *reply)
{
	cleanup_reply struct s3c_store_reply created = { 0 };
	cleanup_free struct s3c_store_part *parts = NULL;
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_CREATE,
		.key = c->copy->to,
		.ssec = c->to_key,
		.meta = &c->meta,
		.props = c->props,
		.content_type = c->content_type,
		.copies = by_copy,
	};
	size_t count = 0;
	int r = request(c, &rq, &created, "begin the upload of");

	if (r < 0)
		return r;
	r = send_parts(c, created.upload_id, by_copy, &parts, &count);
	if (r == 0)
		r = complete(c, created.upload_id, parts, count, by_copy, reply);
	/* After a lost answer that asks for the completion again (unsettled.h). */
	if (r < 0)
		abort_upload(c, created.upload_id);
	return r;
}

/* Would a COPY that is made late take whatever stands at the source then? */
static bool may_stray(const struct copying *c)
{
	return !c->engine->store->caps.copy_source_if_match;
}

static bool has_no_envelope(const struct copying *c)
{
	const struct s3c_header *header = &c->copy->header;

	return header->layout == S3C_LAYOUT_PLAIN || header->layout == S3C_LAYOUT_NONE;
}

/* Its ETag is that of its content: a write of few bytes keeps it, and can have a condition. */
static bool is_few_plain(const struct copying *c)
{
	return c->same && has_no_envelope(c) && c->copy->stored_size <= S3C_COPY_FEW &&
	       c->engine->store->caps.put_if_match;
}

/* Other attributes of what has no envelope: any fit any content, and a late copy spoils nothing,
   but where the object has become a reference since. */
static bool is_loose(const struct copying *c)
{
	return c->same && may_stray(c) && c->engine->store->caps.copy && has_no_envelope(c) &&
	       !is_few_plain(c);
}

static bool is_marker(const struct copying *c)
{
	return c->copy->to[strlen(c->copy->to) - 1] == '/';
}

/* Is a write of the bytes, which are here, the only way to replace no more than what was seen? */
static bool write_is_safer(const struct copying *c)
{
	const struct s3c_store_caps *caps = &c->engine->store->caps;
	const struct s3c_copy *copy = c->copy;

	if (!copy->body || !copy->stored_size || !copy->guard || copy->looked || c->same)
		return false;
	return copy->replaces ? !caps->copy_if_match && caps->put_if_match
			      : !caps->copy_if_none_match && caps->put_if_none_match;
}

static int put_here(struct copying *c, struct s3c_store_reply *reply)
{
	/* A marker has no bytes that could be another version's. */
	c->copy->source_unseen = !c->same && !is_marker(c);
	return put_whole(c, c->copy->body, c->copy->stored_size, reply);
}

/* Where there is no condition, the source is looked at before the end. */
static int copy_by_parts(struct copying *c, struct s3c_store_reply *reply)
{
	c->copy->source_unseen = !c->same && !c->engine->store->caps.part_copy_source_if_match;
	return copy_parts(c, true, reply);
}

/*
 * By the store alone, and without an effect that comes when nobody waits for it any more: a copy is
 * one request that may take minutes. With conditions it does no harm then; else parts are copied,
 * which are nothing before the short request that completes them.
 */
static int transfer_by_store(struct copying *c, struct s3c_store_reply *reply)
{
	const struct s3c_store_caps *caps = &c->engine->store->caps;
	bool conditional = c->copy->replaces ? caps->copy_if_match : caps->copy_if_none_match;

	if (caps->copy && conditional && !may_stray(c) && c->copy->stored_size <= COPY_MAX)
		return copy_whole(c, reply);
	return caps->part_copy ? copy_by_parts(c, reply) : -EOPNOTSUPP;
}

static void again(struct s3c_store_reply *reply)
{
	s3c_store_reply_free(reply);
	*reply = (struct s3c_store_reply){ 0 };
}

/* By requests that bring the bytes, which were those of the source when they were read. */
static int transfer_by_hand(struct copying *c, bool parts, struct s3c_store_reply *reply)
{
	c->copy->source_unseen = !c->same;
	return parts ? copy_parts(c, false, reply) : rewrite_whole(c, reply);
}

/* So that what is made late has no effect, although the store honours no condition of a copy. */
static int transfer_fenced(struct copying *c, struct s3c_store_reply *reply)
{
	const struct s3c_store_caps *caps = &c->engine->store->caps;
	const struct s3c_copy *copy = c->copy;
	bool here = copy->body || !copy->stored_size;
	/* Ceph decrypts what a part copies with the key of the target. */
	bool other_key = (c->from_key || c->to_key) && !c->same;
	int r = -EOPNOTSUPP;

	if (is_marker(c) && !copy->stored_size)
		return put_here(c, reply);
	if (is_few_plain(c) ||
	    (copy->guard && (copy->replaces ? caps->put_if_match : caps->put_if_none_match) &&
	     (here || copy->stored_size <= S3C_COPY_FEW)))
		return here ? put_here(c, reply) : transfer_by_hand(c, false, reply);
	if (caps->part_copy && copy->stored_size && !other_key && !(here && !c->same))
		r = copy_by_parts(c, reply);
	/* Neither with another key, nor, on Ceph, of a source with a '%' in its name. */
	if (r != -EOPNOTSUPP && r != -EKEYREJECTED)
		return r;
	again(reply);
	return transfer_by_hand(c, true, reply);
}

static int transfer(struct copying *c, struct s3c_store_reply *reply)
{
	const struct s3c_store_caps *caps = &c->engine->store->caps;
	uint64_t size = c->copy->stored_size;
	int r = -EOPNOTSUPP;

	if (c->copy->by_store)
		return transfer_by_store(c, reply);
	if (may_stray(c) && !is_loose(c))
		return transfer_fenced(c, reply);
	if ((!size && (is_marker(c) || (c->same && caps->put_if_match))) || write_is_safer(c))
		return put_here(c, reply);
	if (size <= COPY_MAX)
		r = copy_whole(c, reply);
	if (r == -EOPNOTSUPP && caps->part_copy && size > WHOLE_MAX) {
		again(reply);
		r = copy_by_parts(c, reply);
	}
	if (r != -EOPNOTSUPP && r != -EKEYREJECTED)
		return r;
	again(reply);
	return transfer_by_hand(c, size > WHOLE_MAX, reply);
}

/* Did this operation write it? */
static bool is_of_op(struct copying *c, const struct s3c_stat *st)
{
	cleanup_header struct s3c_header header = { 0 };
	uint8_t op[S3C_OP_ID_LEN];

	if (s3c_header_of(c->engine, c->copy->to, st, &header) < 0)
		return false;
	s3c_op_id_of(&header, &st->meta, op);
	return memcmp(op, c->copy->header.op_id, S3C_OP_ID_LEN) == 0;
}

/* Is it what stands at the target? 1, 0; -errno of a lost reply: nobody can tell. */
static int is_ours(struct copying *c, struct s3c_version *ret_version)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	int r = head(c, c->copy->to, c->to_key, &reply);

	if (r < 0)
		return s3c_result_lost(r) ? r : 0;
	if (!is_of_op(c, &reply.stat))
		return 0;
	*ret_version = reply.stat.version;
	return 1;
}

/* What a request that was refused, or whose reply was lost, has come to. One that was asked for
   again is refused for its own first time: who cannot look has not been refused. */
static int resolve(struct copying *c, int result, struct s3c_version *ret_version)
{
	bool refused = result == -ESTALE || result == -EEXIST;
	int r = 0;

	if (refused || result == -ENXIO || s3c_result_lost(result))
		r = is_ours(c, ret_version);
	if (r > 0)
		return 0;
	if (r < 0)
		return refused ? r : result;
	return refused || result == -ENOENT ? explain_refusal(c, result) : result;
}

/* Its envelope is metadata of another program: without them nobody could read the copy. */
static int find_envelope(struct copying *c)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_copy *copy = c->copy;
	cleanup_header struct s3c_header header = { 0 };
	int r = 0;

	if (!s3c_layout_is_whole(copy->header.layout))
		return 0;
	if (!copy->extra) {
		r = head(c, copy->from, c->from_key, &reply);
		if (r == 0)
			r = s3c_header_of(c->engine, copy->from, &reply.stat, &header);
		if (r == 0 &&
		    (header.layout != copy->header.layout ||
		     memcmp(header.content_id, copy->header.content_id, S3C_CONTENT_ID_LEN) != 0))
			r = -ESTALE;
		if (r == 0)
			r = s3c_extra_make(&header, false, &reply.stat, &c->envelope);
		copy->extra = c->envelope;
	}
	if (r == 0 && (!copy->extra || copy->extra->unsendable)) {
		s3c_error("object %s: it is neither renamed nor are its attributes changed: the "
			  "metadata that its client needs cannot be sent again",
			  copy->from);
		r = -EOPNOTSUPP;
	}
	return r == -ENOENT ? -ESTALE : r;
}

/* What other programs set goes with a plain object. */
static int keep_extra(struct copying *c)
{
	struct s3c_copy *copy = c->copy;
	int r;

	if (copy->to[strlen(copy->to) - 1] == '/')
		c->content_type = S3C_DIR_TYPE;
	if (!copy->extra || s3c_layout_is_sealed(copy->header.layout))
		return 0;
	c->props = &copy->extra->props;
	r = s3c_extra_apply(copy->extra, copy->to, c->same, &c->meta);
	if (r > 0)
		copy->header.attrs = copy->old->attrs;
	return S3C_MIN(r, 0);
}

static int prepare(struct copying *c)
{
	struct s3c_engine *engine = c->engine;
	struct s3c_copy *copy = c->copy;
	int r;

	c->same = strcmp(copy->from, copy->to) == 0;
	c->source_etag = copy->source->etag;
	if (!*c->source_etag) {
		s3c_error("object %s is not copied: the store has given no ETag for it, without "
			  "which its versions cannot be told apart",
			  copy->from);
		return -EIO;
	}
	if (!copy->op_given)
		s3c_random(copy->header.op_id, S3C_OP_ID_LEN);
	copy->header.generation =
		s3c_next_generation(engine, copy->to, S3C_MAX(copy->old->generation, copy->over));
	r = s3c_ssec_of(engine, copy->from, &c->from_ssec, &c->from_key);
	if (r == 0)
		r = s3c_ssec_of(engine, copy->to, &c->to_ssec, &c->to_key);
	if (r == 0)
		r = find_envelope(c);
	if (r == 0)
		r = s3c_header_to_meta(engine, &copy->header, copy->extra, copy->path, copy->to,
				       &c->meta);
	if (r == 0)
		r = keep_extra(c);
	/* A new file. What is moved or gets other attributes keeps exactly the items it has. */
	if (r == 0 && copy->by_store)
		r = s3c_op_id_set(&copy->header, &c->meta);
	return r;
}

/*
 * A plain object of a volume that was one of sse-c may be under a customer key, which its copy
 * would not be: such an object is only read, and written anew as a whole.
 */
static int refuse_ssec(struct copying *c)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_store_request rq = {
		.op = S3C_STORE_HEAD,
		.key = c->copy->from,
		.exact_key = true,
	};
	const struct s3c_volume *volume = c->engine->volume;
	int r;

	if (!volume || !volume->former || s3c_layout_is_sealed(c->copy->old->layout))
		return 0;
	r = request(c, &rq, &reply, "look at");
	if (r == 0 || r == -ENOENT)
		return 0;
	if (r != -EKEYREJECTED)
		return s3c_engine_fail(c->engine, "look up", c->copy->from, r, reply.message);
	s3c_error("%s is under a customer key, of the time before this volume was one of "
		  "client-side encryption, and can be read but neither renamed nor given other "
		  "attributes: bring it to the new mode with s3cryptfsctl rekey --migrate",
		  c->copy->from);
	return -EACCES;
}

/* What the reply tells of a success. Where it has the metadata as well, it is of a look after the
   completion, whose reply told no version: then somebody else may have been faster. */
static int take_version(struct copying *c, const struct s3c_store_reply *reply,
			struct s3c_version *ret_version)
{
	if (reply->stat.meta.count && !is_of_op(c, &reply->stat))
		return c->same ? -ESTALE : -EREMCHG;
	*ret_version = reply->stat.version;
	if (is_loose(c) && !s3c_etag_equal(ret_version->etag, c->source_etag))
		c->copy->source_unseen = true;
	return 0;
}

static int copy_resolved(struct copying *c, struct s3c_version *ret_version)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	int r = transfer(c, &reply);

	if (r == 0)
		r = take_version(c, &reply, ret_version);
	else
		r = resolve(c, r, ret_version);
	if (r == 0 || r == -ESTALE || r == -EEXIST || r == -EREMCHG || c->copy->by_store)
		return r;
	return s3c_engine_fail(c->engine, "write", c->copy->to, r, reply.message);
}

int s3c_copy_object(struct s3c_engine *engine, struct s3c_copy *copy,
		    struct s3c_version *ret_version)
{
	struct copying c = { .engine = engine, .copy = copy };
	int r = prepare(&c);

	/* Before the looks that take the place of conditions. */
	if (r == 0)
		r = s3c_overdue_settle(engine, copy->to, S3C_OVERDUE_MAKE);
	if (r == 0)
		r = refuse_ssec(&c);
	if (r == 0)
		r = copy_resolved(&c, ret_version);
	if (r == 0)
		r = s3c_epochs_confirm(engine, &copy->header);
	if (r == 0)
		s3c_note_generation(engine, copy->to, &copy->header, false);
	copying_free(&c);
	return r;
}
