/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What commits of every size share: headers, conditions, lost replies, sealing; and the one PUT. */
#include "engine/content.h"
#include "engine/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/secret.h"

#define TAIL_KEPT (16u << 10)

static struct s3c_attempt *find_attempt(struct s3c_object *object,
					const uint8_t op_id[static S3C_OP_ID_LEN])
{
	for (unsigned i = 0; i < ARRAY_LEN(object->attempts); i++)
		if (object->attempts[i].used &&
		    memcmp(object->attempts[i].op_id, op_id, S3C_OP_ID_LEN) == 0)
			return &object->attempts[i];
	return NULL;
}

/*
 * All attempts to publish one view have one id: however many there are while the store is away, the
 * one that arrived is known by it. The journal knows the first already.
 */
void s3c_commit_draw_op(struct s3c_commit *c)
{
	struct s3c_object *object = c->object;
	bool again = false, large = c->content && c->size > S3C_SEGMENT_SIZE;

	s3c_random(c->header.op_id, sizeof(c->header.op_id));
	s3c_mutex_lock(&object->engine->lock);
	for (unsigned i = 0; c->seq && i < ARRAY_LEN(object->attempts); i++) {
		const struct s3c_attempt *attempt = &object->attempts[i];

		if (!attempt->used || attempt->seq != c->seq || attempt->size != c->size)
			continue;
		memcpy(c->header.op_id, attempt->op_id, S3C_OP_ID_LEN);
		again = true;
	}
	/* Whether the end of an upload was asked for has to be told when it is gone on with: each
	   has an id that the journal knows of from then on. */
	if (!again && !large && object->next_op_unused && c->seq && object->saved.seq == c->seq) {
		memcpy(c->header.op_id, object->next_op, S3C_OP_ID_LEN);
		object->next_op_unused = false;
	}
	s3c_mutex_unlock(&object->engine->lock);
}

/* A special file has attributes and no key. */
static void draw_special(struct s3c_commit *c)
{
	struct s3c_header *header = &c->header;

	header->epoch = c->object->engine->volume->epoch;
	header->layout = S3C_LAYOUT_NONE;
	s3c_random(header->file_id, sizeof(header->file_id));
	s3c_random(header->content_id, sizeof(header->content_id));
	header->generation = s3c_next_generation(c->object->engine, c->target->key,
						 c->base ? c->base->header.generation : 0);
}

int s3c_commit_header(struct s3c_commit *c, enum s3c_layout layout, bool keep)
{
	struct s3c_engine *engine = c->object->engine;
	struct s3c_header *header = &c->header;
	char why[512] = "";
	int r = 0;

	s3c_header_clear(header);
	*header = (struct s3c_header){ 0 };
	s3c_secret_free(steal_ptr(c->key));
	if (c->sealed && s3c_mode_is_special(c->attrs.mode)) {
		draw_special(c);
	} else if (c->sealed) {
		c->key = s3c_objects_secret(c->object->objects);
		if (!c->key)
			return -ENOMEM;
		if (keep) {
			s3c_header_set(header, &c->base->header);
			memset(header->salt, 0, sizeof(header->salt));
			memcpy(c->key, c->crypt->key, S3C_KEY_LEN);
			s3c_random(header->content_id, sizeof(header->content_id));
			/* Under the active key, whichever wrapped it before. */
			r = s3c_header_renew(header, s3c_keyring_in_use(&engine->config),
					     engine->volume, NULL, c->key, why, sizeof(why));
		} else {
			r = s3c_header_new(s3c_keyring_in_use(&engine->config), engine->volume,
					   NULL, header, c->key, why, sizeof(why));
			if (r == 0 && c->renewing)
				r = s3c_renewed_id(c->base, header->content_id);
		}
		if (r < 0)
			return s3c_object_fail(c->object, "get a data key for", c->target, r, why);
		header->layout = layout;
		header->generation = s3c_next_generation(engine, c->target->key,
							 c->base ? c->base->header.generation : 0);
	} else {
		header->layout = S3C_LAYOUT_PLAIN;
	}
	s3c_attrs_set(&header->attrs, &c->attrs);
	header->attrs.known = true;
	header->attrs_final = false;
	header->size = c->size;
	s3c_commit_draw_op(c);
	return 0;
}

int s3c_commit_meta(struct s3c_commit *c, struct s3c_meta *ret_meta)
{
	struct s3c_meta meta = { 0 };
	const struct s3c_extra *extra = c->entry ? c->entry->extra : NULL;
	int r = s3c_header_to_meta(c->object->engine, &c->header, extra, c->target->path,
				   c->target->key, &meta);

	if (r == 0)
		r = s3c_op_id_set(&c->header, &meta);
	if (r < 0)
		s3c_meta_free(&meta);
	else
		*ret_meta = meta;
	return r;
}

int s3c_commit_request(struct s3c_commit *c, struct s3c_store_request *rq, const char *what,
		       struct s3c_store_reply *ret_reply)
{
	int r;

	rq->key = c->target->key;
	rq->ssec = c->target->ssec;
	r = s3c_request(c->object->engine, rq, NULL, ret_reply);
	if (r < 0)
		s3c_debug("%s %s: %s", what, rq->key, ret_reply->message);
	return r;
}

struct s3c_condition s3c_commit_condition(const struct s3c_commit *c, bool complete)
{
	const struct s3c_store_caps *caps = &c->object->engine->store->caps;
	struct s3c_condition condition = { 0 };

	if (!c->base)
		condition.if_none_match =
			complete ? caps->complete_if_none_match : caps->put_if_none_match;
	else if (c->base->version.etag[0] &&
		 (complete ? caps->complete_if_match : caps->put_if_match))
		condition.if_match = c->base->version.etag;
	return condition;
}

static void warn_unguarded(struct s3c_engine *engine)
{
	s3c_mutex_lock(&engine->lock);
	if (!engine->objects->guard_warned)
		s3c_warn("the store does not honour conditions on writes: a change made by another "
			 "machine at the same moment can be overwritten");
	engine->objects->guard_warned = true;
	s3c_mutex_unlock(&engine->lock);
}

int s3c_commit_guard(struct s3c_commit *c, const struct s3c_condition *condition)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_store_request rq = { .op = S3C_STORE_HEAD };
	int r;

	if (condition->if_match || condition->if_none_match ||
	    (c->base && !c->base->version.etag[0]))
		return 0;
	warn_unguarded(c->object->engine);
	r = s3c_overdue_settle(c->object->engine, c->target->key, S3C_OVERDUE_MAKE);
	if (r == 0)
		r = s3c_unsettled_settle(c->object->engine, c->target->key, &reply);
	if (r < 0)
		return s3c_object_fail(c->object, "look at", c->target, r, reply.message);
	r = s3c_commit_request(c, &rq, "look at", &reply);
	if (!c->base && (r == 0 || r == -ENOENT))
		return r == 0 ? s3c_commit_resolve(c, -EEXIST) : 0;
	if (r == -ENOENT ||
	    (r == 0 && !s3c_etag_equal(reply.stat.version.etag, c->base->version.etag)))
		return -ESTALE;
	return r < 0 ? s3c_object_fail(c->object, "look at", c->target, r, reply.message) : 0;
}

int s3c_commit_attempt(struct s3c_commit *c)
{
	struct s3c_object *object = c->object;
	struct s3c_attempt *attempt;
	int r;

	s3c_mutex_lock(&object->engine->lock);
	attempt = find_attempt(object, c->header.op_id);
	if (!attempt)
		attempt = &object->attempts[object->attempt_next++ % ARRAY_LEN(object->attempts)];
	*attempt = (struct s3c_attempt){
		.size = c->size,
		.visible = S3C_MIN(c->size, object->size), /* a clone: nothing of it */
		.seq = c->seq,
		.used = true,
	};
	memcpy(attempt->op_id, c->header.op_id, S3C_OP_ID_LEN);
	s3c_mutex_unlock(&object->engine->lock);
	r = s3c_object_record_attempt(object, c->header.op_id);
	if (r < 0)
		return r;
	s3c_mutex_lock(&object->engine->lock);
	object->publishing = true;
	s3c_mutex_unlock(&object->engine->lock);
	return 0;
}

/* What the store has under the key, with its operation id. */
static int look(struct s3c_commit *c, struct s3c_entry **ret_entry,
		uint8_t ret_op[static S3C_OP_ID_LEN])
{
	struct s3c_engine *engine = c->object->engine;
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_buf struct s3c_buf tail = { 0 };
	struct s3c_store_request rq = {
		.op = S3C_STORE_GET,
		.suffix = S3C_TAIL_LEN,
		.sink = s3c_store_buf_sink(&tail),
	};
	int r;

	s3c_buf_init(&tail, S3C_TAIL_LEN);
	r = s3c_commit_request(c, &rq, "look at", &reply);
	if (r < 0)
		return r;
	r = s3c_entry_make(engine, c->entry->path, false, &reply.stat, tail.data, tail.len,
			   ret_entry);
	/* Nothing of ours, or nothing that can be read: it was replaced. */
	if (r == -EIO || r == -EACCES)
		return -ENOENT;
	if (r < 0)
		return r;
	s3c_op_id_of(&(*ret_entry)->header, &reply.stat.meta, ret_op);
	return 0;
}

bool s3c_object_adopt(struct s3c_object *object, struct s3c_entry *entry,
		      const uint8_t op[static S3C_OP_ID_LEN])
{
	for (unsigned i = 0; i < ARRAY_LEN(object->attempts); i++) {
		const struct s3c_attempt *attempt = &object->attempts[i];

		if (!attempt->used || memcmp(attempt->op_id, op, S3C_OP_ID_LEN) != 0 ||
		    attempt->size != entry->header.size)
			continue;
		/* What was cut since is not zero there. */
		object->base_visible = attempt->visible;
		s3c_object_set_base(object, entry);
		return true;
	}
	return false;
}

static bool adopt(struct s3c_commit *c, struct s3c_entry *entry, const uint8_t *op)
{
	struct s3c_mutex *lock = &c->object->engine->lock;
	bool found;

	s3c_mutex_lock(lock);
	found = s3c_object_adopt(c->object, entry, op);
	s3c_mutex_unlock(lock);
	return found;
}

int s3c_commit_settle(struct s3c_commit *c)
{
	struct s3c_object *object = c->object;
	cleanup_entry struct s3c_entry *entry = NULL;
	uint8_t op[S3C_OP_ID_LEN];
	unsigned open = 0;
	bool again = false;
	int r;

	s3c_mutex_lock(&object->engine->lock);
	for (unsigned i = 0; i < ARRAY_LEN(object->attempts); i++) {
		const struct s3c_attempt *attempt = &object->attempts[i];

		open += attempt->used;
		again |= attempt->used && attempt->seq == c->seq && attempt->size == c->size;
	}
	s3c_mutex_unlock(&object->engine->lock);
	if (open < S3C_ATTEMPTS_OPEN || again)
		return 0;
	r = look(c, &entry, op);
	if (r == -ENOENT)
		return c->base ? -ESTALE : 0;
	if (r < 0)
		return s3c_object_fail(object, "look at", c->target, r, NULL);
	if (c->base && s3c_etag_equal(entry->version.etag, c->base->version.etag))
		return 0;
	return adopt(c, entry, op) ? S3C_AGAIN : -ESTALE;
}

/* Of all that have the operation id, the attempt whose keys are at hand? */
static bool is_this(const struct s3c_commit *c, const struct s3c_entry *entry)
{
	if (entry->header.layout != c->header.layout || entry->header.size != c->size)
		return false;
	return !c->sealed ||
	       (memcmp(entry->header.content_id, c->header.content_id, S3C_CONTENT_ID_LEN) == 0 &&
		memcmp(entry->header.file_id, c->header.file_id, S3C_FILE_ID_LEN) == 0);
}

/* Where it was one that had no reply, the look after it is to tell what has become of it. */
static void settle_completion(struct s3c_commit *c)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };

	s3c_unsettled_settle(c->object->engine, c->target->key, &reply);
}

int s3c_commit_resolve(struct s3c_commit *c, int result)
{
	bool refused =
		result == -ESTALE || result == -EEXIST || result == -ENXIO || result == -ENOENT;
	uint8_t op[S3C_OP_ID_LEN];
	struct s3c_entry *entry;
	int r;

	if (!refused && !s3c_result_lost(result))
		return result;
	settle_completion(c);
	r = look(c, &entry, op);
	if (r == -ENOENT)
		return result != -ENXIO && refused ? -ESTALE : result;
	/* Who has it instead is not known: the next commit looks again. */
	if (r < 0)
		return refused ? r : result;
	if (memcmp(op, c->header.op_id, S3C_OP_ID_LEN) == 0 && is_this(c, entry)) {
		c->version = entry->version;
		r = 0;
	} else if (c->base && s3c_etag_equal(entry->version.etag, c->base->version.etag)) {
		/* Nothing has changed, whoever wrote it. */
		r = refused && result != -ENXIO ? -ESTALE : result;
	} else if (adopt(c, entry, op)) {
		r = S3C_AGAIN;
	} else {
		r = refused && result != -ENXIO ? -ESTALE : result;
	}
	s3c_entry_put(entry);
	return r;
}

/* Waits until nobody writes to the pinned pages, then keeps writers off. Lock held, released. */
static void seal_begin(struct s3c_object *object, uint64_t first, uint64_t size,
		       struct s3c_page **pages, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (!pages[i] || !pages[i]->writing)
			continue;
		s3c_waitq_wait(&object->waitq, &object->engine->lock, NULL);
		i = -1u;
	}
	for (unsigned i = 0; i < n; i++) {
		struct s3c_segment *segment;
		struct s3c_slot *slot = s3c_slot_find(object, first + i, &segment);

		if (!pages[i])
			continue;
		pages[i]->sealing++;
		/* What was appended since goes past what is sealed: the chunk is needed once more.
		 */
		if (object->size > size && (first + i + 1) * S3C_CHUNK_SIZE > size)
			continue;
		if (slot && slot->state == S3C_CHUNK_DIRTY && slot->page == pages[i])
			s3c_slot_set(segment, slot, S3C_CHUNK_SENT);
	}
}

static void seal_end(struct s3c_object *object, struct s3c_page **pages, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (pages[i])
			pages[i]->sealing--;
	s3c_chunks_unpin(object, pages, n);
	s3c_waitq_wake_all(&object->waitq);
}

int s3c_segment_each(struct s3c_object *object, uint64_t segment, uint64_t size, s3c_chunk_sink fn,
		     void *arg)
{
	struct s3c_mutex *lock = &object->engine->lock;
	uint64_t first = segment * S3C_SEGMENT_CHUNKS;
	unsigned chunks = DIV_ROUND_UP(s3c_segment_plain_len(size, segment), S3C_CHUNK_SIZE);
	int r = 0;

	/* One GET instead of one a batch, where there is memory for it. */
	s3c_mutex_lock(lock);
	s3c_chunks_prefetch(object, first, first + chunks);
	s3c_mutex_unlock(lock);
	for (unsigned done = 0; done < chunks && r == 0; done += S3C_BATCH) {
		unsigned n = S3C_MIN(chunks - done, S3C_BATCH);
		struct s3c_page *pages[S3C_BATCH];

		s3c_mutex_lock(lock);
		r = s3c_chunks_pin(object, NULL, first + done, n, pages);
		if (r == 0)
			seal_begin(object, first + done, size, pages, n);
		s3c_mutex_unlock(lock);
		if (r < 0)
			break;
		for (unsigned i = 0; i < n && r == 0; i++)
			r = fn(arg, first + done + i, pages[i] ? pages[i]->data : s3c_zero_chunk,
			       s3c_chunk_plain_len(size, first + done + i));
		s3c_mutex_lock(lock);
		seal_end(object, pages, n);
		s3c_mutex_unlock(lock);
	}
	return r;
}

struct sealing {
	struct s3c_engine *engine;
	struct s3c_segment_cipher *cipher; /* NULL: plain */
	const uint8_t *file_id, *salt;
	uint8_t *at;
};

static int seal_one(void *arg, uint64_t chunk, const uint8_t *data, uint32_t len)
{
	struct sealing *s = arg;
	int r;

	if (!s->cipher) {
		memcpy(s->at, data, len);
		s->at += len;
		return 0;
	}
	r = s3c_chunk_seal(s->cipher, chunk % S3C_SEGMENT_CHUNKS, data, len, s->at);
	if (r < 0)
		return r;
	if (data != s3c_zero_chunk)
		s3c_cached_put_sealed(s->engine, s->file_id, s->salt, chunk, data, len);
	s->at += len + S3C_TAG_LEN;
	return 0;
}

int s3c_seal_segment(struct s3c_object *object, const uint8_t *key, const uint8_t *file_id,
		     uint64_t segment, const uint8_t *salt, uint64_t size, uint8_t *out,
		     size_t *ret_len)
{
	struct sealing s = { object->engine, NULL, file_id, salt, out };
	int r = 0;

	if (key)
		r = s3c_segment_cipher_new(key, file_id, segment, salt, &s.cipher);
	if (r == 0)
		r = s3c_segment_each(object, segment, size, seal_one, &s);
	s3c_segment_cipher_free(s.cipher);
	if (r == 0)
		*ret_len = (size_t)(s.at - out);
	return r;
}

static int send_put(struct s3c_commit *c, uint8_t *body, size_t len)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	struct s3c_condition condition = s3c_commit_condition(c, false);
	struct iovec iov = { body, len };
	struct s3c_meta meta;
	struct s3c_store_request rq = {
		.op = S3C_STORE_PUT,
		.content = true,
		.body = &iov,
		.body_count = len ? 1 : 0,
		.meta = &meta,
		.props = c->entry->extra ? &c->entry->extra->props : NULL,
		.condition = condition,
	};
	int r = s3c_commit_guard(c, &condition);

	if (r == 0)
		r = s3c_commit_attempt(c);
	if (r == 0)
		r = s3c_commit_meta(c, &meta);
	if (r < 0)
		return r;
	r = s3c_commit_request(c, &rq, "write", &reply);
	s3c_meta_free(&meta);
	c->version = reply.stat.version;
	c->stored = len;
	if (r < 0)
		r = s3c_commit_resolve(c, r);
	return r < 0 && r != S3C_AGAIN && r != -EEXIST
		       ? s3c_object_fail(c->object, "write", c->target, r, reply.message)
		       : r;
}

/* What was sent stays with the entry, as if a GET had brought it: for a rename that may follow. */
static void keep_tail(struct s3c_commit *c, const uint8_t *body, size_t len)
{
	if (!len || len > TAIL_KEPT || c->entry->tail)
		return;
	c->entry->tail = malloc(len);
	if (!c->entry->tail)
		return;
	memcpy(c->entry->tail, body, len);
	c->entry->tail_len = len;
}

int s3c_commit_put(struct s3c_commit *c, uint8_t *body, size_t len)
{
	int r = send_put(c, body, len);

	if (r == 0)
		keep_tail(c, body, len);
	return r;
}

int s3c_commit_small(struct s3c_commit *c)
{
	struct s3c_object *object = c->object;
	struct s3c_objects *objects = object->objects;
	struct s3c_mutex *lock = &object->engine->lock;
	size_t len = c->sealed ? (size_t)s3c_chunks_stored_len(c->size) : (size_t)c->size;
	size_t got = 0;
	uint8_t *body = NULL;
	int r = s3c_commit_header(c, S3C_LAYOUT_CHUNKS, false);

	if (r < 0)
		return r;
	if (c->key) {
		s3c_salt_draw(c->header.salt);
		c->salts = malloc(S3C_SALT_LEN);
		if (!c->salts)
			return -ENOMEM;
		memcpy(c->salts, c->header.salt, S3C_SALT_LEN);
	}
	s3c_mutex_lock(lock);
	objects->uploading++;
	if (len)
		r = s3c_transfer_begin(&objects->mem, lock, len, &body);
	s3c_mutex_unlock(lock);
	if (r == 0 && len)
		r = s3c_seal_segment(object, c->key, c->header.file_id, 0, c->header.salt, c->size,
				     body, &got);
	if (r == 0 && got != len)
		r = -EIO;
	if (r == 0)
		r = s3c_commit_put(c, body, len);
	s3c_mutex_lock(lock);
	objects->uploading--;
	if (body)
		s3c_transfer_end(&objects->mem, body, len);
	s3c_waitq_wake_all(&objects->mem.dirty_wait);
	s3c_mutex_unlock(lock);
	return r;
}
