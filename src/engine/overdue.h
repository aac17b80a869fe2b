/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Requests that had no reply in time, and may be carried out yet.
 *
 *	DELETE without a condition	removes whatever has the key by then
 *	PUT, COPY if nothing is there	brings back a name that was removed since
 *	PUT, COPY without a condition	replaces whatever has the key by then
 *	with the version to be replaced	does nothing, once that version is not there any more
 *
 * So for a while after it was given up nothing is done with its key that it could spoil: who wants to
 * do so waits. What comes at all comes soon, mostly. What is over cannot be told from what is on its
 * way: a key that is gone may have been deleted by another attempt, one that is there be written by
 * it.
 *
 * Completions of uploads can be asked for again until the store tells: unsettled.h.
 */
#pragma once

#include <sys/queue.h>

#include "store/store.h"

struct s3c_engine;
struct s3c_op;

/* Guarded by engine->lock. */
struct s3c_overdue_all {
	TAILQ_HEAD(s3c_overdue_list, s3c_overdue) list; /* by age */
};

void s3c_overdue_init(struct s3c_overdue_all *all);
void s3c_overdue_free(struct s3c_overdue_all *all);
/* Before rq is sent: waits until none can spoil it. Any thread, without locks. 0; -EINTR. */
int s3c_overdue_before(struct s3c_engine *engine, const struct s3c_store_request *rq,
		       struct s3c_op *op);
/* The same before a look that decides about a request, which then need not wait between. */
enum s3c_overdue_what {
	S3C_OVERDUE_MAKE = 1u << 0,
	S3C_OVERDUE_DELETE = 1u << 1,
};
int s3c_overdue_settle(struct s3c_engine *engine, const char *key, unsigned what);
/* Would a DELETE of the key have to wait? */
bool s3c_overdue_at(struct s3c_engine *engine, const char *key);
/* After rq had this reply. */
void s3c_overdue_after(struct s3c_engine *engine, const struct s3c_store_request *rq,
		       const struct s3c_store_reply *reply);
