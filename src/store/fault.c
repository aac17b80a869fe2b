/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include "store/fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define FAULT_THREADS 1024 /* a stalled request holds one */

struct rule {
	STAILQ_ENTRY(rule) link;
	struct s3c_fault_rule rule;
	char *key_substring;
	unsigned passed; /* matches let through because of after */
	unsigned used;
};

struct fault_store {
	struct s3c_store base;
	struct s3c_store *inner;
	struct s3c_pool *pool;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* The rest is guarded by lock. */
	STAILQ_HEAD(, rule) rules;
	uint64_t counts[S3C_STORE_UPLOAD_ABORT + 1];
	uint64_t stalled;
	unsigned releases;
	bool closing;
};

struct fault_call {
	struct s3c_job job;
	struct fault_store *fs;
	struct s3c_store_request rq;
	s3c_store_done_fn done;
	void *arg;
	bool has_fault;
	enum s3c_fault_kind kind;
	int result;
	uint64_t offset;
	uint64_t position;     /* in the body, by the sink's calls */
	unsigned seen_release; /* releases when it was submitted */
	/* Guarded by the store's lock. */
	unsigned refs;
	bool cancelled;
	struct s3c_store_call *inner;
};

static void call_unref(struct fault_call *call)
{
	struct fault_store *fs = call->fs;
	bool last;

	pthread_mutex_lock(&fs->lock);
	last = --call->refs == 0;
	pthread_mutex_unlock(&fs->lock);
	if (!last)
		return;
	s3c_store_call_put(fs->inner, call->inner);
	free(call);
}

static void deliver(struct fault_call *call, int result)
{
	struct s3c_store_reply reply = { .result = result };

	reply.late = call->has_fault && call->kind == S3C_FAULT_STALL && result == -ETIMEDOUT;
	snprintf(reply.message, sizeof(reply.message), "operation %d %s: injected fault: %s",
		 call->rq.op, call->rq.key ? call->rq.key : "", strerror(-result));
	call->done(call->arg, &reply);
	call_unref(call);
}

static void inner_done(void *arg, struct s3c_store_reply *reply)
{
	struct fault_call *call = arg;

	if (call->has_fault && call->kind == S3C_FAULT_LOST) {
		deliver(call, call->result);
		return;
	}
	call->done(call->arg, reply);
	call_unref(call);
}

static int sink_begin(void *arg, const struct s3c_stat *st, uint64_t offset, uint64_t length,
		      uint64_t total)
{
	struct fault_call *call = arg;
	const struct s3c_store_sink *sink = &call->rq.sink;

	call->position = 0;
	return sink->begin ? sink->begin(sink->arg, st, offset, length, total) : 0;
}

static int sink_corrupt(struct fault_call *call, const char *data, size_t len)
{
	const struct s3c_store_sink *sink = &call->rq.sink;
	cleanup_free char *copy = malloc(len);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, data, len);
	copy[call->offset - call->position] ^= 1;
	call->position += len;
	return sink->data(sink->arg, copy, len);
}

static int sink_data(void *arg, const void *data, size_t len)
{
	struct fault_call *call = arg;
	const struct s3c_store_sink *sink = &call->rq.sink;
	uint64_t left;
	int r;

	if (!sink->data)
		return 0;
	if (call->offset < call->position || call->offset >= call->position + len) {
		call->position += len;
		return sink->data(sink->arg, data, len);
	}
	if (call->kind == S3C_FAULT_CORRUPT)
		return sink_corrupt(call, data, len);
	left = call->offset - call->position;
	r = left ? sink->data(sink->arg, data, (size_t)left) : 0;
	return r < 0 ? r : -ECONNRESET;
}

/* Consumes the caller's reference when it fails. */
static int pass_on(struct fault_call *call)
{
	struct fault_store *fs = call->fs;
	struct s3c_store_request rq = call->rq;
	struct s3c_store_call *inner = NULL;
	bool cancelled;
	int r;

	if (call->has_fault && (call->kind == S3C_FAULT_CORRUPT || call->kind == S3C_FAULT_CUT))
		rq.sink = (struct s3c_store_sink){ sink_begin, sink_data, call };
	pthread_mutex_lock(&fs->lock);
	fs->counts[rq.op]++;
	call->refs++; /* until inner is noted: the answer may be faster */
	pthread_mutex_unlock(&fs->lock);
	r = s3c_store_submit(fs->inner, &rq, inner_done, call, &inner);
	pthread_mutex_lock(&fs->lock);
	call->inner = inner;
	cancelled = call->cancelled;
	pthread_mutex_unlock(&fs->lock);
	if (r == 0 && cancelled)
		s3c_store_cancel(fs->inner, inner);
	call_unref(call);
	return r;
}

/* Until it is released (0), cancelled or late. */
static int stall(struct fault_call *call)
{
	struct fault_store *fs = call->fs;
	int r = -EINPROGRESS;

	pthread_mutex_lock(&fs->lock);
	fs->stalled++;
	while (r == -EINPROGRESS) {
		struct timespec until;

		if (call->cancelled || fs->closing) {
			r = -ECANCELED;
		} else if (fs->releases != call->seen_release) {
			r = 0;
		} else if (call->rq.deadline_ns &&
			   s3c_clock_monotonic_ns() >= call->rq.deadline_ns) {
			r = -ETIMEDOUT;
		} else {
			/* Wakes now and then for the deadline, which is on another clock. */
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_nsec += 10 * S3C_NSEC_PER_MSEC;
			if (until.tv_nsec >= S3C_NSEC_PER_SEC) {
				until.tv_sec++;
				until.tv_nsec -= S3C_NSEC_PER_SEC;
			}
			pthread_cond_timedwait(&fs->changed, &fs->lock, &until);
		}
	}
	pthread_mutex_unlock(&fs->lock);
	return r;
}

static void run_job(struct s3c_job *job)
{
	struct fault_call *call = container_of(job, struct fault_call, job);
	int r = call->result;

	if (call->kind == S3C_FAULT_STALL) {
		r = stall(call);
		if (r == 0)
			r = pass_on(call);
		if (r == 0)
			return;
	}
	deliver(call, r);
}

static bool key_matches(const struct rule *rule, const struct s3c_store_request *rq)
{
	if (!rule->key_substring)
		return true;
	if (rq->op == S3C_STORE_LIST)
		return rq->prefix && strstr(rq->prefix, rule->key_substring);
	if (rq->op != S3C_STORE_DELETE_MANY)
		return strstr(rq->key, rule->key_substring) != NULL;
	for (size_t i = 0; i < rq->key_count; i++)
		if (strstr(rq->keys[i], rule->key_substring))
			return true;
	return false;
}

static void choose_fault_locked(struct fault_store *fs, struct fault_call *call)
{
	struct rule *rule;

	STAILQ_FOREACH (rule, &fs->rules, link) {
		if (rule->rule.op != call->rq.op || !key_matches(rule, &call->rq))
			continue;
		if (rule->passed < rule->rule.after) {
			rule->passed++;
			continue;
		}
		if (rule->rule.times && rule->used >= rule->rule.times)
			continue;
		rule->used++;
		call->has_fault = true;
		call->kind = rule->rule.kind;
		call->result = rule->rule.result < 0 ? rule->rule.result : -EIO;
		call->offset = rule->rule.offset;
		return;
	}
}

static int fault_submit(struct s3c_store *store, const struct s3c_store_request *request,
			s3c_store_done_fn done, void *arg, struct s3c_store_call **ret_call)
{
	struct fault_store *fs = container_of(store, struct fault_store, base);
	struct fault_call *call = calloc(1, sizeof(*call));
	bool closing;
	int r;

	if (!call)
		return -ENOMEM;
	call->job.run = run_job;
	call->fs = fs;
	call->rq = *request;
	call->done = done;
	call->arg = arg;
	call->refs = 1 + (ret_call != NULL);
	pthread_mutex_lock(&fs->lock);
	closing = fs->closing;
	call->seen_release = fs->releases;
	if (!closing)
		choose_fault_locked(fs, call);
	pthread_mutex_unlock(&fs->lock);
	if (closing) {
		free(call);
		return -ECANCELED;
	}
	if (ret_call)
		*ret_call = (struct s3c_store_call *)call;
	if (call->has_fault && (call->kind == S3C_FAULT_FAIL || call->kind == S3C_FAULT_STALL)) {
		s3c_pool_submit(fs->pool, &call->job);
		return 0;
	}
	r = pass_on(call);
	if (r < 0) {
		if (ret_call) {
			*ret_call = NULL;
			call_unref(call);
		}
		call_unref(call);
	}
	return r;
}

static void fault_cancel(struct s3c_store *store, struct s3c_store_call *handle)
{
	struct fault_store *fs = container_of(store, struct fault_store, base);
	struct fault_call *call = (struct fault_call *)handle;
	struct s3c_store_call *inner;

	pthread_mutex_lock(&fs->lock);
	call->cancelled = true;
	inner = call->inner;
	pthread_cond_broadcast(&fs->changed);
	pthread_mutex_unlock(&fs->lock);
	if (inner)
		s3c_store_cancel(fs->inner, inner);
}

static void fault_call_put(struct s3c_store *store, struct s3c_store_call *handle)
{
	(void)store;
	call_unref((struct fault_call *)handle);
}

static void fault_free(struct s3c_store *store)
{
	struct fault_store *fs = container_of(store, struct fault_store, base);

	pthread_mutex_lock(&fs->lock);
	fs->closing = true;
	pthread_cond_broadcast(&fs->changed);
	pthread_mutex_unlock(&fs->lock);
	s3c_pool_free(fs->pool);
	s3c_store_free(fs->inner);
	s3c_store_fault_clear(store);
	pthread_cond_destroy(&fs->changed);
	pthread_mutex_destroy(&fs->lock);
	free(fs);
}

static const struct s3c_store_ops fault_ops = {
	.name = "fault",
	.submit = fault_submit,
	.cancel = fault_cancel,
	.call_put = fault_call_put,
	.free = fault_free,
};

int s3c_store_fault_new(struct s3c_store *inner, struct s3c_store **ret_store)
{
	struct fault_store *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs) {
		s3c_store_free(inner);
		return -ENOMEM;
	}
	fs->base = *inner;
	fs->base.ops = &fault_ops;
	fs->inner = inner;
	STAILQ_INIT(&fs->rules);
	pthread_mutex_init(&fs->lock, NULL);
	pthread_cond_init(&fs->changed, NULL);
	r = s3c_pool_new("s3c-fault", 0, FAULT_THREADS, &fs->pool);
	if (r < 0) {
		fault_free(&fs->base);
		return r;
	}
	*ret_store = &fs->base;
	return 0;
}

int s3c_store_fault_add(struct s3c_store *store, const struct s3c_fault_rule *rule)
{
	struct fault_store *fs = container_of(store, struct fault_store, base);
	struct rule *copy = calloc(1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	copy->rule = *rule;
	if (rule->key_substring) {
		copy->key_substring = strdup(rule->key_substring);
		if (!copy->key_substring) {
			free(copy);
			return -ENOMEM;
		}
	}
	pthread_mutex_lock(&fs->lock);
	STAILQ_INSERT_TAIL(&fs->rules, copy, link);
	pthread_mutex_unlock(&fs->lock);
	return 0;
}

void s3c_store_fault_clear(struct s3c_store *store)
{
	struct fault_store *fs = container_of(store, struct fault_store, base);
	struct rule *rule;

	pthread_mutex_lock(&fs->lock);
	while ((rule = STAILQ_FIRST(&fs->rules))) {
		STAILQ_REMOVE_HEAD(&fs->rules, link);
		free(rule->key_substring);
		free(rule);
	}
	pthread_mutex_unlock(&fs->lock);
}

void s3c_store_fault_release(struct s3c_store *store)
{
	struct fault_store *fs = container_of(store, struct fault_store, base);

	pthread_mutex_lock(&fs->lock);
	fs->releases++;
	pthread_cond_broadcast(&fs->changed);
	pthread_mutex_unlock(&fs->lock);
}

uint64_t s3c_store_fault_stalled(struct s3c_store *store)
{
	struct fault_store *fs = container_of(store, struct fault_store, base);
	uint64_t stalled;

	pthread_mutex_lock(&fs->lock);
	stalled = fs->stalled;
	pthread_mutex_unlock(&fs->lock);
	return stalled;
}

uint64_t s3c_store_fault_count(struct s3c_store *store, enum s3c_store_opcode op)
{
	struct fault_store *fs = container_of(store, struct fault_store, base);
	uint64_t count;

	pthread_mutex_lock(&fs->lock);
	count = fs->counts[op];
	pthread_mutex_unlock(&fs->lock);
	return count;
}
