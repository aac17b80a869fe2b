/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * States of an operation (guarded by op->lock)
 *   running      interrupted = false; on_interrupt may be set
 *   cancelling   interrupted = true, hook_running = true: hook_thread is in the hook
 *   interrupted  interrupted = true, hook_running = false; final
 * on_interrupt is NULL in the last two. "Past its deadline" is no stored state: the clock says it.
 *
 * States of a waiter (on the stack of the thread that waits)
 *   queued       in waitq->waiters, woken = false
 *   woken        in no queue, woken = true; final
 * A waker changes woken with the queue's mutex and, if there is one, the op's lock held: holding
 * either is enough to read it. The waiter takes the mutex before it returns, therefore neither it
 * nor its op is gone while a waker uses them. A wake-up that meets an interruption or a deadline
 * counts as a wake-up: otherwise one that was meant for a single waiter would be lost.
 *
 * States of a thread of a pool (guarded by pool->lock)
 *   busy         runs a job, or is about to look into the queue
 *   idle         in pool->idle; the queue is empty
 *   ended        pool->ended holds it, or its successor joins it
 * No thread is idle while a job is queued, but for those that were woken and have not run yet.
 */
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/util.h"

#define POOL_IDLE_MS 10000
#define THREAD_NAME_MAX 16 /* with the NUL; the kernel's limit */

/* For calls that fail by a bug alone. */
static void must(int r, const char *what)
{
	if (r) {
		errno = r;
		s3c_error("%s: %m", what);
		abort();
	}
}

static void cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	must(pthread_condattr_init(&attr), "pthread_condattr_init");
	must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC), "pthread_condattr_setclock");
	must(pthread_cond_init(cond, &attr), "pthread_cond_init");
	pthread_condattr_destroy(&attr);
}

/* False: the deadline has passed. */
static bool cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline_ns)
{
	struct timespec ts;

	if (deadline_ns == INT64_MAX) {
		pthread_cond_wait(cond, mutex);
		return true;
	}
	if (deadline_ns <= 0)
		return false;
	ts.tv_sec = (time_t)(deadline_ns / S3C_NSEC_PER_SEC);
	ts.tv_nsec = (long)(deadline_ns % S3C_NSEC_PER_SEC);
	return pthread_cond_timedwait(cond, mutex, &ts) != ETIMEDOUT;
}

/* They are held for microseconds: to spin a little costs less than to sleep. */
static void mutex_init(pthread_mutex_t *mutex)
{
	pthread_mutexattr_t attr;

	must(pthread_mutexattr_init(&attr), "pthread_mutexattr_init");
	must(pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP),
	     "pthread_mutexattr_settype");
	must(pthread_mutex_init(mutex, &attr), "pthread_mutex_init");
	pthread_mutexattr_destroy(&attr);
}

void s3c_mutex_init(struct s3c_mutex *m)
{
	memset(m, 0, sizeof(*m));
	mutex_init(&m->mutex);
}

void s3c_mutex_destroy(struct s3c_mutex *m)
{
	must(pthread_mutex_destroy(&m->mutex), "pthread_mutex_destroy");
}

/*
 * assert_held may be called by a thread that does not hold the mutex, hence the atomics. Such a
 * thread cannot see itself as the owner: it wrote held = false last, and a true that it reads
 * since came with the owner that was stored before.
 */
static void set_held(struct s3c_mutex *m)
{
	__atomic_store_n(&m->owner, pthread_self(), __ATOMIC_RELAXED);
	__atomic_store_n(&m->held, true, __ATOMIC_RELEASE);
}

static void clear_held(struct s3c_mutex *m)
{
	s3c_mutex_assert_held(m);
	__atomic_store_n(&m->held, false, __ATOMIC_RELAXED);
}

void s3c_mutex_lock(struct s3c_mutex *m)
{
	must(pthread_mutex_lock(&m->mutex), "pthread_mutex_lock");
	set_held(m);
}

void s3c_mutex_unlock(struct s3c_mutex *m)
{
	clear_held(m);
	must(pthread_mutex_unlock(&m->mutex), "pthread_mutex_unlock");
}

void s3c_mutex_assert_held(const struct s3c_mutex *m)
{
	if (__atomic_load_n(&m->held, __ATOMIC_ACQUIRE) &&
	    pthread_equal(__atomic_load_n(&m->owner, __ATOMIC_RELAXED), pthread_self()))
		return;
	s3c_error("a lock is not held where it must be: this is a bug, stopping");
	abort();
}

struct start {
	void *(*fn)(void *arg);
	void *arg;
	char name[THREAD_NAME_MAX];
};

static void *start_thread(void *p)
{
	struct start start = *(struct start *)p;

	free(p);
	/* Here and not by the maker: the thread may be over and joined before that gets to it. */
	pthread_setname_np(pthread_self(), start.name);
	return start.fn(start.arg);
}

int s3c_thread_start(pthread_t *ret_thread, const char *name, void *(*fn)(void *), void *arg)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS };
	struct start *start = calloc(1, sizeof(*start));
	sigset_t all, old;
	pthread_t thread;
	int r;

	if (!start)
		return -ENOMEM;
	start->fn = fn;
	start->arg = arg;
	memcpy(start->name, name, strnlen(name, THREAD_NAME_MAX - 1));

	sigfillset(&all);
	for (size_t i = 0; i < ARRAY_LEN(faults); i++)
		sigdelset(&all, faults[i]);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, NULL, start_thread, start);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		free(start);
		return -r;
	}
	*ret_thread = thread;
	return 0;
}

void s3c_op_init(struct s3c_op *op, int64_t deadline_ns)
{
	memset(op, 0, sizeof(*op));
	op->deadline_ns = deadline_ns;
	mutex_init(&op->lock);
	cond_init(&op->cond);
}

void s3c_op_destroy(struct s3c_op *op)
{
	pthread_cond_destroy(&op->cond);
	must(pthread_mutex_destroy(&op->lock), "pthread_mutex_destroy");
}

void s3c_op_interrupt(struct s3c_op *op)
{
	void (*fn)(void *arg);
	void *arg;

	pthread_mutex_lock(&op->lock);
	if (op->interrupted) {
		pthread_mutex_unlock(&op->lock);
		return;
	}
	op->interrupted = true;
	fn = steal_ptr(op->on_interrupt);
	arg = op->on_interrupt_arg;
	if (fn) {
		op->hook_running = true;
		op->hook_thread = pthread_self();
	}
	pthread_cond_broadcast(&op->cond);
	pthread_mutex_unlock(&op->lock);

	if (!fn)
		return;
	fn(arg);
	pthread_mutex_lock(&op->lock);
	op->hook_running = false;
	pthread_cond_broadcast(&op->cond);
	pthread_mutex_unlock(&op->lock);
}

bool s3c_op_interrupted(struct s3c_op *op)
{
	bool interrupted;

	pthread_mutex_lock(&op->lock);
	interrupted = op->interrupted;
	pthread_mutex_unlock(&op->lock);
	return interrupted;
}

int s3c_op_set_interrupt_hook(struct s3c_op *op, void (*fn)(void *arg), void *arg)
{
	int r = 0;

	pthread_mutex_lock(&op->lock);
	/* The hook itself may take itself away; it would wait for its own end. */
	while (op->hook_running && !pthread_equal(op->hook_thread, pthread_self()))
		pthread_cond_wait(&op->cond, &op->lock);
	if (fn && op->interrupted) {
		r = -EINTR;
	} else {
		op->on_interrupt = fn;
		op->on_interrupt_arg = arg;
	}
	pthread_mutex_unlock(&op->lock);
	return r;
}

struct s3c_waiter {
	TAILQ_ENTRY(s3c_waiter) link;
	struct s3c_op *op; /* NULL: cond is the condition, used with the queue's mutex */
	pthread_cond_t cond;
	bool woken;
};

void s3c_waitq_init(struct s3c_waitq *q)
{
	TAILQ_INIT(&q->waiters);
}

bool s3c_waitq_empty(const struct s3c_waitq *q)
{
	return TAILQ_EMPTY(&q->waiters);
}

static void wait_plain(struct s3c_waitq *q, struct s3c_mutex *m)
{
	struct s3c_waiter w = { .op = NULL };

	cond_init(&w.cond);
	TAILQ_INSERT_TAIL(&q->waiters, &w, link);
	while (!w.woken) {
		clear_held(m);
		pthread_cond_wait(&w.cond, &m->mutex);
		set_held(m);
	}
	pthread_cond_destroy(&w.cond);
}

/* until_ns: of this wait, not after the op's deadline. */
static int wait_for(struct s3c_waitq *q, struct s3c_mutex *m, struct s3c_op *op, int64_t until_ns)
{
	struct s3c_waiter w = { .op = op };
	bool in_time = true;
	int r;

	/* Looked at before the first wait: wake-ups in a row cannot keep an operation alive. */
	if (until_ns != INT64_MAX && s3c_clock_monotonic_ns() >= until_ns)
		return s3c_op_interrupted(op) ? -EINTR : -ETIMEDOUT;

	pthread_mutex_lock(&op->lock);
	if (op->interrupted) {
		pthread_mutex_unlock(&op->lock);
		return -EINTR;
	}
	TAILQ_INSERT_TAIL(&q->waiters, &w, link);
	s3c_mutex_unlock(m);
	while (!w.woken && !op->interrupted && in_time)
		in_time = cond_wait_until(&op->cond, &op->lock, until_ns);
	r = op->interrupted ? -EINTR : -ETIMEDOUT;
	pthread_mutex_unlock(&op->lock);

	s3c_mutex_lock(m);
	if (w.woken)
		return 0;
	TAILQ_REMOVE(&q->waiters, &w, link);
	return r;
}

int s3c_waitq_wait(struct s3c_waitq *q, struct s3c_mutex *m, struct s3c_op *op)
{
	s3c_mutex_assert_held(m);
	if (op)
		return wait_for(q, m, op, op->deadline_ns);
	wait_plain(q, m);
	return 0;
}

int s3c_waitq_wait_until(struct s3c_waitq *q, struct s3c_mutex *m, struct s3c_op *op,
			 int64_t until_ns)
{
	struct s3c_op own;
	int r;

	if (until_ns == INT64_MAX)
		return s3c_waitq_wait(q, m, op);
	s3c_mutex_assert_held(m);
	if (op) {
		r = wait_for(q, m, op, S3C_MIN(until_ns, op->deadline_ns));
		return r == -ETIMEDOUT && until_ns < op->deadline_ns ? -EAGAIN : r;
	}
	s3c_op_init(&own, until_ns);
	r = wait_for(q, m, &own, until_ns);
	s3c_op_destroy(&own);
	return r == -ETIMEDOUT ? -EAGAIN : r;
}

void s3c_waitq_wake_one(struct s3c_waitq *q)
{
	struct s3c_waiter *w = TAILQ_FIRST(&q->waiters);

	if (!w)
		return;
	TAILQ_REMOVE(&q->waiters, w, link);
	if (!w->op) {
		w->woken = true;
		pthread_cond_signal(&w->cond);
		return;
	}
	pthread_mutex_lock(&w->op->lock);
	w->woken = true;
	pthread_mutex_unlock(&w->op->lock);
	/* Unlocked: who is woken would only wait for it. All: several threads may wait on behalf of
	   one operation. */
	pthread_cond_broadcast(&w->op->cond);
}

void s3c_waitq_wake_all(struct s3c_waitq *q)
{
	while (!TAILQ_EMPTY(&q->waiters))
		s3c_waitq_wake_one(q);
}

/* An idle thread, on its own stack. */
struct idler {
	LIST_ENTRY(idler) link;
	pthread_cond_t cond; /* used with pool->lock */
	bool woken;          /* and in no list */
};

struct s3c_pool {
	char name[THREAD_NAME_MAX];
	unsigned min, max;

	pthread_mutex_t lock;
	/* All below is guarded by lock. */
	pthread_cond_t gone; /* threads has become 0 */
	STAILQ_HEAD(, s3c_job) jobs;
	/* The last one to become idle is the first to be woken, so that the others can end. */
	LIST_HEAD(, idler) idle;
	unsigned threads; /* with those that are being started */
	unsigned idle_ms;
	bool stopping;
	/* The last thread that ended, not joined yet: whoever ends next joins it. */
	bool have_ended;
	pthread_t ended;
};

/* Called and left with the lock held. False: the thread has to end. */
static bool pool_idle(struct s3c_pool *pool)
{
	struct idler me = { .woken = false };
	int64_t deadline = INT64_MAX;
	bool in_time = true;

	/* Those that stay need no timer. */
	if (pool->threads > pool->min)
		deadline = s3c_clock_monotonic_ns() + pool->idle_ms * S3C_NSEC_PER_MSEC;
	cond_init(&me.cond);
	LIST_INSERT_HEAD(&pool->idle, &me, link);
	while (!me.woken && in_time)
		in_time = cond_wait_until(&me.cond, &pool->lock, deadline);
	if (!me.woken)
		LIST_REMOVE(&me, link);
	pthread_cond_destroy(&me.cond);
	return me.woken || pool->threads <= pool->min;
}

static void pool_wake_idle(struct idler *idler)
{
	LIST_REMOVE(idler, link);
	idler->woken = true;
	pthread_cond_signal(&idler->cond);
}

static void *pool_thread(void *arg)
{
	struct s3c_pool *pool = arg;
	bool have_before;
	pthread_t before;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		struct s3c_job *job = STAILQ_FIRST(&pool->jobs);

		if (job) {
			STAILQ_REMOVE_HEAD(&pool->jobs, link);
			pthread_mutex_unlock(&pool->lock);
			job->run(job); /* which may free it */
			pthread_mutex_lock(&pool->lock);
		} else if (pool->stopping || !pool_idle(pool)) {
			break;
		}
	}
	have_before = pool->have_ended;
	before = pool->ended;
	pool->have_ended = true;
	pool->ended = pthread_self();
	if (--pool->threads == 0)
		pthread_cond_signal(&pool->gone);
	pthread_mutex_unlock(&pool->lock);
	/* The pool may be gone from here on. */
	if (have_before)
		pthread_join(before, NULL);
	return NULL;
}

/* The caller has counted the thread already. */
static int pool_start(struct s3c_pool *pool)
{
	pthread_t thread;
	int r = s3c_thread_start(&thread, pool->name, pool_thread, pool);

	if (r < 0) {
		pthread_mutex_lock(&pool->lock);
		if (--pool->threads == 0)
			pthread_cond_signal(&pool->gone);
		pthread_mutex_unlock(&pool->lock);
	}
	return r;
}

int s3c_pool_new(const char *name, unsigned min, unsigned max, struct s3c_pool **ret_pool)
{
	struct s3c_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	memcpy(pool->name, name, strnlen(name, THREAD_NAME_MAX - 1));
	/* One at least: a job must find a thread even when no more can be made. */
	pool->min = S3C_MAX(min, 1u);
	pool->max = S3C_MAX(max, pool->min);
	pool->idle_ms = POOL_IDLE_MS;
	mutex_init(&pool->lock);
	cond_init(&pool->gone);
	STAILQ_INIT(&pool->jobs);
	LIST_INIT(&pool->idle);

	for (unsigned i = 0; i < pool->min; i++) {
		int r;

		pthread_mutex_lock(&pool->lock);
		pool->threads++;
		pthread_mutex_unlock(&pool->lock);
		r = pool_start(pool);
		if (r < 0) {
			s3c_pool_free(pool);
			return r;
		}
	}
	*ret_pool = pool;
	return 0;
}

void s3c_pool_submit(struct s3c_pool *pool, struct s3c_job *job)
{
	struct idler *idler;
	bool start = false;

	pthread_mutex_lock(&pool->lock);
	STAILQ_INSERT_TAIL(&pool->jobs, job, link);
	idler = LIST_FIRST(&pool->idle);
	if (idler) {
		pool_wake_idle(idler);
	} else if (pool->threads < pool->max) {
		pool->threads++;
		start = true;
	}
	pthread_mutex_unlock(&pool->lock);
	/* A failure is no matter: the threads that exist are all busy and look into the queue. */
	if (start)
		pool_start(pool);
}

void s3c_pool_set_idle_ms(struct s3c_pool *pool, unsigned idle_ms)
{
	pthread_mutex_lock(&pool->lock);
	pool->idle_ms = idle_ms;
	pthread_mutex_unlock(&pool->lock);
}

unsigned s3c_pool_threads(struct s3c_pool *pool)
{
	unsigned threads;

	pthread_mutex_lock(&pool->lock);
	threads = pool->threads;
	pthread_mutex_unlock(&pool->lock);
	return threads;
}

void s3c_pool_free(struct s3c_pool *pool)
{
	struct idler *idler;

	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	while ((idler = LIST_FIRST(&pool->idle)))
		pool_wake_idle(idler);
	while (pool->threads)
		pthread_cond_wait(&pool->gone, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
	/* Each has joined the one before. */
	if (pool->have_ended)
		pthread_join(pool->ended, NULL);
	pthread_cond_destroy(&pool->gone);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
