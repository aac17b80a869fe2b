/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Interruptions of calls that wait.
 *
 * The kernel tells once, at the first signal of the program that waits, whatever signal that is,
 * and does not say which. A timer, the end of a child and the preemption of a runtime are signals,
 * too, and most programs do not expect EINTR from stat or open: on other filesystems nothing but
 * their end interrupts those. So a call ends when a signal is pending that ends its program, or is
 * there to end one (ENDING) and not ignored; from the first signal on that is looked at ten times a
 * second, in /proc/PID/status, proc(5).
 *
 * Where a call type goes_on, the program is answered at once and what was begun is done without it.
 * The kernel has what it knew before until its time is over.
 *
 *	call      signaled       answered
 *	waits     no             no        no signal so far
 *	watched   in signaled    no        one came, none that ends it
 *	ended     -              no        its waits end, and so does the call by itself
 *	left      -              yes       answered EINTR; the call must not touch req any more
 *	done      -              by whoever had it: run_parked (park.c) takes it out of all lists
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/util.h"
#include "fuse/private.h"

#define LOOK_NS (100 * S3C_NSEC_PER_MSEC)
#define BIT(signal) (UINT64_C(1) << ((signal)-1))
/* Those that people and managers end programs with: they count where a program catches them, too.
 */
#define ENDING (BIT(SIGHUP) | BIT(SIGINT) | BIT(SIGQUIT) | BIT(SIGTERM) | BIT(SIGKILL))
/* What no program ends by, unless it says so: ignored or stopping, signal(7). */
#define HARMLESS                                                                                   \
	(BIT(SIGCHLD) | BIT(SIGCONT) | BIT(SIGURG) | BIT(SIGWINCH) | BIT(SIGSTOP) | BIT(SIGTSTP) | \
	 BIT(SIGTTIN) | BIT(SIGTTOU))

struct masks {
	uint64_t pending, blocked, ignored, caught;
};

static void take_mask(const char *line, struct masks *masks)
{
	const struct {
		const char *name;
		uint64_t *mask;
	} fields[] = {
		{ "SigPnd:", &masks->pending }, { "ShdPnd:", &masks->pending },
		{ "SigBlk:", &masks->blocked }, { "SigIgn:", &masks->ignored },
		{ "SigCgt:", &masks->caught },
	};

	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (strncmp(line, fields[i].name, strlen(fields[i].name)) == 0)
			*fields[i].mask |= strtoull(line + strlen(fields[i].name), NULL, 16);
}

bool s3c_ended_by(uint64_t pending, uint64_t blocked, uint64_t ignored, uint64_t caught)
{
	uint64_t wanted = pending & ~blocked & ~ignored;

	return wanted & (ENDING | ~(caught | HARMLESS));
}

/* Is a signal pending that ends the thread, or is it gone? */
static bool is_ending(pid_t pid)
{
	struct masks masks = { 0 };
	char path[64], line[256];
	FILE *f;

	/* Of another namespace of processes: what it waits for ends by timeout= alone. */
	if (!pid)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT || errno == ESRCH;
	while (fgets(line, sizeof(line), f))
		take_mask(line, &masks);
	fclose(f);
	return s3c_ended_by(masks.pending, masks.blocked, masks.ignored, masks.caught);
}

/* calls_lock held. */
static void end_call(struct s3c_call *call)
{
	LIST_REMOVE(call, signaled_link);
	call->signaled = false;
	s3c_op_interrupt(&call->op);
	if (!call->type->goes_on || call->file)
		return;
	call->answered = true;
	fuse_reply_err(call->req, EINTR);
}

static void *watch(void *arg)
{
	struct s3c_fuse *fuse = arg;

	s3c_mutex_lock(&fuse->calls_lock);
	while (!fuse->watcher_ends) {
		bool any = !LIST_EMPTY(&fuse->signaled);
		struct s3c_call *call, *next;

		for (call = LIST_FIRST(&fuse->signaled); call; call = next) {
			next = LIST_NEXT(call, signaled_link);
			if (is_ending(call->pid))
				end_call(call);
		}
		s3c_waitq_wait_until(&fuse->watched, &fuse->calls_lock, NULL,
				     any ? s3c_clock_monotonic_ns() + LOOK_NS : INT64_MAX);
	}
	s3c_mutex_unlock(&fuse->calls_lock);
	return NULL;
}

void s3c_call_signaled(struct s3c_call *call)
{
	struct s3c_fuse *fuse = call->fuse;

	s3c_mutex_lock(&fuse->calls_lock);
	if (!call->done && !call->signaled) {
		call->signaled = true;
		LIST_INSERT_HEAD(&fuse->signaled, call, signaled_link);
		s3c_waitq_wake_all(&fuse->watched);
	}
	s3c_mutex_unlock(&fuse->calls_lock);
}

int s3c_watcher_start(struct s3c_fuse *fuse)
{
	int r = s3c_thread_start(&fuse->watcher, "fuse-signals", watch, fuse);

	fuse->watcher_runs = r == 0;
	return r;
}

void s3c_watcher_stop(struct s3c_fuse *fuse)
{
	if (!fuse->watcher_runs)
		return;
	s3c_mutex_lock(&fuse->calls_lock);
	fuse->watcher_ends = true;
	s3c_waitq_wake_all(&fuse->watched);
	s3c_mutex_unlock(&fuse->calls_lock);
	pthread_join(fuse->watcher, NULL);
	fuse->watcher_runs = false;
}
