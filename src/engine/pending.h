/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Names that are ahead of the store (writeback): what a node's `pending` holds, and what the files
 * of the names half ask of it. Everybody else: engine/durable.h.
 *
 * A name has two keys, NAME and NAME/, each with at most one pending change:
 *
 *	GONE	what the store has under the key is to be deleted, as far as it is a version that
 *		was seen or made here (base, ops); nothing is sent where there is neither, and the
 *		name is merely hidden until those below it are gone
 *	MAKE	NAME/ alone: the marker is to be written, with the attributes of entry. base: the
 *		marker that it replaces. fresh: made here, the store knows nothing below it
 *
 *	NAME	NAME/	the name is			changes by
 *	-	MAKE	a directory			mkdir, setattr, the last name of one
 *							without marker
 *	GONE	MAKE	a directory			mkdir where a file was
 *	GONE	-	absent				unlink, rename
 *	-	GONE	absent				rmdir
 *
 * A file that is created over GONE takes its base over: the new version replaces the old one in
 * one request. A file over NAME/ GONE waits for the delete. (GONE, GONE) does not occur.
 *
 * States, all guarded by engine->lock:
 *
 *	WAITING	in names->queue, until due_ns
 *	BLOCKED	due; for its transactions, for those below (GONE of NAME/) or for NAME (MAKE)
 *	RUNNING	a task asks the store; seq tells whether it was changed meanwhile
 *	PARKED	refused for good, until somebody asks for another attempt
 *
 *	WAITING -> BLOCKED -> WAITING -> RUNNING -> none | WAITING (failed, changed) | PARKED
 *
 * A node with a pending change is not freed; one whose transaction is under way (commits) is not
 * freed either, nor sent.
 *
 * Where names are not ahead of the store (commit=close), GONE is what a rename leaves to be done
 * later: the old name of a file that was stored a moment ago, of several in a row
 * (pending_moved.c). An operation on a name settles what is pending there first (s3c_hold_begin).
 */
#pragma once

#include "engine/durable.h"
#include "engine/names.h"

#define S3C_SENT_MAX 8

/* A version that may have been written here, with a reply that was lost. */
struct s3c_sent {
	uint8_t op_id[S3C_OP_ID_LEN];
	uint64_t size;
};

enum s3c_pending_state {
	S3C_PENDING_WAITING,
	S3C_PENDING_BLOCKED,
	S3C_PENDING_RUNNING,
	S3C_PENDING_PARKED,
};

struct s3c_pending {
	TAILQ_ENTRY(s3c_pending) all, queue;
	struct s3c_node *node; /* NULL: taken off, see s3c_pending_lift */
	enum s3c_slot_key key;
	bool make;               /* MAKE; else GONE */
	uint64_t id;             /* of its record: DIR or GONE */
	struct s3c_entry *base;  /* NULL: nothing that is known */
	struct s3c_entry *entry; /* MAKE */
	struct s3c_sent sent[S3C_SENT_MAX];
	unsigned sent_count;
	bool fresh; /* MAKE */
	bool moved; /* GONE: the name that a file had for a moment; not known after a restart */
	bool tried; /* MAKE: it may be in the store, under the op id of entry */

	enum s3c_pending_state state;
	bool queued;
	uint64_t seq;     /* of changes */
	unsigned commits; /* transactions under way */
	int64_t due_ns;
	uint64_t born, attempt; /* of names->pending_born, pending_attempts */
	unsigned failures;
	int result;
};

enum s3c_overlay { S3C_OVERLAY_NONE, S3C_OVERLAY_ABSENT, S3C_OVERLAY_DIR };
/* What the name is, as far as it is ahead of the store. Lock held. */
static inline enum s3c_overlay s3c_overlay_of(const struct s3c_node *node)
{
	const struct s3c_pending *dir = node->pending[S3C_KEY_DIR];

	if (!dir && !node->pending[S3C_KEY_FILE])
		return S3C_OVERLAY_NONE;
	return dir && dir->make ? S3C_OVERLAY_DIR : S3C_OVERLAY_ABSENT;
}
/* Is it a directory that was made here and is not in the store? */
static inline bool s3c_pending_fresh(const struct s3c_node *node)
{
	const struct s3c_pending *dir = node->pending[S3C_KEY_DIR];

	return dir && dir->make && dir->fresh;
}

/* A transaction that somebody waits for. */
struct s3c_landing {
	struct s3c_mutex lock;
	struct s3c_waitq q;
	bool over;
	int result;
};
/* Gives the transaction to the writer, with engine->lock held; takes it over. */
void s3c_landing_submit(struct s3c_landing *landing, struct s3c_tx *tx);
void s3c_landing_submit_as(struct s3c_landing *landing, struct s3c_tx *tx, enum s3c_tx_mode mode);
/* Its result. Without the lock; once for each submit. */
int s3c_landing_wait(struct s3c_landing *landing);

/* pending.c */
void s3c_pending_init(struct s3c_names *names);
void s3c_pending_free_all(struct s3c_names *names);
/* Adds one to a node; it is WAITING. Lock held. NULL: no memory. */
struct s3c_pending *s3c_pending_add(struct s3c_names *names, struct s3c_node *node,
				    enum s3c_slot_key key);
void s3c_pending_free(struct s3c_pending *p); /* one that is on no node */
/* Takes it off its node, whose name is what is known of it again; keeps it. Lock held. Neither
   RUNNING nor with commits. */
void s3c_pending_lift(struct s3c_names *names, struct s3c_pending *p);
/* The opposite. */
void s3c_pending_drop_back(struct s3c_names *names, struct s3c_node *node, struct s3c_pending *p);
/* Its record into, or out of, the transaction. Lock held. */
int s3c_pending_put(struct s3c_pending *p, struct s3c_tx *tx);
int s3c_pending_unput(const struct s3c_pending *p, struct s3c_tx *tx);
/* Removes the record, nobody waits. Lock held. */
void s3c_pending_forget(struct s3c_engine *engine, const struct s3c_pending *p);
/*
 * The directory path with these attributes, in one transaction that is confirmed when this
 * returns. base: the present marker, or NULL. fresh: a mkdir. Takes the lock.
 */
int s3c_pending_dir(struct s3c_engine *engine, const char *path, const struct s3c_attrs *attrs,
		    struct s3c_entry *base, bool fresh, struct s3c_entry **ret_entry);
/* The directory path, which is empty, is gone. marker: as the store was seen to have it; NULL:
   none is known. Likewise. */
int s3c_pending_no_dir(struct s3c_engine *engine, const char *path, struct s3c_entry *marker);

/* pending_send.c. Lock held. */
void s3c_pending_enqueue(struct s3c_names *names, struct s3c_pending *p, int64_t due_ns);
/* Sends what is due. */
void s3c_pending_dispatch(struct s3c_names *names);
/* A transaction about it ended, or what it waited for is gone. */
void s3c_pending_unblock(struct s3c_names *names, struct s3c_pending *p);
/* It, or one at or below its node, is gone: those that waited for that go on. */
void s3c_pending_ended(struct s3c_names *names, struct s3c_node *node);
/* errno for who waits for the store to have a name. */
int s3c_pending_error(int result);
/* Is anything pending at or below path? Lock held. */
bool s3c_pending_any(struct s3c_names *names, const char *path);
/* Where operations work on the store: waits until nothing is pending at or below path. Lock held,
   released. */
int s3c_pending_settle(struct s3c_names *names, struct s3c_op *op, const char *path);

/* pending_batch.c */
#define S3C_GONE_BATCH 1000u
enum s3c_gone_state {
	S3C_GONE_UNDECIDED, /* another version stands there, or nothing is known: one by one */
	S3C_GONE_STANDS,
	S3C_GONE_DONE,
};
/* A key that is to be deleted in the version base. NULL: whatever stands there is undecided. */
struct s3c_gone {
	const char *key;
	const struct s3c_entry *base;
	void *owner;
	enum s3c_gone_state state;
};
/* Which of them stand, by as few LISTs as that takes; sorts them. DONE: nothing stands there. Those
   that the LISTs do not reach stay undecided. Without the lock. */
int s3c_keys_look(struct s3c_engine *engine, struct s3c_gone *items, size_t count);
/* Deletes up to S3C_GONE_BATCH keys, which are sorted. 0 with the state of each; or what kept all
   of them from being told, in the request named in ret_what: those that are gone show it the next
   time. Without the lock. */
int s3c_gone_batch(struct s3c_engine *engine, struct s3c_gone *items, size_t count,
		   const char **ret_what);

/* pending_moved.c */
/*
 * The store has a copy of the file source, whose name is held; what is left is to delete it there.
 * 0: the journal has that, and no record of object (frozen; NULL: none) under the old name any
 * more. -EAGAIN: it has to be done now. It is for files that were stored here a moment ago, and not
 * for the first one that is renamed: the deletes of several go together. tried: it is for any file,
 * as it was tried, and has to be done again. Nothing is sent before s3c_pending_moved_end, when the
 * object has left the name.
 */
int s3c_pending_moved(struct s3c_engine *engine, struct s3c_entry *source,
		      struct s3c_object *object, bool tried, struct s3c_pending **ret_pending);
void s3c_pending_moved_end(struct s3c_engine *engine, struct s3c_pending *p);
/*
 * Outside of writeback: do attributes of the file wait for what comes next, instead of a request of
 * their own? Those of a file that was stored here a moment ago, or whose last change waits already.
 * 1, and the object with a reference. 0: they do not.
 */
int s3c_object_take_late(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			 struct s3c_object **ret_object);
/* Is there nothing to be stored of it but attributes? Those, and the view's number. */
bool s3c_object_attrs_only(struct s3c_object *object, struct s3c_attrs *ret_attrs,
			   uint64_t *ret_seq);
/* Likewise, and nobody but the caller has it open: there is nothing to be kept of it when its name
   goes; s3c_object_discard then. */
bool s3c_object_is_shut(struct s3c_object *object);
void s3c_object_discard(struct s3c_object *object);
/*
 * The commit of a new object of the caller's, whose name must not exist: -EEXIST when something has
 * come under it, and no copy of a conflict is kept. What failed is discarded, and taken out of the
 * store as far as it can be told to be there; the caller closes the object.
 */
int s3c_object_claim(struct s3c_object *object, struct s3c_op *op, const char *path);
/* Has the journal something of it? */
bool s3c_object_recorded(struct s3c_object *object);
/* A copy of the frozen object has the attributes of that view. */
void s3c_object_attrs_stored(struct s3c_object *object, uint64_t seq);

/* pending_ops.c, pending_attrs.c: operations in writeback; the caller has the holds. */
int s3c_pending_mkdir(struct s3c_engine *engine, const char *path, const struct s3c_attrs *attrs);
int s3c_pending_rmdir(struct s3c_engine *engine, struct s3c_op *op, const char *path);
int s3c_pending_unlink(struct s3c_engine *engine, struct s3c_op *op, const char *path);
int s3c_pending_whole(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      const char *target, const struct s3c_attrs *attrs);
/* All of s3c_object_create; takes the hold itself. */
int s3c_pending_create(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		       const struct s3c_attrs *attrs, struct s3c_object **ret_object);
int s3c_pending_setattr(struct s3c_engine *engine, struct s3c_op *op, const char *path,
			struct s3c_object *object, unsigned which, const struct s3c_attrs *attrs,
			struct s3c_info *ret_info);
/* Not in writeback, of a name that is held; opened: by whom they are changed, or NULL. -EAGAIN: it
   has to be done at once. */
int s3c_late_setattr(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     const struct s3c_object *opened, unsigned which, const struct s3c_attrs *attrs,
		     struct s3c_info *ret_info);
/* Has the store nothing of what the frozen object is now? */
bool s3c_object_is_unsent(struct s3c_object *object);
/*
 * source is frozen and unsent, target (or NULL) the open object of to, target_entry what the store
 * is known to have at to. -EAGAIN: the store has to do it.
 */
int s3c_pending_rename(struct s3c_engine *engine, struct s3c_op *op, const char *from,
		       const char *to, struct s3c_object *source, struct s3c_object *target,
		       struct s3c_entry *target_entry);
/* Until its view is not being copied into the journal. NULL is legal. Lock held, released. */
void s3c_object_wait_persisted(struct s3c_object *object);
/* Has somebody changes to a file of that name? Lock held. */
bool s3c_object_waits_at(struct s3c_engine *engine, const char *path);

/* attrs.c */
/* Changes them of whatever the store has under path, and asks it again when that is another
   version than was known. */
int s3c_attrs_store(struct s3c_engine *engine, const char *path, unsigned which,
		    const struct s3c_attrs *attrs);
bool s3c_attrs_same(const struct s3c_attrs *a, const struct s3c_attrs *b);
/*
 * s3c_marker_put for the sender: the operation id is given, nothing is logged, the store's result
 * as it is. -EEXIST: exclusive, and another marker stands there. The attributes are those of entry.
 */
int s3c_marker_send(struct s3c_engine *engine, const struct s3c_entry *entry,
		    const struct s3c_entry *prior, bool exclusive, struct s3c_entry **ret_entry,
		    char *ret_message, size_t message_size);
/* mutate.c: s3c_delete_key without a word in the log. */
int s3c_delete_quiet(struct s3c_engine *engine, const char *key, const char *seen,
		     char *ret_message, size_t message_size);
int s3c_key_head(struct s3c_engine *engine, const char *key, struct s3c_store_reply *reply);

/* rename_dir.c: moves what is left of a tree whose rename began at that time (wall clock). */
int s3c_rename_tree_resume(struct s3c_engine *engine, const char *from, const char *to,
			   int64_t started_ns);

/* rename_journal.c */
/* From here on a rename that the store does is not forgotten. source: of a file; NULL: a directory.
   On the disk when this returns. */
int s3c_rename_record(struct s3c_engine *engine, const char *from, const char *to,
		      const struct s3c_entry *source, uint64_t *ret_id);
/* It is done, or was given up. replaced: the object of a file that is replaced, frozen; its record
   goes with this one. May be NULL. */
void s3c_rename_unrecord(struct s3c_engine *engine, uint64_t id, struct s3c_object *replaced);
/* Ends the renames that an earlier daemon began; before objects are taken up. Those for which the
   store is not there stay in the journal. */
int s3c_rename_resume(struct s3c_engine *engine, unsigned *ret_count);
