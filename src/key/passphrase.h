/* SPDX-License-Identifier: MIT */
/* Copyright (c) 2026 The s3cryptfs authors */
/* A passphrase from a terminal (without echo), a file, or a descriptor. One thread. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define S3C_PASSPHRASE_MAX 1024u /* bytes */

/*
 * place: a file that only its owner may access, "fd:N", or NULL for the terminal, where what (a
 * name) is asked for, twice when it is a new one. The first line counts, without its end. ret_text:
 * secret memory, NUL-terminated, not empty; the caller frees it. -EINTR: given up on the terminal.
 */
int s3c_passphrase_get(const char *place, const char *what, bool fresh, struct s3c_err *err,
		       char **ret_text);
