/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * What the files of the daemon's side of the control socket share.
 *
 *	control.c           socket, threads, connections
 *	control_commands.c  what is answered
 */
#pragma once

#include "base/thread.h"
#include "cli/control.h"
#include "cli/control_wire.h"

struct s3c_control_client {
	struct s3c_control *control;
	struct s3c_job job;
	LIST_ENTRY(s3c_control_client) link; /* guarded by the lock of control */
	int fd;
	/* The end of the daemon, or of the connection, ends its waits. */
	struct s3c_op op;
};

struct s3c_control {
	const struct s3c_access *access;
	const char *mountpoint;
	int64_t started_ns; /* realtime */
	char *path;
	int listen_fd, stop_fd; /* stop_fd: an eventfd that wakes the listener */
	pthread_t listener;
	bool listening; /* the thread is there */
	struct s3c_pool *pool;

	struct s3c_mutex lock; /* guards what follows */
	LIST_HEAD(, s3c_control_client) clients;
	unsigned client_count;
};

/* The answer to a request, sent to the client (progress before it). Not 0: no more of this client.
 */
int s3c_control_answer(struct s3c_control_client *client, const json_t *request);
