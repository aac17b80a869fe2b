/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/*
 * A volume of sse-c that becomes one of cse, at its place and with its id: rekey --migrate.
 *
 *	volume.sse-c	the volume object of sse-c as it was: with it, who accepts plain
 *			objects reads those of that time under their customer keys, by
 *			ssec_store.h and over TLS alone
 *	volume.next	that of cse, made under If-None-Match: whoever comes second takes the
 *			first one's, so that two who migrate at once, or one who was killed
 *			and another, put the same volume key into
 *	volume		which is replaced, and volume.next deleted
 *
 * Whoever made volume.next looks at volume again before he replaces it: where it is of cse already,
 * another one's volume.next had been there and was deleted, and his own is of no use.
 */
#pragma once

#include "engine/engine.h"

/* Adds volume->former where volume was one of sse-c. Without a key for it: a warning. */
int s3c_former_read(const struct s3c_volume_request *rq, struct s3c_op *op, const char *prefix,
		    struct s3c_err *err, struct s3c_volume *volume);
