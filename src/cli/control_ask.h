/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* What mount and umount ask the daemon of a mount. One thread: of a process without others. */
#pragma once

#include "cli/control_wire.h"
#include "cli/progress.h"

/* s3c_control_find for a daemon that may hang: -ETIMEDOUT after so many seconds. Forks. */
int s3c_control_find_within(const char *mountpoint, unsigned seconds, char *ret_path, size_t size);

/*
 * One question and its answer, whatever that says, to be released with json_decref; lines of
 * progress before it are shown where progress is not NULL. A busy daemon may take its time:
 * deadline_ns, monotonic, or INT64_MAX. -EPIPE: it has ended; -ETIMEDOUT.
 */
int s3c_control_ask(int fd, const json_t *request, int64_t deadline_ns,
		    struct s3c_progress *progress, json_t **ret_answer);
