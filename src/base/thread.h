/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Threads: mutexes that know their owner, operations that can be interrupted,
 * queues of waiters, and a pool of threads.
 *
 * Waiting. Everything that waits for something that may take long (a reply of
 * the store, memory, another operation) waits on a struct s3c_waitq that is
 * guarded by the mutex of the data it is about, and does so on behalf of a
 * struct s3c_op: the operation's deadline and its interruption end the wait.
 * A waitq never loses a wake-up: the waiter is enqueued under the mutex.
 * Lock order: any mutex may be held when a waitq is woken; the op's own lock is
 * innermost and private to this file.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct s3c_mutex {
	pthread_mutex_t mutex;
	pthread_t owner; /* valid while held */
	bool held;       /* written by the owner only; both are read with atomics by assert_held */
};

void s3c_mutex_init(struct s3c_mutex *m);
void s3c_mutex_destroy(struct s3c_mutex *m);
void s3c_mutex_lock(struct s3c_mutex *m);
void s3c_mutex_unlock(struct s3c_mutex *m);
/* Ends the process when the calling thread does not hold m: a bug that would corrupt data. */
void s3c_mutex_assert_held(const struct s3c_mutex *m);

/*
 * Starts a joinable thread with all signals blocked but those that report faults of its own
 * (SIGSEGV, ...); name is cut to 15 bytes. 0 or -errno.
 */
int s3c_thread_start(pthread_t *ret_thread, const char *name, void *(*fn)(void *), void *arg);

/*
 * One operation: what a program asked for, until it is answered.
 * States: running -> (interrupted | past its deadline), both of which are final.
 */
struct s3c_op {
	int64_t deadline_ns; /* monotonic; INT64_MAX: none. Constant after init */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool signaled;    /* unused: each waiter has a flag of its own */
	bool interrupted; /* guarded by lock */
	/* Called once, from the interrupting thread, without the lock; NULL: none. Guarded by lock.
	 */
	void (*on_interrupt)(void *arg);
	void *on_interrupt_arg;
	bool hook_running;     /* guarded by lock: on_interrupt is being called ... */
	pthread_t hook_thread; /* ... by this thread */
};

void s3c_op_init(struct s3c_op *op, int64_t deadline_ns);
void s3c_op_destroy(struct s3c_op *op);
/* Ends the present and every later wait of this operation with -EINTR. From any thread. */
void s3c_op_interrupt(struct s3c_op *op);
bool s3c_op_interrupted(struct s3c_op *op);
/*
 * Sets what an interruption calls besides (cancelling a request); NULL takes it away. When the op
 * is interrupted already, fn is not called and -EINTR is returned. After taking it away no call
 * is running: that may wait for one, so hold no lock that fn takes. fn itself may take itself away.
 */
int s3c_op_set_interrupt_hook(struct s3c_op *op, void (*fn)(void *arg), void *arg);

struct s3c_waiter;
struct s3c_waitq {
	TAILQ_HEAD(, s3c_waiter) waiters; /* guarded by the mutex that callers pass */
};

void s3c_waitq_init(struct s3c_waitq *q);
/*
 * Waits until woken; m is held on entry and on return, released between. 0: woken (look again, it
 * may not be true yet), -EINTR, -ETIMEDOUT (the op's deadline). op NULL: neither can happen.
 * Several threads may wait on behalf of one op. Without m being released: an op that was
 * interrupted or is late on entry.
 */
int s3c_waitq_wait(struct s3c_waitq *q, struct s3c_mutex *m, struct s3c_op *op);
/* Likewise, and not later than until_ns (monotonic; INT64_MAX: no such time): -EAGAIN then. */
int s3c_waitq_wait_until(struct s3c_waitq *q, struct s3c_mutex *m, struct s3c_op *op,
			 int64_t until_ns);
/* Wakes all or the first; the mutex is held. */
void s3c_waitq_wake_all(struct s3c_waitq *q);
void s3c_waitq_wake_one(struct s3c_waitq *q);
bool s3c_waitq_empty(const struct s3c_waitq *q);

/*
 * An elastic pool: a job that may wait gets a thread; threads are made while all are busy, up to
 * max, and end after idle_ms without work (min stay, one at least; 10 s unless set otherwise).
 * Past max, jobs queue in order. A job may submit others and may free itself.
 */
struct s3c_pool;
struct s3c_job {
	STAILQ_ENTRY(s3c_job) link; /* the pool's while queued */
	void (*run)(struct s3c_job *job);
};

int s3c_pool_new(const char *name, unsigned min, unsigned max, struct s3c_pool **ret_pool);
/* Never fails and never waits: when no thread can be made the job waits for one that exists. */
void s3c_pool_submit(struct s3c_pool *pool, struct s3c_job *job);
/* Holds for threads that become idle from now on. */
void s3c_pool_set_idle_ms(struct s3c_pool *pool, unsigned idle_ms);
/* Threads that exist at this moment. */
unsigned s3c_pool_threads(struct s3c_pool *pool);
/*
 * Runs what is queued, joins all threads, frees. No submit may come after, but from jobs that are
 * still running. NULL is legal.
 */
void s3c_pool_free(struct s3c_pool *pool);
