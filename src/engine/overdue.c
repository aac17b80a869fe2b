/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "engine/overdue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/private.h"

#define WAIT_MAX_S 30.0

/* What is done with a key, and what an overdue request spoils. */
#define NOTHING 0u
#define MAKE ((unsigned)S3C_OVERDUE_MAKE)
#define DELETE ((unsigned)S3C_OVERDUE_DELETE)

struct s3c_overdue {
	TAILQ_ENTRY(s3c_overdue) link;
	char *key;
	unsigned spoils;
	int64_t until_ns; /* monotonic */
};

void s3c_overdue_init(struct s3c_overdue_all *all)
{
	TAILQ_INIT(&all->list);
}

static void drop(struct s3c_overdue_all *all, struct s3c_overdue *overdue)
{
	TAILQ_REMOVE(&all->list, overdue, link);
	free(overdue->key);
	free(overdue);
}

void s3c_overdue_free(struct s3c_overdue_all *all)
{
	struct s3c_overdue *overdue;

	while ((overdue = TAILQ_FIRST(&all->list)))
		drop(all, overdue);
}

static unsigned does(const struct s3c_store_request *rq)
{
	switch (rq->op) {
	case S3C_STORE_PUT:
	case S3C_STORE_COPY:
	case S3C_STORE_UPLOAD_COMPLETE:
		return MAKE;
	case S3C_STORE_DELETE:
	case S3C_STORE_DELETE_MANY:
		return DELETE;
	default:
		return NOTHING;
	}
}

static unsigned spoils(const struct s3c_store_request *rq)
{
	if (rq->condition.if_match || rq->op == S3C_STORE_UPLOAD_COMPLETE)
		return NOTHING;
	switch (does(rq)) {
	case MAKE:
		return rq->condition.if_none_match ? DELETE : DELETE | MAKE;
	case DELETE:
		return MAKE;
	default:
		return NOTHING;
	}
}

/* Until when that is not to be done with the key; 0: now. Lock held. */
static int64_t wanted_until(struct s3c_overdue_all *all, const char *key, unsigned what)
{
	int64_t now_ns = s3c_clock_monotonic_ns(), until_ns = 0;
	struct s3c_overdue *overdue;

	while ((overdue = TAILQ_FIRST(&all->list)) && overdue->until_ns <= now_ns)
		drop(all, overdue);
	TAILQ_FOREACH (overdue, &all->list, link)
		if (overdue->spoils & what && strcmp(overdue->key, key) == 0)
			until_ns = overdue->until_ns;
	return until_ns;
}

static int wait_for(struct s3c_engine *engine, const char *key, unsigned what, struct s3c_op *op)
{
	struct s3c_waitq nobody;
	int64_t until_ns;
	int r = 0;

	s3c_waitq_init(&nobody);
	s3c_mutex_lock(&engine->lock);
	while (r == 0 && (until_ns = wanted_until(&engine->overdue, key, what))) {
		r = s3c_waitq_wait_until(&nobody, &engine->lock, op, until_ns);
		if (r == -EAGAIN)
			r = 0;
	}
	s3c_mutex_unlock(&engine->lock);
	return r;
}

int s3c_overdue_before(struct s3c_engine *engine, const struct s3c_store_request *rq,
		       struct s3c_op *op)
{
	int r = 0;

	if (rq->op == S3C_STORE_DELETE_MANY)
		for (size_t i = 0; i < rq->key_count && r == 0; i++)
			r = wait_for(engine, rq->keys[i], DELETE, op);
	else if (does(rq))
		r = wait_for(engine, rq->key, does(rq), op);
	return r;
}

int s3c_overdue_settle(struct s3c_engine *engine, const char *key, unsigned what)
{
	return wait_for(engine, key, what, NULL);
}

bool s3c_overdue_at(struct s3c_engine *engine, const char *key)
{
	bool wanted;

	s3c_mutex_lock(&engine->lock);
	wanted = wanted_until(&engine->overdue, key, DELETE);
	s3c_mutex_unlock(&engine->lock);
	return wanted;
}

/* Lock held. Without memory nobody waits. */
static void note(struct s3c_engine *engine, const char *key, unsigned spoils, int64_t until_ns)
{
	struct s3c_overdue *overdue = calloc(1, sizeof(*overdue));

	if (!overdue)
		return;
	overdue->key = strdup(key);
	overdue->spoils = spoils;
	overdue->until_ns = until_ns;
	if (overdue->key)
		TAILQ_INSERT_TAIL(&engine->overdue.list, overdue, link);
	else
		free(overdue);
}

void s3c_overdue_after(struct s3c_engine *engine, const struct s3c_store_request *rq,
		       const struct s3c_store_reply *reply)
{
	double wait_s = S3C_MIN(engine->config.timeout_s, WAIT_MAX_S);
	unsigned what = spoils(rq);
	int64_t until_ns;

	if (!reply->late || !what)
		return;
	s3c_mutex_lock(&engine->lock);
	until_ns = s3c_clock_monotonic_ns() + (int64_t)(wait_s * (double)S3C_NSEC_PER_SEC);
	if (rq->op != S3C_STORE_DELETE_MANY)
		note(engine, rq->key, what, until_ns);
	for (size_t i = 0; rq->op == S3C_STORE_DELETE_MANY && i < rq->key_count; i++)
		note(engine, rq->keys[i], what, until_ns);
	s3c_mutex_unlock(&engine->lock);
}
