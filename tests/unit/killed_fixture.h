/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* Daemons that die: child processes which end by SIGKILL, and what the next one takes up. */
#pragma once

#include "engine_fixture.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

/* Runs body in a process that is then killed. */
static inline void killed(void (*body)(struct fx *fx, struct fx_options *o), struct fx_options *o)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct fx fx;

		/* A failed assertion ends the child, and not by SIGKILL. */
		setenv("CMOCKA_TEST_ABORT", "1", 1);

		fx_open(&fx, o);
		fx_start(&fx, o);
		body(&fx, o);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* Not by a failed assertion. */
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static inline void fresh_dir(struct fx_options *o, char dir[64])
{
	strcpy(dir, "/tmp/s3cryptfs-killed.XXXXXX");
	assert_non_null(mkdtemp(dir));
	o->dir = dir;
}

static inline uint64_t records(struct fx *fx)
{
	uint64_t count, bytes;

	assert_int_equal(s3c_journal_sync(fx->journal), 0);
	assert_int_equal(s3c_journal_pending(fx->journal, &count, &bytes), 0);
	return count;
}
