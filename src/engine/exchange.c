/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Two names that change places (RENAME_EXCHANGE).
 *
 * Both files have bodies by then, so that two references of a few bytes are exchanged; the bodies,
 * and who has them open, are not touched. A third name, beside the first, refers to the first body
 * meanwhile: whatever becomes of each request, each body has a name in the store.
 *
 *	step	first	second	aside
 *	0	A	B	-
 *	1	A	B	A
 *	2	B	B	A
 *	3	B	A	A
 *	4	B	A	-
 *
 *	EXCHANGE = version(1) done(1) first second aside 2*( id type(4) old-op new-op )
 *
 * The record is there from before step 1 until after step 4. With done, after step 3, the exchange
 * is acknowledged. One that fails before that, or whose daemon dies, is undone by this daemon or
 * the next: for who asked for it nothing has happened. Until it is undone both names lead to their
 * own bodies here, whatever the store has (s3c_exchange_map_locked). What is not as one of these
 * steps left it was changed by others: it stays, and so does aside when it may be the last name of
 * its body.
 *
 * A request whose reply was lost may have its effect yet. So one of the two names that may have
 * been written is written again, which puts it out of the reach of such a request: its condition
 * holds no more. Without conditions on PUT there is no exchange. aside can come back so, as one
 * more name of its body. It is not counted: where somebody removes it, the count of names is one too
 * low until s3cryptfsctl links counts them.
 *
 * An exchange is in the list from before its record until after it; the list is guarded by
 * engine->lock. Who works on one has the holds of its names.
 */
#include "engine/exchange.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/content.h"
#include "engine/pending.h"

/* NAME.exchange-HOST-TIME, or in the directory of the name, exchange-HOST-TIME. */
static int set_aside(struct s3c_engine *engine, struct s3c_exchange *x, const char *path,
		     bool with_name)
{
	cleanup_free char *parent = s3c_path_parent(path);
	cleanup_free char *start = NULL;
	cleanup_free char *key = NULL;
	int r;

	if (!parent)
		return -ENOMEM;
	start = with_name ? s3c_asprintf("%s.", path)
			  : s3c_asprintf("%s%s", parent, *parent ? "/" : "");
	free(x->paths[S3C_X_ASIDE]);
	x->paths[S3C_X_ASIDE] =
		start ? s3c_kept_path(engine, start, "exchange", s3c_clock_realtime_ns()) : NULL;
	if (!x->paths[S3C_X_ASIDE])
		return -ENOMEM;
	if (strlen(s3c_path_name(x->paths[S3C_X_ASIDE])) > NAME_MAX)
		return -ENAMETOOLONG;
	r = s3c_path_check(x->paths[S3C_X_ASIDE]);
	return r < 0 ? r : s3c_key_of(engine, x->paths[S3C_X_ASIDE], false, &key);
}

/* One that is short enough. */
static int choose_aside(struct s3c_engine *engine, struct s3c_exchange *x)
{
	int r = -ENAMETOOLONG;

	for (unsigned i = 0; i < 4 && r == -ENAMETOOLONG; i++)
		r = set_aside(engine, x, x->paths[i / 2], i % 2 == 0);
	return r;
}

static int exchange_new(struct s3c_engine *engine, const char *first, const char *second,
			struct s3c_exchange **ret_exchange)
{
	struct s3c_exchange *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return -ENOMEM;
	x->paths[S3C_X_FIRST] = strdup(first);
	x->paths[S3C_X_SECOND] = strdup(second);
	x->record = s3c_durable_id(engine);
	r = x->paths[S3C_X_FIRST] && x->paths[S3C_X_SECOND] ? choose_aside(engine, x) : -ENOMEM;
	if (r < 0)
		s3c_exchange_free(x);
	else
		*ret_exchange = x;
	return r;
}

struct exchanging {
	struct s3c_engine *engine;
	struct s3c_op *op;
	struct s3c_exchange *x;
	struct s3c_entry *old[2]; /* references to the two bodies */
	struct s3c_entry *now[S3C_X_NAMES];
};

static void exchanging_end(struct exchanging *ex)
{
	for (unsigned i = 0; i < ARRAY_LEN(ex->old); i++)
		s3c_entry_put(ex->old[i]);
	for (unsigned i = 0; i < S3C_X_NAMES; i++)
		s3c_entry_put(ex->now[i]);
}

/* As the store has them now: what another machine changed a moment ago is not exchanged for what it
   was. 1: both are names of one file. -EAGAIN: one is no reference (any more). */
static int find_both(struct exchanging *ex)
{
	for (unsigned i = 0; i < ARRAY_LEN(ex->old); i++) {
		const char *path = ex->x->paths[i];
		struct s3c_object *object = s3c_object_find(ex->engine, path);
		struct s3c_exchange_body *body = &ex->x->bodies[i];
		int r;

		if (object) {
			s3c_object_close(object);
			return -EAGAIN;
		}
		r = s3c_names_lookup(ex->engine, ex->op, path, true, &ex->old[i]);
		if (r < 0)
			return r;
		if (ex->old[i]->is_dir || !s3c_layout_is_reference(ex->old[i]->header.layout))
			return -EAGAIN;
		memcpy(body->id, ex->old[i]->header.file_id, sizeof(body->id));
		memcpy(body->old_op, ex->old[i]->header.op_id, sizeof(body->old_op));
		s3c_random(body->new_op, sizeof(body->new_op));
		body->type = ex->old[i]->header.attrs.mode & S_IFMT;
	}
	return memcmp(ex->x->bodies[S3C_X_FIRST].id, ex->x->bodies[S3C_X_SECOND].id,
		      S3C_FILE_ID_LEN) == 0;
}

/* The name gets the body that was of. */
static int give(struct exchanging *ex, unsigned name, unsigned of)
{
	struct s3c_exchange *x = ex->x;
	struct s3c_reference ref = {
		.path = x->paths[name],
		.id = x->bodies[of].id,
		.op_id = name == S3C_X_ASIDE ? NULL : x->bodies[name].new_op,
		.attrs = &ex->old[of]->header.attrs,
		.replaces = name == S3C_X_ASIDE ? NULL : ex->old[name],
	};
	int r;

	if (name != S3C_X_ASIDE)
		x->sent[name] = true;
	r = s3c_reference_put(ex->engine, &ref);
	ex->now[name] = ref.entry;
	return r;
}

static int exchange_begun(struct exchanging *ex)
{
	struct s3c_exchange *x = ex->x;
	int r = give(ex, S3C_X_ASIDE, S3C_X_FIRST);

	if (r == 0)
		r = give(ex, S3C_X_FIRST, S3C_X_SECOND);
	if (r == 0)
		r = give(ex, S3C_X_SECOND, S3C_X_FIRST);
	if (r == -ESTALE || r == -EEXIST) {
		s3c_error("%s and %s were not exchanged: another machine changes them; look again, "
			  "and exchange them again",
			  x->paths[S3C_X_FIRST], x->paths[S3C_X_SECOND]);
		r = -EBUSY;
	}
	return r;
}

/* From here on it is acknowledged, and what the names are. */
static int exchange_done(struct exchanging *ex)
{
	struct s3c_engine *engine = ex->engine;
	struct s3c_exchange *x = ex->x;
	int r = s3c_exchange_record(engine, x, true);

	s3c_mutex_lock(&engine->lock);
	x->done = r == 0;
	if (r == 0) {
		s3c_names_set_locked(engine->names, ex->now[S3C_X_FIRST]);
		s3c_names_set_locked(engine->names, ex->now[S3C_X_SECOND]);
	}
	s3c_mutex_unlock(&engine->lock);
	return r;
}

/* The end of an exchange that is in the list. */
static void leave(struct exchanging *ex)
{
	struct s3c_engine *engine = ex->engine;
	struct s3c_exchange *x = ex->x;

	if (x->done && s3c_reference_delete(engine, ex->now[S3C_X_ASIDE])) {
		/* A listing may have seen it. */
		s3c_names_remove(engine, x->paths[S3C_X_ASIDE]);
		s3c_exchange_unrecord(engine, x);
		s3c_exchange_remove(engine, x);
	} else if (x->done) {
		s3c_exchange_postpone(engine, x);
		s3c_links_start(engine);
	} else if (s3c_exchange_end(engine, ex->op, x) < 0) {
		s3c_links_start(engine);
	}
}

/* The names are held; takes over ex->x. */
static int exchange_held(struct exchanging *ex)
{
	struct s3c_engine *engine = ex->engine;
	struct s3c_exchange *x = ex->x;
	int r = 0;

	if (s3c_writeback(engine)) {
		r = s3c_pending_flush(engine, ex->op, x->paths[S3C_X_FIRST]);
		if (r == 0)
			r = s3c_pending_flush(engine, ex->op, x->paths[S3C_X_SECOND]);
	}
	if (r == 0)
		r = find_both(ex);
	if (r != 0) {
		s3c_exchange_free(x);
		return S3C_MIN(r, 0);
	}
	s3c_exchange_enter(engine, x);
	r = s3c_exchange_record(engine, x, false);
	if (r == 0)
		r = exchange_begun(ex);
	if (r == 0)
		r = exchange_done(ex);
	leave(ex);
	return r;
}

static int exchange_once(struct s3c_engine *engine, struct s3c_op *op, const char *first,
			 const char *second)
{
	struct exchanging ex = { .engine = engine, .op = op };
	struct s3c_exchange_holds *held;
	int r = s3c_links_settle(engine, op, first);

	if (r == 0)
		r = s3c_links_settle(engine, op, second);
	if (r == 0)
		r = exchange_new(engine, first, second, &ex.x);
	if (r < 0)
		return r;
	held = malloc(sizeof(*held));
	if (held)
		s3c_exchange_holds_fill(held, ex.x);
	r = held ? s3c_hold_begin(engine, op, held->holds, S3C_X_NAMES) : -ENOMEM;
	if (r < 0) {
		s3c_exchange_free(ex.x);
		free(held);
		return r;
	}
	if (s3c_links_any(engine, first) || s3c_links_any(engine, second)) {
		s3c_exchange_free(ex.x);
		r = -EAGAIN;
	} else {
		r = exchange_held(&ex);
	}
	exchanging_end(&ex);
	s3c_hold_end(engine, held->holds, S3C_X_NAMES);
	free(held);
	return r;
}

int s3c_engine_exchange(struct s3c_engine *engine, struct s3c_op *op, const char *first,
			const char *second)
{
	int r = s3c_writable(engine);

	if (r < 0)
		return r;
	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	return strcmp(first, second) == 0 ? 0 : exchange_once(engine, op, first, second);
}
