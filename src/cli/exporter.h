/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * metrics=: the numbers of this process (base/metrics.h), of its engine, cache and journal, to
 * whoever asks for GET /metrics by HTTP, in the format of OpenMetrics 1.0.
 *
 *	where = "unix:" PATH			; AF_UNIX, 0600
 *	      | [HOST ":"] PORT			; a loopback address; without one 127.0.0.1
 */
#pragma once

#include "cli/access.h"

/* Is it a place that can be listened at? A sentence. */
int s3c_exporter_check(const char *where, struct s3c_err *err);

struct s3c_exporter;
/* Answers from a thread of its own; access (with its engine) and mountpoint are borrowed until
 * stop.
 */
int s3c_exporter_start(const char *where, const struct s3c_access *access, const char *mountpoint,
		       struct s3c_err *err, struct s3c_exporter **ret_exporter);
/* NULL is legal. */
void s3c_exporter_stop(struct s3c_exporter *exporter);
