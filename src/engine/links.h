/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Files with several names.
 *
 * In the store such a file is a body, an object of its own (doc/format.md), and a reference under
 * each name. Inside of the engine the body is a file like any other, with a path that no program
 * can name (s3c_body_path): open objects, commits and records of the journal work on that path, and
 * what comes by a name is led there by the few functions below, at the outer edge of the engine.
 *
 * A file that gets its second name while it was only just made is not stored so at once: programs
 * link a temporary name to the final one and remove the first (git does, for each object). It is a
 * pair: one object, at the path `first`, and `second`, which is in the journal and leads to it. Its
 * body exists in name only: lookups of both names show its id.
 *
 *	pair ->	first removed		a rename to second
 *		second removed		nothing is left of it
 *		after a moment, or before a rename of it or of a directory above, another link,
 *		sync, the end		body and references in the store
 *
 *	links.c		link and unlink
 *	pairs.c		pairs, their records, their thread
 *	links_store.c	bodies, references and counts of names in the store
 *	exchange.c	two names that change places
 *	rename_late.c	renames that failed and may come to be
 *	sweep.c		bodies that nothing refers to any more
 *
 * All is guarded by engine->lock. Who works on a pair has the holds of both its names.
 */
#pragma once

#include "engine/durable.h"
#include "engine/names.h"

/* The name is a reference: no errno of a store. */
#define S3C_IS_REFERENCE (-ELIBACC)
#define S3C_RESOLVE_TRIES 16u

struct s3c_pair {
	TAILQ_ENTRY(s3c_pair) all;
	UT_hash_handle by_first, by_second, by_id;
	uint8_t id[S3C_FILE_ID_LEN];
	char *first, *second; /* constant */
	uint64_t record;      /* 0: none */
	int64_t made_ns;      /* realtime: when the file got its second name */
	int64_t due_ns;
	unsigned failures;
	bool joining; /* first is about to become second */
	bool tried;   /* something of it may be in the store */
	bool unseen;  /* of an earlier daemon, and what there is of it could not be looked at yet */
};

struct s3c_links {
	TAILQ_HEAD(s3c_pair_list, s3c_pair) pairs;
	TAILQ_HEAD(s3c_exchange_list, s3c_exchange) exchanges; /* that are not over */
	struct s3c_pair *by_first, *by_second, *by_id;
	struct s3c_waitq changed;                        /* a pair is gone */
	TAILQ_HEAD(s3c_late_list, s3c_late_rename) late; /* rename_late.c */
	unsigned late_count;
	TAILQ_HEAD(, s3c_counting) counting;
	struct s3c_waitq counted;
	struct s3c_waitq work;
	bool runs, stop;
	pthread_t thread;
};

int s3c_links_new(struct s3c_engine *engine, struct s3c_links **ret_links);
/* Loads the pairs of an earlier daemon; after objects, before the first request. partly: there are
   files in the journal that could not be loaded. */
int s3c_links_load(struct s3c_engine *engine, bool partly);
/* Stores what can be stored, and ends the thread. What is left stays in the journal. */
void s3c_links_stop(struct s3c_engine *engine);
void s3c_links_free(struct s3c_links *links); /* NULL is legal */

/* Where the object of a name of a pair, or of its body, is: true with ret_path. */
bool s3c_links_map(struct s3c_engine *engine, const char *path, char ret_path[static S3C_PATH_MAX]);
/* What at was led to by is not there: has that changed meanwhile? Then once more. May wait. */
bool s3c_links_moved(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		     const char *at);
/* The path of the object: of object, when that has one, or that a name leads to. What is not there
   is where it should be. */
int s3c_links_resolve(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      struct s3c_object *object, char ret_path[static S3C_PATH_MAX]);
/* Adds to what is said of the object at path what its pair makes of it. */
void s3c_links_mark(struct s3c_engine *engine, const char *path, struct s3c_info *info);
void s3c_links_mark_locked(struct s3c_engine *engine, const char *path, struct s3c_info *info);
/* Is it the second name of a pair? */
bool s3c_links_taken(struct s3c_engine *engine, const char *path);
/* Are both names of one pair? */
bool s3c_links_same_pair(struct s3c_engine *engine, const char *a, const char *b);
/* Stores pairs with a name at or below path, and ends exchanges that have failed. Without holds. */
int s3c_links_settle(struct s3c_engine *engine, struct s3c_op *op, const char *path);
bool s3c_links_any(struct s3c_engine *engine, const char *path);

/* rename_late.c. Any thread, without the lock. */

/* The rename of source to `to` failed; op is the id of the reference that may come in the place of
   target (may be NULL). */
void s3c_late_rename_note(struct s3c_engine *engine, const struct s3c_entry *source, const char *to,
			  const uint8_t op[static S3C_OP_ID_LEN], struct s3c_entry *target);
/* Is now, under the new name, what came late of a rename of source? */
bool s3c_late_rename_is(struct s3c_engine *engine, const struct s3c_entry *source,
			const struct s3c_entry *now);
/* The same; then that is forgotten, and *ret_target, which may be NULL, is what it replaced, with a
   reference. */
bool s3c_late_rename_take(struct s3c_engine *engine, const struct s3c_entry *source,
			  const struct s3c_entry *now, struct s3c_entry **ret_target);
/* A name was looked at, and now is what it is: a rename that came late is finished. Without holds.
   -EINPROGRESS: it has to wait. What fails is tried with a later look, or forgotten. */
int s3c_late_rename_finish(struct s3c_engine *engine, struct s3c_op *op,
			   const struct s3c_entry *now);
void s3c_late_renames_free(struct s3c_links *links);
/* rename.c. The rename of from to `to` came late: its old name goes. -ENOENT: nothing of it is left
   to be done, as one of the names is another file by now. Without holds. */
int s3c_rename_finish(struct s3c_engine *engine, struct s3c_op *op, const char *from,
		      const char *to);

/* links_store.c. The names are held by the caller. */

enum s3c_linking {
	S3C_LINKING_ONCE,  /* who fails leaves nothing in the store */
	S3C_LINKING_FIRST, /* of a pair, which is tried until it is done: what is there stays */
	S3C_LINKING_AGAIN, /* the same: what is there of an earlier attempt is gone on with */
};
/* Body and references of a file that has two names. to NULL: of the one name that it has. -EEXIST:
   to is another file; -ENOENT: from is gone; -ESTALE: from is another file now. */
int s3c_links_store(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to,
		    const uint8_t id[static S3C_FILE_ID_LEN], enum s3c_linking how);
struct s3c_reference {
	const char *path;
	const uint8_t *id;
	const uint8_t *op_id;             /* NULL: a new one */
	const struct s3c_attrs *attrs;    /* of which the type counts */
	const struct s3c_entry *replaces; /* NULL: nothing may be there */
	struct s3c_entry *entry;          /* when it is written; the caller's */
	bool unsure;                      /* it may be there, or come yet, all the same */
};
/* Does not enter it into the names. -EEXIST, -ESTALE: something else is there; not logged. */
int s3c_reference_put(struct s3c_engine *engine, struct s3c_reference *ref);
/* Deletes what was seen. Is it gone? NULL: it is. */
bool s3c_reference_delete(struct s3c_engine *engine, const struct s3c_entry *entry);
bool s3c_refers_to(const struct s3c_entry *entry, const uint8_t *id);
/* One more reference, under a name that is free. */
int s3c_links_add(struct s3c_engine *engine, struct s3c_op *op, const char *to,
		  const uint8_t id[static S3C_FILE_ID_LEN]);
/* A name came or went: the body's count of names follows. */
int s3c_links_count(struct s3c_engine *engine, struct s3c_op *op,
		    const uint8_t id[static S3C_FILE_ID_LEN], int by);
/* The same after the fact, when only a log line is left. */
void s3c_links_lost_name(struct s3c_engine *engine, const uint8_t id[static S3C_FILE_ID_LEN]);
/* The name is a reference (looked up where that is not known); its body then. */
bool s3c_links_refers(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		      uint8_t ret_id[static S3C_FILE_ID_LEN]);
/* Logs, once for each version: the body is not there. -ENOLINK. */
int s3c_links_broken(struct s3c_engine *engine, const struct s3c_entry *reference);

/* For s3c_engine_unsent. Lock held. */
void s3c_links_each(struct s3c_engine *engine,
		    void (*fn)(void *arg, const struct s3c_unsent *unsent), void *arg);

/* pairs.c, for links.c */
struct s3c_pair *s3c_pair_new(const char *first, const char *second); /* NULL: no memory */
void s3c_pair_free(struct s3c_pair *pair);
int s3c_pair_record(struct s3c_engine *engine, struct s3c_pair *pair);
int s3c_pair_unrecord(struct s3c_engine *engine, const struct s3c_pair *pair,
		      enum s3c_tx_mode mode);
enum s3c_tx_mode s3c_pair_tx_mode(const struct s3c_engine *engine);
/* Enters it, and takes it out. Lock held. false: no memory, or there is one of these names. */
bool s3c_pair_enter(struct s3c_engine *engine, struct s3c_pair *pair);
void s3c_pair_leave(struct s3c_links *links, struct s3c_pair *pair);
int s3c_links_start(struct s3c_engine *engine);
/* Holds of the names of a pair, whatever becomes of it meanwhile. */
struct s3c_pair_hold {
	char first[S3C_PATH_MAX], second[S3C_PATH_MAX];
	struct s3c_hold holds[2];
};
/* path: of any kind. *ret_pair NULL, without holds: there is none (any more). */
int s3c_pair_hold(struct s3c_engine *engine, struct s3c_op *op, const char *path,
		  struct s3c_pair_hold *held, struct s3c_pair **ret_pair);
/* Stores one whose names are held. It is gone when this returns 0. */
int s3c_pair_store(struct s3c_engine *engine, struct s3c_op *op, struct s3c_pair *pair);
/* The same for that of a path, where there is one. */
int s3c_pair_store_at(struct s3c_engine *engine, struct s3c_op *op, const char *path);

/* exchange.c: those that are not over. */

/* Where a name leads to while the store may have it otherwise. Lock held. */
bool s3c_exchange_map_locked(const struct s3c_links *links, const char *path,
			     char ret_path[static S3C_PATH_MAX]);
/* Of those with a name at or below path. Without holds. */
int s3c_exchanges_settle(struct s3c_engine *engine, struct s3c_op *op, const char *path);
bool s3c_exchanges_any(struct s3c_engine *engine, const char *path);
/* When the thread is to try the next one, with a name of it; INT64_MAX: there is none. Lock held.
 */
int64_t s3c_exchanges_due(const struct s3c_links *links, char ret_path[static S3C_PATH_MAX]);
void s3c_exchanges_each(struct s3c_engine *engine,
			void (*fn)(void *arg, const struct s3c_unsent *unsent), void *arg);
/* Undoes what an earlier daemon had begun. 1: something is left for the thread. */
int s3c_exchanges_load(struct s3c_engine *engine);
/* At the end, when they have been tried for the last time. */
void s3c_exchanges_warn(struct s3c_engine *engine);
void s3c_exchanges_free(struct s3c_links *links);

/* mutate.c: removes a name that is none of a pair. S3C_IS_REFERENCE: it has become one. */
int s3c_unlink_name(struct s3c_engine *engine, struct s3c_op *op, const char *path);
/* rename.c: of files whose names are held. */
int s3c_rename_held(struct s3c_engine *engine, struct s3c_op *op, const char *from, const char *to);
