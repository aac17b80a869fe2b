/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/content.h"
#include "engine/durable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/secret.h"

int s3c_target_new(struct s3c_engine *engine, const char *path, struct s3c_target **ret_target)
{
	struct s3c_target *target = calloc(1, sizeof(*target));
	const struct s3c_ssec *used = NULL;
	struct s3c_ssec ssec;
	int r;

	if (!target)
		return -ENOMEM;
	target->refs = 1;
	target->path = strdup(path);
	r = target->path ? s3c_key_of(engine, path, false, &target->key) : -ENOMEM;
	if (r == 0)
		r = s3c_ssec_of(engine, target->key, &ssec, &used);
	if (r == 0 && used) {
		target->ssec = s3c_secret_alloc(sizeof(*target->ssec));
		if (target->ssec)
			*target->ssec = ssec;
		else
			r = -ENOMEM;
		s3c_wipe(&ssec, sizeof(ssec));
	}
	if (r < 0) {
		s3c_target_put(target);
		return r;
	}
	*ret_target = target;
	return 0;
}

struct s3c_target *s3c_target_ref(struct s3c_target *target)
{
	__atomic_add_fetch(&target->refs, 1, __ATOMIC_RELAXED);
	return target;
}

void s3c_target_put(struct s3c_target *target)
{
	if (!target || __atomic_sub_fetch(&target->refs, 1, __ATOMIC_ACQ_REL))
		return;
	s3c_secret_free(target->ssec);
	free(target->path);
	free(target->key);
	free(target);
}

struct s3c_crypt *s3c_crypt_ref(struct s3c_crypt *crypt)
{
	if (crypt)
		__atomic_add_fetch(&crypt->refs, 1, __ATOMIC_RELAXED);
	return crypt;
}

void s3c_crypt_put(struct s3c_crypt *crypt)
{
	if (!crypt || __atomic_sub_fetch(&crypt->refs, 1, __ATOMIC_ACQ_REL))
		return;
	s3c_secret_free(crypt->key);
	free(crypt->salts);
	free(crypt->rank);
	s3c_s3ec_body_free(crypt->body);
	free(crypt);
}

/* Only where there are holes: without them the rank of a segment is its index. */
static int make_ranks(struct s3c_crypt *crypt)
{
	uint32_t rank = 0;
	uint64_t i;

	if (!crypt->salts)
		return 0;
	for (i = 0; i < crypt->segments; i++)
		if (s3c_crypt_hole(crypt, i))
			break;
	if (i == crypt->segments)
		return 0;
	crypt->rank = calloc(crypt->segments + 1, sizeof(*crypt->rank));
	if (!crypt->rank)
		return -ENOMEM;
	for (i = 0; i < crypt->segments; i++) {
		crypt->rank[i] = rank;
		rank += !s3c_crypt_hole(crypt, i);
	}
	crypt->rank[i] = rank;
	return 0;
}

int s3c_crypt_new(enum s3c_layout layout, uint64_t size, const uint8_t *file_id, uint8_t *key,
		  uint8_t *salts, struct s3c_crypt **ret_crypt)
{
	struct s3c_crypt *crypt = calloc(1, sizeof(*crypt));
	int r;

	if (!crypt)
		return -ENOMEM;
	crypt->refs = 1;
	crypt->layout = layout;
	crypt->size = size;
	crypt->segments = s3c_segment_count(size);
	if (file_id)
		memcpy(crypt->file_id, file_id, sizeof(crypt->file_id));
	crypt->salts = salts;
	r = make_ranks(crypt);
	if (r < 0) {
		free(crypt);
		return r;
	}
	crypt->key = key;
	*ret_crypt = crypt;
	return 0;
}

int s3c_crypt_new_whole(enum s3c_layout layout, const struct s3c_s3ec *s3ec,
			struct s3c_s3ec_body **body, struct s3c_crypt **ret_crypt)
{
	int r = s3c_crypt_new(layout, s3c_s3ec_body_size(*body), s3ec->id, NULL, NULL, ret_crypt);

	if (r == 0)
		(*ret_crypt)->body = steal_ptr(*body);
	return r;
}

bool s3c_crypt_hole(const struct s3c_crypt *crypt, uint64_t segment)
{
	return crypt->layout == S3C_LAYOUT_TRAILER &&
	       s3c_salt_is_hole(crypt->salts + segment * S3C_SALT_LEN);
}

uint64_t s3c_crypt_rank(const struct s3c_crypt *crypt, uint64_t segment)
{
	return crypt->rank ? crypt->rank[segment] : segment;
}

uint64_t s3c_crypt_offset(const struct s3c_crypt *crypt, uint64_t chunk)
{
	uint64_t segment = chunk / S3C_SEGMENT_CHUNKS, chunks = s3c_chunk_count(crypt->size);

	if (crypt->layout == S3C_LAYOUT_PLAIN || s3c_layout_is_whole(crypt->layout))
		return S3C_MIN(chunk * S3C_CHUNK_SIZE, crypt->size);
	if (chunk >= chunks) {
		/* The end of the last chunk, which is no hole: nobody asks past one. */
		if (!chunks)
			return 0;
		return s3c_crypt_offset(crypt, chunks - 1) +
		       s3c_chunk_plain_len(crypt->size, chunks - 1) + S3C_TAG_LEN;
	}
	return s3c_crypt_rank(crypt, segment) * S3C_SEGMENT_STRIDE +
	       chunk % S3C_SEGMENT_CHUNKS * S3C_CHUNK_STRIDE;
}

uint8_t *s3c_objects_secret(struct s3c_objects *objects)
{
	for (;;) {
		uint8_t *key = s3c_secret_alloc(S3C_KEY_LEN);
		bool more;

		if (key)
			return key;
		s3c_mutex_lock(&objects->engine->lock);
		more = s3c_cache_shrink(objects);
		s3c_mutex_unlock(&objects->engine->lock);
		if (!more)
			return NULL;
	}
}

int s3c_object_fail(struct s3c_object *object, const char *what, const struct s3c_target *target,
		    int result, const char *message)
{
	/* Those who gave up do not want to hear of it; -ESTALE is decided upon by who asked. */
	if (result == -EINTR || result == -ECANCELED || result == -ESTALE)
		return result;
	return s3c_engine_fail(object->engine, what, target->key, result, message);
}

/* The end of a trailer object: at least its table, footer and MACs. */
static int get_tail(struct s3c_object *object, struct s3c_op *op, const struct s3c_entry *base,
		    const struct s3c_target *target, uint64_t len, struct s3c_buf *ret_tail)
{
	struct s3c_store_reply reply;
	struct s3c_store_request rq = {
		.op = S3C_STORE_GET,
		.deadline_ns = s3c_engine_deadline(object->engine),
		.content = true,
		.key = target->key,
		.ssec = target->ssec,
		.offset = base->stored_size - len,
		.length = len,
		.condition.if_match = base->version.etag[0] ? base->version.etag : NULL,
	};
	int r;

	s3c_buf_init(ret_tail, (size_t)len);
	rq.sink = s3c_store_buf_sink(ret_tail);
	r = s3c_store_perform(object->engine->store, &rq, op, &reply);
	if (r == 0 && ret_tail->len != len)
		r = -EPROTO;
	if (r < 0)
		r = s3c_object_fail(object, "read the end of", target, r, reply.message);
	s3c_store_reply_free(&reply);
	return r;
}

static int load_table(struct s3c_object *object, struct s3c_op *op, const struct s3c_entry *base,
		      const struct s3c_target *target, const uint8_t *key, uint8_t **ret_salts)
{
	uint64_t segments = s3c_segment_count(base->header.size);
	uint64_t len = s3c_trailer_len(segments);
	cleanup_buf struct s3c_buf got = { 0 };
	cleanup_free uint8_t *salts = NULL;
	struct s3c_footer footer;
	const uint8_t *tail = base->tail;
	size_t tail_len = base->tail_len;
	char why[256] = "";
	int r;

	if (len > base->stored_size)
		return s3c_object_fail(object, "open", target, -EBADMSG, "shorter than its table");
	if (!tail || tail_len < len) {
		r = get_tail(object, op, base, target, len, &got);
		if (r < 0)
			return r;
		tail = (const uint8_t *)got.data;
		tail_len = got.len;
	}
	r = s3c_footer_decode(tail, tail_len, base->stored_size, &base->header,
			      object->engine->volume, &footer, why, sizeof(why));
	if (r == 0 && (footer.segments != segments || footer.size != base->header.size))
		r = -EBADMSG;
	tail += tail_len - len;
	if (r == 0)
		r = s3c_table_verify(tail, tail + segments * S3C_SALT_LEN, &footer,
				     base->stored_size, key, &base->header, why, sizeof(why));
	if (r < 0)
		return s3c_object_fail(object, "open", target, r, why);
	salts = malloc(segments * S3C_SALT_LEN);
	if (!salts)
		return -ENOMEM;
	memcpy(salts, tail, segments * S3C_SALT_LEN);
	*ret_salts = steal_ptr(salts);
	return 0;
}

static int load_crypt(struct s3c_object *object, struct s3c_op *op, const struct s3c_entry *base,
		      const struct s3c_target *target, struct s3c_crypt **ret_crypt)
{
	const struct s3c_header *header = &base->header;
	cleanup_secret uint8_t *key = NULL;
	cleanup_free uint8_t *salts = NULL;
	char why[256] = "";
	int r;

	if (header->layout == S3C_LAYOUT_PLAIN)
		return s3c_crypt_new(header->layout, base->stored_size, NULL, NULL, NULL,
				     ret_crypt);
	if (header->layout == S3C_LAYOUT_NONE || s3c_layout_is_whole(header->layout))
		return -EIO;
	key = s3c_objects_secret(object->objects);
	if (!key)
		return -ENOMEM;
	r = s3c_header_unwrap(header, s3c_keyring_in_use(&object->engine->config),
			      object->engine->volume, op, key, why, sizeof(why));
	if (r < 0)
		return s3c_object_fail(object, "open", target, r, why);
	if (header->layout == S3C_LAYOUT_TRAILER) {
		r = load_table(object, op, base, target, key, &salts);
		if (r < 0)
			return r;
	} else {
		salts = malloc(S3C_SALT_LEN);
		if (!salts)
			return -ENOMEM;
		memcpy(salts, header->salt, S3C_SALT_LEN);
	}
	r = s3c_crypt_new(header->layout, header->size, header->file_id, key, salts, ret_crypt);
	if (r == 0) {
		key = NULL;
		salts = NULL;
	}
	return r;
}

/* The same for a base in the format of other clients, which is verified as a whole. */
static int prepare_foreign(struct s3c_object *object, struct s3c_op *op, unsigned *tries)
{
	struct s3c_entry *base = s3c_entry_ref(object->base);
	int r = s3c_foreign_prepare(object, op);

	if (r == -ESTALE && object->base != base)
		r = 0;
	else if (r == -ESTALE && (*tries)++ < S3C_STALE_TRIES)
		r = s3c_object_refresh(object, op);
	s3c_entry_put(base);
	return r;
}

int s3c_object_prepare(struct s3c_object *object, struct s3c_op *op)
{
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_crypt *crypt = NULL;
	struct s3c_target *target;
	struct s3c_entry *base;
	unsigned tries = 0;
	int r = 0;

	while (object->base && !object->crypt && r == 0) {
		if (op == S3C_NOWAIT)
			return -EINPROGRESS;
		if (s3c_layout_is_whole(object->base->header.layout)) {
			r = prepare_foreign(object, op, &tries);
			continue;
		}
		if (object->preparing) {
			r = s3c_waitq_wait(&object->waitq, lock, op);
			continue;
		}
		object->preparing = true;
		base = s3c_entry_ref(object->base);
		target = s3c_target_ref(object->target);
		s3c_mutex_unlock(lock);
		r = load_crypt(object, op, base, target, &crypt);
		s3c_mutex_lock(lock);
		object->preparing = false;
		s3c_waitq_wake_all(&object->waitq);
		if (r == 0 && object->base == base)
			object->crypt = steal_ptr(crypt);
		s3c_crypt_put(crypt);
		crypt = NULL;
		/* Somebody else's metadata copy: the same content under another ETag. */
		if (r == -ESTALE && object->base == base && tries++ < S3C_STALE_TRIES)
			r = s3c_object_refresh(object, op);
		else if (r == -ESTALE && object->base != base)
			r = 0;
		s3c_target_put(target);
		s3c_entry_put(base);
	}
	return r;
}

int s3c_object_refresh(struct s3c_object *object, struct s3c_op *op)
{
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_entry *old = object->base, *found = NULL;
	cleanup_free char *path = NULL;
	int r;

	/* Our own commit or rename may be what changed it, before the object knows. */
	while (object->refreshing || object->publishing ||
	       (s3c_object_is_frozen(object) && !object->localizing)) {
		r = s3c_waitq_wait(&object->waitq, lock, op);
		if (r < 0)
			return r;
		if (object->base != old)
			return 0;
	}
	if (!old || object->detached)
		return -ESTALE;
	path = strdup(object->path);
	if (!path)
		return -ENOMEM;
	s3c_entry_ref(old);
	object->refreshing = true;
	s3c_mutex_unlock(lock);
	r = s3c_names_lookup(object->engine, op, path, true, &found);
	s3c_mutex_lock(lock);
	object->refreshing = false;
	s3c_waitq_wake_all(&object->waitq);
	if (object->base != old) {
		r = 0; /* our own commit came between */
	} else if (r == 0 && s3c_same_content(old, found)) {
		s3c_object_set_base(object, found);
	} else if (r == 0 && s3c_object_adopt(object, found, found->header.op_id)) {
		s3c_debug("%s: what was sent before has arrived", path);
	} else if (r == -ENOENT && s3c_writeback(object->engine) && !object->base_visible &&
		   object->content_seq != object->content_clean) {
		/* A delete of ours that was under way when the file was made anew, or somebody
		   else's: nothing of the old version is needed. */
		s3c_object_set_base(object, NULL);
		r = 0;
	} else if (r == 0 || r == -ENOENT) {
		s3c_warn("%s: was changed by another machine while it was open here", path);
		r = -ESTALE;
	}
	s3c_entry_put(old);
	s3c_entry_put(found);
	return r;
}
