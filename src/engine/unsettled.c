/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/unsettled.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/names.h"

struct s3c_unsettled {
	TAILQ_ENTRY(s3c_unsettled) link;
	char *key, *upload_id;
	struct s3c_store_part *parts;
	size_t part_count;
	char if_match[S3C_STORE_ETAG_MAX]; /* "": none */
	bool if_none_match;
	bool asking; /* somebody asks the store */
};

void s3c_unsettled_init(struct s3c_unsettled_all *all)
{
	TAILQ_INIT(&all->list);
	s3c_waitq_init(&all->changed);
}

static void unsettled_free(struct s3c_unsettled *u)
{
	if (!u)
		return;
	free(u->key);
	free(u->upload_id);
	free(u->parts);
	free(u);
}

void s3c_unsettled_free(struct s3c_unsettled_all *all)
{
	struct s3c_unsettled *u;

	while ((u = TAILQ_FIRST(&all->list))) {
		TAILQ_REMOVE(&all->list, u, link);
		unsettled_free(u);
	}
}

static struct s3c_unsettled *unsettled_new(const struct s3c_store_request *rq)
{
	struct s3c_unsettled *u = calloc(1, sizeof(*u));
	size_t count = S3C_MAX(rq->part_count, (size_t)1);

	if (!u)
		return NULL;
	u->key = strdup(rq->key);
	u->upload_id = strdup(rq->upload_id);
	u->parts = calloc(count, sizeof(*u->parts));
	if (!u->key || !u->upload_id || !u->parts) {
		unsettled_free(u);
		return NULL;
	}
	memcpy(u->parts, rq->parts, rq->part_count * sizeof(*u->parts));
	u->part_count = rq->part_count;
	u->if_none_match = rq->condition.if_none_match;
	if (rq->condition.if_match)
		snprintf(u->if_match, sizeof(u->if_match), "%s", rq->condition.if_match);
	return u;
}

/* Is it the completion of the same upload? */
static bool is_same(const struct s3c_unsettled *u, const struct s3c_store_request *rq)
{
	return rq->upload_id && strcmp(u->upload_id, rq->upload_id) == 0;
}

static bool is_in_the_way(const struct s3c_unsettled *u, const struct s3c_store_request *rq)
{
	switch (rq->op) {
	case S3C_STORE_PUT:
	case S3C_STORE_COPY:
	case S3C_STORE_DELETE:
		return strcmp(u->key, rq->key) == 0;
	case S3C_STORE_UPLOAD_COMPLETE:
		return strcmp(u->key, rq->key) == 0 && !is_same(u, rq);
	case S3C_STORE_UPLOAD_ABORT:
		return is_same(u, rq);
	case S3C_STORE_DELETE_MANY:
		for (size_t i = 0; i < rq->key_count; i++)
			if (strcmp(u->key, rq->keys[i]) == 0)
				return true;
		return false;
	default:
		return false;
	}
}

/* Has the upload become the object, or is it gone? */
static bool is_over(int result)
{
	return result == 0 || result == -EBADE || result == -ENXIO;
}

/*
 * May the request be carried out yet? What is refused because of who asks (-EACCES: credentials
 * that have expired since) tells nothing of an earlier attempt, where there was one.
 */
static bool is_open(int result, bool repeated)
{
	if (s3c_result_lost(result))
		return true;
	switch (result) {
	case -EINTR:
	case -ECANCELED:
	case -ENOMEM:
		return true;
	case -ESTALE:
	case -EEXIST:
	case -EINVAL:
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
	case -E2BIG:
	case -EOPNOTSUPP:
	case -ENODEV:
		return false;
	default:
		return !is_over(result) && repeated;
	}
}

/* Asks for the completion once more. Without locks. */
static int ask(struct s3c_engine *engine, const struct s3c_unsettled *u, struct s3c_op *op,
	       struct s3c_store_reply *reply)
{
	cleanup_ssec struct s3c_ssec ssec;
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_COMPLETE,
		.deadline_ns = s3c_engine_deadline(engine),
		.key = u->key,
		.condition.if_match = u->if_match[0] ? u->if_match : NULL,
		.condition.if_none_match = u->if_none_match,
		.upload_id = u->upload_id,
		.parts = u->parts,
		.part_count = u->part_count,
	};

	/* What fails here has not been asked for: -ENOMEM alone. */
	if (s3c_ssec_of(engine, u->key, &ssec, &rq.ssec) < 0)
		return -ENOMEM;
	return s3c_store_perform(engine->store, &rq, op, reply);
}

/* Lock held, released meanwhile. 0: it is off the list, and over; 1: off the list, refused. */
static int settle(struct s3c_engine *engine, struct s3c_unsettled *u, struct s3c_op *op,
		  struct s3c_store_reply *ret_reply)
{
	struct s3c_unsettled_all *all = &engine->unsettled;
	struct s3c_store_reply reply = { 0 };
	int r;

	if (u->asking)
		return s3c_waitq_wait(&all->changed, &engine->lock, op);
	u->asking = true;
	s3c_mutex_unlock(&engine->lock);
	r = ask(engine, u, op, &reply);
	s3c_mutex_lock(&engine->lock);
	u->asking = false;
	s3c_waitq_wake_all(&all->changed);
	if (is_open(r, true)) {
		snprintf(ret_reply->message, sizeof(ret_reply->message),
			 "an upload may still replace it: %.400s", reply.message);
	} else {
		TAILQ_REMOVE(&all->list, u, link);
		unsettled_free(u);
		r = !is_over(r);
	}
	s3c_store_reply_free(&reply);
	return r;
}

int s3c_unsettled_before(struct s3c_engine *engine, const struct s3c_store_request *rq,
			 struct s3c_op *op, struct s3c_store_reply *ret_reply)
{
	struct s3c_unsettled *u;
	bool over = false;
	int r = 0;

	s3c_mutex_lock(&engine->lock);
	do {
		TAILQ_FOREACH (u, &engine->unsettled.list, link)
			if (is_in_the_way(u, rq))
				break;
		if (u)
			r = settle(engine, u, op, ret_reply);
		over |= u && r == 0;
	} while (u && r >= 0);
	s3c_mutex_unlock(&engine->lock);
	/* The other keys of a list are not to wait for it: each is asked for alone then. */
	if (r < 0 && rq->op == S3C_STORE_DELETE_MANY)
		return -EIO;
	return r < 0 ? r : over && rq->op == S3C_STORE_UPLOAD_ABORT;
}

int s3c_unsettled_settle(struct s3c_engine *engine, const char *key,
			 struct s3c_store_reply *ret_reply)
{
	const struct s3c_store_request rq = { .op = S3C_STORE_DELETE, .key = key };

	return s3c_unsettled_before(engine, &rq, NULL, ret_reply);
}

bool s3c_unsettled_at(struct s3c_engine *engine, const char *key)
{
	const struct s3c_unsettled *u;

	s3c_mutex_lock(&engine->lock);
	TAILQ_FOREACH (u, &engine->unsettled.list, link)
		if (strcmp(u->key, key) == 0)
			break;
	s3c_mutex_unlock(&engine->lock);
	return u;
}

void s3c_unsettled_end(struct s3c_engine *engine)
{
	struct s3c_unsettled *u;
	size_t count = 0;

	s3c_mutex_lock(&engine->lock);
	TAILQ_FOREACH (u, &engine->unsettled.list, link)
		count++;
	while (count-- && (u = TAILQ_FIRST(&engine->unsettled.list))) {
		struct s3c_store_reply reply = { 0 };

		/* One that fails is the last: the store is not there. */
		if (settle(engine, u, NULL, &reply) < 0)
			break;
	}
	s3c_mutex_unlock(&engine->lock);
}

void s3c_unsettled_after(struct s3c_engine *engine, const struct s3c_store_request *rq, int result,
			 const struct s3c_store_reply *reply)
{
	struct s3c_unsettled *u, *noted = NULL;

	if (is_open(result, reply->repeated))
		noted = unsettled_new(rq);
	s3c_mutex_lock(&engine->lock);
	TAILQ_FOREACH (u, &engine->unsettled.list, link)
		if (is_same(u, rq) && !u->asking)
			break;
	/* What was noted of an earlier attempt, of other parts perhaps; it stays where this one was
	   refused for who asks. */
	if (u && (noted || !is_open(result, true))) {
		TAILQ_REMOVE(&engine->unsettled.list, u, link);
		unsettled_free(u);
	}
	if (noted)
		TAILQ_INSERT_TAIL(&engine->unsettled.list, noted, link);
	s3c_mutex_unlock(&engine->lock);
}
