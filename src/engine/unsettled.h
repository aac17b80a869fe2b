/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Completions of multipart uploads whose reply was lost.
 *
 * Such a request may be carried out later, or at this moment:
 *
 *  - Beside it the upload must not be aborted. Ceph answers success to both then, and hands the
 *    parts of the object that it has just made over to its garbage collector: hours later HEAD
 *    finds the object, and GET does not.
 *  - It must not come when its key has a newer version by then, which it would replace.
 *
 * So it is asked for again, which has its effect once only, until the store says what became of it:
 *
 *	COMPLETE ->	success			settled: it is the object, or was
 *			no such upload		settled: it was completed before, or aborted
 *			refused for what it is	settled: it is refused whenever it comes
 *			a lost reply, or		unsettled
 *			refused for who asks
 *
 * While a key has one that is unsettled, who wants to write, copy or complete onto it, or delete
 * it, asks again first, and fails when that tells nothing either. So does who looks what stands
 * there to decide upon it, and who wants to abort that upload, which is aborted only when it was
 * refused.
 *
 * What is unsettled at the end is asked for once more.
 *
 * Uploads that a daemon left which died: the next one does not know whether, and with which parts,
 * it asked for a completion. Each is unsettled until it is ended:
 *
 *	given one more part		Ceph refuses completions that do not name all parts: one that
 *					begins from here on has no effect
 *	completed with a part that cannot be:
 *		no such part		nobody completes it now: whoever does holds Ceph's lock on
 *					it, which is tried before the parts are looked at
 *		no such upload		over
 *		anything else		perhaps it is being completed: unsettled, for as long as that
 *					lock lasts (10 minutes)
 *	then, is it the object?		over: a gateway that died before it had put the upload away;
 *					an abort would delete the object's parts. Who cannot tell
 *					does not abort either: fsck finds the upload
 *	then aborted			where that is refused the upload is left
 *
 * Other stores honour the abort, whatever comes beside it.
 */
#pragma once

#include <stdatomic.h>
#include <sys/queue.h>

#include "base/thread.h"
#include "store/store.h"

struct s3c_engine;
struct s3c_op;
struct s3c_paused;

/* Guarded by engine->lock. */
struct s3c_unsettled_all {
	atomic_bool ending; /* what a daemon left is left to the next one */
	TAILQ_HEAD(s3c_unsettled_list, s3c_unsettled) list;
	struct s3c_waitq changed;
};

void s3c_unsettled_init(struct s3c_unsettled_all *all);
void s3c_unsettled_free(struct s3c_unsettled_all *all);
/* Before rq is sent: settles what is in its way. Any thread, without locks; waits for the store.
   1: rq is not to be sent, for it would abort what is over; -errno of a lost reply, with words for
   the log: nor is it, as nothing is known. */
int s3c_unsettled_before(struct s3c_engine *engine, const struct s3c_store_request *rq,
			 struct s3c_op *op, struct s3c_store_reply *ret_reply);
/* The same for a look that decides about the key. 0; -errno of a lost reply. */
int s3c_unsettled_settle(struct s3c_engine *engine, const char *key,
			 struct s3c_store_reply *ret_reply);
/* Has the key one that is unsettled? */
bool s3c_unsettled_at(struct s3c_engine *engine, const char *key);
/* May an object with this ETag have been made of the upload, which the store has still? Of an object
   in parts the ETag ends in their number. Any thread, without locks. */
bool s3c_unsettled_may_be(struct s3c_engine *engine, const char *key, const char *upload_id,
			  const char *etag);
/* What a daemon left that died. Lock held. false: no memory. */
bool s3c_unsettled_left_locked(struct s3c_engine *engine, const struct s3c_paused *paused);
/* At the end, before the store goes. */
void s3c_unsettled_end(struct s3c_engine *engine);
/* After a completion had this result. */
void s3c_unsettled_after(struct s3c_engine *engine, const struct s3c_store_request *rq, int result,
			 const struct s3c_store_reply *reply);
