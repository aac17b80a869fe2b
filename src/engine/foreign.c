/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Verifying the content of objects of other S3 encryption clients, and of what we wrote like them.
 *
 * One tag at the end authenticates all of such an object. So before the first byte is given out a
 * pass reads all of it, piece by piece with one buffer, and what it leaves authenticates every
 * chunk by itself from then on (object/s3ec_body.h): these are fetched like those of any object,
 * when they are needed. What the pass decrypts goes to the cache, where there is one, and what
 * comes from there is checked as well; so mostly nothing is asked for twice.
 *
 * A pass runs as a task: readers wait for it, and when one gives up it goes on for the next, until
 * the object is closed. A small object that its lookup brought whole is verified from memory.
 *
 *	object->pass	NULL -> running -> NULL
 *	it ends with	object->crypt (verified); object->refused (not authentic: no second look at
 *			the same version); or a result that those who wait get, and nothing
 */
#include "engine/content.h"
#include "engine/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "object/s3ec_keys.h"

#define PIECE S3C_SEGMENT_SIZE /* bytes of one GET */
#define KEPT_PART 8u           /* of memory=: what is known of the contents of closed objects */

struct s3c_pass {
	struct s3c_job job;
	struct s3c_object *object;
	struct s3c_entry *base;
	struct s3c_target *target;
	LIST_ENTRY(s3c_pass) link;
	struct s3c_op op; /* of its requests: interrupted at the end of the engine */

	/* Guarded by engine->lock. */
	unsigned refs, waiting;
	bool done;
	int result;

	/* The sink's. */
	uint8_t *piece;
	uint64_t offset, length, got;
};

/* Lock held. */
static void pass_put(struct s3c_pass *pass)
{
	if (--pass->refs)
		return;
	s3c_entry_put(pass->base);
	s3c_target_put(pass->target);
	s3c_op_destroy(&pass->op);
	free(pass);
}

static int piece_begin(void *arg, const struct s3c_stat *st, uint64_t offset, uint64_t length,
		       uint64_t total)
{
	struct s3c_pass *pass = arg;
	const char *etag = pass->base->version.etag;

	/* Stores that ignore If-Match still tell which version they gave. */
	if (total != pass->base->stored_size ||
	    (etag[0] && st->version.etag[0] && !s3c_etag_equal(st->version.etag, etag)))
		return -ESTALE;
	if (offset != pass->offset || length != pass->length)
		return -EPROTO;
	pass->got = 0;
	return 0;
}

static int piece_data(void *arg, const void *data, size_t len)
{
	struct s3c_pass *pass = arg;

	if (len > pass->length - pass->got)
		return -EPROTO;
	memcpy(pass->piece + pass->got, data, len);
	pass->got += len;
	return 0;
}

static int get_piece(struct s3c_pass *pass, uint64_t offset, uint64_t length)
{
	struct s3c_engine *engine = pass->object->engine;
	const char *etag = pass->base->version.etag;
	struct s3c_store_reply reply = { 0 };
	const struct s3c_store_request rq = {
		.op = S3C_STORE_GET,
		.deadline_ns = s3c_engine_deadline(engine),
		.content = true,
		.key = pass->target->key,
		.ssec = pass->target->ssec,
		.offset = offset,
		.length = length,
		.condition.if_match = etag[0] ? etag : NULL,
		.sink = { piece_begin, piece_data, pass },
	};
	int r;

	pass->offset = offset;
	pass->length = length;
	r = s3c_store_perform(engine->store, &rq, &pass->op, &reply);
	if (r == 0 && pass->got != length)
		r = -EPROTO;
	/* It was there: who waits looks again at what became of it. */
	if (r == -ENOENT)
		r = -ESTALE;
	if (r < 0)
		r = s3c_object_fail(pass->object, "verify", pass->target, r, reply.message);
	s3c_store_reply_free(&reply);
	return r;
}

/* Does anybody still want it? */
static bool wanted(struct s3c_pass *pass)
{
	struct s3c_object *object = pass->object;
	bool yes;

	s3c_mutex_lock(&object->engine->lock);
	yes = !object->objects->stop && (pass->waiting || object->users);
	s3c_mutex_unlock(&object->engine->lock);
	return yes;
}

static int feed_store(struct s3c_pass *pass, struct s3c_s3ec_pass *content)
{
	struct s3c_objects *objects = pass->object->objects;
	struct s3c_mutex *lock = &objects->engine->lock;
	uint64_t size = pass->base->stored_size;
	size_t len = (size_t)S3C_MIN(size, (uint64_t)PIECE);
	int r;

	s3c_mutex_lock(lock);
	r = s3c_transfer_begin(&objects->mem, lock, len, &pass->piece);
	s3c_mutex_unlock(lock);
	if (r < 0)
		return r;
	for (uint64_t at = 0, n; at < size && r == 0; at += n) {
		n = S3C_MIN(size - at, (uint64_t)len);
		r = wanted(pass) ? get_piece(pass, at, n) : -ECANCELED;
		if (r == 0)
			r = s3c_s3ec_pass_feed(content, pass->piece, (size_t)n);
	}
	s3c_mutex_lock(lock);
	s3c_transfer_end(&objects->mem, steal_ptr(pass->piece), len);
	s3c_mutex_unlock(lock);
	return r;
}

static void keep_chunk(void *arg, uint64_t chunk, const uint8_t *data, uint32_t len)
{
	struct s3c_pass *pass = arg;

	s3c_cached_put_foreign(pass->object->engine, pass->base->s3ec->id, chunk, data, len);
}

/* Objects that are only cached hold keys in secret memory: some give theirs back. */
static int content_new(struct s3c_pass *pass, const uint8_t *data_key,
		       struct s3c_s3ec_pass **ret_content)
{
	struct s3c_objects *objects = pass->object->objects;
	const struct s3c_entry *base = pass->base;
	bool more = true;
	int r = -ENOMEM;

	while (r == -ENOMEM && more) {
		r = s3c_s3ec_pass_new(base->s3ec, data_key,
				      s3c_entry_body(base) ? NULL : keep_chunk, pass, ret_content);
		if (r != -ENOMEM)
			break;
		s3c_mutex_lock(&objects->engine->lock);
		more = s3c_cache_shrink(objects);
		s3c_mutex_unlock(&objects->engine->lock);
	}
	return r;
}

static int refuse(struct s3c_pass *pass, int r, const char *why)
{
	struct s3c_object *object = pass->object;

	if (r == -EBADMSG) {
		s3c_mutex_lock(&object->engine->lock);
		s3c_entry_put(object->refused);
		object->refused = s3c_entry_ref(pass->base);
		s3c_mutex_unlock(&object->engine->lock);
	}
	return s3c_object_fail(object, "open", pass->target, r, why);
}

static int unwrap(const struct s3c_pass *pass, uint8_t *data_key, char *why, size_t why_size)
{
	const struct s3c_engine_config *config = &pass->object->engine->config;
	const struct s3c_header *header = &pass->base->header;

	if (header->layout == S3C_LAYOUT_FOREIGN)
		return s3c_s3ec_unwrap(pass->base->s3ec, s3c_keyring_in_use(config), config->kms,
				       data_key, why, why_size);
	return s3c_s3ec_open(pass->base->s3ec, header, s3c_keyring_in_use(config), NULL, data_key,
			     why, why_size);
}

static int verify(struct s3c_pass *pass, struct s3c_s3ec_body **ret_body)
{
	const struct s3c_entry *base = pass->base;
	__attribute__((cleanup(s3c_s3ec_pass_freep))) struct s3c_s3ec_pass *content = NULL;
	cleanup_s3ec_body struct s3c_s3ec_body *body = NULL;
	cleanup_secret uint8_t *data_key = s3c_objects_secret(pass->object->objects);
	char why[256] = "";
	int r;

	if (!data_key)
		return -ENOMEM;
	r = unwrap(pass, data_key, why, sizeof(why));
	if (r < 0)
		return refuse(pass, r, why);
	r = content_new(pass, data_key, &content);
	if (r == 0)
		r = s3c_entry_body(base) ? s3c_s3ec_pass_feed(content, base->tail, base->tail_len)
					 : feed_store(pass, content);
	/* Logged, or nobody's error. */
	if (r < 0)
		return r;
	r = s3c_s3ec_pass_end(content, &body);
	if (r == 0 && s3c_s3ec_body_size(body) != base->header.size)
		r = -EBADMSG;
	if (r < 0)
		return refuse(pass, r, "it is not authentic: it was altered, or cut");
	*ret_body = steal_ptr(body);
	return 0;
}

static void pass_run(struct s3c_job *job)
{
	struct s3c_pass *pass = container_of(job, struct s3c_pass, job);
	struct s3c_object *object = pass->object;
	struct s3c_engine *engine = object->engine;
	struct s3c_s3ec_body *body = NULL;
	struct s3c_crypt *crypt = NULL;
	int r = verify(pass, &body);

	if (r == 0)
		r = s3c_crypt_new_whole(pass->base->header.layout, pass->base->s3ec, &body, &crypt);
	s3c_s3ec_body_free(body);
	s3c_mutex_lock(&engine->lock);
	/* Another version of another content came meanwhile: who waits looks again. */
	if (r == 0 && object->base && !object->crypt && s3c_same_content(object->base, pass->base))
		object->crypt = steal_ptr(crypt);
	pass->result = r;
	pass->done = true;
	object->pass = NULL;
	LIST_REMOVE(pass, link);
	s3c_waitq_wake_all(&object->waitq);
	pass_put(pass);
	s3c_object_release(object);
	s3c_mutex_unlock(&engine->lock);
	s3c_crypt_put(crypt);
}

/* With a reference, and counted as waited for: it may be over when this returns. NULL: no memory.
 */
static struct s3c_pass *pass_start(struct s3c_object *object)
{
	struct s3c_engine *engine = object->engine;
	struct s3c_pass *pass = calloc(1, sizeof(*pass));
	bool here;

	if (!pass)
		return NULL;
	pass->refs = 2;
	pass->waiting = 1;
	pass->job.run = pass_run;
	pass->object = object;
	pass->base = s3c_entry_ref(object->base);
	pass->target = s3c_target_ref(object->target);
	s3c_op_init(&pass->op, INT64_MAX);
	s3c_object_hold(object);
	LIST_INSERT_HEAD(&object->objects->passes, pass, link);
	object->pass = pass;
	here = s3c_entry_body(pass->base);
	s3c_mutex_unlock(&engine->lock);
	if (here)
		pass_run(&pass->job);
	else
		s3c_pool_submit(engine->tasks, &pass->job);
	s3c_mutex_lock(&engine->lock);
	return pass;
}

int s3c_foreign_prepare(struct s3c_object *object, struct s3c_op *op)
{
	struct s3c_mutex *lock = &object->engine->lock;
	struct s3c_pass *pass = object->pass;
	int r = 0;

	if (!object->base->s3ec)
		return -ESTALE;
	if (object->refused == object->base)
		return -EIO;
	if (pass) {
		pass->refs++;
		pass->waiting++;
	} else {
		pass = pass_start(object);
		if (!pass)
			return -ENOMEM;
	}
	while (r == 0 && !pass->done)
		r = s3c_waitq_wait(&object->waitq, lock, op);
	pass->waiting--;
	if (pass->done)
		r = pass->result;
	/* Nobody had waited when it looked; or it was another version's. */
	if ((r == -ECANCELED && !object->objects->stop) ||
	    (r < 0 && pass->done && object->base != pass->base))
		r = 0;
	pass_put(pass);
	return r;
}

void s3c_foreign_cancel_all(struct s3c_objects *objects)
{
	struct s3c_mutex *lock = &objects->engine->lock;
	struct s3c_pass *pass = LIST_FIRST(&objects->passes);

	while (pass) {
		if (s3c_op_interrupted(&pass->op)) {
			pass = LIST_NEXT(pass, link);
			continue;
		}
		pass->refs++;
		s3c_mutex_unlock(lock);
		s3c_op_interrupt(&pass->op);
		s3c_mutex_lock(lock);
		pass_put(pass);
		/* The list may be another one by now. */
		pass = LIST_FIRST(&objects->passes);
	}
}

void s3c_foreign_trim(struct s3c_objects *objects)
{
	uint64_t room = objects->engine->config.memory / KEPT_PART;
	struct s3c_object *object;

	TAILQ_FOREACH_REVERSE(object, &objects->cached, s3c_cached_objects, cached_link)
	{
		uint64_t bytes;

		if (!object->crypt || !object->crypt->body || object->refs)
			continue;
		bytes = s3c_s3ec_body_memory(object->crypt->body);
		if (bytes <= room) {
			room -= bytes;
			continue;
		}
		room = 0;
		s3c_crypt_put(object->crypt);
		object->crypt = NULL;
	}
}
