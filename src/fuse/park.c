/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Calls, and how they wait without a worker waiting.
 *
 *	state     where               op                      ends by
 *	tried     worker's stack      none                    its answer, or parking
 *	parked    heap, pool's queue  may be interrupted      a thread of the pool
 *	running   heap, that thread   may be interrupted      its result
 *	answered  -                   interrupts taken away   -
 *
 * A call is answered exactly once, by the thread that runs it, or by the watcher (interrupt.c) when
 * its program ends; an interruption makes its waits end. libfuse calls the interrupt function with
 * the request's lock held, possibly from within fuse_req_interrupt_func; taking it away takes the
 * same lock, so that no call of it is under way when the op and the call are freed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/util.h"
#include "fuse/private.h"

/* Where the worker of this thread received the request it is processing. */
static __thread struct fuse_buf *worker_buffer;

void s3c_park_set_buffer(struct fuse_buf *buf)
{
	worker_buffer = buf;
}

void s3c_call_init(struct s3c_call *call, fuse_req_t req, const struct s3c_call_type *type,
		   uint64_t ino)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	memset(call, 0, sizeof(*call));
	call->fuse = fuse_req_userdata(req);
	call->req = req;
	call->type = type;
	call->begun_ns = s3c_clock_monotonic_ns();
	call->ino = ino;
	call->pid = ctx->pid;
	call->caller.uid = ctx->uid;
	call->caller.gid = ctx->gid;
	call->caller.drop_privs = s3c_wire_drops_privs();
	if (!__atomic_load_n(&call->fuse->seen, __ATOMIC_RELAXED) &&
	    !__atomic_exchange_n(&call->fuse->seen, true, __ATOMIC_RELAXED))
		s3c_signals_post(S3C_POST_SEEN);
}

static void count(const struct s3c_call *call, int r)
{
	unsigned operation = s3c_label_operation(call->type->name);

	s3c_count(S3C_COUNT_OPERATIONS, operation, s3c_label_result(r), 1);
	s3c_time(S3C_TIME_OPERATIONS, operation, s3c_clock_monotonic_ns() - call->begun_ns);
}

/* It is counted and told. Returns the result. */
static int conclude(struct s3c_call *call, int r)
{
	if (r == -EINPROGRESS) {
		s3c_error("%s: an operation that may wait was left unfinished", call->type->name);
		r = -EIO;
	}
	count(call, r);
	if (call->fuse->audit)
		s3c_call_audit(call, r);
	return r;
}

static void answer(struct s3c_call *call, int r)
{
	r = conclude(call, r);
	if (r < 0)
		fuse_reply_err(call->req, -r);
	else if (call->type->answer)
		call->type->answer(call);
	else
		fuse_reply_err(call->req, 0);
	free(call->reply);
}

static void call_free(struct s3c_call *call)
{
	if (!call)
		return;
	free((char *)call->name);
	free((char *)call->name2);
	free(call->owned_data);
	free(call);
}

static void on_interrupt(fuse_req_t req, void *arg)
{
	(void)req;
	s3c_call_signaled(arg);
}

/* The program has its answer: nobody takes what the result refers to. */
static void drop_result(struct s3c_call *call, int r)
{
	r = conclude(call, r);
	if (r == 0 && call->type->answer == s3c_answer_entry && call->entry.nodeid)
		s3c_fs_forget(call->fuse->fs, call->entry.nodeid, 1);
}

static void run_parked(struct s3c_job *job)
{
	struct s3c_call *call = container_of(job, struct s3c_call, job);
	struct s3c_fuse *fuse = call->fuse;
	bool answered;
	int r;

	s3c_mutex_lock(&fuse->calls_lock);
	answered = call->answered;
	s3c_mutex_unlock(&fuse->calls_lock);
	r = answered ? -EINTR : call->type->run(call, &call->op);
	s3c_mutex_lock(&fuse->calls_lock);
	LIST_REMOVE(call, link);
	if (call->signaled)
		LIST_REMOVE(call, signaled_link);
	call->signaled = false;
	call->done = true;
	answered = call->answered;
	s3c_mutex_unlock(&fuse->calls_lock);
	if (!answered)
		fuse_req_interrupt_func(call->req, NULL, NULL);
	s3c_op_destroy(&call->op);
	if (answered)
		drop_result(call, r);
	else
		answer(call, r);
	call_free(call);
}

/* The data of a write lies in the worker's buffer: the call takes that, the worker gets a new one
 * with its next request. */
static void take_data(struct s3c_call *call)
{
	struct fuse_buf *buf = worker_buffer;
	const char *at = call->data;

	if (buf && !(buf->flags & FUSE_BUF_IS_FD) && at >= (char *)buf->mem &&
	    at + call->size <= (char *)buf->mem + buf->size) {
		call->owned_data = steal_ptr(buf->mem);
		return;
	}
	call->owned_data = malloc(call->size ? call->size : 1);
	if (call->owned_data) {
		memcpy(call->owned_data, at, call->size);
		call->data = call->owned_data;
	}
}

static struct s3c_call *copy_call(const struct s3c_call *from)
{
	struct s3c_call *call = malloc(sizeof(*call));
	bool ok;

	if (!call)
		return NULL;
	memcpy(call, from, sizeof(*call));
	call->name = from->name ? strdup(from->name) : NULL;
	call->name2 = from->name2 ? strdup(from->name2) : NULL;
	ok = !!call->name == !!from->name && !!call->name2 == !!from->name2;
	if (ok && call->data) {
		take_data(call);
		ok = call->owned_data != NULL;
	}
	if (!ok) {
		call_free(call);
		return NULL;
	}
	return call;
}

static void park(const struct s3c_call *borrowed)
{
	struct s3c_fuse *fuse = borrowed->fuse;
	struct s3c_call *call = copy_call(borrowed);

	if (!call) {
		fuse_reply_err(borrowed->req, ENOMEM);
		return;
	}
	call->job.run = run_parked;
	s3c_op_init(&call->op, s3c_deadline_after(fuse->timeout_s));
	s3c_mutex_lock(&fuse->calls_lock);
	LIST_INSERT_HEAD(&fuse->parked, call, link);
	s3c_mutex_unlock(&fuse->calls_lock);
	fuse_req_interrupt_func(call->req, on_interrupt, call);
	s3c_pool_submit(call->type->data ? fuse->data_pool : fuse->meta_pool, &call->job);
}

void s3c_park_interrupt_all(struct s3c_fuse *fuse)
{
	struct s3c_call *call;

	s3c_mutex_lock(&fuse->calls_lock);
	LIST_FOREACH (call, &fuse->parked, link)
		if (!call->type->store)
			s3c_op_interrupt(&call->op);
	s3c_mutex_unlock(&fuse->calls_lock);
}

void s3c_call_start(struct s3c_call *call)
{
	int r = -EINPROGRESS;

	if (!call->type->direct)
		r = call->type->run(call, S3C_NOWAIT);
	if (r == -EINPROGRESS)
		park(call);
	else
		answer(call, r);
}
