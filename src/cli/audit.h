/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * audit=FILE: who did what, one JSON object a line:
 *
 *	{ "time": "2026-11-28T21:00:00.123Z", "operation": NAME, "path" | "path_base64": TEXT,
 *	  "result": "ok" | NAME OF ERRNO, "uid": N, "gid": N, "pid": N, ["to" | "to_base64": TEXT],
 *	  ["access": "read" | "write" | "read-write"], ["key": ID] }
 *	{ "time": TIME, "operation": "dropped", "count": N }
 *
 * Lines go through a queue of bounded size to a thread that writes them: the filesystem never waits
 * for the file. What does not fit, comes faster than the limit, or cannot be written (a full disk)
 * is dropped and counted; the count is a line of its own once lines can be written again, and the
 * log is told once. The lines of one thread stay in order.
 */
#pragma once

#include "base/err.h"
#include "fuse/session.h"

struct s3c_audit;
/* Opens FILE for append, 0600. rate: lines a second, of which a burst may have ten times as many;
 * 0: no limit. One at a time in a process. */
int s3c_audit_start(const char *path, unsigned rate, struct s3c_err *err,
		    struct s3c_audit **ret_audit);
/* As struct s3c_fuse_config wants it; arg is the struct s3c_audit. */
void s3c_audit_event(void *arg, const struct s3c_fuse_audit *event);
/* Opens the file anew, soon, for rotation. Nothing where there is none. */
void s3c_audit_reopen(void);
/* Lines that were dropped since the start; also without an audit log. */
uint64_t s3c_audit_dropped(void);
/* Writes what is queued, closes, frees. NULL is legal. */
void s3c_audit_stop(struct s3c_audit *audit);
