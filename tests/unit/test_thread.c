/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "base/util.h"

#define MS S3C_NSEC_PER_MSEC

/* What the tests wait for comes in microseconds; this is for a machine that is busy. */
#define PATIENCE_MS 20000

static void sleep_ms(unsigned ms)
{
	usleep(ms * 1000);
}

static int load(int *counter)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static void add(int *counter, int n)
{
	__atomic_add_fetch(counter, n, __ATOMIC_SEQ_CST);
}

static void await(int *counter, int want)
{
	for (int i = 0; load(counter) != want; i++) {
		assert_true(i < PATIENCE_MS);
		sleep_ms(1);
	}
}

/* Threads that wait on a queue until a number of tokens is there for them. */
struct scene {
	struct s3c_mutex m;
	struct s3c_waitq q;
	int tokens;  /* guarded by m */
	int waiting; /* guarded by m */
	int done;    /* atomic */
};

struct actor {
	struct scene *scene;
	struct s3c_op *op;
	pthread_t thread;
	int result;
};

static void scene_init(struct scene *s)
{
	memset(s, 0, sizeof(*s));
	s3c_mutex_init(&s->m);
	s3c_waitq_init(&s->q);
}

static void scene_end(struct scene *s)
{
	assert_true(s3c_waitq_empty(&s->q));
	s3c_mutex_destroy(&s->m);
}

static void *act(void *arg)
{
	struct actor *a = arg;
	struct scene *s = a->scene;
	int r = 0;

	s3c_mutex_lock(&s->m);
	s->waiting++;
	while (!s->tokens && r == 0) {
		r = s3c_waitq_wait(&s->q, &s->m, a->op);
		s3c_mutex_assert_held(&s->m);
	}
	if (r == 0)
		s->tokens--;
	s->waiting--;
	s3c_mutex_unlock(&s->m);
	a->result = r;
	add(&s->done, 1);
	return NULL;
}

static void actor_start(struct actor *a, struct scene *s, struct s3c_op *op)
{
	a->scene = s;
	a->op = op;
	a->result = 1;
	assert_int_equal(s3c_thread_start(&a->thread, "actor", act, a), 0);
}

static int actor_join(struct actor *a)
{
	pthread_join(a->thread, NULL);
	return a->result;
}

static void await_waiting(struct scene *s, int want)
{
	for (int i = 0;; i++) {
		int n;

		s3c_mutex_lock(&s->m);
		n = s->waiting;
		s3c_mutex_unlock(&s->m);
		if (n == want)
			return;
		assert_true(i < PATIENCE_MS);
		sleep_ms(1);
	}
}

static void give(struct scene *s, int tokens, bool all)
{
	s3c_mutex_lock(&s->m);
	s->tokens += tokens;
	if (all)
		s3c_waitq_wake_all(&s->q);
	else
		s3c_waitq_wake_one(&s->q);
	s3c_mutex_unlock(&s->m);
}

static void waitq_wakes(void **state)
{
	struct actor actors[6];
	struct s3c_op ops[6];
	struct scene s;

	(void)state;
	scene_init(&s);
	assert_true(s3c_waitq_empty(&s.q));
	give(&s, 0, false); /* nobody there */
	/* Half of them without an operation. */
	for (int i = 0; i < 6; i++) {
		s3c_op_init(&ops[i], i % 4 == 1 ? s3c_deadline_after(100) : INT64_MAX);
		actor_start(&actors[i], &s, i % 2 ? &ops[i] : NULL);
		await_waiting(&s, i + 1);
	}
	s3c_mutex_lock(&s.m);
	assert_false(s3c_waitq_empty(&s.q));
	s3c_mutex_unlock(&s.m);

	/* The first come is the first woken, and nobody else. */
	give(&s, 1, false);
	assert_int_equal(actor_join(&actors[0]), 0);
	give(&s, 1, false);
	assert_int_equal(actor_join(&actors[1]), 0);
	sleep_ms(5);
	assert_int_equal(load(&s.done), 2);
	give(&s, 4, true);
	for (int i = 2; i < 6; i++)
		assert_int_equal(actor_join(&actors[i]), 0);
	for (int i = 0; i < 6; i++)
		s3c_op_destroy(&ops[i]);
	scene_end(&s);
}

static void waitq_interrupted(void **state)
{
	struct actor a, b, c;
	struct s3c_op op, other;
	struct scene s;

	(void)state;
	scene_init(&s);
	s3c_op_init(&op, INT64_MAX);
	s3c_op_init(&other, INT64_MAX);
	/* Two threads wait on behalf of one operation; a third one is not concerned. */
	actor_start(&a, &s, &op);
	actor_start(&b, &s, &other);
	actor_start(&c, &s, &op);
	await_waiting(&s, 3);
	assert_false(s3c_op_interrupted(&op));
	s3c_op_interrupt(&op);
	assert_int_equal(actor_join(&a), -EINTR);
	assert_int_equal(actor_join(&c), -EINTR);
	assert_true(s3c_op_interrupted(&op));
	s3c_op_interrupt(&op);

	/* Every later wait ends as well, at once. */
	s3c_mutex_lock(&s.m);
	assert_int_equal(s3c_waitq_wait(&s.q, &s.m, &op), -EINTR);
	s3c_mutex_assert_held(&s.m);
	s3c_mutex_unlock(&s.m);

	assert_int_equal(load(&s.done), 2);
	give(&s, 1, false);
	assert_int_equal(actor_join(&b), 0);
	s3c_op_destroy(&op);
	s3c_op_destroy(&other);
	scene_end(&s);
}

static void waitq_deadline(void **state)
{
	int64_t begin = s3c_clock_monotonic_ns(), end;
	struct s3c_op op;
	struct scene s;

	(void)state;
	scene_init(&s);
	s3c_op_init(&op, begin + 50 * MS);
	s3c_mutex_lock(&s.m);
	assert_int_equal(s3c_waitq_wait(&s.q, &s.m, &op), -ETIMEDOUT);
	end = s3c_clock_monotonic_ns();
	assert_true(end - begin >= 50 * MS);
	assert_true(end - begin < PATIENCE_MS * MS);
	assert_true(s3c_waitq_empty(&s.q));
	assert_int_equal(s3c_waitq_wait(&s.q, &s.m, &op), -ETIMEDOUT);
	s3c_op_interrupt(&op);
	assert_int_equal(s3c_waitq_wait(&s.q, &s.m, &op), -EINTR);
	s3c_mutex_unlock(&s.m);
	s3c_op_destroy(&op);

	s3c_op_init(&op, 0);
	s3c_mutex_lock(&s.m);
	assert_int_equal(s3c_waitq_wait(&s.q, &s.m, &op), -ETIMEDOUT);
	s3c_mutex_unlock(&s.m);
	s3c_op_destroy(&op);
	scene_end(&s);
}

/* Both happen while the mutex keeps the waiter from returning: the wake-up must not be lost. */
static void waitq_until(void **state)
{
	int64_t begin, soon, late;
	struct scene s;
	struct s3c_op op;

	(void)state;
	scene_init(&s);
	s3c_mutex_lock(&s.m);
	begin = s3c_clock_monotonic_ns();
	soon = begin + 20 * S3C_NSEC_PER_MSEC;
	late = begin + 3600 * S3C_NSEC_PER_SEC;
	assert_int_equal(s3c_waitq_wait_until(&s.q, &s.m, NULL, soon), -EAGAIN);
	assert_true(s3c_clock_monotonic_ns() >= soon);
	s3c_op_init(&op, late);
	soon = s3c_clock_monotonic_ns() + 20 * S3C_NSEC_PER_MSEC;
	assert_int_equal(s3c_waitq_wait_until(&s.q, &s.m, &op, soon), -EAGAIN);
	assert_true(s3c_clock_monotonic_ns() >= soon);
	assert_true(s3c_waitq_empty(&s.q));
	s3c_op_interrupt(&op);
	assert_int_equal(s3c_waitq_wait_until(&s.q, &s.m, &op, late), -EINTR);
	assert_int_equal(s3c_waitq_wait_until(&s.q, &s.m, &op, INT64_MAX), -EINTR);
	s3c_op_destroy(&op);
	/* The operation's own end is another answer. */
	s3c_op_init(&op, s3c_clock_monotonic_ns() + 20 * S3C_NSEC_PER_MSEC);
	assert_int_equal(s3c_waitq_wait_until(&s.q, &s.m, &op, late), -ETIMEDOUT);
	s3c_op_destroy(&op);
	s3c_mutex_unlock(&s.m);
	scene_end(&s);
}

static void waitq_wake_beats_interrupt(void **state)
{
	struct actor first, second;
	struct s3c_op op;
	struct scene s;

	(void)state;
	scene_init(&s);
	s3c_op_init(&op, INT64_MAX);
	actor_start(&first, &s, &op);
	await_waiting(&s, 1);
	actor_start(&second, &s, NULL);
	await_waiting(&s, 2);
	s3c_mutex_lock(&s.m);
	s3c_op_interrupt(&op);
	sleep_ms(5);
	s.tokens++;
	s3c_waitq_wake_one(&s.q);
	s3c_mutex_unlock(&s.m);
	assert_int_equal(actor_join(&first), 0);
	give(&s, 1, false);
	assert_int_equal(actor_join(&second), 0);
	s3c_op_destroy(&op);
	scene_end(&s);
}

enum { STRESS_ACTORS = 12, STRESS_ROUNDS = 300 };

/* Tokens are neither lost nor doubled while waits end in all ways at once. */
static void *stress(void *arg)
{
	struct actor *a = arg;
	struct scene *s = a->scene;
	unsigned seed = (unsigned)(uintptr_t)a;

	for (int i = 0; i < STRESS_ROUNDS; i++) {
		struct s3c_op op;
		int r = 0;

		s3c_op_init(&op, s3c_clock_monotonic_ns() + (rand_r(&seed) % 400) * 1000);
		s3c_mutex_lock(&s->m);
		while (!s->tokens && r == 0)
			r = s3c_waitq_wait(&s->q, &s->m, i % 3 ? &op : NULL);
		if (r == 0)
			s->tokens--;
		s3c_mutex_unlock(&s->m);
		if (r == 0) {
			s3c_mutex_lock(&s->m);
			s->tokens++;
			s3c_waitq_wake_one(&s->q);
			s3c_mutex_unlock(&s->m);
		} else {
			assert_int_equal(r, -ETIMEDOUT);
		}
		s3c_op_destroy(&op);
	}
	return NULL;
}

static void waitq_stress(void **state)
{
	struct actor actors[STRESS_ACTORS];
	struct scene s;

	(void)state;
	scene_init(&s);
	s.tokens = 2;
	for (int i = 0; i < STRESS_ACTORS; i++) {
		actors[i].scene = &s;
		assert_int_equal(s3c_thread_start(&actors[i].thread, "stress", stress, &actors[i]),
				 0);
	}
	for (int i = 0; i < STRESS_ACTORS; i++)
		pthread_join(actors[i].thread, NULL);
	assert_int_equal(s.tokens, 2);
	scene_end(&s);
}

struct hook {
	struct s3c_op *op;
	int calls, ended; /* atomic */
	unsigned sleep_ms;
	bool take_away;
};

static void hook_fn(void *arg)
{
	struct hook *h = arg;

	add(&h->calls, 1);
	if (h->sleep_ms)
		sleep_ms(h->sleep_ms);
	if (h->take_away)
		assert_int_equal(s3c_op_set_interrupt_hook(h->op, NULL, NULL), 0);
	add(&h->ended, 1);
}

static void *interrupt_thread(void *op)
{
	s3c_op_interrupt(op);
	return NULL;
}

static void hook_called_once(void **state)
{
	struct s3c_op op;
	struct hook h = { .op = &op }, late = { .op = &op };

	(void)state;
	s3c_op_init(&op, INT64_MAX);
	assert_int_equal(s3c_op_set_interrupt_hook(&op, hook_fn, &h), 0);
	assert_int_equal(load(&h.calls), 0);
	s3c_op_interrupt(&op);
	s3c_op_interrupt(&op);
	assert_int_equal(load(&h.calls), 1);
	assert_int_equal(s3c_op_set_interrupt_hook(&op, hook_fn, &late), -EINTR);
	assert_int_equal(s3c_op_set_interrupt_hook(&op, NULL, NULL), 0);
	assert_int_equal(load(&late.calls), 0);
	s3c_op_destroy(&op);

	/* One that was taken away or replaced is not called. */
	s3c_op_init(&op, INT64_MAX);
	assert_int_equal(s3c_op_set_interrupt_hook(&op, hook_fn, &late), 0);
	assert_int_equal(s3c_op_set_interrupt_hook(&op, NULL, NULL), 0);
	assert_int_equal(s3c_op_set_interrupt_hook(&op, hook_fn, &late), 0);
	assert_int_equal(s3c_op_set_interrupt_hook(&op, hook_fn, &h), 0);
	s3c_op_interrupt(&op);
	assert_int_equal(load(&late.calls), 0);
	assert_int_equal(load(&h.calls), 2);
	s3c_op_destroy(&op);

	/* It may take itself away. */
	h.take_away = true;
	s3c_op_init(&op, INT64_MAX);
	assert_int_equal(s3c_op_set_interrupt_hook(&op, hook_fn, &h), 0);
	s3c_op_interrupt(&op);
	assert_int_equal(load(&h.ended), 3);
	s3c_op_destroy(&op);
}

static void hook_has_ended(void **state)
{
	struct s3c_op op;
	struct hook h = { .op = &op, .sleep_ms = 50 };
	pthread_t thread;

	(void)state;
	s3c_op_init(&op, INT64_MAX);
	assert_int_equal(s3c_op_set_interrupt_hook(&op, hook_fn, &h), 0);
	assert_int_equal(s3c_thread_start(&thread, "interrupter", interrupt_thread, &op), 0);
	await(&h.calls, 1);
	assert_int_equal(s3c_op_set_interrupt_hook(&op, NULL, NULL), 0);
	assert_int_equal(load(&h.ended), 1);
	pthread_join(thread, NULL);
	s3c_op_destroy(&op);
}

struct test_job {
	struct s3c_job job;
	int *running, *done; /* atomic */
	pthread_mutex_t *gate;
	struct s3c_pool *pool;
	int *order, *order_len;
	int number;
};

static void job_run(struct s3c_job *job)
{
	struct test_job *t = container_of(job, struct test_job, job);
	int *done = t->done;

	add(t->running, 1);
	if (t->gate) {
		pthread_mutex_lock(t->gate);
		pthread_mutex_unlock(t->gate);
	}
	if (t->order)
		t->order[(*t->order_len)++] = t->number;
	free(t); /* jobs may free themselves */
	add(done, 1);
}

static struct test_job *job_new(int *running, int *done, pthread_mutex_t *gate)
{
	struct test_job *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->job.run = job_run;
	t->running = running;
	t->done = done;
	t->gate = gate;
	return t;
}

static void await_threads(struct s3c_pool *pool, unsigned want)
{
	for (int i = 0; s3c_pool_threads(pool) != want; i++) {
		assert_true(i < PATIENCE_MS);
		sleep_ms(1);
	}
}

static void pool_elastic(void **state)
{
	pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
	int running = 0, done = 0, free_running = 0, free_done = 0;
	struct s3c_pool *pool;

	(void)state;
	assert_int_equal(s3c_pool_new("elastic", 2, 256, &pool), 0);
	assert_int_equal(s3c_pool_threads(pool), 2);
	s3c_pool_set_idle_ms(pool, 20);
	pthread_mutex_lock(&gate);
	for (int i = 0; i < 200; i++)
		s3c_pool_submit(pool, &job_new(&running, &done, &gate)->job);
	await(&running, 200);
	s3c_pool_submit(pool, &job_new(&free_running, &free_done, NULL)->job);
	await(&free_done, 1);
	assert_int_equal(load(&done), 0);
	/* An idle one may not have been seen as idle when the next job came. */
	assert_in_range(s3c_pool_threads(pool), 201, 210);

	/* Past the maximum they queue, and nothing is lost. */
	for (int i = 0; i < 100; i++)
		s3c_pool_submit(pool, &job_new(&running, &done, &gate)->job);
	await(&running, 256);
	sleep_ms(10);
	assert_int_equal(load(&running), 256);
	assert_int_equal(s3c_pool_threads(pool), 256);
	pthread_mutex_unlock(&gate);
	await(&done, 300);
	await_threads(pool, 2);

	/* It grows again afterwards. */
	for (int i = 0; i < 50; i++)
		s3c_pool_submit(pool, &job_new(&free_running, &free_done, NULL)->job);
	await(&free_done, 51);
	s3c_pool_free(pool);
	pthread_mutex_destroy(&gate);
}

static void pool_order(void **state)
{
	int running = 0, done = 0, order[100], order_len = 0;
	struct s3c_pool *pool;

	(void)state;
	/* min 0 still means a thread. */
	assert_int_equal(s3c_pool_new("a name that is too long", 0, 1, &pool), 0);
	assert_int_equal(s3c_pool_threads(pool), 1);
	for (int i = 0; i < 100; i++) {
		struct test_job *t = job_new(&running, &done, NULL);

		t->order = order;
		t->order_len = &order_len;
		t->number = i;
		s3c_pool_submit(pool, &t->job);
	}
	/* What is queued is still run. */
	s3c_pool_free(pool);
	assert_int_equal(done, 100);
	for (int i = 0; i < 100; i++)
		assert_int_equal(order[i], i);
	s3c_pool_free(NULL);
}

static void job_chain(struct s3c_job *job)
{
	struct test_job *t = container_of(job, struct test_job, job), *next;

	if (t->number > 0) {
		next = job_new(t->running, t->done, NULL);
		next->job.run = job_chain;
		next->pool = t->pool;
		next->number = t->number - 1;
		s3c_pool_submit(t->pool, &next->job);
	}
	add(t->done, 1);
	free(t);
}

/* Jobs that submit jobs, while the pool is being freed. */
static void pool_free_drains(void **state)
{
	(void)state;
	for (int round = 0; round < 50; round++) {
		int running = 0, done = 0;
		struct s3c_pool *pool;
		struct test_job *t;

		assert_int_equal(s3c_pool_new("drain", 1, 4, &pool), 0);
		s3c_pool_set_idle_ms(pool, (unsigned)round % 2);
		t = job_new(&running, &done, NULL);
		t->job.run = job_chain;
		t->pool = pool;
		t->number = 20;
		s3c_pool_submit(pool, &t->job);
		s3c_pool_free(pool);
		assert_int_equal(done, 21);
	}
}

/* Threads end and start all the time: the idle time is next to nothing. */
static void pool_churn(void **state)
{
	int running = 0, done = 0;
	struct s3c_pool *pool;

	(void)state;
	assert_int_equal(s3c_pool_new("churn", 1, 16, &pool), 0);
	s3c_pool_set_idle_ms(pool, 0);
	for (int i = 0; i < 2000; i++) {
		s3c_pool_submit(pool, &job_new(&running, &done, NULL)->job);
		if (i % 16 == 0)
			usleep(200);
	}
	await(&done, 2000);
	s3c_pool_free(pool);
}

/* The limit on processes leaves the first threads alone: jobs wait for those. Needs no root. */
static void pool_without_threads(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const struct rlimit none = { 1, 1 };
		int running = 0, done = 0;
		struct s3c_pool *pool;

		if (s3c_pool_new("few", 2, 50, &pool) < 0)
			_exit(1);
		/* Root is not bound by the limit. */
		if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
			_exit(77);
		if (setrlimit(RLIMIT_NPROC, &none) < 0)
			_exit(77);
		for (int i = 0; i < 50; i++)
			s3c_pool_submit(pool, &job_new(&running, &done, NULL)->job);
		s3c_pool_free(pool);
		_exit(done == 50 ? 0 : 2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void *look_at_thread(void *arg)
{
	char name[16] = "";
	sigset_t set;

	pthread_getname_np(pthread_self(), name, sizeof(name));
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	if (!strcmp(name, "fifteen-letters") && sigismember(&set, SIGTERM) &&
	    sigismember(&set, SIGPIPE) && sigismember(&set, SIGHUP) && !sigismember(&set, SIGSEGV))
		add(arg, 1);
	return arg;
}

static void thread_start(void **state)
{
	pthread_t thread;
	int good = 0;
	void *ret;

	(void)state;
	assert_int_equal(
		s3c_thread_start(&thread, "fifteen-letters-and-more", look_at_thread, &good), 0);
	pthread_join(thread, &ret);
	assert_ptr_equal(ret, &good);
	assert_int_equal(good, 1);
}

static void *hold_lock(void *arg)
{
	struct scene *s = arg;

	s3c_mutex_lock(&s->m);
	add(&s->done, 1);
	for (;;)
		pause();
	return NULL;
}

enum misuse { NOT_HELD, HELD_BY_OTHER, WAIT_NOT_HELD, UNLOCK_NOT_HELD };

static void misuse(enum misuse what)
{
	struct scene s;
	pthread_t thread;
	struct s3c_op op;

	scene_init(&s);
	s3c_op_init(&op, INT64_MAX);
	switch (what) {
	case NOT_HELD:
		s3c_mutex_lock(&s.m);
		s3c_mutex_unlock(&s.m);
		s3c_mutex_assert_held(&s.m);
		break;
	case HELD_BY_OTHER:
		if (s3c_thread_start(&thread, "holder", hold_lock, &s) < 0)
			return;
		while (!load(&s.done))
			sleep_ms(1);
		s3c_mutex_assert_held(&s.m);
		break;
	case WAIT_NOT_HELD:
		s3c_waitq_wait(&s.q, &s.m, &op);
		break;
	case UNLOCK_NOT_HELD:
		s3c_mutex_unlock(&s.m);
		break;
	}
}

static void mutex_misuse_ends_the_process(void **state)
{
	(void)state;
	for (enum misuse what = NOT_HELD; what <= UNLOCK_NOT_HELD; what++) {
		int status;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			const struct rlimit none = { 0, 0 };

			setrlimit(RLIMIT_CORE, &none);
			signal(SIGABRT, SIG_DFL);
			if (!freopen("/dev/null", "w", stderr))
				_exit(1);
			misuse(what);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGABRT);
	}
}

static void *lock_many(void *arg)
{
	struct scene *s = arg;

	for (int i = 0; i < 2000; i++) {
		s3c_mutex_lock(&s->m);
		s3c_mutex_assert_held(&s->m);
		s->tokens++;
		s3c_mutex_unlock(&s->m);
	}
	return NULL;
}

static void mutex_excludes(void **state)
{
	pthread_t threads[4];
	struct scene s;

	(void)state;
	scene_init(&s);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(s3c_thread_start(&threads[i], "locker", lock_many, &s), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(s.tokens, 8000);
	scene_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* Forks, hence before there are threads. */
		cmocka_unit_test(mutex_misuse_ends_the_process),
		cmocka_unit_test(pool_without_threads),
		cmocka_unit_test(mutex_excludes),
		cmocka_unit_test(thread_start),
		cmocka_unit_test(waitq_wakes),
		cmocka_unit_test(waitq_interrupted),
		cmocka_unit_test(waitq_deadline),
		cmocka_unit_test(waitq_until),
		cmocka_unit_test(waitq_wake_beats_interrupt),
		cmocka_unit_test(waitq_stress),
		cmocka_unit_test(hook_called_once),
		cmocka_unit_test(hook_has_ended),
		cmocka_unit_test(pool_elastic),
		cmocka_unit_test(pool_order),
		cmocka_unit_test(pool_free_drains),
		cmocka_unit_test(pool_churn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
