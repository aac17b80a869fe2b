/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Undoing an exchange of names that failed, and ending one that is done: see exchange.c. */
#include "engine/exchange.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "engine/content.h"

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

	*ret_named = now && s3c_refers_to(now, x->bodies[S3C_X_FIRST].id);
	return r;
}

/* Where the second name has the first body, another one has it too, by now. -EEXIST: something
   else is in the place for that. */
static int keep_first(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_exchange *x)
{
	bool named;
	int r = is_named(engine, op, x, S3C_X_FIRST, &named);

	if (r == 0 && !named)
		r = is_named(engine, op, x, S3C_X_ASIDE, &named);
	return r < 0 || named ? r : refer(engine, x, S3C_X_ASIDE, S3C_X_FIRST, NULL);
}

/* Of one of the two names. Does it refer to its body then? */
static int undo_name(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_exchange *x,
		     unsigned name, bool *ret_named)
{
	const struct s3c_exchange_body *own = &x->bodies[name], *other = &x->bodies[!name];
	cleanup_entry struct s3c_entry *now = NULL;
	int r = look(engine, op, x->paths[name], &now);
	bool ours = now && is_of(now, other->id, own->new_op);

	*ret_named = now && s3c_refers_to(now, own->id);
	if (r < 0 || !x->sent[name] || !(ours || (now && is_of(now, own->id, own->old_op))))
		return r;
	if (ours && name == S3C_X_SECOND)
		r = keep_first(engine, op, x);
	if (r == -EEXIST) {
		s3c_error("%s and %s were to be exchanged and were not, which cannot be undone: "
			  "others have put something at %s; they stay exchanged",
			  x->paths[S3C_X_FIRST], x->paths[S3C_X_SECOND], x->paths[S3C_X_ASIDE]);
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
	const char *aside = x->paths[S3C_X_ASIDE];
	cleanup_entry struct s3c_entry *now = NULL;
	int r = look(engine, op, aside, &now);

	if (r < 0 || !now || !s3c_refers_to(now, x->bodies[S3C_X_FIRST].id))
		return r;
	if (!named) {
		s3c_error("%s and %s were to be exchanged, and others have changed them meanwhile: "
			  "what was %s is %s now",
			  x->paths[S3C_X_FIRST], x->paths[S3C_X_SECOND], x->paths[S3C_X_FIRST],
			  aside);
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
	int r = undo_name(engine, op, x, S3C_X_SECOND, &named[S3C_X_SECOND]);

	if (r == 0 && named[S3C_X_SECOND])
		r = undo_name(engine, op, x, S3C_X_FIRST, &named[S3C_X_FIRST]);
	else if (r == 0)
		r = is_named(engine, op, x, S3C_X_FIRST, &named[S3C_X_FIRST]);
	return r < 0 ? r : drop_aside(engine, op, x, named[S3C_X_FIRST]);
}

static int end_done(struct s3c_engine *engine, struct s3c_op *op, const struct s3c_exchange *x)
{
	bool named;
	int r = is_named(engine, op, x, S3C_X_SECOND, &named);

	return r < 0 ? r : drop_aside(engine, op, x, named);
}

int s3c_exchange_end(struct s3c_engine *engine, struct s3c_op *op, struct s3c_exchange *x)
{
	int r = x->done ? end_done(engine, op, x) : undo(engine, op, x);

	if (r < 0) {
		s3c_exchange_postpone(engine, x);
		return r;
	}
	s3c_exchange_unrecord(engine, x);
	s3c_exchange_remove(engine, x);
	return 0;
}
