/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the engine keeps in the journal, and when.
 *
 *	record		id	sub	what it is
 *	OBJECT		jid	0	a file whose present view is only here: path, size, attributes,
 *					what it is based on, operation ids, where its chunks are
 *	CHUNK		cid	chunk	a dirty chunk of an OBJECT, plaintext (the record is sealed)
 *	GONE		id	0	a name that was removed here and may still be in the store
 *	DIR		id	0	a directory whose marker is to be written
 *	RENAME		id	0	a rename that has begun; rename_journal.c
 *	UPLOAD		id	0, part	an upload that was begun, and its parts; upload_journal.h
 *	LINK		id	0	a second name of a file that the store does not have; pairs.c
 *	EXCHANGE	id	0	two names that change places; exchange.c
 *
 * Content half, durable.c and recover.c. An object has a record (jid != 0) from the first time that
 * something of it is acknowledged without the store until the store has confirmed all of it:
 *
 *	writeback	from create on; content at flush, fsync and release
 *	otherwise	when a commit failed: the caller gets the error, the bytes are kept; and
 *			from a change of attributes of a file that was just stored on
 *			(pending_moved.c)
 *
 * A record is one consistent view: OBJECT and its CHUNKs change in one transaction; a large one is
 * written under a new cid first, and the transaction that switches to it is the last. The id of
 * every operation that may publish the view is in the record before the request is sent: that is
 * how a success whose reply, or whose writer, was lost is recognised.
 *
 * Names half, pending.c. In writeback, names are changed here first: a record, an answer, and the
 * store follows in the background. Otherwise only attributes of directories, and names that a
 * rename has left.
 *
 * Order: transactions are submitted with engine->lock held, in the order in which what they say
 * became true here; nobody waits for one with the lock held.
 */
#pragma once

#include "db/records.h"
#include "engine/private.h"

enum s3c_record_kind {
	S3C_RECORD_OBJECT = 1,
	S3C_RECORD_CHUNK = 2,
	S3C_RECORD_GONE = 3,
	S3C_RECORD_DIR = 4,
	S3C_RECORD_RENAME = 5,
	S3C_RECORD_UPLOAD = 6,
	S3C_RECORD_LINK = 7,
	S3C_RECORD_EXCHANGE = 8,
};

/* Are there records at all (a journal that was unlocked)? Constant. */
bool s3c_durable(const struct s3c_engine *engine);
/* Do names and content go to the journal first? Constant. */
bool s3c_writeback(const struct s3c_engine *engine);
/* A number for a record, never given before in this journal. Any thread. */
uint64_t s3c_durable_id(struct s3c_engine *engine);
/* One record that is whole by itself (sub 0), in a transaction of its own; it may take what the
   journal keeps in reserve. Waits as mode says. */
int s3c_durable_put(struct s3c_engine *engine, enum s3c_record_kind kind, uint64_t id,
		    const struct s3c_buf *text, enum s3c_tx_mode mode);
int s3c_durable_drop(struct s3c_engine *engine, enum s3c_record_kind kind, uint64_t id,
		     enum s3c_tx_mode mode);

/* durable.c */

/*
 * Makes the journal hold the present view of the object. LAZY or SYNC as for transactions; returns
 * when that is so. -EAGAIN: it cannot (too large for what is left of the journal, or chunks that
 * are only in parts of an upload): the store has to be asked instead. 0 at once where nothing
 * changed, where the object is clean, detached, or the journal has no records. Takes the lock.
 */
int s3c_object_persist(struct s3c_object *object, enum s3c_tx_mode mode);
/*
 * For operations on names, lock held, as part of their own transaction: the OBJECT record under the
 * path and on the base that the object has now, or its removal with all its chunks. The object is
 * frozen. The view is the one that was persisted last; one that has none gets its record here when
 * it has no bytes yet (a create), in writeback. -EAGAIN: persist first, without the lock: there are
 * bytes that no record has, or the last view stands on another base. Otherwise nothing where it
 * has no record.
 */
int s3c_object_record(struct s3c_object *object, struct s3c_tx *tx);
int s3c_object_unrecord(struct s3c_object *object, struct s3c_tx *tx);

/* pending.c: names, in writeback. */

/* Loads GONE and DIR records; before recovery of objects and before the first request. */
int s3c_pending_load(struct s3c_engine *engine, unsigned *ret_names);
/*
 * The name is created anew here: a GONE of it ends (its record's removal goes into tx), and what
 * the store still has under the name is the base that the new object replaces: *ret_base with a
 * reference, or NULL. -EBUSY: it is being deleted at this moment: wait for pending_wait and look
 * again. 0 with NULL where there is none. Lock held.
 */
int s3c_pending_take(struct s3c_engine *engine, const char *path, struct s3c_tx *tx,
		     struct s3c_entry **ret_base);
/* Waits until a running request for path ended. Lock held, released. */
int s3c_pending_wait(struct s3c_engine *engine, struct s3c_op *op, const char *path);
/* How many names have not reached the store; oldest error for status. Lock held. */
size_t s3c_pending_count(struct s3c_engine *engine);
/* Begins what waits for its delay now, for sync, umount and operations that need the store as it
   should be: all at or below path. Waits until it is done or failed: -EIO and such. */
int s3c_pending_flush(struct s3c_engine *engine, struct s3c_op *op, const char *path);
/* Starts and ends the thread that sends. */
int s3c_pending_start(struct s3c_engine *engine); /* nothing where names are not ahead */
void s3c_pending_stop(struct s3c_engine *engine);

/* For s3c_engine_unsent, retry and discard of names. Lock held. discard: -ENOENT: none there. */
void s3c_pending_each(struct s3c_engine *engine,
		      void (*fn)(void *arg, const struct s3c_unsent *unsent), void *arg);
unsigned s3c_pending_retry(struct s3c_engine *engine, const char *path);
int s3c_pending_discard(struct s3c_engine *engine, const char *path, struct s3c_tx *tx);
