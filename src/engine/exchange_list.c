/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Exchanges of names that are under way, or failed: their records, the list, and who sees to them.
   What they are: exchange.c. */
#include "engine/exchange.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/record.h"

#define RECORD_VERSION 1
#define RETRY_MAX_S 60u

void s3c_exchange_free(struct s3c_exchange *x)
{
	if (!x)
		return;
	for (unsigned i = 0; i < S3C_X_NAMES; i++)
		free(x->paths[i]);
	free(x);
}

void s3c_exchanges_free(struct s3c_links *links)
{
	struct s3c_exchange *x;

	while ((x = TAILQ_FIRST(&links->exchanges))) {
		TAILQ_REMOVE(&links->exchanges, x, all);
		s3c_exchange_free(x);
	}
}

/* The record */

static int record_text(const struct s3c_exchange *x, bool done, struct s3c_buf *text)
{
	int r = s3c_record_put_u8(text, RECORD_VERSION);

	r = r < 0 ? r : s3c_record_put_u8(text, done);
	for (unsigned i = 0; r == 0 && i < S3C_X_NAMES; i++)
		r = s3c_record_put_text(text, x->paths[i]);
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(x->bodies); i++) {
		const struct s3c_exchange_body *body = &x->bodies[i];

		r = s3c_buf_append(text, body->id, sizeof(body->id));
		r = r < 0 ? r : s3c_record_put_u32(text, body->type);
		r = r < 0 ? r : s3c_buf_append(text, body->old_op, sizeof(body->old_op));
		r = r < 0 ? r : s3c_buf_append(text, body->new_op, sizeof(body->new_op));
	}
	return r;
}

int s3c_exchange_record(struct s3c_engine *engine, const struct s3c_exchange *x, bool done)
{
	cleanup_buf struct s3c_buf text = { 0 };
	int r = record_text(x, done, &text);

	return r < 0 ? r
		     : s3c_durable_put(engine, S3C_RECORD_EXCHANGE, x->record, &text, S3C_TX_SYNC);
}

void s3c_exchange_unrecord(struct s3c_engine *engine, const struct s3c_exchange *x)
{
	s3c_durable_drop(engine, S3C_RECORD_EXCHANGE, x->record, S3C_TX_LAZY);
}

static struct s3c_exchange *record_read(const uint8_t *data, size_t len)
{
	struct s3c_record_reader reader = { .at = data, .left = len };
	struct s3c_exchange *x = calloc(1, sizeof(*x));
	bool good = x && s3c_record_get_u8(&reader) == RECORD_VERSION;

	if (good)
		x->done = s3c_record_get_u8(&reader);
	for (unsigned i = 0; good && i < S3C_X_NAMES; i++) {
		char path[S3C_PATH_MAX];

		s3c_record_get_text(&reader, path, sizeof(path));
		good = !reader.failed && *path && s3c_path_check(path) == 0 &&
		       !s3c_path_is_body(path) && (x->paths[i] = strdup(path));
	}
	for (unsigned i = 0; good && i < ARRAY_LEN(x->bodies); i++) {
		struct s3c_exchange_body *body = &x->bodies[i];

		s3c_record_take(&reader, body->id, sizeof(body->id));
		body->type = s3c_record_get_u32(&reader) & S_IFMT;
		s3c_record_take(&reader, body->old_op, sizeof(body->old_op));
		s3c_record_take(&reader, body->new_op, sizeof(body->new_op));
		x->sent[i] = true;
	}
	if (good && !reader.failed && !reader.left)
		return x;
	s3c_exchange_free(x);
	return NULL;
}

/* The list */

/* Lock held. */
static struct s3c_exchange *find_record(const struct s3c_links *links, uint64_t record)
{
	struct s3c_exchange *x;

	TAILQ_FOREACH (x, &links->exchanges, all)
		if (x->record == record)
			break;
	return x;
}

/* failed: none that is under way, for which who needs it waits by its holds. */
static struct s3c_exchange *find_below(const struct s3c_links *links, const char *path, bool failed)
{
	struct s3c_exchange *x;

	TAILQ_FOREACH (x, &links->exchanges, all)
		for (unsigned i = 0; i < S3C_X_NAMES; i++)
			if (s3c_path_below(x->paths[i], path) &&
			    !(failed && x->due_ns == INT64_MAX))
				return x;
	return NULL;
}

bool s3c_exchanges_any(struct s3c_engine *engine, const char *path)
{
	bool any;

	s3c_mutex_lock(&engine->lock);
	any = find_below(engine->links, path, false);
	s3c_mutex_unlock(&engine->lock);
	return any;
}

int64_t s3c_exchanges_due(const struct s3c_links *links, char ret_path[static S3C_PATH_MAX])
{
	const struct s3c_exchange *x, *next = NULL;

	TAILQ_FOREACH (x, &links->exchanges, all)
		if (!next || x->due_ns < next->due_ns)
			next = x;
	if (next)
		strcpy(ret_path, next->paths[S3C_X_FIRST]);
	return next ? next->due_ns : INT64_MAX;
}

void s3c_exchanges_each(struct s3c_engine *engine,
			void (*fn)(void *arg, const struct s3c_unsent *unsent), void *arg)
{
	const struct s3c_exchange *x;

	TAILQ_FOREACH (x, &engine->links->exchanges, all) {
		struct s3c_unsent unsent = {
			.path = x->paths[S3C_X_FIRST],
			.what = S3C_UNSENT_FILE,
			.failures = x->failures,
			.state = S3C_UNSENT_FAILED,
		};

		fn(arg, &unsent);
	}
}

void s3c_exchanges_warn(struct s3c_engine *engine)
{
	const struct s3c_exchange *x;

	s3c_mutex_lock(&engine->lock);
	TAILQ_FOREACH (x, &engine->links->exchanges, all)
		s3c_warn("%s and %s were to be exchanged and were not; until the next mount, which "
			 "sees to it, one may stand for both, and %s for the other",
			 x->paths[S3C_X_FIRST], x->paths[S3C_X_SECOND], x->paths[S3C_X_ASIDE]);
	s3c_mutex_unlock(&engine->lock);
}

bool s3c_exchange_map_locked(const struct s3c_links *links, const char *path,
			     char ret_path[static S3C_PATH_MAX])
{
	const struct s3c_exchange *x;

	TAILQ_FOREACH (x, &links->exchanges, all)
		for (unsigned i = 0; !x->done && i < ARRAY_LEN(x->bodies); i++)
			if (strcmp(x->paths[i], path) == 0) {
				s3c_body_path(x->bodies[i].id, ret_path);
				return true;
			}
	return false;
}

void s3c_exchange_enter(struct s3c_engine *engine, struct s3c_exchange *x)
{
	x->due_ns = INT64_MAX;
	s3c_mutex_lock(&engine->lock);
	TAILQ_INSERT_TAIL(&engine->links->exchanges, x, all);
	s3c_mutex_unlock(&engine->lock);
}

void s3c_exchange_remove(struct s3c_engine *engine, struct s3c_exchange *x)
{
	s3c_mutex_lock(&engine->lock);
	TAILQ_REMOVE(&engine->links->exchanges, x, all);
	s3c_mutex_unlock(&engine->lock);
	s3c_exchange_free(x);
}

void s3c_exchange_postpone(struct s3c_engine *engine, struct s3c_exchange *x)
{
	unsigned wait_s = S3C_MIN(1u << S3C_MIN(x->failures, 6u), RETRY_MAX_S);

	s3c_mutex_lock(&engine->lock);
	x->failures++;
	x->due_ns = s3c_clock_monotonic_ns() + wait_s * S3C_NSEC_PER_SEC;
	s3c_waitq_wake_all(&engine->links->work);
	s3c_mutex_unlock(&engine->lock);
}

void s3c_exchange_holds_fill(struct s3c_exchange_holds *held, const struct s3c_exchange *x)
{
	held->record = x->record;
	for (unsigned i = 0; i < S3C_X_NAMES; i++) {
		strcpy(held->paths[i], x->paths[i]);
		held->holds[i] = (struct s3c_hold){ .path = held->paths[i], .removes = true };
	}
}

static int settle_one(struct s3c_engine *engine, struct s3c_op *op, struct s3c_exchange_holds *held)
{
	struct s3c_exchange *x;
	int r = s3c_hold_begin(engine, op, held->holds, S3C_X_NAMES);

	if (r < 0)
		return r;
	s3c_mutex_lock(&engine->lock);
	x = find_record(engine->links, held->record);
	s3c_mutex_unlock(&engine->lock);
	r = x ? s3c_exchange_end(engine, op, x) : 0;
	s3c_hold_end(engine, held->holds, S3C_X_NAMES);
	return r;
}

int s3c_exchanges_settle(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_exchange_holds *held;
	int r;

	if (!s3c_exchanges_any(engine, path))
		return 0;
	held = malloc(sizeof(*held));
	r = held ? 0 : -ENOMEM;
	while (r == 0) {
		const struct s3c_exchange *x;

		s3c_mutex_lock(&engine->lock);
		x = find_below(engine->links, path, true);
		if (x)
			s3c_exchange_holds_fill(held, x);
		s3c_mutex_unlock(&engine->lock);
		if (!x)
			break;
		r = op == S3C_NOWAIT ? -EINPROGRESS : settle_one(engine, op, held);
	}
	free(held);
	return r;
}

/* Taking up */

static int on_record(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
		     size_t len)
{
	struct s3c_exchange_list *list = arg;
	struct s3c_exchange *x = result < 0 ? NULL : record_read(data, len);

	(void)sub;
	if (!x) {
		s3c_error("journal: the record of an exchange of names cannot be read and stays "
			  "where it is");
		return 0;
	}
	x->record = id;
	TAILQ_INSERT_TAIL(list, x, all);
	return 0;
}

int s3c_exchanges_load(struct s3c_engine *engine)
{
	struct s3c_exchange_list list;
	struct s3c_exchange *x;
	int r, left = 0;

	TAILQ_INIT(&list);
	r = s3c_record_each(engine->config.journal, S3C_RECORD_EXCHANGE, on_record, &list);
	while ((x = TAILQ_FIRST(&list))) {
		TAILQ_REMOVE(&list, x, all);
		if (r < 0) {
			s3c_exchange_free(x);
			continue;
		}
		s3c_exchange_enter(engine, x);
		/* The store is not there: the mount does not wait for that again and again. */
		if (left)
			s3c_exchange_postpone(engine, x);
		else if (s3c_exchange_end(engine, NULL, x) < 0)
			left = 1;
	}
	return r < 0 ? r : left;
}
