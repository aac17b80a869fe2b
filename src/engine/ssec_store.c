/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/ssec_store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "base/secret.h"
#include "key/wrap.h"

#define KNOWN_MAX 1000000u /* objects under other keys that are remembered, some 60 bytes each */

struct known {
	uint64_t hash;
	unsigned index;
	UT_hash_handle hh;
};

struct ssec_store {
	struct s3c_store base;
	struct s3c_store *inner;
	const struct s3c_volume *volume; /* of sse-c: the one in use, or the former one */
	bool was;                        /* the former one */
	unsigned count;                  /* of what can be tried */
	struct s3c_mutex lock;           /* guards known, and refs, cancelled, inner of calls */
	struct known *known;
};

/* An operation, through all of its attempts. */
struct ssec_call {
	struct ssec_store *ss;
	struct s3c_store_request rq;
	s3c_store_done_fn done;
	void *arg;
	const char *object;   /* what is read under a key; NULL: nothing is */
	struct s3c_ssec *key; /* secret memory */
	unsigned first, index, tried;
	unsigned refs;
	bool cancelled;
	struct s3c_store_call *inner;
};

static uint64_t hash_of(const char *key)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	for (; *key; key++)
		hash = (hash ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
	return hash;
}

static unsigned recall_locked(struct ssec_store *ss, const char *key)
{
	uint64_t hash = hash_of(key);
	struct known *known;

	HASH_FIND(hh, ss->known, &hash, sizeof(hash), known);
	return known ? known->index : 0;
}

/* A hint only: what is forgotten, or wrong, costs a request. */
static void remember_locked(struct ssec_store *ss, const char *key, unsigned index)
{
	uint64_t hash = hash_of(key);
	struct known *known;

	HASH_FIND(hh, ss->known, &hash, sizeof(hash), known);
	if (known && index) {
		known->index = index;
	} else if (known) {
		HASH_DEL(ss->known, known);
		free(known);
	} else if (index) {
		/* The oldest goes: what was found last is there for who asks now (rekey). */
		if (HASH_COUNT(ss->known) >= KNOWN_MAX) {
			struct known *oldest = ss->known;

			HASH_DEL(ss->known, oldest);
			free(oldest);
		}
		known = calloc(1, sizeof(*known));
		if (!known)
			return;
		known->hash = hash;
		known->index = index;
		HASH_ADD(hh, ss->known, hash, sizeof(known->hash), known);
		if (!known->hh.tbl)
			free(known);
	}
}

static void call_unref(struct ssec_call *call)
{
	struct ssec_store *ss = call->ss;
	bool last;

	s3c_mutex_lock(&ss->lock);
	last = --call->refs == 0;
	s3c_mutex_unlock(&ss->lock);
	if (!last)
		return;
	s3c_store_call_put(ss->inner, call->inner);
	s3c_secret_free(call->key);
	free(call);
}

/* What is read under a customer key, and where in the request it stands. */
static const char *read_object(const struct ssec_store *ss, struct s3c_store_request *rq,
			       const struct s3c_ssec ***ret_where)
{
	switch (rq->op) {
	case S3C_STORE_GET:
	case S3C_STORE_HEAD:
		*ret_where = &rq->ssec;
		return (rq->ssec || ss->was) && !rq->exact_key ? rq->key : NULL;
	case S3C_STORE_COPY:
	case S3C_STORE_UPLOAD_PART_COPY:
		*ret_where = &rq->source_ssec;
		return rq->source_ssec && !ss->was ? rq->source_key : NULL;
	default:
		return NULL;
	}
}

/* Of the volume of sse-c; the places of both orders are in ssec_store.h. */
static const struct s3c_master_key *key_at(const struct s3c_volume *volume, bool was,
					   unsigned index)
{
	if (was)
		return index ? volume->ssec_keys[index - 1] : NULL;
	return index < volume->ssec_key_count ? volume->ssec_keys[index] : NULL;
}

const struct s3c_master_key *s3c_ssec_store_key(const struct s3c_volume *volume, unsigned index)
{
	if (volume->family == S3C_FAMILY_SSEC)
		return key_at(volume, false, index);
	return volume->former ? key_at(volume->former, true, index) : NULL;
}

/* Puts the key of call->index into the request. */
static int use_key(struct ssec_call *call)
{
	const struct s3c_volume *volume = call->ss->volume;
	const struct s3c_ssec **where = NULL;
	const struct s3c_master_key *key;
	int r = 0;

	if (!call->object || (!call->index && !call->tried))
		return 0;
	key = key_at(volume, call->ss->was, call->index);
	read_object(call->ss, &call->rq, &where);
	if (!key) {
		*where = NULL;
		return 0;
	}
	if (!call->key)
		call->key = s3c_secret_alloc(sizeof(*call->key));
	if (!call->key)
		return -ENOMEM;
	if (volume->ssec_shared)
		memcpy(call->key->key, key->secret, sizeof(call->key->key));
	else
		r = s3c_derive_ssec_key(key, volume->id, call->object, call->key->key);
	if (r == 0)
		*where = call->key;
	return r;
}

static void inner_done(void *arg, struct s3c_store_reply *reply);

/* One attempt, the number call->tried. Consumes no reference. */
static int submit(struct ssec_call *call)
{
	struct ssec_store *ss = call->ss;
	struct s3c_store_call *inner = NULL, *before;
	unsigned attempt = call->tried;
	bool cancelled;
	int r = use_key(call);

	if (r == 0)
		r = s3c_store_submit(ss->inner, &call->rq, inner_done, call, &inner);
	if (r < 0)
		return r;
	s3c_mutex_lock(&ss->lock);
	cancelled = call->cancelled;
	if (cancelled)
		s3c_store_cancel(ss->inner, inner);
	/* Its callback may have begun the next attempt already. */
	before = call->tried == attempt ? call->inner : inner;
	if (call->tried == attempt)
		call->inner = inner;
	s3c_mutex_unlock(&ss->lock);
	s3c_store_call_put(ss->inner, before);
	return 0;
}

/*
 * The next key that was not tried, and then once more the first: the object may have come under it
 * while the others were tried. True: it is under way.
 */
static bool try_next(struct ssec_call *call)
{
	struct ssec_store *ss = call->ss;
	unsigned count = ss->count;
	bool more;

	s3c_mutex_lock(&ss->lock);
	more = !call->cancelled && count > 1 && ++call->tried <= count;
	if (more)
		call->refs++; /* the callback of the attempt may come before submit returns */
	s3c_mutex_unlock(&ss->lock);
	if (!more)
		return false;
	/* From the start of the list, past the one that was tried first. */
	if (call->tried == count)
		call->index = call->first;
	else
		call->index = call->tried <= call->first ? call->tried - 1 : call->tried;
	more = submit(call) == 0;
	call_unref(call);
	return more;
}

static void say_missing(const struct ssec_call *call, struct s3c_store_reply *reply)
{
	const char *missing = call->ss->volume->ssec_missing;
	size_t len = strlen(reply->message);

	if (missing)
		snprintf(reply->message + len, sizeof(reply->message) - len,
			 "; the volume has objects under keys that the keyring does not have: %s",
			 missing);
}

/* What is written, or goes, is under no former key any more. */
static bool forgets(const struct s3c_store_request *rq)
{
	return rq->op == S3C_STORE_PUT || rq->op == S3C_STORE_COPY || rq->op == S3C_STORE_DELETE ||
	       rq->op == S3C_STORE_UPLOAD_COMPLETE;
}

static void inner_done(void *arg, struct s3c_store_reply *reply)
{
	struct ssec_call *call = arg;
	struct ssec_store *ss = call->ss;

	if (call->object && reply->result == -EKEYREJECTED && try_next(call))
		return;
	if (call->object && reply->result == -EKEYREJECTED)
		say_missing(call, reply);
	if (reply->result == 0) {
		s3c_mutex_lock(&ss->lock);
		if (call->object && call->index != call->first)
			remember_locked(ss, call->object, call->index);
		if (forgets(&call->rq))
			remember_locked(ss, call->rq.key, 0);
		s3c_mutex_unlock(&ss->lock);
	}
	reply->ssec_index = call->index;
	call->done(call->arg, reply);
	call_unref(call);
}

static int ssec_submit(struct s3c_store *store, const struct s3c_store_request *request,
		       s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call)
{
	struct ssec_store *ss = container_of(store, struct ssec_store, base);
	struct ssec_call *call = calloc(1, sizeof(*call));
	const struct s3c_ssec **where = NULL;
	int r;

	if (!call)
		return -ENOMEM;
	call->ss = ss;
	call->rq = *request;
	call->done = done;
	call->arg = arg;
	call->refs = 2; /* the callback's, and the caller's or this function's */
	call->object = read_object(ss, &call->rq, &where);
	/* A HEAD is refused without a word. */
	call->rq.maybe_ssec = true;
	s3c_mutex_lock(&ss->lock);
	if (call->object)
		call->first = call->index = recall_locked(ss, call->object);
	s3c_mutex_unlock(&ss->lock);
	r = submit(call);
	if (r < 0) {
		call_unref(call);
		call_unref(call);
		return r;
	}
	if (ret_call)
		*ret_call = (struct s3c_store_call *)call;
	else
		call_unref(call);
	return 0;
}

static void ssec_cancel(struct s3c_store *store, struct s3c_store_call *handle)
{
	struct ssec_store *ss = container_of(store, struct ssec_store, base);
	struct ssec_call *call = (struct ssec_call *)handle;

	/* Under the lock: the attempt must not be replaced and let go meanwhile. */
	s3c_mutex_lock(&ss->lock);
	call->cancelled = true;
	if (call->inner)
		s3c_store_cancel(ss->inner, call->inner);
	s3c_mutex_unlock(&ss->lock);
}

static void ssec_call_put(struct s3c_store *store, struct s3c_store_call *handle)
{
	(void)store;
	call_unref((struct ssec_call *)handle);
}

static void wrapper_free(struct ssec_store *ss)
{
	struct known *known, *next;

	HASH_ITER (hh, ss->known, known, next) {
		HASH_DEL(ss->known, known);
		free(known);
	}
	s3c_mutex_destroy(&ss->lock);
	free(ss);
}

static void ssec_free(struct s3c_store *store)
{
	struct ssec_store *ss = container_of(store, struct ssec_store, base);

	s3c_store_free(ss->inner);
	wrapper_free(ss);
}

static void ssec_refresh(struct s3c_store *store)
{
	s3c_store_refresh(container_of(store, struct ssec_store, base)->inner);
}

static const struct s3c_store_ops ssec_ops = {
	.name = "ssec",
	.submit = ssec_submit,
	.cancel = ssec_cancel,
	.call_put = ssec_call_put,
	.free = ssec_free,
	.refresh = ssec_refresh,
};

int s3c_ssec_store_new(struct s3c_store *inner, const struct s3c_volume *volume, bool plain,
		       struct s3c_store **ret_store)
{
	struct ssec_store *ss = calloc(1, sizeof(*ss));

	if (!ss)
		return -ENOMEM;
	ss->base = *inner;
	ss->base.ops = &ssec_ops;
	ss->inner = inner;
	ss->was = volume->family != S3C_FAMILY_SSEC;
	ss->volume = ss->was ? volume->former : volume;
	ss->count = ss->volume->ssec_key_count + (plain || ss->was);
	s3c_mutex_init(&ss->lock);
	*ret_store = &ss->base;
	return 0;
}

struct s3c_store *s3c_ssec_store_unwrap(struct s3c_store *store)
{
	struct ssec_store *ss = container_of(store, struct ssec_store, base);
	struct s3c_store *inner;

	if (store->ops != &ssec_ops)
		return store;
	inner = ss->inner;
	wrapper_free(ss);
	return inner;
}

unsigned s3c_ssec_store_index(struct s3c_store *store, const char *key)
{
	struct ssec_store *ss = container_of(store, struct ssec_store, base);
	unsigned index;

	if (store->ops != &ssec_ops)
		return 0;
	s3c_mutex_lock(&ss->lock);
	index = recall_locked(ss, key);
	s3c_mutex_unlock(&ss->lock);
	return index;
}
