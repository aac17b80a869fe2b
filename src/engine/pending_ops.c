/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Operations on names in writeback: what changes in memory and in the journal belongs together.
 *
 * Each changes the nodes and objects and gives its one transaction to the journal under one hold
 * of the lock, so that what others do after it is after it in the journal as well; then it waits,
 * and takes back what it did when the journal refused. Nobody sends anything of it before.
 */
#include "engine/pending.h"

#include <errno.h>
#include <string.h>

#include "engine/content.h"
#include "engine/links.h"

/* What the journal has of an object, while an operation is not certain. */
struct record_state {
	uint64_t jid, cid, cut;
	struct s3c_saved saved;
	bool broken, next_op_unused;
	uint8_t next_op[S3C_OP_ID_LEN];
};

static void record_keep(const struct s3c_object *object, struct record_state *state)
{
	*state = (struct record_state){
		.jid = object->jid,
		.cid = object->cid,
		.cut = object->cut,
		.saved = object->saved,
		.broken = object->record_broken,
		.next_op_unused = object->next_op_unused,
	};
	if (state->saved.base)
		s3c_entry_ref(state->saved.base);
	s3c_xattrs_ref(state->saved.attrs.xattrs);
	memcpy(state->next_op, object->next_op, sizeof(state->next_op));
}

static void record_restore(struct s3c_object *object, struct record_state *state)
{
	s3c_entry_put(object->saved.base);
	s3c_attrs_clear(&object->saved.attrs);
	object->jid = state->jid;
	object->cid = state->cid;
	object->cut = state->cut;
	object->saved = state->saved;
	state->saved.base = NULL;
	state->saved.attrs.xattrs = NULL;
	object->record_broken = state->broken;
	object->next_op_unused = state->next_op_unused;
	memcpy(object->next_op, state->next_op, sizeof(object->next_op));
}

static void record_release(struct record_state *state)
{
	s3c_entry_put(state->saved.base);
	s3c_attrs_clear(&state->saved.attrs);
}

/* What the object may have in the store under its present path without a reply that said so. */
static unsigned sent_of(const struct s3c_object *object, struct s3c_sent *ret_sent)
{
	unsigned count = 0;

	for (unsigned i = 0; i < ARRAY_LEN(object->attempts); i++) {
		const struct s3c_attempt *attempt = &object->attempts[i];

		if (!attempt->used)
			continue;
		ret_sent[count].size = attempt->size;
		memcpy(ret_sent[count++].op_id, attempt->op_id, S3C_OP_ID_LEN);
	}
	return count;
}

/* Should one of these turn up, it is what the object replaces. */
static void inherit_sent(struct s3c_object *object, const struct s3c_sent *sent, unsigned count)
{
	for (unsigned i = count; i-- > 0 && count - i <= ARRAY_LEN(object->attempts);) {
		struct s3c_attempt *attempt =
			&object->attempts[object->attempt_next++ % ARRAY_LEN(object->attempts)];

		*attempt = (struct s3c_attempt){ .size = sent[i].size, .used = true };
		memcpy(attempt->op_id, sent[i].op_id, S3C_OP_ID_LEN);
	}
}

void s3c_object_wait_persisted(struct s3c_object *object)
{
	while (object && object->persisting)
		s3c_waitq_wait(&object->waitq, &object->engine->lock, NULL);
}

bool s3c_object_waits_at(struct s3c_engine *engine, const char *path)
{
	struct s3c_object *object;

	HASH_FIND_STR(engine->objects->by_path, path, object);
	return object && (s3c_object_is_dirty(object) || object->committing || !object->base);
}

int s3c_pending_mkdir(struct s3c_engine *engine, const char *path, const struct s3c_attrs *attrs)
{
	int r = s3c_pending_dir(engine, path, attrs, NULL, true, NULL);

	if (r == 0)
		s3c_dir_set_empty(engine, path);
	return r;
}

int s3c_pending_rmdir(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_object *object = s3c_object_find(engine, path);
	cleanup_entry struct s3c_entry *entry = NULL;
	struct s3c_listing *listing = NULL;
	int r;

	if (object)
		s3c_object_close(object);
	if (object || s3c_links_taken(engine, path))
		return -ENOTDIR;
	r = s3c_names_lookup(engine, op, path, false, &entry);
	if (r < 0)
		return r;
	if (!entry->is_dir)
		return -ENOTDIR;
	r = s3c_dir_emptiness(engine, path);
	if (r == -EAGAIN) {
		r = s3c_engine_list(engine, op, path, &listing);
		if (r == 0)
			r = listing->count > 0;
		else if (r == -ENOENT)
			r = 0;
		s3c_listing_put(listing);
	}
	if (r < 0)
		return r;
	if (r)
		return -ENOTEMPTY;
	r = s3c_keep_parent(engine, op, path);
	return r < 0 ? r : s3c_pending_no_dir(engine, path, entry->implicit ? NULL : entry);
}

/* A file under the name is gone: of the node, of its object. */
struct removal {
	struct s3c_engine *engine;
	const char *path;
	struct s3c_object *object; /* frozen; NULL: none */
	struct s3c_entry *base;
	struct s3c_node *node;   /* pinned */
	struct s3c_pending *p;   /* NULL: the store has nothing */
	struct record_state was; /* of object */
	bool local;
	mode_t local_type;
};

/* Lock held; the transaction is not given away yet. */
static int removal_begin(struct removal *rm, struct s3c_tx *tx)
{
	struct s3c_names *names = rm->engine->names;
	struct s3c_sent sent[S3C_SENT_MAX];
	unsigned count = rm->object ? sent_of(rm->object, sent) : 0;
	int r = 0;

	rm->node = s3c_node_make(names, rm->path);
	if (!rm->node)
		return -ENOMEM;
	rm->node->pins++;
	rm->local = rm->node->local;
	rm->local_type = rm->node->local_type;
	if (rm->object)
		record_keep(rm->object, &rm->was);
	if (rm->base || count) {
		rm->p = s3c_pending_add(names, rm->node, S3C_KEY_FILE);
		if (!rm->p)
			return -ENOMEM;
		rm->p->commits++;
		rm->p->base = rm->base ? s3c_entry_ref(rm->base) : NULL;
		memcpy(rm->p->sent, sent, count * sizeof(sent[0]));
		rm->p->sent_count = count;
		r = s3c_pending_put(rm->p, tx);
	}
	if (r == 0)
		s3c_names_remove_locked(names, rm->path);
	return r;
}

/* Its transaction failed, or was not given away. Lock held. */
static void removal_undo(struct removal *rm)
{
	struct s3c_names *names = rm->engine->names;

	if (!rm->node)
		return;
	if (rm->p) {
		rm->p->commits--;
		s3c_pending_lift(names, rm->p);
		s3c_pending_free(steal_ptr(rm->p));
	}
	s3c_names_invalidate_locked(names, rm->path, false);
	if (rm->local)
		s3c_names_add_local_locked(names, rm->path, rm->local_type);
}

/* Lock held. */
static void removal_end(struct removal *rm)
{
	if (rm->p) {
		rm->p->commits--;
		s3c_pending_unblock(rm->engine->names, rm->p);
	}
	if (rm->node) {
		rm->node->pins--;
		s3c_node_prune(rm->engine->names, rm->node);
	}
	record_release(&rm->was);
}

/* Whoever opened it since keeps its bytes; else nothing is left of it. */
static void object_drop(struct s3c_object *object)
{
	struct s3c_mutex *lock = &object->engine->lock;
	bool alone;

	s3c_mutex_lock(lock);
	alone = object->users <= 1;
	if (!object->detached && alone) {
		s3c_object_unhash(object);
		object->detached = true;
	}
	s3c_mutex_unlock(lock);
	if (!alone && s3c_object_detach(object, NULL) < 0)
		s3c_error("%s: it was deleted, and what is open of it cannot be read any more",
			  object->path);
	s3c_mutex_lock(lock);
	s3c_object_wait_persisted(object);
	s3c_object_record_drop(object);
	s3c_mutex_unlock(lock);
}

/* For those who have it open its bytes have to be here before the store loses them. */
static int detach_open(struct s3c_object *object, struct s3c_op *op)
{
	bool shared;

	s3c_mutex_lock(&object->engine->lock);
	shared = object->users > 1;
	s3c_mutex_unlock(&object->engine->lock);
	return shared ? s3c_object_detach(object, op) : 0;
}

static void attach_again(struct s3c_object *object, const char *path)
{
	if (s3c_object_reattach(object, path) < 0)
		s3c_error("%s: it was to go and stays, and was opened anew meanwhile: what the "
			  "former opening writes is lost",
			  path);
}

static int remove_file(struct removal *rm)
{
	struct s3c_engine *engine = rm->engine;
	struct s3c_landing landing;
	struct s3c_tx *tx;
	int r = s3c_tx_new(engine->config.journal, &tx);

	if (r < 0)
		return r;
	/* Small, and what makes room: also on a full disk. */
	s3c_tx_vital(tx);
	s3c_mutex_lock(&engine->lock);
	s3c_object_wait_persisted(rm->object);
	r = removal_begin(rm, tx);
	if (r == 0 && rm->object)
		r = s3c_object_unrecord(rm->object, tx);
	if (r == 0 && (rm->p || rm->was.jid)) {
		s3c_landing_submit(&landing, steal_ptr(tx));
		s3c_mutex_unlock(&engine->lock);
		r = s3c_landing_wait(&landing);
		s3c_mutex_lock(&engine->lock);
	}
	if (r < 0) {
		removal_undo(rm);
		if (rm->object && rm->node)
			record_restore(rm->object, &rm->was);
	}
	s3c_mutex_unlock(&engine->lock);
	s3c_tx_free(tx);
	if (rm->object && r < 0)
		attach_again(rm->object, rm->path);
	else if (rm->object)
		object_drop(rm->object);
	s3c_mutex_lock(&engine->lock);
	removal_end(rm);
	s3c_mutex_unlock(&engine->lock);
	return r;
}

static int unlink_open(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       struct s3c_object *object)
{
	cleanup_entry struct s3c_entry *base = NULL;
	struct removal rm = { .engine = engine, .path = path, .object = object };
	int r = s3c_object_freeze(object, op);

	if (r < 0)
		return r;
	base = s3c_object_base(object);
	if (base)
		r = s3c_keep_parent(engine, op, path);
	if (r == 0)
		r = detach_open(object, op);
	rm.base = base;
	if (r == 0)
		r = remove_file(&rm);
	s3c_object_thaw(object);
	return r;
}

int s3c_pending_unlink(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	struct s3c_object *object = s3c_object_find(engine, path);
	cleanup_entry struct s3c_entry *entry = NULL;
	struct removal rm = { .engine = engine, .path = path };
	int r;

	if (object) {
		r = unlink_open(engine, op, path, object);
		s3c_object_close(object);
		return r;
	}
	r = s3c_names_lookup(engine, op, path, false, &entry);
	if (r < 0)
		return r;
	if (entry->is_dir)
		return -EISDIR;
	r = s3c_keep_parent(engine, op, path);
	rm.base = entry;
	return r < 0 ? r : remove_file(&rm);
}

/* What is pending of the name, for a file that is made there: *ret_gone, off its node, or NULL.
   -EAGAIN: after a wait; look again. Lock held, released. */
static int lift_gone(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     struct s3c_pending **ret_gone)
{
	struct s3c_node *node = s3c_node_find(engine->names, path);
	struct s3c_pending *p = node ? node->pending[S3C_KEY_FILE] : NULL;
	int r;

	if (node && (node->pending[S3C_KEY_DIR] ||
		     (p && (p->state == S3C_PENDING_RUNNING || p->commits)))) {
		r = s3c_pending_wait(engine, op, path);
		return r < 0 ? r : -EAGAIN;
	}
	if (p)
		s3c_pending_lift(engine->names, p);
	*ret_gone = p;
	return 0;
}

static void put_gone_back(struct s3c_engine *engine, const char *path, struct s3c_pending *gone)
{
	struct s3c_node *node = gone ? s3c_node_make(engine->names, path) : NULL;

	if (node)
		s3c_pending_drop_back(engine->names, node, gone);
	else
		s3c_pending_free(gone);
}

/* A new file that did not come to be. Lock held. */
static void create_undo(struct s3c_object *object, struct s3c_pending *gone)
{
	struct s3c_engine *engine = object->engine;

	s3c_names_drop_local_locked(engine->names, object->path);
	put_gone_back(engine, object->path, gone);
	s3c_object_unhash(object);
	object->detached = true;
	object->jid = 0;
}

struct creation {
	struct s3c_object *object;
	struct s3c_pending *gone; /* NULL: none */
};

/* The new object over what is pending. tx NULL: without a record. Lock held, released. -EAGAIN. */
static int create_begin(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			struct s3c_target *target, const struct s3c_attrs *attrs, struct s3c_tx *tx,
			struct creation *c)
{
	mode_t type = attrs->mode & S_IFMT ? attrs->mode & S_IFMT : S_IFREG;
	uint8_t token[sizeof(c->object->token)];
	int r = lift_gone(engine, op, path, &c->gone);

	if (r < 0)
		return r;
	r = s3c_object_create_locked(engine, path, target, attrs, &c->object);
	if (r < 0) {
		put_gone_back(engine, path, steal_ptr(c->gone));
		return r;
	}
	if (c->gone) {
		/* The base is what is replaced, not what is read. */
		memcpy(token, c->object->token, sizeof(token));
		s3c_object_set_base(c->object, c->gone->base);
		memcpy(c->object->token, token, sizeof(token));
		inherit_sent(c->object, c->gone->sent, c->gone->sent_count);
		r = tx ? s3c_pending_unput(c->gone, tx) : 0;
	}
	if (r == 0 && tx)
		r = s3c_object_record(c->object, tx);
	if (r < 0)
		create_undo(c->object, steal_ptr(c->gone));
	else
		s3c_names_add_local_locked(engine->names, path, type);
	return r;
}

/* Has the name a file or a directory? -EEXIST; 0: not. */
static int check_free(struct s3c_engine *engine, struct s3c_op *op, const char *path)
{
	cleanup_entry struct s3c_entry *entry = NULL;
	bool taken;
	int r;

	s3c_mutex_lock(&engine->lock);
	taken = s3c_object_waits_at(engine, path);
	s3c_mutex_unlock(&engine->lock);
	if (taken || s3c_links_taken(engine, path))
		return -EEXIST;
	r = s3c_names_lookup(engine, op, path, false, &entry);
	return r == 0 ? -EEXIST : r == -ENOENT ? 0 : r;
}

/* The hold is the caller's. recorded: the journal has the file, and nothing is pending, when this
   returns; else that is the caller's, as is c->gone. */
static int create_held(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       const struct s3c_attrs *attrs, bool recorded, struct creation *c)
{
	struct s3c_target *target = NULL;
	struct s3c_landing landing;
	struct s3c_tx *tx = NULL;
	int r;

	do {
		r = check_free(engine, op, path);
		if (r == 0 && !target)
			r = s3c_target_new(engine, path, &target);
		if (r == 0 && recorded && !tx)
			r = s3c_tx_new(engine->config.journal, &tx);
		if (r < 0)
			break;
		s3c_mutex_lock(&engine->lock);
		r = create_begin(engine, op, path, target, attrs, tx, c);
		if (r == 0 && recorded)
			s3c_landing_submit(&landing, steal_ptr(tx));
		s3c_mutex_unlock(&engine->lock);
	} while (r == -EAGAIN);
	s3c_tx_free(tx);
	s3c_target_put(target);
	if (r < 0 && c->object)
		s3c_object_close(c->object);
	if (r < 0 || !recorded)
		return r;
	r = s3c_landing_wait(&landing);
	if (r < 0) {
		s3c_mutex_lock(&engine->lock);
		create_undo(c->object, steal_ptr(c->gone));
		s3c_mutex_unlock(&engine->lock);
		s3c_object_close(c->object);
	}
	s3c_pending_free(c->gone);
	return r;
}

int s3c_pending_create(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       const struct s3c_attrs *attrs, struct s3c_object **ret_object)
{
	struct s3c_hold hold = { .path = path };
	struct creation c = { .object = NULL };
	int r;

	if (op == S3C_NOWAIT)
		return -EINPROGRESS;
	r = s3c_hold_begin(engine, op, &hold, 1);
	if (r < 0)
		return r;
	r = create_held(engine, op, path, attrs, true, &c);
	s3c_hold_end(engine, &hold, 1);
	if (r == 0)
		*ret_object = c.object;
	return r;
}

/* A link has its target from the first record on. */
int s3c_pending_whole(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      const char *target, const struct s3c_attrs *attrs)
{
	struct s3c_hold hold = { .path = path };
	struct creation c = { .object = NULL };
	int r = s3c_hold_begin(engine, op, &hold, 1);

	if (r < 0)
		return r;
	r = create_held(engine, op, path, attrs, false, &c);
	if (r == 0) {
		if (*target)
			r = s3c_object_write(c.object, op, 0, target, strlen(target), false);
		if (r == 0)
			r = s3c_object_persist(c.object, S3C_TX_LAZY);
		s3c_mutex_lock(&engine->lock);
		if (r < 0) {
			s3c_object_record_drop(c.object);
			create_undo(c.object, steal_ptr(c.gone));
		} else if (c.gone) {
			/* Should both records be found, the link's counts. */
			s3c_pending_forget(engine, c.gone);
		}
		s3c_mutex_unlock(&engine->lock);
		s3c_object_close(c.object);
		s3c_pending_free(c.gone);
	}
	s3c_hold_end(engine, &hold, 1);
	return r == -EAGAIN ? -ENOSPC : r;
}

/* Renaming what the store has not seen */

bool s3c_object_is_unsent(struct s3c_object *object)
{
	bool unsent;

	s3c_mutex_lock(&object->engine->lock);
	/* An empty file that is stored as it is has no visible bytes of base either. */
	unsent = !object->base ||
		 (!object->base_visible && object->content_seq != object->content_clean &&
		  s3c_object_is_dirty(object));
	s3c_mutex_unlock(&object->engine->lock);
	return unsent && !object->lost;
}

struct moving {
	struct s3c_engine *engine;
	const char *from, *to;
	struct s3c_object *source, *target; /* target NULL: none is open */
	struct s3c_entry *to_base;
	struct s3c_target *from_key, *to_key;
	struct removal rm;        /* of from */
	struct s3c_pending *gone; /* of to */
	struct record_state source_was, target_was;
	struct s3c_attempt attempts[S3C_ATTEMPTS];
	struct s3c_entry *from_base;
	bool rekeyed, to_local;
	mode_t type;
};

/* Lock held. All in memory and in tx, or -errno with what there is to undo. */
static int move_begin(struct moving *mv, struct s3c_tx *tx)
{
	struct s3c_engine *engine = mv->engine;
	struct s3c_object *source = mv->source;
	struct s3c_node *to = s3c_node_find(engine->names, mv->to);
	struct s3c_entry *base = mv->gone && mv->gone->base ? mv->gone->base : mv->to_base;
	struct s3c_sent sent[S3C_SENT_MAX];
	unsigned count = mv->target ? sent_of(mv->target, sent) : 0;
	int r;

	if (mv->gone) {
		memcpy(sent, mv->gone->sent, sizeof(sent));
		count = mv->gone->sent_count;
	}
	mv->to_local = to && to->local;
	mv->type = source->attrs.mode & S_IFMT ? source->attrs.mode & S_IFMT : S_IFREG;
	memcpy(mv->attempts, source->attempts, sizeof(mv->attempts));
	record_keep(source, &mv->source_was);
	if (mv->target)
		record_keep(mv->target, &mv->target_was);
	/* First what is at from: the object still knows what it has sent there. */
	r = removal_begin(&mv->rm, tx);
	if (r == 0)
		r = s3c_object_rekey_locked(source, mv->to, mv->to_key, base);
	mv->rekeyed = r == 0;
	if (r < 0)
		return r;
	inherit_sent(source, sent, count);
	if (mv->target)
		r = s3c_object_unrecord(mv->target, tx);
	if (r == 0)
		r = s3c_object_record(source, tx);
	if (r == 0 && mv->gone)
		r = s3c_pending_unput(mv->gone, tx);
	if (r == 0)
		s3c_names_add_local_locked(engine->names, mv->to, mv->type);
	return r;
}

/* Lock held. */
static void move_undo(struct moving *mv)
{
	struct s3c_object *source = mv->source;
	struct s3c_names *names = mv->engine->names;

	if (mv->rekeyed &&
	    s3c_object_rekey_locked(source, mv->from, mv->from_key, mv->from_base) < 0)
		s3c_error("%s: no memory to undo its rename", mv->from);
	memcpy(source->attempts, mv->attempts, sizeof(source->attempts));
	record_restore(source, &mv->source_was);
	removal_undo(&mv->rm);
	if (mv->target) {
		record_restore(mv->target, &mv->target_was);
		if (!mv->target->detached && !mv->target->hashed)
			s3c_object_hash(mv->target, mv->to);
	}
	if (!mv->to_local)
		s3c_names_drop_local_locked(names, mv->to);
	s3c_names_invalidate_locked(names, mv->to, false);
	put_gone_back(mv->engine, mv->to, steal_ptr(mv->gone));
}

/* -EAGAIN: what is pending at to had to be waited for, or the source has to be persisted. */
static int move_try(struct moving *mv, struct s3c_op *op, bool *ret_persist)
{
	struct s3c_engine *engine = mv->engine;
	struct s3c_landing landing;
	struct s3c_tx *tx;
	bool given;
	int r = s3c_tx_new(engine->config.journal, &tx);

	if (r < 0)
		return r;
	*ret_persist = false;
	mv->rm = (struct removal){
		.engine = engine,
		.path = mv->from,
		.object = mv->source,
		.base = mv->from_base,
	};
	s3c_mutex_lock(&engine->lock);
	s3c_object_wait_persisted(mv->source);
	s3c_object_wait_persisted(mv->target);
	r = lift_gone(engine, op, mv->to, &mv->gone);
	if (r < 0) {
		s3c_mutex_unlock(&engine->lock);
		s3c_tx_free(tx);
		return r;
	}
	r = move_begin(mv, tx);
	*ret_persist = r == -EAGAIN;
	given = r == 0;
	if (given) {
		s3c_landing_submit(&landing, steal_ptr(tx));
		s3c_mutex_unlock(&engine->lock);
		r = s3c_landing_wait(&landing);
		s3c_mutex_lock(&engine->lock);
	}
	if (r < 0)
		move_undo(mv);
	s3c_mutex_unlock(&engine->lock);
	s3c_tx_free(tx);
	if (mv->target && r == 0)
		object_drop(mv->target);
	s3c_mutex_lock(&engine->lock);
	removal_end(&mv->rm);
	s3c_mutex_unlock(&engine->lock);
	record_release(&mv->source_was);
	record_release(&mv->target_was);
	mv->source_was = mv->target_was = (struct record_state){ 0 };
	s3c_pending_free(steal_ptr(mv->gone));
	return r;
}

static int move(struct moving *mv, struct s3c_op *op)
{
	bool persist = false;
	int r;

	do {
		r = move_try(mv, op, &persist);
		if (r == -EAGAIN && persist) {
			r = s3c_object_persist(mv->source, S3C_TX_LAZY);
			/* Not in the journal: in the store, then. */
			if (r < 0)
				return r;
			r = -EAGAIN;
		}
	} while (r == -EAGAIN);
	return r;
}

int s3c_pending_rename(struct s3c_engine *engine, struct s3c_op *op, const char *from,
		       const char *to, struct s3c_object *source, struct s3c_object *target,
		       struct s3c_entry *target_entry)
{
	struct moving mv = {
		.engine = engine,
		.from = from,
		.to = to,
		.source = source,
		.target = target,
		.to_base = target_entry,
	};
	cleanup_entry struct s3c_entry *target_base = NULL;
	int r = target ? s3c_object_freeze(target, op) : 0;

	if (r < 0)
		return r;
	mv.from_base = s3c_object_base(source);
	if (target)
		mv.to_base = target_base = s3c_object_base(target);
	r = s3c_target_new(engine, from, &mv.from_key);
	if (r == 0)
		r = s3c_target_new(engine, to, &mv.to_key);
	if (r == 0 && mv.from_base)
		r = s3c_keep_parent(engine, op, from);
	if (r == 0 && target)
		r = detach_open(target, op);
	if (r == 0) {
		r = move(&mv, op);
		if (r < 0 && target)
			attach_again(target, to);
	}
	if (target)
		s3c_object_thaw(target);
	s3c_target_put(mv.from_key);
	s3c_target_put(mv.to_key);
	s3c_entry_put(mv.from_base);
	return r;
}
