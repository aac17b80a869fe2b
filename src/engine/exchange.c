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
 *more name of its body. It is not counted: where somebody removes it, the count of names is one too
 *low until s3cryptfsctl links counts them.
 *
 * An exchange is in the list from before its record until after it; the list is guarded by
 * engine->lock. Who works on one has the holds of its names.
 */
#include "engine/links.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/content.h"
#include "engine/pending.h"
#include "engine/record.h"

#define RECORD_VERSION 1
#define RETRY_MAX_S 60u

enum { FIRST, SECOND, ASIDE, NAMES };

struct body {
	uint8_t id[S3C_FILE_ID_LEN]; /* that the name refers to before */
	uint8_t old_op[S3C_OP_ID_LEN], new_op[S3C_OP_ID_LEN];
	mode_t type;
};

struct s3c_exchange {
	TAILQ_ENTRY(s3c_exchange) all;
	char *paths[NAMES];
	struct body bodies[2];
	uint64_t record; /* says which it is */
	int64_t due_ns;
	unsigned failures;
	bool done;
	bool sent[2]; /* the name may have been written, or be yet */
};

static void exchange_free(struct s3c_exchange *x)
{
	if (!x)
		return;
	for (unsigned i = 0; i < NAMES; i++)
		free(x->paths[i]);
	free(x);
}

void s3c_exchanges_free(struct s3c_links *links)
{
	struct s3c_exchange *x;

	while ((x = TAILQ_FIRST(&links->exchanges))) {
		TAILQ_REMOVE(&links->exchanges, x, all);
		exchange_free(x);
	}
}

/* The record */

static int record_text(const struct s3c_exchange *x, bool done, struct s3c_buf *text)
{
	int r = s3c_record_put_u8(text, RECORD_VERSION);

	r = r < 0 ? r : s3c_record_put_u8(text, done);
	for (unsigned i = 0; r == 0 && i < NAMES; i++)
		r = s3c_record_put_text(text, x->paths[i]);
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(x->bodies); i++) {
		const struct body *body = &x->bodies[i];

		r = s3c_buf_append(text, body->id, sizeof(body->id));
		r = r < 0 ? r : s3c_record_put_u32(text, body->type);
		r = r < 0 ? r : s3c_buf_append(text, body->old_op, sizeof(body->old_op));
		r = r < 0 ? r : s3c_buf_append(text, body->new_op, sizeof(body->new_op));
	}
	return r;
}

static int put_record(struct s3c_engine *engine, const struct s3c_exchange *x, bool done)
{
	cleanup_buf struct s3c_buf text = { 0 };
	struct s3c_tx *tx = NULL;
	int r = record_text(x, done, &text);

	r = r < 0 ? r : s3c_tx_new(engine->config.journal, &tx);
	if (r < 0)
		return r;
	s3c_tx_vital(tx);
	r = s3c_tx_put(tx, S3C_RECORD_EXCHANGE, x->record, 0, text.data, text.len);
	if (r == 0)
		return s3c_tx_commit(tx, S3C_TX_SYNC);
	s3c_tx_free(tx);
	return r;
}

/* Found once more, it would be found to be over. */
static void drop_record(struct s3c_engine *engine, const struct s3c_exchange *x)
{
	struct s3c_tx *tx;

	if (s3c_tx_new(engine->config.journal, &tx) < 0)
		return;
	s3c_tx_vital(tx);
	if (s3c_tx_delete(tx, S3C_RECORD_EXCHANGE, x->record, 0) == 0)
		s3c_tx_commit(tx, S3C_TX_LAZY);
	else
		s3c_tx_free(tx);
}

static struct s3c_exchange *record_read(const uint8_t *data, size_t len)
{
	struct s3c_record_reader reader = { .at = data, .left = len };
	struct s3c_exchange *x = calloc(1, sizeof(*x));
	bool good = x && s3c_record_get_u8(&reader) == RECORD_VERSION;

	if (good)
		x->done = s3c_record_get_u8(&reader);
	for (unsigned i = 0; good && i < NAMES; i++) {
		char path[S3C_PATH_MAX];

		s3c_record_get_text(&reader, path, sizeof(path));
		good = !reader.failed && *path && s3c_path_check(path) == 0 &&
		       !s3c_path_is_body(path) && (x->paths[i] = strdup(path));
	}
	for (unsigned i = 0; good && i < ARRAY_LEN(x->bodies); i++) {
		struct body *body = &x->bodies[i];

		s3c_record_take(&reader, body->id, sizeof(body->id));
		body->type = s3c_record_get_u32(&reader) & S_IFMT;
		s3c_record_take(&reader, body->old_op, sizeof(body->old_op));
		s3c_record_take(&reader, body->new_op, sizeof(body->new_op));
		x->sent[i] = true;
	}
	if (good && !reader.failed && !reader.left)
		return x;
	exchange_free(x);
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
		for (unsigned i = 0; i < NAMES; i++)
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
		strcpy(ret_path, next->paths[FIRST]);
	return next ? next->due_ns : INT64_MAX;
}

void s3c_exchanges_each(struct s3c_engine *engine,
			void (*fn)(void *arg, const struct s3c_unsent *unsent), void *arg)
{
	const struct s3c_exchange *x;

	TAILQ_FOREACH (x, &engine->links->exchanges, all) {
		struct s3c_unsent unsent = {
			.path = x->paths[FIRST],
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
			 x->paths[FIRST], x->paths[SECOND], x->paths[ASIDE]);
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

/* Takes over; nobody tries it yet. */
static void enter(struct s3c_engine *engine, struct s3c_exchange *x)
{
	x->due_ns = INT64_MAX;
	s3c_mutex_lock(&engine->lock);
	TAILQ_INSERT_TAIL(&engine->links->exchanges, x, all);
	s3c_mutex_unlock(&engine->lock);
}

static void remove_free(struct s3c_engine *engine, struct s3c_exchange *x)
{
	s3c_mutex_lock(&engine->lock);
	TAILQ_REMOVE(&engine->links->exchanges, x, all);
	s3c_mutex_unlock(&engine->lock);
	exchange_free(x);
}

/* It stays in the list, to be tried again. */
static void postpone(struct s3c_engine *engine, struct s3c_exchange *x)
{
	unsigned wait_s = S3C_MIN(1u << S3C_MIN(x->failures, 6u), RETRY_MAX_S);

	s3c_mutex_lock(&engine->lock);
	x->failures++;
	x->due_ns = s3c_clock_monotonic_ns() + wait_s * S3C_NSEC_PER_SEC;
	s3c_waitq_wake_all(&engine->links->work);
	s3c_mutex_unlock(&engine->lock);
}

/* Undoing, and ending */

/* Is it there, and nothing that this mount reads? */
static bool is_refused(struct s3c_engine *engine, const char *path)
{
	const struct s3c_node *node;
	bool refused;

	s3c_mutex_lock(&engine->lock);
	node = s3c_node_find(engine->names, path);
	refused = node && node->known && node->refusal && node->refusal->result == -EIO;
	s3c_mutex_unlock(&engine->lock);
	return refused;
}

/* What the name is now; *ret_entry NULL: nothing that this has to do with. */
static int look(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		struct s3c_entry **ret_entry)
{
	struct s3c_object *object = s3c_object_find(engine, path);
	int r;

	*ret_entry = NULL;
	if (object) {
		s3c_object_close(object);
		return 0;
	}
	s3c_names_invalidate(engine, path, false);
	r = s3c_names_lookup(engine, op, path, true, ret_entry);
	return r == -ENOENT || (r == -EIO && is_refused(engine, path)) ? 0 : r;
}

static bool is_of(const struct s3c_entry *entry, const uint8_t *id, const uint8_t *op_id)
{
	return s3c_refers_to(entry, id) && memcmp(entry->header.op_id, op_id, S3C_OP_ID_LEN) == 0;
}

/* The name refers to the body of; now: what is there, NULL: nothing. */
static int refer(struct s3c_engine *engine, const struct s3c_exchange *x, unsigned name,
		 unsigned of, const struct s3c_entry *now)
{
	const struct s3c_attrs attrs = { .known = true, .mode = x->bodies[of].type | 0600 };
	struct s3c_reference ref = {
		.path = x->paths[name],
		.id = x->bodies[of].id,
		.attrs = &attrs,
		.replaces = now,
	};
	int r = s3c_reference_put(engine, &ref);

	if (r == 0)
		s3c_names_set(engine, ref.entry);
	else
		s3c_names_invalidate(engine, ref.path, false);
	s3c_entry_put(ref.entry);
	return r;
}

/* Does the name refer to the first body? */
static int is_named(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_exchange *x,
		    unsigned name, bool *ret_named)
{
	cleanup_entry struct s3c_entry *now = NULL;
	int r = look(engine, op, x->paths[name], &now);

	*ret_named = now && s3c_refers_to(now, x->bodies[FIRST].id);
	return r;
}

/* Where the second name has the first body, another one has it too, by now. -EEXIST: something
   else is in the place for that. */
static int keep_first(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_exchange *x)
{
	bool named;
	int r = is_named(engine, op, x, FIRST, &named);

	if (r == 0 && !named)
		r = is_named(engine, op, x, ASIDE, &named);
	return r < 0 || named ? r : refer(engine, x, ASIDE, FIRST, NULL);
}

/* Of one of the two names. Does it refer to its body then? */
static int undo_name(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_exchange *x,
		     unsigned name, bool *ret_named)
{
	const struct body *own = &x->bodies[name], *other = &x->bodies[!name];
	cleanup_entry struct s3c_entry *now = NULL;
	int r = look(engine, op, x->paths[name], &now);
	bool ours = now && is_of(now, other->id, own->new_op);

	*ret_named = now && s3c_refers_to(now, own->id);
	if (r < 0 || !x->sent[name] || !(ours || (now && is_of(now, own->id, own->old_op))))
		return r;
	if (ours && name == SECOND)
		r = keep_first(engine, op, x);
	if (r == -EEXIST) {
		s3c_error("%s and %s were to be exchanged and were not, which cannot be undone: "
			  "others have put something at %s; they stay exchanged",
			  x->paths[FIRST], x->paths[SECOND], x->paths[ASIDE]);
		return 0;
	}
	if (r == 0)
		r = refer(engine, x, name, name, now);
	*ret_named = r == 0;
	return r;
}

/* named: the first body has one of the two names. */
static int drop_aside(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_exchange *x,
		      bool named)
{
	const char *aside = x->paths[ASIDE];
	cleanup_entry struct s3c_entry *now = NULL;
	int r = look(engine, op, aside, &now);

	if (r < 0 || !now || !s3c_refers_to(now, x->bodies[FIRST].id))
		return r;
	if (!named) {
		s3c_error("%s and %s were to be exchanged, and others have changed them meanwhile: "
			  "what was %s is %s now",
			  x->paths[FIRST], x->paths[SECOND], x->paths[FIRST], aside);
		return 0;
	}
	if (!s3c_reference_delete(engine, now))
		return -EIO;
	s3c_names_remove(engine, aside);
	return 0;
}

/* In this order: the second body has the first name until it has its own again. */
static int undo(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_exchange *x)
{
	bool named[2] = { false, false };
	int r = undo_name(engine, op, x, SECOND, &named[SECOND]);

	if (r == 0 && named[SECOND])
		r = undo_name(engine, op, x, FIRST, &named[FIRST]);
	else if (r == 0)
		r = is_named(engine, op, x, FIRST, &named[FIRST]);
	return r < 0 ? r : drop_aside(engine, op, x, named[FIRST]);
}

static int end_done(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_exchange *x)
{
	bool named;
	int r = is_named(engine, op, x, SECOND, &named);

	return r < 0 ? r : drop_aside(engine, op, x, named);
}

/* The names are held, and it is in the list. 0: it is over, and freed. */
static int end_held(struct s3c_engine *engine, struct s3c_op *op, struct s3c_exchange *x)
{
	int r = x->done ? end_done(engine, op, x) : undo(engine, op, x);

	if (r < 0) {
		postpone(engine, x);
		return r;
	}
	drop_record(engine, x);
	remove_free(engine, x);
	return 0;
}

struct holds {
	char paths[NAMES][S3C_PATH_MAX];
	struct s3c_hold holds[NAMES];
	uint64_t record;
};

static void holds_fill(struct holds *held, const struct s3c_exchange *x)
{
	held->record = x->record;
	for (unsigned i = 0; i < NAMES; i++) {
		strcpy(held->paths[i], x->paths[i]);
		held->holds[i] = (struct s3c_hold){ .path = held->paths[i], .removes = true };
	}
}

static int settle_one(struct s3c_engine *engine, struct s3c_op *op, struct holds *held)
{
	struct s3c_exchange *x;
	int r = s3c_hold_begin(engine, op, held->holds, NAMES);

	if (r < 0)
		return r;
	s3c_mutex_lock(&engine->lock);
	x = find_record(engine->links, held->record);
	s3c_mutex_unlock(&engine->lock);
	r = x ? end_held(engine, op, x) : 0;
	s3c_hold_end(engine, held->holds, NAMES);
	return r;
}

int s3c_exchanges_settle(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct holds *held;
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
			holds_fill(held, x);
		s3c_mutex_unlock(&engine->lock);
		if (!x)
			break;
		r = op == S3C_NOWAIT ? -EINPROGRESS : settle_one(engine, op, held);
	}
	free(held);
	return r;
}

/* Exchanging */

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
	free(x->paths[ASIDE]);
	x->paths[ASIDE] =
		start ? s3c_kept_path(engine, start, "exchange", s3c_clock_realtime_ns()) : NULL;
	if (!x->paths[ASIDE])
		return -ENOMEM;
	if (strlen(s3c_path_name(x->paths[ASIDE])) > NAME_MAX)
		return -ENAMETOOLONG;
	r = s3c_path_check(x->paths[ASIDE]);
	return r < 0 ? r : s3c_key_of(engine, x->paths[ASIDE], false, &key);
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
	x->paths[FIRST] = strdup(first);
	x->paths[SECOND] = strdup(second);
	x->record = s3c_durable_id(engine);
	r = x->paths[FIRST] && x->paths[SECOND] ? choose_aside(engine, x) : -ENOMEM;
	if (r < 0)
		exchange_free(x);
	else
		*ret_exchange = x;
	return r;
}

struct exchanging {
	struct s3c_engine *engine;
	struct s3c_op *op;
	struct s3c_exchange *x;
	struct s3c_entry *old[2]; /* references to the two bodies */
	struct s3c_entry *now[NAMES];
};

static void exchanging_end(struct exchanging *ex)
{
	for (unsigned i = 0; i < ARRAY_LEN(ex->old); i++)
		s3c_entry_put(ex->old[i]);
	for (unsigned i = 0; i < NAMES; i++)
		s3c_entry_put(ex->now[i]);
}

/* As the store has them now: what another machine changed a moment ago is not exchanged for what it
   was. 1: both are names of one file. -EAGAIN: one is no reference (any more). */
static int find_both(struct exchanging *ex)
{
	for (unsigned i = 0; i < ARRAY_LEN(ex->old); i++) {
		const char *path = ex->x->paths[i];
		struct s3c_object *object = s3c_object_find(ex->engine, path);
		struct body *body = &ex->x->bodies[i];
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
	return memcmp(ex->x->bodies[FIRST].id, ex->x->bodies[SECOND].id, S3C_FILE_ID_LEN) == 0;
}

/* The name gets the body that was of. */
static int give(struct exchanging *ex, unsigned name, unsigned of)
{
	struct s3c_exchange *x = ex->x;
	struct s3c_reference ref = {
		.path = x->paths[name],
		.id = x->bodies[of].id,
		.op_id = name == ASIDE ? NULL : x->bodies[name].new_op,
		.attrs = &ex->old[of]->header.attrs,
		.replaces = name == ASIDE ? NULL : ex->old[name],
	};
	int r;

	if (name != ASIDE)
		x->sent[name] = true;
	r = s3c_reference_put(ex->engine, &ref);
	ex->now[name] = ref.entry;
	return r;
}

static int exchange_begun(struct exchanging *ex)
{
	struct s3c_exchange *x = ex->x;
	int r = give(ex, ASIDE, FIRST);

	if (r == 0)
		r = give(ex, FIRST, SECOND);
	if (r == 0)
		r = give(ex, SECOND, FIRST);
	if (r == -ESTALE || r == -EEXIST) {
		s3c_error("%s and %s were not exchanged: another machine changes them; look again, "
			  "and exchange them again",
			  x->paths[FIRST], x->paths[SECOND]);
		r = -EBUSY;
	}
	return r;
}

/* From here on it is acknowledged, and what the names are. */
static int exchange_done(struct exchanging *ex)
{
	struct s3c_engine *engine = ex->engine;
	struct s3c_exchange *x = ex->x;
	int r = put_record(engine, x, true);

	s3c_mutex_lock(&engine->lock);
	x->done = r == 0;
	if (r == 0) {
		s3c_names_set_locked(engine->names, ex->now[FIRST]);
		s3c_names_set_locked(engine->names, ex->now[SECOND]);
	}
	s3c_mutex_unlock(&engine->lock);
	return r;
}

/* The end of an exchange that is in the list. */
static void leave(struct exchanging *ex)
{
	struct s3c_engine *engine = ex->engine;
	struct s3c_exchange *x = ex->x;

	if (x->done && s3c_reference_delete(engine, ex->now[ASIDE])) {
		/* A listing may have seen it. */
		s3c_names_remove(engine, x->paths[ASIDE]);
		drop_record(engine, x);
		remove_free(engine, x);
	} else if (x->done) {
		postpone(engine, x);
		s3c_links_start(engine);
	} else if (end_held(engine, ex->op, x) < 0) {
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
		r = s3c_pending_flush(engine, ex->op, x->paths[FIRST]);
		if (r == 0)
			r = s3c_pending_flush(engine, ex->op, x->paths[SECOND]);
	}
	if (r == 0)
		r = find_both(ex);
	if (r != 0) {
		exchange_free(x);
		return S3C_MIN(r, 0);
	}
	enter(engine, x);
	r = put_record(engine, x, false);
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
	struct holds *held;
	int r = s3c_links_settle(engine, op, first);

	if (r == 0)
		r = s3c_links_settle(engine, op, second);
	if (r == 0)
		r = exchange_new(engine, first, second, &ex.x);
	if (r < 0)
		return r;
	held = malloc(sizeof(*held));
	if (held)
		holds_fill(held, ex.x);
	r = held ? s3c_hold_begin(engine, op, held->holds, NAMES) : -ENOMEM;
	if (r < 0) {
		exchange_free(ex.x);
		free(held);
		return r;
	}
	if (s3c_links_any(engine, first) || s3c_links_any(engine, second)) {
		exchange_free(ex.x);
		r = -EAGAIN;
	} else {
		r = exchange_held(&ex);
	}
	exchanging_end(&ex);
	s3c_hold_end(engine, held->holds, NAMES);
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

/* Taking up */

struct loaded {
	struct s3c_exchange_list list;
};

static int on_record(void *arg, uint64_t id, uint64_t sub, int result, const uint8_t *data,
		     size_t len)
{
	struct loaded *loaded = arg;
	struct s3c_exchange *x = result < 0 ? NULL : record_read(data, len);

	(void)sub;
	if (!x) {
		s3c_error("journal: the record of an exchange of names cannot be read and stays "
			  "where it is");
		return 0;
	}
	x->record = id;
	TAILQ_INSERT_TAIL(&loaded->list, x, all);
	return 0;
}

int s3c_exchanges_load(struct s3c_engine *engine)
{
	struct loaded loaded;
	struct s3c_exchange *x;
	int r, left = 0;

	TAILQ_INIT(&loaded.list);
	r = s3c_record_each(engine->config.journal, S3C_RECORD_EXCHANGE, on_record, &loaded);
	while ((x = TAILQ_FIRST(&loaded.list))) {
		TAILQ_REMOVE(&loaded.list, x, all);
		if (r < 0) {
			exchange_free(x);
			continue;
		}
		enter(engine, x);
		/* The store is not there: the mount does not wait for that again and again. */
		if (left)
			postpone(engine, x);
		else if (end_held(engine, NULL, x) < 0)
			left = 1;
	}
	return r < 0 ? r : left;
}
