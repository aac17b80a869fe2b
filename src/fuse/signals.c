/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * Signals of the session. A handler and a pipe, and not a signalfd: it does not matter which
 * threads have the signals blocked, as long as the one that waits has not.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "fuse/private.h"

static const int handled[] = { SIGTERM, SIGINT, SIGHUP };
static struct sigaction old_actions[ARRAY_LEN(handled)];
static struct sigaction old_pipe_action;
static int pipe_fds[2] = { -1, -1 };

void s3c_signals_post(unsigned char byte)
{
	int saved = errno;

	/* A full pipe wakes the reader as well. */
	if (write(pipe_fds[1], &byte, 1) < 0)
		errno = saved;
	errno = saved;
}

static void on_signal(int number)
{
	s3c_signals_post((unsigned char)number);
}

int s3c_signals_begin(int *ret_fd)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	sigemptyset(&action.sa_mask);
	sigemptyset(&ignore.sa_mask);
	for (size_t i = 0; i < ARRAY_LEN(handled); i++)
		sigaction(handled[i], &action, &old_actions[i]);
	sigaction(SIGPIPE, &ignore, &old_pipe_action);
	*ret_fd = pipe_fds[0];
	return 0;
}

void s3c_signals_end(void)
{
	if (pipe_fds[0] < 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(handled); i++)
		sigaction(handled[i], &old_actions[i], NULL);
	sigaction(SIGPIPE, &old_pipe_action, NULL);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	pipe_fds[0] = -1;
	pipe_fds[1] = -1;
}
