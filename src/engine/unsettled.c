/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/unsettled.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/epochs.h"
#include "engine/names.h"
#include "engine/upload_journal.h"

#define LEFT_MAX_S 600  /* rgw_mp_lock_max_time */
#define BAR_PART 10000u /* the last number that there is */
#define NO_PART 9999u

struct s3c_unsettled {
	TAILQ_ENTRY(s3c_unsettled) link;
	char *key, *upload_id;
	struct s3c_store_part *parts;
	size_t part_count;
	char if_match[S3C_STORE_ETAG_MAX]; /* "": none */
	bool if_none_match;
	bool asking; /* somebody asks the store */
	/* Of a daemon that died: */
	bool left;
	bool kept; /* not to be aborted, in nobody's way: it is the object, or that is not known */
	bool sealed;
	int64_t since_ns; /* monotonic */
	uint8_t content_id[S3C_CONTENT_ID_LEN], op_id[S3C_OP_ID_LEN];
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
	if (u->kept)
		return rq->op == S3C_STORE_UPLOAD_ABORT && is_same(u, rq);
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

bool s3c_unsettled_may_be(struct s3c_engine *engine, const char *key, const char *upload_id,
			  const char *etag)
{
	const char *dash = strrchr(etag, '-');
	unsigned long made_of = dash ? strtoul(dash + 1, NULL, 10) : 0;
	size_t count = 0;
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_PARTS,
		.key = key,
		.upload_id = upload_id,
	};

	if (!made_of)
		return false;
	do {
		cleanup_reply struct s3c_store_reply reply = { 0 };
		int r;

		rq.deadline_ns = s3c_engine_deadline(engine);
		r = s3c_store_perform(engine->store, &rq, NULL, &reply);
		if (r < 0)
			return r != -ENXIO;
		count += reply.parts.count;
		rq.part_number = reply.parts.next;
	} while (rq.part_number);
	/* One more: that which bars completions. */
	return count == made_of || count == made_of + 1;
}

/* Was it completed, and is its object there? 1, 0; -errno: not known. Without locks. */
static int look_made(struct s3c_engine *engine, const struct s3c_unsettled *u, struct s3c_op *op)
{
	cleanup_reply struct s3c_store_reply reply = { 0 };
	cleanup_ssec struct s3c_ssec ssec;
	struct s3c_header header = { 0 };
	struct s3c_store_request rq = {
		.op = S3C_STORE_HEAD,
		.deadline_ns = s3c_engine_deadline(engine),
		.key = u->key,
	};
	int r = s3c_ssec_of(engine, u->key, &ssec, &rq.ssec);
	bool made;

	if (r == 0)
		r = s3c_store_perform(engine->store, &rq, op, &reply);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (!u->sealed) {
		/* Later attributes have another id. */
		s3c_plain_op_id(&reply.stat.meta, header.op_id);
		return memcmp(header.op_id, u->op_id, sizeof(u->op_id)) == 0 ||
		       s3c_unsettled_may_be(engine, u->key, u->upload_id, reply.stat.version.etag);
	}
	r = s3c_header_decode_live(engine, &reply.stat.meta, u->key, reply.stat.size, true, &header,
				   NULL, 0);
	made = r == 0 && memcmp(header.content_id, u->content_id, sizeof(u->content_id)) == 0;
	s3c_header_clear(&header);
	return r == 0 ? made : r == -ENODATA ? 0 : r;
}

/* One part more than a completion that comes from now on can know of. */
static int send_bar(struct s3c_engine *engine, const struct s3c_unsettled *u, struct s3c_op *op,
		    struct s3c_store_reply *reply)
{
	static const char byte;
	const struct iovec iov = { .iov_base = (void *)&byte, .iov_len = 1 };
	cleanup_ssec struct s3c_ssec ssec;
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_PART,
		.deadline_ns = s3c_engine_deadline(engine),
		.key = u->key,
		.upload_id = u->upload_id,
		.part_number = BAR_PART,
		.unchecked = true,
		.body = &iov,
		.body_count = 1,
	};
	int r = s3c_ssec_of(engine, u->key, &ssec, &rq.ssec);

	return r < 0 ? r : s3c_store_perform(engine->store, &rq, op, reply);
}

/* Ends what a daemon left. 0: over; 1: it is kept; -EINVAL: refused; else: not now. */
static int end_left(struct s3c_engine *engine, const struct s3c_unsettled *u, struct s3c_op *op,
		    struct s3c_store_reply *reply)
{
	cleanup_reply struct s3c_store_reply aborted = { 0 };
	struct s3c_store_request rq = {
		.op = S3C_STORE_UPLOAD_ABORT,
		.key = u->key,
		.upload_id = u->upload_id,
	};
	bool late = s3c_clock_monotonic_ns() - u->since_ns > LEFT_MAX_S * S3C_NSEC_PER_SEC;
	int made = 0, r = -ECANCELED;

	if (engine->unsettled.ending)
		return r;
	r = send_bar(engine, u, op, reply);
	/* One that the store does not take (-EIO) bars nothing: what follows tells all the same. */
	if (r != -ENXIO && r != -EIO && is_open(r, false) && !late)
		return r;
	if (r != -ENXIO) {
		s3c_store_reply_free(reply);
		r = ask(engine, u, op, reply);
	}
	if (r != -EINVAL && !is_over(r) && !late)
		return is_open(r, true) ? r : -EAGAIN;
	if (!is_over(r))
		made = look_made(engine, u, op);
	if (r == 0)
		s3c_error("%s: the store has completed an upload with a part that there is not: "
			  "its content is not known",
			  u->key);
	if (made < 0 && (is_open(made, false) || made == -EACCES || made == -EREMOTEIO))
		return is_open(made, false) ? made : -EAGAIN;
	if (made)
		return 1;
	/* Where it is over, too: a folder store whose process died in the midst of that has parts. */
	rq.deadline_ns = s3c_engine_deadline(engine);
	r = s3c_store_perform(engine->store, &rq, op, &aborted);
	if (r == 0 || r == -ENXIO)
		return 0;
	snprintf(reply->message, sizeof(reply->message), "%s", aborted.message);
	return s3c_result_lost(r) && !late ? r : -EINVAL;
}

/* Lock held, released meanwhile. 0: it is over; 1: refused, or kept, or somebody else has asked. */
static int settle(struct s3c_engine *engine, struct s3c_unsettled *u, struct s3c_op *op,
		  struct s3c_store_reply *ret_reply)
{
	struct s3c_unsettled_all *all = &engine->unsettled;
	struct s3c_store_reply reply = { 0 };
	int r;

	if (u->asking) {
		r = s3c_waitq_wait(&all->changed, &engine->lock, op);
		return r < 0 ? r : 1;
	}
	u->asking = true;
	s3c_mutex_unlock(&engine->lock);
	r = u->left ? end_left(engine, u, op, &reply) : ask(engine, u, op, &reply);
	s3c_mutex_lock(&engine->lock);
	u->asking = false;
	s3c_waitq_wake_all(&all->changed);
	if (r == 1) {
		u->kept = true;
	} else if (is_open(r, true)) {
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
		over |= u && u->kept;
		if (!u || u->kept)
			break;
		r = settle(engine, u, op, ret_reply);
		over |= r == 0;
	} while (r >= 0);
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
		if (!u->kept && strcmp(u->key, key) == 0)
			break;
	s3c_mutex_unlock(&engine->lock);
	return u;
}

bool s3c_unsettled_left_locked(struct s3c_engine *engine, const struct s3c_paused *paused)
{
	/* In the form of an MD5, and of nothing that could be found. */
	struct s3c_store_part none = { .number = NO_PART,
				       .etag = "\"00000000000000000000000000000000\"" };
	const struct s3c_store_request rq = {
		.key = paused->key,
		.upload_id = paused->upload_id,
		.parts = &none,
		.part_count = 1,
	};
	struct s3c_unsettled *u = unsettled_new(&rq);

	if (!u)
		return false;
	u->left = true;
	u->since_ns = s3c_clock_monotonic_ns();
	u->sealed = paused->sealed;
	memcpy(u->content_id, paused->header.content_id, sizeof(u->content_id));
	memcpy(u->op_id, paused->header.op_id, sizeof(u->op_id));
	TAILQ_INSERT_TAIL(&engine->unsettled.list, u, link);
	return true;
}

void s3c_unsettled_end(struct s3c_engine *engine)
{
	struct s3c_unsettled *u;
	int r = 0;

	s3c_mutex_lock(&engine->lock);
	do {
		struct s3c_store_reply reply = { 0 };

		/* What a daemon left the next one ends. */
		TAILQ_FOREACH (u, &engine->unsettled.list, link)
			if (!u->left)
				break;
		/* One that fails is the last: the store is not there. */
		if (u)
			r = settle(engine, u, NULL, &reply);
	} while (u && r >= 0);
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
