/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * The control socket of a mount, state_dir/control: AF_UNIX, stream, 0600. Only the daemon's own
 * user and root are answered. Each way one JSON object a line:
 *
 *	request	 = { "command": NAME, path }
 *	path	 = "path": TEXT | "path_base64": TEXT		; relative to the mount; the second
 *								; where it is no UTF-8
 *	progress = { "progress": true, "files": N, "names": N, "bytes": N }
 *	answer	 = { "ok": true, ... } | { "ok": false, "error": SENTENCE, "errno": NAME }
 *
 *	command	path	answer
 *	version	-	version, protocol
 *	status	-	see control_commands.c
 *	sync	-	any number of progress, then whether all is in the store
 *	retry	may	count
 *	discard	has	-
 *	loglevel -	level, before; the request may have "level": NAME
 *
 * A connection may be used for several requests, one after the other.
 */
#pragma once

#include "cli/access.h"

#define S3C_CONTROL_NAME "control"
#define S3C_CONTROL_PROTOCOL 1

struct s3c_control;
/*
 * Listens; answers on threads of its own. access (with its engine) and mountpoint are borrowed
 * until s3c_control_stop.
 */
int s3c_control_start(const struct s3c_access *access, const char *mountpoint, struct s3c_err *err,
		      struct s3c_control **ret_control);
/* Where it listens. */
const char *s3c_control_path(const struct s3c_control *control);
/* Ends what is being answered, takes the socket away, frees. NULL is legal. */
void s3c_control_stop(struct s3c_control *control);
